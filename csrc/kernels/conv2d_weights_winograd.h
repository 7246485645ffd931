/* The gradient by the weights of a 3 x 3 window that moves by one, by Winograd's filtering (winograd.h): for each of TILE_POINTS points
 * a product whose inner dimension is the tiles. Lane = channel in both operands, so images are transposed before they are cut into tiles.
 * What is summed for a block of gw stays transformed through all tiles of an item and is transformed back once.
 */
#ifndef TGE_CONV2D_WEIGHTS_WINOGRAD_H
#define TGE_CONV2D_WEIGHTS_WINOGRAD_H

#include "conv2d_weights.h"
#include "winograd.h"

/* Of a block: the sums, and what is added to them at a time, about fit the second cache. */
enum { GW_TILES = 64, GW_OUTPUTS = 48, GW_CHANNELS = 64 };

/* Few channels, outputs or tiles do not pay for the transforms. */
static int suits_winograd_weights(const tge_conv2d_params *p)
{
    sliding_window window = forward_window(p);
    return is_tiled(&window) && p->c / p->groups >= 16 && p->k / p->groups >= 16 && tile_count(&window) >= 16;
}

/* The grid of tiles: cut into bands like the grid of outputs. */
static sliding_window tile_window(const sliding_window *window)
{
    sliding_window tiles = *window;
    tiles.h = make_axis(window->h.size, window->h.origin, TILE_OUT, 1, TILE_IN, ceil_div(window->h.grid, TILE_OUT));
    tiles.w = make_axis(window->w.size, window->w.origin, TILE_OUT, 1, TILE_IN, ceil_div(window->w.grid, TILE_OUT));
    return tiles;
}

static weights_job cut_weights_winograd(const tge_conv2d_params *p)
{
    weights_job job = {.p = p, .window = forward_window(p), .outputs = p->k / p->groups, .channels = p->c / p->groups};
    sliding_window tiles = tile_window(&job.window);
    job.c_block = even_block(job.channels, GW_CHANNELS, 1);
    job.c_blocks = ceil_div(job.channels, job.c_block);
    job.part = even_block(job.outputs, GW_OUTPUTS, ROW_MULTIPLE);
    job.parts = ceil_div(job.outputs, job.part);
    job.cut = cut_bands(&tiles, GW_TILES);
    job.steps = job.cut.row_bands * job.cut.column_bands;
    int64_t blocks = p->groups * job.c_blocks * job.parts;
    job.splits = max_i64(min_i64(CHUNKS / blocks, job.steps), 1);
    job.items = blocks * job.splits;
    int64_t flops = 2 * TILE_POINTS * tile_count(&job.window) * job.part * job.c_block / job.splits;
    job.per_chunk = min_i64(ceil_div(CHUNK_FLOPS, max_i64(flops, 1)), max_i64(job.items, 1));
    job.chunks = ceil_div(job.items, job.per_chunk);

    int64_t block_tiles = job.cut.rows * job.cut.width;
    int64_t samples = min_i64(job.cut.rows, ceil_div(job.cut.rows - 1, max_i64(tiles.h.grid, 1)) + 1);
    int64_t columns = round_up(job.c_block, COLUMN_MULTIPLE);
    job.slab_floats = (TILE_OUT * job.cut.rows + 2 * samples) * (TILE_OUT * job.cut.width + 2) * 16; /* for the widest vectors */
    job.a_floats = packed_floats(job.part, block_tiles);
    job.b_floats = packed_floats(columns, block_tiles);
    job.floats = job.slab_floats + TILE_POINTS * (job.a_floats + job.b_floats + packed_floats(job.part, columns));
    return job;
}

/* An image that is read in tiles, which overlap by `halo` rows and columns. */
typedef struct {
    const float *first; /* channel */
    int64_t n_stride, c_stride;
    axis h, w;
    int64_t halo;
} tiled_image;

