/* elementwise_f32, elementwise_i32: one function of a vector for each operation, instantiated as row functions. */
#include "map.h"
#include "transcendental.h"

/* ---- float ---- */

static inline vf negative(vf x) { return -x; }

static inline vf sign(vf x)
{
    vf one = (vf)((vi)vsplat(1.0f) | ((vi)x & INT32_MIN));
    return vselect(x == vsplat(0.0f), vsplat(0.0f), vselect(x == x, one, x));
}

/* vmax(0, x) is x when x is NaN. */
static inline vf relu(vf x) { return vmax(vsplat(0.0f), x); }
static inline vf relu6(vf x) { return vmin(vsplat(6.0f), relu(x)); }
static inline vf hardswish(vf x) { return x * (relu6(x + 3.0f) / 6.0f); }

static inline vf add(vf a, vf b) { return a + b; }
static inline vf subtract(vf a, vf b) { return a - b; }
static inline vf multiply(vf a, vf b) { return a * b; }
static inline vf divide(vf a, vf b) { return a / b; }

static inline vf relu_backward(vf grad, vf y) { return (vf)((vi)grad & (y > vsplat(0.0f))); }
static inline vf relu6_backward(vf grad, vf y) { return (vf)((vi)grad & (y > vsplat(0.0f)) & (y < vsplat(6.0f))); }

static inline vf hardswish_backward(vf grad, vf x)
{
    const vf middle = (2.0f * x + 3.0f) / 6.0f;
    const vf slope = vselect(x <= vsplat(-3.0f), vsplat(0.0f), vselect(x >= vsplat(3.0f), vsplat(1.0f), middle));
    return grad * slope;
}

static inline vf clip(vf x, vf low, vf high) { return vmin_nan(vmax_nan(x, low), high); }

#define UNARY(name, f) \
    static void name(void *y, const void *const *x, const int64_t *step, int64_t n) { map_unary(y, x, step, n, f); }
#define BINARY(name, f) \
    static void name(void *y, const void *const *x, const int64_t *step, int64_t n) { map_binary(y, x, step, n, f); }
#define TERNARY(name, f) \
    static void name(void *y, const void *const *x, const int64_t *step, int64_t n) { map_ternary(y, x, step, n, f); }

UNARY(row_negative, negative)
UNARY(row_abs, vabs)
UNARY(row_sign, sign)
UNARY(row_exp, vexp)
UNARY(row_log, vlog)
UNARY(row_sqrt, vsqrt)
UNARY(row_tanh, vtanh)
UNARY(row_sigmoid, vsigmoid)
UNARY(row_relu, relu)
UNARY(row_relu6, relu6)
UNARY(row_hardswish, hardswish)
BINARY(row_add, add)
BINARY(row_subtract, subtract)
BINARY(row_multiply, multiply)
BINARY(row_divide, divide)
BINARY(row_power, vpow)
BINARY(row_maximum, vmax_nan)
BINARY(row_minimum, vmin_nan)
BINARY(row_relu_backward, relu_backward)
BINARY(row_relu6_backward, relu6_backward)
BINARY(row_hardswish_backward, hardswish_backward)
TERNARY(row_clip, clip)

static row_function *const float_rows[] = {
    [TGE_NEGATIVE] = row_negative,
    [TGE_ABS] = row_abs,
    [TGE_SIGN] = row_sign,
    [TGE_EXP] = row_exp,
    [TGE_LOG] = row_log,
    [TGE_SQRT] = row_sqrt,
    [TGE_TANH] = row_tanh,
    [TGE_SIGMOID] = row_sigmoid,
    [TGE_RELU] = row_relu,
    [TGE_RELU6] = row_relu6,
    [TGE_HARDSWISH] = row_hardswish,
    [TGE_ADD] = row_add,
    [TGE_SUBTRACT] = row_subtract,
    [TGE_MULTIPLY] = row_multiply,
    [TGE_DIVIDE] = row_divide,
    [TGE_POWER] = row_power,
    [TGE_MAXIMUM] = row_maximum,
    [TGE_MINIMUM] = row_minimum,
    [TGE_RELU_BACKWARD] = row_relu_backward,
    [TGE_RELU6_BACKWARD] = row_relu6_backward,
    [TGE_HARDSWISH_BACKWARD] = row_hardswish_backward,
    [TGE_CLIP] = row_clip,
};

static const int32_t four_bytes_each[] = {4, 4, 4, 4};

static int64_t elementwise_f32(void *const *operand, const void *params)
{
    const tge_elementwise_params *p = params;
    return map_rows(float_rows[p->op], operand, p, four_bytes_each);
}

/* ---- integers travel as the bits of floats; unsigned arithmetic wraps ---- */

static inline vf negative_i32(vf x) { return (vf)-(vu)x; }
static inline vf abs_i32(vf x) { return (vf)(((vu)x ^ (vu)((vi)x >> 31)) - (vu)((vi)x >> 31)); }
static inline vf sign_i32(vf x) { return (vf)(((vi)x < 0) - ((vi)x > 0)); }
static inline vf add_i32(vf a, vf b) { return (vf)((vu)a + (vu)b); }
static inline vf subtract_i32(vf a, vf b) { return (vf)((vu)a - (vu)b); }
static inline vf multiply_i32(vf a, vf b) { return (vf)((vu)a * (vu)b); }
static inline vf maximum_i32(vf a, vf b) { return vselect((vi)a > (vi)b, a, b); }
static inline vf minimum_i32(vf a, vf b) { return vselect((vi)a < (vi)b, a, b); }

UNARY(row_negative_i32, negative_i32)
UNARY(row_abs_i32, abs_i32)
UNARY(row_sign_i32, sign_i32)
BINARY(row_add_i32, add_i32)
BINARY(row_subtract_i32, subtract_i32)
BINARY(row_multiply_i32, multiply_i32)
BINARY(row_maximum_i32, maximum_i32)
BINARY(row_minimum_i32, minimum_i32)

static row_function *const integer_rows[] = {
    [TGE_NEGATIVE] = row_negative_i32,
    [TGE_ABS] = row_abs_i32,
    [TGE_SIGN] = row_sign_i32,
    [TGE_ADD] = row_add_i32,
    [TGE_SUBTRACT] = row_subtract_i32,
    [TGE_MULTIPLY] = row_multiply_i32,
    [TGE_MAXIMUM] = row_maximum_i32,
    [TGE_MINIMUM] = row_minimum_i32,
};

static int64_t elementwise_i32(void *const *operand, const void *params)
{
    const tge_elementwise_params *p = params;
    return map_rows(integer_rows[p->op], operand, p, four_bytes_each);
}

#undef UNARY
#undef BINARY
#undef TERNARY
