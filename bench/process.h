/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Child processes of a bench: started pinned to a core, measured by their own
 * CPU clock, ended by pid. One thread.
 */
#ifndef LETHE_BENCH_PROCESS_H
#define LETHE_BENCH_PROCESS_H

#include <stdint.h>
#include <sys/types.h>

/* Starts argv (NULL-ended) on `core`, output to `log`; exits with a sentence
 * if it cannot. */
pid_t process_start(const char *const *argv, int core, const char *log);
void process_stop(pid_t pid);
/* CPU time it has used so far, all threads, ns. */
uint64_t process_cpu_ns(pid_t pid);
uint64_t thread_cpu_ns(void); /* of the calling thread */
uint64_t wall_ns(void);
/* A loopback TCP port nobody listens on just now; `span` of them in a row. */
int free_port(int span);
/* Waits until something accepts on it, 10 s at most: then exits. */
int connect_port(int port);
void pin_to_core(int core);

#endif
