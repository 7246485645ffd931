/* cross_entropy_f32 and its gradient. With p = softmax(x), target = (1 - smoothing) w_y [c = y] + smoothing / classes w_c:
 *     loss = -sum_c target_c ln p_c        d loss / d x_c = p_c sum(target) - target_c */
#include "softmax.h"

typedef struct {
    const tge_cross_entropy_params *p;
    float *y; /* loss or gradient of the logits */
    const float *grad_loss;
    const float *logits;
    const int32_t *label;
    const float *weight;
    float confident, spread; /* 1 - smoothing, and what each class gets */
    double weight_sum;
    int64_t rows_in_chunk;
} loss_walk;

static int64_t first_bad_label(const int32_t *label, const tge_cross_entropy_params *p)
{
    for (int64_t i = 0; i < p->rows; i++)
        if (label[i] < 0 || label[i] >= p->classes)
            return i + 1;
    return 0;
}

static void prepare(loss_walk *w, const tge_cross_entropy_params *p)
{
    w->p = p;
    w->confident = 1.0f - p->smoothing;
    w->spread = p->smoothing / (float)p->classes;
    w->rows_in_chunk = max_i64(1, CHUNK / p->classes);
}

static void loss_rows(void *context, int64_t chunk)
{
    const loss_walk *w = context;
    const int64_t n = w->p->classes, last = min_i64((chunk + 1) * w->rows_in_chunk, w->p->rows);
    for (int64_t row = chunk * w->rows_in_chunk; row < last; row++) {
        const float *x = w->logits + row * n;
        const float most = max_row(x, n), log_sum = (float)log(sum_exp_row(x, n, most));
        const int32_t label = w->label[row];
        double loss = -(double)(w->confident * w->weight[label]) * (x[label] - most - log_sum);
        if (w->spread != 0.0f) {
            float term[SUM_BLOCK];
            double sum = 0.0;
            for (int64_t first = 0; first < n; first += SUM_BLOCK) {
                const int64_t length = min_i64(SUM_BLOCK, n - first);
                for (int64_t i = 0; i < length; i += VL)
                    vstore_upto(term + i, length - i, vload_upto(w->weight + first + i, length - i)
                                                          * (vload_upto(x + first + i, length - i) - most - log_sum));
                sum += sum_block(term, length);
            }
            loss -= w->spread * sum;
        }
        w->y[row] = (float)loss;
    }
}

static int64_t cross_entropy_f32(void *const *operand, const void *params)
{
    const tge_cross_entropy_params *p = params;
    loss_walk w = {.y = operand[0], .logits = operand[1], .label = operand[2], .weight = operand[3]};
    const int64_t bad = first_bad_label(w.label, p);
    if (bad || p->rows == 0)
        return bad;
    prepare(&w, p);
    tge_parallel(ceil_div(p->rows, w.rows_in_chunk), loss_rows, &w);
    return 0;
}

static void loss_backward_rows(void *context, int64_t chunk)
{
    const loss_walk *w = context;
    const int64_t n = w->p->classes, last = min_i64((chunk + 1) * w->rows_in_chunk, w->p->rows);
    for (int64_t row = chunk * w->rows_in_chunk; row < last; row++) {
        const float *x = w->logits + row * n;
        float *y = w->y + row * n;
        const float grad = w->grad_loss[row], target = w->confident * w->weight[w->label[row]];
        const double sum = exp_row(y, x, n, max_row(x, n));
        const float scale = (float)(grad * (target + w->spread * w->weight_sum) / sum);
        for (int64_t i = 0; i < n; i += VL) {
            vf g = vload_upto(y + i, n - i) * scale;
            if (w->spread != 0.0f)
                g -= vload_upto(w->weight + i, n - i) * (grad * w->spread);
            vstore_upto(y + i, n - i, g);
        }
        y[w->label[row]] -= grad * target;
    }
}

static int64_t cross_entropy_backward_f32(void *const *operand, const void *params)
{
    const tge_cross_entropy_params *p = params;
    loss_walk w = {.y = operand[0], .grad_loss = operand[1], .logits = operand[2], .label = operand[3], .weight = operand[4]};
    const int64_t bad = first_bad_label(w.label, p);
    if (bad || p->rows == 0)
        return bad;
    prepare(&w, p);
    w.weight_sum = sum_row(w.weight, p->classes);
    tge_parallel(ceil_div(p->rows, w.rows_in_chunk), loss_backward_rows, &w);
    return 0;
}
