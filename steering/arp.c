/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ARP of one side. See arp.h. Offsets are of RFC 826's fields in an Ethernet
 * frame carrying IPv4.
 */
#include "steering/arp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ETH_DST = 0, ETH_SRC = 6, ETH_TYPE = 12, HTYPE = 14, OPER = 20, SHA = 22, SPA = 28,
       THA = 32, TPA = 38, ARP_END = 42 };
enum { OP_REQUEST = 1, OP_REPLY = 2 };

static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
/* Ethernet type ARP; hardware Ethernet, protocol IPv4, lengths 6 and 4 */
static const uint8_t constant[8] = {0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4};

/* --- configuration --------------------------------------------------------------- */

static int parse_address(const char *key, const char *text, uint32_t *out, char *err,
                         uint32_t err_len)
{
    if (text != NULL && inet_pton(AF_INET, text, out) == 1)
        return 0;
    snprintf(err, err_len, "%s: '%s' is not an IPv4 address; write it like 10.0.0.1", key,
             text == NULL ? "" : text);
    return -EINVAL;
}

static int parse_prefix(struct arp *a, const char *text, char *err, uint32_t err_len)
{
    char address[32], *end = NULL;
    const char *slash = strchr(text, '/');
    size_t n = slash != NULL ? (size_t)(slash - text) : strlen(text);
    unsigned long bits = slash != NULL ? strtoul(slash + 1, &end, 10) : 32;
    uint32_t prefix;
    snprintf(address, sizeof(address), "%.*s", n < sizeof(address) ? (int)n : 0, text);
    if (inet_pton(AF_INET, address, &prefix) != 1 || bits > 32 ||
        (slash != NULL && (slash[1] < '0' || slash[1] > '9' || *end != '\0'))) {
        snprintf(err, err_len,
                 "serves: '%s' is no IPv4 address or prefix; write 203.0.113.1 or 203.0.113.0/28",
                 text);
        return -EINVAL;
    }
    uint32_t mask = bits == 0 ? 0 : htonl(0xffffffffu << (32 - bits));
    if ((prefix & ~mask) != 0) {
        snprintf(err, err_len, "serves: '%s' has bits set behind its prefix length", text);
        return -EINVAL;
    }
    a->serves[a->serves_count].prefix = prefix;
    a->serves[a->serves_count++].mask = mask;
    return 0;
}

int arp_init(struct arp *a, const char *address, const char *next_hop, char *const *serves,
             unsigned serves_count, char *err, uint32_t err_len)
{
    struct arp made;
    memset(&made, 0, sizeof(made));
    if (parse_address("address", address, &made.address, err, err_len) < 0 ||
        parse_address("next_hop", next_hop, &made.next_hop, err, err_len) < 0)
        return -EINVAL;
    if (serves_count > ARP_SERVES_MAX) {
        snprintf(err, err_len, "serves: %u entries, at most %d are possible: use prefixes",
                 serves_count, ARP_SERVES_MAX);
        return -EINVAL;
    }
    for (unsigned i = 0; i < serves_count; i++)
        if (parse_prefix(&made, serves[i], err, err_len) < 0)
            return -EINVAL;
    *a = made;
    return 0;
}

/* --- frames ------------------------------------------------------------------------ */

static void build(const struct arp *a, uint8_t *frame, uint16_t op, const uint8_t dst[6],
                  const uint8_t target_mac[6], uint32_t sender, uint32_t target)
{
    memset(frame, 0, ARP_FRAME_BYTES);
    memcpy(frame + ETH_DST, dst, 6);
    memcpy(frame + ETH_SRC, a->mac, 6);
    memcpy(frame + ETH_TYPE, constant, sizeof(constant));
    frame[OPER + 1] = (uint8_t)op;
    memcpy(frame + SHA, a->mac, 6);
    memcpy(frame + SPA, &sender, 4);
    memcpy(frame + THA, target_mac, 6);
    memcpy(frame + TPA, &target, 4);
}

static bool serves(const struct arp *a, uint32_t address)
{
    if (address == a->address)
        return true;
    for (unsigned i = 0; i < a->serves_count; i++)
        if ((address & a->serves[i].mask) == a->serves[i].prefix)
            return true;
    return false;
}

static bool well_formed(const uint8_t *frame, uint32_t len)
{
    return len >= ARP_END && memcmp(frame + ETH_TYPE, constant, sizeof(constant)) == 0 &&
           frame[OPER] == 0 && (frame[OPER + 1] == OP_REQUEST || frame[OPER + 1] == OP_REPLY) &&
           (frame[SHA] & 1) == 0; /* a station's own address is no multicast */
}

enum arp_result arp_receive(struct arp *a, const uint8_t *frame, uint32_t len, uint64_t now_us,
                            uint8_t reply[ARP_FRAME_BYTES])
{
    uint32_t sender, target;
    bool learned = false;
    if (!well_formed(frame, len))
        return ARP_MALFORMED;
    memcpy(&sender, frame + SPA, 4);
    memcpy(&target, frame + TPA, 4);
    if (memcmp(frame + SHA, a->mac, 6) == 0)
        return ARP_IGNORED; /* our own, come back */
    if (sender == a->address)
        return ARP_CONFLICT;
    if (sender == a->next_hop) {
        memcpy(a->next_hop_mac, frame + SHA, 6);
        a->resolved = learned = true;
        a->heard_us = now_us;
    }
    /* sender == target is an announcement; the next hop's address is never ours
     * to answer for, whatever prefix contains it. */
    if (frame[OPER + 1] == OP_REQUEST && sender != target && target != a->next_hop &&
        serves(a, target)) {
        build(a, reply, OP_REPLY, frame + SHA, frame + SHA, target, sender);
        return ARP_ANSWERED;
    }
    return learned ? ARP_LEARNED : ARP_IGNORED;
}

bool arp_poll(struct arp *a, uint64_t now_us, uint8_t request[ARP_FRAME_BYTES])
{
    static const uint8_t unknown[6];
    uint64_t gap = a->resolved ? ARP_REFRESH_RETRY_US : ARP_RETRY_US;
    if (a->resolved && now_us - a->heard_us < ARP_REFRESH_US)
        return false;
    if (a->asked_us != 0 && now_us - a->asked_us < gap)
        return false;
    a->asked_us = now_us;
    build(a, request, OP_REQUEST, broadcast, unknown, a->address, a->next_hop);
    return true;
}
