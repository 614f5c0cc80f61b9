/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * process: entries -> translated packet, or its refusal.
 *
 * Everything is decided before the first byte is changed, so that a refusal
 * can quote the packet as its sender knows it.
 */
#include <string.h>

#include "nat44.h"

/* Where a half leads to: the end point that the packet gets. */
struct half {
    struct packet_addr addr;
    uint16_t port;
    uint32_t index;
    struct nat_end_point inside; /* in: whose mapping it is */
    struct nf_entry *session;    /* TCP: that was there before; may be NULL */
    enum nf_verdict refused;     /* 0: go on */
};

/* --- refusing ---------------------------------------------------------------------- */

/* Answers with an ICMP error where one may be sent, otherwise drops. */
static enum nf_verdict refuse(const struct nat_self *self, struct packet *p, struct nf_call *call,
                              uint8_t type, uint8_t code, enum nat_drop reason)
{
    bool obligatory = type == ICMP4_TIME_EXCEEDED; /* traceroute; RFC 5508 REQ-10 */

    if ((self->quiet && !obligatory) ||
        !packet_make_icmp_error(p, type, code, 0, &self->own[p->side]))
        return nf_drop(call, (int)reason);
    nf_count(call, NAT_COUNT_ERROR_SENT);
    return NF_REPLY;
}

enum { UNREACHABLE_HOST = 1, UNREACHABLE_PROHIBITED = 13 };

/*
 * A mapping could not be made. RFC 6888 REQ-11 B: ICMP host unreachable, a
 * soft error (it narrows the "prohibited" of RFC 5508 REQ-8 for resources);
 * nothing that exists is taken away to make room.
 */
static enum nf_verdict refuse_mapping(const struct nat_self *self, struct packet *p,
                                      struct nf_call *call, enum txn_status status)
{
    static const struct {
        enum txn_status status;
        enum nat_count count;
        enum nat_drop drop;
    } rows[] = {
        {TXN_EXHAUSTED, NAT_COUNT_EXHAUSTED, NAT_DROP_PORTS_EXHAUSTED},
        {TXN_LIMIT, NAT_COUNT_CAP, NAT_DROP_CAP_REACHED},
        {TXN_NO_MEMORY, NAT_COUNT_FULL, NAT_DROP_STATE_FULL},
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].status != status)
            continue;
        nf_count(call, (int)rows[i].count);
        if (p->side == SIDE_OUTSIDE)
            return nf_drop(call, (int)rows[i].drop);
        return refuse(self, p, call, ICMP4_UNREACHABLE, UNREACHABLE_HOST, rows[i].drop);
    }
    return nf_drop(call, NAT_DROP_STORE);
}

/* --- the two halves ------------------------------------------------------------------ */

static bool found(const struct nf_entry *e, enum nf_found how)
{
    return e && e->found == how;
}

static uint32_t index_in(const struct nf_entry *e)
{
    uint32_t index;

    memcpy(&index, e->value, sizeof index); /* first in nat_map and nat_session alike */
    return index;
}

static struct half refused(enum nf_verdict verdict)
{
    return (struct half){.refused = verdict};
}

static struct half out_found(const struct nat_self *self, uint32_t index)
{
    struct half h = {.index = index};

    nat_of_index(self, index, &h.addr, &h.port);
    return h;
}

static struct half out_tcp(const struct nat_self *self, struct nf_call *call, int lookup)
{
    struct nat_ops ops = nat_ops_of(self, true);
    struct nf_entry *session = nf_entry(call, lookup, NAT_OP_GET);
    struct half h;

    if (found(session, NF_HIT)) {
        h = out_found(self, index_in(session));
        h.session = session;
        return h;
    }
    if (!found(nf_entry(call, lookup, ops.session), NF_CREATED))
        return refused(nf_drop(call, NAT_DROP_NO_SESSION));
    nf_count(call, NAT_COUNT_SESSION);
    if (found(nf_entry(call, lookup, ops.insert), NF_CREATED))
        nf_count(call, NAT_COUNT_MAPPED);
    return out_found(self, index_in(nf_entry(call, lookup, ops.map)));
}

static struct half out_datagram(const struct nat_self *self, struct nf_call *call, int lookup)
{
    struct nat_ops ops = nat_ops_of(self, false);
    struct nf_entry *map = nf_entry(call, lookup, NAT_OP_GET);

    if (found(map, NF_HIT))
        return out_found(self, index_in(map));
    map = nf_entry(call, lookup, ops.insert);
    if (!found(map, NF_CREATED))
        return refused(nf_drop(call, NAT_DROP_NO_MAPPING));
    nf_count(call, NAT_COUNT_MAPPED);
    return out_found(self, index_in(map));
}

