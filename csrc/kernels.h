/* The contract between the plan and the kernels.
 *
 * This header is read by the C compiler (through tge.h) and by cffi as it stands, so it holds plain declarations only.
 *
 * A kernel is a function of one shape:
 *
 *     int64_t kernel(void *const *operand, const void *params)
 *
 * operand   pointers in the order outputs, inputs, workspace. Each is aligned to 64 bytes where it starts a block of the arena or a cell,
 *           and to its element otherwise. Outputs never overlap inputs, except where the op declares an in-place pair (then both pointers are equal).
 * params    one of the structs below; which one is stated beside it. Sizes are elements unless a name says bytes.
 * returns   0, or 1 + the position of the first element that cannot be accepted (a label out of range, a value that is not finite).
 *
 * Kernels allocate nothing, hold no state, and know nothing of graphs. A size of zero is legal everywhere. Their results do not
 * depend on the number of threads. Kernels are found by name in a table (tge_kernel_find), one entry a kernel, one table an
 * instruction set.
 *
 * Letters: N samples, C input channels, H W input height and width, K output channels, R S window height and width,
 * P Q output height and width. Images are addressed as x[n * n_stride + c * c_stride + h * W + w], so that the same kernel
 * serves [N][C][H][W] and [C][N][H][W]. Weights are [K][C / groups][R][S], contiguous.
 */

/* ---- element types ---- */

enum tge_dtype {
    TGE_FLOAT32, TGE_FLOAT64, TGE_FLOAT16, TGE_BFLOAT16, TGE_INT32, TGE_UINT32, TGE_UINT16, TGE_INT8, TGE_UINT8, TGE_BOOL
};

/* ---- elementwise: one strided walk ---- */

/* elementwise_f32: float outputs and inputs.
 * maximum and minimum return NaN when either input is NaN, as NumPy's do. CLIP is (x, low, high). *_BACKWARD are (grad_output, y)
 * for RELU and RELU6 (y is the output) and (grad_output, x) for HARDSWISH. HARDSWISH is x * (relu6(x + 3) / 6), its derivative
 * (2 x + 3) / 6 where |x| < 3 and a constant elsewhere; RELU passes the gradient where y > 0, RELU6 where 0 < y < 6. POWER is libm's powf. */
enum tge_elementwise {
    TGE_NEGATIVE, TGE_ABS, TGE_SIGN, TGE_EXP, TGE_LOG, TGE_SQRT, TGE_TANH, TGE_SIGMOID, TGE_RELU, TGE_RELU6, TGE_HARDSWISH,
    TGE_ADD, TGE_SUBTRACT, TGE_MULTIPLY, TGE_DIVIDE, TGE_POWER, TGE_MAXIMUM, TGE_MINIMUM,
    TGE_RELU_BACKWARD, TGE_RELU6_BACKWARD, TGE_HARDSWISH_BACKWARD,
    TGE_CLIP
};

/* chain_f32: several elementwise steps over blocks that stay in cache; the result of the last step is the output. A source of a step is
 * input k (k >= 0), constant k (TGE_CHAIN_CONSTANT + k), or the result of an earlier step j (-1 - j). strides[0] is the output's. The
 * output may be the same buffer as an input of equal strides. Each step gives the bits that elementwise_f32 gives. */
enum { TGE_CHAIN_STEPS = 16, TGE_CHAIN_INPUTS = 8, TGE_CHAIN_CONSTANT = 64 };
typedef struct { int32_t op; int32_t source[3]; } tge_chain_step;
typedef struct {
    int32_t steps;
    int32_t inputs;
    int32_t constants;
    int32_t ndim;
    int64_t shape[8];
    int64_t strides[9][8];
    float constant[8];
    tge_chain_step step[16];
} tge_chain_params;

/* compare_f32, compare_i32: bool (one byte, 0 or 1) output. logical_bool: bool inputs (NOT reads its first input only). */
enum tge_compare { TGE_EQUAL, TGE_NOT_EQUAL, TGE_LESS, TGE_LESS_EQUAL, TGE_GREATER, TGE_GREATER_EQUAL };
enum tge_logical { TGE_AND, TGE_OR, TGE_NOT };

