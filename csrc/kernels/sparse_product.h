/* A correlation whose weights are compressed rows: each non-zero adds a multiple of a stretch of a panel to the sums of its output.
 *
 * A row of the grid goes through all samples, point after point. A tile is a few rows of the grid by some lanes of each, whole units of 16:
 * up to 128 grid points, or 80. The panel holds what a tile reads of some channels, [channel][tap of a row][row][lane], with the stride, padding
 * and shift of the tap along a row taken out. So all that a non-zero reads is one aligned stretch of the panel, and the taps along a column
 * share their rows. Columns of the weights come in blocks whose panel about fits the first cache; between blocks the sums wait in a buffer.
 * Planes of whole units under a 1 x 1 window want no panel: they are read, and with the last block written, where they lie.
 * A sum adds in the order of the columns, wherever these, outputs and tiles are cut.
 */
#ifndef TGE_SPARSE_PRODUCT_H
#define TGE_SPARSE_PRODUCT_H

#include "conv2d_geometry.h"
#include "sparse.h"

enum {
    UNIT = 16,               /* floats; the same for all instruction sets, as workspaces are */
    TILE_UNITS = 8,          /* at most: as many where rows of a tile share what a window reads, else fewer, and longer blocks */
    LONE_TILE_UNITS = 5,
    PANEL_UNITS = 40 * 1024 / (4 * UNIT),
    CACHE_SETS = 64,         /* of lines in the first cache */
};

/* The non-zeros of one output in one block of columns: [begin, begin + count) of values and columns. */
typedef struct { int32_t output, begin, count; } stretch;

typedef struct {
    int64_t lanes, width, rows;           /* grid points of a grid row; lanes and rows of a tile */
    int64_t lane_tiles, row_tiles, tiles;
    int64_t units;                        /* of a tile */
    int64_t slot_units, line_units, channel_units; /* of the panel: the rows of a slot, a tap of a row, a channel */
    int64_t columns, block, segment_blocks, blocks; /* columns of the weights, of a block; blocks of a segment, of the weights */
    int64_t part, parts;                  /* the outputs are cut where there are few tiles */
    int64_t items, per_chunk, chunks;     /* an item is a part and a tile */
    int64_t panel_floats, floats;         /* of a worker's panel; of all that a worker has */
} sparse_cut;

/* Whether planes of whole units are read, and written, where they lie: the rows of a tile must not share few sets of the first cache. */
static int lies_in_units(const correlation *p)
{
    const sliding_window *w = &p->window;
    return is_plain(w) && w->h.grid == 1 && w->w.grid % UNIT == 0 && w->c_stride % UNIT == 0 && w->n_stride % UNIT == 0 && p->out_w == 1
        && p->out_c % UNIT == 0 && p->out_n % UNIT == 0 && gcd(w->c_stride / UNIT, CACHE_SETS) <= TILE_UNITS;
}

static sparse_cut cut_sparse(const correlation *p)
{
    const axis *h = &p->window.h;
    sparse_cut cut;
    int64_t taps = max_i64(tap_count(&p->window), 1);
    cut.lanes = p->window.n * p->window.w.grid;
    const int64_t units = h->extra > 0 || lies_in_units(p) ? TILE_UNITS : LONE_TILE_UNITS;
    cut.rows = even_block(h->grid, units, 1);
    cut.width = even_block(cut.lanes, units / cut.rows * UNIT, UNIT);
    cut.lane_tiles = ceil_div(cut.lanes, cut.width);
    cut.row_tiles = ceil_div(h->grid, cut.rows);
    cut.tiles = cut.lane_tiles * cut.row_tiles;
    cut.units = cut.rows * cut.width / UNIT;
    cut.slot_units = (cut.rows + h->extra) * cut.width / UNIT;
    cut.line_units = h->slots * cut.slot_units;
    cut.channel_units = p->window.w.taps * cut.line_units;

    cut.columns = p->channels * tap_count(&p->window);
    cut.block = even_block(min_i64(cut.columns, SEGMENT), max_i64(PANEL_UNITS / max_i64(cut.channel_units, 1), 1) * taps, taps);
    cut.block = min_i64(cut.block, SEGMENT);
    cut.segment_blocks = ceil_div(SEGMENT, cut.block);
    cut.blocks = cut.columns / SEGMENT * cut.segment_blocks + max_i64(ceil_div(cut.columns % SEGMENT, cut.block), cut.columns < SEGMENT);

    int64_t parts = min_i64(ceil_div(CHUNKS, max_i64(cut.tiles, 1)), ceil_div(p->outputs, 64));
    cut.part = max_i64(ceil_div(p->outputs, max_i64(parts, 1)), 1);
    cut.parts = ceil_div(p->outputs, cut.part);
    cut.items = cut.parts * cut.tiles;
    cut.per_chunk = max_i64(ceil_div(cut.items, 4 * CHUNKS), 1);
    cut.chunks = ceil_div(cut.items, cut.per_chunk);

    /* A block that begins inside of a channel meets one more. */
    cut.panel_floats = lies_in_units(p) ? 0 : (ceil_div(cut.block, taps) + 1) * cut.channel_units * UNIT;
    cut.floats = cut.panel_floats + round_up(cut.part, UNIT) * cut.units * UNIT;
    return cut;
}

