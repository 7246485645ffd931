/* float16_encode_f32, bfloat16_encode_f32, int8_encode_f32, mask_encode_f32, pack_u8, and what gives their values back: saved values in fewer bits. */
#include "row.h"

enum { STORE_PARTS = 64, INT8_GROUP = 256 };

/* ---- a walk that may come upon what it cannot store ---- */

typedef struct {
    void *const *operand;
    const void *params;
    int64_t count, parts;
    int64_t found[STORE_PARTS]; /* 1 + position, or 0 */
} store_walk;

static int64_t store(void (*part)(void *, int64_t), void *const *operand, const void *params, int64_t count, int64_t elements)
{
    store_walk w = {.operand = operand, .params = params, .count = count, .parts = elements < 2 * CHUNK ? 1 : STORE_PARTS};
    tge_parallel(w.parts, part, &w);
    for (int64_t i = 0; i < w.parts; i++)
        if (w.found[i])
            return w.found[i];
    return 0;
}

/* ---- float16, bfloat16 ---- */

/* All ones in the exponent of a half make it infinite or NaN; the largest of a block says whether one has them. */
ALWAYS_INLINE void half_part(store_walk *w, int64_t part, void (*convert)(void *, const void *, int64_t), uint16_t infinity)
{
    const float *x = w->operand[1];
    uint16_t *y = w->operand[0];
    const int64_t last = w->count * (part + 1) / w->parts;
    for (int64_t start = w->count * part / w->parts; start < last; start += CAST_BLOCK) {
        const int64_t end = min_i64(start + CAST_BLOCK, last);
        convert(y + start, x + start, end - start);
        uint16_t largest = 0;
        for (int64_t i = start; i < end; i++) {
            const uint16_t magnitude = y[i] & 0x7fff;
            largest = magnitude > largest ? magnitude : largest;
        }
        for (int64_t i = start; largest >= infinity && i < end; i++)
            if ((y[i] & 0x7fff) >= infinity) {
                w->found[part] = i + 1;
                return;
            }
    }
}

static void float16_part(void *context, int64_t part) { half_part(context, part, f16_of_f32, 0x7c00); }
static void bfloat16_part(void *context, int64_t part) { half_part(context, part, bf16_of_f32, 0x7f80); }

static int64_t float16_encode_f32(void *const *operand, const void *params)
{
    const int64_t count = ((const tge_count_params *)params)->count;
    return store(float16_part, operand, params, count, count);
}

static int64_t bfloat16_encode_f32(void *const *operand, const void *params)
{
    const int64_t count = ((const tge_count_params *)params)->count;
    return store(bfloat16_part, operand, params, count, count);
}

static void bfloat16_decode_chunk(void *context, int64_t chunk)
{
    const store_walk *w = context;
    const int64_t first = chunk * CHUNK;
    f32_of_bf16((float *)w->operand[0] + first, (const uint16_t *)w->operand[1] + first, min_i64(CHUNK, w->count - first));
}

static int64_t bfloat16_decode_f32(void *const *operand, const void *params)
{
    store_walk w = {.operand = operand, .count = ((const tge_count_params *)params)->count};
    tge_parallel(ceil_div(w.count, CHUNK), bfloat16_decode_chunk, &w);
    return 0;
}

/* ---- int8 ---- */

/* One group: n <= INT8_GROUP elements of one sample, of which the first is element `start`. Gives its scale, not finite where an
 * element is not. A byte is one of 256 equally likely thresholds; 128 more makes what is cut off to an integer positive. */
static float int8_group(int8_t *q, const float *x, int64_t n, int64_t start, philox_stream stream)
{
    const float largest = max_magnitude(x, n);
    if (!isfinite(largest))
        return largest;
    const int tiny = largest < 0x1p-100f;
    const float inverse = tiny ? 0.0f : 127.0f / largest;
    uint32_t word[INT8_GROUP / 4];
    philox(word, (uint32_t)(start / 16), ceil_div(n, 16), stream);
    for (int64_t i = 0; i < n; i += VL) {
        const vf threshold = __builtin_convertvector(vwiden(vbload((const uint8_t *)word + i)), vf);
        const vf moved = vload_upto(x + i, n - i) * inverse + (threshold * 0x1p-8f + (128.0f + 0x1p-9f));
        const vi whole = __builtin_convertvector(moved, vi) - 128;
        vbstore_upto((uint8_t *)q + i, n - i, vnarrow(whole));
    }
    return tiny ? 0.0f : largest / 127.0f;
}

