/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A support bundle: files collected in a folder of its own, which only its owner can read, then packed by tar.
 * (tar is on every Debian and writes either format; a library would be one more thing to install, for one file.)
 *
 * Everything passes bundle_put, so nothing is in it that was not searched for secrets, bounded, and
 * listed with its checksum; what could not be had is listed, with the reason.
 */
#ifndef LETHE_ORCHESTRATOR_CLI_BUNDLE_H
#define LETHE_ORCHESTRATOR_CLI_BUNDLE_H

#include "orchestrator/cli/doctor.h"
#include "orchestrator/doctor/redact.h"

enum { BUNDLE_FILE_MAX = 4 << 20, BUNDLE_MAX = 96 << 20, BUNDLE_TAIL = 1 << 20 };

struct bundle {
    struct cli *cli;
    struct patient patient;
    struct redact secrets;
    char scratch[300], name[100]; /* <scratch>/<name>/ is what is packed */
    FILE *sums, *missing;
    uint64_t bytes;
    uint32_t files, gaps, blots;
};

/* `text` is changed: secrets are blotted out. More than BUNDLE_FILE_MAX: its beginning alone. */
void bundle_put(struct bundle *b, char *text, size_t bytes, const char *path, ...) __attribute__((format(printf, 4, 5)));
/* `what` is not in the bundle, and why. */
void bundle_gap(struct bundle *b, const char *what, const char *why, ...) __attribute__((format(printf, 3, 4)));
void bundle_put_json(struct bundle *b, json_t *o, const char *path); /* takes it; NULL: nothing */
/* The last `most` bytes of a file, from a line's beginning. */
void bundle_put_tail(struct bundle *b, const char *file, uint32_t most, const char *path);

/* Makes the folder. 0, or -errno. */
int bundle_open(struct bundle *b);
/* Packs it into `file` (.tar.gz or .tar.zst), mode 0600. 0, or -1 and what tar says. */
int bundle_pack(struct bundle *b, const char *file, char *err, uint32_t err_len);
/* Removes the folder. */
void bundle_close(struct bundle *b);

bool bundle_over(void);       /* ctrl-C: collect no more */

/* What there is to collect (bundle_collect.c). */
void bundle_collect(struct bundle *b);

#endif
