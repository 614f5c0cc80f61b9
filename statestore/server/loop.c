/* SPDX-License-Identifier: BSD-3-Clause */
/* Turns, readiness, sleeping (loop.h). epoll is edge-triggered: a connection
 * stands in the ready list until its channel has nothing and is armed, so an
 * event is never asked for twice and none is lost.
 *
 * Spinning, a loop does without system calls where it can: a channel that is
 * cheap to ask stays in the ready list unarmed (so its writer need not ring,
 * either), and epoll is then asked every LOOK_US only. */
#include "statestore/server/loop_impl.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "common/log/log.h"

enum { EVENT_LISTEN = CONNS_MAX, EVENT_WAKE };

static void update_now(struct loop *l)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    l->now_us = (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000;
    l->now_ms = l->now_us / 1000;
}

/* --- steps ----------------------------------------------------------------------------- */

void loop_step(struct loop *l, struct shard_event ev)
{
    shard_step(l->shard, &ev, l->now_ms, &l->out);
    l->changed = true;
    watch_commit(l);
    if (!l->fencing) /* then a view is on its way already, and this step comes before it */
        loop_take_views(l);
}

static bool view_has(const struct shard_view *v, const struct msg_node *n)
{
    for (uint32_t i = 0; i < v->nmembers; i++)
        if (v->members[i].node == n->node && v->members[i].incarnation == n->incarnation)
            return true;
    return false;
}

/* What the change from `old` to `now` comes from, as far as the two show it. */
static void view_cause(const struct shard_view *old, const struct shard_view *now, char *to,
                       uint32_t len)
{
    uint32_t was = old->nmembers ? old->members[0].node : 0, is = now->nmembers ? now->members[0].node : 0;
    snprintf(to, len, "as the view service says");
    if (now->accepted_loss)
        snprintf(to, len, "an operator accepted the loss");
    else if (!old->epoch)
        snprintf(to, len, "the first view heard of");
    for (uint32_t i = 0; i < now->nmembers && old->epoch && !now->accepted_loss; i++)
        if (!view_has(old, &now->members[i]))
            snprintf(to, len, "node %u joined", now->members[i].node);
    for (uint32_t i = 0; i < old->nmembers && !now->accepted_loss; i++)
        if (!view_has(now, &old->members[i]))
            snprintf(to, len, "node %u left%s", old->members[i].node, i ? "" : ", the primary");
    if (old->epoch && was != is && view_has(now, &old->members[0]))
        snprintf(to, len, "node %u handed over to node %u", was, is);
}

static void log_view(const struct loop *l, const struct shard_view *now)
{
    char cause[80], members[40] = "";
    if (now->epoch <= l->view.epoch)
        return;
    view_cause(&l->view, now, cause, sizeof cause);
    for (uint32_t i = 0, n = 0; i < now->nmembers; i++)
        n += (uint32_t)snprintf(members + n, sizeof members - n, "%s%u", i ? "," : "",
                                now->members[i].node);
    log_info("view change", "shard=%u epoch=%lu members=\"%s\" copies=%u cause=\"%s\"", l->number,
             now->epoch, members, now->nmembers, cause);
}

static void take_incarnation(struct loop *l)
{
    struct views *v = l->config.views;
    uint64_t now = v->ops->incarnation ? v->ops->incarnation(v, l->number) : 0;
    if (!now)
        return;
    l->config.shard.self.incarnation = now;
    shard_self_set(l->shard, now);
    l->changed = true;
}

void loop_take_views(struct loop *l)
{
    struct views *v = l->config.views;
    struct shard_view view;
    if (!l->view.epoch)
        take_incarnation(l);
    while (v->ops->take(v, l->number, &view)) {
        struct shard_event ev = {.kind = SHARD_EV_VIEW, .view = &view};
        link_fence(l, &view);
        log_view(l, &view);
        l->view = view;
        shard_step(l->shard, &ev, l->now_ms, &l->out);
        l->changed = true;
    }
}

/* --- connections -------------------------------------------------------------------------- */

void loop_make_ready(struct loop *l, struct conn *c)
{
    if (!c->ready)
        l->ready[l->nready++] = c->place;
    c->ready = true;
}

