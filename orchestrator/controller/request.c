/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading a request (request.h): a table of paths, and what each may carry. */
#include "orchestrator/controller/request.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/metrics/trace.h"
#include "common/packet/packet_text.h"

enum takes { NO_BODY, EMPTY, REPLICAS, FORCE, POLICY, TEXT, FLOW };

/* `*` is one name. */
static const struct route {
    const char *method, *path;
    enum request_kind kind;
    enum takes body;
} routes[] = {
    {"GET", "/v1/status", REQUEST_STATUS, NO_BODY},
    {"GET", "/v1/groups", REQUEST_GROUPS, NO_BODY},
    {"GET", "/v1/groups/*", REQUEST_GROUP, NO_BODY},
    {"POST", "/v1/groups/*/scale", REQUEST_SCALE, REPLICAS},
    {"GET", "/v1/groups/*/autoscale", REQUEST_PLAN, NO_BODY},
    {"PUT", "/v1/groups/*/autoscale", REQUEST_POLICY, POLICY},
    {"POST", "/v1/groups/*/autoscale/plan", REQUEST_PLAN_WITH, POLICY},
    {"GET", "/v1/instances", REQUEST_INSTANCES, NO_BODY},
    {"GET", "/v1/instances/*", REQUEST_INSTANCE, NO_BODY},
    {"POST", "/v1/instances/*/drain", REQUEST_DRAIN, EMPTY},
    {"POST", "/v1/instances/*/kill", REQUEST_KILL, FORCE},
    {"POST", "/v1/instances/*/restart", REQUEST_RESTART, FORCE},
    {"POST", "/v1/instances/*/start", REQUEST_START, EMPTY},
    {"GET", "/v1/shards", REQUEST_SHARDS, NO_BODY},
    {"POST", "/v1/shards/*/hand-over", REQUEST_HAND_OVER, EMPTY},
    {"GET", "/v1/events", REQUEST_EVENTS, NO_BODY},
    {"GET", "/v1/site", REQUEST_SITE, NO_BODY},
    {"PUT", "/v1/site", REQUEST_SITE_PUT, TEXT},
    {"POST", "/v1/down", REQUEST_DOWN, FORCE},
    {"GET", "/v1/trace", REQUEST_TRACE, NO_BODY},
    {"POST", "/v1/trace", REQUEST_TRACE_ON, FLOW},
    {"GET", "/v1/tables", REQUEST_TABLES, NO_BODY},
    {"GET", "/v1/openapi.json", REQUEST_OPENAPI, NO_BODY},
    {"GET", "/healthz", REQUEST_HEALTH, NO_BODY},
    {"GET", "/readyz", REQUEST_READY, NO_BODY},
};
enum { ROUTES = sizeof routes / sizeof routes[0] };

static int refuse(char *err, uint32_t err_len, int status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static int refuse(char *err, uint32_t err_len, int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(err, err_len, format, args);
    va_end(args);
    return status;
}

/* --- the path ------------------------------------------------------------------------------------ */

static bool name_is_sound(const char *name, size_t n)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    return n > 0 && n < ORCH_NAME && strspn(name, allowed) >= n;
}

static bool matches(const char *pattern, const char *path, const char **name, size_t *name_len)
{
    for (; *pattern; pattern++) {
        if (*pattern != '*') {
            if (*path++ != *pattern)
                return false;
            continue;
        }
        size_t n = strcspn(path, "/");
        if (!name_is_sound(path, n))
            return false;
        *name = path;
        *name_len = n;
        path += n;
    }
    return !*path;
}

static int find_route(const char *method, const char *path, struct request *r,
                      const struct route **out, char *err, uint32_t err_len)
{
    char others[64] = "";
    for (int i = 0; i < ROUTES; i++) {
        const char *name = "";
        size_t n = 0;
        if (!matches(routes[i].path, path, &name, &n))
            continue;
        if (!strcmp(routes[i].method, method)) {
            r->kind = routes[i].kind;
            snprintf(r->name, sizeof r->name, "%.*s", (int)n, name);
            *out = &routes[i];
            return 0;
        }
        snprintf(others + strlen(others), sizeof others - strlen(others), "%s%s", *others ? ", " : "",
                 routes[i].method);
    }
    if (*others)
        return refuse(err, err_len, 405, "this path takes %s", others);
    return refuse(err, err_len, 404, "there is no such path; GET /v1/openapi.json tells which there are");
}

