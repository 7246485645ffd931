/* What the three depthwise kernels share: planes in padded buffers, and correlations over them.
 *
 * A strided convolution is a sum of dense ones over phases of the image: padded row u = h + pad belongs to phase u % stride, at place u / stride
 * (likewise columns). Tap (r, s) of the window reads one phase, shifted by a constant. In a buffer that holds a phase row by
 * row with a fixed pitch, all outputs are then one long run of contiguous vectors, whatever the width of the image. Between its rows
 * the run computes a few values that nobody stores. */
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
    const int64_t floats = TILE_FLOATS / (p->stride_h * p->stride_w);
    t->height = height;
    t->width = width;
    t->below = (p->r - 1) * p->dilation_h / p->stride_h;
    t->right = (p->s - 1) * p->dilation_w / p->stride_w;
    t->columns = min_i64(min_i64(width, TILE_WIDTH), floats / (t->below + 1) - t->right);
    if (t->right > MAX_SHIFT || t->columns < min_i64(width, MIN_TILE_WIDTH))
        return 0;
    t->pitch = t->columns + t->right;
    t->rows = min_i64(height, floats / t->pitch - t->below);
    t->phase_floats = (t->rows + t->below) * t->pitch;
    return 1;
}

/* to[i][j] = plane[top + i * stride_h][left + j * stride_w], 0 outside of height x width. Writes up to a vector beyond its end. */
static void fill_tile(float *to, int64_t rows, int64_t pitch, const float *plane, int64_t height, int64_t width, int64_t row_length,
                      int64_t top, int64_t left, int64_t stride_h, int64_t stride_w)
{
    const int64_t first = min_i64(pitch, ceil_div(max_i64(0, -left), stride_w));
    const int64_t last = max_i64(first, min_i64(pitch, ceil_div(max_i64(0, width - left), stride_w)));
    for (int64_t i = 0; i < rows; i++, to += pitch) {
        const int64_t h = top + i * stride_h;
        const int inside = h >= 0 && h < height;
        const float *from = plane + h * row_length + left;
        for (int64_t j = 0; j < first; j++)
            to[j] = 0.0f;
        for (int64_t j = first; inside && j < last; j += VL)
            vstore(to + j, vload_strided(from + j * stride_w, stride_w, last - j));
        for (int64_t j = inside ? last : first; j < pitch; j += VL)
            vstore(to + j, vsplat(0.0f));
    }
}

/* The phases of the input that the outputs from (row, column) on read, one behind the other. */
static void fill_phases(float *to, const tile_plan *t, const tge_conv2d_params *p, const float *x, int64_t row, int64_t column, int64_t rows)
{
    for (int64_t h = 0; h < p->stride_h; h++)
        for (int64_t w = 0; w < p->stride_w; w++, to += t->phase_floats)
            fill_tile(to, rows + t->below, t->pitch, x, p->h, p->w, p->w, row * p->stride_h + h - p->pad_h,
                      column * p->stride_w + w - p->pad_w, p->stride_h, p->stride_w);
}

/* Where tap (r, s) finds the input of the run's first output. */
static inline int64_t tap_offset(const tile_plan *t, const tge_conv2d_params *p, int64_t r, int64_t s)
{
    const int64_t h = r * p->dilation_h, w = s * p->dilation_w;
    return (h % p->stride_h * p->stride_w + w % p->stride_w) * t->phase_floats + h / p->stride_h * t->pitch + w / p->stride_w;
}

#endif
