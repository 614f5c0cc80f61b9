/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * site.yaml: the sample in the root loads, with the defaults it names; each
 * row below is a broken text and the whole sentence that it is answered with.
 */
#include "tests/check.h"

#include <cyaml/cyaml.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/config/site.h"
#include "common/log/log.h"

/* A network function's configuration, as lethe-nf composes it. */
struct nat { char **external; unsigned external_count; unsigned udp_s; };
struct nfs { struct nat *nat44; };
static const cyaml_schema_value_t text = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, 64)};
static const cyaml_schema_field_t nat_fields[] = {
    CYAML_FIELD_SEQUENCE("external", CYAML_FLAG_POINTER, struct nat, external, &text, 1, 4),
    CYAML_FIELD_UINT("udp_s", CYAML_FLAG_OPTIONAL, struct nat, udp_s), CYAML_FIELD_END};
static const cyaml_schema_field_t nf_fields[] = {
    CYAML_FIELD_MAPPING_PTR("nat44", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct nfs, nat44,
                            nat_fields),
    CYAML_FIELD_END};

#define NODE "store:\n  nodes:\n    - {name: a, listen: \"127.0.0.1:7400\"}\n" /* 3 lines */
#define SIDES                                                                                      \
    "steering:\n"                                                                                  \
    "  inside: {address: 10.0.0.1, next_hop: 10.0.0.2, port: p}\n"                                 \
    "  outside: {address: 10.9.0.1, next_hop: 10.9.0.2, port: q}\n" /* 3 lines */

#define IN(n) "inside: {address: 10.0.0." n ", next_hop: 10.0.0.2, port: p}"
#define OUT(n) "outside: {address: 10.9.0." n ", next_hop: 10.9.0.2, port: q}"

