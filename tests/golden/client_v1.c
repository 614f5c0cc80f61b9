/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A client of protocol 1, frozen: what a program of the first version sends to a
 * store and expects of it, to the byte. It shares no line with the code under test
 * and is not changed with it: structs, numbers and rules below are those of
 * protocol 1.
 *
 *   client_v1 HOST:PORT     a store of one shard, fresh, without secrets
 *
 * HELLO, a client id, two tables, the same table once more with another schema;
 * get-or-create with an allocation, the retry of it, a look-up, a conflict, an
 * empty batch for the lease, what is below the watermark, the status, an unknown
 * id; and all of it again over a second connection under the same id. Every frame
 * that comes back is checked as the first version checked it: type, protocol,
 * length, reserved bytes, statuses that it knew.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum {
    HELLO = 1, WELCOME, ERROR, CLIENT_OPEN, CLIENT, TABLE_OPEN, TABLE, BATCH, RESULTS,
    STATUS = 18, STATUS_IS, LAST_TYPE = 22,
    FRAME_MAX = 256 * 1024, PATIENCE_S = 20,
    OK = 0, CONFLICT = 1, STALE_CLIENT = 7, FORGOTTEN = 8, STATUSES = 11,
    GET = 1, INSERT = 3, ALLOC = 8, SKIP_IF_PRESENT = 4,
    HIT = 1, ABSENT = 2, DONE = 3, FAILED = 4,
    SLOT = 27 /* of the key "lethe" */
};

struct head { uint32_t bytes; uint8_t type, proto; uint16_t shard; uint64_t view, map; };
struct hello {
    struct head h;
    uint32_t magic;
    uint8_t proto_min, proto_max, role, auth;
    uint64_t capabilities;
    uint32_t node, zero;
    uint64_t incarnation;
    char tenant[32];
};
struct welcome {
    struct head h;
    uint8_t proto, primary, zero[2];
    uint16_t shards, zero2;
    uint32_t node, zero3;
    uint64_t incarnation, capabilities;
    uint32_t lease_ms, zero4;
};
struct client_open { struct head h; uint64_t nonce; };
struct client { struct head h; uint64_t nonce, client; uint32_t lease_ms, zero; };
struct schema {
    char name[24];
    uint8_t kind, durability;
    uint16_t version;
    uint8_t key_size, part_off, part_len, flags;
    uint32_t value_size, timeout_ms, max_entries, quarantine_ms;
    uint8_t reactions[64];
};
struct table_open { struct head h; uint64_t client; struct schema schema; uint8_t none[8]; };
struct table { struct head h; char name[24]; int32_t id; uint32_t zero; char text[200]; };
struct batch { struct head h; uint64_t client, ack; uint32_t ntxn, zero; };
struct results { struct head h; uint64_t client; uint32_t nres, zero; };
struct txn { uint64_t seq; uint16_t bytes; uint8_t slot, nops; uint32_t zero; };
struct op {
    uint8_t code, table, flags, skip, key_len, npatch;
    uint16_t value_len;
    uint32_t timeout_ms;
    uint8_t parent_table, parent_key_len;
    uint16_t bytes;
    uint64_t arg0, arg1;
};
struct patch { uint8_t op, from, from_off, len, into, zero; uint16_t into_off; };
struct result_head {
    uint64_t seq;
    uint16_t bytes;
    uint8_t status, nres, failed_op, zero[3];
};
struct result {
    uint8_t op, res;
    uint16_t value_len;
    uint32_t index;
    uint64_t version;
    uint32_t timeout_ms, bytes;
};
struct status { struct head h; uint64_t nonce; };
struct status_is { struct head h; uint64_t nonce, position, commit, digest, counts[15];
                   uint32_t role, copies, drifts, waiting; };

static int fd;
static uint64_t got[FRAME_MAX / 8], out[512];
static int flows, ports; /* the store's numbers of the tables */

#define MUST(cond, ...)                                                                            \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "client_v1.c:%d: not so: %s: ", __LINE__, #cond);                      \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* --- frames --------------------------------------------------------------------------- */

static void send_frame(void *frame, uint8_t type, uint32_t bytes)
{
    *(struct head *)frame = (struct head){.bytes = bytes, .type = type, .proto = 1};
    MUST(send(fd, frame, bytes, MSG_NOSIGNAL) == (ssize_t)bytes, "type %u", type);
}

static void read_all(void *to, uint32_t bytes)
{
    MUST(recv(fd, to, bytes, MSG_WAITALL) == (ssize_t)bytes, "the store closed, or says nothing");
}

