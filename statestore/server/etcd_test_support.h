/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * For tests: a real etcd of our own on free ports in a folder of its own, which may be
 * killed, stopped and started again, and which is asked without the code under test's
 * logic. One per process; gone when the test's process ends.
 */
#ifndef STATESTORE_SERVER_ETCD_TEST_SUPPORT_H
#define STATESTORE_SERVER_ETCD_TEST_SUPPORT_H

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "common/wire/address.h"
#include "common/config/etcd/etcd.h"
#include "statestore/server/harness.h"
#include "tests/ports.h"

struct real_etcd {
    char dir[64], client[48], peer[48], log[80];
    pid_t pid;                /* 0: not running */
    struct etcd *ask;         /* for the test's own questions */
    struct etcd_config config;
    const char *endpoint;
    bool tls;                 /* certificates in `dir`.tls: ca, server, ours, each .pem and .key */
    char url[64], ca[96], cert[96], key[96], server_cert[96], server_key[96];
    json_t *answer;
    bool answered;
};

static inline void etcd_exec(const struct real_etcd *e)
{
    char client[64], peer[64], cluster[80];
    int log = open(e->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(log, 1);
    dup2(log, 2);
    snprintf(client, sizeof client, "%s://%s", e->tls ? "https" : "http", e->client);
    snprintf(peer, sizeof peer, "http://%s", e->peer);
    snprintf(cluster, sizeof cluster, "default=http://%s", e->peer);
    if (e->tls) {
        setenv("ETCD_CERT_FILE", e->server_cert, 1);
        setenv("ETCD_KEY_FILE", e->server_key, 1);
        setenv("ETCD_TRUSTED_CA_FILE", e->ca, 1);
        setenv("ETCD_CLIENT_CERT_AUTH", "true", 1);
    }
    execlp("etcd", "etcd", "--data-dir", e->dir, "--listen-client-urls", client,
           "--advertise-client-urls", client, "--listen-peer-urls", peer,
           "--initial-advertise-peer-urls", peer, "--initial-cluster", cluster,
           "--unsafe-no-fsync", (char *)NULL);
    _exit(127);
}

static inline bool etcd_listens(struct real_etcd *e)
{
    char host[ADDRESS_HOST_MAX], err[200];
    uint16_t port;
    int status;
    CHECK(waitpid(e->pid, &status, WNOHANG) == 0,
          "etcd ended with status %d: is the package etcd-server installed? its log: %s",
          WEXITSTATUS(status), e->log);
    assert_int_equal(address_split(e->client, host, &port, err, sizeof err), 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool up = !connect(fd, (struct sockaddr *)&a, sizeof a);
    close(fd);
    return up;
}

static inline void etcd_run(struct real_etcd *e)
{
    e->pid = fork();
    assert_true(e->pid >= 0);
    if (!e->pid)
        etcd_exec(e);
    WAIT_FOR(etcd_listens(e));
}

static inline void etcd_kill(struct real_etcd *e)
{
    if (!e->pid)
        return;
    kill(e->pid, SIGKILL);
    waitpid(e->pid, NULL, 0);
    e->pid = 0;
}

/* Stopped when this returns, every thread of it: the signal alone is only on its way. SIGCONT
 * goes on. */
static inline void etcd_stop(struct real_etcd *e)
{
    int status;
    kill(e->pid, SIGSTOP);
    assert_int_equal(waitpid(e->pid, &status, WUNTRACED), e->pid);
    assert_true(WIFSTOPPED(status));
}

static inline void etcd_on_answer(void *ctx, uint32_t tag, const json_t *answer, const char *why)
{
    struct real_etcd *e = ctx;
    e->answer = answer ? json_deep_copy(answer) : NULL;
    e->answered = true;
}

static inline void etcd_on_watch(void *ctx, const json_t *message, const char *why)
{
}

/* An authority, and what it signed for etcd and for us. */
static inline void etcd_make_certificates(struct real_etcd *e)
{
    char command[1200];
    snprintf(e->ca, sizeof e->ca, "%s.tls/ca.pem", e->dir);
    snprintf(e->server_cert, sizeof e->server_cert, "%s.tls/server.pem", e->dir);
    snprintf(e->server_key, sizeof e->server_key, "%s.tls/server.key", e->dir);
    snprintf(e->cert, sizeof e->cert, "%s.tls/ours.pem", e->dir);
    snprintf(e->key, sizeof e->key, "%s.tls/ours.key", e->dir);
    snprintf(command, sizeof command, "mkdir %s.tls && cd %s.tls && exec 2>log && "
             "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem && "
             "for who in server ours; do "
             "openssl req -newkey rsa:2048 -nodes -subj /CN=$who -keyout $who.key -out $who.csr && "
             "printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth\\n' >ext && "
             "openssl x509 -req -days 2 -in $who.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile ext "
             "-out $who.pem || exit 1; done", e->dir, e->dir);
    CHECK(system(command) == 0, "certificates by openssl: see %s.tls/log", e->dir);
}

static inline void etcd_begin_as(struct real_etcd *e, bool tls)
{
    char err[200];
    *e = (struct real_etcd){.tls = tls};
    snprintf(e->dir, sizeof e->dir, "/tmp/lethe-etcd-XXXXXX");
    assert_non_null(mkdtemp(e->dir));
    if (tls)
        etcd_make_certificates(e);
    snprintf(e->log, sizeof e->log, "%s.log", e->dir);
    snprintf(e->client, sizeof e->client, "127.0.0.1:%u", free_ports(1, 0));
    snprintf(e->peer, sizeof e->peer, "127.0.0.1:%u", free_ports(1, 0));
    snprintf(e->url, sizeof e->url, "%s%s", tls ? "https://" : "", e->client);
    e->endpoint = e->url;
    e->config = (struct etcd_config){.endpoints = &e->endpoint, .nendpoints = 1,
                                     .timeout_ms = 5000, .ctx = e, .answered = etcd_on_answer,
                                     .tls = {tls ? e->ca : NULL, tls ? e->cert : NULL, tls ? e->key : NULL},
                                     .watched = etcd_on_watch};
    CHECK(!etcd_create(&e->ask, &e->config, err, sizeof err), "%s", err);
    etcd_run(e);
}

static inline void etcd_begin(struct real_etcd *e)
{
    etcd_begin_as(e, false);
}

static inline void etcd_end(struct real_etcd *e)
{
    char command[300];
    etcd_kill(e);
    etcd_destroy(e->ask);
    snprintf(command, sizeof command, "rm -rf '%s' '%s' '%s.tls'", e->dir, e->log, e->dir);
    assert_int_equal(system(command), 0);
}

/* The answer, to be released; fails the test if there is none. */
static inline json_t *etcd_ask(struct real_etcd *e, const char *path, json_t *body)
{
    json_t *kept = json_deep_copy(body);
    json_decref(body);
    e->answer = NULL;
    uint64_t give_up = now_us() + PATIENCE_US;
    while (!e->answer) {
        CHECK(now_us() < give_up, "etcd does not answer %s", path);
        e->answered = false;
        etcd_post(e->ask, path, json_deep_copy(kept), 1);
        while (!e->answered)
            etcd_poll(e->ask, 10);
    }
    json_decref(kept);
    return e->answer;
}

static inline void etcd_put(struct real_etcd *e, const char *key, const char *value)
{
    json_decref(etcd_ask(e, "kv/put", json_pack("{s:o, s:o}", "key", etcd_text(key), "value",
                                               etcd_text(value))));
}

static inline void etcd_delete(struct real_etcd *e, const char *key)
{
    json_decref(etcd_ask(e, "kv/deleterange", json_pack("{s:o}", "key", etcd_text(key))));
}

/* The key's content, "" if it is not there; its version (changes since it was made). */
static inline int64_t etcd_get(struct real_etcd *e, const char *key, char *to, uint32_t room)
{
    int64_t version = 0;
    json_t *a = etcd_ask(e, "kv/range", json_pack("{s:o}", "key", etcd_text(key)));
    const json_t *kv = json_array_get(json_object_get(a, "kvs"), 0);
    to[0] = 0;
    if (kv) {
        assert_true(etcd_number(kv, "version", &version));
        assert_true(etcd_bytes(json_object_get(kv, "value"), to, room) >= 0);
    }
    json_decref(a);
    return version;
}

#endif