static const struct row { const char *text, *error; } rows[] = {
    /* syntax */
    {"", "site.yaml:1: store.nodes: the file is empty; write at least one node"},
    {"store: [", "site.yaml:2: this is not YAML: did not find expected node content"},
    {NODE "\tchain: [a]\n", "site.yaml:4: this is not YAML: found character that cannot start any "
                            "token"},
    {NODE "chain: \"a\n", "site.yaml:5: this is not YAML: found unexpected end of stream"},
    {NODE "run_dir: \xff\n", "site.yaml:1: this is not YAML: invalid leading UTF-8 octet"},
    {NODE "run_dir: a\nchain: []\nrun_dir: b\n",
     "site.yaml:6: run_dir: is there twice, first in line 4; remove one"},
    {NODE "chain: &c [a]\nrun_dir: *c\n", "site.yaml:5: run_dir: aliases (*name) are not known "
                                           "here; write the value itself"},
    {NODE "---\nchain: []\n", "site.yaml:4: ---: a second document; a site is one"},
    {"? [a, b]\n: 1\n", "site.yaml:1: a key must be a plain word"},
    {NODE "nfs: [[[[[[[[[[[[[[1]]]]]]]]]]]]]]\n",
     "site.yaml:4: nfs[0][0][0][0][0][0][0][0][0][0][0]: too many levels of nesting"},
    /* structure */
    {"- a\n", "site.yaml:1: needs keys with values, one a line and indented"},
    {"stor:\n  shards: 1\n", "site.yaml:1: stor: is no key here; known are: failure_timeout_ms, "
                            "run_dir, store, steering, worker, chain, controller, groups, nfs"},
    {NODE "stor: 1\n", "site.yaml:4: stor: is no key here; known are: failure_timeout_ms, run_dir, "
                        "store, steering, worker, chain, controller, groups, nfs"},
    {NODE "nfs:\n  a: {b: c}\n  nat44:\n    external: [a]\n",
     "site.yaml:5: nfs.a: is no key here; known are: nat44"},
    {NODE "a.b: 1\n", "site.yaml:4: a.b: is no key here; known are: failure_timeout_ms, run_dir, "
                       "store, steering, worker, chain, controller, groups, nfs"},
    {NODE "[a]: 1\n", "site.yaml:4: a key must be a plain word"},
    {NODE "\"\": 1\n", "site.yaml:4: a key must be a plain word"},
    {NODE "worker:\n  mbufs: 2000\n  mbuf: 1\n",
     "site.yaml:6: worker.mbuf: is no key here; known are: window_bursts, max_hold_ms, "
     "packets_in_flight, mbufs, ipv6, transport, redis, "
     "tenant, secret_file, one_sided, remember, tunnel"},
    {"store:\n  nodes:\n    - name: a\n      listen: \"1:1\"\n    - name: b\n      port: 3\n",
     "site.yaml:6: store.nodes[1].port: is no key here; known are: name, listen, shm, "
     "verbs"},
    {"store:\n  nodes:\n    - name: a\n      listen: \"127.0.0.1:1\"\n    - name: b\n",
     "site.yaml:5: store.nodes[1].listen: is missing; write it"},
    {"store:\n  nodes:\n    - listen: \"127.0.0.1:1\"\n",
     "site.yaml:3: store.nodes[0].name: is missing; write it"},
    {"store:\n  nodes: 7\n",
     "site.yaml:2: store.nodes: needs a list: [a, b], or lines that begin with '- '"},
    {"store:\n  nodes: [a]\n",
     "site.yaml:2: store.nodes[0]: needs keys with values, one a line and indented"},
    {"store: 3\n", "site.yaml:1: store: needs keys with values, one a line and indented"},
    {NODE "run_dir: {a: b}\n", "site.yaml:4: run_dir: needs one text"},
    {NODE "run_dir:\n", "site.yaml:4: run_dir: is empty; write its value, or leave the key out"},
    {NODE "chain: [1, 2, 3, 4, 5, 6, 7, 8, 9]\n",
     "site.yaml:4: chain[8]: has too many entries; write at most 8"},
    {NODE "chain: [a, [b]]\n", "site.yaml:4: chain[1]: needs one text"},
    {NODE "\"a\\nb\": 1\n", "site.yaml:4: a?b: is no key here; known are: failure_timeout_ms, run_dir, "
                            "store, steering, worker, chain, controller, groups, nfs"},
    /* numbers */
    {NODE "  shards: 99\n", "site.yaml:4: store.shards: 99 is too many; write a number from 1 to 16"},
    {NODE "  shards: 0\n", "site.yaml:4: store.shards: 0 is too few; write a number from 1 to 16"},
    {NODE "  shards: two\n",
     "site.yaml:4: store.shards: 'two' is no number here; write a number from 1 to 16"},
    {NODE "  shards: -1\n",
     "site.yaml:4: store.shards: '-1' is no number here; write a number from 1 to 16"},
    {NODE "  shards: [1]\n", "site.yaml:4: store.shards: needs a number"},
    {NODE "  shards:\n", "site.yaml:4: store.shards: '' is no number here; write a number from 1 to "
                         "16"},
    {NODE "  memory_mb: 99999999999\n", "site.yaml:4: store.memory_mb: '99999999999' is no number "
                                        "here; write a number from 0 to 1048576"},
    {"failure_timeout_ms: 19\n" NODE,
     "site.yaml:1: failure_timeout_ms: 19 is too few; write a number from 20 to 10000"},
    {"failure_timeout_ms: 10001\n" NODE,
     "site.yaml:1: failure_timeout_ms: 10001 is too many; write a number from 20 to 10000"},
    {NODE "  client_lease_ms: 4999\n",
     "site.yaml:4: store.client_lease_ms: 4999 is too short for a failure_timeout_ms of 500; write "
     "at least 5000"},
    /* store */
    {"chain: []\n", "site.yaml:1: store.nodes: no node; write at least one, such as - {name: "
                    "store-a, listen: \"127.0.0.1:7400\"}"},
    {"\nstore:\n  nodes: []\n", "site.yaml:3: store.nodes: no node; write at least one, such as - "
                                "{name: store-a, listen: \"127.0.0.1:7400\"}"},
    {"store:\n  nodes:\n    - {name: a/b, listen: \"127.0.0.1:7400\"}\n",
     "site.yaml:3: store.nodes[0].name: 'a/b' is no name; write up to 31 letters, digits, '_' or "
     "'-'"},
    {NODE "    - {name: a, listen: \"127.0.0.2:7400\"}\n",
     "site.yaml:4: store.nodes[1].name: 'a' is the name of two nodes; give each its own"},
    {NODE "    - {name: b, listen: \"127.0.0.1:7401\"}\n",
     "site.yaml:4: store.nodes[1].listen: overlaps the ports of node a (7400 to 7401, one a "
     "shard); choose another"},
    {NODE "    - {name: b, listen: 127.0.0.1}\n",
     "site.yaml:4: store.nodes[1].listen: '127.0.0.1' is not an address; write host:port, such as "
     "127.0.0.1:7400 or [::1]:7400"},
    {NODE "    - {name: b, listen: \"::1:7400\"}\n",
     "site.yaml:4: store.nodes[1].listen: '::1:7400' is not an address; write host:port, such as "
     "127.0.0.1:7400 or [::1]:7400"},
    {NODE "    - {name: b, listen: \"[::1]:65535\"}\n",
     "site.yaml:4: store.nodes[1].listen: port 65535 cannot be: shard i listens at port + i; write "
     "a port from 1 to 65534"},
    {NODE "    - {name: b, listen: \"b:1\"}\n    - {name: c, listen: \"c:1\"}\n",
     "site.yaml:1: store.etcd: is missing: more than two nodes agree through etcd; write its end "
     "points, such as [\"127.0.0.1:2379\"]"},
    {NODE "    - {name: b, listen: \"b:1\", shm: run/b}\n",
     "site.yaml:4: store.nodes[1].shm: 'run/b' is no path for sockets; write one that begins with / and "
     "has at most 104 characters, such as /run/lethe/store-a"},
    {NODE "    - {name: b, listen: \"b:1\", verbs: \"b:65535\"}\n",
     "site.yaml:4: store.nodes[1].verbs: address b:65535: shards 0 to 1 need ports from 1 to 65535"},
    {NODE "worker: {transport: udp}\n",
     "site.yaml:4: worker.transport: 'udp' is none; write tcp, shm or verbs"},
    {NODE "worker: {transport: shm}\n",
     "site.yaml:4: worker.transport: none of store.nodes has `shm`; give it to at least one, or write "
     "tcp"},
    {NODE "worker: {one_sided: [\"a*b\"]}\n",
     "site.yaml:4: worker.one_sided: 'a*b' names no tables; write a name of up to 23 characters, or the "
     "beginning of one and a '*'"},
    {NODE "worker:\n  redis: h:1\n  one_sided: [a]\n",
     "site.yaml:6: worker.one_sided: is about the store, but with worker.redis the state is in Redis; "
     "leave one of the two out"},
    {"worker: {redis: \"h:1,h\"}\n",
     "site.yaml:1: worker.redis: 'h' is not an address; write host:port, such as 127.0.0.1:7400 or "
     "[::1]:7400"},
    {NODE "worker:\n  redis: h:1\n  transport: tcp\n",
     "site.yaml:6: worker.transport: is about the store, but with worker.redis the state is in Redis; "
     "leave one of the two out"},
    {NODE "  etcd: [\"h:1\", \"ftp://h:1\"]\n",
     "site.yaml:4: store.etcd[1]: 'ftp://h:1' is no end point; write one such as "
     "http://127.0.0.1:2379"},
    {NODE "  etcd: [\"http://h:1/\"]\n",
     "site.yaml:4: store.etcd[0]: 'h:1/' is not an address; write host:port, such as "
     "127.0.0.1:7400 or [::1]:7400"},
    {NODE "  etcd: [\"http://h:0\"]\n",
     "site.yaml:4: store.etcd[0]: 'http://h:0' has no port; etcd's is 2379"},
    {NODE "  etcd: [\"h:1\"]\n  etcd_ca: /etc/ca.pem\n",
     "site.yaml:5: store.etcd_ca: is for https, and no end point of store.etcd is such; write one as https://host:2379, or "
     "leave it out"},
    {NODE "  etcd: [\"h:1\", \"https://h:1\"]\n  etcd_key: /etc/key.pem\n",
     "site.yaml:5: store.etcd_key: a certificate and its key go together; write etcd_cert, too"},
    {NODE "  etcd_prefix: a/\n",
     "site.yaml:4: store.etcd_prefix: 'a/' cannot be; write where this site's keys begin, such as "
     "/lethe/site"},
    {NODE "  copies: 2\n",
     "site.yaml:4: store.copies: 2 copies need as many nodes, and there are 1; write more nodes, or "
     "fewer copies"},
    {NODE "  copies: 4\n",
     "site.yaml:4: store.copies: 4 is too many; write a number from 1 to 3"},
    {NODE "  min_copies: 2\n",
     "site.yaml:4: store.min_copies: 2 is more than copies (1), so no write would ever be "
     "answered; write at most 1"},
    {NODE "  limits: [{tables: [a, \"*b\"], memory_mb: 3}]\n",
     "site.yaml:4: store.limits[0].tables: '*b' names no tables; write a name of up to 23 "
     "characters, or the beginning of one and a '*'"},
    {NODE "  limits: [{memory_mb: 3}]\n",
     "site.yaml:4: store.limits[0].tables: no table; write a list such as [\"nat.*\"]"},
    {NODE "  limits: [{tables: [a]}]\n",
     "site.yaml:4: store.limits[0].memory_mb: no limit; write the MiB that these tables may have in "
     "a shard"},
    /* steering */
    {NODE "steering:\n  inside: {next_hop: 10.0.0.2, port: p}\n",
     "site.yaml:5: steering.inside.address: is missing; write an IPv4 address, such as 10.0.0.1"},
    {NODE "steering:\n  inside: {address: 10.0.0.256, next_hop: 10.0.0.2, port: p}\n",
     "site.yaml:5: steering.inside.address: '10.0.0.256' is no IPv4 address; write one, such as "
     "10.0.0.1"},
    {NODE "steering:\n  inside:\n    address: 10.0.0.1\n    port: p\n    next_hop: gateway\n",
     "site.yaml:8: steering.inside.next_hop: 'gateway' is no IPv4 address; write one, such as "
     "10.0.0.1"},
    {NODE "steering:\n  inside: {address: 10.0.0.1, next_hop: 10.0.0.2}\n",
     "site.yaml:5: steering.inside.port: is missing; write a DPDK device, such as "
     "net_af_packet0,iface=eth0"},
    {NODE "steering:\n  inside: {address: 10.0.0.1, next_hop: 10.0.0.2, port: p}\n",
     "site.yaml:4: steering.outside.address: is missing; write an IPv4 address, such as 10.0.0.1"},
    {NODE "steering:\n  inside:\n    address: 10.0.0.1\n    next_hop: 10.0.0.2\n    port: p\n"
          "    serves:\n      - 10.1.0.1\n      - 10.1.0.0/33\n",
     "site.yaml:11: steering.inside.serves[1]: '10.1.0.0/33' is no IPv4 address or prefix; write "
     "one, such as 203.0.113.1 or 203.0.113.0/28"},
    {NODE "steering:\n  inside: {address: 10.0.0.1, next_hop: 10.0.0.2, port: p, serves: "
          "[10.1.0.9/28]}\n",
     "site.yaml:5: steering.inside.serves[0]: '10.1.0.9/28' has bits set behind its prefix length; "
     "write 10.1.0.0/28"},
    {NODE SIDES "  maglev_size: 65536\n",
     "site.yaml:7: steering.maglev_size: 65536 is not prime; write a prime such as 65537"},
    {NODE SIDES "  maglev_size: 257\n  workers_max: 64\n",
     "site.yaml:7: steering.maglev_size: 257 is too small for 64 workers; write a prime of 100 "
     "times as many, such as 65537"},
    /* further front ends */
    {NODE SIDES "  more: [{name: steer, " IN("3") ", " OUT("3") "}]\n",
     "site.yaml:7: steering.more[0].name: 'steer' is that of front end steer, too; give each its own"},
    {NODE SIDES "  more:\n    - {name: b, " IN("3") ", " OUT("3") "}\n    - {name: b, " IN("4") ", " OUT("4") "}\n",
     "site.yaml:9: steering.more[1].name: 'b' is that of front end b, too; give each its own"},
    {NODE SIDES "  more: [{name: a, " IN("3") ", " OUT("3") "}]\n",
     "site.yaml:7: steering.more[0].name: 'a' is the name of a store node, too; choose another"},
    {NODE SIDES "  more: [{name: controller, " IN("3") ", " OUT("3") "}]\n",
     "site.yaml:7: steering.more[0].name: 'controller' is the controller's name; choose another"},
    {NODE SIDES "  more: [{name: b/c, " IN("3") ", " OUT("3") "}]\n",
     "site.yaml:7: steering.more[0].name: 'b/c' is no name; write up to 31 letters, digits, '_' or '-'"},
    {NODE SIDES "  more: [{" IN("3") ", " OUT("3") "}]\n",
     "site.yaml:7: steering.more[0].name: is missing; write it"},
    {NODE SIDES "  more: [{name: b, " IN("1") ", " OUT("3") "}]\n",
     "site.yaml:7: steering.more[0].inside.address: '10.0.0.1' is that of front end steer, too; give each "
     "its own"},
    {NODE SIDES "  more:\n    - {name: b, " IN("3") ", " OUT("3") "}\n    - {name: c, " IN("4") ", " OUT("3") "}\n",
     "site.yaml:9: steering.more[1].outside.address: '10.9.0.3' is that of front end b, too; give each "
     "its own"},
    {NODE SIDES "  more: [{name: b, " IN("3") ", " OUT("3") ", memif_dir: /run/lethe}]\n",
     "site.yaml:7: steering.more[0].memif_dir: '/run/lethe' is that of front end steer, too; give each its "
     "own"},
    {NODE SIDES "  more: [{name: b, " IN("3") "}]\n",
     "site.yaml:7: steering.more[0].outside.address: is missing; write an IPv4 address, such as 10.0.0.1"},
    {NODE SIDES "  more: [{name: b, inside: {address: 10.0.0.3, next_hop: x, port: p}, " OUT("3") "}]\n",
     "site.yaml:7: steering.more[0].inside.next_hop: 'x' is no IPv4 address; write one, such as 10.0.0.1"},
    {NODE SIDES "  more: [{name: nf-2, " IN("3") ", " OUT("3") "}]\n",
     "site.yaml:1: groups[0].name: a front end is called like a worker of it, nf-2; choose another name"},
    {NODE SIDES "groups: [{name: nf, front: steer-2}]\n",
     "site.yaml:7: groups[0].front: 'steer-2' is no front end; write steer, or a name of steering.more"},
    {NODE SIDES "  workers_max: 3\ngroups: [{name: nf, replicas: 2}, {name: x, replicas: 2}]\n",
     "site.yaml:8: groups: 4 replicas together are more than steering.workers_max (3) has room for"},
    /* tunnel */
    {NODE SIDES "  tunnel: {address: 10.9.0.1}\n",
     "site.yaml:7: steering.tunnel.port: is missing; address (the kernel's, on the underlay interface) "
     "and port (a DPDK device on it, such as net_af_packet2,iface=eth2) go together"},
    {NODE SIDES "  tunnel: {vni: 5}\n",
     "site.yaml:7: steering.tunnel.address: is missing; address (the kernel's, on the underlay "
     "interface) and port (a DPDK device on it, such as net_af_packet2,iface=eth2) go together"},
    {NODE SIDES "  tunnel: {address: 239.0.0.1, port: p}\n",
     "site.yaml:7: steering.tunnel.address: '239.0.0.1' is no host's address"},
    {NODE SIDES "  tunnel: {address: 10.9.0.1, port: p, vni: 16777215}\n",
     "site.yaml:7: steering.tunnel.vni: 16777215 is too many; write a number from 1 to 16777214"},
    {NODE SIDES "  tunnel: {address: 10.9.0.1, port: p, mtu: 500}\n",
     "site.yaml:7: steering.tunnel.mtu: 500 is too few; write a number from 576 to 65535"},
    {NODE SIDES "  tunnel: {address: 10.9.0.1, port: p}\n  more: [{name: b, " IN("3") ", " OUT("3")
          ", tunnel: {address: 10.9.0.1, port: p}}]\n",
     "site.yaml:8: steering.more[0].tunnel.address: '10.9.0.1' is that of front end steer, too; give each "
     "its own"},
    {NODE SIDES "  more: [{name: b, " IN("3") ", " OUT("3") ", tunnel: {port: p}}]\n",
     "site.yaml:7: steering.more[0].tunnel.address: is missing; address (the kernel's, on the underlay "
     "interface) and port (a DPDK device on it, such as net_af_packet2,iface=eth2) go together"},
    {NODE SIDES "  tunnel: {address: 10.9.0.1, port: p, more_ports: [\"net_a3,iface=c\", cni0]}\n",
     "site.yaml:7: steering.tunnel.more_ports[1]: 'cni0' is no DPDK device on an interface; write one, such as "
     "net_af_packet3,iface=cni0,framecnt=4096,blocksz=65536"},
    {NODE SIDES "  tunnel: {address: 10.9.0.1, port: p, more_ports: [\"net_a3,iface=sixteencharacter\"]}\n",
     "site.yaml:7: steering.tunnel.more_ports[0]: 'net_a3,iface=sixteencharacter' is no DPDK device on an "
     "interface; write one, such as net_af_packet3,iface=cni0,framecnt=4096,blocksz=65536"},
    {NODE SIDES "  tunnel: {address: 10.9.0.1, port: \"net_a2,iface=e\", more_ports: [\"net_a2,iface=c\"]}\n",
     "site.yaml:7: steering.tunnel.more_ports[0]: net_a2 is the device of tunnel.port, too; number them: "
     "net_af_packet2, net_af_packet3"},
    {NODE SIDES "  tunnel:\n    address: 10.9.0.1\n    port: \"net_a2,iface=e\"\n    more_ports:\n"
                "      - \"net_a3,iface=c\"\n      - \"net_a4,framecnt=8,iface=e,x=1\"\n",
     "site.yaml:12: steering.tunnel.more_ports[1]: interface e is that of tunnel.port, too; remove one, or write "
     "another"},
    {NODE SIDES "  tunnel: {address: 10.9.0.1, port: p, more_ports: [\"net_a3,iface=c\", \"net_a4,iface=c\"]}\n",
     "site.yaml:7: steering.tunnel.more_ports[1]: interface c is that of more_ports[0], too; remove one, or write "
     "another"},
    {NODE SIDES "  more: [{name: b, " IN("3") ", outside: {address: 10.9.0.3, next_hop: 10.9.0.2, port: \"net_a1,"
                "iface=o\"}, tunnel: {address: 10.9.0.1, port: r, more_ports: [\"net_a3,iface=o\"]}}]\n",
     "site.yaml:7: steering.more[0].tunnel.more_ports[0]: interface o is that of outside.port, too; remove one, or "
     "write another"},
    {NODE SIDES "  tunnel: {address: 10.9.0.1, port: p, more_ports: [a, b, c]}\n",
     "site.yaml:7: steering.tunnel.more_ports[2]: has too many entries; write at most 2"},
    {NODE "worker: {tunnel: {steering: []}}\n",
     "site.yaml:4: worker.tunnel.steering: no address; write those of steering's ends, such as "
     "[\"10.9.0.1\"]"},
    {NODE "worker: {tunnel: {steering: [10.9.0.1, steer]}}\n",
     "site.yaml:4: worker.tunnel.steering[1]: 'steer' is no IPv4 address; write one, such as 10.9.0.1"},
    {NODE "worker:\n  tunnel: {steering: [10.9.0.1, 10.9.0.1]}\n",
     "site.yaml:5: worker.tunnel.steering[1]: '10.9.0.1' is there twice; remove one"},
    {NODE SIDES "  tunnel: {address: 10.9.0.1, port: p}\nworker: {tunnel: {steering: [10.9.0.1, 10.9.0.2]}}\n",
     "site.yaml:8: worker.tunnel.steering[1]: 10.9.0.2 is no front end's tunnel.address; correct one of them"},
    {NODE "groups: [{name: nf, weight: 101}]\n",
     "site.yaml:4: groups[0].weight: 101 is too many; write a number from 1 to 100"},
    /* secrets */
    {NODE "  tenants: [{name: t, secret_file: f}]\n",
     "site.yaml:4: store.tenants[0].tables: no table, so t could open none; write a list such as "
     "[\"nat.*\"]"},
    {NODE "  tenants:\n    - {name: t, secret_file: f, tables: [\"*\", \"a*b\"]}\n",
     "site.yaml:5: store.tenants[0].tables: 'a*b' names no tables; write a name of up to 23 "
     "characters, or the beginning of one and a '*'"},
    {NODE "  tenants:\n    - {name: t, secret_file: f, tables: [a]}\n"
          "    - {name: t, secret_file: g, tables: [b]}\n",
     "site.yaml:6: store.tenants[1].name: 't' is the name of two tenants; give each its own"},
    {NODE "  tenants:\n    - {name: a b, secret_file: f, tables: [a]}\n",
     "site.yaml:5: store.tenants[0].name: 'a b' is no name; write up to 31 letters, digits, '_' or "
     "'-'"},
    {NODE "  tenants:\n    - {name: t, tables: [a]}\n",
     "site.yaml:5: store.tenants[0].secret_file: is missing; write it"},
    {NODE "    - {name: b, listen: \"127.0.0.1:7500\"}\n"
          "  tenants:\n    - {name: t, secret_file: f, tables: [a]}\n",
     "site.yaml:1: store.replica_secret_file: is missing: with tenants, the nodes show each other a "
     "secret, too; name its file"},
    {NODE "  replica_secret_file: f\n",
     "site.yaml:1: store.tenants: no tenant, so no worker could connect; write at least one beside "
     "replica_secret_file"},
    {NODE "worker:\n  tenant: t\n",
     "site.yaml:4: worker.secret_file: is missing; tenant and secret_file go together"},
    {NODE "worker:\n  secret_file: f\n",
     "site.yaml:4: worker.tenant: is missing; tenant and secret_file go together"},
    {NODE "worker: {tenant: t, secret_file: f}\n",
     "site.yaml:4: worker.tenant: 't' is none of store.tenants; name one of them"},
    /* worker, chain, nfs */
    {NODE "worker:\n  ipv6: tunnel\n",
     "site.yaml:5: worker.ipv6: 'tunnel' is neither; write pass or drop"},
    {NODE "worker:\n  mbufs: 1500\n",
     "site.yaml:5: worker.mbufs: 1500 do not hold 1024 packets_in_flight and the rings; write at "
     "least 1536"},
    {NODE "chain: [nat44, monitor, nat44]\n",
     "site.yaml:4: chain[2]: 'nat44' is in the chain twice; its tables would be the same"},
    {NODE "run_dir: /0123456789012345678901234567890123456789012345678901234567890123456789\n",
     "site.yaml:4: run_dir: is too long for the paths of sockets; write at most 64 bytes"},
    {NODE "nfs:\n  nat44:\n    external: [a]\n    udp: 3\n",
     "site.yaml:7: nfs.nat44.udp: is no key here; known are: external, udp_s"},
    {NODE "nfs:\n  nat44:\n    udp_s: 3\n",
     "site.yaml:5: nfs.nat44.external: is missing; write it"},
    {NODE "nfs:\n  nat44:\n    external: []\n",
     "site.yaml:6: nfs.nat44.external: has too few entries; write at least one"},
    {NODE "nfs:\n  nat44:\n    external: [a]\n    udp_s: soon\n",
     "site.yaml:7: nfs.nat44.udp_s: 'soon' is no number here; write a whole number"},
    {NODE "nfs:\n  nat66: {}\n", "site.yaml:5: nfs.nat66: is no key here; known are: nat44"},
    /* controller, groups */
    {NODE "controller: {listen: \"0.0.0.0:9000\"}\n",
     "site.yaml:4: controller.token_file: is missing: whoever reaches 0.0.0.0:9000 could command this "
     "site; name a file with a secret, or listen at a socket's path"},
    {NODE "controller:\n  listen: nowhere\n",
     "site.yaml:5: controller.listen: 'nowhere' is neither a path from / nor host:port"},
    {NODE "groups:\n  - name: nf\n    autoscale: {enabled: flase}\n",
     "site.yaml:6: groups[0].autoscale.enabled: 'flase' is neither true nor false; write one of the two"},
    {NODE "groups: [{name: nf, autoscale: {enabled: [on]}}]\n",
     "site.yaml:4: groups[0].autoscale.enabled: needs true or false"},
    {NODE "groups: [{name: nf, replicas: -1}]\n",
     "site.yaml:4: groups[0].replicas: '-1' is no number here; write a number from 0 to 64"},
    {NODE "groups: [{name: nf, replicas: 1000000000}]\n",
     "site.yaml:4: groups[0].replicas: 1000000000 is too many; write a number from 0 to 64"},
    {NODE "groups: [{name: nf, replicas: 17}]\n",
     "site.yaml:4: groups[0].max: 17 workers are more than steering.workers_max (16) has room for; "
     "write less here or more there"},
    {NODE "groups: [{name: nf, replicas: 3, max: 2}]\n",
     "site.yaml:4: groups[0].replicas: 3 is not within min (1) and max (2); change one of them"},
    {NODE "groups: [{name: nf}, {name: nf}]\n",
     "site.yaml:4: groups[1].name: 'nf' is the name of two groups; give each its own"},
    {"store:\n  nodes:\n    - {name: a-1, listen: \"127.0.0.1:7400\"}\ngroups: [{name: a}]\n",
     "site.yaml:4: groups[0].name: a store node is called like a worker of it, a-1; choose "
     "another name"},
    {NODE "groups: [{name: x/y}]\n", "site.yaml:4: groups[0].name: 'x/y' is no name; write up to 24 "
                                     "letters, digits, '_' or '-'"},
    {NODE "groups: [{name: nf, replicas: 0, min: 0}]\n",
     "site.yaml:4: groups: no worker at all; write at least one replica"},
    {NODE "groups: [{name: nf, autoscale: {busy_low_permille: 700}}]\n",
     "site.yaml:4: groups[0].autoscale.busy_low_permille: 700 is not below busy_high_permille (700); "
     "write less"},
};

