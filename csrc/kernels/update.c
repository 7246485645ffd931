/* sgd_f32, sgd_momentum_f32 (and its two halves), adam_f32, rmsprop_f32: one pass each. No multiply-adds are fused, so that NumPy in float32
 * agrees to the bit. */
#include "strided.h"

typedef struct {
    void *const *operand;
    int64_t count;
    int32_t nesterov, decoupled;
    float rate, decay, decoupled_decay, momentum;
    float beta1, one_minus_beta1, beta2, one_minus_beta2;
    float root_correction, eps;
} update;

static void run_update(void (*body)(void *, int64_t), update *u)
{
    tge_parallel(ceil_div(u->count, CHUNK), body, u);
}

/* Call step on each vector of a chunk: `at` where it starts, `n` elements until the chunk ends. */
ALWAYS_INLINE void update_chunk(const update *u, int64_t chunk, void (*step)(const update *u, int64_t at, int64_t n))
{
    const int64_t last = min_i64((chunk + 1) * CHUNK, u->count);
    for (int64_t at = chunk * CHUNK; at < last; at += VL)
        step(u, at, last - at);
}

/* The operand's vector at `at`. */
static inline vf read_operand(const update *u, int operand, int64_t at, int64_t n)
{
    return vload_upto((const float *)u->operand[operand] + at, n);
}

static inline void write_operand(const update *u, int operand, int64_t at, int64_t n, vf x)
{
    vstore_upto((float *)u->operand[operand] + at, n, x);
}

/* ---- stochastic gradient descent ---- */

static inline void sgd_step(const update *u, int64_t at, int64_t n)
{
    const vf p = read_operand(u, 1, at, n), g = read_operand(u, 2, at, n) + u->decay * p;
    write_operand(u, 0, at, n, p - u->rate * g);
}

static void sgd_chunk(void *context, int64_t chunk) { update_chunk(context, chunk, sgd_step); }

static int64_t sgd_f32(void *const *operand, const void *params)
{
    const double *hyper = operand[3];
    update u = {.operand = operand, .count = ((const tge_update_params *)params)->count,
                .rate = (float)hyper[0], .decay = (float)hyper[1]};
    run_update(sgd_chunk, &u);
    return 0;
}

static inline void momentum_step(const update *u, int64_t at, int64_t n)
{
    const vf p = read_operand(u, 2, at, n), g = read_operand(u, 3, at, n) + u->decay * p;
    const vf m = u->momentum * read_operand(u, 4, at, n) + g;
    write_operand(u, 1, at, n, m);
    write_operand(u, 0, at, n, p - u->rate * (u->nesterov ? g + u->momentum * m : m));
}

static void momentum_chunk(void *context, int64_t chunk) { update_chunk(context, chunk, momentum_step); }

static int64_t sgd_momentum_f32(void *const *operand, const void *params)
{
    const tge_update_params *p = params;
    const double *hyper = operand[5];
    update u = {.operand = operand, .count = p->count, .nesterov = p->nesterov,
                .rate = (float)hyper[0], .decay = (float)hyper[1], .momentum = (float)hyper[2]};
    run_update(momentum_chunk, &u);
    return 0;
}

/* With the first of a step's gradients the moment decays; those that follow are only added. */
static inline void accumulate_step(const update *u, int64_t at, int64_t n)
{
    const vf g = read_operand(u, 2, at, n) + u->decay * read_operand(u, 3, at, n);
    write_operand(u, 0, at, n, u->momentum * read_operand(u, 1, at, n) + g);
}

static inline void add_step(const update *u, int64_t at, int64_t n)
{
    write_operand(u, 0, at, n, read_operand(u, 1, at, n) + read_operand(u, 2, at, n));
}

static void accumulate_chunk(void *context, int64_t chunk) { update_chunk(context, chunk, accumulate_step); }
static void add_chunk(void *context, int64_t chunk) { update_chunk(context, chunk, add_step); }

