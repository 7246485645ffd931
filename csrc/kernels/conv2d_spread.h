/* The gradient by the data of a window that moves by two, the other way round: first what every tap passes on,
 *
 *     passed[channel][tap][point] = sum over outputs k of w[k][channel][tap] * gy[k][point]
 *
 * for some channels and some whole samples, a product whose operands are packed as they lie in memory; then each position of gx adds up the
 * few that fall on it. The correlation with the reversed window would pack weights and gradient for each of four residues apart, from every
 * second place.
 */
#ifndef TGE_CONV2D_SPREAD_H
#define TGE_CONV2D_SPREAD_H

#include "conv2d_direct.h"
#include "edge.h"

enum {
    SPREAD_POINTS = 392,       /* of gy in an item, about */
    SPREAD_MOST_POINTS = 1024, /* of a plane: then its packed block of outputs still fits the second-level cache, */
    SPREAD_FLOATS = 1 << 17,   /* which has as many floats, or a little more, */
    SPREAD_ROWS = 288,         /* beside what so many (channel, tap) pairs pass on */
};

typedef struct {
    const tge_conv2d_params *p;
    float *gx;
    const float *gy, *weights;
    float *workspace;
    int64_t outputs, channels, taps; /* of one group */
    int64_t samples, c_block, k_block; /* of an item, or of a block of its sums */
    int64_t bands, c_blocks, items, per_chunk, chunks;
    int64_t row; /* floats of what a tap passes on */
    int64_t a_floats, b_floats, floats; /* for one worker */
} spread_job;

/* Sums over few outputs do not pay for writing and reading what is passed on. */
static int suits_spread(const tge_conv2d_params *p)
{
    int64_t outputs = p->k / p->groups, channels = p->c / p->groups, taps = p->r * p->s, plane = p->p * p->q;
    return p->stride_h == 2 && p->stride_w == 2 && p->dilation_h == 1 && p->dilation_w == 1 && outputs >= 64 && outputs * taps >= 256
        && channels >= 16 && plane > 0 && plane <= SPREAD_MOST_POINTS;
}

static spread_job cut_spread(const tge_conv2d_params *p)
{
    spread_job job = {.p = p, .outputs = p->k / p->groups, .channels = p->c / p->groups, .taps = p->r * p->s};
    int64_t plane = p->p * p->q;
    job.samples = even_block(p->n, max_i64(SPREAD_POINTS / plane, 1), 1);
    job.bands = ceil_div(p->n, job.samples);
    job.c_block = even_block(job.channels, max_i64(SPREAD_ROWS / job.taps, 1), 4);
    job.c_blocks = ceil_div(job.channels, job.c_block);
    job.k_block = even_block(job.outputs, min_i64(KC, SPREAD_FLOATS / (job.samples * plane)), 1);
    job.items = p->groups * job.bands * job.c_blocks;
    int64_t flops = 2 * job.samples * plane * job.outputs * job.c_block * job.taps;
    job.per_chunk = max_i64(min_i64(max_i64(CHUNK_FLOPS / flops, job.items / (4 * CHUNKS)), job.items), 1);
    job.chunks = ceil_div(job.items, job.per_chunk);

    job.row = round_up(job.samples * plane, COLUMN_MULTIPLE);
    int64_t rows = round_up(job.c_block * job.taps, ROW_MULTIPLE);
    job.a_floats = packed_floats(ROW_MULTIPLE, job.k_block);
    job.b_floats = packed_floats(job.row, job.k_block);
    job.floats = job.a_floats + job.b_floats + rows * job.row;
    return job;
}

/* One panel of gy whose columns are points of more than one sample, or end before it does. */
static void pack_across_samples(float *panel, const float *gy, const tge_conv2d_params *p, int64_t first, int64_t columns, int64_t outputs)
{
    run runs[NR];
    int64_t plane = p->p * p->q, count = 0;
    for (int64_t lane = 0; lane < columns; lane += runs[count++].count) {
        int64_t at = (first + lane) % plane;
        runs[count] = (run){lane, min_i64(columns - lane, plane - at), (first + lane) / plane * p->y_n_stride + at, 0};
    }
    pack_in_place(panel, gy, p->y_c_stride, runs, runs + count, outputs);
}