void loop_make_dirty(struct loop *l, struct conn *c)
{
    if (!c->dirty)
        l->dirty[l->ndirty++] = c->place;
    c->dirty = true;
}

void loop_watch(struct loop *l, struct conn *c)
{
    short events;
    int fd = channel_fd(c->channel, &events);
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                             .data.u32 = c->place};
    if (fd >= 0 && epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) && errno == EEXIST)
        epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, fd, &ev);
    c->fd = fd;
}

/* One too many is told so; the log gets one line in a while. */
static void refuse_surplus(struct loop *l, struct channel *channel)
{
    struct msg_error m = {.code = EUSERS};
    snprintf(m.text, sizeof m.text, "shard %u has %d connections, as many as it takes; close some",
             l->number, CONNS_MAX);
    msg_head_set(&m, MSG_ERROR, sizeof m, l->number, 0);
    msg_speak(&m, MSG_PROTO_MIN);
    channel_send(channel, &m, sizeof m);
    channel_close(channel);
    if (loop_may_log(l))
        log_warn("connection refused", "%s", m.text);
}

struct conn *loop_add(struct loop *l, struct channel *channel, enum conn_kind kind)
{
    struct conn *c = conns_add(&l->conns, channel, kind, l->now_ms);
    if (!c) {
        refuse_surplus(l, channel);
        return NULL;
    }
    l->mine.accepted++;
    loop_watch(l, c);
    loop_make_ready(l, c);
    return c;
}

void loop_doom(struct loop *l, struct conn *c, const char *why)
{
    if (c->doomed)
        return;
    c->doomed = true;
    snprintf(c->why, sizeof c->why, "%s", why);
    l->ndoomed++;
}

static void log_closed(const struct loop *l, const struct conn *c)
{
    static const char *const what[] = {
        [CONN_NEW] = "connection closed", [CONN_CLIENT] = "client closed",
        [CONN_REPLICA] = "backup disconnected", [CONN_MOVER] = "mover disconnected",
        [CONN_LINK] = "link to primary closed", [CONN_CARRIER] = "link for moves closed"};
    char name[80];
    conn_name(c, name, sizeof name);
    log_line(c->quiet ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, what[c->kind],
             "shard=%u peer=%s cause=\"%s\"", l->number, name, c->why);
}

static void close_one(struct loop *l, struct conn *c)
{
    bool dialled = c->kind == CONN_LINK || c->kind == CONN_CARRIER, refused = c->channel->refused;
    bool known = c->kind != CONN_NEW; /* to the core */
    bool gone = c->kind == CONN_REPLICA && !c->channel->open;
    uint32_t lost = gone ? channel_fence(c->channel) : 0;
    struct link *k = dialled && link_of(l, c)->conn == c->number ? link_of(l, c) : NULL;
    uint32_t number = c->number;
    char why[sizeof c->why];
    memcpy(why, c->why, sizeof why);
    /* A link that never came up is told by link.c, which does not repeat itself. */
    if (!dialled || (k && k->state == LINK_JOINED))
        log_closed(l, c);
    if (lost)
        log_info("writes to a backup came to nothing", "shard=%u writes=%u", l->number, lost);
    l->mine.writes_lost += lost;
    if (c->channel->open)
        channel_flush(c->channel);
    conns_remove(&l->conns, c);
    l->mine.closed++;
    if (known)
        loop_step(l, (struct shard_event){.kind = SHARD_EV_CLOSED, .conn = number});
    if (k)
        link_closed(l, k, refused, why);
    l->changed = true;
}

/* Closing one may doom others, so until none is left. */
static void close_doomed(struct loop *l)
{
    while (l->ndoomed) {
        l->ndoomed = 0;
        for (uint32_t i = 0; i < CONNS_MAX; i++)
            if (l->conns.all[i].channel && l->conns.all[i].doomed)
                close_one(l, &l->conns.all[i]);
    }
}

/* --- reading --------------------------------------------------------------------------------- */

