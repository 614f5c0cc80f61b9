/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver that runs programs on this host.
 *
 *   <run_dir>/pids/<name>.pid   {"name", "kind", "pid", "start", "boot", "config"}: written by the child
 *                               itself before its exec, so that no program runs without one;
 *                               written and removed only under its lock
 *   <run_dir>/log/<name>.log    its standard error and output; moved to .log.1 at a start when
 *                               longer than 16 MiB
 *
 * A program has a session of its own: no signal of the controller's terminal or group reaches it,
 * and the controller's end is not its end. Its death is known by its pidfd, which cannot mean
 * another process; who is sent a signal is so named, too. pid, start time and
 * the kernel's boot id are a process's name for ever: a pid file whose process has another start time, or
 * which is of another boot, is of a dead one.
 */
#ifndef LETHE_ORCHESTRATOR_DRIVER_PROCESS_H
#define LETHE_ORCHESTRATOR_DRIVER_PROCESS_H

#include <uv.h>

#include "orchestrator/driver/driver.h"

/* Makes the folder, if need be. Refused is one that others may write into: what root writes there could
 * be led elsewhere by a link, and a pid file say who is to be killed. 0, or -errno and a sentence. */
int process_run_dir(const char *run_dir, char *err, uint32_t err_len);

/* Makes the folders and finds what lives. 0, or -errno and a sentence. The loop is lent until
 * destroy and one more turn of the loop after it. */
int process_driver_create(struct driver **out, uv_loop_t *loop, const char *run_dir,
                          driver_on_end on_end, void *ctx, char *err, uint32_t err_len);

/* The kernel's start time of a live process, in ticks since boot; 0: it is dead, or a zombie. */
uint64_t process_start_time(int pid);

#endif
