/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets for tests: forged byte by byte from a description, and checked by
 * recomputing every checksum from nothing. It shares no arithmetic with the
 * code under test on purpose: sums here are taken over big-endian words, a
 * byte at a time, and headers are found anew. IPv4 only; slow.
 */
#ifndef LETHE_PACKET_FORGE_H
#define LETHE_PACKET_FORGE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define IP4(a, b, c, d)                                                                            \
    ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))

enum { FORGE_ROOM = 2048, FORGE_ETHER = 14 };

struct forge {
    uint32_t src, dst;     /* host order, by IP4() */
    uint16_t sport, dport; /* host order; ICMP echo: sport is the identifier */
    uint8_t proto;         /* 1, 6, 17, or anything */
    uint8_t ttl;           /* 0: 64 */
    uint8_t flags;         /* TCP */
    uint8_t type, code;    /* ICMP */
    uint8_t options;       /* bytes of IP options (NOPs), multiple of 4 */
    uint16_t frag;         /* the fragment field as it stands in the header */
    uint16_t id;
    uint16_t data;       /* bytes of payload behind the L4 header */
    uint16_t udp_length; /* 0: right */
    bool no_checksum;    /* UDP: 0 */
    bool real_ttl_0;
    uint32_t rest;        /* ICMP errors: bytes 4..7 */
    const uint8_t *quote; /* ICMP errors: what is quoted, an IP packet */
    uint16_t quote_len;
};

static inline void forge_be16(uint8_t *at, uint32_t v)
{
    at[0] = (uint8_t)(v >> 8);
    at[1] = (uint8_t)v;
}
static inline void forge_be32(uint8_t *at, uint32_t v)
{
    forge_be16(at, v >> 16);
    forge_be16(at + 2, v);
}
static inline uint32_t forge_get16(const uint8_t *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}
static inline uint32_t forge_get32(const uint8_t *at)
{
    return forge_get16(at) << 16 | forge_get16(at + 2);
}

/* One's complement sum of big-endian words, end-around carry at every step. */
static inline uint32_t forge_sum(uint32_t sum, const uint8_t *at, uint32_t len)
{
    for (uint32_t i = 0; i < len; i += 2) {
        sum += (uint32_t)at[i] << 8 | (i + 1 < len ? at[i + 1] : 0);
        if (sum > 0xffff)
            sum -= 0xffff;
    }
    return sum;
}

/* The sum of an L4 segment of an IPv4 packet, pseudo-header included unless ICMP. */
static inline uint32_t forge_l4_sum(const uint8_t *ip, const uint8_t *l4, uint32_t len)
{
    uint8_t pseudo[12] = {0};

    if (ip[9] == 1)
        return forge_sum(0, l4, len);
    memcpy(pseudo, ip + 12, 8);
    pseudo[9] = ip[9];
    forge_be16(pseudo + 10, len);
    return forge_sum(forge_sum(0, pseudo, 12), l4, len);
}

static inline uint32_t forge_checksum_at(uint8_t proto)
{
    return proto == 6 ? 16 : proto == 17 ? 6 : 2;
}

static inline uint32_t forge_l4(const struct forge *f, uint8_t *l4)
{
    uint32_t header = f->proto == 6 ? 20 : f->proto == 17 || f->proto == 1 ? 8 : 0;

    memset(l4, 0, header);
    if (f->proto == 6) {
        forge_be32(l4 + 4, 0x01020304);
        l4[12] = 0x50;
        l4[13] = f->flags;
        forge_be16(l4 + 14, 4096);
    }
    if (f->proto == 6 || f->proto == 17) {
        forge_be16(l4, f->sport);
        forge_be16(l4 + 2, f->dport);
    }
    if (f->proto == 17)
        forge_be16(l4 + 4, f->udp_length ? f->udp_length : 8u + f->data);
    if (f->proto == 1) {
        l4[0] = f->type;
        l4[1] = f->code;
        forge_be16(l4 + 4, f->sport);
        forge_be16(l4 + 6, 7);
        if (f->quote)
            forge_be32(l4 + 4, f->rest);
    }
    if (f->quote)
        memcpy(l4 + header, f->quote, f->quote_len);
    else
        for (uint32_t i = 0; i < f->data; i++)
            l4[header + i] = (uint8_t)(i * 7 + f->id);
    return header + (f->quote ? f->quote_len : f->data);
}

/* Writes the Ethernet frame; returns its length. buf has FORGE_ROOM bytes. */
static inline uint32_t forge_frame(const struct forge *f, uint8_t *buf)
{
    static const uint8_t macs[12] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
    uint8_t *ip = buf + FORGE_ETHER, *l4;
    uint32_t header = 20u + f->options, len, sum;

    memcpy(buf, macs, 12);
    forge_be16(buf + 12, 0x0800);
    memset(ip, 0, 20);
    memset(ip + 20, 1, f->options);
    l4 = ip + header;
    len = forge_l4(f, l4);
    ip[0] = (uint8_t)(0x40 | header / 4);
    forge_be16(ip + 2, header + len);
    forge_be16(ip + 4, f->id);
    forge_be16(ip + 6, f->frag);
    ip[8] = f->ttl || f->real_ttl_0 ? f->ttl : 64;
    ip[9] = f->proto;
    forge_be32(ip + 12, f->src);
    forge_be32(ip + 16, f->dst);
    forge_be16(ip + 10, ~forge_sum(0, ip, header) & 0xffff);
    if ((f->proto == 1 || f->proto == 6 || f->proto == 17) && !f->no_checksum &&
        !(f->frag & 0x1fff)) {
        sum = ~forge_l4_sum(ip, l4, len) & 0xffff;
        if (f->proto == 17 && sum == 0)
            sum = 0xffff;
        forge_be16(l4 + forge_checksum_at(f->proto), sum);
    }
    return FORGE_ETHER + header + len;
}

/* The checksums of the IPv4 packet at ip: NULL, or what is wrong. A quoted
 * packet (`quoted`) may be cut short: then its L4 checksum cannot be checked. */
static inline const char *forge_check_ip(const uint8_t *ip, uint32_t there, bool quoted)
{
    uint32_t header = (ip[0] & 15) * 4u, total, sum;
    const uint8_t *l4 = ip + header;

    if (there < 20 || there < header)
        return "IP header cut short";
    if (forge_sum(0, ip, header) != 0xffff)
        return quoted ? "quoted IP checksum" : "IP checksum";
    total = forge_get16(ip + 2);
    if (total > there && !quoted)
        return "IP total length";
    if (total > there || forge_get16(ip + 6) & 0x3fff || (ip[9] != 1 && ip[9] != 6 && ip[9] != 17))
        return NULL;
    if (ip[9] == 17 && forge_get16(l4 + 6) == 0)
        return NULL;
    sum = forge_l4_sum(ip, l4, total - header);
    if (sum != 0xffff)
        return quoted ? "quoted L4 checksum" : "L4 checksum";
    if (ip[9] == 1 && (l4[0] == 3 || l4[0] == 11 || l4[0] == 12) && !quoted)
        return forge_check_ip(l4 + 8, total - header - 8, true);
    return NULL;
}

static inline const char *forge_check(const uint8_t *frame, uint32_t len)
{
    if (len < FORGE_ETHER + 20 || forge_get16(frame + 12) != 0x0800)
        return "not an IPv4 frame";
    return forge_check_ip(frame + FORGE_ETHER, len - FORGE_ETHER, false);
}

/* splitmix64: the tests' randomness; print the seed when something fails. */
static inline uint64_t forge_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

#endif
