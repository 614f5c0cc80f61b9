/* SPDX-License-Identifier: BSD-3-Clause */
/* knock: SSH is open to those who knocked at UDP ports 7001, 7002, 7003, in order. */
#include "nf/lethe_nf.h"

enum { KNOCKS }; /* our table: source address -> knocks heard in order */
enum { SSH = 22, FIRST = 7001, STEPS = 3, PATIENCE_MS = 10000, OPEN_MS = 300000 };
enum { NOT_OPEN };
static const char *const drops[] = {"not_open", NULL};

static int init(void *self, const void *config, struct table_schema *tables, int *ntables,
                char *err, uint32_t err_len)
{
    struct table_schema *t = &tables[KNOCKS];
    *t = (struct table_schema){.name = "knock.sources", .kind = TABLE_HASH, .version = 1};
    t->key_size = t->part_len = 16;
    t->value_size = 8;
    t->timeout_ms = PATIENCE_MS;
    *ntables = 1;
    return 0;
}

static int port_of(const struct packet *pkt)
{
    return pkt->has_l4 && pkt->side == SIDE_OUTSIDE ? __builtin_bswap16(pkt->tuple.dst_port) : 0;
}

static bool lookup(const void *self, const struct packet *pkt, struct nf_plan *plan)
{
    int port = port_of(pkt);
    if (port != SSH && (port < FIRST || port >= FIRST + STEPS))
        return false; /* nothing of ours: no round trip */
    nf_lookup_begin(plan, slot_of(&pkt->tuple.src, 16));
    nf_get(plan, KNOCKS, &pkt->tuple.src, port == SSH ? TXN_TOUCH : 0);
    return true;
}

static enum nf_verdict process(const void *self, struct packet *pkt, struct nf_call *call)
{
    struct nf_entry *source = nf_entry(call, 0, 0);
    int port = port_of(pkt);
    if (!source)
        return port == SSH ? nf_drop(call, NOT_OPEN) : NF_PASS;
    uint8_t heard = source->found == NF_HIT ? source->value[0] : 0;
    if (port == SSH || heard == STEPS)
        return heard == STEPS ? NF_PASS : nf_drop(call, NOT_OPEN);
    nf_entry_write(call, source); /* becomes a compare-and-swap, or an insert */
    source->value[0] = port == FIRST + heard ? heard + 1 : port == FIRST;
    source->timeout_ms = source->value[0] == STEPS ? OPEN_MS : PATIENCE_MS;
    return NF_PASS;
}

const struct nf_ops knock_ops = {
    .name = "knock",
    .takes_ipv4 = true,
    .drop_reasons = drops,
    .init = init,
    .lookup = lookup,
    .process = process,
};
