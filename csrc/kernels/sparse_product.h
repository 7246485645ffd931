/* A correlation whose weights are compressed rows: each non-zero adds a multiple of one row of a panel to the sums of its output.
 *
 * The grid is worked on in tiles: up to SPARSE_TILE grid points along one row of the grid, which goes through all samples. A panel holds what
 * the window reads there, [column][point], where a column is a channel and a tap, numbered as the weights are. Tiles start on whole
 * vectors whatever the image's width and the taps are, so every load of the inner loop is aligned. Columns come in blocks whose panel
 * stays in the first cache; between blocks the sums wait in a buffer. A sum adds in the order of the columns, wherever they are cut.
 */
#ifndef TGE_SPARSE_PRODUCT_H
#define TGE_SPARSE_PRODUCT_H

#include "conv2d_geometry.h"
#include "sparse.h"

enum {
    SPARSE_TILE = 64,
    UNIT = 16, /* tiles are whole units, so that workspaces are the same for all instruction sets */
    BLOCK_FLOATS = 5632, /* of a panel: the first cache less what streams through it */
    SEGMENT = 65536, /* what a column of 16 bits can number */
};

/* The non-zeros of one output in one block of columns: [begin, begin + count) of values and columns. */
typedef struct { int32_t output, begin, count; } stretch;

typedef struct {
    int64_t lanes, tile, row_tiles, tiles;       /* grid points of a row, of a tile; tiles of a row, of the grid */
    int64_t width, block, segment_blocks, blocks; /* columns of the weights, of a block; blocks of a segment, of the weights */
    int64_t part, parts;                         /* the outputs are cut where there are few tiles */
    int64_t items, per_chunk, chunks;            /* an item is a part and a tile */
    int64_t index_bytes, panel_floats, floats;   /* of the stretches; of a worker's panel; of all that a worker has */
} sparse_cut;

static inline int64_t round_bytes(int64_t bytes) { return round_up(bytes, 64); }

static sparse_cut cut_sparse(const correlation *p)
{
    sparse_cut cut;
    cut.lanes = p->window.n * p->window.w.grid;
    cut.tile = even_block(cut.lanes, SPARSE_TILE, UNIT);
    cut.row_tiles = ceil_div(cut.lanes, cut.tile);
    cut.tiles = p->window.h.grid * cut.row_tiles;

    cut.width = p->channels * tap_count(&p->window);
    cut.block = min_i64(even_block(min_i64(cut.width, SEGMENT), BLOCK_FLOATS / cut.tile, 1), SEGMENT);
    cut.segment_blocks = ceil_div(SEGMENT, cut.block);
    cut.blocks = cut.width / SEGMENT * cut.segment_blocks + max_i64(ceil_div(cut.width % SEGMENT, cut.block), cut.width < SEGMENT);

    int64_t parts = min_i64(ceil_div(2 * CHUNKS, max_i64(cut.tiles, 1)), ceil_div(p->outputs, 64));
    cut.part = max_i64(ceil_div(p->outputs, max_i64(parts, 1)), 1);
    cut.parts = ceil_div(p->outputs, cut.part);
    cut.items = cut.parts * cut.tiles;
    cut.per_chunk = max_i64(ceil_div(cut.items, 4 * CHUNKS), 1);
    cut.chunks = ceil_div(cut.items, cut.per_chunk);

    int64_t lists = cut.parts * cut.blocks;
    cut.index_bytes = round_bytes(lists * cut.part * (int64_t)sizeof(stretch)) + round_bytes(lists * (int64_t)sizeof(int32_t));
    cut.panel_floats = cut.block * cut.tile;
    cut.floats = cut.panel_floats + round_up(cut.part, UNIT) * cut.tile;
    return cut;
}

static inline int64_t block_start(const sparse_cut *cut, int64_t block)
{
    return block / cut->segment_blocks * SEGMENT + block % cut->segment_blocks * cut->block;
}

static inline int64_t block_end(const sparse_cut *cut, int64_t block)
{
    int64_t segment_end = min_i64((block / cut->segment_blocks + 1) * SEGMENT, cut->width);
    return min_i64(block_start(cut, block) + cut->block, segment_end);
}

/* Where the non-zeros of each part and block are: `found[list]` stretches from list * part on. */
typedef struct {
    const float *values;
    const uint16_t *columns; /* less those of segments before */
    stretch *stretches;
    int32_t *found;
} sparse_index;

/* ---- the panel ---- */

/* A vector of a panel's row: lanes [low, high) are positions from, from + step, ... of an image; the others are zero. */
typedef struct {
    int64_t from;
    int32_t lane, low, high;
} panel_vector;

/* Points [point, point + count) of the grid's row, in one sample. */
typedef struct { int64_t sample, point, lane, count; } grid_piece;

