/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Example 2: the client in a libuv loop. The loop sleeps on one descriptor;
 * nothing polls. A timer adds to a counter ten times, then reads it.
 *
 * Three things make a sleeping loop complete:
 *   uv_poll on lethe_fd     something came in
 *   a timer at lethe_next_us  a retry or the lease is due, also in silence
 *   uv_prepare: lethe_arm   just before sleeping: "really nothing to do?"
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "client/lethe.h"

enum { ADDS = 10, ADD_EVERY_MS = 20, PATIENCE_MS = 20000 };

static const struct table_schema counters = {
    .name = "example_counters",
    .kind = TABLE_COUNTERS,
    .version = 1,
    .key_size = 8,
    .part_len = 8,
    .value_size = 2 * sizeof(int64_t), /* two fields: packets, bytes */
};

struct app {
    uv_loop_t loop;
    uv_poll_t incoming;
    uv_timer_t deadline, adder, patience;
    uv_prepare_t before_sleep;
    struct lethe_client *client;
    int table;
    int added, answered;
    int64_t before[2], after[2];
    bool failed;
};

static uint64_t now_us(void)
{
    return uv_hrtime() / 1000;
}

static void finish(struct app *app, bool failed)
{
    app->failed = failed;
    uv_stop(&app->loop);
}

/* --- the client in the loop ------------------------------------------------------- */

static void turn(struct app *app)
{
    lethe_poll(app->client, now_us());
}

static void on_incoming(uv_poll_t *h, int status, int events)
{
    turn(h->data);
}

static void on_deadline(uv_timer_t *h)
{
    turn(h->data);
}

static void on_before_sleep(uv_prepare_t *h)
{
    struct app *app = h->data;
    lethe_flush(app->client); /* what this turn submitted, in one frame per shard */
    uint64_t now = now_us(), next = lethe_next_us(app->client), wait_ms = 0;
    if (lethe_arm(app->client) && next > now)
        wait_ms = (next - now + 999) / 1000;
    uv_timer_start(&app->deadline, on_deadline, wait_ms < 1000 ? wait_ms : 1000, 0);
}

/* --- what the program is about ------------------------------------------------------- */

static const uint64_t key = 42;

static void copy_fields(const struct txn_result_head *result, int64_t fields[2])
{
    const struct txn_result *r = txn_result_of(result, 0);
    const int64_t *value = r && r->value_len == 16 ? (const int64_t *)txn_result_value(r) : NULL;
    fields[0] = value ? value[0] : 0;
    fields[1] = value ? value[1] : 0;
}

static void read_counter(struct app *app, lethe_done done)
{
    struct lethe_txn *t = lethe_txn_begin(app->client, slot_of(&key, sizeof key), done, app);
    if (!t) {
        finish(app, true);
        return;
    }
    lethe_txn_get(t, app->table, &key, 0);
    lethe_txn_submit(t);
}

static void on_read_after(void *user, const struct txn_result_head *result)
{
    struct app *app = user;
    copy_fields(result, app->after);
    int64_t packets = app->after[0] - app->before[0], bytes = app->after[1] - app->before[1];
    printf("counted %" PRId64 " packets, %" PRId64 " bytes\n", packets, bytes);
    finish(app, packets != ADDS || bytes != 100 * ADDS);
}

static void on_added(void *user, const struct txn_result_head *result)
{
    struct app *app = user;
    if (result->status != TXN_OK)
        finish(app, true);
    if (++app->answered == ADDS)
        read_counter(app, on_read_after);
}

static void on_add(uv_timer_t *h)
{
    struct app *app = h->data;
    int64_t deltas[2] = {1, 100};
    struct lethe_txn *t = lethe_txn_begin(app->client, slot_of(&key, sizeof key), on_added, app);
    if (!t)
        return; /* the window is full: the next tick is early enough */
    /* Additions commute, so they need no guard; each is done exactly once,
     * however often it has to be sent. */
    lethe_txn_add(t, app->table, &key, deltas);
    lethe_txn_submit(t);
    printf("add %d\n", ++app->added);
    if (app->added == ADDS)
        uv_timer_stop(h);
}

static void on_read_before(void *user, const struct txn_result_head *result)
{
    struct app *app = user;
    copy_fields(result, app->before);
    uv_timer_start(&app->adder, on_add, 0, ADD_EVERY_MS);
}

static void on_wait_ready(uv_timer_t *h)
{
    struct app *app = h->data;
    if (!lethe_ready(app->client))
        return;
    uv_timer_stop(h);
    read_counter(app, on_read_before);
}

static void on_patience(uv_timer_t *h)
{
    struct app *app = h->data;
    struct lethe_status st;
    lethe_status(app->client, &st);
    fprintf(stderr, "no end in sight: %s\n", st.fatal[0] ? st.fatal : st.trouble);
    finish(app, true);
}

/* --- set-up -------------------------------------------------------------------------------- */

static void start_loop(struct app *app)
{
    uv_loop_init(&app->loop);
    uv_poll_init(&app->loop, &app->incoming, lethe_fd(app->client));
    uv_timer_init(&app->loop, &app->deadline);
    uv_timer_init(&app->loop, &app->adder);
    uv_timer_init(&app->loop, &app->patience);
    uv_prepare_init(&app->loop, &app->before_sleep);
    app->incoming.data = app->deadline.data = app->adder.data = app->patience.data =
        app->before_sleep.data = app;
    uv_poll_start(&app->incoming, UV_READABLE, on_incoming);
    uv_prepare_start(&app->before_sleep, on_before_sleep);
    uv_timer_start(&app->adder, on_wait_ready, 0, 5);
    uv_timer_start(&app->patience, on_patience, PATIENCE_MS, 0);
}

static void close_handle(uv_handle_t *h, void *arg)
{
    uv_close(h, NULL);
}

int main(int argc, char **argv)
{
    char err[200];
    static struct app app;
    if (argc != 2) {
        fprintf(stderr, "usage: %s HOST:PORT\n", argv[0]);
        return 1;
    }
    struct lethe_config config = {.address = argv[1], .shards = 1};
    app.client = lethe_client_create(&config, err, sizeof err);
    if (!app.client) {
        fprintf(stderr, "%s\n", err);
        return 1;
    }
    app.table = lethe_table_open(app.client, &counters);
    start_loop(&app);
    uv_run(&app.loop, UV_RUN_DEFAULT);
    uv_walk(&app.loop, close_handle, NULL);
    uv_run(&app.loop, UV_RUN_DEFAULT);
    uv_loop_close(&app.loop);
    lethe_client_destroy(app.client);
    puts(app.failed ? "FAILED" : "ok");
    return app.failed ? 1 : 0;
}
