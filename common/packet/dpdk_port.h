/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DPDK ports the way Lethe opens them: one rx and one tx queue, found by name
 * (a vdev that fails is not fatal to rte_eal_init and shifts the numbers), the
 * MTU and mbuf room checked, partial checksums and super-packets refused or
 * counted. Only programs that use DPDK link this file.
 */
#ifndef LETHE_PACKET_DPDK_PORT_H
#define LETHE_PACKET_DPDK_PORT_H

#include <stdbool.h>
#include <stdint.h>

struct rte_mempool;

/* Starts EAL for a program of ours: --in-memory or --no-huge -m <mb>, no PCI,
 * no telemetry, lcores '0@(0-1)'. hugepages used if there. `vdevs`: arguments
 * of --vdev, NULL-ended, may be NULL. 0 or -errno and a sentence. */
int dpdk_start(const char *program, const char *const *vdevs, uint32_t memory_mb, char *err,
               uint32_t err_len);

/* Opens and starts the port of device `name` ("net_memif3"). Returns the port
 * number, or -errno and a sentence saying what to do (busy interface, missing
 * CAP_NET_RAW, ...). */
int dpdk_port_open(const char *name, struct rte_mempool *pool, uint16_t rx_descs,
                   uint16_t tx_descs, char *err, uint32_t err_len);
/* Creates a vdev at run time and opens it. */
int dpdk_port_add(const char *name, const char *args, struct rte_mempool *pool, uint16_t rx_descs,
                  uint16_t tx_descs, char *err, uint32_t err_len);
/* The same of a site's "device,key=value,...", and its MAC. */
int dpdk_port_add_device(const char *device, struct rte_mempool *pool, uint16_t rx_descs,
                         uint16_t tx_descs, uint8_t mac[6], char *err, uint32_t err_len);
void dpdk_port_remove(uint16_t port);

/* The descriptor a port's packets arrive on (af_packet, af_xdp), to ppoll; -1
 * if it has none (memif). `iface`: its kernel interface. */
int dpdk_port_fd(const char *iface);

/*
 * A loop brackets its bursts (and everything else it does to ports) with these
 * two, and does not sleep inside. The memif driver unmaps a dead peer's rings
 * on EAL's own interrupt thread, at any moment; a burst running at that moment
 * would crash. That thread therefore waits until no loop is inside. One
 * datapath thread per process. Costs an uncontended lock per round.
 */
void dpdk_poll_begin(void);
void dpdk_poll_end(void);

/* ethtool's view of a kernel interface: 0 if tx checksum offload and gro are
 * off at it; otherwise a sentence with the ethtool command that mends it. On
 * veth a peer's offloads show as partial checksums: these are counted at rx. */
int dpdk_check_offloads(const char *iface, char *err, uint32_t err_len);

#endif
