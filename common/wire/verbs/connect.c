/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Verbs channels come up, and go (verbs.h): the device is found by the address, the rings'
 * memory registered, queues made, the offers exchanged by rdma_cm; listening; as a transport.
 *
 *   dialler   RESOLVING -> ROUTING -> CONNECTING -> UP
 *   listener  ACCEPTING -> UP
 */
#include "common/wire/verbs/channel_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/wire/address.h"
#include "common/wire/msg.h"

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

bool verbs_post_recv(struct verbs *v)
{
    struct ibv_recv_wr wr = {.wr_id = ID_RECV}, *bad;
    if (ibv_post_recv(v->id->qp, &wr, &bad))
        return false;
    v->recvs++;
    return true;
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
    v->key = v->mr ? v->mr->rkey : 0;
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
        if (!verbs_post_recv(v))
            return "cannot post receives";
    return NULL;
}

static struct offer offer_of(const struct verbs *v)
{
    return (struct offer){.magic = HAND_SHAKE, .rkey = v->key, .features = v->features,
                          .ring = (uintptr_t)v->in, .credit = (uintptr_t)v->credit,
                          .ring_bytes = RING_BYTES};
}

static struct rdma_conn_param parameters(const struct offer *mine)
{
    return (struct rdma_conn_param){.private_data = mine, .private_data_len = sizeof *mine,
                                    /* as many reads at once as the device can */
                                    .responder_resources = RDMA_MAX_RESP_RES,
                                    .initiator_depth = RDMA_MAX_INIT_DEPTH,
                                    .retry_count = 7, .rnr_retry_count = 7};
}

static bool take_offer(struct verbs *v, const struct rdma_cm_event *e)
{
    if (!e->param.conn.private_data || e->param.conn.private_data_len < sizeof v->peer)
        return false;
    memcpy(&v->peer, e->param.conn.private_data, sizeof v->peer);
    v->features &= v->peer.features;
    v->trailer = v->features & FEATURE_TRAILERS ? sizeof(struct trailer) : 0;
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
        v->heard_ms = verbs_clock_ms();
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

bool verbs_look(struct verbs *v)
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

/* --- going ---------------------------------------------------------------------------- */

void verbs_cut_off(struct verbs *v)
{
    if (v->id && v->id->qp)
        rdma_destroy_qp(v->id);
    if (v->mr)
        ibv_dereg_mr(v->mr);
    v->mr = NULL;
}

void verbs_destroy(struct verbs *v)
{
    verbs_cut_off(v);
    verbs_reads_destroy(v);
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

static struct verbs *create(const char *address)
{
    struct verbs *v = calloc(1, sizeof *v);
    if (!v)
        return NULL;
    v->c = (struct channel){.ops = &verbs_ops, .open = true, .cheap = true};
    snprintf(v->address, sizeof v->address, "%s", address);
    v->sleep_fd = epoll_create1(EPOLL_CLOEXEC);
    v->events = rdma_create_event_channel();
    v->frame = aligned_alloc(64, MSG_BYTES_MAX + 64);
    if (v->sleep_fd >= 0 && v->events && v->frame && watch(v, v->events->fd))
        return v;
    verbs_destroy(v);
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

static struct channel *connect_to(const char *address, uint32_t features, char *err,
                                  uint32_t err_len)
{
    struct addrinfo *to = verbs_trouble(err, err_len) ? NULL : resolve(address, 0, err, err_len);
    if (!to)
        return NULL;
    struct verbs *v = create(address);
    bool ok = v && rdma_create_id(v->events, &v->id, v, RDMA_PS_TCP) == 0;
    if (ok) {
        v->state = RESOLVING;
        v->features = features;
        v->dialled = true;
        if (rdma_resolve_addr(v->id, NULL, to->ai_addr, RESOLVE_MS))
            shut(v, "no RDMA device leads there");
    } else {
        snprintf(err, err_len, "no memory or descriptors for an RDMA connection to %s", address);
        if (v)
            verbs_destroy(v);
    }
    freeaddrinfo(to);
    return ok ? &v->c : NULL;
}

struct channel *verbs_connect(const char *address, char *err, uint32_t err_len)
{
    return connect_to(address, 0, err, err_len);
}

struct channel *verbs_connect_replica(const char *address, char *err, uint32_t err_len)
{
    return connect_to(address, FEATURE_TRAILERS, err, err_len);
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
    if (v)
        v->features = FEATURE_TRAILERS;
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
        verbs_destroy(v);
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

/* In the protection domain that all connections of this device share. */
static void *expose(struct listener *l, void *at, uint64_t bytes, uint32_t *rkey)
{
    const struct verbs_listener *own = l->own;
    struct ibv_mr *mr = own->id->pd ? ibv_reg_mr(own->id->pd, at, bytes, IBV_ACCESS_REMOTE_READ)
                                    : NULL;
    if (mr)
        *rkey = mr->rkey;
    return mr;
}

static void conceal(void *exposed)
{
    ibv_dereg_mr(exposed);
}

static int listen_at(struct listener *out, const char *address, char *err, uint32_t err_len)
{
    struct verbs_listener *l = verbs_listen(address, err, err_len);
    if (!l)
        return -ENODEV;
    *out = (struct listener){.fd = verbs_listener_fd(l), .own = l, .accept = accept_next,
                             .close = close_listener, .expose = expose, .conceal = conceal};
    return 0;
}

static uint16_t port_of(const struct listener *l)
{
    return verbs_listener_port(l->own);
}

const struct transport transport_verbs = {"verbs", false, verbs_connect, listen_at, port_of,
                                          verbs_connect_replica};
