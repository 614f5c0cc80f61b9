/* SPDX-License-Identifier: BSD-3-Clause */
/* Defaults and limits of `steering.more` (check.c): front ends beside the first. */
#include "common/config/schema.h"

#include <stdio.h>
#include <string.h>

/* Its sockets must be nobody else's. */
static int check_name(const struct site *s, const char *name, const char *key,
                      const struct complaint *c)
{
    if (!is_instance_name(name))
        return complain(c, key, "'%s' is no name; write up to 31 letters, digits, '_' or '-'", name);
    if (!strcmp(name, "controller"))
        return complain(c, key, "'%s' is the controller's name; choose another", name);
    for (unsigned i = 0; i < s->store.nodes_count; i++)
        if (!strcmp(s->store.nodes[i].name, name))
            return complain(c, key, "'%s' is the name of a store node, too; choose another", name);
    return 0;
}

/* Two front ends share nothing: what starts removes stale sockets of its folder. */
static int check_apart(const struct site *s, unsigned at, unsigned other, const struct complaint *c)
{
    struct site_front f = site_front(s, at), g = site_front(s, other);
    const struct { const char *key, *a, *b; } own[] = {
        {"name", f.name, g.name},
        {"inside.address", f.inside.address, g.inside.address},
        {"outside.address", f.outside.address, g.outside.address},
        {"control", f.control, g.control},
        {"memif_dir", f.memif_dir, g.memif_dir},
    };
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        char key[64];
        snprintf(key, sizeof key, "steering.more[%u].%s", at - 1, own[i].key);
        if (!strcmp(own[i].a, own[i].b))
            return complain(c, key, "'%s' is that of front end %s, too; give each its own", own[i].a,
                            g.name);
    }
    return 0;
}

static int check_front(struct site *s, unsigned at, const struct complaint *c)
{
    struct site_front *f = &s->steering.more[at - 1];
    char key[64], path[256];
    snprintf(key, sizeof key, "steering.more[%u].name", at - 1);
    int bad = check_name(s, f->name, key, c);
    if (bad)
        return bad;
    snprintf(path, sizeof path, "%s/%s", s->run_dir, f->name);
    if (!text_default(&f->control, "%s.sock", path) || !text_default(&f->memif_dir, "%s", path))
        return complain(c, "", "out of memory");
    snprintf(key, sizeof key, "more[%u].inside", at - 1);
    bad = site_check_side(key, &f->inside, c);
    snprintf(key, sizeof key, "more[%u].outside", at - 1);
    if (!bad)
        bad = site_check_side(key, &f->outside, c);
    for (unsigned other = 0; !bad && other < at; other++)
        bad = check_apart(s, at, other, c);
    return bad;
}

int site_check_fronts(struct site *s, const struct complaint *c)
{
    int bad = 0;
    for (unsigned at = 1; !bad && at <= s->steering.more_count; at++)
        bad = check_front(s, at, c);
    return bad;
}
