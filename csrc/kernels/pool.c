/* Pooling of planes: a vector of neighbouring outputs at a time, with the running results in registers. The few outputs whose
 * windows hang over the left edge are made one by one; what lies beyond the right edge is masked off. */
#include "row.h"

enum { POOL_TAPS = 16, POOL_COLUMNS = 256 };

/* The outputs [first, last) of a row whose element s of the window lies in the image. */
typedef struct { int64_t first, last; } column_range;

typedef struct {
    const tge_pool2d_params *p;
    void *const *operand;
    int64_t hanging;               /* outputs of a row whose windows hang over the left edge */
    column_range range[POOL_TAPS]; /* of narrow windows, divided for once */
    int64_t planes_in_chunk;
} pool_walk;

static column_range find_columns(const tge_pool2d_params *p, int64_t s)
{
    const int64_t first = min_i64(p->q, ceil_div(max_i64(0, p->pad_w - s), p->stride_w));
    return (column_range){first, clamp_i64(ceil_div(max_i64(0, p->w + p->pad_w - s), p->stride_w), first, p->q)};
}

static inline column_range columns_with_tap(const pool_walk *w, int64_t s)
{
    return s < POOL_TAPS ? w->range[s] : find_columns(w->p, s);
}

ALWAYS_INLINE void each_plane_of_chunk(const pool_walk *w, int64_t chunk, void (*plane)(const pool_walk *, int64_t))
{
    const int64_t last = min_i64((chunk + 1) * w->planes_in_chunk, w->p->planes);
    for (int64_t i = chunk * w->planes_in_chunk; i < last; i++)
        plane(w, i);
}

static int64_t pool(void (*chunk)(void *, int64_t), void *const *operand, const tge_pool2d_params *p)
{
    pool_walk w = {.p = p, .operand = operand, .hanging = min_i64(p->q, ceil_div(p->pad_w, p->stride_w)),
                   .planes_in_chunk = max_i64(1, CHUNK / max_i64(1, p->h * p->w + p->p * p->q))};
    for (int64_t s = 0; s < min_i64(p->s, POOL_TAPS); s++)
        w.range[s] = find_columns(p, s);
    tge_parallel(ceil_div(p->planes, w.planes_in_chunk), chunk, &w);
    return 0;
}

/* A window that is the whole plane: global pooling. */
static inline int covers_plane(const tge_pool2d_params *p)
{
    return p->p == 1 && p->q == 1 && p->r == p->h && p->s == p->w && p->pad_h == 0 && p->pad_w == 0;
}

/* ---- maximum ---- */

/* Whether value takes the place of best: larger, or the first NaN. */
static inline vi wins_over(vf value, vf best) { return ~(value <= best) & (best == best); }

/* One output whose window may hang over the left edge. */
static void max_pool_one(const tge_pool2d_params *p, float *y, int32_t *argmax, const float *x, int64_t row, int64_t column)
{
    const int64_t top = row * p->stride_h - p->pad_h, left = column * p->stride_w - p->pad_w;
    const int64_t r_first = max_i64(0, -top), s_first = max_i64(0, -left);
    float best = -INFINITY;
    int64_t where = r_first * p->s + s_first;
    for (int64_t r = r_first; r < min_i64(p->r, p->h - top); r++)
        for (int64_t s = s_first; s < min_i64(p->s, p->w - left); s++) {
            const float value = x[(top + r) * p->w + left + s];
            if (!(value <= best) && best == best) {
                best = value;
                where = r * p->s + s;
            }
        }
    *y = best;
    *argmax = (int32_t)where;
}

/* Outputs from `column` on, a vector of them at a time; no window hangs over the left edge. */
static void max_pool_row(const pool_walk *w, float *y, void *argmax, const float *x, int64_t row, int64_t column)
{
    const tge_pool2d_params *p = w->p;
    const int64_t top = row * p->stride_h - p->pad_h;
    const int64_t r_first = max_i64(0, -top), r_last = min_i64(p->r, p->h - top);
    for (int64_t q = column; q < p->q; q += VL) {
        vf best = vsplat(-INFINITY);
        vi where = visplat((int32_t)(r_first * p->s));
        for (int64_t r = r_first; r < r_last; r++) {
            const float *from = x + (top + r) * p->w + q * p->stride_w - p->pad_w;
            for (int64_t s = 0; s < p->s; s++) {
                const int64_t inside = columns_with_tap(w, s).last - q;
                if (inside <= 0)
                    break;
                const vf value = vload_strided(from + s, p->stride_w, inside);
                const vi wins = wins_over(value, best) & (viota() < visplat((int32_t)min_i64(inside, VL)));
                best = vselect(wins, value, best);
                where = (wins & (int32_t)(r * p->s + s)) | (~wins & where);
            }
        }
        vstore_upto(y + q, p->q - q, best);
        if (p->argmax_bytes == 1)
            vbstore_upto((uint8_t *)argmax + q, p->q - q, vnarrow(where));
        else
            vstore_upto((float *)argmax + q, p->q - q, (vf)where);
    }
}

