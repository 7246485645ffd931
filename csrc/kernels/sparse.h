/* A layer of sparse weights (kernels.h), as its kernels see it: each non-zero is a window of one place. */
#ifndef TGE_SPARSE_H
#define TGE_SPARSE_H

#include "window.h"

typedef struct {
    const tge_sparse_conv2d_params *p;
    const uint16_t *columns;
    const int32_t *rows; /* of the layer */
} sparse_layer;

static inline sparse_layer sparse_layer_of(const tge_sparse_conv2d_params *p, const void *columns, const void *rows)
{
    return (sparse_layer){p, columns, (const int32_t *)rows + p->first_row};
}

/* Where a non-zero reads: its channel, and its place in the window. */
typedef struct { int64_t c, top, left; } tap_place;

static inline tap_place place_of(const sparse_layer *l, int64_t row, int64_t at)
{
    const tge_conv2d_params *p = &l->p->conv;
    int64_t column = row % l->p->segments * 65536 + l->columns[at];
    return (tap_place){column / (p->r * p->s), column / p->s % p->r * p->dilation_h - p->pad_h, column % p->s * p->dilation_w - p->pad_w};
}

#endif
