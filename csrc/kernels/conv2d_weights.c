/* conv2d_backward_weights_f32: the product of the output gradient with what each tap reads,
 *
 *     gw[k][channel, tap] = sum over grid points of gy[k][point] * x[channel][what tap reads at point]
 *
 * The points are the inner dimension of the product, a band of them (window.h) one block of it. Both operands are contiguous along the
 * points, so packing transposes. An item is a block of gw and a range of bands ("split"); splits are used where gw alone gives too few
 * items, each sums into a copy of gw of its own, and the copies are added in order.
 */
#include "window.h"

enum { TAP_COLUMNS = 192 }; /* (channel, tap) pairs of an item, at most; but one channel at least */

typedef struct {
    const tge_conv2d_params *p;
    sliding_window window;
    int64_t outputs, channels; /* of one group */

    band_cut cut;
    int64_t bands;
    int64_t c_block, c_blocks, part, parts, splits;
    int64_t items, per_chunk, chunks;
    int64_t slab_floats, a_floats, b_floats, floats; /* for one worker */

    const float *image, *gy;
    float *gw, *workspace;
} weights_job;

static int64_t gw_size(const weights_job *job) { return job->p->k * job->channels * tap_count(&job->window); }

static weights_job cut_weights(const tge_conv2d_params *p)
{
    weights_job job = {.p = p, .window = forward_window(p), .outputs = p->k / p->groups, .channels = p->c / p->groups};
    int64_t taps = max_i64(tap_count(&job.window), 1), most = max_i64(TAP_COLUMNS / taps, 1);
    int64_t points = p->n * p->p * p->q;

    /* As many items as are worth it: first by fewer channels in a block, then by fewer outputs, last by splits. */
    int64_t wanted = min_i64(CHUNKS, ceil_div(2 * points * gw_size(&job), CHUNK_FLOPS));
    int64_t c_wanted = ceil_div(job.channels, ceil_div(max_i64(wanted, 1), p->groups));
    job.c_block = even_block(job.channels, min_i64(most, max_i64(c_wanted, ceil_div(TAP_COLUMNS / 3, taps))), 1);
    job.c_blocks = ceil_div(job.channels, job.c_block);
    int64_t parts = ceil_div(wanted, max_i64(p->groups * job.c_blocks, 1));
    job.part = even_block(job.outputs, max_i64(ceil_div(job.outputs, max_i64(parts, 1)), OUT_BLOCK / 2), ROW_MULTIPLE);
    job.parts = ceil_div(job.outputs, job.part);

    int64_t columns = round_up(job.c_block * taps, COLUMN_MULTIPLE);
    job.cut = cut_bands(&job.window, columns <= KC ? BAND : max_i64(KC * BAND / columns, 32));
    job.bands = job.cut.row_bands * job.cut.column_bands;
    int64_t blocks = p->groups * job.c_blocks * job.parts;
    job.splits = max_i64(min_i64(wanted / max_i64(blocks, 1), job.bands), 1);

    job.items = blocks * job.splits;
    int64_t flops = 2 * points * job.part * job.c_block * taps / job.splits;
    job.per_chunk = min_i64(ceil_div(CHUNK_FLOPS, max_i64(flops, 1)), max_i64(job.items, 1));
    job.chunks = ceil_div(job.items, job.per_chunk);

    int64_t block_points = job.cut.rows * job.cut.width;
    job.slab_floats = is_plain(&job.window) ? 0 : slab_floats(&job.window, &job.cut, job.c_block);
    job.a_floats = packed_floats(min_i64(job.part, OUT_BLOCK), block_points);
    job.b_floats = packed_floats(columns, block_points);
    job.floats = job.slab_floats + job.a_floats + job.b_floats;
    return job;
}

/* Copies of gw before the workers' parts. */
static int64_t partial_floats(const weights_job *job)
{
    return job->splits > 1 ? round_up(job->splits * gw_size(job), 16) : 0;
}

/* One panel of the band's points of an image of the grid's size. A band is contiguous in a plane, and planes of samples may be adjacent. */
static void pack_points(float *panel, int panel_width, const float *image, int64_t n_stride, int64_t c_stride, const sliding_window *window,
                        const band *b, int64_t lanes)
{
    int64_t plane = window->h.grid * window->w.grid, point = b->row * window->w.grid + b->q, end = point + b->rows * b->width;
    while (point < end) {
        int64_t next = n_stride == plane ? end : min_i64(end, (point / plane + 1) * plane);
        pack_panel(panel, panel_width, image + point / plane * n_stride + point % plane, c_stride, 1, lanes, next - point);
        panel += (next - point) * panel_width;
        point = next;
    }
}