/* The same for fewer outputs, within what the cut has in memory. */
static sparse_cut cut_fewer(sparse_cut cut, int64_t outputs)
{
    cut.part = min_i64(cut.part, outputs);
    cut.parts = ceil_div(outputs, cut.part);
    cut.items = cut.parts * cut.tiles;
    cut.chunks = ceil_div(cut.items, cut.per_chunk);
    return cut;
}

static inline int64_t block_start(const sparse_cut *cut, int64_t block)
{
    return block / cut->segment_blocks * SEGMENT + block % cut->segment_blocks * cut->block;
}

static inline int64_t block_end(const sparse_cut *cut, int64_t block)
{
    int64_t segment_end = min_i64((block / cut->segment_blocks + 1) * SEGMENT, cut->columns);
    return min_i64(block_start(cut, block) + cut->block, segment_end);
}

/* Where the non-zeros are: list part * blocks + block has found[list] stretches from list * part on. */
typedef struct {
    const float *values;
    const uint16_t *columns; /* less those of segments before; or right away where the panel of its block has each */
    const int32_t *units;    /* of each column: where the panel of its block has it */
    int looked_up;           /* columns are to be looked up in units */
    stretch *stretches;
    int32_t *found;
} sparse_index;

/* Returns whether all of them fit in 16 bits. */
static int find_units(int32_t *units, const correlation *p, const sparse_cut *cut)
{
    int32_t most = 0;
    const axis *h = &p->window.h;
    const int64_t taps = tap_count(&p->window), w_taps = p->window.w.taps, in_place = lies_in_units(p);
    for (int64_t block = 0; block < cut->blocks; block++) {
        const int64_t start = block_start(cut, block), end = block_end(cut, block);
        for (int64_t column = start; column < end && in_place; column++)
            units[column] = (int32_t)((column - start) * p->window.c_stride / UNIT);
        for (int64_t column = start; column < end && !in_place; column++) {
            int64_t i = column % taps / w_taps, line = (column / taps - start / taps) * w_taps + column % w_taps;
            units[column] = (int32_t)(line * cut->line_units + i % h->period * cut->slot_units
                                       + i / h->period * h->shift * (cut->width / UNIT));
        }
        for (int64_t column = start; column < end; column++)
            most = units[column] > most ? units[column] : most;
    }
    return most <= UINT16_MAX;
}

/* ---- the panel ---- */

/* Points [point, point + count) of a grid row of one sample. */
typedef struct { int64_t sample, point, lane, count; } grid_piece;

typedef struct {
    int64_t row, rows, first, lanes; /* of the grid: rows [row, row + rows), lanes [first, first + lanes) of each */
    int64_t pieces;
    grid_piece piece[TILE_UNITS * UNIT];
} sparse_tile;

static void find_tile(sparse_tile *t, const correlation *p, const sparse_cut *cut, int64_t tile)
{
    const int64_t grid = p->window.w.grid;
    t->row = tile / cut->lane_tiles * cut->rows;
    t->rows = min_i64(p->window.h.grid - t->row, cut->rows);
    t->first = tile % cut->lane_tiles * cut->width;
    t->lanes = min_i64(cut->lanes - t->first, cut->width);
    t->pieces = 0;
    for (int64_t lane = 0; lane < t->lanes;) {
        int64_t point = (t->first + lane) % grid, count = min_i64(grid - point, t->lanes - lane);
        t->piece[t->pieces++] = (grid_piece){(t->first + lane) / grid, point, lane, count};
        lane += count;
    }
}