/* Kernels elementwise_f32, elementwise_i32 (NEGATIVE ABS SIGN ADD SUBTRACT MULTIPLY MAXIMUM MINIMUM; wraps on overflow), compare_f32,
 * compare_i32, logical_bool, where_b32 (condition bool, then two inputs and an output of any 4-byte type).
 * Operands: output, then the inputs. strides[0] is the output's, strides[1..] the inputs', in elements; 0 broadcasts. The caller
 * has merged adjacent axes where all strides allow it, so ndim is small and the last axis is usually contiguous or broadcast.
 * The output may be the same buffer as an input of equal strides. */
typedef struct {
    int32_t op;
    int32_t inputs;
    int32_t ndim;
    int32_t reserved;
    int64_t shape[8];
    int64_t strides[4][8];
} tge_elementwise_params;

/* cast: contiguous, any pair of element types. Float to float rounds to nearest even; float to integer truncates toward zero and
 * saturates, NaN becomes 0; integer to integer wraps; anything to bool is x != 0. */
typedef struct { int32_t from; int32_t to; int64_t count; } tge_cast_params;

/* copy: a strided walk, output and input strides in elements (negative allowed, 0 broadcasts on the input side), offsets in elements
 * from the operand's start; itemsize 1, 2, 4 or 8 bytes. With fill set, the output's fill_count elements are zeroed first
 * (padding, and the gradient of a slice). Operands: output, input. */
typedef struct {
    int32_t itemsize;
    int32_t ndim;
    int64_t fill_count;
    int64_t output_offset;
    int64_t input_offset;
    int64_t shape[8];
    int64_t output_strides[8];
    int64_t input_strides[8];
} tge_copy_params;

/* full: every element of a contiguous output becomes value (converted to dtype). arange_i32: 0, 1, 2, ... (uses count only). */
typedef struct { int32_t dtype; int32_t reserved; int64_t count; double value; } tge_full_params;

/* ---- reductions ---- */

/* sum_f32, sum_i32, max_f32: reduce the axes listed under reduced; kept axes index a contiguous output in order.
 * sum_f32 adds in fixed blocks of fixed lanes, block sums in float64. The sum of nothing is 0, the maximum of nothing is -inf;
 * a NaN makes the maximum NaN. */
typedef struct {
    int32_t kept;
    int32_t reduced;
    int64_t kept_shape[8];
    int64_t kept_strides[8];
    int64_t reduced_shape[8];
    int64_t reduced_strides[8];
} tge_reduce_params;

/* argmax_f32: x[outer][count][inner] -> int32[outer][inner], the first of equals, the first NaN if there is one.
 * softmax_f32, log_softmax_f32: along the middle axis. topk_f32: outputs int32 indices[outer][k] of the k largest of the middle axis,
 * largest first, the lower index first among equals, NaN largest (inner is 1). */
typedef struct { int64_t outer; int64_t count; int64_t inner; int64_t k; } tge_axis_params;

/* ---- indexing ---- */

/* take: out[outer][indices][inner] = x[outer][length][inner] at int32 indices, negative ones from the end; any type of `itemsize` bytes.
 * Operands: out, x, indices. scatter_add_f32: the adjoint; out[outer][length][inner] is zeroed, then each row of updates[outer][indices][inner]
 * is added at its index in order. Operands: out, updates, indices. Both return 1 + position of an index out of range, before writing. */
typedef struct { int64_t outer; int64_t length; int64_t indices; int64_t inner; int32_t itemsize; int32_t reserved; } tge_take_params;

/* ---- dense products ---- */

/* matmul_f32: c[b][M][N] = op(a[b]) op(b[b]); a is [M][K], or [K][M] when transpose_a; b is [K][N], or [N][K] when transpose_b.
 * Batch strides in elements, 0 broadcasts. Operands: c, a, b, workspace. */
typedef struct {
    int64_t batch;
    int64_t m, n, k;
    int64_t a_batch_stride, b_batch_stride;
    int32_t transpose_a, transpose_b;
} tge_matmul_params;

/* conv2d_f32:                  y;  x, w, workspace
 * conv2d_backward_data_f32:    gx; gy, w, workspace       (gx is overwritten)
 * conv2d_backward_weights_f32: gw; x, gy, workspace       (gw is overwritten)
 * depthwise_conv2d_f32, depthwise_conv2d_backward_data_f32, depthwise_conv2d_backward_weights_f32: the same operands, with groups == C and
 * K a multiple of C; images of one shape may share memory in the first two, and the third takes no workspace. x_* strides address x and gx,
 * y_* address y and gy. */
