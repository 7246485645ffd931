/* Functions of vectors beside vexp. The stated errors are the largest over all floats, with a fused multiply-add and without. */
#ifndef TGE_TRANSCENDENTAL_H
#define TGE_TRANSCENDENTAL_H

/* ln x within 1 ulp; -inf at 0, NaN below.
 * x = 2^k (1 + f) with 1 + f between sqrt(1/2) and sqrt(2). With s = f / (2 + f), ln(1 + f) = 2 artanh(s) = f - f^2/2 + s (f^2/2 + r),
 * where r = 2 (s^2/3 + s^4/5 + ...); five terms leave 2e-9. Written so, the large parts (f, k ln 2) are exact and come last. */
static inline vf vlog(vf x)
{
    const int32_t sqrt_half = 0x3f3504f3;
    vi subnormal = x < vsplat(0x1p-126f);
    vi bits = (vi)vselect(subnormal, x * 0x1p23f, x) - sqrt_half;
    vf k = __builtin_convertvector((bits >> 23) - (subnormal & 23), vf);
    vf f = (vf)((bits & 0x7fffff) + sqrt_half) - 1.0f;
    vf s = f / (f + 2.0f), s2 = s * s;
    vf r = vsplat(2.0f / 9);
    r = vfma(r, s2, vsplat(2.0f / 7));
    r = vfma(r, s2, vsplat(2.0f / 5));
    r = vfma(r, s2, vsplat(2.0f / 3)) * s2;
    vf half_square = 0.5f * f * f;
    vf small = vfma(s, half_square + r, k * 1.42860677e-6f);
    vf y = vfma(k, vsplat(0.693145752f), f - (half_square - small));
    y = vselect(x < vsplat(INFINITY), y, x); /* infinity and NaN */
    y = vselect(x == vsplat(0.0f), vsplat(-INFINITY), y);
    return vselect(x < vsplat(0.0f), vsplat(NAN), y);
}

/* tanh x within 2 ulp: an odd polynomial (minimax on the interval) near 0, where 1 - 2 / (e^2x + 1) would cancel. */
static inline vf vtanh(vf x)
{
    vf a = vabs(x), x2 = x * x;
    vf p = vsplat(-5.70498640e-3f);
    p = vfma(p, x2, vsplat(2.06390861e-2f));
    p = vfma(p, x2, vsplat(-5.37397154e-2f));
    p = vfma(p, x2, vsplat(1.33314416e-1f));
    p = vfma(p, x2, vsplat(-3.33332807e-1f));
    vf near = vfma(p * x2, x, x);
    vf far = 1.0f - 2.0f / (vexp(a + a) + 1.0f);
    vi sign = (vi)x & INT32_MIN;
    return vselect(a < vsplat(0.625f), near, (vf)((vi)far | sign));
}

/* 1 / (1 + e^-x) within 3 ulp. The exponential of -|x| never overflows, so that small results are small and not 0. */
static inline vf vsigmoid(vf x)
{
    vf e = vexp(-vabs(x));
    return vselect(x < vsplat(0.0f), e, vsplat(1.0f)) / (1.0f + e);
}

/* libm's, a lane at a time: correct to 1 ulp with all special cases is worth more here than speed. */
static inline vf vpow(vf x, vf y)
{
    for (int i = 0; i < VL; i++)
        x[i] = powf(x[i], y[i]);
    return x;
}

#endif
