/* SPDX-License-Identifier: BSD-3-Clause */
/* Stores with secrets over tcp: who gets in, who does not, what a tenant may name,
 * and that neither side gives anything to one who did not prove the secret. */
#include <fcntl.h>
#include <pthread.h>

#include "statestore/server/harness.h"

/* --- secrets ------------------------------------------------------------------------------- */

enum { SECRET_A, SECRET_B, SECRET_REPLICAS, SECRET_WRONG, SECRETS };
static char files[SECRETS][40];
static struct auth_secret secrets[SECRETS];
static const char *const flows_only[] = {"other.*", "flows"}, *const others[] = {"other.*"};
static struct auth_config site;

static int make_secrets(void **state)
{
    char err[300];
    for (int i = 0; i < SECRETS; i++) {
        snprintf(files[i], sizeof files[i], "/tmp/auth-test-XXXXXX");
        int fd = mkstemp(files[i]);
        assert_true(fd >= 0);
        for (int j = 0; j < 64; j++)
            dprintf(fd, "%x", (i * 7 + j) % 16);
        close(fd);
        CHECK(!auth_secret_load(files[i], &secrets[i], err, sizeof err), "%s", err);
    }
    site = (struct auth_config){
        .replicas = secrets[SECRET_REPLICAS], .ntenants = 2,
        .tenants = {{"a", flows_only, 2, secrets[SECRET_A]}, {"b", others, 1, secrets[SECRET_B]}}};
    return 0;
}

static int remove_secrets(void **state)
{
    for (int i = 0; i < SECRETS; i++)
        unlink(files[i]);
    return 0;
}

static char shm[64];              /* "": stores and clients meet by tcp; else at this path */

static struct store *start_with(const struct auth_config *auth)
{
    struct store_config config = store_of(1);
    config.auth = auth;
    config.listen_shm = shm[0] ? shm : NULL;
    return start(&config);
}

/* --- clients of the library ------------------------------------------------------------------- */

static void open_as(struct user *u, struct store **s, const char *tenant, const char *file)
{
    char err[300], address[80];
    struct lethe_config config = {.shards = 1, .window = 512, .dial = dial_store, .dial_ctx = s,
                                  .tenant = tenant, .secret_file = file};
    struct table_schema schema = flows_schema();
    if (shm[0]) {
        snprintf(address, sizeof address, "shm:%s", shm);
        config.dial = NULL;
        config.address = address;
    }
    memset(u, 0, sizeof *u);
    u->client = lethe_client_create(&config, err, sizeof err);
    CHECK(u->client, "%s", err);
    u->flows = lethe_table_open(u->client, &schema);
}

static void expect_refused(struct store *s, const char *tenant, const char *file, const char *says)
{
    struct user u;
    struct lethe_status st;
    open_as(&u, &s, tenant, file);
    WAIT_FOR(user_turn(&u) && (lethe_status(u.client, &st), st.fatal[0]));
    CHECK(strstr(st.fatal, says), "wanted \"%s\", it says: %s", says, st.fatal);
    assert_false(lethe_ready(u.client));
    lethe_client_destroy(u.client);
}

static void test_the_right_secret_gets_in(void **state)
{
    struct store *s = start_with(&site);
    struct user u;
    open_as(&u, &s, "a", files[SECRET_A]);
    WAIT_FOR(user_turn(&u) && lethe_ready(u.client));
    user_insert_many(&u, 1, 1000);
    assert_int_equal(u.ok, 1000);
    lethe_client_destroy(u.client);
    assert_int_equal(snapshot_of(s, 0).auth_failures, 0);
    store_stop(s);
}

