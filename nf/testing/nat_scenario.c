/* SPDX-License-Identifier: BSD-3-Clause */
/* See nat_scenario.h. */
#include "tests/check.h"

#include "nat_scenario.h"

static char *external[] = {"203.0.113.1"};
const struct nat_config nat_scenario_config = {.external = external,
                                               .external_count = 1,
                                               .inside_address = "10.0.0.254",
                                               .outside_address = "198.51.100.254"};

enum { MAPS_MAX = 512 };

struct content { /* of the store */
    struct nat_end_point map[MAPS_MAX];
    uint32_t index[MAPS_MAX];
    uint64_t record_version[MAPS_MAX];
    int maps, records, sessions, frags, session_children, children;
    struct nat_session session[64];
    struct nat_session_key session_key[64];
    struct {
        struct nat_end_point ep;
        uint32_t index;
        uint64_t version;
    } record[MAPS_MAX];
    struct {
        struct packet_addr addr;
        int64_t count;
    } host[64];
    int hosts;
};

static struct content content;
static struct rig *rig;
static const char *row_name;
static int step_number;
static jmp_buf row_ends; /* where a row that does not hold goes */

#define HOLDS(cond, ...)                                                                           \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            print_error("row \"%s\", step %d: %s: ", row_name, step_number, #cond);                \
            print_error(__VA_ARGS__);                                                              \
            print_error("\n");                                                                     \
            longjmp(row_ends, 1);                                                                  \
        }                                                                                          \
    } while (0)

/* --- the store's content --------------------------------------------------------------- */

static void take_map(struct content *c, const struct shard_entry *e)
{
    struct nat_map m;
    memcpy(&c->map[c->maps], e->key, sizeof c->map[0]);
    memcpy(&m, e->value, sizeof m);
    c->index[c->maps] = m.index;
    memcpy(&c->record_version[c->maps], m.version, 8);
    c->children += (int)e->children;
    c->maps++;
}

static void take_entry(void *ctx, const struct shard_entry *e)
{
    struct content *c = ctx;
    HOLDS(c->maps < MAPS_MAX && c->records < MAPS_MAX && c->sessions < 64 && c->hosts < 64,
          "more entries than this test looks at");
    if (!strncmp(e->table, "nat.map.", 8)) {
        take_map(c, e);
    } else if (!strncmp(e->table, "nat.ports.", 10)) {
        memcpy(&c->record[c->records].ep, e->value, sizeof(struct nat_end_point));
        memcpy(&c->record[c->records].index, e->key, 4);
        c->record[c->records++].version = e->version;
    } else if (!strcmp(e->table, "nat.session")) {
        memcpy(&c->session_key[c->sessions], e->key, sizeof(struct nat_session_key));
        memcpy(&c->session[c->sessions++], e->value, sizeof(struct nat_session));
    } else if (!strcmp(e->table, "nat.frag")) {
        c->frags++;
    } else if (!strcmp(e->table, "nat.host")) {
        memcpy(&c->host[c->hosts].addr, e->key, 16);
        memcpy(&c->host[c->hosts++].count, e->value, 8);
    }
}

static void look(void)
{
    memset(&content, 0, sizeof content);
    rig_each(rig, take_entry, &content);
}

static struct nat_end_point end_point(uint32_t addr, uint16_t port, uint8_t proto)
{
    return (struct nat_end_point){
        .addr = packet_ipv4(htobe32(addr)), .port = htobe16(port), .proto = proto};
}

static int map_of(const struct nat_end_point *ep)
{
    for (int i = 0; i < content.maps; i++)
        if (!memcmp(&content.map[i], ep, sizeof *ep))
            return i;
    return -1;
}

/* The port a name stands for. */
static uint16_t real_port(uint16_t port, uint8_t proto)
{
    struct nat_end_point ep = port == XA ? end_point(A, PA, proto) : end_point(B, PB, proto);
    int i;

    if (port != XA && port != XB)
        return port;
    look();
    i = map_of(&ep);
    HOLDS(i >= 0, "the %s mapping of protocol %u is not there", port == XA ? "A" : "B", proto);
    return (uint16_t)(NAT_PORT_MIN + content.index[i] % NAT_PORTS);
}

