/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Signing and checking of health probes, and the key file. See probe.h.
 * No state; any thread.
 */
#include "common/packet/probe.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <sodium.h>

_Static_assert(sizeof(struct probe) == 48, "the probe is a wire format");
_Static_assert(14 + sizeof(struct probe) <= PROBE_FRAME_BYTES, "the probe fits its frame");
_Static_assert(crypto_shorthash_KEYBYTES == PROBE_KEY_BYTES, "SipHash-2-4 keys are 16 bytes");
_Static_assert(crypto_shorthash_BYTES == sizeof(((struct probe *)0)->tag), "tag size");

static int refuse(int error, char *err, uint32_t err_len, const char *path, const char *what)
{
    snprintf(err, err_len,
             "probe key file %s: %s; it holds 32 hex digits, make one with: "
             "(umask 077; openssl rand -hex 16 > %s)",
             path, what, path);
    return -error;
}

int probe_key_load(const char *path, uint8_t key[PROBE_KEY_BYTES], char *err, uint32_t err_len)
{
    char text[2 * PROBE_KEY_BYTES + 8];
    uint8_t bytes[PROBE_KEY_BYTES];
    size_t got = 0;
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        int error = errno;
        return refuse(error, err, err_len, path, strerror(error));
    }
    size_t n = fread(text, 1, sizeof(text), f);
    fclose(f);
    while (n > 0 && isspace((unsigned char)text[n - 1]))
        n--;
    if (n != 2 * PROBE_KEY_BYTES)
        return refuse(EINVAL, err, err_len, path, "is not 32 hex digits long");
    if (sodium_hex2bin(bytes, sizeof(bytes), text, n, NULL, &got, NULL) != 0 ||
        got != sizeof(bytes))
        return refuse(EINVAL, err, err_len, path, "holds something that is no hex digit");
    memcpy(key, bytes, sizeof(bytes));
    sodium_memzero(bytes, sizeof(bytes));
    sodium_memzero(text, sizeof(text));
    return 0;
}

static void tag_of(const struct probe *p, const uint8_t key[PROBE_KEY_BYTES], uint8_t tag[8])
{
    crypto_shorthash(tag, (const uint8_t *)p, offsetof(struct probe, tag), key);
}

void probe_sign(struct probe *p, const uint8_t key[PROBE_KEY_BYTES])
{
    uint8_t tag[sizeof(p->tag)];
    tag_of(p, key, tag);
    memcpy(p->tag, tag, sizeof(tag));
}

bool probe_verify(const struct probe *p, const uint8_t key[PROBE_KEY_BYTES])
{
    uint8_t tag[sizeof(p->tag)];
    if (p->magic != PROBE_MAGIC || p->version != 1)
        return false;
    if (p->kind < PROBE_REQUEST || p->kind > PROBE_RETURNED)
        return false;
    tag_of(p, key, tag);
    return sodium_memcmp(tag, p->tag, sizeof(tag)) == 0;
}
