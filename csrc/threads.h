/* A pool of threads that sleeps when there is nothing to do. */
#ifndef TGE_THREADS_H
#define TGE_THREADS_H

#include <stdint.h>

/* Call body(context, chunk) for each chunk in [0, chunks), on up to tge_threads_get() threads, in any order; return when all are done.
 * Choose the chunks from the shape alone, never from the number of threads, and let each write a part of the output of its own (or a
 * partial result that is combined in order afterwards): then the bits do not depend on the number of threads. A chunk should be worth
 * 10 us or more, since waking a sleeping thread costs about that. A body must not call tge_parallel. */
void tge_parallel(int64_t chunks, void (*body)(void *context, int64_t chunk), void *context);

/* Inside a body: which of the threads runs it, 0 .. tge_threads_get() - 1. No two running chunks of one call have the same. */
int32_t tge_worker(void);

#endif
