/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line of lethe-nf. Parsed once, before anything else. */
#ifndef NF_WORKER_OPTIONS_H
#define NF_WORKER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum { EXIT_TROUBLE = 1, EXIT_USAGE = 2 };

struct options {
    const char *config;  /* site.yaml */
    const char *name;    /* of this worker */
    const char *front;   /* the front end that it joins; NULL: the first */
    const char *metrics; /* where they are served; NULL: beside the control socket */
    const char *tunnel;  /* DPDK device on the interface towards steering; NULL: by memif */
    const char *address; /* with --tunnel: which of its interface's addresses; NULL: the first */
    unsigned weight;     /* in steering's table */
    const char *port[2]; /* by enum packet_side; NULL: through steering */
    uint8_t peer[2][6];  /* Ethernet address that frames leaving by a side go to */
    bool peer_given[2];
    bool check, explain, json, verbose;
    bool ask;            /* with metrics: verbs are answered there, too */
};

/* True: go on. False: the program ends with *exit_status (--help, --version,
 * or a sentence about what was wrong was printed). */
bool options_parse(int argc, char **argv, struct options *o, int *exit_status);

#endif
