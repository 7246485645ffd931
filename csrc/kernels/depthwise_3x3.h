/* Depthwise 3 x 3 windows that move by one or two: nothing is copied, each vector of the input serves all rows of outputs that read it.
 *
 * Four rows of outputs are made together. At the edges of the image vectors are loaded in part, and rows outside read as zeros. */
#ifndef TGE_DEPTHWISE_3X3_H
#define TGE_DEPTHWISE_3X3_H

#include "edge.h"

enum { GROUP = 4 }; /* rows of outputs */

/* The rows that a group reads, NULL outside of the image, where the first tap of the first output's column is, and the width. */
typedef struct {
    const float *row[2 * (GROUP - 1) + 3];
    int64_t left, width;
    int whole; /* no row is outside */
} group_rows;

static int suits_3x3(const tge_conv2d_params *p)
{
    return p->r == 3 && p->s == 3 && p->dilation_h == 1 && p->dilation_w == 1 && p->stride_h == p->stride_w && p->stride_h <= 2;
}

static inline group_rows rows_of_group(const float *plane, int64_t height, int64_t width, int64_t top, int64_t left, int count)
{
    group_rows g = {.left = left, .width = width, .whole = top >= 0 && top + count <= height};
    for (int i = 0; i < count; i++)
        g.row[i] = top + i >= 0 && top + i < height ? plane + (top + i) * width : NULL;
    return g;
}

static inline vf vload_row(const float *row, int64_t at, lane_mask mask) { return row ? vload_masked(row + at, mask) : vsplat(0.0f); }

/* What a vector of outputs reads of each row: from `at` on, all of it inside of the image or only the lanes of the masks. */
typedef struct {
    int64_t at, offset[4];
    lane_mask mask[4];
    int inside;
} reach;

ALWAYS_INLINE reach reach_of(const group_rows *g, int64_t column, int stride)
{
    reach r = {.at = g->left + column * stride, .offset = {0, stride == 1 ? 1 : VL, 2, 2 + VL}};
    r.inside = g->whole && r.at >= 0 && r.at + 2 + stride * VL <= g->width;
    if (!r.inside)
        for (int i = 0; i < (stride == 1 ? 3 : 4); i++)
            r.mask[i] = lanes_within(r.at + r.offset[i], g->width);
    return r;
}

/* value[s][lane] = row[at + s + lane * stride], s < 3. */
ALWAYS_INLINE void load_taps(vf value[3], const float *row, const reach *r, int stride, int inside)
{
    vf from[4];
    for (int i = 0; i < (stride == 1 ? 3 : 4); i++)
        from[i] = inside ? vload(row + r->at + r->offset[i]) : vload_row(row, r->at + r->offset[i], r->mask[i]);
    value[0] = stride == 1 ? from[0] : veven(from[0], from[1]);
    value[1] = stride == 1 ? from[1] : vodd(from[0], from[1]);
    value[2] = stride == 1 ? from[2] : veven(from[2], from[3]);
}

/* Fetch ahead in the order of memory what a group will read: the processor's own prefetching loses its way among many rows. Where outputs
 * are written, their place is fetched as well, and a little of both with each vector. Of narrow rows that move by one it keeps up by itself
 * where a vector is a line; 0 says that it is not. */
enum { AHEAD = 1024, UNFETCHED_ROW = VL == 16 ? 72 : 0 };

static inline void fetch(const float *from, int64_t floats)
{
    for (int64_t i = AHEAD; i < AHEAD + floats; i += 16)
        __builtin_prefetch(from + i, 0, 2);
}

/* ---- correlation: sums over the taps in their order ---- */

ALWAYS_INLINE void correlate_vector(vf sum[GROUP], const group_rows *g, const reach *r, const vf tap[9], int stride, int inside)
{
    for (int j = 0; j < GROUP; j++)
        sum[j] = vsplat(0.0f);
    _Pragma("GCC unroll 9")
    for (int i = 0; i < stride * (GROUP - 1) + 3; i++) {
        vf value[3];
        load_taps(value, g->row[i], r, stride, inside);
        _Pragma("GCC unroll 3")
        for (int s = 0; s < 3; s++)
            _Pragma("GCC unroll 4")
            for (int j = 0; j < GROUP; j++)
                if (i >= stride * j && i < stride * j + 3)
                    sum[j] = vfma(tap[(i - stride * j) * 3 + s], value[s], sum[j]);
    }
}