/* gx of one channel and sample from what its taps pass on, `row` floats apart: position h has padded place u = h + pad, and tap r reaches it
 * from point (u - r) / 2. */
static void add_passed(float *gx, const float *passed, int64_t row, const tge_conv2d_params *p)
{
    for (int64_t h = 0; h < p->h; h++, gx += p->w) {
        const int64_t u = h + p->pad_h;
        for (int64_t w = 0; w < p->w; w += 2 * VL) {
            vf phase[2] = {vsplat(0.0f), vsplat(0.0f)}; /* at w, w + 2, ... and between */
            for (int64_t r = u % 2; r < p->r; r += 2) {
                const int64_t i = (u - r) / 2;
                if (i < 0 || i >= p->p)
                    continue;
                const float *from = passed + r * p->s * row + i * p->q;
                for (int64_t s = 0; s < p->s; s++) {
                    const int64_t v = w + p->pad_w, between = (v - s) % 2 != 0, j = (v + between - s) / 2;
                    phase[between] += vload_masked(from + s * row + j, lanes_within(j, p->q));
                }
            }
            store_pairs(gx + w, p->w - w, phase[0], phase[1]);
        }
    }
}

static void spread_item(const spread_job *job, int64_t item, float *workspace)
{
    const tge_conv2d_params *p = job->p;
    int64_t block = item % job->c_blocks, band = item / job->c_blocks % job->bands, group = item / job->c_blocks / job->bands;
    int64_t c0 = block * job->c_block, channels = min_i64(job->channels - c0, job->c_block), rows = channels * job->taps;
    int64_t n0 = band * job->samples, samples = min_i64(p->n - n0, job->samples), plane = p->p * p->q, columns = samples * plane;
    int64_t w_row = job->channels * job->taps;
    float *a = workspace, *panels = a + job->a_floats, *passed = panels + job->b_floats;

    for (int64_t k0 = 0; k0 < job->outputs; k0 += job->k_block) {
        int64_t outputs = min_i64(job->outputs - k0, job->k_block);
        const float *weights = job->weights + (group * job->outputs + k0) * w_row + c0 * job->taps;
        const float *gy = job->gy + n0 * p->y_n_stride + (group * job->outputs + k0) * p->y_c_stride;
        for (int64_t i = 0; i < rows; i += MR) {
            int64_t height = min_i64(rows - i, MR);
            pack_panel(a, MR, weights + i, 1, w_row, height, outputs);
            for (int64_t j = 0; j < columns; j += NR) {
                int64_t width = min_i64(columns - j, NR);
                float *panel = panels + j * outputs;
                const float *image = NULL;
                if (i == 0 && width == NR && j % plane + NR <= plane)
                    image = gy + j / plane * p->y_n_stride + j % plane;
                else if (i == 0)
                    pack_across_samples(panel, gy, p, j, width, outputs);
                multiply_panel(height, width, outputs, a, panel, image, p->y_c_stride,
                               passed + i * job->row + j, job->row, k0 > 0);
            }
        }
    }
    for (int64_t c = 0; c < channels; c++)
        for (int64_t n = 0; n < samples; n++)
            add_passed(job->gx + (group * job->channels + c0 + c) * p->x_c_stride + (n0 + n) * p->x_n_stride,
                       passed + c * job->taps * job->row + n * plane, job->row, p);
}

static void spread_chunk(void *context, int64_t chunk)
{
    const spread_job *job = context;
    float *workspace = job->workspace + tge_worker() * job->floats;
    for (int64_t item = chunk * job->per_chunk; item < min_i64((chunk + 1) * job->per_chunk, job->items); item++)
        spread_item(job, item, workspace);
}

static void backward_data_spread(void *const *operand, const tge_conv2d_params *p)
{
    spread_job job = cut_spread(p);
    job.gx = operand[0];
    job.gy = operand[1];
    job.weights = operand[2];
    job.workspace = operand[3];
    tge_parallel(job.chunks, spread_chunk, &job);
}

static int64_t spread_workspace(const tge_conv2d_params *p, int32_t threads)
{
    spread_job job = cut_spread(p);
    return workers_used(job.chunks, threads) * job.floats * (int64_t)sizeof(float);
}

#endif
