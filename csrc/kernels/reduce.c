/* sum_f32, sum_i32, max_f32 over any axes.
 *
 * A sum is cut by its shape alone: into PARTS parts of equal length, each into blocks, each block into float lanes. Blocks are
 * added up in double precision, then the parts in order. So it does not matter which thread sums a part. */
#include "row.h"

enum { PARTS = 16, COLUMNS = 256, COLUMN_ROWS = 32 };

/* Block: n contiguous elements, at most SUM_BLOCK. Columns: add `rows` rows of n columns to total[n]. A double holds all
 * values that occur: floats, and integers modulo 2^32. */
typedef struct {
    double identity;
    double (*block)(const float *x, int64_t n);
    void (*columns)(double *total, const float *const *row, int64_t rows, int64_t n);
    double (*combine)(double a, double b);
    void (*store)(float *y, double x);
} reducer;

typedef struct {
    const reducer *r;
    float *y;
    const float *x;
    int32_t kept, reduced; /* axes that are walked; the last reduced one is `length` in rows, the last kept one `width` in columns */
    int64_t kept_shape[MAX_NDIM];
    int64_t kept_strides[1][MAX_NDIM];
    int64_t reduced_shape[MAX_NDIM];
    int64_t reduced_strides[1][MAX_NDIM];
    int64_t length, stride; /* of a row; 1 and 1 in columns */
    int64_t width;          /* columns beside one another; 1 in rows */
    int64_t groups;         /* outputs, or groups of up to COLUMNS outputs */
    int64_t groups_in_row;
    int64_t units;          /* blocks in one output, or rows in one column */
    int64_t parts;
    int64_t groups_in_chunk;
} reduction;

/* ---- one part of one group: total[] of as many outputs as the group has ---- */

static const float *group_start(const reduction *r, int64_t group)
{
    int64_t index[MAX_NDIM], offset;
    walk_seek(r->kept, r->kept_shape, 1, r->kept_strides, group / r->groups_in_row, index, &offset);
    return r->x + offset + group % r->groups_in_row * COLUMNS;
}

static double block_of(const reduction *r, const float *x, int64_t n)
{
    if (r->stride == 1)
        return r->r->block(x, n);
    float packed[SUM_BLOCK];
    for (int64_t i = 0; i < n; i++)
        memcpy(packed + i, x + i * r->stride, 4);
    return r->r->block(packed, n);
}

static double reduce_row_part(const reduction *r, const float *x, int64_t first, int64_t last)
{
    const int64_t blocks = ceil_div(r->length, SUM_BLOCK);
    int64_t index[MAX_NDIM], offset;
    walk_seek(r->reduced, r->reduced_shape, 1, r->reduced_strides, first / blocks, index, &offset);
    double total = r->r->identity;
    int64_t block = first % blocks;
    for (int64_t unit = first; unit < last; unit++) {
        const int64_t start = block * SUM_BLOCK;
        total = r->r->combine(total, block_of(r, x + offset + start * r->stride, min_i64(SUM_BLOCK, r->length - start)));
        if (++block == blocks) {
            block = 0;
            walk_next(r->reduced, r->reduced_shape, 1, r->reduced_strides, index, &offset);
        }
    }
    return total;
}

static void reduce_column_part(const reduction *r, double *total, const float *x, int64_t columns, int64_t first, int64_t last)
{
    int64_t index[MAX_NDIM], offset;
    walk_seek(r->reduced, r->reduced_shape, 1, r->reduced_strides, first, index, &offset);
    for (int64_t i = 0; i < columns; i++)
        total[i] = r->r->identity;
    const float *row[COLUMN_ROWS];
    for (int64_t unit = first; unit < last; unit += COLUMN_ROWS) {
        const int64_t rows = min_i64(COLUMN_ROWS, last - unit);
        for (int64_t i = 0; i < rows; i++) {
            row[i] = x + offset;
            walk_next(r->reduced, r->reduced_shape, 1, r->reduced_strides, index, &offset);
        }
        r->r->columns(total, row, rows, columns);
    }
}

static int64_t columns_of(const reduction *r, int64_t group)
{
    return min_i64(COLUMNS, r->width - group % r->groups_in_row * COLUMNS);
}

