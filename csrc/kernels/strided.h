/* Walks over strided operands in row-major order: what elementwise, copy and reduce share. */
#ifndef TGE_STRIDED_H
#define TGE_STRIDED_H

#include "integers.h"

enum { MAX_NDIM = 8 };

/* Elements in one chunk of parallel work: worth waking a thread for, and fine enough to share out. */
enum { CHUNK = 32768 };

static inline int64_t clamp_i64(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }

static inline int64_t product(int32_t ndim, const int64_t *shape)
{
    int64_t n = 1;
    for (int32_t i = 0; i < ndim; i++)
        n *= shape[i];
    return n;
}

/* Set index to the position-th index of shape, and offset[k] to where operand k then is. */
static inline void walk_seek(int32_t ndim, const int64_t *shape, int32_t operands, const int64_t (*strides)[MAX_NDIM],
                             int64_t position, int64_t *index, int64_t *offset)
{
    for (int32_t k = 0; k < operands; k++)
        offset[k] = 0;
    for (int32_t i = ndim - 1; i >= 0; i--) {
        index[i] = position % shape[i];
        position /= shape[i];
        for (int32_t k = 0; k < operands; k++)
            offset[k] += index[i] * strides[k][i];
    }
}

/* The next index; after the last comes the first again. */
static inline void walk_next(int32_t ndim, const int64_t *shape, int32_t operands, const int64_t (*strides)[MAX_NDIM],
                             int64_t *index, int64_t *offset)
{
    for (int32_t i = ndim - 1; i >= 0; i--) {
        if (++index[i] < shape[i]) {
            for (int32_t k = 0; k < operands; k++)
                offset[k] += strides[k][i];
            return;
        }
        index[i] = 0;
        for (int32_t k = 0; k < operands; k++)
            offset[k] -= (shape[i] - 1) * strides[k][i];
    }
}

#endif
