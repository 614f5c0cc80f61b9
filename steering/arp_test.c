/* SPDX-License-Identifier: BSD-3-Clause */
/* ARP: rows of frame in -> result, reply and what was learnt; and re-asking. */
#include "tests/check.h"

#include <arpa/inet.h>
#include <errno.h>

#include "steering/arp.h"

static const uint8_t own_mac[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t hop_mac[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t host_mac[6] = {2, 0, 0, 0, 0, 3};
static const uint8_t group_mac[6] = {3, 0, 0, 0, 0, 3};
static const uint8_t all[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t none[6];

#define OWN "198.51.100.1"
#define HOP "198.51.100.2"
#define HOST "198.51.100.7"
static char *serves[] = {"203.0.113.0/28", "192.0.2.9", "198.51.100.0/30"};

static struct arp fresh(void)
{
    struct arp a;
    char err[200] = "";
    CHECK(arp_init(&a, OWN, HOP, serves, 3, err, sizeof(err)) == 0, "%s", err);
    memcpy(a.mac, own_mac, 6);
    return a;
}

static uint32_t ip(const char *text)
{
    uint32_t v = 0;
    assert_int_equal(inet_pton(AF_INET, text, &v), 1);
    return v;
}

static void make(uint8_t *f, int op, const uint8_t *sha, const char *spa, const char *tpa)
{
    static const uint8_t head[] = {0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0};
    uint32_t s = ip(spa), t = ip(tpa);
    memset(f, 0, ARP_FRAME_BYTES);
    memcpy(f, all, 6);
    memcpy(f + 6, sha, 6);
    memcpy(f + 12, head, sizeof(head));
    f[21] = (uint8_t)op;
    memcpy(f + 22, sha, 6);
    memcpy(f + 28, &s, 4);
    memcpy(f + 38, &t, 4);
}

static const struct {
    const char *name;
    int op;
    const uint8_t *sha;
    const char *spa, *tpa;
    int patch_at;              /* a byte to spoil, 0: none */
    uint8_t patch;
    uint32_t len;
    enum arp_result result;
    bool learned;
} frames[] = {
    {"who has our address", 1, host_mac, HOST, OWN, 0, 0, 60, ARP_ANSWERED, false},
    {"who has, by the next hop", 1, hop_mac, HOP, OWN, 0, 0, 60, ARP_ANSWERED, true},
    {"who has, in 42 bytes", 1, host_mac, HOST, OWN, 0, 0, 42, ARP_ANSWERED, false},
    {"who has a served prefix's first", 1, hop_mac, HOP, "203.0.113.0", 0, 0, 60, ARP_ANSWERED,
     true},
    {"who has a served prefix's last", 1, hop_mac, HOP, "203.0.113.15", 0, 0, 60, ARP_ANSWERED,
     true},
    {"who has one behind the prefix", 1, hop_mac, HOP, "203.0.113.16", 0, 0, 60, ARP_LEARNED, true},
    {"who has a served address", 1, host_mac, HOST, "192.0.2.9", 0, 0, 60, ARP_ANSWERED, false},
    {"who has its neighbour", 1, host_mac, HOST, "192.0.2.8", 0, 0, 60, ARP_IGNORED, false},
    {"who has the next hop, inside a served prefix", 1, host_mac, HOST, HOP, 0, 0, 60, ARP_IGNORED,
     false},
    {"address probe, sender 0.0.0.0 (RFC 5227)", 1, host_mac, "0.0.0.0", OWN, 0, 0, 60,
     ARP_ANSWERED, false},
    {"announcement of the next hop", 1, hop_mac, HOP, HOP, 0, 0, 60, ARP_LEARNED, true},
    {"announcement of a served address", 1, host_mac, "203.0.113.3", "203.0.113.3", 0, 0, 60,
     ARP_IGNORED, false},
    {"reply of the next hop", 2, hop_mac, HOP, OWN, 0, 0, 60, ARP_LEARNED, true},
    {"reply of another host", 2, host_mac, HOST, OWN, 0, 0, 60, ARP_IGNORED, false},
    {"somebody uses our address", 1, host_mac, OWN, HOST, 0, 0, 60, ARP_CONFLICT, false},
    {"our own frame comes back", 1, own_mac, OWN, HOP, 0, 0, 60, ARP_IGNORED, false},
    {"cut short", 2, hop_mac, HOP, OWN, 0, 0, 41, ARP_MALFORMED, false},
    {"empty", 2, hop_mac, HOP, OWN, 0, 0, 14, ARP_MALFORMED, false},
    {"hardware is not Ethernet", 2, hop_mac, HOP, OWN, 15, 6, 60, ARP_MALFORMED, false},
    {"protocol is not IPv4", 2, hop_mac, HOP, OWN, 16, 0x86, 60, ARP_MALFORMED, false},
    {"hardware address of 8 bytes", 2, hop_mac, HOP, OWN, 18, 8, 60, ARP_MALFORMED, false},
    {"protocol address of 16 bytes", 2, hop_mac, HOP, OWN, 19, 16, 60, ARP_MALFORMED, false},
    {"operation 3 (RARP)", 3, hop_mac, HOP, OWN, 0, 0, 60, ARP_MALFORMED, false},
    {"operation 0x0102", 2, hop_mac, HOP, OWN, 20, 1, 60, ARP_MALFORMED, false},
    {"next hop claims a group address", 2, group_mac, HOP, OWN, 0, 0, 60, ARP_MALFORMED, false},
    {"next hop claims broadcast", 2, all, HOP, OWN, 0, 0, 60, ARP_MALFORMED, false},
};

static void check_reply(const char *name, const uint8_t *in, const uint8_t *reply)
{
    static const uint8_t head[] = {0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 2};
    CHECK(memcmp(reply, in + 22, 6) == 0, "%s: to the asker", name);
    CHECK(memcmp(reply + 6, own_mac, 6) == 0, "%s: from us", name);
    CHECK(memcmp(reply + 12, head, sizeof(head)) == 0, "%s: header", name);
    CHECK(memcmp(reply + 22, own_mac, 6) == 0, "%s: our MAC", name);
    CHECK(memcmp(reply + 28, in + 38, 4) == 0, "%s: the address asked for", name);
    CHECK(memcmp(reply + 32, in + 22, 10) == 0, "%s: the asker", name);
}

static void frame_rows(void **state)
{
    for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        uint8_t in[ARP_FRAME_BYTES], reply[ARP_FRAME_BYTES] = {0xee};
        struct arp a = fresh();
        make(in, frames[i].op, frames[i].sha, frames[i].spa, frames[i].tpa);
        if (frames[i].patch_at != 0)
            in[frames[i].patch_at] = frames[i].patch;
        enum arp_result got = arp_receive(&a, in, frames[i].len, 1000, reply);
        CHECK(got == frames[i].result, "%s: %d instead of %d", frames[i].name, got,
              frames[i].result);
        CHECK(a.resolved == frames[i].learned, "%s: resolved %d", frames[i].name, a.resolved);
        CHECK(!a.resolved || memcmp(a.next_hop_mac, hop_mac, 6) == 0, "%s: mac", frames[i].name);
        if (got == ARP_ANSWERED)
            check_reply(frames[i].name, in, reply);
        else
            CHECK(reply[0] == 0xee, "%s: reply touched", frames[i].name);
    }
}

static void asks_until_resolved_and_again_later(void **state)
{
    struct arp a = fresh();
    uint8_t out[ARP_FRAME_BYTES], in[ARP_FRAME_BYTES];
    uint64_t t = 1000;
    assert_true(arp_poll(&a, t, out));
    assert_memory_equal(out, all, 6);
    assert_memory_equal(out + 22, own_mac, 6);
    assert_memory_equal(out + 32, none, 6);
    uint32_t hop = ip(HOP);
    assert_memory_equal(out + 38, &hop, 4);
    assert_int_equal(out[21], 1);
    assert_false(arp_poll(&a, t + ARP_RETRY_US - 1, out));
    assert_true(arp_poll(&a, t += ARP_RETRY_US, out));
    make(in, 2, hop_mac, HOP, OWN);
    assert_int_equal(arp_receive(&a, in, sizeof(in), t, out), ARP_LEARNED);
    assert_false(arp_poll(&a, t + ARP_REFRESH_US - 1, out));
    assert_true(arp_poll(&a, t += ARP_REFRESH_US, out));
    assert_false(arp_poll(&a, t + ARP_REFRESH_RETRY_US - 1, out));
    assert_true(arp_poll(&a, t += ARP_REFRESH_RETRY_US, out));
    assert_true(a.resolved); /* silent, but the last address stays in use */
}

static void a_new_mac_replaces_the_old(void **state)
{
    struct arp a = fresh();
    uint8_t in[ARP_FRAME_BYTES], out[ARP_FRAME_BYTES];
    make(in, 2, host_mac, HOP, OWN);
    arp_receive(&a, in, sizeof(in), 1, out);
    make(in, 1, hop_mac, HOP, HOP);
    assert_int_equal(arp_receive(&a, in, sizeof(in), 2, out), ARP_LEARNED);
    assert_memory_equal(a.next_hop_mac, hop_mac, 6);
}

static const struct { const char *address, *hop, *serve, *says; } configs[] = {
    {OWN, HOP, "203.0.113.0/28", NULL},      {OWN, HOP, "0.0.0.0/0", NULL},
    {"", HOP, HOST, "address"},              {NULL, HOP, HOST, "address"},
    {OWN, "gateway", HOST, "next_hop"},      {OWN, HOP, "203.0.113.0/33", "serves"},
    {OWN, HOP, "203.0.113.1/28", "behind"},  {OWN, HOP, "203.0.113.0/", "serves"},
    {OWN, HOP, "203.0.113.0/2x", "serves"},  {OWN, HOP, "203.0.113", "serves"},
    {OWN, HOP, "203.0.113.0/-1", "serves"},  {OWN, HOP, "", "serves"},
};

static void config_rows(void **state)
{
    for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++) {
        struct arp a;
        char err[200] = "", *serve[] = {(char *)configs[i].serve};
        int rc = arp_init(&a, configs[i].address, configs[i].hop, serve, 1, err, sizeof(err));
        CHECK(rc == (configs[i].says ? -EINVAL : 0), "%zu: %d %s", i, rc, err);
        CHECK(rc == 0 || strstr(err, configs[i].says) != NULL, "%zu: %s", i, err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frame_rows),
        cmocka_unit_test(asks_until_resolved_and_again_later),
        cmocka_unit_test(a_new_mac_replaces_the_old),
        cmocka_unit_test(config_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
