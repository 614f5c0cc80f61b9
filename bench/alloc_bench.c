/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Question "alloc": does taking an index from a pool cost more when the pool is
 * nearly full? One shard, stepped in this thread, without a network: its txns,
 * log and results, but no system calls. POOL indexes are filled to 1 % and to
 * 99 %; then, over and over, BATCH random records are freed and, timed, BATCH
 * allocated in the same hash slots, a txn each in one BATCH frame.
 *
 * Two sizes of pool: with few indexes all of it stays in the processor's caches
 * at either fill, with many the full one does not, and that part of the ratio is
 * the memory's and not the algorithm's.
 *
 * "anywhere": filled to 99.9 %, and allocated in random hash slots, so that some run
 * dry and borrow from others: the cost of lending.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bench/process.h"
#include "bench/report.h"
#include "statestore/core/shard.h"

enum { BATCH = 16, RECORD = 32, CONN = 1, INDEXES_MAX = 1 << 20 };

struct settings {
    int runs;
    long allocs;              /* timed, of one point */
    const char *out;
};

struct live { uint32_t index; uint64_t version; };

static struct {
    struct shard *shard;
    struct shard_out effects;
    uint64_t client, seq, now_ms;
    uint8_t table;
    struct live *live;
    uint32_t nlive;
    bool allocating;          /* results are new records */
    uint32_t answered;
    uint8_t frame[1 << 16] __attribute__((aligned(8)));
} b;

static uint64_t random_state;
static uint32_t random_below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 11) % n);
}

static void give_up(const char *why)
{
    fprintf(stderr, "\nalloc bench: %s\n", why);
    exit(1);
}

/* --- the shard ------------------------------------------------------------------------- */

static void on_results(const struct msg_results *m)
{
    const struct txn_result_head *h = (const void *)(m + 1);
    for (uint32_t i = 0; i < m->nres; i++, h = (const void *)((const uint8_t *)h + h->bytes)) {
        const struct txn_result *r = txn_result_first(h);
        if (h->status != TXN_OK)
            give_up(txn_status_text((enum txn_status)h->status));
        if (b.allocating)
            b.live[b.nlive++] = (struct live){r->index, r->version};
        b.answered++;
    }
}

static void on_send(void *ctx, uint32_t conn, const void *frame, uint32_t bytes)
{
    (void)ctx, (void)conn, (void)bytes;
    const struct msg_head *h = frame;
    if (h->type == MSG_CLIENT)
        b.client = ((const struct msg_client *)frame)->client;
    else if (h->type == MSG_TABLE && ((const struct msg_table *)frame)->id >= 0)
        b.table = (uint8_t)((const struct msg_table *)frame)->id;
    else if (h->type == MSG_RESULTS)
        on_results(frame);
    else if (h->type != MSG_WELCOME)
        give_up("the shard answers something else");
}

static void on_close(void *ctx, uint32_t conn, const char *why)
{
    (void)ctx, (void)conn;
    give_up(why);
}

static void on_propose(void *ctx, uint64_t old_epoch, const struct shard_view *want)
{
    (void)ctx, (void)old_epoch, (void)want;
    give_up("a shard that is alone proposes a view");
}

static void on_note(void *ctx, const char *text)
{
    (void)ctx, (void)text;
}

static void say(void *frame, enum msg_type type, uint32_t bytes)
{
    msg_head_set(frame, type, bytes, 0, 0);
    struct shard_event ev = {.kind = SHARD_EV_FRAME, .conn = CONN, .frame = frame,
                             .frame_bytes = bytes};
    shard_step(b.shard, &ev, b.now_ms, &b.effects);
}

