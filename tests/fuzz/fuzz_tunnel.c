/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What comes by the tunnel, at both of its ends: the outer headers, joining
 * messages, and the two judgements of these.
 *
 *   input: [control byte] [frame ...]
 *
 * Control bit 0: the outer IP checksum is mended; bit 1: a message inside is
 * signed, so that mutations reach what stands behind the tag.
 */
#include "tests/fuzz/fuzz.h"

#include "common/packet/packet.h"
#include "common/packet/vxlan.h"
#include "nf/worker/fronts.h"

enum { IP_AT = 14, FRONT = 5, NOW_US = 20 * 1000 * 1000 };

static const uint8_t key[PROBE_KEY_BYTES] = {1, 2, 3};
static const uint8_t mac[6] = {2, 0, 0, 0, 0, 9};

static void mend_checksum(uint8_t *frame, size_t size)
{
    uint32_t header = size > IP_AT ? (frame[IP_AT] & 15) * 4u : 0;
    if (header < 20 || IP_AT + header > size)
        return;
    memset(frame + IP_AT + 10, 0, 2);
    uint16_t sum = checksum_fold(checksum_add(0, frame + IP_AT, header));
    memcpy(frame + IP_AT + 10, &sum, 2);
}

/* Steering's end: a genuine message is fresh once, and never again. */
static void judge(const struct tunnel_message *m)
{
    struct tunnel_seen seen = {0};
    MUST(strlen(m->name) < sizeof(m->name) && worker_name_is_good(m->name));
    MUST(*tunnel_reason_text(m->reason) || m->reason == TUNNEL_NO_REASON);
    if (tunnel_judge(&seen, m, FRONT, 0, NOW_US) != TUNNEL_FRESH)
        return;
    MUST(m->front == FRONT && m->issued_us <= NOW_US);
    seen = (struct tunnel_seen){.issued_us = m->issued_us, .seq = m->seq};
    MUST(tunnel_judge(&seen, m, FRONT, 0, NOW_US) == TUNNEL_STALE);
    MUST(tunnel_judge(&seen, m, FRONT, m->issued_us + 1, NOW_US) == TUNNEL_UNKNOWN_TIME);
    MUST(tunnel_judge(&seen, m, FRONT + 1, 0, NOW_US) == TUNNEL_UNKNOWN_TIME);
}

/* The worker's end: nothing that is not an answer to what it asked changes anything. */
static void hear(const struct tunnel_message *m, uint32_t bytes, bool genuine)
{
    struct fronts all = {.n = 1, .name = "w1", .weight = 100, .incarnation = 77, .silent_us = 1, .wants = true};
    struct front *f = &all.at[0], was;
    struct tunnel_message asked;
    uint32_t frame_bytes;
    memcpy(all.key, key, sizeof(all.key));
    MUST(front_due(&all, f, 1500, NOW_US, &asked, &frame_bytes));
    MUST(tunnel_verify(&asked, key) && frame_bytes >= TUNNEL_FRAME_BYTES && frame_bytes <= 1464);
    was = *f;
    enum front_result r = front_answer(&all, f, mac, m, bytes, NOW_US + 1);
    MUST(genuine || r == FRONT_FORGED);
    if (r < FRONT_HEARD)
        MUST(memcmp(&was, f, sizeof(was)) == 0);
    else
        MUST(f->known && f->its_mtu >= TUNNEL_MTU_MIN && front_answer(&all, f, mac, m, bytes, NOW_US) < FRONT_HEARD);
    all.at[0].next_us = 0;
    if (front_due(&all, f, 1500, NOW_US + 2, &asked, &frame_bytes))
        MUST(frame_bytes >= TUNNEL_FRAME_BYTES && frame_bytes <= 1464);
}

static void look_inside(uint8_t *frame, uint32_t len, bool sign)
{
    struct tunnel_message m;
    if (!tunnel_read(frame, len, &m))
        return;
    if (sign)
        tunnel_sign(&m, key);
    bool genuine = tunnel_verify(&m, key);
    if (genuine)
        judge(&m);
    hear(&m, len, genuine);
}

static void write_again(const struct vxlan_outer *o)
{
    uint8_t *frame = calloc(1, VXLAN_OVERHEAD + o->inner_len);
    struct vxlan_path path;
    struct vxlan_outer again;
    MUST(frame);
    vxlan_path_set(&path, mac, mac, o->src, o->dst, VXLAN_PORT);
    vxlan_write(frame, &path, o->vni, o->inner_len, o->src_port);
    MUST(vxlan_parse(frame, VXLAN_OVERHEAD + o->inner_len, VXLAN_PORT, &again) == VXLAN_OK);
    MUST(again.src == o->src && again.dst == o->dst && again.src_port == o->src_port && again.vni == o->vni);
    MUST(again.inner == VXLAN_OVERHEAD && again.inner_len == o->inner_len);
    free(frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vxlan_outer o;
    if (size < 1 || size > 4096)
        return 0;
    uint8_t control = data[0], *frame = guarded_copy(data + 1, size - 1);
    if (control & 1)
        mend_checksum(frame, size - 1);
    enum vxlan_fault fault = vxlan_parse(frame, (uint32_t)(size - 1), VXLAN_PORT, &o);
    MUST(fault < VXLAN_FAULT_END && *vxlan_fault_text(fault));
    if (fault == VXLAN_OK) {
        MUST(o.inner_len >= 14 && o.inner + o.inner_len <= size - 1 && o.vni <= VXLAN_VNI_MAX);
        read_all(frame + o.inner, o.inner_len);
        if (o.inner_len <= 65535 - VXLAN_OVERHEAD)
            write_again(&o);
        look_inside(frame + o.inner, o.inner_len, control & 2);
    }
    free(frame);
    return 0;
}
