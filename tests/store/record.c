/* SPDX-License-Identifier: BSD-3-Clause */
/* Shared memory, gaps, and the way to a history (record.h). */
#include "record.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "keys.h"

enum { ACTS_PER_OP = 6, TIME_BITS = 56 };
#define TIME_MASK ((1ull << TIME_BITS) - 1)

uint64_t record_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void *shared(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE,
                    -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

struct record *record_create(uint32_t room_ops)
{
    struct record *r = shared(sizeof *r);
    if (!r)
        return NULL;
    r->room_ops = room_ops;
    r->room_acts = room_ops * ACTS_PER_OP;
    r->ops = shared(room_ops * sizeof *r->ops);
    r->acts = shared(r->room_acts * sizeof *r->acts);
    return r->ops && r->acts ? r : NULL;
}

bool record_number(struct record *r, uint32_t *number)
{
    if (atomic_load(&r->nops) + WORKERS_MAX >= r->room_ops) {
        atomic_store(&r->full, 1);
        return false;
    }
    *number = atomic_fetch_add(&r->nops, 1);
    return true;
}

static bool keep_acts(struct record *r, struct hist_op *op, const struct hist_act *acts,
                      uint32_t nacts)
{
    if (atomic_load(&r->nacts) + WORKERS_MAX * HIST_ACTS_MAX >= r->room_acts) {
        atomic_store(&r->full, 1);
        return false;
    }
    op->nacts = (uint16_t)nacts;
    op->first_act = atomic_fetch_add(&r->nacts, nacts);
    memcpy(r->acts + op->first_act, acts, nacts * sizeof *acts);
    return true;
}

bool record_asked(struct record *r, uint32_t number, uint32_t client, uint16_t slot,
                  const struct hist_act *acts, uint32_t nacts)
{
    struct record_op *op = &r->ops[number];
    op->asked = (struct hist_op){.id = number, .client = client, .slot = slot,
                                 .completed_us = HIST_NEVER};
    if (!keep_acts(r, &op->asked, acts, nacts))
        return false;
    op->asked.invoked_us = record_now_us();
    atomic_store_explicit(&op->state, 1, memory_order_release);
    return true;
}

bool record_told(struct record *r, uint32_t number, enum hist_outcome outcome, uint8_t status,
                 const struct hist_act *acts, uint32_t nacts, bool wrote)
{
    struct record_op *op = &r->ops[number];
    op->told = op->asked;
    op->told.completed_us = record_now_us();
    op->told.outcome = (uint8_t)outcome;
    op->told.status = status;
    op->wrote = wrote;
    if (!keep_acts(r, &op->told, acts, nacts))
        return false;
    atomic_store_explicit(&op->state, 2, memory_order_release);
    return true;
}

void record_wrong(struct record *r, const char *format, ...)
{
    if (atomic_fetch_add(&r->nwrong, 1))
        return;
    va_list ap;
    va_start(ap, format);
    vsnprintf(r->wrong, sizeof r->wrong, format, ap);
    va_end(ap);
}

/* --- gaps ------------------------------------------------------------------------------- */

static int time_order(const void *pa, const void *pb)
{
    uint64_t a = *(const uint64_t *)pa, b = *(const uint64_t *)pb;
    return a < b ? -1 : a > b;
}

/* The times of one slot, sorted; a hole may reach back to before_us, and up to the end. */
static void slot_gap(struct record_gap *g, uint8_t slot, uint64_t before_us, const uint64_t *times,
                     uint32_t n, uint64_t to_us)
{
    uint64_t last_us = before_us;
    for (uint32_t i = 0; i <= n; i++) {
        uint64_t at_us = i < n ? times[i] & TIME_MASK : to_us;
        if (at_us > last_us && at_us - last_us > g->longest_us) {
            g->longest_us = at_us - last_us;
            g->slot = slot;
        }
        last_us = at_us;
    }
    g->writes += n;
    g->slots_served += n > 0;
}

struct record_gap record_gap(const struct record *r, uint64_t from_us, uint64_t to_us)
{
    struct record_gap g = {0};
    uint32_t nops = atomic_load(&r->nops), n = 0;
    uint64_t before_us[LETHE_SLOTS] = {0};
    uint64_t *times = malloc((nops + 1) * sizeof *times); /* slot in the highest byte */
    if (!times)
        abort();
    for (uint32_t i = 0; i < nops; i++) {
        const struct record_op *op = &r->ops[i];
        if (atomic_load_explicit(&op->state, memory_order_acquire) != 2 || !op->wrote)
            continue;
        uint64_t done_us = op->told.completed_us;
        uint16_t slot = op->told.slot;
        if (slot >= LETHE_SLOTS)
            continue; /* wherever the index was */
        if (done_us < from_us && done_us > before_us[slot])
            before_us[slot] = done_us;
        if (done_us >= from_us && done_us <= to_us)
            times[n++] = (uint64_t)slot << TIME_BITS | done_us;
    }
    qsort(times, n, sizeof *times, time_order);
    for (uint32_t i = 0, slot = 0; slot < LETHE_SLOTS; slot++) {
        uint32_t begin = i;
        while (i < n && times[i] >> TIME_BITS == slot)
            i++;
        bool used = false;
        for (uint32_t k = 0; k < keys_slots(); k++)
            used |= keys_slot(k) == slot;
        if (used)
            slot_gap(&g, (uint8_t)slot, before_us[slot] ? before_us[slot] : from_us, times + begin,
                     i - begin, to_us);
    }
    free(times);
    return g;
}

/* --- the history ------------------------------------------------------------------------ */

void record_history(const struct record *r, struct history *h)
{
    h->nops = h->room_ops = atomic_load(&r->nops);
    h->nacts = h->room_acts = atomic_load(&r->nacts);
    h->ops = calloc(h->nops + 1, sizeof *h->ops);
    h->acts = malloc((h->nacts + 1) * sizeof *h->acts);
    if (!h->ops || !h->acts)
        abort();
    memcpy(h->acts, r->acts, h->nacts * sizeof *h->acts);
    for (uint32_t i = 0; i < h->nops; i++) {
        const struct record_op *op = &r->ops[i];
        uint32_t state = atomic_load_explicit(&op->state, memory_order_acquire);
        h->ops[i] = state == 2   ? op->told
                    : state == 1 ? op->asked
                                 : (struct hist_op){.id = i, .slot = keys_slot(0),
                                                    .completed_us = HIST_NEVER};
    }
}
