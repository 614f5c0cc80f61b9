/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libcurl's multi interface on a loop of libuv: curl says which sockets and which time it waits for, the loop waits for
 * them, and who asked is told of the end.
 *
 * Owned by its loop, called on the loop's thread only. Easy handles are their user's, who adds them with CURLOPT_PRIVATE set,
 * and takes them out before they are cleaned up. From what curl calls within (CURLOPT_WRITEFUNCTION and such) nothing may be
 * added or removed; from `ended` it may.
 */
#ifndef LETHE_ORCHESTRATOR_DRIVER_CURL_LOOP_H
#define LETHE_ORCHESTRATOR_DRIVER_CURL_LOOP_H

#include <curl/curl.h>
#include <stdbool.h>
#include <uv.h>

struct curl_loop;

/* Once for each that was added, never from within curl_loop_add. It stays added until it is removed. */
typedef void (*curl_loop_ended)(void *private_of_easy, CURLcode code);

/* connections_each: to one host, at most; 0: as many as are asked for. NULL: no memory. */
struct curl_loop *curl_loop_create(uv_loop_t *loop, long connections_each, curl_loop_ended ended);
/* With all removed, not from within `ended`. Closes the connections; the loop is lent for one more turn. */
void curl_loop_destroy(struct curl_loop *c);
/* False: no memory, and nothing will be called. */
bool curl_loop_add(struct curl_loop *c, CURL *easy);
/* Nothing of it is called any more. Also of one that was never added. */
void curl_loop_remove(struct curl_loop *c, CURL *easy);

#endif
