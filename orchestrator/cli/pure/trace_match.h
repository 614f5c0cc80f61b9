/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What programs booked of a flow, put together: one packet, step by step. Pure.
 *
 * In: the answer of GET /v1/trace. Entries are of one packet if flow, IP identification, TCP sequence
 * and bytes are equal and their times follow each other; a txn is known by shard, client and sequence.
 *
 *   steering            worker                             store
 *   received
 *   to_worker      ->   received, begun, sent         ->   received, executed, released, sent
 *   from_worker    <-   emitted                       <-   answered, committed, counted
 *   sent
 *
 * Clocks: where a program's `now_us` lies between our asking and its answer, its clock is ours (one
 * host); else it is moved to the middle of that, and the packet says by how much it may be wrong. A stamp
 * before that of the step before it is told as that one (a loop's stamp may be older than what it
 * read), so that the steps' times always make up the whole.
 *
 * Of requests that were under way together the last one answered is told: the packet waited for that.
 * What left behind the packet (counts) is not part of its time.
 */
#ifndef LETHE_ORCHESTRATOR_CLI_TRACE_MATCH_H
#define LETHE_ORCHESTRATOR_CLI_TRACE_MATCH_H

#include <jansson.h>
#include <stdbool.h>

#include "common/packet/packet_text.h"

/* [{"flow", "left_as" (or null), "side", "bytes", "worker" (or null), "end": "sent" | "dropped" |
 *   "unknown", "reason" (or null), "complete", "missing": ["sentence"], "clock_error_us", "repeated", "total_us",
 *   "steps": [{"step", "text", "where", "at_us", "us"}]}], in the order in which they came. The first
 * step is where it begins and takes no time; `at_us` counts from there. `since` is the answer of POST
 * /v1/trace, or NULL: what a program booked before that is left out. */
json_t *trace_match(const json_t *answer, const json_t *since);

/* A flow as it was ordered, for people: "tcp 10.1.0.5:0 > 192.0.2.10:80", any port of the first, without the ":0". */
const char *trace_flow_shown(const char *flow, char to[PACKET_FLOW_TEXT]);
/* Those that came in or left as `flow`, in either direction; a port 0 in it is any. Others may be traced at the
 * same time. */
json_t *trace_of_flow(const json_t *packets, const char *flow);
/* [{"step", "text", "packets", "p50_us", "max_us", "share"}] over those packets, in their order;
 * share: of all their time, 0 to 1. */
json_t *trace_summary(const json_t *packets);

#endif