/* What one sample gives to a vector of a panel's row: lanes [low, high), lane l of which is position from + l * step of the image. */
typedef struct {
    int64_t from;
    int32_t low, high;
} panel_part;

/* At most one for each lane, and one more for each vector. */
enum { ROW_PARTS = TILE_UNITS * UNIT + 1 };

/* The parts of the vector from `lane` on, for tap j of the grid's row. */
static int64_t find_parts(panel_part *parts, const sparse_tile *t, const sliding_window *window, int64_t j, int64_t lane, int64_t lanes)
{
    const axis *w = &window->w;
    int64_t found = 0;
    for (const grid_piece *s = t->piece; s < t->piece + t->pieces && s->lane < lane + lanes; s++) {
        int64_t start = w->origin + s->point * w->step + j * w->dilation - s->lane * w->step;
        int64_t low = start < 0 ? ceil_div(-start, w->step) : 0, high = start < w->size ? ceil_div(w->size - start, w->step) : 0;
        low = max_i64(max_i64(low, s->lane) - lane, 0);
        high = min_i64(min_i64(high, s->lane + s->count) - lane, lanes);
        if (low < high)
            parts[found++] = (panel_part){s->sample * window->n_stride + start + lane * w->step, (int32_t)low, (int32_t)high};
    }
    return found;
}

ALWAYS_INLINE vf load_part(const float *from, int64_t step, const panel_part *part)
{
    const int64_t low = part->low, high = part->high;
    from += part->from;
    if (step == 1)
        return vload_masked(from, lanes_between(low, high));
    vf value = {0};
    if (step == 2) {
        int64_t first = 2 * low, end = 2 * high - 1; /* the floats from the first to the last that is wanted */
        return veven(vload_masked(from, lanes_between(min_i64(first, VL), min_i64(end, VL))),
                     vload_masked(from + VL, lanes_between(max_i64(first - VL, 0), max_i64(end - VL, 0))));
    }
    for (int i = 0; i < VL; i++)
        if (i >= low && i < high)
            value[i] = from[i * step];
    return value;
}

/* One vector of `count` rows of the panel. */
ALWAYS_INLINE void fill_rows(float *to, int64_t to_step, const float *from, int64_t from_step, int64_t count, int64_t step,
                             const panel_part *parts, int64_t found)
{
    if (found == 1) {
        const panel_part part = parts[0]; /* stores may alias the array */
        if (step == 1 && part.low == 0 && part.high == VL)
            for (int64_t i = 0; i < count; i++)
                vstore(to + i * to_step, vload(from + part.from + i * from_step));
        else
            for (int64_t i = 0; i < count; i++)
                vstore(to + i * to_step, load_part(from + i * from_step, step, &part));
    } else if (found == 2) {
        const panel_part part = parts[0], other = parts[1];
        for (int64_t i = 0; i < count; i++)
            vstore(to + i * to_step, (vf)((vi)load_part(from + i * from_step, step, &part)
                                          | (vi)load_part(from + i * from_step, step, &other)));
    } else
        for (int64_t i = 0; i < count; i++) {
            vi value = {0};
            for (int64_t k = 0; k < found; k++)
                value |= (vi)load_part(from + i * from_step, step, parts + k);
            vstore(to + i * to_step, (vf)value);
        }
}

