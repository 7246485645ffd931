/* depthwise_conv2d_backward_data_f32.
 *
 * Row h of the image is place u / stride of phase u % stride, u = h + pad; it is read by tap r of output row p where
 * u = p * stride + r * dilation. So each phase is a dense correlation of the output's gradient with the taps of that phase,
 * turned round. */
#include "correlate.h"

/* ---- 3 x 3 without multiplier ---- */

static void depthwise_data_3x3_plane(const depthwise_walk *w, int64_t sample, int64_t channel)
{
    const tge_conv2d_params *p = w->p;
    float *grad_x = w->y + sample * p->x_n_stride + channel * p->x_c_stride;
    const float *grad_y = plane_read(w, sample, channel), *weight = w->weight + channel * 9;
    if (p->stride_h == 2) {
        spread_plane_by_2(grad_x, grad_y, p, weight);
        return;
    }
    float turned[9];
    for (int i = 0; i < 9; i++)
        turned[i] = weight[8 - i];
    correlate_plane_by_1(grad_x, p->h, p->w, grad_y, p->p, p->q, p->pad_h - 2, p->pad_w - 2, turned);
}

static void depthwise_data_3x3(void *context, int64_t chunk) { each_plane_of_images(context, chunk, depthwise_data_3x3_plane); }

/* ---- 5 x 5 without strides and multiplier: the forward correlation with the window turned round ---- */

static void depthwise_data_tiles(const depthwise_walk *w, int64_t sample, int64_t channel)
{
    const tge_conv2d_params *p = w->p;
    const tile_plan *t = &w->tiles;
    float *grad_x = w->y + sample * p->x_n_stride + channel * p->x_c_stride;
    const float *grad_y = plane_read(w, sample, channel);
    const int64_t taps = p->r * p->s;
    float turned[25];
    for (int64_t i = 0; i < taps; i++)
        turned[i] = w->weight[(channel + 1) * taps - 1 - i];
    tile_buffer grad;
    for (int64_t row = 0; row < t->height; row += t->rows)
        for (int64_t column = 0; column < t->width; column += t->columns) {
            const int64_t rows = min_i64(t->rows, t->height - row), columns = min_i64(t->columns, t->width - column);
            fill_tile(grad.at, rows + t->below, t->pitch, grad_y, p->p, p->q, p->q, row + p->pad_h - t->below,
                      column + p->pad_w - t->right);
            correlate_tile(w, grad_x + row * p->w + column, p->w, grad.at, turned, rows, columns);
        }
}

static void depthwise_data_5x5(void *context, int64_t chunk) { each_plane_of_images(context, chunk, depthwise_data_tiles); }

/* ---- with strides: phase by phase ---- */

/* Row h of the image, from its phases: places [left, left + n) of each. */
static void store_phases(float *y, int64_t width, const float *even, const float *odd, int64_t left, int64_t n, int64_t stride, int64_t pad)
{
    float row[2 * (TILE_WIDTH + VL)];
    const float *from = even;
    if (stride == 2) {
        for (int64_t i = 0; i < n; i += VL) {
            vstore(row + 2 * i, vinterleave_low(vload(even + i), vload(odd + i)));
            vstore(row + 2 * i + VL, vinterleave_high(vload(even + i), vload(odd + i)));
        }
        from = row;
    }
    const int64_t start = left * stride - pad;
    const int64_t first = max_i64(0, -start), last = min_i64(n * stride, width - start);
    copy_floats(y + start + first, from + first, last - first);
}

/* The taps of each phase, as places in a tile that starts `below` rows and `right` columns before the phase's. */
static void list_phase_taps(tap_list *taps, const tile_plan *t, const tge_conv2d_params *p)
{
    for (int64_t phase = 0; phase < p->stride_h * p->stride_w; phase++)
        taps[phase].count = 0;
    for (int64_t r = 0; r < p->r; r++)
        for (int64_t s = 0; s < p->s; s++) {
            const int64_t h = r * p->dilation_h, w = s * p->dilation_w;
            const int64_t phase = h % p->stride_h * p->stride_w + w % p->stride_w;
            add_tap(taps + phase, (t->below - h / p->stride_h) * t->pitch + t->right - w / p->stride_w, r * p->s + s);
        }
}