static void max_pool_plane(const pool_walk *w, int64_t plane)
{
    const tge_pool2d_params *p = w->p;
    const float *x = (const float *)w->operand[2] + plane * p->h * p->w;
    for (int64_t row = 0; row < p->p; row++) {
        const int64_t start = (plane * p->p + row) * p->q;
        float *y = (float *)w->operand[0] + start;
        char *argmax = (char *)w->operand[1] + start * p->argmax_bytes;
        for (int64_t column = 0; column < w->hanging; column++) {
            int32_t where;
            max_pool_one(p, y + column, &where, x, row, column);
            if (p->argmax_bytes == 1)
                ((uint8_t *)argmax)[column] = (uint8_t)where;
            else
                ((int32_t *)argmax)[column] = where;
        }
        max_pool_row(w, y, argmax, x, row, w->hanging);
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

static float average_one(const tge_pool2d_params *p, const float *x, int64_t row, int64_t column)
{
    const int64_t top = row * p->stride_h - p->pad_h, left = column * p->stride_w - p->pad_w;
    float sum = 0.0f;
    for (int64_t r = max_i64(0, -top); r < min_i64(p->r, p->h - top); r++)
        for (int64_t s = max_i64(0, -left); s < min_i64(p->s, p->w - left); s++)
            sum += x[(top + r) * p->w + left + s];
    return sum / average_divisor(p, row, column);
}

static void average_row(const pool_walk *w, float *y, const float *x, int64_t row, int64_t column)
{
    const tge_pool2d_params *p = w->p;
    const int64_t top = row * p->stride_h - p->pad_h;
    for (int64_t q = column; q < p->q; q += VL) {
        vf sum = {0};
        for (int64_t r = max_i64(0, -top); r < min_i64(p->r, p->h - top); r++) {
            const float *from = x + (top + r) * p->w + q * p->stride_w - p->pad_w;
            for (int64_t s = 0; s < p->s && columns_with_tap(w, s).last > q; s++)
                sum += vload_strided(from + s, p->stride_w, columns_with_tap(w, s).last - q);
        }
        float divisor[VL];
        for (int i = 0; i < VL; i++)
            divisor[i] = average_divisor(p, row, min_i64(q + i, p->q - 1));
        vstore_upto(y + q, p->q - q, sum / vload(divisor));
    }
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
        for (int64_t column = 0; column < w->hanging; column++)
            y[column] = average_one(p, x, row, column);
        average_row(w, y, x, row, w->hanging);
    }
}

static void average_chunk(void *context, int64_t chunk) { each_plane_of_chunk(context, chunk, average_plane); }

static int64_t avg_pool2d_f32(void *const *operand, const void *params) { return pool(average_chunk, operand, params); }

/* y[i * stride] += x[i] for first <= i < last. */
static inline void add_strided(float *y, int64_t stride, const float *x, int64_t first, int64_t last)
{
    if (stride == 1)
        for (int64_t i = first; i < last; i += VL)
            vstore_upto(y + i, last - i, vload_upto(y + i, last - i) + vload_upto(x + i, last - i));
    else
        for (int64_t i = first; i < last; i++)
            y[i * stride] += x[i];
}

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
                    const column_range range = columns_with_tap(w, s);
                    add_strided(grad_x + (top + r) * p->w + s - p->pad_w, p->stride_w, share - column, max_i64(range.first, column),
                                min_i64(range.last, column + n));
                }
        }
    }
}

static void average_backward_chunk(void *context, int64_t chunk) { each_plane_of_chunk(context, chunk, average_backward_plane); }

static int64_t avg_pool2d_backward_f32(void *const *operand, const void *params) { return pool(average_backward_chunk, operand, params); }
