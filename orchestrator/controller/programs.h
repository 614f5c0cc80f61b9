/* SPDX-License-Identifier: BSD-3-Clause */
/* Where the site's programs are, and what a worker makes of a site's text. */
#ifndef LETHE_ORCHESTRATOR_CONTROLLER_PROGRAMS_H
#define LETHE_ORCHESTRATOR_CONTROLLER_PROGRAMS_H

#include "orchestrator/model/desired.h"

/* <folder>/<program>, or, as in a build's folder, <folder>/../<its part>/<program>. `other`: a
 * group's own program, "" none. */
void program_path(const char *folder, enum orch_kind kind, const char *other, char *to, uint32_t room);

/* Asks the workers' programs whether `text` is right for them: `lethe-nf -c FILE --check`. Waits for
 * them, some seconds at most. 0, or -EINVAL and what they say; a program that is not there is
 * nobody's complaint here. `scratch`: a folder to write to. */
int programs_check(const char *folder, const char *scratch, const char *text, char *err,
                   uint32_t err_len);

#endif
