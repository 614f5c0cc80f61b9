/* SPDX-License-Identifier: BSD-3-Clause */
/* Verdicts, by rows: facts in; the verdict, what is named and what mends it out. */
#include "tests/check.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "orchestrator/doctor/judge.h"

static void expect(const char *row, const struct verdict *v, enum doctor_verdict is, const char *found, const char *mend)
{
    CHECK(v->is == is, "%s: %s: %s", row, doctor_verdict_text(v->is), v->found);
    CHECK(strstr(v->found, found), "%s: found '%s', not '%s'", row, v->found, found);
    CHECK(strstr(v->mend, mend), "%s: mend '%s', not '%s'", row, v->mend, mend);
    CHECK(is == DOCTOR_OK || is == DOCTOR_UNKNOWN || *v->mend, "%s: nothing mends it", row);
}

static void memory_and_limits(void **state)
{
    const struct { struct memlock_facts f; enum doctor_verdict is; const char *found, *mend; } locks[] = {
        {{"x", false, 65536, 2 << 20, 0}, DOCTOR_OK, "not needed", ""},
        {{"x", true, 65536, 2101248, 1 << 28}, DOCTOR_WRONG, "64 KiB", "ulimit -l"},
        {{"x", true, 8 << 20, 2101248, 1 << 28}, DOCTOR_WARNING, "8192 KiB", "LimitMEMLOCK=infinity"},
        {{"x", true, UINT64_MAX, 2101248, 1 << 28}, DOCTOR_OK, "no limit", ""}};
    const struct { struct hugepage_facts f; enum doctor_verdict is; const char *found, *mend; } pages[] = {
        {{false, 0, 0, 2 << 20, 64 << 20}, DOCTOR_OK, "none needed", ""},
        {{false, 100, 10, 2 << 20, 64 << 20}, DOCTOR_ADVICE, "10 of 100", "vm.nr_hugepages=228"},
        {{true, 0, 0, 2 << 20, 64 << 20}, DOCTOR_WRONG, "AF_XDP", "vm.nr_hugepages=64"},
        {{true, 64, 64, 2 << 20, 64 << 20}, DOCTOR_OK, "64 of 64", ""}};
    const struct { struct descriptor_facts f; enum doctor_verdict is; } files[] = {
        {{"x", 1024, 328}, DOCTOR_OK}, {{"x", 256, 328}, DOCTOR_WRONG}};
    const struct { struct memory_facts f; enum doctor_verdict is; const char *found; } memory[] = {
        {{8ull << 30, 1 << 30, 0}, DOCTOR_OK, "no swap"}, {{1 << 30, 8ull << 30, 0}, DOCTOR_WARNING, "may use"},
        {{8ull << 30, 0, 1 << 20}, DOCTOR_WARNING, "swap in use"}};
    struct verdict v;
    for (int i = 0; i < 4; i++) {
        judge_memlock(&locks[i].f, &v);
        expect("memlock", &v, locks[i].is, locks[i].found, locks[i].mend);
        judge_hugepages(&pages[i].f, &v);
        expect("hugepages", &v, pages[i].is, pages[i].found, pages[i].mend);
    }
    for (int i = 0; i < 2; i++) {
        judge_descriptors(&files[i].f, &v);
        expect("descriptors", &v, files[i].is, "328", files[i].is ? "LimitNOFILE" : "");
    }
    for (int i = 0; i < 3; i++) {
        judge_memory(&memory[i].f, &v);
        expect("memory", &v, memory[i].is, memory[i].found, "");
    }
}

