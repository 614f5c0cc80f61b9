/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who may connect: challenge and response over a shared secret, both ways. The
 * messages are in msg.h, the arithmetic is libsodium's HMAC-SHA-512-256.
 *
 *   dialler  HELLO (auth 1, tenant)      ->
 *                                        <-  CHALLENGE (who I am, nonce)    listener
 *            PROOF (nonce, MAC)          ->
 *                                        <-  PROVEN (MAC)
 *                                        <-  WELCOME, and only now
 *
 * Each MAC is over a label that names its direction and over all that was said
 * before: the HELLO and the CHALLENGE as they came, heads included, and the
 * dialler's nonce. So role, tenant, shard, protocol range, node and incarnation
 * cannot be changed on the way, neither side's proof serves as the other's, and a
 * recorded proof answers no later challenge. What follows on the connection is
 * neither encrypted nor signed.
 *
 * Threads: any; nothing is shared. Errors: a sentence, which never holds a secret.
 */
#ifndef LETHE_WIRE_AUTH_H
#define LETHE_WIRE_AUTH_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/wire/msg.h"

enum { AUTH_SECRET_MIN = 32, AUTH_SECRET_MAX = 64 };

struct auth_secret {
    uint32_t bytes;           /* 0: none */
    uint8_t secret[AUTH_SECRET_MAX];
};

/* Of a file with this mode and owner, to a program of this user: its owner alone may read it; or it
 * is root's, and a group that root chose reads it, as secrets are mounted into a pod (fsGroup). */
bool auth_file_is_private(mode_t mode, uid_t owner, uid_t reader);
/* Reads a file of 64 to 128 hex digits that is private. 0, or -errno and a sentence that names the
 * file. */
int auth_secret_load(const char *path, struct auth_secret *out, char *err, uint32_t err_len);
void auth_secret_wipe(struct auth_secret *s);

void auth_nonce(uint8_t nonce[AUTH_NONCE_BYTES]);

enum auth_side { AUTH_DIALLER, AUTH_LISTENER };
void auth_mac(uint8_t mac[AUTH_MAC_BYTES], const struct auth_secret *s, enum auth_side prover,
              const struct msg_hello *hello, const struct msg_challenge *challenge,
              const uint8_t nonce[AUTH_NONCE_BYTES]);
/* The same, compared in constant time. */
bool auth_mac_right(const uint8_t mac[AUTH_MAC_BYTES], const struct auth_secret *s,
                    enum auth_side prover, const struct msg_hello *hello,
                    const struct msg_challenge *challenge, const uint8_t nonce[AUTH_NONCE_BYTES]);

/* --- the dialler's side: a client, a backup --------------------------------------------- */

enum auth_dial_state { AUTH_DIAL_NONE, AUTH_DIAL_CHALLENGE, AUTH_DIAL_PROVEN, AUTH_DIAL_DONE };

struct auth_dial {            /* zeroed: no authentication is under way */
    uint8_t state;            /* enum auth_dial_state: what is waited for */
    struct msg_hello hello;
    struct msg_challenge challenge;
    uint8_t nonce[AUTH_NONCE_BYTES];
};

/* `hello` is complete but for its auth; it is set here, and is what must be sent. */
void auth_dial_begin(struct auth_dial *d, struct msg_hello *hello);
/* CHALLENGE came: fills in the PROOF to send. NULL, or what is wrong. */
const char *auth_dial_answer(struct auth_dial *d, const struct auth_secret *s,
                             const struct msg_challenge *m, struct msg_proof *proof);
/* PROVEN came. NULL, or what is wrong. */
const char *auth_dial_check(struct auth_dial *d, const struct auth_secret *s,
                            const struct msg_proven *m);

#endif
