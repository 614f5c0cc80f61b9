/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The edge: golden frames (tests/golden) are valid; each row damages one field
 * of one and names the sentence; every cut is refused; any single byte
 * may be anything without a read outside the frame (ASan).
 */
#include "tests/check.h"

#include <stdlib.h>

#include "common/wire/crc.h"
#include "common/wire/msg.h"

enum { ROOM = 8192 };

/* A frame in a buffer of exactly its size, so that ASan sees a read beyond. */
static void *load(int proto, const char *name, uint32_t *bytes)
{
    static uint8_t buf[ROOM];
    char path[512];
    snprintf(path, sizeof path, "%s/v%d/%s.bin", LETHE_GOLDEN_DIR, proto, name);
    FILE *f = fopen(path, "rb");
    CHECK(f, "%s", path);
    *bytes = (uint32_t)fread(buf, 1, sizeof buf, f);
    fclose(f);
    void *frame = malloc(*bytes);
    memcpy(frame, buf, *bytes);
    return frame;
}

/* name of the golden message, sentence, what is done to it (`m`: its struct) */
#define ROWS(X)                                                                                    \
    X(status, msg_status, "frame cut short", m->head.bytes = 40)                                   \
    X(status, msg_status, "unknown message type", m->head.type = 0)                                \
    X(status, msg_status, "unknown message type", m->head.type = MSG_TYPE_END)                     \
    X(status, msg_status, "frame is not as long as its message", m->head.type = MSG_CLIENT)        \
    X(status, msg_status, "unknown protocol version", m->head.proto = 0)                           \
    X(status, msg_status, "unknown protocol version", m->head.proto = 3)                           \
    X(hello, msg_hello, "hello: this is not Lethe's protocol", m->magic++)                         \
    X(hello, msg_hello, "hello: bad protocol range", m->proto_min = 3)                             \
    X(hello, msg_hello, "hello: bad protocol range", m->proto_min = 0)                             \
    X(hello, msg_hello, "hello: unknown role", m->role = 5)                                        \
    X(hello, msg_hello, "hello: replicas, and only they, name their node", m->role = ROLE_CLIENT)  \
    X(hello, msg_hello, "text without its closing NUL", memset(m->tenant, 'a', 32))                \
    X(welcome, msg_welcome, "welcome: a protocol that was not offered", m->proto = 3)              \
    X(welcome, msg_welcome, "welcome: field out of range", m->shards = 0)                          \
    X(welcome, msg_welcome, "reserved field not zero", m->zero[1] = 1)                             \
    X(challenge, msg_challenge, "node number missing", m->self.node = 0)                           \
    X(challenge, msg_challenge, "reserved field not zero", m->self.zero = 1)                       \
    X(proof, msg_proof, "frame is not as long as its message", m->head.type = MSG_PROVEN)          \
    X(proven, msg_proven, "unknown protocol version", m->head.proto = 3)                           \
    X(error, msg_error, "text without its closing NUL", memset(m->text, 'a', 200))                 \
    X(error, msg_error, "reserved field not zero", m->zero = 1)                                    \
    X(client, msg_client, "reserved field not zero", m->zero = 1)                                  \
    X(table_open, msg_table_open, "kind: not a table kind", m->schema.kind = 9)                    \
    X(table, msg_table, "table: number out of range", m->id = TABLES_MAX)                          \
    X(table, msg_table, "text without its closing NUL", memset(m->name, 'a', TABLE_NAME_MAX))      \
    X(table, msg_table, "text without its closing NUL", memset(m->text, 'a', 200))                 \
    X(batch, msg_batch, "batch: too many txns", m->ntxn = MSG_BATCH_MAX + 1)                       \
    X(batch, msg_batch, "txn: cut short", m->ntxn = 3)                                             \
    X(batch, msg_batch, "batch: bytes left over after its last txn", m->ntxn = 1)                  \
    X(batch, msg_batch, "batch: a txn without a sequence number",                                  \
      ((struct txn_head *)(m + 1))->seq = 0)                                                        \
    X(batch, msg_batch, "txn: bad number of ops", ((struct txn_head *)(m + 1))->nops = 0)          \
    X(places, msg_places, "places: their number is not that of the frame", m->nplaces++)           \
    X(places, msg_places, "reserved field not zero", m->zero = 1)                                  \
    X(places, msg_places, "places: field out of range", ((struct msg_place *)(m + 1))->address++)  \
    X(places, msg_places, "places: field out of range", ((struct msg_place *)(m + 1))->lines = 9)  \
    X(results, msg_results, "results: cut short", m->nres = 4)                                     \
    X(results, msg_results, "results: bytes left over after the last one", m->nres = 1)            \
    X(results, msg_results, "results: unknown status",                                             \
      ((struct txn_result_head *)(m + 1))->status = 99)                                             \
    X(join, msg_join, "node number missing", m->self.node = 0)                                     \
    X(join, msg_join, "reserved field not zero", m->self.zero = 1)                                 \
    X(leave, msg_leave, "node number missing", m->self.node = 0)                                   \
    X(view, msg_view, "view: bad number of members", m->nmembers = 4)                              \
    X(view, msg_view, "view: bad number of members", m->nmembers = 0)                              \
    X(view, msg_view, "view: member missing, or not counted", m->nmembers = 3)                     \
    X(view, msg_view, "view: member missing, or not counted", m->nmembers = 1)                     \
    X(view, msg_view, "view: a node twice", m->members[1] = m->members[0])                         \
    X(snap_begin, msg_snap_begin, "node number missing", m->to.node = 0)                           \
    X(snap_end, msg_snap_end, "node number missing", m->to.node = 0)                               \
    X(chunk, msg_chunk, "chunk: slot or part out of range", m->slot_or_base = 257)                 \
    X(chunk, msg_chunk, "chunk: slot or part out of range", m->part = 3)                           \
    X(chunk, msg_chunk, "body: wrong CRC32C", ((char *)(m + 1))[3]++)                              \
    X(chunk, msg_chunk, "body: padding not zero", ((char *)(m + 1))[15]++)                         \
    X(chunk, msg_chunk, "body: its length is not that of the frame", m->body_bytes = 17)           \
    X(chunk, msg_chunk, "body: its length is not that of the frame", m->body_bytes = 8)            \
    X(chunk_ack, msg_chunk_ack, "chunk ack: field out of range", m->refused = 2)                   \
    X(chunk_ack, msg_chunk_ack, "reserved field not zero", m->zero3 = 1)                           \
    X(append, msg_append, "append: count and body do not agree", m->count = 0)                     \
    X(append, msg_append, "append: count and body do not agree", m->count = 17)                    \
    X(append, msg_append, "append: position out of range", m->first = 0)                           \
    X(append, msg_append, "append: position out of range", m->first = UINT64_MAX)                  \
    X(append, msg_append, "body: wrong CRC32C", m->crc++)                                          \
    X(append, msg_append, "body: its length is not that of the frame", m->body_bytes = UINT32_MAX) \
    X(ack, msg_ack, "ack: field out of range", m->drifted = 2)                                     \
    X(ack, msg_ack, "node number missing", m->self.node = 0)                                       \
    X(status_is, msg_status_is, "status: unknown role", m->status.role = 6)                        \
    X(hello, msg_hello, "hello: moves need protocol 2", (m->role = ROLE_MOVER, m->proto_max = 1))  \
    X(hello, msg_hello, "hello: replicas, and only they, name their node",                         \
      (m->role = ROLE_MOVER, m->self.node = 0))                                                    \
    X(append, msg_append, "node number missing", m->from.node = 0)                                 \
    X(results, msg_results, "results: moved, but not where",                                       \
      ((struct txn_result_head *)(m + 1))->status = TXN_MOVED)                                     \
    X(fetch, msg_fetch, "fetch: position out of range", m->first = 0)                              \
    X(fetch, msg_fetch, "node number missing", m->from.node = 0)                                   \
    X(fetch, msg_fetch, "reserved field not zero", m->from.zero = 1)                               \
    X(tail, msg_append, "append: count and body do not agree", m->count = 0)                       \
    X(tail, msg_append, "append: position out of range", m->first = 0)                             \
    X(tail, msg_append, "body: wrong CRC32C", m->crc++)                                            \
    X(tail, msg_append, "node number missing", m->from.node = 0)                                   \
    X(move_begin, msg_move_begin, "move: neither a slot nor indexes", m->move.what = 0)            \
    X(move_begin, msg_move_begin, "move: neither a slot nor indexes", m->move.what = 3)            \
    X(move_begin, msg_move_begin, "move: field out of range", m->move.from_shard = 256)            \
    X(move_begin, msg_move_begin, "move: field out of range", m->move.epoch = 0)                   \
    X(move_begin, msg_move_begin, "reserved field not zero", m->move.zero = 1)                     \
    X(move_part, msg_move_part, "reserved field not zero", m->zero = 1)                            \
    X(move_part, msg_move_part, "move: neither a slot nor indexes", m->move.what = 0)              \
    X(move_part, msg_move_part, "body: wrong CRC32C", m->crc++)                                    \
    X(move_part, msg_move_part, "body: padding not zero", ((char *)(m + 1))[13]++)                 \
    X(move_part, msg_move_part, "body: its length is not that of the frame", m->body_bytes = 8)    \
    X(move_end, msg_move_end, "reserved field not zero", m->zero = 1)                              \
    X(move_end, msg_move_end, "move: field out of range", m->move.epoch = 0)                       \
    X(move_ack, msg_move_ack, "move: unknown state", m->state = 0)                                 \
    X(move_ack, msg_move_ack, "move: unknown state", m->state = 4)                                 \
    X(move_ack, msg_move_ack, "text without its closing NUL", memset(m->text, 'a', sizeof m->text)) \
    X(move_ack, msg_move_ack, "move: neither a slot nor indexes", m->move.what = 0)                \
    X(map_get, msg_map_get, "frame is not as long as its message", m->head.type = MSG_MAP)         \
    X(map, msg_map, "reserved field not zero", m->slots[255].zero = 1)                             \
    X(map, msg_map, "map: field out of range", m->slots[0].known = 2)                              \
    X(map, msg_map, "map: field out of range", m->slots[255].shard = 256)                          \
    X(consume, msg_consume, "consume: field out of range", m->table = TABLES_MAX)                  \
    X(consume, msg_consume, "consume: field out of range", m->want = 2)                            \
    X(consume, msg_consume, "reserved field not zero", m->zero[5] = 1)                             \
    X(events, msg_events, "events: field out of range", m->table = TABLES_MAX)                     \
    X(events, msg_events, "events: field out of range", m->count = 0)                              \
    X(events, msg_events, "events: field out of range", m->body_bytes -= 8)                        \
    X(events, msg_events, "events: field out of range", m->body_bytes -= 4)                        \
    X(events, msg_events, "events: an event cut short", m->count = 3)                              \
    X(events, msg_events, "events: bytes left over after the last one", m->count = 1)              \
    X(events, msg_events, "events: an event cut short", EVENT(m)->key_len = TXN_KEY_MAX + 1)       \
    X(events, msg_events, "events: an event cut short", EVENT(m)->value_len = TXN_VALUE_MAX + 1)   \
    X(events, msg_events, "events: an event cut short", EVENT(m)->bytes = 72)                      \
    X(events, msg_events, "events: an event cut short", EVENT(m)->bytes = 48)                      \
    X(events, msg_events, "reserved field not zero", EVENT(m)->zero = 1)                           \
    X(events_ack, msg_events_ack, "events: field out of range", m->table = TABLES_MAX)             \
    X(events_ack, msg_events_ack, "reserved field not zero", m->zero[0] = 1)

