/* The gradient by sparse weights, at the non-zeros alone. */
#include "sparse.h"

static void add_weights(float *g, const float *image, const float *gy, const sparse_layer *l)
{
    const tge_conv2d_params *p = &l->p->conv;
    for (int64_t row = 0; row < p->k * l->p->segments; row++)
        for (int64_t at = l->rows[row]; at < l->rows[row + 1]; at++) {
            tap_place tap = place_of(l, row, at);
            float sum = 0;
            for (int64_t n = 0; n < p->n; n++) {
                const float *one = image + n * p->x_n_stride + tap.c * p->x_c_stride;
                const float *other = gy + n * p->y_n_stride + row / l->p->segments * p->y_c_stride;
                EACH_PIXEL(p, tap, y, x, sum += one[x] * other[y])
            }
            g[at] += sum;
        }
}

static int64_t sparse_conv2d_backward_weights_f32(void *const *operand, const void *params)
{
    sparse_layer l = sparse_layer_of(params, operand[3], operand[4]);
    memset(operand[0], 0, sizeof(float) * (size_t)l.p->capacity);
    add_weights(operand[0], operand[1], operand[2], &l);
    return 0;
}

static int64_t sparse_conv2d_accumulate_weights_f32(void *const *operand, const void *params)
{
    sparse_layer l = sparse_layer_of(params, operand[4], operand[5]);
    if (operand[0] != operand[1])
        memcpy(operand[0], operand[1], sizeof(float) * (size_t)l.p->capacity);
    add_weights(operand[0], operand[2], operand[3], &l);
    return 0;
}
