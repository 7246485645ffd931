/* The gradient by the weights as dot products of rows: of the output gradient with what a tap reads along a row of the grid. Both lie there
 * contiguous, in the image or in the slab, so that nothing is transposed. The register tile holds sixteen lanes of some outputs by some
 * (channel, tap) pairs through a whole band; element i of a run goes to lane i % 16, and the lanes end in one fixed tree: the bits do not
 * depend on the width of vectors. */
#ifndef TGE_CONV2D_WEIGHTS_ROWS_H
#define TGE_CONV2D_WEIGHTS_ROWS_H

#include "conv2d_weights.h"

/* A tile of sums in registers, for one vector of lanes at a time. */
#if VL == 8
enum { ROWS_OUTPUTS = 3, ROWS_COLUMNS = 4 };
#elif VL == 16 || defined(TGE_NEON)
enum { ROWS_OUTPUTS = 5, ROWS_COLUMNS = 5 };
#else
enum { ROWS_OUTPUTS = 3, ROWS_COLUMNS = 3 };
#endif
enum {
    ROWS_MOST = 130,    /* (channel, tap) pairs of an item, at most; but one channel at least */
    ROWS_BAND = 800,    /* grid points, at most: a tile's operands about fill the first-level cache */
    ROWS_RUNS = 64,
    ROWS_FEW = 24,      /* outputs, which leave a packed product's tile half empty */
    ROWS_COPIES = 1 << 17, /* floats of all copies of gw: small enough, splits read each operand only once */
    ROWS_SUMS = (ROWS_OUTPUTS * ROWS_COLUMNS + VL - 1) / VL * VL, /* of a tile, in whole vectors */
};

/* In the image itself a plane is one row. Samples are never joined, so that both memory layouts give the same bits. */
static void flatten_rows(sliding_window *window)
{
    int64_t plane = window->h.size * window->w.size;
    if (!is_plain(window))
        return;
    window->h = make_axis(1, 0, 1, 1, 1, 1);
    window->w = make_axis(plane, 0, 1, 1, 1, plane);
}

/* Whether most lanes have work at the end of a row: more of them where a packed product does well. */
static int suits_rows(const tge_conv2d_params *p)
{
    sliding_window window = forward_window(p);
    flatten_rows(&window);
    int64_t width = tap_count(&window) == 1 ? window.h.grid * window.w.grid : window.w.grid;
    int64_t part = p->k / p->groups <= ROWS_FEW ? 8 : 16;
    return tap_count(&window) > 0 && (part - 1) * round_up(width, WIDE) <= part * width;
}

static weights_job cut_weights_rows(const tge_conv2d_params *p)
{
    weights_job job = make_weights_job(p);
    int64_t wanted = CHUNKS * gw_size(&job) <= ROWS_COPIES ? 1 : items_wanted(&job);
    cut_blocks(&job, wanted, ROWS_MOST, 5);
    flatten_rows(&job.window);
    cut_items(&job, cut_bands(&job.window, min_i64(ROWS_BAND, ROWS_RUNS * job.window.w.grid)));
    job.slab_floats = is_plain(&job.window) ? 0 : slab_floats(&job.window, &job.cut, job.c_block);
    job.floats = job.slab_floats;
    return job;
}

/* `count` grid points of a sample that lie contiguous both in what taps read and in the output gradient. */
typedef struct { int64_t x, gy, count; } row_run;

static int64_t find_row_runs(row_run *runs, const weights_job *job, const band *b, const slab_shape *s)
{
    const axis *h = &job->window.h, *w = &job->window.w;
    int64_t count = 0, slab = 0;
    for (int64_t row = b->row; row < b->row + b->rows; row++) {
        int64_t sample = row / h->grid, g = row % h->grid;
        if (g == 0 && row > b->row)
            slab += h->extra * s->row;
        row_run run = {slab, sample * job->p->y_n_stride + g * w->grid + b->q, b->width};
        if (is_plain(&job->window))
            run.x = sample * job->p->x_n_stride + g * w->size + b->q;
        slab += s->row;
        const row_run *last = g > 0 && count > 0 ? &runs[count - 1] : NULL;
        if (last && last->x + last->count == run.x && last->gy + last->count == run.gy)
            runs[count - 1].count += run.count;
        else
            runs[count++] = run;
    }
    return count;
}

