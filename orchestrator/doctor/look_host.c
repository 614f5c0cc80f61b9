/* SPDX-License-Identifier: BSD-3-Clause */
/* What this host gives: memory, limits, cgroup, processors, clocks, pauses. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#include "orchestrator/doctor/fetch.h"
#include "orchestrator/doctor/look.h"

/* What lethe-nf and lethe-steer take at their default sizes; one RDMA connection (docs/rdma.md). */
enum { PROGRAM_MB = 64, CONNECTION_KB = 2052, PAUSE_ROUNDS = 250, PAUSE_NS = 1000000 };

/* --- memory ------------------------------------------------------------------------------- */

void look_memory(struct doctor *d)
{
    char text[4096];
    struct verdict v;
    if (doctor_read(d, text, sizeof text, "/proc/meminfo") <= 0) {
        verdict_is(&v, DOCTOR_UNKNOWN, "/proc/meminfo cannot be read");
        doctor_add(d, &v, "%s", "");
        return;
    }
    uint64_t swap = doctor_field(text, "SwapTotal", 0) - doctor_field(text, "SwapFree", 0);
    struct memory_facts f = {.available_bytes = doctor_field(text, "MemAvailable", 0) << 10, .swap_used_bytes = swap << 10};
    if (d->site) /* one node's: the others may be on other hosts */
        f.need_bytes = ((uint64_t)d->site->store.memory_mb * d->site->store.shards) << 20;
    judge_memory(&f, &v);
    doctor_add(d, &v, "%s", "");
}

static void edge_wants(void *ctx, struct doctor *d, const struct look_edge *e)
{
    (void)d;
    *(bool *)ctx |= e->xdp;
}

void look_hugepages(struct doctor *d)
{
    static const char folder[] = "/sys/kernel/mm/hugepages/hugepages-2048kB";
    struct hugepage_facts f = {.page_bytes = 2 << 20, .need_bytes = (uint64_t)PROGRAM_MB << 20};
    struct verdict v;
    look_each_edge(d, edge_wants, &f.wanted);
    f.total = doctor_number(d, 0, "%s/nr_hugepages", folder);
    f.free = doctor_number(d, 0, "%s/free_hugepages", folder);
    judge_hugepages(&f, &v);
    doctor_add(d, &v, "%s", "");
}

/* --- limits: of the controller, whose children have them, or else of who starts one now -------- */

static uint64_t limit_of(struct doctor *d, const char *key, bool hard, const char **who)
{
    char text[4096], *end;
    int pid = (int)json_integer_value(json_object_get(json_object_get(d->status, "controller"), "pid"));
    int n = pid > 0 ? doctor_read(d, text, sizeof text, "/proc/%d/limits", pid) : -1;
    *who = n > 0 ? "the controller" : "what is started here";
    if (n <= 0 && doctor_read(d, text, sizeof text, "/proc/self/limits") <= 0)
        return UINT64_MAX;
    uint64_t soft = doctor_field(text, key, UINT64_MAX);
    const char *at = strstr(text, key);
    if (!hard || !at || soft == UINT64_MAX)
        return soft;
    strtoull(at + strlen(key), &end, 10);
    return !strncmp(end + strspn(end, " "), "unlimited", 9) ? UINT64_MAX : strtoull(end, NULL, 10);
}

void look_memlock(struct doctor *d)
{
    struct memlock_facts f = {.verbs = d->site && look_uses_verbs(d->site), .one_bytes = (uint64_t)CONNECTION_KB << 10};
    struct verdict v;
    f.limit_bytes = limit_of(d, "Max locked memory", false, &f.who);
    if (f.verbs)
        f.all_bytes = f.one_bytes * d->site->store.shards *
                      (d->site->steering.workers_max + d->site->store.nodes_count);
    judge_memlock(&f, &v);
    doctor_add(d, &v, "%s", "");
}

void look_descriptors(struct doctor *d)
{
    struct descriptor_facts f = {.need = 256};
    struct verdict v;
    if (d->site)
        f.need += d->site->store.shards * (2 * d->site->store.nodes_count + 2 * d->site->steering.workers_max);
    f.limit = limit_of(d, "Max open files", true, &f.who);
    judge_descriptors(&f, &v);
    doctor_add(d, &v, "%s", "");
}

/* "0::/system.slice/lethe.service" -> its folder; false: no cgroup of version 2. */
static bool own_cgroup(struct doctor *d, char *to, uint32_t room)
{
    char text[2000];
    int pid = (int)json_integer_value(json_object_get(json_object_get(d->status, "controller"), "pid"));
    int n = pid > 0 ? doctor_read(d, text, sizeof text, "/proc/%d/cgroup", pid) : -1;
    if (n <= 0 && doctor_read(d, text, sizeof text, "/proc/self/cgroup") <= 0)
        return false;
    char *at = strncmp(text, "0::", 3) ? strstr(text, "\n0::") : text;
    if (!at)
        return false;
    at += *at == '\n' ? 4 : 3;
    at[strcspn(at, "\n")] = '\0';
    snprintf(to, room, "/sys/fs/cgroup%s", strcmp(at, "/") ? at : "");
    return true;
}

