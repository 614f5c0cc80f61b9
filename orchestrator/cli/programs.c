/* SPDX-License-Identifier: BSD-3-Clause */
/* Where the site's programs and its file are. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/config/site.h"
#include "orchestrator/cli/cli.h"

void cli_controller_program(char *to, size_t room)
{
    char self[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = '\0';
    static const char *const places[] = {"", "/..", "/../sbin"};
    for (uint32_t i = 0; i < 3; i++) {
        snprintf(to, room, "%s%s/lethe-controller", self, places[i]);
        char *real = access(to, X_OK) ? NULL : realpath(to, NULL);
        if (!real)
            continue;
        snprintf(to, room, "%s", real);
        free(real);
        return;
    }
    snprintf(to, room, "lethe-controller");
}

void cli_programs(const struct site *site, char *to, size_t room)
{
    if (site && site->controller.programs) {
        snprintf(to, room, "%s", site->controller.programs);
        return;
    }
    cli_controller_program(to, room);
    char *slash = strrchr(to, '/');
    if (slash)
        *slash = '\0';
    else
        snprintf(to, room, "/usr/sbin");
}

bool cli_site_file(struct cli *cli, char *to, size_t room, char *why, size_t why_room)
{
    json_t *status = NULL;
    *to = *why = '\0';
    if (cli->config || access("site.yaml", R_OK) == 0) {
        snprintf(to, room, "%s", cli->config ? cli->config : "site.yaml");
        return true;
    }
    if (cli_find(cli) || cli_get_quietly(cli, "/v1/status", &status)) {
        snprintf(why, why_room, "no site's file: name one with -c FILE; there is no site.yaml here, and no controller "
                 "answers at %s", cli->address);
        return false;
    }
    snprintf(to, room, "%s", cli_text(json_object_get(status, "site"), "config"));
    json_decref(status);
    if (access(to, R_OK) == 0)
        return true;
    snprintf(why, why_room, "no site's file: name one with -c FILE; the controller's, %s, cannot be read here", to);
    return false;
}
