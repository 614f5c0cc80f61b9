/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An NF for the engine's tests that does what its packets say: packets are
 * UDP, the flow is the source port, and the payload holds one byte of orders
 * per NF of the chain, then the key to look up.
 *
 *   r read       w count the entry up      d delete it      x drop, reason 1
 *   p reply      a add to a counter        n create another entry, spoil the packet
 *   A add to two counters of one hash slot      W count the entry up, and add
 *   s note how the entry was found
 *   m ask for a second entry (key + 100), then count both up
 *   b break a bound of the API             l leak a pointer to the entry
 *   k count up the entry that the first 4 bytes of this one's value name
 *   t as r, but the entry expires in a moment
 *   - look nothing up, pass
 */
#ifndef NF_RUNTIME_SCRIPTED_NF_H
#define NF_RUNTIME_SCRIPTED_NF_H

#include <stdlib.h>

#include "tests/check.h"

#include "common/packet/packet_forge.h"
#include "nf/runtime/engine.h"

struct script_config {
    uint8_t at;
}; /* which byte of orders */
struct script_self {
    uint8_t at;
};
enum { T_ENTRIES, T_COUNTERS, SCRIPT_TABLES };
enum { SCRIPT_ORDERS = 4, SCRIPT_KEY_AT = SCRIPT_ORDERS, SCRIPT_FRAME = 128 };

static const char *const script_reasons[] = {"zero", "told_to", NULL};
static const char *const script_counters[] = {"packets", "expired", NULL};
static struct nf_entry *leaked; /* by 'l' */
static int script_calls;
static int seen_get, seen_insert; /* by 's': enum nf_found; -1: skipped */

static int script_init(void *self, const void *config, struct table_schema *tables, int *n,
                       char *err, uint32_t err_len)
{
    const struct script_config *c = config;
    struct script_self *s = self;
    s->at = c ? c->at : 0;
    tables[T_ENTRIES] = (struct table_schema){
        .kind = TABLE_HASH, .version = 1, .key_size = 4, .part_len = 4, .flags = TABLE_EVENTS,
        .value_size = 16};
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
    if (script_order(self, p) == 'k') {
        int first = nf_get(plan, T_ENTRIES, &key, TXN_STOP_IF_ABSENT);
        nf_get(plan, T_ENTRIES, zero, 0);
        nf_patch(plan, (struct txn_patch){
                           .op = (uint8_t)first, .from = PATCH_VALUE, .len = 4, .into = PATCH_KEY});
        return true;
    }
    int get = nf_get(plan, T_ENTRIES, &key, TXN_SKIP_IF_PRESENT);
    nf_insert(plan, T_ENTRIES, &key, zero, script_order(self, p) == 't' ? 1 : 0);
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

static void script_see(struct nf_call *c)
{
    const struct nf_entry *get = nf_entry(c, 0, 0), *insert = nf_entry(c, 0, 1);
    seen_get = get ? get->found : -1;
    seen_insert = insert ? insert->found : -1;
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
    case 'A':
        nf_add(c, T_COUNTERS, slot_of(&key, 4), &key, &one);
        nf_add(c, T_COUNTERS, slot_of(&key, 4), &other, &one);
        return NF_PASS;
    case 'W':
        script_up(c, e);
        nf_add(c, T_COUNTERS, slot_of(&key, 4), &key, &one);
        return NF_PASS;
    case 's':
        script_see(c);
        return NF_PASS;
    case 'n':
        p->data[p->payload + SCRIPT_KEY_AT + 3] = 0x80;
        nf_create(c, T_ENTRIES, slot_of(&other, 4), &other, zero, 0);
        return NF_PASS;
    case 'm':
        return script_more(c, p);
    case 'b':
        nf_add(c, 77, 0, &key, &one);
        return NF_PASS;
    case 'k':
        script_up(c, nf_entry(c, 0, 1));
        return NF_PASS;
    case 'l':
        leaked = e;
        return NF_PASS;
    default:
        return NF_PASS;
    }
}

/* Counts it, and adds 1 to the counter of its key; 'b' in the value breaks a bound. */
static void script_expired(const void *self, const struct nf_event *event, struct nf_call *c)
{
    static const int64_t one = 1;
    assert_int_equal(event->table, T_ENTRIES);
    assert_int_equal(event->key_len, 4);
    assert_int_equal(event->value_len, 16);
    assert_int_equal(event->slot, slot_of(event->key, 4));
    nf_count(c, 1);
    nf_add(c, *(const char *)event->value == 'b' ? 77 : T_COUNTERS, event->slot, event->key, &one);
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
    .expired = script_expired,
};

/* A packet with these orders; its bytes. */
static uint32_t script_frame(uint8_t *to, uint16_t flow, const char *orders, uint32_t key)
{
    struct forge f = {.src = IP4(10, 0, 0, 1),
                      .dst = IP4(192, 0, 2, 1),
                      .proto = 17,
                      .sport = flow,
                      .dport = 9,
                      .data = 16,
                      .no_checksum = true};
    uint8_t frame[FORGE_ROOM];
    uint32_t len = forge_frame(&f, frame);
    memcpy(frame + 42, orders, strlen(orders));
    memcpy(frame + 42 + SCRIPT_KEY_AT, &key, 4);
    memcpy(to, frame, len);
    return len;
}

#endif
