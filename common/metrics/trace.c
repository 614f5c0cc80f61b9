/* SPDX-License-Identifier: BSD-3-Clause */
/* See trace.h. */
#include "common/metrics/trace.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/packet/packet_text.h"

struct entry {
    uint32_t id, nevents, bytes, tcp_seq;
    uint16_t ip_id;
    uint8_t side;
    bool has_left;
    struct packet_tuple flow, left_as;
    struct trace_event events[TRACE_EVENTS];
};

struct order { struct packet_tuple flow; uint64_t until_us; };

struct trace {
    _Atomic uint64_t until_us;     /* of the order that lasts longest; partner: trace_active */
    pthread_mutex_t lock;          /* of all below */
    struct order orders[TRACE_FLOWS];
    uint32_t norders;              /* ever; the next one goes to norders % TRACE_FLOWS */
    uint32_t newest;               /* id */
    struct entry entries[TRACE_PACKETS]; /* by id */
};

uint64_t trace_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

struct trace *trace_create(void)
{
    struct trace *t = calloc(1, sizeof *t);
    if (t)
        pthread_mutex_init(&t->lock, NULL);
    return t;
}

void trace_destroy(struct trace *t)
{
    if (!t)
        return;
    pthread_mutex_destroy(&t->lock);
    free(t);
}

/* --- booking: the datapath --------------------------------------------------------------- */

bool trace_active(const struct trace *t, uint64_t now_us)
{
    return now_us < atomic_load_explicit(&((struct trace *)t)->until_us, memory_order_relaxed);
}

/* A wanted port 0: any. */
static bool same_end(const struct packet_addr *wanted, uint16_t port, const struct packet_addr *a,
                     uint16_t a_port)
{
    return !memcmp(wanted, a, sizeof *a) && (!port || port == a_port);
}

static bool same_flow(const struct packet_tuple *wanted, const struct packet_tuple *p)
{
    if (wanted->proto != p->proto)
        return false;
    return (same_end(&wanted->src, wanted->src_port, &p->src, p->src_port) &&
            same_end(&wanted->dst, wanted->dst_port, &p->dst, p->dst_port)) ||
           (same_end(&wanted->src, wanted->src_port, &p->dst, p->dst_port) &&
            same_end(&wanted->dst, wanted->dst_port, &p->src, p->src_port));
}

static bool is_wanted(const struct trace *t, const struct packet *p, uint64_t now_us)
{
    for (int i = 0; i < TRACE_FLOWS; i++) {
        const struct order *o = &t->orders[i];
        if (now_us < o->until_us && ((p->has_l4 && same_flow(&o->flow, &p->tuple)) ||
                                     (p->is_icmp_error && same_flow(&o->flow, &p->inner))))
            return true;
    }
    return false;
}

static void look(struct entry *e, const struct packet *p)
{
    uint16_t ip_id;
    uint32_t seq;
    e->flow = p->tuple;
    e->side = p->side;
    e->bytes = p->len;
    if (!p->is_ipv6) {
        memcpy(&ip_id, p->data + p->l3 + 4, sizeof ip_id);
        e->ip_id = ntohs(ip_id);
    }
    if (p->tuple.proto == 6 && p->has_l4) {
        memcpy(&seq, p->data + p->l4 + 4, sizeof seq);
        e->tcp_seq = ntohl(seq);
    }
}

uint32_t trace_packet(struct trace *t, const struct packet *p)
{
    uint32_t id = 0;
    uint64_t now_us = trace_now_us();
    pthread_mutex_lock(&t->lock);
    if (is_wanted(t, p, now_us)) {
        id = ++t->newest;
        struct entry *e = &t->entries[id % TRACE_PACKETS];
        *e = (struct entry){.id = id};
        look(e, p);
    }
    pthread_mutex_unlock(&t->lock);
    return id;
}

void trace_event(struct trace *t, uint32_t id, const struct trace_event *event)
{
    if (!id)
        return;
    pthread_mutex_lock(&t->lock);
    struct entry *e = &t->entries[id % TRACE_PACKETS];
    if (e->id == id && e->nevents < TRACE_EVENTS) {
        struct trace_event *to = &e->events[e->nevents++];
        *to = *event;
        if (!to->us)
            to->us = trace_now_us();
    }
    pthread_mutex_unlock(&t->lock);
}

void trace_left_as(struct trace *t, uint32_t id, const struct packet *p)
{
    struct packet now;
    if (!id || packet_parse(&now, p->data, p->len, p->room, (enum packet_side)p->side) != PACKET_OK)
        return;
    pthread_mutex_lock(&t->lock);
    struct entry *e = &t->entries[id % TRACE_PACKETS];
    if (e->id == id) {
        e->left_as = now.tuple;
        e->has_left = true;
    }
    pthread_mutex_unlock(&t->lock);
}

/* --- telling: the control thread ------------------------------------------------------------ */

static json_t *flow_json(const struct packet_tuple *f)
{
    char text[PACKET_FLOW_TEXT];
    packet_flow_text(f, text);
    return json_string(text);
}

static json_t *event_json(const struct trace_event *e)
{
    json_t *o = json_pack("{s:I, s:s}", "us", (json_int_t)e->us, "what", e->what);
    if (e->nf)
        json_object_set_new(o, "nf", json_string(e->nf));
    if (e->why)
        json_object_set_new(o, "reason", json_string(e->why));
    if (e->about)
        json_object_set_new(o, e->about, json_integer(e->number));
    if (e->seq) {
        json_object_set_new(o, "client", json_integer((json_int_t)e->client));
        json_object_set_new(o, "seq", json_integer((json_int_t)e->seq));
    }
    return o;
}

