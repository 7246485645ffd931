#define _POSIX_C_SOURCE 200809L /* pthread_atfork, under -std=c11 */

#include "threads.h"

#include "tge.h"

static void run_serially(int64_t chunks, void (*body)(void *, int64_t), void *context)
{
    for (int64_t chunk = 0; chunk < chunks; chunk++)
        body(context, chunk);
}

#if defined(__unix__) || defined(__APPLE__)

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

/* The caller of tge_parallel claims chunks like any worker and waits only for chunks that a worker has claimed, so that a worker which wakes
 * late, or never, costs nothing.
 *
 * A claim is one compare-and-swap on `ticket`: generation in the high half, chunks left in the low half. A worker may read job fields at
 * any time, but the swap succeeds only if the ticket it saw before reading them is still current; and the fields change only while no
 * chunk is left. So a late worker can never run a stale body. */
enum { MAX_THREADS = 256, SPINS = 2000 };

static struct {
    _Atomic uint64_t ticket;
    void (*_Atomic body)(void *, int64_t);
    void *_Atomic context;
    _Atomic int64_t chunks;
    _Atomic int64_t done;
} job;

static pthread_mutex_t in_use = PTHREAD_MUTEX_INITIALIZER; /* held through a job, and while the pool is changed */
static pthread_mutex_t sleep_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work_ready = PTHREAD_COND_INITIALIZER;
static pthread_cond_t work_done = PTHREAD_COND_INITIALIZER;
static atomic_int sleepers;
static atomic_bool stopping;

static pthread_t workers[MAX_THREADS];
static int32_t started = 1; /* threads of the pool that run, the caller's included */
static atomic_int wanted = 1;
static bool fork_handled;

static _Thread_local int32_t worker_index;

int32_t tge_worker(void)
{
    return worker_index;
}

static inline void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static bool chunks_left(uint64_t ticket)
{
    return (uint32_t)ticket != 0;
}

/* Claim and run chunks until none is left. */
static void work(void)
{
    uint64_t ticket = atomic_load(&job.ticket);
    while (chunks_left(ticket)) {
        void (*body)(void *, int64_t) = atomic_load(&job.body);
        void *context = atomic_load(&job.context);
        int64_t chunks = atomic_load(&job.chunks);
        if (!atomic_compare_exchange_weak(&job.ticket, &ticket, ticket - 1))
            continue;
        body(context, chunks - (uint32_t)ticket);
        if (atomic_fetch_add(&job.done, 1) + 1 == chunks) {
            pthread_mutex_lock(&sleep_lock);
            pthread_cond_signal(&work_done);
            pthread_mutex_unlock(&sleep_lock);
        }
        ticket = atomic_load(&job.ticket);
    }
}

static void *worker_main(void *index)
{
    worker_index = (int32_t)(intptr_t)index;
    while (!atomic_load(&stopping)) {
        work();
        for (int spin = 0; spin < SPINS && !chunks_left(atomic_load(&job.ticket)); spin++)
            pause_briefly();
        pthread_mutex_lock(&sleep_lock);
        atomic_fetch_add(&sleepers, 1);
        while (!chunks_left(atomic_load(&job.ticket)) && !atomic_load(&stopping))
            pthread_cond_wait(&work_ready, &sleep_lock);
        atomic_fetch_sub(&sleepers, 1);
        pthread_mutex_unlock(&sleep_lock);
    }
    return NULL;
}

static void wake_workers(void)
{
    pthread_mutex_lock(&sleep_lock);
    pthread_cond_broadcast(&work_ready);
    pthread_mutex_unlock(&sleep_lock);
}

static void before_fork(void)
{
    pthread_mutex_lock(&in_use);
    pthread_mutex_lock(&sleep_lock);
}

static void after_fork_in_parent(void)
{
    pthread_mutex_unlock(&sleep_lock);
    pthread_mutex_unlock(&in_use);
}

/* The child has this thread alone: it starts a pool of its own when it first needs one. */
static void after_fork_in_child(void)
{
    started = 1;
    atomic_store(&sleepers, 0);
    work_ready = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    work_done = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    after_fork_in_parent();
}

/* Start what is missing of the wanted threads; fewer when the system refuses one. */
static void start_workers(void)
{
    if (!fork_handled)
        fork_handled = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) == 0;
    sigset_t all, old; /* signals are for the threads of the program, not for ours */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (started < atomic_load(&wanted)) {
        if (pthread_create(&workers[started], NULL, worker_main, (void *)(intptr_t)started) != 0)
            break;
        started++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void stop_workers(void)
{
    atomic_store(&stopping, true);
    wake_workers();
    for (; started > 1; started--)
        pthread_join(workers[started - 1], NULL);
    atomic_store(&stopping, false);
}

void tge_threads_set(int32_t threads)
{
    threads = threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads;
    pthread_mutex_lock(&in_use);
    if (threads != atomic_load(&wanted))
        stop_workers();
    atomic_store(&wanted, threads);
    pthread_mutex_unlock(&in_use);
}

int32_t tge_threads_get(void)
{
    return atomic_load(&wanted);
}

void tge_parallel(int64_t chunks, void (*body)(void *context, int64_t chunk), void *context)
{
    /* A second thread of the program that comes meanwhile works alone; it is worker 0 of a workspace of its own. */
    if (chunks < 2 || chunks > UINT32_MAX || atomic_load(&wanted) < 2 || pthread_mutex_trylock(&in_use) != 0) {
        run_serially(chunks, body, context);
        return;
    }
    if (started < atomic_load(&wanted))
        start_workers();

    atomic_store(&job.body, body);
    atomic_store(&job.context, context);
    atomic_store(&job.chunks, chunks);
    atomic_store(&job.done, 0);
    uint64_t generation = (atomic_load(&job.ticket) >> 32) + 1;
    atomic_store(&job.ticket, generation << 32 | (uint64_t)chunks);
    if (atomic_load(&sleepers) > 0)
        wake_workers();

    work();

    for (int spin = 0; spin < SPINS && atomic_load(&job.done) < chunks; spin++)
        pause_briefly();
    if (atomic_load(&job.done) < chunks) {
        pthread_mutex_lock(&sleep_lock);
        while (atomic_load(&job.done) < chunks)
            pthread_cond_wait(&work_done, &sleep_lock);
        pthread_mutex_unlock(&sleep_lock);
    }
    pthread_mutex_unlock(&in_use);
}

#else /* no threads on this system */

int32_t tge_worker(void)
{
    return 0;
}

void tge_threads_set(int32_t threads)
{
    (void)threads;
}

int32_t tge_threads_get(void)
{
    return 1;
}

void tge_parallel(int64_t chunks, void (*body)(void *context, int64_t chunk), void *context)
{
    run_serially(chunks, body, context);
}

#endif
