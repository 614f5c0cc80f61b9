/* SPDX-License-Identifier: BSD-3-Clause */
/* Verdicts on this host: memory, limits, clocks, pauses, space. See judge.h. */
#include "orchestrator/doctor/judge.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *bytes_text(uint64_t bytes)
{
    static char kept[4][32];
    static unsigned next;
    char *to = kept[next++ % 4];
    if (bytes == UINT64_MAX)
        snprintf(to, 32, "no limit");
    else if (bytes >= 10ull << 30)
        snprintf(to, 32, "%" PRIu64 " GiB", bytes >> 30);
    else if (bytes >= 10ull << 20)
        snprintf(to, 32, "%" PRIu64 " MiB", bytes >> 20);
    else
        snprintf(to, 32, "%" PRIu64 " KiB", bytes >> 10);
    return to;
}

void judge_hugepages(const struct hugepage_facts *f, struct verdict *v)
{
    uint64_t pages = f->page_bytes ? (f->need_bytes + f->page_bytes - 1) / f->page_bytes : 0;
    if (f->total == 0 && !f->wanted)
        verdict_is(v, DOCTOR_OK, "none, and none needed: the programs use ordinary memory");
    else if (f->free * f->page_bytes >= f->need_bytes)
        verdict_is(v, DOCTOR_OK, "%" PRIu64 " of %" PRIu64 " pages of %s free", f->free, f->total, bytes_text(f->page_bytes));
    else if (!f->wanted) {
        verdict_is(v, DOCTOR_ADVICE, "%" PRIu64 " of %" PRIu64 " pages free, too few for one program more: it uses "
                   "ordinary memory", f->free, f->total);
        verdict_mend(v, "sysctl -w vm.nr_hugepages=%" PRIu64, f->total + 4 * pages);
    } else {
        verdict_is(v, DOCTOR_WRONG, "%" PRIu64 " of %" PRIu64 " pages free; an AF_XDP edge needs %" PRIu64, f->free, f->total,
                   pages);
        verdict_mend(v, "sysctl -w vm.nr_hugepages=%" PRIu64 ", and the same in /etc/sysctl.d/lethe.conf",
                     f->total + 2 * pages);
    }
}

void judge_memlock(const struct memlock_facts *f, struct verdict *v)
{
    if (!f->verbs) {
        verdict_is(v, DOCTOR_OK, "%s; not needed: the site uses no RDMA", bytes_text(f->limit_bytes));
        return;
    }
    if (f->limit_bytes >= f->all_bytes) {
        verdict_is(v, DOCTOR_OK, "%s may lock %s; %s needed at most", f->who, bytes_text(f->limit_bytes),
                   bytes_text(f->all_bytes));
        return;
    }
    verdict_is(v, f->limit_bytes < f->one_bytes ? DOCTOR_WRONG : DOCTOR_WARNING,
               "%s may lock %s of memory; each RDMA connection needs %s, all of a store's %s", f->who,
               bytes_text(f->limit_bytes), bytes_text(f->one_bytes), bytes_text(f->all_bytes));
    verdict_mend(v, "ulimit -l unlimited before `lethe up`, or LimitMEMLOCK=infinity in the service; "
                 "then restart what runs");
}

void judge_descriptors(const struct descriptor_facts *f, struct verdict *v)
{
    verdict_is(v, f->limit >= f->need ? DOCTOR_OK : DOCTOR_WRONG, "%s may open %" PRIu64 " descriptors; a store node "
               "needs up to %" PRIu64, f->who, f->limit, f->need);
    if (v->is)
        verdict_mend(v, "ulimit -Hn %" PRIu64 " before `lethe up`, or LimitNOFILE=%" PRIu64 " in the service", 2 * f->need,
                     2 * f->need);
}

void judge_memory(const struct memory_facts *f, struct verdict *v)
{
    if (f->available_bytes < f->need_bytes) {
        verdict_is(v, DOCTOR_WARNING, "%s available; the store's nodes on this host may use %s", bytes_text(f->available_bytes),
                   bytes_text(f->need_bytes));
        verdict_mend(v, "lower store.memory_mb, or move nodes to other hosts");
    } else if (f->swap_used_bytes) {
        verdict_is(v, DOCTOR_WARNING, "%s of swap in use; a page that is read back takes milliseconds",
                   bytes_text(f->swap_used_bytes));
        verdict_mend(v, "swapoff -a, or MemorySwapMax=0 in the service");
    } else {
        verdict_is(v, DOCTOR_OK, "%s available, no swap in use", bytes_text(f->available_bytes));
    }
}