static void reduce_part(const reduction *r, double *total, int64_t group, int64_t part)
{
    const int64_t first = r->units * part / r->parts, last = r->units * (part + 1) / r->parts;
    const float *x = group_start(r, group);
    if (r->width == 1)
        total[0] = reduce_row_part(r, x, first, last);
    else
        reduce_column_part(r, total, x, columns_of(r, group), first, last);
}

static void store_group(const reduction *r, int64_t group, double (*total)[COLUMNS])
{
    const int64_t n = columns_of(r, group);
    float *y = r->y + group / r->groups_in_row * r->width + group % r->groups_in_row * COLUMNS;
    for (int64_t i = 0; i < n; i++) {
        double all = total[0][i];
        for (int64_t part = 1; part < r->parts; part++)
            all = r->r->combine(all, total[part][i]);
        r->r->store(y + i, all);
    }
}

/* ---- parallel over groups, or over the parts of one group ---- */

static void reduce_groups(void *context, int64_t chunk)
{
    const reduction *r = context;
    const int64_t last = min_i64((chunk + 1) * r->groups_in_chunk, r->groups);
    for (int64_t group = chunk * r->groups_in_chunk; group < last; group++) {
        double total[PARTS][COLUMNS];
        for (int64_t part = 0; part < r->parts; part++)
            reduce_part(r, total[part], group, part);
        store_group(r, group, total);
    }
}

typedef struct {
    const reduction *r;
    int64_t group;
    double total[PARTS][COLUMNS];
} group_parts;

static void reduce_parts(void *context, int64_t part)
{
    group_parts *g = context;
    reduce_part(g->r, g->total[part], g->group, part);
}

/* Copy the axes longer than 1, adjacent ones merged where the stride allows. Returns how many there are. */
static int32_t merge_axes(int64_t *shape, int64_t *strides, int32_t ndim, const int64_t *from_shape, const int64_t *from_strides)
{
    int32_t n = 0;
    for (int32_t i = 0; i < ndim; i++) {
        if (from_shape[i] == 1)
            continue;
        if (n > 0 && strides[n - 1] == from_shape[i] * from_strides[i])
            shape[n - 1] *= from_shape[i];
        else
            shape[n++] = from_shape[i];
        strides[n - 1] = from_strides[i];
    }
    return n;
}

/* From the widest stride to the narrowest, so that the last reduced axis makes the rows. */
static void sort_axes(int32_t ndim, int64_t *shape, int64_t *strides)
{
    for (int32_t i = 1; i < ndim; i++)
        for (int32_t j = i; j > 0 && abs_i64(strides[j - 1]) < abs_i64(strides[j]); j--) {
            const int64_t length = shape[j], stride = strides[j];
            shape[j] = shape[j - 1];
            strides[j] = strides[j - 1];
            shape[j - 1] = length;
            strides[j - 1] = stride;
        }
}

static int64_t reduce(void *const *operand, const tge_reduce_params *p, const reducer *reducer)
{
    reduction r = {.r = reducer, .y = operand[0], .x = operand[1], .length = 1, .stride = 1, .width = 1};
    const int64_t outputs = product(p->kept, p->kept_shape), terms = product(p->reduced, p->reduced_shape);
    if (outputs == 0)
        return 0;
    if (terms == 0) {
        for (int64_t i = 0; i < outputs; i++)
            reducer->store(r.y + i, reducer->identity);
        return 0;
    }
    int64_t shape[MAX_NDIM], strides[MAX_NDIM];
    memcpy(shape, p->reduced_shape, sizeof shape);
    memcpy(strides, p->reduced_strides, sizeof strides);
    sort_axes(p->reduced, shape, strides);
    r.reduced = merge_axes(r.reduced_shape, r.reduced_strides[0], p->reduced, shape, strides);
    r.kept = merge_axes(r.kept_shape, r.kept_strides[0], p->kept, p->kept_shape, p->kept_strides);

    const int32_t last_kept = r.kept - 1, last_reduced = r.reduced - 1;
    const int rows_are_contiguous = r.reduced == 0 || r.reduced_strides[0][last_reduced] == 1;
    if (!rows_are_contiguous && r.kept > 0 && r.kept_strides[0][last_kept] == 1) {
        r.kept--;
        r.width = r.kept_shape[last_kept];
    } else if (r.reduced > 0) {
        r.reduced--;
        r.length = r.reduced_shape[last_reduced];
        r.stride = r.reduced_strides[0][last_reduced];
    }
    r.units = terms / r.length * ceil_div(r.length, SUM_BLOCK);
    r.groups_in_row = ceil_div(r.width, COLUMNS);
    r.groups = outputs / r.width * r.groups_in_row;
    const int64_t group_work = outputs * terms / r.groups;
    r.parts = group_work < 2 * CHUNK || r.units < 2 * PARTS ? 1 : PARTS;
    r.groups_in_chunk = max_i64(1, CHUNK / group_work);

    if (r.parts == 1 || r.groups >= PARTS) {
        tge_parallel(ceil_div(r.groups, r.groups_in_chunk), reduce_groups, &r);
        return 0;
    }
    for (int64_t group = 0; group < r.groups; group++) {
        group_parts g = {.r = &r, .group = group};
        tge_parallel(PARTS, reduce_parts, &g);
        store_group(&r, group, g.total);
    }
    return 0;
}

