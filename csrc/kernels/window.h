/* How a sliding window reads an image, and the slab: a padded copy of the part that is being worked on.
 *
 * Grid point g and tap t of an axis read image position origin + g * step + t * dilation; positions outside of the image are zero. This one
 * form serves a convolution, its gradient by the data (a convolution of the output gradient with the reversed window, one for each
 * residue of the stride) and its gradient by the weights.
 *
 * The work is done in bands: some whole rows of the grid (rows of consecutive samples too), or a part of one row where rows are long. The
 * slab holds what a band reads from some channels, [channel][row slot][y][column slot][x], with the step taken out: positions of taps
 * that differ by a multiple of the step lie in one slot. So what any tap reads along a grid row is contiguous, free of bounds, whatever
 * the stride, padding and dilation are.
 */
#ifndef TGE_WINDOW_H
#define TGE_WINDOW_H

#include "product.h"

enum {
    BAND = 128, /* grid points of a band: the columns or the inner dimension of a product's block */
    WIDE_BAND = 1024,     /* at most */
    BAND_FLOATS = 1 << 16,
    OUT_BLOCK = 96, /* output channels of a block */
};

typedef struct {
    int64_t size;                         /* of the image */
    int64_t origin, step, dilation, taps; /* position = origin + g * step + t * dilation */
    int64_t grid;                         /* grid points */
    int64_t period; /* taps t and t + period differ by `shift` whole steps */
    int64_t shift;
    int64_t slots;  /* different residues */
    int64_t extra;  /* steps that the last tap of a slot reaches beyond the first */
} axis;

