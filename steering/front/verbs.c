/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control socket's verbs. The control thread checks the words, hands one
 * order at a time to the datapath, waits, and writes the JSON from what the
 * datapath copied out. The datapath looks for an order once a round, carries it
 * out between two rounds, and never waits for the control thread.
 *
 * A `leave` is handed over again and again until its worker's rings are done with:
 * other orders go in between (CONTROL_LATER).
 *
 * An order that nobody carried out in ORDER_WAIT_MS (the process was stopped)
 * stays where it is; the next request is refused until it is done.
 */
#include "steering/front/steer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "steering/maglev.h"

enum order_verb { ORDER_JOIN, ORDER_LEAVE, ORDER_WORKERS, ORDER_WHERE, ORDER_SPRAY };
enum order_state { ORDER_NONE, ORDER_WAITS, ORDER_DONE, ORDER_CLOSED };

struct worker_info {
    char name[TABLE_NAME_BYTES], socket[2][PATH_BYTES];
    unsigned number;
    enum health_state state;
    bool link, member;
    uint32_t buckets;
    uint64_t incarnation, count[W_END];
    uint8_t mac[2][6];
    uint32_t address;          /* in the tunnel, network order; 0: it joined by memif */
    const char *interface;     /* of ours that it came by */
};

struct order {
    int state;                 /* enum order_state; release/acquire between the threads */
    sem_t done;
    enum order_verb verb;
    char name[256];
    unsigned weight;           /* join */
    bool on, last, later;
    struct packet packet;      /* where: the tuple */
    int rc;
    char err[ERR_BYTES];
    uint32_t bucket;
    unsigned infos_n;
    struct worker_info info[TABLE_WORKERS_MAX];
};

/* --- datapath ------------------------------------------------------------------------ */

static void copy_info(struct steer *s, const struct worker *w, struct worker_info *i)
{
    memcpy(i->name, w->name, sizeof(i->name));
    i->number = w->number;
    i->state = w->health.state;
    i->link = w->link;
    i->member = s->usable >> w->number & 1;
    i->buckets = s->table->share[w->number];
    i->address = w->peer.on ? w->peer.address : 0;
    i->interface = w->peer.on ? s->tunnel.by[w->peer.by].under.iface : "";
    i->incarnation = w->health.incarnation;
    for (int side = 0; side < 2; side++)
        worker_memif(s, w, (enum packet_side)side, i->socket[side], i->mac[side]);
    for (int c = 0; c < W_END; c++)
        i->count[c] = metric_get(w->count[c]);
}

static void copy_one(struct steer *s, struct order *o, unsigned number)
{
    o->infos_n = 1;
    copy_info(s, &s->worker[number], &o->info[0]);
}

static void copy_all(struct steer *s, struct order *o)
{
    o->infos_n = 0;
    for (unsigned i = 0; i < s->workers_max; i++)
        if (worker_present(&s->worker[i]))
            copy_info(s, &s->worker[i], &o->info[o->infos_n++]);
}

static int where(struct steer *s, struct order *o)
{
    uint64_t hash = packet_symmetric_hash(&o->packet);
    bool spray = s->spray;
    s->spray = false; /* the question is about the table */
    int number = spread_pick(s, hash);
    s->spray = spray;
    if (number < 0) {
        snprintf(o->err, sizeof(o->err), "there is no worker");
        return -ENOENT;
    }
    o->bucket = maglev_bucket(hash, s->table->size);
    copy_one(s, o, (unsigned)number);
    return 0;
}

static int carry_out(struct steer *s, struct order *o)
{
    unsigned number = 0;
    int rc = 0;
    switch (o->verb) {
    case ORDER_JOIN:
        rc = worker_join(s, o->name, o->weight, &number, o->err, sizeof(o->err));
        break;
    case ORDER_LEAVE:
        rc = worker_leave(s, o->name, &number, &o->last, &o->later, o->err, sizeof(o->err));
        break;
    case ORDER_WORKERS:
        copy_all(s, o);
        return 0;
    case ORDER_WHERE:
        return where(s, o);
    case ORDER_SPRAY:
        s->spray = o->on;
        metric_set(s->counts.gauge[GAUGE_SPRAY], o->on);
        note_put(s, &(struct note){.kind = NOTE_SPRAY, .a = o->on});
        return 0;
    }
    if (rc == 0)
        copy_one(s, o, number);
    return rc;
}

