/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The conformance list of client operations: what a network function may rely on,
 * whatever carries its state. Each row runs over each subject (subject.h); a row marked
 * STORE is what Redis cannot give: there it must fail, so that nobody thinks it passed.
 *
 *     operations inproc|tcp|shm|verbs|redis|redis-cluster [ROW]
 *
 * Exit status: 0, or 1 with each row that is not as it must be.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/conformance/subject.h"

static struct subject *s;
static char why[400];             /* of the row that failed */
static int flows, pool, count, mapping, session, brief, timer, limited;
static uint64_t salt;             /* rows do not meet each other's keys */

static bool no(const char *format, ...) __attribute__((format(printf, 1, 2)));
static bool no(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    return false;
}
#define MUST(cond) do { if (!(cond)) return no("line %d: %s", __LINE__, #cond); } while (0)

/* --- tables ----------------------------------------------------------------------------- */

enum { VALUE = 16, POOL_INDEXES = 64 * LETHE_SLOTS, BRIEF_MS = 400 };

static const struct table_schema schemas[] = {
    {.name = "c.flows", .kind = TABLE_HASH, .version = 1, .key_size = 12, .part_len = 4,
     .value_size = VALUE},
    {.name = "c.pool", .kind = TABLE_POOL, .version = 1, .key_size = 4, .part_len = 4,
     .value_size = VALUE, .max_entries = POOL_INDEXES, .quarantine_ms = 300},
    {.name = "c.count", .kind = TABLE_COUNTERS, .version = 1, .key_size = 4, .part_len = 4,
     .value_size = 16},
    {.name = "c.mapping", .kind = TABLE_HASH, .version = 1, .key_size = 12, .part_len = 4,
     .flags = TABLE_PARENT_DIES, .value_size = VALUE,
     .reactions = {{.kind = REACT_FREE, .off = 0, .len = 12, .table = "c.pool"},
                   {.kind = REACT_SUB, .off = 0, .len = 4, .table = "c.count"}}},
    {.name = "c.session", .kind = TABLE_HASH, .version = 1, .key_size = 12, .part_len = 4,
     .value_size = VALUE},
    {.name = "c.brief", .kind = TABLE_HASH, .version = 1, .key_size = 12, .part_len = 4,
     .value_size = VALUE, .timeout_ms = BRIEF_MS},
    {.name = "c.timer", .kind = TABLE_HASH, .version = 1, .key_size = 12, .part_len = 4,
     .flags = TABLE_ABSOLUTE, .value_size = VALUE, .timeout_ms = BRIEF_MS},
};
static int *const numbers[] = {&flows, &pool, &count, &mapping, &session, &brief, &timer};

/* --- txns -------------------------------------------------------------------------------- */

struct key { uint32_t part; uint64_t rest; } __attribute__((packed));
static struct txn_builder build;
static uint64_t buffer[TXN_BYTES_MAX / 8];

