/* Winograd's minimal filtering F(4 x 4, 3 x 3): 16 outputs of a 3 x 3 window, which read 6 x 6 inputs, for 36 multiplications instead of 144.
 *
 *     y = A^T [ (G g G^T) . (B^T d B) ] A             d: 6 x 6 inputs, g: 3 x 3 weights, y: 4 x 4 outputs, . elementwise
 *
 * (Lavin & Gray 2016). Summed over channels, each of the 36 elements is a matrix product. The matrices come from polynomials of degree 5
 * being known at 0, +-a, +-b and infinity. The usual points 1 and 2 lose accuracy; a = sqrt(1/2) and b = sqrt(2) lose much less
 * (reciprocal points: Barabasz et al. 2020) and keep squares rational:
 *
 *     B^T = 1     0  -5/2     0   1   0     G = 1        0     0       A^T = 1     1     1     1     1   0
 *           0   -2a    -2     a   1   0        (1        a   1/2) * -2/3     0     a    -a     b    -b   0
 *           0    2a    -2    -a   1   0        (1       -a   1/2) * -2/3     0   1/2   1/2     2     2   0
 *           0  -b/2  -1/2     b   1   0        (1        b     2) *  1/6     0   a/2  -a/2    2b   -2b   1
 *           0   b/2  -1/2    -b   1   0        (1       -b     2) *  1/6
 *           0     1     0  -5/2   0   1         0        0     1
 *
 * The gradient by the weights is the adjoint in g:  gw = G^T [ (A gy A^T) . (B^T d B) ] G,  the elementwise product summed over tiles.
 *
 * Error. One application of a matrix rounds a term at most 6 times, its coefficient included; so with the three transforms done along two
 * axes each, and n terms in the sum, the error is at most gamma(n + 36) times the same formula with absolute values of all matrices and
 * operands (gamma as in Higham 2002, section 3.1).
 */
#ifndef TGE_WINOGRAD_H
#define TGE_WINOGRAD_H

#include "window.h"

enum {
    TILE_OUT = 4,
    TILE_IN = 6,
    TILE_POINTS = TILE_IN * TILE_IN,
};

#define POINT_A 0.707106781186547524f
#define POINT_B 1.41421356237309505f

/* Whether a window is 3 x 3 and moves by one. */
static int is_tiled(const sliding_window *window)
{
    const axis *h = &window->h, *w = &window->w;
    return h->taps == 3 && w->taps == 3 && h->step == 1 && w->step == 1 && h->dilation == 1 && w->dilation == 1;
}

static int64_t tile_count(const sliding_window *window)
{
    return window->n * ceil_div(window->h.grid, TILE_OUT) * ceil_div(window->w.grid, TILE_OUT);
}

/* B^T d */
ALWAYS_INLINE void transform_input(vf v[TILE_IN], const vf d[TILE_IN])
{
    vf even_a = vfma(vsplat(-2.0f), d[2], d[4]), odd_a = vfma(vsplat(-2.0f), d[1], d[3]);
    vf even_b = vfma(vsplat(-0.5f), d[2], d[4]), odd_b = vfma(vsplat(-0.5f), d[1], d[3]);
    v[0] = vfma(vsplat(-2.5f), d[2], d[0] + d[4]);
    v[1] = vfma(vsplat(POINT_A), odd_a, even_a);
    v[2] = vfma(vsplat(-POINT_A), odd_a, even_a);
    v[3] = vfma(vsplat(POINT_B), odd_b, even_b);
    v[4] = vfma(vsplat(-POINT_B), odd_b, even_b);
    v[5] = vfma(vsplat(-2.5f), d[3], d[1] + d[5]);
}

