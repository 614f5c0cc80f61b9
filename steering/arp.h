/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ARP (RFC 826) of one side of steering: answers for its own address and for
 * the addresses and prefixes it serves, and keeps the MAC address of the next
 * hop. Frames in, frames out; no I/O, no clock of its own; one thread.
 *
 * The next hop's MAC is learnt from any ARP it sends; asked for every
 * ARP_RETRY_US until known, and again ARP_REFRESH_US after it was last heard.
 * A next hop that falls silent keeps its last MAC: sending to an address that
 * may be stale is better than dropping.
 */
#ifndef LETHE_STEERING_ARP_H
#define LETHE_STEERING_ARP_H

#include <stdbool.h>
#include <stdint.h>

enum {
    ARP_FRAME_BYTES = 60, ARP_SERVES_MAX = 64, ARP_RETRY_US = 200000, ARP_REFRESH_US = 10000000,
    ARP_REFRESH_RETRY_US = 1000000,
};

struct arp {
    uint32_t address, next_hop;                 /* network order */
    uint8_t mac[6], next_hop_mac[6];
    bool resolved;
    uint64_t heard_us, asked_us;                /* of the next hop; 0: never */
    unsigned serves_count;
    struct { uint32_t prefix, mask; } serves[ARP_SERVES_MAX]; /* network order */
};

#define ARP_RESULTS(X)                                                         \
    X(ARP_IGNORED, "ignored")       /* for somebody else */                    \
    X(ARP_ANSWERED, "answered")     /* `reply` holds a frame to send */        \
    X(ARP_LEARNED, "learned")       /* the next hop's MAC, new or the same */  \
    X(ARP_CONFLICT, "conflict")     /* somebody else uses our own address */   \
    X(ARP_MALFORMED, "malformed")
enum arp_result {
#define X(name, text) name,
    ARP_RESULTS(X)
#undef X
        ARP_RESULT_END
};

/* `serves`: addresses "a.b.c.d" and prefixes "a.b.c.d/len". 0, or -EINVAL and a
 * sentence that says what to write. The MAC is set later, by the caller. */
int arp_init(struct arp *a, const char *address, const char *next_hop, char *const *serves,
             unsigned serves_count, char *err, uint32_t err_len);

/* A whole Ethernet frame of type 0x0806. A request of the next hop may be both
 * learnt from and answered: it is then ARP_ANSWERED. */
enum arp_result arp_receive(struct arp *a, const uint8_t *frame, uint32_t len, uint64_t now_us,
                            uint8_t reply[ARP_FRAME_BYTES]);
/* True: `request` holds a frame to send. now_us > 0. */
bool arp_poll(struct arp *a, uint64_t now_us, uint8_t request[ARP_FRAME_BYTES]);

#endif
