/* What the three depthwise kernels share: padded tiles of planes, split into phases.
 *
 * A strided convolution is a sum of dense ones over phases of the image: padded row u = h + pad belongs to phase u % stride, at place
 * u / stride (likewise columns). Tap (r, s) of the window reads one phase, shifted by a constant. In a buffer that holds a phase
 * row by row with a fixed pitch, all outputs are then one long run of contiguous vectors, whatever the width of the image. Between
 * its rows the run computes a few values that nobody stores. */
#ifndef TGE_DEPTHWISE_H
#define TGE_DEPTHWISE_H

#include "strided.h"

enum {
    MAX_TAPS = 64,
    MAX_STRIDE = 2,
    MAX_SHIFT = 32,     /* of a tap, in columns of a phase */
    TILE_FLOATS = 4096, /* in a buffer: half of a first-level cache */
    TILE_WIDTH = 256,
    MIN_TILE_WIDTH = 16,
    SPILL = 16,         /* written past the end of a phase */
    TILE_SLACK = MAX_SHIFT + 16, /* read past the end by the last vectors */
};

typedef struct { _Alignas(64) float at[TILE_FLOATS + TILE_SLACK]; } tile_buffer;

/* Tiles of rows x columns values, each of which reads `below` more rows and `right` more columns of each phase. */
typedef struct {
    int64_t height, width; /* of the whole */
    int64_t below, right;
    int64_t rows, columns;
    int64_t pitch; /* columns + right */
    int64_t phase_floats;
} tile_plan;

/* Returns 0 when no useful tile fits: then the plain loops must do. */
static int plan_tiles(tile_plan *t, const tge_conv2d_params *p, int64_t height, int64_t width)
{
    if (p->r * p->s > MAX_TAPS || p->stride_h > MAX_STRIDE || p->stride_w > MAX_STRIDE)
        return 0;
    const int64_t floats = TILE_FLOATS / (p->stride_h * p->stride_w) - SPILL;
    t->height = height;
    t->width = width;
    t->below = (p->r - 1) * p->dilation_h / p->stride_h;
    t->right = (p->s - 1) * p->dilation_w / p->stride_w;
    t->columns = min_i64(min_i64(width, TILE_WIDTH), floats / (t->below + 1) - t->right);
    if (t->right > MAX_SHIFT || t->columns < min_i64(width, MIN_TILE_WIDTH))
        return 0;
    t->pitch = t->columns + t->right;
    t->rows = min_i64(height, floats / t->pitch - t->below);
    t->phase_floats = (t->rows + t->below) * t->pitch + SPILL;
    return 1;
}

/* to[j] = from[j] for first <= j < last, and 0 in the rest of the pitch. Spills up to a vector beyond, where the next row comes.
 * One loop for all three parts: compilers would turn loops that store zeros into calls of memset, for a few elements each. */
static inline void fill_row(float *to, int64_t pitch, const float *from, int64_t first, int64_t last)
{
    for (int64_t j = first - round_up(first, VL); j < pitch; j += VL) {
        vf value = {0};
        if (j >= first && j < last)
            value = vload_upto(from + j, last - j);
        vstore(to + max_i64(0, j), value);
    }
}

/* The same for the even and the odd elements of from. */
static inline void fill_row_pair(float *even, float *odd, int64_t pitch, const float *from, int64_t first, int64_t last)
{
    const int64_t first_pair = (first + 1) / 2, last_pair = last / 2;
    for (int64_t j = first_pair - round_up(first_pair, VL); j < pitch; j += VL) {
        vf low = {0}, high = {0};
        if (j >= first_pair && j < last_pair) {
            low = vload_upto(from + 2 * j, 2 * (last_pair - j));
            if (last_pair - j > VL / 2)
                high = vload_upto(from + 2 * j + VL, 2 * (last_pair - j) - VL);
        }
        vstore(even + max_i64(0, j), veven(low, high));
        vstore(odd + max_i64(0, j), vodd(low, high));
    }
    if (first % 2 != 0 && first < last)
        odd[first / 2] = from[first];
    if (last % 2 != 0 && first < last)
        even[last / 2] = from[last - 1];
}

/* to[i][j] = plane[top + i][left + j], 0 outside of height x width. */
static void fill_tile(float *to, int64_t rows, int64_t pitch, const float *plane, int64_t height, int64_t width, int64_t row_length,
                      int64_t top, int64_t left)
{
    const int64_t first = clamp_i64(-left, 0, pitch), last = clamp_i64(width - left, first, pitch);
    for (int64_t h = top; h < top + rows; h++, to += pitch) {
        const int inside = h >= 0 && h < height;
        fill_row(to, pitch, plane + h * row_length + left, inside ? first : 0, inside ? last : 0);
    }
}

/* The phases of the input that the outputs from (row, column) on read, one behind the other. */
static void fill_phases(float *to, const tile_plan *t, const tge_conv2d_params *p, const float *x, int64_t row, int64_t column,
                        int64_t rows)
{
    if (p->stride_h * p->stride_w == 1) {
        fill_tile(to, rows + t->below, t->pitch, x, p->h, p->w, p->w, row - p->pad_h, column - p->pad_w);
        return;
    }
    const int64_t left = column * p->stride_w - p->pad_w, length = t->pitch * p->stride_w;
    const int64_t first = clamp_i64(-left, 0, length), last = clamp_i64(p->w - left, first, length);
    int64_t h = row * p->stride_h - p->pad_h;
    for (int64_t i = 0; i < rows + t->below; i++)
        for (int64_t phase = 0; phase < p->stride_h; phase++, h++) {
            const int inside = h >= 0 && h < p->h;
            float *phase_row = to + phase * p->stride_w * t->phase_floats + i * t->pitch;
            const float *from = x + h * p->w + left;
            if (p->stride_w == 1)
                fill_row(phase_row, t->pitch, from, inside ? first : 0, inside ? last : 0);
            else
                fill_row_pair(phase_row, phase_row + t->phase_floats, t->pitch, from, inside ? first : 0, inside ? last : 0);
        }
}

/* Terms of a correlation: tap number index[i] of the window finds its value offset[i] after the output's place in the run. */
typedef struct {
    int64_t count;
    int64_t offset[MAX_TAPS];
    int32_t index[MAX_TAPS];
} tap_list;

static inline void add_tap(tap_list *taps, int64_t offset, int64_t index)
{
    taps->offset[taps->count] = offset;
    taps->index[taps->count++] = (int32_t)index;
}

/* All taps of a window, in the phases that fill_phases makes. */
static void list_taps(tap_list *taps, const tile_plan *t, const tge_conv2d_params *p)
{
    taps->count = 0;
    for (int64_t r = 0; r < p->r; r++)
        for (int64_t s = 0; s < p->s; s++) {
            const int64_t h = r * p->dilation_h, w = s * p->dilation_w;
            const int64_t phase = h % p->stride_h * p->stride_w + w % p->stride_w;
            add_tap(taps, phase * t->phase_floats + h / p->stride_h * t->pitch + w / p->stride_w, r * p->s + s);
        }
}

#endif