static int64_t sgd_momentum_accumulate_f32(void *const *operand, const void *params)
{
    const double *hyper = operand[4];
    const int32_t done = *(const int32_t *)operand[5];
    update u = {.operand = operand, .count = ((const tge_update_params *)params)->count,
                .decay = (float)hyper[1], .momentum = (float)hyper[2]};
    run_update(done ? add_chunk : accumulate_chunk, &u);
    return 0;
}

static inline void moment_step(const update *u, int64_t at, int64_t n)
{
    write_operand(u, 0, at, n, read_operand(u, 1, at, n) - u->rate * read_operand(u, 2, at, n));
}

static void moment_chunk(void *context, int64_t chunk) { update_chunk(context, chunk, moment_step); }

static int64_t sgd_momentum_step_f32(void *const *operand, const void *params)
{
    const double *hyper = operand[3];
    update u = {.operand = operand, .count = ((const tge_update_params *)params)->count, .rate = (float)hyper[0]};
    run_update(moment_chunk, &u);
    return 0;
}

/* ---- Adam (Kingma & Ba 2015, algorithm 1), AdamW (Loshchilov & Hutter 2019) ---- */

static inline void adam_step(const update *u, int64_t at, int64_t n)
{
    const vf start = read_operand(u, 3, at, n);
    const vf p = start - u->decoupled_decay * start, g = read_operand(u, 4, at, n) + u->decay * start;
    const vf m = u->beta1 * read_operand(u, 5, at, n) + u->one_minus_beta1 * g;
    const vf v = u->beta2 * read_operand(u, 6, at, n) + u->one_minus_beta2 * (g * g);
    write_operand(u, 1, at, n, m);
    write_operand(u, 2, at, n, v);
    write_operand(u, 0, at, n, p - u->rate * m / (vsqrt(v) * u->root_correction + u->eps));
}

static void adam_chunk(void *context, int64_t chunk) { update_chunk(context, chunk, adam_step); }

static int64_t adam_f32(void *const *operand, const void *params)
{
    const tge_update_params *p = params;
    const double *hyper = operand[7];
    const double rate = hyper[0], decay = hyper[1], beta1 = hyper[2], beta2 = hyper[3];
    const int32_t step = *(const int32_t *)operand[8];
    update u = {.operand = operand, .count = p->count,
                .decay = p->decoupled ? 0.0f : (float)decay,
                .decoupled_decay = p->decoupled ? (float)(rate * decay) : 0.0f,
                .rate = (float)(rate / (1.0 - pow(beta1, step))),
                .beta1 = (float)beta1, .one_minus_beta1 = (float)(1.0 - beta1),
                .beta2 = (float)beta2, .one_minus_beta2 = (float)(1.0 - beta2),
                .root_correction = (float)(1.0 / sqrt(1.0 - pow(beta2, step))),
                .eps = (float)hyper[4]};
    run_update(adam_chunk, &u);
    return 0;
}

/* ---- RMSprop (Tieleman & Hinton 2012) ---- */

static inline void rmsprop_step(const update *u, int64_t at, int64_t n)
{
    const vf p = read_operand(u, 2, at, n), g = read_operand(u, 3, at, n) + u->decay * p;
    const vf s = u->beta2 * read_operand(u, 4, at, n) + u->one_minus_beta2 * (g * g);
    write_operand(u, 1, at, n, s);
    write_operand(u, 0, at, n, p - u->rate * g / (vsqrt(s) + u->eps));
}

static void rmsprop_chunk(void *context, int64_t chunk) { update_chunk(context, chunk, rmsprop_step); }

static int64_t rmsprop_f32(void *const *operand, const void *params)
{
    const tge_update_params *p = params;
    const double *hyper = operand[5];
    update u = {.operand = operand, .count = p->count,
                .rate = (float)hyper[0], .decay = (float)hyper[1],
                .beta2 = (float)hyper[2], .one_minus_beta2 = (float)(1.0 - hyper[2]), .eps = (float)hyper[3]};
    run_update(rmsprop_chunk, &u);
    return 0;
}
