/* Reductions of contiguous elements that all the others are made of. */
#ifndef TGE_ROW_H
#define TGE_ROW_H

#include "strided.h"

enum { SUM_BLOCK = 1024 };

/* Two accumulators of sixteen lanes, so that one addition need not wait for the one before it. For n <= SUM_BLOCK a lane
 * adds at most 32 terms and the tree 5 more levels: the error is at most 37 eps sum |x|. */
static inline float sum_block(const float *x, int64_t n)
{
    wide even = wide_splat(0.0f), odd = wide_splat(0.0f);
    int64_t i = 0;
    for (; i + 32 <= n; i += 32) {
        even = wide_add(even, wide_load(x + i));
        odd = wide_add(odd, wide_load(x + i + 16));
    }
    if (i + 16 <= n) {
        even = wide_add(even, wide_load(x + i));
        i += 16;
        if (i < n)
            odd = wide_add(odd, wide_load_part(x + i, n - i));
    } else if (i < n) {
        even = wide_add(even, wide_load_part(x + i, n - i));
    }
    return wide_sum(wide_add(even, odd));
}

/* Blocks in float, their sums in double. */
static inline double sum_row(const float *x, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i += SUM_BLOCK)
        sum += sum_block(x + i, min_i64(SUM_BLOCK, n - i));
    return sum;
}

/* The largest lane, NaN when there is one. */
static inline float max_lane(vf most)
{
    float lane[VL];
    vstore(lane, most);
    for (int half = VL / 2; half; half /= 2)
        for (int j = 0; j < half; j++)
            lane[j] = lane[j] > lane[j + half] || lane[j] != lane[j] ? lane[j] : lane[j + half];
    return lane[0];
}

/* NaN when there is one, -inf for n == 0. */
static inline float max_row(const float *x, int64_t n)
{
    vf most = vsplat(-INFINITY);
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        most = vmax_nan(most, vload(x + i));
    if (i < n)
        most = vmax_nan(most, vselect(viota() < visplat((int32_t)(n - i)), vload_part(x + i, n - i), vsplat(-INFINITY)));
    return max_lane(most);
}

/* The largest |x|, NaN when there is one, 0 for n == 0. */
static inline float max_magnitude(const float *x, int64_t n)
{
    vf most = {0};
    for (int64_t i = 0; i < n; i += VL)
        most = vmax_nan(most, vabs(vload_upto(x + i, n - i)));
    return max_lane(most);
}

#endif
