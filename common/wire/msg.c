/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * msg_validate: the edge of the protocol (msg.h). One function per message
 * that carries more than fixed fields; exact lengths for all, from one table.
 * Pure; any thread. BATCH and RESULTS cost one walk over their heads.
 */
#include "common/wire/msg.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "common/wire/crc.h"
#include "common/wire/record.h"

_Static_assert(sizeof(struct msg_head) == 24, "wire format");
_Static_assert(sizeof(struct msg_hello) == 88, "wire format");
_Static_assert(sizeof(struct msg_welcome) == 64, "wire format");
_Static_assert(sizeof(struct msg_error) == 232, "wire format");
_Static_assert(sizeof(struct msg_client_open) == 32, "wire format");
_Static_assert(sizeof(struct msg_client) == 48, "wire format");
_Static_assert(sizeof(struct msg_table_open) == 144, "wire format");
_Static_assert(sizeof(struct msg_table) == 256, "wire format");
_Static_assert(sizeof(struct msg_batch) == 48, "wire format");
_Static_assert(sizeof(struct msg_results) == 40, "wire format");
_Static_assert(sizeof(struct msg_join) == 40, "wire format");
_Static_assert(sizeof(struct msg_view) == 80, "wire format");
_Static_assert(sizeof(struct msg_snap_begin) == 64, "wire format");
_Static_assert(sizeof(struct msg_chunk) == 72, "wire format");
_Static_assert(sizeof(struct msg_chunk_ack) == 64, "wire format");
_Static_assert(sizeof(struct msg_snap_end) == 48, "wire format");
_Static_assert(sizeof(struct msg_append) == 96, "wire format");
_Static_assert(sizeof(struct msg_ack) == 72, "wire format");
_Static_assert(sizeof(struct msg_status) == 32, "wire format");
_Static_assert(sizeof(struct shard_status) == 160, "wire format");
_Static_assert(sizeof(struct msg_status_is) == 192, "wire format");
_Static_assert(sizeof(struct msg_challenge) == 72, "wire format");
_Static_assert(sizeof(struct msg_proof) == 88, "wire format");
_Static_assert(sizeof(struct msg_proven) == 56, "wire format");
_Static_assert(sizeof(struct msg_fetch) == 48, "wire format");
_Static_assert(sizeof(struct move_id) == 16, "wire format");
_Static_assert(sizeof(struct msg_move_begin) == 56, "wire format");
_Static_assert(sizeof(struct msg_move_part) == 64, "wire format");
_Static_assert(sizeof(struct msg_move_end) == 56, "wire format");
_Static_assert(sizeof(struct msg_move_ack) == 160, "wire format");
_Static_assert(sizeof(struct msg_map) == 24 + 8 * LETHE_SLOTS, "wire format");
_Static_assert(sizeof(struct msg_consume) == 40, "wire format");
_Static_assert(sizeof(struct msg_events) == 56, "wire format");
_Static_assert(sizeof(struct msg_event) == 24, "wire format");
_Static_assert(sizeof(struct msg_events_ack) == 56, "wire format");
_Static_assert(sizeof(struct map_slot) == 8, "wire format");
_Static_assert(sizeof(struct msg_place) == 32, "wire format");
_Static_assert(sizeof(struct msg_places) == 56, "wire format");

static const char NOT_ZERO[] = "reserved field not zero";
static const char NO_NUL[] = "text without its closing NUL";

static bool has_nul(const char *text, size_t room)
{
    return memchr(text, 0, room) != NULL;
}

static const char *check_hello(const void *frame)
{
    const struct msg_hello *m = frame;
    if (m->magic != MSG_MAGIC)
        return "hello: this is not Lethe's protocol";
    if (m->proto_min == 0 || m->proto_min > m->proto_max)
        return "hello: bad protocol range";
    if (m->role < ROLE_CLIENT || m->role > ROLE_MOVER)
        return "hello: unknown role";
    if (m->role == ROLE_MOVER && m->proto_max < 2)
        return "hello: moves need protocol 2";
    if (m->self.zero != 0)
        return NOT_ZERO;
    if ((m->role == ROLE_REPLICA || m->role == ROLE_MOVER) != (m->self.node != 0))
        return "hello: replicas, and only they, name their node";
    return has_nul(m->tenant, sizeof m->tenant) ? NULL : NO_NUL;
}

