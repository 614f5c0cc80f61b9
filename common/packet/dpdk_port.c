/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DPDK ports the way Lethe opens them. See dpdk_port.h. Link with
 * lethe_use_dpdk(), which also wraps epoll_wait (see the gate below) and setsockopt.
 *
 * Threads: dpdk_start on the main thread. dpdk_port_* there, inside dpdk_poll_begin/end once
 * the loop runs, and of ports that EAL's interrupt thread has no part in (af_packet) on any:
 * one is made or removed at a time (`hotplug`). The rest anywhere.
 */
#include "common/packet/dpdk_port.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_log.h>

#include <linux/if_packet.h>

#include "common/log/log.h"

enum { WORDS_BYTES = 256, CPUS_BYTES = 256, VDEVS_MAX = 16, NUMBER_BYTES = 16 };

/* --- the gate between a loop and EAL's interrupt thread ---------------------- */

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static int gate_wanted; /* the interrupt thread waits: loops let it go first */
static __thread bool gate_held;

int __real_epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms);

static bool is_interrupt_thread(void)
{
    char name[16] = "";
    pthread_getname_np(pthread_self(), name, sizeof name);
    return strncmp(name, "eal-intr-thread", sizeof name) == 0;
}

/* EAL's interrupt thread holds the gate while it handles what it woke up for.
 * Other threads of a program come here, too, and just wait. Who it is, is asked when the first event
 * came: EAL names its thread only after that has begun to run, but before there is anything to wait for. */
int __wrap_epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms)
{
    static __thread enum { UNKNOWN, INTERRUPT, OTHER } who;
    if (gate_held) {
        gate_held = false;
        pthread_mutex_unlock(&gate);
    }
    int n = __real_epoll_wait(fd, events, max, timeout_ms);
    int error = errno;
    if (who == UNKNOWN && n > 0)
        who = is_interrupt_thread() ? INTERRUPT : OTHER;
    if (who == INTERRUPT) {
        __atomic_store_n(&gate_wanted, 1, __ATOMIC_RELEASE);
        pthread_mutex_lock(&gate);
        __atomic_store_n(&gate_wanted, 0, __ATOMIC_RELEASE);
        gate_held = true;
    }
    errno = error;
    return n;
}

void dpdk_poll_begin(void)
{
    while (__atomic_load_n(&gate_wanted, __ATOMIC_ACQUIRE))
        sched_yield(); /* a mutex is not fair: the loop would take it back at once */
    pthread_mutex_lock(&gate);
}

void dpdk_poll_end(void)
{
    pthread_mutex_unlock(&gate);
}

/* --- fanout -------------------------------------------------------------------------- */

int __real_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len);

/* net_af_packet puts its socket into a fanout group that it calls by process id and interface number,
 * and two programs of one network namespace can come to the same: EINVAL, now and then. There is
 * one queue a port here, so nobody else has to find the group: the kernel may choose (Linux 4.12). */
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    enum { FANOUT_UNIQUEID = 0x2000 };
    uint32_t group;
    if (level == SOL_PACKET && name == PACKET_FANOUT && len == sizeof group) {
        memcpy(&group, value, sizeof group);
        group = (group & 0xffff0000) | FANOUT_UNIQUEID << 16;
        return __real_setsockopt(fd, level, name, &group, sizeof group);
    }
    return __real_setsockopt(fd, level, name, value, len);
}

/* --- what EAL and the drivers say -------------------------------------------- */

static char first_words[WORDS_BYTES]; /* since forget_words: the cause, for error sentences */
static pthread_mutex_t words_lock = PTHREAD_MUTEX_INITIALIZER;

static ssize_t hear(void *cookie, const char *text, size_t bytes)
{
    char line[WORDS_BYTES];
    size_t n = bytes < sizeof(line) - 1 ? bytes : sizeof(line) - 1;
    memcpy(line, text, n);
    while (n > 0 && isspace((unsigned char)line[n - 1]))
        n--;
    line[n] = '\0';
    if (n == 0)
        return (ssize_t)bytes;
    pthread_mutex_lock(&words_lock);
    if (first_words[0] == '\0')
        memcpy(first_words, line, n + 1);
    pthread_mutex_unlock(&words_lock);
    log_debug("dpdk says", "%s", line);
    return (ssize_t)bytes;
}

static void listen_to_dpdk(void)
{
    FILE *f = fopencookie(NULL, "w", (cookie_io_functions_t){.write = hear});
    if (f == NULL)
        return;
    setvbuf(f, NULL, _IOLBF, WORDS_BYTES);
    rte_openlog_stream(f);
}