static void test_everybody_else_stays_out(void **state)
{
    struct store *s = start_with(&site);
    expect_refused(s, "a", files[SECRET_WRONG], "unknown tenant or wrong secret");
    expect_refused(s, "a", files[SECRET_B], "unknown tenant or wrong secret");
    expect_refused(s, "nobody", files[SECRET_A], "unknown tenant or wrong secret");
    expect_refused(s, "a", files[SECRET_REPLICAS], "unknown tenant or wrong secret");
    expect_refused(s, NULL, NULL, "asks for a tenant's secret");
    WAIT_FOR(snapshot_of(s, 0).auth_failures >= 5 && snapshot_of(s, 0).connections == 0);
    assert_int_equal(snapshot_of(s, 0).status.clients, 0);
    store_stop(s);
    s = start_with(NULL);
    expect_refused(s, "a", files[SECRET_A], "this store has no secrets");
    store_stop(s);
}

static void test_a_tenant_has_its_tables_and_no_others(void **state)
{
    struct store *s = start_with(&site);
    expect_refused(s, "b", files[SECRET_B],
                   "tenant b may not open table flows; its tables (store.tenants) are: other.*");
    assert_int_equal(snapshot_of(s, 0).status.entries, 0);
    store_stop(s);
}

static void test_shared_memory_is_guarded_like_tcp(void **state)
{
    char dir[] = "/tmp/auth-shm-XXXXXX", file[sizeof shm + 4];
    assert_non_null(mkdtemp(dir));
    snprintf(shm, sizeof shm, "%s/s", dir);
    test_the_right_secret_gets_in(state);
    test_everybody_else_stays_out(state);
    test_a_tenant_has_its_tables_and_no_others(state);
    snprintf(file, sizeof file, "%s.0", shm);
    unlink(file);
    rmdir(dir);
    shm[0] = 0;
}

static void test_which_names_a_pattern_matches(void **state)
{
    static const char *const patterns[] = {"nat.*", "monitor.flows"};
    static const char *const all[] = {"*"};
    struct auth_tenant t = {.name = "t", .tables = patterns, .ntables = 2};
    struct auth_peer p = {.tenant = &t};
    static const struct { const char *name; bool may; } rows[] = {
        {"nat.session", true}, {"nat.", true}, {"nat", false}, {"nat44.x", false}, {"NAT.x", false},
        {"monitor.flows", true}, {"monitor.flows2", false}, {"monitor", false}};
    char text[200];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct table_schema schema = {0};
        memcpy(schema.name, rows[i].name, strlen(rows[i].name));
        CHECK(!auth_wrong_table(&p, &schema, text, sizeof text) == rows[i].may, "%s", rows[i].name);
    }
    /* A reaction writes into another table: it must be the tenant's, too. */
    struct table_schema schema = {.name = "nat.x", .reactions = {{REACT_SUB, 0, 4, {0}, "cap.x"}}};
    assert_non_null(auth_wrong_table(&p, &schema, text, sizeof text));
    CHECK(strstr(text, "table cap.x"), "%s", text);
    t.tables = all;
    t.ntables = 1;
    assert_null(auth_wrong_table(&p, &schema, text, sizeof text));
}

/* --- raw connections ---------------------------------------------------------------------------- */

static struct msg_hello hello_of(uint8_t role, const char *tenant)
{
    struct msg_hello m = {.magic = MSG_MAGIC, .proto_min = MSG_PROTO_MIN,
                          .proto_max = MSG_PROTO_MAX, .role = role};
    snprintf(m.tenant, sizeof m.tenant, "%s", tenant);
    if (role == ROLE_REPLICA || role == ROLE_MOVER)
        m.self = (struct msg_node){.node = 2, .incarnation = 99};
    msg_head_set(&m, MSG_HELLO, sizeof m, 0, 0);
    return m;
}

static uint64_t got[MSG_BYTES_MAX / 8];

static void expect_frame(int fd, enum msg_type type)
{
    struct msg_head *h = (struct msg_head *)got;
    assert_true(raw_frame(fd, got, sizeof got) != 0);
    CHECK(h->type == type, "message type %u instead of %d: %s", h->type, type,
          h->type == MSG_ERROR ? ((struct msg_error *)h)->text : "");
}

