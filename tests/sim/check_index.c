/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is known of every version: who wrote it, who knew it first, who saw it
 * last. Built from results and from tokens; then check_content over it.
 */
#include "check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

bool verdict_say(struct verdict *v, const char *check, const uint32_t *ops, int nops,
                 const char *format, ...)
{
    if (v->bad)
        return false;
    v->bad = true;
    v->check = check;
    for (int i = 0; i < nops && v->nops < VERDICT_OPS; i++) {
        bool twice = ops[i] == NO_OP;
        for (int j = 0; j < v->nops; j++)
            twice |= v->ops[j] == ops[i];
        if (!twice)
            v->ops[v->nops++] = ops[i];
    }
    va_list ap;
    va_start(ap, format);
    vsnprintf(v->text, sizeof v->text, format, ap);
    va_end(ap);
    return false;
}

/* One observation: an act that names a version of a key. */
struct seen {
    uint16_t key;
    uint64_t version, token;
    uint32_t op;
    int act;
    bool wrote;
};

static int seen_order(const void *pa, const void *pb)
{
    const struct seen *a = pa, *b = pb;
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    if (a->version != b->version)
        return a->version < b->version ? -1 : 1;
    if (a->op != b->op)
        return a->op < b->op ? -1 : 1;
    return a->act - b->act;
}

static uint32_t collect(const struct history *h, struct seen *out)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < h->nops; i++) {
        const struct hist_op *op = &h->ops[i];
        if (op->outcome == HIST_UNKNOWN)
            continue;
        for (int j = 0; j < op->nacts; j++) {
            const struct hist_act *a = &hist_acts(h, op)[j];
            bool names = (a->what == HIST_SEE || a->what == HIST_WRITE) && a->version != 0;
            if (names)
                out[n++] = (struct seen){a->key, a->version, a->token, i, j,
                                         a->what == HIST_WRITE};
        }
    }
    return n;
}

/* A fail-over lost async entries in this time: what was told may be done again. */
static bool failed_over(const struct history *h, uint64_t from_us, uint64_t to_us)
{
    for (uint32_t i = 0; i < h->nstalls; i++)
        if (h->stalls[i].promotion && h->stalls[i].from_us < to_us && h->stalls[i].to_us > from_us)
            return true;
    return false;
}

static bool may_run_again(const struct history *h, uint16_t key, const struct hist_op *op)
{
    return !h->keys[key].sync && failed_over(h, op->invoked_us, op->completed_us);
}

/* A token that nobody could have written comes from nowhere. */
static bool know_writer(struct known *k, const struct history *h, uint64_t token,
                        struct verdict *v, uint32_t seer)
{
    uint32_t op = hist_token_op(token);
    int act = hist_token_act(token);
    if (token < HIST_TOKEN_ACTS || op >= h->nops || act >= h->ops[op].nacts)
        return BAD(v, "content", OPS(seer), "%s version %" PRIu64 " holds a value nobody wrote (%#"
                   PRIx64 ")", h->keys[k->key].name, k->version, token);
    if (h->ops[op].outcome != HIST_UNKNOWN && !may_run_again(h, k->key, &h->ops[op]) &&
        hist_acts(h, &h->ops[op])[act].what != HIST_WRITE)
        return BAD(v, "exactly-once", OPS(op, seer),
                   "%s holds what operation %u wrote, which was told that it changed nothing",
                   h->keys[k->key].name, op);
    k->writer = op;
    k->writer_act = act;
    k->wrote_after_us = h->ops[op].invoked_us;
    return true;
}

static bool learn(struct known *k, const struct history *h, const struct seen *s,
                  struct verdict *v)
{
    const struct hist_op *op = &h->ops[s->op];
    if (s->wrote) {
        if (k->writer != NO_OP && k->writer != s->op)
            return BAD(v, "versions", OPS(k->writer, s->op),
                       "version %" PRIu64 " of %s was written by two operations", k->version,
                       h->keys[k->key].name);
        k->writer = s->op;
        k->writer_act = s->act;
        k->wrote_after_us = op->invoked_us;
    }
    if (s->token) {
        if (k->token && k->token != s->token)
            return BAD(v, "versions", OPS(hist_token_op(k->token), hist_token_op(s->token), s->op),
                       "version %" PRIu64 " of %s was seen with two contents", k->version,
                       h->keys[k->key].name);
        if (!k->token && !s->wrote && k->writer == NO_OP && !know_writer(k, h, s->token, v, s->op))
            return false;
        k->token = s->token;
    }
    if (op->completed_us < k->first_done_us) {
        k->first_done_us = op->completed_us;
        k->first_done = s->op;
    }
    if (!s->wrote && op->invoked_us > k->last_seen_us)
        k->last_seen_us = op->invoked_us;
    return true;
}

