/* A correlation with a 3 x 3 window that moves by one, by Winograd's filtering (winograd.h).
 *
 * An item is a block of tiles, counted along rows, then over rows and samples, and a part of the outputs. Its tiles are transformed to the
 * B panels of TILE_POINTS products, lane = tile; weights are transformed to A panels a block of outputs at a time; and each register tile
 * of all the products is transformed back and stored before the next is begun.
 */
#ifndef TGE_CONV2D_WINOGRAD_H
#define TGE_CONV2D_WINOGRAD_H

#include "conv2d.h"
#include "winograd.h"

enum {
    MOST_TILES = 128,           /* of a block */
    TRANSFORMED = 160 * 1024,   /* floats of transformed tiles, or weights, that a worker should keep: what fits the second cache */
    WEIGHT_CHANNELS = 16,       /* transformed at a time */
    PRODUCT_FLOATS = 12 * 32,   /* MR * NR, at most */
};

/* Few channels, outputs or tiles do not pay for the transforms; of very many channels the tiles do not fit. */
static int suits_winograd(const correlation *p)
{
    return is_tiled(&p->window) && p->channels >= 16 && p->channels <= 1024 && p->outputs >= 16 && tile_count(&p->window) >= 8;
}

typedef struct {
    int64_t rows, columns, tiles; /* tiles along the axes of a plane, and of all samples */
    int64_t tile_block, part, parts, output_block;
    int64_t items, per_chunk, chunks;
    sliding_window window; /* the slab's: whole tiles */
    int64_t slab_floats, row_floats, v_floats, u_floats, w_floats, floats; /* for one worker */
} winograd_cut;

static winograd_cut cut_winograd(const correlation *p)
{
    winograd_cut cut = {.rows = ceil_div(p->window.h.grid, TILE_OUT), .columns = ceil_div(p->window.w.grid, TILE_OUT)};
    cut.tiles = tile_count(&p->window);
    int64_t most = TRANSFORMED / (TILE_POINTS * p->channels) / COLUMN_MULTIPLE * COLUMN_MULTIPLE;
    cut.tile_block = even_block(cut.tiles, max_i64(min_i64(most, MOST_TILES), COLUMN_MULTIPLE), COLUMN_MULTIPLE);

    int64_t blocks = ceil_div(cut.tiles, cut.tile_block);
    int64_t parts = ceil_div(CHUNKS / 2, max_i64(p->groups * blocks, 1));
    cut.part = even_block(p->outputs, max_i64(ceil_div(p->outputs, parts), OUT_BLOCK), ROW_MULTIPLE);
    cut.parts = ceil_div(p->outputs, cut.part);
    most = TRANSFORMED / (TILE_POINTS * p->channels) / ROW_MULTIPLE * ROW_MULTIPLE;
    cut.output_block = min_i64(cut.part, max_i64(most, ROW_MULTIPLE));
    cut.items = p->groups * cut.parts * blocks;
    int64_t flops = 2 * TILE_POINTS * cut.tile_block * cut.part * p->channels;
    cut.per_chunk = min_i64(max_i64(CHUNK_FLOPS / flops, cut.items / (2 * CHUNKS)), cut.items);
    cut.per_chunk = max_i64(cut.per_chunk, 1);
    cut.chunks = ceil_div(cut.items, cut.per_chunk);

    cut.window = p->window;
    cut.window.h = make_axis(p->window.h.size, p->window.h.origin, 1, 1, 3, cut.rows * TILE_OUT);
    cut.window.w = make_axis(p->window.w.size, p->window.w.origin, 1, 1, 3, cut.columns * TILE_OUT);
    int64_t tile_rows = (cut.tile_block - 2) / cut.columns + 2;
    band_cut bands = {.rows = tile_rows * TILE_OUT, .width = cut.columns * TILE_OUT};
    cut.slab_floats = slab_floats(&cut.window, &bands, 1) + 2 * PACK_SLACK;
    cut.row_floats = TILE_OUT * cut.tile_block + PACK_SLACK;
    cut.v_floats = packed_floats(cut.tile_block, p->channels);
    cut.u_floats = packed_floats(cut.output_block, p->channels);
    cut.w_floats = packed_floats(ROW_MULTIPLE, WEIGHT_CHANNELS * 9);
    cut.floats = TILE_POINTS * (cut.v_floats + cut.u_floats + PRODUCT_FLOATS);
    cut.floats += cut.w_floats + cut.slab_floats + 2 * TILE_IN * cut.row_floats;
    return cut;
}

/* Tiles [lane, lane + count) of a panel: neighbours in a row of tiles. */
typedef struct {
    int64_t lane, count;
    int64_t slab, out;     /* the first position that they read, and write */
    int64_t height, width; /* what of their outputs is in the image */
} tile_run;

typedef struct {
    tile_run runs[MOST_TILES];
    int64_t first[MOST_TILES / NR + 2]; /* of each panel's runs, and the end */
} tile_runs;

