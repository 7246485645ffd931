/* Batch normalisation (Ioffe & Szegedy 2015) over n samples of `inner` contiguous elements, per channel.
 *
 * A channel is summed in blocks of SUM_BLOCK elements of one sample, or of up to 32 samples when they are short: float lanes in a block,
 * blocks in double. The blocks do not depend on the strides, so that both memory layouts give the same bits. */
#include "row.h"

static int64_t samples_in_block(const tge_batch_norm_params *p)
{
    return max_i64(1, min_i64(32, SUM_BLOCK / max_i64(1, p->inner)));
}

/* The terms of two sums that are made in one pass. */
typedef struct { wide first, second; } term_pair;
typedef term_pair term_function(wide x, wide grad, const float *channel);

static inline wide wide_multiply(wide a, wide b)
{
    for (int i = 0; i < 16 / VL; i++)
        a.part[i] *= b.part[i];
    return a;
}

/* Lanes from n on become zero. */
static inline wide wide_first(wide w, int64_t n)
{
    for (int i = 0; i < 16 / VL; i++)
        w.part[i] = (vf)((vi)w.part[i] & (viota() + i * VL < visplat((int32_t)n)));
    return w;
}

typedef struct { double first, second; } sum_pair;

/* x as it lies in memory: floats, or halves. `half` is known where these are inlined. */
static inline const void *x_at(const void *x, int64_t i, int half)
{
    return half ? (const void *)((const uint16_t *)x + i) : (const void *)((const float *)x + i);
}

static inline vf x_vector(const void *x, int64_t i, int64_t n, int half)
{
    return half ? vload_half_upto(x_at(x, i, 1), n) : vload_upto(x_at(x, i, 0), n);
}

static inline wide x_wide(const void *x, int64_t i, int half)
{
    return half ? wide_load_half(x_at(x, i, 1), 16) : wide_load(x_at(x, i, 0));
}

static inline wide x_wide_part(const void *x, int64_t i, int64_t n, int half)
{
    return half ? wide_load_half(x_at(x, i, 1), n) : wide_load_part(x_at(x, i, 0), n);
}

/* Rows of more elements are fetched better by the processor itself, which has to find out anew where each row goes. It also goes on by itself
 * from a sample's row to that of the next channel, where there are no more samples than it can follow. While a channel of no more elements is
 * worked on, the next is fetched: three operands of both fit the second-level cache, or nearly. */
enum { FETCHED_ROW = 4096, FOLLOWED_ROWS = 8, FETCHED_CHANNEL = 1 << 16, FETCHED_AHEAD = 2 * SUM_BLOCK };

/* How many elements after a block that begins at `start` of some sample to fetch: the next channel, or the blocks that come, going through the
 * samples by steps of n_stride. */
static inline int64_t fetch_distance(const tge_batch_norm_params *p, int64_t start, int64_t n_stride)
{
    if (p->n * p->inner <= FETCHED_CHANNEL)
        return p->c_stride;
    return FETCHED_AHEAD + (start + FETCHED_AHEAD < p->inner ? 0 : samples_in_block(p) * n_stride - p->inner);
}

/* Into the second-level cache. */
ALWAYS_INLINE void fetch_terms(const void *x, int half, const float *grad, int64_t at)
{
    __builtin_prefetch(x_at(x, at, half), 0, 2);
    if (grad != x)
        __builtin_prefetch(grad + at, 0, 2);
}

