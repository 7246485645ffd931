/* cast, full, arange_i32.
 *
 * Every element type fits in a double, so that a cast is load -> double -> store: 10 + 10 functions instead of 100, each rounding once.
 * Only the pairs that store saved values have loops of their own. */
#include "strided.h"

enum { TGE_DTYPES = TGE_BOOL + 1, CAST_BLOCK = 256 };

typedef void load_function(double *y, const void *x, int64_t n);
typedef void store_function(void *y, const double *x, int64_t n);

static const int32_t dtype_itemsize[TGE_DTYPES] = {
    [TGE_FLOAT32] = 4, [TGE_FLOAT64] = 8, [TGE_FLOAT16] = 2, [TGE_BFLOAT16] = 2, [TGE_INT32] = 4,
    [TGE_UINT32] = 4,  [TGE_UINT16] = 2,  [TGE_INT8] = 1,    [TGE_UINT8] = 1,     [TGE_BOOL] = 1,
};

/* ---- 16-bit floats: a vector at a time, the last one through a buffer ---- */

ALWAYS_INLINE void widen(float *y, const uint16_t *x, int64_t n, vf (*load)(const uint16_t *))
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        vstore(y + i, load(x + i));
    if (i < n) {
        uint16_t last[VL] = {0};
        memcpy(last, x + i, (size_t)(n - i) * 2);
        vstore_part(y + i, n - i, load(last));
    }
}

ALWAYS_INLINE void narrow(uint16_t *y, const float *x, int64_t n, void (*store)(uint16_t *, vf))
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        store(y + i, vload(x + i));
    if (i < n) {
        uint16_t last[VL];
        store(last, vload_part(x + i, n - i));
        memcpy(y + i, last, (size_t)(n - i) * 2);
    }
}

static void f32_of_f16(void *y, const void *x, int64_t n) { widen(y, x, n, vload_half); }
static void f32_of_bf16(void *y, const void *x, int64_t n) { widen(y, x, n, vload_bfloat16); }
static void f16_of_f32(void *y, const void *x, int64_t n) { narrow(y, x, n, vstore_half); }
static void bf16_of_f32(void *y, const void *x, int64_t n) { narrow(y, x, n, vstore_bfloat16); }

/* The float next to x with an odd last bit, or x itself when it is a float. A second rounding to fewer bits then gives what one rounding
 * of x would have given (Boldo & Melquiond 2008). */
static inline float round_to_odd(double x)
{
    const float nearest = (float)x;
    uint32_t bits;
    memcpy(&bits, &nearest, 4);
    if ((double)nearest != x && bits % 2 == 0)
        bits += fabs((double)nearest) > fabs(x) ? -1u : 1u;
    float odd;
    memcpy(&odd, &bits, 4);
    return odd;
}

/* ---- load ---- */

#define LOAD(name, type) \
    static void name(double *y, const void *x, int64_t n) \
    { \
        for (int64_t i = 0; i < n; i++) \
            y[i] = ((const type *)x)[i]; \
    }
LOAD(load_f32, float)
LOAD(load_f64, double)
LOAD(load_i32, int32_t)
LOAD(load_u32, uint32_t)
LOAD(load_u16, uint16_t)
LOAD(load_i8, int8_t)
LOAD(load_u8, uint8_t)
#undef LOAD

static void load_f16(double *y, const void *x, int64_t n)
{
    float block[CAST_BLOCK];
    f32_of_f16(block, x, n);
    load_f32(y, block, n);
}

static void load_bf16(double *y, const void *x, int64_t n)
{
    float block[CAST_BLOCK];
    f32_of_bf16(block, x, n);
    load_f32(y, block, n);
}

static load_function *const loads[TGE_DTYPES] = {
    [TGE_FLOAT32] = load_f32, [TGE_FLOAT64] = load_f64, [TGE_FLOAT16] = load_f16, [TGE_BFLOAT16] = load_bf16, [TGE_INT32] = load_i32,
    [TGE_UINT32] = load_u32,  [TGE_UINT16] = load_u16,  [TGE_INT8] = load_i8,     [TGE_UINT8] = load_u8,    [TGE_BOOL] = load_u8,
};

/* ---- store ---- */

/* The integers of the input are exact in int64; leaving out high bits wraps. */
#define STORE(name, type, convert) \
    static void name(void *y, const double *x, int64_t n) \
    { \
        for (int64_t i = 0; i < n; i++) \
            ((type *)y)[i] = (type)convert(x[i]); \
    }
STORE(store_f32, float, (double))
STORE(store_f64, double, (double))
STORE(store_i32, int32_t, (int64_t))
STORE(store_u32, uint32_t, (int64_t))
STORE(store_u16, uint16_t, (int64_t))
STORE(store_i8, int8_t, (int64_t))
STORE(store_u8, uint8_t, (int64_t))
STORE(store_bool, uint8_t, 0.0 !=)
#undef STORE

static void store_f16(void *y, const double *x, int64_t n)
{
    float block[CAST_BLOCK];
    for (int64_t i = 0; i < n; i++)
        block[i] = round_to_odd(x[i]);
    f16_of_f32(y, block, n);
}