static struct key key_of(uint32_t n)
{
    return (struct key){.part = (uint32_t)salt, .rest = n};
}
static uint8_t slot(void)
{
    uint32_t part = (uint32_t)salt;
    return slot_of(&part, sizeof part);
}
static void begin(void)
{
    txn_begin(&build, buffer, sizeof buffer, slot());
}
static const struct txn_result_head *run(void)
{
    return subject_run(s, &build);
}
static int get(int table, struct key k, uint8_t flags)
{
    return txn_add_op(&build, &(struct txn_op){.code = TXN_GET, .table = (uint8_t)table, .flags = flags,
                                               .key_len = sizeof k}, &k, NULL, NULL);
}
static int insert(int table, struct key k, uint64_t value, uint32_t timeout_ms)
{
    uint64_t v[2] = {value, ~value};
    return txn_add_op(&build, &(struct txn_op){.code = TXN_INSERT, .table = (uint8_t)table,
                                               .key_len = sizeof k, .value_len = sizeof v,
                                               .timeout_ms = timeout_ms}, &k, NULL, v);
}
static int child(int table, struct key k, int parent, struct key pk)
{
    uint64_t v[2] = {7, 8};
    return txn_add_op(&build, &(struct txn_op){.code = TXN_INSERT, .table = (uint8_t)table,
                                               .flags = TXN_HAS_PARENT, .key_len = sizeof k,
                                               .value_len = sizeof v, .parent_table = (uint8_t)parent,
                                               .parent_key_len = sizeof pk}, &k, &pk, v);
}
static int cas(int table, struct key k, uint64_t version, uint64_t value)
{
    uint64_t v[2] = {value, ~value};
    return txn_add_op(&build, &(struct txn_op){.code = TXN_CAS, .table = (uint8_t)table,
                                               .key_len = sizeof k, .value_len = sizeof v,
                                               .arg0 = version}, &k, NULL, v);
}
static int erase(int table, struct key k, uint64_t version)
{
    return txn_add_op(&build, &(struct txn_op){.code = TXN_DELETE, .table = (uint8_t)table,
                                               .key_len = sizeof k, .arg0 = version}, &k, NULL, NULL);
}
static int add(uint8_t code, int64_t a, int64_t b, int64_t limit)
{
    int64_t v[2] = {a, b};
    uint32_t part = (uint32_t)salt;
    return txn_add_op(&build, &(struct txn_op){.code = code, .table = (uint8_t)count, .key_len = 4,
                                               .value_len = sizeof v, .arg0 = (uint64_t)limit},
                      &part, NULL, v);
}
static int alloc(void)
{
    uint64_t v[2] = {salt, 1};
    return txn_add_op(&build, &(struct txn_op){.code = TXN_ALLOC, .table = (uint8_t)pool,
                                               .value_len = sizeof v}, NULL, NULL, v);
}
static int of_pool(uint8_t code, uint32_t index, uint64_t version)
{
    return txn_add_op(&build, &(struct txn_op){.code = code, .table = (uint8_t)pool, .key_len = 4,
                                               .arg0 = version}, &index, NULL, NULL);
}
static uint64_t first_word(const struct txn_result *r)
{
    uint64_t v;
    memcpy(&v, txn_result_value(r), sizeof v);
    return v;
}

/* The entry now, or NULL: absent. */
static const struct txn_result *look(int table, struct key k)
{
    begin();
    get(table, k, 0);
    const struct txn_result_head *h = run();
    const struct txn_result *r = h && h->status == TXN_OK ? txn_result_of(h, 0) : NULL;
    return r && r->res == RES_HIT ? r : NULL;
}
static bool counter_is(int64_t want)
{
    uint32_t part = (uint32_t)salt;
    begin();
    txn_add_op(&build, &(struct txn_op){.code = TXN_GET, .table = (uint8_t)count, .key_len = 4}, &part,
               NULL, NULL);
    const struct txn_result_head *h = run();
    const struct txn_result *r = h ? txn_result_of(h, 0) : NULL;
    return r && (r->res == RES_HIT ? (int64_t)first_word(r) == want : want == 0);
}

/* --- rows ----------------------------------------------------------------------------------- */

static bool insert_then_get(void)
{
    MUST(!look(flows, key_of(1)));
    begin();
    insert(flows, key_of(1), 42, 0);
    const struct txn_result_head *h = run();
    MUST(h && h->status == TXN_OK && txn_result_of(h, 0)->version);
    const struct txn_result *r = look(flows, key_of(1));
    MUST(r && first_word(r) == 42 && r->value_len == VALUE);
    return true;
}

static bool a_conflict_carries_the_entry(void)
{
    begin();
    insert(flows, key_of(1), 1, 0);
    const struct txn_result_head *h = run();
    MUST(h && h->status == TXN_OK);
    uint64_t version = txn_result_of(h, 0)->version;
    begin();
    insert(flows, key_of(1), 2, 0);
    MUST((h = run()) && h->status == TXN_CONFLICT && h->failed_op == 0);
    const struct txn_result *r = txn_result_of(h, 0);
    MUST(r && r->res == RES_FAILED && r->version == version && first_word(r) == 1);
    return true;
}

