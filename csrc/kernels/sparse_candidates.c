/* sparse_conv2d_candidates_f32: the zeros of a layer with the largest gradients, some output channels at a time. */
#include "sparse.h"

enum { GRADIENT_FLOATS = 1 << 15 }; /* of the channels that are worked on together, about */

/* The layer's convolution with output channels [k, k + so many] alone. */
static tge_conv2d_params some_outputs(const tge_conv2d_params *p, int64_t k)
{
    tge_conv2d_params some = *p;
    some.k = min_i64(max_i64(GRADIENT_FLOATS / max_i64(row_width(p), 1), 1), p->k - k);
    return some;
}

/* ---- a heap of the best so far, the last of them at the root ---- */

typedef struct {
    float *score;
    int32_t *element;
    int64_t size;
} candidate_heap;

static int is_better(float score, int32_t element, const candidate_heap *h, int64_t at)
{
    return score > h->score[at] || (score == h->score[at] && element < h->element[at]);
}

/* Put a candidate in the place of the root. */
static void replace_root(const candidate_heap *h, int64_t size, float score, int32_t element)
{
    int64_t at = 0;
    for (int64_t child; (child = 2 * at + 1) < size; at = child) {
        if (child + 1 < size && is_better(h->score[child], h->element[child], h, child + 1))
            child++;
        if (!is_better(score, element, h, child))
            break;
        h->score[at] = h->score[child];
        h->element[at] = h->element[child];
    }
    h->score[at] = score;
    h->element[at] = element;
}

static void add_candidate(candidate_heap *h, int64_t count, float score, int32_t element)
{
    if (h->size == count) {
        if (is_better(score, element, h, 0))
            replace_root(h, count, score, element);
        return;
    }
    int64_t at = h->size++;
    for (int64_t parent; at > 0; at = parent) {
        parent = (at - 1) / 2;
        if (is_better(score, element, h, parent))
            break;
        h->score[at] = h->score[parent];
        h->element[at] = h->element[parent];
    }
    h->score[at] = score;
    h->element[at] = element;
}

static void sort_heap(const candidate_heap *h)
{
    for (int64_t last = h->size - 1; last > 0; last--) {
        const float score = h->score[last];
        const int32_t element = h->element[last];
        h->score[last] = h->score[0];
        h->element[last] = h->element[0];
        replace_root(h, last, score, element);
    }
}

/* ---- workspace: gradients, scores of the heap, what the dense gradient wants ---- */

static int64_t whole_lines(int64_t floats) { return ceil_div(floats, 16) * 16; }

static int64_t sparse_conv2d_candidates_f32_workspace(const void *params, int32_t threads)
{
    const tge_sparse_candidates_params *p = params;
    const tge_conv2d_params *all = &p->layer.conv, first = some_outputs(all, 0);
    if (all->k == 0)
        return 0;
    const tge_conv2d_params last = some_outputs(all, (all->k - 1) / first.k * first.k);
    const int64_t dense = max_i64(conv2d_backward_weights_f32_workspace(&first, threads), conv2d_backward_weights_f32_workspace(&last, threads));
    return (whole_lines(first.k * row_width(all)) + whole_lines(p->count)) * (int64_t)sizeof(float) + dense;
}

/* Offer the zeros of an output channel, whose gradients are given. */
static void offer_channel(candidate_heap *heap, const tge_sparse_candidates_params *p, const sparse_layer *layer, int64_t k, const float *gradient)
{
    const int64_t width = row_width(&p->layer.conv), segments = p->layer.segments;
    int64_t column = 0;
    for (int64_t segment = 0; segment < segments; segment++) {
        const int32_t *row = layer->rows + k * segments + segment;
        const int64_t end = min_i64((segment + 1) * SEGMENT, width);
        for (int64_t at = row[0]; at <= row[1]; at++) {
            const int64_t nonzero = at < row[1] ? segment * SEGMENT + layer->columns[at] : end;
            for (; column < nonzero; column++) {
                const float score = gradient[column] < 0 ? -gradient[column] : gradient[column];
                if (score >= 0)
                    add_candidate(heap, p->count, score, (int32_t)(k * width + column));
            }
            column = min_i64(nonzero + 1, end);
        }
    }
}

static int64_t sparse_conv2d_candidates_f32(void *const *operand, const void *params)
{
    const tge_sparse_candidates_params *p = params;
    const tge_conv2d_params *all = &p->layer.conv;
    if (p->count == 0)
        return 0;
    candidate_heap heap = {.element = operand[0]};
    if (all->k > 0 && row_width(all) > 0) {
        const sparse_layer layer = sparse_layer_of(&p->layer, operand[3], operand[4]);
        const int64_t block = some_outputs(all, 0).k * row_width(all);
        float *gradient = operand[5], *dense = gradient + whole_lines(block) + whole_lines(p->count);
        heap.score = gradient + whole_lines(block);
        tge_conv2d_params some;
        for (int64_t k = 0; k < all->k; k += some.k) {
            some = some_outputs(all, k);
            float *gy = (float *)operand[2] + k * all->y_c_stride;
            conv2d_backward_weights_f32((void *[]){gradient, operand[1], gy, dense}, &some);
            for (int64_t i = 0; i < some.k; i++)
                offer_channel(&heap, p, &layer, k + i, gradient + i * row_width(all));
        }
    }
    sort_heap(&heap);
    for (int64_t i = heap.size; i < p->count; i++)
        heap.element[i] = -1;
    return 0;
}