/* Channels [first, end): for each of a row's vectors and taps, whole columns of the panel. */
ALWAYS_INLINE void fill_channels(float *panel, const correlation *p, const sparse_cut *cut, const sparse_tile *t, int64_t first,
                                 int64_t end, int64_t step)
{
    const axis *h = &p->window.h, *w = &p->window.w;
    const int64_t rows = t->rows + h->extra, row_step = w->size * h->step;
    for (int64_t lane = 0; lane < round_up(t->lanes, UNIT); lane += VL)
        for (int64_t j = 0; j < w->taps; j++) {
            panel_part parts[VL + 1];
            const int64_t found = find_parts(parts, t, &p->window, j, lane, VL);
            float *to = panel + j * cut->line_units * UNIT + lane;
            if (rows == 1 && h->taps == 1 && h->origin + t->row * h->step >= 0 && h->origin + t->row * h->step < h->size) {
                const float *from = p->source + first * p->window.c_stride + (h->origin + t->row * h->step) * w->size;
                fill_rows(to, cut->channel_units * UNIT, from, p->window.c_stride, end - first, step, parts, found);
                continue;
            }
            for (int64_t slot = 0; slot < h->slots; slot++) {
                const int64_t start = h->origin + t->row * h->step + slot * h->dilation;
                const int64_t low = start < 0 ? min_i64(ceil_div(-start, h->step), rows) : 0;
                const int64_t high = start < h->size ? max_i64(min_i64(ceil_div(h->size - start, h->step), rows), low) : low;
                const float *from = p->source + first * p->window.c_stride + (start + low * h->step) * w->size;
                float *line = to + slot * cut->slot_units * UNIT;
                for (int64_t c = first; c < end; c++, line += cut->channel_units * UNIT, from += p->window.c_stride) {
                    for (int64_t y = 0; y < low; y++)
                        vstore(line + y * cut->width, (vf){0});
                    fill_rows(line + low * cut->width, cut->width, from, row_step, high - low, step, parts, found);
                    for (int64_t y = high; y < rows; y++)
                        vstore(line + y * cut->width, (vf){0});
                }
            }
        }
}

/* Fetch what the next tile will read of some channels while this one is worked on: its rows are too short for the processor to guess. */
static void fetch_panel(const correlation *p, const sparse_cut *cut, int64_t tile, int64_t first, int64_t end)
{
    const axis *h = &p->window.h, *w = &p->window.w;
    sparse_tile t;
    panel_part parts[ROW_PARTS];
    find_tile(&t, p, cut, tile);
    const panel_part *last = parts + find_parts(parts, &t, &p->window, w->taps / 2, 0, cut->width);
    for (int64_t c = first; c < end; c++)
        for (int64_t slot = 0; slot < h->slots; slot++) {
            int64_t row = h->origin + t.row * h->step + slot * h->dilation;
            for (int64_t y = 0; y < t.rows + h->extra; y++, row += h->step)
                if (row >= 0 && row < h->size)
                    for (const panel_part *part = parts; part < last; part++) {
                        const float *from = p->source + c * p->window.c_stride + row * w->size + part->from;
                        for (int64_t x = part->low * w->step; x < part->high * w->step; x += 16)
                            __builtin_prefetch(from + x, 0, 2);
                        __builtin_prefetch(from + part->high * w->step - 1, 0, 2);
                    }
        }
}

static void fill_panel(float *panel, const correlation *p, const sparse_cut *cut, const sparse_tile *t, int64_t first, int64_t end)
{
    if (p->window.w.step == 1)
        fill_channels(panel, p, cut, t, first, end, 1);
    else if (p->window.w.step == 2)
        fill_channels(panel, p, cut, t, first, end, 2);
    else
        fill_channels(panel, p, cut, t, first, end, p->window.w.step);
}

/* Whether the image is a matrix [point][channel], as the input of a linear layer is. */
static int is_matrix(const correlation *p)
{
    return is_plain(&p->window) && p->window.h.grid == 1 && p->window.w.grid == 1 && p->window.c_stride == 1 && p->out_c == 1;
}

/* ---- the product ---- */

typedef struct {
    const stretch *first, *end;
    const float *values;
    const uint16_t *columns;
    const int32_t *units;        /* NULL: columns are units */
    const float *panel, *before; /* sums of the blocks before, NULL in the first one */
    float *sums;
    int64_t before_pitch, pitch;
} block_product;

/* `count` units of all sums of a part, over one block. */
ALWAYS_INLINE void add_units(int count, int looked_up, const block_product *b)
{
    enum { VECTORS = UNIT / VL };
    const float *values = b->values, *panel = b->panel;
    const uint16_t *columns = b->columns;
    const int32_t *units = b->units;
    for (const stretch *s = b->first; s < b->end; s++) {
        vf sum[TILE_UNITS * VECTORS];
        float *to = b->sums + s->output * b->pitch;
        const float *begin = b->before ? b->before + s->output * b->before_pitch : NULL;
        _Pragma("GCC unroll 16") for (int v = 0; v < count * VECTORS; v++) sum[v] = begin ? vload(begin + v * VL) : (vf){0};
        for (int64_t at = s->begin, end = s->begin + s->count; at < end; at++) {
            const vf value = vsplat(values[at]);
            const float *from = panel + (int64_t)(looked_up ? units[columns[at]] : columns[at]) * UNIT;
            _Pragma("GCC unroll 16") for (int v = 0; v < count * VECTORS; v++) sum[v] = vfma(value, vload(from + v * VL), sum[v]);
        }
        _Pragma("GCC unroll 16") for (int v = 0; v < count * VECTORS; v++) vstore(to + v * VL, sum[v]);
    }
}