static bool cas_needs_the_version(void)
{
    begin();
    insert(flows, key_of(1), 1, 0);
    const struct txn_result_head *h = run();
    uint64_t v1 = txn_result_of(h, 0)->version;
    begin();
    cas(flows, key_of(1), v1, 2);
    MUST((h = run()) && h->status == TXN_OK);
    uint64_t v2 = txn_result_of(h, 0)->version;
    MUST(v2 > v1);
    begin();
    cas(flows, key_of(1), v1, 3);
    MUST((h = run()) && h->status == TXN_CONFLICT && first_word(txn_result_of(h, 0)) == 2);
    return true;
}

static bool a_version_never_comes_back(void)
{
    uint64_t last = 0;
    for (int i = 0; i < 5; i++) {
        begin();
        insert(flows, key_of(1), 1, 0);
        const struct txn_result_head *h = run();
        MUST(h && h->status == TXN_OK && txn_result_of(h, 0)->version > last);
        last = txn_result_of(h, 0)->version;
        begin();
        erase(flows, key_of(1), last);
        MUST((h = run()) && h->status == TXN_OK);
    }
    return true;
}

static bool a_txn_is_atomic(void)
{
    begin();
    insert(flows, key_of(2), 1, 0);
    MUST(run()->status == TXN_OK);
    begin();
    insert(flows, key_of(3), 1, 0);
    alloc();
    insert(flows, key_of(2), 1, 0);
    const struct txn_result_head *h = run();
    MUST(h && h->status == TXN_CONFLICT && h->failed_op == 2);
    MUST(!look(flows, key_of(3)));
    return true;
}

/* The NAT's program: session, or mapping, or a new index, and both. */
static const struct txn_result_head *open_session(uint32_t n)
{
    begin();
    int hit = get(session, key_of(n), TXN_TOUCH | TXN_SKIP_IF_PRESENT);
    int mapped = get(mapping, key_of(1), TXN_SKIP_IF_PRESENT);
    int index = alloc();
    insert(mapping, key_of(1), 0, 0);
    txn_add_patch(&build, (struct txn_patch){.op = (uint8_t)index, .from = PATCH_INDEX, .len = 4,
                                             .into = PATCH_INTO_VALUE});
    txn_add_patch(&build, (struct txn_patch){.op = (uint8_t)index, .from = PATCH_VERSION, .len = 8,
                                             .into = PATCH_INTO_VALUE, .into_off = 4});
    add(TXN_ADD, 1, 0, 0);
    txn_skip_to_here(&build, mapped);
    child(session, key_of(n), mapping, key_of(1));
    txn_skip_to_here(&build, hit);
    return run();
}

static bool get_or_create_is_one_trip(void)
{
    const struct txn_result_head *h = open_session(10);
    MUST(h && h->status == TXN_OK && txn_result_of(h, 2) && txn_result_of(h, 5));
    uint32_t index = txn_result_of(h, 2)->index;
    MUST((h = open_session(11)) && h->status == TXN_OK && !txn_result_of(h, 2) && txn_result_of(h, 5));
    uint32_t named;
    memcpy(&named, txn_result_value(txn_result_of(h, 1)), sizeof named);
    MUST(named == index);
    MUST((h = open_session(10)) && h->nres == 1 && txn_result_of(h, 0)->res == RES_HIT);
    MUST(counter_is(1));
    return true;
}

static bool the_last_child_takes_the_parent(void)
{
    const struct txn_result_head *h = open_session(10);
    MUST(h && h->status == TXN_OK);
    uint32_t index = txn_result_of(h, 2)->index;
    MUST(open_session(11)->status == TXN_OK);
    for (uint32_t n = 10; n <= 11; n++) {
        const struct txn_result *r = look(session, key_of(n));
        MUST(r);
        MUST(look(mapping, key_of(1)));
        r = look(session, key_of(n));
        uint64_t version = r->version;
        begin();
        erase(session, key_of(n), version);
        MUST((h = run()) && h->status == TXN_OK);
    }
    MUST(!look(mapping, key_of(1)));
    begin();
    of_pool(TXN_GET, index, 0);
    MUST((h = run()) && txn_result_of(h, 0)->res == RES_ABSENT);
    MUST(counter_is(0));
    return true;
}

