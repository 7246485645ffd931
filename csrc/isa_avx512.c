/* The kernels for AVX-512 (F, BW, VL, DQ). */
#include "isa.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TGE_AVX512
#define VL 16
#define TABLE tge_kernels_avx512

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c"))), apply_to = function)
#include "kernels/all.h"
#pragma clang attribute pop
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")
#include "kernels/all.h"
#pragma GCC pop_options
#endif

#endif
