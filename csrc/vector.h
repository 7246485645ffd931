/* Vectors of VL floats: the only file with intrinsics.
 *
 * isa_*.c define VL and at most one of TGE_AVX512, TGE_AVX2, TGE_NEON before they include this file inside their target region.
 * The arithmetic operators of C work on vf, vi and vu (GCC and Clang vector extensions); a comparison gives a vi of 0 or -1.
 * Each translation unit holds one instruction set and every function is static, so that names need no suffix.
 */
#ifndef TGE_VECTOR_H
#define TGE_VECTOR_H

/* For loops that take the function of their body as an argument: inlined, the call is gone. */
#define ALWAYS_INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(4 * VL)));
typedef int32_t vi __attribute__((vector_size(4 * VL)));
typedef uint32_t vu __attribute__((vector_size(4 * VL)));
typedef uint64_t vq __attribute__((vector_size(4 * VL))); /* half as many lanes */
typedef uint16_t vh __attribute__((vector_size(2 * VL)));
typedef uint8_t vb __attribute__((vector_size(VL)));

/* What is loaded and stored as floats may be any type of 4 bytes. */
typedef float any32 __attribute__((may_alias));
typedef float vf_unaligned __attribute__((vector_size(4 * VL), aligned(4), may_alias));
typedef int32_t vi_unaligned __attribute__((vector_size(4 * VL), aligned(4), may_alias));
typedef uint16_t vh_unaligned __attribute__((vector_size(2 * VL), aligned(2), may_alias));
typedef uint8_t vb_unaligned __attribute__((vector_size(VL), aligned(1), may_alias));

/* ---- load, store, splat ---- */

static inline vf vload(const float *p) { return *(const vf_unaligned *)p; }
static inline void vstore(float *p, vf x) { *(vf_unaligned *)p = x; }
static inline vi viload(const int32_t *p) { return *(const vi_unaligned *)p; }
static inline void vistore(int32_t *p, vi x) { *(vi_unaligned *)p = x; }

/* x - 0 is x for every x, -0 and NaN included, and folds to a broadcast; 0 + x would be a true addition. */
static inline vf vsplat(float x) { return x - (vf){0}; }
static inline vi visplat(int32_t x) { return x - (vi){0}; }

static inline vb vbload(const uint8_t *p) { return *(const vb_unaligned *)p; }
static inline void vbstore(uint8_t *p, vb x) { *(vb_unaligned *)p = x; }

/* 0, 1, 2, ... */
static inline vi viota(void)
{
    vi x;
    for (int i = 0; i < VL; i++)
        x[i] = i;
    return x;
}

/* The first n lanes (0 <= n <= VL); the others read as zero and are not touched in memory. */
static inline vf vload_part(const float *p, int64_t n)
{
#if defined(TGE_AVX512)
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#elif defined(TGE_AVX2)
    return (vf)_mm256_maskload_ps(p, (__m256i)(viota() < visplat((int32_t)n)));
#else
    vf x = {0};
    const any32 *from = (const any32 *)p;
    for (int i = 0; i < VL; i++)
        if (i < n)
            x[i] = from[i];
    return x;
#endif
}

static inline void vstore_part(float *p, int64_t n, vf x)
{
#if defined(TGE_AVX512)
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)x);
#elif defined(TGE_AVX2)
    /* Stores under a mask are slow on many processors: by halves. */
    if (n >= VL) {
        vstore(p, x);
        return;
    }
    __m128 rest = _mm256_castps256_ps128((__m256)x);
    if (n & 4) {
        _mm_storeu_ps(p, rest);
        rest = _mm256_extractf128_ps((__m256)x, 1);
        p += 4;
    }
    if (n & 2) {
        _mm_storel_pi((__m64 *)p, rest);
        rest = _mm_movehl_ps(rest, rest);
        p += 2;
    }
    if (n & 1)
        _mm_store_ss(p, rest);
#else
    any32 *to = (any32 *)p;
    for (int i = 0; i < VL; i++)
        if (i < n)
            to[i] = x[i];
#endif
}

