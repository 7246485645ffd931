/* depthwise_conv2d_f32, depthwise_conv2d_backward_data_f32. */
#include "depthwise.h"

typedef struct {
    int64_t offset;
    float weight;
} depthwise_tap;

typedef struct {
    const tge_conv2d_params *p;
    float *y;
    const float *x, *weight;
    tile_plan tiles;
    int64_t planes, planes_in_chunk;
    int channel_major; /* planes in the order of memory */
} depthwise_walk;

typedef void depthwise_plane(const depthwise_walk *w, int64_t sample, int64_t channel);

ALWAYS_INLINE void each_depthwise_plane(const depthwise_walk *w, int64_t chunk, int64_t channels, depthwise_plane *plane)
{
    const int64_t last = min_i64((chunk + 1) * w->planes_in_chunk, w->planes);
    for (int64_t i = chunk * w->planes_in_chunk; i < last; i++)
        if (w->channel_major)
            plane(w, i % w->p->n, i / w->p->n);
        else
            plane(w, i / channels, i % channels);
}

static int64_t run_depthwise(depthwise_walk *w, int64_t channels, void (*chunk)(void *, int64_t))
{
    const tge_conv2d_params *p = w->p;
    w->planes = p->n * channels;
    w->planes_in_chunk = max_i64(1, CHUNK / max_i64(1, p->h * p->w + p->p * p->q));
    w->channel_major = p->x_c_stride > p->x_n_stride;
    tge_parallel(ceil_div(w->planes, w->planes_in_chunk), chunk, w);
    return 0;
}

/* y[i] (+)= sum of weight * x[offset + i] over the taps, in their order. Rounds n up to whole vectors. */
static void correlate_run(float *y, int64_t n, const float *x, const depthwise_tap *tap, int64_t taps, int accumulate)
{
    enum { TOGETHER = 4 };
    int64_t i = 0;
    for (; i + TOGETHER * VL <= n; i += TOGETHER * VL) {
        vf sum[TOGETHER];
        for (int j = 0; j < TOGETHER; j++)
            sum[j] = accumulate ? vload(y + i + j * VL) : vsplat(0.0f);
        for (int64_t t = 0; t < taps; t++) {
            const float *from = x + tap[t].offset + i;
            const vf weight = vsplat(tap[t].weight);
            _Pragma("GCC unroll 4")
            for (int j = 0; j < TOGETHER; j++)
                sum[j] = vfma(weight, vload(from + j * VL), sum[j]);
        }
        for (int j = 0; j < TOGETHER; j++)
            vstore(y + i + j * VL, sum[j]);
    }
    for (; i < n; i += VL) {
        vf sum = accumulate ? vload(y + i) : vsplat(0.0f);
        for (int64_t t = 0; t < taps; t++)
            sum = vfma(vsplat(tap[t].weight), vload(x + tap[t].offset + i), sum);
        vstore(y + i, sum);
    }
}

static inline void copy_floats(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += VL)
        vstore_upto(y + i, n - i, vload_upto(x + i, n - i));
}

/* ---- forward ---- */

static void depthwise_tiled(const depthwise_walk *w, int64_t sample, int64_t channel)
{
    const tge_conv2d_params *p = w->p;
    const tile_plan *t = &w->tiles;
    float *y = w->y + sample * p->y_n_stride + channel * p->y_c_stride;
    const float *x = w->x + sample * p->x_n_stride + channel / (p->k / p->c) * p->x_c_stride;
    depthwise_tap tap[MAX_TAPS];
    int64_t taps = 0;
    for (int64_t r = 0; r < p->r; r++)
        for (int64_t s = 0; s < p->s; s++, taps++)
            tap[taps] = (depthwise_tap){tap_offset(t, p, r, s), w->weight[channel * p->r * p->s + taps]};

    tile_buffer input, output;
    for (int64_t row = 0; row < t->height; row += t->rows)
        for (int64_t column = 0; column < t->width; column += t->columns) {
            const int64_t rows = min_i64(t->rows, t->height - row), columns = min_i64(t->columns, t->width - column);
            fill_phases(input.at, t, p, x, row, column, rows);
            correlate_run(output.at, rows * t->pitch - t->right, input.at, tap, taps, 0);
            for (int64_t i = 0; i < rows; i++)
                copy_floats(y + (row + i) * p->q + column, output.at + i * t->pitch, columns);
        }
}

/* Any window: the definition. */
static void depthwise_plain(const depthwise_walk *w, int64_t sample, int64_t channel)
{
    const tge_conv2d_params *p = w->p;
    float *y = w->y + sample * p->y_n_stride + channel * p->y_c_stride;
    const float *x = w->x + sample * p->x_n_stride + channel / (p->k / p->c) * p->x_c_stride;
    const float *weight = w->weight + channel * p->r * p->s;
    for (int64_t row = 0; row < p->p; row++)
        for (int64_t column = 0; column < p->q; column++) {
            float sum = 0.0f;
            for (int64_t r = 0; r < p->r; r++)
                for (int64_t s = 0; s < p->s; s++) {
                    const int64_t i = row * p->stride_h + r * p->dilation_h - p->pad_h, j = column * p->stride_w + s * p->dilation_w - p->pad_w;
                    if (i >= 0 && i < p->h && j >= 0 && j < p->w)
                        sum += weight[r * p->s + s] * x[i * p->w + j];
                }
            y[row * p->q + column] = sum;
        }
}

