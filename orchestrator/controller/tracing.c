/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * POST and GET /v1/trace: one flow's packets, at all programs at once (common/metrics/trace.h).
 *
 * Reading is two rounds: what steering and the workers booked, page by page; then of the stores the
 * txns that the workers' entries name. Whoever asked puts the entries of a packet together; with every
 * answer stands when it was asked and when it came, by our clock, so that clocks can be compared.
 *
 * Bounds: TRACE_PACKETS entries of a program, TXNS_MAX txns.
 */
#include <stdio.h>
#include <string.h>

#include "common/metrics/trace.h"
#include "common/packet/packet_text.h"
#include "orchestrator/controller/collect.h"

enum { TXNS_MAX = 512, TXNS_ASKED = 16, PAGES_MAX = TRACE_PACKETS / TRACE_TOLD + 2 };

/* {"name", "kind", "clock": {...}} of who answered; the row that is there, if its answer came
 * quicker. Borrowed. */
static json_t *row_of(const struct collect_reply *r)
{
    json_t *all = json_object_get(collect_json(r->collect), "programs"), *row = NULL, *o;
    size_t i;
    json_array_foreach(all, i, o)
        if (!strcmp(json_string_value(json_object_get(o, "name")), r->name))
            row = o;
    if (!row) {
        row = json_pack("{s:s, s:s}", "name", r->name, "kind", orch_kind_text(r->kind));
        json_array_append_new(all, row);
    }
    const json_t *clock = json_object_get(row, "clock");
    json_int_t took_us = json_integer_value(json_object_get(clock, "answered_us")) -
                         json_integer_value(json_object_get(clock, "asked_us"));
    if (!clock || took_us > (json_int_t)(r->answered_us - r->asked_us))
        json_object_set_new(row, "clock", json_pack("{s:I, s:I, s:I}", "asked_us", (json_int_t)r->asked_us,
                                                    "answered_us", (json_int_t)r->answered_us, "now_us",
                                                    (json_int_t)gather_number(r->answer, "now_us")));
    return row;
}

/* --- to begin ------------------------------------------------------------------------------------ */

static void began(const struct collect_reply *r)
{
    row_of(r);
}

static void flow_words(const struct packet_tuple *f, char *to, size_t room)
{
    char proto[8], src[PACKET_ADDR_TEXT], dst[PACKET_ADDR_TEXT];
    packet_proto_text(f->proto, proto);
    packet_addr_text(&f->src, src);
    packet_addr_text(&f->dst, dst);
    snprintf(to, room, "%s %s %u %s %u", proto, src, __builtin_bswap16(f->src_port), dst,
             __builtin_bswap16(f->dst_port));
}

void tracing_order(struct engine *e, struct order *o)
{
    char flow[200];
    uint32_t seconds = o->request.seconds;
    flow_words(&o->request.flow, flow, sizeof flow);
    struct collect *c = collect_begin(e, o);
    if (!c)
        return;
    json_object_set_new(collect_json(c), "programs", json_array());
    for (uint32_t i = 0; i < e->n; i++) {
        const struct orch_instance *t = &e->at[i].seen;
        if (!t->alive)
            continue;
        if (t->kind == ORCH_STORE)
            collect_ask(c, t->name, t->kind, began, "trace on %u", seconds);
        else
            collect_ask(c, t->name, t->kind, began, "trace on %u %s", seconds, flow);
    }
    collect_wait(c, collect_answer);
}

/* --- to read -------------------------------------------------------------------------------------- */

static void took_txns(const struct collect_reply *r)
{
    json_t *row = row_of(r), *txns = json_object_get(collect_json(r->collect), "txns"), *x;
    size_t i;
    json_object_set(row, "active", json_object_get(r->answer, "active"));
    json_array_foreach(json_object_get(r->answer, "txns"), i, x) {
        json_t *mine = json_copy(x);
        json_object_set_new(mine, "store", json_string(r->name));
        json_array_append_new(txns, mine);
    }
}

