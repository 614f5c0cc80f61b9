/* SPDX-License-Identifier: BSD-3-Clause */
/* The housekeeper thread (join.h). One mutex guards all that is shared; both
 * sides hold it for copies only. */
#include "nf/worker/join.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log/log.h"
#include "common/metrics/control.h"
#include "common/packet/packet.h"
#include "common/packet/tunnel.h"

enum {
    ASK_MS = 1000,         /* steering answers a join within */
    LEAVE_MS = 3000,       /* and `leave`, when nothing more comes: planned changes may wait */
    AGAIN_MS = 100,        /* between two attempts */
    REMIND_MS = 10 * 1000, /* what still ails is said again */
};

struct joiner {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    char name[32], control[JOIN_TEXT];
    unsigned weight;
    bool steered, stop, want, leave;
    bool left, last;
    uint64_t replies, taken; /* numbers of the newest reply, and of what the loop has */
    struct join_reply reply;
    char complaint[JOIN_TEXT];
};

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* --- the reply --------------------------------------------------------------------- */

static bool mac_get(const json_t *o, const char *key, uint8_t mac[6])
{
    unsigned b[6];
    char end;
    const char *s = json_string_value(json_object_get(o, key));
    if (!s ||
        sscanf(s, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &end) != 6)
        return false;
    for (int i = 0; i < 6; i++)
        mac[i] = (uint8_t)b[i];
    return true;
}

static bool text_get(const json_t *o, const char *key, char *to, size_t room)
{
    const char *s = json_string_value(json_object_get(o, key));
    if (!s || strlen(s) >= room)
        return false;
    strcpy(to, s);
    return true;
}

static const char *reply_fields(const json_t *o, struct join_reply *r)
{
    static const char *const sides[] = {[SIDE_INSIDE] = "inside", [SIDE_OUTSIDE] = "outside"};
    const json_t *worker = json_object_get(o, "worker");
    if (!json_is_integer(worker))
        return "worker";
    r->worker = (unsigned)json_integer_value(worker);
    r->incarnation = (uint64_t)json_integer_value(json_object_get(o, "incarnation"));
    r->mtu = (unsigned)json_integer_value(json_object_get(o, "mtu"));
    for (int i = 0; i < 2; i++) {
        const json_t *side = json_object_get(o, sides[i]);
        if (!text_get(side, "devargs", r->devargs[i], sizeof r->devargs[i]) ||
            !mac_get(side, "mac", r->mac[i]) || !mac_get(side, "peer_mac", r->peer_mac[i]))
            return sides[i];
    }
    return text_get(o, "doorbell", r->doorbell, sizeof r->doorbell) ? NULL : "doorbell";
}

int join_reply_parse(const char *json, struct join_reply *r, char *err, uint32_t err_len)
{
    json_error_t e;
    json_t *o = json_loads(json, 0, &e);
    const char *error = json_string_value(json_object_get(o, "error"));
    struct join_reply got = {0};
    int rc = -EPROTO;
    const char *field;
    if (!o)
        snprintf(err, err_len, "steering's answer is not JSON: %s", e.text);
    else if (error)
        snprintf(err, err_len, "steering refuses: %s", error), rc = -ECONNREFUSED;
    else if ((field = reply_fields(o, &got)))
        snprintf(err, err_len, "steering's answer has no proper \"%s\"", field);
    else
        *r = got, rc = 0;
    json_decref(o);
    return rc;
}

/* --- the thread ------------------------------------------------------------------------ */

static int ask(struct joiner *j, const char *verb, uint32_t within_ms, char *reply, uint32_t room)
{
    char request[64];
    snprintf(request, sizeof request, strcmp(verb, "join") || j->weight == WEIGHT_MAX ? "%s %s" : "%s %s %u",
             verb, j->name, j->weight);
    return control_ask(j->control, request, reply, room, within_ms);
}

static void join_once(struct joiner *j, uint64_t *said_ms)
{
    char text[4096], err[2 * JOIN_TEXT];
    struct join_reply r;
    int rc = ask(j, "join", ASK_MS, text, sizeof text);
    if (rc)
        snprintf(err, sizeof err, "nobody answers at %s: %s; is lethe-steer running?", j->control,
                 strerror(-rc));
    else
        rc = join_reply_parse(text, &r, err, sizeof err);
    if (rc) {
        if (*said_ms == 0 || now_ms() - *said_ms >= REMIND_MS) {
            log_warn("not joined", "%s", err);
            *said_ms = now_ms();
        }
        return;
    }
    *said_ms = 0;
    log_info("joined steering", "worker=%u incarnation=%lu", r.worker,
             (unsigned long)r.incarnation);
    pthread_mutex_lock(&j->lock);
    j->reply = r;
    j->replies++;
    j->want = false;
    pthread_mutex_unlock(&j->lock);
}

/* Only these words say that there is nothing to leave (steering/front/worker.c): any other refusal may end. */
static bool not_there(const json_t *o)
{
    static const char words[] = "no worker of the name";
    const char *error = json_string_value(json_object_get(o, "error"));
    return error && !strncmp(error, words, sizeof words - 1);
}

