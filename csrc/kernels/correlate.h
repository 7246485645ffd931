/* The walk over planes and tiles that depthwise convolution and its gradient by the data share, and the correlation of a tile. */
#ifndef TGE_CORRELATE_H
#define TGE_CORRELATE_H

#include "depthwise.h"
#include "depthwise_3x3.h"

typedef struct {
    const tge_conv2d_params *p;
    float *y;
    const float *x, *weight;
    float *copies; /* of the plane that each worker reads, where y lies in place of x; else NULL */
    int64_t x_n_stride, x_c_stride, x_floats; /* of the planes that are read */
    tile_plan tiles;
    tap_list taps[MAX_STRIDE * MAX_STRIDE]; /* forward: one list; backward: one a phase */
    int is_5x5;                             /* without stride and dilation */
    int64_t multiplier;
    int64_t planes, planes_in_chunk, channels;
    int channel_major;
} depthwise_walk;

/* Whether images have one shape, so that either may be made in the memory of the other. */
static int fits_in_place(const tge_conv2d_params *p) { return p->k == p->c && p->p == p->h && p->q == p->w; }

static int64_t planes_in_chunk(const tge_conv2d_params *p) { return max_i64(1, CHUNK / max_i64(1, p->h * p->w + p->p * p->q)); }

/* A plane for each worker. */
static int64_t depthwise_workspace(const void *params, int32_t threads)
{
    const tge_conv2d_params *p = params;
    const int64_t workers = workers_used(ceil_div(p->n * p->c, planes_in_chunk(p)), threads);
    return fits_in_place(p) ? workers * p->h * p->w * (int64_t)sizeof(float) : 0;
}

/* The images written and read have so many channels, those read the strides of one side. */
static depthwise_walk make_depthwise(void *const *operand, const tge_conv2d_params *p, int backward)
{
    const int64_t channels = backward ? p->c : p->k;
    depthwise_walk w = {.p = p, .y = operand[0], .x = operand[1], .weight = operand[2], .multiplier = p->k / p->c,
                        .x_n_stride = backward ? p->y_n_stride : p->x_n_stride, .x_c_stride = backward ? p->y_c_stride : p->x_c_stride,
                        .x_floats = p->h * p->w, .planes = p->n * channels, .planes_in_chunk = planes_in_chunk(p), .channels = channels,
                        .channel_major = p->x_c_stride > p->x_n_stride};
    /* An image of no bytes may lie anywhere. */
    w.copies = fits_in_place(p) && operand[0] == operand[1] ? operand[3] : NULL;
    const int64_t steps = p->stride_h * p->stride_w * p->dilation_h * p->dilation_w;
    w.is_5x5 = steps == 1 && p->r == 5 && p->s == 5;
    return w;
}

static int64_t run_depthwise(depthwise_walk *w, void (*chunk)(void *, int64_t))
{
    tge_parallel(ceil_div(w->planes, w->planes_in_chunk), chunk, w);
    return 0;
}

static inline const float *plane_of_x(const depthwise_walk *w, int64_t sample, int64_t channel)
{
    return w->x + sample * w->x_n_stride + channel * w->x_c_stride;
}

static inline float *copied_plane(const depthwise_walk *w) { return w->copies + tge_worker() * w->x_floats; }

/* The plane to read, be it a copy. */
static inline const float *plane_read(const depthwise_walk *w, int64_t sample, int64_t channel)
{
    return w->copies ? copied_plane(w) : plane_of_x(w, sample, channel);
}

/* Planes in the order of memory. */
ALWAYS_INLINE void each_plane_of_images(const depthwise_walk *w, int64_t chunk, void (*plane)(const depthwise_walk *, int64_t, int64_t))
{
    const int64_t last = min_i64((chunk + 1) * w->planes_in_chunk, w->planes);
    for (int64_t i = chunk * w->planes_in_chunk; i < last; i++) {
        const int64_t sample = w->channel_major ? i % w->p->n : i / w->channels, channel = w->channel_major ? i / w->p->n : i % w->channels;
        if (w->copies)
            memcpy(copied_plane(w), plane_of_x(w, sample, channel), sizeof(float) * (size_t)w->x_floats);
        plane(w, sample, channel);
    }
}