/* Some lanes of a vector: others read as zero and are not touched in memory. */
#if defined(TGE_AVX512)
typedef __mmask16 lane_mask;
#else
typedef vi lane_mask;
#endif

/* Lanes [low, high), where 0 <= low and high <= VL. */
static inline lane_mask lanes_between(int64_t low, int64_t high)
{
#if defined(TGE_AVX512)
    return (__mmask16)(((1u << high) - 1) & ~((1u << low) - 1));
#else
    return (viota() >= visplat((int32_t)low)) & (viota() < visplat((int32_t)high));
#endif
}

static inline vf vload_masked(const float *p, lane_mask mask)
{
#if defined(TGE_AVX512)
    return (vf)_mm512_maskz_loadu_ps(mask, p);
#elif defined(TGE_AVX2)
    return (vf)_mm256_maskload_ps(p, (__m256i)mask);
#else
    vf x = {0};
    const any32 *from = (const any32 *)p;
    for (int i = 0; i < VL; i++)
        if (mask[i])
            x[i] = from[i];
    return x;
#endif
}

static inline void vstore_masked(float *p, lane_mask mask, vf x)
{
#if defined(TGE_AVX512)
    _mm512_mask_storeu_ps(p, mask, (__m512)x);
#elif defined(TGE_AVX2)
    _mm256_maskstore_ps(p, (__m256i)mask, (__m256)x);
#else
    any32 *to = (any32 *)p;
    for (int i = 0; i < VL; i++)
        if (mask[i])
            to[i] = x[i];
#endif
}

/* The same for any n >= 0: whole vectors until the end of a row. */
static inline vf vload_upto(const float *p, int64_t n) { return n >= VL ? vload(p) : vload_part(p, n); }

static inline void vstore_upto(float *p, int64_t n, vf x)
{
    if (n >= VL)
        vstore(p, x);
    else
        vstore_part(p, n, x);
}

static inline vb vbload_part(const uint8_t *p, int64_t n)
{
    vb x = {0};
    for (int i = 0; i < VL; i++)
        if (i < n)
            x[i] = p[i];
    return x;
}

static inline void vbstore_upto(uint8_t *p, int64_t n, vb x)
{
    if (n >= VL)
        vbstore(p, x);
    else
        for (int i = 0; i < VL; i++)
            if (i < n)
                p[i] = x[i];
}

/* Between lanes of 32 bits and of 8, by way of 16: gcc takes lanes apart one by one when it has to go all the way. */
static inline vb vnarrow(vi x) { return __builtin_convertvector(__builtin_convertvector((vu)x, vh), vb); }
static inline vi vwiden(vb x) { return (vi)__builtin_convertvector(__builtin_convertvector(x, vh), vu); }

/* ---- arithmetic ---- */

