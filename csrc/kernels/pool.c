/* Pooling of planes. The window walks outside and the outputs of a row inside: for each (r, s) of the window, one pass over the output columns whose
 * element of the image exists, with the running results in the first-level cache. No border case is left, and stride 1 and 2 run
 * at vector speed. */
#include "row.h"

enum { POOL_COLUMNS = 256 };

/* The outputs [first, last) of [0, outputs) whose element `tap` of the window lies in the image. */
static void valid_outputs(int64_t tap, int64_t size, int64_t stride, int64_t pad, int64_t outputs, int64_t *first, int64_t *last)
{
    *first = clamp_i64(ceil_div(max_i64(0, pad - tap), stride), 0, outputs);
    *last = clamp_i64(ceil_div(max_i64(0, size + pad - tap), stride), *first, outputs);
}

enum { POOL_TAPS = 16 };

typedef struct {
    const tge_pool2d_params *p;
    void *const *operand;
    int64_t first[POOL_TAPS], last[POOL_TAPS]; /* the valid columns of the narrow windows, divided for once */
    int64_t planes_in_chunk;
} pool_walk;

static inline void valid_columns(const pool_walk *w, int64_t s, int64_t *first, int64_t *last)
{
    if (s < POOL_TAPS) {
        *first = w->first[s];
        *last = w->last[s];
    } else {
        valid_outputs(s, w->p->w, w->p->stride_w, w->p->pad_w, w->p->q, first, last);
    }
}

ALWAYS_INLINE void each_plane_of_chunk(const pool_walk *w, int64_t chunk, void (*plane)(const pool_walk *, int64_t))
{
    const int64_t last = min_i64((chunk + 1) * w->planes_in_chunk, w->p->planes);
    for (int64_t i = chunk * w->planes_in_chunk; i < last; i++)
        plane(w, i);
}

static int64_t pool(void (*chunk)(void *, int64_t), void *const *operand, const tge_pool2d_params *p)
{
    pool_walk w = {.p = p, .operand = operand, .planes_in_chunk = max_i64(1, CHUNK / max_i64(1, p->h * p->w + p->p * p->q))};
    for (int64_t s = 0; s < min_i64(p->s, POOL_TAPS); s++)
        valid_outputs(s, p->w, p->stride_w, p->pad_w, p->q, &w.first[s], &w.last[s]);
    tge_parallel(ceil_div(p->planes, w.planes_in_chunk), chunk, &w);
    return 0;
}

/* A window that is the whole plane: global pooling. */
static inline int covers_plane(const tge_pool2d_params *p)
{
    return p->p == 1 && p->q == 1 && p->r == p->h && p->s == p->w && p->pad_h == 0 && p->pad_w == 0;
}

/* ---- maximum ---- */

typedef struct {
    float best[POOL_COLUMNS + VL];
    int32_t argmax[POOL_COLUMNS + VL];
} max_columns_state;

/* Outputs [column, column + n) of one row. */
static void max_pool_row(const pool_walk *w, max_columns_state *out, const float *x, int64_t row, int64_t column, int64_t n)
{
    const tge_pool2d_params *p = w->p;
    const int64_t top = row * p->stride_h - p->pad_h;
    const int64_t r_first = max_i64(0, -top), r_last = min_i64(p->r, p->h - top);
    for (int64_t i = 0; i < n; i += VL) {
        const vi left = visplat((int32_t)(p->pad_w - (column + i) * p->stride_w)) - viota() * (int32_t)p->stride_w;
        vstore(out->best + i, vsplat(-INFINITY));
        vistore(out->argmax + i, (left & (left > 0)) + (int32_t)(r_first * p->s)); /* the first that is no padding */
    }
    for (int64_t r = r_first; r < r_last; r++)
        for (int64_t s = 0; s < p->s; s++) {
            int64_t first, last;
            valid_columns(w, s, &first, &last);
            first = max_i64(first, column);
            last = min_i64(last, column + n);
            const float *from = x + (top + r) * p->w + s - p->pad_w;
            const vi here = visplat((int32_t)(r * p->s + s));
            for (int64_t q = first; q < last; q += VL) {
                float *best = out->best + q - column;
                int32_t *argmax = out->argmax + q - column;
                const vf value = vload_strided(from + q * p->stride_w, p->stride_w, last - q), old = vload(best);
                const vi wins = ~(value <= old) & (old == old) & (viota() < visplat((int32_t)min_i64(last - q, VL)));
                vstore(best, vselect(wins, value, old));
                vistore(argmax, (wins & here) | (~wins & viload(argmax)));
            }
        }
}

