/* The dot products of the gradient by sparse weights: a tile of lines of gy in registers, and the non-zeros of its row. */
#ifndef TGE_SPARSE_WEIGHTS_DOTS_H
#define TGE_SPARSE_WEIGHTS_DOTS_H

#include "sparse_weights.h"

/* Lines that registers hold beside a sum. */
#if defined(TGE_AVX512) || defined(TGE_NEON)
enum { HELD_LINES = TILE_LINES };
#else
enum { HELD_LINES = 14 };
#endif
enum { PENDING = 64 }; /* a multiple of WIDE */

/* Sums of tiles, still by lane: many are added up at once, since a tree of additions serves VL of them. */
typedef struct {
    int64_t count;
    int32_t at[PENDING]; /* in g */
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

/* A tile of x and gy, a block of columns, and the outputs whose rows pass. */
typedef struct {
    const float *x, *gy; /* of the first channel and output */
    int64_t x_row, gy_output;
    int64_t first, end; /* outputs */
    const int32_t *offset, *starts, *ends;
    const uint16_t *columns;
    float *g;

    /* What the next tile reads of the block's channels and, beside the first block, of the outputs; NULL where nothing is to be fetched. */
    const float *next_x, *next_gy;
    int64_t channels, x_channel;
} tile_pass;

/* Pend the sums over the tile of gy times what each of the non-zeros [at, at + count) reads. The sum of a lane has one order, however many
 * lines registers hold. */
ALWAYS_INLINE void pend_dots(int height, int width, const tile_pass *t, const float *gy, int64_t at, int64_t count, pending_sums *pending)
{
    const int held = HELD_LINES / width < height ? HELD_LINES / width : height;
    const uint16_t *columns = t->columns + at;
    float *lanes = pending->lanes + pending->count * WIDE;
    for (int part = 0; part < WIDE; part += VL)
        _Pragma("GCC unroll 4") for (int row = 0; row < height; row += held) {
            const int rows = height - row < held ? height - row : held;
            vf line[TILE_HEIGHT][TILE_WIDTH_LINES];
            _Pragma("GCC unroll 4") for (int i = 0; i < rows; i++)
                _Pragma("GCC unroll 8") for (int j = 0; j < width; j++) line[i][j] = vload(gy + ((row + i) * width + j) * WIDE + part);
            for (int64_t i = 0; i < count; i++) {
                const float *from = t->x + t->offset[columns[i]] + row * t->x_row + part;
                float *lane = lanes + i * WIDE + part;
                vf sum = row == 0 ? line[0][0] * vload(from) : vfma(line[0][0], vload(from), vload(lane));
                _Pragma("GCC unroll 4") for (int y = 0; y < rows; y++)
                    _Pragma("GCC unroll 8") for (int x = y == 0; x < width; x++)
                        sum = vfma(line[y][x], vload(from + y * t->x_row + x * WIDE), sum);
                vstore(lane, sum);
                pending->at[pending->count + i] = (int32_t)(at + i);
            }
        }
    pending->count += count;
}

static inline void fetch_lines(const float *from, int64_t lines)
{
    for (int64_t i = 0; i < lines; i++)
        __builtin_prefetch(from + i * WIDE, 0, 2);
}

/* Each output fetches its share. */
static inline void fetch_next(const tile_pass *t, int64_t k, int64_t lines)
{
    const int64_t i = k - t->first, outputs = t->end - t->first;
    if (t->next_gy)
        fetch_lines(t->next_gy + k * t->gy_output, lines);
    if (t->next_x)
        for (int64_t c = i * t->channels / outputs; c < (i + 1) * t->channels / outputs; c++)
            fetch_lines(t->next_x + c * t->x_channel, lines);
}

ALWAYS_INLINE void pass_of(int height, int width, const tile_pass *pass, pending_sums *pending)
{
    const tile_pass t = *pass;
    for (int64_t k = t.first; k < t.end; k++) {
        const int64_t next = t.starts[min_i64(k + 2, t.end - 1)];
        __builtin_prefetch(t.columns + next, 0, 3);
        __builtin_prefetch(t.g + next, 1, 3);
        fetch_next(&t, k, height * width);
        for (int64_t at = t.starts[k], count; at < t.ends[k]; at += count) {
            if (pending->count == PENDING)
                add_pending(t.g, pending);
            count = min_i64(t.ends[k] - at, PENDING - pending->count);
            pend_dots(height, width, &t, t.gy + k * t.gy_output, at, count, pending);
        }
    }
}

/* For each size of a tile. */
#define PASS(width) \
    static void pass_1x##width(const tile_pass *t, pending_sums *pending) { pass_of(1, width, t, pending); } \
    static void pass_2x##width(const tile_pass *t, pending_sums *pending) { pass_of(2, width, t, pending); } \
    static void pass_3x##width(const tile_pass *t, pending_sums *pending) { pass_of(3, width, t, pending); } \
    static void pass_4x##width(const tile_pass *t, pending_sums *pending) { pass_of(4, width, t, pending); }
PASS(1)
PASS(2)
PASS(3)
PASS(4)
PASS(5)
PASS(6)
PASS(7)
PASS(8)
#undef PASS

static void (*const passes[TILE_HEIGHT][TILE_WIDTH_LINES])(const tile_pass *, pending_sums *) = {
    {pass_1x1, pass_1x2, pass_1x3, pass_1x4, pass_1x5, pass_1x6, pass_1x7, pass_1x8},
    {pass_2x1, pass_2x2, pass_2x3, pass_2x4, pass_2x5, pass_2x6, pass_2x7, pass_2x8},
    {pass_3x1, pass_3x2, pass_3x3, pass_3x4, pass_3x5, pass_3x6, pass_3x7, pass_3x8},
    {pass_4x1, pass_4x2, pass_4x3, pass_4x4, pass_4x5, pass_4x6, pass_4x7, pass_4x8},
};

#endif