static const char *check_welcome(const void *frame)
{
    const struct msg_welcome *m = frame;
    if (m->zero[0] | m->zero[1] | m->zero2 | m->self.zero)
        return NOT_ZERO;
    if (m->proto < MSG_PROTO_MIN || m->proto > MSG_PROTO_MAX)
        return "welcome: a protocol that was not offered";
    if (m->primary > 1 || m->shards == 0 || m->shards > LETHE_SLOTS)
        return "welcome: field out of range";
    return NULL;
}

static const char *check_error(const void *frame)
{
    const struct msg_error *m = frame;
    if (m->zero != 0)
        return NOT_ZERO;
    return has_nul(m->text, sizeof m->text) ? NULL : NO_NUL;
}

static const char *check_client(const void *frame)
{
    return ((const struct msg_client *)frame)->zero ? NOT_ZERO : NULL;
}

static const char *check_table_open(const void *frame)
{
    return schema_validate(&((const struct msg_table_open *)frame)->schema);
}

static const char *check_table(const void *frame)
{
    const struct msg_table *m = frame;
    if (m->zero != 0)
        return NOT_ZERO;
    if (m->id >= TABLES_MAX)
        return "table: number out of range";
    return has_nul(m->name, sizeof m->name) && has_nul(m->text, sizeof m->text) ? NULL : NO_NUL;
}

static const char *check_batch(const void *frame)
{
    const struct msg_batch *m = frame;
    const uint8_t *at = (const uint8_t *)(m + 1);
    uint32_t left = m->head.bytes - (uint32_t)sizeof *m;
    if (m->ntxn > MSG_BATCH_MAX)
        return "batch: too many txns";
    for (uint32_t i = 0; i < m->ntxn; i++) {
        const struct txn_head *t = (const struct txn_head *)at;
        const char *why = txn_validate(t, left);
        if (why)
            return why;
        if (t->seq == 0)
            return "batch: a txn without a sequence number";
        at += t->bytes;
        left -= t->bytes;
    }
    return left == 0 ? NULL : "batch: bytes left over after its last txn";
}

static const char *check_results(const void *frame)
{
    const struct msg_results *m = frame;
    const uint8_t *at = (const uint8_t *)(m + 1);
    uint32_t left = m->head.bytes - (uint32_t)sizeof *m;
    if (m->zero != 0)
        return NOT_ZERO;
    for (uint32_t i = 0; i < m->nres; i++) {
        const char *why = txn_result_validate(at, left);
        if (why)
            return why;
        uint32_t bytes = ((const struct txn_result_head *)at)->bytes;
        at += bytes;
        left -= bytes;
    }
    return left == 0 ? NULL : "results: bytes left over after the last one";
}

static const char *check_view(const void *frame)
{
    const struct msg_view *m = frame;
    if (m->zero != 0)
        return NOT_ZERO;
    if (m->nmembers == 0 || m->nmembers > 3)
        return "view: bad number of members";
    for (uint32_t i = 0; i < 3; i++) {
        const struct msg_node *n = &m->members[i];
        if (n->zero != 0 || (n->node != 0) != (i < m->nmembers))
            return "view: member missing, or not counted";
        for (uint32_t j = 0; j < i && n->node != 0; j++)
            if (m->members[j].node == n->node)
                return "view: a node twice";
    }
    return NULL;
}

static const char *check_node(const struct msg_node *n)
{
    if (n->zero != 0)
        return NOT_ZERO;
    return n->node != 0 ? NULL : "node number missing";
}

static const char *check_join(const void *frame)
{
    return check_node(&((const struct msg_join *)frame)->self);
}

static const char *check_leave(const void *frame)
{
    return check_node(&((const struct msg_leave *)frame)->self);
}

static const char *check_snap_begin(const void *frame)
{
    return check_node(&((const struct msg_snap_begin *)frame)->to);
}

static const char *check_snap_end(const void *frame)
{
    return check_node(&((const struct msg_snap_end *)frame)->to);
}

/* A body that fills the frame behind `fixed` bytes, zero-padded to 8. */
static const char *check_body(const struct msg_head *head, uint32_t fixed, uint32_t body_bytes,
                              uint32_t crc)
{
    const uint8_t *body = (const uint8_t *)head + fixed;
    uint32_t room = head->bytes - fixed;
    if (body_bytes > room || room - body_bytes >= 8)
        return "body: its length is not that of the frame";
    for (uint32_t i = body_bytes; i < room; i++)
        if (body[i] != 0)
            return "body: padding not zero";
    return crc32c(0, body, body_bytes) == crc ? NULL : "body: wrong CRC32C";
}