static bool a_parent_with_children_stays(void)
{
    MUST(open_session(10)->status == TXN_OK);
    const struct txn_result *r = look(mapping, key_of(1));
    MUST(r);
    uint64_t version = r->version;
    begin();
    erase(mapping, key_of(1), version);
    const struct txn_result_head *h = run();
    MUST(h && h->status == TXN_CONFLICT);
    return true;
}

static bool counters_add_up_to_a_limit(void)
{
    for (int i = 0; i < 10; i++) {
        begin();
        add(TXN_ADD, 1, -3, 0);
        MUST(run()->status == TXN_OK);
    }
    begin();
    add(TXN_ADD_LIMIT, 5, 0, 15);
    MUST(run()->status == TXN_OK);
    begin();
    add(TXN_ADD_LIMIT, 1, 0, 15);
    const struct txn_result_head *h = run();
    MUST(h && h->status == TXN_LIMIT && (int64_t)first_word(txn_result_of(h, 0)) == 15);
    MUST(counter_is(15));
    return true;
}

/* 64 indexes of this slot; more can only be lent to it. */
static bool a_pool_gives_each_index_once(void)
{
    static bool seen[POOL_INDEXES];
    uint32_t all[64];
    uint64_t versions[64];
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < 64; i++) {
        begin();
        alloc();
        const struct txn_result_head *h = run();
        MUST(h && h->status == TXN_OK);
        const struct txn_result *r = txn_result_of(h, 0);
        MUST(r->index < POOL_INDEXES && !seen[r->index]);
        seen[all[i] = r->index] = true;
        versions[i] = r->version;
    }
    for (int i = 0; i < 64; i++) {
        begin();
        of_pool(TXN_FREE, all[i], versions[i] + 1);
        MUST(run()->status == TXN_CONFLICT);
        begin();
        of_pool(TXN_FREE, all[i], versions[i]);
        MUST(run()->status == TXN_OK);
    }
    return true;
}

static bool a_freed_index_rests(void)
{
    begin();
    alloc();
    const struct txn_result_head *h = run();
    MUST(h && h->status == TXN_OK);
    uint32_t index = txn_result_of(h, 0)->index;
    uint64_t version = txn_result_of(h, 0)->version;
    begin();
    of_pool(TXN_FREE, index, version);
    uint64_t freed = subject_now_us();
    MUST(run()->status == TXN_OK);
    for (int i = 0; i < 80; i++) {
        begin();
        alloc();
        MUST((h = run()));
        bool early = subject_now_us() - freed < 250000;
        MUST(h->status != TXN_OK || !early || txn_result_of(h, 0)->index != index);
    }
    return true;
}

static void wait_ms(uint64_t ms)
{
    nanosleep(&(struct timespec){.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000}, NULL);
}

static bool gone_soon(int table, struct key k)
{
    uint64_t until = subject_now_us() + 20 * 1000000;
    while (look(table, k))
        if (subject_now_us() > until)
            return false;
    return true;
}

static bool idle_entries_expire_and_touched_ones_do_not(void)
{
    begin();
    insert(brief, key_of(1), 1, 0);
    insert(brief, key_of(2), 1, 0);
    MUST(run()->status == TXN_OK);
    uint64_t last = subject_now_us(), start = last;
    while (subject_now_us() < start + 4 * BRIEF_MS * 1000) {
        uint64_t asked = subject_now_us();
        begin();
        get(brief, key_of(1), TXN_TOUCH);
        const struct txn_result_head *h = run();
        /* A loop that was away longer than the time-out proves nothing. */
        MUST(h && (txn_result_of(h, 0)->res == RES_HIT || subject_now_us() - last > BRIEF_MS * 900));
        last = asked;
        wait_ms(BRIEF_MS / 8);
    }
    MUST(gone_soon(brief, key_of(2)));
    MUST(gone_soon(brief, key_of(1)));
    return true;
}