/* Sequences of one client at one shard, as a store is asked for them. */
struct asked { json_int_t shard, client; uint32_t n; char words[COLLECT_WORDS - 80]; };

static void ask_stores(struct collect *c, struct asked *a)
{
    struct engine *e = collect_engine(c);
    for (uint32_t i = 0; i < e->n && a->n; i++)
        if (e->at[i].seen.alive && e->at[i].seen.kind == ORCH_STORE)
            collect_ask(c, e->at[i].seen.name, ORCH_STORE, took_txns, "trace read %" JSON_INTEGER_FORMAT " %"
                        JSON_INTEGER_FORMAT "%s", a->shard, a->client, a->words);
    a->n = 0;
    a->words[0] = 0;
}

static void add_event(struct collect *c, struct asked *a, const json_t *event, uint32_t *txns)
{
    json_int_t shard = gather_number(event, "shard"), client = gather_number(event, "client");
    if (!json_object_get(event, "seq") || *txns == TXNS_MAX)
        return;
    if (a->n == TXNS_ASKED || a->shard != shard || a->client != client)
        ask_stores(c, a);
    a->shard = shard;
    a->client = client;
    a->n++;
    ++*txns;
    size_t n = strlen(a->words);
    snprintf(a->words + n, sizeof a->words - n, " %" JSON_INTEGER_FORMAT,
             (json_int_t)gather_number(event, "seq"));
}

/* Entries of one shard together: fewer questions. */
static void ask_for_txns(struct collect *c)
{
    struct asked a = {.n = 0};
    uint32_t txns = 0;
    size_t i, k, m;
    json_t *row, *packet, *event;
    for (uint32_t shard = 0; shard < ORCH_SHARDS; shard++)
        json_array_foreach(json_object_get(collect_json(c), "programs"), i, row)
            json_array_foreach(json_object_get(row, "packets"), k, packet)
                json_array_foreach(json_object_get(packet, "events"), m, event)
                    if (gather_number(event, "shard") == (int64_t)shard)
                        add_event(c, &a, event, &txns);
    ask_stores(c, &a);
    json_array_foreach(json_object_get(collect_json(c), "programs"), i, row)
        json_object_del(row, "pages");
    collect_wait(c, collect_answer);
}

/* A page of a program's entries; the newest `limit` stay. */
static void took_packets(const struct collect_reply *r)
{
    json_t *row = row_of(r), *kept = json_object_get(row, "packets");
    const json_t *page = json_object_get(r->answer, "packets");
    size_t limit = collect_request(r->collect)->limit;
    if (!kept) {
        kept = json_array();
        json_object_set_new(row, "packets", kept);
    }
    json_object_set(row, "active", json_object_get(r->answer, "active"));
    json_array_extend(kept, (json_t *)page);
    while (json_array_size(kept) > limit)
        json_array_remove(kept, 0);
    json_int_t pages = gather_number(row, "pages") + 1; /* else a busy flow would never end */
    json_object_set_new(row, "pages", json_integer(pages));
    if (json_array_size(page) == TRACE_TOLD && pages < PAGES_MAX)
        collect_ask(r->collect, r->name, r->kind, took_packets, "trace read %lu",
                    (unsigned long)gather_number(r->answer, "next"));
}

void tracing_read(struct engine *e, struct order *o)
{
    struct collect *c = collect_begin(e, o);
    if (!c)
        return;
    json_object_set_new(collect_json(c), "programs", json_array());
    json_object_set_new(collect_json(c), "txns", json_array());
    for (uint32_t i = 0; i < e->n; i++)
        if (e->at[i].seen.alive && e->at[i].seen.kind != ORCH_STORE)
            collect_ask(c, e->at[i].seen.name, e->at[i].seen.kind, took_packets, "trace read");
    collect_wait(c, ask_for_txns);
}
