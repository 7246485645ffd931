/* compare_f32, compare_i32, logical_bool, where_b32: the elementwise kernels that read or write bools (one byte, 0 or 1). */
#include "map.h"

typedef int8_t vb_signed __attribute__((vector_size(VL)));

static inline vb bool_of_mask(vi mask) { return (vb)-__builtin_convertvector(mask, vb_signed); }
static inline vi mask_of_bool(vb x) { return -__builtin_convertvector(x, vi); }

/* ---- comparisons ---- */

static inline vi equal(vf a, vf b) { return a == b; }
static inline vi not_equal(vf a, vf b) { return a != b; }
static inline vi less(vf a, vf b) { return a < b; }
static inline vi less_equal(vf a, vf b) { return a <= b; }
static inline vi greater(vf a, vf b) { return a > b; }
static inline vi greater_equal(vf a, vf b) { return a >= b; }

static inline vi equal_i32(vf a, vf b) { return (vi)a == (vi)b; }
static inline vi not_equal_i32(vf a, vf b) { return (vi)a != (vi)b; }
static inline vi less_i32(vf a, vf b) { return (vi)a < (vi)b; }
static inline vi less_equal_i32(vf a, vf b) { return (vi)a <= (vi)b; }
static inline vi greater_i32(vf a, vf b) { return (vi)a > (vi)b; }
static inline vi greater_equal_i32(vf a, vf b) { return (vi)a >= (vi)b; }

ALWAYS_INLINE void map_compare(uint8_t *y, const void *const *input, const int64_t *step, int64_t n, vi (*f)(vf, vf))
{
    const float *a = input[0], *b = input[1];
    const int64_t a_step = step[0], b_step = step[1];
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        vbstore(y + i, bool_of_mask(f(vload(a + i * a_step), vload(b + i * b_step))));
    if (i < n)
        vbstore_upto(y + i, n - i, bool_of_mask(f(vload_part(a + i * a_step, n - i), vload_part(b + i * b_step, n - i))));
}

#define COMPARE(name, f) \
    static void name(void *y, const void *const *x, const int64_t *step, int64_t n) { map_compare(y, x, step, n, f); }

COMPARE(row_equal, equal)
COMPARE(row_not_equal, not_equal)
COMPARE(row_less, less)
COMPARE(row_less_equal, less_equal)
COMPARE(row_greater, greater)
COMPARE(row_greater_equal, greater_equal)
COMPARE(row_equal_i32, equal_i32)
COMPARE(row_not_equal_i32, not_equal_i32)
COMPARE(row_less_i32, less_i32)
COMPARE(row_less_equal_i32, less_equal_i32)
COMPARE(row_greater_i32, greater_i32)
COMPARE(row_greater_equal_i32, greater_equal_i32)

#undef COMPARE

static row_function *const float_compare_rows[] = {
    [TGE_EQUAL] = row_equal,
    [TGE_NOT_EQUAL] = row_not_equal,
    [TGE_LESS] = row_less,
    [TGE_LESS_EQUAL] = row_less_equal,
    [TGE_GREATER] = row_greater,
    [TGE_GREATER_EQUAL] = row_greater_equal,
};

static row_function *const integer_compare_rows[] = {
    [TGE_EQUAL] = row_equal_i32,
    [TGE_NOT_EQUAL] = row_not_equal_i32,
    [TGE_LESS] = row_less_i32,
    [TGE_LESS_EQUAL] = row_less_equal_i32,
    [TGE_GREATER] = row_greater_i32,
    [TGE_GREATER_EQUAL] = row_greater_equal_i32,
};

static const int32_t bool_of_b32[] = {1, 4, 4, 0};

static int64_t compare_f32(void *const *operand, const void *params)
{
    const tge_elementwise_params *p = params;
    return map_rows(float_compare_rows[p->op], operand, p, bool_of_b32);
}

static int64_t compare_i32(void *const *operand, const void *params)
{
    const tge_elementwise_params *p = params;
    return map_rows(integer_compare_rows[p->op], operand, p, bool_of_b32);
}

/* ---- logic ---- */

static inline vb logical_and(vb a, vb b) { return a & b; }
static inline vb logical_or(vb a, vb b) { return a | b; }

ALWAYS_INLINE void map_logical(uint8_t *y, const void *const *input, const int64_t *step, int64_t n, vb (*f)(vb, vb))
{
    const uint8_t *a = input[0], *b = input[1];
    const int64_t a_step = step[0], b_step = step[1];
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        vbstore(y + i, f(vbload(a + i * a_step), vbload(b + i * b_step)));
    if (i < n)
        vbstore_upto(y + i, n - i, f(vbload_part(a + i * a_step, n - i), vbload_part(b + i * b_step, n - i)));
}

static void row_and(void *y, const void *const *x, const int64_t *step, int64_t n) { map_logical(y, x, step, n, logical_and); }
static void row_or(void *y, const void *const *x, const int64_t *step, int64_t n) { map_logical(y, x, step, n, logical_or); }

static void row_not(void *output, const void *const *input, const int64_t *step, int64_t n)
{
    uint8_t *y = output;
    const uint8_t *x = input[0];
    for (int64_t i = 0; i < n; i++)
        y[i] = x[step[0] ? i : 0] ^ 1;
}

static row_function *const logical_rows[] = {[TGE_AND] = row_and, [TGE_OR] = row_or, [TGE_NOT] = row_not};

static int64_t logical_bool(void *const *operand, const void *params)
{
    static const int32_t one_byte_each[] = {1, 1, 1, 1};
    const tge_elementwise_params *p = params;
    return map_rows(logical_rows[p->op], operand, p, one_byte_each);
}

/* ---- where ---- */

static void row_where(void *output, const void *const *input, const int64_t *step, int64_t n)
{
    float *y = output;
    const uint8_t *condition = input[0];
    const float *a = input[1], *b = input[2];
    const int64_t condition_step = step[0], a_step = step[1], b_step = step[2];
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        vstore(y + i, vselect(mask_of_bool(vbload(condition + i * condition_step)), vload(a + i * a_step), vload(b + i * b_step)));
    if (i < n)
        vstore_part(y + i, n - i, vselect(mask_of_bool(vbload_part(condition + i * condition_step, n - i)),
                                          vload_part(a + i * a_step, n - i), vload_part(b + i * b_step, n - i)));
}

static int64_t where_b32(void *const *operand, const void *params)
{
    static const int32_t b32_of_bool[] = {4, 1, 4, 4};
    return map_rows(row_where, operand, params, b32_of_bool);
}
