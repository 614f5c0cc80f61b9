/* SPDX-License-Identifier: BSD-3-Clause */
/* Views and registrations as JSON (views_json.h). Incarnations pass 2^53, so they are
 * strings of digits. */
#include "statestore/server/views_json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- reading -------------------------------------------------------------------------------- */

static json_t *load(const char *text, uint32_t bytes)
{
    json_t *o = bytes <= VIEWS_JSON_MAX ? json_loadb(text, bytes, JSON_REJECT_DUPLICATES, NULL)
                                        : NULL;
    if (json_is_object(o))
        return o;
    json_decref(o);
    return NULL;
}

static bool positive(const json_t *v, uint64_t *out)
{
    if (!json_is_integer(v) || json_integer_value(v) <= 0)
        return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

static bool digits(const json_t *v, uint64_t *out)
{
    const char *s = json_string_value(v);
    if (!s || !*s || strlen(s) != json_string_length(v) || strspn(s, "0123456789") != strlen(s))
        return false;
    errno = 0;
    *out = strtoull(s, NULL, 10);
    return !errno && *out;
}

static const char *read_member(const json_t *m, uint32_t nodes, struct shard_view *v)
{
    struct msg_node *to = &v->members[v->nmembers];
    uint64_t node, incarnation;
    if (!positive(json_object_get(m, "node"), &node) || node > nodes)
        return "a member's node is no number of a node";
    if (!digits(json_object_get(m, "incarnation"), &incarnation))
        return "a member's incarnation is no string of digits";
    for (uint32_t i = 0; i < v->nmembers; i++)
        if (v->members[i].node == node)
            return "a node is a member twice";
    *to = (struct msg_node){.node = (uint32_t)node, .incarnation = incarnation};
    v->nmembers++;
    return NULL;
}

static const char *read_view(const json_t *o, uint32_t nodes, struct shard_view *v)
{
    const json_t *members = json_object_get(o, "members"),
                 *accepted = json_object_get(o, "accepted_loss");
    size_t n = json_array_size(members);
    if (!positive(json_object_get(o, "epoch"), &v->epoch))
        return "epoch is no positive number";
    if (!json_is_array(members) || n < 1 || n > 3)
        return "members is no list of 1 to 3";
    if (accepted && !json_is_boolean(accepted))
        return "accepted_loss is neither true nor false";
    v->accepted_loss = json_is_true(accepted);
    for (size_t i = 0; i < n; i++) {
        const char *wrong = read_member(json_array_get(members, i), nodes, v);
        if (wrong)
            return wrong;
    }
    return NULL;
}

const char *views_json_view(const char *text, uint32_t bytes, uint32_t nodes,
                            struct shard_view *out)
{
    json_t *o = load(text, bytes);
    struct shard_view v = {0};
    const char *wrong = o ? read_view(o, nodes, &v) : "it is no JSON object";
    json_decref(o);
    if (!wrong)
        *out = v;
    return wrong;
}

static const char *read_registration(const json_t *o, struct views_registration *r)
{
    const json_t *holds = json_object_get(o, "holds");
    size_t n = json_array_size(holds);
    if (!digits(json_object_get(o, "incarnation"), &r->incarnation))
        return "incarnation is no string of digits";
    if (holds && (!json_is_array(holds) || n > VIEWS_SHARDS_MAX))
        return "holds is no list of at most 16";
    for (size_t i = 0; i < n; i++) {
        const json_t *row = json_array_get(holds, i), *epoch = json_array_get(row, 1),
                     *position = json_array_get(row, 2);
        if (json_array_size(row) != 3 || !digits(json_array_get(row, 0), &r->holds[i].incarnation) ||
            !json_is_integer(epoch) || json_integer_value(epoch) < 0 ||
            !json_is_integer(position) || json_integer_value(position) < 0)
            return "an entry of holds is not [\"incarnation\", epoch, position]";
        r->holds[i].epoch = (uint64_t)json_integer_value(epoch);
        r->holds[i].position = (uint64_t)json_integer_value(position);
    }
    r->nholds = (uint32_t)n;
    return NULL;
}

const char *views_json_registration(const char *text, uint32_t bytes,
                                    struct views_registration *out)
{
    json_t *o = load(text, bytes);
    struct views_registration r = {0};
    const char *wrong = o ? read_registration(o, &r) : "it is no JSON object";
    json_decref(o);
    if (!wrong)
        *out = r;
    return wrong;
}

/* --- writing ---------------------------------------------------------------------------------- */

static json_t *digits_of(uint64_t n)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, n);
    return json_string(text);
}

static char *line_of(json_t *o)
{
    char *line = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    return line;
}

char *views_json_of_view(const struct shard_view *view)
{
    json_t *members = json_array();
    for (uint32_t i = 0; i < view->nmembers; i++)
        json_array_append_new(members, json_pack("{s:i, s:o}", "node", (int)view->members[i].node,
                                                 "incarnation",
                                                 digits_of(view->members[i].incarnation)));
    return line_of(json_pack("{s:I, s:o, s:b}", "epoch", (json_int_t)view->epoch, "members", members,
                             "accepted_loss", view->accepted_loss));
}

char *views_json_of_registration(const struct views_registration *r, const char *name,
                                 const char *listen)
{
    json_t *holds = json_array();
    for (uint32_t i = 0; i < r->nholds; i++)
        json_array_append_new(holds, json_pack("[o, I, I]", digits_of(r->holds[i].incarnation),
                                               (json_int_t)r->holds[i].epoch,
                                               (json_int_t)r->holds[i].position));
    return line_of(json_pack("{s:o, s:s, s:s, s:o}", "incarnation", digits_of(r->incarnation),
                             "name", name, "listen", listen ? listen : "", "holds", holds));
}