/* y[rows][columns] of one plane from x[height][width]; the first output's window begins at (top, left). */
ALWAYS_INLINE void correlate_plane(float *y, int64_t rows, int64_t columns, const float *x, int64_t height, int64_t width, int64_t top,
                                   int64_t left, const float *weight, int stride, int fetches)
{
    vf tap[9], sum[GROUP];
    for (int i = 0; i < 9; i++)
        tap[i] = vsplat(weight[i]);
    for (int64_t row = 0; row < rows; row += GROUP, y += GROUP * columns) {
        const group_rows g = rows_of_group(x, height, width, top + row * stride, left, stride * (GROUP - 1) + 3);
        const float *next_x = x + ((row + GROUP) * stride + 3 - stride + top) * width, *next_y = y + GROUP * columns;
        for (int64_t column = 0; column < columns; column += VL) {
            const reach r = reach_of(&g, column, stride);
            if (fetches) {
                fetch(next_x + column * GROUP * stride * stride, GROUP * VL * stride * stride);
                fetch(next_y + column * GROUP, GROUP * VL);
            }
            if (r.inside)
                correlate_vector(sum, &g, &r, tap, stride, 1);
            else
                correlate_vector(sum, &g, &r, tap, stride, 0);
            for (int64_t j = 0; j < min_i64(GROUP, rows - row); j++)
                vstore_upto(y + j * columns + column, columns - column, sum[j]);
        }
    }
}

/* The same of short rows: in strips of a vector, row by row from the top, with three rows of outputs under way. */
static void correlate_strips(float *y, int64_t rows, int64_t columns, const float *x, int64_t height, int64_t width, int64_t top,
                             int64_t left, const float *weight)
{
    vf tap[9];
    for (int i = 0; i < 9; i++)
        tap[i] = vsplat(weight[i]);
    for (int64_t column = 0; column < columns; column += VL) {
        lane_mask mask[3];
        for (int s = 0; s < 3; s++)
            mask[s] = lanes_within(left + column + s, width);
        vf now = vsplat(0.0f), before = now, first = now; /* the sums of rows u, u - 1 and u - 2 */
        for (int64_t u = 0; u < rows + 2; u++) {
            const int64_t h = top + u;
            if (UNFETCHED_ROW == 0 && column == 0) {
                fetch(x + u * width, WIDE);
                fetch(y + u * columns, WIDE);
            }
            if (h >= 0 && h < height)
                _Pragma("GCC unroll 3")
                for (int s = 0; s < 3; s++) {
                    const vf value = vload_masked(x + h * width + left + column + s, mask[s]);
                    first = vfma(tap[6 + s], value, first);
                    before = vfma(tap[3 + s], value, before);
                    now = vfma(tap[s], value, now);
                }
            if (u >= 2)
                vstore_upto(y + (u - 2) * columns + column, columns - column, first);
            first = before;
            before = now;
            now = vsplat(0.0f);
        }
    }
}

static void correlate_plane_by_1(float *y, int64_t rows, int64_t columns, const float *x, int64_t height, int64_t width, int64_t top,
                                 int64_t left, const float *weight)
{
    if (columns <= 2 * VL)
        correlate_strips(y, rows, columns, x, height, width, top, left, weight);
    else if (columns <= UNFETCHED_ROW)
        correlate_plane(y, rows, columns, x, height, width, top, left, weight, 1, 0);
    else
        correlate_plane(y, rows, columns, x, height, width, top, left, weight, 1, 1);
}

static void correlate_plane_by_2(float *y, int64_t rows, int64_t columns, const float *x, int64_t height, int64_t width, int64_t top,
                                 int64_t left, const float *weight)
{
    correlate_plane(y, rows, columns, x, height, width, top, left, weight, 2, 1);
}

/* ---- the gradient by the data of a window that moves by two ----
 *
 * Padded position u = h + pad is read by tap r of output row (u - r) / 2: even positions by taps 0 and 2, odd ones by tap 1. */