static int parse(const char *yaml, bool as_worker, struct site **site, struct nfs **nfs, char *err)
{
    void *config = NULL;
    int bad = site_parse((const uint8_t *)yaml, (uint32_t)strlen(yaml),
                         as_worker ? nf_fields : NULL, as_worker ? sizeof(struct nfs) : 0, site,
                         &config, err, 500);
    *nfs = config;
    return bad;
}

static void broken_texts_get_their_sentences(void **state)
{
    int wrong = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct site *site = NULL;
        struct nfs *nfs;
        char err[500] = "";
        int bad = parse(rows[i].text, true, &site, &nfs, err);
        CHECK(bad == -EINVAL, "row %zu was taken:\n%s", i, rows[i].text);
        CHECK(!site, "row %zu touched the out-pointer", i);
        if (strcmp(err, rows[i].error) != 0 && ++wrong)
            print_error("row %zu:\n%s\nsays   %s\nwanted %s\n", i, rows[i].text, err,
                        rows[i].error);
    }
    CHECK(wrong == 0, "%d rows", wrong);
}

static void smallest_site_has_all_defaults(void **state)
{
    struct site *s = NULL;
    struct nfs *nfs;
    char err[500] = "";
    CHECK(parse(NODE, true, &s, &nfs, err) == 0, "%s", err);
    assert_null(nfs);
    assert_int_equal(s->failure_timeout_ms, 500);
    assert_string_equal(s->run_dir, "/run/lethe");
    assert_int_equal(s->store.shards, 2);
    assert_int_equal(s->store.nodes_count, 1);
    assert_int_equal(s->store.memory_mb, 0);
    assert_int_equal(s->store.etcd_count, 0);
    assert_string_equal(s->store.etcd_prefix, "/lethe/site");
    assert_int_equal(s->store.copies, 1);
    assert_int_equal(s->store.min_copies, 1);
    assert_int_equal(s->store.limits_count, 0);
    assert_int_equal(s->store.client_lease_ms, 50000);
    assert_string_equal(s->steering.control, "/run/lethe/steer.sock");
    assert_string_equal(s->steering.memif_dir, "/run/lethe");
    assert_string_equal(s->steering.probe_key_file, "/run/lethe/probe.key");
    assert_int_equal(s->steering.workers_max, 16);
    assert_int_equal(s->steering.maglev_size, 65537);
    assert_null(s->steering.inside.address);
    assert_null(s->steering.tunnel.address);
    assert_int_equal(s->steering.tunnel.more_ports_count, 0);
    assert_int_equal(s->steering.tunnel.vni, 4097);
    assert_int_equal(s->steering.tunnel.udp_port, 4789);
    assert_int_equal(s->steering.tunnel.mtu, 0);
    assert_int_equal(s->worker.tunnel.steering_count, 0);
    assert_int_equal(s->groups[0].weight, 100);
    assert_int_equal(s->worker.window_bursts, 64);
    assert_int_equal(s->worker.max_hold_ms, 1000);
    assert_int_equal(s->worker.packets_in_flight, 1024);
    assert_int_equal(s->worker.mbufs, 8192);
    assert_string_equal(s->worker.ipv6, "drop");
    assert_int_equal(s->chain_count, 0);
    assert_string_equal(s->controller.listen, "/run/lethe/controller.sock");
    assert_null(s->controller.token_file);
    assert_int_equal(s->groups_count, 1);
    assert_string_equal(s->groups[0].name, "nf");
    assert_int_equal(s->groups[0].replicas, 1);
    assert_int_equal(s->groups[0].min, 1);
    assert_int_equal(s->groups[0].max, 16);
    assert_false(s->groups[0].autoscale.enabled);
    assert_int_equal(s->groups[0].autoscale.busy_high_permille, 700);
    site_free(s, nf_fields, sizeof(struct nfs), nfs);
}