/* `channel` is what the terms know of the channel: its mean and, for an activation, scale and beta. `fetch` says whether to fetch ahead. */
ALWAYS_INLINE sum_pair sum_channel(const tge_batch_norm_params *p, const void *x, int half, const float *grad, const float *channel,
                                   term_function *term, int fetch)
{
    const int64_t together = samples_in_block(p);
    sum_pair sum = {0.0, 0.0};
    for (int64_t sample = 0; sample < p->n; sample += together)
        for (int64_t start = 0; start < p->inner; start += SUM_BLOCK) {
            const int64_t end = min_i64(start + SUM_BLOCK, p->inner);
            const int64_t ahead = fetch_distance(p, start, p->n_stride);
            term_pair even = {wide_splat(0.0f), wide_splat(0.0f)}, odd = even;
            for (int64_t s = sample; s < min_i64(sample + together, p->n); s++) {
                const int64_t row = s * p->n_stride;
                int64_t i = start;
                for (; i + 32 <= end; i += 32) {
                    if (fetch) {
                        fetch_terms(x, half, grad, row + i + ahead);
                        fetch_terms(x, half, grad, row + i + 16 + ahead);
                    }
                    const term_pair a = term(x_wide(x, row + i, half), wide_load(grad + row + i), channel);
                    const term_pair b = term(x_wide(x, row + i + 16, half), wide_load(grad + row + i + 16), channel);
                    even.first = wide_add(even.first, a.first);
                    even.second = wide_add(even.second, a.second);
                    odd.first = wide_add(odd.first, b.first);
                    odd.second = wide_add(odd.second, b.second);
                }
                for (; i < end; i += 16) {
                    const int64_t n = min_i64(16, end - i);
                    if (fetch)
                        fetch_terms(x, half, grad, row + i + ahead);
                    const term_pair a = term(x_wide_part(x, row + i, n, half), wide_load_part(grad + row + i, n), channel);
                    even.first = wide_add(even.first, wide_first(a.first, n));
                    even.second = wide_add(even.second, wide_first(a.second, n));
                }
            }
            sum.first += wide_sum(wide_add(even.first, odd.first));
            sum.second += wide_sum(wide_add(even.second, odd.second));
        }
    return sum;
}

/* ---- statistics ---- */

typedef struct {
    const tge_batch_norm_params *p;
    void *const *operand;
    int64_t channels_in_chunk;
} norm_channels;

static void each_channel(void (*body)(void *, int64_t), void *const *operand, const tge_batch_norm_params *p)
{
    norm_channels w = {p, operand, max_i64(1, CHUNK / max_i64(1, p->n * p->inner))};
    tge_parallel(ceil_div(p->c, w.channels_in_chunk), body, &w);
}

ALWAYS_INLINE term_pair term_value(wide x, wide grad, const float *channel)
{
    (void)grad, (void)channel;
    return (term_pair){x, wide_splat(0.0f)};
}

ALWAYS_INLINE term_pair term_deviation(wide x, wide grad, const float *channel)
{
    (void)grad;
    const wide d = wide_subtract(x, wide_splat(channel[0]));
    return (term_pair){d, wide_multiply(d, d)};
}

/* About the mean of a channel: that of its first block. */
static float guess_mean(const tge_batch_norm_params *p, const float *x)
{
    tge_batch_norm_params some = *p;
    some.n = min_i64(p->n, samples_in_block(p));
    some.inner = min_i64(p->inner, SUM_BLOCK);
    return (float)(sum_channel(&some, x, 0, x, NULL, term_value, 0).first / (double)(some.n * some.inner));
}

/* One pass about a guess; a second about the mean when the guess was off by more than half of the standard deviation. For then the sum of
 * squares is at most 5/4 of that about the mean, and so is what rounding takes from the variance. */
static void stats_channels(void *context, int64_t chunk)
{
    const norm_channels *w = context;
    const tge_batch_norm_params *p = w->p;
    float *mean = w->operand[0], *var = w->operand[1];
    const double count = (double)(p->n * p->inner);
    const int fetch = p->n > FOLLOWED_ROWS && p->inner <= FETCHED_ROW;
    const int64_t last = min_i64((chunk + 1) * w->channels_in_chunk, p->c);
    for (int64_t c = chunk * w->channels_in_chunk; c < last; c++) {
        const float *x = (const float *)w->operand[2] + c * p->c_stride;
        float about = guess_mean(p, x);
        for (int pass = 0; pass < 2; pass++) {
            const sum_pair deviation = sum_channel(p, x, 0, x, &about, term_deviation, fetch);
            const double off = deviation.first / count;
            var[c] = (float)(deviation.second / count - off * off);
            mean[c] = about = (float)(about + off);
            if (4 * off * off <= var[c])
                break;
        }
    }
}

static int64_t batch_norm_stats_f32(void *const *operand, const void *params)
{
    each_channel(stats_channels, operand, params);
    return 0;
}

/* ---- y = (x - mean) * scale + beta, and perhaps an addend ---- */

static inline float norm_scale(float gamma, float var, float eps) { return gamma / sqrtf(var + eps); }

typedef struct {
    const tge_batch_norm_params *p;
    void *const *operand;
    const float *addend; /* or NULL */
    int64_t rows_in_chunk;
} norm_rows;

