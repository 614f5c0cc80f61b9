/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lookup: the state a packet needs, as txns, one round trip for all of it.
 *
 * Outbound UDP and echo (ops that a hit skips are indented):
 *     get map
 *         add_limit host            with a cap
 *         alloc pool                record = internal end point
 *         insert map                index and version of the pool record
 *
 * Outbound TCP; only a SYN creates:
 *     get session
 *         get map
 *             add_limit host, alloc pool, insert map
 *         get map                   one source of the index for both cases
 *         insert session            child of the map entry
 *
 * Inbound:
 *     get pool                      a miss stops here
 *     get session                   TCP; its key is in the pool record
 *         insert session            for a SYN: filtering does not ask who sends
 *
 * ICMP errors get the same entries but never touch or create (RFC 5508 REQ-6).
 */
#include <string.h>

#include "nat44.h"

static uint8_t slot_of_end_point(const struct nat_self *self, const struct nat_end_point *e)
{
    return slot_of(e, self->part_len);
}

struct nat_lookups nat_lookups_of(const struct nat_packet *w)
{
    struct nat_lookups n = {-1, -1, -1, -1, 0};

    if (w->out)
        n.out = n.count++;
    if (w->in)
        n.in = n.count++;
    if (w->remember)
        n.frag = n.count++;
    n.hairpin = n.count;
    return n;
}

struct nat_ops nat_ops_of(const struct nat_self *self, bool tcp)
{
    int cap = self->max_mappings ? 1 : 0;
    int alloc = (tcp ? 2 : 1) + cap;

    return (struct nat_ops){.insert = alloc + 1, .map = alloc + 2, .session = alloc + 3};
}

struct nat_frag_key nat_frag_key_of(const struct packet *p)
{
    struct nat_frag_key k = {.src = p->tuple.src, .dst = p->tuple.dst, .proto = p->tuple.proto};

    memcpy(k.id, p->data + p->l3 + 4, 2);
    return k;
}

static void plan_frag(const struct packet *p, struct nf_plan *plan)
{
    struct nat_frag_key k = nat_frag_key_of(p);

    nf_lookup_begin(plan, slot_of(&k, sizeof k));
    nf_get(plan, NAT_FRAG, &k, 0);
}

/* Get-or-create of a mapping. */
static void plan_map(const struct nat_self *self, struct nf_plan *plan, const struct nat_packet *w)
{
    static const struct nat_map empty;
    static const int64_t one = 1;
    int get = nf_get(plan, NAT_MAP + (int)w->proto, &w->inside, TXN_TOUCH | TXN_SKIP_IF_PRESENT);
    int alloc;

    if (self->max_mappings)
        nf_add_limit(plan, NAT_HOST, &w->inside.addr, &one, self->max_mappings);
    alloc = nf_alloc(plan, NAT_POOL + (int)w->proto, &w->inside);
    nf_insert(plan, NAT_MAP + (int)w->proto, &w->inside, &empty, 0);
    nf_patch(plan, (struct txn_patch){.op = (uint8_t)alloc,
                                      .from = PATCH_INDEX,
                                      .len = 4,
                                      .into = PATCH_INTO_VALUE,
                                      .into_off = 0});
    nf_patch(plan, (struct txn_patch){.op = (uint8_t)alloc,
                                      .from = PATCH_VERSION,
                                      .len = 8,
                                      .into = PATCH_INTO_VALUE,
                                      .into_off = 4});
    nf_skip_to_here(plan, get);
}

static void plan_session(const struct nat_self *self, const struct packet *p, struct nf_plan *plan,
                         const struct nat_packet *w)
{
    struct nat_session_key k = {
        .inside = w->inside,
        .remote = {.addr = p->tuple.dst, .port = p->tuple.dst_port, .proto = PROTO_TCP}};
    struct nat_session fresh = {.state = TCP_SYN_OUT};
    bool create = nat_segment_of(p) == SEGMENT_SYN;
    int get, map;

    get = nf_get(plan, NAT_SESSION, &k, TXN_TOUCH | (create ? TXN_SKIP_IF_PRESENT : 0));
    if (!create)
        return;
    plan_map(self, plan, w);
    map = nf_get(plan, NAT_MAP + NAT_TCP, &w->inside, 0);
    nf_insert_child(plan, NAT_SESSION, &k, &fresh, nat_tcp_timeout_ms(self, TCP_SYN_OUT),
                    NAT_MAP + NAT_TCP, &w->inside);
    nf_patch(plan, (struct txn_patch){.op = (uint8_t)map,
                                      .from = PATCH_VALUE,
                                      .len = 4,
                                      .into = PATCH_INTO_VALUE,
                                      .into_off = 0});
    nf_skip_to_here(plan, get);
}

