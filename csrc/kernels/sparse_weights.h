/* How the gradient by sparse weights is cut.
 *
 * gw of a non-zero is a dot product over the points of the output: of the output gradient of its row with what its column reads. Sixteen points
 * make a line, and no two lanes of a line are ever added before the end of a tile of lines. Both operands are copied into lines first, a part
 * of the points at a time (a unit), for all channels and outputs at once:
 *
 * - a window of one place: consecutive points of the grid, samples joined; planes of whole lines are read as they lie;
 * - a fully connected layer: sixteen samples, which is a transposition;
 * - any other window: one point of sixteen samples (or of parts of samples, where there are fewer), so that what a tap reads is always whole
 *   lines of a padded copy, as window.h's slab has them, whatever stride, padding and dilation are.
 *
 * A tile is a few lines of a unit. The gy of a row's tile stay in registers while the row's non-zeros pass, a block of columns at a time, whose
 * lines of x stay in the first-level cache meanwhile.
 */
#ifndef TGE_SPARSE_WEIGHTS_H
#define TGE_SPARSE_WEIGHTS_H

#include "sparse.h"

enum {
    TILE_HEIGHT = 4,      /* rows of lines */
    TILE_WIDTH_LINES = 8, /* lines of a row */
    TILE_LINES = 28,      /* at most: what AVX-512 has registers for */
    POINT_ROWS = 2,       /* of a tile of consecutive points */
    CACHED_LINES = 700,   /* of 64 bytes, of a block: some more than the first-level cache, since most loads are of lines just loaded */
    UNIT_FLOATS = 1 << 19, /* of all lines that lie packed at once, about */
    PLANE_FLOATS = 1 << 17, /* of those that all chunks read before the next: half of the second-level cache */
    SHARED_ROWS = 64,      /* outputs of a chunk, about: for so many it is worth bringing a block into the cache */
};

typedef enum { PLANE_LINES, POINT_LINES, SAMPLE_LINES, WINDOW_LINES } line_kind;

typedef struct {
    sparse_layer layer;
    const tge_conv2d_params *p;
    sliding_window window, points; /* what x and gy are read through */
    line_kind kind;
    int64_t columns, segments; /* of a row */

    int64_t lines, units; /* lines of a row of all points, but for windows */
    int64_t plane_units;  /* units of a plane that is read as it lies */
    int64_t height;       /* of a tile, at most */

    /* Windows: a sample is cut into parts, a part into bands, a band into strips as wide as a tile. */
    int64_t parts, part_rows, bands, strips;
    slab_shape slab; /* of a strip, in lines */

    /* In floats; a unit's x is [strip][channel][line], its gy [strip][tile][output][line]. */
    int64_t x_channel, x_strip, x_row, x_unit, gy_unit, scratch;
    int64_t depth; /* units that lie packed at once */

    int64_t block, blocks; /* columns of a block, blocks of a segment */
    int64_t chunks;        /* of outputs */

    const float *image, *gy;
    float *g;
    int32_t *offset; /* of each column, in a channel's lines */
    int32_t *starts; /* [segment][block, and the end][output]: where a row's part of a block begins */
    float *x_lines, *gy_lines, *scratches;
    int64_t first_unit, end_unit;
} sparse_weights_job;

/* Of consecutive points: a tile's rows are one stretch of lines. */
static void cut_lines(sparse_weights_job *job)
{
    job->lines = ceil_div(job->p->n * job->p->p * job->p->q, WIDE);
    job->height = job->lines > TILE_WIDTH_LINES ? POINT_ROWS : 1;
    job->lines = ceil_div(job->lines, job->height); /* of each row of a tile */
    job->units = ceil_div(job->lines, TILE_WIDTH_LINES);
    job->x_row = WIDE * ceil_div(job->lines, job->units);
    job->x_channel = job->height * job->x_row;
    job->strips = 1;
    job->x_strip = job->x_unit = job->p->c * job->x_channel;
    job->gy_unit = job->p->k * job->x_channel;
}

