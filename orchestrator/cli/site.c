/* SPDX-License-Identifier: BSD-3-Clause */
/* up, down: the site as a whole. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/config/site.h"
#include "orchestrator/cli/commands.h"
#include "orchestrator/cli/wait.h"
#include "orchestrator/driver/process.h"

enum { TEXT_MAX = 256 * 1024, START_S = 15 };

static char *read_text(const char *path)
{
    char *text = malloc(TEXT_MAX + 2);
    FILE *f = text ? fopen(path, "rb") : NULL;
    size_t n = f ? fread(text, 1, TEXT_MAX + 1, f) : 0;
    bool ok = f && !ferror(f) && n <= TEXT_MAX;
    if (!ok)
        cli_say(CLI_USAGE, "%s: %s", path, !f || ferror(f) ? strerror(errno)
                                                          : "is larger than a site's file may be, 256 KiB");
    if (f)
        fclose(f);
    if (!ok) {
        free(text);
        return NULL;
    }
    text[n] = '\0';
    return text;
}

/* --- the controller ------------------------------------------------------------------- */

/* In a session of its own, its log beside its socket. Its pid, or -1, said. */
static pid_t start_controller(const char *file, const char *log)
{
    char program[1024];
    cli_controller_program(program, sizeof program);
    pid_t pid = fork();
    if (pid < 0) {
        cli_say(CLI_REFUSED, "cannot start a process: %s", strerror(errno));
        return -1;
    }
    if (pid > 0)
        return pid;
    setsid();
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (out >= 0 && in >= 0) {
        dup2(in, 0);
        dup2(out, 1);
        dup2(out, 2);
        execlp(program, "lethe-controller", "-c", file, (char *)NULL);
        dprintf(2, "%s: %s\n", program, strerror(errno));
    }
    _exit(127);
}

/* Its last line, which says why it ended. */
static int ended(const char *log, int how)
{
    char line[1024] = "", text[1024];
    FILE *f = fopen(log, "r");
    while (f && fgets(text, sizeof text, f))
        snprintf(line, sizeof line, "%s", text);
    if (f)
        fclose(f);
    line[strcspn(line, "\n")] = '\0';
    return cli_say(CLI_REFUSED, "lethe-controller ended at once (status %d): %s; its log is %s",
                   WIFEXITED(how) ? WEXITSTATUS(how) : -WTERMSIG(how), line, log);
}

/* Until it answers, or it is seen that another one leads the site. */
static int await_controller(struct cli *cli, pid_t pid, const char *log)
{
    double until = wait_now_s() + START_S;
    while (wait_now_s() < until) {
        json_t *answer;
        int how;
        if (cli_get_quietly(cli, "/v1/status", &answer) == CLI_OK) {
            json_decref(answer);
            cli_progress_end(cli);
            return CLI_OK;
        }
        if (waitpid(pid, &how, WNOHANG) == pid) {
            cli_progress_end(cli);
            return ended(log, how);
        }
        cli_progress(cli, "starting lethe-controller, pid %d; its log is %s", pid, log);
        wait_pause_ms(50);
    }
    cli_progress_end(cli);
    return cli_say(CLI_NOT_YET, "lethe-controller (pid %d) does not answer at %s yet; does another "
                   "one lead this site, or is etcd away? Its log is %s", pid, cli->address, log);
}

/* --- up ----------------------------------------------------------------------------------- */

static bool up_left(const json_t *status, const void *ctx, char *left, uint32_t room)
{
    (void)ctx;
    uint32_t all = 0, ready = 0, serving = 0;
    static const char *const kinds[] = {"stores", "steering", "workers"};
    const json_t *p, *late = NULL; /* who is waited for, a dead one first */
    size_t i;
    for (uint32_t k = 0; k < 3; k++)
        json_array_foreach(json_object_get(status, kinds[k]), i, p) {
            if (!strcmp(cli_text(p, "state"), "stopped"))
                continue;
            all++;
            if (!strcmp(cli_text(p, "state"), "ready"))
                ready++;
            else if (!late || (strcmp(cli_text(late, "state"), "waiting") && !strcmp(cli_text(p, "state"), "waiting")))
                late = p;
        }
    json_array_foreach(json_object_get(status, "shards"), i, p)
        serving += !strcmp(cli_text(p, "state"), "serving");
    int n = snprintf(left, room, "%u of %u programs ready, %u of %zu shards serving", ready, all, serving,
                     json_array_size(json_object_get(status, "shards")));
    if (late && n > 0 && (uint32_t)n < room)
        snprintf(left + n, room - (uint32_t)n, "; %s: %s", cli_text(late, "name"),
                 !strcmp(cli_text(late, "state"), "waiting") ? cli_text(json_object_get(late, "last_exit"), "cause")
                                                             : cli_text(late, "state"));
    return !all || !cli_well(status, true);
}

