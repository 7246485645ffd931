/* Kernel calls through a pipe: this program, compiled for another processor and run by an emulator, reads calls from standard input
 * and answers on standard output. remote.py is the other end; numbers are int64_t, both ends are little-endian.
 *
 *     THREADS    count                                                      -> 0
 *     WORKSPACE  kernel, bytes of params, threads, params                   -> bytes
 *     CALL       kernel, bytes of params, buffers, operands, params,        -> status, contents of the buffers
 *                bytes and misalignment of each buffer,
 *                buffer of each operand, contents of the buffers
 *
 * A buffer has guards at both ends. A call that writes into one has status OUTSIDE - the buffer's number.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tge.h"

enum { THREADS, WORKSPACE, CALL };
enum { GUARD = 256, CANARY = 0xA5, ALIGNMENT = 64, MAX_PARAMS = 4096 };
static const int64_t OUTSIDE = -1000;

typedef struct { unsigned char *memory, *start; int64_t nbytes, total; } buffer;

static void get(void *to, int64_t nbytes)
{
    if (fread(to, 1, (size_t)nbytes, stdin) != (size_t)nbytes)
        exit(0); /* the other end has closed the pipe */
}

static int64_t number(void)
{
    int64_t n;
    get(&n, sizeof n);
    return n;
}

static void put(const void *from, int64_t nbytes)
{
    fwrite(from, 1, (size_t)nbytes, stdout);
}

static void answer(int64_t n)
{
    put(&n, sizeof n);
}

static buffer guarded(int64_t nbytes, int64_t misalignment)
{
    buffer b = {.nbytes = nbytes, .total = nbytes + 2 * GUARD + ALIGNMENT};
    b.memory = aligned_alloc(ALIGNMENT, (size_t)((b.total + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT));
    b.start = b.memory + GUARD + misalignment;
    memset(b.memory, CANARY, (size_t)b.total);
    return b;
}

static int is_whole(const buffer *b)
{
    for (const unsigned char *byte = b->memory; byte < b->memory + b->total; byte++)
        if ((byte < b->start || byte >= b->start + b->nbytes) && *byte != CANARY)
            return 0;
    return 1;
}

static void call(int32_t kernel, const void *params, int64_t buffers, int64_t operands)
{
    buffer buffer_of[TGE_MAX_OPERANDS];
    void *operand[TGE_MAX_OPERANDS] = {0};

    for (int64_t i = 0; i < buffers; i++) {
        int64_t nbytes = number();
        buffer_of[i] = guarded(nbytes, number());
    }
    for (int64_t i = 0; i < operands; i++)
        operand[i] = buffer_of[number()].start;
    for (int64_t i = 0; i < buffers; i++)
        get(buffer_of[i].start, buffer_of[i].nbytes);

    int64_t status = tge_kernel_call(kernel, operand, params);
    for (int64_t i = 0; i < buffers; i++)
        if (!is_whole(&buffer_of[i]))
            status = OUTSIDE - i;

    answer(status);
    for (int64_t i = 0; i < buffers; i++) {
        put(buffer_of[i].start, buffer_of[i].nbytes);
        free(buffer_of[i].memory);
    }
}

int main(void)
{
    static int64_t params[MAX_PARAMS / sizeof(int64_t)];

    for (;;) {
        int64_t what = number();
        if (what == THREADS) {
            tge_threads_set((int32_t)number());
            answer(0);
        } else {
            int32_t kernel = (int32_t)number();
            int64_t nbytes = number(), first = number(), second = what == CALL ? number() : 0;
            get(params, nbytes);
            if (what == CALL)
                call(kernel, params, first, second);
            else
                answer(tge_kernel_workspace(kernel, params, (int32_t)first));
        }
        fflush(stdout);
    }
}
