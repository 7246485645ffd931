/* What the two ways to compute a gradient by the weights have in common. An item is a block of gw and a range of steps ("split"); splits
 * are used where gw alone gives too few items, each sums into a copy of gw of its own, and the copies are added in order. */
#ifndef TGE_CONV2D_WEIGHTS_H
#define TGE_CONV2D_WEIGHTS_H

#include "window.h"

typedef struct {
    const tge_conv2d_params *p;
    sliding_window window;
    int64_t outputs, channels; /* of one group */

    band_cut cut;   /* of the grid, or of that of tiles */
    int64_t steps;  /* bands, or blocks of tiles */
    int64_t c_block, c_blocks, part, parts, splits;
    int64_t items, per_chunk, chunks;
    int64_t slab_floats, a_floats, b_floats, floats; /* for one worker */

    const float *image, *gy;
    float *gw, *workspace;
} weights_job;

static int64_t gw_size(const weights_job *job) { return job->p->k * job->channels * tap_count(&job->window); }

/* As many as are worth it. */
static int64_t items_wanted(const weights_job *job)
{
    return min_i64(CHUNKS, ceil_div(2 * job->p->n * job->p->p * job->p->q * gw_size(job), CHUNK_FLOPS));
}

static weights_job make_weights_job(const tge_conv2d_params *p)
{
    return (weights_job){.p = p, .window = forward_window(p), .outputs = p->k / p->groups, .channels = p->c / p->groups};
}

/* As many parts of the outputs as make about `wanted` blocks. */
static void cut_outputs(weights_job *job, int64_t wanted)
{
    job->c_blocks = ceil_div(job->channels, job->c_block);
    int64_t parts = ceil_div(wanted, max_i64(job->p->groups * job->c_blocks, 1));
    job->part = even_block(job->outputs, max_i64(ceil_div(job->outputs, max_i64(parts, 1)), OUT_BLOCK / 2), ROW_MULTIPLE);
    job->parts = ceil_div(job->outputs, job->part);
}

/* About `wanted` blocks of `most` columns (channels x taps) at most, but one channel at least: first by fewer channels, a multiple of
 * `multiple`, then by fewer outputs. */
static void cut_blocks(weights_job *job, int64_t wanted, int64_t most, int64_t multiple)
{
    const tge_conv2d_params *p = job->p;
    int64_t taps = max_i64(tap_count(&job->window), 1);
    int64_t c_wanted = ceil_div(job->channels, ceil_div(max_i64(wanted, 1), p->groups));
    job->c_block = even_block(job->channels, min_i64(max_i64(most / taps, 1), max_i64(c_wanted, ceil_div(most / 3, taps))), multiple);
    cut_outputs(job, wanted);
}

/* Last by splits. */
static void cut_items(weights_job *job, band_cut cut)
{
    const tge_conv2d_params *p = job->p;
    int64_t blocks = p->groups * job->c_blocks * job->parts;
    job->cut = cut;
    job->steps = cut.row_bands * cut.column_bands;
    job->splits = max_i64(min_i64(items_wanted(job) / max_i64(blocks, 1), job->steps), 1);
    job->items = blocks * job->splits;
    int64_t flops = 2 * p->n * p->p * p->q * job->part * job->c_block * tap_count(&job->window) / job->splits;
    job->per_chunk = min_i64(ceil_div(CHUNK_FLOPS, max_i64(flops, 1)), max_i64(job->items, 1));
    job->chunks = ceil_div(job->items, job->per_chunk);
}

/* What an item works on. */
typedef struct {
    int64_t c0, channels, m0, outputs; /* of the group */
    const float *image, *gy;           /* at the first channel and output */
    float *gw;                         /* the block's corner, in the split's copy */
    int64_t first, end;                /* steps */
} weights_block;

static weights_block weights_block_at(const weights_job *job, int64_t item)
{
    int64_t split = item % job->splits, block = item / job->splits, group = block / job->c_blocks / job->parts;
    weights_block b = {.c0 = block % job->c_blocks * job->c_block, .m0 = block / job->c_blocks % job->parts * job->part};
    b.channels = min_i64(job->channels - b.c0, job->c_block);
    b.outputs = min_i64(job->outputs - b.m0, job->part);
    b.image = job->image + (group * job->channels + b.c0) * job->p->x_c_stride;
    b.gy = job->gy + (group * job->outputs + b.m0) * job->p->y_c_stride;
    b.gw = (job->splits > 1 ? job->workspace + split * gw_size(job) : job->gw)
        + ((group * job->outputs + b.m0) * job->channels + b.c0) * tap_count(&job->window);
    b.first = split * job->steps / job->splits;
    b.end = (split + 1) * job->steps / job->splits;
    return b;
}

#endif