/* ERROR is the very next frame, and the end the one after it: nothing else was sent. */
static void expect_refusal(int fd, const char *says)
{
    expect_frame(fd, MSG_ERROR);
    CHECK(strstr(((struct msg_error *)got)->text, says), "%s", ((struct msg_error *)got)->text);
    assert_int_equal(raw_frame(fd, got, sizeof got), 0);
    close(fd);
}

/* Connects and goes as far as the PROOF, which is not sent. */
static int challenged(struct store *s, struct auth_dial *d, uint8_t role, int secret,
                      struct msg_proof *proof)
{
    struct msg_hello hello = hello_of(role, role == ROLE_REPLICA ? "" : "b");
    int fd = raw_connect(store_port(s, 0));
    auth_dial_begin(d, &hello);
    raw_send(fd, &hello, sizeof hello);
    expect_frame(fd, MSG_CHALLENGE);
    assert_null(auth_dial_answer(d, &secrets[secret], (struct msg_challenge *)got, proof));
    return fd;
}

/* A client of the first version reads frames of protocol 1 only, these among them. */
static void test_the_handshake_of_protocol_1(void **state)
{
    struct store *s = start_with(&site);
    struct auth_dial d;
    struct msg_proof proof;
    struct msg_hello hello = hello_of(ROLE_CLIENT, "b");
    hello.proto_max = 1;
    int fd = raw_connect(store_port(s, 0));
    auth_dial_begin(&d, &hello);
    raw_send(fd, &hello, sizeof hello);
    expect_frame(fd, MSG_CHALLENGE);
    assert_int_equal(((struct msg_head *)got)->proto, 1);
    assert_null(auth_dial_answer(&d, &secrets[SECRET_B], (struct msg_challenge *)got, &proof));
    assert_int_equal(proof.head.proto, 1);
    raw_send(fd, &proof, sizeof proof);
    expect_frame(fd, MSG_PROVEN);
    assert_int_equal(((struct msg_head *)got)->proto, 1);
    assert_null(auth_dial_check(&d, &secrets[SECRET_B], (struct msg_proven *)got));
    expect_frame(fd, MSG_WELCOME);
    assert_int_equal(((struct msg_head *)got)->proto, 1);
    struct msg_table_open open = {.schema = {.name = "a.secret", .kind = TABLE_HASH, .version = 1,
                                             .key_size = 8, .part_len = 8, .value_size = 8}};
    msg_head_set(&open, MSG_TABLE_OPEN, sizeof open, 0, 0);
    msg_speak(&open, 1);
    raw_send(fd, &open, sizeof open);
    expect_frame(fd, MSG_TABLE);
    assert_int_equal(((struct msg_head *)got)->proto, 1);
    assert_int_equal(((struct msg_table *)got)->id, -EACCES);
    struct msg_view nonsense = {.members = {{.node = 1}}, .nmembers = 1};
    msg_head_set(&nonsense, MSG_VIEW, sizeof nonsense, 0, 0);
    raw_send(fd, &nonsense, sizeof nonsense);
    expect_frame(fd, MSG_ERROR);
    assert_int_equal(((struct msg_head *)got)->proto, 1);
    close(fd);
    store_stop(s);
}

static void test_proofs_that_were_seen_before(void **state)
{
    struct store *s = start_with(&site);
    struct auth_dial d, d2;
    struct msg_proof proof, second;
    int fd = challenged(s, &d, ROLE_CLIENT, SECRET_B, &proof);
    raw_send(fd, &proof, sizeof proof);
    expect_frame(fd, MSG_PROVEN);
    assert_null(auth_dial_check(&d, &secrets[SECRET_B], (struct msg_proven *)got));
    expect_frame(fd, MSG_WELCOME);
    raw_send(fd, &proof, sizeof proof); /* a second one, after it */
    expect_refusal(fd, "not what this peer may send");

    fd = challenged(s, &d2, ROLE_CLIENT, SECRET_B, &second); /* replayed to a new challenge */
    raw_send(fd, &proof, sizeof proof);
    expect_refusal(fd, "wrong secret");

    fd = challenged(s, &d2, ROLE_CLIENT, SECRET_B, &second); /* the listener's MAC as ours */
    auth_mac(second.mac, &secrets[SECRET_B], AUTH_LISTENER, &d2.hello, &d2.challenge, second.nonce);
    raw_send(fd, &second, sizeof second);
    expect_refusal(fd, "wrong secret");

    fd = challenged(s, &d2, ROLE_CLIENT, SECRET_B, &second); /* the challenge sent back */
    raw_send(fd, &d2.challenge, sizeof d2.challenge);
    expect_refusal(fd, "must be PROOF");
    store_stop(s);
}

