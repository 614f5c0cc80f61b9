/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * monitor: counts packets and bytes of every flow, in both directions. It
 * reads nothing and waits for nothing: its counts are additions to an async
 * table, sent behind the packet. A flow idle for `idle_s` is forgotten; with
 * `count_ended` one worker of all then counts it (flows_ended).
 *
 * Table monitor.flows: 5-tuple as seen from the inside -> struct counts.
 */
#include <cyaml/cyaml.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "nf/lethe_nf.h"
#include "common/config/truth.h"

struct counts {
    int64_t packets_out, bytes_out, packets_in, bytes_in;
};

struct config {
    unsigned idle_s, max_flows;
    bool count_ended;
};
struct self {
    uint32_t idle_ms;
};

static const cyaml_schema_field_t fields[] = {
    CYAML_FIELD_UINT("idle_s", CYAML_FLAG_OPTIONAL, struct config, idle_s),
    CYAML_FIELD_UINT("max_flows", CYAML_FLAG_OPTIONAL, struct config, max_flows),
    CONFIG_TRUTH("count_ended", struct config, count_ended),
    CYAML_FIELD_END};

enum { FLOWS_ENDED };
static const char *const counters[] = {"flows_ended", NULL};

enum { IDLE_DEFAULT_S = 300, IDLE_MAX_S = 86400 };

static int init(void *self_, const void *config, struct table_schema *tables, int *ntables,
                char *err, uint32_t err_len)
{
    static const struct config defaults;
    const struct config *c = config ? config : &defaults;
    struct self *self = self_;

    if (c->idle_s > IDLE_MAX_S) {
        snprintf(err, err_len, "idle_s: %u is more than a day; write 1..%d", c->idle_s, IDLE_MAX_S);
        return -EINVAL;
    }
    self->idle_ms = (c->idle_s ? c->idle_s : IDLE_DEFAULT_S) * 1000;
    tables[0] = (struct table_schema){.name = "monitor.flows",
                                      .kind = TABLE_COUNTERS,
                                      .durability = DURABLE_ASYNC,
                                      .version = 1,
                                      .key_size = sizeof(struct packet_tuple),
                                      .part_len = sizeof(struct packet_tuple),
                                      .flags = c->count_ended ? TABLE_EVENTS : 0,
                                      .value_size = sizeof(struct counts),
                                      .timeout_ms = self->idle_ms,
                                      .max_entries = c->max_flows};
    *ntables = 1;
    return 0;
}

static void layout(const void *self, int table, struct table_layout *out)
{
    static const struct table_field key[] = {{"flow", FIELD_FLOW, 0, NULL}};
    static const struct table_field value[] = {
        {"packets_out", FIELD_I64, offsetof(struct counts, packets_out), NULL},
        {"bytes_out", FIELD_I64, offsetof(struct counts, bytes_out), NULL},
        {"packets_in", FIELD_I64, offsetof(struct counts, packets_in), NULL},
        {"bytes_in", FIELD_I64, offsetof(struct counts, bytes_in), NULL}};
    layout_key(out, key, 1);
    layout_value(out, value, 4);
}

static bool lookup(const void *self, const struct packet *pkt, struct nf_plan *plan)
{
    return false;
}

/* The flow as its inside host sees it, whichever way this packet goes. */
static struct packet_tuple flow_of(const struct packet *pkt)
{
    struct packet_tuple t = pkt->tuple;

    if (pkt->side == SIDE_OUTSIDE) {
        t.src = pkt->tuple.dst;
        t.dst = pkt->tuple.src;
        t.src_port = pkt->tuple.dst_port;
        t.dst_port = pkt->tuple.src_port;
    }
    return t;
}

static enum nf_verdict process(const void *self, struct packet *pkt, struct nf_call *call)
{
    struct packet_tuple flow = flow_of(pkt);
    struct counts add = {0};

    if (pkt->side == SIDE_INSIDE) {
        add.packets_out = 1;
        add.bytes_out = pkt->l3_len;
    } else {
        add.packets_in = 1;
        add.bytes_in = pkt->l3_len;
    }
    nf_add(call, 0, slot_of(&flow, sizeof flow), &flow, (const int64_t *)&add);
    return NF_PASS;
}

static void expired(const void *self, const struct nf_event *event, struct nf_call *call)
{
    nf_count(call, FLOWS_ENDED);
}

extern const struct nf_ops monitor_ops;
const struct nf_ops monitor_ops = {
    .name = "monitor",
    .takes_ipv4 = true,
    .takes_ipv6 = true,
    .config_size = sizeof(struct config),
    .config_fields = fields,
    .counter_names = counters,
    .self_size = sizeof(struct self),
    .init = init,
    .layout = layout,
    .lookup = lookup,
    .process = process,
    .expired = expired,
};