/* Refused, it is asked again: the loop says for how long it waits (tend.c). */
static void leave_once(struct joiner *j, uint64_t *said_ms)
{
    char text[1024] = "";
    int rc = j->steered ? ask(j, "leave", LEAVE_MS, text, sizeof text) : 0;
    json_t *o = json_loads(text, 0, NULL);
    bool left = !j->steered || rc || json_is_true(json_object_get(o, "ok")) || not_there(o);
    pthread_mutex_lock(&j->lock);
    j->last = json_is_true(json_object_get(o, "last"));
    j->left = left;
    j->leave = !left;
    j->want = false;
    pthread_mutex_unlock(&j->lock);
    json_decref(o);
    if (!left && (*said_ms == 0 || now_ms() - *said_ms >= REMIND_MS)) {
        log_warn("steering does not let go yet", "%.200s", text);
        *said_ms = now_ms();
    } else if (j->steered && rc)
        log_info("steering not told", "nobody answers there: %s", strerror(-rc));
    else if (j->steered && left)
        log_info("left steering", "%s", j->last ? "as the last worker" : "");
}

/* Said when it begins, every REMIND_MS while it lasts, and when it is over;
 * its words may change with every attempt. */
static void complain(const char *text, bool *ails, uint64_t *said_ms)
{
    if (*text && (!*ails || now_ms() - *said_ms >= REMIND_MS)) {
        log_warn("store trouble", "%s", text);
        *said_ms = now_ms();
    } else if (!*text && *ails) {
        log_info("store is well again", "%s", "requests are answered");
    }
    *ails = *text != '\0';
}

static void wait_for_work(struct joiner *j)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += AGAIN_MS * 1000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&j->wake, &j->lock, &t);
}

static void *housekeep(void *ctx)
{
    struct joiner *j = ctx;
    char text[JOIN_TEXT];
    bool ails = false;
    uint64_t said_ms = 0, join_said_ms = 0, leave_said_ms = 0;
    pthread_mutex_lock(&j->lock);
    while (!j->stop) {
        bool want = j->want && j->steered, leave = j->leave;
        snprintf(text, sizeof text, "%s", j->complaint);
        pthread_mutex_unlock(&j->lock);
        complain(text, &ails, &said_ms);
        if (leave)
            leave_once(j, &leave_said_ms);
        else if (want)
            join_once(j, &join_said_ms);
        pthread_mutex_lock(&j->lock);
        if (!j->stop)
            wait_for_work(j);
    }
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

int joiner_start(struct joiner **out, const char *name, unsigned weight, const char *control)
{
    struct joiner *j = calloc(1, sizeof *j);
    pthread_condattr_t attr;
    if (!j)
        return -ENOMEM;
    snprintf(j->name, sizeof j->name, "%s", name);
    snprintf(j->control, sizeof j->control, "%s", control ? control : "");
    j->weight = weight;
    j->steered = control != NULL;
    pthread_mutex_init(&j->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&j->wake, &attr);
    pthread_condattr_destroy(&attr);
    int rc = pthread_create(&j->thread, NULL, housekeep, j);
    if (rc) {
        free(j);
        return -rc;
    }
    *out = j;
    return 0;
}

void joiner_stop(struct joiner *j)
{
    if (!j)
        return;
    pthread_mutex_lock(&j->lock);
    j->stop = true;
    pthread_cond_signal(&j->wake);
    pthread_mutex_unlock(&j->lock);
    pthread_join(j->thread, NULL);
    pthread_cond_destroy(&j->wake);
    pthread_mutex_destroy(&j->lock);
    free(j);
}

/* --- the loop's side ---------------------------------------------------------------------- */

void joiner_want(struct joiner *j)
{
    pthread_mutex_lock(&j->lock);
    j->want = !j->left;
    pthread_cond_signal(&j->wake);
    pthread_mutex_unlock(&j->lock);
}

bool joiner_take(struct joiner *j, struct join_reply *r)
{
    pthread_mutex_lock(&j->lock);
    bool fresh = j->replies != j->taken;
    j->taken = j->replies;
    if (fresh)
        *r = j->reply;
    pthread_mutex_unlock(&j->lock);
    return fresh;
}

void joiner_leave(struct joiner *j)
{
    pthread_mutex_lock(&j->lock);
    j->leave = true;
    pthread_cond_signal(&j->wake);
    pthread_mutex_unlock(&j->lock);
}

bool joiner_left(struct joiner *j, bool *last)
{
    pthread_mutex_lock(&j->lock);
    bool left = j->left;
    *last = j->last;
    pthread_mutex_unlock(&j->lock);
    return left;
}

void joiner_complain(struct joiner *j, const char *text)
{
    pthread_mutex_lock(&j->lock);
    snprintf(j->complaint, sizeof j->complaint, "%s", text);
    pthread_mutex_unlock(&j->lock);
}
