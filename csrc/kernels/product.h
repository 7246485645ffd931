/* The dense product that matmul.c and conv2d.c share: panels of A and B in packed form, and a register tile that multiplies them.
 *
 * An A panel is [k][MR], a B panel [k][NR]; a tile is MR x NR sums held in registers through a whole block of k. Every sum starts at zero
 * and adds a * b in the order of k, whatever tile it is part of; so the bits depend on where k is cut into blocks and on nothing else:
 * not on how rows and columns are cut, not on threads, and not on the width of vectors.
 */
#ifndef TGE_PRODUCT_H
#define TGE_PRODUCT_H

#include "integers.h"

/* MR x NR / VL accumulators fill the vector registers but for the operands. A tile may have MR rows or less by steps of ROW_STEP. */
#if defined(TGE_AVX512)
enum { MR = 12, ROW_STEP = 4 };
#elif defined(TGE_AVX2)
enum { MR = 6, ROW_STEP = 2 };
#elif defined(TGE_NEON)
enum { MR = 8, ROW_STEP = 4 };
#else
enum { MR = 4, ROW_STEP = 4 };
#endif
enum {
    NR = 2 * VL,
    KC = 256,              /* a block of k: a B panel of it stays in the first cache */
    ROW_MULTIPLE = 24,     /* multiples of each set's MR and NR, so that workspaces are the same for all */
    COLUMN_MULTIPLE = 32,
    CHUNK_FLOPS = 1 << 20, /* less is not worth handing to a thread */
    CHUNKS = 8,            /* enough for few threads to end together */
    PACK_SLACK = 16,       /* floats that packing may write past a panel's end */
};

/* Cut `total` into equal blocks of at most `most`, each a multiple of `multiple`. */
static inline int64_t even_block(int64_t total, int64_t most, int64_t multiple)
{
    return total == 0 ? multiple : round_up(ceil_div(total, ceil_div(total, most)), multiple);
}

/* In how many blocks of about `most` to cut: where there are several, as many for each thread. */
static inline int64_t even_count(int64_t total, int64_t most)
{
    int64_t count = ceil_div(total, most);
    return count > CHUNKS / 2 ? (count + CHUNKS / 2) / CHUNKS * CHUNKS : count;
}

/* Floats of a packed block: whole panels, the slack of the last, and the next block aligned again. */
static inline int64_t packed_floats(int64_t lanes, int64_t k_count) { return round_up(lanes * k_count, 16) + PACK_SLACK; }

/* panel[k][lane] = source[lane * lane_stride + k * k_stride] for `lanes` lanes; lanes up to `width` become zero. Whole vectors are stored in
 * ascending order, each repaired by the next, so up to PACK_SLACK floats after the panel are overwritten. */
static inline void pack_panel(float *panel, int width, const float *source, int64_t lane_stride, int64_t k_stride, int64_t lanes,
                              int64_t k_count)
{
    if (lane_stride == 1) {
        for (int64_t k = 0; k < k_count; k++)
            for (int lane = 0; lane < width; lane += VL) {
                int64_t left = lanes - lane;
                const float *from = source + k * k_stride + lane;
                __builtin_prefetch(from + 128, 0, 2);
                vstore(panel + k * width + lane, left >= VL ? vload(from) : left > 0 ? vload_part(from, left) : (vf){0});
            }
    } else if (k_stride == 1) {
        for (int lane = 0; lane < width; lane += VL)
            for (int64_t k = 0; k < k_count; k += VL) {
                int64_t left = min_i64(k_count - k, VL);
                vf square[VL];
                for (int i = 0; i < VL; i++) {
                    const float *from = source + (lane + i) * lane_stride + k;
                    square[i] = lane + i >= lanes ? (vf){0} : left == VL ? vload(from) : vload_part(from, left);
                }
                vtranspose(square);
                for (int i = 0; i < left; i++)
                    vstore(panel + (k + i) * width + lane, square[i]);
            }
    } else {
        for (int64_t k = 0; k < k_count; k++)
            for (int lane = 0; lane < width; lane++)
                panel[k * width + lane] = lane < lanes ? source[lane * lane_stride + k * k_stride] : 0.0f;
    }
}

/* c[rows][vectors * VL] (+)= a[k][rows] b[k][vectors * VL], with rows and vectors known to the compiler. Where `panel` is one, b is packed
 * into it meanwhile. */
