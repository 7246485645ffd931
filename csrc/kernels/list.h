/* Every kernel, once. The tables of all instruction sets, the names that Python looks up, and the tests come from this list.
 *
 * How to add a kernel
 *   1. Declare its params struct, operands and meaning in kernels.h (the contract).
 *   2. Write it in a file of its family, kernels/<family>.c:
 *          static int64_t example_f32(void *const *operand, const void *params)
 *          {
 *              const tge_example_params *p = params;
 *              float *y = operand[0];
 *              const float *x = operand[1];
 *              ...
 *              return 0;
 *          }
 *      with the vectors of vector.h and no intrinsics. The file is compiled once for each instruction set, each in a translation unit of
 *      its own: functions and types are static and need no suffix. Standard headers come from isa.h, never from the kernel file.
 *   3. If it wants workspace, write static int64_t example_f32_workspace(const void *params, int32_t threads) beside it: bytes
 *      for `threads` workers. The workspace is the last operand; worker w = tge_worker() takes the w-th part.
 *   4. Long work goes through tge_parallel (threads.h), in chunks that depend on the shape alone.
 *   5. Include the family once in kernels/all.h, and add KERNEL(example_f32) or KERNEL_WITH_WORKSPACE(example_f32) below.
 *   6. Test it in tests/kernels/ against NumPy; Python finds it by name.
 *
 * No include guard: the list is read with different meanings of KERNEL and KERNEL_WITH_WORKSPACE.
 */

KERNEL(elementwise_f32)
KERNEL(chain_f32)
KERNEL(elementwise_i32)
KERNEL(compare_f32)
KERNEL(compare_i32)
KERNEL(logical_bool)
KERNEL(where_b32)

KERNEL(cast)
KERNEL(full)
KERNEL(arange_i32)
KERNEL(copy)

KERNEL(sum_f32)
KERNEL(sum_i32)
KERNEL(max_f32)

KERNEL(softmax_f32)
KERNEL(log_softmax_f32)
KERNEL(cross_entropy_f32)
KERNEL(cross_entropy_backward_f32)

KERNEL(batch_norm_stats_f32)
KERNEL(batch_norm_apply_f32)
KERNEL(batch_norm_apply_add_f32)
KERNEL(batch_norm_backward_f32)
KERNEL(batch_norm_activated_backward_f32)

KERNEL(max_pool2d_f32)
KERNEL(max_pool2d_gather_f32)
KERNEL(max_pool2d_backward_f32)
KERNEL(avg_pool2d_f32)
KERNEL(avg_pool2d_backward_f32)

KERNEL(sgd_f32)
KERNEL(sgd_momentum_f32)
KERNEL(sgd_momentum_accumulate_f32)
KERNEL(sgd_momentum_step_f32)
KERNEL(adam_f32)
KERNEL(rmsprop_f32)

KERNEL(check_finite_f32)
KERNEL(check_finite_f16)
KERNEL(check_range_i32)

KERNEL(multiply_add_f32)

KERNEL(take)
KERNEL(scatter_add_f32)
KERNEL(argmax_f32)
KERNEL(topk_f32)

KERNEL(dropout_f32)
KERNEL(generator_advance)

KERNEL(float16_encode_f32)
KERNEL(bfloat16_encode_f32)
KERNEL(bfloat16_decode_f32)
KERNEL(int8_encode_f32)
KERNEL(int8_decode_f32)
KERNEL(mask_encode_f32)
KERNEL(mask_decode_f32)
KERNEL(mask_apply_f32)
KERNEL(pack_u8)
KERNEL(unpack_u8)
KERNEL(storage_losses_f32)

KERNEL_WITH_WORKSPACE(depthwise_conv2d_f32)
KERNEL_WITH_WORKSPACE(depthwise_conv2d_backward_data_f32)
KERNEL(depthwise_conv2d_backward_weights_f32)

KERNEL_WITH_WORKSPACE(matmul_f32)
KERNEL_WITH_WORKSPACE(conv2d_f32)
KERNEL_WITH_WORKSPACE(conv2d_backward_data_f32)
KERNEL_WITH_WORKSPACE(conv2d_backward_weights_f32)

KERNEL_WITH_WORKSPACE(sparse_conv2d_f32)
KERNEL_WITH_WORKSPACE(sparse_conv2d_backward_data_f32)
KERNEL_WITH_WORKSPACE(sparse_conv2d_backward_weights_f32)
KERNEL_WITH_WORKSPACE(sparse_conv2d_accumulate_weights_f32)
KERNEL_WITH_WORKSPACE(sparse_conv2d_candidates_f32)

KERNEL_WITH_WORKSPACE(sparse_conv2d_expanded_f32)
KERNEL_WITH_WORKSPACE(sparse_conv2d_backward_data_expanded_f32)
KERNEL_WITH_WORKSPACE(sparse_conv2d_backward_weights_expanded_f32)
KERNEL_WITH_WORKSPACE(sparse_conv2d_accumulate_weights_expanded_f32)
