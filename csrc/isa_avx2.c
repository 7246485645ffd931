/* The kernels for AVX2 with FMA and F16C. */
#include "isa.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TGE_AVX2
#define VL 8
#define TABLE tge_kernels_avx2

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#include "kernels/all.h"
#pragma clang attribute pop
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#include "kernels/all.h"
#pragma GCC pop_options
#endif

#endif
