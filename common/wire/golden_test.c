/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Protocol version 1, byte for byte. Each message is built from named values
 * and compared with tests/golden/v1/<message>.bin; those files are what
 * deployed programs send and are never rewritten: a change that fails here
 * needs a new protocol version. LETHE_GOLDEN_WRITE=1 writes files that are
 * missing (a new message), and only those.
 */
#include "tests/check.h"

#include <errno.h>
#include <stdlib.h>

#include "common/wire/crc.h"
#include "common/wire/msg.h"

enum { ROOM = 4096 };
static const struct msg_node PRIMARY = {.node = 1, .incarnation = 0x1122334455667788};
static const struct msg_node BACKUP = {.node = 2, .incarnation = 0x99aabbccddeeff01};

static uint32_t finish(void *frame, enum msg_type type, uint32_t bytes)
{
    msg_head_set(frame, type, bytes, 3, 7);
    ((struct msg_head *)frame)->map_epoch = 5;
    return bytes;
}
/* Assigns the fixed fields, then the head. */
#define FIXED(frame, type, struct_name, ...)                                                       \
    (*(struct struct_name *)(frame) = (struct struct_name){__VA_ARGS__},                           \
     finish(frame, type, sizeof(struct struct_name)))

static uint32_t hello(void *f)
{
    return FIXED(f, MSG_HELLO, msg_hello, .magic = MSG_MAGIC, .proto_min = 1, .proto_max = 1,
                 .role = ROLE_REPLICA, .self = BACKUP, .tenant = "tenant-a");
}
static uint32_t welcome(void *f)
{
    return FIXED(f, MSG_WELCOME, msg_welcome, .proto = 1, .primary = 1, .shards = 4,
                 .self = PRIMARY, .lease_ms = 30000);
}
static uint32_t error(void *f)
{
    return FIXED(f, MSG_ERROR, msg_error, .code = EPROTO, .text = "no common protocol version");
}
static uint32_t client_open(void *f)
{
    return FIXED(f, MSG_CLIENT_OPEN, msg_client_open, .nonce = 0x0102030405060708);
}
static uint32_t client(void *f)
{
    return FIXED(f, MSG_CLIENT, msg_client, .nonce = 0x0102030405060708, .client = 42,
                 .lease_ms = 30000);
}
static uint32_t table_open(void *f)
{
    return FIXED(f, MSG_TABLE_OPEN, msg_table_open, .client = 42,
                 .schema = {.name = "nat44.session", .kind = TABLE_HASH,
                            .durability = DURABLE_SYNC, .version = 3, .key_size = 24,
                            .part_off = 4, .part_len = 8, .flags = TABLE_PARENT_DIES, .value_size = 40,
                            .timeout_ms = 300000, .max_entries = 1000000,
                            .reactions = {{REACT_FREE, 28, 12, {0}, "nat44.port"},
                                          {REACT_SUB, 4, 4, {0}, "nat44.cap"}}});
}
static uint32_t table(void *f)
{
    return FIXED(f, MSG_TABLE, msg_table, .name = "nat44.session", .id = -EEXIST,
                 .text = "the store has another schema");
}
static uint32_t batch(void *f)
{
    struct msg_batch *m = f;
    static const uint8_t key[12] = "0123456789a", value[16] = "value-value-val";
    struct txn_builder b;
    *m = (struct msg_batch){.client = 42, .ack = 99, .ntxn = 2};
    txn_begin(&b, m + 1, ROOM - sizeof *m, 200);
    int get = txn_add_op(&b, &(struct txn_op){.code = TXN_GET, .table = 1, .key_len = 12,
                             .flags = TXN_TOUCH | TXN_SKIP_IF_PRESENT}, key, NULL, NULL);
    int alloc = txn_add_op(&b, &(struct txn_op){.code = TXN_ALLOC, .table = 2, .value_len = 16},
                           NULL, NULL, value);
    txn_add_op(&b, &(struct txn_op){.code = TXN_INSERT, .table = 1, .flags = TXN_HAS_PARENT,
                   .key_len = 12, .value_len = 16, .timeout_ms = 4000, .parent_table = 3,
                   .parent_key_len = 12}, key, key, value);
    txn_add_patch(&b, (struct txn_patch){.op = (uint8_t)alloc, .from = PATCH_INDEX, .len = 4,
                      .into = PATCH_INTO_VALUE, .into_off = 8});
    txn_skip_to_here(&b, get);
    uint32_t bytes = txn_end(&b);
    ((struct txn_head *)(m + 1))->seq = 100;

    struct txn_head *second = (struct txn_head *)((uint8_t *)(m + 1) + bytes);
    txn_begin(&b, second, ROOM - sizeof *m - bytes, 201);
    txn_add_op(&b, &(struct txn_op){.code = TXN_ADD_LIMIT, .table = 4, .key_len = 4,
                   .value_len = 8, .arg0 = 64}, key, NULL, &(int64_t){-1});
    bytes += txn_end(&b);
    second->seq = 101;
    return finish(f, MSG_BATCH, (uint32_t)sizeof *m + bytes);
}
static uint32_t results(void *f)
{
    struct msg_results *m = f;
    *m = (struct msg_results){.client = 42, .nres = 2};
    struct txn_result_head *h = (struct txn_result_head *)(m + 1);
    *h = (struct txn_result_head){.seq = 100, .bytes = 16 + 32, .status = TXN_OK, .nres = 1};
    struct txn_result *r = (struct txn_result *)(h + 1);
    *r = (struct txn_result){.op = 0, .res = RES_HIT, .value_len = 5, .index = 77, .version = 12,
                             .timeout_ms = 4000, .bytes = 32};
    memcpy(r + 1, "value\0\0", 8);
    h = (struct txn_result_head *)((uint8_t *)h + h->bytes);
    *h = (struct txn_result_head){.seq = 101, .bytes = 16, .status = TXN_LIMIT, .failed_op = 0};
    return finish(f, MSG_RESULTS, sizeof *m + 48 + 16);
}
static uint32_t join(void *f)
{
    return FIXED(f, MSG_JOIN, msg_join, .self = BACKUP);
}
static uint32_t view(void *f)
{
    return FIXED(f, MSG_VIEW, msg_view, .members = {PRIMARY, BACKUP}, .nmembers = 2);
}
static uint32_t snap_begin(void *f)
{
    return FIXED(f, MSG_SNAP_BEGIN, msg_snap_begin, .to = BACKUP, .snapshot = 8, .position = 1000,
                 .shard_time_ms = 123456);
}
static uint32_t chunk(void *f)
{
    struct msg_chunk *m = f;
    *m = (struct msg_chunk){.to = BACKUP, .snapshot = 8, .position = 1010, .slot_or_base = 256,
                            .part = 1, .last_part = 2, .body_bytes = 13};
    memcpy(m + 1, "snapshot body\0\0\0", 16);
    m->crc = crc32c(0, m + 1, 13);
    return finish(f, MSG_CHUNK, sizeof *m + 16);
}
static uint32_t chunk_ack(void *f)
{
    return FIXED(f, MSG_CHUNK_ACK, msg_chunk_ack, .self = BACKUP, .snapshot = 8,
                 .slot_or_base = 17, .part = 1, .refused = 1);
}
static uint32_t snap_end(void *f)
{
    return FIXED(f, MSG_SNAP_END, msg_snap_end, .to = BACKUP, .snapshot = 8);
}
static uint32_t append(void *f)
{
    struct msg_append *m = f;
    *m = (struct msg_append){.from = PRIMARY, .first = 1001, .commit = 1000,
                             .shard_time_ms = 123500, .digest_position = 990,
                             .digest = 0xfeedfacecafebeef, .count = 2, .body_bytes = 16};
    memcpy(m + 1, "two log entries.", 16);
    m->crc = crc32c(0, m + 1, 16);
    return finish(f, MSG_APPEND, sizeof *m + 16);
}
static uint32_t ack(void *f)
{
    return FIXED(f, MSG_ACK, msg_ack, .self = BACKUP, .position = 1002, .digest_position = 990,
                 .digest = 0xfeedfacecafebeef, .drifted = 1);
}
static uint32_t status(void *f)
{
    return FIXED(f, MSG_STATUS, msg_status, .nonce = 77);
}
static uint32_t status_is(void *f)
{
    return FIXED(f, MSG_STATUS_IS, msg_status_is, .nonce = 77,
                 .status = {.position = 1, .commit = 2, .digest = 3, .entries = 4, .pool_used = 5,
                            .pool_free = 6, .pool_resting = 7, .txns = 8, .conflicts = 9,
                            .exhausted = 10, .expired = 11, .touches_logged = 12,
                            .duplicates = 13, .clients = 14, .results_kept = 15,
                            .memory_bytes = 16, .shard_time_ms = 17, .view_epoch = 18,
                            .role = SHARD_BACKUP, .copies = 2, .drifts = 20, .waiting = 21});
}