static bool learn_all(struct index *x, const struct seen *s, uint32_t n, struct verdict *v)
{
    const struct history *h = x->h;
    for (uint32_t i = 0; i < n; i++) {
        struct known *last = x->nknown ? &x->known[x->nknown - 1] : NULL;
        if (!last || last->key != s[i].key || last->version != s[i].version) {
            x->known[x->nknown++] = (struct known){.key = s[i].key,
                                                   .version = s[i].version,
                                                   .writer = NO_OP,
                                                   .first_done = NO_OP,
                                                   .first_done_us = HIST_NEVER,
                                                   .remove_us = HIST_NEVER};
            last = &x->known[x->nknown - 1];
        }
        if (!learn(last, h, &s[i], v))
            return false;
    }
    uint32_t at = 0;
    for (uint32_t key = 0; key <= h->nkeys; key++) {
        while (at < x->nknown && x->known[at].key < key)
            at++;
        x->first[key] = at;
    }
    return true;
}

static void learn_removals(struct index *x)
{
    const struct history *h = x->h;
    for (uint32_t i = 0; i < h->nops; i++)
        for (int j = 0; h->ops[i].outcome != HIST_REFUSED && j < h->ops[i].nacts; j++) {
            const struct hist_act *a = &hist_acts(h, &h->ops[i])[j];
            if (a->what != HIST_REMOVE)
                continue;
            struct known *k = (struct known *)known_find(x, a->key, a->guard);
            if (k && h->ops[i].invoked_us < k->remove_us)
                k->remove_us = h->ops[i].invoked_us;
        }
}

bool check_index_build(struct index *x, const struct history *h, struct verdict *v)
{
    struct seen *s = malloc((h->nacts + 1) * sizeof *s);
    *x = (struct index){.h = h};
    x->known = calloc(h->nacts + 1, sizeof *x->known);
    x->first = calloc(h->nkeys + 2, sizeof *x->first);
    if (!s || !x->known || !x->first)
        abort();
    uint32_t n = collect(h, s);
    qsort(s, n, sizeof *s, seen_order);
    bool good = learn_all(x, s, n, v);
    if (good)
        learn_removals(x);
    free(s);
    return good;
}

void check_index_free(struct index *x)
{
    free(x->known);
    free(x->first);
}

const struct known *known_upto(const struct index *x, uint16_t key, uint64_t version)
{
    uint32_t low = x->first[key], high = x->first[key + 1];
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (x->known[mid].version <= version)
            low = mid + 1;
        else
            high = mid;
    }
    return low > x->first[key] ? &x->known[low - 1] : NULL;
}

const struct known *known_find(const struct index *x, uint16_t key, uint64_t version)
{
    const struct known *k = version ? known_upto(x, key, version) : NULL;
    return k && k->version == version ? k : NULL;
}

const struct known *known_after(const struct index *x, uint16_t key, uint64_t version)
{
    const struct known *k = known_upto(x, key, version);
    k = k ? k + 1 : x->known + x->first[key];
    return k < x->known + x->first[key + 1] ? k : NULL;
}

/* --- content ----------------------------------------------------------------- */

static int by_token(const void *pa, const void *pb)
{
    const struct known *a = *(const struct known *const *)pa, *b = *(const struct known *const *)pb;
    if (a->token != b->token)
        return a->token < b->token ? -1 : 1;
    return (a > b) - (a < b);
}

