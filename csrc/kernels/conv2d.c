/* conv2d_f32 and conv2d_backward_data_f32: a correlation of the image, and of the output gradient with the reversed window. */
#include "conv2d_direct.h"
#include "conv2d_geometry.h"
#include "conv2d_narrow.h"
#include "conv2d_spread.h"
#include "conv2d_winograd.h"

static void correlate(correlation *p, void *const *operand)
{
    p->out = (float *)operand[0] + p->out_start;
    p->source = operand[1];
    p->weights = (const float *)operand[2] + p->w_start;
    if (suits_winograd(p))
        correlate_winograd(p, operand[3]);
    else if (suits_narrow(p))
        correlate_narrow(p, operand[3]);
    else
        correlate_direct(p, operand[3]);
}

static int64_t correlation_workspace(const correlation *p, int32_t threads)
{
    return suits_winograd(p) ? winograd_workspace(p, threads)
        : suits_narrow(p)    ? narrow_workspace(p, threads)
                             : direct_workspace(p, threads);
}

static int64_t conv2d_f32(void *const *operand, const void *params)
{
    correlation f = forward_correlation(params);
    correlate(&f, operand);
    return 0;
}

static int64_t conv2d_f32_workspace(const void *params, int32_t threads)
{
    correlation f = forward_correlation(params);
    return correlation_workspace(&f, threads);
}

static int64_t conv2d_backward_data_f32(void *const *operand, const void *params)
{
    const tge_conv2d_params *p = params;
    if (suits_spread(p)) {
        backward_data_spread(operand, p);
        return 0;
    }
    clear_job clear = {p, operand[0]};
    int gaps = leaves_gaps(p);
    if (gaps)
        tge_parallel(p->c, clear_chunk, &clear);
    for (int64_t i = 0; i < p->stride_h; i++)
        for (int64_t j = 0; j < p->stride_w; j++) {
            correlation b = backward_correlation(p, i, j);
            if (!gaps || b.channels > 0)
                correlate(&b, operand);
        }
    return 0;
}

static int64_t conv2d_backward_data_f32_workspace(const void *params, int32_t threads)
{
    const tge_conv2d_params *p = params;
    if (suits_spread(p))
        return spread_workspace(p, threads);
    int64_t bytes = 0;
    for (int64_t i = 0; i < p->stride_h; i++)
        for (int64_t j = 0; j < p->stride_w; j++) {
            correlation b = backward_correlation(p, i, j);
            bytes = max_i64(bytes, correlation_workspace(&b, threads));
        }
    return bytes;
}
