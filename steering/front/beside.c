/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The tunnel's further interfaces (steering.tunnel.more_ports): not there yet when steering
 * starts, deleted, made again. The aide's thread only; awaited.h says what is done when, and who
 * owns a port meanwhile. The datapath's part is tunnel_tick.
 *
 * A port whose interface went away is closed, never used again: af_packet's socket stays bound to
 * what is no more. Until then it neither gives nor takes packets, which does no harm: probes
 * are lost, and its workers are taken out. DPDK sets the interface's MAC to what it is, so a
 * bridge's does not follow its containers' from then on.
 */
#include "steering/front/steer.h"

#include <stdio.h>
#include <string.h>

#include "common/log/log.h"
#include "common/packet/dpdk_port.h"

/* Once, until it changes. */
static void say_awaited(struct beside *b, const char *iface)
{
    if (!b->said)
        log_info("tunnel interface awaited", "interface=%s it is used as soon as it is there, and up", iface);
    b->said = true;
}

static void open_port(struct steer *s, struct tunnel_by *by, const char *device,
                      const struct underlay_facts *now)
{
    struct beside *b = &by->beside;
    struct underlay u;
    char err[ERR_BYTES];
    int rc = underlay_look_beside(&u, &s->tunnel.by[0].under, device, s->room, err, sizeof(err));
    if (rc == 0)
        rc = tunnel_open_port(s, device, &u, &b->port, &b->fd, b->mac, err, sizeof(err));
    if (rc < 0) {
        if (!b->said)
            log_warn("tunnel interface cannot be used", "interface=%s tried again each second: %s",
                     by->under.iface, err);
        b->said = true;
        return;
    }
    b->said = false;
    b->mtu = u.mtu;
    b->opened = *now;
    log_info("tunnel interface in use", "interface=%s mtu=%u", by->under.iface, u.mtu);
    __atomic_store_n(&b->state, AWAITED_OFFERED, __ATOMIC_RELEASE); /* tunnel_tick */
}

static void tend(struct steer *s, struct tunnel_by *by, const char *device)
{
    struct beside *b = &by->beside;
    int state = __atomic_load_n(&b->state, __ATOMIC_ACQUIRE); /* tunnel_tick */
    struct underlay_facts now;
    const char *cause;
    underlay_find(by->under.iface, &now);
    switch (awaited_next((enum awaited_state)state, &b->opened, &now, &cause)) {
    case AWAITED_NOTHING:
        if (state == AWAITED_CLOSED)
            say_awaited(b, by->under.iface);
        break;
    case AWAITED_OPEN:
        open_port(s, by, device, &now);
        break;
    case AWAITED_RECALL:
        log_warn("tunnel interface lost", "interface=%s cause=\"%s\"", by->under.iface, cause);
        __atomic_store_n(&b->state, AWAITED_RECALLED, __ATOMIC_RELEASE);
        break;
    case AWAITED_CLOSE:
        dpdk_port_remove((uint16_t)b->port);
        b->port = b->fd = -1;
        __atomic_store_n(&b->state, AWAITED_CLOSED, __ATOMIC_RELEASE);
        s->tunnel.look_us = 0; /* it may be there again */
        break;
    }
}

void beside_tend(struct steer *s)
{
    struct tunnel *t = &s->tunnel;
    if (!__atomic_load_n(&t->tended, __ATOMIC_ACQUIRE))
        return;
    uint64_t now_us = monotonic_us();
    bool look = now_us >= t->look_us;
    if (look)
        t->look_us = now_us + BESIDE_LOOK_MS * 1000;
    for (unsigned i = 1; i < t->by_n; i++)
        if (look || __atomic_load_n(&t->by[i].beside.state, __ATOMIC_ACQUIRE) == AWAITED_RETURNED)
            tend(s, &t->by[i], s->front.tunnel.more_ports[i - 1]);
}