/* One B panel from the slab: the columns [first, first + columns) of (channel, tap). */
static void pack_taps(float *panel, const float *slab, const sliding_window *window, const band *b, const slab_shape *s, int64_t first,
                      int64_t columns)
{
    for (int lane = 0; lane < NR; lane += VL) {
        const float *from[VL];
        int64_t lanes = min_i64(columns - lane, VL);
        for (int64_t i = 0; i < lanes; i++) {
            int64_t column = first + lane + i, tap = column % tap_count(window);
            from[i] = slab + column / tap_count(window) * s->channel + slab_tap(window, s, tap / window->w.taps, tap % window->w.taps);
        }
        float *to = panel + lane;
        int64_t row = 0, left_in_sample = window->h.grid - b->row % window->h.grid;
        for (int64_t r = 0; r < b->rows; r++, row += s->row) {
            if (left_in_sample-- == 0) {
                left_in_sample = window->h.grid - 1;
                row += window->h.extra * s->row;
            }
            for (int64_t q = 0; q < b->width; q += VL) {
                vf square[VL];
                for (int i = 0; i < VL; i++)
                    square[i] = i < lanes ? vload(from[i] + row + q) : (vf){0};
                vtranspose(square);
                int64_t left = min_i64(b->width - q, VL);
                for (int i = 0; i < left; i++, to += NR)
                    vstore(to, square[i]);
            }
        }
    }
}

static void weights_item(const weights_job *job, int64_t item, float *workspace)
{
    const tge_conv2d_params *p = job->p;
    int64_t split = item % job->splits, block = item / job->splits;
    int64_t c0 = block % job->c_blocks * job->c_block, channels = min_i64(job->channels - c0, job->c_block);
    int64_t m0 = block / job->c_blocks % job->parts * job->part, outputs = min_i64(job->outputs - m0, job->part);
    int64_t group = block / job->c_blocks / job->parts;

    int64_t taps = tap_count(&job->window), columns = channels * taps, gw_row = job->channels * taps;
    const float *image = job->image + (group * job->channels + c0) * p->x_c_stride;
    const float *gy = job->gy + (group * job->outputs + m0) * p->y_c_stride;
    float *gw = (job->splits > 1 ? job->workspace + split * gw_size(job) : job->gw) + (group * job->outputs + m0) * gw_row + c0 * taps;
    float *slab = workspace, *a = slab + job->slab_floats, *panels = a + job->a_floats;

    int64_t first = split * job->bands / job->splits, end = (split + 1) * job->bands / job->splits;
    for (int64_t index = first; index < end; index++) {
        band b = band_at(&job->window, &job->cut, index);
        slab_shape s = band_slab(&job->window, &b);
        int64_t points = b.rows * b.width;
        if (!is_plain(&job->window))
            fill_slab(slab, image, &job->window, &b, channels);
        for (int64_t j = 0; j < columns; j += NR) {
            int64_t lanes = min_i64(columns - j, NR);
            if (is_plain(&job->window))
                pack_points(panels + j * points, NR, image + j * p->x_c_stride, p->x_n_stride, p->x_c_stride, &job->window, &b, lanes);
            else
                pack_taps(panels + j * points, slab, &job->window, &b, &s, j, lanes);
        }
        for (int64_t m = 0; m < outputs; m += OUT_BLOCK) {
            int64_t rows = min_i64(outputs - m, OUT_BLOCK);
            for (int64_t i = 0; i < rows; i += MR)
                pack_points(a + i * points, MR, gy + (m + i) * p->y_c_stride, p->y_n_stride, p->y_c_stride, &job->window, &b,
                            min_i64(rows - i, MR));
            multiply_block(rows, columns, points, a, panels, NR, gw + m * gw_row, gw_row, index > first);
        }
    }
}

static void weights_chunk(void *context, int64_t chunk)
{
    const weights_job *job = context;
    int64_t first = chunk * job->per_chunk, end = min_i64(first + job->per_chunk, job->items);
    float *workspace = job->workspace + partial_floats(job) + tge_worker() * job->floats;
    for (int64_t item = first; item < end; item++)
        weights_item(job, item, workspace);
}

static int64_t conv2d_backward_weights_f32(void *const *operand, const void *params)
{
    weights_job job = cut_weights(params);
    job.gw = operand[0];
    job.image = operand[1];
    job.gy = operand[2];
    job.workspace = operand[3];
    int64_t size = gw_size(&job);
    if (job.bands == 0) {
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
    weights_job job = cut_weights(params);
    return (partial_floats(&job) + workers_used(job.chunks, threads) * job.floats) * (int64_t)sizeof(float);
}
