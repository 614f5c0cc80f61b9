/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The aide: a thread that does for the datapath what may take long. It builds
 * tables (table.h), writes log lines, looks whether the edges carry, and tends the
 * tunnel's further interfaces (beside.c). The datapath puts notes into a ring of NOTES_MAX, one writer and one reader; a
 * full ring loses log lines, which is counted, never packets.
 */
#include "steering/front/steer.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/log/log.h"

struct aide {
    struct steer *s;
    pthread_t thread;
    int wake_fd;
    int stop;                  /* aide_stop sets it; the thread reads it */
    uint32_t put, got;         /* put: datapath's, release/acquire; got: aide's, likewise */
    struct note ring[NOTES_MAX];
};

void aide_wake(struct steer *s)
{
    uint64_t one = 1;
    if (write(s->aide->wake_fd, &one, sizeof(one)) < 0)
        return; /* only when 2^64 wake-ups wait already */
}

void note_put(struct steer *s, const struct note *n)
{
    struct aide *a = s->aide;
    uint32_t put = a->put;
    if (put - __atomic_load_n(&a->got, __ATOMIC_ACQUIRE) == NOTES_MAX) {
        count_add(s, COUNT_NOTES_LOST, 1);
        return;
    }
    a->ring[put % NOTES_MAX] = *n;
    __atomic_store_n(&a->put, put + 1, __ATOMIC_RELEASE);
    aide_wake(s);
}

void note_worker(struct steer *s, enum note_kind kind, const struct worker *w, uint64_t a,
                 uint64_t b)
{
    struct note n = {.kind = (uint8_t)kind, .worker = (uint8_t)w->number, .a = a, .b = b};
    memcpy(n.name, w->name, sizeof(n.name));
    note_put(s, &n);
}

static void log_state(const struct note *n)
{
    const char *event = health_event_text((enum health_event)n->event);
    const char *before = health_state_text((enum health_state)n->before);
    const char *after = health_state_text((enum health_state)n->state);
    if (n->before == HEALTH_HEALTHY && n->state != HEALTH_LEAVING)
        log_warn("worker removed", "name=%s worker=%u cause=\"%s\" state=%s", n->name, n->worker, event,
                 after);
    else if (n->state == HEALTH_HEALTHY)
        log_info("worker healthy", "name=%s worker=%u", n->name, n->worker);
    else if (n->state == HEALTH_ABSENT)
        log_info("worker left", "name=%s worker=%u cause=\"%s\"", n->name, n->worker, event);
    else
        log_debug("worker changed", "name=%s worker=%u from=%s to=%s cause=\"%s\"", n->name, n->worker,
                  before, after, event);
}

static void log_hold(const struct note *n)
{
    static const char *const reasons[] = {
#define X(name, text) [name] = text,
        HOLD_REASONS(X)
#undef X
    };
    log_info("hold ended", "name=%s worker=%u cause=\"%s\" packets=%" PRIu64 " us=%" PRIu64, n->name,
             n->worker, n->event < HOLD_REASON_END ? reasons[n->event] : "unknown", n->a, n->b);
}

static void log_note(const struct steer *s, const struct note *n)
{
    static const char *const side[2] = {"inside", "outside"};
    switch ((enum note_kind)n->kind) {
    case NOTE_STATE:
        log_state(n);
        break;
    case NOTE_JOIN:
        log_info("worker joins", "name=%s worker=%u interface=%s", n->name, n->worker,
                 n->a != 0 ? s->tunnel.by[n->b].under.iface : "memif");
        break;
    case NOTE_LEAVE:
        log_info("worker leaves", "name=%s worker=%u last=%d", n->name, n->worker, (int)n->a);
        break;
    case NOTE_TABLE:
        log_info("table in use", "members=%016" PRIx64 " build_us=%" PRIu64, n->a, n->b);
        break;
    case NOTE_KEPT:
        log_warn("no worker is healthy, the last ones stay in the table",
                 "members=%016" PRIx64, n->a);
        break;
    case NOTE_RESTARTED:
        log_info("worker restarted", "name=%s worker=%u incarnation=%" PRIu64, n->name, n->worker,
                 n->a);
        break;
    case NOTE_RESOLVED:
        log_info("next hop resolved", "side=%s interface=%s", side[n->worker],
                 s->edge[n->worker].iface);
        break;
    case NOTE_CONFLICT:
        log_warn("another host uses our address", "side=%s interface=%s", side[n->worker],
                 s->edge[n->worker].iface);
        break;
    case NOTE_HOLD:
        log_hold(n);
        break;
    case NOTE_ENDS:
        log_info("serves on until routers have turned from it", "for_ms=%d", (int)n->a);
        break;
    case NOTE_SPRAY:
        log_info("spray", "on=%d", (int)n->a);
        break;
    }
}

static void write_notes(struct aide *a)
{
    uint32_t put = __atomic_load_n(&a->put, __ATOMIC_ACQUIRE);
    for (uint32_t got = a->got; got != put; got++) {
        log_note(a->s, &a->ring[got % NOTES_MAX]);
        __atomic_store_n(&a->got, got + 1, __ATOMIC_RELEASE);
    }
}

static void look_at_edges(struct steer *s)
{
    int down = !edge_up(&s->edge[SIDE_INSIDE]) || !edge_up(&s->edge[SIDE_OUTSIDE]);
    if (down != s->edge_down)
        log_line(down ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, down ? "an edge is down" : "both edges carry",
                 "inside=%s outside=%s", s->edge[SIDE_INSIDE].iface, s->edge[SIDE_OUTSIDE].iface);
    __atomic_store_n(&s->edge_down, down, __ATOMIC_RELAXED); /* receive_echo */
}

static void *serve(void *arg)
{
    struct aide *a = arg;
    struct pollfd wake = {.fd = a->wake_fd, .events = POLLIN};
    uint64_t ignored;
    while (!__atomic_load_n(&a->stop, __ATOMIC_ACQUIRE)) {
        if (poll(&wake, 1, EDGES_LOOK_MS) > 0 && read(a->wake_fd, &ignored, sizeof(ignored)) < 0)
            continue;
        while (table_serve(a->s->tables))
            continue; /* packets first, words later */
        write_notes(a);
        look_at_edges(a->s);
        beside_tend(a->s);
    }
    write_notes(a);
    return NULL;
}

int aide_start(struct steer *s)
{
    struct aide *a = calloc(1, sizeof(*a));
    if (a == NULL)
        return -ENOMEM;
    a->s = s;
    a->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (a->wake_fd < 0) {
        free(a);
        return -errno;
    }
    int rc = pthread_create(&a->thread, NULL, serve, a);
    if (rc != 0) {
        close(a->wake_fd);
        free(a);
        return -rc;
    }
    s->aide = a;
    return 0;
}

void aide_stop(struct steer *s)
{
    if (s->aide == NULL)
        return;
    __atomic_store_n(&s->aide->stop, 1, __ATOMIC_RELEASE);
    aide_wake(s);
    pthread_join(s->aide->thread, NULL);
    close(s->aide->wake_fd);
    free(s->aide);
    s->aide = NULL;
}
