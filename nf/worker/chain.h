/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The site's file, and the chain of network functions it names, configured.
 * Control time only; freed as one.
 */
#ifndef NF_WORKER_CHAIN_H
#define NF_WORKER_CHAIN_H

#include "common/config/site.h"
#include "nf/runtime/engine.h"

struct chain {
    struct site *site;
    int n;
    struct nf_instance *nf[ENGINE_CHAIN_MAX];
    /* what libcyaml loaded below `nfs:`, and the fields it did it by */
    struct cyaml_schema_field *fields;
    uint32_t config_bytes;
    void *config;
};

/* 0, or -errno and a sentence with file, line and key where there is one. */
int chain_load(const char *path, struct chain *c, char *err, uint32_t err_len);
void chain_free(struct chain *c);

#endif