/* ---- the three reducers ---- */

/* Row after row, since memory likes to be read so; the running columns stay in the first-level cache. */
ALWAYS_INLINE void reduce_columns(double *total, const float *const *row, int64_t rows, int64_t n, vf start, vf (*step)(vf, vf),
                                  void (*fold)(double *, const float *, int64_t))
{
    _Alignas(64) float running[COLUMNS];
    for (int64_t column = 0; column < n; column += VL)
        vstore(running + column, start);
    for (int64_t i = 0; i < rows; i++) {
        int64_t column = 0;
        for (; column + VL <= n; column += VL)
            vstore(running + column, step(vload(running + column), vload(row[i] + column)));
        if (column < n)
            vstore(running + column, step(vload(running + column), vload_part(row[i] + column, n - column)));
    }
    fold(total, running, n);
}

static void store_float(float *y, double x) { *y = (float)x; }

static double combine_sum(double a, double b) { return a + b; }
static inline vf step_sum(vf a, vf b) { return a + b; }

static inline void fold_sum(double *total, const float *lane, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        total[i] += lane[i];
}

static void sum_columns(double *total, const float *const *row, int64_t rows, int64_t n)
{
    reduce_columns(total, row, rows, n, vsplat(0.0f), step_sum, fold_sum);
}

static double sum_block_as_double(const float *x, int64_t n) { return sum_block(x, n); }

static int64_t sum_f32(void *const *operand, const void *params)
{
    static const reducer sum = {0.0, sum_block_as_double, sum_columns, combine_sum, store_float};
    return reduce(operand, params, &sum);
}

static double combine_max(double a, double b) { return a > b || a != a ? a : b; }

static double max_block(const float *x, int64_t n) { return max_row(x, n); }

static inline void fold_max(double *total, const float *lane, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        total[i] = combine_max(total[i], lane[i]);
}

static void max_columns(double *total, const float *const *row, int64_t rows, int64_t n)
{
    reduce_columns(total, row, rows, n, vsplat(-INFINITY), vmax_nan, fold_max);
}

static int64_t max_f32(void *const *operand, const void *params)
{
    static const reducer max = {-INFINITY, max_block, max_columns, combine_max, store_float};
    return reduce(operand, params, &max);
}

/* Sums modulo 2^32 may be added in any order: plain loops. */
static double combine_i32(double a, double b) { return (double)(uint32_t)((uint64_t)a + (uint64_t)b); }

static double sum_i32_block(const float *x, int64_t n)
{
    uint32_t sum = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t term;
        memcpy(&term, x + i, 4);
        sum += term;
    }
    return sum;
}

static inline vf step_i32(vf a, vf b) { return (vf)((vu)a + (vu)b); }

static inline void fold_i32(double *total, const float *lane, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        total[i] = combine_i32(total[i], sum_i32_block(lane + i, 1));
}

static void sum_i32_columns(double *total, const float *const *row, int64_t rows, int64_t n)
{
    reduce_columns(total, row, rows, n, vsplat(0.0f), step_i32, fold_i32);
}

static void store_modulo(float *y, double x)
{
    const uint32_t bits = (uint32_t)x;
    memcpy(y, &bits, 4);
}

static int64_t sum_i32(void *const *operand, const void *params)
{
    static const reducer sum = {0.0, sum_i32_block, sum_i32_columns, combine_i32, store_modulo};
    return reduce(operand, params, &sum);
}
