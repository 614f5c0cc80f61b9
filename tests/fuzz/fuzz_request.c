/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests to the controller's API, and what stands in etcd as the desired state. The input is three
 * lines and a body: method, path, query (a=1&b=2). What is taken names only what can be; what is
 * refused is a status of HTTP and a sentence of one line. A desired state that is believed is written and
 * read again: the same.
 */
#include "tests/fuzz/fuzz.h"

#include "orchestrator/controller/request.h"

enum { WORD = 300 };

/* The next line, cut to WORD. */
static const char *line(const char *at, const char *end, char to[WORD])
{
    const char *stop = memchr(at, '\n', (size_t)(end - at));
    size_t n = (size_t)((stop ? stop : end) - at), keep = n < WORD - 1 ? n : WORD - 1;
    memcpy(to, at, keep);
    to[keep] = 0;
    return stop ? stop + 1 : end;
}

static uint32_t arguments(char *query, struct request_arg args[REQUEST_ARGS])
{
    uint32_t n = 0;
    char *rest = NULL;
    for (char *word = strtok_r(query, "&", &rest); word && n < REQUEST_ARGS; word = strtok_r(NULL, "&", &rest)) {
        char *value = strchr(word, '=');
        if (value)
            *value++ = 0;
        args[n++] = (struct request_arg){word, value};
    }
    return n;
}

static void one_line(const char *err)
{
    MUST(*err);
    for (; *err; err++)
        MUST((unsigned char)*err >= 0x20 && (unsigned char)*err < 0x7f);
}

static void policy(const struct request *r)
{
    struct orch_policy p = {false, 700, 300, 512, 1, 2000, 30000, 5000}, was = p;
    char err[700] = "";
    if (policy_from_json(r->policy, &p, err, sizeof err)) {
        MUST(*err && !memcmp(&p, &was, sizeof p));
        return;
    }
    MUST(p.busy_low_permille < p.busy_high_permille && p.busy_high_permille <= 1000);
    json_t *o = policy_to_json(&p);
    was = (struct orch_policy){0};
    MUST(!policy_from_json(o, &was, err, sizeof err) && !memcmp(&p, &was, sizeof p));
    json_decref(o);
}

static void request(const char *text, size_t size)
{
    char method[WORD], path[WORD], query[WORD], err[900] = "";
    const char *end = text + size, *at = line(text, end, method);
    struct request_arg args[REQUEST_ARGS];
    struct request r;
    at = line(at, end, path);
    at = line(at, end, query);
    uint32_t n = arguments(query, args);
    int status = request_parse(method, path, args, n, at, (size_t)(end - at), &r, err, sizeof err);
    if (status) {
        MUST(status == 400 || status == 404 || status == 405 || status == 413);
        MUST(!r.policy && !r.text && !r.name[0]);
        one_line(err);
        return;
    }
    MUST(strlen(r.name) < ORCH_NAME && !strpbrk(r.name, "/.%\\ "));
    MUST(r.shard < ORCH_SHARDS && r.wait_ms <= 60000 && r.limit >= 1 && r.limit <= 1000);
    MUST(!r.text || (r.kind == REQUEST_SITE_PUT && strlen(r.text) <= REQUEST_BODY_MAX));
    if (r.policy)
        policy(&r);
    request_free(&r);
}

static void kept(const char *text, size_t size)
{
    struct orch_desired *d = NULL, *again = NULL;
    char err[900] = "";
    json_t *o = json_loadb(text, size, 0, NULL);
    if (o && !desired_from_json(&d, o, err, sizeof err)) {
        json_t *written = desired_to_json(d);
        MUST(!desired_from_json(&again, written, err, sizeof err));
        MUST(again->revision == d->revision && again->nstopped == d->nstopped &&
             !memcmp(again->groups, d->groups, sizeof d->groups));
        json_decref(written);
        desired_free(again);
        desired_free(d);
    } else if (o) {
        MUST(*err && !d);
    }
    json_decref(o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = guarded_copy(data, size);
    request(copy, size);
    kept(copy, size);
    free(copy);
    return 0;
}
