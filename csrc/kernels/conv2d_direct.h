/* A correlation as a dense product whose right operand is packed straight from the image.
 *
 * A band of the grid gives the columns of the product. For a block of channels its slab (window.h) is filled, B panels are packed from
 * the slab, and all rows m are multiplied (product.h). The matrix of columns (im2col) never exists but for one band and one block.
 */
#ifndef TGE_CONV2D_DIRECT_H
#define TGE_CONV2D_DIRECT_H

#include "conv2d.h"

typedef struct {
    band_cut bands;
    int64_t c_block;                  /* channels packed at a time */
    int64_t part, parts;              /* the outputs are cut where there are few bands */
    int64_t items, per_chunk, chunks; /* an item is a group, a part and a band */
    int in_place; /* a grid that reads the image as it is needs no slab */
    int64_t slab_floats, a_floats, b_floats, floats; /* for one worker */
} correlation_cut;

/* Cut from the shape alone. Where the weights fit one A block they are packed once for the bands of a chunk; else they are packed again for
 * each band, which a wide band pays for. */
static correlation_cut cut_correlation(const correlation *p)
{
    correlation_cut cut;
    int64_t taps = max_i64(tap_count(&p->window), 1);
    cut.c_block = even_block(p->channels, max_i64(KC / taps, 1), 1);
    int64_t k_block = cut.c_block * taps;
    int64_t most = p->channels <= cut.c_block && p->outputs <= OUT_BLOCK ? BAND : WIDE_BAND;
    cut.bands = cut_bands(&p->window, k_block <= KC ? most : max_i64(KC * most / k_block, 32));

    int64_t bands = cut.bands.row_bands * cut.bands.column_bands, points = cut.bands.rows * cut.bands.width;
    int64_t flops = 2 * points * p->outputs * max_i64(p->channels, 1) * taps;
    int64_t parts = min_i64(ceil_div(CHUNKS, max_i64(p->groups * bands, 1)), max_i64(flops / CHUNK_FLOPS, 1));
    cut.part = even_block(p->outputs, max_i64(ceil_div(p->outputs, parts), 1), ROW_MULTIPLE);
    cut.parts = ceil_div(p->outputs, cut.part);
    cut.items = p->groups * cut.parts * bands;
    cut.per_chunk = max_i64(CHUNK_FLOPS / max_i64(flops / max_i64(cut.parts, 1), 1), cut.items / (4 * CHUNKS));
    cut.per_chunk = max_i64(min_i64(cut.per_chunk, cut.items), 1);
    cut.chunks = ceil_div(cut.items, cut.per_chunk);

    cut.in_place = is_plain(&p->window);
    cut.slab_floats = cut.in_place ? 0 : slab_floats(&p->window, &cut.bands, cut.c_block);
    cut.a_floats = packed_floats(min_i64(cut.part, OUT_BLOCK), k_block);
    cut.b_floats = packed_floats(round_up(points, COLUMN_MULTIPLE), k_block);
    cut.floats = cut.slab_floats + cut.a_floats + cut.b_floats;
    return cut;
}

/* Columns [lane, lane + count) of a panel: contiguous in the slab (or the image), out_w apart in the output. */
typedef struct { int64_t lane, count, slab, out; } run;

/* The runs of a band, panel after panel; slab_gap is what lies between samples besides their rows. */
typedef struct {
    run runs[WIDE_BAND + WIDE_BAND / NR + 1];
    int64_t first[WIDE_BAND / NR + 2]; /* of each panel's runs, and the end */
} band_runs;

static void find_runs(band_runs *found, const correlation *p, const band *b, int64_t slab_row, int64_t slab_gap)
{
    int64_t sample = b->row / p->window.h.grid, g = b->row % p->window.h.grid, q = 0, slab = 0;
    int64_t columns = b->rows * b->width, count = 0;
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
    int64_t columns = end[-1].lane + end[-1].count;
    if (end - first == 1) {
        pack_panel(panel, NR, image + first->slab, 1, c_stride, columns, channels);
        return;
    }
    if (columns < NR)
        memset(panel, 0, sizeof(float) * (size_t)(channels * NR));
    for (int64_t c = 0; c < channels; c++, image += c_stride, panel += NR)
        for (const run *r = first; r < end; r++)
            for (int64_t lane = 0; lane < r->count; lane += VL)
                vstore(panel + r->lane + lane, vload_upto(image + r->slab + lane, r->count - lane));
}

