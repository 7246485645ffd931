/* copy: any strided walk becomes a stack of matrices that are copied row by row, or tile by tile when rows run along
 * different axes on the two sides. */
#include "strided.h"

enum { OUTPUT, INPUT };

/* Axes in the order of the output's memory, each merged with its neighbour where both sides allow. The last two are the matrix. */
typedef struct {
    char *output;
    const char *input;
    int64_t itemsize;
    int32_t ndim;
    int64_t shape[MAX_NDIM];
    int64_t strides[2][MAX_NDIM];
    int64_t matrices;
    int64_t tile_rows, tile_columns; /* what a chunk takes of a matrix */
    int64_t matrices_in_chunk;       /* 1 when a matrix is more than a tile */
} copy_walk;

typedef struct { int64_t length, stride[2]; } copy_axis;

/* Sort into c->shape and c->strides; offset[] moves to the first element of the sorted walk. Returns the number of elements. */
static int64_t normalise(copy_walk *c, const tge_copy_params *p, int64_t *offset)
{
    copy_axis axes[MAX_NDIM];
    int32_t n = 0;
    int64_t count = 1;
    for (int32_t i = 0; i < p->ndim; i++) {
        copy_axis axis = {p->shape[i], {p->output_strides[i], p->input_strides[i]}};
        count *= axis.length;
        if (axis.length == 1)
            continue;
        if (axis.stride[OUTPUT] < 0)
            for (int side = 0; side < 2; side++) {
                offset[side] += (axis.length - 1) * axis.stride[side];
                axis.stride[side] = -axis.stride[side];
            }
        int32_t place = n++;
        for (; place > 0 && axes[place - 1].stride[OUTPUT] < axis.stride[OUTPUT]; place--)
            axes[place] = axes[place - 1];
        axes[place] = axis;
    }
    c->ndim = 0;
    for (int32_t i = 0; i < n; i++) {
        const int32_t last = c->ndim - 1;
        const copy_axis a = axes[i];
        if (last >= 0 && c->strides[OUTPUT][last] == a.length * a.stride[OUTPUT]
            && c->strides[INPUT][last] == a.length * a.stride[INPUT])
            c->shape[last] *= a.length;
        else
            c->shape[c->ndim++] = a.length;
        for (int side = 0; side < 2; side++)
            c->strides[side][c->ndim - 1] = a.stride[side];
    }
    return count;
}

static void swap_axes(copy_walk *c, int32_t i, int32_t j)
{
    int64_t *const lists[] = {c->shape, c->strides[OUTPUT], c->strides[INPUT]};
    for (int k = 0; k < 3; k++) {
        const int64_t kept = lists[k][i];
        lists[k][i] = lists[k][j];
        lists[k][j] = kept;
    }
}

static void prepend_axis(copy_walk *c)
{
    for (int32_t i = c->ndim++; i > 0; i--) {
        c->shape[i] = c->shape[i - 1];
        for (int side = 0; side < 2; side++)
            c->strides[side][i] = c->strides[side][i - 1];
    }
    c->shape[0] = 1;
    c->strides[OUTPUT][0] = c->strides[INPUT][0] = 0;
}

/* ---- one row ---- */

ALWAYS_INLINE void copy_elements(char *y, int64_t y_stride, const char *x, int64_t x_stride, int64_t n, size_t itemsize)
{
    for (int64_t i = 0; i < n; i++)
        memcpy(y + i * y_stride * (int64_t)itemsize, x + i * x_stride * (int64_t)itemsize, itemsize);
}

ALWAYS_INLINE void copy_row(char *y, int64_t y_stride, const char *x, int64_t x_stride, int64_t n, size_t itemsize)
{
    if (y_stride == 1 && x_stride == 1)
        memcpy(y, x, (size_t)n * itemsize);
    else if (y_stride == 1 && x_stride == 0)
        copy_elements(y, 1, x, 0, n, itemsize);
    else if (y_stride == 1)
        copy_elements(y, 1, x, x_stride, n, itemsize);
    else
        copy_elements(y, y_stride, x, x_stride, n, itemsize);
}

/* ---- a part of a matrix ---- */

enum { TILE = 16 }; /* rows and columns whose cache lines stay in the first level */

ALWAYS_INLINE void copy_matrix(char *y, const char *x, int64_t rows, int64_t columns, const int64_t *y_strides,
                               const int64_t *x_strides, size_t itemsize)
{
    const int64_t size = (int64_t)itemsize;
    const int tiled = abs_i64(x_strides[0]) < abs_i64(x_strides[1]) && x_strides[0] != 0;
    const int64_t height = tiled ? TILE : rows, width = tiled ? TILE : columns;
    for (int64_t row = 0; row < rows; row += height)
        for (int64_t column = 0; column < columns; column += width) {
            const int64_t last = min_i64(row + height, rows), n = min_i64(width, columns - column);
            for (int64_t i = row; i < last; i++)
                copy_row(y + (i * y_strides[0] + column * y_strides[1]) * size, y_strides[1],
                         x + (i * x_strides[0] + column * x_strides[1]) * size, x_strides[1], n, itemsize);
        }
}

/* y[i][j] = x[j][i] for rows and columns that are multiples of VL. */
static void transpose_squares(float *y, int64_t y_pitch, const float *x, int64_t x_pitch, int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows; i += VL)
        for (int64_t j = 0; j < columns; j += VL) {
            vf square[VL];
            _Pragma("GCC unroll 16")
            for (int k = 0; k < VL; k++)
                square[k] = vload(x + (j + k) * x_pitch + i);
            vtranspose(square);
            _Pragma("GCC unroll 16")
            for (int k = 0; k < VL; k++)
                vstore(y + (i + k) * y_pitch + j, square[k]);
        }
}