static uint32_t challenge(void *f)
{
    return FIXED(f, MSG_CHALLENGE, msg_challenge, .self = PRIMARY,
                 .nonce = "thirty-two bytes of the listener");
}
static uint32_t proof(void *f)
{
    return FIXED(f, MSG_PROOF, msg_proof, .nonce = "thirty-two bytes of the dialler",
                 .mac = "a MAC of thirty-two bytes, his.");
}
static uint32_t proven(void *f)
{
    return FIXED(f, MSG_PROVEN, msg_proven, .mac = "a MAC of thirty-two bytes, ours");
}

static const struct { const char *name; enum msg_type type; uint32_t (*build)(void *); } messages[] = {
    {"hello", MSG_HELLO, hello}, {"welcome", MSG_WELCOME, welcome}, {"error", MSG_ERROR, error},
    {"client_open", MSG_CLIENT_OPEN, client_open}, {"client", MSG_CLIENT, client},
    {"table_open", MSG_TABLE_OPEN, table_open}, {"table", MSG_TABLE, table},
    {"batch", MSG_BATCH, batch}, {"results", MSG_RESULTS, results}, {"join", MSG_JOIN, join},
    {"view", MSG_VIEW, view}, {"snap_begin", MSG_SNAP_BEGIN, snap_begin},
    {"chunk", MSG_CHUNK, chunk}, {"chunk_ack", MSG_CHUNK_ACK, chunk_ack},
    {"snap_end", MSG_SNAP_END, snap_end}, {"append", MSG_APPEND, append}, {"ack", MSG_ACK, ack},
    {"status", MSG_STATUS, status}, {"status_is", MSG_STATUS_IS, status_is},
    {"challenge", MSG_CHALLENGE, challenge}, {"proof", MSG_PROOF, proof},
    {"proven", MSG_PROVEN, proven},
};
enum { MESSAGES = sizeof messages / sizeof messages[0] };