static void network_functions_are_for_the_worker_alone(void **state)
{
    const char *yaml = NODE "nfs:\n  nat44: {external: [203.0.113.1, 203.0.113.2], udp_s: 3}\n";
    struct site *s = NULL;
    struct nfs *nfs;
    char err[500] = "";
    CHECK(parse(yaml, true, &s, &nfs, err) == 0, "%s", err);
    assert_int_equal(nfs->nat44->external_count, 2);
    assert_string_equal(nfs->nat44->external[1], "203.0.113.2");
    assert_int_equal(nfs->nat44->udp_s, 3);
    site_free(s, nf_fields, sizeof(struct nfs), nfs);

    const char *unknown = NODE "nfs:\n  whatever: [{a: 1}, 2]\n";
    CHECK(parse(unknown, false, &s, &nfs, err) == 0, "%s", err);
    assert_null(nfs);
    site_free(s, NULL, 0, NULL);
}

static void sample_is_valid_and_names_its_defaults(void **state)
{
    struct site *s = NULL;
    char err[500] = "";
    CHECK(site_load(LETHE_SAMPLE_SITE, NULL, 0, &s, NULL, err, sizeof err) == 0, "%s", err);
    assert_int_equal(s->store.nodes_count, 2);
    char *addresses = site_store_addresses(s), want[600];
    snprintf(want, sizeof want, "%s,%s", s->store.nodes[0].listen, s->store.nodes[1].listen);
    assert_string_equal(addresses, want);
    free(addresses);
    s->failure_timeout_ms = 100;
    assert_int_equal(site_store_retry_ms(s), 50);
    s->failure_timeout_ms = 5000;
    assert_int_equal(site_store_retry_ms(s), 200);
    assert_int_equal(site_store_silence_ms(s), 2500);
    assert_int_equal(s->chain_count, 2);
    assert_string_equal(s->steering.outside.serves[0], "203.0.113.0/28");
    site_free(s, NULL, 0, NULL);
    assert_true(site_line(LETHE_SAMPLE_SITE, "nfs.nat44.external[0]") > 50);
    assert_int_equal(site_line("/nonexistent/site.yaml", "nfs"), 0);
}

