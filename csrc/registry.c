/* Which kernels there are, and which instruction set runs them. */
#include "registry.h"

#include <string.h>

static const char *const names[] = {
#define KERNEL(name) #name,
#define KERNEL_WITH_WORKSPACE(name) #name,
#include "kernels/list.h"
#undef KERNEL
#undef KERNEL_WITH_WORKSPACE
};

enum { KERNELS = sizeof names / sizeof *names };

#if defined(__x86_64__)
static int runs_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")
        && __builtin_cpu_supports("avx512dq");
}

/* Every processor with AVX2 has F16C, which clang cannot ask for by name. */
static int runs_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

static int runs_always(void)
{
    return 1;
}

/* Best first. */
static const struct {
    const char *name;
    int (*supported)(void);
    const tge_kernel *kernels;
} sets[] = {
#if defined(__x86_64__)
    {"avx512", runs_avx512, tge_kernels_avx512},
    {"avx2", runs_avx2, tge_kernels_avx2},
#elif defined(__aarch64__)
    {"neon", runs_always, tge_kernels_neon},
#endif
    {"generic", runs_always, tge_kernels_generic},
};

enum { SETS = sizeof sets / sizeof *sets };

static int32_t current = -1;

int32_t tge_isa_count(void)
{
    return SETS;
}

const char *tge_isa_name(int32_t isa)
{
    return isa < 0 || isa >= SETS ? NULL : sets[isa].name;
}

int32_t tge_isa_supported(int32_t isa)
{
    return isa >= 0 && isa < SETS && sets[isa].supported();
}

int32_t tge_isa_choose(int32_t isa)
{
    if (isa == -1)
        for (isa = 0; !tge_isa_supported(isa); isa++)
            ;
    if (!tge_isa_supported(isa))
        return -1;
    current = isa;
    return 0;
}

int32_t tge_isa_current(void)
{
    if (current < 0)
        tge_isa_choose(-1);
    return current;
}

const tge_kernel *tge_kernels_current(void)
{
    return sets[tge_isa_current()].kernels;
}

int32_t tge_kernel_count(void)
{
    return KERNELS;
}

const char *tge_kernel_name(int32_t kernel)
{
    return kernel < 0 || kernel >= KERNELS ? NULL : names[kernel];
}

int32_t tge_kernel_find(const char *name)
{
    for (int32_t i = 0; i < KERNELS; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

int64_t tge_kernel_workspace(int32_t kernel, const void *params, int32_t threads)
{
    const tge_kernel *entry = &tge_kernels_current()[kernel];
    return entry->workspace ? entry->workspace(params, threads) : 0;
}

int64_t tge_kernel_call(int32_t kernel, void *const *operand, const void *params)
{
    return tge_kernels_current()[kernel].call(operand, params);
}