static struct forge real(struct forge f)
{
    f.sport = real_port(f.sport, f.proto);
    f.dport = real_port(f.dport, f.proto);
    return f;
}

static void check_sessions(void)
{
    for (int i = 0; i < content.sessions; i++) {
        int m = map_of(&content.session_key[i].inside);
        HOLDS(m >= 0 && content.index[m] == content.session[i].index,
              "session %d has no mapping of its own", i);
    }
    HOLDS(content.children == content.sessions, "%d children, %d sessions", content.children,
          content.sessions);
}

static void check_hosts(const struct nat_config *config)
{
    for (int h = 0; h < content.hosts; h++) {
        int64_t maps = 0;
        for (int i = 0; i < content.maps; i++)
            maps += !memcmp(&content.map[i].addr, &content.host[h].addr, 16);
        HOLDS(content.host[h].count == maps, "host counts %ld, has %ld mappings",
              (long)content.host[h].count, (long)maps);
    }
    HOLDS(!config->max_mappings_per_address || !content.maps || content.hosts,
          "a cap, and nothing counted");
}

/* What must hold of any content. */
static void check_content(const struct nat_config *config)
{
    look();
    HOLDS(content.maps == content.records, "%d mappings, %d pool records", content.maps,
          content.records);
    for (int i = 0; i < content.maps; i++) {
        int found = 0;
        for (int k = 0; k < content.records; k++)
            found += content.record[k].index == content.index[i] &&
                     content.record[k].version == content.record_version[i] &&
                     !memcmp(&content.record[k].ep, &content.map[i], sizeof content.map[i]);
        HOLDS(found == 1, "mapping %d is named by %d pool records", i, found);
        for (int k = 0; k < i; k++)
            HOLDS(content.index[k] != content.index[i] ||
                      content.map[k].proto != content.map[i].proto,
                  "two mappings share an external end point");
    }
    check_sessions();
    check_hosts(config);
}

/* --- packets ----------------------------------------------------------------------------- */

static uint32_t off_by(const uint8_t *frame)
{
    const uint8_t *ip = frame + FORGE_ETHER;
    uint32_t header = (ip[0] & 15) * 4u;

    if ((forge_get16(ip + 6) & 0x1fff) || (ip[9] != 1 && ip[9] != 6 && ip[9] != 17) ||
        (ip[9] == 17 && !forge_get16(ip + header + 6)))
        return 0;
    return forge_l4_sum(ip, ip + header, forge_get16(ip + 2) - header) % 0xffff;
}

static uint32_t build(const struct nat_step *s, uint8_t *frame)
{
    static uint8_t inner[FORGE_ROOM];
    struct forge f = real(s->in), q;
    uint32_t len;

    if (s->quote.proto) {
        q = real(s->quote);
        len = forge_frame(&q, inner) - FORGE_ETHER;
        if (s->damage == BAD_QUOTED_SUM)
            inner[FORGE_ETHER + 10] ^= 0x55;
        f.quote = inner + FORGE_ETHER;
        f.quote_len = (uint16_t)(s->cut ? s->cut : len);
    }
    len = forge_frame(&f, frame);
    if (s->damage == BAD_L4_SUM)
        frame[FORGE_ETHER + 20 + forge_checksum_at(f.proto)] ^= 0x5a;
    if (s->damage == BAD_IP_SUM)
        frame[FORGE_ETHER + 10] ^= 0x5a;
    if (s->damage == CUT_8_BYTES)
        len -= 8;
    return len;
}