static void forget_words(void)
{
    pthread_mutex_lock(&words_lock);
    first_words[0] = '\0';
    pthread_mutex_unlock(&words_lock);
}

/* "<what>: <advice> (DPDK: <its first words>)" */
static int refuse(int error, char *err, uint32_t err_len, const char *what, const char *advice)
{
    char words[WORDS_BYTES];
    pthread_mutex_lock(&words_lock);
    memcpy(words, first_words, sizeof(words));
    pthread_mutex_unlock(&words_lock);
    struct rlimit lock = {.rlim_cur = RLIM_INFINITY};
    getrlimit(RLIMIT_MEMLOCK, &lock);
    if (strstr(words, "mmap failed") && lock.rlim_cur != RLIM_INFINITY) /* whatever errno says */
        snprintf(err, err_len, "%s: %s (DPDK: %s): its rings are locked memory, and this process may lock %lu KiB; "
                 "raise that (ulimit -l, LimitMEMLOCK=), or give it CAP_IPC_LOCK", what, advice, words,
                 (unsigned long)lock.rlim_cur >> 10);
    else if (words[0] != '\0')
        snprintf(err, err_len, "%s: %s (DPDK: %s)", what, advice, words);
    else
        snprintf(err, err_len, "%s: %s", what, advice);
    return -error;
}

/* --- start -------------------------------------------------------------------- */

/* A container sees its host's free pages, and is killed for the first that it touches and may not have. */
static uint64_t hugepage_limit(void)
{
    static const char *const files[] = {"/sys/fs/cgroup/hugetlb.2MB.max",
                                        "/sys/fs/cgroup/hugetlb/hugetlb.2MB.limit_in_bytes"};
    unsigned long limit = ULONG_MAX;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        FILE *f = fopen(files[i], "re");
        if (f == NULL)
            continue;
        if (fscanf(f, "%lu", &limit) != 1)
            limit = ULONG_MAX; /* "max" */
        fclose(f);
        break;
    }
    return limit;
}

static uint64_t free_hugepage_bytes(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
    if (f == NULL)
        return 0;
    if (fscanf(f, "%lu", &pages) != 1)
        pages = 0;
    fclose(f);
    return (uint64_t)pages << 21;
}

/* "0@(0,1,5)": one lcore that floats over the processors we may use. A pinned
 * one would wait behind another process while a processor stands idle. */
static void floating_lcore(char *text, size_t room)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    int n = snprintf(text, room, "--lcores=0@(");
    bool first = true;
    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        CPU_SET(0, &set);
    for (int cpu = 0; cpu < RTE_MAX_LCORE && (size_t)n + 16 < room; cpu++) {
        if (!CPU_ISSET(cpu, &set))
            continue;
        n += snprintf(text + n, room - (size_t)n, "%s%d", first ? "" : ",", cpu);
        first = false;
    }
    snprintf(text + n, room - (size_t)n, ")");
}

int dpdk_start(const char *program, const char *const *vdevs, uint32_t memory_mb, char *err,
               uint32_t err_len)
{
    /* EAL keeps and permutes these for the life of the process. */
    static char name[64], memory[NUMBER_BYTES], cpus[CPUS_BYTES], prefix[64], vdev[VDEVS_MAX][256];
    static char *argv[16 + VDEVS_MAX];
    int argc = 0;

    listen_to_dpdk();
    snprintf(name, sizeof(name), "%s", program);
    snprintf(memory, sizeof(memory), "%u", memory_mb);
    snprintf(prefix, sizeof(prefix), "--file-prefix=lethe-%d", (int)getpid());
    floating_lcore(cpus, sizeof(cpus));
    argv[argc++] = name;
    uint64_t wanted = (uint64_t)memory_mb << 20;
    if (free_hugepage_bytes() >= wanted && hugepage_limit() >= wanted) {
        argv[argc++] = "--in-memory"; /* leaves nothing behind after kill -9 */
    } else {
        argv[argc++] = "--no-huge"; /* EAL refuses the two together */
        argv[argc++] = "--no-shconf";
        argv[argc++] = prefix;
    }
    argv[argc++] = "-m";
    argv[argc++] = memory;
    argv[argc++] = "--no-pci";
    argv[argc++] = "--no-telemetry";
    argv[argc++] = "--log-level=warning";
    argv[argc++] = cpus;
    for (int i = 0; vdevs != NULL && vdevs[i] != NULL; i++) {
        assert(i < VDEVS_MAX);
        snprintf(vdev[i], sizeof(vdev[i]), "--vdev=%s", vdevs[i]);
        argv[argc++] = vdev[i];
    }
    if (rte_eal_init(argc, argv) < 0) {
        int error = rte_errno != 0 ? rte_errno : EIO;
        return refuse(error, err, err_len, "DPDK does not start", strerror(error));
    }
    return 0;
}

