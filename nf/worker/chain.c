/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The chain (chain.h). The schema of `nfs:` is composed here from what each NF
 * of the registry declares: an optional mapping per NF, under its name, loaded
 * into a struct of its own. The whole is an array of pointers, one per NF.
 */
#include "nf/worker/chain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cyaml/cyaml.h>

static int registry_size(void)
{
    int n = 0;
    while (nf_registry[n])
        n++;
    return n;
}

static int fields_compose(struct chain *c)
{
    int n = registry_size(), at = 0;
    c->fields = calloc((size_t)n + 1, sizeof *c->fields);
    if (!c->fields)
        return -ENOMEM;
    c->config_bytes = (uint32_t)(n ? n : 1) * sizeof(void *);
    for (int i = 0; i < n; i++) {
        const struct nf_ops *ops = nf_registry[i];
        if (!ops->config_fields)
            continue;
        struct cyaml_schema_field *f = &c->fields[at++];
        f->key = ops->name;
        f->data_offset = (uint32_t)i * sizeof(void *);
        f->value.type = CYAML_MAPPING;
        f->value.flags = CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL;
        f->value.data_size = ops->config_size;
        f->value.mapping.fields = ops->config_fields;
    }
    return 0; /* the zeroed last one is CYAML_FIELD_END */
}

static int registry_find(const char *name)
{
    for (int i = 0; nf_registry[i]; i++)
        if (!strcmp(nf_registry[i]->name, name))
            return i;
    return -1;
}

static int unknown_nf(const char *path, const char *name, char *err, uint32_t err_len)
{
    int n =
        snprintf(err, err_len, "%s:%u: chain: there is no network function \"%s\"; known:", path,
                 site_line(path, "chain"), name);
    for (int i = 0; nf_registry[i] && n > 0 && (uint32_t)n < err_len; i++)
        n += snprintf(err + n, err_len - (uint32_t)n, " %s", nf_registry[i]->name);
    return -ENOENT;
}

static int instances_create(const char *path, struct chain *c, char *err, uint32_t err_len)
{
    char why[400], key[64];
    if (c->site->chain_count < 1 || c->site->chain_count > ENGINE_CHAIN_MAX) {
        snprintf(err, err_len,
                 "%s:%u: chain: has %u network functions; write 1 to %d, from the "
                 "inside to the outside",
                 path, site_line(path, "chain"), c->site->chain_count, ENGINE_CHAIN_MAX);
        return -EINVAL;
    }
    for (unsigned i = 0; i < c->site->chain_count; i++) {
        const char *name = c->site->chain[i];
        int at = registry_find(name);
        if (at < 0)
            return unknown_nf(path, name, err, err_len);
        const void *config = c->config ? ((void **)c->config)[at] : NULL;
        int rc = nf_instance_create(nf_registry[at], config, &c->nf[c->n], why, sizeof why);
        if (rc) {
            /* `why` begins with the key that is wrong: "udp_s: 3 is outside ..." */
            snprintf(key, sizeof key, "nfs.%s.%.*s", name, (int)strcspn(why, ":"), why);
            snprintf(err, err_len, "%s:%u: %s", path, site_line(path, key), why);
            return rc;
        }
        c->n++;
    }
    return 0;
}

int chain_load(const char *path, struct chain *c, char *err, uint32_t err_len)
{
    *c = (struct chain){0};
    int rc = fields_compose(c);
    if (rc)
        snprintf(err, err_len, "out of memory");
    if (!rc)
        rc = site_load(path, c->fields, c->config_bytes, &c->site, &c->config, err, err_len);
    if (!rc)
        rc = instances_create(path, c, err, err_len);
    if (rc)
        chain_free(c);
    return rc;
}

void chain_free(struct chain *c)
{
    for (int i = 0; i < c->n; i++)
        nf_instance_destroy(c->nf[i]);
    if (c->site)
        site_free(c->site, c->fields, c->config_bytes, c->config);
    free(c->fields);
    *c = (struct chain){0};
}
