/* The dot products of the gradient by sparse weights: a tile of lines of gy in registers, and the non-zeros of its row. */
#ifndef TGE_SPARSE_WEIGHTS_DOTS_H
#define TGE_SPARSE_WEIGHTS_DOTS_H

#include "sparse_weights.h"

enum { PENDING = 64 }; /* a multiple of WIDE */

/* Sums of tiles by lane that are still to be added up: many at once, since a tree of additions serves VL of them. */
typedef struct {
    int64_t count;
    int32_t at[PENDING];
    _Alignas(64) float lanes[PENDING * WIDE];
} pending_sums;

static void add_pending(float *g, pending_sums *pending)
{
    float sums[PENDING];
    wide_sums(sums, pending->lanes, (int)pending->count);
    for (int64_t i = 0; i < pending->count; i++)
        g[pending->at[i]] += sums[i];
    pending->count = 0;
}

/* lanes[i][l] = the sum over the tile in lane l of gy * what column i reads. */
ALWAYS_INLINE void dots_of(int height, int width, float *lanes, const float *x, int64_t x_row, const float *gy, const int32_t *offset,
                           const uint16_t *columns, int64_t count)
{
    for (int part = 0; part < WIDE; part += VL) {
        vf line[TILE_HEIGHT][TILE_LINES];
        _Pragma("GCC unroll 2") for (int i = 0; i < height; i++)
            _Pragma("GCC unroll 8") for (int j = 0; j < width; j++) line[i][j] = vload(gy + (i * width + j) * WIDE + part);
        for (int64_t at = 0; at < count; at++) {
            const float *from = x + offset[columns[at]] + part;
            vf sum = line[0][0] * vload(from);
            _Pragma("GCC unroll 2") for (int i = 0; i < height; i++)
                _Pragma("GCC unroll 8") for (int j = i == 0; j < width; j++)
                    sum = vfma(line[i][j], vload(from + i * x_row + j * WIDE), sum);
            vstore(lanes + at * WIDE + part, sum);
        }
    }
}

/* A tile, a block of columns, and the rows that pass. */
typedef struct {
    const float *x, *gy; /* of the first channel and output */
    int64_t x_row, first, end; /* outputs */
    const int32_t *offset, *starts, *ends;
    const uint16_t *columns;
    float *g;
} tile_pass;

ALWAYS_INLINE void pass_of(int height, int width, const tile_pass *t, pending_sums *pending)
{
    for (int64_t k = t->first; k < t->end; k++) {
        __builtin_prefetch(t->columns + t->starts[k + 2 < t->end ? k + 2 : k], 0, 3);
        __builtin_prefetch(t->g + t->starts[k + 2 < t->end ? k + 2 : k], 1, 3);
        for (int64_t at = t->starts[k]; at < t->ends[k];) {
            if (pending->count == PENDING)
                add_pending(t->g, pending);
            const int64_t count = min_i64(t->ends[k] - at, PENDING - pending->count);
            dots_of(height, width, pending->lanes + pending->count * WIDE, t->x, t->x_row, t->gy + k * height * width * WIDE, t->offset,
                    t->columns + at, count);
            for (int64_t i = 0; i < count; i++)
                pending->at[pending->count + i] = (int32_t)(at + i);
            pending->count += count;
            at += count;
        }
    }
}

/* For each width of a tile. */
#define PASS(width) \
    static void pass_1x##width(const tile_pass *t, pending_sums *pending) { pass_of(1, width, t, pending); } \
    static void pass_2x##width(const tile_pass *t, pending_sums *pending) { pass_of(2, width, t, pending); }
PASS(1)
PASS(2)
PASS(3)
PASS(4)
PASS(5)
PASS(6)
PASS(7)
PASS(8)
#undef PASS

static void (*const passes[TILE_HEIGHT][TILE_LINES])(const tile_pass *, pending_sums *) = {
    {pass_1x1, pass_1x2, pass_1x3, pass_1x4, pass_1x5, pass_1x6, pass_1x7, pass_1x8},
    {pass_2x1, pass_2x2, pass_2x3, pass_2x4, pass_2x5, pass_2x6, pass_2x7, pass_2x8},
};

#endif
