/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Views in etcd, through its HTTP/JSON gateway (v3.4 and later). Keys, below the
 * site's prefix:
 *   shards/<i>  {"epoch": 3, "members": [{"node": 1, "incarnation": "17..."}, ...],
 *               "accepted_loss": false}: the view; created if absent, then only
 *               ever changed by comparing its mod_revision
 *   nodes/<n>   {"incarnation": "17...", "name": ..., "listen": ..., "holds":
 *               [[epoch, position], ...]}: who runs, under a lease of a few seconds
 *   incarnations/<n>  "17...": the highest that node n registered, for ever
 *   site        32 hex digits, drawn by whichever node found none: tells this site from
 *               another one that has the same names, whoever asks its nodes
 *
 * Before etcd's first answer a process has no view and registers nothing: only that
 * answer tells it an incarnation above all that its node had, for the wall clock, which
 * it comes from, may have been set back. So without etcd it waits.
 *
 * One thread per process speaks to etcd (etcd.h); a shard's thread takes a short
 * lock to leave a wish or to take a view, and is woken through its wake_fd.
 * Changes come by a watch; everything is read again now and then, which is also
 * how silence is noticed. While etcd is away nothing changes: views stand, and
 * only who needs a new one waits.
 *
 * What comes from etcd is checked once, in views_json.c; a view that cannot be
 * read counts as no answer, and is shown in the service's trouble.
 */
#ifndef STATESTORE_SERVER_VIEWS_ETCD_H
#define STATESTORE_SERVER_VIEWS_ETCD_H

#include "common/config/etcd/etcd.h"
#include "statestore/server/views.h"

/* Starts the thread. 0, or -errno and a sentence. Strings are kept. */
int views_etcd_create(struct views **out, const struct views_site *site,
                      const char *const *endpoints, uint32_t nendpoints,
                      const struct etcd_tls *tls, const char *prefix, char *err, uint32_t err_len);

#endif