/* a * b + c. Rounded once where the instruction set can; the build turns contraction off, so that this is the only place where it happens. */
static inline vf vfma(vf a, vf b, vf c)
{
#if defined(TGE_AVX512)
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(TGE_AVX2)
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(TGE_NEON)
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

static inline vf vselect(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }

/* a > b ? a : b, hence b when either is NaN. */
static inline vf vmax(vf a, vf b)
{
#if defined(TGE_AVX512)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(TGE_AVX2)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return vselect(a > b, a, b);
#endif
}

/* a < b ? a : b, hence b when either is NaN. */
static inline vf vmin(vf a, vf b)
{
#if defined(TGE_AVX512)
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(TGE_AVX2)
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return vselect(a < b, a, b);
#endif
}

/* The maximum as NumPy means it: NaN when either is NaN. */
static inline vf vmax_nan(vf a, vf b) { return vselect(a == a, vmax(a, b), a); }
static inline vf vmin_nan(vf a, vf b) { return vselect(a == a, vmin(a, b), a); }

static inline vf vabs(vf x) { return (vf)((vi)x & visplat(0x7fffffff)); }

/* The product of the low halves, in full. gcc does not find the one instruction by itself. */
static inline vq vmultiply_low(vq a, vq b)
{
#if defined(TGE_AVX512)
    return (vq)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(TGE_AVX2)
    return (vq)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(TGE_NEON)
    return (vq)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
#elif defined(__SSE2__) && !defined(__clang__)
    return (vq)__builtin_ia32_pmuludq128((vi)a, (vi)b);
#else
    return (a & 0xffffffff) * (b & 0xffffffff);
#endif
}

static inline vf vsqrt(vf x)
{
#if defined(TGE_AVX512)
    return (vf)_mm512_sqrt_ps((__m512)x);
#elif defined(TGE_AVX2)
    return (vf)_mm256_sqrt_ps((__m256)x);
#elif defined(TGE_NEON)
    return (vf)vsqrtq_f32((float32x4_t)x);
#else
    for (int i = 0; i < VL; i++)
        x[i] = sqrtf(x[i]);
    return x;
#endif
}

/* e^x within 1.02 ulp; subnormal results, overflow to infinity, zero and NaN as in libm.
 * x = n ln 2 + r with |r| <= ln 2 / 2; a polynomial gives e^r; 2^n is applied in two steps, because n reaches from -150 to 128. */
static inline vf vexp(vf x)
{
    const float shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer, found in the low bits */
    x = vmin(vsplat(89.0f), vmax(vsplat(-104.0f), x));
    vf shifted = vfma(x, vsplat(1.44269504f), vsplat(shift));
    vf n = shifted - shift;
    vf r = vfma(n, vsplat(-0.693145752f), x); /* ln 2 in two parts: n times the first is exact */
    r = vfma(n, vsplat(-1.42860677e-6f), r);
    vf p = vsplat(1.38145988e-3f); /* minimax for (e^r - 1 - r) / r^2: 3e-9 of e^r at worst */
    p = vfma(p, r, vsplat(8.36871658e-3f));
    p = vfma(p, r, vsplat(4.1668389e-2f));
    p = vfma(p, r, vsplat(1.66665211e-1f));
    p = vfma(p, r, vsplat(0.49999994f));
    p = vfma(p * r, r, r) + 1.0f;
    vi power = (vi)shifted - (vi)vsplat(shift);
    vi half = power >> 1;
    return p * (vf)((half + 127) << 23) * (vf)((power - half + 127) << 23);
}

/* ---- transposition ---- */

#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vi){__VA_ARGS__})
#endif

/* Lanes of a and b in turn, from their lower or their upper halves. */
static inline vf vinterleave_low(vf a, vf b)
{
#if VL == 16
    return SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#elif VL == 8
    return SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#else
    return SHUFFLE(a, b, 0, 4, 1, 5);
#endif
}

static inline vf vinterleave_high(vf a, vf b)
{
#if VL == 16
    return SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif VL == 8
    return SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
    return SHUFFLE(a, b, 2, 6, 3, 7);
#endif
}

/* The same for lanes of 64 bits. */
static inline vq vqinterleave_low(vq a, vq b)
{
#if VL == 16
    return (vq)SHUFFLE((vf)a, (vf)b, 0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23);
#elif VL == 8
    return (vq)SHUFFLE((vf)a, (vf)b, 0, 1, 8, 9, 2, 3, 10, 11);
#else
    return (vq)SHUFFLE((vf)a, (vf)b, 0, 1, 4, 5);
#endif
}

static inline vq vqinterleave_high(vq a, vq b)
{
#if VL == 16
    return (vq)SHUFFLE((vf)a, (vf)b, 8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31);
#elif VL == 8
    return (vq)SHUFFLE((vf)a, (vf)b, 4, 5, 12, 13, 6, 7, 14, 15);
#else
    return (vq)SHUFFLE((vf)a, (vf)b, 2, 3, 6, 7);
#endif
}

/* Even lanes of a, then of b. */
static inline vf veven(vf a, vf b)
{
#if VL == 16
    return SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
#elif VL == 8
    return SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
#else
    return SHUFFLE(a, b, 0, 2, 4, 6);
#endif
}

static inline vf vodd(vf a, vf b)
{
#if VL == 16
    return SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#elif VL == 8
    return SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
#else
    return SHUFFLE(a, b, 1, 3, 5, 7);
#endif
}

/* x[0], x[stride], ...: the first min(n, VL) of them, zeros in other lanes. */
static inline vf vload_strided(const float *x, int64_t stride, int64_t n)
{
    if (stride == 1)
        return vload_upto(x, n);
    if (stride == 2) {
        const int64_t floats = 2 * (n < VL ? n : VL) - 1; /* up to the last that is wanted */
        const vf low = vload_upto(x, floats);
        return veven(low, floats > VL ? vload_part(x + VL, floats - VL) : (vf){0});
    }
    vf y = {0};
    for (int i = 0; i < VL; i++)
        if (i < n)
            y[i] = x[i * stride];
    return y;
}

/* Transpose VL rows in place: log2(VL) perfect shuffles of the whole square. */
static inline void vtranspose(vf row[VL])
{
    for (int stage = VL; stage > 1; stage /= 2) {
        vf next[VL];
        for (int i = 0; i < VL / 2; i++) {
            next[2 * i] = vinterleave_low(row[i], row[i + VL / 2]);
            next[2 * i + 1] = vinterleave_high(row[i], row[i + VL / 2]);
        }
        for (int i = 0; i < VL; i++)
            row[i] = next[i];
    }
}

/* ---- 16-bit floats: uint16_t in memory, rounded to nearest even ---- */

static inline vf vload_half(const uint16_t *p)
{
#if defined(TGE_AVX512)
    return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif defined(TGE_AVX2)
    return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#elif defined(TGE_NEON)
    return (vf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
#else
    /* Exponent and fraction moved into place are the value times 2^-112, subnormals included; infinity and NaN get the top exponent. */
    vu h = __builtin_convertvector(*(const vh_unaligned *)p, vu);
    vu bits = (h & 0x7fff) << 13;
    vf value = (vf)bits * 0x1p112f;
    vu special = (vu)(bits >= (0x7c00u << 13)) & 0x7f800000u;
    vu quiet = (vu)(bits > (0x7c00u << 13)) & 0x00400000u;
    return (vf)((vu)value | special | quiet | ((h & 0x8000) << 16));
#endif
}

/* Whole vectors until the end of a row: of n < VL halves the other lanes are zero. */
static inline vf vload_half_upto(const uint16_t *p, int64_t n)
{
    if (n >= VL)
        return vload_half(p);
    uint16_t last[VL] = {0};
    memcpy(last, p, (size_t)n * 2);
    return vload_half(last);
}

static inline void vstore_half(uint16_t *p, vf x)
{
#if defined(TGE_AVX512)
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT));
#elif defined(TGE_AVX2)
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT));
#elif defined(TGE_NEON)
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)x)));
#else
    vu sign = ((vu)x >> 16) & 0x8000;
    vu bits = (vu)x & 0x7fffffff;
    vu normal = (bits - (112u << 23) + 0xfff + ((bits >> 13) & 1)) >> 13;
    vu subnormal = (vu)((vf)bits + 0.5f) - (126u << 23); /* adding 0.5 leaves exactly the ten bits that stay */
    vu nan = 0x7e00 | ((bits >> 13) & 0x3ff);
    vu tiny = (vu)(bits < (113u << 23)), huge = (vu)(bits >= 0x477ff000u), is_nan = (vu)(bits > 0x7f800000u);
    vu h = (tiny & subnormal) | (~tiny & normal);
    h = (huge & 0x7c00) | (~huge & h);
    h = (is_nan & nan) | (~is_nan & h);
    *(vh_unaligned *)p = __builtin_convertvector(h | sign, vh);