static void start(uint32_t indexes)
{
    struct shard_config config = {.shards = 1, .self = {.node = 1, .incarnation = 1 << 20},
                                  .seed = 1, .failure_timeout_ms = 500};
    struct shard_view alone = {.epoch = 1, .nmembers = 1, .members = {config.self}};
    struct shard_event view = {.kind = SHARD_EV_VIEW, .view = &alone};
    struct msg_hello hello = {.magic = MSG_MAGIC, .proto_min = MSG_PROTO_MIN,
                              .proto_max = MSG_PROTO_MAX, .role = ROLE_CLIENT};
    struct msg_client_open lease = {.nonce = 1};
    struct msg_table_open open = {.schema = {.name = "bench.pool", .kind = TABLE_POOL, .version = 1,
                                             .key_size = 4, .part_len = 4, .value_size = RECORD,
                                             .max_entries = indexes}};
    b.effects = (struct shard_out){NULL, on_send, on_close, on_propose, on_note};
    b.seq = b.nlive = 0;
    b.now_ms = 1000;
    random_state = 88172645463325252u;
    if (!(b.shard = shard_create(&config)))
        give_up("out of memory");
    shard_step(b.shard, &view, b.now_ms, &b.effects);
    b.now_ms += 10000; /* whatever it waits for first is over */
    struct shard_event tick = {.kind = SHARD_EV_TICK};
    shard_step(b.shard, &tick, b.now_ms, &b.effects);
    say(&hello, MSG_HELLO, sizeof hello);
    say(&lease, MSG_CLIENT_OPEN, sizeof lease);
    open.client = b.client;
    say(&open, MSG_TABLE_OPEN, sizeof open);
}

/* --- batches ------------------------------------------------------------------------------ */

static uint32_t add_txn(uint32_t used, uint8_t slot, const struct txn_op *op, const void *key)
{
    static const uint8_t record[RECORD];
    struct txn_builder t;
    uint8_t *at = b.frame + used;
    txn_begin(&t, at, TXN_BYTES_MAX, slot);
    txn_add_op(&t, op, key, NULL, record);
    used += txn_end(&t);
    ((struct txn_head *)at)->seq = ++b.seq;
    return used;
}

static void send_batch(uint32_t used, int n)
{
    struct msg_batch *m = (struct msg_batch *)b.frame;
    *m = (struct msg_batch){.client = b.client, .ack = b.seq - (uint64_t)n, .ntxn = (uint32_t)n};
    b.answered = 0;
    say(m, MSG_BATCH, used);
    if (b.answered != (uint32_t)n)
        give_up("not every txn was answered at once");
}

/* Returns the ns that the shard took. */
static uint64_t alloc_in(const uint8_t *slots, int n)
{
    struct txn_op op = {.code = TXN_ALLOC, .table = b.table, .value_len = RECORD};
    uint32_t used = sizeof(struct msg_batch);
    for (int i = 0; i < n; i++)
        used = add_txn(used, slots[i], &op, NULL);
    b.allocating = true;
    uint64_t t0 = wall_ns();
    send_batch(used, n);
    return wall_ns() - t0;
}

static uint64_t free_random(uint8_t *slots, int n)
{
    uint32_t used = sizeof(struct msg_batch);
    for (int i = 0; i < n; i++) {
        uint32_t which = random_below(b.nlive);
        struct live l = b.live[which];
        struct txn_op op = {.code = TXN_FREE, .table = b.table, .key_len = 4, .arg0 = l.version};
        b.live[which] = b.live[--b.nlive];
        slots[i] = slot_of_index(l.index);
        used = add_txn(used, slots[i], &op, &l.index);
    }
    b.allocating = false;
    uint64_t t0 = wall_ns();
    send_batch(used, n);
    return wall_ns() - t0;
}

static void fill(uint32_t indexes, uint32_t per_mille)
{
    uint32_t each = indexes / LETHE_SLOTS, want = each * per_mille / 1000;
    uint8_t slots[BATCH];
    for (uint32_t slot = 0; slot < LETHE_SLOTS; slot++)
        for (uint32_t left = want ? want : 1; left;) {
            uint32_t n = left < BATCH ? left : BATCH;
            memset(slots, (int)slot, n);
            alloc_in(slots, (int)n);
            left -= n;
        }
}

