/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An NF for the engine's tests that does what its packets say, and a bench to
 * send them: packets are UDP, the flow is the source port, and the payload
 * holds one byte of orders per NF of the chain, then the key to look up.
 *
 *   r read       w count the entry up      d delete it      x drop, reason 1
 *   p reply      a add to a counter        n create another entry
 *   m ask for a second entry (key + 100), then count both up
 *   b break a bound of the API             l leak a pointer to the entry
 *   - look nothing up, pass
 */
#ifndef NF_RUNTIME_SCRIPTED_NF_H
#define NF_RUNTIME_SCRIPTED_NF_H

#include <stdlib.h>

#include "tests/check.h"

#include "common/packet/packet_forge.h"
#include "nf/runtime/engine.h"
#include "nf/runtime/scripted_store.h"

struct script_config { uint8_t at; };          /* which byte of orders */
struct script_self { uint8_t at; };
enum { T_ENTRIES, T_COUNTERS, SCRIPT_TABLES };
enum { SCRIPT_ORDERS = 4, SCRIPT_KEY_AT = SCRIPT_ORDERS };

static const char *const script_reasons[] = {"zero", "told_to", NULL};
static const char *const script_counters[] = {"packets", NULL};
static struct nf_entry *leaked;                /* by 'l' */
static int script_calls;

static int script_init(void *self, const void *config, struct table_schema *tables, int *n,
                       char *err, uint32_t err_len)
{
    const struct script_config *c = config;
    struct script_self *s = self;
    s->at = c ? c->at : 0;
    tables[T_ENTRIES] = (struct table_schema){
        .kind = TABLE_HASH, .version = 1, .key_size = 4, .part_len = 4, .value_size = 16};
    tables[T_COUNTERS] = (struct table_schema){.kind = TABLE_COUNTERS,
                                               .durability = DURABLE_ASYNC,
                                               .version = 1,
                                               .key_size = 4,
                                               .part_len = 4,
                                               .value_size = 8};
    snprintf(tables[T_ENTRIES].name, TABLE_NAME_MAX, "entries%u", s->at);
    snprintf(tables[T_COUNTERS].name, TABLE_NAME_MAX, "counters%u", s->at);
    *n = SCRIPT_TABLES;
    return 0;
}

static uint8_t script_order(const struct script_self *s, const struct packet *p)
{
    return p->data[p->payload + s->at];
}

static uint32_t script_key(const struct packet *p)
{
    uint32_t key;
    memcpy(&key, p->data + p->payload + SCRIPT_KEY_AT, 4);
    return key;
}

static bool script_lookup(const void *self, const struct packet *p, struct nf_plan *plan)
{
    static const uint8_t zero[16];
    uint32_t key = script_key(p);
    if (script_order(self, p) == '-')
        return false;
    nf_lookup_begin(plan, slot_of(&key, 4));
    int get = nf_get(plan, T_ENTRIES, &key, TXN_SKIP_IF_PRESENT);
    nf_insert(plan, T_ENTRIES, &key, zero, 0);
    nf_skip_to_here(plan, get);
    return true;
}

static struct nf_entry *script_entry(struct nf_call *c, int lookup)
{
    struct nf_entry *e = nf_entry(c, lookup, 0);
    return e && e->found == NF_ABSENT ? nf_entry(c, lookup, 1) : e;
}

static void script_up(struct nf_call *c, struct nf_entry *e)
{
    uint64_t v;
    memcpy(&v, e->value, sizeof v);
    v++;
    nf_entry_write(c, e);
    memcpy(e->value, &v, sizeof v);
}

static enum nf_verdict script_more(struct nf_call *c, const struct packet *p)
{
    if (!script_entry(c, 1)) {
        static const uint8_t zero[16];
        uint32_t key = script_key(p) + 100;
        struct nf_plan *plan = nf_more(c);
        nf_lookup_begin(plan, slot_of(&key, 4));
        int get = nf_get(plan, T_ENTRIES, &key, TXN_SKIP_IF_PRESENT);
        nf_insert(plan, T_ENTRIES, &key, zero, 0);
        nf_skip_to_here(plan, get);
        return NF_MORE;
    }
    script_up(c, script_entry(c, 0));
    script_up(c, script_entry(c, 1));
    return NF_PASS;
}

static enum nf_verdict script_process(const void *self, struct packet *p, struct nf_call *c)
{
    static const int64_t one = 1;
    static const uint8_t zero[16];
    uint32_t key = script_key(p), other = key + 200;
    struct nf_entry *e = script_entry(c, 0);
    script_calls++;
    packet_decrement_ttl(p);
    nf_count(c, 0);
    switch (script_order(self, p)) {
    case 'w':
        script_up(c, e);
        return NF_PASS;
    case 'd':
        nf_entry_delete(c, e);
        return NF_PASS;
    case 'x':
        return nf_drop(c, 1);
    case 'p':
        return NF_REPLY;
    case 'a':
        nf_add(c, T_COUNTERS, slot_of(&key, 4), &key, &one);
        return NF_PASS;
    case 'n':
        nf_create(c, T_ENTRIES, slot_of(&other, 4), &other, zero, 0);
        return NF_PASS;
    case 'm':
        return script_more(c, p);
    case 'b':
        nf_add(c, 77, 0, &key, &one);
        return NF_PASS;
    case 'l':
        leaked = e;
        return NF_PASS;
    default:
        return NF_PASS;
    }
}