/* --- ports --------------------------------------------------------------------- */

static pthread_mutex_t hotplug = PTHREAD_MUTEX_INITIALIZER; /* EAL's lists of devices have no lock */

static int start_port(uint16_t port, struct rte_mempool *pool, uint16_t rx_descs,
                      uint16_t tx_descs)
{
    struct rte_eth_conf conf = {0};
    struct rte_eth_dev_info info;
    int rc = rte_eth_dev_info_get(port, &info);
    if (rc == 0)
        rc = rte_eth_dev_configure(port, 1, 1, &conf);
    if (rc == 0)
        rc = rte_eth_dev_adjust_nb_rx_tx_desc(port, &rx_descs, &tx_descs);
    if (rc == 0)
        rc = rte_eth_rx_queue_setup(port, 0, rx_descs, SOCKET_ID_ANY, NULL, pool);
    if (rc == 0)
        rc = rte_eth_tx_queue_setup(port, 0, tx_descs, SOCKET_ID_ANY, NULL);
    if (rc == 0)
        rc = rte_eth_dev_start(port);
    return rc;
}

int dpdk_port_open(const char *name, struct rte_mempool *pool, uint16_t rx_descs,
                   uint16_t tx_descs, char *err, uint32_t err_len)
{
    char what[96];
    uint16_t port;
    snprintf(what, sizeof(what), "port %s", name);
    if (rte_eth_dev_get_port_by_name(name, &port) != 0)
        return refuse(ENODEV, err, err_len, what,
                      "could not be made: see that its interface exists and is up, that no other "
                      "process has it, and that we may open it (root, or CAP_NET_RAW and "
                      "CAP_NET_ADMIN)");
    int rc = start_port(port, pool, rx_descs, tx_descs);
    if (rc < 0)
        return refuse(-rc, err, err_len, what,
                      rc == -ENOMEM ? "out of memory, or its frames do not fit our packet buffers"
                                    : strerror(-rc));
    return port;
}

static int add_port(const char *name, const char *args, struct rte_mempool *pool, uint16_t rx_descs,
                    uint16_t tx_descs, char *err, uint32_t err_len)
{
    char what[96];
    snprintf(what, sizeof(what), "port %s", name);
    forget_words();
    int rc = rte_eal_hotplug_add("vdev", name, args);
    if (rc < 0)
        return refuse(-rc, err, err_len, what, strerror(-rc));
    int port = dpdk_port_open(name, pool, rx_descs, tx_descs, err, err_len);
    if (port < 0)
        rte_eal_hotplug_remove("vdev", name);
    forget_words();
    return port;
}

int dpdk_port_add(const char *name, const char *args, struct rte_mempool *pool, uint16_t rx_descs,
                  uint16_t tx_descs, char *err, uint32_t err_len)
{
    pthread_mutex_lock(&hotplug);
    int port = add_port(name, args, pool, rx_descs, tx_descs, err, err_len);
    pthread_mutex_unlock(&hotplug);
    return port;
}

int dpdk_port_add_device(const char *device, struct rte_mempool *pool, uint16_t rx_descs,
                         uint16_t tx_descs, uint8_t mac[6], char *err, uint32_t err_len)
{
    struct rte_ether_addr own;
    char name[64];
    size_t n = strcspn(device, ",");
    snprintf(name, sizeof(name), "%.*s", (int)n, device);
    int port = dpdk_port_add(name, device[n] == ',' ? device + n + 1 : "", pool, rx_descs, tx_descs,
                             err, err_len);
    if (port < 0)
        return port;
    int rc = rte_eth_macaddr_get((uint16_t)port, &own);
    if (rc < 0) {
        snprintf(err, err_len, "port %s has no MAC address", name);
        dpdk_port_remove((uint16_t)port);
        return rc;
    }
    memcpy(mac, own.addr_bytes, sizeof(own.addr_bytes));
    return port;
}

void dpdk_port_remove(uint16_t port)
{
    char name[RTE_ETH_NAME_MAX_LEN];
    pthread_mutex_lock(&hotplug);
    if (rte_eth_dev_get_name_by_port(port, name) == 0) {
        rte_eth_dev_stop(port);
        rte_eth_dev_close(port);
        rte_eal_hotplug_remove("vdev", name);
    }
    pthread_mutex_unlock(&hotplug);
}