#endif
}

static inline vf vload_bfloat16(const uint16_t *p)
{
    return (vf)(__builtin_convertvector(*(const vh_unaligned *)p, vu) << 16);
}

static inline void vstore_bfloat16(uint16_t *p, vf x)
{
    vu bits = (vu)x, is_nan = (vu)(x != x);
    vu rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    *(vh_unaligned *)p = __builtin_convertvector((is_nan & ((bits >> 16) | 0x40)) | (~is_nan & rounded), vh);
}

/* ---- sixteen lanes, whatever VL is ----
 *
 * A sum over memory adds element i into lane i % 16 and ends with one fixed tree, so that its bits do not depend on the vector width. */

enum { WIDE = 16 };
typedef struct { vf part[WIDE / VL]; } wide;

static inline wide wide_splat(float x)
{
    wide w;
    for (int i = 0; i < 16 / VL; i++)
        w.part[i] = vsplat(x);
    return w;
}

static inline wide wide_load(const float *p)
{
    wide w;
    for (int i = 0; i < 16 / VL; i++)
        w.part[i] = vload(p + i * VL);
    return w;
}

/* The first n of sixteen; the others read as zero. */
static inline wide wide_load_part(const float *p, int64_t n)
{
    wide w;
    for (int i = 0; i < 16 / VL; i++) {
        int64_t left = n - i * VL;
        w.part[i] = left <= 0 ? (vf){0} : left >= VL ? vload(p + i * VL) : vload_part(p + i * VL, left);
    }
    return w;
}