static bool may_read(const struct loop *l, const struct conn *c)
{
    if (c->kind != CONN_CLIENT) /* above all not what lets the log move on: a backup */
        return true;
    return !l->drain_until_ms && shard_takes_requests(l->shard) &&
           conn_backlog(c) <= BACKLOG_PAUSE_BYTES;
}

/* A channel that emptied its socket once says "nothing" before it asks the
 * kernel again. If an event came since, that event was for bytes not read yet,
 * and it will not come twice: so ask again. */
static const void *next_frame(struct conn *c, uint32_t *bytes)
{
    const void *frame = channel_recv(c->channel, bytes);
    if (frame || !c->signalled)
        return frame;
    c->signalled = false;
    return channel_recv(c->channel, bytes);
}

/* A read is served under a lease that is valid after it came in: so the clock is read
 * after the channel looked, once for all the frames which were there then. */
static void frame_came(struct loop *l, struct conn *c)
{
    if (!c->channel->looks || c->channel->looks != c->looks)
        update_now(l);
    c->looks = c->channel->looks;
}

/* True: it may have more for us at once. */
static bool serve(struct loop *l, struct conn *c, bool *worked)
{
    if (conn_backlog(c)) {
        conn_drain(c, l->now_ms);
        loop_make_dirty(l, c);
    }
    uint32_t bytes, read = 0;
    for (int i = 0; i < FRAMES_PER_TURN && read < BYTES_PER_TURN; i++, read += bytes) {
        if (!may_read(l, c))
            return false;
        const void *frame = next_frame(c, &bytes);
        if (!frame)
            return false;
        *worked = true;
        frame_came(l, c);
        edge_frame(l, c, frame, bytes);
        if (c->doomed)
            return false;
        if (c->channel->cheap && c->unflushed >= FLUSH_BYTES) { /* its reader works on meanwhile */
            channel_flush(c->channel);
            c->unflushed = 0;
        }
    }
    return true;
}

static bool spins(const struct loop *l)
{
    return l->now_us < l->spin_until_us;
}

/* Which connections of the ready list stay in it: those with more to read, those
 * that may not be read now, those without a descriptor to wake us, and those
 * that are cheaper to look at again. */
static bool stays(struct loop *l, struct conn *c, bool more)
{
    if (c->doomed)
        return false;
    if (!c->channel->open) {
        loop_doom(l, c, c->channel->why[0] ? c->channel->why : "closed by the peer");
        return false;
    }
    if (more || c->fd < 0 || !may_read(l, c) || (c->channel->cheap && spins(l)))
        return true;
    return !channel_arm(c->channel);
}

static bool serve_ready(struct loop *l)
{
    uint16_t now[CONNS_MAX];
    uint32_t n = l->nready;
    bool worked = false;
    memcpy(now, l->ready, n * sizeof now[0]);
    l->nready = 0;
    for (uint32_t i = 0; i < n; i++)
        l->conns.all[now[i]].ready = false;
    for (uint32_t i = 0; i < n; i++) {
        struct conn *c = &l->conns.all[now[i]];
        if (!c->channel || c->doomed)
            continue;
        bool more = serve(l, c, &worked);
        if (stays(l, c, more))
            loop_make_ready(l, c);
    }
    return worked;
}

static void flush_dirty(struct loop *l)
{
    for (uint32_t i = 0; i < l->ndirty; i++) {
        struct conn *c = &l->conns.all[l->dirty[i]];
        c->dirty = false;
        c->unflushed = 0;
        if (c->channel)
            channel_flush(c->channel);
    }
    l->ndirty = 0;
    if (l->tracing)
        traced_sent(l->traced);
}

/* --- coming in ---------------------------------------------------------------------------------- */

/* False: nobody waits there any more. */
static bool accept_from(struct loop *l, struct listener *from)
{
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct channel *ch = from->accept(from);
        if (!ch)
            return false;
        loop_add(l, ch, CONN_NEW);
    }
    return true;
}

/* Edge-triggered, too, and tried again with every sweep: out of descriptors
 * must not become a busy loop. */
static void accept_some(struct loop *l)
{
    l->accept_more = false;
    for (uint32_t i = 0; i < l->config.nlisteners; i++)
        l->accept_more |= accept_from(l, &l->config.listeners[i]);
}

