/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine on the real thing: two workers, each an engine with a client of
 * its own, on an embedded store of two shards with a backup. Both count up the
 * same entries; every packet that left must be counted exactly once, whatever
 * conflicts, rounds and runs there were.
 */
#include "nf/runtime/scripted_nf.h"

#include <time.h>

#include "client/lethe.h"
#include "common/log/log.h"
#include "statestore/server/embed.h"

enum { WORKERS = 2, PACKETS = 3000, KEYS = 12, SHARDS = 2, PATIENCE_S = 60 };

struct sent {
    uint8_t frame[SCRIPT_FRAME];
    uint32_t key;
    char order;
    bool left, emitted;
};

struct one { /* a worker */
    struct lethe_client *client;
    struct engine *engine;
    struct nf_instance *nf;
};

static struct embed *store;
static struct one workers[WORKERS];
static struct sent *packets;
static int drops[64];

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void emit(void *ctx, void *cookie, const struct packet *p, enum packet_side out)
{
    struct sent *s = cookie;
    CHECK(!s->left, "packet %d left twice", (int)(s - packets));
    s->left = s->emitted = true;
}

static void drop(void *ctx, void *cookie, int reason)
{
    struct sent *s = cookie;
    CHECK(!s->left, "packet %d left twice", (int)(s - packets));
    s->left = true;
    drops[reason]++;
}

static void turn(void)
{
    for (int i = 0; i < WORKERS; i++) {
        engine_flush(workers[i].engine);
        embed_poll(store);
        engine_poll(workers[i].engine, now_us());
    }
}

static void worker_start(struct one *w, uint64_t seed)
{
    char err[300];
    struct lethe_config lc = {.shards = SHARDS, .dial = embed_dial, .dial_ctx = store};
    struct engine_config ec = {.nchain = 1,
                               .store_timeout_ms = PATIENCE_S * 1000,
                               .seed = seed,
                               .emit = emit,
                               .drop = drop};
    w->client = lethe_client_create(&lc, err, sizeof err);
    CHECK(w->client, "%s", err);
    CHECK(nf_instance_create(&script_nf, NULL, &w->nf, err, sizeof err) == 0, "%s", err);
    ec.chain[0] = w->nf;
    ec.backend = backend_lethe(w->client);
    CHECK(engine_create(&ec, &w->engine, err, sizeof err) == 0, "%s", err);
}

static void all_start(void)
{
    char err[300];
    struct embed_config ec = {.shards = SHARDS, .backup = true};
    uint64_t deadline = now_us() + PATIENCE_S * 1000000ull;
    CHECK(embed_start(&store, &ec, err, sizeof err) == 0, "%s", err);
    packets = calloc(PACKETS, sizeof *packets);
    for (int i = 0; i < WORKERS; i++)
        worker_start(&workers[i], (uint64_t)i + 1);
    for (bool ready = false; !ready;) {
        turn();
        ready = embed_copies(store) == 2;
        for (int i = 0; i < WORKERS; i++)
            ready &= lethe_ready(workers[i].client);
        CHECK(now_us() < deadline, "the store does not get ready");
    }
}

static void all_stop(void)
{
    for (int i = 0; i < WORKERS; i++) {
        lethe_client_destroy(workers[i].client);
        engine_destroy(workers[i].engine);
        nf_instance_destroy(workers[i].nf);
    }
    embed_stop(store);
    free(packets);
}

/* Random bursts to random workers until all packets are sent and left. */
static void traffic(uint64_t seed)
{
    static const char orders[] = "rwwwwam-";
    uint64_t state = seed, deadline = now_us() + PATIENCE_S * 1000000ull;
    int n = 0, held = 1;
    while (n < PACKETS || held) {
        struct one *w = &workers[forge_random(&state) % WORKERS];
        struct engine_packet burst[32];
        uint32_t len = 0, want = (uint32_t)(forge_random(&state) % 32);
        for (; n < PACKETS && len < want && len < engine_room(w->engine); n++) {
            struct sent *s = &packets[n];
            char order[2] = {orders[forge_random(&state) % (sizeof orders - 1)], 0};
            s->order = order[0];
            s->key = (uint32_t)(forge_random(&state) % KEYS);
            uint32_t bytes = script_frame(s->frame, (uint16_t)s->key, order, s->key);
            burst[len++] = (struct engine_packet){s, s->frame, bytes, sizeof s->frame};
        }
        engine_rx(w->engine, burst, len, SIDE_INSIDE, now_us());
        turn();
        held = (int)(engine_in_flight(workers[0].engine) + engine_in_flight(workers[1].engine));
        CHECK(now_us() < deadline, "seed %" PRIu64 ": %d packets do not leave", seed, held);
    }
}

struct reading {
    bool done;
    uint64_t value;
};

static void read_done(void *user, const struct txn_result_head *h)
{
    struct reading *r = user;
    const struct txn_result *got = txn_result_of(h, 0);
    r->done = true;
    r->value = 0;
    if (got && got->res == RES_HIT)
        memcpy(&r->value, txn_result_value(got), sizeof r->value);
}