static bool absolute_entries_do_not_live_longer(void)
{
    begin();
    insert(timer, key_of(1), 1, 0);
    MUST(run()->status == TXN_OK);
    uint64_t until = subject_now_us() + 20 * 1000000;
    for (;;) {
        begin();
        get(timer, key_of(1), TXN_TOUCH);
        const struct txn_result_head *h = run();
        MUST(h);
        if (txn_result_of(h, 0)->res == RES_ABSENT)
            return true;
        MUST(subject_now_us() < until);
    }
}

static bool an_expired_child_takes_the_parent(void)
{
    begin();
    insert(mapping, key_of(1), 0, 0);
    child(brief, key_of(2), mapping, key_of(1));
    MUST(run()->status == TXN_OK);
    MUST(gone_soon(brief, key_of(2)));
    MUST(gone_soon(mapping, key_of(1)));
    return true;
}

static bool a_scan_sees_all(void)
{
    enum { N = 700 };
    static bool seen[N];
    uint64_t cursor = 0;
    memset(seen, 0, sizeof seen);
    for (uint32_t n = 0; n < N; n++) {
        begin();
        insert(flows, key_of(n), n, 0);
        MUST(run()->status == TXN_OK);
    }
    do {
        begin();
        txn_add_op(&build, &(struct txn_op){.code = TXN_SCAN, .table = (uint8_t)flows, .arg0 = cursor},
                   NULL, NULL, NULL);
        const struct txn_result_head *h = run();
        MUST(h && h->status == TXN_OK);
        const struct txn_result *r = txn_result_of(h, 0);
        uint32_t offset = 0;
        for (const struct txn_scan_entry *e; (e = txn_scan_next(r, &offset));) {
            struct key k;
            memcpy(&k, e + 1, sizeof k);
            if (k.part == (uint32_t)salt && k.rest < N)
                seen[k.rest] = true;
        }
        cursor = r->version;
    } while (cursor);
    for (uint32_t n = 0; n < N; n++)
        MUST(seen[n]);
    return true;
}

static bool nonsense_is_refused(void)
{
    struct key k = key_of(1);
    begin();
    txn_add_op(&build, &(struct txn_op){.code = TXN_GET, .table = (uint8_t)flows, .key_len = 8}, &k, NULL,
               NULL);
    const struct txn_result_head *h = run();
    MUST(h && h->status == TXN_BAD_REQUEST);
    begin();
    txn_add_op(&build, &(struct txn_op){.code = TXN_DELETE, .table = (uint8_t)count, .key_len = 4}, &k,
               NULL, NULL);
    MUST((h = run()) && h->status == TXN_BAD_REQUEST);
    return true;
}

static bool another_schema_is_named(void)
{
    struct subject other;
    struct table_schema schema = schemas[0];
    char err[240], text[240] = "";
    schema.value_size = 24;
    MUST(subject_second(s, &other, err, sizeof err));
    MUST(other.backend.table_open(other.backend.ctx, &schema) >= 0);
    uint64_t until = subject_now_us() + 20 * 1000000;
    while (!text[0] && subject_now_us() < until) {
        other.backend.poll(other.backend.ctx, subject_now_us());
        other.fatal(&other, text, sizeof text);
    }
    subject_second_stop(&other);
    if (!strstr(text, "16") || !strstr(text, "24"))
        return no("it says: '%s'", text);
    return true;
}

static bool two_clients_see_one_state(void)
{
    struct subject other, *first = s;
    char err[240];
    begin();
    insert(flows, key_of(1), 5, 0);
    MUST(run()->status == TXN_OK);
    MUST(subject_second(s, &other, err, sizeof err));
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++)
        MUST(other.backend.table_open(other.backend.ctx, &schemas[i]) == *numbers[i]);
    MUST(subject_wait_ready(&other));
    s = &other;
    const struct txn_result *r = look(flows, key_of(1));
    bool seen = r && first_word(r) == 5;
    s = first;
    subject_second_stop(&other);
    MUST(seen);
    return true;
}

/* --- what the store alone gives -------------------------------------------------------------------- */

static bool open_more(const struct table_schema *schema, int *number)
{
    *number = s->backend.table_open(s->backend.ctx, schema);
    return *number >= 0 && subject_wait_ready(s);
}

