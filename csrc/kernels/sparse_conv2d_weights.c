/* The gradient by sparse weights, at the non-zeros alone. */
#include "sparse_weights_dots.h"
#include "sparse_weights_lines.h"

/* ---- where columns read, and where a row's part of a block begins ---- */

static void find_offsets(const sparse_weights_job *job)
{
    const axis *w = &job->window.w;
    const int64_t taps = tap_count(&job->window);
    for (int64_t tap = 0; tap < taps; tap++) {
        const int64_t place = job->kind == WINDOW_LINES ? WIDE * slab_tap(&job->window, &job->slab, tap / w->taps, tap % w->taps) : 0;
        for (int64_t c = 0; c < job->p->c; c++)
            job->offset[c * taps + tap] = (int32_t)(c * job->x_channel + place);
    }
}

/* The outputs of a chunk: about as many non-zeros for each. */
static int64_t chunk_output(const sparse_weights_job *job, int64_t chunk)
{
    const int32_t *rows = job->layer.rows;
    const int64_t all = rows[job->p->k * job->segments] - rows[0];
    int64_t low = 0, high = job->p->k;
    if (chunk == job->chunks)
        return high;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if ((rows[middle * job->segments] - rows[0]) * job->chunks < all * chunk)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void start_chunk(void *context, int64_t chunk)
{
    const sparse_weights_job *job = context;
    const uint16_t *columns = job->layer.columns;
    const int64_t outputs = job->p->k, last = chunk_output(job, chunk + 1);
    for (int64_t k = chunk_output(job, chunk); k < last; k++)
        for (int64_t segment = 0; segment < job->segments; segment++) {
            const int32_t *row = job->layer.rows + k * job->segments + segment;
            int32_t *start = job->starts + segment * (job->blocks + 1) * outputs + k, at = row[0];
            for (int64_t block = 0; block < job->blocks; block++, start += outputs) {
                while (at + 8 <= row[1] && columns[at + 7] < block * job->block)
                    at += 8;
                while (at < row[1] && columns[at] < block * job->block)
                    at++;
                *start = at;
            }
            *start = row[1];
        }
}

/* ---- units ---- */

/* Channels of x, then of gy. */
static void fill_chunk(void *context, int64_t chunk)
{
    const sparse_weights_job *job = context;
    const int64_t channels = job->p->c, outputs = job->p->k, all = channels + outputs;
    const int64_t first = chunk * all / CHUNKS, end = (chunk + 1) * all / CHUNKS;
    float *scratch = job->scratches + tge_worker() * job->scratch;
    if (first < channels)
        fill_x(job, first, min_i64(end, channels), scratch);
    if (end > channels)
        fill_gy(job, max_i64(first - channels, 0), end - channels, scratch);
}

static void pass_blocks(const sparse_weights_job *job, tile_pass t, int64_t height, int64_t width, pending_sums *pending)
{
    const float *next_x = t.next_x;
    for (int64_t segment = 0; segment < job->segments; segment++) {
        t.offset = job->offset + segment * SEGMENT;
        for (int64_t block = 0; block < job->blocks; block++) {
            t.starts = job->starts + (segment * (job->blocks + 1) + block) * job->p->k;
            t.ends = t.starts + job->p->k;
            if (next_x) { /* planes: a column is a channel */
                const int64_t channel = segment * SEGMENT + block * job->block;
                t.next_x = next_x + channel * t.x_channel;
                t.channels = max_i64(min_i64(job->p->c - channel, job->block), 0);
            }
            passes[height - 1][width - 1](&t, pending);
            t.next_gy = NULL;
        }
    }
}

static void pass_plane(const sparse_weights_job *job, tile_pass t, int64_t unit, pending_sums *pending)
{
    const tge_conv2d_params *p = job->p;
    const int64_t width = unit_width(job, unit, 0);
    t.x = job->image + plane_start(job, unit, p->x_n_stride);
    t.gy = job->gy + plane_start(job, unit, p->y_n_stride);
    t.x_row = width * WIDE;
    t.gy_output = p->y_c_stride;
    if (unit + 1 < job->units) {
        t.next_x = job->image + plane_start(job, unit + 1, p->x_n_stride);
        t.next_gy = job->gy + plane_start(job, unit + 1, p->y_n_stride);
    }
    pass_blocks(job, t, job->height, width, pending);
}

static void pass_unit(const sparse_weights_job *job, tile_pass t, int64_t unit, pending_sums *pending)
{
    const int64_t i = unit - job->first_unit, rows = unit_rows(job, unit);
    t.gy = job->gy_lines + i * job->gy_unit;
    for (int64_t strip = 0; strip < job->strips; strip++) {
        const int64_t width = unit_width(job, unit, strip);
        for (int64_t tile = 0; tile < row_tiles(job, rows); tile++) {
            const int64_t row = tile_row(job, rows, tile), height = tile_row(job, rows, tile + 1) - row;
            t.x = job->x_lines + i * job->x_unit + strip * job->x_strip + row * job->x_row;
            t.gy_output = height * width * WIDE;
            pass_blocks(job, t, height, width, pending);
            t.gy += job->p->k * t.gy_output;
        }
    }
}

static void sum_chunk(void *context, int64_t chunk)
{
    const sparse_weights_job *job = context;
    pending_sums pending = {0};
    tile_pass t = {.x_row = job->x_row, .columns = job->layer.columns, .g = job->g, .x_channel = job->x_channel};
    t.first = chunk_output(job, chunk);
    t.end = chunk_output(job, chunk + 1);
    for (int64_t unit = job->first_unit; unit < job->end_unit; unit++)
        if (job->kind == PLANE_LINES)
            pass_plane(job, t, unit, &pending);
        else
            pass_unit(job, t, unit, &pending);
    add_pending(job->g, &pending);
}

/* `inputs` are x, gy, columns, rows and, where there is work, workspace. */
static void add_weights(void *const *operand, void *const *inputs, const sparse_layer *layer)
{
    sparse_weights_job job = cut_sparse_weights(layer->p);
    if (job.units == 0 || layer->rows[0] == layer->rows[job.p->k * job.segments])
        return;
    job.layer = *layer;
    job.g = operand[0];
    job.image = inputs[0];
    job.gy = inputs[1];
    share_workspace(&job, inputs[4]);
    find_offsets(&job);
    tge_parallel(job.chunks, start_chunk, &job);
    for (job.first_unit = 0; job.first_unit < job.units; job.first_unit = job.end_unit) {
        job.end_unit = min_i64(job.first_unit + job.depth, job.units);
        if (job.kind != PLANE_LINES)
            tge_parallel(CHUNKS, fill_chunk, &job);
        tge_parallel(job.chunks, sum_chunk, &job);
    }
}

static int64_t sparse_conv2d_backward_weights_f32(void *const *operand, const void *params)
{
    sparse_layer l = sparse_layer_of(params, operand[3], operand[4]);
    memset(operand[0], 0, sizeof(float) * (size_t)l.p->capacity);
    add_weights(operand, &operand[1], &l);
    return 0;
}

static int64_t sparse_conv2d_accumulate_weights_f32(void *const *operand, const void *params)
{
    sparse_layer l = sparse_layer_of(params, operand[4], operand[5]);
    if (operand[0] != operand[1])
        memcpy(operand[0], operand[1], sizeof(float) * (size_t)l.p->capacity);
    add_weights(operand, &operand[2], &l);
    return 0;
}

static int64_t sparse_conv2d_backward_weights_f32_workspace(const void *params, int32_t threads)
{
    const sparse_weights_job job = cut_sparse_weights(params);
    return sparse_weights_floats(&job, threads) * (int64_t)sizeof(float);
}

static int64_t sparse_conv2d_accumulate_weights_f32_workspace(const void *params, int32_t threads)
{
    return sparse_conv2d_backward_weights_f32_workspace(params, threads);
}
