/* SPDX-License-Identifier: BSD-3-Clause */
/* The answer to `tables`: what a row says, and that the largest one goes through the control socket. */
#include <stdlib.h>
#include <unistd.h>

#include "tests/check.h"

#include "statestore/server/verbs_impl.h"

enum { LARGE = 4000000000u, ASK_MS = 60000 };

static struct shard_snapshot snap;

static struct shard_table *table(const char *name, enum table_kind kind)
{
    struct shard_table *t = &snap.tables[snap.ntables++];
    *t = (struct shard_table){.kind = kind, .schema = {.kind = (uint8_t)kind, .version = 65535, .key_size = 255,
                              .value_size = 65536, .timeout_ms = LARGE, .max_entries = LARGE}};
    memcpy(t->schema.name, name, strlen(name));
    return t;
}

static json_t *empty(void)
{
    snap = (struct shard_snapshot){.status.view_epoch = 1000000};
    return json_pack("{s:[], s:[]}", "leads", "tables");
}

static void a_row_says_what_a_shard_keeps(void **state)
{
    json_t *answer = empty();
    struct shard_table *t = table("a", TABLE_HASH);
    t->entries = 7, t->bytes = 4096, t->events_pending = 2, t->pool_free = 9;
    t = table("p", TABLE_POOL);
    t->entries = 1, t->bytes = 64, t->pool_free = 5, t->pool_resting = 3;
    verbs_tables_add(answer, 2, &snap);
    verbs_tables_add(answer, 4, &snap);
    json_t *tables = json_object_get(answer, "tables"), *leads = json_object_get(answer, "leads");
    const char *wanted[] = {"[[2,7,4096,2,null,null],[4,7,4096,2,null,null]]", "[[2,1,64,0,5,3],[4,1,64,0,5,3]]"};
    assert_int_equal(json_array_size(tables), 2);
    for (size_t i = 0; i < 2; i++) {
        char *text = json_dumps(json_object_get(json_array_get(tables, i), "shards"), JSON_COMPACT);
        assert_string_equal(text, wanted[i]);
        free(text);
    }
    assert_int_equal(json_integer_value(json_object_get(json_array_get(leads, 1), "shard")), 4);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(leads, 1), "view_epoch")), 1000000);
    json_decref(answer);
}

static void write_it(void *ctx, int argc, char **argv, char *reply, uint32_t room)
{
    size_t n = json_dumpb(ctx, reply, room - 1, JSON_COMPACT);
    snprintf(reply + (n < room ? n : 0), 1, "%s", "");
}

static void all_shards_with_all_tables_fit_one_answer(void **state)
{
    char folder[] = "/tmp/tables-test-XXXXXX", path[64], err[200];
    static char reply[1 << 20];
    struct control *c;
    json_t *answer = empty();
    for (int i = 0; i < TABLES_MAX; i++) {
        char name[TABLE_NAME_MAX];
        memset(name, 'x', sizeof name);
        name[0] = (char)('0' + i / 10);
        name[1] = (char)('0' + i % 10);
        name[sizeof name - 1] = '\0';
        struct shard_table *t = table(name, TABLE_POOL);
        memset(t->schema.reactions, 0xff, sizeof t->schema.reactions);
        t->entries = t->events_pending = t->pool_free = t->pool_resting = LARGE;
        t->bytes = 1ull << 40;
    }
    for (uint16_t i = 0; i < STORE_SHARDS_MAX; i++)
        verbs_tables_add(answer, i, &snap);
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/store.sock", folder);
    CHECK(control_start(&c, path, NULL, write_it, answer, err, sizeof err) == 0, "%s", err);
    assert_int_equal(control_ask(path, "tables", reply, sizeof reply, ASK_MS), 0);
    control_stop(c);
    json_t *got = json_loads(reply, 0, NULL);
    CHECK(got && json_equal(got, answer), "%zu bytes: %.60s", json_dumpb(answer, NULL, 0, JSON_COMPACT), reply);
    json_decref(got);
    json_decref(answer);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_says_what_a_shard_keeps),
        cmocka_unit_test(all_shards_with_all_tables_fit_one_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