typedef struct {
    int64_t n, c, h, w;
    int64_t k, r, s;
    int64_t p, q;
    int64_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
    int64_t groups;
    int64_t x_n_stride, x_c_stride, y_n_stride, y_c_stride;
} tge_conv2d_params;

/* ---- sparse weights: compressed rows in a pool that many layers share ----
 *
 * values[capacity] and columns[capacity] hold the non-zeros of all layers, each layer's together and in the order of its rows; row i of the
 * pool is [rows[i], rows[i + 1]). A layer of weights [K][C][R][S] has K * segments rows from first_row on: row k * segments + i holds the
 * columns [65536 * i, 65536 * (i + 1)) of output channel k, where (c * R + r) * S + s is a column; columns ascend. Groups are 1.
 *
 * sparse_conv2d_f32:                    y;  x, values, columns, rows, workspace
 * sparse_conv2d_backward_data_f32:      gx; gy, values, columns, rows, workspace      (gx is overwritten)
 * sparse_conv2d_backward_weights_f32:   g[capacity]; x, gy, columns, rows, workspace  (zero outside the layer)
 * sparse_conv2d_accumulate_weights_f32: g[capacity]; g, x, gy, columns, rows, workspace  (the layer's part is added; output and input are one)
 * sparse_conv2d_expanded_f32, ..._backward_data_..., ..._backward_weights_..., ..._accumulate_weights_expanded_f32: the same by the dense kernels,
 * with the weights of the layer, or their gradient, dense in workspace */
typedef struct {
    tge_conv2d_params conv;
    int64_t first_row;
    int64_t segments;
    int64_t capacity;
    int64_t nonzeros; /* of the layer when it was made: what workspaces have room for at a time, however many there are now */
} tge_sparse_conv2d_params;

/* sparse_conv2d_candidates_f32: element int32[count]; x, gy, columns, rows, workspace
 * The zeros of the layer with the gradients of largest magnitude, as k * C * R * S + column, in descending order, the lower element first among
 * equals; -1 where there are no more zeros. A gradient that is no number counts as none. */
typedef struct {
    tge_sparse_conv2d_params layer;
    int64_t count;
} tge_sparse_candidates_params;

/* ---- pooling: planes of H x W become planes of P x Q; the padding is less than the window, so that every window meets the image ---- */

/* max_pool2d_f32:          y, argmax; x          argmax: r * S + s inside the window, in argmax_bytes (1 or 4) bytes; first of equals;
 *                                                 padding never wins; a NaN wins
 * max_pool2d_gather_f32:   y; x, argmax          the adjoint of the next
 * max_pool2d_backward_f32: gx; gy, argmax
 * avg_pool2d_f32:          y; x                  divides by R * S when count_include_pad, else by the number of elements in the image
 * avg_pool2d_backward_f32: gx; gy */
typedef struct {
    int64_t planes;
    int64_t h, w, p, q;
    int64_t r, s, stride_h, stride_w, pad_h, pad_w;
    int32_t argmax_bytes;
    int32_t count_include_pad;
} tge_pool2d_params;

/* ---- batch normalisation over n samples of `inner` contiguous elements, per channel ---- */

/* batch_norm_stats_f32:    mean[C], var[C]; x                             var is biased (divided by the count); sums of fixed blocks added in float64,
 *                                                                          taken about a guess of the mean
 * batch_norm_apply_f32:    y; x, mean, var, gamma, beta                   scale = gamma / sqrt(var + eps); y = (x - mean) * scale + beta,
 *                                                                          then the activation
 * batch_norm_apply_add_f32: y; x, mean, var, gamma, beta, addend          the same with the addend added before the activation
 * batch_norm_backward_f32: gx, ggamma, gbeta; gy, x, mean, var, gamma     the gradient through mean and var as well (no activation)
 * batch_norm_activated_backward_f32: the same; gy, x, mean, var, gamma, beta    gy is the gradient of the activated output: where the
 *                                                                          activation was flat, seen by making y again, it counts as 0
 * Where `half` is not 0, x is float16: it crosses memory in half the bytes, and counts as the float32 that it is (not for statistics). */