static void depthwise_data_phases(const depthwise_walk *w, int64_t sample, int64_t channel)
{
    const tge_conv2d_params *p = w->p;
    const tile_plan *t = &w->tiles;
    float *grad_x = w->y + sample * p->x_n_stride + channel * p->x_c_stride;
    tile_buffer grad, phase[MAX_STRIDE];
    for (int64_t row = 0; row < t->height; row += t->rows)
        for (int64_t column = 0; column < t->width; column += t->columns) {
            const int64_t rows = min_i64(t->rows, t->height - row), columns = min_i64(t->columns, t->width - column);
            const int64_t top = p->pad_h / p->stride_h + row, left = p->pad_w / p->stride_w + column;
            for (int64_t phase_h = 0; phase_h < p->stride_h; phase_h++) {
                for (int64_t k = channel * w->multiplier; k < (channel + 1) * w->multiplier; k++) {
                    fill_tile(grad.at, rows + t->below, t->pitch, plane_read(w, sample, k), p->p, p->q, p->q,
                              top - t->below, left - t->right);
                    for (int64_t phase_w = 0; phase_w < p->stride_w; phase_w++)
                        correlate_run(phase[phase_w].at, rows * t->pitch - t->right, grad.at,
                                      &w->taps[phase_h * p->stride_w + phase_w], w->weight + k * p->r * p->s, k > channel * w->multiplier);
                }
                for (int64_t i = 0; i < rows; i++) {
                    const int64_t h = (top + i) * p->stride_h + phase_h - p->pad_h;
                    if (h >= 0 && h < p->h)
                        store_phases(grad_x + h * p->w, p->w, phase[0].at + i * t->pitch, phase[1].at + i * t->pitch, left, columns,
                                     p->stride_w, p->pad_w);
                }
            }
        }
}

static void depthwise_data_tiled(void *context, int64_t chunk) { each_plane_of_images(context, chunk, depthwise_data_phases); }

/* ---- any window ---- */

static void depthwise_data_plane(const depthwise_walk *w, int64_t sample, int64_t channel)
{
    const tge_conv2d_params *p = w->p;
    float *grad_x = w->y + sample * p->x_n_stride + channel * p->x_c_stride;
    for (int64_t h = 0; h < p->h; h++)
        memset(grad_x + h * p->w, 0, (size_t)p->w * 4);
    for (int64_t k = channel * w->multiplier; k < (channel + 1) * w->multiplier; k++) {
        const float *grad = plane_read(w, sample, k), *weight = w->weight + k * p->r * p->s;
        for (int64_t row = 0; row < p->p; row++)
            for (int64_t column = 0; column < p->q; column++)
                for (int64_t r = 0; r < p->r; r++)
                    for (int64_t s = 0; s < p->s; s++) {
                        const int64_t i = row * p->stride_h + r * p->dilation_h - p->pad_h;
                        const int64_t j = column * p->stride_w + s * p->dilation_w - p->pad_w;
                        if (i >= 0 && i < p->h && j >= 0 && j < p->w)
                            grad_x[i * p->w + j] += weight[r * p->s + s] * grad[row * p->q + column];
                    }
    }
}

static void depthwise_data_plain(void *context, int64_t chunk) { each_plane_of_images(context, chunk, depthwise_data_plane); }

static int64_t depthwise_conv2d_backward_data_f32(void *const *operand, const void *params)
{
    const tge_conv2d_params *p = params;
    if (p->n * p->c * p->h * p->w == 0)
        return 0;
    depthwise_walk w = make_depthwise(operand, p, 1);
    if (suits_3x3(p) && w.multiplier == 1)
        return run_depthwise(&w, depthwise_data_3x3);
    const int64_t height = (p->h - 1 + p->pad_h) / p->stride_h - p->pad_h / p->stride_h + 1;
    const int64_t width = (p->w - 1 + p->pad_w) / p->stride_w - p->pad_w / p->stride_w + 1;
    if (w.multiplier == 0 || !plan_tiles(&w.tiles, p, height, width)) /* without outputs there is no phase to store */
        return run_depthwise(&w, depthwise_data_plain);
    if (w.is_5x5 && w.multiplier == 1)
        return run_depthwise(&w, depthwise_data_5x5);
    list_phase_taps(w.taps, &w.tiles, p);
    return run_depthwise(&w, depthwise_data_tiled);
}

static int64_t depthwise_conv2d_backward_data_f32_workspace(const void *params, int32_t threads)
{
    return depthwise_workspace(params, threads);
}