static void cgroups_and_space(void **state)
{
    struct cgroup_facts f = {"/c", UINT64_MAX, 5 << 20, UINT64_MAX, 12, 100, 0};
    struct verdict v;
    judge_cgroup_memory(&f, &v);
    expect("no limit", &v, DOCTOR_OK, "no limit", "");
    judge_cgroup_pids(&f, &v);
    expect("no limit", &v, DOCTOR_OK, "12", "");
    judge_cgroup_cpu(&f, &v);
    expect("no limit", &v, DOCTOR_OK, "never", "");
    f = (struct cgroup_facts){"/c", 100 << 20, 95 << 20, 70, 12, 100, 50};
    judge_cgroup_memory(&f, &v);
    expect("memory", &v, DOCTOR_WARNING, "95 MiB", "MemoryMax=");
    judge_cgroup_pids(&f, &v);
    expect("pids", &v, DOCTOR_WARNING, "near", "TasksMax=");
    judge_cgroup_cpu(&f, &v);
    expect("cpu", &v, DOCTOR_WARNING, "50 of 100", "CPUQuota=");
    const struct { struct space_facts f; enum doctor_verdict is; } space[] = {
        {{"/r", 8ull << 30, 9ull << 30, 1000000, 2000000}, DOCTOR_OK}, {{"/r", 100 << 20, 9ull << 30, 1000, 2000}, DOCTOR_WARNING},
        {{"/r", 1 << 20, 9ull << 30, 1000, 2000}, DOCTOR_WRONG}, {{"/r", 8ull << 30, 9ull << 30, 3, 2000}, DOCTOR_WRONG},
        {{"/r", 8ull << 30, 9ull << 30, 0, 0}, DOCTOR_OK}};
    for (int i = 0; i < 5; i++) {
        judge_space(&space[i].f, &v);
        expect("space", &v, space[i].is, "/r", space[i].is ? "truncate" : "");
    }
    const struct { struct folder_facts f; enum doctor_verdict is; } folders[] = {
        {{"/r", 0, true, true, 0755, true}, DOCTOR_OK}, {{"/r", ENOENT, false, false, 0, true}, DOCTOR_OK},
        {{"/r", ENOENT, false, false, 0, false}, DOCTOR_WRONG}, {{"/r", EACCES, false, false, 0, false}, DOCTOR_UNKNOWN},
        {{"/r", 0, false, true, 0644, true}, DOCTOR_WRONG}, {{"/r", 0, true, true, 0777, true}, DOCTOR_WRONG},
        {{"/r", 0, true, true, 01777, true}, DOCTOR_WRONG}, {{"/r", 0, true, true, 01775, true}, DOCTOR_OK},
        {{"/r", 0, true, false, 0755, true}, DOCTOR_UNKNOWN}};
    for (int i = 0; i < 9; i++) {
        judge_folder(&folders[i].f, &v);
        expect("folder", &v, folders[i].is, "/r", "");
    }
}

static void clocks_and_pauses(void **state)
{
    struct verdict v;
    const struct { struct clock_facts f; enum doctor_verdict is; const char *mend; } sources[] = {
        {{"tsc", true, 0}, DOCTOR_OK, ""}, {{"kvm-clock", false, 0}, DOCTOR_OK, ""}, {{"", false, 0}, DOCTOR_UNKNOWN, ""},
        {{"hpet", true, 0}, DOCTOR_WARNING, "echo tsc"}, {{"acpi_pm", false, 0}, DOCTOR_WARNING, "kvm-clock"}};
    for (int i = 0; i < 5; i++) {
        judge_clock_source(&sources[i].f, &v);
        expect("source", &v, sources[i].is, "clock source", sources[i].mend);
    }
    judge_suspended(&(struct clock_facts){.suspended_ms = 70000}, &v);
    expect("suspended", &v, DOCTOR_WARNING, "70 s", "systemctl mask");
    judge_suspended(&(struct clock_facts){.suspended_ms = 3}, &v);
    expect("suspended", &v, DOCTOR_OK, "never", "");
    judge_ntp(false, 0, &v);
    expect("ntp", &v, DOCTOR_WARNING, "nobody", "chrony");
    judge_ntp(true, 3000, &v);
    expect("ntp", &v, DOCTOR_OK, "3 ms", "");
    judge_offset(-61000, &v);
    expect("offset", &v, DOCTOR_WARNING, "61 s behind", "makestep");
    judge_offset(900, &v);
    expect("offset", &v, DOCTOR_OK, "same time", "");
    const struct { struct pause_facts f; enum doctor_verdict is; const char *found, *mend; } pauses[] = {
        {{500, 10000, 300, 0}, DOCTOR_OK, "10.0 ms", ""}, {{500, 130000, 300, 0}, DOCTOR_WARNING, "130.0", "failure_timeout_ms: 1100"},
        {{50, 60000, 300, 0}, DOCTOR_WARNING, "declared dead", "failure_timeout_ms: 500"},
        {{500, 10000, 300, 7}, DOCTOR_ADVICE, "held_too_long", "fewer"}};
    for (int i = 0; i < 4; i++) {
        judge_pauses(&pauses[i].f, &v);
        expect("pauses", &v, pauses[i].is, pauses[i].found, pauses[i].mend);
    }
    judge_governor("powersave", 4, &v);
    expect("governor", &v, DOCTOR_ADVICE, "powersave", "cpupower");
    judge_governor("", 4, &v);
    expect("governor", &v, DOCTOR_OK, "4 processors", "");
}