/* Of planes that are read as they lie: rows of a tile have the same width. */
static void cut_planes(sparse_weights_job *job)
{
    const tge_conv2d_params *p = job->p;
    const int64_t lines = p->p * p->q / WIDE;
    job->height = lines > TILE_WIDTH_LINES && lines % POINT_ROWS == 0 ? POINT_ROWS : 1;
    job->lines = lines / job->height;
    job->plane_units = ceil_div(job->lines, TILE_WIDTH_LINES);
    job->units = p->n * job->plane_units;
    job->strips = 1;
    job->x_channel = p->x_c_stride;
    job->depth = max_i64(PLANE_FLOATS / ((p->c + p->k) * job->height * ceil_div(job->lines, job->plane_units) * WIDE), 1);
}

/* As many parts of a sample as fill the lanes best. */
static void cut_window(sparse_weights_job *job)
{
    const tge_conv2d_params *p = job->p;
    int64_t best = INT64_MAX;
    for (int64_t parts = 1; parts <= min_i64(p->p, WIDE); parts++) {
        int64_t lines = ceil_div(p->n * parts, WIDE) * ceil_div(p->p, parts);
        if (lines < best) {
            best = lines;
            job->parts = parts;
        }
    }
    job->part_rows = ceil_div(p->p, job->parts);
    job->strips = ceil_div(p->q, TILE_WIDTH_LINES);

    int64_t width = ceil_div(p->q, job->strips);
    job->height = min_i64(TILE_LINES / width, TILE_HEIGHT);
    int64_t rows = round_up(job->part_rows, job->height);
    for (;; rows -= job->height) {
        job->slab = shape_slab(&job->window, min_i64(rows, job->part_rows), 1, width);
        job->x_channel = job->slab.channel * WIDE;
        job->x_strip = p->c * job->x_channel;
        job->x_unit = job->strips * job->x_strip;
        job->gy_unit = p->k * p->q * min_i64(rows, job->part_rows) * WIDE;
        if (rows <= job->height || job->x_unit + job->gy_unit <= UNIT_FLOATS)
            break;
    }
    job->x_row = job->slab.row * WIDE;
    job->bands = ceil_div(job->part_rows, rows);
    job->units = ceil_div(p->n * job->parts, WIDE) * job->bands;
    int64_t span = (rows - 1) * p->stride_h + (p->r - 1) * p->dilation_h + 1;
    job->scratch = WIDE * max_i64(span * p->w, rows * p->q);
}

/* Lines of a channel that a tile reads. */
static int64_t tile_lines(const sparse_weights_job *job)
{
    if (job->kind == PLANE_LINES)
        return job->height * ceil_div(job->lines, job->plane_units);
    if (job->kind != WINDOW_LINES)
        return job->x_channel / WIDE;
    const axis *h = &job->window.h;
    return h->slots * (min_i64(job->slab.y - h->extra, job->height) + h->extra) * job->slab.row;
}

/* The grid as an image of its own. */
static sliding_window grid_window(const tge_conv2d_params *p)
{
    return (sliding_window){
        .h = make_axis(p->p, 0, 1, 1, 1, p->p), .w = make_axis(p->q, 0, 1, 1, 1, p->q),
        .n = p->n, .n_stride = p->y_n_stride, .c_stride = p->y_c_stride,
    };
}

