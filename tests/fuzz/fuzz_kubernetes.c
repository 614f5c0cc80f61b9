/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What an API server of Kubernetes tells: the input is two JSON values, a line each. What is believed of either
 * holds only what can be in a path of a request, or on a terminal; a death is proven only by a word that names its
 * container.
 */
#include "tests/fuzz/fuzz.h"

#include <ctype.h>

#include "orchestrator/driver/kubernetes_objects.h"

static void only(const char *text, const char *more)
{
    for (; *text; text++)
        MUST(isalnum((unsigned char)*text) || strchr(more, *text));
}

static void printable(const char *text)
{
    for (; *text; text++)
        MUST((unsigned char)*text >= 0x20 && (unsigned char)*text < 0x7f);
}

static bool pod(const json_t *o, struct kube_pod *p)
{
    if (kube_pod_read(o, p)) {
        MUST(!*p->name && !*p->uid && !*p->container);
        return false;
    }
    MUST(isalnum((unsigned char)*p->name) && *p->uid);
    only(p->name, ".-");
    only(p->node, ".-");
    only(p->app, ".-");
    only(p->uid, "._:-");
    only(p->address, ".:");
    only(p->host, ".:");
    only(p->container, "._:/-");
    printable(p->waiting);
    MUST(p->started_s >= 0 && kube_number(p->container));
    return true;
}

static void deaths(const json_t *a, const json_t *b)
{
    struct kube_pod was, now;
    struct kube_verdict v;
    if (!pod(a, &was) || !pod(b, &now))
        return;
    for (int i = 0; i < 8; i++) {
        kube_judge(&was, i & 4 ? NULL : &now, i & 1, i & 2, &v);
        bool named = !strcmp(now.ends[0].container, was.container) || !strcmp(now.ends[1].container, was.container);
        MUST(v.ended || (!v.proven && !*v.how));
        MUST(!v.ended || (*was.container && *v.how));
        MUST(v.proven == (*was.container && !(i & 4) && named) && v.proven == v.status_known);
        printable(v.how);
    }
}

static void others(const json_t *o)
{
    struct kube_node n;
    struct kube_deployment d;
    struct kube_list list;
    struct kube_event e;
    char words[KUBE_WORDS];
    if (!kube_node_read(o, &n))
        only(n.name, ".-");
    else
        MUST(!*n.name);
    if (!kube_deployment_read(o, &d))
        only(d.name, ".-");
    if (!kube_list_read(o, &list)) {
        MUST(json_is_array(list.items) && *list.version);
        only(list.version, "._:/-");
        only(list.more, "._:/-");
        for (size_t i = 0; i < json_array_size(list.items); i++)
            deaths(json_array_get(list.items, i), json_array_get(list.items, json_array_size(list.items) - 1));
    }
    if (!kube_event_read(o, &e)) {
        MUST(e.object && (*e.version || e.change == KUBE_ERROR));
        only(e.version, "._:/-");
        deaths(e.object, e.object);
    }
    kube_words(o, words, sizeof words);
    printable(words);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = guarded_copy(data, size), *line = memchr(copy, '\n', size);
    size_t first = line ? (size_t)(line - copy) : size, skip = line ? first + 1 : size;
    json_t *a = json_loadb(copy, first, 0, NULL), *b = json_loadb(copy + skip, size - skip, 0, NULL);
    others(a);
    others(b);
    deaths(a, b);
    json_decref(a);
    json_decref(b);
    free(copy);
    return 0;
}