static void take_inbox(struct loop *l)
{
    struct channel *in[INBOX_MAX];
    uint64_t count;
    (void)!read(l->wake_fd, &count, sizeof count);
    l->woken = true;
    pthread_mutex_lock(&l->inbox_lock);
    uint32_t n = l->ninbox;
    memcpy(in, l->inbox, n * sizeof in[0]);
    l->ninbox = 0;
    pthread_mutex_unlock(&l->inbox_lock);
    for (uint32_t i = 0; i < n; i++)
        loop_add(l, in[i], CONN_NEW);
}

int loop_adopt(struct loop *l, struct channel *channel)
{
    int rc = 0;
    pthread_mutex_lock(&l->inbox_lock);
    if (l->ninbox < INBOX_MAX)
        l->inbox[l->ninbox++] = channel;
    else
        rc = -EBUSY;
    pthread_mutex_unlock(&l->inbox_lock);
    eventfd_write(l->wake_fd, 1);
    return rc;
}

static void signalled(struct loop *l, struct conn *c, uint32_t events)
{
    /* The end of the stream may come together with its last bytes, in one event. */
    c->signalled |= c->ready || events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    loop_make_ready(l, c);
}

/* Waits and marks who is ready. True if anything was. */
static bool wait_events(struct loop *l, int timeout_ms)
{
    struct epoll_event events[EVENTS_PER_TURN];
    int n = epoll_wait(l->epoll_fd, events, EVENTS_PER_TURN, timeout_ms);
    update_now(l);
    l->looked_us = l->now_us;
    for (int i = 0; i < n; i++) {
        uint32_t who = events[i].data.u32;
        if (who == EVENT_LISTEN)
            l->accept_more = true;
        else if (who == EVENT_WAKE)
            take_inbox(l);
        else if (l->conns.all[who].channel)
            signalled(l, &l->conns.all[who], events[i].events);
    }
    if (l->accept_more)
        accept_some(l);
    return n > 0;
}

/* --- time ------------------------------------------------------------------------------------------ */

static void sweep(struct loop *l)
{
    if (l->now_ms < l->sweep_ms)
        return;
    l->sweep_ms = l->now_ms + SWEEP_MS;
    slabs_sweep(&l->slabs, l->now_ms);
    accept_some(l);
    for (uint32_t i = 0, left = l->conns.used; left && i < CONNS_MAX; i++) {
        struct conn *c = &l->conns.all[i];
        if (!c->channel)
            continue;
        left--;
        if (c->kind == CONN_NEW && l->now_ms > c->opened_ms + l->config.hello_timeout_ms)
            edge_late(l, c);
        if (conn_backlog(c) && l->now_ms > c->blocked_ms + l->config.stall_ms) {
            l->mine.slow_readers++;
            loop_doom(l, c, "slow reader: it took nothing of its backlog for too long");
        }
    }
}

static void tick(struct loop *l)
{
    if (l->now_ms < shard_next_ms(l->shard))
        return;
    struct shard_event ev = {.kind = SHARD_EV_TICK};
    loop_step(l, ev);
}

static void stop_listening(struct loop *l)
{
    slabs_conceal(&l->slabs);
    for (uint32_t i = 0; i < l->config.nlisteners; i++)
        listener_close(&l->config.listeners[i]);
    l->config.nlisteners = 0;
}

static bool drained(const struct loop *l)
{
    struct shard_status st;
    if (l->now_ms >= l->drain_until_ms)
        return true;
    for (uint32_t i = 0; i < CONNS_MAX; i++)
        if (l->conns.all[i].channel && conn_backlog(&l->conns.all[i]))
            return false;
    shard_status_get(l->shard, &st);
    return st.waiting == 0;
}

static void give_order(struct loop *l, enum shard_order_kind kind)
{
    struct shard_order order = {.kind = kind};
    loop_step(l, (struct shard_event){.kind = SHARD_EV_ORDER, .order = &order});
}

/* Without the view service nobody can take our place. */
static bool views_away(const struct loop *l)
{
    struct views_service sv;
    l->config.views->ops->service(l->config.views, &sv);
    return sv.away_ms > l->config.shard.failure_timeout_ms;
}

