/* chain_f32: a short program of elementwise steps, run over one block after another while its values are in the first-level cache.
 *
 * The steps are the row functions of elementwise.c, so that a chain gives the bits of its steps run one by one. */
#include "map.h"

enum { CHAIN_BLOCK = 512 };

typedef struct {
    const tge_chain_params *p;
    void *const *operand;
    int64_t columns, rows, chunks_in_row, rows_in_chunk;
    int64_t stride[TGE_CHAIN_INPUTS + 1]; /* along the last axis */
} chain_walk;

/* Where a step reads: a pointer, and 1 or 0 for a vector of equal elements. */
typedef struct { const float *at; int64_t step; } chain_source;

static void chain_block(const chain_walk *w, const chain_source *input, const chain_source *constant, float *output, int64_t n)
{
    const tge_chain_params *p = w->p;
    _Alignas(64) float result[TGE_CHAIN_STEPS][CHAIN_BLOCK];
    for (int32_t j = 0; j < p->steps; j++) {
        const void *read[3];
        int64_t step[3];
        for (int k = 0; k < 3; k++) {
            const int32_t source = p->step[j].source[k];
            const chain_source from = source < 0                     ? (chain_source){result[-1 - source], 1}
                                      : source >= TGE_CHAIN_CONSTANT ? constant[source - TGE_CHAIN_CONSTANT]
                                                                     : input[source];
            read[k] = from.at;
            step[k] = from.step;
        }
        float_rows[p->step[j].op](j + 1 == p->steps ? output : result[j], read, step, n);
    }
}

static void chain_row(const chain_walk *w, const chain_source *constant, char *const *at, int64_t n)
{
    const tge_chain_params *p = w->p;
    _Alignas(64) float splat[TGE_CHAIN_INPUTS][VL];
    _Alignas(64) float packed[TGE_CHAIN_INPUTS + 1][CHAIN_BLOCK];
    chain_source input[TGE_CHAIN_INPUTS];
    for (int32_t k = 0; k < p->inputs; k++)
        if (w->stride[k + 1] == 0) {
            splat_element((char *)splat[k], at[k + 1], 4);
            input[k] = (chain_source){splat[k], 0};
        }
    for (int64_t first = 0; first < n; first += CHAIN_BLOCK) {
        const int64_t length = min_i64(CHAIN_BLOCK, n - first);
        for (int32_t k = 0; k < p->inputs; k++) {
            const int64_t stride = w->stride[k + 1];
            const char *from = at[k + 1] + 4 * first * stride;
            if (stride == 1) {
                input[k] = (chain_source){(const float *)from, 1};
            } else if (stride != 0) {
                copy_strided((char *)packed[k], 1, from, stride, length, 4);
                input[k] = (chain_source){packed[k], 1};
            }
        }
        char *to = at[0] + 4 * first * w->stride[0];
        chain_block(w, input, constant, w->stride[0] == 1 ? (float *)to : packed[TGE_CHAIN_INPUTS], length);
        if (w->stride[0] != 1)
            copy_strided(to, w->stride[0], (const char *)packed[TGE_CHAIN_INPUTS], 1, length, 4);
    }
}

static void chain_chunk(void *context, int64_t chunk)
{
    const chain_walk *w = context;
    const tge_chain_params *p = w->p;
    _Alignas(64) float splat[8][VL];
    chain_source constant[8];
    for (int32_t k = 0; k < p->constants; k++) {
        vstore(splat[k], vsplat(p->constant[k]));
        constant[k] = (chain_source){splat[k], 0};
    }
    const int32_t outer = p->ndim - 1, operands = p->inputs + 1;
    const int64_t first_row = chunk / w->chunks_in_row * w->rows_in_chunk;
    const int64_t last_row = min_i64(first_row + w->rows_in_chunk, w->rows);
    const int64_t first_column = chunk % w->chunks_in_row * CHUNK;
    const int64_t columns = w->chunks_in_row == 1 ? w->columns : min_i64(CHUNK, w->columns - first_column);

    int64_t index[MAX_NDIM], offset[TGE_CHAIN_INPUTS + 1];
    walk_seek(outer, p->shape, operands, p->strides, first_row, index, offset);
    for (int64_t row = first_row; row < last_row; row++) {
        char *at[TGE_CHAIN_INPUTS + 1];
        for (int32_t k = 0; k < operands; k++)
            at[k] = (char *)w->operand[k] + 4 * (offset[k] + first_column * w->stride[k]);
        chain_row(w, constant, at, columns);
        walk_next(outer, p->shape, operands, p->strides, index, offset);
    }
}

static int64_t chain_f32(void *const *operand, const void *params)
{
    const tge_chain_params *p = params;
    chain_walk w = {.p = p, .operand = operand, .columns = 1, .rows = 1};
    if (p->ndim > 0) {
        w.columns = p->shape[p->ndim - 1];
        w.rows = product(p->ndim - 1, p->shape);
    }
    if (w.columns == 0 || w.rows == 0)
        return 0;
    for (int32_t k = 0; k <= p->inputs; k++)
        w.stride[k] = w.columns == 1 ? 1 : p->strides[k][p->ndim - 1];
    w.chunks_in_row = ceil_div(w.columns, CHUNK);
    w.rows_in_chunk = w.chunks_in_row == 1 ? CHUNK / w.columns : 1;
    tge_parallel(ceil_div(w.rows, w.rows_in_chunk) * w.chunks_in_row, chain_chunk, &w);
    return 0;
}