size_t request_body_max(const char *path)
{
    return !strcmp(path, "/v1/site") ? REQUEST_BODY_MAX : REQUEST_JSON_MAX;
}

/* --- the query -------------------------------------------------------------------------------------- */

static bool number_of(const char *text, uint64_t most, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long v = text && *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    if (!text || *text < '0' || *text > '9' || *end || errno || v > most)
        return false;
    *out = v;
    return true;
}

static bool changes(const struct route *route)
{
    return strcmp(route->method, "GET");
}

static int read_query(const struct route *route, const struct request_arg *args, uint32_t nargs,
                      struct request *r, char *err, uint32_t err_len)
{
    uint64_t after = 0, wait_ms = 0, limit = 100, revision = 0;
    const struct { const char *key; bool here; uint64_t most, *to; } known[] = {
        {"after", r->kind == REQUEST_EVENTS, INT64_MAX, &after},
        {"wait_ms", r->kind == REQUEST_EVENTS, 60000, &wait_ms},
        {"limit", r->kind == REQUEST_EVENTS, 1000, &limit},
        {"limit", r->kind == REQUEST_TRACE, TRACE_PACKETS, &limit},
        {"revision", changes(route), INT64_MAX, &revision},
    };
    enum { KNOWN = sizeof known / sizeof known[0] };
    for (uint32_t i = 0; i < nargs; i++) {
        size_t k = 0;
        while (k < KNOWN && (!known[k].here || strcmp(known[k].key, args[i].key)))
            k++;
        if (k == KNOWN)
            return refuse(err, err_len, 400, "this path takes no such parameter");
        if (!number_of(args[i].value, known[k].most, known[k].to))
            return refuse(err, err_len, 400, "%s: write a whole number from 0 to %lu", known[k].key,
                          known[k].most);
    }
    if (!limit)
        return refuse(err, err_len, 400, "limit: write a whole number from 1 to %d",
                      r->kind == REQUEST_TRACE ? (int)TRACE_PACKETS : 1000);
    r->after = after;
    r->wait_ms = (uint32_t)wait_ms;
    r->limit = (uint32_t)limit;
    r->revision = revision;
    return 0;
}

/* --- the body --------------------------------------------------------------------------------------------- */

static int read_text(const char *body, size_t bytes, struct request *r, char *err, uint32_t err_len)
{
    json_t *sound = memchr(body, 0, bytes) ? NULL : json_stringn(body, bytes);
    if (!sound)
        return refuse(err, err_len, 400, "the body is no text in UTF-8; send the site's YAML");
    json_decref(sound);
    if (!bytes)
        return refuse(err, err_len, 400, "the body is empty; send the site's YAML");
    r->text = strndup(body, bytes);
    return r->text ? 0 : refuse(err, err_len, 503, "out of memory");
}

/* {"<key>": value} and nothing else; *v NULL: it is not there. */
static int only_field(const json_t *o, const char *key, json_t **v, char *err, uint32_t err_len)
{
    const char *name;
    json_t *value;
    *v = NULL;
    json_object_foreach((json_t *)o, name, value) {
        if (!key || strcmp(name, key))
            return refuse(err, err_len, 400, key ? "the body has a field that is not known here; it may have "
                                                   "\"%s\"" : "the body has to be empty, or {}%s", key ? key : "");
        *v = value;
    }
    return 0;
}

static int read_fields(enum takes body, const json_t *o, struct request *r, char *err, uint32_t err_len)
{
    json_t *v;
    const char *key = body == REPLICAS ? "replicas" : body == FORCE ? "force" : NULL;
    int bad = only_field(o, key, &v, err, err_len);
    if (bad)
        return bad;
    if (body == REPLICAS && !json_is_integer(v))
        return refuse(err, err_len, 400, "replicas: write a whole number, such as {\"replicas\": 3}");
    if (body == FORCE && v && !json_is_boolean(v))
        return refuse(err, err_len, 400, "force: write true or false");
    r->replicas = json_integer_value(v);
    r->force = json_is_true(v);
    return 0;
}

