/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See explain.h. One engine, one store in memory (scripted_store.h), one packet at a time;
 * between the two a recorder, which asks a txn's ticket what it is for.
 */
#include "nf/worker/explain.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/packet/packet_forge.h"
#include "nf/runtime/internal.h"
#include "nf/runtime/scripted_store.h"

enum { SOURCES_MAX = 32, TRIPS_MAX = 64, PORT = 40000, PACKETS = 64,
       SYN = 2, PSH = 8, ACK = 16, TCP = 6, UDP = 17 };
#define SERVER IP4(192, 0, 2, 80)

struct sample {               /* a chain in the middle of a story */
    struct scripted_store store;
    struct engine *e;
    uint64_t now_us;
    int trip;
    json_t *steps;            /* of the present packet */
    json_t *asked[SCRIPTED_QUEUE]; /* borrowed: the steps of what is in the store's queue */
    int reads, writes;
    bool out, replied;        /* what became of it */
    int reason;               /* -1: not dropped */
    enum packet_side side;
    uint32_t len;
    uint8_t frame[FORGE_ROOM];
};

/* --- the recorder ------------------------------------------------------------------------ */

static const char *op_name(uint8_t code)
{
    static const char *const names[] = {[TXN_GET] = "get", [TXN_CHECK] = "check",
        [TXN_INSERT] = "insert", [TXN_CAS] = "cas", [TXN_DELETE] = "delete", [TXN_ADD] = "add",
        [TXN_ADD_LIMIT] = "add_limit", [TXN_ALLOC] = "alloc", [TXN_FREE] = "free",
        [TXN_SCAN] = "scan"};
    return names[code];
}

static const char *nf_of_table(const struct sample *s, int table)
{
    for (int i = 0; i < s->e->nchain; i++)
        for (int t = 0; t < s->e->chain[i].inst->ntables; t++)
            if (s->e->chain[i].table[t] == table)
                return s->e->chain[i].inst->ops->name;
    return "";
}

static json_t *step_of(const struct sample *s, const struct txn_head *t, const struct ticket *k)
{
    static const char *const phases[] = {[PHASE_IDLE] = "look-up", [PHASE_LOOKUP] = "look-up",
                                         [PHASE_COMMIT] = "commit", [PHASE_ADDS] = "count"};
    const struct flow *f = k->flow == NONE ? NULL : &s->e->flows[k->flow];
    const char *nf = f ? s->e->chain[f->nf].inst->ops->name : nf_of_table(s, txn_first(t)->table);
    return json_pack("{s:i, s:s, s:s, s:b, s:i}", "round_trip", s->trip + 1, "nf", nf, "phase",
                     f ? phases[f->phase] : "count", "waited_for", f != NULL, "slot", (int)t->slot);
}

static int record_open(void *ctx, const struct table_schema *schema)
{
    return scripted_table_open(&((struct sample *)ctx)->store, schema);
}

static int record_submit(void *ctx, const void *txn, uint32_t bytes, backend_done done, void *user)
{
    struct sample *s = ctx;
    int at = s->store.nqueue, rc = scripted_submit(&s->store, txn, bytes, done, user);
    if (rc)
        return rc;
    s->asked[at] = step_of(s, txn, user);
    json_array_append_new(s->steps, s->asked[at]);
    return 0;
}

static const struct txn_result *result_of(const struct txn_result_head *h, int op)
{
    const struct txn_result *r = (const struct txn_result *)(h + 1);
    for (int i = 0; i < h->nres; i++) {
        if (r->op == op)
            return r;
        r = (const struct txn_result *)((const uint8_t *)r + r->bytes);
    }
    return NULL;
}

static void record_results(struct sample *s, json_t *step, const struct scripted_txn *q)
{
    static const char *const results[] = {[RES_HIT] = "hit", [RES_ABSENT] = "absent",
                                          [RES_DONE] = "done", [RES_FAILED] = "failed"};
    const struct txn_head *t = (const struct txn_head *)q->txn;
    const struct txn_result_head *h = (const struct txn_result_head *)q->result;
    const struct txn_op *op = txn_first(t);
    json_t *ops = json_array();
    for (int i = 0; i < t->nops; i++, op = txn_next(op)) {
        const struct txn_result *r = result_of(h, i);
        json_array_append_new(ops, json_pack("{s:s, s:s, s:s}", "op", op_name(op->code), "table",
                                             s->store.tables[op->table].name, "result",
                                             r ? results[r->res] : "skipped"));
        s->reads += r && op->code == TXN_GET;
        s->writes += r && r->res == RES_DONE && op->code != TXN_GET;
    }
    json_object_set_new(step, "status", json_string(txn_status_text((enum txn_status)h->status)));
    json_object_set_new(step, "ops", ops);
}