static void front_ends_are_found_by_name(void **state)
{
    static const char yaml[] = NODE "run_dir: /r\n" SIDES "  tunnel: {address: 10.9.7.1, port: p}\n"
        "  more:\n    - {name: b, " IN("3") ", " OUT("3") ", tunnel: {address: 10.9.7.2, port: p}}\n    - {name: c, " IN("4") ", " OUT("4")
        ", control: /x, memif_dir: /y}\ngroups: [{name: nf}, {name: g, front: c}]\n";
    struct site *s = NULL;
    char err[500] = "";
    CHECK(!site_parse((const uint8_t *)yaml, sizeof yaml - 1, NULL, 0, &s, NULL, err, sizeof err), "%s", err);
    assert_int_equal(site_fronts(s), 3);
    struct site_front first = site_front(s, 0), b = site_front(s, 1), c = site_front(s, 2);
    assert_string_equal(first.name, "steer");
    assert_string_equal(first.inside.address, "10.0.0.1");
    assert_string_equal(first.memif_dir, "/r");
    assert_string_equal(b.control, "/r/b.sock");
    assert_string_equal(b.memif_dir, "/r/b");
    assert_string_equal(b.outside.address, "10.9.0.3");
    assert_string_equal(c.control, "/x");
    assert_string_equal(c.memif_dir, "/y");
    assert_int_equal(site_front_named(s, "steer"), 0);
    assert_int_equal(site_front_named(s, "c"), 2);
    assert_int_equal(site_front_named(s, "d"), -1);
    assert_int_equal(site_front_at(s, "10.9.7.1"), 0);
    assert_int_equal(site_front_at(s, "10.9.7.2"), 1);
    assert_int_equal(site_front_at(s, "10.9.7.3"), -1);
    assert_string_equal(s->groups[0].front, "steer");
    assert_string_equal(s->groups[1].front, "c");
    site_free(s, NULL, 0, NULL);
    CHECK(!site_parse((const uint8_t *)NODE, sizeof NODE - 1, NULL, 0, &s, NULL, err, sizeof err), "%s", err);
    assert_int_equal(site_fronts(s), 0);
    site_free(s, NULL, 0, NULL);
}