static inline void copy_floats(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += VL)
        vstore_upto(y + i, n - i, vload_upto(x + i, n - i));
}

/* ---- correlation: y[i] = sum of weight * x[i + offset] over the taps, in their order ---- */

/* A run of n outputs, rounded up to whole vectors. */
static void correlate_run(float *y, int64_t n, const float *x, const tap_list *taps, const float *weight, int accumulate)
{
    enum { TOGETHER = 4 };
    int64_t i = 0;
    for (; i + TOGETHER * VL <= n; i += TOGETHER * VL) {
        vf sum[TOGETHER];
        for (int j = 0; j < TOGETHER; j++)
            sum[j] = accumulate ? vload(y + i + j * VL) : vsplat(0.0f);
        for (int64_t t = 0; t < taps->count; t++) {
            const float *from = x + taps->offset[t] + i;
            const vf tap_weight = vsplat(weight[taps->index[t]]);
            _Pragma("GCC unroll 4")
            for (int j = 0; j < TOGETHER; j++)
                sum[j] = vfma(tap_weight, vload(from + j * VL), sum[j]);
        }
        for (int j = 0; j < TOGETHER; j++)
            vstore(y + i + j * VL, sum[j]);
    }
    for (; i < n; i += VL) {
        vf sum = accumulate ? vload(y + i) : vsplat(0.0f);
        for (int64_t t = 0; t < taps->count; t++)
            sum = vfma(vsplat(weight[taps->index[t]]), vload(x + taps->offset[t] + i), sum);
        vstore(y + i, sum);
    }
}

/* Rows of outputs of a 5 x 5 window; each vector of the input serves all rows that read it. */
ALWAYS_INLINE void correlate_rows(float *y, int64_t y_pitch, const float *x, int64_t pitch, const float *weight, int64_t columns,
                                  int rows)
{
    enum { WINDOW = 5 };
    vf tap_weight[WINDOW * WINDOW];
    for (int t = 0; t < WINDOW * WINDOW; t++)
        tap_weight[t] = vsplat(weight[t]);
    for (int64_t column = 0; column < columns; column += VL) {
        vf sum[4] = {{0}};
        _Pragma("GCC unroll 8")
        for (int i = 0; i < WINDOW + rows - 1; i++)
            _Pragma("GCC unroll 8")
            for (int s = 0; s < WINDOW; s++) {
                const vf value = vload(x + i * pitch + s + column);
                _Pragma("GCC unroll 8")
                for (int j = 0; j < rows; j++)
                    if (i >= j && i - j < WINDOW)
                        sum[j] = vfma(tap_weight[(i - j) * WINDOW + s], value, sum[j]);
            }
        for (int j = 0; j < rows; j++)
            vstore_upto(y + j * y_pitch + column, columns - column, sum[j]);
    }
}

static void correlate_5x5(float *y, int64_t y_pitch, const float *x, int64_t pitch, const float *weight, int64_t rows, int64_t columns)
{
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4)
        correlate_rows(y + i * y_pitch, y_pitch, x + i * pitch, pitch, weight, columns, 4);
    for (; i < rows; i++)
        correlate_rows(y + i * y_pitch, y_pitch, x + i * pitch, pitch, weight, columns, 1);
}

/* A tile of rows x columns outputs: 5 x 5 windows row by row, all others as one run. */
static inline void correlate_tile(const depthwise_walk *w, float *y, int64_t y_pitch, const float *tile, const float *weight, int64_t rows,
                                  int64_t columns)
{
    const tile_plan *t = &w->tiles;
    if (w->is_5x5)
        correlate_5x5(y, y_pitch, tile, t->pitch, weight, rows, columns);
    else {
        tile_buffer output;
        correlate_run(output.at, rows * t->pitch - t->right, tile, w->taps, weight, 0);
        for (int64_t i = 0; i < rows; i++)
            copy_floats(y + i * y_pitch, output.at + i * t->pitch, columns);
    }
}

#endif
