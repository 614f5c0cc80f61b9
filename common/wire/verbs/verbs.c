/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The verbs channel (verbs.h).
 *
 * Memory, registered once per channel:
 *   [ in ring: the peer writes | out ring: what we write, staged | credit: the peer writes ]
 * Staged bytes are written to the same offsets of the peer's in ring. They are
 * free again when the peer's credit has passed them: it read them, so the write is
 * over; no completion of a send is waited for but to count work requests.
 *
 * The immediate of a write: the bytes it makes visible / 8, or CREDIT: then the
 * credit words were written. A burst that passes the ring's end is two writes, the
 * second one with the immediate (RC keeps their order).
 *
 * Bounds: at most BURSTS bursts and credits are not yet confirmed by the peer's
 * credit, and RECVS receives are always posted, more than that: no receiver-not-
 * ready. SENDS work requests fit the send queue; every SIGNAL_EVERYth is signalled.
 *
 * The peer may be hostile: how frames are taken out of the ring, frame_ring.h;
 * an immediate or credit that cannot be closes the channel.
 *
 * A closed or dead peer shows as rdma_cm's DISCONNECTED (its kernel says so for
 * it) or as a failed write. What had arrived before is still lent.
 *
 * Thread: the owner's, everything. Nothing blocks but close, which waits for its
 * last writes for at most CLOSE_MS.
 */
#include "common/wire/verbs/verbs.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <netdb.h>
#include <poll.h>
#include <rdma/rdma_cma.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/wire/address.h"
#include "common/wire/frame_ring.h"

enum {
    RING_BYTES = 1024 * 1024,
    CREDIT_BYTES = 4096,
    MEMORY_BYTES = 2 * RING_BYTES + CREDIT_BYTES,
    RECVS = 256, BURSTS = 192, CREDIT_EVERY = 48,
    SENDS = 512, SIGNAL_EVERY = 32,
    CQ_ENTRIES = RECVS + SENDS,
    INLINE_BYTES = 64,
    POLL_MAX = 32,
    LOOK_EVERY = 4096,            /* empty recvs between two looks at rdma_cm */
    RESOLVE_MS = 2000,
    CLOSE_MS = 200,
    BACKLOG = 128,
    NO_LISTENER = 8,              /* IB_CM_REJ_INVALID_SERVICE_ID, what rdma_cm's status is then */
};
#define CREDIT 0xffffffffu
#define HAND_SHAKE 0x3156454Cu /* "LEV1" */

/* What each side tells the other one while connecting. */
struct offer {
    uint32_t magic, rkey;
    uint64_t ring, credit;        /* addresses */
    uint32_t ring_bytes, zero;
};
/* How far the reader is: bytes and bursts, both for ever growing. */
struct credit { uint64_t head, bursts; };

enum verbs_state { RESOLVING = 1, ROUTING, CONNECTING, ACCEPTING, UP };

struct verbs {
    struct channel c;
    enum verbs_state state;
    struct rdma_event_channel *events;
    struct rdma_cm_id *id;
    struct ibv_comp_channel *completions;
    struct ibv_cq *cq;
    struct ibv_mr *mr;
    uint8_t *memory, *in, *out;
    const volatile struct credit *credit; /* the peer writes it */
    struct offer peer;
    uint64_t out_tail, posted, head_seen;
    uint64_t in_head, in_tail, released;
    uint64_t bursts, bursts_seen; /* sent; confirmed */
    uint64_t got, got_told;       /* bursts that came; that we confirmed */
    uint32_t sent;                /* work requests, for ever growing */
    uint32_t sends, unsignalled;  /* in the send queue; since the last signalled one */
    uint32_t last;                /* closing: sends still out */
    uint32_t empty;
    bool waited, disconnected, armed;
    int sleep_fd;
    uint8_t *frame;               /* MSG_BYTES_MAX: what is lent */
    char address[72];
};

static struct verbs *of(struct channel *c)
{
    return (struct verbs *)c;
}

static void shut(struct verbs *v, const char *why)
{
    if (!v->c.open)
        return;
    v->c.open = false;
    snprintf(v->c.why, sizeof v->c.why, "%.56s: %.100s", v->address, why);
    if (v->state == UP)
        rdma_disconnect(v->id);
}

/* --- setting up ----------------------------------------------------------------------- */