static void test_a_role_is_proven_by_its_own_secret(void **state)
{
    struct store *s = start_with(&site);
    struct auth_dial d;
    struct msg_proof proof;
    int fd = challenged(s, &d, ROLE_ADMIN, SECRET_B, &proof); /* signed for another role */
    d.hello.role = ROLE_CLIENT;
    auth_mac(proof.mac, &secrets[SECRET_B], AUTH_DIALLER, &d.hello, &d.challenge, proof.nonce);
    raw_send(fd, &proof, sizeof proof);
    expect_refusal(fd, "wrong secret");
    fd = challenged(s, &d, ROLE_REPLICA, SECRET_B, &proof); /* a tenant is no replica */
    raw_send(fd, &proof, sizeof proof);
    expect_refusal(fd, "wrong replica secret");
    fd = challenged(s, &d, ROLE_MOVER, SECRET_B, &proof); /* nor does it bring state */
    raw_send(fd, &proof, sizeof proof);
    expect_refusal(fd, "wrong replica secret");
    fd = challenged(s, &d, ROLE_MOVER, SECRET_REPLICAS, &proof); /* a node does */
    raw_send(fd, &proof, sizeof proof);
    expect_frame(fd, MSG_PROVEN);
    close(fd);
    struct msg_hello twin = hello_of(ROLE_REPLICA, "");
    twin.auth = AUTH_HMAC;
    twin.self.node = 1;
    fd = raw_connect(store_port(s, 0));
    raw_send(fd, &twin, sizeof twin);
    expect_refusal(fd, "my own node number");
    store_stop(s);
}

static void test_nothing_but_the_handshake_before_it_is_done(void **state)
{
    struct store *s = start_with(&site);
    struct msg_status status = {.nonce = 1};
    struct msg_hello hello = hello_of(ROLE_CLIENT, "b"), unknown = hello;
    struct auth_dial d;
    struct msg_proof proof;
    msg_head_set(&status, MSG_STATUS, sizeof status, 0, 0);

    int fd = raw_connect(store_port(s, 0));
    raw_send(fd, &status, sizeof status);
    expect_refusal(fd, "first frame must be HELLO");
    fd = challenged(s, &d, ROLE_CLIENT, SECRET_B, &proof);
    raw_send(fd, &status, sizeof status);
    expect_refusal(fd, "next frame must be PROOF");
    fd = challenged(s, &d, ROLE_CLIENT, SECRET_B, &proof);
    raw_send(fd, &hello, sizeof hello);
    expect_refusal(fd, "a second HELLO");
    fd = raw_connect(store_port(s, 0));
    raw_send(fd, &proof, sizeof proof);
    expect_refusal(fd, "a PROOF that nobody asked for");
    unknown.auth = 7;
    fd = raw_connect(store_port(s, 0));
    raw_send(fd, &unknown, sizeof unknown);
    expect_refusal(fd, "authentication method");
    fd = challenged(s, &d, ROLE_CLIENT, SECRET_B, &proof);
    raw_send(fd, "garbage in the middle of a handshake", 36);
    raw_expect_closed(fd);
    WAIT_FOR(snapshot_of(s, 0).connections == 0);
    store_stop(s);
}