static void record_flush(void *ctx)
{
    struct sample *s = ctx;
    int first = 0;
    while (first < s->store.nqueue && s->store.queue[first].executed)
        first++;
    scripted_flush(&s->store);
    for (int i = first; i < s->store.nqueue; i++)
        record_results(s, s->asked[i], &s->store.queue[i]);
}

static int record_poll(void *ctx, uint64_t now_us)
{
    return scripted_poll(&((struct sample *)ctx)->store, now_us);
}

static int record_events(void *ctx, int table, backend_event handler, void *user)
{
    return scripted_events(&((struct sample *)ctx)->store, table, handler, user);
}

/* --- packets -------------------------------------------------------------------------------- */

static void on_emit(void *ctx, void *cookie, const struct packet *p, enum packet_side side)
{
    struct sample *s = ctx;
    s->out = true;
    s->replied = side == p->side;
    s->side = side;
    s->len = p->len;
}

static void on_drop(void *ctx, void *cookie, int reason)
{
    struct sample *s = ctx;
    s->out = true;
    s->reason = reason;
}

/* The frame in s->frame, through the chain. */
static void send_frame(struct sample *s, enum packet_side side)
{
    struct engine_packet one = {s->frame, s->frame, s->len, FORGE_ROOM};
    s->trip = s->reads = s->writes = 0;
    s->out = s->replied = false;
    s->reason = -1;
    json_decref(s->steps);
    s->steps = json_array();
    s->now_us += 1000000;
    engine_rx(s->e, &one, 1, side, s->now_us);
    engine_flush(s->e);
    for (int trips = 0; (!s->out || s->store.nqueue) && trips < TRIPS_MAX; trips++) {
        s->trip++; /* what is submitted from now on rests on these answers */
        engine_poll(s->e, s->now_us);
        engine_flush(s->e);
    }
}

static int trips_waited_for(const json_t *steps)
{
    size_t i;
    json_t *step;
    int most = 0;
    json_array_foreach(steps, i, step) {
        int trip = (int)json_integer_value(json_object_get(step, "round_trip"));
        if (json_is_true(json_object_get(step, "waited_for")) && trip > most)
            most = trip;
    }
    return most;
}

static void text_of(const struct forge *f, char *to, size_t room)
{
    char src[16], dst[16];
    uint32_t a = htonl(f->src), b = htonl(f->dst);
    inet_ntop(AF_INET, &a, src, sizeof src);
    inet_ntop(AF_INET, &b, dst, sizeof dst);
    snprintf(to, room, "%s %s:%u > %s:%u%s%s%s", f->proto == TCP ? "tcp" : "udp", src, f->sport,
             dst, f->dport, f->proto != TCP ? "" : f->flags & SYN ? " SYN" : "",
             f->flags & ACK ? " ACK" : "", f->data ? " data" : "");
}

/* Sends it and tells about it; what came out is in s->frame. */
static json_t *run_case(struct sample *s, const char *name, const struct forge *f,
                        enum packet_side side)
{
    static const char *const sides[] = {[SIDE_INSIDE] = "inside", [SIDE_OUTSIDE] = "outside"};
    char packet[100];
    text_of(f, packet, sizeof packet);
    s->len = forge_frame(f, s->frame);
    send_frame(s, side);
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:O}", "case", name, "packet", packet,
                          "side", sides[side], "verdict", !s->out ? "held"
                          : s->reason >= 0 ? "dropped" : s->replied ? "replied" : "sent",
                          "round_trips", trips_waited_for(s->steps), "reads", s->reads, "writes",
                          s->writes, "steps", s->steps);
    if (s->reason >= 0)
        json_object_set_new(o, "reason", json_string(engine_reason_text(s->e, s->reason)));
    else if (s->out)
        json_object_set_new(o, "out", json_string(sides[s->side]));
    return o;
}

static bool was_sent(const struct sample *s)
{
    return s->out && s->reason < 0 && !s->replied;
}