static void max_pool_plane(const pool_walk *w, int64_t plane)
{
    const tge_pool2d_params *p = w->p;
    const float *x = (const float *)w->operand[2] + plane * p->h * p->w;
    max_columns_state out;
    for (int64_t row = 0; row < p->p; row++)
        for (int64_t column = 0; column < p->q; column += POOL_COLUMNS) {
            const int64_t n = min_i64(POOL_COLUMNS, p->q - column), start = (plane * p->p + row) * p->q + column;
            max_pool_row(w, &out, x, row, column, n);
            memcpy((float *)w->operand[0] + start, out.best, (size_t)n * 4);
            if (p->argmax_bytes == 4)
                memcpy((int32_t *)w->operand[1] + start, out.argmax, (size_t)n * 4);
            else
                for (int64_t i = 0; i < n; i++)
                    ((uint8_t *)w->operand[1])[start + i] = (uint8_t)out.argmax[i];
        }
}

static void max_pool_chunk(void *context, int64_t chunk) { each_plane_of_chunk(context, chunk, max_pool_plane); }

static int64_t max_pool2d_f32(void *const *operand, const void *params) { return pool(max_pool_chunk, operand, params); }

/* Where in the plane the maximum of output i, at (row, column), was. */
static inline int64_t argmax_position(const tge_pool2d_params *p, const void *argmax, int64_t i, int64_t row, int64_t column)
{
    const int32_t tap = p->argmax_bytes == 1 ? ((const uint8_t *)argmax)[i] : ((const int32_t *)argmax)[i];
    const int32_t r = tap / (int32_t)p->s, s = tap - r * (int32_t)p->s;
    return (row * p->stride_h - p->pad_h + r) * p->w + column * p->stride_w - p->pad_w + s;
}

static void max_gather_plane(const pool_walk *w, int64_t plane)
{
    const tge_pool2d_params *p = w->p;
    const int64_t outputs = p->p * p->q;
    float *y = (float *)w->operand[0] + plane * outputs;
    const float *x = (const float *)w->operand[1] + plane * p->h * p->w;
    const void *argmax = (const char *)w->operand[2] + plane * outputs * p->argmax_bytes;
    for (int64_t row = 0, i = 0; row < p->p; row++)
        for (int64_t column = 0; column < p->q; column++, i++)
            y[i] = x[argmax_position(p, argmax, i, row, column)];
}

static void max_gather_chunk(void *context, int64_t chunk) { each_plane_of_chunk(context, chunk, max_gather_plane); }

static int64_t max_pool2d_gather_f32(void *const *operand, const void *params) { return pool(max_gather_chunk, operand, params); }

static void max_backward_plane(const pool_walk *w, int64_t plane)
{
    const tge_pool2d_params *p = w->p;
    const int64_t outputs = p->p * p->q;
    float *grad_x = (float *)w->operand[0] + plane * p->h * p->w;
    const float *grad = (const float *)w->operand[1] + plane * outputs;
    const void *argmax = (const char *)w->operand[2] + plane * outputs * p->argmax_bytes;
    memset(grad_x, 0, (size_t)(p->h * p->w) * 4);
    for (int64_t row = 0, i = 0; row < p->p; row++)
        for (int64_t column = 0; column < p->q; column++, i++)
            grad_x[argmax_position(p, argmax, i, row, column)] += grad[i];
}

static void max_backward_chunk(void *context, int64_t chunk) { each_plane_of_chunk(context, chunk, max_backward_plane); }

