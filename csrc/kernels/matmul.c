/* matmul_f32: batches of dense products. See product.h for how one block is multiplied. */
#include "product.h"

enum {
    M_BLOCK = 96,
    N_BLOCK = 128,
};

/* How a product is cut, from its shape alone: blocks of c, and consecutive blocks (over the batch too) into chunks. */
typedef struct {
    int64_t m_block, n_block, k_block;
    int64_t m_blocks, n_blocks;
    int64_t blocks_per_chunk, chunks;
    int64_t a_floats, b_floats; /* packed, for one worker */
} matmul_cut;

static matmul_cut cut_matmul(const tge_matmul_params *p)
{
    matmul_cut cut;
    cut.n_block = even_block(p->n, N_BLOCK, COLUMN_MULTIPLE);
    cut.n_blocks = ceil_div(p->n, cut.n_block);

    int64_t most_rows = M_BLOCK, wanted = ceil_div(CHUNKS, max_i64(p->batch * cut.n_blocks, 1));
    int64_t worth = max_i64(2 * p->m * p->n * p->k / CHUNK_FLOPS, 1);
    most_rows = min_i64(most_rows, round_up(ceil_div(p->m, min_i64(wanted, worth)), ROW_MULTIPLE));
    cut.m_block = even_block(p->m, max_i64(most_rows, ROW_MULTIPLE), ROW_MULTIPLE);
    cut.m_blocks = ceil_div(p->m, cut.m_block);

    cut.k_block = p->k == 0 ? 0 : even_block(p->k, KC, 1);
    int64_t flops = 2 * cut.m_block * cut.n_block * p->k, blocks = p->batch * cut.m_blocks * cut.n_blocks;
    cut.blocks_per_chunk = ceil_div(CHUNK_FLOPS, max_i64(flops, 1));
    cut.blocks_per_chunk = min_i64(cut.blocks_per_chunk, max_i64(blocks, 1));
    cut.chunks = ceil_div(blocks, cut.blocks_per_chunk);

    cut.a_floats = packed_floats(cut.m_block, cut.k_block);
    cut.b_floats = packed_floats(cut.n_block, cut.k_block);
    return cut;
}

typedef struct {
    const tge_matmul_params *p;
    matmul_cut cut;
    float *c;
    const float *a, *b;
    float *workspace;
} matmul_job;

static void matmul_block(const matmul_job *job, int64_t block)
{
    const tge_matmul_params *p = job->p;
    const matmul_cut *cut = &job->cut;
    int64_t per_batch = cut->m_blocks * cut->n_blocks, batch = block / per_batch;
    int64_t i0 = block % per_batch / cut->n_blocks * cut->m_block, rows = min_i64(p->m - i0, cut->m_block);
    int64_t j0 = block % cut->n_blocks * cut->n_block, columns = min_i64(p->n - j0, cut->n_block);

    int64_t a_row = p->transpose_a ? 1 : p->k, a_k = p->transpose_a ? p->m : 1;
    int64_t b_column = p->transpose_b ? p->k : 1, b_k = p->transpose_b ? 1 : p->n;
    const float *a = job->a + batch * p->a_batch_stride + i0 * a_row;
    const float *b = job->b + batch * p->b_batch_stride + j0 * b_column;
    float *c = job->c + (batch * p->m + i0) * p->n + j0;
    float *a_packed = job->workspace + tge_worker() * (cut->a_floats + cut->b_floats);
    float *b_packed = a_packed + cut->a_floats;
    /* With one panel of rows each element of B is used once: whole vectors of it are read where they lie. */
    int64_t in_place = p->m <= MR && b_column == 1 ? columns / VL * VL : 0;

    int64_t k0 = 0;
    do { /* once for k = 0 as well: the sum of nothing is 0 */
        int64_t k_count = min_i64(p->k - k0, cut->k_block);
        for (int64_t i = 0; i < rows; i += MR)
            pack_panel(a_packed + i * k_count, MR, a + i * a_row + k0 * a_k, a_row, a_k, min_i64(rows - i, MR), k_count);
        for (int64_t j = in_place; j < columns; j += NR)
            pack_panel(b_packed + (j - in_place) * k_count, NR, b + j * b_column + k0 * b_k, b_column, b_k, min_i64(columns - j, NR),
                       k_count);
        multiply_block(rows, in_place, k_count, a_packed, b + k0 * b_k, b_k, c, p->n, k0 > 0);
        multiply_block(rows, columns - in_place, k_count, a_packed, b_packed, NR, c + in_place, p->n, k0 > 0);
        k0 += cut->k_block;
    } while (k0 < p->k);
}

static void matmul_chunk(void *context, int64_t chunk)
{
    const matmul_job *job = context;
    int64_t blocks = job->p->batch * job->cut.m_blocks * job->cut.n_blocks;
    int64_t first = chunk * job->cut.blocks_per_chunk;
    for (int64_t block = first; block < min_i64(first + job->cut.blocks_per_chunk, blocks); block++)
        matmul_block(job, block);
}

static int64_t matmul_f32(void *const *operand, const void *params)
{
    const tge_matmul_params *p = params;
    matmul_job job = {p, cut_matmul(p), operand[0], operand[1], operand[2], operand[3]};
    tge_parallel(job.cut.chunks, matmul_chunk, &job);
    return 0;
}

static int64_t matmul_f32_workspace(const void *params, int32_t threads)
{
    matmul_cut cut = cut_matmul(params);
    return workers_used(cut.chunks, threads) * (cut.a_floats + cut.b_floats) * (int64_t)sizeof(float);
}
