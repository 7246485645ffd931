/* sparse_conv2d_f32 and sparse_conv2d_backward_data_f32: sparse products (sparse_product.h) of the image, and of the output gradient. */
#include "sparse_index.h"

/* Bytes of an index, of a layer or of its transposition: the stretches, and values, columns and what these were. */
static int64_t index_bytes(const tge_sparse_conv2d_params *p, const sparse_cut *cut, int transposed)
{
    int64_t weights = p->conv.c * p->conv.r * p->conv.s, nonzeros = min_i64(p->capacity, p->conv.k * weights);
    if (!transposed)
        return cut->index_bytes;
    return cut->index_bytes + round_bytes(nonzeros * (int64_t)sizeof(float)) + round_bytes(nonzeros * (int64_t)sizeof(uint16_t))
        + round_bytes(weights * (int64_t)sizeof(turned_column));
}

static int64_t sparse_workspace(const tge_sparse_conv2d_params *p, const correlation *c, int transposed, int32_t threads)
{
    sparse_cut cut = cut_sparse(c);
    return index_bytes(p, &cut, transposed) + workers_used(cut.chunks, threads) * cut.floats * (int64_t)sizeof(float);
}

static void sparse_correlate(correlation *c, void *const *operand, const tge_sparse_conv2d_params *p, int transposed)
{
    c->out = operand[0];
    c->source = operand[1];
    sparse_layer layer = sparse_layer_of(p, operand[3], operand[4]);
    sparse_job job = {.p = c, .cut = cut_sparse(c), .index = {.values = operand[2], .columns = layer.columns}};
    const int64_t lists = job.cut.parts * job.cut.blocks, nonzeros = min_i64(p->capacity, p->conv.k * p->conv.c * p->conv.r * p->conv.s);

    char *workspace = operand[5];
    job.workspace = (float *)(workspace + index_bytes(p, &job.cut, transposed));
    job.index.stretches = (stretch *)workspace;
    workspace += round_bytes(lists * job.cut.part * (int64_t)sizeof(stretch));
    job.index.found = (int32_t *)workspace;
    workspace += round_bytes(lists * (int64_t)sizeof(int32_t));
    index_job index = {.layer = &layer, .p = c, .cut = &job.cut, .index = &job.index, .values = operand[2]};
    if (transposed) {
        job.index.values = index.turned_values = (float *)workspace;
        workspace += round_bytes(nonzeros * (int64_t)sizeof(float));
        job.index.columns = index.turned_columns = (uint16_t *)workspace;
        turned_column *turned = (turned_column *)(workspace + round_bytes(nonzeros * (int64_t)sizeof(uint16_t)));
        turn_columns(turned, &p->conv, c);
        index.turned = turned;
        index_transposition(&index);
    } else
        index_layer(&index);
    tge_parallel(job.cut.chunks, sparse_chunk, &job);
}

static int64_t sparse_conv2d_f32(void *const *operand, const void *params)
{
    const tge_sparse_conv2d_params *p = params;
    correlation f = forward_correlation(&p->conv);
    sparse_correlate(&f, operand, p, 0);
    return 0;
}

static int64_t sparse_conv2d_f32_workspace(const void *params, int32_t threads)
{
    const tge_sparse_conv2d_params *p = params;
    correlation f = forward_correlation(&p->conv);
    return sparse_workspace(p, &f, 0, threads);
}

static int64_t sparse_conv2d_backward_data_f32(void *const *operand, const void *params)
{
    const tge_sparse_conv2d_params *p = params;
    clear_job clear = {&p->conv, operand[0]};
    int gaps = leaves_gaps(&p->conv);
    if (gaps)
        tge_parallel(p->conv.c, clear_chunk, &clear);
    for (int64_t i = 0; i < p->conv.stride_h; i++)
        for (int64_t j = 0; j < p->conv.stride_w; j++) {
            correlation b = backward_correlation(&p->conv, i, j);
            if (!gaps || b.channels > 0)
                sparse_correlate(&b, operand, p, 1);
        }
    return 0;
}

static int64_t sparse_conv2d_backward_data_f32_workspace(const void *params, int32_t threads)
{
    const tge_sparse_conv2d_params *p = params;
    int64_t bytes = 0;
    for (int64_t i = 0; i < p->conv.stride_h; i++)
        for (int64_t j = 0; j < p->conv.stride_w; j++) {
            correlation b = backward_correlation(&p->conv, i, j);
            bytes = max_i64(bytes, sparse_workspace(p, &b, 1, threads));
        }
    return bytes;
}