static const char *check_chunk(const void *frame)
{
    const struct msg_chunk *m = frame;
    if (m->zero != 0)
        return NOT_ZERO;
    if (m->slot_or_base > LETHE_SLOTS || m->part > m->last_part)
        return "chunk: slot or part out of range";
    const char *why = check_node(&m->to);
    return why ? why : check_body(&m->head, sizeof *m, m->body_bytes, m->crc);
}

static const char *check_chunk_ack(const void *frame)
{
    const struct msg_chunk_ack *m = frame;
    if (m->zero | m->zero2 | m->zero3)
        return NOT_ZERO;
    if (m->slot_or_base > LETHE_SLOTS || m->refused > 1)
        return "chunk ack: field out of range";
    return check_node(&m->self);
}

static const char *check_append(const void *frame)
{
    const struct msg_append *m = frame;
    if ((m->count == 0) != (m->body_bytes == 0) || m->count > m->body_bytes)
        return "append: count and body do not agree";
    if (m->count != 0 && (m->first == 0 || m->first + m->count < m->first))
        return "append: position out of range";
    const char *why = check_node(&m->from);
    return why ? why : check_body(&m->head, sizeof *m, m->body_bytes, m->crc);
}

static const char *check_ack(const void *frame)
{
    const struct msg_ack *m = frame;
    return m->drifted <= 1 ? check_node(&m->self) : "ack: field out of range";
}

static const char *check_status_is(const void *frame)
{
    const struct shard_status *s = &((const struct msg_status_is *)frame)->status;
    return s->role <= SHARD_IDLE ? NULL : "status: unknown role";
}

static const char *check_challenge(const void *frame)
{
    return check_node(&((const struct msg_challenge *)frame)->self);
}

static const char *check_fetch(const void *frame)
{
    const struct msg_fetch *m = frame;
    return m->first ? check_node(&m->from) : "fetch: position out of range";
}

static const char *check_move(const struct move_id *m)
{
    if (m->zero != 0)
        return NOT_ZERO;
    if (m->what != MOVE_SLOT && m->what != MOVE_INDEXES)
        return "move: neither a slot nor indexes";
    return m->from_shard < LETHE_SLOTS && m->epoch ? NULL : "move: field out of range";
}

static const char *check_move_begin(const void *frame)
{
    return check_move(&((const struct msg_move_begin *)frame)->move);
}

static const char *check_move_part(const void *frame)
{
    const struct msg_move_part *m = frame;
    const char *why = m->zero ? NOT_ZERO : check_move(&m->move);
    return why ? why : check_body(&m->head, sizeof *m, m->body_bytes, m->crc);
}

static const char *check_move_end(const void *frame)
{
    const struct msg_move_end *m = frame;
    return m->zero ? NOT_ZERO : check_move(&m->move);
}

static const char *check_move_ack(const void *frame)
{
    const struct msg_move_ack *m = frame;
    if (m->state < MOVE_TAKEN || m->state > MOVE_REFUSED)
        return "move: unknown state";
    return has_nul(m->text, sizeof m->text) ? check_move(&m->move) : NO_NUL;
}

static const char *check_map(const void *frame)
{
    const struct msg_map *m = frame;
    for (int i = 0; i < LETHE_SLOTS; i++) {
        const struct map_slot *s = &m->slots[i];
        if (s->zero != 0)
            return NOT_ZERO;
        if (s->known > 1 || s->shard >= LETHE_SLOTS)
            return "map: field out of range";
    }
    return NULL;
}

static bool all_zero(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i])
            return false;
    return true;
}

static const char *check_consume(const void *frame)
{
    const struct msg_consume *m = frame;
    if (!all_zero(m->zero, sizeof m->zero))
        return NOT_ZERO;
    return m->table < TABLES_MAX && m->want <= 1 ? NULL : "consume: field out of range";
}

static const char *check_events(const void *frame)
{
    const struct msg_events *m = frame;
    const uint8_t *at = (const uint8_t *)(m + 1);
    uint32_t left = m->body_bytes;
    if (m->table >= TABLES_MAX || m->count == 0 || m->body_bytes % 8 ||
        m->head.bytes != sizeof *m + m->body_bytes)
        return "events: field out of range";
    for (uint32_t i = 0; i < m->count; i++) {
        const struct msg_event *e = (const struct msg_event *)at;
        if (left < sizeof *e || e->bytes > left || e->bytes % 8 || e->key_len > TXN_KEY_MAX ||
            e->value_len > TXN_VALUE_MAX ||
            e->bytes != ((sizeof *e + e->key_len + e->value_len + 7) & ~7ul))
            return "events: an event cut short";
        if (e->zero != 0)
            return NOT_ZERO;
        at += e->bytes;
        left -= e->bytes;
    }
    return left == 0 ? NULL : "events: bytes left over after the last one";
}