void verbs_serve(struct steer *s)
{
    struct order *o = s->order;
    if (__atomic_load_n(&o->state, __ATOMIC_ACQUIRE) != ORDER_WAITS)
        return;
    o->rc = carry_out(s, o);
    __atomic_store_n(&o->state, ORDER_DONE, __ATOMIC_RELEASE); /* verbs_close: same thread */
    sem_post(&o->done);
}

void verbs_close(struct steer *s)
{
    struct order *o = s->order;
    int before = __atomic_exchange_n(&o->state, ORDER_CLOSED, __ATOMIC_ACQ_REL);
    if (before == ORDER_WAITS)
        sem_post(&o->done);
}

int verbs_create(struct steer *s)
{
    s->order = calloc(1, sizeof(*s->order));
    if (s->order == NULL)
        return -ENOMEM;
    return sem_init(&s->order->done, 0, 0) < 0 ? -errno : 0;
}

void verbs_destroy(struct steer *s)
{
    if (s->order != NULL)
        sem_destroy(&s->order->done);
    free(s->order);
    s->order = NULL;
}

/* --- control thread -------------------------------------------------------------------- */

static void write_json(json_t *o, char *reply, uint32_t room)
{
    size_t n = o != NULL ? json_dumpb(o, reply, room - 1, JSON_COMPACT) : 0;
    if (n == 0 || n > room - 1)
        n = (size_t)snprintf(reply, room, "{\"error\":\"the reply does not fit\"}");
    reply[n < room ? n : room - 1] = '\0';
    json_decref(o);
}

static void refuse(char *reply, uint32_t room, const char *sentence)
{
    char text[ERR_BYTES];
    snprintf(text, sizeof(text), "%s", sentence);
    for (char *p = text; *p != '\0'; p++) /* a request's bytes may not be UTF-8 */
        if ((unsigned char)*p >= 0x7f)
            *p = '?';
    write_json(json_pack("{s:s}", "error", text), reply, room);
}

/* Takes the order's place. False, and a reply, if the last one is still there. */
static bool begin(struct order *o, enum order_verb verb, char *reply, uint32_t room)
{
    int state = __atomic_load_n(&o->state, __ATOMIC_ACQUIRE);
    if (state == ORDER_DONE) {
        while (sem_trywait(&o->done) == 0)
            continue; /* done after its asker had given up */
        int done = ORDER_DONE;
        state = __atomic_compare_exchange_n(&o->state, &done, ORDER_NONE, false, __ATOMIC_ACQ_REL,
                                            __ATOMIC_ACQUIRE) ? ORDER_NONE : done;
    }
    if (state != ORDER_NONE) {
        refuse(reply, room, state == ORDER_CLOSED ? "steering is ending"
                                                  : "an earlier order is still being carried out");
        return false;
    }
    o->verb = verb;
    o->err[0] = '\0';
    o->last = o->later = false;
    o->infos_n = 0;
    return true;
}

/* Hands the order over. False, and a reply, unless it was carried out well. */
static bool finish(struct steer *s, struct order *o, char *reply, uint32_t room)
{
    struct timespec until;
    int none = ORDER_NONE;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ORDER_WAIT_MS / 1000;
    if (!__atomic_compare_exchange_n(&o->state, &none, ORDER_WAITS, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE)) {
        refuse(reply, room, "steering is ending");
        return false;
    }
    doorbell_ring(s->bell);
    int rc;
    /* A post may be left over from an order that came too late. */
    do
        rc = sem_clockwait(&o->done, CLOCK_MONOTONIC, &until);
    while (rc < 0 ? errno == EINTR : __atomic_load_n(&o->state, __ATOMIC_ACQUIRE) == ORDER_WAITS);
    if (rc < 0) {
        refuse(reply, room, "the datapath did not answer in time");
        return false;
    }
    int done = ORDER_DONE;
    if (!__atomic_compare_exchange_n(&o->state, &done, ORDER_NONE, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE)) {
        refuse(reply, room, "steering is ending");
        return false;
    }
    if (o->rc < 0)
        refuse(reply, room, o->err);
    return o->rc == 0;
}

static json_t *mac_json(const uint8_t mac[6])
{
    return json_sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
                        mac[5]);
}