static bool tokens_once(const struct index *x, const struct known **all, struct verdict *v)
{
    const struct history *h = x->h;
    uint32_t n = 0;
    for (uint32_t i = 0; i < x->nknown; i++)
        if (x->known[i].token)
            all[n++] = &x->known[i];
    qsort(all, n, sizeof(const struct known *), by_token);
    for (uint32_t i = 0; i < n; i++) {
        const struct known *k = all[i];
        if (i && all[i - 1]->token == k->token &&
            !may_run_again(h, k->key, &h->ops[hist_token_op(k->token)]))
            return BAD(v, "exactly-once",
                       OPS(hist_token_op(k->token), all[i - 1]->first_done, k->first_done),
                       "what operation %u wrote stands at version %" PRIu64 " of %s and at %" PRIu64
                       " of %s: it ran twice", hist_token_op(k->token), all[i - 1]->version,
                       h->keys[all[i - 1]->key].name, k->version, h->keys[k->key].name);
        const struct hist_act *a = &hist_acts(h, &h->ops[k->writer])[k->writer_act];
        if (a->what != HIST_WRITE)
            continue; /* it may have run again, and was told of the second time */
        if (a->token != k->token || (a->key != k->key && a->key != HIST_NO_KEY))
            return BAD(v, "content", OPS(k->writer, k->first_done),
                       "%s version %" PRIu64 " holds another key's value", h->keys[k->key].name,
                       k->version);
    }
    return true;
}

/* A pool's index is written in the slot that has it just then. */
static int slot_written(const struct index *x, const struct known *k)
{
    return k->writer == NO_OP ? x->h->keys[k->key].slot : x->h->ops[k->writer].slot;
}

static int by_slot_version(const void *pa, const void *pb, void *ctx)
{
    const struct index *x = ctx;
    const struct known *a = *(const struct known *const *)pa, *b = *(const struct known *const *)pb;
    int sa = slot_written(x, a), sb = slot_written(x, b);
    if (sa != sb)
        return sa - sb;
    if (a->version != b->version)
        return a->version < b->version ? -1 : 1;
    return (a > b) - (a < b);
}

static bool versions_once(const struct index *x, const struct known **all, struct verdict *v)
{
    const struct history *h = x->h;
    for (uint32_t i = 0; i < x->nknown; i++)
        all[i] = &x->known[i];
    qsort_r(all, x->nknown, sizeof(const struct known *), by_slot_version, (void *)x);
    for (uint32_t i = 1; i < x->nknown; i++) {
        const struct known *a = all[i - 1], *b = all[i];
        bool same = a->version == b->version && slot_written(x, a) == slot_written(x, b);
        if (same && a->writer != NO_OP && b->writer != NO_OP && a->writer != b->writer)
            return BAD(v, "versions", OPS(a->writer, b->writer),
                       "version %" PRIu64 " of slot %u names two writes: %s and %s", a->version,
                       (unsigned)slot_written(x, a), h->keys[a->key].name, h->keys[b->key].name);
    }
    return true;
}

bool check_content(const struct index *x, struct verdict *v)
{
    const struct known **all = malloc((x->nknown + 1) * sizeof *all);
    if (!all)
        abort();
    bool good = tokens_once(x, all, v) && versions_once(x, all, v);
    free(all);
    return good;
}

static int moment_order(const void *pa, const void *pb)
{
    const struct moment *a = pa, *b = pb;
    if (a->at_us != b->at_us)
        return a->at_us < b->at_us ? -1 : 1;
    if (a->kind != b->kind)
        return a->kind - b->kind;
    return a->op < b->op ? -1 : a->op > b->op;
}

struct moment *moments_of(const struct history *h, uint32_t *count)
{
    struct moment *m = malloc((2ull * h->nops + 2ull * h->nstalls + 1) * sizeof *m);
    uint32_t n = 0;
    if (!m)
        abort();
    for (uint32_t i = 0; i < h->nops; i++) {
        m[n++] = (struct moment){h->ops[i].invoked_us, i, INVOKED};
        if (h->ops[i].outcome != HIST_UNKNOWN)
            m[n++] = (struct moment){h->ops[i].completed_us, i, COMPLETED};
    }
    for (uint32_t i = 0; i < h->nstalls; i++)
        if (h->stalls[i].promotion) {
            m[n++] = (struct moment){h->stalls[i].from_us, i, FAIL_OVER_BEGINS};
            m[n++] = (struct moment){h->stalls[i].to_us, i, FAIL_OVER_ENDS};
        }
    qsort(m, n, sizeof *m, moment_order);
    *count = n;
    return m;
}

bool check_all(const struct history *h, struct verdict *v)
{
    static bool (*const checks[])(const struct index *, struct verdict *) = {
        check_content, check_counters, check_sketch, check_pool,
        check_timers,  check_events,   check_chain,  check_search,
    };
    struct index x;
    bool good = check_index_build(&x, h, v);
    for (unsigned i = 0; good && i < sizeof checks / sizeof *checks; i++)
        good = checks[i](&x, v);
    check_index_free(&x);
    return good;
}
