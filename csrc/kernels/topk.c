/* argmax_f32, topk_f32. */
#include "row.h"

typedef struct {
    const tge_axis_params *p;
    int32_t *y;
    const float *x;
    int64_t outer_in_chunk;
} rank_walk;

static int64_t each_outer(void (*body)(void *, int64_t), void *const *operand, const tge_axis_params *p)
{
    rank_walk w = {p, operand[0], operand[1], max_i64(1, CHUNK / max_i64(1, p->count * p->inner))};
    tge_parallel(ceil_div(p->outer, w.outer_in_chunk), body, &w);
    return 0;
}

/* ---- argmax ---- */

/* The maximum first, then where it first is: the second pass stops half-way on average. */
static int32_t argmax_row(const float *x, int64_t n)
{
    const float most = max_row(x, n);
    int64_t i = 0;
    if (most != most)
        while (x[i] == x[i])
            i++;
    else
        while (i < n && x[i] != most)
            i++;
    return (int32_t)i;
}

static void argmax_columns(int32_t *y, const float *x, int64_t count, int64_t inner)
{
    for (int64_t column = 0; column < inner; column += VL) {
        const int64_t lanes = inner - column;
        vf most = vsplat(-INFINITY);
        vi where = {0};
        for (int64_t i = 0; i < count; i++) {
            const vf value = vload_upto(x + i * inner + column, lanes);
            const vi wins = ~(value <= most) & (most == most);
            most = vselect(wins, value, most);
            where = (wins & (int32_t)i) | (~wins & where);
        }
        vstore_upto((float *)(y + column), lanes, (vf)where);
    }
}

static void argmax_chunk(void *context, int64_t chunk)
{
    const rank_walk *w = context;
    const int64_t count = w->p->count, inner = w->p->inner, last = min_i64((chunk + 1) * w->outer_in_chunk, w->p->outer);
    for (int64_t outer = chunk * w->outer_in_chunk; outer < last; outer++)
        if (inner == 1)
            w->y[outer] = argmax_row(w->x + outer * count, count);
        else
            argmax_columns(w->y + outer * inner, w->x + outer * count * inner, count, inner);
}

static int64_t argmax_f32(void *const *operand, const void *params) { return each_outer(argmax_chunk, operand, params); }

/* ---- top k: a heap of the best k so far, in the output itself, the last of them at the root ---- */

static inline int ranks_before(const float *x, int32_t i, int32_t j)
{
    if (x[i] > x[j] || x[i] < x[j])
        return x[i] > x[j];
    const int i_is_nan = x[i] != x[i], j_is_nan = x[j] != x[j];
    return i_is_nan == j_is_nan ? i < j : i_is_nan;
}

static void sift_down(const float *x, int32_t *heap, int64_t size, int64_t at)
{
    const int32_t moved = heap[at];
    for (int64_t child; (child = 2 * at + 1) < size; at = child) {
        if (child + 1 < size && ranks_before(x, heap[child], heap[child + 1]))
            child++;
        if (!ranks_before(x, moved, heap[child]))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

static void topk_row(int32_t *best, const float *x, int64_t count, int64_t k)
{
    for (int64_t i = 0; i < k; i++)
        best[i] = (int32_t)i;
    for (int64_t i = k / 2 - 1; i >= 0; i--)
        sift_down(x, best, k, i);
    for (int64_t i = k; i < count; i++)
        if (ranks_before(x, (int32_t)i, best[0])) {
            best[0] = (int32_t)i;
            sift_down(x, best, k, 0);
        }
    for (int64_t size = k - 1; size > 0; size--) {
        const int32_t last = best[0];
        best[0] = best[size];
        best[size] = last;
        sift_down(x, best, size, 0);
    }
}

static void topk_chunk(void *context, int64_t chunk)
{
    const rank_walk *w = context;
    const int64_t count = w->p->count, k = w->p->k, last = min_i64((chunk + 1) * w->outer_in_chunk, w->p->outer);
    for (int64_t outer = chunk * w->outer_in_chunk; k > 0 && outer < last; outer++)
        topk_row(w->y + outer * k, w->x + outer * count, count, k);
}

static int64_t topk_f32(void *const *operand, const void *params) { return each_outer(topk_chunk, operand, params); }