static const char *check_events_ack(const void *frame)
{
    const struct msg_events_ack *m = frame;
    if (!all_zero(m->zero, sizeof m->zero))
        return NOT_ZERO;
    return m->table < TABLES_MAX ? NULL : "events: field out of range";
}

static const char *check_places(const void *frame)
{
    const struct msg_places *m = frame;
    const struct msg_place *p = (const struct msg_place *)(m + 1);
    if (m->zero != 0)
        return NOT_ZERO;
    if (m->head.bytes - sizeof *m != (uint64_t)m->nplaces * sizeof *p)
        return "places: their number is not that of the frame";
    for (uint32_t i = 0; i < m->nplaces; i++, p++)
        if (p->zero || p->address % LINE_BYTES || p->op >= TXN_OPS_MAX || p->lines == 0 ||
            p->lines > RECORD_LINES_MAX)
            return "places: field out of range";
    return NULL;
}

static const char *check_nothing(const void *frame)
{
    return NULL;
}

/* --- what protocol 1 did not have yet: its frames, valid otherwise, must not either --- */

static const char *old_batch(const struct msg_batch *m)
{
    const uint8_t *at = (const uint8_t *)(m + 1);
    if (m->stamp)
        return NOT_ZERO;
    for (uint32_t i = 0; i < m->ntxn; i++) {
        const struct txn_head *t = (const struct txn_head *)at;
        if (t->slot_epoch != 0)
            return NOT_ZERO;
        at += t->bytes;
    }
    return NULL;
}

static const char *old_results(const struct msg_results *m)
{
    const uint8_t *at = (const uint8_t *)(m + 1);
    for (uint32_t i = 0; i < m->nres; i++) {
        const struct txn_result_head *r = (const struct txn_result_head *)at;
        if (r->status == TXN_MOVED)
            return "results: unknown status";
        at += r->bytes;
    }
    return NULL;
}

uint8_t msg_schema_proto(const struct table_schema *s)
{
    return s->kind > TABLE_COUNTERS || s->durability > DURABLE_ASYNC ||
                   s->flags & ~TABLE_PARENT_DIES ? 2 : 1;
}

static const char *old_table_open(const struct msg_table_open *m)
{
    return msg_schema_proto(&m->schema) == 1
               ? NULL : "table: a kind, durability or flag that its protocol does not know";
}

static const char *check_old(const void *frame)
{
    switch (((const struct msg_head *)frame)->type) {
    case MSG_WELCOME: {
        const struct msg_welcome *m = frame;
        if (m->primary_node)
            return NOT_ZERO;
        return m->proto == 1 ? NULL : "welcome: a protocol that was not offered";
    }
    case MSG_TABLE_OPEN:
        return old_table_open(frame);
    case MSG_BATCH:
        return old_batch(frame);
    case MSG_RESULTS:
        return old_results(frame);
    case MSG_APPEND:
        return ((const struct msg_append *)frame)->stamp ? NOT_ZERO : NULL;
    case MSG_ACK:
        return ((const struct msg_ack *)frame)->stamp ? NOT_ZERO : NULL;
    default:
        return NULL;
    }
}