static sparse_weights_job cut_sparse_weights(const tge_sparse_conv2d_params *params)
{
    const tge_conv2d_params *p = &params->conv;
    sparse_weights_job job = {.p = p, .window = forward_window(p), .points = grid_window(p)};
    job.columns = p->c * p->r * p->s;
    job.segments = params->segments;
    if (job.columns == 0 || p->n * p->p * p->q == 0)
        return job;
    const int connected = is_plain(&job.window) && p->h * p->w == 1 && p->x_c_stride == 1 && p->y_c_stride == 1;
    const int whole = is_plain(&job.window) && p->h * p->w % WIDE == 0 && job.columns * p->x_c_stride <= INT32_MAX;
    job.kind = tap_count(&job.window) > 1 ? WINDOW_LINES : connected ? SAMPLE_LINES : whole ? PLANE_LINES : POINT_LINES;
    if (job.kind == WINDOW_LINES)
        cut_window(&job);
    else if (job.kind == PLANE_LINES)
        cut_planes(&job);
    else
        cut_lines(&job);
    if (job.kind != PLANE_LINES)
        job.depth = max_i64(UNIT_FLOATS / max_i64(job.x_unit + job.gy_unit, 1), 1);
    job.depth = min_i64(job.depth, job.units);

    int64_t channels = max_i64(CACHED_LINES / tile_lines(&job), 1);
    job.block = even_block(min_i64(job.columns, SEGMENT), channels * tap_count(&job.window), 1);
    job.blocks = ceil_div(min_i64(job.columns, SEGMENT), job.block);
    job.chunks = min_i64(max_i64(p->k / SHARED_ROWS, 2), CHUNKS);
    return job;
}

/* ---- workspace: offsets, starts, lines of x and gy, and a part for each worker ---- */

static int64_t starts_count(const sparse_weights_job *job) { return job->segments * (job->blocks + 1) * job->p->k; }

static int64_t sparse_weights_floats(const sparse_weights_job *job, int64_t threads)
{
    if (job->units == 0)
        return 0;
    return round_up(job->columns, WIDE) + round_up(starts_count(job), WIDE) + job->depth * (job->x_unit + job->gy_unit)
        + threads * job->scratch;
}

static void share_workspace(sparse_weights_job *job, void *workspace)
{
    job->offset = workspace;
    job->starts = job->offset + round_up(job->columns, WIDE);
    job->x_lines = (float *)(job->starts + round_up(starts_count(job), WIDE));
    job->gy_lines = job->x_lines + job->depth * job->x_unit;
    job->scratches = job->gy_lines + job->depth * job->gy_unit;
}

/* ---- what a unit is ---- */

/* Lines [first, end) of the points, or of one plane. */
static inline int64_t unit_line(const sparse_weights_job *job, int64_t unit) { return unit * job->lines / job->units; }
static inline int64_t plane_line(const sparse_weights_job *job, int64_t unit) { return unit * job->lines / job->plane_units; }

/* Where a unit begins in the first plane of an image. */
static inline int64_t plane_start(const sparse_weights_job *job, int64_t unit, int64_t n_stride)
{
    return unit / job->plane_units * n_stride + plane_line(job, unit % job->plane_units) * job->height * WIDE;
}

/* Grid rows [first, end) of each part of samples, and columns [first, end) of a strip. */
static inline int64_t band_row(const sparse_weights_job *job, int64_t i) { return i * job->part_rows / job->bands; }
static inline int64_t strip_column(const sparse_weights_job *job, int64_t strip) { return strip * job->p->q / job->strips; }

static inline int64_t unit_rows(const sparse_weights_job *job, int64_t unit)
{
    if (job->kind != WINDOW_LINES)
        return job->height;
    const int64_t i = unit % job->bands;
    return band_row(job, i + 1) - band_row(job, i);
}

static inline int64_t unit_width(const sparse_weights_job *job, int64_t unit, int64_t strip)
{
    if (job->kind == WINDOW_LINES)
        return strip_column(job, strip + 1) - strip_column(job, strip);
    if (job->kind == PLANE_LINES)
        return plane_line(job, unit % job->plane_units + 1) - plane_line(job, unit % job->plane_units);
    return unit_line(job, unit + 1) - unit_line(job, unit);
}

/* Tiles of a unit's rows, about equally high, and the first row of one. */
static inline int64_t row_tiles(const sparse_weights_job *job, int64_t rows) { return ceil_div(rows, job->height); }
static inline int64_t tile_row(const sparse_weights_job *job, int64_t rows, int64_t tile) { return tile * rows / row_tiles(job, rows); }

#endif
