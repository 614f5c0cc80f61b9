/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Flows and end points as people write them, and back:
 *
 *   address     10.1.0.5, 2001:db8::1
 *   end point   10.1.0.5:40000, [2001:db8::1]:40000
 *   flow        tcp 10.1.0.5:40000 > 192.0.2.80:80; ICMP: the identifier, twice
 *
 * What is written is read back as the same bytes. Pure. Readers take nothing but the whole text and
 * leave their result alone if it is wrong.
 */
#ifndef LETHE_PACKET_TEXT_H
#define LETHE_PACKET_TEXT_H

#include "common/packet/packet.h"

enum { PACKET_ADDR_TEXT = 48, PACKET_END_TEXT = 56, PACKET_FLOW_TEXT = 128 };

/* Ports in network order. */
void packet_addr_text(const struct packet_addr *a, char to[PACKET_ADDR_TEXT]);
void packet_end_text(const struct packet_addr *a, uint16_t port, char to[PACKET_END_TEXT]);
void packet_flow_text(const struct packet_tuple *f, char to[PACKET_FLOW_TEXT]);
bool packet_addr_read(const char *text, struct packet_addr *a);
bool packet_port_read(const char *text, uint16_t *port);
bool packet_end_read(const char *text, struct packet_addr *a, uint16_t *port);
bool packet_flow_read(const char *text, struct packet_tuple *f);

/* "tcp", "udp", "icmp", else the number. */
void packet_proto_text(uint8_t proto, char to[8]);
bool packet_proto_read(const char *text, uint8_t *proto);

#endif