/* The runs of `tiles` tiles from `tile`, panel after panel. */
static void find_tile_runs(tile_runs *found, const correlation *p, const winograd_cut *cut, const slab_shape *s, int64_t tile,
                           int64_t tiles)
{
    int64_t count = 0, slab = 0, column = tile % cut->columns, row = tile / cut->columns;
    for (int64_t panel = 0; panel * NR < tiles; panel++) {
        found->first[panel] = count;
        int64_t end = min_i64(tiles, (panel + 1) * NR);
        for (int64_t lane = panel * NR; lane < end; count++) {
            int64_t sample = row / cut->rows, h = row % cut->rows * TILE_OUT, w = column * TILE_OUT;
            int64_t length = min_i64(end - lane, cut->columns - column);
            found->runs[count] = (tile_run){
                .lane = lane, .count = length, .slab = slab + w, .out = sample * p->out_n + h * p->out_h + w,
                .height = min_i64(p->window.h.grid - h, TILE_OUT), .width = min_i64(p->window.w.grid - w, TILE_OUT * length),
            };
            lane += length;
            column += length;
            if (column < cut->columns)
                continue;
            column = 0;
            slab += TILE_OUT * s->row;
            if (++row % cut->rows == 0)
                slab += cut->window.h.extra * s->row;
        }
        found->first[panel + 1] = count;
    }
}

/* The tiles that the runs cover, of one channel, from its slab to v[point][panel][.][lane]. Columns first, whole rows of the slab at a
 * time: `rows` takes TILE_IN rows of what tiles begin with, 4 columns each, and as many rows of the 4 columns after, of which 2 are
 * wanted. Then along rows, lane = tile. */
static void transform_tiles(float *v, const correlation *p, const winograd_cut *cut, const float *slab, int64_t slab_row, float *rows,
                            const tile_run *run, const tile_run *end)
{
    int64_t tiles = end[-1].lane + end[-1].count;
    float *rows_after = rows + TILE_IN * cut->row_floats;
    for (; run < end; run++)
        for (int after = 0; after < 2; after++) {
            const float *from = slab + run->slab + after * TILE_OUT;
            float *to = (after ? rows_after : rows) + run->lane * TILE_OUT;
            for (int64_t x = 0; x < run->count * TILE_OUT; x += VL) {
                vf d[TILE_IN], t[TILE_IN];
                for (int i = 0; i < TILE_IN; i++)
                    d[i] = vload(from + i * slab_row + x);
                transform_input(t, d);
                for (int i = 0; i < TILE_IN; i++)
                    vstore(to + i * cut->row_floats + x, t[i]);
            }
        }
    for (int64_t lane = 0; lane < tiles; lane += VL)
        for (int i = 0; i < TILE_IN; i++) {
            vf d[2 * TILE_OUT], t[TILE_IN];
            load_quads(d, rows + i * cut->row_floats + lane * TILE_OUT);
            load_quads(d + TILE_OUT, rows_after + i * cut->row_floats + lane * TILE_OUT);
            transform_input(t, d);
            float *to = v + i * TILE_IN * cut->v_floats + lane / NR * p->channels * NR + lane % NR;
            for (int j = 0; j < TILE_IN; j++)
                vstore(to + j * cut->v_floats, t[j]);
        }
}

/* One A panel of each point, u_step apart. */
static void transform_panel(float *u, int64_t u_step, const float *weights, const correlation *p, int64_t outputs, float *packed)
{
    for (int64_t c0 = 0; c0 < p->channels; c0 += WEIGHT_CHANNELS) {
        int64_t channels = min_i64(p->channels - c0, WEIGHT_CHANNELS);
        pack_weights(packed, weights + c0 * p->w_channel, p, outputs, channels);
        for (int64_t c = 0; c < channels; c++)
            for (int lane = 0; lane < MR; lane += VL) {
                vf half[TILE_IN][3];
                for (int j = 0; j < 3; j++) {
                    vf g[3], t[TILE_IN];
                    for (int i = 0; i < 3; i++)
                        g[i] = vload(packed + (c * 9 + i * 3 + j) * MR + lane);
                    transform_weights(t, g);
                    for (int i = 0; i < TILE_IN; i++)
                        half[i][j] = t[i];
                }
                for (int i = 0; i < TILE_IN; i++) {
                    vf t[TILE_IN];
                    transform_weights(t, half[i]);
                    for (int j = 0; j < TILE_IN; j++)
                        vstore(u + (i * TILE_IN + j) * u_step + (c0 + c) * MR + lane, t[j]);
                }
            }
    }
}