/* As many units at a time as the registers hold. */
ALWAYS_INLINE void add_all_units(block_product b, int64_t units, int looked_up)
{
#if defined(TGE_AVX512)
    enum { MOST = 8 };
#elif defined(TGE_AVX2) || defined(TGE_NEON)
    enum { MOST = 4 };
#else
    enum { MOST = 2 };
#endif
    for (; units > 0; units -= MOST, b.panel += MOST * UNIT, b.sums += MOST * UNIT, b.before += b.before ? MOST * UNIT : 0)
        switch (min_i64(units, MOST)) {
        case 1: add_units(1, looked_up, &b); break;
        case 2: add_units(2, looked_up, &b); break;
#if defined(TGE_AVX512) || defined(TGE_AVX2) || defined(TGE_NEON)
        case 3: add_units(3, looked_up, &b); break;
        case 4: add_units(4, looked_up, &b); break;
#endif
#if defined(TGE_AVX512)
        case 5: add_units(5, looked_up, &b); break;
        case 6: add_units(6, looked_up, &b); break;
        case 7: add_units(7, looked_up, &b); break;
        case 8: add_units(8, looked_up, &b); break;
#endif
        }
}

static void add_block(block_product b, int64_t units)
{
    if (b.units)
        add_all_units(b, units, 1);
    else
        add_all_units(b, units, 0);
}

/* `count` pieces of sums of n lanes. */
ALWAYS_INLINE void spread_rows(float *to, int64_t to_step, const float *from, int64_t from_step, int64_t count, int64_t n)
{
    if (n == VL)
        for (int64_t i = 0; i < count; i++)
            vstore(to + i * to_step, vload(from + i * from_step));
    else
        for (int64_t i = 0; i < count; i++)
            vstore_part(to + i * to_step, n, vload(from + i * from_step));
}

/* What will be stored some outputs later: it is not cached. */
static inline void fetch_output(const float *to, int64_t floats)
{
    for (int64_t x = 0; x < floats; x += UNIT)
        __builtin_prefetch(to + x, 1, 3);
    __builtin_prefetch(to + floats - 1, 1, 3);
}

/* Zeros from what a piece of a tile writes to what the next ones write, for a stride that leaves gaps. */
static void clear_between(float *to, const tge_conv2d_params *p, const sparse_tile *t, const grid_piece *s)
{
    const int64_t height = min_i64(t->rows * p->stride_h, p->h - t->row * p->stride_h);
    const int64_t width = min_i64(s->count * p->stride_w, p->w - s->point * p->stride_w);
    for (int64_t y = 0; y < height; y++, to += p->w) {
        fetch_output(to + 4 * p->x_c_stride, width);
        for (int64_t x = 0; x < width; x += VL)
            vstore_upto(to + x, width - x, (vf){0});
    }
}

/* Sums [output][row][lane] to where the output has them. */
static void spread_tile(const correlation *p, const sparse_cut *cut, const sparse_tile *t, const tge_conv2d_params *gaps, float *out,
                        const float *sums, int64_t outputs)
{
    const int64_t pitch = cut->units * UNIT;
    out += p->out_start + t->row * p->out_h;
    for (int64_t m = 0; m < outputs; m++, out += p->out_c, sums += pitch)
        for (const grid_piece *s = t->piece; s < t->piece + t->pieces; s++) {
            float *to = out + s->sample * p->out_n + s->point * p->out_w;
            if (gaps)
                clear_between(to, gaps, t, s);
            for (int64_t y = 0; y < t->rows && !gaps; y++)
                fetch_output(to + 4 * p->out_c + y * p->out_h, (s->count - 1) * p->out_w + 1);
            for (int64_t x = 0; x < s->count && p->out_w == 1; x += VL)
                spread_rows(to + x, p->out_h, sums + s->lane + x, cut->width, t->rows, min_i64(s->count - x, VL));
            for (int64_t y = 0; y < t->rows && p->out_w != 1; y++)
                store_run(to + y * p->out_h, p->out_w, sums + y * cut->width + s->lane, s->count, 0);
        }
}

