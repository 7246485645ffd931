/* A correlation as a dense product whose right operand is packed straight from the image.
 *
 * A band of the grid gives the columns of the product. For a block of channels its slab (window.h) is filled, B panels are packed from
 * the slab, and all rows m are multiplied (product.h). The matrix of columns (im2col) never exists but for one band and one block.
 */
#ifndef TGE_CONV2D_DIRECT_H
#define TGE_CONV2D_DIRECT_H

#include "conv2d.h"

typedef struct {
    int in_place;     /* a grid that reads the image as it is needs no slab, */
    int64_t points;   /* of the widest band, which then is any stretch of grid points; */
    band_cut cut;     /* else it is one of these */
    int64_t bands;
    int64_t c_block;                  /* channels packed at a time */
    int64_t part, parts;              /* the outputs are cut where there are few bands */
    int64_t items, per_chunk, chunks; /* an item is a group, a part and a band */
    int64_t slab_floats, a_floats, b_floats, sums_floats, floats; /* for one worker */
} correlation_cut;

/* Cut from the shape alone. A wide band pays for packing the weights again for each, and lets whole stretches of the output be written;
 * its packed columns should stay in the second-level cache, and there should be a band for each chunk. */
static correlation_cut cut_correlation(const correlation *p)
{
    correlation_cut cut;
    int64_t taps = max_i64(tap_count(&p->window), 1);
    cut.c_block = even_block(p->channels, max_i64(KC / taps, 1), 1);
    int64_t k_block = cut.c_block * taps;
    int64_t points = p->window.n * p->window.h.grid * p->window.w.grid;
    int64_t least = p->channels <= cut.c_block && p->outputs <= OUT_BLOCK ? BAND : 2 * BAND;
    int64_t most = min_i64(min_i64(BAND_FLOATS / max_i64(k_block, 1), WIDE_BAND), max_i64(points / CHUNKS, least));
    cut.in_place = is_plain(&p->window);
    if (cut.in_place) {
        int64_t panels = ceil_div(points, COLUMN_MULTIPLE);
        cut.bands = min_i64(even_count(points, most), panels);
        if (ceil_div(panels, max_i64(cut.bands, 1)) * COLUMN_MULTIPLE > WIDE_BAND)
            cut.bands += CHUNKS;
        cut.points = ceil_div(panels, max_i64(cut.bands, 1)) * COLUMN_MULTIPLE;
    } else {
        cut.cut = cut_bands(&p->window, max_i64(most, 32));
        int64_t rows = p->window.n * p->window.h.grid, bands = even_count(cut.cut.row_bands, 1);
        if (bands <= rows && ceil_div(rows, max_i64(bands, 1)) * cut.cut.width <= WIDE_BAND) {
            cut.cut.row_bands = bands;
            cut.cut.rows = ceil_div(rows, max_i64(bands, 1));
        }
        cut.points = cut.cut.rows * cut.cut.width;
        cut.bands = cut.cut.row_bands * cut.cut.column_bands;
    }

    int64_t flops = 2 * cut.points * p->outputs * max_i64(p->channels, 1) * taps;
    int64_t wanted = cut.in_place ? CHUNKS : CHUNKS / 2; /* each part fills and packs the slab again */
    int64_t parts = min_i64(ceil_div(wanted, max_i64(p->groups * cut.bands, 1)), max_i64(flops / CHUNK_FLOPS, 1));
    cut.part = even_block(p->outputs, max_i64(ceil_div(p->outputs, parts), 1), ROW_MULTIPLE);
    cut.parts = ceil_div(p->outputs, cut.part);
    cut.items = p->groups * cut.parts * cut.bands;
    cut.per_chunk = max_i64(CHUNK_FLOPS / max_i64(flops / max_i64(cut.parts, 1), 1), cut.items / (4 * CHUNKS));
    cut.per_chunk = max_i64(min_i64(cut.per_chunk, cut.items), 1);
    cut.chunks = ceil_div(cut.items, cut.per_chunk);

    cut.slab_floats = cut.in_place ? 0 : slab_floats(&p->window, &cut.cut, cut.c_block);
    cut.a_floats = packed_floats(min_i64(cut.part, OUT_BLOCK), k_block);
    cut.b_floats = packed_floats(round_up(cut.points, COLUMN_MULTIPLE), k_block);
    cut.sums_floats = p->out_w == 1 ? 0 : round_up(cut.part, ROW_MULTIPLE) * round_up(cut.points, COLUMN_MULTIPLE);
    cut.floats = cut.slab_floats + cut.a_floats + cut.b_floats + cut.sums_floats;
    return cut;
}

/* Columns [lane, lane + count) of a panel: contiguous in the slab (or the image), out_w apart in the output. */
typedef struct { int64_t lane, count, slab, out; } run;

/* The runs of a band, panel after panel. */
typedef struct {
    run runs[WIDE_BAND + WIDE_BAND / NR + 1];
    int64_t first[WIDE_BAND / NR + 2]; /* of each panel's runs, and the end */
} band_runs;