static void spread_plane_by_2(float *grad_x, const float *grad_y, const tge_conv2d_params *p, const float *weight)
{
    vf tap[9];
    for (int i = 0; i < 9; i++)
        tap[i] = vsplat(weight[i]);
    const int64_t odd_pad = p->pad_w % 2; /* then even columns of gx are odd positions, and the even ones follow them */
    for (int64_t i = p->pad_h / 2; i <= (p->h - 1 + p->pad_h) / 2; i++) {
        const group_rows g = rows_of_group(grad_y, p->p, p->q, i - 1, 0, 2);
        for (int64_t w = 0; w < p->w; w += 2 * VL) {
            const int64_t j = (w + p->pad_w + odd_pad) / 2;
            if (UNFETCHED_ROW == 0) {
                fetch(grad_x + (2 * i + 2 - p->pad_h) * p->w + 2 * w, 4 * VL);
                fetch(grad_y + i * p->q + w / 2, VL);
            }
            vf here[2], before[2]; /* at column j and j - 1, of rows i and i - 1 */
            const lane_mask here_mask = lanes_within(j, p->q), before_mask = lanes_within(j - 1, p->q);
            for (int row = 0; row < 2; row++) {
                here[row] = vload_row(g.row[1 - row], j, here_mask);
                before[row] = vload_row(g.row[1 - row], j - 1, before_mask);
            }
            const vf zero = vsplat(0.0f), *const middle = odd_pad ? before : here;
            vf even[2] = {vfma(tap[0], here[0], zero), vfma(tap[1], middle[0], zero)};
            even[0] = vfma(tap[8], before[1], vfma(tap[6], here[1], vfma(tap[2], before[0], even[0])));
            even[1] = vfma(tap[7], middle[1], even[1]);
            const vf odd[2] = {vfma(tap[5], before[0], vfma(tap[3], here[0], zero)), vfma(tap[4], middle[0], zero)};
            const vf *const both[2] = {even, odd};
            for (int phase = 0; phase < 2; phase++) {
                const int64_t h = 2 * i + phase - p->pad_h;
                if (h >= 0 && h < p->h)
                    store_pairs(grad_x + h * p->w + w, p->w - w, both[phase][odd_pad], both[phase][1 - odd_pad]);
            }
        }
    }
}

/* ---- the gradient by the weights: column j of an output row goes to lane j % 16 of nine sums ---- */

ALWAYS_INLINE void dot_vector(vf sum[9], const group_rows *g, const group_rows *grad, int64_t column, const reach *r, int stride, int inside)
{
    vf value[3], factor[GROUP];
    const lane_mask mask = lanes_within(column, grad->width);
    for (int j = 0; j < GROUP; j++)
        factor[j] = inside ? vload(grad->row[j] + column) : vload_row(grad->row[j], column, mask);
    _Pragma("GCC unroll 9")
    for (int i = 0; i < stride * (GROUP - 1) + 3; i++) {
        load_taps(value, g->row[i], r, stride, inside);
        _Pragma("GCC unroll 4")
        for (int j = 0; j < GROUP; j++)
            _Pragma("GCC unroll 3")
            for (int s = 0; s < 3; s++)
                if (i >= stride * j && i < stride * j + 3)
                    sum[(i - stride * j) * 3 + s] = vfma(factor[j], value[s], sum[(i - stride * j) * 3 + s]);
    }
}

/* Add the products of four output rows to the lanes. */
ALWAYS_INLINE void dot_group(float *lanes, const group_rows *g, const group_rows *grad, const float *next_x, const float *next_grad, int stride)
{
    for (int part = 0; part < WIDE; part += VL) {
        vf sum[9];
        for (int i = 0; i < 9; i++)
            sum[i] = vload(lanes + i * WIDE + part);
        for (int64_t column = part; column < grad->width; column += WIDE) {
            const reach r = reach_of(g, column, stride);
            if (stride == 1 && part == 0) {
                fetch(next_x + column * GROUP, GROUP * WIDE);
                fetch(next_grad + column * GROUP, GROUP * WIDE);
            }
            if (r.inside && grad->whole && column + VL <= grad->width)
                dot_vector(sum, g, grad, column, &r, stride, 1);
            else
                dot_vector(sum, g, grad, column, &r, stride, 0);
        }
        for (int i = 0; i < 9; i++)
            vstore(lanes + i * WIDE + part, sum[i]);
    }
}

/* The lanes are emptied into doubles before they have taken up more than so many products each. */
enum { LANE_TERMS = 512 };

/* Rows of outputs that are shorter are walked in strips: the order of the sums, and so the same for all vectors. */
enum { STRIP_ROW = 32 };