/* The next frame, of this type; exactly so long, 0: at least as long as its fixed part. */
static void *expect(uint8_t type, uint32_t bytes)
{
    struct head *h = (struct head *)got;
    read_all(h, sizeof *h);
    MUST(h->bytes >= sizeof *h && h->bytes <= FRAME_MAX && h->bytes % 8 == 0, "%u", h->bytes);
    read_all(h + 1, h->bytes - (uint32_t)sizeof *h);
    MUST(h->type >= 1 && h->type <= LAST_TYPE, "a type that protocol 1 does not have: %u", h->type);
    MUST(h->proto == 1, "a frame of protocol %u, type %u", h->proto, h->type);
    MUST(h->type == type, "type %u instead of %u: %s", h->type, type,
         h->type == ERROR ? (char *)got + 32 : "");
    MUST(!bytes || h->bytes == bytes, "type %u has %u bytes", type, h->bytes);
    return got;
}

static void dial(const char *host, const char *port)
{
    struct addrinfo *a, hints = {.ai_socktype = SOCK_STREAM};
    struct timeval patience = {.tv_sec = PATIENCE_S};
    MUST(getaddrinfo(host, port, &hints, &a) == 0, "%s:%s", host, port);
    fd = socket(a->ai_family, SOCK_STREAM, 0);
    MUST(fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0, "%s:%s", host, port);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    freeaddrinfo(a);
}

static void welcomed(void)
{
    struct hello m = {.magic = 0x4548544C, .proto_min = 1, .proto_max = 1, .role = 1};
    send_frame(&m, HELLO, sizeof m);
    const struct welcome *w = expect(WELCOME, 64);
    MUST(w->proto == 1 && w->primary == 1 && w->shards == 1, "%u %u %u", w->proto, w->primary,
         w->shards);
    MUST(!(w->zero[0] | w->zero[1] | w->zero2 | w->zero3 | w->zero4), "reserved fields");
    MUST(w->lease_ms, "no lease");
}

static uint64_t leased(void)
{
    struct client_open m = {.nonce = 77};
    send_frame(&m, CLIENT_OPEN, sizeof m);
    const struct client *c = expect(CLIENT, 48);
    MUST(c->nonce == 77 && c->client && c->lease_ms && !c->zero, "a bad CLIENT");
    return c->client;
}

static int opened(uint64_t client, const struct schema *schema)
{
    struct table_open m = {.client = client, .schema = *schema};
    send_frame(&m, TABLE_OPEN, 144);
    const struct table *t = expect(TABLE, 256);
    MUST(!strcmp(t->name, schema->name) && !t->zero, "another table: %s", t->name);
    MUST((t->id < 0) == (t->text[0] != 0), "number %d, '%s'", t->id, t->text);
    return t->id;
}

/* --- txns ------------------------------------------------------------------------------ */

static uint8_t *put_op(uint8_t *at, struct op op, const void *key, const void *value,
                       const struct patch *patch)
{
    uint32_t fixed = sizeof op + op.key_len + op.value_len;
    uint32_t bytes = (fixed + 7) & ~7u;
    op.npatch = patch != NULL;
    op.bytes = (uint16_t)(bytes + (patch ? sizeof *patch : 0));
    memset(at, 0, bytes);
    memcpy(at, &op, sizeof op);
    if (op.key_len)
        memcpy(at + sizeof op, key, op.key_len);
    if (op.value_len)
        memcpy(at + sizeof op + op.key_len, value, op.value_len);
    if (patch)
        memcpy(at + bytes, patch, sizeof *patch);
    return at + op.bytes;
}

/* Sends what stands behind the heads in `out`; one txn. */
static void send_txn(uint64_t client, uint64_t ack, uint64_t seq, uint8_t nops, uint8_t *end)
{
    struct batch *m = (struct batch *)out;
    struct txn *t = (struct txn *)(m + 1);
    uint32_t bytes = (uint32_t)(end - (uint8_t *)t);
    *m = (struct batch){.client = client, .ack = ack, .ntxn = 1};
    *t = (struct txn){.seq = seq, .bytes = (uint16_t)bytes, .slot = SLOT, .nops = nops};
    send_frame(m, BATCH, (uint32_t)sizeof *m + bytes);
}

static uint8_t *first_op(void)
{
    return (uint8_t *)out + sizeof(struct batch) + sizeof(struct txn);
}

/* Look up; if absent take a free index and insert a record that names it. */
static void get_or_create(uint64_t client, uint64_t ack, uint64_t seq)
{
    static const struct patch index = {.op = 1, .from = 1, .len = 4, .into = 2, .into_off = 4};
    uint8_t *at = put_op(first_op(), (struct op){.code = GET, .table = (uint8_t)flows,
                             .flags = SKIP_IF_PRESENT, .skip = 2, .key_len = 5}, "lethe", NULL, NULL);
    at = put_op(at, (struct op){.code = ALLOC, .table = (uint8_t)ports, .value_len = 8}, NULL,
                "reverse", NULL);
    at = put_op(at, (struct op){.code = INSERT, .table = (uint8_t)flows, .key_len = 5,
                    .value_len = 8}, "lethe", "port\0\0\0", &index);
    send_txn(client, ack, seq, 3, at);
}