/* The answer to what came out: its ends, exchanged. */
static struct forge answer_to(const struct sample *s, uint8_t proto, uint8_t flags, uint16_t data)
{
    const uint8_t *ip = s->frame + FORGE_ETHER, *l4 = ip + (ip[0] & 15) * 4;
    return (struct forge){.proto = proto, .src = forge_get32(ip + 16), .dst = forge_get32(ip + 12),
                          .sport = (uint16_t)forge_get16(l4 + 2), .dport = (uint16_t)forge_get16(l4),
                          .flags = flags, .data = data};
}

/* A connection from its first packet on; stops where a packet is not sent on. */
static void story(struct sample *s, uint8_t proto, uint32_t source, json_t *cases)
{
    bool tcp = proto == TCP;
    struct forge f = {.proto = proto, .src = source, .dst = SERVER, .sport = PORT, .dport = 80,
                      .flags = tcp ? SYN : 0, .data = tcp ? 0 : 100};
    json_array_append_new(cases, run_case(s, "new flow", &f, SIDE_INSIDE));
    if (!was_sent(s))
        return;
    struct forge back = answer_to(s, proto, tcp ? SYN | ACK : 0, tcp ? 0 : 100);
    json_array_append_new(cases, run_case(s, "first answer", &back, SIDE_OUTSIDE));
    if (!was_sent(s))
        return;
    f.flags = tcp ? ACK : 0;
    f.data = 100;
    json_decref(run_case(s, "", &f, SIDE_INSIDE)); /* now it is established */
    json_array_append_new(cases, run_case(s, "established", &f, SIDE_INSIDE));
    back.flags = tcp ? ACK | PSH : 0;
    back.data = 100;
    json_array_append_new(cases, run_case(s, "established", &back, SIDE_OUTSIDE));
}

/* --- the chain ---------------------------------------------------------------------------------- */

static void sample_close(struct sample *s)
{
    if (!s)
        return;
    if (s->e)
        engine_destroy(s->e);
    json_decref(s->steps);
    free(s);
}

static struct sample *sample_open(const struct chain *c, char *err, uint32_t err_len)
{
    struct sample *s = calloc(1, sizeof *s);
    if (!s) {
        snprintf(err, err_len, "out of memory");
        return NULL;
    }
    scripted_backend(&s->store);
    struct backend recorder = {s, record_open, record_submit, record_flush, record_poll,
                               record_events};
    struct engine_config config = {.nchain = c->n, .backend = recorder,
                                   .packets_in_flight = PACKETS, .seed = 1, .ctx = s, .emit = on_emit, .drop = on_drop,
                                   .pass_untaken = true};
    memcpy(config.chain, c->nf, sizeof config.chain);
    s->steps = json_array();
    if (engine_create(&config, &s->e, err, err_len) == 0)
        return s;
    s->e = NULL;
    sample_close(s);
    return NULL;
}

/* Cases of both protocols; -1: an engine cannot be made. Otherwise how good a sample it is. */
static int try_source(const struct chain *c, uint32_t source, json_t *cases, char *err,
                      uint32_t err_len)
{
    static const uint8_t protos[] = {TCP, UDP};
    int sent = 0, asked = 0;
    for (int i = 0; i < 2; i++) {
        struct sample *s = sample_open(c, err, err_len);
        if (!s)
            return -1;
        size_t first = json_array_size(cases);
        story(s, protos[i], source, cases);
        const json_t *o = json_array_get(cases, first);
        sent += !strcmp(json_string_value(json_object_get(o, "verdict")), "sent");
        asked += json_integer_value(json_object_get(o, "round_trips")) > 0;
        sample_close(s);
    }
    return 2 * sent + asked;
}

/* --- where a flow may come from ------------------------------------------------------------------- */

static int sources_from(const char *path, uint32_t *to)
{
    char line[1000];
    int n = 0;
    FILE *file = fopen(path, "re");
    while (file && n < SOURCES_MAX && fgets(line, sizeof line, file)) {
        line[strcspn(line, "#")] = 0;
        for (char *p = line; *p && n < SOURCES_MAX; p++) {
            unsigned a, b, c, d, bits;
            int used = 0;
            if (strspn(p, "0123456789") == 0 ||
                sscanf(p, "%3u.%3u.%3u.%3u/%2u%n", &a, &b, &c, &d, &bits, &used) != 5)
                continue;
            if (a < 224 && b < 256 && c < 256 && d < 256 && bits <= 32)
                to[n++] = IP4(a, b, c, d) + (bits <= 28 ? 5 : 0);
            p += used - 1;
        }
    }
    if (file)
        fclose(file);
    return n;
}

