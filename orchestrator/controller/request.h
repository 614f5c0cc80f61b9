/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A request to the API, from what came over HTTP to a struct that holds only what can be. Pure:
 * bytes from outside are looked at here and nowhere else. What it names may still not exist.
 */
#ifndef LETHE_ORCHESTRATOR_CONTROLLER_REQUEST_H
#define LETHE_ORCHESTRATOR_CONTROLLER_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/packet/packet.h"
#include "orchestrator/model/desired.h"

enum { REQUEST_BODY_MAX = ORCH_SITE_BYTES, REQUEST_JSON_MAX = 4096, REQUEST_ARGS = 8 };

enum request_kind {
    REQUEST_STATUS, REQUEST_GROUPS, REQUEST_GROUP, REQUEST_SCALE, REQUEST_PLAN, REQUEST_POLICY,
    REQUEST_PLAN_WITH, REQUEST_INSTANCES, REQUEST_INSTANCE, REQUEST_DRAIN, REQUEST_KILL,
    REQUEST_RESTART, REQUEST_START, REQUEST_SHARDS, REQUEST_HAND_OVER, REQUEST_EVENTS, REQUEST_SITE,
    REQUEST_SITE_PUT, REQUEST_DOWN, REQUEST_OPENAPI, REQUEST_HEALTH, REQUEST_READY,
    REQUEST_TRACE_ON, REQUEST_TRACE, REQUEST_TABLES,
};

struct request_arg { const char *key, *value; }; /* of the query, decoded; value may be NULL */

struct request {
    enum request_kind kind;
    char name[ORCH_NAME];     /* group or instance */
    uint32_t shard;
    int64_t replicas;
    bool force;
    uint64_t revision;        /* to be changed; 0: whichever stands */
    uint64_t after;
    uint32_t wait_ms, limit;
    json_t *policy;           /* an object, not looked into */
    char *text;               /* site.yaml */
    struct packet_tuple flow; /* to be traced, for so long */
    uint32_t seconds;
};

/* 0, or the HTTP status and a sentence; *r is empty then. Free with request_free. */
int request_parse(const char *method, const char *path, const struct request_arg *args,
                  uint32_t nargs, const char *body, size_t bytes, struct request *r, char *err,
                  uint32_t err_len);
/* How long a body may be for this path: before it is there. */
size_t request_body_max(const char *path);
void request_free(struct request *r);

#endif