/* slab[y][x][lane] = what a band of tiles reads from `lanes` channels, whole rows of a sample after those of the one before. */
static void fill_lanes(float *slab, int64_t slab_row, const tiled_image *image, const float *channel, int64_t lanes, const band *b)
{
    const axis *h = &image->h, *w = &image->w;
    int64_t end = b->row + b->rows;
    for (int64_t row = b->row; row < end;) {
        int64_t sample = row / h->grid, g = row % h->grid, next = min_i64(end, (sample + 1) * h->grid);
        int64_t rows = (next - row) * TILE_OUT + image->halo, y0 = h->origin + g * TILE_OUT, x0 = w->origin + b->q * TILE_OUT;
        memset(slab, 0, sizeof(float) * (size_t)(rows * slab_row));
        int64_t y_end = min_i64(y0 + rows, h->size), x_first = max_i64(x0, 0), x_end = min_i64(x0 + slab_row / VL, w->size);
        int whole = x_first == 0 && x_end == w->size; /* rows: adjacent in memory */
        for (int64_t y = max_i64(y0, 0); y < y_end; y = whole ? y_end : y + 1) {
            const float *from = channel + sample * image->n_stride + y * w->size + x_first;
            int64_t count = whole ? (y_end - y) * w->size : x_end - x_first, x = x_first;
            float *to = slab + (y - y0) * slab_row + (x_first - x0) * VL;
            for (int64_t i = 0; i < count; i += VL) {
                int64_t left = min_i64(count - i, VL);
                vf square[VL];
                for (int lane = 0; lane < VL; lane++)
                    square[lane] = lane < lanes ? vload_upto(from + lane * image->c_stride + i, left) : (vf){0};
                vtranspose(square);
                for (int k = 0; k < left; k++, to += VL) {
                    vstore(to, square[k]);
                    if (++x == x_end) {
                        x = x_first;
                        to += slab_row - (x_end - x_first) * VL;
                    }
                }
            }
        }
        slab += rows * slab_row;
        row = next;
    }
}

/* A tile of inputs to its points, v_step apart. */
static inline void transform_input_tile(float *v, int64_t v_step, const float *slab, int64_t slab_row)
{
    vf half[TILE_IN][TILE_IN];
    for (int j = 0; j < TILE_IN; j++) {
        vf d[TILE_IN], t[TILE_IN];
        for (int i = 0; i < TILE_IN; i++)
            d[i] = vload(slab + i * slab_row + j * VL);
        transform_input(t, d);
        for (int i = 0; i < TILE_IN; i++)
            half[i][j] = t[i];
    }
    for (int i = 0; i < TILE_IN; i++) {
        vf t[TILE_IN];
        transform_input(t, half[i]);
        for (int j = 0; j < TILE_IN; j++)
            vstore(v + (i * TILE_IN + j) * v_step, t[j]);
    }
}

/* A tile of the output gradient. */
static inline void transform_gradient_tile(float *v, int64_t v_step, const float *slab, int64_t slab_row)
{
    vf half[TILE_IN][TILE_OUT];
    for (int j = 0; j < TILE_OUT; j++) {
        vf g[TILE_OUT], t[TILE_IN];
        for (int i = 0; i < TILE_OUT; i++)
            g[i] = vload(slab + i * slab_row + j * VL);
        transform_output_gradient(t, g);
        for (int i = 0; i < TILE_IN; i++)
            half[i][j] = t[i];
    }
    for (int i = 0; i < TILE_IN; i++) {
        vf t[TILE_IN];
        transform_output_gradient(t, half[i]);
        for (int j = 0; j < TILE_IN; j++)
            vstore(v + (i * TILE_IN + j) * v_step, t[j]);
    }
}

/* Panels of `width` lanes, [tile][lane], of a band of tiles and `channels` channels, points v_step apart. Vectors are stored in ascending
 * order, each repaired by the next where it is longer than a panel is wide. */