static void depthwise_tiled_chunk(void *context, int64_t chunk)
{
    const depthwise_walk *w = context;
    each_depthwise_plane(w, chunk, w->p->k, depthwise_tiled);
}

static void depthwise_plain_chunk(void *context, int64_t chunk)
{
    const depthwise_walk *w = context;
    each_depthwise_plane(w, chunk, w->p->k, depthwise_plain);
}

static int64_t depthwise_conv2d_f32(void *const *operand, const void *params)
{
    const tge_conv2d_params *p = params;
    depthwise_walk w = {.p = p, .y = operand[0], .x = operand[1], .weight = operand[2]};
    if (p->n * p->k * p->p * p->q == 0)
        return 0;
    return run_depthwise(&w, p->k, plan_tiles(&w.tiles, p, p->p, p->q) ? depthwise_tiled_chunk : depthwise_plain_chunk);
}

/* ---- gradient by the data ----
 *
 * Row h of the image is place u / stride of phase u % stride, u = h + pad; it is read by tap r of output row p where u = p * stride + r * dilation. So each
 * phase is a dense correlation of the output's gradient with the taps of that phase, turned round. */

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

static void depthwise_data_tiled(const depthwise_walk *w, int64_t sample, int64_t channel)
{
    const tge_conv2d_params *p = w->p;
    const tile_plan *t = &w->tiles;
    const int64_t multiplier = p->k / p->c;
    float *grad_x = w->y + sample * p->x_n_stride + channel * p->x_c_stride;
    tile_buffer grad, phase[MAX_STRIDE];
    for (int64_t row = 0; row < t->height; row += t->rows)
        for (int64_t column = 0; column < t->width; column += t->columns) {
            const int64_t rows = min_i64(t->rows, t->height - row), columns = min_i64(t->columns, t->width - column);
            const int64_t top = p->pad_h / p->stride_h + row, left = p->pad_w / p->stride_w + column;
            for (int64_t phase_h = 0; phase_h < p->stride_h; phase_h++) {
                for (int64_t k = channel * multiplier; k < (channel + 1) * multiplier; k++) {
                    const float *weight = w->weight + k * p->r * p->s;
                    fill_tile(grad.at, rows + t->below, t->pitch, w->x + sample * p->y_n_stride + k * p->y_c_stride, p->p, p->q, p->q,
                              top - t->below, left - t->right, 1, 1);
                    for (int64_t phase_w = 0; phase_w < p->stride_w; phase_w++) {
                        depthwise_tap tap[MAX_TAPS];
                        int64_t taps = 0;
                        for (int64_t r = 0; r < p->r; r++)
                            for (int64_t s = 0; s < p->s; s++)
                                if (r * p->dilation_h % p->stride_h == phase_h && s * p->dilation_w % p->stride_w == phase_w)
                                    tap[taps++] = (depthwise_tap){(t->below - r * p->dilation_h / p->stride_h) * t->pitch
                                                                      + t->right - s * p->dilation_w / p->stride_w,
                                                                  weight[r * p->s + s]};
                        correlate_run(phase[phase_w].at, rows * t->pitch - t->right, grad.at, tap, taps, k > channel * multiplier);
                    }
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

static void depthwise_data_plain(const depthwise_walk *w, int64_t sample, int64_t channel)
{
    const tge_conv2d_params *p = w->p;
    const int64_t multiplier = p->k / p->c;
    float *grad_x = w->y + sample * p->x_n_stride + channel * p->x_c_stride;
    for (int64_t h = 0; h < p->h; h++)
        memset(grad_x + h * p->w, 0, (size_t)p->w * 4);
    for (int64_t k = channel * multiplier; k < (channel + 1) * multiplier; k++) {
        const float *grad = w->x + sample * p->y_n_stride + k * p->y_c_stride, *weight = w->weight + k * p->r * p->s;
        for (int64_t row = 0; row < p->p; row++)
            for (int64_t column = 0; column < p->q; column++)
                for (int64_t r = 0; r < p->r; r++)
                    for (int64_t s = 0; s < p->s; s++) {
                        const int64_t i = row * p->stride_h + r * p->dilation_h - p->pad_h, j = column * p->stride_w + s * p->dilation_w - p->pad_w;
                        if (i >= 0 && i < p->h && j >= 0 && j < p->w)
                            grad_x[i * p->w + j] += weight[r * p->s + s] * grad[row * p->q + column];
                    }
    }
}

static void depthwise_data_tiled_chunk(void *context, int64_t chunk)
{
    const depthwise_walk *w = context;
    each_depthwise_plane(w, chunk, w->p->c, depthwise_data_tiled);
}

static void depthwise_data_plain_chunk(void *context, int64_t chunk)
{
    const depthwise_walk *w = context;
    each_depthwise_plane(w, chunk, w->p->c, depthwise_data_plain);
}

static int64_t depthwise_conv2d_backward_data_f32(void *const *operand, const void *params)
{
    const tge_conv2d_params *p = params;
    depthwise_walk w = {.p = p, .y = operand[0], .x = operand[1], .weight = operand[2]};
    if (p->n * p->c * p->h * p->w == 0)
        return 0;
    const int64_t height = (p->h - 1 + p->pad_h) / p->stride_h - p->pad_h / p->stride_h + 1;
    const int64_t width = (p->w - 1 + p->pad_w) / p->stride_w - p->pad_w / p->stride_w + 1;
    return run_depthwise(&w, p->c, plan_tiles(&w.tiles, p, height, width) ? depthwise_data_tiled_chunk : depthwise_data_plain_chunk);
}
