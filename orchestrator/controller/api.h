/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The API over HTTP (libmicrohttpd, a thread a connection): at a Unix socket that its owner alone may
 * open, or at host:port. With a token file every request but /healthz and /readyz has to show it.
 *
 * Bounds: 64 connections, 16 of them from one address, 32 KiB of headers, a body as request.h says, 10 s for a request to come and
 * for its answer to be fetched, however slowly it trickles; then the connection is cut.
 */
#ifndef LETHE_ORCHESTRATOR_CONTROLLER_API_H
#define LETHE_ORCHESTRATOR_CONTROLLER_API_H

#include "orchestrator/controller/engine.h"

struct api;

/* 0, or -errno and a sentence. `scratch`: a folder for files of a moment. */
int api_start(struct api **out, struct engine *e, const struct site_controller *at, const char *scratch,
              char *err, uint32_t err_len);
/* Answers what waits, closes, and removes the socket if it is still ours. */
void api_stop(struct api *a);

#endif
