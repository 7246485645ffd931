/* The gradient by the weights as a product over grid points: a band of them (window.h) is one block of the inner dimension. Both operands
 * are contiguous along the points, so packing transposes. */
#ifndef TGE_CONV2D_WEIGHTS_DIRECT_H
#define TGE_CONV2D_WEIGHTS_DIRECT_H

#include "conv2d_weights.h"

enum { TAP_COLUMNS = 256 }; /* (channel, tap) pairs of an item, about */

static int suits_any(const tge_conv2d_params *p)
{
    (void)p;
    return 1;
}

static weights_job cut_weights_direct(const tge_conv2d_params *p)
{
    weights_job job = make_weights_job(p);
    int64_t taps = max_i64(tap_count(&job.window), 1);
    job.c_block = even_block(job.channels, ceil_div(job.channels, max_i64(even_count(job.channels, max_i64(TAP_COLUMNS / taps, 1)), 1)), 1);
    cut_outputs(&job, items_wanted(&job));
    int64_t columns = round_up(job.c_block * max_i64(tap_count(&job.window), 1), COLUMN_MULTIPLE);
    cut_items(&job, cut_bands(&job.window, columns <= KC ? BAND : max_i64(KC * BAND / columns, 32)));

    int64_t block_points = job.cut.rows * job.cut.width;
    job.slab_floats = is_plain(&job.window) ? 0 : slab_floats(&job.window, &job.cut, job.c_block);
    job.a_floats = packed_floats(min_i64(job.part, OUT_BLOCK), block_points);
    job.b_floats = packed_floats(columns, block_points);
    job.floats = job.slab_floats + job.a_floats + job.b_floats;
    return job;
}

/* One panel of the band's points of an image of the grid's size. A band is contiguous in a plane, and planes of samples may be adjacent. */
static void pack_points(float *panel, int panel_width, const float *image, int64_t n_stride, int64_t c_stride, const sliding_window *window,
                        const band *b, int64_t lanes)
{
    int64_t plane = window->h.grid * window->w.grid, point = b->row * window->w.grid + b->q, end = point + b->rows * b->width;
    while (point < end) {
        int64_t next = n_stride == plane ? end : min_i64(end, (point / plane + 1) * plane);
        pack_panel(panel, panel_width, image + point / plane * n_stride + point % plane, c_stride, 1, lanes, next - point);
        panel += (next - point) * panel_width;
        point = next;
    }
}

/* One B panel from the slab: the columns [first, first + columns) of (channel, tap). */
static void pack_taps(float *panel, const float *slab, const sliding_window *window, const band *b, const slab_shape *s, int64_t first,
                      int64_t columns)
{
    for (int lane = 0; lane < NR; lane += VL) {
        const float *from[VL];
        int64_t lanes = min_i64(columns - lane, VL);
        for (int64_t i = 0; i < lanes; i++) {
            int64_t column = first + lane + i, tap = column % tap_count(window);
            from[i] = slab + column / tap_count(window) * s->channel + slab_tap(window, s, tap / window->w.taps, tap % window->w.taps);
        }
        float *to = panel + lane;
        int64_t row = 0, left_in_sample = window->h.grid - b->row % window->h.grid;
        for (int64_t r = 0; r < b->rows; r++, row += s->row) {
            if (left_in_sample-- == 0) {
                left_in_sample = window->h.grid - 1;
                row += window->h.extra * s->row;
            }
            for (int64_t q = 0; q < b->width; q += VL) {
                vf square[VL];
                for (int i = 0; i < VL; i++)
                    square[i] = i < lanes ? vload(from[i] + row + q) : (vf){0};
                vtranspose(square);
                int64_t left = min_i64(b->width - q, VL);
                for (int i = 0; i < left; i++, to += NR)
                    vstore(to, square[i]);
            }
        }
    }
}

static void weights_item_direct(const weights_job *job, int64_t item, float *workspace)
{
    const tge_conv2d_params *p = job->p;
    weights_block block = weights_block_at(job, item);
    int64_t taps = tap_count(&job->window), columns = block.channels * taps, gw_row = job->channels * taps;
    float *slab = workspace, *a = slab + job->slab_floats, *panels = a + job->a_floats;
    int plain = is_plain(&job->window);

    for (int64_t step = block.first; step < block.end; step++) {
        band b = band_at(&job->window, &job->cut, step);
        slab_shape s = band_slab(&job->window, &b);
        int64_t points = b.rows * b.width;
        if (!plain)
            fill_slab(slab, block.image, &job->window, &b, block.channels);
        for (int64_t j = 0; j < columns; j += NR) {
            int64_t lanes = min_i64(columns - j, NR);
            if (plain)
                pack_points(panels + j * points, NR, block.image + j * p->x_c_stride, p->x_n_stride, p->x_c_stride, &job->window, &b,
                            lanes);
            else
                pack_taps(panels + j * points, slab, &job->window, &b, &s, j, lanes);
        }
        for (int64_t m = 0; m < block.outputs; m += OUT_BLOCK) {
            int64_t rows = min_i64(block.outputs - m, OUT_BLOCK);
            for (int64_t i = 0; i < rows; i += MR)
                pack_points(a + i * points, MR, block.gy + (m + i) * p->y_c_stride, p->y_n_stride, p->y_c_stride, &job->window, &b,
                            min_i64(rows - i, MR));
            multiply_block(rows, columns, points, a, panels, NR, block.gw + m * gw_row, gw_row, step > block.first);
        }
    }
}

#endif