/* --- cgroup ------------------------------------------------------------------------------- */

void judge_cgroup_memory(const struct cgroup_facts *f, struct verdict *v)
{
    bool near = f->memory_max != UINT64_MAX && f->memory_now > f->memory_max / 10 * 9;
    verdict_is(v, near ? DOCTOR_WARNING : DOCTOR_OK, "memory: %s in use, %s%s", bytes_text(f->memory_now),
               f->memory_max == UINT64_MAX ? "" : "of at most ", bytes_text(f->memory_max));
    if (near)
        verdict_mend(v, "raise MemoryMax= of the service (or memory.max of %s): beyond it the kernel kills programs",
                     f->path);
}

void judge_cgroup_pids(const struct cgroup_facts *f, struct verdict *v)
{
    bool near = f->pids_max != UINT64_MAX && f->pids_now + 64 > f->pids_max;
    verdict_is(v, near ? DOCTOR_WARNING : DOCTOR_OK, "threads: %" PRIu64 " in use%s", f->pids_now,
               near ? ", near the limit" : "");
    if (near)
        verdict_mend(v, "raise TasksMax= of the service (or pids.max of %s, now %" PRIu64 ")", f->path, f->pids_max);
}

void judge_cgroup_cpu(const struct cgroup_facts *f, struct verdict *v)
{
    if (f->throttled == 0) {
        verdict_is(v, DOCTOR_OK, "processor: never throttled");
        return;
    }
    verdict_is(v, f->throttled * 100 > f->periods ? DOCTOR_WARNING : DOCTOR_ADVICE, "throttled in %" PRIu64
               " of %" PRIu64 " periods: the programs stood still then", f->throttled, f->periods);
    verdict_mend(v, "raise CPUQuota= of the service (or cpu.max of %s)", f->path);
}

/* --- clocks --------------------------------------------------------------------------------- */

void judge_clock_source(const struct clock_facts *f, struct verdict *v)
{
    static const char *const slow[] = {"hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit"};
    bool bad = false;
    for (uint32_t i = 0; i < sizeof slow / sizeof slow[0]; i++)
        bad |= !strcmp(f->source, slow[i]);
    if (!f->source[0]) {
        verdict_is(v, DOCTOR_UNKNOWN, "clock source: /sys does not tell");
        return;
    }
    verdict_is(v, bad ? DOCTOR_WARNING : DOCTOR_OK, "clock source %s%s", f->source,
               bad ? ": reading it takes a microsecond and more, several times a packet" : "");
    if (bad && f->other_tsc)
        verdict_mend(v, "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource; "
                     "if dmesg says that the TSC is unstable, another host");
    else if (bad)
        verdict_mend(v, "give the host a TSC (a virtual machine: an invariant one, or kvm-clock); dmesg | grep -i tsc");
}

void judge_suspended(const struct clock_facts *f, struct verdict *v)
{
    bool was = f->suspended_ms > 1000;
    verdict_is(v, was ? DOCTOR_WARNING : DOCTOR_OK, was ? "this host was suspended for %" PRIu64 " s since its boot"
               : "never suspended", f->suspended_ms / 1000);
    if (was)
        verdict_mend(v, "systemctl mask sleep.target suspend.target hibernate.target: whoever sleeps is dead to the others");
}

void judge_ntp(bool synchronised, int64_t error_us, struct verdict *v)
{
    if (synchronised) {
        verdict_is(v, DOCTOR_OK, "time of day: kept by NTP, within %" PRId64 " ms", error_us / 1000);
        return;
    }
    verdict_is(v, DOCTOR_WARNING, "time of day: nobody keeps it; Lethe does not need it, whoever compares logs does");
    verdict_mend(v, "apt-get install chrony, or systemctl enable --now systemd-timesyncd (in a container: on its host)");
}

void judge_offset(int64_t offset_ms, struct verdict *v)
{
    bool far = offset_ms > 2000 || offset_ms < -2000; /* HTTP's Date has whole seconds */
    if (!far) {
        verdict_is(v, DOCTOR_OK, "the same time of day as here, within 2 s");
        return;
    }
    verdict_is(v, DOCTOR_WARNING, "it is %" PRId64 " s %s this host", (offset_ms < 0 ? -offset_ms : offset_ms) / 1000,
               offset_ms < 0 ? "behind" : "ahead of");
    verdict_mend(v, "chronyc makestep (or timedatectl set-ntp true), here and there");
}