static json_t *port_json(const struct steer *s, const struct worker_info *i, int side)
{
    const uint8_t *m = i->mac[side];
    unsigned id = (unsigned)side; /* a socket file of its own: any number would do */
    return json_pack("{s:s, s:i, s:o, s:o, s:o}", "socket", i->socket[side], "id", (int)id, "mac",
                     mac_json(m), "peer_mac", mac_json(s->edge[side].mac), "devargs",
                     json_sprintf("role=client,id=%u,bsize=%d,rsize=%d,socket-abstract=no,"
                                  "socket=%s,mac=%02x:%02x:%02x:%02x:%02x:%02x",
                                  id, MEMIF_BUFFER_BYTES, MEMIF_RING_LOG2, i->socket[side], m[0],
                                  m[1], m[2], m[3], m[4], m[5]));
}

static void do_join(struct steer *s, const char *name, const char *weight, char *reply, uint32_t room)
{
    struct order *o = s->order;
    char *end;
    unsigned long n = strtoul(weight, &end, 10);
    if (*end != '\0' || end == weight || n < 1 || n > WEIGHT_MAX) {
        refuse(reply, room, "a weight is a number from 1 to 100");
        return;
    }
    if (!begin(o, ORDER_JOIN, reply, room))
        return;
    o->weight = (unsigned)n;
    snprintf(o->name, sizeof(o->name), "%s", name);
    if (!finish(s, o, reply, room))
        return;
    const struct worker_info *i = &o->info[0];
    write_json(json_pack("{s:b, s:s, s:i, s:o, s:o, s:s, s:o, s:i, s:i, s:I}", "ok", 1, "name",
                         i->name, "worker", (int)i->number, "inside", port_json(s, i, 0), "outside",
                         port_json(s, i, 1), "doorbell", s->bell_path, "worker_doorbell",
                         json_sprintf("%s/%s.bell", s->site->run_dir, i->name), "mtu", (int)s->mtu,
                         "failure_timeout_ms", (int)s->site->failure_timeout_ms, "incarnation",
                         (json_int_t)s->incarnation),
               reply, room);
}

static void do_leave(struct steer *s, const char *name, char *reply, uint32_t room)
{
    struct order *o = s->order;
    if (!begin(o, ORDER_LEAVE, reply, room))
        return;
    snprintf(o->name, sizeof(o->name), "%s", name);
    if (!finish(s, o, reply, room))
        return;
    if (o->later)
        snprintf(reply, room, CONTROL_LATER);
    else
        write_json(json_pack("{s:b, s:s, s:s, s:b}", "ok", 1, "name", o->info[0].name, "state",
                         health_state_text(o->info[0].state), "last", o->last),
                   reply, room);
}

static json_t *worker_json(const struct worker_info *i)
{
    const uint64_t *c = i->count;
    char address[INET_ADDRSTRLEN] = "";
    if (i->address != 0)
        inet_ntop(AF_INET, &i->address, address, sizeof(address));
    return json_pack(
        "{s:s, s:i, s:s, s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, "
        "s:s, s:s, s:I}", "name", i->name, "worker", (int)i->number, "state", health_state_text(i->state), "link", i->link, "in_table",
        i->member, "buckets", (json_int_t)i->buckets, "packets_to",
        (json_int_t)(c[W_TO_INSIDE] + c[W_TO_OUTSIDE]), "packets_from",
        (json_int_t)(c[W_FROM_INSIDE] + c[W_FROM_OUTSIDE]), "bytes_to",
        (json_int_t)(c[W_BYTES_TO_INSIDE] + c[W_BYTES_TO_OUTSIDE]), "bytes_from",
        (json_int_t)(c[W_BYTES_FROM_INSIDE] + c[W_BYTES_FROM_OUTSIDE]), "busy_permille",
        (json_int_t)c[W_BUSY], "in_flight", (json_int_t)c[W_IN_FLIGHT], "rtt_us",
        (json_int_t)c[W_RTT_US], "incarnation", (json_int_t)i->incarnation, "weight",
        (json_int_t)c[W_WEIGHT], "via", i->address != 0 ? "tunnel" : "memif", "address", address, "interface",
        i->interface, "mtu",
        (json_int_t)c[W_MTU]);
}

