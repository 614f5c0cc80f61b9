/* SPDX-License-Identifier: BSD-3-Clause */
/* Asking the controller: where it is, and one request over HTTP (libcurl). */
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/config/site.h"
#include "orchestrator/cli/cli.h"
#include "orchestrator/cli/pure/clean.h"

enum { ANSWER_MAX = 64 << 20, ASK_MS = 10 * 1000 };

static int read_token(struct cli *cli, const char *file)
{
    FILE *f = fopen(file, "r");
    if (!f)
        return cli_say(CLI_USAGE, "token file %s: %s", file, strerror(errno));
    size_t n = fread(cli->token, 1, sizeof cli->token - 1, f);
    fclose(f);
    cli->token[n] = '\0';
    cli->token[strcspn(cli->token, "\r\n")] = '\0';
    return *cli->token ? 0 : cli_say(CLI_USAGE, "token file %s is empty", file);
}

/* Of the site's file: its `controller:`. */
static int of_site(struct cli *cli, const char *path)
{
    struct site *site;
    char err[512];
    if (site_load(path, NULL, 0, &site, NULL, err, sizeof err))
        return cli_say(CLI_USAGE, "%s", err);
    snprintf(cli->address, sizeof cli->address, "%s", site->controller.listen);
    int status = 0;
    if (site->controller.token_file && !cli->token_file)
        status = read_token(cli, site->controller.token_file);
    site_free(site, NULL, 0, NULL);
    return status;
}

int cli_find(struct cli *cli)
{
    const char *said = cli->controller ? cli->controller : getenv("LETHE_CONTROLLER");
    if (cli->token_file && read_token(cli, cli->token_file))
        return CLI_USAGE;
    if (said && *said) {
        snprintf(cli->address, sizeof cli->address, "%s", said);
        return 0;
    }
    if (cli->config || access("site.yaml", R_OK) == 0)
        return of_site(cli, cli->config ? cli->config : "site.yaml");
    snprintf(cli->address, sizeof cli->address, "/run/lethe/controller.sock");
    return 0;
}

struct taken {
    char *text;
    size_t n;
};

static size_t take(char *data, size_t one, size_t n, void *to)
{
    struct taken *t = to;
    if (t->n + one * n > ANSWER_MAX)
        return 0;
    char *more = realloc(t->text, t->n + one * n + 1);
    if (!more)
        return 0;
    t->text = more;
    memcpy(t->text + t->n, data, one * n);
    t->n += one * n;
    t->text[t->n] = '\0';
    return one * n;
}

static void set_up(CURL *c, struct cli *cli, const char *method, const char *path,
                   const char *body, char url[1024])
{
    bool socket = *cli->address == '/';
    snprintf(url, 1024, "http://%s%s", socket ? "controller" : cli->address, path);
    curl_easy_setopt(c, CURLOPT_URL, url);
    if (socket)
        curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, cli->address);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(c, CURLOPT_PROXY, "");
    if (body) {
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE, (long)strlen(body));
    }
}

/* What libcurl says, as a sentence that helps. */
static int unreachable(struct cli *cli, CURLcode code, bool quiet)
{
    if (quiet)
        return CLI_UNREACHABLE;
    if (code == CURLE_OPERATION_TIMEDOUT)
        return cli_say(CLI_UNREACHABLE, "the controller at %s does not answer; is it stopped?",
                       cli->address);
    if (*cli->address == '/' && access(cli->address, F_OK) == 0 &&
        access(cli->address, R_OK | W_OK))
        return cli_say(CLI_UNREACHABLE, "%s: %s; it is its owner's alone: run this as that user",
                       cli->address, strerror(errno));
    return cli_say(CLI_UNREACHABLE,
                   "no controller answers at %s (%s); start one with `lethe up FILE`, or name it "
                   "with -C or -c", cli->address, curl_easy_strerror(code));
}

static int judge(struct cli *cli, long http, struct taken *t, bool quiet, json_t **answer)
{
    json_error_t wrong;
    json_t *j = json_loadb(t->text ? t->text : "", t->n, JSON_DECODE_ANY, &wrong);
    if (http >= 200 && http < 300 && j) {
        *answer = cli->json ? j : clean_json(j);
        return *answer ? CLI_OK : cli_say(CLI_REFUSED, "out of memory");
    }
    int status = http == 503 ? CLI_UNREACHABLE : CLI_REFUSED;
    const char *why = cli_text(j, "error");
    bool of_file = cli->file && !strncmp(why, "site.yaml:", 10);
    if (!quiet && *why)
        cli_say(status, "%s%s", of_file ? cli->file : "", of_file ? why + 9 : why);
    else if (!quiet)
        cli_say(status, "%s answered HTTP %ld and no JSON; is it lethe-controller?", cli->address,
                http);
    json_decref(j);
    return status;
}

static int ask(struct cli *cli, const char *method, const char *path, const char *type,
               const char *body, uint32_t timeout_ms, bool quiet, json_t **answer)
{
    *answer = NULL;
    CURL *c = curl_easy_init();
    struct taken t = {NULL, 0};
    struct curl_slist *heads = NULL;
    char url[1024], line[600];
    if (!c)
        return cli_say(CLI_REFUSED, "out of memory");
    set_up(c, cli, method, path, body, url);
    if (body) {
        snprintf(line, sizeof line, "Content-Type: %s", type);
        heads = curl_slist_append(heads, line);
        heads = curl_slist_append(heads, "Expect:");
    }
    if (*cli->token) {
        snprintf(line, sizeof line, "Authorization: Bearer %s", cli->token);
        heads = curl_slist_append(heads, line);
    }
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, heads);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)(timeout_ms ? timeout_ms : ASK_MS));
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, &t);
    CURLcode code = curl_easy_perform(c);
    long http = 0;
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &http);
    int status = code == CURLE_OK ? judge(cli, http, &t, quiet, answer)
                                  : unreachable(cli, code, quiet);
    curl_slist_free_all(heads);
    curl_easy_cleanup(c);
    free(t.text);
    return status;
}

int cli_ask(struct cli *cli, const char *method, const char *path, const char *type,
            const char *body, uint32_t timeout_ms, json_t **answer)
{
    return ask(cli, method, path, type, body, timeout_ms, false, answer);
}

int cli_get(struct cli *cli, const char *path, json_t **answer)
{
    return ask(cli, "GET", path, NULL, NULL, 0, false, answer);
}

int cli_get_quietly(struct cli *cli, const char *path, json_t **answer)
{
    return ask(cli, "GET", path, NULL, NULL, 0, true, answer);
}

int cli_post(struct cli *cli, const char *path, const json_t *body, json_t **answer)
{
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    int status = ask(cli, "POST", path, "application/json", text ? text : "{}", 0, false, answer);
    free(text);
    return status;
}

const char *cli_escape(const char *text)
{
    static char kept[4][256];
    static unsigned next;
    char *to = kept[next++ % 4];
    char *escaped = curl_easy_escape(NULL, text, 0);
    snprintf(to, sizeof kept[0], "%s", escaped ? escaped : "");
    curl_free(escaped);
    return to;
}
