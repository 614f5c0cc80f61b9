/* SPDX-License-Identifier: BSD-3-Clause */
/* What doctor and support-bundle look at: the site's file, its programs, the controller's answer. */
#ifndef LETHE_ORCHESTRATOR_CLI_DOCTOR_H
#define LETHE_ORCHESTRATOR_CLI_DOCTOR_H

#include "orchestrator/cli/cli.h"
#include "orchestrator/doctor/doctor.h"

struct patient {
    struct doctor d;
    struct site *site;        /* NULL: no file, or a wrong one */
    json_t *status;           /* NULL: no controller answers */
    char file[512], programs[512], err[512];
};

/* Never fails: what is not there is a finding. Not to be copied: it points into itself. */
void patient_find(struct cli *cli, struct patient *p);
void patient_free(struct patient *p);
/* The findings, for people. `all`: else those of a check that are ok are one line. */
void doctor_show(struct cli *cli, const struct doctor *d, bool all, FILE *to);

#endif
