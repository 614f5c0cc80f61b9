/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Secrets kept out of what leaves the host: each occurrence becomes as many asterisks, in place. Known
 * ones (what the site's secret files hold) in either case of hex digits, and as JSON writes them; besides, whatever follows
 * "Bearer " and a password in "scheme://user:password@". Pure but for redact_file. One thread.
 */
#ifndef LETHE_ORCHESTRATOR_DOCTOR_REDACT_H
#define LETHE_ORCHESTRATOR_DOCTOR_REDACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Shorter ones would blot out words; no secret of a site's may be so short. */
enum { REDACT_SECRETS = 64, REDACT_LEAST = 8, REDACT_MOST = 1024 };

struct redact {
    uint32_t n;
    struct redact_secret { uint32_t bytes; char text[REDACT_MOST + 1]; } at[REDACT_SECRETS];
};

void redact_add(struct redact *r, const char *text, size_t bytes); /* white space at its end is none of it */
/* What a file holds. 0, or -errno: it cannot be read, so nothing can be searched for it. */
int redact_file(struct redact *r, const char *path);
/* How many places were blotted out. */
uint32_t redact_text(const struct redact *r, char *text, size_t bytes);
void redact_wipe(struct redact *r);

#endif