enum tge_activation { TGE_NO_ACTIVATION, TGE_ACTIVATION_RELU, TGE_ACTIVATION_RELU6 };
typedef struct {
    int64_t n, c, inner;
    int64_t n_stride, c_stride;
    float eps;
    int32_t activation;
    int32_t half;
    int32_t reserved;
} tge_batch_norm_params;

/* ---- losses ---- */

/* cross_entropy_f32:          loss[rows]; logits[rows][classes], labels int32[rows], weight[classes]
 *     loss_i = -(1 - smoothing) * weight[y_i] * logp[i, y_i] - smoothing / classes * sum_c weight[c] * logp[i, c]
 *     returns 1 + row of the first label outside [0, classes)
 * cross_entropy_backward_f32: glogits; gloss[rows], logits, labels, weight */
typedef struct { int64_t rows; int64_t classes; float smoothing; int32_t reserved; } tge_cross_entropy_params;

/* ---- randomness: Philox4x32-10 (Salmon et al. 2011) ---- */

/* dropout_f32: y; x, generator uint32[4], first int32[1], probability float[1]
 * generator is seed low, seed high, step low, step high. Element e of sample i draws word e % 4 of
 * philox(counter = {e / 4, first + i, site, step low}, key = {seed low ^ step high, seed high}); it is kept where
 * (word >> 8) * 2^-24 >= probability, scaled by 1 / (1 - probability) (float32), and is 0 elsewhere (also when probability is 1).
 * generator_advance: generator'; generator. Adds one to the 64-bit step. (params unused) */
typedef struct { int64_t samples; int64_t size; int64_t site; } tge_dropout_params;

/* ---- storage: saved values in fewer bits ---- */

/* float16_encode_f32, bfloat16_encode_f32: y (2 bytes an element); x    rounded to nearest even; returns 1 + the position of the first that
 *                                                       is not finite then
 * bfloat16_decode_f32: y; x                             (params: tge_count_params)
 * int8_encode_f32:     q int8, scale float[samples][ceil(size / 256)]; x, generator uint32[4], first int32[1]      (tge_dropout_params)
 *     A group is 256 elements of one sample (the last may be shorter); scale = max |x| / 127, or 0 where that maximum is below 2^-100. With
 *     byte e % 16 (little-endian) of philox(counter = {e / 16, first + i, site, step low}, key as dropout_f32 has it) for element e of
 *     sample i: q = floor(x * (127 / max |x|) + (byte + 1/2) / 256), all float32. Returns 1 + the position of the first x that is not finite
 * int8_decode_f32:     y; q, scale                      y = q * scale
 * mask_encode_f32:     y (a bit an element); x          set where 0 < x < high
 * mask_decode_f32:     y; x                             1 where the bit is set, else 0
 * mask_apply_f32:      y; g, x                          g where the bit is set, else 0; y may be the same buffer as g
 * pack_u8, unpack_u8:  y; x                             numbers below 2^bits, bits = 1, 2 or 4, the first in the lowest bits of a byte
 * storage_losses_f32:  y float[4]; x                    max |x|; the share of elements that are not 0 and below 2^-14, among those not 0; the root
 *     mean square of what rounding to float16 changes, as a share of x's; the same for int8 as it is expected: scale^2 / 6 for each element
 *     that is not 0. Sums of a group in float, of groups in double. Not a number where x is not finite                 (tge_dropout_params) */
typedef struct { int64_t count; int32_t bits; float high; } tge_pack_params;

/* ---- updates: outputs may be the same buffers as the inputs of the same name ---- */

