/* depthwise_conv2d_f32. */
#include "correlate.h"

static void depthwise_tiles(const depthwise_walk *w, int64_t sample, int64_t channel)
{
    const tge_conv2d_params *p = w->p;
    const tile_plan *t = &w->tiles;
    float *y = w->y + sample * p->y_n_stride + channel * p->y_c_stride;
    const float *x = plane_read(w, sample, channel / w->multiplier);
    tile_buffer input;
    for (int64_t row = 0; row < t->height; row += t->rows)
        for (int64_t column = 0; column < t->width; column += t->columns) {
            const int64_t rows = min_i64(t->rows, t->height - row), columns = min_i64(t->columns, t->width - column);
            fill_phases(input.at, t, p, x, row, column, rows);
            correlate_tile(w, y + row * p->q + column, p->q, input.at, w->weight + channel * p->r * p->s, rows, columns);
        }
}

static void depthwise_tiled(void *context, int64_t chunk) { each_plane_of_images(context, chunk, depthwise_tiles); }

static void depthwise_3x3_plane(const depthwise_walk *w, int64_t sample, int64_t channel)
{
    const tge_conv2d_params *p = w->p;
    (p->stride_h == 1 ? correlate_plane_by_1 : correlate_plane_by_2)(
        w->y + sample * p->y_n_stride + channel * p->y_c_stride, p->p, p->q,
        plane_read(w, sample, channel / w->multiplier), p->h, p->w, -p->pad_h, -p->pad_w,
        w->weight + channel * 9);
}

static void depthwise_3x3(void *context, int64_t chunk) { each_plane_of_images(context, chunk, depthwise_3x3_plane); }

/* Any window: the definition. */
static void depthwise_plane(const depthwise_walk *w, int64_t sample, int64_t channel)
{
    const tge_conv2d_params *p = w->p;
    float *y = w->y + sample * p->y_n_stride + channel * p->y_c_stride;
    const float *x = plane_read(w, sample, channel / w->multiplier);
    const float *weight = w->weight + channel * p->r * p->s;
    for (int64_t row = 0; row < p->p; row++)
        for (int64_t column = 0; column < p->q; column++) {
            float sum = 0.0f;
            for (int64_t r = 0; r < p->r; r++)
                for (int64_t s = 0; s < p->s; s++) {
                    const int64_t i = row * p->stride_h + r * p->dilation_h - p->pad_h;
                    const int64_t j = column * p->stride_w + s * p->dilation_w - p->pad_w;
                    if (i >= 0 && i < p->h && j >= 0 && j < p->w)
                        sum += weight[r * p->s + s] * x[i * p->w + j];
                }
            y[row * p->q + column] = sum;
        }
}

static void depthwise_plain(void *context, int64_t chunk) { each_plane_of_images(context, chunk, depthwise_plane); }

static int64_t depthwise_conv2d_f32(void *const *operand, const void *params)
{
    const tge_conv2d_params *p = params;
    if (p->n * p->k * p->p * p->q == 0)
        return 0;
    depthwise_walk w = make_depthwise(operand, p, 0);
    if (suits_3x3(p))
        return run_depthwise(&w, depthwise_3x3);
    if (!plan_tiles(&w.tiles, p, p->p, p->q))
        return run_depthwise(&w, depthwise_plain);
    list_taps(w.taps, &w.tiles, p);
    return run_depthwise(&w, depthwise_tiled);
}

static int64_t depthwise_conv2d_f32_workspace(const void *params, int32_t threads) { return depthwise_workspace(params, threads); }
