/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Each protocol version, byte for byte. Each message is built from named values
 * and compared with tests/golden/v<protocol>/<message>.bin; those files are what
 * deployed programs send and are never rewritten: a change that fails here
 * needs a new protocol version. What a later protocol added has a value other
 * than zero there, and zero in the earlier one. LETHE_GOLDEN_WRITE=1 writes
 * files that are missing (a new message), and only those.
 */
#include "tests/check.h"

#include <errno.h>
#include <stdlib.h>

#include "common/wire/crc.h"
#include "common/wire/msg.h"

enum { ROOM = 4096 };
static const struct msg_node PRIMARY = {.node = 1, .incarnation = 0x1122334455667788};
static const struct msg_node BACKUP = {.node = 2, .incarnation = 0x99aabbccddeeff01};

static uint8_t proto; /* of the message being built */

static uint32_t since_2(uint32_t value)
{
    return proto >= 2 ? value : 0;
}

static uint32_t finish(void *frame, enum msg_type type, uint32_t bytes)
{
    msg_head_set(frame, type, bytes, 3, 7);
    ((struct msg_head *)frame)->map_epoch = 5;
    msg_speak(frame, proto);
    return bytes;
}
/* Assigns the fixed fields, then the head. */
#define FIXED(frame, type, struct_name, ...)                                                       \
    (*(struct struct_name *)(frame) = (struct struct_name){__VA_ARGS__},                           \
     finish(frame, type, sizeof(struct struct_name)))

