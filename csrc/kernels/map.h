/* The walk of the elementwise kernels: rows along the last axis, each handed to a row function.
 *
 * A row function sees every input as contiguous (step 1) or as one vector of equal elements (step 0), so that one loop a function serves
 * each mixture. Other strides are packed into short contiguous blocks first. */
#ifndef TGE_MAP_H
#define TGE_MAP_H

#include "strided.h"

typedef void row_function(void *output, const void *const *input, const int64_t *step, int64_t n);

enum { MAP_BLOCK = 256 };

typedef struct {
    const tge_elementwise_params *p;
    row_function *row;
    void *const *operand;
    int32_t itemsize[4]; /* 4 or 1 */
    int64_t stride[4];   /* along the last axis, in elements */
    int64_t columns;     /* length of the last axis */
    int64_t rows;
    int64_t chunks_in_row; /* 1, or the row is longer than a chunk */
    int64_t rows_in_chunk;
} map_walk;

static void splat_element(char *vector, const char *element, int32_t itemsize)
{
    if (itemsize == 1)
        memset(vector, *element, VL);
    else
        vstore((float *)vector, vsplat(*(const any32 *)element));
}

/* Elements of 4 bytes move as floats: loads and stores keep all bits. */
static void copy_strided(char *to, int64_t to_stride, const char *from, int64_t from_stride, int64_t n, int32_t itemsize)
{
    if (itemsize == 1)
        for (int64_t i = 0; i < n; i++)
            to[i * to_stride] = from[i * from_stride];
    else
        for (int64_t i = 0; i < n; i++)
            memcpy(to + 4 * i * to_stride, from + 4 * i * from_stride, 4);
}

static void map_row(const map_walk *w, char *const *at, int64_t n)
{
    _Alignas(64) char splat[3][4 * VL];
    _Alignas(64) char block[4][4 * MAP_BLOCK];
    const void *input[3];
    int64_t step[3];
    const int32_t operands = w->p->inputs + 1;
    int contiguous = w->stride[0] == 1;
    for (int32_t k = 1; k < operands; k++) {
        step[k - 1] = w->stride[k] != 0;
        if (w->stride[k] == 0)
            splat_element(splat[k - 1], at[k], w->itemsize[k]);
        input[k - 1] = w->stride[k] == 0 ? splat[k - 1] : at[k];
        contiguous &= w->stride[k] == 0 || w->stride[k] == 1;
    }
    if (contiguous) {
        w->row(at[0], input, step, n);
        return;
    }
    for (int64_t first = 0; first < n; first += MAP_BLOCK) {
        const int64_t length = min_i64(MAP_BLOCK, n - first);
        for (int32_t k = 1; k < operands; k++) {
            if (w->stride[k] == 0)
                continue;
            copy_strided(block[k], 1, at[k] + first * w->stride[k] * w->itemsize[k], w->stride[k], length, w->itemsize[k]);
            input[k - 1] = block[k];
        }
        w->row(block[0], input, step, length);
        copy_strided(at[0] + first * w->stride[0] * w->itemsize[0], w->stride[0], block[0], 1, length, w->itemsize[0]);
    }
}

static void map_chunk(void *context, int64_t chunk)
{
    const map_walk *w = context;
    const int32_t outer = w->p->ndim - 1, operands = w->p->inputs + 1;
    const int64_t first_row = chunk / w->chunks_in_row * w->rows_in_chunk;
    const int64_t last_row = min_i64(first_row + w->rows_in_chunk, w->rows);
    const int64_t first_column = chunk % w->chunks_in_row * CHUNK;
    const int64_t columns = w->chunks_in_row == 1 ? w->columns : min_i64(CHUNK, w->columns - first_column);

    int64_t index[MAX_NDIM], offset[4];
    walk_seek(outer, w->p->shape, operands, w->p->strides, first_row, index, offset);
    for (int64_t row = first_row; row < last_row; row++) {
        char *at[4];
        for (int32_t k = 0; k < operands; k++)
            at[k] = (char *)w->operand[k] + (offset[k] + first_column * w->stride[k]) * w->itemsize[k];
        map_row(w, at, columns);
        walk_next(outer, w->p->shape, operands, w->p->strides, index, offset);
    }
}

/* Apply a row function everywhere. itemsize lists the output's bytes an element, then the inputs'. */
static int64_t map_rows(row_function *row, void *const *operand, const tge_elementwise_params *p, const int32_t *itemsize)
{
    map_walk w = {.p = p, .row = row, .operand = operand, .columns = 1, .rows = 1};
    if (p->ndim > 0) {
        w.columns = p->shape[p->ndim - 1];
        w.rows = product(p->ndim - 1, p->shape);
    }
    if (w.columns == 0 || w.rows == 0)
        return 0;
    for (int32_t k = 0; k <= p->inputs; k++) {
        w.itemsize[k] = itemsize[k];
        w.stride[k] = w.columns == 1 ? 1 : p->strides[k][p->ndim - 1];
    }
    w.chunks_in_row = ceil_div(w.columns, CHUNK);
    w.rows_in_chunk = w.chunks_in_row == 1 ? CHUNK / w.columns : 1;
    tge_parallel(ceil_div(w.rows, w.rows_in_chunk) * w.chunks_in_row, map_chunk, &w);
    return 0;
}

/* ---- rows of 4-byte elements, a vector at a time ---- */

ALWAYS_INLINE void map_unary(float *y, const void *const *input, const int64_t *step, int64_t n, vf (*f)(vf))
{
    const float *a = input[0];
    const int64_t a_step = step[0];
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        vstore(y + i, f(vload(a + i * a_step)));
    if (i < n)
        vstore_part(y + i, n - i, f(vload_part(a + i * a_step, n - i)));
}

ALWAYS_INLINE void map_binary(float *y, const void *const *input, const int64_t *step, int64_t n, vf (*f)(vf, vf))
{
    const float *a = input[0], *b = input[1];
    const int64_t a_step = step[0], b_step = step[1];
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        vstore(y + i, f(vload(a + i * a_step), vload(b + i * b_step)));
    if (i < n)
        vstore_part(y + i, n - i, f(vload_part(a + i * a_step, n - i), vload_part(b + i * b_step, n - i)));
}

ALWAYS_INLINE void map_ternary(float *y, const void *const *input, const int64_t *step, int64_t n, vf (*f)(vf, vf, vf))
{
    const float *a = input[0], *b = input[1], *c = input[2];
    const int64_t a_step = step[0], b_step = step[1], c_step = step[2];
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        vstore(y + i, f(vload(a + i * a_step), vload(b + i * b_step), vload(c + i * c_step)));
    if (i < n)
        vstore_part(y + i, n - i, f(vload_part(a + i * a_step, n - i), vload_part(b + i * b_step, n - i),
                                    vload_part(c + i * c_step, n - i)));
}

#endif