#define EVENT(m) ((struct msg_event *)((m) + 1))

/* A frame of protocol 1 with what only 2 has. */
#define OLD_ROWS(X)                                                                                \
    X(status, msg_status, "unknown message type", m->head.type = MSG_FETCH)                        \
    X(status, msg_status, "unknown message type", m->head.type = MSG_EVENTS_ACK)                   \
    X(welcome, msg_welcome, "reserved field not zero", m->primary_node = 1)                        \
    X(welcome, msg_welcome, "welcome: a protocol that was not offered", m->proto = 2)              \
    X(append, msg_append, "reserved field not zero", m->stamp = 1)                                 \
    X(ack, msg_ack, "reserved field not zero", m->stamp = 1)                                       \
    X(batch, msg_batch, "reserved field not zero", ((struct txn_head *)(m + 1))->slot_epoch = 1)   \
    X(batch, msg_batch, "reserved field not zero", m->stamp = 1)                                   \
    X(results, msg_results, "results: unknown status", to_moved(m))                                \
    X(table_open, msg_table_open, NEW_SCHEMA, m->schema.flags |= TABLE_EVENTS)                     \
    X(table_open, msg_table_open, NEW_SCHEMA, m->schema.flags |= TABLE_ABSOLUTE)                   \
    X(table_open, msg_table_open, NEW_SCHEMA, to_none(&m->schema))                                 \
    X(table_open, msg_table_open, NEW_SCHEMA, to_sketch(&m->schema))
