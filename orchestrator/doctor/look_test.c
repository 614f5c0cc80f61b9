/* SPDX-License-Identifier: BSD-3-Clause */
/* Looking, in a made-up /proc and /sys: what is planted there is found; what is not there is unknown. */
#include "tests/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "orchestrator/doctor/look.h"

static char root[] = "/tmp/look_test_XXXXXX";
static struct site site;
static struct site_node node = {.name = "store-a", .listen = "127.0.0.1:7400"};

static void plant(const char *path, const char *text)
{
    char whole[600];
    snprintf(whole, sizeof whole, "%s%s", root, path);
    for (char *at = whole + strlen(root) + 1; (at = strchr(at, '/')); at++) {
        *at = '\0';
        mkdir(whole, 0755);
        *at = '/';
    }
    FILE *f = fopen(whole, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void plant_link(const char *path, const char *to)
{
    char whole[600];
    plant(path, "");
    snprintf(whole, sizeof whole, "%s%s", root, path);
    unlink(whole);
    assert_int_equal(symlink(to, whole), 0);
}

static struct doctor d;

static int begin(void **state)
{
    strcpy(root + strlen(root) - 6, "XXXXXX");
    if (!mkdtemp(root))
        return 1;
    site = (struct site){.failure_timeout_ms = 500, .run_dir = root};
    site.store.shards = 1;
    site.store.nodes = &node;
    site.store.nodes_count = 1;
    site.steering.workers_max = 16;
    node.verbs = NULL;
    d = (struct doctor){.root = root, .site = &site, .programs = "/", .controller = "x", .controller_error = "y"};
    return 0;
}

static int end(void **state)
{
    char command[200];
    doctor_free(&d);
    snprintf(command, sizeof command, "rm -r %s", root);
    return system(command);
}

/* The check's finding whose text holds `found`. */
static void expect(const char *check, enum doctor_verdict is, const char *found)
{
    assert_int_equal(doctor_run(&d, check), 0);
    for (uint32_t i = 0; i < d.n; i++)
        if (d.findings[i].v.is == is && strstr(d.findings[i].v.found, found))
            return;
    for (uint32_t i = 0; i < d.n; i++)
        print_error("%s: %s: %s\n", check, doctor_verdict_text(d.findings[i].v.is), d.findings[i].v.found);
    fail_msg("%s: nothing is %s with '%s'", check, doctor_verdict_text(is), found);
}

static void nothing_there_is_unknown(void **state)
{
    expect("memory", DOCTOR_UNKNOWN, "cannot be read");
    expect("cgroup", DOCTOR_UNKNOWN, "no cgroup");
    expect("clock", DOCTOR_UNKNOWN, "does not tell");
    expect("instances", DOCTOR_UNKNOWN, "no program");
    expect("controller", DOCTOR_UNKNOWN, "nobody answers");
    d.site = NULL;
    expect("site", DOCTOR_UNKNOWN, "no site's file");
    expect("edges", DOCTOR_UNKNOWN, "not known");
    expect("etcd", DOCTOR_UNKNOWN, "not known");
    assert_int_equal(doctor_run(&d, "horoscope"), -2);
}

static void memory(void **state)
{
    plant("/proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 4194304 kB\nSwapTotal: 100 kB\nSwapFree: 100 kB\n");
    expect("memory", DOCTOR_OK, "4096 MiB");
    site.store.memory_mb = 5000;
    expect("memory", DOCTOR_WARNING, "4096 MiB available");
    plant("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "40\n");
    plant("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "3\n");
    expect("hugepages", DOCTOR_ADVICE, "3 of 40");
    site.steering.inside = site.steering.outside =
        (struct site_side){.address = "a", .next_hop = "b", .port = "net_af_xdp0,iface=nowhere0,queues=1"};
    expect("hugepages", DOCTOR_WRONG, "AF_XDP");
}

static void limits(void **state)
{
    plant("/proc/self/limits", "Limit                     Soft Limit           Hard Limit           Units\n"
          "Max open files            200                  250                  files\n"
          "Max locked memory         65536                unlimited            bytes\n");
    expect("memlock", DOCTOR_OK, "not needed");
    expect("descriptors", DOCTOR_WRONG, "250");
    node.verbs = "10.8.0.1:7500";
    expect("memlock", DOCTOR_WRONG, "64 KiB");
    d.status = json_pack("{s:{s:i}}", "controller", "pid", 77);
    plant("/proc/77/limits", "Max open files            1024                 unlimited            files\n"
          "Max locked memory         unlimited            unlimited            bytes\n");
    expect("memlock", DOCTOR_OK, "the controller may lock no limit");
    expect("descriptors", DOCTOR_OK, "the controller");
    json_decref((json_t *)d.status);
}

static void cgroup(void **state)
{
    plant("/proc/self/cgroup", "1:name=systemd:/x\n0::/system.slice/lethe.service\n");
    plant("/sys/fs/cgroup/system.slice/lethe.service/cgroup.controllers", "cpu memory pids\n");
    plant("/sys/fs/cgroup/system.slice/lethe.service/memory.max", "1048576000\n");
    plant("/sys/fs/cgroup/system.slice/lethe.service/memory.current", "1040000000\n");
    plant("/sys/fs/cgroup/system.slice/lethe.service/pids.max", "max\n");
    plant("/sys/fs/cgroup/system.slice/lethe.service/cpu.stat", "usage_usec 5\nnr_periods 1000\nnr_throttled 400\n");
    expect("cgroup", DOCTOR_WARNING, "of at most 1000 MiB");
    expect("cgroup", DOCTOR_WARNING, "400 of 1000");
    expect("cgroup", DOCTOR_OK, "threads");
}

static void processors_and_clock(void **state)
{
    plant("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
    plant("/sys/devices/system/cpu/isolated", "2-3\n");
    expect("cpu", DOCTOR_ADVICE, "governor powersave");
    expect("cpu", DOCTOR_ADVICE, "2-3");
    plant("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
    plant("/sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet acpi_pm \n");
    expect("clock", DOCTOR_WARNING, "hpet");
}

static void rdma(void **state)
{
    expect("rdma", DOCTOR_OK, "not used");
    node.verbs = "10.8.0.1:7500";
    expect("rdma", DOCTOR_WRONG, "no RDMA device");
    plant("/sys/class/infiniband/rxe0/ports/1/state", "1: DOWN\n");
    plant("/sys/class/infiniband/rxe0/ports/1/gid_attrs/ndevs/0", "rxe_nd\n");
    plant("/sys/class/net/rxe_nd/operstate", "down\n");
    expect("rdma", DOCTOR_WRONG, "its interface rxe_nd down");
    expect("rdma", DOCTOR_WRONG, "rdma_cm: No such file");
    plant("/sys/class/infiniband/rxe0/ports/1/state", "4: ACTIVE\n");
    plant("/sys/class/net/rxe_nd/operstate", "unknown\n");
    plant("/dev/infiniband/rdma_cm", "");
    expect("rdma", DOCTOR_OK, "ACTIVE");
}

static void forwarding(void **state)
{
    site.steering.inside = (struct site_side){.address = "a", .next_hop = "b", .port = "net_af_packet0,iface=in0"};
    site.steering.outside = (struct site_side){.address = "a", .next_hop = "b", .port = "0000:01:00.0"};
    plant("/proc/sys/net/ipv4/conf/in0/forwarding", "1\n");
    expect("forwarding", DOCTOR_WARNING, "in0");
    plant("/proc/sys/net/ipv4/conf/in0/forwarding", "0\n");
    expect("forwarding", DOCTOR_OK, "in0");
}

/* 7400 is 0x1CE8; 127.0.0.1 reads 0100007F there. */
static void ports(void **state)
{
    static const char head[] = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
    char text[600];
    plant("/proc/net/tcp", head);
    expect("ports", DOCTOR_OK, "127.0.0.1:7400 is free");
    snprintf(text, sizeof text, "%s   0: 0100007F:1CE8 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 55 1 0 100\n"
             "   1: 0200000A:1CE8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 55 1 0 100\n", head);
    plant("/proc/net/tcp", text);
    expect("ports", DOCTOR_OK, "is free"); /* a connection; another address */
    snprintf(text, sizeof text, "%s   0: 00000000:1CE8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 55 1 0 100\n", head);
    plant("/proc/net/tcp", text);
    expect("ports", DOCTOR_UNKNOWN, "needs root");
    plant("/proc/31/comm", "nginx\n");
    plant_link("/proc/31/fd/4", "socket:[555]");
    expect("ports", DOCTOR_UNKNOWN, "needs root");
    plant_link("/proc/31/fd/5", "socket:[55]");
    expect("ports", DOCTOR_WRONG, "taken by nginx, pid 31");
}

static void devices(void **state)
{
    char iface[32];
    bool xdp;
    assert_true(look_iface_of("net_af_packet0,iface=eth1,framecnt=4096", iface, &xdp));
    assert_string_equal(iface, "eth1");
    assert_false(xdp);
    assert_true(look_iface_of("net_af_xdp3,iface=a-very-long-name-of-an-interface-indeed", iface, &xdp));
    assert_true(xdp);
    assert_false(look_iface_of("net_memif0,role=server", iface, &xdp));
    assert_false(look_iface_of("net_x,noiface=eth1", iface, &xdp));
    assert_false(look_iface_of(NULL, iface, &xdp));
    assert_false(look_iface_of("net_af_packet0,iface=", iface, &xdp));
}

/* A pod's own host says nothing of theirs: one finding instead of each, and never a fault. */
static void where_programs_are_pods_no_host_is_looked_at(void **state)
{
    json_t *status = json_pack("{s:{s:s}, s:[{s:s, s:s}]}", "controller", "version", LETHE_VERSION, "stores", "name",
                               "store-a", "state", "ready");
    d.status = status;
    d.pods = true;
    assert_int_equal(doctor_run(&d, NULL), 0);
    assert_int_equal(doctor_count(&d, DOCTOR_WRONG) + doctor_count(&d, DOCTOR_WARNING), 0);
    uint32_t nodes = 0;
    for (uint32_t i = 0; i < d.n; i++) {
        const char *check = d.findings[i].check;
        nodes += !strcmp(check, "nodes") && d.findings[i].v.is == DOCTOR_UNKNOWN;
        if (!strcmp(check, "instances"))
            assert_string_equal(d.findings[i].v.found, "ready");
        assert_true(strcmp(check, "programs") && strcmp(check, "ports") && strcmp(check, "secrets"));
    }
    assert_int_equal(nodes, 1);
    assert_int_equal(doctor_run(&d, "ports"), 0);
    assert_int_equal(d.n, 1);
    d.pods = false; /* here they are wrong */
    assert_int_equal(doctor_run(&d, "programs"), 0);
    assert_true(doctor_count(&d, DOCTOR_WRONG) > 0);
    json_decref(status);
}

static void findings_are_bounded_and_clean(void **state)
{
    struct verdict v;
    assert_int_equal(doctor_run(&d, "cpu"), 0);
    uint32_t first = d.n;
    verdict_is(&v, DOCTOR_WARNING, "a\033[2Jb%s", "\xff");
    for (int i = 0; i < DOCTOR_FINDINGS_MAX; i++)
        doctor_add(&d, &v, "%s", "x\n");
    assert_int_equal(d.n, DOCTOR_FINDINGS_MAX);
    assert_int_equal(d.lost, first);
    assert_string_equal(d.findings[first].v.found, "a?[2Jb?");
    assert_string_equal(d.findings[first].about, "x?");
    json_t *o = doctor_json(&d);
    assert_int_equal(json_array_size(json_object_get(o, "checks")), DOCTOR_FINDINGS_MAX);
    assert_true(json_is_true(json_object_get(o, "ok")));
    json_decref(o);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {T(nothing_there_is_unknown), T(memory), T(limits), T(cgroup), T(processors_and_clock),
                                       T(rdma), T(forwarding), T(ports), T(devices), T(where_programs_are_pods_no_host_is_looked_at),
                                       T(findings_are_bounded_and_clean)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