static void store_bf16(void *y, const double *x, int64_t n)
{
    float block[CAST_BLOCK];
    for (int64_t i = 0; i < n; i++)
        block[i] = round_to_odd(x[i]);
    bf16_of_f32(y, block, n);
}

static store_function *const stores[TGE_DTYPES] = {
    [TGE_FLOAT32] = store_f32, [TGE_FLOAT64] = store_f64, [TGE_FLOAT16] = store_f16, [TGE_BFLOAT16] = store_bf16, [TGE_INT32] = store_i32,
    [TGE_UINT32] = store_u32,  [TGE_UINT16] = store_u16,  [TGE_INT8] = store_i8,     [TGE_UINT8] = store_u8,    [TGE_BOOL] = store_bool,
};

/* ---- saturation: what a float may be before it becomes an integer ---- */

typedef struct { double low, high; } range;

static const range integer_range[TGE_DTYPES] = {
    [TGE_INT32] = {INT32_MIN, INT32_MAX}, [TGE_UINT32] = {0, UINT32_MAX}, [TGE_UINT16] = {0, UINT16_MAX},
    [TGE_INT8] = {INT8_MIN, INT8_MAX},   [TGE_UINT8] = {0, UINT8_MAX},
};

static int is_float(int32_t dtype) { return dtype <= TGE_BFLOAT16; }

static void saturate(double *x, int64_t n, range r)
{
    for (int64_t i = 0; i < n; i++) {
        double y = x[i] == x[i] ? x[i] : 0.0;
        y = y > r.low ? y : r.low;
        x[i] = y < r.high ? y : r.high;
    }
}

/* ---- cast ---- */

typedef void convert_function(void *y, const void *x, int64_t n);

static convert_function *const conversions[TGE_DTYPES][TGE_DTYPES] = {
    [TGE_FLOAT16][TGE_FLOAT32] = f32_of_f16,
    [TGE_BFLOAT16][TGE_FLOAT32] = f32_of_bf16,
    [TGE_FLOAT32][TGE_FLOAT16] = f16_of_f32,
    [TGE_FLOAT32][TGE_BFLOAT16] = bf16_of_f32,
};

static void convert(void *y, int32_t to, const void *x, int32_t from, int64_t n)
{
    if (conversions[from][to]) {
        conversions[from][to](y, x, n);
        return;
    }
    const range r = integer_range[to];
    double block[CAST_BLOCK];
    for (int64_t first = 0; first < n; first += CAST_BLOCK) {
        const int64_t length = min_i64(CAST_BLOCK, n - first);
        loads[from](block, (const char *)x + first * dtype_itemsize[from], length);
        if (is_float(from) && r.low < r.high)
            saturate(block, length, r);
        stores[to]((char *)y + first * dtype_itemsize[to], block, length);
    }
}

typedef struct {
    const tge_cast_params *p;
    char *y;
    const char *x;
} cast_context;

static void cast_chunk(void *context, int64_t chunk)
{
    const cast_context *c = context;
    const int64_t first = chunk * CHUNK;
    convert(c->y + first * dtype_itemsize[c->p->to], c->p->to, c->x + first * dtype_itemsize[c->p->from], c->p->from,
            min_i64(CHUNK, c->p->count - first));
}

static int64_t cast(void *const *operand, const void *params)
{
    const tge_cast_params *p = params;
    cast_context c = {p, operand[0], operand[1]};
    tge_parallel(ceil_div(p->count, CHUNK), cast_chunk, &c);
    return 0;
}

/* ---- full, arange ---- */

/* The value is written out into a short pattern, which is then repeated. */
typedef struct {
    char *y;
    int64_t bytes;
    char pattern[8 * CAST_BLOCK];
} full_context;

enum { FULL_CHUNK = 4 * CHUNK }; /* bytes; a multiple of the pattern */

static void full_chunk(void *context, int64_t chunk)
{
    const full_context *c = context;
    const int64_t last = min_i64((chunk + 1) * FULL_CHUNK, c->bytes);
    for (int64_t first = chunk * FULL_CHUNK; first < last; first += sizeof c->pattern)
        memcpy(c->y + first, c->pattern, (size_t)min_i64(sizeof c->pattern, last - first));
}

static int64_t full(void *const *operand, const void *params)
{
    const tge_full_params *p = params;
    const int64_t itemsize = dtype_itemsize[p->dtype], bytes = p->count * itemsize;
    full_context c = {.y = operand[0], .bytes = bytes};
    char element[8];
    convert(element, p->dtype, &p->value, TGE_FLOAT64, 1);
    for (int64_t i = 0; i < min_i64(bytes, sizeof c.pattern); i += itemsize)
        memcpy(c.pattern + i, element, (size_t)itemsize);
    tge_parallel(ceil_div(bytes, FULL_CHUNK), full_chunk, &c);
    return 0;
}

static int64_t arange_i32(void *const *operand, const void *params)
{
    const tge_full_params *p = params;
    int32_t *y = operand[0];
    for (int64_t i = 0; i < p->count; i++)
        y[i] = (int32_t)i;
    return 0;
}