#define NEW_SCHEMA "table: a kind, durability or flag that its protocol does not know"

/* Three results in the same 64 bytes, the first of them a valid MOVED. */
static void to_moved(struct msg_results *m)
{
    struct txn_result_head *h = (struct txn_result_head *)(m + 1);
    memset(h, 0, 64);
    *h = (struct txn_result_head){.seq = 1, .bytes = 24, .status = TXN_MOVED};
    h = (struct txn_result_head *)((uint8_t *)h + 24);
    *h = (struct txn_result_head){.seq = 2, .bytes = 16};
    h[1] = (struct txn_result_head){.seq = 3, .bytes = 24, .status = TXN_MOVED};
    m->nres = 3;
}

static void to_none(struct table_schema *s)
{
    *s = (struct table_schema){.name = "scratch", .kind = TABLE_HASH, .durability = DURABLE_NONE,
                               .version = 1, .key_size = 4, .part_len = 4, .value_size = 8};
}

static void to_sketch(struct table_schema *s)
{
    *s = (struct table_schema){.name = "sketch", .kind = TABLE_SKETCH, .version = 1, .key_size = 4,
                               .part_len = 4, .value_size = 8, .max_entries = 4096};
}

static int check_row(const char *name, const char *want, void *frame, uint32_t bytes, int row)
{
    const char *why = msg_validate(frame, bytes);
    CHECK(why && strcmp(why, want) == 0, "row %d, %s: wanted '%s', got '%s'", row, name, want,
          why ? why : "valid");
    free(frame);
    return 1;
}