static json_t *entry_json(const struct entry *e)
{
    json_t *events = json_array();
    for (uint32_t i = 0; i < e->nevents; i++)
        json_array_append_new(events, event_json(&e->events[i]));
    json_t *o = json_pack("{s:i, s:s, s:o, s:i, s:i, s:I, s:o}", "id", (int)e->id, "side",
                          e->side == SIDE_INSIDE ? "inside" : "outside", "flow",
                          flow_json(&e->flow), "bytes", (int)e->bytes, "ip_id", (int)e->ip_id,
                          "tcp_seq", (json_int_t)e->tcp_seq, "events", events);
    if (e->has_left)
        json_object_set_new(o, "left_as", flow_json(&e->left_as));
    return o;
}

/* Copied, and written when the datapath may go on: it waits for the lock. */
static json_t *read_entries(struct trace *t, uint32_t after)
{
    struct entry *told = malloc(TRACE_TOLD * sizeof *told);
    json_t *packets = told ? json_array() : NULL;
    uint64_t now_us = trace_now_us();
    uint32_t n = 0;
    if (!packets) {
        free(told);
        return NULL;
    }
    pthread_mutex_lock(&t->lock);
    uint32_t oldest = t->newest > TRACE_PACKETS ? t->newest - TRACE_PACKETS : 0;
    uint32_t id = after > oldest && after <= t->newest ? after : oldest;
    while (id < t->newest && n < TRACE_TOLD)
        told[n++] = t->entries[++id % TRACE_PACKETS];
    pthread_mutex_unlock(&t->lock);
    for (uint32_t i = 0; i < n; i++)
        json_array_append_new(packets, entry_json(&told[i]));
    free(told);
    return json_pack("{s:I, s:b, s:I, s:o}", "now_us", (json_int_t)now_us, "active",
                     trace_active(t, now_us), "next", (json_int_t)id, "packets", packets);
}

/* --- orders -------------------------------------------------------------------------------------- */

static bool read_flow(char **argv, struct packet_tuple *f)
{
    *f = (struct packet_tuple){.proto = !strcmp(argv[0], "tcp")    ? 6
                                        : !strcmp(argv[0], "udp")  ? 17
                                        : !strcmp(argv[0], "icmp") ? 1
                                                                   : 0};
    return f->proto && packet_addr_read(argv[1], &f->src) && packet_port_read(argv[2], &f->src_port) &&
           packet_addr_read(argv[3], &f->dst) && packet_port_read(argv[4], &f->dst_port);
}

static json_t *order(struct trace *t, const struct packet_tuple *flow, unsigned long seconds)
{
    uint64_t now_us = trace_now_us(), until_us = now_us + seconds * 1000000;
    pthread_mutex_lock(&t->lock);
    struct order *to = &t->orders[t->norders % TRACE_FLOWS];
    bool again = false;
    for (int i = 0; i < TRACE_FLOWS && !again; i++)
        if (now_us < t->orders[i].until_us && !memcmp(&t->orders[i].flow, flow, sizeof *flow)) {
            to = &t->orders[i];
            again = true;
        }
    t->norders += !again;
    *to = (struct order){*flow, until_us};
    uint64_t last_us = 0;
    for (int i = 0; i < TRACE_FLOWS; i++)
        last_us = t->orders[i].until_us > last_us ? t->orders[i].until_us : last_us;
    atomic_store_explicit(&t->until_us, last_us, memory_order_relaxed);
    pthread_mutex_unlock(&t->lock);
    return json_pack("{s:b, s:I, s:I}", "ok", 1, "now_us", (json_int_t)now_us, "until_us",
                     (json_int_t)until_us);
}

static json_t *off(struct trace *t)
{
    pthread_mutex_lock(&t->lock);
    memset(t->orders, 0, sizeof t->orders);
    atomic_store_explicit(&t->until_us, 0, memory_order_relaxed);
    pthread_mutex_unlock(&t->lock);
    return json_pack("{s:b, s:I}", "ok", 1, "now_us", (json_int_t)trace_now_us());
}

void trace_verb(struct trace *t, int argc, char **argv, char *reply, uint32_t room)
{
    struct packet_tuple flow;
    json_t *o = NULL;
    unsigned long seconds = argc == 8 ? strtoul(argv[2], NULL, 10) : 0;
    if (argc == 2 && !strcmp(argv[1], "off"))
        o = off(t);
    else if ((argc == 2 || argc == 3) && !strcmp(argv[1], "read"))
        o = read_entries(t, argc == 3 ? (uint32_t)strtoul(argv[2], NULL, 10) : 0);
    else if (argc == 8 && !strcmp(argv[1], "on") && seconds && seconds <= TRACE_SECONDS_MAX &&
             read_flow(argv + 3, &flow))
        o = order(t, &flow, seconds);
    size_t n = o ? json_dumpb(o, reply, room - 1, JSON_COMPACT) : 0;
    json_decref(o);
    if (n && n < room)
        reply[n] = 0;
    else
        snprintf(reply, room, "{\"error\": \"say 'trace on SECONDS tcp|udp|icmp ADDRESS PORT "
                              "ADDRESS PORT' (1 to 600; port 0: any; icmp: the identifier, twice), 'trace read "
                              "[AFTER]' or 'trace off'\"}");
}