static void secrets_and_programs(void **state)
{
    const struct { struct secret_facts f; enum doctor_verdict is; const char *found, *mend; } rows[] = {
        {{"/k", SECRET_HEX, 0, true, 0600, 32, true, 32, 32, 0}, DOCTOR_OK, "0600", ""},
        {{"/k", SECRET_HEX, 0, true, 0644, 32, true, 32, 32, 0}, DOCTOR_WRONG, "0644", "chmod 600 /k"},
        {{"/k", SECRET_HEX, 0, true, 0440, 32, true, 32, 32, 0}, DOCTOR_OK, "its group reads it", ""},
        {{"/k", SECRET_HEX, 0, true, 0460, 32, true, 32, 32, 0}, DOCTOR_WRONG, "0460", "chmod 600 /k"},
        {{"/k", SECRET_HEX, 0, true, 0440, 32, true, 32, 32, 10001}, DOCTOR_WRONG, "0440", "chmod 600 /k"},
        {{"/k", SECRET_HEX, 0, true, 0600, 31, true, 32, 32, 0}, DOCTOR_WRONG, "31 characters", "rand -hex 16 > /k"},
        {{"/k", SECRET_HEX, 0, true, 0600, 65, true, 64, 128, 0}, DOCTOR_WRONG, "65", "rand -hex 32 > /k"},
        {{"/k", SECRET_HEX, 0, true, 0400, 64, false, 64, 128, 0}, DOCTOR_WRONG, "hex digits", "rand -hex 32"},
        {{"/k", SECRET_HEX, ENOENT, false, 0, 0, false, 32, 32, 0}, DOCTOR_WRONG, "No such file", "umask 077"},
        {{"/k", SECRET_HEX, EACCES, false, 0, 0, false, 32, 32, 0}, DOCTOR_UNKNOWN, "needs root", ""},
        {{"/k", SECRET_HEX, 0, false, 0700, 0, true, 32, 32, 0}, DOCTOR_WRONG, "no ordinary file", "another"},
        {{"/k", SECRET_TOKEN, 0, true, 0600, 40, false, 16, 512, 0}, DOCTOR_OK, "40", ""},
        {{"/k", SECRET_TOKEN, 0, true, 0600, 4, true, 16, 512, 0}, DOCTOR_WRONG, "4 characters", "base64"}};
    struct verdict v;
    for (uint32_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        judge_secret(&rows[i].f, &v);
        expect(rows[i].found, &v, rows[i].is, rows[i].found, rows[i].mend);
    }
    judge_version("/p", "lethe-nf 1.2.0", "lethe-nf", "1.2.0", false, &v);
    expect("version", &v, DOCTOR_OK, "1.2.0", "");
    judge_version("/p", "lethe-nf 1.1.0", "lethe-nf", "1.2.0", false, &v);
    expect("version", &v, DOCTOR_WARNING, "1.1.0; lethe is 1.2.0", "same version");
    judge_version("/p", "lethe-nf 1.1.0", "lethe-nf", "1.2.0", true, &v);
    expect("version", &v, DOCTOR_ADVICE, "1.1.0", "meant so");
    judge_version("/p", "", "lethe-nf", "1.2.0", false, &v);
    expect("version", &v, DOCTOR_WRONG, "not there", "install");
}

