/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nat44 under random traffic, beside a NAT made of two arrays that knows only
 * what RFC 4787 promises: while a mapping lives its external end point stays;
 * no two share one; what comes in reaches the owner; a freed one rests.
 *
 * The model knows when a mapping may die, not when it does: between the
 * time-out and the time-out plus an eighth (the store's touches), it allows
 * both.
 */
#include "tests/check.h"

#include "common/packet/packet_forge.h"
#include "nf/nat44/nat44.h"
#include "nf/testing/rig.h"

enum {
    HOSTS = 6,
    PORTS = 4,
    OWNERS = HOSTS * PORTS,
    REMOTES = 4,
    BURST = 8,
    HISTORY = 8192,
    TIMEOUT_MS = 300000,
    REST_MS = 120000,
    LATE_MS = TIMEOUT_MS / 8 + 1000
};

struct external {
    uint32_t addr;
    uint16_t port;
};

struct model { /* one per protocol */
    struct {
        bool known;
        struct external external;
        uint64_t last_ms; /* of the last packet out */
    } owner[OWNERS];
    struct { /* mappings that died */
        struct external external;
        uint64_t last_ms;
    } past[HISTORY];
    int npast;
};

static struct rig *rig;
static uint64_t seed, seed_was;
static struct model model[2]; /* UDP, echo */
static unsigned made, kept, died, came_in, refused, shared_bursts;

static const uint8_t protos[2] = {17, 1};

static uint32_t random_below(uint32_t n)
{
    return (uint32_t)(forge_random(&seed) % n);
}

static bool same(struct external a, struct external b)
{
    return a.addr == b.addr && a.port == b.port;
}

static uint32_t host_of(int owner)
{
    return IP4(10, 0, 0, 1 + owner / PORTS);
}

static uint16_t port_of(int owner)
{
    return (uint16_t)(3000 + owner % PORTS);
}

static uint32_t remote(uint32_t n)
{
    return IP4(198, 51, 100, 1 + n);
}

/* --- the model ------------------------------------------------------------------------- */

/* Nobody else may have it, and it must not be resting. */
static void must_be_free(const struct model *m, int owner, struct external e, uint64_t now)
{
    for (int i = 0; i < OWNERS; i++)
        if (i != owner && m->owner[i].known && same(m->owner[i].external, e))
            CHECK(now >= m->owner[i].last_ms + TIMEOUT_MS + REST_MS,
                  "seed %" PRIu64 ": %08x:%u is another's", seed_was, e.addr, e.port);
    for (int i = 0; i < m->npast; i++)
        if (same(m->past[i].external, e))
            CHECK(now >= m->past[i].last_ms + TIMEOUT_MS + REST_MS,
                  "seed %" PRIu64 ": %08x:%u should rest", seed_was, e.addr, e.port);
}

static void sent(struct model *m, int owner, struct external e, uint64_t now)
{
    bool known = m->owner[owner].known;
    uint64_t last = m->owner[owner].last_ms;

    if (known && same(m->owner[owner].external, e)) {
        CHECK(now <= last + TIMEOUT_MS + LATE_MS || now >= last + TIMEOUT_MS + REST_MS,
              "seed %" PRIu64 ": the mapping should be dead", seed_was);
        kept++;
    } else {
        CHECK(!known || now >= last + TIMEOUT_MS, "seed %" PRIu64 ": owner %d lost its mapping",
              seed_was, owner);
        if (known) {
            CHECK(m->npast < HISTORY, "history");
            m->past[m->npast].external = m->owner[owner].external;
            m->past[m->npast++].last_ms = last;
            died++;
        }
        made++;
    }
    m->owner[owner].known = true;
    m->owner[owner].external = e;
    m->owner[owner].last_ms = now;
    must_be_free(m, owner, e, now);
}

static void came(const struct model *m, struct external e, uint64_t now, const struct rig_out *o)
{
    bool must = false, may = false;
    const uint8_t *ip = o->frame + FORGE_ETHER;

    for (int i = 0; i < OWNERS; i++) {
        if (!m->owner[i].known || !same(m->owner[i].external, e))
            continue;
        bool mine = o->emitted && forge_get32(ip + 16) == host_of(i);
        must |= now < m->owner[i].last_ms + TIMEOUT_MS;
        may |= mine && now <= m->owner[i].last_ms + TIMEOUT_MS + LATE_MS;
    }
    CHECK(o->emitted ? may : !must, "seed %" PRIu64 ": in to %08x:%u %s", seed_was, e.addr, e.port,
          o->emitted ? "reached a stranger" : o->reason);
    came_in += o->emitted;
    refused += !o->emitted;
}

/* --- traffic ------------------------------------------------------------------------------ */

/* A burst to one worker, or scattered over both. */
static int put_in(const uint8_t (*frames)[RIG_FRAME], const uint32_t *lens, int n,
                  const struct rig_out **out)
{
    struct rig_in in[BURST];

    if (random_below(2))
        return rig_burst(rig, SIDE_INSIDE, frames, lens, n, out);
    for (int i = 0; i < n; i++)
        in[i] = (struct rig_in){(int)random_below(RIG_WORKERS), SIDE_INSIDE, frames[i], lens[i]};
    return rig_race(rig, in, n, out);
}

static void burst_out(void)
{
    static uint8_t frames[BURST][RIG_FRAME];
    uint32_t lens[BURST], n = 1 + random_below(BURST);
    int owner[BURST], proto[BURST];
    const struct rig_out *out;

    for (uint32_t i = 0; i < n; i++) {
        owner[i] = i && random_below(3) == 0 ? owner[i - 1] : (int)random_below(OWNERS);
        proto[i] = (int)random_below(2);
        shared_bursts += i && owner[i] == owner[i - 1];
        struct forge f = {.src = host_of(owner[i]),
                          .dst = remote(random_below(REMOTES)),
                          .proto = protos[proto[i]],
                          .sport = port_of(owner[i]),
                          .dport = 53,
                          .type = 8,
                          .data = 8,
                          .id = (uint16_t)i};
        lens[i] = forge_frame(&f, frames[i]);
    }
    int got = put_in((const uint8_t(*)[RIG_FRAME])frames, lens, (int)n, &out);
    CHECK(got == (int)n, "seed %" PRIu64 ": %d of %u", seed_was, got, n);
    for (int i = 0; i < got; i++) {
        const uint8_t *ip = out[i].frame + FORGE_ETHER;
        CHECK(out[i].emitted, "seed %" PRIu64 ": dropped as %s", seed_was, out[i].reason);
        CHECK(!forge_check(out[i].frame, out[i].len), "seed %" PRIu64 ": %s", seed_was,
              forge_check(out[i].frame, out[i].len));
        int k = out[i].which;
        struct external e = {forge_get32(ip + 12),
                             (uint16_t)forge_get16(ip + (proto[k] ? 24 : 20))};
        sent(&model[proto[k]], owner[k], e, rig_now_ms(rig));
    }
}

static void one_in(void)
{
    int proto = (int)random_below(2);
    const struct model *m = &model[proto];
    int owner = (int)random_below(OWNERS);
    struct external e = {IP4(203, 0, 113, 4 + random_below(4)),
                         (uint16_t)(1 + random_below(65535))};
    uint8_t frame[FORGE_ROOM];

    if (m->owner[owner].known && random_below(8))
        e = m->owner[owner].external;
    struct forge f = {.src = remote(random_below(REMOTES)),
                      .dst = e.addr,
                      .proto = protos[proto],
                      .sport = proto ? e.port : 53,
                      .dport = e.port,
                      .data = 4};
    const struct rig_out *o = rig_send(rig, SIDE_OUTSIDE, frame, forge_frame(&f, frame));
    if (o->emitted)
        CHECK(!forge_check(o->frame, o->len), "seed %" PRIu64 ": %s", seed_was,
              forge_check(o->frame, o->len));
    came(m, e, rig_now_ms(rig), o);
}

static void start(uint64_t with_seed, const char *prefix)
{
    static const struct nf_ops *const chain[] = {&nat44_ops};
    char *external[] = {(char *)(uintptr_t)prefix};
    const struct nat_config config = {
        .external = external, .external_count = 1, .icmp_s = TIMEOUT_MS / 1000};
    const void *const configs[] = {&config};

    seed = seed_was = with_seed;
    memset(model, 0, sizeof model);
    rig = rig_create(chain, configs, 1, seed);
}

static void random_traffic(void **state)
{
    made = kept = died = came_in = refused = shared_bursts = 0;
    for (uint64_t s = 1; s <= 4; s++) {
        start(s, "203.0.113.4/30");
        for (int i = 0; i < 700; i++) {
            uint32_t what = random_below(16);
            if (what < 7)
                burst_out();
            else if (what < 14)
                one_in();
            else
                rig_advance(rig, random_below(random_below(8) ? 20000 : 420000));
        }
        rig_destroy(rig);
    }
    print_message("  %u mappings made, %u kept, %u died; %u packets in, %u refused\n", made, kept,
                  died, came_in, refused);
    CHECK(made > 100 && kept > 100 && died > 20 && came_in > 100 && refused > 20 &&
              shared_bursts > 100,
          "this traffic shows nothing");
}

/* Of ports given out in a row to one owner after another: no order to be seen,
 * and spread over the whole range. */
static void hard_to_guess(void **state)
{
    enum { N = 200 };
    uint8_t frame[FORGE_ROOM];
    unsigned up = 0, near = 0, low = 0, parity = 0;
    uint32_t last = 0;

    start(9, "203.0.113.1");
    for (int i = 0; i < N; i++) {
        struct forge f = {.src = IP4(10, 1, 0, 1),
                          .dst = remote(0),
                          .proto = 17,
                          .sport = (uint16_t)(2000 + i),
                          .dport = 53};
        const struct rig_out *o = rig_send(rig, SIDE_INSIDE, frame, forge_frame(&f, frame));
        uint32_t port = forge_get16(o->frame + FORGE_ETHER + 20);
        up += port > last;
        near += port - last + 64 <= 128;
        low += port < 1024 + NAT_PORTS / 2;
        parity += port % 2;
        last = port;
    }
    rig_destroy(rig);
    CHECK(up > N / 4 && up < N * 3 / 4, "%u of %d went up", up, N);
    CHECK(near < N / 10, "%u of %d lie beside the one before", near, N);
    CHECK(low > N / 4 && low < N * 3 / 4, "%u of %d in the lower half", low, N);
    CHECK(parity > N / 4 && parity < N * 3 / 4, "%u of %d odd", parity, N);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"random traffic, and a NAT made of two arrays", random_traffic, NULL, NULL, NULL},
        {"ports are hard to guess (RFC 6888 REQ-15)", hard_to_guess, NULL, NULL, NULL},
    };
    return cmocka_run_group_tests_name("nat44_random", tests, NULL, NULL);
}
