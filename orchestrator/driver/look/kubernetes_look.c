/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver for Kubernetes by itself, for kubernetes_server_test.py: what it tells, a JSON object a line.
 *
 *     kubernetes_look FOLDER_OF_THE_SERVICE_ACCOUNT SECONDS_OF_A_WATCH
 *
 * {"known", "why", "too_many", "programs": {NAME: state}, "count"} whenever that is another one, and {"end": NAME, "proven", "how"}. It
 * ends with its standard input. The site: stores store-0 and store-1, the group nf.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/config/site.h"
#include "common/log/log.h"
#include "orchestrator/driver/kubernetes.h"

enum { LOOK_MS = 50, YOUNG_MS = 4000 };

static const char text[] =
    "store:\n"
    "  etcd: [\"127.0.0.1:2379\"]\n"
    "  nodes: [{name: store-0, listen: \"store-0:7400\"}, {name: store-1, listen: \"store-1:7400\"}]\n"
    "steering:\n"
    "  inside: {address: 10.0.0.1, next_hop: 10.0.0.2, port: p}\n"
    "  outside: {address: 10.9.0.1, next_hop: 10.9.0.2, port: q}\n"
    "groups: [{name: nf, max: 9}]\n";

static struct { uv_loop_t loop; struct driver *driver; uv_timer_t timer; uv_poll_t input; char *said; } w;

static void say(json_t *o)
{
    char *line = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(o);
    puts(line);
    fflush(stdout);
    free(line);
}

static void on_end(void *ctx, const struct driver_end *end)
{
    say(json_pack("{s:s, s:b, s:s}", "end", end->process.name, "proven", end->proven, "how", end->how));
}

static json_t *programs(void)
{
    static struct driver_process all[ORCH_INSTANCES];
    json_t *o = json_object();
    uint32_t n = w.driver->ops->list(w.driver, all, ORCH_INSTANCES);
    for (uint32_t i = 0; i < n; i++)
        json_object_set_new(o, all[i].name, json_string(all[i].waits ? all[i].note : "runs"));
    return o;
}

static void news(void *ctx)
{
    struct driver_platform_state state;
    struct driver_count count;
    w.driver->ops->platform->state(w.driver, &state);
    w.driver->ops->platform->count(w.driver, "nf", &count);
    bool known = state.heard_ms && uv_now(&w.loop) - state.heard_ms < YOUNG_MS;
    json_t *o = json_pack("{s:b, s:s, s:b, s:o, s:o}", "known", known, "why", state.why, "too_many", state.too_many, "programs",
                          programs(), "count", count.there ? json_integer(count.replicas) : json_null());
    char *now = json_dumps(o, JSON_SORT_KEYS);
    if (w.said && !strcmp(w.said, now)) {
        free(now);
        json_decref(o);
        return;
    }
    free(w.said);
    w.said = now;
    say(o);
}

static void on_time(uv_timer_t *timer)
{
    news(timer->data);
}

static void on_input(uv_poll_t *poll, int status, int events)
{
    char byte[64];
    if (read(STDIN_FILENO, byte, sizeof byte) > 0)
        return;
    uv_close((uv_handle_t *)poll, NULL);
    uv_close((uv_handle_t *)&w.timer, NULL);
    w.driver->ops->destroy(w.driver);
}

int main(int argc, char **argv)
{
    struct site *site;
    char err[400];
    log_init("kubernetes_look", "", LOG_LEVEL_ERROR);
    uv_loop_init(&w.loop);
    if (argc != 3 || site_parse((const uint8_t *)text, sizeof text - 1, NULL, 0, &site, NULL, err, sizeof err) ||
        kubernetes_driver_create(&w.driver, &w.loop, argv[1], on_end, news, NULL, err, sizeof err)) {
        fprintf(stderr, "%s\n", argc == 3 ? err : "kubernetes_look FOLDER SECONDS");
        return 2;
    }
    kubernetes_driver_watch_s(w.driver, (uint32_t)strtoul(argv[2], NULL, 10));
    w.driver->ops->platform->site(w.driver, site);
    site_free(site, NULL, 0, NULL);
    uv_timer_init(&w.loop, &w.timer);
    uv_timer_start(&w.timer, on_time, 0, LOOK_MS);
    uv_poll_init(&w.loop, &w.input, STDIN_FILENO);
    uv_poll_start(&w.input, UV_READABLE, on_input);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    free(w.said);
    return uv_loop_close(&w.loop) ? 1 : 0;
}