/* Stores and front ends are not replaced like workers: who is to be restarted, and how. */
static void say_outdated(struct cli *cli)
{
    static const char *const kinds[] = {"steering", "stores"};
    char names[512] = "";
    json_t *status;
    const json_t *p;
    size_t i, n = 0;
    if (cli->json || cli_get_quietly(cli, "/v1/status", &status))
        return;
    for (uint32_t k = 0; k < 2; k++)
        json_array_foreach(json_object_get(status, kinds[k]), i, p)
            if (json_is_true(json_object_get(p, "outdated")) && n < sizeof names)
                n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", n ? ", " : "", cli_text(p, "name"));
    if (n)
        printf("still with an earlier configuration: %s; when it suits, one after the other: lethe restart NAME\n",
               names);
    json_decref(status);
}

/* The site that `file` describes: is it right, where is its controller, where goes its log? */
static int look(struct cli *cli, const char *file, char *log, size_t room)
{
    struct site *site;
    char err[512];
    if (site_load(file, NULL, 0, &site, NULL, err, sizeof err))
        return cli_say(CLI_USAGE, "%s", err);
    snprintf(log, room, "%s/controller.log", site->run_dir);
    site_free(site, NULL, 0, NULL);
    if (!cli->config)
        cli->config = file;
    return cli_find(cli);
}

/* The folder of its log is the site's run_dir. */
static int may_begin(const char *log)
{
    char folder[512], err[512];
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(log, '/') - log), log);
    if (process_run_dir(folder, err, sizeof err))
        return cli_say(CLI_REFUSED, "%s", err);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fd < 0)
        return cli_say(CLI_REFUSED, "%s: %s; `lethe up` is for root, or the user whose run_dir it is", log, strerror(errno));
    close(fd);
    return CLI_OK;
}

static int put_site(struct cli *cli, const char *file, const char *text)
{
    json_t *answer;
    cli->file = file;
    int status = cli_ask(cli, "PUT", "/v1/site", "application/yaml", text, 0, &answer);
    cli->file = NULL;
    if (status)
        return status;
    if (cli->json)
        json_dumpf(answer, stdout, JSON_ENSURE_ASCII);
    printf("%s\n", cli->json ? "" : *cli_text(answer, "result") ? cli_text(answer, "result") : "done");
    fflush(stdout);
    json_decref(answer);
    return CLI_OK;
}

/* True, and the word is gone. */
static bool take_word(int *argc, char **argv, const char *word)
{
    int kept = 1;
    for (int i = 1; i < *argc; i++)
        if (strcmp(argv[i], word))
            argv[kept++] = argv[i];
    bool there = kept < *argc;
    argv[*argc = kept] = NULL;
    return there;
}

int cmd_up(struct cli *cli, int argc, char **argv)
{
    struct waiting w;
    bool may_start = !take_word(&argc, argv, "--no-start");
    char log[512];
    if (wait_options(&w, &argc, argv))
        return CLI_USAGE;
    const char *file = argc == 2 ? argv[1] : cli->config ? cli->config : "site.yaml";
    if (argc > 2 || *file == '-')
        return cli_say(CLI_USAGE, "write `lethe up FILE`, FILE a site.yaml");
    char *text = read_text(file);
    if (!text)
        return CLI_USAGE;
    int status = look(cli, file, log, sizeof log);
    json_t *answer = NULL;
    bool there = !status && cli_get_quietly(cli, "/healthz", &answer) == CLI_OK;
    if (!status && !there && !may_start) {
        status = cli_say(CLI_UNREACHABLE, "no controller answers at %s", cli->address);
    } else if (!status && !there && !(status = may_begin(log))) {
        pid_t pid = start_controller(file, log);
        status = pid < 0 ? CLI_REFUSED : await_controller(cli, pid, log);
    }
    json_decref(answer);
    if (!status)
        status = put_site(cli, file, text);
    free(text);
    if (status || !w.wait)
        return status;
    status = wait_for(cli, &w, up_left, NULL);
    if (!status)
        say_outdated(cli);
    return status;
}

/* --- down --------------------------------------------------------------------------------- */

static bool down_left(const json_t *status, const void *ctx, char *left, uint32_t room)
{
    (void)ctx;
    static const char *const kinds[] = {"workers", "steering", "stores"};
    uint32_t alive = 0;
    const json_t *p;
    size_t i;
    for (uint32_t k = 0; k < 3; k++)
        json_array_foreach(json_object_get(status, kinds[k]), i, p)
            alive += cli_number(p, "pid", 0) > 0;
    snprintf(left, room, "%u programs still run", alive);
    return alive > 0;
}

int cmd_down(struct cli *cli, int argc, char **argv)
{
    struct waiting w;
    if (wait_options(&w, &argc, argv))
        return CLI_USAGE;
    if (argc != 2 || strcmp(argv[1], "--force"))
        return cli_say(CLI_USAGE, "`lethe down` stops every worker, steering and store, and with them all "
                       "connections and the state of them; write `lethe down --force`");
    int status = cli_find(cli);
    json_t *answer, *body = json_pack("{s:b}", "force", 1);
    if (!status)
        status = cli_post(cli, "/v1/down", body, &answer);
    json_decref(body);
    if (status)
        return status;
    json_decref(answer);
    return w.wait ? wait_for(cli, &w, down_left, NULL) : CLI_OK;
}