static uint32_t read_golden(const char *name, void *to)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s.bin", LETHE_GOLDEN_DIR, name);
    FILE *f = fopen(path, "rb");
    if (!f)
        return 0;
    size_t n = fread(to, 1, ROOM, f);
    fclose(f);
    return (uint32_t)n;
}

static void write_golden(const char *name, const void *frame, uint32_t bytes)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s.bin", LETHE_GOLDEN_DIR, name);
    FILE *f = fopen(path, "wbx");
    CHECK(f, "%s: %s", path, strerror(errno));
    assert_int_equal(fwrite(frame, 1, bytes, f), bytes);
    fclose(f);
}

static void every_message_has_a_golden_file(void **state)
{
    for (int type = 1; type < MSG_TYPE_END; type++) {
        int found = 0;
        for (int i = 0; i < MESSAGES; i++)
            found += messages[i].type == (enum msg_type)type;
        CHECK(found == 1, "message type %d", type);
    }
}

static void messages_are_as_they_always_were(void **state)
{
    static uint64_t built[ROOM / 8], golden[ROOM / 8];
    for (int i = 0; i < MESSAGES; i++) {
        const char *name = messages[i].name;
        memset(built, 0, sizeof built);
        uint32_t bytes = messages[i].build(built);
        const char *why = msg_validate(built, bytes);
        CHECK(!why, "%s: %s", name, why);
        uint32_t had = read_golden(name, golden);
        if (had == 0 && getenv("LETHE_GOLDEN_WRITE")) {
            write_golden(name, built, bytes);
            continue;
        }
        CHECK(had == bytes, "%s: %u bytes, the golden file has %u", name, bytes, had);
        for (uint32_t at = 0; at < bytes; at++)
            CHECK(((uint8_t *)built)[at] == ((uint8_t *)golden)[at],
                  "%s: byte %u is 0x%02x, was 0x%02x", name, at, ((uint8_t *)built)[at],
                  ((uint8_t *)golden)[at]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_has_a_golden_file),
        cmocka_unit_test(messages_are_as_they_always_were),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
