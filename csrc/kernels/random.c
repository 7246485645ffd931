/* dropout_f32, generator_advance: Philox4x32-10 (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011). */
#include "strided.h"

enum { PHILOX_ROUNDS = 10, COUNTERS = 64, WORDS = 4 * COUNTERS };

typedef struct { uint32_t sample, site, step, key[2]; } philox_stream;

/* Words 0 .. 4 n - 1 of the counters {first, sample, site, step}, {first + 1, ...}, ...: n <= COUNTERS, rounded up to whole vectors.
 *
 * The words (a, b, c, d) of a counter are held as two lanes of 64 bits, a:b and c:d. A round multiplies a and c, and
 * a product's halves land where the next round wants them: (a:b)' = c * M1 ^ (b ^ key0) : 0, (c:d)' = a * M0 ^ (d ^ key1) : 0. */
static void philox(uint32_t *word, uint32_t first, int64_t n, philox_stream stream)
{
    const vq multiplier0 = (vq){0} + 0xD2511F53u, multiplier1 = (vq){0} + 0xCD9E8D57u;
    vq lanes;
    for (int i = 0; i < VL / 2; i++)
        lanes[i] = (uint64_t)i;
    for (int64_t i = 0; i < n; i += VL / 2) {
        vq ab = (lanes + (first + (uint64_t)i)) << 32 | stream.sample;
        vq cd = (vq){0} + ((uint64_t)stream.site << 32 | stream.step);
        uint32_t key0 = stream.key[0], key1 = stream.key[1];
        for (int round = 0; round < PHILOX_ROUNDS; round++) {
            const vq a_product = vmultiply_low(ab >> 32, multiplier0), c_product = vmultiply_low(cd >> 32, multiplier1);
            ab = c_product ^ (ab << 32) ^ ((uint64_t)key0 << 32);
            cd = a_product ^ (cd << 32) ^ ((uint64_t)key1 << 32);
            key0 += 0x9E3779B9u;
            key1 += 0xBB67AE85u;
        }
        ab = ab << 32 | ab >> 32;
        cd = cd << 32 | cd >> 32;
        vistore((int32_t *)word + 4 * i, (vi)vqinterleave_low(ab, cd));
        vistore((int32_t *)word + 4 * i + VL, (vi)vqinterleave_high(ab, cd));
    }
}

typedef struct {
    const tge_dropout_params *p;
    float *y;
    const float *x;
    const uint32_t *generator;
    uint32_t first;
    float probability;
    int64_t blocks_in_sample;
} dropout_walk;

enum { BLOCKS_IN_CHUNK = CHUNK / WORDS };

static void dropout_block(const dropout_walk *w, int64_t block)
{
    const int64_t sample = block / w->blocks_in_sample, start = block % w->blocks_in_sample * WORDS;
    const int64_t n = min_i64(WORDS, w->p->size - start);
    const philox_stream stream = {w->first + (uint32_t)sample, (uint32_t)w->p->site, w->generator[2],
                                  {w->generator[0] ^ w->generator[3], w->generator[1]}};
    uint32_t word[WORDS];
    philox(word, (uint32_t)(start / 4), ceil_div(n, 4), stream);

    const float scale = 1.0f / (1.0f - w->probability);
    float *y = w->y + sample * w->p->size + start;
    const float *x = w->x + sample * w->p->size + start;
    for (int64_t i = 0; i < n; i += VL) {
        const vf uniform = __builtin_convertvector((vi)((vu)viload((const int32_t *)word + i) >> 8), vf) * 0x1p-24f;
        vstore_upto(y + i, n - i, vselect(uniform >= vsplat(w->probability), vload_upto(x + i, n - i) * scale, vsplat(0.0f)));
    }
}

static void dropout_chunk(void *context, int64_t chunk)
{
    const dropout_walk *w = context;
    const int64_t last = min_i64((chunk + 1) * BLOCKS_IN_CHUNK, w->p->samples * w->blocks_in_sample);
    for (int64_t block = chunk * BLOCKS_IN_CHUNK; block < last; block++)
        dropout_block(w, block);
}

static int64_t dropout_f32(void *const *operand, const void *params)
{
    const tge_dropout_params *p = params;
    dropout_walk w = {.p = p, .y = operand[0], .x = operand[1], .generator = operand[2], .first = *(const uint32_t *)operand[3],
                      .probability = *(const float *)operand[4], .blocks_in_sample = ceil_div(p->size, WORDS)};
    tge_parallel(ceil_div(p->samples * w.blocks_in_sample, BLOCKS_IN_CHUNK), dropout_chunk, &w);
    return 0;
}

static int64_t generator_advance(void *const *operand, const void *params)
{
    (void)params;
    uint32_t *next = operand[0];
    const uint32_t *generator = operand[1];
    const uint64_t step = ((uint64_t)generator[3] << 32 | generator[2]) + 1;
    next[0] = generator[0];
    next[1] = generator[1];
    next[2] = (uint32_t)step;
    next[3] = (uint32_t)(step >> 32);
    return 0;
}
