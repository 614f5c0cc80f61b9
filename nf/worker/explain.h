/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A chain's state-access plan: which tables it has, and what a packet of a new flow and one
 * of an established flow read and write, in which round trips. Not written down anywhere:
 * sample packets go through the real engine, and what it asks of a store is recorded.
 *
 * The samples: TCP and UDP from the inside to 192.0.2.80, from the first address out of the
 * site's file, or out of the usual private ones, that the chain lets pass; and their answers.
 *
 *   {"chain": ["nat44", "monitor"], "source": "10.1.0.5",
 *    "tables": [{"nf", "table", "kind", "durability", "key_bytes", "value_bytes", "timeout_ms",
 *                "max_entries", "events",
 *                "key": [{"name": "inside", "type": "end_point", "offset": 0}], "value": [...],
 *                "pool": {"first_port", "ports", "ranges": [["203.0.113.0", 16]]}}],   layout.h
 *    "cases": [{"case": "new flow", "packet": "tcp 10.1.0.5:40000 > 192.0.2.80:80 SYN",
 *               "side": "inside", "verdict": "sent", "out": "outside", "round_trips": 2,
 *               "reads": 3, "writes": 3,
 *               "steps": [{"round_trip": 1, "nf": "nat44", "phase": "look-up", "waited_for": true,
 *                          "slot": 17, "status": "done",
 *                          "ops": [{"op": "get", "table": "nat.session", "result": "absent"}]}]}]}
 *
 * verdict: "sent", "replied" (back by its side), or "dropped", then "reason" is there. phase:
 * "look-up", "commit" (conditional updates), "count" (adds). round_trip counts from 1 within
 * a packet; what is not waited for goes out with the trip it names. result: "hit", "absent",
 * "done", "failed", or "skipped", which touches nothing and is counted nowhere.
 *
 * Control time; not thread-safe.
 */
#ifndef NF_WORKER_EXPLAIN_H
#define NF_WORKER_EXPLAIN_H

#include <jansson.h>

#include "nf/worker/chain.h"

/* The above; NULL and a sentence: it cannot be run. `path`: the site's file. */
json_t *explain_chain(const struct chain *c, const char *path, char *err, uint32_t err_len);
/* The same for people, to stdout. */
void explain_say(const json_t *plan);

#endif