/* What the store holds, read as anybody would. Table numbers are the NF's: it
 * is the only one of its chain. */
static uint64_t stored(int table, uint32_t key)
{
    struct reading r = {false, 0};
    struct lethe_txn *t = lethe_txn_begin(workers[0].client, slot_of(&key, 4), read_done, &r);
    CHECK(t, "the client's window is full");
    lethe_txn_get(t, table, &key, 0);
    lethe_txn_submit(t);
    for (uint64_t deadline = now_us() + PATIENCE_S * 1000000ull; !r.done;) {
        turn();
        CHECK(now_us() < deadline, "a read is not answered");
    }
    return r.value;
}

static uint64_t ups(uint32_t key, const char *orders)
{
    uint64_t n = 0;
    for (int i = 0; i < PACKETS; i++)
        n += packets[i].emitted && packets[i].key == key && strchr(orders, packets[i].order);
    return n;
}

static void every_packet_is_counted_exactly_once(void **state)
{
    const uint64_t seed = 20240817;
    all_start();
    traffic(seed);
    uint64_t reruns = 0, dropped = 0;
    for (int i = 0; i < WORKERS; i++) {
        reruns += engine_stats(workers[i].engine)->reruns;
        for (int k = 0; k < engine_reasons(workers[i].engine); k++)
            if (k != ENGINE_DROP_CONFLICT)
                dropped += engine_drops(workers[i].engine, k);
    }
    CHECK(dropped == 0, "seed %" PRIu64 ": %" PRIu64 " packets dropped, not for conflicts", seed,
          dropped);
    CHECK(reruns > 0, "seed %" PRIu64 ": the workers never met", seed);
    for (uint32_t key = 0; key < KEYS; key++) {
        uint64_t adds = stored(T_COUNTERS, key), written = stored(T_ENTRIES, key);
        CHECK(adds == ups(key, "a"), "seed %" PRIu64 ": counter %u is %" PRIu64 ", not %" PRIu64,
              seed, key, adds, ups(key, "a"));
        /* A round of "m" commits in two hash slots: a conflict in one of them
         * counts the other again, which is what "nothing across" means. */
        CHECK(written >= ups(key, "wm"), "seed %" PRIu64 ": entry %u lost counts", seed, key);
    }
    all_stop();
}

static void without_rounds_nothing_is_counted_twice(void **state)
{
    all_start();
    for (int i = 0; i < PACKETS; i++) {
        struct sent *s = &packets[i];
        s->order = 'w';
        s->key = (uint32_t)i % 3;
        uint32_t bytes = script_frame(s->frame, (uint16_t)s->key, "w", s->key);
        struct engine_packet one = {s, s->frame, bytes, sizeof s->frame};
        struct engine *e = workers[i % WORKERS].engine;
        while (engine_room(e) == 0)
            turn();
        engine_rx(e, &one, 1, SIDE_INSIDE, now_us());
        if (i % 7 == 0)
            turn();
    }
    while (engine_in_flight(workers[0].engine) || engine_in_flight(workers[1].engine))
        turn();
    for (uint32_t key = 0; key < 3; key++)
        assert_int_equal(stored(T_ENTRIES, key), ups(key, "w"));
    all_stop();
}

/* Each entry's time runs out once, and one worker of the two hears of it. */
static void every_expiry_reaches_one_worker(void **state)
{
    enum { ENTRIES = 60 };
    uint64_t heard = 0, deadline = now_us() + PATIENCE_S * 1000000ull;
    all_start();
    for (uint32_t i = 0; i < ENTRIES; i++) {
        struct sent *s = &packets[i];
        s->order = 't';
        s->key = i;
        uint32_t bytes = script_frame(s->frame, (uint16_t)i, "t", i);
        struct engine_packet one = {s, s->frame, bytes, sizeof s->frame};
        engine_rx(workers[i % WORKERS].engine, &one, 1, SIDE_INSIDE, now_us());
        turn();
    }
    while (heard < ENTRIES) {
        turn();
        heard = 0;
        for (int i = 0; i < WORKERS; i++)
            heard += engine_nf_count(workers[i].engine, 0, 1);
        CHECK(now_us() < deadline, "%" PRIu64 " of %d expiries in time", heard, ENTRIES);
    }
    for (uint32_t i = 0; i < ENTRIES; i++)
        while (stored(T_COUNTERS, i) == 0)
            CHECK(now_us() < deadline, "the add of expiry %u", i);
    assert_int_equal(heard, ENTRIES); /* nothing was lost, so nothing came twice */
    for (uint32_t i = 0; i < ENTRIES; i++)
        assert_int_equal(stored(T_COUNTERS, i), 1);
    all_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_packet_is_counted_exactly_once),
        cmocka_unit_test(without_rounds_nothing_is_counted_twice),
        cmocka_unit_test(every_expiry_reaches_one_worker),
    };
    log_init("engine_store_test", "", LOG_LEVEL_WARN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
