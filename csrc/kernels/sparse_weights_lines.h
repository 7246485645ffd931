/* Lines of sixteen points, for the gradient by sparse weights. */
#ifndef TGE_SPARSE_WEIGHTS_LINES_H
#define TGE_SPARSE_WEIGHTS_LINES_H

#include "sparse_weights.h"

/* ---- sixteen lanes from sixteen places ---- */

/* Lane l of position i is from[l][i] where low[l] <= i < high[l], else zero. */
typedef struct {
    const float *from[WIDE];
    int64_t low[WIDE], high[WIDE];
    int64_t ahead; /* floats from what is loaded to what is fetched meanwhile */
} lane_sources;

static inline vf load_source(const lane_sources *s, int lane, int64_t i)
{
    const int64_t low = s->low[lane] - i, high = s->high[lane] - i;
    __builtin_prefetch(s->from[lane] + i + s->ahead, 0, 2);
    if (low <= 0 && high >= VL)
        return vload(s->from[lane] + i);
    if (low >= VL || high <= 0)
        return (vf){0};
    return vload_masked(s->from[lane] + i, lanes_between(max_i64(low, 0), min_i64(high, VL)));
}

/* Position i goes to the line at to + i * stride. */
static void transpose_lanes(float *to, int64_t stride, const lane_sources *s, int64_t count)
{
    for (int64_t i = 0; i < count; i += VL)
        for (int lane = 0; lane < WIDE; lane += VL) {
            vf square[VL];
            for (int j = 0; j < VL; j++)
                square[j] = load_source(s, lane + j, i);
            vtranspose(square);
            const int64_t left = min_i64(count - i, VL);
            for (int j = 0; j < left; j++)
                vstore(to + (i + j) * stride + lane, square[j]);
        }
}

/* ---- consecutive points ---- */

/* `count` points of the grid row from column q on; outside of the image are zeros. */
static void copy_grid_row(float *to, const float *plane, const sliding_window *window, int64_t g, int64_t q, int64_t count)
{
    const axis *h = &window->h, *w = &window->w;
    const int64_t y = h->origin + g * h->step, x = w->origin + q * w->step;
    const int64_t inside = y >= 0 && y < h->size ? w->size : 0;
    const int64_t first = min_i64(x < 0 ? ceil_div(-x, w->step) : 0, count);
    const int64_t end = max_i64(x < inside ? min_i64(ceil_div(inside - x, w->step), count) : 0, first);
    for (int64_t i = 0; i < first; i += VL)
        vstore_upto(to + i, first - i, (vf){0});
    for (int64_t i = first; i < end; i += VL)
        vstore_upto(to + i, end - i, vload_strided(plane + y * w->size + x + i * w->step, w->step, end - i));
    for (int64_t i = end; i < count; i += VL)
        vstore_upto(to + i, count - i, (vf){0});
}

static void copy_points(float *to, const float *from, int64_t count, int64_t ahead)
{
    int64_t i = 0;
    for (; i + VL <= count; i += VL) {
        __builtin_prefetch(from + i + ahead, 0, 2);
        vstore(to + i, vload(from + i));
    }
    if (i < count)
        vstore_part(to + i, count - i, vload_part(from + i, count - i));
}

/* Points [point, end) of one channel, and zeros up to a whole line. */
static void fill_points(float *to, const float *channel, const sliding_window *window, int64_t point, int64_t end)
{
    const int64_t plane = window->h.grid * window->w.grid, row = is_plain(window) ? plane : window->w.grid;
    const int64_t last = min_i64(end, window->n * plane);
    while (point < last) {
        const int64_t next = min_i64(last, (point / row + 1) * row);
        const float *sample = channel + point / plane * window->n_stride;
        if (row == plane)
            copy_points(to, sample + point % plane, next - point, window->c_stride);
        else
            copy_grid_row(to, sample, window, point % plane / row, point % row, next - point);
        to += next - point;
        point = next;
    }
    for (; point < end; point += VL, to += VL)
        vstore_upto(to, end - point, (vf){0});
}

/* ---- points of sixteen samples ---- */

/* Rows [row, row + rows) of each part's plane, where its row 0 is row `step` * its first grid row of a sample; there are `size` of `width`. */
static lane_sources part_sources(const sparse_weights_job *job, int64_t unit, const float *channel, int64_t n_stride, int64_t c_stride, int64_t row,
                                 int64_t step, int64_t size, int64_t width)
{
    lane_sources s = {.ahead = c_stride};
    for (int64_t lane = 0; lane < WIDE; lane++) {
        const int64_t stream = unit / job->bands * WIDE + lane, sample = stream / job->parts;
        const int64_t first = stream % job->parts * job->part_rows * step + row;
        const int any = sample < job->p->n;
        s.from[lane] = channel + (any ? sample * n_stride : 0) + first * width;
        s.low[lane] = any ? -first * width : 0;
        s.high[lane] = any ? (size - first) * width : 0;
    }
    return s;
}

