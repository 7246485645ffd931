/* conv2d_backward_weights_f32: the product of the output gradient with what each tap reads,
 *
 *     gw[k][channel, tap] = sum over grid points of gy[k][point] * x[channel][what tap reads at point]
 */
#include "conv2d_weights_direct.h"
#include "conv2d_weights_rows.h"
#include "conv2d_weights_winograd.h"

/* The ways to compute it, the first that suits the shape. */
static const struct {
    int (*suits)(const tge_conv2d_params *);
    weights_job (*cut)(const tge_conv2d_params *);
    void (*item)(const weights_job *, int64_t, float *);
} ways[] = {
    {suits_winograd_weights, cut_weights_winograd, weights_item_winograd},
    {suits_rows, cut_weights_rows, weights_item_rows},
    {suits_any, cut_weights_direct, weights_item_direct},
};

static int way_of(const tge_conv2d_params *p)
{
    int way = 0;
    while (!ways[way].suits(p))
        way++;
    return way;
}

/* Copies of gw before the workers' parts. */
static int64_t partial_floats(const weights_job *job)
{
    return job->splits > 1 ? round_up(job->splits * gw_size(job), 16) : 0;
}

static void weights_chunk(void *context, int64_t chunk)
{
    const weights_job *job = context;
    int64_t first = chunk * job->per_chunk, end = min_i64(first + job->per_chunk, job->items);
    int way = way_of(job->p);
    float *workspace = job->workspace + partial_floats(job) + tge_worker() * job->floats;
    for (int64_t item = first; item < end; item++)
        ways[way].item(job, item, workspace);
}

static int64_t conv2d_backward_weights_f32(void *const *operand, const void *params)
{
    weights_job job = ways[way_of(params)].cut(params);
    job.gw = operand[0];
    job.image = operand[1];
    job.gy = operand[2];
    job.workspace = partial_floats(&job) + job.floats > 0 ? operand[3] : NULL; /* rows in place want none */
    int64_t size = gw_size(&job);
    if (job.steps == 0) {
        memset(job.gw, 0, sizeof(float) * (size_t)size);
        return 0;
    }
    tge_parallel(job.chunks, weights_chunk, &job);
    if (job.splits > 1) {
        memcpy(job.gw, job.workspace, sizeof(float) * (size_t)size);
        for (int64_t split = 1; split < job.splits; split++)
            for (int64_t i = 0; i < size; i++)
                job.gw[i] += job.workspace[split * size + i];
    }
    return 0;
}

static int64_t conv2d_backward_weights_f32_workspace(const void *params, int32_t threads)
{
    weights_job job = ways[way_of(params)].cut(params);
    return (partial_floats(&job) + workers_used(job.chunks, threads) * job.floats) * (int64_t)sizeof(float);
}
