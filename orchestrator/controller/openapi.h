/* SPDX-License-Identifier: BSD-3-Clause */
/* orchestrator/openapi.json, as it was when this was built. */
#ifndef LETHE_ORCHESTRATOR_CONTROLLER_OPENAPI_H
#define LETHE_ORCHESTRATOR_CONTROLLER_OPENAPI_H

extern const char openapi_text[];

#endif
