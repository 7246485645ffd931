/* softmax_f32, log_softmax_f32: x[outer][count][inner] along the middle axis. */
#include "softmax.h"
#include "transcendental.h"

/* ---- rows: inner is 1 ---- */

static void softmax_row(float *y, const float *x, int64_t count, int64_t inner, int64_t lanes)
{
    (void)inner, (void)lanes;
    const float sum = (float)exp_row(y, x, count, max_row(x, count));
    for (int64_t i = 0; i < count; i += VL)
        vstore_upto(y + i, count - i, vload_upto(y + i, count - i) / sum);
}

static void log_softmax_row(float *y, const float *x, int64_t count, int64_t inner, int64_t lanes)
{
    (void)inner, (void)lanes;
    const float most = max_row(x, count), log_sum = (float)log(sum_exp_row(x, count, most));
    for (int64_t i = 0; i < count; i += VL)
        vstore_upto(y + i, count - i, vload_upto(x + i, count - i) - most - log_sum);
}

/* ---- columns: a vector of neighbours along inner ---- */

static inline vf max_columns_of(const float *x, int64_t count, int64_t inner, int64_t lanes)
{
    vf most = vsplat(-INFINITY);
    for (int64_t i = 0; i < count; i++)
        most = vmax_nan(most, vload_upto(x + i * inner, lanes));
    return most;
}

/* Added in runs of 32, so that the error grows with 32 + count / 32. */
static inline vf exp_columns(float *y, const float *x, int64_t count, int64_t inner, int64_t lanes, vf most)
{
    vf sum = {0};
    for (int64_t first = 0; first < count; first += 32) {
        vf run = {0};
        for (int64_t i = first; i < min_i64(first + 32, count); i++) {
            const vf e = vexp(vload_upto(x + i * inner, lanes) - most);
            if (y)
                vstore_upto(y + i * inner, lanes, e);
            run += e;
        }
        sum += run;
    }
    return sum;
}

static void softmax_columns(float *y, const float *x, int64_t count, int64_t inner, int64_t lanes)
{
    const vf sum = exp_columns(y, x, count, inner, lanes, max_columns_of(x, count, inner, lanes));
    for (int64_t i = 0; i < count; i++)
        vstore_upto(y + i * inner, lanes, vload_upto(y + i * inner, lanes) / sum);
}

static void log_softmax_columns(float *y, const float *x, int64_t count, int64_t inner, int64_t lanes)
{
    const vf most = max_columns_of(x, count, inner, lanes);
    const vf log_sum = vlog(exp_columns(NULL, x, count, inner, lanes, most));
    for (int64_t i = 0; i < count; i++)
        vstore_upto(y + i * inner, lanes, vload_upto(x + i * inner, lanes) - most - log_sum);
}

/* ---- the walk over slices: rows, or vectors of columns ---- */

typedef void slice_function(float *y, const float *x, int64_t count, int64_t inner, int64_t lanes);

typedef struct {
    const tge_axis_params *p;
    slice_function *slice;
    float *y;
    const float *x;
    int64_t slices_in_row; /* vectors across inner */
    int64_t slices, slices_in_chunk;
} slice_walk;

static void slice_chunk(void *context, int64_t chunk)
{
    const slice_walk *w = context;
    const int64_t last = min_i64((chunk + 1) * w->slices_in_chunk, w->slices), inner = w->p->inner;
    for (int64_t slice = chunk * w->slices_in_chunk; slice < last; slice++) {
        const int64_t column = slice % w->slices_in_row * VL;
        const int64_t start = slice / w->slices_in_row * w->p->count * inner + column;
        w->slice(w->y + start, w->x + start, w->p->count, inner, inner - column);
    }
}

static int64_t walk_slices(void *const *operand, const tge_axis_params *p, slice_function *row, slice_function *columns)
{
    if (p->outer * p->count * p->inner == 0)
        return 0;
    slice_walk w = {.p = p, .slice = p->inner == 1 ? row : columns, .y = operand[0], .x = operand[1],
                    .slices_in_row = ceil_div(p->inner, VL)};
    w.slices = p->outer * w.slices_in_row;
    w.slices_in_chunk = max_i64(1, CHUNK * w.slices / (p->outer * p->count * p->inner));
    tge_parallel(ceil_div(w.slices, w.slices_in_chunk), slice_chunk, &w);
    return 0;
}

static int64_t softmax_f32(void *const *operand, const void *params)
{
    return walk_slices(operand, params, softmax_row, softmax_columns);
}

static int64_t log_softmax_f32(void *const *operand, const void *params)
{
    return walk_slices(operand, params, log_softmax_row, log_softmax_columns);
}