/* The sender's end point, seen from outside. */
static struct half out_half(const struct nat_self *self, struct packet *p, struct nf_call *call,
                            const struct nat_packet *w, int lookup)
{
    enum txn_status status = nf_lookup_status(call, lookup);

    if (status != TXN_OK)
        return refused(refuse_mapping(self, p, call, status));
    if (w->proto == NAT_TCP && !p->is_icmp_error)
        return out_tcp(self, call, lookup);
    return out_datagram(self, call, lookup);
}

static struct half in_tcp(struct nf_call *call, struct half h, int lookup, int get, int create)
{
    struct nf_entry *session = nf_entry(call, lookup, get);

    if (found(session, NF_HIT)) {
        h.session = session;
        return h;
    }
    if (!found(nf_entry(call, lookup, create), NF_CREATED))
        return refused(nf_drop(call, NAT_DROP_NO_SESSION));
    nf_count(call, NAT_COUNT_SESSION);
    return h;
}

/* The receiver's end point, inside. */
static struct half in_half(const struct nat_self *self, struct packet *p, struct nf_call *call,
                           const struct nat_packet *w, int lookup)
{
    enum txn_status status = nf_lookup_status(call, lookup);
    struct nf_entry *record = nf_entry(call, lookup, NAT_OP_GET);
    struct half h = {.index = w->index};

    if (status != TXN_OK)
        return refused(refuse_mapping(self, p, call, status));
    if (!found(record, NF_HIT))
        return refused(nf_drop(call, NAT_DROP_NO_MAPPING));
    memcpy(&h.inside, record->value, sizeof h.inside);
    h.addr = h.inside.addr;
    h.port = h.inside.port;
    if (w->proto == NAT_TCP && !p->is_icmp_error && !w->out)
        return in_tcp(call, h, lookup, NAT_OP_IN_SESSION, NAT_OP_IN_CREATE);
    return h;
}

/* --- what changes ---------------------------------------------------------------------- */

static void follow_tcp(const struct nat_self *self, const struct packet *p, struct nf_call *call,
                       struct nf_entry *session, bool outward)
{
    struct nat_session s;
    enum nat_tcp next;

    if (!session)
        return;
    memcpy(&s, session->value, sizeof s);
    next = nat_tcp_next((enum nat_tcp)s.state, outward, nat_segment_of(p));
    if (next == s.state)
        return;
    s.state = (uint8_t)next;
    nf_entry_write(call, session);
    memcpy(session->value, &s, sizeof s);
    session->timeout_ms = nat_tcp_timeout_ms(self, next);
}

static void rewrite(struct packet *p, const struct nat_packet *w, const struct half *out,
                    const struct half *in)
{
    if (p->is_icmp_error) {
        /* The outer source is the router that complains, unless it is inside:
         * then an address of ours stands for it (RFC 5508 REQ-5). */
        if (w->out) {
            packet_set_inner_dst(p, &out->addr, out->port);
            packet_set_src(p, &out->addr, 0);
        }
        if (w->in) {
            packet_set_inner_src(p, &in->addr, in->port);
            packet_set_dst(p, &in->addr, 0);
        }
        return;
    }
    if (w->out)
        packet_set_src(p, &out->addr, out->port);
    if (w->in)
        packet_set_dst(p, &in->addr, in->port);
}

/* What the later fragments of this datagram will need. */
static void remember_fragment(const struct packet *p, struct nf_call *call, struct nf_entry *e,
                              bool turned)
{
    struct nat_frag f = {.src = packet_ipv4_of(&p->tuple.src),
                         .dst = packet_ipv4_of(&p->tuple.dst),
                         .turned = turned};

    nf_count(call, NAT_COUNT_FRAGMENT);
    if (!e || (e->found == NF_HIT && memcmp(e->value, &f, sizeof f) == 0))
        return;
    nf_entry_write(call, e);
    memcpy(e->value, &f, sizeof f);
}

static enum nf_verdict leave(struct packet *p, struct nf_call *call, bool turned)
{
    packet_decrement_ttl(p);
    if (!turned)
        return NF_PASS;
    nf_count(call, NAT_COUNT_HAIRPIN);
    packet_swap_ethernet(p);
    return NF_REPLY;
}

/* Hairpinned TCP: the session at the receiver's mapping. False: ask for it. */
static bool hairpin_session(struct nf_call *call, int lookup, struct half *in)
{
    struct nf_entry *get = nf_entry(call, lookup, NAT_OP_GET);

    if (!get && nf_lookup_status(call, lookup) == TXN_BAD_REQUEST)
        return false;
    *in = in_tcp(call, *in, lookup, NAT_OP_GET, NAT_OP_HAIRPIN_CREATE);
    return true;
}