static inline vf identity(vf y) { return y; }

/* One loop an activation, with an addend and without, of floats and of halves, chosen outside it. */
#define APPLY_ROW(name, activation, half) \
    static void name(float *y, const void *x, const float *addend, int64_t n, float mean, float scale, float beta) \
    { \
        (void)addend; \
        for (int64_t i = 0; i < n; i += VL) \
            vstore_upto(y + i, n - i, activation((x_vector(x, i, n - i, half) - mean) * scale + beta)); \
    } \
    static void name##_add(float *y, const void *x, const float *addend, int64_t n, float mean, float scale, float beta) \
    { \
        for (int64_t i = 0; i < n; i += VL) \
            vstore_upto(y + i, n - i, \
                        activation((x_vector(x, i, n - i, half) - mean) * scale + beta + vload_upto(addend + i, n - i))); \
    }

APPLY_ROW(apply_plain, identity, 0)
APPLY_ROW(apply_relu, relu, 0)
APPLY_ROW(apply_relu6, relu6, 0)
APPLY_ROW(apply_half_plain, identity, 1)
APPLY_ROW(apply_half_relu, relu, 1)
APPLY_ROW(apply_half_relu6, relu6, 1)

#undef APPLY_ROW

typedef void apply_function(float *, const void *, const float *, int64_t, float, float, float);

static apply_function *const apply_row[][2][2] = {
    [TGE_NO_ACTIVATION] = {{apply_plain, apply_plain_add}, {apply_half_plain, apply_half_plain_add}},
    [TGE_ACTIVATION_RELU] = {{apply_relu, apply_relu_add}, {apply_half_relu, apply_half_relu_add}},
    [TGE_ACTIVATION_RELU6] = {{apply_relu6, apply_relu6_add}, {apply_half_relu6, apply_half_relu6_add}},
};

/* Rows of one sample and channel, in the order of memory. */
static void apply_rows(void *context, int64_t chunk)
{
    const norm_rows *w = context;
    const tge_batch_norm_params *p = w->p;
    const float *mean = w->operand[2], *var = w->operand[3], *gamma = w->operand[4], *beta = w->operand[5];
    const int64_t last = min_i64((chunk + 1) * w->rows_in_chunk, p->n * p->c);
    const int half = p->half != 0;
    for (int64_t row = chunk * w->rows_in_chunk; row < last; row++) {
        const int64_t c = p->c_stride > p->n_stride ? row / p->n : row % p->c;
        const int64_t n = p->c_stride > p->n_stride ? row % p->n : row / p->c;
        const int64_t start = n * p->n_stride + c * p->c_stride;
        apply_row[p->activation][half][w->addend != NULL]((float *)w->operand[0] + start, x_at(w->operand[1], start, half),
                                                          w->addend ? w->addend + start : NULL, p->inner, mean[c],
                                                          norm_scale(gamma[c], var[c], p->eps), beta[c]);
    }
}

static int64_t apply_norm(void *const *operand, const tge_batch_norm_params *p, const float *addend)
{
    norm_rows w = {p, operand, addend, max_i64(1, CHUNK / max_i64(1, p->inner))};
    tge_parallel(ceil_div(p->n * p->c, w.rows_in_chunk), apply_rows, &w);
    return 0;
}

static int64_t batch_norm_apply_f32(void *const *operand, const void *params) { return apply_norm(operand, params, NULL); }

static int64_t batch_norm_apply_add_f32(void *const *operand, const void *params) { return apply_norm(operand, params, operand[6]); }

/* ---- gradient: gx = scale * (gy - mean(gy) - (x - mean) * rstd^2 * mean(gy * (x - mean))) ---- */

/* The gradient where the activation let it through. `channel` is mean, scale, beta; y is made again as it was. */
static inline vf through_all(vf grad, vf d, const float *channel)
{
    (void)d, (void)channel;
    return grad;
}
static inline vf through_relu(vf grad, vf d, const float *channel) { return relu_backward(grad, d * channel[1] + channel[2]); }
static inline vf through_relu6(vf grad, vf d, const float *channel) { return relu6_backward(grad, d * channel[1] + channel[2]); }

typedef vf through_function(vf grad, vf d, const float *channel);