/* The same of halves. */
static inline wide wide_load_half(const uint16_t *p, int64_t n)
{
    wide w;
    for (int i = 0; i < 16 / VL; i++)
        w.part[i] = n <= i * VL ? (vf){0} : vload_half_upto(p + i * VL, n - i * VL);
    return w;
}

static inline wide wide_add(wide a, wide b)
{
    for (int i = 0; i < 16 / VL; i++)
        a.part[i] += b.part[i];
    return a;
}

static inline wide wide_subtract(wide a, wide b)
{
    for (int i = 0; i < 16 / VL; i++)
        a.part[i] -= b.part[i];
    return a;
}

/* a * b + c */
static inline wide wide_fma(wide a, wide b, wide c)
{
    for (int i = 0; i < 16 / VL; i++)
        c.part[i] = vfma(a.part[i], b.part[i], c.part[i]);
    return c;
}

static inline wide wide_max(wide a, wide b)
{
    for (int i = 0; i < 16 / VL; i++)
        a.part[i] = vmax_nan(a.part[i], b.part[i]);
    return a;
}

static inline float wide_sum(wide w)
{
    float lane[16];
    for (int i = 0; i < 16 / VL; i++)
        vstore(lane + i * VL, w.part[i]);
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    return lane[0];
}

/* sum[i] = wide_sum of sixteen floats at lanes + 16 i, for i < count rounded up to VL. Interleaving two vectors before each step of the
 * tree serves both, and leaves their sums in the order of reversed bits. */
static inline void wide_sums(float *sum, const float *lanes, int count)
{
#if VL == 16
    static const int8_t reversed[VL] = {0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15};
#elif VL == 8
    static const int8_t reversed[VL] = {0, 4, 2, 6, 1, 5, 3, 7};
#else
    static const int8_t reversed[VL] = {0, 2, 1, 3};
#endif
    for (int first = 0; first < count; first += VL) {
        vf level[VL];
        _Pragma("GCC unroll 16") for (int i = 0; i < VL; i++) {
            const float *from = lanes + (first + reversed[i]) * WIDE;
            vf part[WIDE / VL];
            _Pragma("GCC unroll 4") for (int j = 0; j < WIDE / VL; j++) part[j] = vload(from + j * VL);
            _Pragma("GCC unroll 2") for (int half = WIDE / VL / 2; half; half /= 2)
                _Pragma("GCC unroll 2") for (int j = 0; j < half; j++) part[j] += part[j + half];
            level[i] = part[0];
        }
        _Pragma("GCC unroll 4") for (int half = VL / 2; half; half /= 2)
            _Pragma("GCC unroll 8") for (int i = 0; i < half; i++) {
                const vf even = level[2 * i], odd = level[2 * i + 1];
                level[i] = vinterleave_low(even, odd) + vinterleave_high(even, odd);
            }
        vstore(sum + first, level[0]);
    }
}

/* NaN when any lane is. */
static inline float wide_max_across(wide w)
{
    float lane[16];
    for (int i = 0; i < 16 / VL; i++)
        vstore(lane + i * VL, w.part[i]);
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] = lane[i] > lane[i + half] || lane[i] != lane[i] ? lane[i] : lane[i + half];
    return lane[0];
}

#endif