static void fill_x_strips(const sparse_weights_job *job, int64_t unit, int64_t c, float *to, float *scratch)
{
    const tge_conv2d_params *p = job->p;
    const axis *h = &job->window.h, *w = &job->window.w;
    const int64_t rows = unit_rows(job, unit), span = (rows - 1) * h->step + (h->taps - 1) * h->dilation + 1;
    const lane_sources s = part_sources(job, unit, job->image + c * p->x_c_stride, p->x_n_stride, p->x_c_stride,
                                        h->origin + band_row(job, unit % job->bands) * h->step, h->step, h->size, w->size);
    transpose_lanes(scratch, WIDE, &s, span * w->size);

    for (int64_t strip = 0; strip < job->strips; strip++)
        for (int64_t slot = 0; slot < h->slots; slot++)
            for (int64_t y = 0; y < rows + h->extra; y++) {
                const int64_t row = y * h->step + slot * h->dilation;
                float *line = to + strip * job->x_strip + (slot * job->slab.y + y) * job->x_row;
                for (int64_t j = 0; j < w->slots; j++) {
                    int64_t x = w->origin + strip_column(job, strip) * w->step + j * w->dilation;
                    for (int64_t i = 0; i < job->slab.x; i++, x += w->step, line += WIDE) {
                        const int inside = row < span && x >= 0 && x < w->size;
                        for (int part = 0; part < WIDE; part += VL)
                            vstore(line + part, inside ? vload(scratch + (row * w->size + x) * WIDE + part) : (vf){0});
                    }
                }
            }
}

static void fill_gy_strips(const sparse_weights_job *job, int64_t unit, int64_t k, float *to, float *scratch)
{
    const tge_conv2d_params *p = job->p;
    const int64_t rows = unit_rows(job, unit);
    lane_sources s = part_sources(job, unit, job->gy + k * p->y_c_stride, p->y_n_stride, p->y_c_stride, band_row(job, unit % job->bands), 1, p->p,
                                  p->q);
    for (int64_t lane = 0; lane < WIDE; lane++) { /* the rows after a part belong to the next */
        const int64_t part = (unit / job->bands * WIDE + lane) % job->parts;
        const int64_t end = min_i64(p->p, (part + 1) * job->part_rows) - part * job->part_rows - band_row(job, unit % job->bands);
        s.high[lane] = min_i64(s.high[lane], end * p->q);
    }
    transpose_lanes(scratch, WIDE, &s, rows * p->q);

    for (int64_t strip = 0; strip < job->strips; strip++) {
        const int64_t q = strip_column(job, strip), width = strip_column(job, strip + 1) - q;
        for (int64_t tile = 0; tile < row_tiles(job, rows); tile++) {
            const int64_t row = tile_row(job, rows, tile), height = tile_row(job, rows, tile + 1) - row;
            float *line = to + (p->k * (q * rows + row * width) + k * height * width) * WIDE;
            for (int64_t i = row; i < row + height; i++)
                for (int64_t part = 0; part < width * WIDE; part += VL, line += VL)
                    vstore(line, vload(scratch + (i * p->q + q) * WIDE + part));
        }
    }
}

/* ---- channels [first, end) of x or of gy, for all units that are to lie packed ---- */

/* Where a row of a unit begins. */
static inline int64_t unit_point(const sparse_weights_job *job, int64_t unit, int64_t row)
{
    return (unit_line(job, unit) * job->height + row * unit_width(job, unit, 0)) * WIDE;
}

static void transpose_samples(float *to, int64_t stride, int64_t row_stride, const sparse_weights_job *job, const float *image,
                              int64_t n_stride, int64_t unit, int64_t first, int64_t end)
{
    const int64_t width = unit_width(job, unit, 0);
    for (int64_t i = 0; i < job->height * width; i++) {
        lane_sources s = {.ahead = VL};
        for (int64_t lane = 0; lane < WIDE; lane++) {
            const int64_t sample = unit_point(job, unit, 0) + i * WIDE + lane, any = sample < job->p->n;
            s.from[lane] = image + (any ? sample * n_stride : 0) + first;
            s.low[lane] = 0;
            s.high[lane] = any ? end - first : 0;
        }
        transpose_lanes(to + first * stride + i / width * row_stride + i % width * WIDE, stride, &s, end - first);
    }
}

static void fill_x(const sparse_weights_job *job, int64_t first, int64_t end, float *scratch)
{
    const tge_conv2d_params *p = job->p;
    for (int64_t c = first; c < end; c += job->kind == SAMPLE_LINES ? end - first : 1)
        for (int64_t unit = job->first_unit; unit < job->end_unit; unit++) {
            float *to = job->x_lines + (unit - job->first_unit) * job->x_unit;
            if (job->kind == WINDOW_LINES)
                fill_x_strips(job, unit, c, to + c * job->x_channel, scratch);
            else if (job->kind == SAMPLE_LINES)
                transpose_samples(to, job->x_channel, job->x_row, job, job->image, p->x_n_stride, unit, first, end);
            else
                for (int64_t row = 0; row < job->height; row++)
                    fill_points(to + c * job->x_channel + row * job->x_row, job->image + c * p->x_c_stride, &job->window,
                                unit_point(job, unit, row), unit_point(job, unit, row + 1));
        }
}

static void fill_gy(const sparse_weights_job *job, int64_t first, int64_t end, float *scratch)
{
    const tge_conv2d_params *p = job->p;
    for (int64_t k = first; k < end; k += job->kind == SAMPLE_LINES ? end - first : 1)
        for (int64_t unit = job->first_unit; unit < job->end_unit; unit++) {
            float *to = job->gy_lines + (unit - job->first_unit) * job->gy_unit;
            const int64_t width = unit_width(job, unit, 0) * WIDE, stride = job->height * width;
            if (job->kind == WINDOW_LINES)
                fill_gy_strips(job, unit, k, to, scratch);
            else if (job->kind == SAMPLE_LINES)
                transpose_samples(to, stride, width, job, job->gy, p->y_n_stride, unit, first, end);
            else
                fill_points(to + k * stride, job->gy + k * p->y_c_stride, &job->points, unit_point(job, unit, 0),
                            unit_point(job, unit, job->height));
        }
}

#endif