typedef struct {
    int64_t row, first, lanes; /* of the grid; lanes [first, first + lanes) of it */
    int64_t pieces;
    grid_piece piece[SPARSE_TILE];
} sparse_tile;

static void find_pieces(sparse_tile *t, const correlation *p, const sparse_cut *cut, int64_t tile)
{
    int64_t grid = p->window.w.grid;
    t->row = tile % p->window.h.grid;
    t->first = tile / p->window.h.grid * cut->tile;
    t->lanes = min_i64(cut->lanes - t->first, cut->tile);
    t->pieces = 0;
    for (int64_t lane = 0; lane < t->lanes; t->pieces++) {
        int64_t point = (t->first + lane) % grid;
        t->piece[t->pieces] = (grid_piece){(t->first + lane) / grid, point, lane, min_i64(grid - point, t->lanes - lane)};
        lane += t->piece[t->pieces].count;
    }
}

/* How to fill a row of the panel for tap j of the grid's row; at most SPARSE_TILE vectors. */
static int64_t find_vectors(panel_vector *vectors, const sparse_tile *t, const sliding_window *window, int64_t j)
{
    const axis *w = &window->w;
    int64_t found = 0;
    for (const grid_piece *s = t->piece; s < t->piece + t->pieces; s++) {
        int64_t start = w->origin + s->point * w->step + j * w->dilation, image = s->sample * window->n_stride;
        int64_t low = min_i64(start < 0 ? ceil_div(-start, w->step) : 0, s->count);
        int64_t high = max_i64(start < w->size ? min_i64(ceil_div(w->size - start, w->step), s->count) : 0, low);
        if (w->step == 1) {
            for (int64_t x = 0; x < s->count; x += VL)
                vectors[found++] = (panel_vector){image + start + x, (int32_t)(s->lane + x), (int32_t)max_i64(low - x, 0),
                                                  (int32_t)max_i64(min_i64(high - x, VL), 0)};
            continue;
        }
        for (int64_t x = 0; x < low; x += VL)
            vectors[found++] = (panel_vector){image, (int32_t)(s->lane + x), 0, 0};
        for (int64_t x = low; x < high; x += VL)
            vectors[found++] = (panel_vector){image + start + x * w->step, (int32_t)(s->lane + x), 0, (int32_t)min_i64(high - x, VL)};
        for (int64_t x = high; x < s->count; x += VL)
            vectors[found++] = (panel_vector){image, (int32_t)(s->lane + x), 0, 0};
    }
    for (int64_t lane = t->lanes; lane < round_up(t->lanes, UNIT); lane += VL)
        vectors[found++] = (panel_vector){0, (int32_t)lane, 0, 0};
    return found;
}

/* The rows of a panel for columns [start, end). */
static void fill_panel(float *panel, const correlation *p, const sparse_tile *t, int64_t tile, int64_t start, int64_t end)
{
    const axis *h = &p->window.h, *w = &p->window.w;
    const float *source = p->source;
    int64_t taps = tap_count(&p->window);
    for (int64_t j = 0; j < w->taps; j++) {
        panel_vector vectors[SPARSE_TILE + UNIT];
        int64_t count = find_vectors(vectors, t, &p->window, j);
        for (int64_t column = start + (j - start % w->taps + w->taps) % w->taps; column < end; column += w->taps) {
            int64_t row = h->origin + t->row * h->step + column % taps / w->taps * h->dilation;
            int inside = row >= 0 && row < h->size;
            const float *from = source + column / taps * p->window.c_stride + (inside ? row * w->size : 0);
            float *to = panel + (column - start) * tile;
            for (const panel_vector *v = vectors; v < vectors + count; v++) {
                vf value = {0};
                if (inside && w->step == 1)
                    value = vload_masked(from + v->from, lanes_between(v->low, v->high));
                else if (inside && v->high > 0)
                    value = vload_strided(from + v->from, w->step, v->high);
                vstore_upto(to + v->lane, tile - v->lane, value);
            }
        }
    }
}

/* Whether the image is a matrix [point][channel], as the input of a linear layer is. */
static int is_matrix(const correlation *p) { return is_plain(&p->window) && p->window.w.grid == 1 && p->window.h.grid == 1 && p->window.c_stride == 1 && p->out_c == 1; }

/* ---- the product ---- */

