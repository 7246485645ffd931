/* The non-zeros of each block of columns, of a layer as it lies in the pool and of its transposition, which is made some channels at a time
 * where the layer has more non-zeros than there is room for. */
#ifndef TGE_SPARSE_INDEX_H
#define TGE_SPARSE_INDEX_H

#include "sparse_product.h"

/* What a column of the weights is in the transposition: the output's stretch in the first block, and the tap of the reversed window
 * (-1: not one of its taps). */
typedef struct { int32_t stretch, tap; } turned_column;

typedef struct {
    const sparse_layer *layer;
    const correlation *p;
    const sparse_cut *cut;
    sparse_index *index;
    uint16_t *columns; /* to be made, but for a layer as it lies whose columns are to be looked up */
    /* of a transposition, of the outputs from `first` on: */
    int64_t first;
    const turned_column *turned;
    const float *values;
    float *turned_values;
} index_job;

static inline stretch *stretch_of(const index_job *job, int64_t block, int64_t output)
{
    const sparse_cut *cut = job->cut;
    return job->index->stretches + (output / cut->part * cut->blocks + block) * cut->part + output % cut->part;
}

/* Leave out outputs without a non-zero, but in the first block, where sums begin, and in the last, where they may go to the output. */
static void compact_chunk(void *context, int64_t list)
{
    const index_job *job = context;
    const sparse_cut *cut = job->cut;
    stretch *first = job->index->stretches + list * cut->part;
    int64_t outputs = min_i64(job->p->outputs - list / cut->blocks * cut->part, cut->part);
    int32_t found = 0;
    for (int64_t m = 0; m < outputs; m++)
        if (first[m].count > 0 || list % cut->blocks == 0 || list % cut->blocks == cut->blocks - 1)
            first[found++] = first[m];
    job->index->found[list] = found;
}

/* ---- as it lies ---- */

enum { INDEX_ROWS = 16 };

static void cut_rows_chunk(void *context, int64_t chunk)
{
    const index_job *job = context;
    const sparse_cut *cut = job->cut;
    const uint16_t *columns = job->layer->columns;
    const int32_t *units = job->index->units;
    const int64_t first = job->layer->rows[0];
    uint16_t *made = job->columns;
    for (int64_t k = chunk * INDEX_ROWS; k < min_i64((chunk + 1) * INDEX_ROWS, job->p->outputs); k++) {
        const int32_t *rows = job->layer->rows + k * job->layer->p->segments;
        for (int64_t block = 0, at = rows[0]; block < cut->blocks; block++) {
            int64_t segment = block / cut->segment_blocks, begin = at, end = block_end(cut, block) - segment * SEGMENT;
            while (at < rows[segment + 1] && columns[at] < end)
                at++;
            for (int64_t i = begin; i < at && made; i++)
                made[i - first] = (uint16_t)units[segment * SEGMENT + columns[i]];
            *stretch_of(job, block, k) = (stretch){(int32_t)(k % cut->part), (int32_t)(begin - first), (int32_t)(at - begin)};
        }
    }
}

static void index_layer(const index_job *job)
{
    tge_parallel(ceil_div(job->p->outputs, INDEX_ROWS), cut_rows_chunk, (void *)job);
    tge_parallel(job->cut->parts * job->cut->blocks, compact_chunk, (void *)job);
}

/* ---- transposed ---- */

static void turn_columns(turned_column *turned, const index_job *job, const tge_conv2d_params *p)
{
    const correlation *b = job->p;
    const axis *h = &b->window.h, *w = &b->window.w;
    const int64_t taps = p->r * p->s;
    for (int64_t column = 0; column < p->c * taps; column++)
        turned[column] = (turned_column){0, -1};
    for (int64_t c = job->first; c < job->first + b->outputs; c++) {
        const int32_t first = (int32_t)(stretch_of(job, 0, c - job->first) - job->index->stretches);
        for (int64_t i = 0; i < h->taps; i++)
            for (int64_t j = 0; j < w->taps; j++)
                turned[c * taps + b->w_start + i * b->w_tap_h + j * b->w_tap_w] = (turned_column){first, (int32_t)(i * w->taps + j)};
    }
}

