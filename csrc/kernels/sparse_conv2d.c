/* sparse_conv2d_f32 and sparse_conv2d_backward_data_f32: convolutions whose weights are compressed rows. */
#include "sparse.h"

/* For each pixel of a plane of y whose tap lies in the image: offset in y, offset in x. */
#define EACH_PIXEL(p, tap, y, x, body) \
    for (int64_t i = 0; i < (p)->p; i++) \
        for (int64_t j = 0; j < (p)->q; j++) { \
            int64_t from_h = i * (p)->stride_h + (tap).top, from_w = j * (p)->stride_w + (tap).left; \
            if (from_h >= 0 && from_h < (p)->h && from_w >= 0 && from_w < (p)->w) { \
                int64_t y = i * (p)->q + j, x = from_h * (p)->w + from_w; \
                body; \
            } \
        }

static int64_t sparse_conv2d_f32(void *const *operand, const void *params)
{
    sparse_layer l = sparse_layer_of(params, operand[3], operand[4]);
    const tge_conv2d_params *p = &l.p->conv;
    const float *values = operand[2];
    for (int64_t n = 0; n < p->n; n++)
        for (int64_t k = 0; k < p->k; k++) {
            float *to = (float *)operand[0] + n * p->y_n_stride + k * p->y_c_stride;
            memset(to, 0, sizeof(float) * (size_t)(p->p * p->q));
            for (int64_t row = k * l.p->segments; row < (k + 1) * l.p->segments; row++)
                for (int64_t at = l.rows[row]; at < l.rows[row + 1]; at++) {
                    tap_place tap = place_of(&l, row, at);
                    const float *from = (const float *)operand[1] + n * p->x_n_stride + tap.c * p->x_c_stride;
                    EACH_PIXEL(p, tap, y, x, to[y] += values[at] * from[x])
                }
        }
    return 0;
}

static int64_t sparse_conv2d_backward_data_f32(void *const *operand, const void *params)
{
    sparse_layer l = sparse_layer_of(params, operand[3], operand[4]);
    const tge_conv2d_params *p = &l.p->conv;
    const float *values = operand[2];
    for (int64_t n = 0; n < p->n; n++) {
        for (int64_t c = 0; c < p->c; c++)
            memset((float *)operand[0] + n * p->x_n_stride + c * p->x_c_stride, 0, sizeof(float) * (size_t)(p->h * p->w));
        for (int64_t row = 0; row < p->k * l.p->segments; row++)
            for (int64_t at = l.rows[row]; at < l.rows[row + 1]; at++) {
                tap_place tap = place_of(&l, row, at);
                float *to = (float *)operand[0] + n * p->x_n_stride + tap.c * p->x_c_stride;
                const float *from = (const float *)operand[1] + n * p->y_n_stride + row / l.p->segments * p->y_c_stride;
                EACH_PIXEL(p, tap, y, x, to[x] += values[at] * from[y])
            }
    }
    return 0;
}