static uint32_t hello(void *f)
{
    return FIXED(f, MSG_HELLO, msg_hello, .magic = MSG_MAGIC, .proto_min = 1, .proto_max = proto,
                 .role = ROLE_REPLICA, .self = BACKUP, .tenant = "tenant-a");
}
static uint32_t welcome(void *f)
{
    return FIXED(f, MSG_WELCOME, msg_welcome, .proto = proto, .primary = 1, .shards = 4,
                 .self = PRIMARY, .lease_ms = 30000, .primary_node = since_2(1));
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
    ((struct txn_head *)(m + 1))->slot_epoch = since_2(0x01020304);

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
    *m = (struct msg_results){.client = 42, .nres = 2 + since_2(1)};
    struct txn_result_head *h = (struct txn_result_head *)(m + 1);
    *h = (struct txn_result_head){.seq = 100, .bytes = 16 + 32, .status = TXN_OK, .nres = 1};
    struct txn_result *r = (struct txn_result *)(h + 1);
    *r = (struct txn_result){.op = 0, .res = RES_HIT, .value_len = 5, .index = 77, .version = 12,
                             .timeout_ms = 4000, .bytes = 32};
    memcpy(r + 1, "value\0\0", 8);
    h = (struct txn_result_head *)((uint8_t *)h + h->bytes);
    *h = (struct txn_result_head){.seq = 101, .bytes = 16, .status = TXN_LIMIT, .failed_op = 0};
    if (proto == 1)
        return finish(f, MSG_RESULTS, sizeof *m + 48 + 16);
    *++h = (struct txn_result_head){.seq = 102, .bytes = 24, .status = TXN_MOVED};
    *(struct txn_moved *)(h + 1) = (struct txn_moved){.slot = 201, .shard = 2, .slot_epoch = 9};
    return finish(f, MSG_RESULTS, sizeof *m + 48 + 16 + 24);
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
                             .digest = 0xfeedfacecafebeef, .count = 2, .body_bytes = 16,
                             .stamp = since_2(0xfffffff0)};
    memcpy(m + 1, "two log entries.", 16);
    m->crc = crc32c(0, m + 1, 16);
    return finish(f, MSG_APPEND, sizeof *m + 16);
}
static uint32_t ack(void *f)
{
    return FIXED(f, MSG_ACK, msg_ack, .self = BACKUP, .position = 1002, .digest_position = 990,
                 .digest = 0xfeedfacecafebeef, .drifted = 1, .stamp = since_2(0xfffffff0));
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


/* --- since protocol 2 ---------------------------------------------------------------- */

static const struct move_id MOVE = {.what = MOVE_SLOT, .slot = 201, .from_shard = 3, .epoch = 9};

static uint32_t fetch(void *f)
{
    return FIXED(f, MSG_FETCH, msg_fetch, .from = PRIMARY, .first = 1001);
}
static uint32_t tail(void *f)
{
    struct msg_append *m = f;
    *m = (struct msg_append){.from = BACKUP, .first = 1001, .commit = 1000, .shard_time_ms = 123500,
                             .count = 1, .body_bytes = 8};
    memcpy(m + 1, "a tail.", 8);
    m->crc = crc32c(0, m + 1, 8);
    return finish(f, MSG_TAIL, sizeof *m + 8);
}
static uint32_t move_begin(void *f)
{
    return FIXED(f, MSG_MOVE_BEGIN, msg_move_begin, .move = MOVE, .attempt = 4,
                 .shard_time_ms = 123600);
}
static uint32_t move_part(void *f)
{
    struct msg_move_part *m = f;
    *m = (struct msg_move_part){.move = {.what = MOVE_INDEXES, .slot = 17, .from_shard = 1, .epoch = 2},
                                .attempt = 4, .part = 1, .body_bytes = 13};
    memcpy(m + 1, "effects of it\0\0", 16);
    m->crc = crc32c(0, m + 1, 13);
    return finish(f, MSG_MOVE_PART, sizeof *m + 16);
}
static uint32_t move_end(void *f)
{
    return FIXED(f, MSG_MOVE_END, msg_move_end, .move = MOVE, .attempt = 4, .parts = 2);
}
static uint32_t move_ack(void *f)
{
    return FIXED(f, MSG_MOVE_ACK, msg_move_ack, .move = MOVE, .attempt = 4, .state = MOVE_REFUSED,
                 .next = 1, .text = "table flows: the destination has another schema");
}
static uint32_t map_get(void *f)
{
    return FIXED(f, MSG_MAP_GET, msg_map_get, .client = 42);
}
static uint32_t map(void *f)
{
    struct msg_map *m = f;
    *m = (struct msg_map){0};
    for (int i = 192; i < LETHE_SLOTS; i++)
        m->slots[i] = (struct map_slot){.shard = 3, .known = 1};
    m->slots[201] = (struct map_slot){.shard = 2, .known = 1, .epoch = 9};
    return finish(f, MSG_MAP, sizeof *m);
}
static uint32_t consume(void *f)
{
    return FIXED(f, MSG_CONSUME, msg_consume, .client = 42, .table = 5, .want = 1);
}
static uint32_t events(void *f)
{
    struct msg_events *m = f;
    *m = (struct msg_events){.client = 42, .epoch = 6, .first = 70, .table = 5, .slot = 201,
                             .count = 2, .body_bytes = 40 + 24};
    struct msg_event *e = (struct msg_event *)(m + 1);
    *e = (struct msg_event){.version = 900, .time_ms = 123456, .key_len = 4, .value_len = 7,
                            .bytes = 40};
    memcpy(e + 1, "key1payload\0\0\0\0", 16);
    e = (struct msg_event *)((uint8_t *)e + 40);
    *e = (struct msg_event){.version = 901, .time_ms = 123457, .bytes = 24};
    return finish(f, MSG_EVENTS, sizeof *m + 40 + 24);
}
static uint32_t events_ack(void *f)
{
    return FIXED(f, MSG_EVENTS_ACK, msg_events_ack, .client = 42, .epoch = 6, .cursor = 71,
                 .table = 5, .slot = 201);
}
static uint32_t places(void *f)
{
    struct msg_places *m = f;
    *m = (struct msg_places){.client = 42, .shard_time_ms = 123456, .stamp = 0x01020304,
                             .left_ms = 180, .nplaces = 2};
    struct msg_place *p = (struct msg_place *)(m + 1);
    *p = (struct msg_place){.seq = 100, .address = 0x7f0011223340, .rkey = 0x00c0ffee,
                            .slot_epoch = 9, .incarnation = 3, .op = 0, .lines = 2};
    p[1] = (struct msg_place){.seq = 101, .address = 0x7f0011223380, .rkey = 0x00c0ffee,
                              .incarnation = 1, .op = 2, .lines = 1};
    return finish(f, MSG_PLACES, sizeof *m + 2 * sizeof *p);
}

static uint32_t leave(void *f)
{
    return FIXED(f, MSG_LEAVE, msg_leave, .self = BACKUP);
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
    {"fetch", MSG_FETCH, fetch}, {"tail", MSG_TAIL, tail},
    {"move_begin", MSG_MOVE_BEGIN, move_begin}, {"move_part", MSG_MOVE_PART, move_part},
    {"move_end", MSG_MOVE_END, move_end}, {"move_ack", MSG_MOVE_ACK, move_ack},
    {"map_get", MSG_MAP_GET, map_get}, {"map", MSG_MAP, map}, {"consume", MSG_CONSUME, consume},
    {"events", MSG_EVENTS, events}, {"events_ack", MSG_EVENTS_ACK, events_ack},
    {"places", MSG_PLACES, places}, {"leave", MSG_LEAVE, leave},
};
enum { MESSAGES = sizeof messages / sizeof messages[0] };

static FILE *open_golden(const char *name, const char *mode, char *path, size_t room)
{
    snprintf(path, room, "%s/v%u/%s.bin", LETHE_GOLDEN_DIR, proto, name);
    return fopen(path, mode);
}

static uint32_t read_golden(const char *name, void *to)
{
    char path[512];
    FILE *f = open_golden(name, "rb", path, sizeof path);
    if (!f)
        return 0;
    size_t n = fread(to, 1, ROOM, f);
    fclose(f);
    return (uint32_t)n;
}

static void write_golden(const char *name, const void *frame, uint32_t bytes)
{
    char path[512];
    FILE *f = open_golden(name, "wbx", path, sizeof path);
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

static void compare(int i)
{
    static uint64_t built[ROOM / 8], golden[ROOM / 8];
    const char *name = messages[i].name;
    memset(built, 0, sizeof built);
    uint32_t bytes = messages[i].build(built);
    const char *why = msg_validate(built, bytes);
    CHECK(!why, "%s of protocol %u: %s", name, proto, why);
    uint32_t had = read_golden(name, golden);
    if (had == 0 && getenv("LETHE_GOLDEN_WRITE")) {
        write_golden(name, built, bytes);
        return;
    }
    CHECK(had == bytes, "v%u/%s: %u bytes, the golden file has %u", proto, name, bytes, had);
    for (uint32_t at = 0; at < bytes; at++)
        CHECK(((uint8_t *)built)[at] == ((uint8_t *)golden)[at],
              "v%u/%s: byte %u is 0x%02x, was 0x%02x", proto, name, at, ((uint8_t *)built)[at],
              ((uint8_t *)golden)[at]);
}

static void messages_are_as_they_always_were(void **state)
{
    for (proto = MSG_PROTO_MIN; proto <= MSG_PROTO_MAX; proto++)
        for (int i = 0; i < MESSAGES; i++)
            if (proto > 1 || messages[i].type <= MSG_PROVEN)
                compare(i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_has_a_golden_file),
        cmocka_unit_test(messages_are_as_they_always_were),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