static void test_who_dawdles_is_closed(void **state)
{
    struct store_config config = store_of(1);
    config.auth = &site;
    config.hello_timeout_ms = 300;
    struct store *s = start(&config);
    struct auth_dial d;
    struct msg_proof proof;
    struct msg_hello hello = hello_of(ROLE_CLIENT, "b");
    raw_expect_closed(raw_connect(store_port(s, 0)));
    int fd = challenged(s, &d, ROLE_CLIENT, SECRET_B, &proof);
    raw_expect_closed(fd); /* no PROOF */
    fd = raw_connect(store_port(s, 0));
    ssize_t sent = 1;
    for (size_t i = 0; i < sizeof hello - 1 && sent == 1; i++) { /* a byte in a while, never whole */
        sent = send(fd, (uint8_t *)&hello + i, 1, MSG_NOSIGNAL);
        for (int naps = 0; naps < 50; naps++)
            nap();
    }
    raw_expect_closed(fd);
    WAIT_FOR(snapshot_of(s, 0).connections == 0 && snapshot_of(s, 0).auth_failures == 1);
    store_stop(s);
}

/* Table numbers can be guessed; a tenant's txns name only what it was given. */
static void test_a_batch_names_only_opened_tables(void **state)
{
    struct store *s = start_with(&site);
    struct user u;
    struct auth_dial d;
    struct msg_proof proof;
    open_as(&u, &s, "a", files[SECRET_A]);
    WAIT_FOR(user_turn(&u) && lethe_ready(u.client));
    user_insert_many(&u, 1, 10);
    int fd = challenged(s, &d, ROLE_CLIENT, SECRET_B, &proof);
    raw_send(fd, &proof, sizeof proof);
    expect_frame(fd, MSG_PROVEN);
    expect_frame(fd, MSG_WELCOME);
    struct msg_client_open open = {.nonce = 5};
    msg_head_set(&open, MSG_CLIENT_OPEN, sizeof open, 0, 0);
    raw_send(fd, &open, sizeof open);
    expect_frame(fd, MSG_CLIENT);
    struct { struct msg_batch m; uint64_t txn[32]; } batch = {
        .m = {.client = ((struct msg_client *)got)->client, .ntxn = 1}};
    struct txn_builder b;
    uint64_t key = 1;
    txn_begin(&b, batch.txn, sizeof batch.txn, slot_of(&key, sizeof key));
    txn_add_op(&b, &(struct txn_op){.code = TXN_GET, .table = 0, .key_len = 8}, &key, NULL, NULL);
    uint32_t bytes = (uint32_t)sizeof batch.m + txn_end(&b);
    ((struct txn_head *)batch.txn)->seq = 1;
    msg_head_set(&batch, MSG_BATCH, bytes, 0, 0);
    raw_send(fd, &batch, bytes);
    expect_refusal(fd, "a table that this connection did not open");
    for (int what = 0; what < 2; what++) {
        struct msg_consume consume = {.client = batch.m.client, .want = 1};
        struct msg_events_ack ack = {.client = batch.m.client, .epoch = 1, .cursor = 9};
        msg_head_set(&consume, MSG_CONSUME, sizeof consume, 0, 0);
        msg_head_set(&ack, MSG_EVENTS_ACK, sizeof ack, 0, 0);
        fd = challenged(s, &d, ROLE_CLIENT, SECRET_B, &proof);
        raw_send(fd, &proof, sizeof proof);
        expect_frame(fd, MSG_PROVEN);
        expect_frame(fd, MSG_WELCOME);
        raw_send(fd, what ? (void *)&ack : &consume, what ? sizeof ack : sizeof consume);
        expect_refusal(fd, "events of a table that this connection did not open");
    }
    user_insert_many(&u, 11, 10); /* the others are served on */
    assert_int_equal(u.ok, 20);
    lethe_client_destroy(u.client);
    store_stop(s);
}

/* --- replicas ------------------------------------------------------------------------------------ */

static struct store *start_replica(uint32_t node, const struct auth_config *auth,
                                   loop_dial_node dial, void *ctx)
{
    static const struct store_node nodes[] = {{.name = "store-a"}, {.name = "store-b"}};
    struct store_config config = store_of(1);
    config.nodes = nodes;
    config.nnodes = 2;
    config.node = node;
    config.auth = auth;
    config.accept_loss = node == 1;
    config.dial = dial;
    config.dial_ctx = ctx;
    return start(&config);
}