static void a_tunnel_is_read(void **state)
{
    struct site *s = NULL;
    struct nfs *nfs;
    char err[500] = "";
    CHECK(parse(NODE SIDES "  tunnel: {address: 10.9.0.1, port: \"net_af_packet2,iface=t\", vni: 7}\n"
                "worker: {tunnel: {steering: [10.9.0.1]}}\n", false, &s, &nfs, err) == 0,
          "%s", err);
    assert_string_equal(s->steering.tunnel.address, "10.9.0.1");
    assert_string_equal(s->steering.tunnel.port, "net_af_packet2,iface=t");
    assert_int_equal(s->steering.tunnel.vni, 7);
    assert_int_equal(s->worker.tunnel.steering_count, 1);
    assert_string_equal(s->worker.tunnel.steering[0], "10.9.0.1");
    site_free(s, NULL, 0, NULL);
}

static void workers_reach_nodes_by_their_transport(void **state)
{
    static const char *const by[] = {"tcp", "shm", "verbs"};
    static const char *const want[] = {"a:1,b:1", "shm:/r/a|a:1,b:1", "verbs:v:7|a:1,verbs:w:7|b:1"};
    for (int i = 0; i < 3; i++) {
        char yaml[300], err[500] = "";
        struct site *s = NULL;
        struct nfs *nfs;
        snprintf(yaml, sizeof yaml, "store:\n  nodes:\n"
                 "    - {name: a, listen: \"a:1\", shm: /r/a, verbs: \"v:7\"}\n"
                 "    - {name: b, listen: \"b:1\", verbs: \"w:7\"}\nworker: {transport: %s}\n", by[i]);
        CHECK(parse(yaml, false, &s, &nfs, err) == 0, "%s", err);
        char *addresses = site_store_addresses(s);
        assert_string_equal(addresses, want[i]);
        free(addresses);
        site_free(s, NULL, 0, NULL);
    }
}

