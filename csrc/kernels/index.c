/* take and its adjoint scatter_add_f32. */
#include "strided.h"

/* Negative indices count from the end. */
static inline int64_t resolve(int32_t index, int64_t length) { return index < 0 ? index + length : index; }

static int64_t first_bad_index(const int32_t *index, const tge_take_params *p)
{
    for (int64_t i = 0; i < p->indices; i++)
        if (index[i] < -p->length || index[i] >= p->length)
            return i + 1;
    return 0;
}

typedef struct {
    const tge_take_params *p;
    char *y;
    const char *x;
    const int32_t *index;
    int64_t rows_in_chunk; /* take */
    int64_t ranges;        /* scatter_add */
} index_walk;

/* ---- take: rows of `inner` elements, wherever they are ---- */

ALWAYS_INLINE void take_rows(const index_walk *w, int64_t first, int64_t last, int64_t bytes)
{
    const tge_take_params *p = w->p;
    for (int64_t row = first; row < last; row++) {
        const int64_t from = row / p->indices * p->length + resolve(w->index[row % p->indices], p->length);
        memcpy(w->y + row * bytes, w->x + from * bytes, (size_t)bytes);
    }
}

static void take_chunk(void *context, int64_t chunk)
{
    const index_walk *w = context;
    const int64_t first = chunk * w->rows_in_chunk, last = min_i64(first + w->rows_in_chunk, w->p->outer * w->p->indices);
    const int64_t bytes = w->p->inner * w->p->itemsize;
    if (bytes == 4) /* single elements: a move instead of a call */
        take_rows(w, first, last, 4);
    else
        take_rows(w, first, last, bytes);
}

static int64_t take(void *const *operand, const void *params)
{
    const tge_take_params *p = params;
    index_walk w = {.p = p, .y = operand[0], .x = operand[1], .index = operand[2],
                    .rows_in_chunk = max_i64(1, CHUNK / max_i64(1, p->inner))};
    const int64_t bad = first_bad_index(w.index, p);
    if (bad)
        return bad;
    tge_parallel(ceil_div(p->outer * p->indices, w.rows_in_chunk), take_chunk, &w);
    return 0;
}

/* ---- scatter_add: each chunk owns a range of output rows and picks its updates, in order ---- */

enum { SCATTER_RANGES = 16 };

static void scatter_chunk(void *context, int64_t chunk)
{
    const index_walk *w = context;
    const tge_take_params *p = w->p;
    const int64_t outer = chunk / w->ranges, range = chunk % w->ranges, inner = p->inner;
    const int64_t first = p->length * range / w->ranges, last = p->length * (range + 1) / w->ranges;
    float *y = (float *)w->y + outer * p->length * inner;
    const float *update = (const float *)w->x + outer * p->indices * inner;
    memset(y + first * inner, 0, (size_t)((last - first) * inner) * 4);
    for (int64_t i = 0; i < p->indices; i++) {
        const int64_t row = resolve(w->index[i], p->length);
        if (row < first || row >= last)
            continue;
        for (int64_t j = 0; j < inner; j += VL) {
            float *to = y + row * inner + j;
            vstore_upto(to, inner - j, vload_upto(to, inner - j) + vload_upto(update + i * inner + j, inner - j));
        }
    }
}

static int64_t scatter_add_f32(void *const *operand, const void *params)
{
    const tge_take_params *p = params;
    index_walk w = {.p = p, .y = operand[0], .x = operand[1], .index = operand[2]};
    const int64_t bad = first_bad_index(w.index, p);
    if (bad)
        return bad;
    w.ranges = (p->length + p->indices) * p->inner < 2 * CHUNK ? 1 : SCATTER_RANGES;
    tge_parallel(p->outer * w.ranges, scatter_chunk, &w);
    return 0;
}
