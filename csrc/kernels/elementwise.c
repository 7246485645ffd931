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
static inline vf hardswish(vf x) { return x * relu6(x + 3.0f) / 6.0f; }

static inline vf add(vf a, vf b) { return a + b; }
static inline vf subtract(vf a, vf b) { return a - b; }
static inline vf multiply(vf a, vf b) { return a * b; }
static inline vf divide(vf a, vf b) { return a / b; }

static inline vf relu_backward(vf grad, vf y) { return (vf)((vi)grad & (y > vsplat(0.0f))); }
static inline vf relu6_backward(vf grad, vf y) { return (vf)((vi)grad & (y > vsplat(0.0f)) & (y < vsplat(6.0f))); }

static inline vf hardswish_backward(vf grad, vf x)
{
    vf middle = grad * (x / 3.0f + 0.5f);
    vf right = vselect(x >= vsplat(3.0f), grad, middle);
    return vselect(x <= vsplat(-3.0f), vsplat(0.0f), right);
}

static inline vf clip(vf x, vf low, vf high) { return vmin_nan(vmax_nan(x, low), high); }

#define UNARY(name, f) \
    static void name(void *y, const void *const *x, const int64_t *step, int64_t n) { map_unary(y, x, step, n, f); }
#define BINARY(name, f) \
    static void name(void *y, const void *const *x, const int64_t *step, int64_t n) { map_binary(y, x, step, n, f); }
#define TERNARY(name, f) \
    static void name(void *y, const void *const *x, const int64_t *step, int64_t n) { map_ternary(y, x, step, n, f); }

UNARY(negative_row, negative)
UNARY(abs_row, vabs)
UNARY(sign_row, sign)
UNARY(exp_row, vexp)
UNARY(log_row, vlog)
UNARY(sqrt_row, vsqrt)
UNARY(tanh_row, vtanh)
UNARY(sigmoid_row, vsigmoid)
UNARY(relu_row, relu)
UNARY(relu6_row, relu6)
UNARY(hardswish_row, hardswish)
BINARY(add_row, add)
BINARY(subtract_row, subtract)
BINARY(multiply_row, multiply)
BINARY(divide_row, divide)
BINARY(power_row, vpow)
BINARY(maximum_row, vmax_nan)
BINARY(minimum_row, vmin_nan)
BINARY(relu_backward_row, relu_backward)
BINARY(relu6_backward_row, relu6_backward)
BINARY(hardswish_backward_row, hardswish_backward)
TERNARY(clip_row, clip)

static row_function *const float_rows[] = {
    [TGE_NEGATIVE] = negative_row,
    [TGE_ABS] = abs_row,
    [TGE_SIGN] = sign_row,
    [TGE_EXP] = exp_row,
    [TGE_LOG] = log_row,
    [TGE_SQRT] = sqrt_row,
    [TGE_TANH] = tanh_row,
    [TGE_SIGMOID] = sigmoid_row,
    [TGE_RELU] = relu_row,
    [TGE_RELU6] = relu6_row,
    [TGE_HARDSWISH] = hardswish_row,
    [TGE_ADD] = add_row,
    [TGE_SUBTRACT] = subtract_row,
    [TGE_MULTIPLY] = multiply_row,
    [TGE_DIVIDE] = divide_row,
    [TGE_POWER] = power_row,
    [TGE_MAXIMUM] = maximum_row,
    [TGE_MINIMUM] = minimum_row,
    [TGE_RELU_BACKWARD] = relu_backward_row,
    [TGE_RELU6_BACKWARD] = relu6_backward_row,
    [TGE_HARDSWISH_BACKWARD] = hardswish_backward_row,
    [TGE_CLIP] = clip_row,
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

UNARY(negative_i32_row, negative_i32)
UNARY(abs_i32_row, abs_i32)
UNARY(sign_i32_row, sign_i32)
BINARY(add_i32_row, add_i32)
BINARY(subtract_i32_row, subtract_i32)
BINARY(multiply_i32_row, multiply_i32)
BINARY(maximum_i32_row, maximum_i32)
BINARY(minimum_i32_row, minimum_i32)

static row_function *const integer_rows[] = {
    [TGE_NEGATIVE] = negative_i32_row,
    [TGE_ABS] = abs_i32_row,
    [TGE_SIGN] = sign_i32_row,
    [TGE_ADD] = add_i32_row,
    [TGE_SUBTRACT] = subtract_i32_row,
    [TGE_MULTIPLY] = multiply_i32_row,
    [TGE_MAXIMUM] = maximum_i32_row,
    [TGE_MINIMUM] = minimum_i32_row,
};

static int64_t elementwise_i32(void *const *operand, const void *params)
{
    const tge_elementwise_params *p = params;
    return map_rows(integer_rows[p->op], operand, p, four_bytes_each);
}

#undef UNARY
#undef BINARY
#undef TERNARY