static void not_blocking(int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static bool watch(struct verbs *v, int fd)
{
    struct epoll_event ev = {.events = EPOLLIN};
    not_blocking(fd);
    return epoll_ctl(v->sleep_fd, EPOLL_CTL_ADD, fd, &ev) == 0;
}

static bool post_recv(struct verbs *v)
{
    struct ibv_recv_wr wr = {.num_sge = 0}, *bad;
    return ibv_post_recv(v->id->qp, &wr, &bad) == 0;
}

static bool register_memory(struct verbs *v)
{
    v->memory = aligned_alloc(4096, MEMORY_BYTES);
    if (!v->memory)
        return false;
    memset(v->memory, 0, MEMORY_BYTES);
    v->in = v->memory;
    v->out = v->memory + RING_BYTES;
    v->credit = (const volatile struct credit *)(v->memory + 2 * RING_BYTES);
    v->mr = ibv_reg_mr(v->id->pd, v->memory, MEMORY_BYTES,
                       IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
    return v->mr != NULL;
}

/* The device is known: queues and memory. NULL, or what failed. */
static const char *equip(struct verbs *v)
{
    struct ibv_qp_init_attr qp = {.qp_type = IBV_QPT_RC,
                                  .cap = {.max_send_wr = SENDS, .max_recv_wr = RECVS,
                                          .max_send_sge = 1, .max_recv_sge = 1,
                                          .max_inline_data = INLINE_BYTES}};
    if (!(v->completions = ibv_create_comp_channel(v->id->verbs)) ||
        !(v->cq = ibv_create_cq(v->id->verbs, CQ_ENTRIES, NULL, v->completions, 0)) ||
        !watch(v, v->completions->fd))
        return "the RDMA device has no completion queue left";
    qp.send_cq = qp.recv_cq = v->cq;
    if (rdma_create_qp(v->id, NULL, &qp))
        return "the RDMA device has no queue pair of this size left";
    if (!register_memory(v))
        return "cannot register the rings' memory: raise the limit of locked memory (ulimit -l)";
    for (int i = 0; i < RECVS; i++)
        if (!post_recv(v))
            return "cannot post receives";
    return NULL;
}

static struct offer offer_of(const struct verbs *v)
{
    return (struct offer){.magic = HAND_SHAKE, .rkey = v->mr->rkey,
                          .ring = (uintptr_t)v->in, .credit = (uintptr_t)v->credit,
                          .ring_bytes = RING_BYTES};
}

static struct rdma_conn_param parameters(const struct offer *mine)
{
    return (struct rdma_conn_param){.private_data = mine, .private_data_len = sizeof *mine,
                                    .responder_resources = 4, .initiator_depth = 4,
                                    .retry_count = 7, .rnr_retry_count = 7};
}

static bool take_offer(struct verbs *v, const struct rdma_cm_event *e)
{
    if (!e->param.conn.private_data || e->param.conn.private_data_len < sizeof v->peer)
        return false;
    memcpy(&v->peer, e->param.conn.private_data, sizeof v->peer);
    return v->peer.magic == HAND_SHAKE && v->peer.ring_bytes == RING_BYTES;
}

static void say_hello(struct verbs *v)
{
    const char *why = equip(v);
    if (why) {
        shut(v, why);
        return;
    }
    struct offer mine = offer_of(v);
    struct rdma_conn_param p = parameters(&mine);
    v->state = CONNECTING;
    if (rdma_connect(v->id, &p))
        shut(v, "cannot connect");
}

static void on_event(struct verbs *v, const struct rdma_cm_event *e)
{
    switch (e->event) {
    case RDMA_CM_EVENT_ADDR_RESOLVED:
        v->state = ROUTING;
        if (rdma_resolve_route(v->id, RESOLVE_MS))
            shut(v, "no route to it");
        break;
    case RDMA_CM_EVENT_ROUTE_RESOLVED:
        say_hello(v);
        break;
    case RDMA_CM_EVENT_ESTABLISHED:
        if (v->state == CONNECTING && !take_offer(v, e))
            shut(v, "it does not speak this protocol");
        else
            v->state = UP;
        break;
    case RDMA_CM_EVENT_ADDR_ERROR:
    case RDMA_CM_EVENT_ROUTE_ERROR:
        shut(v, "no RDMA device leads there; is the address that of its network interface?");
        break;
    case RDMA_CM_EVENT_REJECTED:
        v->c.refused = e->status == NO_LISTENER;
        shut(v, "nothing listens there, or it refused");
        break;
    case RDMA_CM_EVENT_CONNECT_ERROR:
    case RDMA_CM_EVENT_UNREACHABLE:
        shut(v, "unreachable");
        break;
    case RDMA_CM_EVENT_DEVICE_REMOVAL:
        shut(v, "the RDMA device is gone");
        break;
    case RDMA_CM_EVENT_DISCONNECTED:
        v->disconnected = true;
        break;
    default:
        break;
    }
}

/* True if anything happened. */
static bool look_at_events(struct verbs *v)
{
    struct rdma_cm_event *e;
    bool any = false;
    while (v->c.open && rdma_get_cm_event(v->events, &e) == 0) {
        on_event(v, e);
        rdma_ack_cm_event(e);
        any = true;
    }
    return any;
}

static bool is_up(struct verbs *v)
{
    if (v->state != UP)
        look_at_events(v);
    return v->c.open && v->state == UP;
}

/* --- completions -------------------------------------------------------------------------- */

static void on_arrival(struct verbs *v, uint32_t immediate)
{
    if (!post_recv(v)) {
        shut(v, "cannot post a receive");
        return;
    }
    v->got++;
    if (immediate == CREDIT)
        return;
    uint64_t tail = v->in_tail + (uint64_t)immediate * 8;
    if (tail - v->in_head > RING_BYTES)
        shut(v, "the other side wrote more than its ring holds");
    else
        v->in_tail = tail;
}

/* A signalled write is over, and with it the unsignalled ones before it. */
static void on_sent(struct verbs *v, uint32_t number)
{
    v->sends = v->sent - number;
    v->last = number == v->sent ? 0 : v->last;
}

static bool poll_completions(struct verbs *v)
{
    struct ibv_wc wc[POLL_MAX];
    int n, any = 0;
    do {
        n = ibv_poll_cq(v->cq, POLL_MAX, wc);
        for (int i = 0; i < n && v->c.open; i++) {
            if (wc[i].status == IBV_WC_WR_FLUSH_ERR)
                v->disconnected = true;
            else if (wc[i].status != IBV_WC_SUCCESS)
                shut(v, ibv_wc_status_str(wc[i].status));
            else if (wc[i].opcode == IBV_WC_RECV_RDMA_WITH_IMM)
                on_arrival(v, be32toh(wc[i].imm_data));
            else
                on_sent(v, (uint32_t)wc[i].wr_id);
        }
        any |= n > 0;
    } while (n == POLL_MAX && v->c.open);
    return any;
}

/* The peer's credit, if it can be one. The words are written as a whole with their
 * completion behind them; a torn pair is only ever older, never newer. */
static void see_credit(struct verbs *v)
{
    uint64_t head = v->credit->head, bursts = v->credit->bursts;
    if (head - v->head_seen > v->posted - v->head_seen ||
        bursts - v->bursts_seen > v->bursts - v->bursts_seen) {
        shut(v, "the other side wrote a credit that cannot be");
        return;
    }
    v->head_seen = head;
    v->bursts_seen = bursts;
}

/* --- writing ---------------------------------------------------------------------------------- */

static bool post(struct verbs *v, const void *from, uint64_t to, uint32_t bytes,
                 bool with_immediate, uint32_t immediate)
{
    struct ibv_sge sge = {.addr = (uintptr_t)from, .length = bytes, .lkey = v->mr->lkey};
    struct ibv_send_wr wr = {.sg_list = &sge, .num_sge = 1,
                             .opcode = with_immediate ? IBV_WR_RDMA_WRITE_WITH_IMM
                                                      : IBV_WR_RDMA_WRITE,
                             .imm_data = htobe32(immediate),
                             .wr.rdma = {.remote_addr = to, .rkey = v->peer.rkey}}, *bad;
    if (bytes <= INLINE_BYTES)
        wr.send_flags |= IBV_SEND_INLINE;
    if (++v->unsignalled == SIGNAL_EVERY) {
        wr.send_flags |= IBV_SEND_SIGNALED;
        v->unsignalled = 0;
    }
    wr.wr_id = ++v->sent;
    v->sends++;
    if (ibv_post_send(v->id->qp, &wr, &bad)) {
        shut(v, "cannot post a write");
        return false;
    }
    return true;
}

static bool may_post(const struct verbs *v)
{
    return v->c.open && v->bursts - v->bursts_seen < BURSTS && v->sends + 2 <= SENDS;
}

static void publish(struct verbs *v)
{
    uint64_t at = v->posted & (RING_BYTES - 1), bytes = v->out_tail - v->posted;
    if (!bytes)
        return;
    if (!may_post(v)) {
        see_credit(v);
        poll_completions(v);
        if (!may_post(v))
            return; /* with the next flush, or recv */
    }
    if (at + bytes > RING_BYTES) {
        uint32_t first = (uint32_t)(RING_BYTES - at);
        if (!post(v, v->out + at, v->peer.ring + at, first, false, 0))
            return;
        at = 0;
        if (!post(v, v->out, v->peer.ring, (uint32_t)(bytes - first), true, (uint32_t)(bytes / 8)))
            return;
    } else if (!post(v, v->out + at, v->peer.ring + at, (uint32_t)bytes, true,
                     (uint32_t)(bytes / 8))) {
        return;
    }
    v->posted = v->out_tail;
    v->bursts++;
}

static bool fits(const struct verbs *v, uint64_t need)
{
    return v->out_tail + need - v->head_seen <= RING_BYTES;
}

static int verbs_send(struct channel *c, const void *frame, uint32_t bytes)
{
    struct verbs *v = of(c);
    if (bytes < sizeof(struct msg_head) || bytes > MSG_BYTES_MAX || bytes % 8 != 0)
        return -EMSGSIZE;
    bool up = is_up(v);
    if (!c->open || v->disconnected)
        return -ENOTCONN;
    if (!up)
        return -EAGAIN;
    uint64_t need = frame_ring_need(RING_BYTES, v->out_tail, bytes);
    if (!fits(v, need)) {
        publish(v); /* a reader cannot make room of what it does not see */
        poll_completions(v);
        see_credit(v);
        look_at_events(v);
        if (!c->open || v->disconnected)
            return -ENOTCONN;
        v->waited = !fits(v, need);
        if (v->waited)
            return -EAGAIN;
    }
    v->out_tail = frame_ring_put(v->out, RING_BYTES, v->out_tail, frame, bytes);
    return 0;
}

static void verbs_flush(struct channel *c)
{
    if (c->open && of(c)->state == UP)
        publish(of(c));
}

/* --- reading ------------------------------------------------------------------------------------ */

/* Tells the peer how far we read, when that is worth a message. */
static void give_credit(struct verbs *v, bool all)
{
    bool due = v->in_head - v->released > RING_BYTES / 4 || v->got - v->got_told >= CREDIT_EVERY;
    if (!due && !(all && v->in_head - v->released > RING_BYTES / 8))
        return;
    if (v->sends + 2 > SENDS)
        return;
    struct credit now = {v->in_head, v->got};
    if (!post(v, &now, v->peer.credit, sizeof now, true, CREDIT))
        return;
    v->bursts++;
    v->released = v->in_head;
    v->got_told = v->got;
}

static const void *nothing(struct verbs *v)
{
    give_credit(v, true);
    if (v->posted != v->out_tail)
        publish(v);
    if (v->disconnected)
        shut(v, "the other side closed");
    else if (++v->empty % LOOK_EVERY == 0)
        look_at_events(v);
    return NULL;
}

static const void *verbs_recv(struct channel *c, uint32_t *bytes)
{
    struct verbs *v = of(c);
    if (!is_up(v))
        return NULL;
    give_credit(v, false);
    if (v->in_head == v->in_tail)
        poll_completions(v);
    if (!c->open)
        return NULL;
    if (v->in_head == v->in_tail)
        return nothing(v);
    v->empty = 0;
    const char *why = frame_ring_take(v->in, RING_BYTES, &v->in_head, v->in_tail, v->frame, bytes);
    if (!why)
        return v->frame;
    char text[sizeof c->why];
    snprintf(text, sizeof text, "the other side sent what is no valid message: %s", why);
    shut(v, text);
    return NULL;
}

/* --- sleeping, closing ----------------------------------------------------------------------------- */

static int verbs_fd(struct channel *c, short *events)
{
    *events = POLLIN;
    return c->open ? of(c)->sleep_fd : -1;
}

static bool verbs_arm(struct channel *c)
{
    struct verbs *v = of(c);
    struct ibv_cq *cq;
    void *context;
    if (!c->open)
        return true;
    if (v->state != UP)
        return !look_at_events(v);
    while (v->armed && ibv_get_cq_event(v->completions, &cq, &context) == 0) {
        ibv_ack_cq_events(cq, 1);
        v->armed = false;
    }
    if (!v->armed && ibv_req_notify_cq(v->cq, 0))
        return false;
    v->armed = true;
    /* What came before the notice was asked for rings no bell. */
    bool came = poll_completions(v) | look_at_events(v);
    see_credit(v);
    if (v->posted != v->out_tail && may_post(v))
        publish(v);
    if (v->disconnected || v->in_head != v->in_tail || !c->open)
        return !c->open;
    if (v->waited && came) {
        v->waited = false;
        return false;
    }
    return true;
}

static uint64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* What was flushed leaves before the connection does: a write of nothing, signalled,
 * completes after all before it. */
static void drain(struct verbs *v)
{
    uint64_t until = clock_ms() + CLOSE_MS;
    publish(v);
    v->unsignalled = SIGNAL_EVERY - 1;
    if (v->sends == SENDS || !post(v, v->out, v->peer.ring, 0, false, 0))
        return;
    v->last = v->sends;
    while (v->c.open && !v->disconnected && v->last && clock_ms() < until) {
        poll_completions(v);
        sched_yield();
    }
}

static void destroy(struct verbs *v)
{
    if (v->id && v->id->qp)
        rdma_destroy_qp(v->id);
    if (v->mr)
        ibv_dereg_mr(v->mr);
    if (v->cq)
        ibv_destroy_cq(v->cq);
    if (v->completions)
        ibv_destroy_comp_channel(v->completions);
    if (v->id)
        rdma_destroy_id(v->id);
    if (v->events)
        rdma_destroy_event_channel(v->events);
    if (v->sleep_fd >= 0)
        close(v->sleep_fd);
    free(v->memory);
    free(v->frame);
    free(v);
}

static void verbs_close(struct channel *c)
{
    if (c->open && of(c)->state == UP)
        drain(of(c));
    shut(of(c), "closed here");
    destroy(of(c));
}

static const struct channel_ops verbs_ops = {
    .name = "verbs", .send = verbs_send, .flush = verbs_flush, .recv = verbs_recv,
    .fd = verbs_fd, .arm = verbs_arm, .close = verbs_close,
};

static struct verbs *create(const char *address)
{
    struct verbs *v = calloc(1, sizeof *v);
    if (!v)
        return NULL;
    v->c = (struct channel){.ops = &verbs_ops, .open = true, .cheap = true};
    snprintf(v->address, sizeof v->address, "%s", address);
    v->sleep_fd = epoll_create1(EPOLL_CLOEXEC);
    v->events = rdma_create_event_channel();
    v->frame = aligned_alloc(64, MSG_BYTES_MAX);
    if (v->sleep_fd >= 0 && v->events && v->frame && watch(v, v->events->fd))
        return v;
    destroy(v);
    return NULL;
}

/* --- addresses, listening ------------------------------------------------------------------------------ */

static struct addrinfo *resolve(const char *address, int flags, char *err, uint32_t err_len)
{
    char host[ADDRESS_HOST_MAX], service[8];
    uint16_t port;
    struct addrinfo hints = {.ai_flags = flags | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *found;
    if (address_split(address, host, &port, err, err_len))
        return NULL;
    snprintf(service, sizeof service, "%u", port);
    int why = getaddrinfo(host, service, &hints, &found);
    if (!why)
        return found;
    snprintf(err, err_len, "cannot resolve host '%s': %s", host, gai_strerror(why));
    return NULL;
}

const char *verbs_trouble(char *text, uint32_t len)
{
    struct rlimit limit;
    int n = 0;
    struct ibv_device **devices = ibv_get_device_list(&n);
    if (devices)
        ibv_free_device_list(devices);
    if (!devices || n == 0) {
        snprintf(text, len, "there is no RDMA device: load its driver (soft-RoCE: rdma link add rxe0 "
                 "type rxe netdev DEVICE), or use tcp");
        return text;
    }
    if (!getrlimit(RLIMIT_MEMLOCK, &limit) && limit.rlim_cur < MEMORY_BYTES) {
        snprintf(text, len, "a process may lock %lu KiB of memory, each RDMA connection needs %d KiB: "
                 "raise it (ulimit -l, or LimitMEMLOCK= of its service)",
                 (unsigned long)limit.rlim_cur / 1024, MEMORY_BYTES / 1024);
        return text;
    }
    return NULL;
}

struct channel *verbs_connect(const char *address, char *err, uint32_t err_len)
{
    struct addrinfo *to = verbs_trouble(err, err_len) ? NULL : resolve(address, 0, err, err_len);
    if (!to)
        return NULL;
    struct verbs *v = create(address);
    bool ok = v && rdma_create_id(v->events, &v->id, v, RDMA_PS_TCP) == 0;
    if (ok) {
        v->state = RESOLVING;
        if (rdma_resolve_addr(v->id, NULL, to->ai_addr, RESOLVE_MS))
            shut(v, "no RDMA device leads there");
    } else {
        snprintf(err, err_len, "no memory or descriptors for an RDMA connection to %s", address);
        if (v)
            destroy(v);
    }
    freeaddrinfo(to);
    return ok ? &v->c : NULL;
}

struct verbs_listener {
    struct rdma_event_channel *events;
    struct rdma_cm_id *id;
};

void verbs_listener_close(struct verbs_listener *l)
{
    if (l->id)
        rdma_destroy_id(l->id);
    if (l->events)
        rdma_destroy_event_channel(l->events);
    free(l);
}

struct verbs_listener *verbs_listen(const char *address, char *err, uint32_t err_len)
{
    struct addrinfo *at = verbs_trouble(err, err_len) ? NULL
                                                      : resolve(address, AI_PASSIVE, err, err_len);
    struct verbs_listener *l = at ? calloc(1, sizeof *l) : NULL;
    if (!l) {
        if (at)
            freeaddrinfo(at);
        return NULL;
    }
    if ((l->events = rdma_create_event_channel()) &&
        rdma_create_id(l->events, &l->id, NULL, RDMA_PS_TCP) == 0 &&
        rdma_bind_addr(l->id, at->ai_addr) == 0 && rdma_listen(l->id, BACKLOG) == 0) {
        not_blocking(l->events->fd);
        freeaddrinfo(at);
        return l;
    }
    snprintf(err, err_len, "cannot listen on %s by RDMA: %s; it has to be the address of an RDMA "
             "device's network interface", address, strerror(errno));
    freeaddrinfo(at);
    verbs_listener_close(l);
    return NULL;
}

int verbs_listener_fd(const struct verbs_listener *l)
{
    return l->events->fd;
}

uint16_t verbs_listener_port(const struct verbs_listener *l)
{
    return be16toh(rdma_get_src_port(l->id));
}

static struct channel *answer(struct rdma_cm_event *e)
{
    struct verbs *v = create("peer");
    struct rdma_cm_id *id = e->id;
    const char *why = "no memory";
    if (v && !take_offer(v, e))
        why = "it does not speak this protocol";
    else if (v && !rdma_migrate_id(id, v->events)) {
        v->id = id;
        if (!(why = equip(v))) {
            struct offer mine = offer_of(v);
            struct rdma_conn_param p = parameters(&mine);
            v->state = ACCEPTING;
            if (!rdma_accept(id, &p))
                return &v->c;
        }
    }
    rdma_reject(id, NULL, 0);
    if (!v || !v->id)
        rdma_destroy_id(id);
    if (v)
        destroy(v);
    return NULL;
}

struct channel *verbs_accept(struct verbs_listener *l)
{
    struct rdma_cm_event *e, copy;
    uint8_t data[sizeof(struct offer)];
    while (rdma_get_cm_event(l->events, &e) == 0) {
        bool asks = e->event == RDMA_CM_EVENT_CONNECT_REQUEST;
        copy = *e;
        if (asks && e->param.conn.private_data_len >= sizeof data)
            memcpy(data, e->param.conn.private_data, sizeof data);
        else
            copy.param.conn.private_data_len = 0;
        copy.param.conn.private_data = data;
        rdma_ack_cm_event(e); /* before the id migrates: that waits for it */
        struct channel *c = asks ? answer(&copy) : NULL;
        if (c)
            return c;
    }
    return NULL;
}

/* --- as a transport ------------------------------------------------------------------------------------ */

static struct channel *accept_next(struct listener *l)
{
    return verbs_accept(l->own);
}

static void close_listener(struct listener *l)
{
    verbs_listener_close(l->own);
}

static int listen_at(struct listener *out, const char *address, char *err, uint32_t err_len)
{
    struct verbs_listener *l = verbs_listen(address, err, err_len);
    if (!l)
        return -ENODEV;
    *out = (struct listener){.fd = verbs_listener_fd(l), .own = l, .accept = accept_next,
                             .close = close_listener};
    return 0;
}

static uint16_t port_of(const struct listener *l)
{
    return verbs_listener_port(l->own);
}

const struct transport transport_verbs = {"verbs", false, verbs_connect, listen_at, port_of};