static void spread_matrix(const correlation *p, const sparse_cut *cut, const sparse_tile *t, float *out, const float *sums, int64_t outputs)
{
    for (int64_t m = 0; m < outputs; m += VL)
        for (int64_t lane = 0; lane < t->lanes; lane += VL) {
            vf square[VL];
            for (int i = 0; i < VL; i++)
                square[i] = m + i < outputs ? vload(sums + (m + i) * cut->width + lane) : (vf){0};
            vtranspose(square);
            for (int64_t i = 0; i < min_i64(t->lanes - lane, VL); i++)
                vstore_upto(out + (t->first + lane + i) * p->out_n + m, outputs - m, square[i]);
        }
}

typedef struct {
    const correlation *p;
    sparse_cut cut;
    sparse_index index;
    const tge_conv2d_params *gaps; /* to be cleared, or NULL */
    float *workspace;
} sparse_job;

/* A block's product of the image as it lies, piece by piece of the tile; the last one writes the output. */
static void add_in_place(block_product b, const correlation *p, const sparse_tile *t, int64_t channel, float *sums, float *out, int64_t pitch)
{
    const block_product block = b;
    for (const grid_piece *s = t->piece; s < t->piece + t->pieces; s++) {
        b.panel = p->source + s->sample * p->window.n_stride + channel * p->window.c_stride + s->point;
        b.before = block.before ? block.before + s->lane : NULL;
        b.sums = out ? out + s->sample * p->out_n + s->point : sums + s->lane;
        b.pitch = out ? p->out_c : pitch;
        add_block(b, s->count / UNIT);
    }
}

static void sparse_item(const sparse_job *job, int64_t item, float *panel)
{
    const correlation *p = job->p;
    const sparse_cut *cut = &job->cut;
    const int64_t part = item % cut->parts, outputs = min_i64(p->outputs - part * cut->part, cut->part);
    const int64_t taps = tap_count(&p->window), pitch = cut->units * UNIT, matrix = is_matrix(p), in_place = lies_in_units(p);
    float *sums = panel + cut->panel_floats, *out = p->out + part * cut->part * p->out_c;
    sparse_tile t;
    find_tile(&t, p, cut, item / cut->parts);

    for (int64_t block = 0; block < cut->blocks; block++) {
        int64_t start = block_start(cut, block), end = block_end(cut, block), list = part * cut->blocks + block;
        if (matrix)
            pack_panel(panel, (int)cut->width, p->source + t.first * p->window.n_stride + start, p->window.n_stride, 1, t.lanes, end - start);
        else if (start < end) {
            if (!in_place)
                fill_panel(panel, p, cut, &t, start / taps, ceil_div(end, taps));
            if (item / cut->parts + 1 < cut->tiles)
                fetch_panel(p, cut, item / cut->parts + 1, start / taps, ceil_div(end, taps));
        }
        const stretch *first = job->index.stretches + list * cut->part;
        block_product b = {.first = first, .end = first + job->index.found[list], .values = job->index.values,
                           .columns = job->index.columns,
                           .units = job->index.looked_up ? job->index.units + start / SEGMENT * SEGMENT : NULL,
                           .panel = panel, .before = block > 0 ? sums : NULL, .before_pitch = pitch, .sums = sums, .pitch = pitch};
        if (in_place)
            add_in_place(b, p, &t, start, sums, block == cut->blocks - 1 ? out : NULL, pitch);
        else
            add_block(b, t.rows * cut->width / UNIT);
    }
    if (matrix)
        spread_matrix(p, cut, &t, out, sums, outputs);
    else if (!in_place)
        spread_tile(p, cut, &t, job->gaps, out, sums, outputs);
}

static void sparse_chunk(void *context, int64_t chunk)
{
    const sparse_job *job = context;
    int64_t first = chunk * job->cut.per_chunk, end = min_i64(first + job->cut.per_chunk, job->cut.items);
    for (int64_t item = first; item < end; item++)
        sparse_item(job, item, job->workspace + tge_worker() * job->cut.floats);
}

#endif