static void same_end_points(const uint8_t *ip, const struct forge *want, const char *which)
{
    const uint8_t *l4 = ip + (ip[0] & 15) * 4u;
    struct forge w = real(*want);

    HOLDS(forge_get32(ip + 12) == w.src, "%s source %08x, not %08x", which, forge_get32(ip + 12),
          w.src);
    HOLDS(forge_get32(ip + 16) == w.dst, "%s destination %08x, not %08x", which,
          forge_get32(ip + 16), w.dst);
    HOLDS(ip[9] == w.proto, "%s protocol %u", which, ip[9]);
    if (forge_get16(ip + 6) & 0x1fff)
        return;
    if (ip[9] == 6 || ip[9] == 17) {
        HOLDS(forge_get16(l4) == w.sport && forge_get16(l4 + 2) == w.dport,
              "%s ports %u -> %u, not %u -> %u", which, forge_get16(l4), forge_get16(l4 + 2),
              w.sport, w.dport);
    } else if (ip[9] == 1) {
        HOLDS(l4[0] == w.type && l4[1] == w.code, "%s ICMP type %u code %u", which, l4[0], l4[1]);
        HOLDS((w.type != 0 && w.type != 8) || forge_get16(l4 + 4) == w.sport, "%s identifier %u",
              which, forge_get16(l4 + 4));
    }
}

/* Bytes behind the L4 header, or behind IP in a later fragment, are untouched. */
static void same_payload(const uint8_t *in, const uint8_t *out, uint32_t len)
{
    const uint8_t *ip = in + FORGE_ETHER;
    uint32_t at = FORGE_ETHER + (ip[0] & 15) * 4u;

    if (!(forge_get16(ip + 6) & 0x1fff))
        at += ip[9] == 6 ? 20 : 8;
    if (at < len)
        HOLDS(!memcmp(in + at, out + at, len - at), "the payload changed");
}

static void check_forwarded(const struct nat_step *s, const uint8_t *in, uint32_t len,
                            const struct rig_out *o)
{
    const uint8_t *ip = o->frame + FORGE_ETHER;
    bool turned = s->want == WANT_TURNED;

    HOLDS((o->side == s->from) == turned, "left by side %d", o->side);
    HOLDS(o->len == len, "%u bytes became %u", len, o->len);
    HOLDS(ip[8] == in[FORGE_ETHER + 8] - 1, "TTL %u", ip[8]);
    HOLDS(!turned || !memcmp(o->frame, in + 6, 6), "Ethernet addresses not swapped");
    same_end_points(ip, &s->out, "packet's");
    HOLDS(off_by(o->frame) == off_by(in), "L4 checksum: off by %u, was %u", off_by(o->frame),
          off_by(in));
    if (s->damage == WHOLE)
        HOLDS(!forge_check(o->frame, o->len), "%s", forge_check(o->frame, o->len));
    if (s->in.no_checksum)
        HOLDS(forge_get16(ip + 20 + 6) == 0, "a UDP checksum appeared");
    if (s->quote.proto)
        same_end_points(ip + 28, &s->quoted, "quoted");
    else
        same_payload(in, o->frame, len);
}

/* An ICMP error of the NAT's own, quoting what came in. */
static void check_error(const struct nat_step *s, const uint8_t *in, uint32_t len,
                        const struct rig_out *o)
{
    const uint8_t *ip = o->frame + FORGE_ETHER;

    HOLDS(o->side == s->from, "left by side %d", o->side);
    same_end_points(ip, &s->out, "error's");
    HOLDS(!forge_check(o->frame, o->len), "%s", forge_check(o->frame, o->len));
    HOLDS(o->len == len + 28 && !memcmp(ip + 28, in + FORGE_ETHER, len - FORGE_ETHER),
          "does not quote the packet as it came");
}

static void check_echo(const struct nat_step *s, const uint8_t *in, uint32_t len,
                       const struct rig_out *o)
{
    HOLDS(o->side == s->from && o->len == len, "left by side %d, %u bytes", o->side, o->len);
    same_end_points(o->frame + FORGE_ETHER, &s->out, "reply's");
    HOLDS(!forge_check(o->frame, o->len), "%s", forge_check(o->frame, o->len));
    same_payload(in, o->frame, len);
}