/* G g */
ALWAYS_INLINE void transform_weights(vf u[TILE_IN], const vf g[3])
{
    vf scale_a = vsplat(-2.0f / 3), scale_b = vsplat(1.0f / 6);
    vf even_a = vfma(vsplat(0.5f), g[2], g[0]), even_b = vfma(vsplat(2.0f), g[2], g[0]);
    u[0] = g[0];
    u[1] = vfma(vsplat(POINT_A), g[1], even_a) * scale_a;
    u[2] = vfma(vsplat(-POINT_A), g[1], even_a) * scale_a;
    u[3] = vfma(vsplat(POINT_B), g[1], even_b) * scale_b;
    u[4] = vfma(vsplat(-POINT_B), g[1], even_b) * scale_b;
    u[5] = g[2];
}

/* A^T m */
ALWAYS_INLINE void transform_output(vf y[TILE_OUT], const vf m[TILE_IN])
{
    vf sum_a = m[1] + m[2], difference_a = m[1] - m[2];
    vf sum_b = m[3] + m[4], difference_b = m[3] - m[4];
    y[0] = m[0] + sum_a + sum_b;
    y[1] = vfma(vsplat(POINT_A), difference_a, vsplat(POINT_B) * difference_b);
    y[2] = vfma(vsplat(0.5f), sum_a, vsplat(2.0f) * sum_b);
    y[3] = vfma(vsplat(POINT_A / 2), difference_a, vfma(vsplat(2 * POINT_B), difference_b, m[5]));
}

/* A gy */
ALWAYS_INLINE void transform_output_gradient(vf v[TILE_IN], const vf g[TILE_OUT])
{
    vf even_a = vfma(vsplat(0.5f), g[2], g[0]), odd_a = vfma(vsplat(0.5f), g[3], g[1]);
    vf even_b = vfma(vsplat(2.0f), g[2], g[0]), odd_b = vfma(vsplat(2.0f), g[3], g[1]);
    v[0] = g[0];
    v[1] = vfma(vsplat(POINT_A), odd_a, even_a);
    v[2] = vfma(vsplat(-POINT_A), odd_a, even_a);
    v[3] = vfma(vsplat(POINT_B), odd_b, even_b);
    v[4] = vfma(vsplat(-POINT_B), odd_b, even_b);
    v[5] = g[3];
}

/* G^T m */
ALWAYS_INLINE void transform_weights_gradient(vf w[3], const vf m[TILE_IN])
{
    vf sum_a = vsplat(-2.0f / 3) * (m[1] + m[2]), difference_a = vsplat(-2.0f / 3) * (m[1] - m[2]);
    vf sum_b = vsplat(1.0f / 6) * (m[3] + m[4]), difference_b = vsplat(1.0f / 6) * (m[3] - m[4]);
    w[0] = m[0] + sum_a + sum_b;
    w[1] = vfma(vsplat(POINT_A), difference_a, vsplat(POINT_B) * difference_b);
    w[2] = vfma(vsplat(0.5f), sum_a, vfma(vsplat(2.0f), sum_b, m[5]));
}

/* What lies at 4 * lane + 0 .. 3, for VL lanes, in four vectors; and back. */
ALWAYS_INLINE void load_quads(vf quad[TILE_OUT], const float *from)
{
    vf a = vload(from), b = vload(from + VL), c = vload(from + 2 * VL), d = vload(from + 3 * VL);
    vf even_low = veven(a, b), even_high = veven(c, d), odd_low = vodd(a, b), odd_high = vodd(c, d);
    quad[0] = veven(even_low, even_high);
    quad[1] = veven(odd_low, odd_high);
    quad[2] = vodd(even_low, even_high);
    quad[3] = vodd(odd_low, odd_high);
}

ALWAYS_INLINE void store_quads(float *to, const vf quad[TILE_OUT])
{
    vf even_low = vinterleave_low(quad[0], quad[2]), even_high = vinterleave_high(quad[0], quad[2]);
    vf odd_low = vinterleave_low(quad[1], quad[3]), odd_high = vinterleave_high(quad[1], quad[3]);
    vstore(to, vinterleave_low(even_low, odd_low));
    vstore(to + VL, vinterleave_high(even_low, odd_low));
    vstore(to + 2 * VL, vinterleave_low(even_high, odd_high));
    vstore(to + 3 * VL, vinterleave_high(even_high, odd_high));
}

#endif
