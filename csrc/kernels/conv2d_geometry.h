/* The correlations that a convolution and its gradient by the data are, whether their weights are dense or sparse. */
#ifndef TGE_CONV2D_GEOMETRY_H
#define TGE_CONV2D_GEOMETRY_H

#include "conv2d.h"

/* A window of one position that reads the image as it is makes each plane one long row, and adjacent planes of samples too. */
static void flatten_planes(correlation *p)
{
    axis *h = &p->window.h, *w = &p->window.w;
    if (!is_plain(&p->window) || p->out_w != 1 || p->out_h != w->grid)
        return;
    int64_t plane = h->size * w->size;
    *w = make_axis(plane, 0, 1, 1, 1, plane);
    *h = make_axis(1, 0, 1, 1, 1, 1);
    if (p->window.n_stride == plane && p->out_n == plane) {
        *w = make_axis(p->window.n * plane, 0, 1, 1, 1, p->window.n * plane);
        p->window.n = 1;
    }
}

static correlation forward_correlation(const tge_conv2d_params *p)
{
    int64_t taps = p->r * p->s;
    correlation f = {
        .window = forward_window(p),
        .groups = p->groups, .outputs = p->k / p->groups, .channels = p->c / p->groups,
        .out_n = p->y_n_stride, .out_c = p->y_c_stride, .out_h = p->q, .out_w = 1,
        .w_group = p->k / p->groups * (p->c / p->groups) * taps, .w_output = p->c / p->groups * taps, .w_channel = taps,
        .w_tap_h = p->s, .w_tap_w = 1,
    };
    flatten_planes(&f);
    return f;
}

/* The gradient by the data at positions x with (x + pad) % stride == residue: their window reads the output gradient without gaps, in
 * reverse, at the taps whose t * dilation has that residue. */
typedef struct {
    axis reads;             /* of the output gradient */
    int64_t first;          /* the first such position */
    int64_t last_tap, step; /* the window's taps are last_tap, last_tap - step, ... of the weights */
} reverse_axis;

static reverse_axis reverse(int64_t size, int64_t out, int64_t taps, int64_t stride, int64_t pad, int64_t dilation, int64_t residue)
{
    reverse_axis r;
    r.first = ((residue - pad) % stride + stride) % stride;
    r.step = stride / gcd(stride, dilation);
    int64_t tap = 0;
    while (tap < r.step && tap * dilation % stride != residue)
        tap++;
    int64_t count = tap < r.step && tap < taps ? (taps - 1 - tap) / r.step + 1 : 0;
    r.last_tap = tap + (count - 1) * r.step;
    r.reads = make_axis(out, (r.first + pad - r.last_tap * dilation) / stride, 1, dilation / gcd(stride, dilation), count,
                    size > r.first ? ceil_div(size - r.first, stride) : 0);
    return r;
}

static correlation backward_correlation(const tge_conv2d_params *p, int64_t residue_h, int64_t residue_w)
{
    reverse_axis h = reverse(p->h, p->p, p->r, p->stride_h, p->pad_h, p->dilation_h, residue_h);
    reverse_axis w = reverse(p->w, p->q, p->s, p->stride_w, p->pad_w, p->dilation_w, residue_w);
    int64_t taps = p->r * p->s, any = h.reads.taps * w.reads.taps > 0;
    correlation b = {
        .window = {.h = h.reads, .w = w.reads, .n = p->n, .n_stride = p->y_n_stride, .c_stride = p->y_c_stride},
        .groups = p->groups, .outputs = p->c / p->groups, .channels = any ? p->k / p->groups : 0,
        .out_start = h.first * p->w + w.first,
        .out_n = p->x_n_stride, .out_c = p->x_c_stride, .out_h = p->stride_h * p->w, .out_w = p->stride_w,
        .w_start = any ? h.last_tap * p->s + w.last_tap : 0,
        .w_group = p->k / p->groups * (p->c / p->groups) * taps, .w_output = taps, .w_channel = p->c / p->groups * taps,
        .w_tap_h = -h.step * p->s, .w_tap_w = -w.step,
    };
    flatten_planes(&b);
    return b;
}

typedef struct { const tge_conv2d_params *p; float *gx; } clear_job;

/* Channel by channel, of all samples. */
static void clear_chunk(void *context, int64_t channel)
{
    const clear_job *job = context;
    const tge_conv2d_params *p = job->p;
    for (int64_t n = 0; n < p->n; n++)
        memset(job->gx + channel * p->x_c_stride + n * p->x_n_stride, 0, sizeof(float) * (size_t)(p->h * p->w));
}

/* Whether no tap reads some positions of the image. */
static int leaves_gaps(const tge_conv2d_params *p)
{
    for (int64_t i = 0; i < p->stride_h; i++)
        for (int64_t j = 0; j < p->stride_w; j++)
            if (backward_correlation(p, i, j).channels == 0)
                return 1;
    return 0;
}

#endif
