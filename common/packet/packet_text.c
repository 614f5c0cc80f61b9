/* SPDX-License-Identifier: BSD-3-Clause */
/* See packet_text.h. */
#include "common/packet/packet_text.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
static const struct { const char *name; uint8_t number; } protos[] = {
    {"icmp", 1}, {"tcp", 6}, {"udp", 17}};
enum { PROTOS = sizeof protos / sizeof protos[0] };

/* --- writing ----------------------------------------------------------------------------- */

static bool is_v4(const struct packet_addr *a)
{
    return !memcmp(a->b, mapped, sizeof mapped);
}

void packet_addr_text(const struct packet_addr *a, char to[PACKET_ADDR_TEXT])
{
    if (is_v4(a))
        inet_ntop(AF_INET, a->b + 12, to, PACKET_ADDR_TEXT);
    else
        inet_ntop(AF_INET6, a->b, to, PACKET_ADDR_TEXT);
}

void packet_end_text(const struct packet_addr *a, uint16_t port, char to[PACKET_END_TEXT])
{
    char text[PACKET_ADDR_TEXT];
    packet_addr_text(a, text);
    snprintf(to, PACKET_END_TEXT, is_v4(a) ? "%s:%u" : "[%s]:%u", text, ntohs(port));
}

void packet_proto_text(uint8_t proto, char to[8])
{
    snprintf(to, 8, "%u", proto);
    for (int i = 0; i < PROTOS; i++)
        if (protos[i].number == proto)
            snprintf(to, 8, "%s", protos[i].name);
}

void packet_flow_text(const struct packet_tuple *f, char to[PACKET_FLOW_TEXT])
{
    char proto[8], src[PACKET_END_TEXT], dst[PACKET_END_TEXT];
    packet_proto_text(f->proto, proto);
    packet_end_text(&f->src, f->src_port, src);
    packet_end_text(&f->dst, f->dst_port, dst);
    snprintf(to, PACKET_FLOW_TEXT, "%s %s > %s", proto, src, dst);
}

/* --- reading ----------------------------------------------------------------------------- */

static bool number(const char *text, unsigned long most, unsigned long *n)
{
    size_t digits = strspn(text, "0123456789");
    if (!digits || digits > 5 || text[digits])
        return false;
    *n = strtoul(text, NULL, 10);
    return *n <= most;
}

bool packet_addr_read(const char *text, struct packet_addr *a)
{
    struct packet_addr v4;
    memcpy(v4.b, mapped, sizeof mapped);
    if (inet_pton(AF_INET, text, v4.b + 12) == 1) {
        *a = v4;
        return true;
    }
    return inet_pton(AF_INET6, text, a->b) == 1;
}

bool packet_port_read(const char *text, uint16_t *port)
{
    unsigned long n;
    if (!number(text, 65535, &n))
        return false;
    *port = htons((uint16_t)n);
    return true;
}

bool packet_proto_read(const char *text, uint8_t *proto)
{
    unsigned long n;
    for (int i = 0; i < PROTOS; i++)
        if (!strcmp(text, protos[i].name)) {
            *proto = protos[i].number;
            return true;
        }
    if (!number(text, 255, &n))
        return false;
    *proto = (uint8_t)n;
    return true;
}

bool packet_end_read(const char *text, struct packet_addr *a, uint16_t *port)
{
    char address[PACKET_ADDR_TEXT];
    struct packet_addr read;
    bool bracket = *text == '[';
    const char *begin = text + bracket, *end = bracket ? strchr(begin, ']') : strrchr(begin, ':');
    size_t n = end ? (size_t)(end - begin) : 0;
    if (!n || n >= sizeof address || end[bracket] != ':' || (!bracket && memchr(begin, ':', n)))
        return false;
    memcpy(address, begin, n);
    address[n] = 0;
    if (!packet_addr_read(address, &read) || !packet_port_read(end + bracket + 1, port))
        return false;
    *a = read;
    return true;
}

bool packet_flow_read(const char *text, struct packet_tuple *f)
{
    char words[4][PACKET_FLOW_TEXT];
    struct packet_tuple read = {.proto = 0};
    char end;
    if (strlen(text) >= PACKET_FLOW_TEXT ||
        sscanf(text, "%127s %127s %127s %127s%c", words[0], words[1], words[2], words[3], &end) != 4 ||
        strcmp(words[2], ">") != 0 || !packet_proto_read(words[0], &read.proto) ||
        !packet_end_read(words[1], &read.src, &read.src_port) ||
        !packet_end_read(words[3], &read.dst, &read.dst_port))
        return false;
    *f = read;
    return true;
}
