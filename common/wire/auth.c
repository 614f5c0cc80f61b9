/* SPDX-License-Identifier: BSD-3-Clause */
/* Secrets, MACs and the dialler's half of the handshake (auth.h). */
#include "common/wire/auth.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(AUTH_MAC_BYTES == crypto_auth_hmacsha512256_BYTES, "the MAC is HMAC-SHA-512-256");

/* --- secrets ------------------------------------------------------------------------------ */

static int refuse(int error, const char *path, char *err, uint32_t err_len, const char *why)
{
    snprintf(err, err_len, "secret file %s: %s", path, why);
    return -error;
}

static int parse(const char *text, size_t n, struct auth_secret *out)
{
    size_t got = 0;
    while (n > 0 && isspace((unsigned char)text[n - 1]))
        n--;
    if (n % 2 != 0 || sodium_hex2bin(out->secret, sizeof out->secret, text, n, NULL, &got, NULL) ||
        got != n / 2 || got < AUTH_SECRET_MIN)
        return -EINVAL;
    out->bytes = (uint32_t)got;
    return 0;
}

bool auth_file_is_private(mode_t mode, uid_t owner, uid_t reader)
{
    if (owner == 0 && reader != 0)
        return !(mode & (S_IWGRP | S_IXGRP | S_IRWXO));
    return !(mode & (S_IRWXG | S_IRWXO));
}

static int read_secret(int fd, const char *path, struct auth_secret *out, char *err,
                       uint32_t err_len)
{
    char text[2 * AUTH_SECRET_MAX + 8], why[160];
    struct stat st;
    if (fstat(fd, &st))
        return refuse(errno, path, err, err_len, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return refuse(EINVAL, path, err, err_len, "is no ordinary file");
    if (!auth_file_is_private(st.st_mode, st.st_uid, geteuid())) {
        snprintf(why, sizeof why, "others than its owner have access to it (mode %04o); run "
                 "chmod 600 on it", st.st_mode & 07777);
        return refuse(EPERM, path, err, err_len, why);
    }
    ssize_t n = read(fd, text, sizeof text);
    if (n < 0)
        return refuse(errno, path, err, err_len, strerror(errno));
    int rc = parse(text, (size_t)n, out);
    sodium_memzero(text, sizeof text);
    if (!rc)
        return 0;
    auth_secret_wipe(out);
    return refuse(EINVAL, path, err, err_len, "does not hold 64 to 128 hex digits; make one with: "
                  "(umask 077; openssl rand -hex 32 > FILE)");
}

int auth_secret_load(const char *path, struct auth_secret *out, char *err, uint32_t err_len)
{
    struct auth_secret s = {0};
    if (sodium_init() < 0)
        return refuse(EIO, path, err, err_len, "no random numbers from the kernel");
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return refuse(errno, path, err, err_len, strerror(errno));
    int rc = read_secret(fd, path, &s, err, err_len);
    close(fd);
    if (!rc)
        *out = s;
    auth_secret_wipe(&s);
    return rc;
}

void auth_secret_wipe(struct auth_secret *s)
{
    sodium_memzero(s, sizeof *s);
}

/* --- MACs --------------------------------------------------------------------------------- */

void auth_nonce(uint8_t nonce[AUTH_NONCE_BYTES])
{
    randombytes_buf(nonce, AUTH_NONCE_BYTES);
}

void auth_mac(uint8_t mac[AUTH_MAC_BYTES], const struct auth_secret *s, enum auth_side prover,
              const struct msg_hello *hello, const struct msg_challenge *challenge,
              const uint8_t nonce[AUTH_NONCE_BYTES])
{
    static const char labels[][24] = {[AUTH_DIALLER] = "lethe-auth-1 dialler",
                                      [AUTH_LISTENER] = "lethe-auth-1 listener"};
    crypto_auth_hmacsha512256_state st;
    assert(s->bytes >= AUTH_SECRET_MIN); /* every part below has a fixed length */
    crypto_auth_hmacsha512256_init(&st, s->secret, s->bytes);
    crypto_auth_hmacsha512256_update(&st, (const uint8_t *)labels[prover], sizeof labels[prover]);
    crypto_auth_hmacsha512256_update(&st, (const uint8_t *)hello, sizeof *hello);
    crypto_auth_hmacsha512256_update(&st, (const uint8_t *)challenge, sizeof *challenge);
    crypto_auth_hmacsha512256_update(&st, nonce, AUTH_NONCE_BYTES);
    crypto_auth_hmacsha512256_final(&st, mac);
    sodium_memzero(&st, sizeof st);
}

bool auth_mac_right(const uint8_t mac[AUTH_MAC_BYTES], const struct auth_secret *s,
                    enum auth_side prover, const struct msg_hello *hello,
                    const struct msg_challenge *challenge, const uint8_t nonce[AUTH_NONCE_BYTES])
{
    uint8_t right[AUTH_MAC_BYTES];
    auth_mac(right, s, prover, hello, challenge, nonce);
    bool same = sodium_memcmp(mac, right, sizeof right) == 0;
    sodium_memzero(right, sizeof right);
    return same;
}

/* --- the dialler ---------------------------------------------------------------------------- */

void auth_dial_begin(struct auth_dial *d, struct msg_hello *hello)
{
    hello->auth = AUTH_HMAC;
    *d = (struct auth_dial){.state = AUTH_DIAL_CHALLENGE, .hello = *hello};
}

const char *auth_dial_answer(struct auth_dial *d, const struct auth_secret *s,
                             const struct msg_challenge *m, struct msg_proof *proof)
{
    if (d->state != AUTH_DIAL_CHALLENGE)
        return "a CHALLENGE that nobody asked for";
    if (m->head.shard != d->hello.head.shard)
        return "the CHALLENGE is another shard's; make both read the same site.yaml";
    if (d->hello.role == ROLE_REPLICA && m->self.node == d->hello.self.node)
        return "the CHALLENGE comes from a node of our own number";
    d->challenge = *m;
    auth_nonce(d->nonce);
    *proof = (struct msg_proof){0};
    memcpy(proof->nonce, d->nonce, sizeof proof->nonce);
    auth_mac(proof->mac, s, AUTH_DIALLER, &d->hello, &d->challenge, d->nonce);
    msg_head_set(proof, MSG_PROOF, sizeof *proof, d->hello.head.shard, 0);
    msg_speak(proof, m->head.proto);
    d->state = AUTH_DIAL_PROVEN;
    return NULL;
}

const char *auth_dial_check(struct auth_dial *d, const struct auth_secret *s,
                            const struct msg_proven *m)
{
    if (d->state != AUTH_DIAL_PROVEN)
        return "a PROVEN that nobody asked for";
    if (!auth_mac_right(m->mac, s, AUTH_LISTENER, &d->hello, &d->challenge, d->nonce))
        return "the store at this address did not prove that it holds our secret; nothing was sent";
    d->state = AUTH_DIAL_DONE;
    return NULL;
}
