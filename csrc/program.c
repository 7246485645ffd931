/* A program is data: run its calls in order. */
#include "registry.h"

static int64_t run(const tge_kernel *kernels, const tge_call *calls, const tge_operand *operands, const char *params, void **bases,
                   int64_t first, int64_t last, volatile int32_t *stop, int64_t *where)
{
    for (int64_t i = first; i < last; i++) {
        const tge_call *call = &calls[i];
        const tge_operand *operand = &operands[call->operand];

        if (call->kernel == -1) {
            const tge_loop_params *loop = (const void *)(params + call->params);
            for (int64_t iteration = 0; iteration < loop->count; iteration++) {
                for (int32_t j = 0; j < call->operands; j += 2)
                    bases[operand[j].slot] =
                        (char *)bases[operand[j + 1].slot] + operand[j + 1].offset + iteration * operand[j].offset;
                int64_t status = run(kernels, calls, operands, params, bases, i + 1, i + 1 + loop->body, stop, where);
                if (status != 0)
                    return status;
            }
            i += loop->body;
            continue;
        }

        *where = i;
        if (*stop)
            return -1;
        void *pointers[TGE_MAX_OPERANDS];
        for (int32_t j = 0; j < call->operands; j++)
            pointers[j] = (char *)bases[operand[j].slot] + operand[j].offset;
        int64_t status = kernels[call->kernel].call(pointers, params + call->params);
        if (status != 0)
            return status;
    }
    return 0;
}

int64_t tge_run(const tge_call *calls, const tge_operand *operands, const char *params, void **bases,
                int64_t first, int64_t last, volatile int32_t *stop, int64_t *where)
{
    return run(tge_kernels_current(), calls, operands, params, bases, first, last, stop, where);
}
