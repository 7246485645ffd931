/* Arithmetic on sizes. */
#ifndef TGE_INTEGERS_H
#define TGE_INTEGERS_H

static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t abs_i64(int64_t a) { return a < 0 ? -a : a; }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

/* tge_parallel runs a single chunk on the caller; otherwise any of the threads may claim one. */
static inline int64_t workers_used(int64_t chunks, int64_t threads) { return chunks < 2 ? 1 : threads; }

#endif
