/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kernel's half of a tunnel's end. The interface and its address stay the
 * kernel's: it answers ARP, routes, has other connections there. Ours is one
 * UDP port of that address.
 *
 * A socket is bound to it, with a filter that takes nothing: so the kernel finds
 * somebody there and sends no ICMP "port unreachable" for what DPDK reads
 * beside it (af_packet sees copies), and nobody else can have the port. A
 * worker's first packets go out by it, for the kernel knows next hops and MACs.
 * The packet socket of the DPDK port gets a filter, too: it is woken for
 * that address and UDP port alone.
 *
 * Packets for the address may come by other interfaces of the host as well, a bridge
 * of its containers for one. The one socket holds the port for all of them; each such
 * interface has a DPDK port and a struct underlay of its own (underlay_look_beside).
 *
 * Control time; any thread.
 */
#ifndef LETHE_PACKET_UNDERLAY_H
#define LETHE_PACKET_UNDERLAY_H

#include <stdbool.h>
#include <stdint.h>

enum { UNDERLAY_MTU_MIN = 576, UNDERLAY_IFACE_BYTES = 32 };

struct underlay {
    char iface[UNDERLAY_IFACE_BYTES];
    uint32_t address;          /* network order */
    uint16_t udp_port;
    uint32_t mtu;              /* the interface's, or what frames and buffers of the port hold */
    int fd;                    /* bound; -1: none */
};

/* `device`: "net_af_packet2,iface=eth1,...". `address`: "10.9.0.1", NULL: the
 * interface's first. `room`: bytes of a packet buffer. Sets all but fd. 0, or -errno and a sentence. */
int underlay_look(struct underlay *u, const char *device, const char *address, uint16_t udp_port,
                  uint32_t room, char *err, uint32_t err_len);
/* Another interface where packets for the same address come in. The same errors; -ENODEV: it is not there. */
int underlay_look_beside(struct underlay *u, const struct underlay *first, const char *device, uint32_t room,
                         char *err, uint32_t err_len);

/* What must stay as it is while a DPDK port has the interface open. */
struct underlay_facts {
    unsigned index;            /* 0: there is no such interface */
    uint32_t mtu;
    uint8_t mac[6];
    bool up;
};
void underlay_find(const char *iface, struct underlay_facts *f);
/* Takes the UDP port. */
int underlay_hold(struct underlay *u, char *err, uint32_t err_len);
void underlay_close(struct underlay *u);
/* For the DPDK port's packet socket. 0 or -errno. */
int underlay_filter(const struct underlay *u, int packet_fd);

/* What the kernel knows of the way to a host, its MTU (RFC 1191 included); 0: there is no way. */
uint32_t underlay_path_mtu(const struct underlay *u, uint32_t address);
/* Sends to the same UDP port of a host, DF set. 0 or -errno (-EMSGSIZE: look at the path's MTU). */
int underlay_send(const struct underlay *u, uint32_t address, const void *payload, uint32_t len);

#endif