static int64_t max_pool2d_backward_f32(void *const *operand, const void *params) { return pool(max_backward_chunk, operand, params); }

/* ---- average ---- */

/* How many elements of the window of output i lie in the image, along one axis. */
static inline int64_t window_overlap(int64_t i, int64_t size, int64_t window, int64_t stride, int64_t pad)
{
    const int64_t start = i * stride - pad;
    return min_i64(start + window, size) - max_i64(start, 0);
}

static inline float average_divisor(const tge_pool2d_params *p, int64_t row, int64_t column)
{
    if (p->count_include_pad)
        return (float)(p->r * p->s);
    return (float)(window_overlap(row, p->h, p->r, p->stride_h, p->pad_h) * window_overlap(column, p->w, p->s, p->stride_w, p->pad_w));
}

static void average_plane(const pool_walk *w, int64_t plane)
{
    const tge_pool2d_params *p = w->p;
    const float *x = (const float *)w->operand[1] + plane * p->h * p->w;
    float *y = (float *)w->operand[0] + plane * p->p * p->q;
    if (covers_plane(p)) {
        y[0] = (float)(sum_row(x, p->h * p->w) / (double)(p->h * p->w));
        return;
    }
    for (int64_t row = 0; row < p->p; row++, y += p->q) {
        const int64_t top = row * p->stride_h - p->pad_h;
        memset(y, 0, (size_t)p->q * 4);
        for (int64_t r = max_i64(0, -top); r < min_i64(p->r, p->h - top); r++)
            for (int64_t s = 0; s < p->s; s++) {
                int64_t first, last;
                valid_columns(w, s, &first, &last);
                const float *from = x + (top + r) * p->w + s - p->pad_w;
                for (int64_t q = first; q < last; q += VL)
                    vstore_upto(y + q, last - q, vload_upto(y + q, last - q) + vload_strided(from + q * p->stride_w, p->stride_w, last - q));
            }
        for (int64_t q = 0; q < p->q; q++)
            y[q] /= average_divisor(p, row, q);
    }
}

static void average_chunk(void *context, int64_t chunk) { each_plane_of_chunk(context, chunk, average_plane); }

static int64_t avg_pool2d_f32(void *const *operand, const void *params) { return pool(average_chunk, operand, params); }

static void average_backward_plane(const pool_walk *w, int64_t plane)
{
    const tge_pool2d_params *p = w->p;
    float *grad_x = (float *)w->operand[0] + plane * p->h * p->w;
    const float *grad = (const float *)w->operand[1] + plane * p->p * p->q;
    if (covers_plane(p)) {
        for (int64_t i = 0; i < p->h * p->w; i++)
            grad_x[i] = grad[0] / (float)(p->h * p->w);
        return;
    }
    memset(grad_x, 0, (size_t)(p->h * p->w) * 4);
    for (int64_t row = 0; row < p->p; row++, grad += p->q) {
        const int64_t top = row * p->stride_h - p->pad_h;
        for (int64_t column = 0; column < p->q; column += POOL_COLUMNS) {
            float share[POOL_COLUMNS];
            const int64_t n = min_i64(POOL_COLUMNS, p->q - column);
            for (int64_t i = 0; i < n; i++)
                share[i] = grad[column + i] / average_divisor(p, row, column + i);
            for (int64_t r = max_i64(0, -top); r < min_i64(p->r, p->h - top); r++)
                for (int64_t s = 0; s < p->s; s++) {
                    int64_t first, last;
                    valid_columns(w, s, &first, &last);
                    float *to = grad_x + (top + r) * p->w + s - p->pad_w;
                    for (int64_t q = max_i64(first, column); q < min_i64(last, column + n); q++)
                        to[q * p->stride_w] += share[q - column];
                }
        }
    }
}

static void average_backward_chunk(void *context, int64_t chunk) { each_plane_of_chunk(context, chunk, average_backward_plane); }

static int64_t avg_pool2d_backward_f32(void *const *operand, const void *params) { return pool(average_backward_chunk, operand, params); }
