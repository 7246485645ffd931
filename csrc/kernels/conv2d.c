/* conv2d_f32 and conv2d_backward_data_f32: one correlation, as a dense product whose right operand is packed straight from the image.
 *
 *     out[m][grid point] = sum over (channel, tap) of weights[m][channel][tap] * source[channel][what tap reads there]
 *
 * A band of the grid gives the columns of the product. For a block of channels its slab (window.h) is filled, B panels are packed from
 * the slab, and all rows m are multiplied (product.h). The matrix of columns (im2col) never exists but for one band and one block.
 */
#include "window.h"

typedef struct {
    sliding_window window; /* how a grid reads the source */
    int64_t groups, outputs, channels; /* outputs and channels of one group */
    int64_t out_start, out_n, out_c, out_h, out_w; /* where the grid is in out, and its strides */
    int64_t w_start, w_group, w_output, w_channel, w_tap_h, w_tap_w;
    const float *source, *weights;
    float *out;
} correlation;

typedef struct {
    band_cut bands;
    int64_t c_block;                  /* channels packed at a time */
    int64_t part, parts;              /* the outputs are cut where there are few bands */
    int64_t items, per_chunk, chunks; /* an item is a group, a part and a band */
    int in_place; /* a band is a piece of an image row: it is packed from there, without a slab */
    int64_t slab_floats, a_floats, b_floats, floats; /* for one worker */
} correlation_cut;

/* Cut from the shape alone. Where the weights fit one A block they are packed once for the bands of a chunk; else they are packed again for
 * each band, which a wide band pays for. */
static correlation_cut cut_correlation(const correlation *p)
{
    correlation_cut cut;
    int64_t taps = max_i64(tap_count(&p->window), 1);
    cut.c_block = even_block(p->channels, max_i64(KC / taps, 1), 1);
    int64_t k_block = cut.c_block * taps;
    int64_t most = p->channels <= cut.c_block && p->outputs <= OUT_BLOCK ? BAND : WIDE_BAND;
    cut.bands = cut_bands(&p->window, k_block <= KC ? most : max_i64(KC * most / k_block, 32));

    int64_t bands = cut.bands.row_bands * cut.bands.column_bands, points = cut.bands.rows * cut.bands.width;
    int64_t flops = 2 * points * p->outputs * max_i64(p->channels, 1) * taps;
    int64_t parts = min_i64(ceil_div(CHUNKS, max_i64(p->groups * bands, 1)), max_i64(flops / CHUNK_FLOPS, 1));
    cut.part = even_block(p->outputs, max_i64(ceil_div(p->outputs, parts), 1), ROW_MULTIPLE);
    cut.parts = ceil_div(p->outputs, cut.part);
    cut.items = p->groups * cut.parts * bands;
    cut.per_chunk = max_i64(CHUNK_FLOPS / max_i64(flops / max_i64(cut.parts, 1), 1), cut.items / (4 * CHUNKS));
    cut.per_chunk = max_i64(min_i64(cut.per_chunk, cut.items), 1);
    cut.chunks = ceil_div(cut.items, cut.per_chunk);

    cut.in_place = is_plain(&p->window) && cut.bands.rows == 1;
    cut.slab_floats = cut.in_place ? 0 : slab_floats(&p->window, &cut.bands, cut.c_block);
    cut.a_floats = packed_floats(min_i64(cut.part, OUT_BLOCK), k_block);
    cut.b_floats = packed_floats(round_up(points, COLUMN_MULTIPLE), k_block);
    cut.floats = cut.slab_floats + cut.a_floats + cut.b_floats;
    return cut;
}

/* Columns [lane, lane + count) of a panel: contiguous in the slab, out_w apart in the output. */
typedef struct { int64_t lane, count, slab, out; } run;

/* The runs of a band, panel after panel. */
typedef struct {
    run runs[WIDE_BAND + WIDE_BAND / NR + 1];
    int64_t first[WIDE_BAND / NR + 2]; /* of each panel's runs, and the end */
} band_runs;

