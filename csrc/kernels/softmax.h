/* What softmax and cross-entropy share. The maximum is subtracted first, so that the largest exponential is 1. */
#ifndef TGE_SOFTMAX_H
#define TGE_SOFTMAX_H

#include "row.h"

/* y = e^(x - most); returns the sum of y. */
static inline double exp_row(float *y, const float *x, int64_t n, float most)
{
    for (int64_t i = 0; i < n; i += VL)
        vstore_upto(y + i, n - i, vexp(vload_upto(x + i, n - i) - most));
    return sum_row(y, n);
}

/* The sum of e^(x - most), with nothing stored. */
static inline double sum_exp_row(const float *x, int64_t n, float most)
{
    float block[SUM_BLOCK];
    double sum = 0.0;
    for (int64_t i = 0; i < n; i += SUM_BLOCK)
        sum += exp_row(block, x + i, min_i64(SUM_BLOCK, n - i), most);
    return sum;
}

#endif
