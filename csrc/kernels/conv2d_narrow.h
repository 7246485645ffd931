/* A correlation with few outputs: packing the image into panels would cost more than it saves, so the register tile reads the slab.
 *
 * A tile is some outputs by two vectors, each a piece of a row of the grid: what a tap reads there is contiguous in the slab. Sums are cut
 * like those of conv2d_direct.h.
 */
#ifndef TGE_CONV2D_NARROW_H
#define TGE_CONV2D_NARROW_H

#include "conv2d.h"

enum {
    NARROW = 24,          /* outputs, at most */
    NARROW_BAND = 256,    /* points of a band */
    NARROW_MULTIPLE = 16, /* the widest vector: rows of the grid should about fill some */
};

static int suits_narrow(const correlation *p)
{
    int64_t width = p->window.w.grid;
    return p->outputs <= NARROW && tap_count(&p->window) > 1 && tap_count(&p->window) <= KC && p->channels > 0
        && round_up(width, NARROW_MULTIPLE) <= 2 * width;
}

typedef struct {
    band_cut bands;
    int64_t c_block, items, per_chunk, chunks;
    int64_t slab_floats, a_floats, floats; /* for one worker */
} narrow_cut;

static narrow_cut cut_narrow(const correlation *p)
{
    narrow_cut cut;
    int64_t taps = tap_count(&p->window);
    cut.c_block = even_block(p->channels, KC / taps, 1);
    cut.bands = cut_bands(&p->window, NARROW_BAND);
    cut.items = p->groups * cut.bands.row_bands * cut.bands.column_bands;
    int64_t flops = 2 * cut.bands.rows * cut.bands.width * p->outputs * p->channels * taps;
    cut.per_chunk = max_i64(CHUNK_FLOPS / max_i64(flops, 1), cut.items / (4 * CHUNKS));
    cut.per_chunk = max_i64(min_i64(cut.per_chunk, cut.items), 1);
    cut.chunks = ceil_div(cut.items, cut.per_chunk);
    cut.slab_floats = slab_floats(&p->window, &cut.bands, cut.c_block);
    cut.a_floats = packed_floats(NARROW, cut.c_block * taps);
    cut.floats = cut.slab_floats + cut.a_floats;
    return cut;
}

/* `columns` of a row of the grid: where they are in the slab, and in out. */
typedef struct { int64_t columns, slab, out; } piece;

static inline __attribute__((always_inline)) void narrow_tile_of(int rows, int64_t k_count, const float *a, const float *const slab[2],
                                                                 const int32_t *tap, float *sums)
{
    vf sum[MR][2];
    _Pragma("GCC unroll 12") for (int i = 0; i < rows; i++) sum[i][0] = sum[i][1] = (vf){0};
    for (int64_t k = 0; k < k_count; k++, a += MR) {
        vf first = vload(slab[0] + tap[k]), second = vload(slab[1] + tap[k]);
        _Pragma("GCC unroll 12") for (int i = 0; i < rows; i++) {
            vf factor = vsplat(a[i]);
            sum[i][0] = vfma(factor, first, sum[i][0]);
            sum[i][1] = vfma(factor, second, sum[i][1]);
        }
    }
    _Pragma("GCC unroll 12") for (int i = 0; i < rows; i++) {
        vstore(sums + i * NR, sum[i][0]);
        vstore(sums + i * NR + VL, sum[i][1]);
    }
}

/* For any number of rows up to MR. Not inlined, so that no caller's variables compete with the sums for registers. */
static __attribute__((noinline)) void narrow_tile(int64_t rows, int64_t k_count, const float *a, const float *const slab[2],
                                                  const int32_t *tap, float *sums)
{
    if (MR >= 12 && rows > 10)
        narrow_tile_of(12, k_count, a, slab, tap, sums);
    else if (MR >= 10 && rows > 8)
        narrow_tile_of(10, k_count, a, slab, tap, sums);
    else if (MR >= 8 && rows > 6)
        narrow_tile_of(8, k_count, a, slab, tap, sums);
    else if (MR >= 6 && rows > 4)
        narrow_tile_of(6, k_count, a, slab, tap, sums);
    else if (rows > 2)
        narrow_tile_of(4, k_count, a, slab, tap, sums);
    else
        narrow_tile_of(2, k_count, a, slab, tap, sums);
}