static const struct nf_ops script_nf = {
    .name = "script",
    .takes_ipv4 = true,
    .self_size = sizeof(struct script_self),
    .drop_reasons = script_reasons,
    .counter_names = script_counters,
    .init = script_init,
    .lookup = script_lookup,
    .process = script_process,
};

/* --- the bench ---------------------------------------------------------------------- */

enum { BENCH_PACKETS = 4096, EMITTED = 1, DROPPED = 2 };

struct bench_packet {
    uint8_t frame[128];
    uint32_t len;
    int state, reason, order;  /* order: of leaving; reason: if dropped */
    uint8_t ttl;
    enum packet_side side, out;
    uint32_t key;
    uint16_t flow;
    char orders[SCRIPT_ORDERS + 1];
};

static struct bench {
    struct scripted_store store;
    struct nf_instance *nf[2];
    struct engine *e;
    struct bench_packet packets[BENCH_PACKETS];
    int npackets, left;
    uint64_t now_us;
} *b;

static void bench_emit(void *ctx, void *cookie, const struct packet *p, enum packet_side out)
{
    struct bench_packet *q = cookie;
    CHECK(q->state == 0, "packet %d left twice", (int)(q - b->packets));
    q->state = EMITTED;
    q->order = b->left++;
    q->out = out;
    q->ttl = p->data[22];
}

static void bench_drop(void *ctx, void *cookie, int reason)
{
    struct bench_packet *q = cookie;
    CHECK(q->state == 0, "packet %d left twice", (int)(q - b->packets));
    q->state = DROPPED;
    q->reason = reason;
    q->order = b->left++;
}

static void bench_start(int nchain, uint32_t packets, uint32_t bursts)
{
    char err[200];
    b = calloc(1, sizeof *b);
    struct engine_config c = {.nchain = nchain,
                              .backend = scripted_backend(&b->store),
                              .packets_in_flight = packets,
                              .window_bursts = bursts,
                              .store_timeout_ms = 100,
                              .pass_untaken = true,
                              .emit = bench_emit,
                              .drop = bench_drop};
    for (int i = 0; i < nchain; i++) {
        struct script_config at = {.at = (uint8_t)i};
        assert_int_equal(nf_instance_create(&script_nf, &at, &b->nf[i], err, sizeof err), 0);
        c.chain[i] = b->nf[i];
    }
    assert_int_equal(engine_create(&c, &b->e, err, sizeof err), 0);
    b->now_us = 1000;
    script_calls = 0;
}

static void bench_stop(void)
{
    engine_destroy(b->e);
    for (int i = 0; i < b->npackets; i++)
        CHECK(b->packets[i].state, "packet %d was kept", i);
    for (int i = 0; i < 2; i++)
        nf_instance_destroy(b->nf[i]);
    free(b);
}

static struct bench_packet *bench_packet(uint16_t flow, const char *orders, uint32_t key,
                                         enum packet_side side)
{
    struct bench_packet *q = &b->packets[b->npackets++];
    struct forge f = {.src = IP4(10, 0, 0, 1),
                      .dst = IP4(192, 0, 2, 1),
                      .proto = 17,
                      .sport = flow,
                      .dport = 9,
                      .data = 16,
                      .no_checksum = true};
    uint8_t frame[FORGE_ROOM];
    memset(q, 0, sizeof *q);
    q->len = forge_frame(&f, frame);
    memcpy(frame + 42, orders, strlen(orders));
    memcpy(frame + 42 + SCRIPT_KEY_AT, &key, 4);
    memcpy(q->frame, frame, q->len);
    q->flow = flow;
    q->key = key;
    q->side = side;
    strncpy(q->orders, orders, SCRIPT_ORDERS);
    return q;
}

/* A burst of the packets made since `from`, all of one side. */
static void bench_send(int from)
{
    struct engine_packet burst[256];
    uint32_t n = 0;
    for (int i = from; i < b->npackets; i++)
        burst[n++] = (struct engine_packet){&b->packets[i], b->packets[i].frame, b->packets[i].len,
                                            sizeof b->packets[i].frame};
    engine_rx(b->e, burst, n, b->packets[from].side, b->now_us);
}

/* One packet as a burst of its own. */
static struct bench_packet *bench_one(uint16_t flow, const char *orders, uint32_t key)
{
    struct bench_packet *q = bench_packet(flow, orders, key, SIDE_INSIDE);
    bench_send(b->npackets - 1);
    return q;
}

/* One round trip: what was submitted executes, its answers arrive. */
static void bench_turn(void)
{
    engine_flush(b->e);
    b->now_us += 10;
    engine_poll(b->e, b->now_us);
}

static void bench_finish(void)
{
    for (int i = 0; i < 10000 && engine_in_flight(b->e); i++)
        bench_turn();
    CHECK(engine_in_flight(b->e) == 0, "%u packets stay in flight", engine_in_flight(b->e));
    bench_turn(); /* adds that nobody waited for */
}

static const char *bench_reason(const struct bench_packet *q)
{
    return q->state == DROPPED ? engine_reason_text(b->e, q->reason) : "not dropped";
}

#endif
