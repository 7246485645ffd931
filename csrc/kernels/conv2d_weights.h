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
