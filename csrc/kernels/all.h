/* All that is compiled once for each instruction set. isa_*.c define VL and TABLE and include this inside their target region. */
#include "../vector.h"

#include "elementwise.c"
#include "chain.c"
#include "compare.c"
#include "cast.c"
#include "copy.c"
#include "reduce.c"
#include "softmax.c"
#include "loss.c"
#include "norm.c"
#include "pool.c"
#include "update.c"
#include "check.c"
#include "peak.c"
#include "index.c"
#include "topk.c"
#include "random.c"
#include "storage.c"
#include "depthwise.c"
#include "depthwise_data.c"
#include "depthwise_weights.c"
#include "matmul.c"
#include "conv2d.c"
#include "conv2d_weights.c"
#include "sparse_candidates.c"
#include "sparse_conv2d.c"
#include "sparse_conv2d_weights.c"
#include "sparse_expanded.c"

const tge_kernel TABLE[] = {
#define KERNEL(name) {name, NULL},
#define KERNEL_WITH_WORKSPACE(name) {name, name##_workspace},
#include "list.h"
#undef KERNEL
#undef KERNEL_WITH_WORKSPACE
};