static bool max_entries_is_a_limit(void)
{
    struct table_schema schema = schemas[0];
    snprintf(schema.name, sizeof schema.name, "c.limited");
    schema.max_entries = 10;
    MUST(open_more(&schema, &limited));
    int refused = 0;
    for (uint32_t n = 0; n < 40; n++) {
        begin();
        insert(limited, key_of(n), n, 0);
        const struct txn_result_head *h = run();
        MUST(h);
        refused += h->status == TXN_NO_MEMORY;
    }
    MUST(refused == 30);
    return true;
}

static bool a_dry_slot_borrows(void)
{
    for (int i = 0; i < 200; i++) {
        begin();
        alloc();
        const struct txn_result_head *h = run();
        MUST(h && h->status == TXN_OK);
    }
    return true;
}

static bool events_can_be_had(void)
{
    struct table_schema schema = schemas[5];
    int number;
    snprintf(schema.name, sizeof schema.name, "c.events");
    schema.flags = TABLE_EVENTS;
    MUST(open_more(&schema, &number));
    return true;
}

static bool sketches_can_be_had(void)
{
    struct table_schema schema = {.name = "c.sketch", .kind = TABLE_SKETCH, .version = 1, .key_size = 12,
                                  .part_len = 4, .value_size = 8, .max_entries = 1024};
    int number;
    MUST(open_more(&schema, &number));
    return true;
}

enum { ALL, STORE };
static const struct row { const char *name; bool (*run)(void); int who; } rows[] = {
#define ROW(f, who) {#f, f, who}
    ROW(insert_then_get, ALL), ROW(a_conflict_carries_the_entry, ALL), ROW(cas_needs_the_version, ALL),
    ROW(a_version_never_comes_back, ALL), ROW(a_txn_is_atomic, ALL),
    ROW(get_or_create_is_one_trip, ALL), ROW(the_last_child_takes_the_parent, ALL),
    ROW(a_parent_with_children_stays, ALL), ROW(counters_add_up_to_a_limit, ALL),
    ROW(a_pool_gives_each_index_once, ALL), ROW(a_freed_index_rests, ALL),
    ROW(idle_entries_expire_and_touched_ones_do_not, ALL), ROW(absolute_entries_do_not_live_longer, ALL),
    ROW(an_expired_child_takes_the_parent, ALL), ROW(a_scan_sees_all, ALL),
    ROW(nonsense_is_refused, ALL), ROW(two_clients_see_one_state, ALL),
    ROW(another_schema_is_named, ALL),
    ROW(a_dry_slot_borrows, STORE), ROW(max_entries_is_a_limit, STORE), ROW(events_can_be_had, STORE),
    ROW(sketches_can_be_had, STORE),
};

static bool open_all(void)
{
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++)
        if ((*numbers[i] = s->backend.table_open(s->backend.ctx, &schemas[i])) < 0)
            return false;
    return subject_wait_ready(s);
}

static bool judge(const struct row *r, uint32_t n)
{
    bool may = r->who == ALL || s->is_store;
    salt = 0x9e3779b9u * (n + 1);
    why[0] = 0;
    bool passed = r->run();
    printf("%-50s %s%s\n", r->name, passed == may ? (may ? "passed" : "fails here, as it must") : "WRONG: ",
           passed == may ? "" : may ? why : "passed, though Redis cannot give it");
    fflush(stdout);
    return passed == may;
}

int main(int argc, char **argv)
{
    char err[300] = "";
    s = argc > 1 ? subject_named(argv[1]) : NULL;
    if (!s) {
        fprintf(stderr, "usage: operations inproc|tcp|shm|verbs|redis|redis-cluster [ROW]\n");
        return 2;
    }
    if (!s->start(s, err, sizeof err) || !open_all()) {
        char fatal[240] = "";
        if (s->own)
            s->fatal(s, fatal, sizeof fatal);
        fprintf(stderr, "%s cannot be used: %s%s\n", s->name, err, fatal);
        return 1;
    }
    bool good = true;
    for (uint32_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (argc < 3 || !strcmp(argv[2], rows[i].name))
            good &= judge(&rows[i], i);
    s->stop(s);
    return good ? 0 : 1;
}
