/* The kernels for AArch64, where NEON is part of the base. */
#include "isa.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#define TGE_NEON
#define VL 4
#define TABLE tge_kernels_neon
#include "kernels/all.h"

#endif
