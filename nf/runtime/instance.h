/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One configured network function: its ops, its read-only `self`, its tables.
 *
 * `self` lives in pages of its own which are made read-only after init: an NF
 * that tries to keep state in it dies at once, in every build.
 */
#ifndef NF_RUNTIME_INSTANCE_H
#define NF_RUNTIME_INSTANCE_H

#include "nf/lethe_nf.h"

struct nf_instance {
    const struct nf_ops *ops;
    void *self;          /* PROT_READ */
    uint32_t self_bytes; /* of the mapping */
    int ntables;
    struct table_schema tables[NF_TABLES_MAX];
};

/* Runs ops->init. `config` may be NULL: the NF's defaults. 0, or -errno and a
 * sentence (from the NF, or about a table the runtime cannot carry). */
int nf_instance_create(const struct nf_ops *ops, const void *config, struct nf_instance **out,
                       char *err, uint32_t err_len);
void nf_instance_destroy(struct nf_instance *nf);

#endif