static int sources(const char *path, uint32_t to[SOURCES_MAX + 4])
{
    static const uint32_t usual[] = {IP4(10, 0, 0, 5), IP4(192, 168, 0, 5), IP4(172, 16, 0, 5),
                                     IP4(100, 64, 0, 5)};
    int n = sources_from(path, to);
    for (int i = 0; i < 4; i++)
        to[n++] = usual[i];
    return n;
}

/* --- the plan ---------------------------------------------------------------------------------------- */

static json_t *fields_of(const struct table_field *f, uint32_t n)
{
    json_t *all = json_array();
    for (uint32_t i = 0; i < n; i++) {
        json_t *o = json_pack("{s:s, s:s, s:i}", "name", f[i].name, "type", field_type_text(f[i].type), "offset",
                              (int)f[i].off);
        if (f[i].type == FIELD_NAMES) {
            json_t *names = json_array();
            for (int k = 0; k < LAYOUT_NAMES && f[i].names[k]; k++)
                json_array_append_new(names, json_string(f[i].names[k]));
            json_object_set_new(o, "names", names);
        }
        json_array_append_new(all, o);
    }
    return all;
}

static json_t *pool_of(const struct layout_pool *p)
{
    json_t *ranges = json_array();
    char text[16];
    for (uint32_t i = 0; i < p->nranges; i++) {
        uint32_t first = htonl(p->ranges[i].first);
        inet_ntop(AF_INET, &first, text, sizeof text);
        json_array_append_new(ranges, json_pack("[s, I]", text, (json_int_t)p->ranges[i].count));
    }
    return json_pack("{s:I, s:I, s:o}", "first_port", (json_int_t)p->first_port, "ports", (json_int_t)p->ports,
                     "ranges", ranges);
}

/* As lethe state reads it. */
static void add_layout(json_t *to, const struct nf_instance *nf, int table)
{
    struct table_layout l = {.nkey = 0};
    if (nf->ops->layout)
        nf->ops->layout(nf->self, table, &l);
    json_object_set_new(to, "key", fields_of(l.key, l.nkey));
    json_object_set_new(to, "value", fields_of(l.value, l.nvalue));
    json_object_set_new(to, "pool", pool_of(&l.pool));
}

static json_t *tables_of(const struct chain *c)
{
    json_t *all = json_array();
    for (int i = 0; i < c->n; i++)
        for (int t = 0; t < c->nf[i]->ntables; t++) {
            const struct table_schema *s = &c->nf[i]->tables[t];
            json_array_append_new(
                all, json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:I, s:I, s:b}", "nf",
                               c->nf[i]->ops->name, "table", s->name, "kind", schema_kind_text(s->kind),
                               "durability", schema_durability_text(s->durability), "key_bytes",
                               (int)s->key_size, "value_bytes", (int)s->value_size, "timeout_ms",
                               (json_int_t)s->timeout_ms, "max_entries", (json_int_t)s->max_entries,
                               "events", (s->flags & TABLE_EVENTS) != 0));
            add_layout(json_array_get(all, json_array_size(all) - 1), c->nf[i], t);
        }
    return all;
}

json_t *explain_chain(const struct chain *c, const char *path, char *err, uint32_t err_len)
{
    uint32_t source[SOURCES_MAX + 4], chosen = 0;
    int n = sources(path, source), best = -1;
    json_t *cases = NULL, *names = json_array();
    char text[16];
    for (int i = 0; i < n && best < 6; i++) {
        json_t *these = json_array();
        int good = try_source(c, source[i], these, err, err_len);
        if (good > best) {
            json_decref(cases);
            cases = json_incref(these);
            chosen = source[i];
            best = good;
        }
        json_decref(these);
    }
    for (int i = 0; i < c->n; i++)
        json_array_append_new(names, json_string(c->nf[i]->ops->name));
    if (best < 0) {
        json_decref(names);
        return NULL;
    }
    chosen = htonl(chosen);
    inet_ntop(AF_INET, &chosen, text, sizeof text);
    return json_pack("{s:o, s:s, s:o, s:o}", "chain", names, "source", text, "tables", tables_of(c),
                     "cases", cases);
}