/* The sample with every commented key taken in must be valid, too, and change
 * nothing: what it shows are the defaults. */
static void commented_defaults_are_the_defaults(void **state)
{
    char line[300], *full = calloc(1, 65536), err[500] = "";
    FILE *f = fopen(LETHE_SAMPLE_SITE, "r");
    int taken = 0;
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        size_t indent = strspn(line, " "), word = strspn(line + indent + 2, "abcdefghijklmnopqrstuvwxyz_");
        if (strncmp(line + indent, "# ", 2) == 0 && word > 0 && line[indent + 2 + word] == ':' &&
            line[indent + 3 + word] == ' ') {
            memmove(line + indent, line + indent + 2, strlen(line + indent + 2) + 1);
            taken++;
        }
        strcat(full, line);
    }
    fclose(f);
    CHECK(taken >= 16, "only %d keys are commented", taken);
    struct site *a = NULL, *b = NULL;
    CHECK(site_load(LETHE_SAMPLE_SITE, NULL, 0, &a, NULL, err, sizeof err) == 0, "%s", err);
    CHECK(site_parse((uint8_t *)full, (uint32_t)strlen(full), NULL, 0, &b, NULL, err, sizeof err) == 0,
          "%s", err);
    assert_int_equal(a->failure_timeout_ms, b->failure_timeout_ms);
    assert_string_equal(a->run_dir, b->run_dir);
    assert_int_equal(a->store.shards, b->store.shards);
    assert_int_equal(a->store.memory_mb, b->store.memory_mb);
    assert_string_equal(a->store.etcd_prefix, b->store.etcd_prefix);
    assert_int_equal(a->store.copies, b->store.copies);
    assert_int_equal(a->store.min_copies, b->store.min_copies);
    assert_int_equal(a->store.client_lease_ms, b->store.client_lease_ms);
    assert_string_equal(a->steering.control, b->steering.control);
    assert_string_equal(a->steering.memif_dir, b->steering.memif_dir);
    assert_string_equal(a->steering.probe_key_file, b->steering.probe_key_file);
    assert_int_equal(a->steering.workers_max, b->steering.workers_max);
    assert_int_equal(a->steering.maglev_size, b->steering.maglev_size);
    assert_int_equal(a->worker.window_bursts, b->worker.window_bursts);
    assert_int_equal(a->worker.max_hold_ms, b->worker.max_hold_ms);
    assert_int_equal(a->worker.packets_in_flight, b->worker.packets_in_flight);
    assert_int_equal(a->worker.mbufs, b->worker.mbufs);
    assert_string_equal(a->controller.listen, b->controller.listen);
    assert_int_equal(b->groups_count, 1);
    assert_string_equal(a->groups[0].name, b->groups[0].name);
    assert_int_equal(a->groups[0].replicas, b->groups[0].replicas);
    assert_int_equal(a->groups[0].min, b->groups[0].min);
    assert_int_equal(a->groups[0].max, b->groups[0].max);
    assert_string_equal(a->groups[0].front, b->groups[0].front);
    assert_int_equal(a->steering.more_count, 0);
    assert_int_equal(b->steering.more_count, 1);
    assert_int_equal(a->groups[0].weight, b->groups[0].weight);
    assert_memory_equal(&a->groups[0].limits, &b->groups[0].limits, sizeof a->groups[0].limits);
    assert_memory_equal(&a->groups[0].autoscale, &b->groups[0].autoscale, sizeof a->groups[0].autoscale);
    site_free(a, NULL, 0, NULL);
    site_free(b, NULL, 0, NULL);
    free(full);
}