static void name_of(char *name, size_t room, uint32_t indexes, uint32_t per_mille)
{
    if (per_mille > 990)
        snprintf(name, room, "pool of %uk, 99.9 %% full, anywhere", indexes / 1024);
    else
        snprintf(name, room, "pool of %uk, %u %% full", indexes / 1024, per_mille / 10);
}

static void measure(const struct settings *s, struct report *r, uint32_t indexes,
                    uint32_t per_mille)
{
    char name[64];
    uint8_t slots[BATCH];
    uint64_t alloc_ns = 0, free_ns = 0;
    start(indexes);
    fill(indexes, per_mille);
    for (long i = -s->allocs / 10; i < s->allocs; i += BATCH) { /* the first tenth warms up */
        uint64_t f = free_random(slots, BATCH);
        for (int k = 0; k < BATCH && per_mille > 990; k++)
            slots[k] = (uint8_t)random_below(LETHE_SLOTS);
        uint64_t a = alloc_in(slots, BATCH);
        free_ns += i >= 0 ? f : 0;
        alloc_ns += i >= 0 ? a : 0;
        b.now_ms += i % 4096 == 0;
    }
    name_of(name, sizeof name, indexes, per_mille);
    long done = (s->allocs + BATCH - 1) / BATCH * BATCH;
    report_add(r, name, "alloc", "ns", (double)alloc_ns / (double)done);
    report_add(r, name, "free", "ns", (double)free_ns / (double)done);
    shard_destroy(b.shard);
}

static double full_over_empty(const struct report *r, uint32_t indexes, uint32_t per_mille)
{
    char full[64], empty[64];
    name_of(full, sizeof full, indexes, per_mille);
    name_of(empty, sizeof empty, indexes, 10);
    return report_median(r, full, "alloc") / report_median(r, empty, "alloc");
}

static int usage(const char *self, int code)
{
    fprintf(code ? stderr : stdout,
            "usage: %s [--runs N] [--allocs N] [--out DIR]\n"
            "Time of a pool's alloc at 1 %%, 99 %% and 99.9 %% full. Writes DIR/alloc.json. Defaults: 5 runs\n"
            "of 500000 a point, build/bench.\n", self);
    return code;
}

int main(int argc, char **argv)
{
    struct settings s = {5, 500000, "build/bench"};
    static const struct option options[] = {{"runs", 1, 0, 'r'}, {"allocs", 1, 0, 'a'},
                                            {"out", 1, 0, 'o'},  {"help", 0, 0, 'h'}, {0, 0, 0, 0}};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 'r': s.runs = atoi(optarg); break;
        case 'a': s.allocs = atol(optarg); break;
        case 'o': s.out = optarg; break;
        case 'h': return usage(argv[0], 0);
        default: return usage(argv[0], 2);
        }
    }
    if (s.runs < 1 || s.runs > 50 || s.allocs < 1000 || optind != argc)
        return usage(argv[0], 2);
    mkdir(s.out, 0755);
    pin_to_core(0);
    b.live = calloc(INDEXES_MAX, sizeof *b.live);
    struct report *r = report_create("alloc", "A pool's alloc, nearly empty and nearly full", s.runs);
    for (int run = 0; run < s.runs; run++)
        for (uint32_t indexes = 1 << 16; indexes <= INDEXES_MAX; indexes <<= 4) {
            report_progress("alloc: run %d of %d, pool of %u ...", run + 1, s.runs, indexes);
            measure(&s, r, indexes, 10);
            measure(&s, r, indexes, 990);
            measure(&s, r, indexes, 999);
        }
    report_ratio(r, "alloc_full_over_empty_64k", full_over_empty(r, 1 << 16, 990), 1);
    report_ratio(r, "alloc_full_over_empty_1m", full_over_empty(r, 1 << 20, 990), 0);
    report_ratio(r, "alloc_lent_over_empty_64k", full_over_empty(r, 1 << 16, 999), 0);
    report_note(r, "A txn each, 16 in a frame; executed, logged and answered, in this process.");
    free(b.live);
    return report_finish(r, s.out) ? 1 : 0;
}
