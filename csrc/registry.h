/* One table of kernels for each instruction set, in the order of kernels/list.h. */
#ifndef TGE_REGISTRY_H
#define TGE_REGISTRY_H

#include "tge.h"

typedef struct {
    int64_t (*call)(void *const *operand, const void *params);
    int64_t (*workspace)(const void *params, int32_t threads); /* NULL: wants none */
} tge_kernel;

extern const tge_kernel tge_kernels_avx512[];
extern const tge_kernel tge_kernels_avx2[];
extern const tge_kernel tge_kernels_neon[];
extern const tge_kernel tge_kernels_generic[];

/* The table of the instruction set in use. */
const tge_kernel *tge_kernels_current(void);

#endif
