/* A layer of sparse weights (kernels.h), as its kernels see it. */
#ifndef TGE_SPARSE_H
#define TGE_SPARSE_H

#include "window.h"

enum { SEGMENT = 65536 }; /* what a column of 16 bits can number */

typedef struct {
    const tge_sparse_conv2d_params *p;
    const uint16_t *columns;
    const int32_t *rows; /* of the layer */
} sparse_layer;

static inline sparse_layer sparse_layer_of(const tge_sparse_conv2d_params *p, const void *columns, const void *rows)
{
    return (sparse_layer){p, columns, (const int32_t *)rows + p->first_row};
}

static inline int64_t row_width(const tge_conv2d_params *p) { return p->c * p->r * p->s; }

#endif