/* `packed` says that the workspace still holds the weights. */
static void narrow_item(const correlation *p, const narrow_cut *cut, int64_t item, int packed, float *workspace)
{
    int64_t bands = cut->bands.row_bands * cut->bands.column_bands, group = item / bands;
    band b = band_at(&p->window, &cut->bands, item % bands);
    slab_shape s = band_slab(&p->window, &b);
    const float *source = p->source + group * p->channels * p->window.c_stride, *weights = p->weights + group * p->w_group;
    float *out = p->out + group * p->outputs * p->out_c, *slab = workspace, *a = slab + cut->slab_floats;
    int64_t row_block = even_block(p->outputs, MR, 2), taps_w = p->window.w.taps;

    for (int64_t c0 = 0; c0 < p->channels; c0 += cut->c_block) {
        int64_t channels = min_i64(p->channels - c0, cut->c_block), k_count = channels * tap_count(&p->window);
        int32_t tap[KC];
        for (int64_t k = 0; k < k_count; k++) {
            int64_t t = k % tap_count(&p->window);
            tap[k] = (int32_t)(k / tap_count(&p->window) * s.channel + slab_tap(&p->window, &s, t / taps_w, t % taps_w));
        }
        fill_slab(slab, source + c0 * p->window.c_stride, &p->window, &b, channels);
        for (int64_t i = 0; i < p->outputs && !(packed && p->channels == channels); i += row_block)
            pack_weights(a + i / row_block * MR * k_count, weights + i * p->w_output + c0 * p->w_channel, p,
                         min_i64(p->outputs - i, row_block), channels);

        piece pieces[2];
        int count = 0;
        int64_t sample = b.row / p->window.h.grid, g = b.row % p->window.h.grid, y = 0;
        for (int64_t row = 0; row < b.rows; row++, y++) {
            for (int64_t x = 0; x < b.width; x += VL) {
                pieces[count++] = (piece){min_i64(b.width - x, VL), y * s.row + x,
                                          sample * p->out_n + g * p->out_h + (b.q + x) * p->out_w};
                int last = row == b.rows - 1 && x + VL >= b.width;
                if (count < 2 && !last)
                    continue;
                const float *from[2] = {slab + pieces[0].slab, slab + pieces[count - 1].slab};
                for (int64_t i = 0; i < p->outputs; i += row_block) {
                    int64_t rows = min_i64(p->outputs - i, row_block);
                    float sums[MR * NR];
                    narrow_tile(rows, k_count, a + i / row_block * MR * k_count, from, tap, sums);
                    for (int64_t m = 0; m < rows; m++)
                        for (int j = 0; j < count; j++)
                            store_run(out + (i + m) * p->out_c + pieces[j].out, p->out_w, sums + m * NR + j * VL, pieces[j].columns,
                                      c0 > 0);
                }
                count = 0;
            }
            if (++g == p->window.h.grid) {
                g = 0;
                sample++;
                y += p->window.h.extra;
            }
        }
    }
}

typedef struct {
    const correlation *p;
    narrow_cut cut;
    float *workspace;
} narrow_job;

static void narrow_chunk(void *context, int64_t chunk)
{
    const narrow_job *job = context;
    int64_t first = chunk * job->cut.per_chunk, end = min_i64(first + job->cut.per_chunk, job->cut.items);
    int64_t bands = job->cut.bands.row_bands * job->cut.bands.column_bands;
    float *workspace = job->workspace + tge_worker() * job->cut.floats;
    for (int64_t item = first; item < end; item++)
        narrow_item(job->p, &job->cut, item, item > first && item % bands != 0, workspace);
}

static void correlate_narrow(const correlation *p, float *workspace)
{
    narrow_job job = {p, cut_narrow(p), workspace};
    tge_parallel(job.cut.chunks, narrow_chunk, &job);
}

static int64_t narrow_workspace(const correlation *p, int32_t threads)
{
    narrow_cut cut = cut_narrow(p);
    return workers_used(cut.chunks, threads) * cut.floats * (int64_t)sizeof(float);
}

#endif