static void plan_out(const struct nat_self *self, const struct packet *p, struct nf_plan *plan,
                     const struct nat_packet *w)
{
    nf_lookup_begin(plan, slot_of_end_point(self, &w->inside));
    if (p->is_icmp_error)
        nf_get(plan, NAT_MAP + (int)w->proto, &w->inside, 0);
    else if (w->proto == NAT_TCP)
        plan_session(self, p, plan, w);
    else
        plan_map(self, plan, w);
}

/* The internal end point, from the pool record that op `pool` found. */
static struct txn_patch from_pool(int pool, enum txn_patch_into into)
{
    return (struct txn_patch){.op = (uint8_t)pool,
                              .from = PATCH_VALUE,
                              .len = sizeof(struct nat_end_point),
                              .into = (uint8_t)into};
}

static void plan_in_session(const struct nat_self *self, const struct packet *p,
                            struct nf_plan *plan, const struct nat_packet *w, int pool)
{
    struct nat_session_key k = {
        .remote = {.addr = p->tuple.src, .port = p->tuple.src_port, .proto = PROTO_TCP}};
    struct nat_session fresh = {.index = w->index, .state = TCP_SYN_IN};
    bool create = nat_segment_of(p) == SEGMENT_SYN;
    uint8_t touch = self->inbound_refresh ? TXN_TOUCH : 0;
    int get = nf_get(plan, NAT_SESSION, &k, touch | (create ? TXN_SKIP_IF_PRESENT : 0));

    nf_patch(plan, from_pool(pool, PATCH_KEY));
    if (!create)
        return;
    nf_insert_child(plan, NAT_SESSION, &k, &fresh, nat_tcp_timeout_ms(self, TCP_SYN_IN),
                    NAT_MAP + NAT_TCP, &k.inside);
    nf_patch(plan, from_pool(pool, PATCH_KEY));
    nf_patch(plan, from_pool(pool, PATCH_PARENT));
    nf_skip_to_here(plan, get);
}

static void plan_in(const struct nat_self *self, const struct packet *p, struct nf_plan *plan,
                    const struct nat_packet *w)
{
    static const struct nat_end_point unknown;
    bool hairpin = w->out;
    int pool;

    nf_lookup_begin(plan, slot_of_index(w->index));
    pool = nf_get(plan, NAT_POOL + (int)w->proto, &w->index, TXN_STOP_IF_ABSENT);
    if (p->is_icmp_error)
        return;
    if (w->proto == NAT_TCP) {
        if (!hairpin) /* its remote end point is not known yet: second round */
            plan_in_session(self, p, plan, w, pool);
    } else if (self->inbound_refresh) {
        nf_get(plan, NAT_MAP + (int)w->proto, &unknown, TXN_TOUCH);
        nf_patch(plan, from_pool(pool, PATCH_KEY));
    }
}

void nat_plan_hairpin(const struct nat_self *self, const struct packet *p, struct nf_plan *plan,
                      const struct nat_end_point *receiver, uint32_t receiver_index,
                      uint32_t sender_index)
{
    struct nat_session_key k = {.inside = *receiver, .remote = {.proto = PROTO_TCP}};
    struct nat_session fresh = {.index = receiver_index, .state = TCP_SYN_IN};
    uint8_t touch = self->inbound_refresh ? TXN_TOUCH : 0;
    bool create = nat_segment_of(p) == SEGMENT_SYN;
    int get;

    nat_of_index(self, sender_index, &k.remote.addr, &k.remote.port);
    nf_lookup_begin(plan, slot_of_end_point(self, receiver));
    get = nf_get(plan, NAT_SESSION, &k, touch | (create ? TXN_SKIP_IF_PRESENT : 0));
    if (!create)
        return;
    nf_insert_child(plan, NAT_SESSION, &k, &fresh, nat_tcp_timeout_ms(self, TCP_SYN_IN),
                    NAT_MAP + NAT_TCP, receiver);
    nf_skip_to_here(plan, get);
}

bool nat_lookup(const void *self_, const struct packet *p, struct nf_plan *plan)
{
    const struct nat_self *self = self_;
    struct nat_packet w = nat_classify(self, p);

    if (w.what == NAT_LATER_FRAGMENT) {
        plan_frag(p, plan);
        return true;
    }
    if (w.what != NAT_FORWARD)
        return false;
    if (w.out)
        plan_out(self, p, plan, &w);
    if (w.in)
        plan_in(self, p, plan, &w);
    if (w.remember)
        plan_frag(p, plan);
    return true;
}