/* Multiply one A panel by one B panel and put the tile where its runs say. */
static void multiply_panel(float *out, const correlation *p, const float *a, const float *b, int64_t outputs, int64_t k_count,
                           const run *first, const run *end, int add)
{
    int64_t columns = end[-1].lane + end[-1].count;
    int contiguous = p->out_w == 1;
    for (const run *r = first; r < end; r++)
        contiguous = contiguous && r->out == first->out + r->lane;
    if (contiguous && outputs % ROW_STEP == 0 && columns % VL == 0) {
        tile(outputs, columns, k_count, a, b, NR, out + first->out, p->out_c, add);
        return;
    }
    float edge[MR * NR + VL];
    tile(outputs, columns, k_count, a, b, NR, edge, NR, 0);
    run whole = {0, columns, 0, first->out};
    for (int64_t m = 0; m < outputs; m++)
        for (const run *r = contiguous ? &whole : first; r < (contiguous ? &whole + 1 : end); r++)
            store_run(out + m * p->out_c + r->out, p->out_w, edge + m * NR + r->lane, r->count, add);
}

/* `again` says that the item before, on the same workspace, had the same weights. */
static void correlate_item(const correlation *p, const correlation_cut *cut, int64_t item, int again, float *workspace)
{
    int64_t bands = cut->bands.row_bands * cut->bands.column_bands;
    int64_t group = item / bands / cut->parts, part = item / bands % cut->parts;
    band b = band_at(&p->window, &cut->bands, item % bands);
    int64_t m0 = part * cut->part, outputs = min_i64(p->outputs - m0, cut->part);

    const float *source = p->source + group * p->channels * p->window.c_stride;
    const float *weights = p->weights + group * p->w_group + m0 * p->w_output;
    float *out = p->out + (group * p->outputs + m0) * p->out_c;
    float *slab = workspace, *a = slab + cut->slab_floats, *panels = a + cut->a_floats;

    const axis *h = &p->window.h;
    slab_shape s = band_slab(&p->window, &b);
    int64_t gap = h->extra * s.row;
    if (cut->in_place) {
        s.row = p->window.w.size;
        gap = p->window.n_stride - h->size * s.row;
        source += b.row / h->grid * p->window.n_stride + b.row % h->grid * s.row + b.q;
    }
    band_runs found;
    find_runs(&found, p, &b, s.row, gap);
    int64_t columns = b.rows * b.width;
    int packed = again && p->channels <= cut->c_block && outputs <= OUT_BLOCK;

    int64_t c0 = 0;
    do { /* once for no channels as well: the sum of nothing is 0 */
        int64_t channels = min_i64(p->channels - c0, cut->c_block), k_count = channels * tap_count(&p->window);
        const float *image = source + c0 * p->window.c_stride;
        if (!cut->in_place)
            fill_slab(slab, image, &p->window, &b, channels);
        for (int64_t j = 0; j < columns; j += NR) {
            const int64_t *first = &found.first[j / NR];
            if (cut->in_place)
                pack_in_place(panels + j * k_count, image, p->window.c_stride, found.runs + first[0], found.runs + first[1], channels);
            else
                pack_columns(panels + j * k_count, slab, p, &s, found.runs + first[0], found.runs + first[1], channels);
        }

        for (int64_t block = 0; block < outputs; block += OUT_BLOCK) {
            int64_t rows = min_i64(outputs - block, OUT_BLOCK);
            for (int64_t i = 0; i < rows && !packed; i += MR)
                pack_weights(a + i * k_count, weights + (block + i) * p->w_output + c0 * p->w_channel, p, min_i64(rows - i, MR), channels);
            for (int64_t j = 0; j < columns; j += NR) {
                const int64_t *first = &found.first[j / NR];
                for (int64_t i = 0; i < rows; i += MR)
                    multiply_panel(out + (block + i) * p->out_c, p, a + i * k_count, panels + j * k_count, min_i64(rows - i, MR), k_count,
                                   found.runs + first[0], found.runs + first[1], c0 > 0);
            }
        }
        c0 += cut->c_block;
    } while (c0 < p->channels);
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
    int64_t bands = job->cut.bands.row_bands * job->cut.bands.column_bands;
    float *workspace = job->workspace + tge_worker() * job->cut.floats;
    for (int64_t item = first; item < end; item++)
        correlate_item(job->p, &job->cut, item, item > first && item % bands != 0, workspace);
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