static inline __attribute__((always_inline)) void tile_of(int rows, int vectors, int64_t k_count, const float *a, const float *b,
                                                          int64_t b_stride, float *panel, float *c, int64_t c_stride, int add)
{
    vf sum[MR][2];
    _Pragma("GCC unroll 12") for (int i = 0; i < rows; i++)
        _Pragma("GCC unroll 2") for (int j = 0; j < vectors; j++) sum[i][j] = (vf){0};

    for (int64_t k = 0; k < k_count; k++, a += MR, b += b_stride) {
        vf column[2];
        _Pragma("GCC unroll 2") for (int j = 0; j < vectors; j++) {
            column[j] = vload(b + j * VL);
            if (panel) {
                __builtin_prefetch(b + j * VL + 128, 0, 2);
                vstore(panel + k * NR + j * VL, column[j]);
            }
        }
        _Pragma("GCC unroll 12") for (int i = 0; i < rows; i++) {
            vf factor = vsplat(a[i]);
            _Pragma("GCC unroll 2") for (int j = 0; j < vectors; j++) sum[i][j] = vfma(factor, column[j], sum[i][j]);
        }
    }

    _Pragma("GCC unroll 12") for (int i = 0; i < rows; i++)
        _Pragma("GCC unroll 2") for (int j = 0; j < vectors; j++) {
            float *to = c + i * c_stride + j * VL;
            vstore(to, add ? vload(to) + sum[i][j] : sum[i][j]);
        }
}

/* The same for rows rounded up to ROW_STEP. */
ALWAYS_INLINE void tile_rows(int64_t rows, int vectors, int64_t k_count, const float *a, const float *b, int64_t b_stride, float *panel,
                             float *c, int64_t c_stride, int add)
{
    int steps = (int)ceil_div(rows, ROW_STEP);
    if (MR >= 3 * ROW_STEP && steps == 3)
        tile_of(MR, vectors, k_count, a, b, b_stride, panel, c, c_stride, add);
    else if (MR >= 2 * ROW_STEP && steps == 2)
        tile_of(2 * ROW_STEP, vectors, k_count, a, b, b_stride, panel, c, c_stride, add);
    else
        tile_of(ROW_STEP, vectors, k_count, a, b, b_stride, panel, c, c_stride, add);
}

/* And for columns rounded up to VL: c must have room for them. */
static void tile(int64_t rows, int64_t columns, int64_t k_count, const float *a, const float *b, int64_t b_stride, float *c,
                 int64_t c_stride, int add)
{
    if (columns > VL)
        tile_rows(rows, 2, k_count, a, b, b_stride, NULL, c, c_stride, add);
    else
        tile_rows(rows, 1, k_count, a, b, b_stride, NULL, c, c_stride, add);
}

/* NR columns of a B that lies in place, which becomes a panel on the way: what memory takes to bring it passes while the tile multiplies. */
static void tile_packing(int64_t rows, int64_t k_count, const float *a, const float *b, int64_t b_stride, float *panel, float *c,
                         int64_t c_stride, int add)
{
    tile_rows(rows, 2, k_count, a, b, b_stride, panel, c, c_stride, add);
}

/* c[rows][columns] (+)= the product of a packed block of A and a block of B; c is contiguous along columns and nothing beyond it is touched.
 * B is packed when b_stride is NR; else it lies in place, rows b_stride apart, and columns must be whole vectors. */
static void multiply_block(int64_t rows, int64_t columns, int64_t k_count, const float *a, const float *b, int64_t b_stride, float *c,
                           int64_t c_stride, int add)
{
    int64_t b_panel_step = b_stride == NR ? k_count * NR : NR;
    for (int64_t j = 0; j < columns; j += NR) {
        int64_t width = min_i64(columns - j, NR);
        for (int64_t i = 0; i < rows; i += MR) {
            int64_t height = min_i64(rows - i, MR);
            const float *a_panel = a + i * k_count, *b_panel = b + j / NR * b_panel_step;
            float *to = c + i * c_stride + j;
            if (height % ROW_STEP == 0 && width % VL == 0) {
                tile(height, width, k_count, a_panel, b_panel, b_stride, to, c_stride, add);
                continue;
            }
            float edge[MR * NR];
            tile(height, width, k_count, a_panel, b_panel, b_stride, edge, NR, 0);
            for (int64_t row = 0; row < height; row++)
                for (int64_t lane = 0; lane < width; lane += VL) {
                    int64_t left = min_i64(width - lane, VL);
                    float *cell = to + row * c_stride + lane;
                    vf value = vload(edge + row * NR + lane);
                    vstore_part(cell, left, add ? vload_part(cell, left) + value : value);
                }
        }
    }
}

#endif