/* lanes[i][j][l] = the sum over points in lane l of gy[i] * x[j]. Meanwhile the same points of `ahead` are fetched. */
static void rows_tile(const row_run *runs, int64_t count, const float *const *gy, const float *const *x, const float *ahead, float *lanes)
{
    for (int part = 0; part < WIDE; part += VL) {
        vf sum[ROWS_OUTPUTS][ROWS_COLUMNS];
        _Pragma("GCC unroll 5") for (int i = 0; i < ROWS_OUTPUTS; i++)
            _Pragma("GCC unroll 5") for (int j = 0; j < ROWS_COLUMNS; j++) sum[i][j] = (vf){0};
        for (const row_run *run = runs; run < runs + count; run++) {
            const float *a[ROWS_OUTPUTS], *b[ROWS_COLUMNS];
            _Pragma("GCC unroll 5") for (int i = 0; i < ROWS_OUTPUTS; i++) a[i] = gy[i] + run->gy + part;
            _Pragma("GCC unroll 5") for (int j = 0; j < ROWS_COLUMNS; j++) b[j] = x[j] + run->x + part;
            int64_t point = 0;
            for (; point + WIDE <= run->count; point += WIDE) {
                __builtin_prefetch(ahead + run->gy + point, 0, 2);
                vf row[ROWS_OUTPUTS];
                _Pragma("GCC unroll 5") for (int i = 0; i < ROWS_OUTPUTS; i++) row[i] = vload(a[i] + point);
                _Pragma("GCC unroll 5") for (int j = 0; j < ROWS_COLUMNS; j++) {
                    vf column = vload(b[j] + point);
                    _Pragma("GCC unroll 5") for (int i = 0; i < ROWS_OUTPUTS; i++) sum[i][j] = vfma(row[i], column, sum[i][j]);
                }
            }
            int64_t left = min_i64(run->count - point - part, VL);
            if (left <= 0)
                continue;
            vf row[ROWS_OUTPUTS];
            _Pragma("GCC unroll 5") for (int i = 0; i < ROWS_OUTPUTS; i++) row[i] = vload_part(a[i] + point, left);
            _Pragma("GCC unroll 5") for (int j = 0; j < ROWS_COLUMNS; j++) {
                vf column = vload_part(b[j] + point, left);
                _Pragma("GCC unroll 5") for (int i = 0; i < ROWS_OUTPUTS; i++) sum[i][j] = vfma(row[i], column, sum[i][j]);
            }
        }
        _Pragma("GCC unroll 5") for (int i = 0; i < ROWS_OUTPUTS; i++)
            _Pragma("GCC unroll 5") for (int j = 0; j < ROWS_COLUMNS; j++) vstore(lanes + (i * ROWS_COLUMNS + j) * WIDE + part, sum[i][j]);
    }
}

static void weights_item_rows(const weights_job *job, int64_t item, float *workspace)
{
    const tge_conv2d_params *p = job->p;
    weights_block block = weights_block_at(job, item);
    int64_t taps = tap_count(&job->window), columns = block.channels * taps, gw_row = job->channels * taps;
    int plain = is_plain(&job->window);
    _Alignas(64) float lanes[ROWS_SUMS * WIDE] = {0}; /* those beyond a tile may hold anything finite */

    for (int64_t step = block.first; step < block.end; step++) {
        band b = band_at(&job->window, &job->cut, step);
        slab_shape s = band_slab(&job->window, &b);
        row_run runs[ROWS_RUNS];
        int64_t count = find_row_runs(runs, job, &b, &s);
        if (!plain)
            fill_slab(workspace, block.image, &job->window, &b, block.channels);
        for (int64_t m = 0; m < block.outputs; m += ROWS_OUTPUTS) {
            int64_t rows = min_i64(block.outputs - m, ROWS_OUTPUTS);
            const float *gy[ROWS_OUTPUTS]; /* beyond the last output it counts again, for nothing */
            for (int64_t i = 0; i < ROWS_OUTPUTS; i++)
                gy[i] = block.gy + min_i64(m + i, block.outputs - 1) * p->y_c_stride;
            for (int64_t first = 0; first < columns; first += ROWS_COLUMNS) {
                int64_t width = min_i64(columns - first, ROWS_COLUMNS);
                const float *x[ROWS_COLUMNS];
                for (int64_t j = 0; j < ROWS_COLUMNS; j++) {
                    int64_t column = min_i64(first + j, columns - 1), tap = column % taps;
                    x[j] = plain ? block.image + column * p->x_c_stride
                                 : workspace + column / taps * s.channel
                                       + slab_tap(&job->window, &s, tap / job->window.w.taps, tap % job->window.w.taps);
                }
                /* The first tiles fetch what the next outputs read. */
                int64_t next = min_i64(m + ROWS_OUTPUTS + min_i64(first / ROWS_COLUMNS, ROWS_OUTPUTS - 1), block.outputs - 1);
                float sums[ROWS_SUMS], *to = block.gw + m * gw_row + first;
                rows_tile(runs, count, gy, x, block.gy + next * p->y_c_stride, lanes);
                wide_sums(sums, lanes, ROWS_OUTPUTS * ROWS_COLUMNS);
                for (int64_t i = 0; i < rows; i++, to += gw_row)
                    for (int64_t j = 0; j < width; j++)
                        to[j] = step > block.first ? to[j] + sums[i * ROWS_COLUMNS + j] : sums[i * ROWS_COLUMNS + j];
            }
        }
    }
}

#endif