static void edges(void **state)
{
    const struct edge_facts well = {.iface = "in", .key = "k", .there = true, .up = true, .carrier = true, .mtu = 1500,
                                    .other_mtu = 1500, .other = "out"};
    struct edge_facts f = well;
    struct verdict v;
    judge_edge_there(&f, &v);
    expect("well", &v, DOCTOR_OK, "MTU 1500", "");
    judge_edge_offloads(&f, &v);
    expect("well", &v, DOCTOR_OK, "off", "");
    judge_edge_address(&f, &v);
    expect("well", &v, DOCTOR_OK, "no address", "");
    judge_edge_mtu(&f, &v);
    expect("well", &v, DOCTOR_OK, "1500", "");
    f.tx = f.tso = f.gro = true;
    judge_edge_offloads(&f, &v);
    expect("tx, gro", &v, DOCTOR_WRONG, "tx checksum offload, gro", "ethtool -K in tx off gro off");
    f = well, f.tso = f.lro = true;
    judge_edge_offloads(&f, &v);
    expect("tso, lro", &v, DOCTOR_WRONG, "tso, lro", "ethtool -K in tso off lro off");
    f = well, f.error = EPERM;
    judge_edge_offloads(&f, &v);
    expect("error", &v, DOCTOR_UNKNOWN, "not permitted", "");
    f = well, f.mtu = 9000;
    judge_edge_mtu(&f, &v);
    expect("mtu", &v, DOCTOR_WARNING, "1500", "ip link set dev out mtu 9000");
    f.mtu = 1400;
    judge_edge_mtu(&f, &v);
    expect("mtu", &v, DOCTOR_WARNING, "1400", "ip link set dev in mtu 1500");
    f = well, f.prefix = 24, strcpy(f.address, "10.0.0.9");
    judge_edge_address(&f, &v);
    expect("address", &v, DOCTOR_WRONG, "10.0.0.9/24", "ip addr del 10.0.0.9/24 dev in");
    f = well, f.carrier = false;
    judge_edge_there(&f, &v);
    expect("carrier", &v, DOCTOR_WRONG, "no carrier", "peer");
    f.up = false;
    judge_edge_there(&f, &v);
    expect("down", &v, DOCTOR_WRONG, "is down", "ip link set dev in up");
    f.there = false;
    judge_edge_there(&f, &v);
    expect("not there", &v, DOCTOR_WRONG, "no interface in", "nsenter");
    f = well;
    judge_tunnel_address(&f, "10.9.0.1", true, &v);
    expect("tunnel", &v, DOCTOR_OK, "10.9.0.1 is an address of in", "");
    judge_tunnel_address(&f, "10.9.0.1", false, &v);
    expect("tunnel", &v, DOCTOR_WRONG, "no address of in", "ip addr add 10.9.0.1");
    judge_tunnel_mtu(&f, 1500, 0, &v);
    expect("tunnel", &v, DOCTOR_ADVICE, "packets in it 1450", "ip link set dev in mtu 1550");
    f = (struct edge_facts){.iface = "cni0", .key = "tunnel.more_ports"};
    judge_tunnel_beside(&f, &v);
    expect("tunnel", &v, DOCTOR_ADVICE, "there is no interface cni0 yet", "correct tunnel.more_ports");
    f.there = true;
    judge_tunnel_beside(&f, &v);
    expect("tunnel", &v, DOCTOR_ADVICE, "cni0 is down", "ip link set dev cni0 up");
    f.up = true;
    f.mtu = 1500;
    judge_tunnel_beside(&f, &v);
    expect("tunnel", &v, DOCTOR_OK, "interface cni0 is up, MTU 1500", "");
    f.mtu = 1600;
    judge_tunnel_mtu(&f, 1500, 0, &v);
    expect("tunnel", &v, DOCTOR_OK, "1550", "");
    judge_tunnel_mtu(&f, 1500, 1400, &v);
    expect("tunnel", &v, DOCTOR_ADVICE, "packets in it 1350", "");
    judge_forwarding("in", 1, &v);
    expect("forwarding", &v, DOCTOR_WARNING, "forwards", "sysctl -w net.ipv4.conf.in.forwarding=0");
    judge_forwarding("in", UINT64_MAX, &v);
    expect("forwarding", &v, DOCTOR_UNKNOWN, "in", "");
}

