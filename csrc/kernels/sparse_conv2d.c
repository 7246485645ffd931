/* sparse_conv2d_f32 and sparse_conv2d_backward_data_f32: sparse products (sparse_product.h) of the image, and of the output gradient. */
#include "sparse_index.h"
#include "sparse_scatter.h"

enum { WORTH_TILES = 4 }; /* from which on it pays to look columns up once for all tiles */

/* Where things lie in the workspace, from its begin on; a layer as it lies has no turned columns. */
typedef struct {
    int64_t found, units, counts, turned, values, columns, workers, bytes;
} workspace_layout;

static int64_t place(int64_t *end, int64_t count, size_t size)
{
    int64_t begin = *end;
    *end = round_up(begin + count * (int64_t)size, 64);
    return begin;
}

static workspace_layout lay_out(const tge_sparse_conv2d_params *p, const sparse_cut *cut, int transposed, int64_t threads)
{
    const int64_t room = nonzero_room(p), lists = cut->parts * cut->blocks;
    workspace_layout at;
    int64_t end = 0;
    place(&end, lists * cut->part, sizeof(stretch));
    at.found = place(&end, lists, sizeof(int32_t));
    at.units = place(&end, cut->columns, sizeof(int32_t));
    at.counts = place(&end, transposed ? p->conv.c : 0, sizeof(int32_t));
    at.turned = place(&end, transposed ? row_width(&p->conv) : 0, sizeof(turned_column));
    at.values = place(&end, transposed ? room : 0, sizeof(float));
    at.columns = place(&end, transposed || cut->tiles >= WORTH_TILES ? room : 0, sizeof(uint16_t));
    at.workers = place(&end, workers_used(cut->chunks, threads) * cut->floats, sizeof(float));
    at.bytes = end;
    return at;
}

static int64_t sparse_workspace(const tge_sparse_conv2d_params *p, const correlation *c, int transposed, int32_t threads)
{
    sparse_cut cut = cut_sparse(c);
    return lay_out(p, &cut, transposed, threads).bytes;
}

static void correlate_as_it_lies(sparse_job *job, index_job *index, const float *values)
{
    const tge_sparse_conv2d_params *p = index->layer->p;
    const int32_t *rows = index->layer->rows;
    const int32_t first = rows[0], nonzeros = rows[p->conv.k * p->segments] - first;
    if (nonzeros > nonzero_room(p) || job->cut.tiles < WORTH_TILES)
        job->index.looked_up = 1;
    if (job->index.looked_up)
        index->columns = NULL;
    job->index.values = values + first;
    job->index.columns = index->columns ? index->columns : index->layer->columns + first;
    index_layer(index);
    tge_parallel(job->cut.chunks, sparse_chunk, job);
}

/* As many channels at a time as there is room for. */
static void correlate_transposed(sparse_job *job, index_job *index, correlation *c, int32_t *counts, turned_column *turned)
{
    const tge_sparse_conv2d_params *p = index->layer->p;
    const int counted = count_channels(counts, index->layer);
    const int64_t channels = c->outputs;
    const sparse_cut all = job->cut;
    index->turned = turned;
    for (int64_t first = 0, end; first < channels; first = end) {
        end = counted ? channels_end(counts, first, channels, nonzero_room(p)) : channels;
        c->outputs = end - first;
        job->cut = cut_fewer(all, c->outputs);
        index->first = first;
        turn_columns(turned, index, &p->conv);
        index_transposition(index);
        tge_parallel(job->cut.chunks, sparse_chunk, job);
        c->out += c->outputs * c->out_c;
    }
}

static void sparse_correlate(correlation *c, void *const *operand, const tge_sparse_conv2d_params *p, int transposed, int gaps)
{
    c->out = operand[0];
    c->source = operand[1];
    const sparse_layer layer = sparse_layer_of(p, operand[3], operand[4]);
    sparse_job job = {.p = c, .cut = cut_sparse(c), .gaps = gaps ? &p->conv : NULL};
    char *workspace = operand[5];
    const workspace_layout at = lay_out(p, &job.cut, transposed, 1);
    int32_t *units = (int32_t *)(workspace + at.units);
    job.workspace = (float *)(workspace + at.workers);
    job.index.stretches = (stretch *)workspace;
    job.index.found = (int32_t *)(workspace + at.found);
    job.index.looked_up = !find_units(units, c, &job.cut);
    job.index.units = units;

    index_job index = {.layer = &layer, .p = c, .cut = &job.cut, .index = &job.index, .columns = (uint16_t *)(workspace + at.columns)};
    if (!transposed) {
        correlate_as_it_lies(&job, &index, operand[2]);
        return;
    }
    index.values = operand[2];
    job.index.values = index.turned_values = (float *)(workspace + at.values);
    job.index.columns = index.columns;
    correlate_transposed(&job, &index, c, (int32_t *)(workspace + at.counts), (turned_column *)(workspace + at.turned));
}

static int64_t sparse_conv2d_f32(void *const *operand, const void *params)
{
    const tge_sparse_conv2d_params *p = params;
    correlation f = forward_correlation(&p->conv);
    sparse_correlate(&f, operand, p, 0, 0);
    return 0;
}

static int64_t sparse_conv2d_f32_workspace(const void *params, int32_t threads)
{
    const tge_sparse_conv2d_params *p = params;
    correlation f = forward_correlation(&p->conv);
    return sparse_workspace(p, &f, 0, threads);
}

/* Whether one residue of the stride has all taps and begins at the corner, so that its tiles can clear the gaps between what they write. */
static int reaches_alone(const tge_conv2d_params *p)
{
    correlation b = backward_correlation(p, p->pad_h % p->stride_h, p->pad_w % p->stride_w);
    return b.channels > 0 && b.out_start == 0 && b.out_w > 1 && tap_count(&b.window) == p->r * p->s;
}

static int64_t sparse_conv2d_backward_data_f32(void *const *operand, const void *params)
{
    const tge_sparse_conv2d_params *p = params;
    if (suits_scatter(p)) {
        scatter_data(operand, p);
        return 0;
    }
    clear_job clear = {&p->conv, operand[0]};
    int gaps = leaves_gaps(&p->conv), alone = reaches_alone(&p->conv);
    if (gaps && !alone)
        tge_parallel(p->conv.c, clear_chunk, &clear);
    for (int64_t i = 0; i < p->conv.stride_h; i++)
        for (int64_t j = 0; j < p->conv.stride_w; j++) {
            correlation b = backward_correlation(&p->conv, i, j);
            if (!gaps || b.channels > 0)
                sparse_correlate(&b, operand, p, 1, gaps && alone);
        }
    return 0;
}

static int64_t sparse_conv2d_backward_data_f32_workspace(const void *params, int32_t threads)
{
    const tge_sparse_conv2d_params *p = params;
    if (suits_scatter(p))
        return scatter_workspace(&p->conv, threads);
    int64_t bytes = 0;
    for (int64_t i = 0; i < p->conv.stride_h; i++)
        for (int64_t j = 0; j < p->conv.stride_w; j++) {
            correlation b = backward_correlation(&p->conv, i, j);
            bytes = max_i64(bytes, sparse_workspace(p, &b, 1, threads));
        }
    return bytes;
}
