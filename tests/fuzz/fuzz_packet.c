/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The packet parser and every function that rewrites a parsed packet.
 *
 *   input: [control byte] [room beyond the packet] [6 spare bytes] [packet ...]
 *
 * Bytes behind `len` are poisoned while nothing may touch them. The oracle
 * shares no arithmetic with the code: sums are taken in whole integers and
 * compared modulo 65535, where "right stays right, wrong stays exactly as
 * wrong" is one equation.
 */
#include "tests/fuzz/fuzz.h"

#include <sanitizer/asan_interface.h>

#include "common/packet/packet.h"

enum { CONTROL_BYTES = 8, ETHER = 14, TCP = 6, UDP = 17, ICMP4 = 1, ICMP6 = 58 };

/* --- sums ------------------------------------------------------------------------- */

static uint32_t sum_of(const uint8_t *at, uint32_t len)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < len; i++)
        sum += (uint64_t)at[i] << (i % 2 ? 0 : 8);
    return (uint32_t)(sum % 65535);
}

static uint32_t addresses_sum(const struct packet *p, uint32_t l3)
{
    return sum_of(p->data + l3 + (p->is_ipv6 ? 8 : 12), p->is_ipv6 ? 32 : 8);
}

struct sums { uint32_t ip, l4, inner_ip, inner_l4; };

static struct sums sums(const struct packet *p)
{
    struct sums s = {0};
    uint32_t end = (uint32_t)p->l3 + p->l3_len;
    s.ip = p->is_ipv6 ? 0 : sum_of(p->data + p->l3, (uint32_t)(p->l4 - p->l3));
    s.l4 = sum_of(p->data + p->l4, end - p->l4);
    if (p->tuple.proto != ICMP4)
        s.l4 = (s.l4 + addresses_sum(p, p->l3)) % 65535;
    if (!p->is_icmp_error)
        return s;
    s.inner_ip = p->is_ipv6 ? 0 : sum_of(p->data + p->inner_l3, (uint32_t)(p->inner_l4 - p->inner_l3));
    s.inner_l4 = sum_of(p->data + p->inner_l4, end - p->inner_l4);
    if (p->inner.proto != ICMP4)
        s.inner_l4 = (s.inner_l4 + addresses_sum(p, p->inner_l3)) % 65535;
    return s;
}

static bool udp_without_checksum(const struct packet *p, uint32_t l4, uint8_t proto)
{
    return proto == UDP && p->data[l4 + 6] == 0 && p->data[l4 + 7] == 0;
}

/* The L4 checksum is one that rewriting keeps. */
static bool keeps_l4(const struct packet *p)
{
    uint8_t proto = p->tuple.proto;
    bool icmp6 = proto == ICMP6 && p->is_ipv6 && !p->is_later_fragment;
    return (p->has_l4 || icmp6) && !udp_without_checksum(p, p->l4, proto);
}

/* --- one packet --------------------------------------------------------------------- */

struct trial {
    const uint8_t *frame;
    uint32_t len, room;
    enum packet_side side;
    struct packet p;           /* parsed; data is malloced */
};

static enum packet_fault begin(struct trial *t)
{
    uint8_t *data = malloc(t->room ? t->room : 1);
    MUST(data);
    memset(data, 0xa5, t->room);
    memcpy(data, t->frame, t->len);
    ASAN_POISON_MEMORY_REGION(data + t->len, t->room - t->len);
    enum packet_fault fault = packet_parse(&t->p, data, t->len, t->room, t->side);
    t->p.data = data;
    return fault;
}

static void end(struct trial *t)
{
    ASAN_UNPOISON_MEMORY_REGION(t->p.data, t->room);
    free(t->p.data);
}

static void check_offsets(const struct packet *p)
{
    MUST(p->l3 == ETHER && p->l4 >= p->l3 + 20 && p->l4 <= p->len);
    MUST((uint32_t)p->l3 + p->l3_len <= p->len);
    MUST(p->payload >= p->l4 && p->payload <= p->l3 + p->l3_len);
    if (p->is_icmp_error)
        MUST(p->inner_l3 > p->l4 && p->inner_l4 > p->inner_l3 && p->inner_l4 <= p->l3 + p->l3_len);
}

static struct packet_addr address(const struct packet *p, const uint8_t spare[6])
{
    uint32_t v4;
    memcpy(&v4, spare, 4);
    struct packet_addr a = packet_ipv4(v4);
    if (p->is_ipv6)
        memcpy(a.b, spare, 6);
    return a;
}

/* What was rewritten parses again, into what the rewriting left in `p`. */
static void check_reparse(struct trial *t, const struct packet *was)
{
    struct packet again;
    MUST(packet_parse(&again, t->p.data, t->p.len, t->room, t->side) == PACKET_OK);
    MUST(memcmp(&again.tuple, &t->p.tuple, sizeof again.tuple) == 0);
    MUST(memcmp(&again.inner, &t->p.inner, sizeof again.inner) == 0);
    MUST(again.l4 == was->l4 && again.payload == was->payload && again.has_l4 == was->has_l4);
    MUST(again.is_icmp_error == was->is_icmp_error && again.is_fragment == was->is_fragment);
}