static void find_runs(band_runs *found, const correlation *p, const band *b, const slab_shape *s)
{
    int64_t sample = b->row / p->window.h.grid, g = b->row % p->window.h.grid, q = 0, slab = 0;
    int64_t columns = b->rows * b->width, count = 0;
    for (int64_t panel = 0; panel * NR < columns; panel++) {
        found->first[panel] = count;
        int64_t end = min_i64(columns - panel * NR, NR);
        for (int64_t lane = 0; lane < end; count++) {
            run r = {lane, min_i64(end - lane, b->width - q), slab + q,
                     sample * p->out_n + g * p->out_h + (b->q + q) * p->out_w};
            found->runs[count] = r;
            lane += r.count;
            q += r.count;
            if (q < b->width)
                continue;
            q = 0;
            slab += s->row;
            if (++g == p->window.h.grid) {
                g = 0;
                sample++;
                slab += p->window.h.extra * s->row;
            }
        }
        found->first[panel + 1] = count;
    }
}

/* One B panel from the slab. Runs are copied as whole vectors in ascending order, each repaired by the next. */
static void pack_columns(float *panel, const float *slab, const correlation *p, const slab_shape *s, const run *first, const run *end,
                         int64_t channels)
{
    const axis *h = &p->window.h, *w = &p->window.w;
    if (end[-1].lane + end[-1].count < NR)
        memset(panel, 0, sizeof(float) * (size_t)(channels * tap_count(&p->window) * NR));
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < h->taps; i++)
            for (int64_t j = 0; j < w->taps; j++, panel += NR) {
                const float *from = slab + c * s->channel + slab_tap(&p->window, s, i, j);
                for (const run *r = first; r < end; r++)
                    for (int64_t lane = 0; lane < r->count; lane += VL)
                        vstore(panel + r->lane + lane, vload(from + r->slab + lane));
            }
}

/* One A panel from the weights of `outputs` outputs. */
static void pack_weights(float *panel, const float *weights, const correlation *p, int64_t outputs, int64_t channels)
{
    int64_t taps_h = p->window.h.taps, taps_w = p->window.w.taps;
    if (p->w_tap_w == 1 && p->w_tap_h == taps_w && p->w_channel == taps_h * taps_w) {
        pack_panel(panel, MR, weights, p->w_output, 1, outputs, channels * taps_h * taps_w);
        return;
    }
    if (taps_h * taps_w == 1) {
        pack_panel(panel, MR, weights, p->w_output, p->w_channel, outputs, channels);
        return;
    }
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < taps_h; i++)
            for (int64_t j = 0; j < taps_w; j++, panel += MR) {
                const float *from = weights + c * p->w_channel + i * p->w_tap_h + j * p->w_tap_w;
                for (int64_t m = 0; m < MR; m++)
                    panel[m] = m < outputs ? from[m * p->w_output] : 0.0f;
            }
}

static void store_run(float *to, int64_t stride, const float *from, int64_t count, int add)
{
    if (stride == 1) {
        for (int64_t x = 0; x < count; x += VL) {
            int64_t left = count - x;
            vf value = vload(from + x);
            if (left >= VL)
                vstore(to + x, add ? vload(to + x) + value : value);
            else
                vstore_part(to + x, left, add ? vload_part(to + x, left) + value : value);
        }
    } else {
        for (int64_t x = 0; x < count; x++)
            to[x * stride] = add ? to[x * stride] + from[x] : from[x];
    }
}

/* Multiply one A panel by one B panel and put the tile where its runs say. */
static void multiply_panel(float *out, const correlation *p, const float *a, const float *b, int64_t outputs, int64_t k_count,
                           const run *first, const run *end, int add)
{
    int64_t columns = end[-1].lane + end[-1].count;
    int contiguous = p->out_w == 1;
    for (const run *r = first; r < end; r++)
        contiguous = contiguous && r->out == first->out + r->lane;
    if (contiguous && outputs % ROW_STEP == 0 && columns % VL == 0) {
        tile(outputs, columns, k_count, a, b, NR, out + first->out, p->out_c, add);
        return;
    }
    float edge[MR * NR + VL];
    tile(outputs, columns, k_count, a, b, NR, edge, NR, 0);
    run whole = {0, columns, 0, first->out};
    for (int64_t m = 0; m < outputs; m++)
        for (const run *r = contiguous ? &whole : first; r < (contiguous ? &whole + 1 : end); r++)
            store_run(out + m * p->out_c + r->out, p->out_w, edge + m * NR + r->lane, r->count, add);
}