ALWAYS_INLINE term_pair term_gradient(wide x, wide grad, const float *channel, through_function *through)
{
    const wide d = wide_subtract(x, wide_splat(channel[0]));
    for (int i = 0; i < 16 / VL; i++)
        grad.part[i] = through(grad.part[i], d.part[i], channel);
    return (term_pair){grad, wide_multiply(grad, d)};
}

ALWAYS_INLINE void backward_channel(const norm_channels *w, int64_t c, int half, const float *beta, term_function *term,
                                    through_function *through)
{
    const tge_batch_norm_params *p = w->p;
    float *grad_gamma = w->operand[1], *grad_beta = w->operand[2];
    const float *mean = w->operand[5], *var = w->operand[6], *gamma = w->operand[7];
    const double count = (double)(p->n * p->inner), inverse = 1.0 / ((double)var[c] + p->eps);
    const float scale = norm_scale(gamma[c], var[c], p->eps), channel[] = {mean[c], scale, beta ? beta[c] : 0.0f};
    float *grad_x = (float *)w->operand[0] + c * p->c_stride;
    const float *grad = (const float *)w->operand[3] + c * p->c_stride;
    const void *x = x_at(w->operand[4], c * p->c_stride, half);

    const sum_pair sum = sum_channel(p, x, half, grad, channel, term, p->inner <= FETCHED_ROW);
    grad_beta[c] = (float)sum.first;
    grad_gamma[c] = (float)(sum.second * sqrt(inverse));

    const float grad_mean = (float)(sum.first / count), slope = (float)(sum.second / count * inverse);
    /* From the last sample to the first: what was summed last is still in the cache. The place of the result is fetched ahead. */
    for (int64_t n = p->n - 1; n >= 0; n--)
        for (int64_t start = 0; start < p->inner; start += SUM_BLOCK) {
            const int64_t row = n * p->n_stride, end = min_i64(start + SUM_BLOCK, p->inner);
            const int64_t ahead = fetch_distance(p, start, -p->n_stride);
            for (int64_t i = start; i < end; i += VL) {
                const int64_t at = row + i, left = p->inner - i;
                __builtin_prefetch(grad_x + at + ahead, 0, 2);
                const vf d = x_vector(x, at, left, half) - channel[0];
                const vf g = through(vload_upto(grad + at, left), d, channel);
                vstore_upto(grad_x + at, left, (g - grad_mean - d * slope) * scale);
            }
        }
}

#define BACKWARD_CHANNELS(name, beta, through, half) \
    ALWAYS_INLINE term_pair name##_term(wide x, wide grad, const float *channel) { return term_gradient(x, grad, channel, through); } \
    static void name(void *context, int64_t chunk) \
    { \
        const norm_channels *w = context; \
        const int64_t last = min_i64((chunk + 1) * w->channels_in_chunk, w->p->c); \
        for (int64_t c = chunk * w->channels_in_chunk; c < last; c++) \
            backward_channel(w, c, half, beta, name##_term, through); \
    }

BACKWARD_CHANNELS(backward_plain, NULL, through_all, 0)
BACKWARD_CHANNELS(backward_relu, w->operand[8], through_relu, 0)
BACKWARD_CHANNELS(backward_relu6, w->operand[8], through_relu6, 0)
BACKWARD_CHANNELS(backward_half_plain, NULL, through_all, 1)
BACKWARD_CHANNELS(backward_half_relu, w->operand[8], through_relu, 1)
BACKWARD_CHANNELS(backward_half_relu6, w->operand[8], through_relu6, 1)

#undef BACKWARD_CHANNELS

typedef void backward_function(void *, int64_t);

static backward_function *const backward_channels[][2] = {
    [TGE_NO_ACTIVATION] = {backward_plain, backward_half_plain},
    [TGE_ACTIVATION_RELU] = {backward_relu, backward_half_relu},
    [TGE_ACTIVATION_RELU6] = {backward_relu6, backward_half_relu6},
};

static int64_t batch_norm_backward_f32(void *const *operand, const void *params)
{
    const tge_batch_norm_params *p = params;
    each_channel(backward_channels[TGE_NO_ACTIVATION][p->half != 0], operand, p);
    return 0;
}

static int64_t batch_norm_activated_backward_f32(void *const *operand, const void *params)
{
    const tge_batch_norm_params *p = params;
    each_channel(backward_channels[p->activation][p->half != 0], operand, p);
    return 0;
}
