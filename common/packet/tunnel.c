/* SPDX-License-Identifier: BSD-3-Clause */
/* Messages of a worker's joining by tunnel. See tunnel.h. No state; any thread. */
#include "common/packet/tunnel.h"

#include <stddef.h>
#include <string.h>

#include <sodium.h>

#include "common/packet/packet_fields.h"

_Static_assert(sizeof(struct tunnel_message) == 100, "the message is a wire format");
_Static_assert(ETHERNET_HEADER + sizeof(struct tunnel_message) <= TUNNEL_FRAME_BYTES,
               "the message fits its frame");
_Static_assert(TUNNEL_MAGIC != PROBE_MAGIC, "one key signs both");

const char *tunnel_reason_text(unsigned reason)
{
    static const char *const texts[] = {
#define X(name, text) [name] = text,
        TUNNEL_REASONS(X)
#undef X
    };
    return reason < TUNNEL_REASON_END ? texts[reason] : "of a reason that this version does not know";
}

bool worker_name_is_good(const char *name)
{
    static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    size_t n = strnlen(name, TUNNEL_NAME_BYTES);
    return n > 0 && n < TUNNEL_NAME_BYTES && strchr(first, name[0]) != NULL &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

static void tag_of(const struct tunnel_message *m, const uint8_t key[PROBE_KEY_BYTES],
                   uint8_t tag[sizeof(m->tag)])
{
    crypto_shorthash(tag, (const uint8_t *)m, offsetof(struct tunnel_message, tag), key);
}

void tunnel_sign(struct tunnel_message *m, const uint8_t key[PROBE_KEY_BYTES])
{
    uint8_t tag[sizeof(m->tag)];
    tag_of(m, key, tag);
    memcpy(m->tag, tag, sizeof(tag));
}

static bool zeros_behind(const char *name)
{
    for (size_t i = strlen(name); i < TUNNEL_NAME_BYTES; i++)
        if (name[i] != '\0')
            return false;
    return true;
}

bool tunnel_verify(const struct tunnel_message *m, const uint8_t key[PROBE_KEY_BYTES])
{
    uint8_t tag[sizeof(m->tag)];
    if (m->magic != TUNNEL_MAGIC || m->version != 1 || m->kind < TUNNEL_JOIN ||
        m->kind > TUNNEL_LEFT)
        return false;
    tag_of(m, key, tag);
    if (sodium_memcmp(tag, m->tag, sizeof(tag)) != 0)
        return false;
    return worker_name_is_good(m->name) && zeros_behind(m->name) && m->weight >= 1 &&
           m->weight <= WEIGHT_MAX && m->mtu >= TUNNEL_MTU_MIN;
}

void tunnel_frame(uint8_t *frame, const uint8_t dst[6], const uint8_t src[6],
                  const struct tunnel_message *m)
{
    memset(frame, 0, TUNNEL_FRAME_BYTES);
    memcpy(frame, dst, 6);
    memcpy(frame + 6, src, 6);
    store16(frame + 12, PROBE_ETHERTYPE);
    memcpy(frame + ETHERNET_HEADER, m, sizeof(*m));
}

bool tunnel_read(const uint8_t *frame, uint32_t len, struct tunnel_message *m)
{
    if (len < ETHERNET_HEADER + sizeof(*m) || load16(frame + 12) != PROBE_ETHERTYPE)
        return false;
    memcpy(m, frame + ETHERNET_HEADER, sizeof(*m));
    return m->magic == TUNNEL_MAGIC;
}

enum tunnel_verdict tunnel_judge(const struct tunnel_seen *seen, const struct tunnel_message *m,
                                 uint64_t front, uint64_t floor_us, uint64_t now_us)
{
    if (m->front != front || m->issued_us > now_us || m->issued_us < floor_us ||
        now_us - m->issued_us > TUNNEL_FRESH_US)
        return TUNNEL_UNKNOWN_TIME;
    if (m->issued_us != seen->issued_us ? m->issued_us < seen->issued_us : m->seq <= seen->seq)
        return TUNNEL_STALE;
    return TUNNEL_FRESH;
}
