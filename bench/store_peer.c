/* SPDX-License-Identifier: BSD-3-Clause */
/* Stores and clients of a bench; see store_peer.h. */
#include "bench/store_peer.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/process.h"
#include "common/metrics/control.h"

static const char *const node_names[] = {"a", "b", "c"};

static void write_site(const char *path, struct store_peer *p, int etcd_port)
{
    FILE *f = fopen(path, "w");
    if (!f) {
        perror(path);
        exit(1);
    }
    /* Long: a busy machine must not look like a dead node in the middle of a figure. */
    fprintf(f, "failure_timeout_ms: 5000\nrun_dir: /tmp\nstore:\n  shards: 1\n  copies: %d\n", p->nodes);
    if (etcd_port)
        fprintf(f, "  etcd: [\"127.0.0.1:%d\"]\n", etcd_port);
    fprintf(f, "  nodes:\n");
    for (int i = 0; i < p->nodes; i++) {
        int port = i ? free_port(1) : p->port;
        fprintf(f, "    - {name: %s, listen: \"127.0.0.1:%d\"}\n", node_names[i], port);
        if (i)
            sprintf(p->address + strlen(p->address), ",127.0.0.1:%d", port);
    }
    fclose(f);
}

/* More than a pair needs a place for its views. Its work is off the data path. */
static int start_etcd(struct store_peer *p, const char *out)
{
    char client[64], peer[64], cluster[80], log[256], data[256];
    int port = free_port(2);
    snprintf(data, sizeof data, "%s/etcd", p->dir);
    snprintf(client, sizeof client, "http://127.0.0.1:%d", port);
    snprintf(peer, sizeof peer, "http://127.0.0.1:%d", port + 1);
    snprintf(cluster, sizeof cluster, "default=%s", peer);
    snprintf(log, sizeof log, "%s/etcd.log", out);
    const char *argv[] = {"etcd", "--data-dir", data, "--listen-client-urls", client,
                          "--advertise-client-urls", client, "--listen-peer-urls", peer,
                          "--initial-advertise-peer-urls", peer, "--initial-cluster", cluster,
                          NULL};
    p->etcd = process_start(argv, 1, log);
    close(connect_port(port));
    return port;
}

void store_start(struct store_peer *p, const char *program, const char *out, int backups)
{
    char log[256], control[256], site[256];
    *p = (struct store_peer){.nodes = 1 + backups, .port = free_port(1)};
    snprintf(p->address, sizeof p->address, "127.0.0.1:%d", p->port);
    if (!backups) {
        snprintf(p->shm, sizeof p->shm, "/tmp/lethe-bench-%d-%d", (int)getpid(), p->port);
        const char *argv[] = {program, "--standalone", "--listen", p->address, "--listen-shm",
                              p->shm, NULL};
        snprintf(log, sizeof log, "%s/store.log", out);
        p->node[0] = process_start(argv, 0, log);
        return;
    }
    snprintf(p->dir, sizeof p->dir, "%.150s/store-%d", out, p->port);
    mkdir(p->dir, 0755);
    snprintf(site, sizeof site, "%s/site.yaml", p->dir);
    write_site(site, p, backups > 1 ? start_etcd(p, out) : 0);
    for (int i = 0; i < p->nodes; i++) {
        snprintf(control, sizeof control, "%s/%s.sock", p->dir, node_names[i]);
        snprintf(log, sizeof log, "%s/store-%s.log", out, node_names[i]);
        const char *argv[] = {program, "-c", site, "--node", node_names[i], "--control", control,
                              NULL};
        p->node[i] = process_start(argv, i ? 1 : 0, log);
    }
}

void store_stop(struct store_peer *p)
{
    for (int i = 0; i < p->nodes; i++)
        process_stop(p->node[i]);
    if (p->etcd)
        process_stop(p->etcd);
    char socket[96];
    snprintf(socket, sizeof socket, "%s.0", p->shm);
    if (p->shm[0])
        unlink(socket);
    const char *argv[] = {"rm", "-rf", p->dir, NULL};
    if (p->dir[0])
        waitpid(process_start(argv, 1, "/dev/null"), NULL, 0);
}