/* The interfaces where workers' tunnels come in. */
static json_t *tunnel_json(const struct steer *s)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < s->tunnel.by_n; i++) {
        const struct tunnel_by *by = &s->tunnel.by[i];
        json_array_append_new(list, json_pack("{s:s, s:b, s:I}", "interface", by->under.iface, "up",
                                              metric_get(by->count[BY_UP]) != 0, "mtu",
                                              (json_int_t)metric_get(by->count[BY_MTU])));
    }
    return list;
}

static void do_workers(struct steer *s, char *reply, uint32_t room)
{
    struct order *o = s->order;
    if (!begin(o, ORDER_WORKERS, reply, room) || !finish(s, o, reply, room))
        return;
    json_t *list = json_array();
    for (unsigned i = 0; i < o->infos_n; i++)
        json_array_append_new(list, worker_json(&o->info[i]));
    write_json(json_pack("{s:b, s:I, s:o, s:o}", "spray",
                         metric_get(s->counts.gauge[GAUGE_SPRAY]) != 0, "incarnation",
                         (json_int_t)s->incarnation, "tunnel", tunnel_json(s), "workers", list),
               reply, room);
}

static void do_spray(struct steer *s, const char *word, char *reply, uint32_t room)
{
    struct order *o = s->order;
    bool on = strcmp(word, "on") == 0;
    if (!on && strcmp(word, "off") != 0) {
        refuse(reply, room, "say 'spray on' or 'spray off'");
        return;
    }
    if (!begin(o, ORDER_SPRAY, reply, room))
        return;
    o->on = on;
    if (finish(s, o, reply, room))
        write_json(json_pack("{s:b, s:b}", "ok", 1, "spray", on), reply, room);
}

static bool read_end(const char *address, const char *port, struct packet_addr *a, uint16_t *p)
{
    uint32_t v;
    char *end;
    unsigned long n = strtoul(port, &end, 10);
    if (inet_pton(AF_INET, address, &v) != 1 || *end != '\0' || end == port || n > 65535)
        return false;
    *a = packet_ipv4(v);
    *p = htons((uint16_t)n);
    return true;
}

static void do_where(struct steer *s, char **argv, char *reply, uint32_t room)
{
    struct order *o = s->order;
    struct packet p;
    memset(&p, 0, sizeof(p));
    p.has_l4 = 1;
    p.tuple.proto = strcmp(argv[1], "tcp") == 0    ? 6
                    : strcmp(argv[1], "udp") == 0  ? 17
                    : strcmp(argv[1], "icmp") == 0 ? 1
                                                   : 0;
    if (p.tuple.proto == 0 || !read_end(argv[2], argv[3], &p.tuple.src, &p.tuple.src_port) ||
        !read_end(argv[4], argv[5], &p.tuple.dst, &p.tuple.dst_port)) {
        refuse(reply, room, "say 'where tcp|udp|icmp <address> <port> <address> <port>' (icmp: the "
                            "echo identifier, twice)");
        return;
    }
    if (!begin(o, ORDER_WHERE, reply, room))
        return;
    o->packet = p;
    if (finish(s, o, reply, room))
        write_json(json_pack("{s:s, s:i, s:i}", "name", o->info[0].name, "worker",
                             (int)o->info[0].number, "bucket", (int)o->bucket),
                   reply, room);
}

void verbs_handle(void *ctx, int argc, char **argv, char *reply, uint32_t room)
{
    struct steer *s = ctx;
    if ((argc == 2 || argc == 3) && strcmp(argv[0], "join") == 0)
        do_join(s, argv[1], argc == 3 ? argv[2] : "100", reply, room);
    else if (argc == 2 && strcmp(argv[0], "leave") == 0)
        do_leave(s, argv[1], reply, room);
    else if (argc == 1 && strcmp(argv[0], "workers") == 0)
        do_workers(s, reply, room);
    else if (argc == 2 && strcmp(argv[0], "spray") == 0)
        do_spray(s, argv[1], reply, room);
    else if (argc == 6 && strcmp(argv[0], "where") == 0)
        do_where(s, argv, reply, room);
    else if (strcmp(argv[0], "trace") == 0)
        trace_verb(s->trace, argc, argv, reply, room);
    else
        refuse(reply, room, "say one of: join <name> [<weight>], leave <name>, workers, trace ..., where tcp|udp|icmp "
                            "<address> <port> <address> <port>, spray on|off, stats");
}