/* Elements of 4 bytes: a plain transposition goes through registers, square by square, but for its right and lower edge. */
static void copy_matrix_of_words(char *y, const char *x, int64_t rows, int64_t columns, const int64_t *y_strides, const int64_t *x_strides)
{
    if (x_strides[0] == 1 && y_strides[1] == 1) {
        const int64_t square_rows = rows - rows % VL, square_columns = columns - columns % VL;
        transpose_squares((float *)y, y_strides[0], (const float *)x, x_strides[1], square_rows, square_columns);
        copy_matrix(y + 4 * square_columns, x + 4 * square_columns * x_strides[1], square_rows, columns - square_columns, y_strides,
                    x_strides, 4);
        y += 4 * square_rows * y_strides[0];
        x += 4 * square_rows;
        rows -= square_rows;
    }
    copy_matrix(y, x, rows, columns, y_strides, x_strides, 4);
}

static void copy_part(const copy_walk *c, const int64_t *offset, int64_t row, int64_t column)
{
    const int32_t r = c->ndim - 2;
    const int64_t *const ys = &c->strides[OUTPUT][r], *const xs = &c->strides[INPUT][r];
    const int64_t rows = min_i64(c->tile_rows, c->shape[r] - row), columns = min_i64(c->tile_columns, c->shape[r + 1] - column);
    char *y = c->output + (offset[OUTPUT] + row * ys[0] + column * ys[1]) * c->itemsize;
    const char *x = c->input + (offset[INPUT] + row * xs[0] + column * xs[1]) * c->itemsize;
    switch (c->itemsize) {
    case 1: copy_matrix(y, x, rows, columns, ys, xs, 1); break;
    case 2: copy_matrix(y, x, rows, columns, ys, xs, 2); break;
    case 4: copy_matrix_of_words(y, x, rows, columns, ys, xs); break;
    case 8: copy_matrix(y, x, rows, columns, ys, xs, 8); break;
    }
}

static void copy_chunk(void *context, int64_t chunk)
{
    const copy_walk *c = context;
    const int32_t outer = c->ndim - 2;
    const int64_t tiles_across = ceil_div(c->shape[outer + 1], c->tile_columns);
    const int64_t tiles = ceil_div(c->shape[outer], c->tile_rows) * tiles_across;
    const int64_t first = chunk / tiles * c->matrices_in_chunk, tile = chunk % tiles;
    const int64_t last = min_i64(first + c->matrices_in_chunk, c->matrices);
    int64_t index[MAX_NDIM], offset[2];
    walk_seek(outer, c->shape, 2, c->strides, first, index, offset);
    for (int64_t matrix = first; matrix < last; matrix++) {
        copy_part(c, offset, tile / tiles_across * c->tile_rows, tile % tiles_across * c->tile_columns);
        walk_next(outer, c->shape, 2, c->strides, index, offset);
    }
}

/* ---- zero fill ---- */

typedef struct { char *y; int64_t bytes; } zero_context;

enum { ZERO_CHUNK = 4 * CHUNK }; /* bytes */

static void zero_chunk(void *context, int64_t chunk)
{
    const zero_context *c = context;
    memset(c->y + chunk * ZERO_CHUNK, 0, (size_t)min_i64(ZERO_CHUNK, c->bytes - chunk * ZERO_CHUNK));
}

static void fill_zero(void *y, int64_t bytes)
{
    zero_context c = {y, bytes};
    tge_parallel(ceil_div(bytes, ZERO_CHUNK), zero_chunk, &c);
}

static int64_t copy(void *const *operand, const void *params)
{
    const tge_copy_params *p = params;
    fill_zero(operand[0], p->fill_count * p->itemsize);

    copy_walk c = {.itemsize = p->itemsize};
    int64_t offset[2] = {p->output_offset, p->input_offset};
    if (normalise(&c, p, offset) == 0)
        return 0;
    c.output = (char *)operand[OUTPUT] + offset[OUTPUT] * p->itemsize;
    c.input = (const char *)operand[INPUT] + offset[INPUT] * p->itemsize;
    while (c.ndim < 2)
        prepend_axis(&c);

    /* The rows of the matrix run along the axis on which the input is densest, if that is not the output's own. */
    const int32_t inner = c.ndim - 1, rows = c.ndim - 2;
    int32_t dense = inner;
    for (int32_t i = 0; i < inner; i++)
        if (c.strides[INPUT][i] != 0 && abs_i64(c.strides[INPUT][i]) < abs_i64(c.strides[INPUT][dense]))
            dense = i;
    if (dense != inner)
        swap_axes(&c, dense, rows);

    c.matrices = product(rows, c.shape);
    const int64_t side = dense == inner ? CHUNK : 128;
    c.tile_columns = min_i64(c.shape[inner], side);
    c.tile_rows = min_i64(c.shape[rows], max_i64(1, CHUNK / c.tile_columns));
    c.matrices_in_chunk = max_i64(1, CHUNK / (c.shape[rows] * c.shape[inner]));
    const int64_t tiles = ceil_div(c.shape[rows], c.tile_rows) * ceil_div(c.shape[inner], c.tile_columns);
    tge_parallel(ceil_div(c.matrices, c.matrices_in_chunk) * tiles, copy_chunk, &c);
    return 0;
}