static void check_sums(const struct packet *was, const struct packet *p, const struct sums *before,
                       bool inner)
{
    struct sums after = sums(p);
    MUST(after.ip == before->ip);
    if (keeps_l4(was))
        MUST(after.l4 == before->l4);
    if (was->has_l4) /* none stays none, and nothing else becomes none */
        MUST(udp_without_checksum(was, was->l4, was->tuple.proto) ==
             udp_without_checksum(p, p->l4, p->tuple.proto));
    if (!inner)
        return;
    if (was->inner_has_checksum)
        MUST(udp_without_checksum(was, was->inner_l4, was->inner.proto) ==
             udp_without_checksum(p, p->inner_l4, p->inner.proto));
    MUST(after.l4 == before->l4); /* the error's own checksum covers what it quotes */
    MUST(after.inner_ip == before->inner_ip);
    if (p->inner_has_checksum && !udp_without_checksum(was, was->inner_l4, was->inner.proto))
        MUST(after.inner_l4 == before->inner_l4);
}

typedef void (*setter)(struct packet *p, const struct packet_addr *addr, uint16_t port);

static void try_setter(struct trial *t, setter set, bool inner, const uint8_t spare[6])
{
    uint16_t port;
    memcpy(&port, spare + 4, 2);
    if (begin(t) != PACKET_OK || (inner && !t->p.is_icmp_error)) {
        end(t);
        return;
    }
    struct packet was = t->p;
    uint8_t *copy = guarded_copy(was.data, was.len);
    struct sums before = sums(&was);
    struct packet_addr a = address(&was, spare);
    was.data = copy;
    set(&t->p, &a, port);
    check_sums(&was, &t->p, &before, inner);
    check_reparse(t, &was);
    free(copy);
    end(t);
}

static void try_ttl(struct trial *t)
{
    if (begin(t) == PACKET_OK) {
        struct packet was = t->p;
        uint32_t at = was.l3 + (was.is_ipv6 ? 7 : 8);
        uint8_t ttl = was.data[at];
        struct sums before = sums(&was);
        bool done = packet_decrement_ttl(&t->p);
        MUST(done == (ttl > 1));
        MUST(t->p.data[at] == (done ? ttl - 1 : ttl));
        MUST(sums(&t->p).ip == before.ip);
        check_reparse(t, &was);
    }
    end(t);
}

static void try_icmp_error(struct trial *t, uint8_t code, const uint8_t spare[6])
{
    if (begin(t) == PACKET_OK) {
        struct packet was = t->p;
        uint32_t v4;
        memcpy(&v4, spare, 4);
        struct packet_addr from = packet_ipv4(v4);
        ASAN_UNPOISON_MEMORY_REGION(t->p.data, t->room); /* it may grow into its room */
        if (packet_make_icmp_error(&t->p, 3, code, 0, &from)) {
            MUST(!was.is_icmp_error && !was.is_later_fragment && !was.is_ipv6);
            MUST(t->p.is_icmp_error && t->p.len <= ETHER + 576 && t->p.len <= t->room);
            MUST(sums(&t->p).ip == 0 && sums(&t->p).l4 == 0);
            MUST(memcmp(&t->p.tuple.dst, &was.tuple.src, 16) == 0);
            MUST(memcmp(&t->p.inner.src, &was.tuple.src, 16) == 0);
            MUST(memcmp(&t->p.inner.dst, &was.tuple.dst, 16) == 0);
            MUST(t->p.inner.proto == was.tuple.proto);
            MUST(!packet_make_icmp_error(&t->p, 3, code, 0, &from)); /* never about an error */
        }
    }
    end(t);
}

static void check_hash(const struct packet *p)
{
    struct packet turned = *p;
    struct packet_tuple *t = p->is_icmp_error ? &turned.inner : &turned.tuple;
    const struct packet_tuple *f = p->is_icmp_error ? &p->inner : &p->tuple;
    t->src = f->dst, t->dst = f->src;
    t->src_port = f->dst_port, t->dst_port = f->src_port;
    MUST(packet_symmetric_hash(&turned) == packet_symmetric_hash(p));
}

static void try_all(struct trial *t, const uint8_t *control)
{
    static const struct { setter set; bool inner; } setters[] = {
        {packet_set_src, false}, {packet_set_dst, false},
        {packet_set_inner_src, true}, {packet_set_inner_dst, true}};
    enum packet_fault fault = begin(t);
    MUST(fault < PACKET_FAULT_END && *packet_fault_text(fault));
    if (fault == PACKET_OK) {
        check_offsets(&t->p);
        check_hash(&t->p);
    }
    end(t);
    if (fault != PACKET_OK)
        return;
    for (size_t i = 0; i < sizeof setters / sizeof setters[0]; i++)
        try_setter(t, setters[i].set, setters[i].inner, control + 2);
    try_ttl(t);
    try_icmp_error(t, control[0] >> 4, control + 2);
}

/* --- mending: mutations should reach what is behind the IP checksum -------------------- */

static void mend_ipv4(uint8_t *frame, uint32_t len, bool total_too)
{
    uint8_t *ip = frame + ETHER;
    if (len < ETHER + 20 || frame[12] != 8 || frame[13] != 0)
        return;
    uint32_t header = (ip[0] & 15) * 4u;
    if (header < 20 || ETHER + header > len)
        return;
    if (total_too) {
        ip[2] = (uint8_t)((len - ETHER) >> 8);
        ip[3] = (uint8_t)(len - ETHER);
    }
    ip[10] = ip[11] = 0;
    uint32_t sum = 65535 - sum_of(ip, header);
    ip[10] = (uint8_t)(sum >> 8);
    ip[11] = (uint8_t)sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < CONTROL_BYTES || size > 4096)
        return 0;
    uint32_t len = (uint32_t)size - CONTROL_BYTES;
    uint8_t *frame = guarded_copy(data + CONTROL_BYTES, len);
    struct trial t = {.frame = frame, .len = len, .room = len + data[1], .side = data[0] & 1};
    try_all(&t, data);
    mend_ipv4(frame, len, data[0] & 2);
    try_all(&t, data);
    free(frame);
    return 0;
}
