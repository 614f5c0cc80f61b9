/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The store's entries, read by liblethe as any client reads them: by the site's file, with the
 * tenant and secret of its workers. Gets do not touch, scans never do: nothing lives longer for being
 * looked at. A table that is not there is never opened, for opening it would make it.
 *
 * Thread: one; everything waits, for 10 s of silence at most. What goes wrong is said on stderr.
 */
#ifndef LETHE_ORCHESTRATOR_CLI_STATE_STORE_H
#define LETHE_ORCHESTRATOR_CLI_STATE_STORE_H

#include "orchestrator/cli/cli.h"
#include "orchestrator/cli/pure/rows.h"

struct state_store;
/* `v` is kept. CLI_OK, CLI_USAGE (the file), CLI_REFUSED (the secret, the schema), CLI_UNREACHABLE. */
int state_open(const char *file, const struct view *v, struct state_store **out);
void state_close(struct state_store *s);

/* *found: it is there; then *row, whose left_ms is the entry's whole time-out. */
int state_get(struct state_store *s, const uint8_t key[TXN_KEY_MAX], struct row *row, bool *found);

struct state_scan {
    int first, last;          /* hash slots */
    uint32_t most;            /* rows that are kept */
    bool count;               /* go on behind `most`, to count them all */
    bool (*wanted)(void *ctx, const struct row *row); /* NULL: all are */
    void *ctx;
};
/* *seen: rows that were wanted, kept or not. Sorted by key. */
int state_scan(struct state_store *s, const struct state_scan *what, struct rows *rows, uint64_t *seen);
/* The hash slot of a key, where a scan finds it: of a pool it may be any, for indexes are lent. */
void state_slots_of(const struct view *v, const uint8_t *key, int *first, int *last);

#endif
