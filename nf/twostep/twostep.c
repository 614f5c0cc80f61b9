/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * twostep: policies of inside hosts, in two steps: the host's entry names the
 * policy, the policy's record says what to do. The second key is known only
 * when the first entry is there, so every packet takes two look-up rounds: it
 * exists to show (and to test) NF_MORE.
 *
 *   twostep.hosts     inside address -> policy number; made at first sight
 *   twostep.policies  number -> verdict (twostep.h); set
 *                     by an operator or a test, none means "pass"
 *   twostep.hits      number -> packets that met the policy
 */
#include <cyaml/cyaml.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "nf/lethe_nf.h"
#include "nf/twostep/twostep.h"

enum { HOSTS, POLICIES, HITS };
enum { ROUND_HOST, ROUND_POLICY };
enum { GET, CREATE };

struct config {
    unsigned default_policy;
};
struct self {
    uint32_t default_policy;
};

static const cyaml_schema_field_t fields[] = {
    CYAML_FIELD_UINT("default_policy", CYAML_FLAG_OPTIONAL, struct config, default_policy),
    CYAML_FIELD_END};

static int init(void *self_, const void *config, struct table_schema *tables, int *ntables,
                char *err, uint32_t err_len)
{
    const struct config *c = config;
    struct self *self = self_;

    self->default_policy = c ? c->default_policy : 0;
    tables[HOSTS] = (struct table_schema){.name = "twostep.hosts",
                                          .kind = TABLE_HASH,
                                          .version = 1,
                                          .key_size = 16,
                                          .part_len = 16,
                                          .value_size = sizeof(struct twostep_host),
                                          .timeout_ms = 3600 * 1000};
    tables[POLICIES] = (struct table_schema){.name = "twostep.policies",
                                             .kind = TABLE_HASH,
                                             .version = 1,
                                             .key_size = 4,
                                             .part_len = 4,
                                             .value_size = sizeof(struct twostep_policy)};
    tables[HITS] = (struct table_schema){.name = "twostep.hits",
                                         .kind = TABLE_COUNTERS,
                                         .durability = DURABLE_ASYNC,
                                         .version = 1,
                                         .key_size = 4,
                                         .part_len = 4,
                                         .value_size = 8};
    *ntables = 3;
    return 0;
}

static void layout(const void *self, int table, struct table_layout *out)
{
    static const char *const verdicts[] = {"pass", "drop", NULL};
    static const struct table_field host = {"inside", FIELD_ADDR, 0, NULL},
                                    number = {"policy", FIELD_U32, 0, NULL},
                                    verdict = {"verdict", FIELD_NAMES, 0, verdicts},
                                    hits = {"hits", FIELD_I64, 0, NULL};
    layout_key(out, table == HOSTS ? &host : &number, 1);
    layout_value(out, table == HOSTS ? &number : table == HITS ? &hits : &verdict, 1);
}

static const struct packet_addr *host_of(const struct packet *pkt)
{
    return pkt->side == SIDE_INSIDE ? &pkt->tuple.src : &pkt->tuple.dst;
}

static bool lookup(const void *self_, const struct packet *pkt, struct nf_plan *plan)
{
    const struct self *self = self_;
    const struct packet_addr *host = host_of(pkt);
    struct twostep_host fresh = {.policy = self->default_policy};
    int get;

    nf_lookup_begin(plan, slot_of(host, sizeof *host));
    get = nf_get(plan, HOSTS, host, TXN_TOUCH | TXN_SKIP_IF_PRESENT);
    nf_insert(plan, HOSTS, host, &fresh, 0);
    nf_skip_to_here(plan, get);
    return true;
}

enum { DROP_STORE, DROP_POLICY };
static const char *const drops[] = {"store_refused", "policy", NULL};

static enum nf_verdict process(const void *self, struct packet *pkt, struct nf_call *call)
{
    const struct nf_entry *host = nf_entry(call, ROUND_HOST, GET), *policy;
    const int64_t one = 1;
    uint32_t number;

    if (nf_lookup_status(call, ROUND_HOST) != TXN_OK)
        return nf_drop(call, DROP_STORE);
    if (host->found != NF_HIT)
        host = nf_entry(call, ROUND_HOST, CREATE);
    memcpy(&number, host->value, sizeof number);
    policy = nf_entry(call, ROUND_POLICY, GET);
    if (!policy) {
        struct nf_plan *more = nf_more(call);
        nf_lookup_begin(more, slot_of(&number, sizeof number));
        nf_get(more, POLICIES, &number, 0);
        return NF_MORE;
    }
    nf_add(call, HITS, slot_of(&number, sizeof number), &number, &one);
    if (policy->found == NF_HIT && policy->value[0] == TWOSTEP_DROP)
        return nf_drop(call, DROP_POLICY);
    return NF_PASS;
}

extern const struct nf_ops twostep_ops;
const struct nf_ops twostep_ops = {
    .name = "twostep",
    .takes_ipv4 = true,
    .takes_ipv6 = true,
    .config_size = sizeof(struct config),
    .config_fields = fields,
    .drop_reasons = drops,
    .self_size = sizeof(struct self),
    .init = init,
    .layout = layout,
    .lookup = lookup,
    .process = process,
};
