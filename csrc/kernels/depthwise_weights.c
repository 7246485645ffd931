/* depthwise_conv2d_backward_weights_f32: each tap's dot product of the output's gradient with the shifted input. */
#include "depthwise.h"
#include "depthwise_3x3.h"

enum { MAX_TOGETHER = 16 }; /* channels */

typedef struct {
    const tge_conv2d_params *p;
    float *grad_weight;
    const float *x, *grad;
    tile_plan tiles;
    tap_list taps;
    int64_t multiplier;
    int64_t channels_in_chunk;
} depthwise_weights;

/* sum[t] += x[offset[t] + i] * grad[i], i < n rounded up to 16; four taps share a load of grad. */
ALWAYS_INLINE void dot_taps(wide *sum, const int64_t *offset, int taps, const float *x, const float *grad, int64_t n)
{
    wide running[4];
    for (int t = 0; t < taps; t++)
        running[t] = sum[t];
    for (int64_t i = 0; i < n; i += 16) {
        const wide g = wide_load(grad + i);
        _Pragma("GCC unroll 4")
        for (int t = 0; t < taps; t++)
            running[t] = wide_fma(wide_load(x + offset[t] + i), g, running[t]);
    }
    for (int t = 0; t < taps; t++)
        sum[t] = running[t];
}

static void dot_tiles(wide *sum, const tap_list *taps, const float *x, const float *grad, int64_t n)
{
    int64_t t = 0;
    for (; t + 4 <= taps->count; t += 4)
        dot_taps(sum + t, taps->offset + t, 4, x, grad, n);
    for (; t < taps->count; t++)
        dot_taps(sum + t, taps->offset + t, 1, x, grad, n);
}

/* The gradient's tile has the pitch of the input's, with zeros where a run computes what nobody stores. The lanes are emptied into doubles
 * whenever they have taken up TILE_FLOATS products, so that a lane adds at most 512 of them. */
static void depthwise_weights_tiled(const depthwise_weights *w, int64_t channel)
{
    const tge_conv2d_params *p = w->p;
    const tile_plan *t = &w->tiles;
    const int64_t taps = w->taps.count;
    wide lanes[MAX_TAPS];
    double total[MAX_TAPS] = {0};
    for (int64_t i = 0; i < taps; i++)
        lanes[i] = wide_splat(0.0f);
    int64_t taken = 0;

    tile_buffer input = {{0}}, gradient = {{0}}; /* the slack meets zeros of the other operand, and must not be NaN */
    for (int64_t sample = 0; sample < p->n; sample++) {
        const float *x = w->x + sample * p->x_n_stride + channel / w->multiplier * p->x_c_stride;
        const float *grad = w->grad + sample * p->y_n_stride + channel * p->y_c_stride;
        for (int64_t row = 0; row < t->height; row += t->rows)
            for (int64_t column = 0; column < t->width; column += t->columns) {
                const int64_t rows = min_i64(t->rows, t->height - row), columns = min_i64(t->columns, t->width - column);
                const int64_t n = rows * t->pitch;
                fill_phases(input.at, t, p, x, row, column, rows);
                fill_tile(gradient.at, rows, t->pitch, grad, p->p, column + columns, p->q, row, column);
                for (int64_t i = 0; i < 16; i += VL)
                    vstore(gradient.at + n + i, vsplat(0.0f));
                dot_tiles(lanes, &w->taps, input.at, gradient.at, n);
                taken += n;
                if (taken < TILE_FLOATS)
                    continue;
                taken = 0;
                for (int64_t i = 0; i < taps; i++) {
                    total[i] += wide_sum(lanes[i]);
                    lanes[i] = wide_splat(0.0f);
                }
            }
    }
    for (int64_t i = 0; i < taps; i++)
        w->grad_weight[channel * taps + i] = (float)(total[i] + wide_sum(lanes[i]));
}

