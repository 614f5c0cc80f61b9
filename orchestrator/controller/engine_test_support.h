/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An engine without threads for tests of orders: its gathering and judging are the real ones; what programs say
 * (observe.h) and the keeping of its state are made up here, its driver by the test. It is always sure to lead.
 *
 *   rig_open(site, &driver);
 *   says("store-a", STORE("primary", 2, 3), NULL);
 *   struct order *o = order(REQUEST_KILL, "store-a", false); ...; EXPECT(o, 403, "last copy");
 *   rig_close();
 *
 * Header only, so that every test program includes what it needs of it.
 */
#ifndef LETHE_ORCHESTRATOR_CONTROLLER_ENGINE_TEST_SUPPORT_H
#define LETHE_ORCHESTRATOR_CONTROLLER_ENGINE_TEST_SUPPORT_H

#include "tests/check.h"

#include <stdlib.h>
#include <unistd.h>

#include "orchestrator/controller/engine_impl.h"
#include "orchestrator/controller/keep_impl.h"

enum { RIG_PROGRAMS = 8, RIG_ORDERS = 8 };

static struct {
    struct engine e;
    struct keep keep;
    struct { char name[ORCH_NAME]; struct observed_program says; } at[RIG_PROGRAMS];
    uint32_t n;
    struct order *orders[RIG_ORDERS];
    uint32_t norders;
} rig;

/* --- what programs say ----------------------------------------------------------------------------------- */

const struct observed_program *observer_get(const struct observer *o, const char *name)
{
    for (uint32_t i = 0; i < rig.n; i++)
        if (!strcmp(rig.at[i].name, name))
            return &rig.at[i].says;
    return NULL;
}

struct observer *observer_create(uv_loop_t *loop, uint32_t every_ms, uint32_t timeout_ms, void (*news)(void *ctx),
                                 void *ctx)
{
    return NULL;
}

void observer_destroy(struct observer *o)
{
}

void observer_watch(struct observer *o, const char *name, enum orch_kind kind, const char *path)
{
}

void observer_forget(struct observer *o, const char *name)
{
}

/* Now; `more` may be NULL. */
static void says(const char *name, const char *stats, const char *more)
{
    uint32_t i = 0;
    while (i < rig.n && strcmp(rig.at[i].name, name))
        i++;
    rig.n += i == rig.n;
    struct observed_program *p = &rig.at[i].says;
    snprintf(rig.at[i].name, sizeof rig.at[i].name, "%s", name);
    json_decref(p->stats.now);
    json_decref(p->more.now);
    p->stats.now = json_loads(stats, 0, NULL);
    p->more.now = more ? json_loads(more, 0, NULL) : NULL;
    p->stats.now_ms = p->more.now_ms = engine_now(&rig.e);
}

#define STORE(role, copies, epoch) \
    "{\"shards\": [{\"shard\": 0, \"role\": \"" role "\", \"copies\": " #copies ", \"view_epoch\": " #epoch "}]}"
#define WORKER "{\"state\": \"serving\", \"links_up\": true}"
#define ROW(name) "{\"name\": \"" name "\", \"in_table\": true, \"link\": true, \"state\": \"healthy\"}"

/* --- orders ---------------------------------------------------------------------------------------------- */

/* In the queue; the rig's, until rig_forget_orders. */
static struct order *order(enum request_kind kind, const char *name, bool force)
{
    struct order *o = calloc(1, sizeof *o);
    *o = (struct order){.request = {.kind = kind, .force = force}, .refs = 2};
    snprintf(o->request.name, sizeof o->request.name, "%s", name);
    *rig.e.last = o;
    rig.e.last = &o->next;
    return rig.orders[rig.norders++] = o;
}

static void rig_forget_orders(void)
{
    while (rig.norders) {
        json_decref(rig.orders[--rig.norders]->answer);
        free(rig.orders[rig.norders]);
    }
}

static const char *sentence(const struct order *o)
{
    const char *said = json_string_value(json_object_get(o->answer, o->status == 200 ? "result" : "error"));
    return said ? said : "";
}

#define EXPECT(o, number, words)                                                                   \
    CHECK((o)->done && (o)->status == (number) && strstr(sentence(o), words), "%d: %s", (o)->status, sentence(o))

/* --- life ------------------------------------------------------------------------------------------------ */

static void rig_woken(void *ctx)
{
}

static void rig_open(const char *site, struct driver *driver)
{
    char err[300];
    pthread_condattr_t attr;
    memset(&rig, 0, sizeof rig);
    uv_loop_init(&rig.e.loop);
    pthread_mutex_init(&rig.e.lock, NULL);
    pthread_mutex_init(&rig.keep.lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&rig.e.answered, &attr);
    uv_timer_init(&rig.e.loop, &rig.e.soon);
    uv_async_init(&rig.e.loop, &rig.e.wake, NULL);
    rig.e.last = &rig.e.first;
    rig.e.events = events_create();
    rig.e.driver = driver;
    rig.e.keep = &rig.keep;
    rig.keep.config.wake = rig_woken;
    rig.keep.status.sure_until_ms = UINT64_MAX;
    CHECK(!desired_from_text(&rig.e.desired, "f", site, err, sizeof err), "%s", err);
    for (uint64_t begin = engine_now(&rig.e); engine_now(&rig.e) < begin + 2;) /* 0 means never */
        usleep(500);
}

static void rig_close(void)
{
    for (uint32_t i = 0; i < rig.n; i++) {
        json_decref(rig.at[i].says.stats.now);
        json_decref(rig.at[i].says.more.now);
    }
    rig_forget_orders();
    json_decref(keep_wish(&rig.keep));
    events_destroy(rig.e.events);
    desired_free(rig.e.desired);
    uv_close((uv_handle_t *)&rig.e.soon, NULL);
    uv_close((uv_handle_t *)&rig.e.wake, NULL);
    uv_run(&rig.e.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&rig.e.loop), 0);
}

#endif