static void test_replicas_of_one_secret_join(void **state)
{
    struct store *primary = start_replica(1, &site, NULL, NULL);
    struct store *backup = start_replica(2, &site, dial_store_node, &primary);
    WAIT_FOR(snapshot_of(primary, 0).status.copies == 2);
    assert_int_equal(snapshot_of(primary, 0).auth_failures, 0);
    store_stop(backup);
    store_stop(primary);
}

static void a_stranger_never_joins(const struct auth_config *theirs)
{
    struct user u;
    struct store *primary = start_replica(1, &site, NULL, NULL);
    open_as(&u, &primary, "a", files[SECRET_A]);
    WAIT_FOR(user_turn(&u) && lethe_ready(u.client));
    user_insert_many(&u, 1, 100);
    struct store *stranger = start_replica(2, theirs, dial_store_node, &primary);
    WAIT_FOR(user_turn(&u) && snapshot_of(primary, 0).auth_failures >= 3);
    user_insert_many(&u, 101, 100);
    struct shard_snapshot there = snapshot_of(stranger, 0), here = snapshot_of(primary, 0);
    assert_int_equal(here.status.copies, 1);
    assert_int_equal(here.replicas_connected, 0);
    assert_int_equal(there.status.position, 0);
    assert_int_equal(there.status.entries, 0);
    WAIT_FOR(strstr(snapshot_of(stranger, 0).trouble, "secret"));
    lethe_client_destroy(u.client);
    store_stop(stranger);
    store_stop(primary);
}

static void test_a_replica_without_the_secret_never_joins(void **state)
{
    struct auth_config theirs = site;
    theirs.replicas = secrets[SECRET_WRONG];
    a_stranger_never_joins(&theirs);
    a_stranger_never_joins(NULL);
}

/* What goes over the wire to such a replica: the refusal, and no byte of state. */
static void test_the_primary_sends_a_stranger_nothing(void **state)
{
    struct store *primary = start_replica(1, &site, NULL, NULL);
    struct auth_dial d;
    struct msg_proof proof;
    struct msg_hello hello = hello_of(ROLE_REPLICA, "");
    struct { struct msg_proof proof; struct msg_join join; } both = {0};
    int fd = challenged(primary, &d, ROLE_REPLICA, SECRET_WRONG, &both.proof);
    both.join.self = d.hello.self;
    msg_head_set(&both.join, MSG_JOIN, sizeof both.join, 0, 0);
    raw_send(fd, &both, sizeof both); /* in one go */
    expect_refusal(fd, "wrong replica secret");
    fd = raw_connect(store_port(primary, 0));
    raw_send(fd, &hello, sizeof hello);
    expect_refusal(fd, "asks replicas for a secret");
    fd = challenged(primary, &d, ROLE_REPLICA, SECRET_REPLICAS, &proof); /* the right one does */
    raw_send(fd, &proof, sizeof proof);
    expect_frame(fd, MSG_PROVEN);
    expect_frame(fd, MSG_WELCOME);
    close(fd);
    store_stop(primary);
}

/* --- impostors ------------------------------------------------------------------------------------ */

/* A listener that a backup, or a client, takes for its store. */
struct impostor { int listen_fd, fd; char address[40]; };

static void impostor_open(struct impostor *i)
{
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    char err[200];
    i->listen_fd = tcp_listen("127.0.0.1:0", err, sizeof err);
    CHECK(i->listen_fd >= 0, "%s", err);
    fcntl(i->listen_fd, F_SETFL, 0); /* its accept may wait */
    assert_int_equal(getsockname(i->listen_fd, (struct sockaddr *)&a, &len), 0);
    snprintf(i->address, sizeof i->address, "127.0.0.1:%u", ntohs(a.sin_port));
}

static struct channel *dial_impostor(void *ctx, uint32_t node, uint16_t shard, char *err,
                                     uint32_t err_len)
{
    return tcp_connect(((struct impostor *)ctx)->address, err, err_len);
}