/* Count the non-zeros of a block, or put them where the stretches say, which then point to their ends. */
ALWAYS_INLINE void turn_block(const index_job *job, int64_t block, int put)
{
    const sparse_cut *cut = job->cut;
    const int64_t segments = job->layer->p->segments, taps = tap_count(&job->p->window);
    const int64_t start = block_start(cut, block), end = block_end(cut, block);
    stretch *stretches = job->index->stretches + block * cut->part;
    if (start == end)
        return;
    for (int64_t k = start / taps; k <= (end - 1) / taps; k++)
        for (int64_t segment = 0; segment < segments; segment++) {
            const int32_t *row = job->layer->rows + k * segments + segment;
            const turned_column *turned = job->turned + segment * SEGMENT;
            for (int64_t at = row[0]; at < row[1]; at++) {
                const turned_column to = turned[job->layer->columns[at]];
                const int64_t column = k * taps + to.tap;
                if (to.tap < 0 || column < start || column >= end)
                    continue;
                stretch *s = stretches + to.stretch;
                if (put) {
                    job->turned_values[s->begin] = job->values[at];
                    job->columns[s->begin++] = (uint16_t)(job->index->looked_up ? column : job->index->units[column]);
                } else
                    s->count++;
            }
        }
}

static void count_chunk(void *context, int64_t block)
{
    const index_job *job = context;
    for (int64_t c = 0; c < job->p->outputs; c++)
        *stretch_of(job, block, c) = (stretch){(int32_t)(c % job->cut->part), 0, 0};
    turn_block(job, block, 0);
}

static void put_chunk(void *context, int64_t block)
{
    const index_job *job = context;
    turn_block(job, block, 1);
    for (int64_t c = 0; c < job->p->outputs; c++) {
        stretch *s = stretch_of(job, block, c);
        s->begin -= s->count;
    }
}

static void index_transposition(const index_job *job)
{
    const sparse_cut *cut = job->cut;
    tge_parallel(cut->blocks, count_chunk, (void *)job);
    int32_t begin = 0;
    for (int64_t part = 0; part < cut->parts; part++)
        for (int64_t block = 0; block < cut->blocks; block++)
            for (int64_t c = part * cut->part; c < min_i64((part + 1) * cut->part, job->p->outputs); c++) {
                stretch *s = stretch_of(job, block, c);
                s->begin = begin;
                begin += s->count;
            }
    tge_parallel(cut->blocks, put_chunk, (void *)job);
    tge_parallel(cut->parts * cut->blocks, compact_chunk, (void *)job);
}

/* ---- as many channels as there is room for ---- */

enum { LEAST_ROOM = 1 << 14 };

/* Non-zeros that the workspace has room for: what the layer was made with, and what one channel may have. */
static int64_t nonzero_room(const tge_sparse_conv2d_params *p)
{
    const int64_t channel = p->conv.k * p->conv.r * p->conv.s, most = min_i64(p->capacity, p->conv.c * channel);
    return min_i64(most, max_i64(max_i64(p->nonzeros, channel), LEAST_ROOM));
}

/* Non-zeros of each channel, unless there is room for all of them. */
static int count_channels(int32_t *counts, const sparse_layer *layer)
{
    const tge_conv2d_params *p = &layer->p->conv;
    const int64_t segments = layer->p->segments, taps = p->r * p->s;
    if (layer->rows[p->k * segments] - layer->rows[0] <= nonzero_room(layer->p))
        return 0;
    memset(counts, 0, sizeof(int32_t) * (size_t)p->c);
    for (int64_t row = 0; row < p->k * segments; row++)
        for (int64_t at = layer->rows[row]; at < layer->rows[row + 1]; at++)
            counts[(row % segments * SEGMENT + layer->columns[at]) / taps]++;
    return 1;
}

/* The end of the channels from the first one on that there is room for. */
static int64_t channels_end(const int32_t *counts, int64_t first, int64_t channels, int64_t room)
{
    int64_t found = counts[first], end = first + 1;
    while (end < channels && found + counts[end] <= room)
        found += counts[end++];
    return end;
}

#endif