static void ports_and_instances(void **state)
{
    const struct { struct port_facts f; enum doctor_verdict is; const char *found, *mend; } rows[] = {
        {{"a", "h", 7400, PORT_FREE, 0, 0, ""}, DOCTOR_OK, "is free", ""},
        {{"a", "h", 7400, PORT_FREE, 0, 9, ""}, DOCTOR_WRONG, "nobody listens", "lethe restart a"},
        {{"a", "h", 7400, PORT_HELD, 0, 9, ""}, DOCTOR_UNKNOWN, "needs root", ""},
        {{"a", "h", 7400, PORT_HELD_BY, 9, 9, "lethe-store"}, DOCTOR_OK, "pid 9", ""},
        {{"a", "h", 7400, PORT_HELD_BY, 5, 0, "python3"}, DOCTOR_WRONG, "taken by python3, pid 5", "ps -fp 5"},
        {{"a", "h", 7400, PORT_HELD_BY, 5, 9, "lethe-store"}, DOCTOR_WRONG, "none of this site's", "ps -fp 5"},
        {{"a", "h", 7400, PORT_HELD_BY, 5, 0, "lethe-store"}, DOCTOR_WARNING, "control socket", "ps -fp 5"}};
    const struct { struct instance_facts f; enum doctor_verdict is; const char *found, *mend; } programs[] = {
        {{"w", "ready", "/l", 9, true, 0, false}, DOCTOR_OK, "ready", ""},
        {{"w", "ready", "/l", 9, false, ETIMEDOUT, false}, DOCTOR_WRONG, "does not answer", "kill -CONT 9"},
        {{"w", "ready", "/l", 9, false, EACCES, false}, DOCTOR_UNKNOWN, "needs root", ""},
        {{"w", "stopped", "/l", 0, false, 0, false}, DOCTOR_ADVICE, "drained", "lethe start w"},
        {{"w", "waiting", "/l", 0, false, 0, false}, DOCTOR_WARNING, "waiting", "tail /l"},
        {{"w", "ready", "/l", 9, true, 0, true}, DOCTOR_WARNING, "earlier", "lethe restart w"},
        {{"w", "", "/l", 9, true, 0, false}, DOCTOR_OK, "runs", ""}};
    struct verdict v;
    for (int i = 0; i < 7; i++) {
        judge_port(&rows[i].f, &v);
        expect("port", &v, rows[i].is, rows[i].found, rows[i].mend);
        judge_instance(&programs[i].f, &v);
        expect("instance", &v, programs[i].is, programs[i].found, programs[i].mend);
    }
    judge_rdma_port(&(struct rdma_facts){"rxe0", "4: ACTIVE", "eth1", "unknown", 1}, &v);
    expect("rdma", &v, DOCTOR_OK, "ACTIVE", "");
    judge_rdma_port(&(struct rdma_facts){"rxe0", "1: DOWN", "eth1", "down", 1}, &v);
    expect("rdma", &v, DOCTOR_WRONG, "DOWN, its interface eth1 down", "ip link set dev eth1 up");
}

static void etcd(void **state)
{
    const struct etcd_facts well = {.endpoint = "e:2379", .version = "3.5.9", .leader = true, .reads = true, .read_ms = 2,
                                    .fsync_p99_ms = 8, .failure_timeout_ms = 500};
    struct etcd_facts f = well;
    struct verdict v;
    judge_etcd(&f, &v);
    expect("well", &v, DOCTOR_OK, "quorum", "");
    judge_etcd_speed(&f, &v);
    expect("well", &v, DOCTOR_OK, "8 ms", "");
    strcpy(f.error, "Couldn't connect");
    judge_etcd(&f, &v);
    expect("away", &v, DOCTOR_WRONG, "connect", "curl e:2379/health");
    f = well, strcpy(f.version, "3.3.25");
    judge_etcd(&f, &v);
    expect("old", &v, DOCTOR_WRONG, "too old", "upgrade");
    f = well, f.nospace = true;
    judge_etcd(&f, &v);
    expect("full", &v, DOCTOR_WRONG, "NOSPACE", "alarm disarm");
    f = well, f.corrupt = true;
    judge_etcd(&f, &v);
    expect("corrupt", &v, DOCTOR_WRONG, "CORRUPT", "member remove");
    f = well, f.reads = false;
    judge_etcd(&f, &v);
    expect("no quorum", &v, DOCTOR_WRONG, "no quorum", "member list");
    f = well, f.leader = false;
    judge_etcd(&f, &v);
    expect("no leader", &v, DOCTOR_WRONG, "no quorum", "start the other");
    f = well, f.fsync_p99_ms = INFINITY;
    judge_etcd_speed(&f, &v);
    expect("slow disk", &v, DOCTOR_WARNING, "fsyncs", "SSD");
    f = well, f.read_ms = 300;
    judge_etcd_speed(&f, &v);
    expect("far away", &v, DOCTOR_WARNING, "300.0 ms", "nearer");
    f = well, f.fsync_p99_ms = -1;
    judge_etcd_speed(&f, &v);
    expect("silent", &v, DOCTOR_UNKNOWN, "does not tell", "");
    const struct { uint32_t named, answer, members; enum doctor_verdict is; } rows[] = {
        {3, 0, 0, DOCTOR_WRONG}, {3, 2, 3, DOCTOR_WARNING}, {3, 3, 3, DOCTOR_OK}, {1, 1, 1, DOCTOR_ADVICE},
        {1, 1, 3, DOCTOR_ADVICE}};
    for (int i = 0; i < 5; i++) {
        judge_etcd_members(rows[i].named, rows[i].answer, rows[i].members, &v);
        expect("members", &v, rows[i].is, "", "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_and_limits), cmocka_unit_test(cgroups_and_space), cmocka_unit_test(clocks_and_pauses),
        cmocka_unit_test(secrets_and_programs), cmocka_unit_test(edges), cmocka_unit_test(ports_and_instances),
        cmocka_unit_test(etcd)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