static void insert_anyway(uint64_t client, uint64_t ack, uint64_t seq)
{
    uint8_t *at = put_op(first_op(), (struct op){.code = INSERT, .table = (uint8_t)flows,
                             .key_len = 5, .value_len = 8}, "lethe", "another", NULL);
    send_txn(client, ack, seq, 1, at);
}

/* The one result of the next RESULTS. */
static const struct result_head *expect_result(uint64_t client, uint64_t seq, uint8_t status)
{
    const struct results *m = expect(RESULTS, 0);
    const struct result_head *r = (const struct result_head *)(m + 1);
    MUST(m->client == client && m->nres == 1 && !m->zero, "%" PRIu64 ", %u", m->client, m->nres);
    MUST(m->h.bytes == sizeof *m + r->bytes, "%u bytes", m->h.bytes);
    MUST(r->status < STATUSES, "a status that protocol 1 does not have: %u", r->status);
    if (status == FORGOTTEN && r->status == OK) /* still remembered: said again, not executed */
        status = OK;
    MUST(r->seq == seq && r->status == status, "sequence %" PRIu64 ", status %u", r->seq, r->status);
    MUST(!(r->zero[0] | r->zero[1] | r->zero[2]), "reserved bytes");
    return r;
}

static void status(uint64_t nonce)
{
    struct status m = {.nonce = nonce};
    send_frame(&m, STATUS, sizeof m);
    const struct status_is *s = expect(STATUS_IS, 192);
    MUST(s->nonce == nonce && s->role == 1 && s->copies == 1, "role %u, copies %u", s->role,
         s->copies);
    MUST(s->counts[0] >= 1, "no entries");
}

/* --- the course of it --------------------------------------------------------------------- */

static void open_tables(uint64_t client)
{
    struct schema hash = {.name = "old.flows", .kind = 1, .version = 1, .key_size = 5,
                          .part_len = 5, .value_size = 8};
    struct schema pool = {.name = "old.ports", .kind = 2, .version = 1, .key_size = 4,
                          .value_size = 8, .max_entries = 65536};
    flows = opened(client, &hash);
    ports = opened(client, &pool);
    MUST(flows >= 0 && ports >= 0 && flows != ports, "numbers %d and %d", flows, ports);
    hash.value_size = 16;
    MUST(opened(client, &hash) == -17, "another schema was taken");
}

int main(int argc, char **argv)
{
    char *port = argc == 2 ? strrchr(argv[1], ':') : NULL;
    MUST(port, "usage: client_v1 HOST:PORT");
    *port++ = 0;
    dial(argv[1], port);
    welcomed();
    uint64_t id = leased();
    open_tables(id);

    get_or_create(id, 0, 1);
    const struct result_head *r = expect_result(id, 1, OK);
    const struct result *get = (const struct result *)(r + 1), *alloc = get + 1;
    MUST(r->nres == 3 && get->res == ABSENT && alloc->res == DONE, "%u results", r->nres);
    struct result took = *alloc;
    get_or_create(id, 0, 1); /* its answer might have been lost */
    r = expect_result(id, 1, OK);
    alloc = (const struct result *)(r + 1) + 1;
    MUST(alloc->index == took.index && alloc->version == took.version, "executed twice");

    close(fd); /* the id outlives the connection */
    dial(argv[1], port);
    welcomed();
    open_tables(id);
    get_or_create(id, 1, 2);
    r = expect_result(id, 2, OK);
    get = (const struct result *)(r + 1);
    MUST(r->nres == 1 && get->res == HIT && get->value_len == 8, "%u results", r->nres);
    MUST(*(const uint32_t *)((const char *)(get + 1) + 4) == took.index, "another index");
    insert_anyway(id, 2, 3);
    r = expect_result(id, 3, CONFLICT);
    get = (const struct result *)(r + 1);
    MUST(r->nres == 1 && get->res == FAILED && get->value_len == 8, "%u results", r->nres);
    struct batch renewal = {.client = id, .ack = 3};
    send_frame(&renewal, BATCH, sizeof renewal);
    insert_anyway(id, 3, 2); /* below the watermark; executed it would be a CONFLICT */
    expect_result(id, 2, FORGOTTEN);
    status(5);
    insert_anyway(id + 1000, 0, 1);
    expect_result(id + 1000, 1, STALE_CLIENT);
    puts("a client of protocol 1 is served");
    return 0;
}