/* The sums of one channel on their way through the samples. */
typedef struct {
    _Alignas(64) float lanes[9 * WIDE];
    double total[9];
    int64_t taken;
} channel_sums;

static void empty_lanes(channel_sums *sums)
{
    _Alignas(64) float lanes[WIDE * WIDE] = {0};
    float sum[WIDE];
    memcpy(lanes, sums->lanes, sizeof sums->lanes);
    wide_sums(sum, lanes, 9);
    for (int i = 0; i < 9; i++)
        sums->total[i] += sum[i];
    memset(sums->lanes, 0, sizeof sums->lanes);
    sums->taken = 0;
}

/* Add the products of a plane of short rows: in strips of a vector, row by row from the top, while the sums stay in registers. */
static void dot_strips(float *lanes, const tge_conv2d_params *p, const float *x, const float *grad_y)
{
    for (int64_t column = 0; column < p->q; column += VL) {
        const lane_mask grad_mask = lanes_within(column, p->q);
        const float *row = x + column - p->pad_w;
        lane_mask mask[3];
        for (int s = 0; s < 3; s++)
            mask[s] = lanes_within(column - p->pad_w + s, p->w);
        vf sum[9], before = vsplat(0.0f), first = before; /* the gradient in rows u - 1 and u - 2 */
        float *to = lanes + column % WIDE;
        _Pragma("GCC unroll 9")
        for (int i = 0; i < 9; i++)
            sum[i] = vload(to + i * WIDE);
        for (int64_t u = 0; u < p->p + 2; u++) {
            const vf now = u < p->p ? vload_masked(grad_y + u * p->q + column, grad_mask) : vsplat(0.0f);
            const int64_t h = u - p->pad_h;
            if (column == 0) {
                fetch(x + u * p->w, WIDE);
                fetch(grad_y + u * p->q, WIDE);
                if (p->q > WIDE) {
                    fetch(x + u * p->w + WIDE, WIDE);
                    fetch(grad_y + u * p->q + WIDE, WIDE);
                }
            }
            if (h >= 0 && h < p->h)
                _Pragma("GCC unroll 3")
                for (int s = 0; s < 3; s++) {
                    const vf value = vload_masked(row + h * p->w + s, mask[s]);
                    sum[s] = vfma(now, value, sum[s]);
                    sum[3 + s] = vfma(before, value, sum[3 + s]);
                    sum[6 + s] = vfma(first, value, sum[6 + s]);
                }
            first = before;
            before = now;
        }
        _Pragma("GCC unroll 9")
        for (int i = 0; i < 9; i++)
            vstore(to + i * WIDE, sum[i]);
    }
}

/* Make room for so many products in each lane. */
static void take_terms(channel_sums *sums, int64_t terms)
{
    if (sums->taken + terms > LANE_TERMS)
        empty_lanes(sums);
    sums->taken += terms;
}

static void dot_plane(channel_sums *sums, const tge_conv2d_params *p, const float *x, const float *grad_y)
{
    const int64_t plane_terms = p->p * ceil_div(p->q, WIDE);
    if (p->stride_h == 1 && p->q < STRIP_ROW && plane_terms <= LANE_TERMS) {
        take_terms(sums, plane_terms);
        dot_strips(sums->lanes, p, x, grad_y);
        return;
    }
    const int64_t terms = GROUP * ceil_div(p->q, WIDE), stride = p->stride_h;
    for (int64_t row = 0; row < p->p; row += GROUP) {
        const group_rows grad = rows_of_group(grad_y, p->p, p->q, row, 0, GROUP);
        const group_rows g = rows_of_group(x, p->h, p->w, row * stride - p->pad_h, -p->pad_w, (int)stride * (GROUP - 1) + 3);
        const float *next_x = x + ((row + GROUP) * stride + 3 - stride - p->pad_h) * p->w, *next_grad = grad_y + (row + GROUP) * p->q;
        if (stride == 2) { /* at once: a little with each vector takes up to 1.2 times as long */
            fetch(next_grad, GROUP * p->q);
            fetch(next_x, GROUP * stride * p->w);
        }
        take_terms(sums, terms);
        if (stride == 1)
            dot_group(sums->lanes, &g, &grad, next_x, next_grad, 1);
        else
            dot_group(sums->lanes, &g, &grad, next_x, next_grad, 2);
    }
}

#endif