/* --- processors, pauses --------------------------------------------------------------------------- */

void judge_pauses(const struct pause_facts *f, struct verdict *v)
{
    uint32_t worst_ms = f->worst_us / 1000;
    bool bad = worst_ms * 4 > f->failure_timeout_ms, held = f->held_too_long > 0;
    verdict_is(v, bad ? DOCTOR_WARNING : held ? DOCTOR_ADVICE : DOCTOR_OK, "in %u ms the longest pause was %u.%u ms; "
               "failure_timeout_ms is %u%s", f->looked_ms, worst_ms, f->worst_us / 100 % 10, f->failure_timeout_ms,
               worst_ms >= f->failure_timeout_ms ? ": programs are declared dead that live" : "");
    if (held) {
        size_t n = strlen(v->found);
        snprintf(v->found + n, sizeof v->found - n, "; workers dropped %" PRIu64 " packets after pauses (held_too_long)",
                 f->held_too_long);
    }
    if (bad)
        verdict_mend(v, "failure_timeout_ms: %u, or fewer programs on this host", (worst_ms * 8 + 99) / 100 * 100);
    else if (held)
        verdict_mend(v, "if it goes on: fewer programs on this host, or a larger failure_timeout_ms");
}

void judge_governor(const char *governor, uint32_t processors, struct verdict *v)
{
    if (!*governor)
        verdict_is(v, DOCTOR_OK, "%u processors, their speed is not ours to choose", processors);
    else if (!strcmp(governor, "performance"))
        verdict_is(v, DOCTOR_OK, "%u processors, governor performance", processors);
    else {
        verdict_is(v, DOCTOR_ADVICE, "governor %s: the first packets after a rest wait for the processor", governor);
        verdict_mend(v, "cpupower frequency-set -g performance");
    }
}

/* --- folders ---------------------------------------------------------------------------------- */

void judge_space(const struct space_facts *f, struct verdict *v)
{
    bool full = f->free_bytes < 16 << 20 || (f->total_files && f->free_files < 100);
    bool low = f->free_bytes < 256 << 20;
    verdict_is(v, full ? DOCTOR_WRONG : low ? DOCTOR_WARNING : DOCTOR_OK, "%s: %s of %s free%s", f->path,
               bytes_text(f->free_bytes), bytes_text(f->total_bytes),
               f->total_files && f->free_files < 100 ? ", and no file more" : "");
    if (v->is)
        verdict_mend(v, "df -h %s; du -xsh %s/log; logs are safe to truncate: truncate -s 0 %s/log/*.log", f->path, f->path,
                     f->path);
}

void judge_folder(const struct folder_facts *f, struct verdict *v)
{
    if (f->error == ENOENT && f->parent_writable)
        verdict_is(v, DOCTOR_OK, "%s is not there yet; `lethe up` makes it", f->path);
    else if (f->error == EACCES)
        verdict_is(v, DOCTOR_UNKNOWN, "%s cannot be looked at: needs root, or the user who runs the site", f->path);
    else if (f->error) {
        verdict_is(v, DOCTOR_WRONG, "%s: %s", f->path, strerror(f->error));
        verdict_mend(v, "install -d -m 0755 -o USER %s, USER who runs the site", f->path);
    } else if (!f->folder) {
        verdict_is(v, DOCTOR_WRONG, "%s is there and is no folder", f->path);
        verdict_mend(v, "rm %s, or another run_dir", f->path);
    } else if (f->mode & 02 || (f->mode & 020 && !(f->mode & 01000))) {
        verdict_is(v, DOCTOR_WRONG, "%s may be written by others (mode %04o): they can replace its sockets", f->path, f->mode);
        if (f->mode & 01000) /* /tmp, say: others need it so */
            verdict_mend(v, "run_dir: %s/lethe, or another folder of the site's own", f->path);
        else
            verdict_mend(v, "chmod 0755 %s", f->path);
    } else if (!f->writable) {
        verdict_is(v, DOCTOR_UNKNOWN, "%s is another user's; run this as that user, or as root", f->path);
    } else {
        verdict_is(v, DOCTOR_OK, "%s, mode %04o", f->path, f->mode);
    }
}