/* `again` says that the item before, on the same workspace, had the same weights. */
static void correlate_item(const correlation *p, const correlation_cut *cut, int64_t item, int again, float *workspace)
{
    int64_t bands = cut->bands.row_bands * cut->bands.column_bands;
    int64_t group = item / bands / cut->parts, part = item / bands % cut->parts;
    band b = band_at(&p->window, &cut->bands, item % bands);
    int64_t m0 = part * cut->part, outputs = min_i64(p->outputs - m0, cut->part);

    const float *source = p->source + group * p->channels * p->window.c_stride;
    const float *weights = p->weights + group * p->w_group + m0 * p->w_output;
    float *out = p->out + (group * p->outputs + m0) * p->out_c;
    float *slab = workspace, *a = slab + cut->slab_floats, *panels = a + cut->a_floats;

    slab_shape s = band_slab(&p->window, &b);
    band_runs found;
    find_runs(&found, p, &b, &s);
    int64_t columns = b.rows * b.width;
    int packed = again && p->channels <= cut->c_block && outputs <= OUT_BLOCK;

    int64_t c0 = 0;
    do { /* once for no channels as well: the sum of nothing is 0 */
        int64_t channels = min_i64(p->channels - c0, cut->c_block), k_count = channels * tap_count(&p->window);
        const float *image = source + c0 * p->window.c_stride;
        if (cut->in_place)
            image += b.row / p->window.h.grid * p->window.n_stride + b.row % p->window.h.grid * p->window.w.size + b.q;
        else
            fill_slab(slab, image, &p->window, &b, channels);
        for (int64_t j = 0; j < columns; j += NR) {
            const int64_t *first = &found.first[j / NR];
            if (cut->in_place)
                pack_panel(panels + j * k_count, NR, image + j, 1, p->window.c_stride, min_i64(columns - j, NR), k_count);
            else
                pack_columns(panels + j * k_count, slab, p, &s, found.runs + first[0], found.runs + first[1], channels);
        }

        for (int64_t block = 0; block < outputs; block += OUT_BLOCK) {
            int64_t rows = min_i64(outputs - block, OUT_BLOCK);
            for (int64_t i = 0; i < rows && !packed; i += MR)
                pack_weights(a + i * k_count, weights + (block + i) * p->w_output + c0 * p->w_channel, p, min_i64(rows - i, MR), channels);
            for (int64_t j = 0; j < columns; j += NR) {
                const int64_t *first = &found.first[j / NR];
                for (int64_t i = 0; i < rows; i += MR)
                    multiply_panel(out + (block + i) * p->out_c, p, a + i * k_count, panels + j * k_count, min_i64(rows - i, MR), k_count,
                                   found.runs + first[0], found.runs + first[1], c0 > 0);
            }
        }
        c0 += cut->c_block;
    } while (c0 < p->channels);
}

typedef struct {
    const correlation *p;
    correlation_cut cut;
    float *workspace;
} correlation_job;

static void correlate_chunk(void *context, int64_t chunk)
{
    const correlation_job *job = context;
    int64_t first = chunk * job->cut.per_chunk, end = min_i64(first + job->cut.per_chunk, job->cut.items);
    int64_t bands = job->cut.bands.row_bands * job->cut.bands.column_bands;
    float *workspace = job->workspace + tge_worker() * job->cut.floats;
    for (int64_t item = first; item < end; item++)
        correlate_item(job->p, &job->cut, item, item > first && item % bands != 0, workspace);
}

static void correlate(correlation *p, void *const *operand)
{
    p->out = (float *)operand[0] + p->out_start;
    p->source = operand[1];
    p->weights = (const float *)operand[2] + p->w_start;
    correlation_job job = {p, cut_correlation(p), operand[3]};
    tge_parallel(job.cut.chunks, correlate_chunk, &job);
}

static int64_t correlation_workspace(const correlation *p, int32_t threads)
{
    correlation_cut cut = cut_correlation(p);
    return workers_used(cut.chunks, threads) * cut.floats * (int64_t)sizeof(float);
}

/* A window of one position that reads the image as it is makes each plane one long row, and adjacent planes of samples too. */
static void flatten_planes(correlation *p)
{
    axis *h = &p->window.h, *w = &p->window.w;
    if (!is_plain(&p->window) || p->out_w != 1 || p->out_h != w->grid)
        return;
    int64_t plane = h->size * w->size;
    *w = make_axis(plane, 0, 1, 1, 1, plane);
    *h = make_axis(1, 0, 1, 1, 1, 1);
    if (p->window.n_stride == plane && p->out_n == plane) {
        *w = make_axis(p->window.n * plane, 0, 1, 1, 1, p->window.n * plane);
        p->window.n = 1;
    }
}

