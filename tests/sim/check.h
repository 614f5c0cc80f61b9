/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The checkers: naive oracles over a history (history.h). None of them shares
 * a line with the store. Each returns true when the history is possible, or
 * fills the verdict: which rule, the sentence, the operations that clash.
 *
 *   check_content   one version, one content; one (slot, version), one txn;
 *                   a token appears under one version only; a refused txn's
 *                   tokens never appear (exactly once, versions never reused)
 *   check_chain     linearizability and output commit by positions: versions
 *                   order a slot's writes, so every operation has a range of
 *                   positions it can stand at, and what completed earlier may
 *                   not stand later (reads never go back, nothing that was
 *                   observed vanishes, what was absent stays absent)
 *   check_search    the same question per key by search (Wing & Gong, with
 *                   Lowe's memory), in windows: slow and simple-minded
 *   check_counters  every value is the sum of the acknowledged additions up
 *                   to its version and of a subset of the unknown ones
 *   check_sketch    an estimate is a sum of what was added, each once
 *   check_pool      an index is not given out while live, nor in quarantine
 *   check_timers    a touched entry is not absent before its idle time-out,
 *                   and gone when it and every excuse have passed
 *   check_events    what expired is told to a consumer, at least once, never
 *                   before its deadline, and nothing else is
 *
 * All take the index (known versions) that check_index_build made.
 */
#ifndef SIM_CHECK_H
#define SIM_CHECK_H

#include "history.h"

enum { VERDICT_OPS = 6, NO_OP = 0xffffffffu };

struct verdict {
    bool bad;
    const char *check;
    char text[400];
    uint32_t ops[VERDICT_OPS];
    int nops;
};

/* A version of a key that somebody wrote and was told, or saw. */
struct known {
    uint16_t key;
    uint64_t version, token;
    uint32_t writer;              /* operation, or NO_OP: nobody can tell */
    int writer_act;
    uint64_t wrote_after_us;      /* invocation of the writer; 0 */
    uint64_t first_done_us;       /* the earliest completion that knew it */
    uint32_t first_done;          /* that operation */
    uint64_t last_seen_us;        /* the latest invocation that saw it current */
    uint64_t remove_us;           /* first attempt to remove it; HIST_NEVER */
};

struct index {
    const struct history *h;
    struct known *known; /* by key, then version */
    uint32_t nknown;
    uint32_t *first;     /* of a key in `known`; nkeys + 1 entries */
};

/* False: the history contradicts itself already here (check_content's verdict). */
bool check_index_build(struct index *x, const struct history *h, struct verdict *v);
void check_index_free(struct index *x);

/* A history by time; what is at one time, in the order of the kinds. */
enum moment_kind { FAIL_OVER_BEGINS, INVOKED, COMPLETED, FAIL_OVER_ENDS };
struct moment {
    uint64_t at_us;
    uint32_t op;  /* its number; a fail-over's: the stall's */
    uint8_t kind;
};
/* The caller frees them. */
struct moment *moments_of(const struct history *h, uint32_t *n);

/* Whether some of `n` positive numbers add up to `rest`; the time doubles with each. */
bool subset_sums(const int64_t *deltas, int n, int64_t rest);

/* The known version of `key`, or NULL; and the first above `version`. */
const struct known *known_find(const struct index *x, uint16_t key, uint64_t version);
const struct known *known_after(const struct index *x, uint16_t key, uint64_t version);
/* The last at or below `version`, or NULL. */
const struct known *known_upto(const struct index *x, uint16_t key, uint64_t version);

bool check_content(const struct index *x, struct verdict *v);
bool check_chain(const struct index *x, struct verdict *v);
bool check_search(const struct index *x, struct verdict *v);
bool check_counters(const struct index *x, struct verdict *v);
bool check_sketch(const struct index *x, struct verdict *v);
bool check_pool(const struct index *x, struct verdict *v);
bool check_timers(const struct index *x, struct verdict *v);
bool check_events(const struct index *x, struct verdict *v);

/* All of them, in this order; stops at the first that fails. */
bool check_all(const struct history *h, struct verdict *v);

/* Fills a verdict, returns false. Operations follow, up to NO_OP or six. */
bool verdict_say(struct verdict *v, const char *check, const uint32_t *ops, int nops,
                 const char *format, ...) __attribute__((format(printf, 5, 6)));
#define BAD(v, check, opslist, ...)                                                                \
    verdict_say((v), (check), (const uint32_t[])opslist,                                           \
                (int)(sizeof((const uint32_t[])opslist) / sizeof(uint32_t)), __VA_ARGS__)
#define OPS(...) {__VA_ARGS__}

#endif
