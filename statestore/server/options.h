/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command line and the site's configuration, as one store_config. Pure but
 * for reading the file.
 */
#ifndef STATESTORE_SERVER_OPTIONS_H
#define STATESTORE_SERVER_OPTIONS_H

#include "common/config/site.h"
#include "common/wire/transport.h"
#include "statestore/server/store.h"

enum { OPTIONS_LIMITS_MAX = 48 };
_Static_assert((int)STORE_NODES_MAX == (int)SITE_NODES_MAX, "any site can be run");

struct options {
    struct store_config store;
    const char *node;             /* instance name */
    struct auth_config *auth;     /* of `store`; NULL: the site has no secrets */
    struct store_node nodes[STORE_NODES_MAX]; /* of `store` */
    struct shard_limit limits[OPTIONS_LIMITS_MAX];
    char limit_names[AUTH_TENANTS_MAX][48];
    char control[108];            /* "" : no control socket */
    char bound[TRANSPORT_ADDRESS_MAX]; /* `listen` of `store`, with --bind */
    bool check, help, version, verbose;
    struct site *site;            /* owns the strings of `store` if -c was given */
    /* as given */
    const char *config_path, *listen, *listen_shm, *listen_verbs, *control_path, *metrics, *bind;
    bool standalone, accept_loss, ask;
    unsigned shards;
};

enum options_result { OPTIONS_OK = 0, OPTIONS_USAGE = -1, OPTIONS_CONFIG = -2 };

/* OPTIONS_USAGE: the command line is wrong; OPTIONS_CONFIG: the file is. Both
 * with a sentence in err. Free with options_free. */
int options_parse(struct options *o, int argc, char **argv, char *err, uint32_t err_len);
void options_free(struct options *o);
extern const char options_help[];

#endif