static void int8_encode_part(void *context, int64_t part)
{
    store_walk *w = context;
    const tge_dropout_params *p = w->params;
    const uint32_t *generator = w->operand[3], first = *(const uint32_t *)w->operand[4];
    const int64_t groups = ceil_div(p->size, INT8_GROUP), last = w->count * (part + 1) / w->parts;
    for (int64_t i = w->count * part / w->parts; i < last; i++) {
        const int64_t sample = i / groups, start = i % groups * INT8_GROUP, n = min_i64(INT8_GROUP, p->size - start);
        const philox_stream stream = {first + (uint32_t)sample, (uint32_t)p->site, generator[2], {generator[0] ^ generator[3], generator[1]}};
        const float *x = (const float *)w->operand[2] + sample * p->size + start;
        const float scale = int8_group((int8_t *)w->operand[0] + sample * p->size + start, x, n, start, stream);
        ((float *)w->operand[1])[i] = scale;
        for (int64_t j = 0; !isfinite(scale) && j < n; j++)
            if (!isfinite(x[j])) {
                w->found[part] = sample * p->size + start + j + 1;
                return;
            }
    }
}

static int64_t int8_encode_f32(void *const *operand, const void *params)
{
    const tge_dropout_params *p = params;
    return store(int8_encode_part, operand, params, p->samples * ceil_div(p->size, INT8_GROUP), p->samples * p->size);
}

static void int8_decode_part(void *context, int64_t part)
{
    const store_walk *w = context;
    const tge_dropout_params *p = w->params;
    const int64_t groups = ceil_div(p->size, INT8_GROUP), last = w->count * (part + 1) / w->parts;
    for (int64_t i = w->count * part / w->parts; i < last; i++) {
        const int64_t start = i / groups * p->size + i % groups * INT8_GROUP, n = min_i64(INT8_GROUP, p->size - i % groups * INT8_GROUP);
        const float scale = ((const float *)w->operand[2])[i];
        const int8_t *q = (const int8_t *)w->operand[1] + start;
        float *y = (float *)w->operand[0] + start;
        for (int64_t j = 0; j < n; j++)
            y[j] = (float)q[j] * scale;
    }
}

static int64_t int8_decode_f32(void *const *operand, const void *params)
{
    const tge_dropout_params *p = params;
    return store(int8_decode_part, operand, params, p->samples * ceil_div(p->size, INT8_GROUP), p->samples * p->size);
}

/* ---- one bit an element: element i is bit i % 8 of byte i / 8 ---- */

enum { MASK_BLOCK = 256 }; /* a chunk is a multiple of it, and it of eight */

static void mask_encode_chunk(void *context, int64_t chunk)
{
    const store_walk *w = context;
    const tge_pack_params *p = w->params;
    const float *x = w->operand[1];
    uint8_t *y = w->operand[0];
    const int64_t last = min_i64((chunk + 1) * CHUNK, p->count);
    for (int64_t start = chunk * CHUNK; start < last; start += MASK_BLOCK) {
        uint8_t one[MASK_BLOCK] = {0};
        const int64_t n = min_i64(MASK_BLOCK, last - start);
        for (int64_t i = 0; i < n; i += VL) {
            const vf v = vload_upto(x + start + i, n - i); /* zeros beyond the end */
            vbstore(one + i, vnarrow((v > vsplat(0.0f)) & (v < vsplat(p->high)) & 1));
        }
        for (int64_t i = 0; i < n; i += 8) { /* eight bytes of 0 or 1 become the bits of the product's highest byte */
            uint64_t bytes;
            memcpy(&bytes, one + i, 8);
            y[(start + i) / 8] = (uint8_t)(bytes * 0x0102040810204080u >> 56);
        }
    }
}

static int64_t mask_encode_f32(void *const *operand, const void *params)
{
    store_walk w = {.operand = operand, .params = params};
    tge_parallel(ceil_div(((const tge_pack_params *)params)->count, CHUNK), mask_encode_chunk, &w);
    return 0;
}

