/* The sum that everything else is made of. */
#ifndef TGE_SUM_H
#define TGE_SUM_H

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

#endif