/* hyper is a float64 vector, so that a rate keeps its decimal value; each coefficient is rounded to float32 once, after any arithmetic on hyper.
 * sgd_f32:          p; p, g, hyper {lr, weight_decay}
 * sgd_momentum_f32: p, m; p, g, m, hyper {lr, weight_decay, momentum}       m = momentum * m + g; p -= lr * (nesterov ? g + momentum * m : m)
 * sgd_momentum_accumulate_f32: m; m, g, p, hyper as above, done int32[1]    m = done ? m + g : momentum * m + (g + weight_decay * p)
 * sgd_momentum_step_f32: p; p, m, hyper as above                            p -= lr * m
 * adam_f32:         p, m, v; p, g, m, v, hyper {lr, weight_decay, beta1, beta2, eps}, step int32[1] (1 in the first update)
 *                   Kingma & Ba 2015, the corrections of the bias folded into two coefficients: m = beta1 * m + (1 - beta1) * g;
 *                   v = beta2 * v + (1 - beta2) * g^2; p -= (lr / (1 - beta1^step)) * m / (sqrt(v) * (1 / sqrt(1 - beta2^step)) + eps);
 *                   decoupled: p -= lr * weight_decay * p first (Loshchilov & Hutter 2019), else g += weight_decay * p
 * rmsprop_f32:      p, s; p, g, s, hyper {lr, weight_decay, alpha, eps}      s = alpha * s + (1 - alpha) * g^2; p -= lr * g / (sqrt(s) + eps)
 * In all but decoupled Adam, g += weight_decay * p first. */
typedef struct { int64_t count; int32_t nesterov; int32_t decoupled; } tge_update_params;

/* ---- checks ---- */

/* check_finite_f32, check_finite_f16: no output; x. Returns 1 + the position of the first element that is not finite. */
typedef struct { int64_t count; } tge_count_params;

/* check_range_i32: no output; x. Returns 1 + the position of the first element that is not first <= x <= last. */
typedef struct { int64_t count; int32_t first; int32_t last; } tge_range_params;

/* ---- the machine ---- */

/* multiply_add_f32: x becomes 0.5 x + 1, `rounds` times, in registers: 2 * count * rounds operations. Operands: y; x. */
typedef struct { int64_t count; int64_t rounds; } tge_multiply_add_params;

/* ---- the table ---- */

int32_t tge_kernel_count(void);
const char *tge_kernel_name(int32_t kernel);
/* The index of a kernel, or -1. */
int32_t tge_kernel_find(const char *name);
/* Bytes of workspace that a kernel wants for these params and at most this many threads; 0 for most. The same for every instruction set,
 * so that a plan is; but a plan made for fewer threads must not run with more. */
int64_t tge_kernel_workspace(int32_t kernel, const void *params, int32_t threads);
/* Call one kernel (tests, benchmarks). */
int64_t tge_kernel_call(int32_t kernel, void *const *operand, const void *params);

/* ---- instruction sets ---- */

int32_t tge_isa_count(void);
const char *tge_isa_name(int32_t isa);     /* "avx512", "avx2", "neon", "generic" */
int32_t tge_isa_supported(int32_t isa);    /* does this processor run it? */
int32_t tge_isa_current(void);
/* Choose the set that later calls use; -1 chooses the best supported. Returns 0, or -1 when the processor cannot run it. */
int32_t tge_isa_choose(int32_t isa);

/* ---- threads ---- */

void tge_threads_set(int32_t threads);     /* at least 1; the caller's thread is one of them */
int32_t tge_threads_get(void);

/* ---- programs ---- */

/* A pointer: bases[slot] + offset bytes. */
typedef struct { int32_t slot; int32_t reserved; int64_t offset; } tge_operand;

/* One kernel call with at most TGE_MAX_OPERANDS operands. operand indexes the program's operands; params is an offset into its parameter
 * bytes, a multiple of 8.
 * kernel == -1 is a loop: params is a tge_loop_params; the next `body` calls run `count` times. Its operands are pairs {destination slot,
 * stride in bytes} {source slot, offset}: before iteration i, bases[destination] = bases[source] + offset + i * stride. */
enum { TGE_MAX_OPERANDS = 32 };
typedef struct { int32_t kernel; int32_t operands; int64_t operand; int64_t params; } tge_call;
typedef struct { int64_t count; int64_t body; } tge_loop_params;

/* Run calls [first, last). Returns 0; -1 when *stop became non-zero (looked at between calls); or what a kernel refused with.
 * *where is then the call's index. bases is written by loops. */
int64_t tge_run(const tge_call *calls, const tge_operand *operands, const char *params, void **bases,
                int64_t first, int64_t last, volatile int32_t *stop, int64_t *where);

/* Between these two calls an interrupt (SIGINT) also sets *stop. From the main thread only. */
void tge_interrupts_watch(volatile int32_t *stop);
void tge_interrupts_ignore(void);