static correlation forward_correlation(const tge_conv2d_params *p)
{
    int64_t taps = p->r * p->s;
    correlation f = {
        .window = forward_window(p),
        .groups = p->groups, .outputs = p->k / p->groups, .channels = p->c / p->groups,
        .out_n = p->y_n_stride, .out_c = p->y_c_stride, .out_h = p->q, .out_w = 1,
        .w_group = p->k / p->groups * (p->c / p->groups) * taps, .w_output = p->c / p->groups * taps, .w_channel = taps,
        .w_tap_h = p->s, .w_tap_w = 1,
    };
    flatten_planes(&f);
    return f;
}

static int64_t conv2d_f32(void *const *operand, const void *params)
{
    correlation f = forward_correlation(params);
    correlate(&f, operand);
    return 0;
}

static int64_t conv2d_f32_workspace(const void *params, int32_t threads)
{
    correlation f = forward_correlation(params);
    return correlation_workspace(&f, threads);
}

/* The gradient by the data at positions x with (x + pad) % stride == residue: their window reads the output gradient without gaps, in
 * reverse, at the taps whose t * dilation has that residue. */
typedef struct {
    axis reads;             /* of the output gradient */
    int64_t first;          /* the first such position */
    int64_t last_tap, step; /* the window's taps are last_tap, last_tap - step, ... of the weights */
} reverse_axis;

static reverse_axis reverse(int64_t size, int64_t out, int64_t taps, int64_t stride, int64_t pad, int64_t dilation, int64_t residue)
{
    reverse_axis r;
    r.first = ((residue - pad) % stride + stride) % stride;
    r.step = stride / gcd(stride, dilation);
    int64_t tap = 0;
    while (tap < r.step && tap * dilation % stride != residue)
        tap++;
    int64_t count = tap < r.step && tap < taps ? (taps - 1 - tap) / r.step + 1 : 0;
    r.last_tap = tap + (count - 1) * r.step;
    r.reads = make_axis(out, (r.first + pad - r.last_tap * dilation) / stride, 1, dilation / gcd(stride, dilation), count,
                    size > r.first ? ceil_div(size - r.first, stride) : 0);
    return r;
}

static correlation backward_correlation(const tge_conv2d_params *p, int64_t residue_h, int64_t residue_w)
{
    reverse_axis h = reverse(p->h, p->p, p->r, p->stride_h, p->pad_h, p->dilation_h, residue_h);
    reverse_axis w = reverse(p->w, p->q, p->s, p->stride_w, p->pad_w, p->dilation_w, residue_w);
    int64_t taps = p->r * p->s, any = h.reads.taps * w.reads.taps > 0;
    correlation b = {
        .window = {.h = h.reads, .w = w.reads, .n = p->n, .n_stride = p->y_n_stride, .c_stride = p->y_c_stride},
        .groups = p->groups, .outputs = p->c / p->groups, .channels = any ? p->k / p->groups : 0,
        .out_start = h.first * p->w + w.first,
        .out_n = p->x_n_stride, .out_c = p->x_c_stride, .out_h = p->stride_h * p->w, .out_w = p->stride_w,
        .w_start = any ? h.last_tap * p->s + w.last_tap : 0,
        .w_group = p->k / p->groups * (p->c / p->groups) * taps, .w_output = taps, .w_channel = p->c / p->groups * taps,
        .w_tap_h = -h.step * p->s, .w_tap_w = -w.step,
    };
    flatten_planes(&b);
    return b;
}

static int64_t conv2d_backward_data_f32(void *const *operand, const void *params)
{
    const tge_conv2d_params *p = params;
    for (int64_t i = 0; i < p->stride_h; i++)
        for (int64_t j = 0; j < p->stride_w; j++) {
            correlation b = backward_correlation(p, i, j);
            correlate(&b, operand);
        }
    return 0;
}

static int64_t conv2d_backward_data_f32_workspace(const void *params, int32_t threads)
{
    const tge_conv2d_params *p = params;
    int64_t bytes = 0;
    for (int64_t i = 0; i < p->stride_h; i++)
        for (int64_t j = 0; j < p->stride_w; j++) {
            correlation b = backward_correlation(p, i, j);
            bytes = max_i64(bytes, correlation_workspace(&b, threads));
        }
    return bytes;
}
