/* multiply_add_f32: independent multiply-adds in registers, the most arithmetic that a core can do. `bench` measures shares of it. */
#include "strided.h"

/* As many sums as hide the latency of an addition, and as 16 or 32 registers hold beside the two constants. */
#if defined(TGE_AVX512) || defined(TGE_NEON)
enum { PEAK_SUMS = 24 };
#else
enum { PEAK_SUMS = 12 };
#endif

enum { PEAK_CHUNK = 24 * 16 }; /* elements, the same for all sets */

typedef struct {
    float *y;
    const float *x;
    int64_t count, rounds;
} multiply_adds;

static void multiply_add_chunk(void *context, int64_t chunk)
{
    const multiply_adds *c = context;
    const vf half = vsplat(0.5f), one = vsplat(1.0f);
    const int64_t last = min_i64((chunk + 1) * PEAK_CHUNK, c->count);

    for (int64_t first = chunk * PEAK_CHUNK; first < last; first += PEAK_SUMS * VL) {
        vf sum[PEAK_SUMS];
        for (int i = 0; i < PEAK_SUMS; i++)
            sum[i] = first + i * VL < last ? vload_upto(c->x + first + i * VL, last - first - i * VL) : one;
        for (int64_t round = 0; round < c->rounds; round++)
            _Pragma("GCC unroll 24") for (int i = 0; i < PEAK_SUMS; i++) sum[i] = vfma(sum[i], half, one);
        for (int i = 0; i < PEAK_SUMS && first + i * VL < last; i++)
            vstore_upto(c->y + first + i * VL, last - first - i * VL, sum[i]);
    }
}

static int64_t multiply_add_f32(void *const *operand, const void *params)
{
    const tge_multiply_add_params *p = params;
    multiply_adds c = {.y = operand[0], .x = operand[1], .count = p->count, .rounds = p->rounds};
    tge_parallel(ceil_div(p->count, PEAK_CHUNK), multiply_add_chunk, &c);
    return 0;
}