static void files_are_named_in_errors(void **state)
{
    struct site *s = NULL;
    char err[500], path[] = "/tmp/site_test_XXXXXX", want[200];
    assert_int_equal(site_load("/nonexistent/site.yaml", NULL, 0, &s, NULL, err, sizeof err), -ENOENT);
    assert_string_equal(err, "/nonexistent/site.yaml: cannot be read: No such file or directory; "
                             "name the site's file with -c");
    assert_true(site_load("/", NULL, 0, &s, NULL, err, sizeof err) < 0);
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "x: 1\n", 5), 5);
    close(fd);
    assert_int_equal(site_load(path, NULL, 0, &s, NULL, err, sizeof err), -EINVAL);
    snprintf(want, sizeof want, "%s:1: x: is no key here", path);
    CHECK(strncmp(err, want, strlen(want)) == 0, "%s", err);
    assert_int_equal(truncate(path, 300000), 0);
    assert_int_equal(site_load(path, NULL, 0, &s, NULL, err, sizeof err), -EIO);
    assert_non_null(strstr(err, "is longer than"));
    unlink(path);
}

static void short_timeout_is_taken_with_a_warning(void **state)
{
    struct site *s = NULL;
    struct nfs *nfs;
    char err[500] = "";
    log_init("site_test", NULL, LOG_LEVEL_ERROR);
    CHECK(parse("failure_timeout_ms: 50\n" NODE, false, &s, &nfs, err) == 0, "%s", err);
    assert_int_equal(s->failure_timeout_ms, 50);
    site_free(s, NULL, 0, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_texts_get_their_sentences),
        cmocka_unit_test(smallest_site_has_all_defaults),
        cmocka_unit_test(network_functions_are_for_the_worker_alone),
        cmocka_unit_test(sample_is_valid_and_names_its_defaults),
        cmocka_unit_test(front_ends_are_found_by_name),
        cmocka_unit_test(commented_defaults_are_the_defaults),
        cmocka_unit_test(a_tunnel_is_read),
        cmocka_unit_test(workers_reach_nodes_by_their_transport),
        cmocka_unit_test(files_are_named_in_errors),
        cmocka_unit_test(short_timeout_is_taken_with_a_warning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