/* {"flow": "udp A:P > B:P", "seconds": 10} */
static int read_trace(const json_t *o, struct request *r, char *err, uint32_t err_len)
{
    const json_t *flow = json_object_get(o, "flow"), *seconds = json_object_get(o, "seconds");
    json_int_t n = json_integer_value(seconds);
    if (json_object_size(o) != (size_t)(flow != NULL) + (seconds != NULL))
        return refuse(err, err_len, 400, "the body has a field that is not known here; it may have \"flow\" and "
                      "\"seconds\"");
    if (!json_is_string(flow) || !packet_flow_read(json_string_value(flow), &r->flow) ||
        (r->flow.proto != 6 && r->flow.proto != 17 && r->flow.proto != 1))
        return refuse(err, err_len, 400, "flow: write tcp, udp or icmp and two end points, such as "
                      "\"udp 10.1.0.5:5353 > 192.0.2.10:53\"; icmp: the identifier as both ports");
    if (!json_is_integer(seconds) || n < 1 || n > TRACE_SECONDS_MAX)
        return refuse(err, err_len, 400, "seconds: write a whole number from 1 to %d", TRACE_SECONDS_MAX);
    r->seconds = (uint32_t)n;
    return 0;
}

static int read_body(enum takes takes, const char *body, size_t bytes, struct request *r, char *err,
                     uint32_t err_len)
{
    json_error_t at;
    if (takes == TEXT)
        return read_text(body, bytes, r, err, err_len);
    if (takes == NO_BODY)
        return bytes ? refuse(err, err_len, 400, "this request takes no body") : 0;
    if (!bytes && (takes == EMPTY || takes == FORCE))
        return 0;
    json_t *o = json_loadb(body, bytes, JSON_REJECT_DUPLICATES, &at);
    int bad = 0;
    if (!o)
        bad = refuse(err, err_len, 400, "the body is no JSON: line %d, column %d: %.100s", at.line, at.column,
                     at.text);
    else if (!json_is_object(o))
        bad = refuse(err, err_len, 400, "the body has to be a JSON object");
    else if (takes == POLICY)
        r->policy = json_incref(o);
    else if (takes == FLOW)
        bad = read_trace(o, r, err, err_len);
    else
        bad = read_fields(takes, o, r, err, err_len);
    json_decref(o);
    return bad;
}

/* --- the whole ------------------------------------------------------------------------------------------------ */

int request_parse(const char *method, const char *path, const struct request_arg *args,
                  uint32_t nargs, const char *body, size_t bytes, struct request *r, char *err,
                  uint32_t err_len)
{
    const struct route *route = NULL;
    uint64_t shard;
    *r = (struct request){0};
    int bad = find_route(method, path, r, &route, err, err_len);
    if (!bad && bytes > request_body_max(path))
        bad = refuse(err, err_len, 413, "the body is longer than %zu bytes", request_body_max(path));
    if (!bad)
        bad = read_query(route, args, nargs, r, err, err_len);
    if (!bad && r->kind == REQUEST_HAND_OVER && !number_of(r->name, ORCH_SHARDS - 1, &shard))
        bad = refuse(err, err_len, 404, "there is no such shard; write its number");
    else if (!bad && r->kind == REQUEST_HAND_OVER)
        r->shard = (uint32_t)shard;
    if (!bad)
        bad = read_body(route->body, body, bytes, r, err, err_len);
    for (char *p = err; bad && *p; p++) /* what came may be anything */
        if ((unsigned char)*p >= 0x7f || (unsigned char)*p < 0x20)
            *p = '?';
    if (bad) {
        request_free(r);
        *r = (struct request){0};
    }
    return bad;
}

void request_free(struct request *r)
{
    json_decref(r->policy);
    free(r->text);
}