/* Nobody took our place in time: at least another member becomes the primary, if there is one. */
static bool hands_over(struct loop *l, const char *why)
{
    struct shard_status st;
    shard_status_get(l->shard, &st);
    if (!l->hand_over_until_ms)
        log_warn("leaving early", "shard=%u role=%s copies=%u after_ms=%lu cause=\"%s\"", l->number,
                 st.role == SHARD_PRIMARY ? "primary" : "backup", st.copies,
                 l->now_ms - l->leaving_ms, why);
    if (st.role != SHARD_PRIMARY || st.copies < 2)
        return false;
    if (!l->hand_over_until_ms) {
        l->hand_over_until_ms = l->now_ms + HAND_OVER_MS;
        give_order(l, SHARD_ORDER_HAND_OVER);
    }
    return l->now_ms < l->hand_over_until_ms;
}

/* Before a drain somebody takes our place, in the view or at its head, if there is anybody
 * (core/leave.c). True: not yet, and there is time left. Clients are served meanwhile. */
static bool leaves(struct loop *l)
{
    if (!l->config.views->elects || l->config.nodes < 2)
        return false;
    if (!l->leaving_ms) {
        l->leaving_ms = l->now_ms;
        give_order(l, SHARD_ORDER_LEAVE);
    }
    if (shard_may_stop(l->shard)) {
        log_info("left", "shard=%u after_ms=%lu", l->number, l->now_ms - l->leaving_ms);
        return false;
    }
    if (l->now_ms >= l->leaving_ms + LEAVE_MS)
        return hands_over(l, "nobody has caught up in time to take its place");
    return !views_away(l) || hands_over(l, "no view can be changed: etcd is away");
}

static void take_stop(struct loop *l)
{
    int how = atomic_load_explicit(&l->stop, memory_order_acquire);
    if (how == STOP_NO || (how == STOP_DRAIN && !l->drain_until_ms && leaves(l)))
        return;
    stop_listening(l);
    if (how == STOP_DRAIN && !l->drain_until_ms)
        l->drain_until_ms = l->now_ms + DRAIN_MS;
    if (how == STOP_NOW || drained(l)) {
        publish(l);
        atomic_store_explicit(&l->stopped, true, memory_order_release);
    }
}

void loop_stop(struct loop *l, bool drain)
{
    atomic_store_explicit(&l->stop, drain ? STOP_DRAIN : STOP_NOW, memory_order_release);
    eventfd_write(l->wake_fd, 1);
}

bool loop_stopped(const struct loop *l)
{
    return atomic_load_explicit(&((struct loop *)l)->stopped, memory_order_acquire);
}

/* --- turns ----------------------------------------------------------------------------------------- */

/* Somebody in the ready list may be read without epoll's word. */
static bool has_ready(const struct loop *l)
{
    for (uint32_t i = 0; i < l->nready; i++)
        if (may_read(l, &l->conns.all[l->ready[i]]))
            return true;
    return false;
}

static bool turn(struct loop *l, int timeout_ms)
{
    bool worked = false;
    update_now(l);
    atomic_store_explicit(&l->turned_ms, l->now_ms, memory_order_relaxed);
    l->tracing = traced_active(l->traced, l->now_us);
    if (!spins(l) || !has_ready(l) || l->now_us >= l->looked_us + LOOK_US)
        worked = wait_events(l, timeout_ms);
    if (l->woken) {
        l->woken = false;
        l->changed = true; /* the standing may be another */
        loop_take_views(l);
        orders_take(l);
    }
    worked |= serve_ready(l);
    tick(l);
    link_turn(l);
    sweep(l);
    flush_dirty(l);
    close_doomed(l);
    flush_dirty(l); /* what a closing made the core send */
    if (l->changed && l->now_ms >= l->published_ms + PUBLISH_MS)
        publish(l);
    take_stop(l);
    return worked;
}

/* A ready list of nothing but connections that may not be read lets us sleep. */
static bool can_sleep(const struct loop *l)
{
    return !l->accept_more && !has_ready(l);
}