/* All sums of a part over one block, `units` whole units of each. */
ALWAYS_INLINE void add_block_of(int units, const stretch *first, const stretch *end, const float *values, const uint16_t *columns,
                                int64_t base, const float *panel, float *sums, int64_t tile, int add)
{
    enum { VECTORS = UNIT / VL };
    for (const stretch *s = first; s < end; s++) {
        vf sum[SPARSE_TILE / VL];
        float *to = sums + s->output * tile;
        _Pragma("GCC unroll 16") for (int v = 0; v < units * VECTORS; v++) sum[v] = add ? vload(to + v * VL) : (vf){0};
        for (int64_t at = s->begin, last = s->begin + s->count; at < last; at++) {
            const vf value = vsplat(values[at]);
            const float *from = panel + (columns[at] - base) * tile;
            _Pragma("GCC unroll 16") for (int v = 0; v < units * VECTORS; v++) sum[v] = vfma(value, vload(from + v * VL), sum[v]);
        }
        _Pragma("GCC unroll 16") for (int v = 0; v < units * VECTORS; v++) vstore(to + v * VL, sum[v]);
    }
}

/* As many units at a time as the registers hold. */
static void add_block(int64_t units, const stretch *first, const stretch *end, const float *values, const uint16_t *columns, int64_t base,
                      const float *panel, float *sums, int64_t tile, int add)
{
#if defined(TGE_AVX512) || defined(TGE_AVX2) || defined(TGE_NEON)
    enum { MOST = 4 };
#else
    enum { MOST = 2 };
#endif
    for (; units > 0; units -= MOST, panel += MOST * UNIT, sums += MOST * UNIT)
        switch (min_i64(units, MOST)) {
        case 1: add_block_of(1, first, end, values, columns, base, panel, sums, tile, add); break;
        case 2: add_block_of(2, first, end, values, columns, base, panel, sums, tile, add); break;
        case 3: add_block_of(3, first, end, values, columns, base, panel, sums, tile, add); break;
        case 4: add_block_of(4, first, end, values, columns, base, panel, sums, tile, add); break;
        }
}

/* Sums [output][point] to where the output has them. */
static void spread_tile(const correlation *p, const sparse_tile *t, float *out, const float *sums, int64_t tile, int64_t outputs)
{
    out += p->out_start + t->row * p->out_h;
    for (int64_t m = 0; m < outputs; m++)
        for (const grid_piece *s = t->piece; s < t->piece + t->pieces; s++)
            store_run(out + s->sample * p->out_n + m * p->out_c + s->point * p->out_w, p->out_w, sums + m * tile + s->lane, s->count, 0);
}

static void spread_matrix(const correlation *p, const sparse_tile *t, float *out, const float *sums, int64_t tile, int64_t outputs)
{
    for (int64_t m = 0; m < outputs; m += VL)
        for (int64_t lane = 0; lane < t->lanes; lane += VL) {
            vf square[VL];
            for (int i = 0; i < VL; i++)
                square[i] = m + i < outputs ? vload(sums + (m + i) * tile + lane) : (vf){0};
            vtranspose(square);
            for (int64_t i = 0; i < min_i64(t->lanes - lane, VL); i++)
                vstore_upto(out + (t->first + lane + i) * p->out_n + m, outputs - m, square[i]);
        }
}

typedef struct {
    const correlation *p;
    sparse_cut cut;
    sparse_index index;
    float *workspace;
} sparse_job;

static void sparse_item(const sparse_job *job, int64_t item, float *panel)
{
    const correlation *p = job->p;
    const sparse_cut *cut = &job->cut;
    int64_t part = item % cut->parts, outputs = min_i64(p->outputs - part * cut->part, cut->part);
    float *sums = panel + cut->panel_floats, *out = p->out + part * cut->part * p->out_c;
    sparse_tile t;
    find_pieces(&t, p, cut, item / cut->parts);

    for (int64_t block = 0; block < cut->blocks; block++) {
        int64_t start = block_start(cut, block), end = block_end(cut, block), list = part * cut->blocks + block;
        if (is_matrix(p))
            pack_panel(panel, (int)cut->tile, p->source + t.first * p->window.n_stride + start, p->window.n_stride, 1, t.lanes, end - start);
        else
            fill_panel(panel, p, &t, cut->tile, start, end);
        const stretch *first = job->index.stretches + list * cut->part;
        add_block(ceil_div(t.lanes, UNIT), first, first + job->index.found[list], job->index.values, job->index.columns, start % SEGMENT,
                  panel, sums, cut->tile, block > 0);
    }
    (is_matrix(p) ? spread_matrix : spread_tile)(p, &t, out, sums, cut->tile, outputs);
}

static void sparse_chunk(void *context, int64_t chunk)
{
    const sparse_job *job = context;
    int64_t first = chunk * job->cut.per_chunk, end = min_i64(first + job->cut.per_chunk, job->cut.items);
    for (int64_t item = first; item < end; item++)
        sparse_item(job, item, job->workspace + tge_worker() * job->cut.floats);
}

#endif
