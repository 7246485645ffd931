/* check_finite_f32, _f16, check_range_i32: looked at before a step assigns anything, so that a failed step changes nothing. */
#include "row.h"

enum { CHECK_PARTS = 64 };

typedef struct {
    const void *x;
    int64_t count, parts;
    int64_t found[CHECK_PARTS]; /* 1 + position, or 0 */
} finite_check;

/* x - x is 0 for a finite x and NaN for any other. */
static void check_part(void *context, int64_t part)
{
    finite_check *c = context;
    const int64_t first = c->count * part / c->parts, last = c->count * (part + 1) / c->parts;
    c->found[part] = 0;
    for (int64_t start = first; start < last; start += SUM_BLOCK) {
        const int64_t end = min_i64(start + SUM_BLOCK, last);
        vf difference = {0};
        for (int64_t i = start; i < end; i += VL) {
            const vf x = vload_upto((const float *)c->x + i, end - i);
            difference += x - x;
        }
        float lane[VL];
        vstore(lane, difference);
        int finite = 1;
        for (int i = 0; i < VL; i++)
            finite &= lane[i] == 0.0f;
        for (int64_t i = start; !finite && i < end; i++)
            if (!isfinite(((const float *)c->x)[i])) {
                c->found[part] = i + 1;
                return;
            }
    }
}

/* All ones in its exponent make a half infinite or NaN; the largest of a block says whether one has them. */
static void check_part_of_halves(void *context, int64_t part)
{
    finite_check *c = context;
    const uint16_t *x = c->x;
    const int64_t first = c->count * part / c->parts, last = c->count * (part + 1) / c->parts;
    c->found[part] = 0;
    for (int64_t start = first; start < last; start += SUM_BLOCK) {
        const int64_t end = min_i64(start + SUM_BLOCK, last);
        uint16_t largest = 0;
        for (int64_t i = start; i < end; i++) {
            const uint16_t magnitude = x[i] & 0x7fff;
            largest = magnitude > largest ? magnitude : largest;
        }
        for (int64_t i = start; largest >= 0x7c00 && i < end; i++)
            if ((x[i] & 0x7fff) >= 0x7c00) {
                c->found[part] = i + 1;
                return;
            }
    }
}

static int64_t check_finite(void *const *operand, const void *params, void (*check)(void *, int64_t))
{
    finite_check c = {.x = operand[0], .count = ((const tge_count_params *)params)->count};
    c.parts = c.count < 2 * CHUNK ? 1 : CHECK_PARTS;
    tge_parallel(c.parts, check, &c);
    for (int64_t part = 0; part < c.parts; part++)
        if (c.found[part])
            return c.found[part];
    return 0;
}

static int64_t check_finite_f32(void *const *operand, const void *params) { return check_finite(operand, params, check_part); }
static int64_t check_finite_f16(void *const *operand, const void *params) { return check_finite(operand, params, check_part_of_halves); }

/* One entry a sample: not worth threads. */
static int64_t check_range_i32(void *const *operand, const void *params)
{
    const tge_range_params *p = params;
    const int32_t *x = operand[0];
    for (int64_t i = 0; i < p->count; i++)
        if (x[i] < p->first || x[i] > p->last)
            return i + 1;
    return 0;
}