/* Any window: the definition, a row in float, rows in double. */
static void depthwise_weights_plain(const depthwise_weights *w, int64_t channel)
{
    const tge_conv2d_params *p = w->p;
    for (int64_t r = 0; r < p->r; r++)
        for (int64_t s = 0; s < p->s; s++) {
            double total = 0.0;
            for (int64_t sample = 0; sample < p->n; sample++)
                for (int64_t row = 0; row < p->p; row++) {
                    const int64_t i = row * p->stride_h + r * p->dilation_h - p->pad_h;
                    if (i < 0 || i >= p->h)
                        continue;
                    const float *x = w->x + sample * p->x_n_stride + channel / w->multiplier * p->x_c_stride + i * p->w;
                    const float *grad = w->grad + sample * p->y_n_stride + channel * p->y_c_stride + row * p->q;
                    for (int64_t column = 0; column < p->q; column++) {
                        const int64_t j = column * p->stride_w + s * p->dilation_w - p->pad_w;
                        if (j >= 0 && j < p->w)
                            total += (double)x[j] * grad[column];
                    }
                }
            w->grad_weight[(channel * p->r + r) * p->s + s] = (float)total;
        }
}

ALWAYS_INLINE void each_weight_channel(const depthwise_weights *w, int64_t chunk, void (*body)(const depthwise_weights *, int64_t))
{
    const int64_t last = min_i64((chunk + 1) * w->channels_in_chunk, w->p->k);
    for (int64_t channel = chunk * w->channels_in_chunk; channel < last; channel++)
        body(w, channel);
}

static void depthwise_weights_tiled_chunk(void *context, int64_t chunk) { each_weight_channel(context, chunk, depthwise_weights_tiled); }

/* Some channels together, sample by sample, so that memory is read in long stretches. */
static void depthwise_weights_3x3_chunk(void *context, int64_t chunk)
{
    const depthwise_weights *w = context;
    const tge_conv2d_params *p = w->p;
    const int64_t first = chunk * w->channels_in_chunk, end = min_i64(first + w->channels_in_chunk, p->k);
    channel_sums sums[MAX_TOGETHER];
    for (int64_t start = first; start < end; start += MAX_TOGETHER) {
        const int64_t count = min_i64(MAX_TOGETHER, end - start);
        memset(sums, 0, sizeof sums);
        for (int64_t sample = 0; sample < p->n; sample++)
            for (int64_t i = 0; i < count; i++)
                dot_plane(&sums[i], p, w->x + sample * p->x_n_stride + (start + i) / w->multiplier * p->x_c_stride,
                          w->grad + sample * p->y_n_stride + (start + i) * p->y_c_stride);
        for (int64_t i = 0; i < count; i++) {
            empty_lanes(&sums[i]);
            for (int t = 0; t < 9; t++)
                w->grad_weight[(start + i) * 9 + t] = (float)sums[i].total[t];
        }
    }
}

static void depthwise_weights_plain_chunk(void *context, int64_t chunk) { each_weight_channel(context, chunk, depthwise_weights_plain); }

static int64_t depthwise_conv2d_backward_weights_f32(void *const *operand, const void *params)
{
    const tge_conv2d_params *p = params;
    if (p->k == 0)
        return 0;
    depthwise_weights w = {.p = p, .grad_weight = operand[0], .x = operand[1], .grad = operand[2], .multiplier = p->k / p->c};
    w.channels_in_chunk = max_i64(1, CHUNK / max_i64(1, p->n * p->p * p->q));
    void (*chunk)(void *, int64_t) = depthwise_weights_plain_chunk;
    if (suits_3x3(p)) {
        w.channels_in_chunk = max_i64(w.channels_in_chunk, min_i64(MAX_TOGETHER, CHUNK / max_i64(1, p->p * p->q)));
        chunk = depthwise_weights_3x3_chunk;
    } else if (p->p * p->q > 0 && plan_tiles(&w.tiles, p, p->p, p->q)) {
        list_taps(&w.taps, &w.tiles, p);
        chunk = depthwise_weights_tiled_chunk;
    }
    tge_parallel(ceil_div(p->k, w.channels_in_chunk), chunk, &w);
    return 0;
}