/* Transform the register tiles of all points back and store what is in the image. */
static void store_tiles(float *out, const correlation *p, const float *product, int64_t outputs, const tile_run *first, const tile_run *end)
{
    int64_t lane0 = first->lane, lanes = end[-1].lane + end[-1].count - lane0;
    for (int64_t m = 0; m < outputs; m++) {
        float rows[TILE_OUT][TILE_OUT * NR + VL];
        for (int64_t lane = 0; lane < lanes; lane += VL) {
            vf half[TILE_OUT][TILE_IN];
            for (int j = 0; j < TILE_IN; j++) {
                vf points[TILE_IN], t[TILE_OUT];
                for (int i = 0; i < TILE_IN; i++)
                    points[i] = vload(product + ((i * TILE_IN + j) * MR + m) * NR + lane);
                transform_output(t, points);
                for (int i = 0; i < TILE_OUT; i++)
                    half[i][j] = t[i];
            }
            for (int i = 0; i < TILE_OUT; i++) {
                vf y[TILE_OUT];
                transform_output(y, half[i]);
                store_quads(rows[i] + lane * TILE_OUT, y);
            }
        }
        for (const tile_run *run = first; run < end; run++)
            for (int64_t i = 0; i < run->height; i++)
                store_run(out + m * p->out_c + run->out + i * p->out_h, 1, rows[i] + (run->lane - lane0) * TILE_OUT, run->width, 0);
    }
}

/* `again` says that the item before, on the same workspace, had the same weights. */
static void winograd_item(const correlation *p, const winograd_cut *cut, int64_t item, int again, float *workspace)
{
    int64_t blocks = ceil_div(cut->tiles, cut->tile_block), group = item / blocks / cut->parts;
    int64_t m0 = item / blocks % cut->parts * cut->part, outputs = min_i64(p->outputs - m0, cut->part);
    int64_t tile0 = item % blocks * cut->tile_block, tiles = min_i64(cut->tiles - tile0, cut->tile_block);

    const float *image = p->source + group * p->channels * p->window.c_stride;
    const float *weights = p->weights + group * p->w_group + m0 * p->w_output;
    float *out = p->out + (group * p->outputs + m0) * p->out_c;
    float *v = workspace, *u = v + TILE_POINTS * cut->v_floats, *product = u + TILE_POINTS * cut->u_floats;
    float *packed = product + TILE_POINTS * PRODUCT_FLOATS, *slab = packed + cut->w_floats, *rows = slab + cut->slab_floats;

    band b = {tile0 / cut->columns * TILE_OUT, ((tile0 + tiles - 1) / cut->columns - tile0 / cut->columns + 1) * TILE_OUT, 0,
              cut->columns * TILE_OUT};
    slab_shape s = band_slab(&cut->window, &b);
    tile_runs found;
    find_tile_runs(&found, p, cut, &s, tile0, tiles);
    int64_t panels = ceil_div(tiles, NR);

    for (int64_t c = 0; c < p->channels; c++) {
        fill_slab(slab, image + c * p->window.c_stride, &cut->window, &b, 1);
        transform_tiles(v + c * NR, p, cut, slab, s.row, rows, found.runs, found.runs + found.first[panels]);
    }
    for (int64_t block = 0; block < outputs; block += cut->output_block) {
        int64_t count = min_i64(outputs - block, cut->output_block);
        for (int64_t i = 0; i < count; i += MR) {
            float *a = u + i * p->channels;
            int64_t height = min_i64(count - i, MR);
            if (!again || outputs > cut->output_block)
                transform_panel(a, cut->u_floats, weights + (block + i) * p->w_output, p, height, packed);
            for (int64_t j = 0; j < panels; j++) {
                const float *panel = v + j * p->channels * NR;
                for (int64_t point = 0; point < TILE_POINTS; point++)
                    tile(height, min_i64(tiles - j * NR, NR), p->channels, a + point * cut->u_floats, panel + point * cut->v_floats, NR,
                         product + point * MR * NR, NR, 0);
                store_tiles(out + (block + i) * p->out_c, p, product, height, found.runs + found.first[j], found.runs + found.first[j + 1]);
            }
        }
    }
}

typedef struct {
    const correlation *p;
    winograd_cut cut;
    float *workspace;
} winograd_job;

static void winograd_chunk(void *context, int64_t chunk)
{
    const winograd_job *job = context;
    int64_t first = chunk * job->cut.per_chunk, end = min_i64(first + job->cut.per_chunk, job->cut.items);
    int64_t blocks = ceil_div(job->cut.tiles, job->cut.tile_block);
    float *workspace = job->workspace + tge_worker() * job->cut.floats;
    for (int64_t item = first; item < end; item++)
        winograd_item(job->p, &job->cut, item, item > first && item % blocks != 0, workspace);
}

static void correlate_winograd(const correlation *p, float *workspace)
{
    winograd_job job = {p, cut_winograd(p), workspace};
    tge_parallel(job.cut.chunks, winograd_chunk, &job);
}

static int64_t winograd_workspace(const correlation *p, int32_t threads)
{
    winograd_cut cut = cut_winograd(p);
    return workers_used(cut.chunks, threads) * cut.floats * (int64_t)sizeof(float);
}

#endif