/* `columns` grid points from point `start` of the band's first row on. Rows of the slab (or the image) are slab_row apart, and slab_gap more
 * between samples. */
static void find_runs(band_runs *found, const correlation *p, const band *b, int64_t start, int64_t columns, int64_t slab_row,
                      int64_t slab_gap)
{
    int64_t sample = b->row / p->window.h.grid, g = b->row % p->window.h.grid, q = start, slab = 0, count = 0;
    for (int64_t panel = 0; panel * NR < columns; panel++) {
        found->first[panel] = count;
        int64_t end = min_i64(columns - panel * NR, NR);
        for (int64_t lane = 0; lane < end; count++) {
            run r = {lane, min_i64(end - lane, b->width - q), slab + q,
                     sample * p->out_n + g * p->out_h + (b->q + q) * p->out_w};
            found->runs[count] = r;
            lane += r.count;
            q += r.count;
            if (q < b->width)
                continue;
            q = 0;
            slab += slab_row;
            if (++g == p->window.h.grid) {
                g = 0;
                sample++;
                slab += slab_gap;
            }
        }
        found->first[panel + 1] = count;
    }
}

/* One B panel from the slab. Runs are copied as whole vectors in ascending order, each repaired by the next. */
static void pack_columns(float *panel, const float *slab, const correlation *p, const slab_shape *s, const run *first, const run *end,
                         int64_t channels)
{
    const axis *h = &p->window.h, *w = &p->window.w;
    if (end[-1].lane + end[-1].count < NR)
        memset(panel, 0, sizeof(float) * (size_t)(channels * tap_count(&p->window) * NR));
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < h->taps; i++)
            for (int64_t j = 0; j < w->taps; j++, panel += NR) {
                const float *from = slab + c * s->channel + slab_tap(&p->window, s, i, j);
                for (const run *r = first; r < end; r++)
                    for (int64_t lane = 0; lane < r->count; lane += VL)
                        vstore(panel + r->lane + lane, vload(from + r->slab + lane));
            }
}

/* One B panel from the image. */
static void pack_in_place(float *panel, const float *image, int64_t c_stride, const run *first, const run *end, int64_t channels)
{
    if (end[-1].lane + end[-1].count < NR)
        memset(panel, 0, sizeof(float) * (size_t)(channels * NR));
    for (int64_t c = 0; c < channels; c++, image += c_stride, panel += NR)
        for (const run *r = first; r < end; r++)
            for (int64_t lane = 0; lane < r->count; lane += VL)
                vstore(panel + r->lane + lane, vload_upto(image + r->slab + lane, r->count - lane));
}

/* Multiply one A panel by one B panel, which is packed from `image` meanwhile unless that is NULL. */
static void multiply_panel(int64_t outputs, int64_t columns, int64_t k_count, const float *a, float *b, const float *image, int64_t c_stride,
                           float *to, int64_t to_stride, int add)
{
    if (image)
        tile_packing(outputs, k_count, a, image, c_stride, b, to, to_stride, add);
    else
        tile(outputs, columns, k_count, a, b, NR, to, to_stride, add);
}

/* The same, with the tile put where its runs say. */
static void multiply_runs(float *out, const correlation *p, const float *a, float *b, const float *image, int64_t outputs, int64_t k_count,
                          const run *first, const run *end, int add)
{
    int64_t columns = end[-1].lane + end[-1].count, c_stride = p->window.c_stride;
    int contiguous = 1;
    for (const run *r = first; r < end; r++)
        contiguous = contiguous && r->out == first->out + r->lane;
    if (contiguous && outputs % ROW_STEP == 0 && columns % VL == 0) {
        multiply_panel(outputs, columns, k_count, a, b, image, c_stride, out + first->out, p->out_c, add);
        return;
    }
    float edge[MR * NR + VL];
    multiply_panel(outputs, columns, k_count, a, b, image, c_stride, edge, NR, 0);
    run whole = {0, columns, 0, first->out};
    for (int64_t m = 0; m < outputs; m++)
        for (const run *r = contiguous ? &whole : first; r < (contiguous ? &whole + 1 : end); r++)
            store_run(out + m * p->out_c + r->out, 1, edge + m * NR + r->lane, r->count, add);
}

/* Rows of sums to a strided output, in pieces as long as rows of the grid. */
static void spread_sums(float *out, const correlation *p, const float *sums, int64_t sums_row, int64_t outputs, const run *first,
                        const run *end)
{
    for (int64_t m = 0; m < outputs; m++, sums += sums_row) {
        const float *from = sums;
        for (const run *r = first; r < end; r++) {
            int64_t count = r->count, start = r->out;
            for (; r + 1 < end && r[1].out == start + count * p->out_w; r++)
                count += r[1].count;
            store_run(out + m * p->out_c + start, p->out_w, from, count, 0);
            from += count;
        }
    }
}