static const struct form {
    uint16_t bytes;               /* exactly, or at least if it has a body */
    bool has_body;
    const char *(*check)(const void *frame);
} forms[MSG_TYPE_END] = {
    [MSG_HELLO] = {sizeof(struct msg_hello), false, check_hello},
    [MSG_WELCOME] = {sizeof(struct msg_welcome), false, check_welcome},
    [MSG_ERROR] = {sizeof(struct msg_error), false, check_error},
    [MSG_CLIENT_OPEN] = {sizeof(struct msg_client_open), false, check_nothing},
    [MSG_CLIENT] = {sizeof(struct msg_client), false, check_client},
    [MSG_TABLE_OPEN] = {sizeof(struct msg_table_open), false, check_table_open},
    [MSG_TABLE] = {sizeof(struct msg_table), false, check_table},
    [MSG_BATCH] = {sizeof(struct msg_batch), true, check_batch},
    [MSG_RESULTS] = {sizeof(struct msg_results), true, check_results},
    [MSG_JOIN] = {sizeof(struct msg_join), false, check_join},
    [MSG_VIEW] = {sizeof(struct msg_view), false, check_view},
    [MSG_SNAP_BEGIN] = {sizeof(struct msg_snap_begin), false, check_snap_begin},
    [MSG_CHUNK] = {sizeof(struct msg_chunk), true, check_chunk},
    [MSG_CHUNK_ACK] = {sizeof(struct msg_chunk_ack), false, check_chunk_ack},
    [MSG_SNAP_END] = {sizeof(struct msg_snap_end), false, check_snap_end},
    [MSG_APPEND] = {sizeof(struct msg_append), true, check_append},
    [MSG_ACK] = {sizeof(struct msg_ack), false, check_ack},
    [MSG_STATUS] = {sizeof(struct msg_status), false, check_nothing},
    [MSG_STATUS_IS] = {sizeof(struct msg_status_is), false, check_status_is},
    [MSG_CHALLENGE] = {sizeof(struct msg_challenge), false, check_challenge},
    [MSG_PROOF] = {sizeof(struct msg_proof), false, check_nothing},
    [MSG_PROVEN] = {sizeof(struct msg_proven), false, check_nothing},
    [MSG_FETCH] = {sizeof(struct msg_fetch), false, check_fetch},
    [MSG_TAIL] = {sizeof(struct msg_append), true, check_append},
    [MSG_MOVE_BEGIN] = {sizeof(struct msg_move_begin), false, check_move_begin},
    [MSG_MOVE_PART] = {sizeof(struct msg_move_part), true, check_move_part},
    [MSG_MOVE_END] = {sizeof(struct msg_move_end), false, check_move_end},
    [MSG_MOVE_ACK] = {sizeof(struct msg_move_ack), false, check_move_ack},
    [MSG_MAP_GET] = {sizeof(struct msg_map_get), false, check_nothing},
    [MSG_MAP] = {sizeof(struct msg_map), false, check_map},
    [MSG_CONSUME] = {sizeof(struct msg_consume), false, check_consume},
    [MSG_EVENTS] = {sizeof(struct msg_events), true, check_events},
    [MSG_EVENTS_ACK] = {sizeof(struct msg_events_ack), false, check_events_ack},
    [MSG_PLACES] = {sizeof(struct msg_places), true, check_places},
    [MSG_LEAVE] = {sizeof(struct msg_leave), false, check_leave},
};

const char *msg_validate(const void *frame, uint32_t bytes)
{
    const struct msg_head *head = frame;
    assert(((uintptr_t)frame & 7) == 0);
    if (bytes < sizeof *head || head->bytes != bytes)
        return "frame cut short";
    if (bytes % 8 != 0 || bytes > MSG_BYTES_MAX)
        return "frame of a bad length";
    if (head->type == 0 || head->type >= MSG_TYPE_END)
        return "unknown message type";
    /* A HELLO must be readable whatever its sender speaks: it negotiates. */
    if (head->type != MSG_HELLO && (head->proto < MSG_PROTO_MIN || head->proto > MSG_PROTO_MAX))
        return "unknown protocol version";
    if (head->proto == 1 && head->type > MSG_PROVEN)
        return "unknown message type";
    const struct form *form = &forms[head->type];
    if (bytes < form->bytes || (bytes != form->bytes && !form->has_body))
        return "frame is not as long as its message";
    const char *why = form->check(frame);
    if (!why && head->proto == 1 && head->type != MSG_HELLO)
        why = check_old(frame);
    return why;
}

void msg_head_set(void *frame, enum msg_type type, uint32_t bytes, uint16_t shard,
                  uint64_t view_epoch)
{
    assert(bytes % 8 == 0 && bytes >= sizeof(struct msg_head) && bytes <= MSG_BYTES_MAX);
    *(struct msg_head *)frame = (struct msg_head){.bytes = bytes,
                                                  .type = (uint8_t)type,
                                                  .proto = MSG_PROTO_MAX,
                                                  .shard = shard,
                                                  .view_epoch = view_epoch};
}

uint8_t msg_common_proto(const struct msg_hello *m)
{
    return m->proto_max < MSG_PROTO_MAX ? m->proto_max : MSG_PROTO_MAX;
}

void msg_speak(void *frame, uint8_t proto)
{
    struct msg_head *head = frame;
    assert(proto >= MSG_PROTO_MIN && proto <= MSG_PROTO_MAX);
    assert(proto > 1 || head->type <= MSG_PROVEN);
    head->proto = proto;
    if (proto > 1)
        return;
    if (head->type == MSG_WELCOME)
        ((struct msg_welcome *)frame)->primary_node = 0;
    else if (head->type == MSG_APPEND)
        ((struct msg_append *)frame)->stamp = 0;
    else if (head->type == MSG_ACK)
        ((struct msg_ack *)frame)->stamp = 0;
}