void look_cgroup(struct doctor *d)
{
    char path[1000] = "", text[1000];
    struct verdict v;
    bool known = own_cgroup(d, path, sizeof path);
    struct cgroup_facts f = {.path = path};
    if (!known || doctor_read(d, text, sizeof text, "%s/cgroup.controllers", path) < 0) {
        verdict_is(&v, DOCTOR_UNKNOWN, "no cgroup of version 2 is seen here; limits of a container cannot be told");
        doctor_add(d, &v, "%s", "");
        return;
    }
    f.memory_max = doctor_number(d, UINT64_MAX, "%s/memory.max", path);
    f.memory_now = doctor_number(d, 0, "%s/memory.current", path);
    f.pids_max = doctor_number(d, UINT64_MAX, "%s/pids.max", path);
    f.pids_now = doctor_number(d, 0, "%s/pids.current", path);
    doctor_read(d, text, sizeof text, "%s/cpu.stat", path);
    f.periods = doctor_field(text, "nr_periods", 0);
    f.throttled = doctor_field(text, "nr_throttled", 0);
    judge_cgroup_memory(&f, &v);
    doctor_add(d, &v, "%s", "");
    judge_cgroup_pids(&f, &v);
    doctor_add(d, &v, "%s", "");
    judge_cgroup_cpu(&f, &v);
    doctor_add(d, &v, "%s", "");
}

/* --- processors --------------------------------------------------------------------------------- */

void look_cpu(struct doctor *d)
{
    char governor[64], isolated[200];
    struct verdict v;
    doctor_read(d, governor, sizeof governor, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    governor[strcspn(governor, "\n")] = '\0';
    judge_governor(governor, (uint32_t)sysconf(_SC_NPROCESSORS_ONLN), &v);
    doctor_add(d, &v, "%s", "");
    if (doctor_read(d, isolated, sizeof isolated, "/sys/devices/system/cpu/isolated") <= 1)
        return;
    isolated[strcspn(isolated, "\n")] = '\0';
    verdict_is(&v, DOCTOR_ADVICE, "processors %s are isolated: nothing runs there unless it is told to", isolated);
    verdict_mend(&v, "taskset -c %s lethe up FILE, if they are meant for this", isolated);
    doctor_add(d, &v, "%s", "");
}

/* --- clocks -------------------------------------------------------------------------------------- */

static uint64_t clock_ms(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* What others think the time is, by their Date header. */
static void look_offset(struct doctor *d, const char *who, const char *url)
{
    struct fetched f;
    struct verdict v;
    struct etcd_tls tls = {0};
    if (d->site)
        tls = (struct etcd_tls){d->site->store.etcd_ca, d->site->store.etcd_cert, d->site->store.etcd_key};
    fetch_etcd(url, &tls, NULL, LOOK_ASK_MS, &f);
    int64_t now_ms = (int64_t)clock_ms(CLOCK_REALTIME);
    free(f.text);
    if (!f.date_s)
        return; /* who does not answer is another check's */
    judge_offset(f.date_s * 1000 + 500 - now_ms, &v);
    doctor_add(d, &v, "%s", who);
}

void look_clock(struct doctor *d)
{
    static const char folder[] = "/sys/devices/system/clocksource/clocksource0";
    struct clock_facts f = {.suspended_ms = clock_ms(CLOCK_BOOTTIME) - clock_ms(CLOCK_MONOTONIC)};
    char others[200], url[300];
    struct timex t = {0};
    struct verdict v;
    doctor_read(d, f.source, sizeof f.source, "%s/current_clocksource", folder);
    f.source[strcspn(f.source, "\n ")] = '\0';
    doctor_read(d, others, sizeof others, "%s/available_clocksource", folder);
    f.other_tsc = strstr(others, "tsc") != NULL;
    judge_clock_source(&f, &v);
    doctor_add(d, &v, "%s", "");
    judge_suspended(&f, &v);
    doctor_add(d, &v, "%s", "");
    int state = adjtimex(&t);
    if (state < 0)
        verdict_is(&v, DOCTOR_UNKNOWN, "time of day: the kernel does not tell: %s", strerror(errno));
    else
        judge_ntp(state != TIME_ERROR && !(t.status & STA_UNSYNC), t.maxerror, &v);
    doctor_add(d, &v, "%s", "");
    for (unsigned i = 0; d->site && i < d->site->store.etcd_count; i++) {
        const char *e = d->site->store.etcd[i];
        snprintf(url, sizeof url, "%s%s/version", strstr(e, "://") ? "" : "http://", e);
        look_offset(d, e, url);
    }
    if (d->status && d->controller && *d->controller != '/') {
        snprintf(url, sizeof url, "http://%s/healthz", d->controller);
        look_offset(d, "the controller", url);
    }
}

/* --- pauses ---------------------------------------------------------------------------------------- */

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void look_pauses(struct doctor *d)
{
    struct pause_facts f = {.failure_timeout_ms = d->site ? d->site->failure_timeout_ms : 500};
    struct verdict v;
    const json_t *w;
    size_t i;
    uint64_t begun = now_ns(), before = begun;
    for (int round = 0; round < PAUSE_ROUNDS; round++) {
        struct timespec nap = {0, PAUSE_NS};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
        uint64_t now = now_ns(), late = now - before > PAUSE_NS ? (now - before - PAUSE_NS) / 1000 : 0;
        if (late > f.worst_us)
            f.worst_us = late < UINT32_MAX ? (uint32_t)late : UINT32_MAX;
        before = now;
    }
    f.looked_ms = (uint32_t)((before - begun) / 1000000);
    json_array_foreach(json_object_get(d->status, "workers"), i, w) {
        const json_t *drops = json_object_get(json_object_get(w, "figures"), "drops");
        f.held_too_long += (uint64_t)json_integer_value(json_object_get(drops, "held_too_long"));
    }
    judge_pauses(&f, &v);
    doctor_add(d, &v, "%s", "");
}
