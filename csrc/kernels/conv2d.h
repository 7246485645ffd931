/* What conv2d_f32 and conv2d_backward_data_f32 have in common: both are a correlation,
 *
 *     out[m][grid point] = sum over (channel, tap) of weights[m][channel][tap] * source[channel][what tap reads there]
 *
 * and the two ways to compute one share how weights are packed and how rows of an image are stored.
 */
#ifndef TGE_CONV2D_H
#define TGE_CONV2D_H

#include "window.h"

typedef struct {
    sliding_window window; /* how a grid reads the source */
    int64_t groups, outputs, channels; /* outputs and channels of one group */
    int64_t out_start, out_n, out_c, out_h, out_w; /* where the grid is in out, and its strides */
    int64_t w_start, w_group, w_output, w_channel, w_tap_h, w_tap_w;
    const float *source, *weights;
    float *out;
} correlation;

/* One A panel from the weights of `outputs` outputs. */
static void pack_weights(float *panel, const float *weights, const correlation *p, int64_t outputs, int64_t channels)
{
    int64_t taps_h = p->window.h.taps, taps_w = p->window.w.taps;
    if (p->w_tap_w == 1 && p->w_tap_h == taps_w && p->w_channel == taps_h * taps_w) {
        pack_panel(panel, MR, weights, p->w_output, 1, outputs, channels * taps_h * taps_w);
        return;
    }
    if (taps_h * taps_w == 1) {
        pack_panel(panel, MR, weights, p->w_output, p->w_channel, outputs, channels);
        return;
    }
    for (int64_t c = 0; c < channels; c++, weights += p->w_channel) {
        for (int64_t x = 0; x < outputs * p->w_output; x += 16)
            __builtin_prefetch(weights + 8 * p->w_channel + x, 0, 2);
        for (int64_t i = 0; i < taps_h; i++)
            for (int64_t j = 0; j < taps_w; j++, panel += MR) {
                const float *from = weights + i * p->w_tap_h + j * p->w_tap_w;
                for (int64_t m = 0; m < MR; m++)
                    panel[m] = m < outputs ? from[m * p->w_output] : 0.0f;
            }
    }
}

static void store_run(float *to, int64_t stride, const float *from, int64_t count, int add)
{
    if (stride == 1) {
        for (int64_t x = 0; x < count; x += VL) {
            int64_t left = count - x;
            vf value = vload(from + x);
            if (left >= VL)
                vstore(to + x, add ? vload(to + x) + value : value);
            else
                vstore_part(to + x, left, add ? vload_part(to + x, left) + value : value);
        }
    } else if (stride == 2) {
        for (int64_t x = 0; x < count; x += VL, to += 2 * VL) {
            int64_t floats = 2 * (count - x) - 1; /* up to the last that is written; those between keep their values */
            vf low = vload_upto(to, floats), high = floats > VL ? vload_upto(to + VL, floats - VL) : (vf){0};
            vf kept = vodd(low, high), value = vload_upto(from + x, count - x);
            value = add ? veven(low, high) + value : value;
            vstore_upto(to, floats, vinterleave_low(value, kept));
            if (floats > VL)
                vstore_upto(to + VL, floats - VL, vinterleave_high(value, kept));
        }
    } else {
        for (int64_t x = 0; x < count; x++)
            to[x * stride] = add ? to[x * stride] + from[x] : from[x];
    }
}

#endif