static void check_tcp(int want)
{
    struct nat_session_key k = {.inside = end_point(A, PA, 6), .remote = end_point(R, PR, 6)};

    look();
    for (int i = 0; i < content.sessions; i++)
        if (!memcmp(&content.session_key[i], &k, sizeof k)) {
            HOLDS(content.session[i].state == want, "state %u, not %d", content.session[i].state,
                  want);
            return;
        }
    HOLDS(false, "the session is not there");
}

/* --- rows ---------------------------------------------------------------------------------- */

/* UDP packets from ever new end points: as many pass as there are ports, for slots
 * borrow from each other. */
static void fill_up(void)
{
    enum { PER_ADDRESS = 40000 };
    uint32_t ports = NAT_PORTS, passed = 0;
    uint8_t frame[FORGE_ROOM];
    const struct rig_out *o;

    for (;; passed++) {
        struct forge f = U(A + passed / PER_ADDRESS, (uint16_t)(20000 + passed % PER_ADDRESS), R,
                           PR);
        HOLDS(passed <= ports, "%u of %u ports given out", passed, ports);
        o = rig_send(rig, SIDE_INSIDE, frame, forge_frame(&f, frame));
        if (o->side != SIDE_OUTSIDE || !o->emitted)
            break;
    }
    HOLDS(passed == ports, "%u of %u ports given out", passed, ports);
}

static void run_step(const struct nat_step *s)
{
    uint8_t frame[FORGE_ROOM];
    uint32_t len;
    const struct rig_out *o;

    if (s->wait_ms)
        rig_advance(rig, s->wait_ms);
    if (s->fill)
        fill_up();
    if (!s->want)
        return;
    len = build(s, frame);
    o = rig_send(rig, s->from, frame, len);
    if (s->want == WANT_DROP) {
        HOLDS(!o->emitted, "was sent");
        HOLDS(!strcmp(o->reason, s->reason), "dropped as %s", o->reason);
        return;
    }
    HOLDS(o->emitted, "dropped as %s", o->reason);
    if (s->want == WANT_ERROR)
        check_error(s, frame, len, o);
    else if (s->want == WANT_ECHO)
        check_echo(s, frame, len, o);
    else
        check_forwarded(s, frame, len, o);
    if (s->tcp)
        check_tcp(s->tcp - 1);
}

static bool step_is_empty(const struct nat_step *s)
{
    return !s->want && !s->wait_ms && !s->fill;
}

static void run_row(const struct nat_row *row, const struct nat_config *config)
{
    row_name = row->name;
    for (step_number = 0; step_number < 10 && !step_is_empty(&row->steps[step_number]);
         step_number++)
        run_step(&row->steps[step_number]);
    check_content(config);
    HOLDS(content.maps == row->after.maps, "%d mappings at the end", content.maps);
    HOLDS(content.sessions == row->after.sessions, "%d sessions at the end", content.sessions);
    HOLDS(content.frags == row->after.frags, "%d fragments at the end", content.frags);
}

/* Kept apart from nat_rows_run, whose variables a longjmp into it would spoil. */
static bool holds(const struct nat_row *row, const struct nat_config *config)
{
    if (setjmp(row_ends))
        return false;
    run_row(row, config);
    return true;
}

void nat_rows_run(const struct nat_row *rows, unsigned n)
{
    static const struct nf_ops *const chain[] = {&nat44_ops};
    unsigned failed = 0;

    for (unsigned i = 0; i < n; i++) {
        const struct nat_config *config = rows[i].config ? rows[i].config : &nat_scenario_config;
        const void *const configs[] = {config};
        rig = rig_create(chain, configs, 1, 1000 + i);
        failed += !holds(&rows[i], config);
        rig_destroy(rig);
    }
    print_message("  %u rows\n", n);
    if (failed)
        fail_msg("%u of %u rows do not hold", failed, n);
}
