/* SPDX-License-Identifier: BSD-3-Clause */
/* Where the NAT bench keeps its state; see nat_peer.h. */
#include "bench/nat_peer.h"

#include <cyaml/cyaml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/local_backend.h"
#include "bench/process.h"
#include "client/lethe.h"
#include "common/packet/dpdk_port.h"
#include "nf/nat44/nat44.h"
#include "statestore/server/embed.h"

enum { CLIENT_WINDOW = 4096, EAL_MB = 3072 };

struct peer {
    enum peer_kind kind;
    struct local_backend *local;
    struct embed *embed;
    pid_t store;
    char socket[96];             /* of its shm */
    struct lethe_client *client;
};

static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "\n%s: %s\n", what, why);
    exit(1);
}

void peer_environment(void)
{
    char err[240];
    if (dpdk_start("nat_bench", NULL, EAL_MB, err, sizeof err))
        give_up("EAL", err);
}

struct nf_instance *peer_nat(void)
{
    static const char yaml[] = "external: [203.0.113.0/26]\n"
                               "inside: [10.0.0.0/8]\n";
    static cyaml_schema_value_t schema = {.type = CYAML_MAPPING, .flags = CYAML_FLAG_POINTER};
    static const cyaml_config_t how = {.mem_fn = cyaml_mem, .log_level = CYAML_LOG_ERROR,
                                       .log_fn = cyaml_log};
    schema.data_size = nat44_ops.config_size;
    schema.mapping.fields = nat44_ops.config_fields;
    void *config = NULL;
    struct nf_instance *nat;
    char err[240];
    cyaml_err_t e = cyaml_load_data((const uint8_t *)yaml, sizeof yaml - 1, &how, &schema, &config,
                                    NULL);
    if (e != CYAML_OK)
        give_up("nat44 configuration", cyaml_strerror(e));
    if (nf_instance_create(&nat44_ops, config, &nat, err, sizeof err))
        give_up("nat44", err);
    cyaml_free(&how, &schema, config, 0);
    return nat;
}

const char *peer_name(enum peer_kind kind)
{
    static const char *const names[] = {"local", "shm", "inproc", "tcp"};
    return names[kind];
}

static void start_inproc(struct peer *p, struct lethe_config *config)
{
    struct embed_config e = {.shards = 1, .threads = true, .spin_us = 50};
    char err[240];
    pin_to_core(0); /* the store's thread inherits it */
    if (embed_start(&p->embed, &e, err, sizeof err))
        give_up("store", err);
    pin_to_core(1);
    config->dial = embed_dial;
    config->dial_ctx = p->embed;
}

static void start_process(struct peer *p, const char *program, const char *log_dir, char *address,
                          uint32_t room)
{
    char log[256], tcp[64], shm[80];
    int port = free_port(1);
    snprintf(tcp, sizeof tcp, "127.0.0.1:%d", port);
    snprintf(shm, sizeof shm, "/tmp/lethe-bench-%d-%d", (int)getpid(), port);
    snprintf(log, sizeof log, "%s/nat-store.log", log_dir);
    snprintf(p->socket, sizeof p->socket, "%s.0", shm);
    snprintf(address, room, "%s%s", p->kind == PEER_SHM ? "shm:" : "", p->kind == PEER_SHM ? shm : tcp);
    const char *argv[] = {program, "--standalone", "--listen", tcp, "--listen-shm", shm, NULL};
    p->store = process_start(argv, 0, log);
}

struct peer *peer_start(enum peer_kind kind, const char *store_program, const char *log_dir,
                        uint32_t mappings)
{
    struct peer *p = calloc(1, sizeof *p);
    p->kind = kind;
    if (kind == PEER_LOCAL) {
        p->local = local_backend_create(mappings + mappings / 8, ".udp");
        return p;
    }
    char address[96] = "", err[240] = "";
    struct lethe_config config = {.shards = 1, .window = CLIENT_WINDOW, .address = address};
    if (kind == PEER_INPROC)
        start_inproc(p, &config);
    else
        start_process(p, store_program, log_dir, address, sizeof address);
    p->client = lethe_client_create(&config, err, sizeof err);
    if (!p->client)
        give_up("client", err);
    return p;
}

struct backend peer_backend(struct peer *p)
{
    return p->kind == PEER_LOCAL ? local_backend(p->local) : backend_lethe(p->client);
}

void peer_wait_ready(struct peer *p)
{
    for (uint64_t end = wall_ns() + 15000000000u; p->client && !lethe_ready(p->client);) {
        lethe_poll(p->client, wall_ns() / 1000);
        if (wall_ns() < end)
            continue;
        struct lethe_status st;
        lethe_status(p->client, &st);
        give_up("the store is not ready after 15 s", st.fatal[0] ? st.fatal : st.trouble);
    }
}

uint64_t peer_cpu_ns(const struct peer *p)
{
    struct timespec t;
    if (p->store)
        return process_cpu_ns(p->store);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec - thread_cpu_ns();
}

void peer_stop(struct peer *p)
{
    if (p->client)
        lethe_client_destroy(p->client);
    if (p->embed)
        embed_stop(p->embed);
    if (p->store) {
        process_stop(p->store);
        unlink(p->socket);
    }
    if (p->local)
        local_backend_destroy(p->local);
    free(p);
}