static enum nf_verdict forward(const struct nat_self *self, struct packet *p, struct nf_call *call,
                               const struct nat_packet *w)
{
    struct nat_lookups n = nat_lookups_of(w);
    struct half out = {0}, in = {0};
    bool turned = w->out && w->in, tcp = w->proto == NAT_TCP && !p->is_icmp_error;
    struct nf_entry *frag = w->remember ? nf_entry(call, n.frag, NAT_OP_GET) : NULL;

    if (w->out)
        out = out_half(self, p, call, w, n.out);
    if (!out.refused && w->in)
        in = in_half(self, p, call, w, n.in);
    if (!out.refused && !in.refused && turned && tcp && !hairpin_session(call, n.hairpin, &in)) {
        nat_plan_hairpin(self, p, nf_more(call), &in.inside, in.index, out.index);
        return NF_MORE;
    }
    if (out.refused || in.refused)
        return out.refused ? out.refused : in.refused;

    if (tcp && w->out)
        follow_tcp(self, p, call, out.session, true);
    if (tcp && w->in)
        follow_tcp(self, p, call, in.session, false);
    if (p->is_icmp_error)
        nf_count(call, NAT_COUNT_ERROR);
    rewrite(p, w, &out, &in);
    if (w->remember)
        remember_fragment(p, call, frag, turned);
    return leave(p, call, turned);
}

static enum nf_verdict later_fragment(struct packet *p, struct nf_call *call)
{
    struct nf_entry *e = nf_entry(call, 0, NAT_OP_GET);
    struct packet_addr src, dst;
    struct nat_frag f;

    if (nf_lookup_status(call, 0) != TXN_OK)
        return nf_drop(call, NAT_DROP_STORE);
    if (!found(e, NF_HIT))
        return nf_drop(call, NAT_DROP_FRAGMENT_ORDER);
    memcpy(&f, e->value, sizeof f);
    src = packet_ipv4(f.src);
    dst = packet_ipv4(f.dst);
    packet_set_src(p, &src, 0);
    packet_set_dst(p, &dst, 0);
    nf_count(call, NAT_COUNT_FRAGMENT);
    return leave(p, call, f.turned);
}

/* A router answers pings (RFC 1812 4.3.3.6): type 8 becomes 0, addresses swap. */
static enum nf_verdict answer_echo(struct packet *p, struct nf_call *call)
{
    struct packet_addr src = p->tuple.src, dst = p->tuple.dst;
    uint16_t id = p->tuple.src_port, sum;
    uint8_t *icmp = p->data + p->l4, *ip = p->data + p->l3;
    const uint8_t reply[2] = {ICMP4_ECHO_REPLY, icmp[1]}, ttl[2] = {64, PROTO_ICMP4};

    packet_set_src(p, &dst, id);
    packet_set_dst(p, &src, id);
    memcpy(&sum, icmp + ICMP_CHECKSUM, 2);
    sum = checksum_update(sum, icmp, reply, 2);
    memcpy(icmp + ICMP_CHECKSUM, &sum, 2);
    icmp[0] = ICMP4_ECHO_REPLY;
    memcpy(&sum, ip + IP4_CHECKSUM, 2);
    sum = checksum_update(sum, ip + IP4_TTL, ttl, 2);
    memcpy(ip + IP4_CHECKSUM, &sum, 2);
    ip[IP4_TTL] = ttl[0];
    packet_swap_ethernet(p);
    nf_count(call, NAT_COUNT_ECHO);
    return NF_REPLY;
}

enum nf_verdict nat_process(const void *self_, struct packet *p, struct nf_call *call)
{
    const struct nat_self *self = self_;
    struct nat_packet w = nat_classify(self, p);

    switch (w.what) {
    case NAT_FORWARD:
        return forward(self, p, call, &w);
    case NAT_LATER_FRAGMENT:
        return later_fragment(p, call);
    case NAT_ECHO:
        return answer_echo(p, call);
    case NAT_TTL_EXPIRED:
        nf_count(call, NAT_COUNT_TTL);
        return refuse(self, p, call, ICMP4_TIME_EXCEEDED, 0, NAT_DROP_TTL);
    case NAT_PROHIBITED:
        nf_count(call, NAT_COUNT_PROHIBITED);
        return refuse(self, p, call, ICMP4_UNREACHABLE, UNREACHABLE_PROHIBITED, NAT_DROP_PROTOCOL);
    default:
        return nf_drop(call, (int)w.reason);
    }
}