/* The 32 bits from element i on, of which the last byte may be beyond the end. */
static inline uint32_t mask_word(const uint8_t *bits, int64_t i, int64_t count)
{
    uint32_t word = 0;
    if (count - i >= 32)
        memcpy(&word, bits + i / 8, 4);
    else
        for (int64_t byte = 0; 8 * byte < count - i; byte++)
            word |= (uint32_t)bits[i / 8 + byte] << 8 * byte;
    return word;
}

/* y = x where the bit is set, else 0; x may be 1 everywhere. */
ALWAYS_INLINE void mask_select(const tge_pack_params *p, float *y, const float *x, const uint8_t *bits, int64_t chunk)
{
    const int64_t last = min_i64((chunk + 1) * CHUNK, p->count);
    for (int64_t start = chunk * CHUNK; start < last; start += 32) {
        const uint32_t word = mask_word(bits, start, p->count);
        for (int64_t i = 0; i < min_i64(32, last - start); i += VL) {
            const vi bit = (visplat((int32_t)(word >> i)) >> viota()) & 1;
            vstore_upto(y + start + i, last - start - i,
                        vselect(-bit, x ? vload_upto(x + start + i, last - start - i) : vsplat(1.0f), vsplat(0.0f)));
        }
    }
}

static void mask_decode_chunk(void *context, int64_t chunk)
{
    const store_walk *w = context;
    mask_select(w->params, w->operand[0], NULL, w->operand[1], chunk);
}

static void mask_apply_chunk(void *context, int64_t chunk)
{
    const store_walk *w = context;
    mask_select(w->params, w->operand[0], w->operand[1], w->operand[2], chunk);
}

static int64_t mask_decode_f32(void *const *operand, const void *params)
{
    store_walk w = {.operand = operand, .params = params};
    tge_parallel(ceil_div(((const tge_pack_params *)params)->count, CHUNK), mask_decode_chunk, &w);
    return 0;
}

static int64_t mask_apply_f32(void *const *operand, const void *params)
{
    store_walk w = {.operand = operand, .params = params};
    tge_parallel(ceil_div(((const tge_pack_params *)params)->count, CHUNK), mask_apply_chunk, &w);
    return 0;
}

/* ---- small numbers, 8 / bits of them a byte, the first in the lowest bits ---- */

ALWAYS_INLINE void pack_bytes(uint8_t *y, const uint8_t *x, int64_t count, int bits)
{
    const int64_t each = 8 / bits, whole = count / each;
    for (int64_t i = 0; i < whole; i++) {
        uint32_t byte = 0;
        for (int64_t j = 0; j < each; j++)
            byte |= (uint32_t)x[each * i + j] << (bits * j);
        y[i] = (uint8_t)byte;
    }
    if (count % each) {
        uint32_t byte = 0;
        for (int64_t j = 0; j < count % each; j++)
            byte |= (uint32_t)x[each * whole + j] << (bits * j);
        y[whole] = (uint8_t)byte;
    }
}

ALWAYS_INLINE void unpack_bytes(uint8_t *y, const uint8_t *x, int64_t count, int bits)
{
    const int64_t each = 8 / bits, whole = count / each;
    for (int64_t i = 0; i < whole; i++)
        for (int64_t j = 0; j < each; j++)
            y[each * i + j] = (uint8_t)((x[i] >> (bits * j)) & ((1 << bits) - 1));
    for (int64_t j = 0; j < count % each; j++)
        y[each * whole + j] = (uint8_t)((x[whole] >> (bits * j)) & ((1 << bits) - 1));
}

/* The number of bits is known where the loops are compiled. */
#define EACH_WIDTH(function, y, x, count, bits) \
    ((bits) == 1 ? function(y, x, count, 1) : (bits) == 2 ? function(y, x, count, 2) : function(y, x, count, 4))

static void pack_chunk(void *context, int64_t chunk)
{
    const store_walk *w = context;
    const tge_pack_params *p = w->params;
    const int64_t first = chunk * CHUNK, n = min_i64(CHUNK, p->count - first);
    EACH_WIDTH(pack_bytes, (uint8_t *)w->operand[0] + first * p->bits / 8, (const uint8_t *)w->operand[1] + first, n, p->bits);
}