/* Asked of the primary; a store without backups is not. */
static bool all_copies(const struct store_peer *p)
{
    char reply[16384], want[32], control[256];
    if (p->nodes == 1)
        return true;
    snprintf(control, sizeof control, "%s/%s.sock", p->dir, node_names[0]);
    snprintf(want, sizeof want, "\"copies\":%d", p->nodes);
    return !control_ask(control, "stats", reply, sizeof reply, 1000) && strstr(reply, want);
}

static uint64_t now_us(void)
{
    return wall_ns() / 1000;
}

void store_poll(struct lethe_client *c)
{
    if (lethe_poll(c, now_us()) == 0 && lethe_arm(c)) {
        struct pollfd f = {lethe_fd(c), POLLIN, 0};
        poll(&f, 1, 1);
    }
}

static struct lethe_client *client_of(const struct store_peer *p, const char *address,
                                      uint32_t window, const struct table_schema *schemas, int n,
                                      int *ids)
{
    char err[240];
    struct lethe_config config = {.shards = 1, .address = address, .window = window};
    struct lethe_client *c = lethe_client_create(&config, err, sizeof err);
    for (int i = 0; c && i < n; i++)
        ids[i] = lethe_table_open(c, &schemas[i]);
    if (!c) {
        fprintf(stderr, "\nclient: %s\n", err);
        exit(1);
    }
    for (uint64_t end = wall_ns() + 15000000000u; !lethe_ready(c) || !all_copies(p);) {
        store_poll(c);
        if (wall_ns() > end) {
            struct lethe_status st;
            lethe_status(c, &st);
            fprintf(stderr, "\nthe store is not ready, with %d copies, after 15 s: %s %s\n", p->nodes,
                    st.trouble, st.fatal);
            exit(1);
        }
    }
    return c;
}

struct lethe_client *store_client(const struct store_peer *p, uint32_t window,
                                  const struct table_schema *schemas, int n, int *ids)
{
    return client_of(p, p->address, window, schemas, n, ids);
}

struct lethe_client *store_client_shm(const struct store_peer *p, uint32_t window,
                                      const struct table_schema *schemas, int n, int *ids)
{
    char address[96];
    snprintf(address, sizeof address, "shm:%s", p->shm);
    return client_of(p, address, window, schemas, n, ids);
}

void store_digits(char *to, int len, uint64_t n)
{
    for (; len--; n /= 10)
        to[len] = (char)('0' + n % 10);
}

/* --- many txns ----------------------------------------------------------------------- */

enum { OUTSTANDING_MAX = 4096 };
struct job_run;
struct job_txn { struct job_run *run; uint64_t i; uint32_t next_free; };
struct job_run {
    const struct store_job *job;
    uint64_t done, failed;
    uint32_t free, outstanding;
    struct job_txn txn[OUTSTANDING_MAX];
};

static void on_job_done(void *user, const struct txn_result_head *h)
{
    struct job_txn *t = user;
    struct job_run *r = t->run;
    r->done++;
    r->failed += h->status != TXN_OK;
    if (r->job->done)
        r->job->done(r->job->ctx, t->i, h);
    t->next_free = r->free;
    r->free = (uint32_t)(t - r->txn);
    r->outstanding--;
}

uint64_t store_run(struct lethe_client *c, const struct store_job *job, uint64_t n)
{
    static struct job_run r;
    uint32_t most = job->outstanding ? job->outstanding : STORE_OUTSTANDING;
    r.job = job;
    r.done = r.failed = r.free = r.outstanding = 0;
    for (uint32_t i = 0; i < OUTSTANDING_MAX; i++)
        r.txn[i] = (struct job_txn){&r, 0, i + 1};
    for (uint64_t next = 0; r.done < n;) {
        for (; next < n && r.outstanding < most; next++) {
            struct job_txn *own = &r.txn[r.free];
            struct lethe_txn *t = lethe_txn_begin(c, job->slot(job->ctx, next), on_job_done, own);
            if (!t)
                break;
            r.free = own->next_free;
            r.outstanding++;
            own->i = next;
            job->build(job->ctx, next, t);
            lethe_txn_submit(t);
        }
        lethe_flush(c);
        store_poll(c);
    }
    return r.failed;
}
