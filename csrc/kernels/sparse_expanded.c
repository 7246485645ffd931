/* Sparse products by the dense kernels: the weights of the layer, or their gradient, are dense in workspace for as long as the call takes.
 * Where many weights are non-zeros, or the dense kernel needs few multiplications, that is faster (tinygrad_edge/ops/sparse.py says where). */
#include "sparse.h"

enum { EXPANDED_ROWS = 16 };

static int64_t expanded_bytes(const tge_conv2d_params *p) { return round_up(max_i64(p->k * row_width(p), 1) * (int64_t)sizeof(float), 64); }

typedef struct {
    const sparse_layer *layer;
    const float *values;
    float *weights, *g;
} expanded_job;

/* Some outputs' non-zeros to their places among zeros. */
static void expand_chunk(void *context, int64_t chunk)
{
    const expanded_job *job = context;
    const sparse_layer *l = job->layer;
    const int64_t width = row_width(&l->p->conv);
    for (int64_t k = chunk * EXPANDED_ROWS; k < min_i64((chunk + 1) * EXPANDED_ROWS, l->p->conv.k); k++) {
        memset(job->weights + k * width, 0, sizeof(float) * (size_t)width);
        for (int64_t segment = 0; segment < l->p->segments; segment++) {
            const int32_t *row = l->rows + k * l->p->segments + segment;
            float *to = job->weights + k * width + segment * SEGMENT;
            for (int64_t at = row[0]; at < row[1]; at++)
                to[l->columns[at]] = job->values[at];
        }
    }
}

/* Add some outputs' gradients at the non-zeros to the pool's. */
static void collect_chunk(void *context, int64_t chunk)
{
    const expanded_job *job = context;
    const sparse_layer *l = job->layer;
    const int64_t width = row_width(&l->p->conv);
    for (int64_t k = chunk * EXPANDED_ROWS; k < min_i64((chunk + 1) * EXPANDED_ROWS, l->p->conv.k); k++)
        for (int64_t segment = 0; segment < l->p->segments; segment++) {
            const int32_t *row = l->rows + k * l->p->segments + segment;
            const float *from = job->weights + k * width + segment * SEGMENT;
            for (int64_t at = row[0]; at < row[1]; at++)
                job->g[at] += from[l->columns[at]];
        }
}

/* By a kernel that takes dense weights; the workspace begins with them. */
static int64_t multiply_expanded(int64_t (*dense)(void *const *, const void *), void *const *operand, const void *params)
{
    const sparse_layer l = sparse_layer_of(params, operand[3], operand[4]);
    expanded_job job = {.layer = &l, .values = operand[2], .weights = operand[5]};
    tge_parallel(ceil_div(l.p->conv.k, EXPANDED_ROWS), expand_chunk, &job);
    return dense((void *[]){operand[0], operand[1], job.weights, (char *)operand[5] + expanded_bytes(&l.p->conv)}, &l.p->conv);
}

static int64_t sparse_conv2d_expanded_f32(void *const *operand, const void *params) { return multiply_expanded(conv2d_f32, operand, params); }

static int64_t sparse_conv2d_backward_data_expanded_f32(void *const *operand, const void *params)
{
    return multiply_expanded(conv2d_backward_data_f32, operand, params);
}

/* `inputs` are x, gy, columns, rows, workspace. */
static int64_t add_expanded(float *g, void *const *inputs, const void *params)
{
    const sparse_layer l = sparse_layer_of(params, inputs[2], inputs[3]);
    expanded_job job = {.layer = &l, .weights = inputs[4], .g = g};
    conv2d_backward_weights_f32((void *[]){job.weights, inputs[0], inputs[1], (char *)inputs[4] + expanded_bytes(&l.p->conv)}, &l.p->conv);
    tge_parallel(ceil_div(l.p->conv.k, EXPANDED_ROWS), collect_chunk, &job);
    return 0;
}

static int64_t sparse_conv2d_backward_weights_expanded_f32(void *const *operand, const void *params)
{
    const tge_sparse_conv2d_params *p = params;
    memset(operand[0], 0, sizeof(float) * (size_t)p->capacity);
    return add_expanded(operand[0], &operand[1], params);
}

static int64_t sparse_conv2d_accumulate_weights_expanded_f32(void *const *operand, const void *params)
{
    const tge_sparse_conv2d_params *p = params;
    if (operand[0] != operand[1])
        memcpy(operand[0], operand[1], sizeof(float) * (size_t)p->capacity);
    return add_expanded(operand[0], &operand[2], params);
}

static int64_t sparse_conv2d_expanded_f32_workspace(const void *params, int32_t threads)
{
    const tge_conv2d_params *p = &((const tge_sparse_conv2d_params *)params)->conv;
    return expanded_bytes(p) + conv2d_f32_workspace(p, threads);
}

static int64_t sparse_conv2d_backward_data_expanded_f32_workspace(const void *params, int32_t threads)
{
    const tge_conv2d_params *p = &((const tge_sparse_conv2d_params *)params)->conv;
    return expanded_bytes(p) + conv2d_backward_data_f32_workspace(p, threads);
}

static int64_t sparse_conv2d_backward_weights_expanded_f32_workspace(const void *params, int32_t threads)
{
    const tge_conv2d_params *p = &((const tge_sparse_conv2d_params *)params)->conv;
    return expanded_bytes(p) + conv2d_backward_weights_f32_workspace(p, threads);
}

static int64_t sparse_conv2d_accumulate_weights_expanded_f32_workspace(const void *params, int32_t threads)
{
    return sparse_conv2d_backward_weights_expanded_f32_workspace(params, threads);
}
