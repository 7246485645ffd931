/* The gradient by the data of a connected layer with few samples: to transpose its weights would cost more than the products. So each row's
 * non-zeros add multiples of the output's gradient to the sums of their columns, which wait in the first cache, some columns at a time. A sum
 * adds in the order of the outputs, as a product with transposed rows does: the bits are the same. */
#ifndef TGE_SPARSE_SCATTER_H
#define TGE_SPARSE_SCATTER_H

#include "sparse_product.h"

enum {
    SCATTER_UNITS = 4,     /* of samples, at most */
    SCATTER_COLUMNS = 256, /* of a chunk, at most */
};

static int suits_scatter(const tge_sparse_conv2d_params *params)
{
    const tge_conv2d_params *p = &params->conv;
    sliding_window window = forward_window(p);
    return is_plain(&window) && p->h * p->w == 1 && p->x_c_stride == 1 && p->y_c_stride == 1 && params->segments == 1
        && p->n > 0 && p->n <= SCATTER_UNITS * UNIT;
}

typedef struct {
    const sparse_layer *layer;
    const float *values, *gy;
    float *gx, *lines, *sums; /* gy as [output][sample], and each worker's sums [column][sample] */
    int64_t width, columns, chunks;
} sparse_scatter_job;

static sparse_scatter_job make_scatter_job(const tge_conv2d_params *p)
{
    const int64_t columns = even_block(p->c, SCATTER_COLUMNS, UNIT);
    return (sparse_scatter_job){.width = round_up(p->n, UNIT), .columns = columns, .chunks = ceil_div(p->c, columns)};
}

static int64_t scatter_workspace(const tge_conv2d_params *p, int64_t threads)
{
    const sparse_scatter_job job = make_scatter_job(p);
    return (p->k + workers_used(job.chunks, threads) * job.columns) * job.width * (int64_t)sizeof(float);
}

/* Columns [first, end) of all rows. */
ALWAYS_INLINE void scatter_rows(int units, const sparse_scatter_job *job, float *sums, int64_t first, int64_t end)
{
    const int vectors = units * (UNIT / VL);
    const uint16_t *columns = job->layer->columns;
    const float *values = job->values, *lines = job->lines;
    const int64_t outputs = job->layer->p->conv.k, width = units * UNIT;
    for (int64_t k = 0; k < outputs; k++) {
        vf line[SCATTER_UNITS * UNIT / VL];
        int64_t at = job->layer->rows[k], last = job->layer->rows[k + 1];
        while (at + 8 <= last && columns[at + 7] < first)
            at += 8;
        while (at < last && columns[at] < first)
            at++;
        _Pragma("GCC unroll 16") for (int v = 0; v < vectors; v++)
            line[v] = vload(lines + k * width + v * VL);
        for (; at < last && columns[at] < end; at++) {
            const vf value = vsplat(values[at]);
            float *to = sums + (columns[at] - first) * width;
            _Pragma("GCC unroll 16") for (int v = 0; v < vectors; v++)
                vstore(to + v * VL, vfma(value, line[v], vload(to + v * VL)));
        }
    }
}

static void sparse_scatter_chunk(void *context, int64_t chunk)
{
    const sparse_scatter_job *job = context;
    const tge_conv2d_params *p = &job->layer->p->conv;
    const int64_t first = chunk * job->columns, end = min_i64(first + job->columns, p->c);
    float *sums = job->sums + tge_worker() * job->columns * job->width;
    memset(sums, 0, sizeof(float) * (size_t)((end - first) * job->width));
    switch (job->width / UNIT) {
    case 1: scatter_rows(1, job, sums, first, end); break;
    case 2: scatter_rows(2, job, sums, first, end); break;
    case 3: scatter_rows(3, job, sums, first, end); break;
    case 4: scatter_rows(4, job, sums, first, end); break;
    }
    for (int64_t c = first; c < end; c += VL)
        for (int64_t n = 0; n < p->n; n += VL) {
            vf square[VL];
            for (int i = 0; i < VL; i++)
                square[i] = c + i < end ? vload(sums + (c - first + i) * job->width + n) : (vf){0};
            vtranspose(square);
            for (int64_t i = 0; i < min_i64(p->n - n, VL); i++)
                vstore_upto(job->gx + (n + i) * p->x_n_stride + c, end - c, square[i]);
        }
}

static void scatter_data(void *const *operand, const tge_sparse_conv2d_params *params)
{
    const tge_conv2d_params *p = &params->conv;
    const sparse_layer layer = sparse_layer_of(params, operand[3], operand[4]);
    sparse_scatter_job job = make_scatter_job(p);
    job.layer = &layer;
    job.values = operand[2];
    job.gx = operand[0];
    job.lines = operand[5];
    job.sums = job.lines + p->k * job.width;
    pack_panel(job.lines, (int)job.width, operand[1], p->y_n_stride, 1, p->n, p->k);
    tge_parallel(job.chunks, sparse_scatter_chunk, &job);
}

#endif