ALWAYS_INLINE void transform_band(float *v, int64_t v_step, int width, float *slab, const tiled_image *image, int64_t channels,
                                  const band *b, void transform(float *, int64_t, const float *, int64_t))
{
    int64_t slab_row = (b->width * TILE_OUT + image->halo) * VL;
    for (int64_t c = 0; c < channels; c += width)
        for (int lane = 0; lane < width; lane += VL) {
            int64_t lanes = min_i64(channels - c, width) - lane;
            fill_lanes(slab, slab_row, image, image->first + (c + lane) * image->c_stride, lanes, b);
            float *to = v + c * b->rows * b->width + lane;
            const float *from = slab;
            for (int64_t row = b->row; row < b->row + b->rows; row++) {
                for (int64_t x = 0; x < b->width; x++, to += width)
                    transform(to, v_step, from + x * TILE_OUT * VL, slab_row);
                from += (TILE_OUT + ((row + 1) % image->h.grid == 0 ? image->halo : 0)) * slab_row;
            }
        }
}

/* gw[output][channel][3][3] from the products of all points, m_step apart. */
static void store_gradient(float *gw, int64_t gw_row, const float *product, int64_t m_step, int64_t m_row, int64_t outputs,
                           int64_t channels)
{
    for (int64_t m = 0; m < outputs; m++)
        for (int64_t c = 0; c < channels; c += VL) {
            vf half[3][TILE_IN];
            float taps[9][VL];
            for (int j = 0; j < TILE_IN; j++) {
                vf points[TILE_IN], t[3];
                for (int i = 0; i < TILE_IN; i++)
                    points[i] = vload(product + (i * TILE_IN + j) * m_step + m * m_row + c);
                transform_weights_gradient(t, points);
                for (int i = 0; i < 3; i++)
                    half[i][j] = t[i];
            }
            for (int i = 0; i < 3; i++) {
                vf t[3];
                transform_weights_gradient(t, half[i]);
                for (int j = 0; j < 3; j++)
                    vstore(taps[i * 3 + j], t[j]);
            }
            float *to = gw + m * gw_row + c * 9;
            for (int64_t lane = 0; lane < min_i64(channels - c, VL); lane++)
                for (int tap = 0; tap < 9; tap++)
                    *to++ = taps[tap][lane];
        }
}

static void weights_item_winograd(const weights_job *job, int64_t item, float *workspace)
{
    const tge_conv2d_params *p = job->p;
    weights_block block = weights_block_at(job, item);
    sliding_window tiles = tile_window(&job->window);
    tiled_image x = {block.image, p->x_n_stride, p->x_c_stride, tiles.h, tiles.w, TILE_IN - TILE_OUT};
    tiled_image gy = {block.gy, p->y_n_stride, p->y_c_stride, make_axis(p->p, 0, TILE_OUT, 1, TILE_OUT, tiles.h.grid),
                      make_axis(p->q, 0, TILE_OUT, 1, TILE_OUT, tiles.w.grid), 0};
    int64_t rows = round_up(block.outputs, ROW_STEP), columns = round_up(block.channels, VL), m_step = packed_floats(rows, columns);
    float *a = workspace, *panels = a + TILE_POINTS * job->a_floats, *product = panels + TILE_POINTS * job->b_floats;
    float *slab = product + TILE_POINTS * m_step;

    for (int64_t step = block.first; step < block.end; step++) {
        band b = band_at(&tiles, &job->cut, step);
        transform_band(panels, job->b_floats, NR, slab, &x, block.channels, &b, transform_input_tile);
        transform_band(a, job->a_floats, MR, slab, &gy, block.outputs, &b, transform_gradient_tile);
        for (int64_t point = 0; point < TILE_POINTS; point++)
            multiply_block(rows, columns, b.rows * b.width, a + point * job->a_floats, panels + point * job->b_floats, NR,
                           product + point * m_step, columns, step > block.first);
    }
    store_gradient(block.gw, job->channels * 9, product, m_step, columns, block.outputs, block.channels);
}

#endif