static int sleep_ms(const struct loop *l)
{
    uint64_t next = shard_next_ms(l->shard), link = link_next_ms(l);
    if (link < next)
        next = link;
    if (l->conns.used && l->sweep_ms < next)
        next = l->sweep_ms;
    if (l->changed && l->published_ms + PUBLISH_MS < next)
        next = l->published_ms + PUBLISH_MS;
    if ((l->drain_until_ms || l->leaving_ms) && l->now_ms + 1 < next)
        next = l->now_ms + 1;
    if (next <= l->now_ms)
        return 0;
    return next - l->now_ms > 1000 ? 1000 : (int)(next - l->now_ms);
}

bool loop_turn(struct loop *l)
{
    l->spin_until_us = UINT64_MAX; /* nobody will sleep on our descriptors */
    return turn(l, 0);
}

void loop_run(struct loop *l)
{
    while (!loop_stopped(l)) {
        bool spin = spins(l) || !can_sleep(l);
        if (turn(l, spin ? 0 : sleep_ms(l)))
            l->spin_until_us = l->now_us + l->config.spin_us;
    }
}

/* --- life ------------------------------------------------------------------------------------------ */

static int watch_own(struct loop *l, int fd, uint32_t who, uint32_t how)
{
    struct epoll_event ev = {.events = EPOLLIN | how, .data.u32 = who};
    return epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

static int open_descriptors(struct loop *l)
{
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->epoll_fd < 0 || l->wake_fd < 0)
        return -errno;
    int rc = watch_own(l, l->wake_fd, EVENT_WAKE, 0);
    for (uint32_t i = 0; !rc && i < l->config.nlisteners; i++)
        rc = watch_own(l, l->config.listeners[i].fd, EVENT_LISTEN, EPOLLET);
    return rc;
}

int loop_create(struct loop **out, const struct loop_config *config, char *err, uint32_t err_len)
{
    struct loop *l = calloc(1, sizeof *l);
    int rc = l ? 0 : -ENOMEM;
    if (!l) {
        for (uint32_t i = 0; i < config->nlisteners; i++) {
            struct listener from = config->listeners[i];
            listener_close(&from);
        }
        snprintf(err, err_len, "out of memory for a shard's loop");
        return rc;
    }
    l->config = *config;
    l->number = config->shard.shard;
    l->epoll_fd = l->wake_fd = -1;
    pthread_mutex_init(&l->inbox_lock, NULL);
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&l->given, &clock);
    pthread_condattr_destroy(&clock);
    conns_init(&l->conns);
    effects_init(l);
    update_now(l);
    link_init(l);
    rc = open_descriptors(l);
    if (rc)
        snprintf(err, err_len, "descriptors of shard %u: %s", l->number, strerror(-rc));
    l->config.shard.slabs = slabs_open(&l->slabs, l->number, l->config.listeners,
                                       l->config.nlisteners);
    if (!rc && (!(l->traced = traced_create()) ||
                !(l->shard = shard_create(&l->config.shard)))) {
        rc = -ENOMEM;
        snprintf(err, err_len, "out of memory for shard %u", l->number);
    }
    if (rc) {
        loop_destroy(l);
        return rc;
    }
    l->config.views->ops->start(l->config.views, l->number, &config->shard.self, l->wake_fd);
    loop_take_views(l);
    publish(l);
    *out = l;
    return 0;
}

void loop_destroy(struct loop *l)
{
    l->config.views->ops->stop(l->config.views, l->number);
    stop_listening(l);
    for (uint32_t i = 0; i < CONNS_MAX; i++)
        if (l->conns.all[i].channel)
            conns_remove(&l->conns, &l->conns.all[i]);
    for (uint32_t i = 0; i < l->ninbox; i++)
        channel_close(l->inbox[i]);
    if (l->shard)
        shard_destroy(l->shard);
    slabs_close(&l->slabs);
    if (l->wake_fd >= 0)
        close(l->wake_fd);
    if (l->epoll_fd >= 0)
        close(l->epoll_fd);
    traced_destroy(l->traced);
    pthread_cond_destroy(&l->given);
    pthread_mutex_destroy(&l->inbox_lock);
    free(l);
}
