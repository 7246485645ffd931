/* Convolutions whose weights are compressed rows (kernels.h): each non-zero is a window of one place. */
#include "window.h"

typedef struct {
    const tge_sparse_conv2d_params *p;
    const uint16_t *columns;
    const int32_t *rows; /* of the layer */
} sparse_layer;

static sparse_layer sparse_layer_of(const tge_sparse_conv2d_params *p, const void *columns, const void *rows)
{
    return (sparse_layer){p, columns, (const int32_t *)rows + p->first_row};
}

/* Where a non-zero reads: its channel, and its place in the window. */
typedef struct { int64_t c, top, left; } tap_place;

static tap_place place_of(const sparse_layer *l, int64_t row, int64_t at)
{
    const tge_conv2d_params *p = &l->p->conv;
    int64_t column = row % l->p->segments * 65536 + l->columns[at];
    return (tap_place){column / (p->r * p->s), column / p->s % p->r * p->dilation_h - p->pad_h, column % p->s * p->dilation_w - p->pad_w};
}

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
