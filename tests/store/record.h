/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The history while it grows: in memory that the driver and all client processes
 * share, so that what a killed client had asked is known, and that it was not
 * told. At the end it becomes a struct history (tests/sim/history.h), which
 * the simulator's checkers judge.
 *
 * Writers: each operation has one, the process that asked it. It reserves its
 * number (record_number: the number names what it writes, by tokens), says what
 * it asks before it sends anything (record_asked), and what it was told at last
 * (record_told). A process that dies in between leaves an unknown outcome, or a
 * number that nothing stands behind.
 */
#ifndef TESTS_STORE_RECORD_H
#define TESTS_STORE_RECORD_H

#include <stdatomic.h>

#include "common/wire/txn.h"
#include "tests/sim/history.h"

enum { WORKERS_MAX = 16 };

enum record_phase {
    PHASE_ASK = 0, /* ask */
    PHASE_FINISH,  /* ask nothing new; end when all is answered */
    PHASE_END,     /* end now */
};

/* What one client process counts; written by it alone. */
struct record_worker {
    _Atomic uint64_t asked, told, retries, reconnects, leases;
    _Atomic uint64_t borrowed;       /* allocations of an index of another hash slot */
    _Atomic uint64_t by_status[TXN_STATUS_END];
    _Atomic uint32_t ready, waiting; /* of its clients; operations without an answer */
    char trouble[200];               /* for people; may be torn */
};

/* An operation: as it was asked, and as it was told. */
struct record_op {
    struct hist_op asked, told;
    bool wrote;                      /* told: it changed something */
    _Atomic uint32_t state;          /* 0 reserved, 1 asked, 2 told: release, acquire */
};

struct record {
    _Atomic uint32_t phase;
    _Atomic uint32_t nops, nacts;
    _Atomic uint32_t full;           /* a client found no room: nothing may be concluded */
    _Atomic uint32_t nwrong;         /* answers no store may give; the first in `wrong` */
    char wrong[300];
    uint32_t room_ops, room_acts;
    struct record_worker workers[WORKERS_MAX];
    struct record_op *ops;
    struct hist_act *acts;
};

/* Mapped shared: survives fork and any child. NULL: no memory. */
struct record *record_create(uint32_t room_ops);
uint64_t record_now_us(void);

/* False: no room. */
bool record_number(struct record *r, uint32_t *number);
bool record_asked(struct record *r, uint32_t number, uint32_t client, uint16_t slot,
                  const struct hist_act *acts, uint32_t nacts);
bool record_told(struct record *r, uint32_t number, enum hist_outcome outcome, uint8_t status,
                 const struct hist_act *acts, uint32_t nacts, bool wrote);
/* An answer that is wrong on its face. */
void record_wrong(struct record *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The longest time without an acknowledged write in one hash slot: holes that end after
 * from_us (a hole may begin before it), or have not ended by to_us. */
struct record_gap {
    uint64_t longest_us;
    uint8_t slot;          /* where */
    uint32_t writes;       /* acknowledged from from_us on */
    uint32_t slots_served; /* slots with such a write */
};
struct record_gap record_gap(const struct record *r, uint64_t from_us, uint64_t to_us);

/* Everything, as a history; keys are the caller's to declare. */
void record_history(const struct record *r, struct history *h);

#endif