static void damage_is_named(void **state)
{
    int rows = 0;
    uint32_t bytes;
#define ROW_OF(proto, name, kind, want, damage)                                                    \
    {                                                                                              \
        struct kind *m = load(proto, #name, &bytes);                                               \
        damage;                                                                                    \
        rows += check_row(#name, want, m, bytes, rows);                                            \
    }
#define ROW(name, type, want, damage) ROW_OF(2, name, type, want, damage)
#define OLD_ROW(name, type, want, damage) ROW_OF(1, name, type, want, damage)
    ROWS(ROW)
    OLD_ROWS(OLD_ROW)
    assert_true(rows > 110);
}

#define NAMES(X)                                                                                   \
    X(hello) X(welcome) X(error) X(client_open) X(client) X(table_open) X(table) X(batch)          \
    X(results) X(join) X(view) X(snap_begin) X(chunk) X(chunk_ack) X(snap_end) X(append) X(ack)    \
    X(status) X(status_is) X(challenge) X(proof) X(proven) X(fetch) X(tail) X(move_begin)          \
    X(move_part) X(move_end) X(move_ack) X(map_get) X(map) X(consume) X(events) X(events_ack)      \
    X(places) X(leave)
#define NAME(n) #n,
static const char *const names[] = {NAMES(NAME)};
enum { MESSAGES = sizeof names / sizeof names[0], MESSAGES_1 = MSG_PROVEN };
_Static_assert(MESSAGES == MSG_TYPE_END - 1, "a message without a row here");

static int messages_of(int proto)
{
    return proto == 1 ? MESSAGES_1 : MESSAGES;
}

static void cut_everywhere(int proto, const char *name)
{
    uint32_t bytes;
    uint8_t *whole = load(proto, name, &bytes);
    CHECK(!msg_validate(whole, bytes), "%s", name);
    for (uint32_t n = 0; n < bytes; n++) {
        struct msg_head *cut = malloc(n ? n : 1);
        memcpy(cut, whole, n);
        CHECK(msg_validate(cut, n), "%s cut to %u", name, n);
        if (n >= sizeof *cut) {
            cut->bytes = n;
            CHECK(msg_validate(cut, n), "%s cut to %u with its head adapted", name, n);
        }
        free(cut);
    }
    free(whole);
}

static void every_cut_is_refused(void **state)
{
    for (int proto = 1; proto <= 2; proto++)
        for (int i = 0; i < messages_of(proto); i++)
            cut_everywhere(proto, names[i]);
}

static void any_byte_may_be_anything(void **state)
{
    static const uint8_t values[] = {0, 1, 2, 7, 8, 16, 40, 41, 127, 128, 254, 255};
    for (int i = 0; i < MESSAGES; i++) {
        uint32_t bytes;
        uint8_t *frame = load(2, names[i], &bytes);
        for (uint32_t at = 0; at < bytes; at++) {
            uint8_t was = frame[at];
            for (size_t v = 0; v < sizeof values; v++) {
                frame[at] = values[v];
                (void)msg_validate(frame, bytes); /* must not read outside */
            }
            frame[at] = was;
        }
        free(frame);
    }
}

static void what_is_spoken_is_of_that_protocol(void **state)
{
    static const char *const said[] = {"welcome", "append", "ack"}; /* of the store's, those to which 2 added fields */
    uint32_t bytes;
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) {
        struct msg_head *m = load(2, said[i], &bytes);
        if (m->type == MSG_WELCOME)
            ((struct msg_welcome *)m)->proto = 1;
        msg_speak(m, 1);
        assert_int_equal(m->proto, 1);
        const char *why = msg_validate(m, bytes);
        CHECK(!why, "%s: %s", said[i], why);
        free(m);
    }
}

static void hello_of_a_later_version_is_read(void **state)
{
    uint32_t bytes;
    struct msg_hello *m = load(1, "hello", &bytes);
    m->head.proto = 9, m->proto_max = 9;
    assert_null(msg_validate(m, bytes));
    free(m);
}

static void heartbeat_and_lease_renewal_are_valid(void **state)
{
    struct msg_append beat = {.from = {.node = 1}};
    msg_head_set(&beat, MSG_APPEND, sizeof beat, 0, 1);
    assert_null(msg_validate(&beat, sizeof beat));
    struct msg_batch renewal = {.client = 1};
    msg_head_set(&renewal, MSG_BATCH, sizeof renewal, 0, 1);
    assert_null(msg_validate(&renewal, sizeof renewal));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damage_is_named),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(any_byte_may_be_anything),
        cmocka_unit_test(what_is_spoken_is_of_that_protocol),
        cmocka_unit_test(hello_of_a_later_version_is_read),
        cmocka_unit_test(heartbeat_and_lease_renewal_are_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