static void unpack_chunk(void *context, int64_t chunk)
{
    const store_walk *w = context;
    const tge_pack_params *p = w->params;
    const int64_t first = chunk * CHUNK, n = min_i64(CHUNK, p->count - first);
    EACH_WIDTH(unpack_bytes, (uint8_t *)w->operand[0] + first, (const uint8_t *)w->operand[1] + first * p->bits / 8, n, p->bits);
}
#undef EACH_WIDTH

static int64_t pack_u8(void *const *operand, const void *params)
{
    store_walk w = {.operand = operand, .params = params};
    tge_parallel(ceil_div(((const tge_pack_params *)params)->count, CHUNK), pack_chunk, &w);
    return 0;
}

static int64_t unpack_u8(void *const *operand, const void *params)
{
    store_walk w = {.operand = operand, .params = params};
    tge_parallel(ceil_div(((const tge_pack_params *)params)->count, CHUNK), unpack_chunk, &w);
    return 0;
}

/* ---- what storing would lose ---- */

typedef struct { double largest, tiny, present, squares, half_errors, int8_errors; } rounding_sums;

typedef struct {
    const tge_dropout_params *p;
    const float *x;
    int64_t count, parts;
    rounding_sums sums[STORE_PARTS];
} rounding_walk;

static inline float lanes_sum(vf x)
{
    float lane[VL], sum = 0.0f;
    vstore(lane, x);
    for (int i = 0; i < VL; i++)
        sum += lane[i];
    return sum;
}

/* One group; at most INT8_GROUP terms are added in float. */
static void add_roundings(rounding_sums *s, const float *x, int64_t n)
{
    vf tiny = {0}, present = {0}, squares = {0}, errors = {0};
    for (int64_t i = 0; i < n; i += VL) {
        const vf v = vload_upto(x + i, n - i), magnitude = vabs(v);
        uint16_t half[VL];
        vstore_half(half, v);
        const vf error = v - vload_half(half);
        const vi nonzero = magnitude > vsplat(0.0f);
        present += vselect(nonzero, vsplat(1.0f), vsplat(0.0f));
        tiny += vselect(nonzero & (magnitude < vsplat(0x1p-14f)), vsplat(1.0f), vsplat(0.0f));
        squares += v * v;
        errors += error * error;
    }
    const double largest = max_magnitude(x, n), step = largest / 127.0, there = lanes_sum(present);
    s->largest = largest > s->largest || largest != largest ? largest : s->largest;
    s->present += there;
    s->tiny += lanes_sum(tiny);
    s->squares += lanes_sum(squares);
    s->half_errors += lanes_sum(errors);
    s->int8_errors += there * step * step / 6.0;
}

static void rounding_part(void *context, int64_t part)
{
    rounding_walk *w = context;
    const int64_t groups = ceil_div(w->p->size, INT8_GROUP), last = w->count * (part + 1) / w->parts;
    rounding_sums s = {0};
    for (int64_t i = w->count * part / w->parts; i < last; i++) {
        const int64_t start = i % groups * INT8_GROUP;
        add_roundings(&s, w->x + i / groups * w->p->size + start, min_i64(INT8_GROUP, w->p->size - start));
    }
    w->sums[part] = s;
}

static int64_t storage_losses_f32(void *const *operand, const void *params)
{
    const tge_dropout_params *p = params;
    rounding_walk w = {.p = p, .x = operand[1], .count = p->samples * ceil_div(p->size, INT8_GROUP)};
    w.parts = p->samples * p->size < 2 * CHUNK ? 1 : STORE_PARTS;
    tge_parallel(w.parts, rounding_part, &w);
    rounding_sums all = w.sums[0];
    for (int64_t i = 1; i < w.parts; i++) {
        const rounding_sums s = w.sums[i];
        all.largest = s.largest > all.largest || s.largest != s.largest ? s.largest : all.largest;
        all.present += s.present;
        all.tiny += s.tiny;
        all.squares += s.squares;
        all.half_errors += s.half_errors;
        all.int8_errors += s.int8_errors;
    }
    float *y = operand[0];
    y[0] = (float)all.largest;
    y[1] = all.present > 0.0 ? (float)(all.tiny / all.present) : 0.0f;
    y[2] = all.squares > 0.0 ? (float)sqrt(all.half_errors / all.squares) : (float)(all.squares - all.squares);
    y[3] = all.squares > 0.0 ? (float)sqrt(all.int8_errors / all.squares) : (float)(all.squares - all.squares);
    return 0;
}
