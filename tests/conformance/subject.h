/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A way to reach the state, as the conformance list (operations.c) sees it: what an
 * NF's runtime sees (nf/runtime/backend.h), and one txn at a time.
 *
 * A subject starts the real thing: a store in this process, redis-server processes.
 * It dies with this program, also if that is killed.
 */
#ifndef TESTS_CONFORMANCE_SUBJECT_H
#define TESTS_CONFORMANCE_SUBJECT_H

#include "nf/runtime/backend.h"

struct subject {
    const char *name;
    /* False and a sentence if it cannot be started here. */
    bool (*start)(struct subject *s, char *err, uint32_t err_len);
    void (*stop)(struct subject *s);
    bool (*ready)(struct subject *s);
    /* What is wrong for good ("" if nothing): another schema, an unsupported table. */
    void (*fatal)(struct subject *s, char *text, uint32_t len);
    bool is_store;             /* ours: gives all; else the rows marked STORE must fail */
    struct backend backend;
    void *own;
    uint64_t result[TXN_RESULT_MAX / 8]; /* of the last txn */
    bool done;
};

/* NULL: no such name. */
struct subject *subject_named(const char *name);
/* A second client of the same state. */
bool subject_second(struct subject *first, struct subject *second, char *err, uint32_t err_len);
void subject_second_stop(struct subject *second);

uint64_t subject_now_us(void);
/* Until all tables are open; false: not within half a minute. */
bool subject_wait_ready(struct subject *s);
/* Runs one txn; its result lies in s->result. NULL: no answer within half a minute. */
const struct txn_result_head *subject_run(struct subject *s, struct txn_builder *b);

#endif
