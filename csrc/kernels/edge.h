/* Vectors that overhang a row of an image: lanes outside of it are not touched. */
#ifndef TGE_EDGE_H
#define TGE_EDGE_H

#include "strided.h"

/* The lanes of elements at, at + 1, ... that lie in a row. */
static inline lane_mask lanes_within(int64_t at, int64_t width)
{
    return lanes_between(clamp_i64(-at, 0, VL), clamp_i64(width - at, 0, VL));
}

/* Lanes of a and b in turn, as far as the row goes. */
static inline void store_pairs(float *row, int64_t left, vf a, vf b)
{
    vstore_upto(row, left, vinterleave_low(a, b));
    if (left > VL)
        vstore_upto(row + VL, left - VL, vinterleave_high(a, b));
}

#endif