static int64_t gcd(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static axis make_axis(int64_t size, int64_t origin, int64_t step, int64_t dilation, int64_t taps, int64_t grid)
{
    axis x = {size, origin, step, dilation, taps, grid, 0, 0, 0, 0};
    x.period = step / gcd(step, dilation);
    x.shift = dilation / gcd(step, dilation);
    x.slots = min_i64(taps, x.period);
    x.extra = taps == 0 ? 0 : (taps - 1) / x.period * x.shift;
    return x;
}

typedef struct {
    axis h, w;
    int64_t n;
    int64_t n_stride, c_stride; /* of the image */
} sliding_window;

/* The window of the convolution itself. */
static sliding_window forward_window(const tge_conv2d_params *p)
{
    return (sliding_window){
        .h = make_axis(p->h, -p->pad_h, p->stride_h, p->dilation_h, p->r, p->p),
        .w = make_axis(p->w, -p->pad_w, p->stride_w, p->dilation_w, p->s, p->q),
        .n = p->n, .n_stride = p->x_n_stride, .c_stride = p->x_c_stride,
    };
}

static inline int64_t tap_count(const sliding_window *window) { return window->h.taps * window->w.taps; }

/* Whether grid point g reads image position g and nothing else. */
static int is_plain(const sliding_window *window)
{
    return tap_count(window) == 1 && window->h.step == 1 && window->w.step == 1 && window->h.origin == 0 && window->w.origin == 0
        && window->h.grid == window->h.size && window->w.grid == window->w.size;
}

/* Rows [row, row + rows) of the grid of all samples, columns [q, q + width) of each. */
typedef struct { int64_t row, rows, q, width; } band;

/* How a grid is cut into bands of at most `most` points or little more, from its shape alone. */
typedef struct {
    int64_t rows, width;     /* of a band, at most */
    int64_t row_bands, column_bands;
} band_cut;

static band_cut cut_bands(const sliding_window *window, int64_t most)
{
    int64_t rows = window->n * window->h.grid, columns = window->w.grid;
    band_cut cut = {1, columns, rows, 1};
    if (rows == 0 || columns == 0)
        return (band_cut){1, 1, 0, 0};
    if (columns > most) {
        cut.width = even_block(columns, most, COLUMN_MULTIPLE);
        cut.column_bands = ceil_div(columns, cut.width);
    } else {
        cut.rows = even_block(rows, most / columns, 1);
        cut.row_bands = ceil_div(rows, cut.rows);
    }
    return cut;
}

static band band_at(const sliding_window *window, const band_cut *cut, int64_t index)
{
    int64_t rows = window->n * window->h.grid, row_band = index / cut->column_bands;
    band b = {row_band * rows / cut->row_bands, 0, index % cut->column_bands * cut->width, cut->width};
    b.rows = (row_band + 1) * rows / cut->row_bands - b.row;
    b.width = min_i64(b.width, window->w.grid - b.q);
    return b;
}

/* ---- the slab ---- */

typedef struct {
    int64_t x, row, y, channel; /* floats of a slot's row, a row, and rows of a slot, floats of a channel */
} slab_shape;

static slab_shape shape_slab(const sliding_window *window, int64_t rows, int64_t samples, int64_t width)
{
    slab_shape s;
    s.x = width + window->w.extra;
    s.row = window->w.slots * s.x;
    s.y = rows + samples * window->h.extra;
    s.channel = window->h.slots * s.y * s.row;
    return s;
}

static slab_shape band_slab(const sliding_window *window, const band *b)
{
    int64_t samples = (b->row + b->rows - 1) / window->h.grid - b->row / window->h.grid + 1;
    return shape_slab(window, b->rows, samples, b->width);
}

/* Enough for any band of a cut. */
static int64_t slab_floats(const sliding_window *window, const band_cut *cut, int64_t channels)
{
    int64_t samples = min_i64(cut->rows, ceil_div(cut->rows - 1, max_i64(window->h.grid, 1)) + 1);
    return round_up(channels * shape_slab(window, cut->rows, samples, cut->width).channel, 16) + PACK_SLACK;
}

/* What tap (i, j) adds to where a grid row starts. */
static inline int64_t slab_tap(const sliding_window *window, const slab_shape *s, int64_t i, int64_t j)
{
    const axis *h = &window->h, *w = &window->w;
    return (i % h->period * s->y + i / h->period * h->shift) * s->row + j % w->period * s->x + j / w->period * w->shift;
}

/* Copy `count` positions from, from + step, ... of an image row; outside of its `size` positions are zeros. Whole vectors are stored in
 * ascending order: up to VL floats after the end are overwritten. Meanwhile the same positions `ahead` are fetched. */
static inline void fill_slab_row(float *to, const float *row, int64_t size, int64_t from, int64_t step, int64_t count, int64_t ahead)
{
    int64_t first = from < 0 ? ceil_div(-from, step) : 0;
    int64_t last = from < size ? min_i64(ceil_div(size - from, step), count) : 0;
    int64_t x = 0;
    for (; x < min_i64(first, count); x += VL)
        vstore(to + x, (vf){0});
    for (x = first; x < last; x += VL) {
        const float *at = row + from + x * step;
        __builtin_prefetch(at + ahead, 0, 3);
        __builtin_prefetch(at + ahead + (step - 1) * VL, 0, 3);
        vstore(to + x, vload_strided(at, step, last - x));
    }
    for (; x < count; x += VL)
        vstore(to + x, (vf){0});
}

/* image points at the first of the channels. */
static void fill_slab(float *slab, const float *image, const sliding_window *window, const band *b, int64_t channels)
{
    slab_shape s = band_slab(window, b);
    int64_t end = b->row + b->rows;
    for (int64_t c = 0; c < channels; c++)
        for (int64_t slot = 0; slot < window->h.slots; slot++) {
            float *to = slab + c * s.channel + slot * s.y * s.row;
            for (int64_t row = b->row; row < end;) {
                int64_t sample = row / window->h.grid, g = row % window->h.grid;
                int64_t next = min_i64(end, (sample + 1) * window->h.grid);
                const float *plane = image + sample * window->n_stride + c * window->c_stride;
                int64_t h = window->h.origin + g * window->h.step + slot * window->h.dilation;
                for (int64_t y = 0; y < next - row + window->h.extra; y++, h += window->h.step, to += s.row) {
                    int inside = h >= 0 && h < window->h.size;
                    for (int64_t j = 0; j < window->w.slots; j++)
                        fill_slab_row(to + j * s.x, inside ? plane + h * window->w.size : NULL, inside ? window->w.size : 0,
                                      window->w.origin + b->q * window->w.step + j * window->w.dilation, window->w.step, s.x,
                                      window->c_stride);
                }
                row = next;
            }
        }
}

#endif
