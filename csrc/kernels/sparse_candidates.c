/* sparse_conv2d_candidates_f32: the zeros of a layer with the largest gradients, one output channel at a time. */
#include "sparse.h"

/* The points of the grid along one axis that a tap reads inside of the image. */
typedef struct { int64_t first, end; } grid_range;

static grid_range inside(int64_t origin, int64_t step, int64_t size, int64_t grid)
{
    grid_range r = {origin < 0 ? ceil_div(-origin, step) : 0, origin < size ? min_i64((size - 1 - origin) / step + 1, grid) : 0};
    r.end = max_i64(r.first, r.end);
    return r;
}

typedef struct {
    const tge_sparse_candidates_params *p;
    const float *image, *gy; /* gy of the output channel */
    float *score;            /* of its columns */
    int64_t channels_in_chunk;
} candidates_job;

/* The gradient of one weight. */
static float gradient_of(const tge_conv2d_params *p, const float *image, const float *gy, int64_t top, int64_t left, int joined)
{
    grid_range rows = inside(top, p->stride_h, p->h, p->p), columns = inside(left, p->stride_w, p->w, p->q);
    int64_t width = columns.end - columns.first;
    if (joined) { /* a plane is read as it lies */
        width *= p->p;
        rows.end = 1;
    }
    vf sums = {0};
    for (int64_t n = 0; n < p->n; n++)
        for (int64_t i = rows.first; i < rows.end; i++) {
            const float *x = image + n * p->x_n_stride + (i * p->stride_h + top) * p->w + columns.first * p->stride_w + left;
            const float *g = gy + n * p->y_n_stride + i * p->q + columns.first;
            for (int64_t j = 0; j < width; j += VL) {
                const int64_t lanes = width - j;
                sums = vfma(vload_strided(x + j * p->stride_w, p->stride_w, lanes), vload_upto(g + j, lanes), sums);
            }
        }
    float sum = 0;
    for (int lane = 0; lane < VL; lane++)
        sum += sums[lane];
    return sum;
}

static void score_chunk(void *context, int64_t chunk)
{
    const candidates_job *job = context;
    const tge_conv2d_params *p = &job->p->layer.conv;
    const int joined = p->r * p->s == 1 && p->stride_h == 1 && p->stride_w == 1 && p->pad_h == 0 && p->pad_w == 0;
    const int64_t last = min_i64((chunk + 1) * job->channels_in_chunk, p->c);
    for (int64_t c = chunk * job->channels_in_chunk; c < last; c++)
        for (int64_t tap = 0; tap < p->r * p->s; tap++) {
            const int64_t top = tap / p->s * p->dilation_h - p->pad_h, left = tap % p->s * p->dilation_w - p->pad_w;
            const float g = gradient_of(p, job->image + c * p->x_c_stride, job->gy, top, left, joined);
            job->score[c * p->r * p->s + tap] = g < 0 ? -g : g;
        }
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

static int64_t sparse_conv2d_candidates_f32_workspace(const void *params, int32_t threads)
{
    const tge_sparse_candidates_params *p = params;
    const tge_conv2d_params *conv = &p->layer.conv;
    (void)threads;
    return (conv->c * conv->r * conv->s + p->count) * (int64_t)sizeof(float);
}

static int64_t sparse_conv2d_candidates_f32(void *const *operand, const void *params)
{
    const tge_sparse_candidates_params *p = params;
    const tge_conv2d_params *conv = &p->layer.conv;
    const sparse_layer layer = sparse_layer_of(&p->layer, operand[3], operand[4]);
    const int64_t width = conv->c * conv->r * conv->s, work = conv->n * conv->p * conv->q * conv->r * conv->s;
    float *score = operand[5];
    candidate_heap heap = {score + width, operand[0], 0};
    candidates_job job = {p, operand[1], operand[2], score, max_i64(1, CHUNK / max_i64(1, work))};
    for (int64_t k = 0; k < conv->k && p->count > 0; k++) {
        job.gy = (const float *)operand[2] + k * conv->y_c_stride;
        tge_parallel(ceil_div(conv->c, job.channels_in_chunk), score_chunk, &job);
        int64_t at = layer.rows[k * p->layer.segments];
        for (int64_t segment = 0; segment < p->layer.segments; segment++)
            for (; at < layer.rows[k * p->layer.segments + segment + 1]; at++)
                score[segment * 65536 + layer.columns[at]] = -1; /* there is no lower one */
        for (int64_t column = 0; column < width; column++)
            if (score[column] >= 0)
                add_candidate(&heap, p->count, score[column], (int32_t)(k * width + column));
    }
    sort_heap(&heap);
    for (int64_t i = heap.size; i < p->count; i++)
        heap.element[i] = -1;
    return 0;
}
