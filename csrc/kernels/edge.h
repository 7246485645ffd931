/* Vectors that overhang a row of an image: lanes outside of it read as zeros and are not written. */
#ifndef TGE_EDGE_H
#define TGE_EDGE_H

#include "strided.h"

/* The lanes of elements at, at + 1, ... that lie in a row. */
static inline lane_mask lanes_within(int64_t at, int64_t width)
{
    return lanes_between(clamp_i64(-at, 0, VL), clamp_i64(width - at, 0, VL));
}

static inline void vstore_within(float *row, int64_t at, int64_t width, vf x)
{
    if (at >= 0 && at + VL <= width)
        vstore(row + at, x);
    else
        vstore_masked(row + at, lanes_within(at, width), x);
}

#endif