/* `again` says that the item before, on the same workspace, had the same weights. */
static void correlate_item(const correlation *p, const correlation_cut *cut, int64_t item, int again, float *workspace)
{
    int64_t group = item / cut->bands / cut->parts, part = item / cut->bands % cut->parts;
    int64_t m0 = part * cut->part, outputs = min_i64(p->outputs - m0, cut->part);

    const float *source = p->source + group * p->channels * p->window.c_stride;
    const float *weights = p->weights + group * p->w_group + m0 * p->w_output;
    float *out = p->out + (group * p->outputs + m0) * p->out_c;
    float *slab = workspace, *a = slab + cut->slab_floats, *panels = a + cut->a_floats, *sums = panels + cut->b_floats;

    const axis *h = &p->window.h, *w = &p->window.w;
    band b;
    slab_shape s = {0};
    band_runs found;
    int64_t columns;
    if (cut->in_place) {
        int64_t plane = h->grid * w->grid, points = p->window.n * plane, panels = ceil_div(points, COLUMN_MULTIPLE);
        int64_t band_index = item % cut->bands, first = band_index * panels / cut->bands * COLUMN_MULTIPLE;
        b = (band){first / w->grid, 0, 0, w->grid};
        columns = min_i64((band_index + 1) * panels / cut->bands * COLUMN_MULTIPLE, points) - first;
        source += first / plane * p->window.n_stride + b.row % h->grid * w->grid;
        find_runs(&found, p, &b, first % w->grid, columns, w->grid, p->window.n_stride - plane);
    } else {
        b = band_at(&p->window, &cut->cut, item % cut->bands);
        s = band_slab(&p->window, &b);
        columns = b.rows * b.width;
        find_runs(&found, p, &b, 0, columns, s.row, h->extra * s.row);
    }
    int strided = p->out_w != 1;
    int64_t sums_row = round_up(columns, COLUMN_MULTIPLE);
    int packed = again && p->channels <= cut->c_block && outputs <= OUT_BLOCK;

    int64_t c0 = 0;
    do { /* once for no channels as well: the sum of nothing is 0 */
        int64_t channels = min_i64(p->channels - c0, cut->c_block), k_count = channels * tap_count(&p->window);
        const float *image = source + c0 * p->window.c_stride;
        if (!cut->in_place)
            fill_slab(slab, image, &p->window, &b, channels);
        for (int64_t j = 0; j < columns; j += NR) {
            const run *first = found.runs + found.first[j / NR], *end = found.runs + found.first[j / NR + 1];
            if (!cut->in_place)
                pack_columns(panels + j * k_count, slab, p, &s, first, end, channels);
            else if (first->count < NR)
                pack_in_place(panels + j * k_count, image, p->window.c_stride, first, end, channels);
        }

        for (int64_t block = 0; block < outputs; block += OUT_BLOCK) {
            int64_t rows = min_i64(outputs - block, OUT_BLOCK);
            for (int64_t i = 0; i < rows && !packed; i += MR)
                pack_weights(a + i * k_count, weights + (block + i) * p->w_output + c0 * p->w_channel, p, min_i64(rows - i, MR), channels);
            /* Rows outside: some rows of the output are written from one end to the other, which the memory likes better. */
            for (int64_t i = 0; i < rows; i += MR)
                for (int64_t j = 0; j < columns; j += NR) {
                    const run *first = found.runs + found.first[j / NR], *end = found.runs + found.first[j / NR + 1];
                    const float *unpacked = block + i == 0 && cut->in_place && first->count == NR ? image + first->slab : NULL;
                    int64_t height = min_i64(rows - i, MR);
                    if (strided)
                        multiply_panel(height, min_i64(columns - j, NR), k_count, a + i * k_count, panels + j * k_count, unpacked,
                                       p->window.c_stride, sums + (block + i) * sums_row + j, sums_row, c0 > 0);
                    else
                        multiply_runs(out + (block + i) * p->out_c, p, a + i * k_count, panels + j * k_count, unpacked, height, k_count,
                                      first, end, c0 > 0);
                }
        }
        c0 += cut->c_block;
    } while (c0 < p->channels);
    if (strided)
        spread_sums(out, p, sums, sums_row, outputs, found.runs, found.runs + found.first[ceil_div(columns, NR)]);
}

typedef struct {
    const correlation *p;
    correlation_cut cut;
    float *workspace;
} correlation_job;

static void correlate_chunk(void *context, int64_t chunk)
{
    const correlation_job *job = context;
    int64_t first = chunk * job->cut.per_chunk, end = min_i64(first + job->cut.per_chunk, job->cut.items);
    float *workspace = job->workspace + tge_worker() * job->cut.floats;
    for (int64_t item = first; item < end; item++)
        correlate_item(job->p, &job->cut, item, item > first && item % job->cut.bands != 0, workspace);
}

static void correlate_direct(const correlation *p, float *workspace)
{
    correlation_job job = {p, cut_correlation(p), workspace};
    tge_parallel(job.cut.chunks, correlate_chunk, &job);
}

static int64_t direct_workspace(const correlation *p, int32_t threads)
{
    correlation_cut cut = cut_correlation(p);
    return workers_used(cut.chunks, threads) * cut.floats * (int64_t)sizeof(float);
}

#endif