static struct channel *dial_impostor_shard(void *ctx, uint16_t shard, char *err, uint32_t err_len)
{
    return dial_impostor(ctx, 1, shard, err, err_len);
}

static struct msg_hello impostor_accept(struct impostor *i)
{
    struct timeval patience = {.tv_sec = 60};
    i->fd = accept(i->listen_fd, NULL, NULL);
    assert_true(i->fd >= 0);
    setsockopt(i->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    expect_frame(i->fd, MSG_HELLO);
    assert_int_equal(((struct msg_hello *)got)->auth, AUTH_HMAC);
    return *(struct msg_hello *)got;
}

static void impostor_welcome(struct impostor *i)
{
    struct msg_welcome m = {.proto = 1, .primary = 1, .shards = 1, .lease_ms = 1000,
                            .self = {.node = 1, .incarnation = 7}};
    msg_head_set(&m, MSG_WELCOME, sizeof m, 0, 1);
    raw_send(i->fd, &m, sizeof m);
}

static void impostor_challenge(struct impostor *i, struct msg_proof *proof)
{
    struct msg_challenge m = {.self = {.node = 1, .incarnation = 7}};
    msg_head_set(&m, MSG_CHALLENGE, sizeof m, 0, 0);
    raw_send(i->fd, &m, sizeof m);
    expect_frame(i->fd, MSG_PROOF);
    *proof = *(struct msg_proof *)got;
}

/* The peer closes and says nothing more: no JOIN, no CLIENT_OPEN. */
static void impostor_expect_closed(struct impostor *i)
{
    uint8_t byte;
    ssize_t n = recv(i->fd, &byte, 1, 0);
    CHECK(n == 0 || (n < 0 && errno == ECONNRESET), "it sent %zd, type unknown", n);
    close(i->fd);
}

static void impostor_proven(struct impostor *i, const struct msg_proof *reflected)
{
    struct msg_proven m = {0};
    memcpy(m.mac, reflected->mac, sizeof m.mac);
    msg_head_set(&m, MSG_PROVEN, sizeof m, 0, 0);
    raw_send(i->fd, &m, sizeof m);
}

/* The three ways of an impostor: no handshake, a handshake left out in the middle,
 * and the peer's own MAC sent back. */
static void impose(struct impostor *i)
{
    struct msg_proof proof;
    impostor_accept(i);
    impostor_welcome(i);
    impostor_expect_closed(i);
    impostor_accept(i);
    impostor_challenge(i, &proof);
    impostor_welcome(i);
    impostor_expect_closed(i);
    impostor_accept(i);
    impostor_challenge(i, &proof);
    impostor_proven(i, &proof);
    impostor_expect_closed(i);
}

static void test_a_backup_takes_no_impostor_for_its_primary(void **state)
{
    struct impostor i;
    impostor_open(&i);
    struct store *backup = start_replica(2, &site, dial_impostor, &i);
    impose(&i);
    WAIT_FOR(strstr(snapshot_of(backup, 0).trouble, "did not prove"));
    assert_int_equal(snapshot_of(backup, 0).status.position, 0);
    store_stop(backup);
    close(i.listen_fd);
}

/* Even one with the secret must go on being the node that was proven. */
static void test_the_welcome_is_of_the_node_that_was_proven(void **state)
{
    struct impostor i;
    struct msg_proof proof;
    impostor_open(&i);
    struct store *backup = start_replica(2, &site, dial_impostor, &i);
    struct msg_hello hello = impostor_accept(&i);
    struct msg_challenge challenge = {.self = {.node = 1, .incarnation = 8}};
    struct msg_proven m = {0};
    msg_head_set(&challenge, MSG_CHALLENGE, sizeof challenge, 0, 0);
    raw_send(i.fd, &challenge, sizeof challenge);
    expect_frame(i.fd, MSG_PROOF);
    proof = *(struct msg_proof *)got;
    auth_mac(m.mac, &secrets[SECRET_REPLICAS], AUTH_LISTENER, &hello, &challenge, proof.nonce);
    msg_head_set(&m, MSG_PROVEN, sizeof m, 0, 0);
    raw_send(i.fd, &m, sizeof m);
    impostor_welcome(&i); /* incarnation 7 */
    impostor_expect_closed(&i);
    store_stop(backup);
    close(i.listen_fd);
}

static void *turn_user(void *ctx)
{
    struct user *u = ctx;
    struct lethe_status st;
    do {
        user_turn(u);
        nap();
        lethe_status(u->client, &st);
    } while (!strstr(st.trouble, "did not prove that it holds our secret"));
    return NULL;
}

static void test_a_client_takes_no_impostor_for_its_store(void **state)
{
    struct impostor i;
    struct user u;
    char err[300];
    pthread_t thread;
    impostor_open(&i);
    struct lethe_config config = {.shards = 1, .dial = dial_impostor_shard, .dial_ctx = &i, .tenant = "a",
                                  .secret_file = files[SECRET_A]};
    memset(&u, 0, sizeof u);
    u.client = lethe_client_create(&config, err, sizeof err);
    CHECK(u.client, "%s", err);
    assert_int_equal(pthread_create(&thread, NULL, turn_user, &u), 0);
    impose(&i);
    pthread_join(thread, NULL);
    assert_false(lethe_ready(u.client));
    lethe_client_destroy(u.client);
    close(i.listen_fd);
}

/* --- configuration --------------------------------------------------------------------------------- */

static void test_a_clients_configuration(void **state)
{
    char err[300];
    struct lethe_config config = {.shards = 1, .address = "127.0.0.1:1", .tenant = "a"};
    assert_null(lethe_client_create(&config, err, sizeof err));
    CHECK(strstr(err, "go together"), "%s", err);
    config.secret_file = "/nonexistent/secret";
    assert_null(lethe_client_create(&config, err, sizeof err));
    CHECK(strstr(err, "/nonexistent/secret"), "%s", err);
    config.secret_file = files[SECRET_A];
    config.tenant = "a name of more than thirty-one characters";
    assert_null(lethe_client_create(&config, err, sizeof err));
    CHECK(strstr(err, "1 to 31"), "%s", err);
}

static void test_what_is_loopback(void **state)
{
    assert_true(auth_is_loopback("127.0.0.1:7400") && auth_is_loopback("[::1]:7400") &&
                auth_is_loopback("localhost:1"));
    assert_false(auth_is_loopback("10.0.0.1:7400") || auth_is_loopback("0.0.0.0:7400") ||
                 auth_is_loopback("[::]:7400"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_right_secret_gets_in),
        cmocka_unit_test(test_everybody_else_stays_out),
        cmocka_unit_test(test_a_tenant_has_its_tables_and_no_others),
        cmocka_unit_test(test_shared_memory_is_guarded_like_tcp),
        cmocka_unit_test(test_which_names_a_pattern_matches),
        cmocka_unit_test(test_the_handshake_of_protocol_1),
        cmocka_unit_test(test_proofs_that_were_seen_before),
        cmocka_unit_test(test_a_role_is_proven_by_its_own_secret),
        cmocka_unit_test(test_nothing_but_the_handshake_before_it_is_done),
        cmocka_unit_test(test_who_dawdles_is_closed),
        cmocka_unit_test(test_a_batch_names_only_opened_tables),
        cmocka_unit_test(test_replicas_of_one_secret_join),
        cmocka_unit_test(test_a_replica_without_the_secret_never_joins),
        cmocka_unit_test(test_the_primary_sends_a_stranger_nothing),
        cmocka_unit_test(test_a_backup_takes_no_impostor_for_its_primary),
        cmocka_unit_test(test_the_welcome_is_of_the_node_that_was_proven),
        cmocka_unit_test(test_a_client_takes_no_impostor_for_its_store),
        cmocka_unit_test(test_a_clients_configuration),
        cmocka_unit_test(test_what_is_loopback),
    };
    log_init("auth_test", "test", LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, make_secrets, remove_secrets);
}
