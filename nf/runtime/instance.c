/* SPDX-License-Identifier: BSD-3-Clause */
/* A configured NF and its read-only memory (instance.h). Control time only. */
#include "nf/runtime/instance.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *layout_wrong(const struct nf_instance *nf, int table)
{
    struct table_layout l = {.nkey = 0};
    const struct table_schema *s = &nf->tables[table];
    if (nf->ops->layout)
        nf->ops->layout(nf->self, table, &l);
    const char *why = layout_check(l.key, l.nkey, s->key_size);
    return why ? why : layout_check(l.value, l.nvalue, s->value_size);
}

static int tables_check(const struct nf_instance *nf, char *err, uint32_t err_len)
{
    const char *why = NULL;
    const char *name = "?";
    if (nf->ntables < 0 || nf->ntables > NF_TABLES_MAX)
        why = "an NF has 0 to 8 tables";
    for (int i = 0; !why && i < nf->ntables; i++) {
        name = nf->tables[i].name;
        why = schema_validate(&nf->tables[i]);
        if (!why && nf->tables[i].value_size > NF_VALUE_MAX)
            why = "values of an NF's table are at most 128 bytes";
        if (!why)
            why = layout_wrong(nf, i);
    }
    if (!why)
        return 0;
    snprintf(err, err_len, "NF %s: table %.24s: %s", nf->ops->name, name, why);
    return -EINVAL;
}

static int self_create(struct nf_instance *nf)
{
    uint32_t page = (uint32_t)sysconf(_SC_PAGESIZE);
    uint32_t size = nf->ops->self_size ? nf->ops->self_size : 1;
    nf->self_bytes = (size + page - 1) / page * page;
    nf->self =
        mmap(NULL, nf->self_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (nf->self != MAP_FAILED)
        return 0;
    nf->self = NULL;
    return -ENOMEM;
}

int nf_instance_create(const struct nf_ops *ops, const void *config, struct nf_instance **out,
                       char *err, uint32_t err_len)
{
    struct nf_instance *nf = calloc(1, sizeof *nf);
    int rc = nf ? 0 : -ENOMEM;
    if (!rc) {
        nf->ops = ops;
        rc = self_create(nf);
    }
    if (rc)
        snprintf(err, err_len, "NF %s: out of memory", ops->name);
    if (!rc)
        rc = ops->init(nf->self, config, nf->tables, &nf->ntables, err, err_len);
    if (!rc)
        rc = tables_check(nf, err, err_len);
    if (!rc && mprotect(nf->self, nf->self_bytes, PROT_READ)) {
        rc = -errno;
        snprintf(err, err_len, "NF %s: its memory cannot be made read-only: %s", ops->name,
                 strerror(errno));
    }
    if (rc) {
        nf_instance_destroy(nf);
        return rc;
    }
    *out = nf;
    return 0;
}

void nf_instance_destroy(struct nf_instance *nf)
{
    if (!nf)
        return;
    if (nf->self)
        munmap(nf->self, nf->self_bytes);
    free(nf);
}
