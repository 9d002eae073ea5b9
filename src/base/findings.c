#include "base/findings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

enum {
    FINDINGS_MAX = 1000
}; /* from a peer, which could send more than anybody reads */

static const char *const level_names[] = {
    [FINDING_BLOCKER] = "blocker",
    [FINDING_WARNING] = "warning",
};

static struct finding *next_slot(struct findings *f)
{
    f->list = realloc(f->list, (f->n + 1) * sizeof *f->list);
    if (f->list == NULL)
        abort();
    return memset(&f->list[f->n++], 0, sizeof *f->list);
}

void findings_add(struct findings *f, enum finding_level level, const char *code,
                  const char *next, const char *fmt, ...)
{
    struct finding *const to = next_slot(f);
    va_list ap;

    to->level = level;
    snprintf(to->code, sizeof to->code, "%s", code);
    snprintf(to->next, sizeof to->next, "%s", next != NULL ? next : "");
    va_start(ap, fmt);
    vsnprintf(to->what, sizeof to->what, fmt, ap);
    va_end(ap);
}

size_t findings_blockers(const struct findings *f)
{
    size_t n = 0;

    for (size_t i = 0; i < f->n; i++)
        n += f->list[i].level == FINDING_BLOCKER;
    return n;
}

static bool level_parse(const char *name, enum finding_level *out, struct err *e)
{
    for (size_t i = 0; i < sizeof level_names / sizeof level_names[0]; i++)
        if (strcmp(level_names[i], name) == 0) {
            *out = (enum finding_level)i;
            return true;
        }
    return err_set(e, ERR_PROTO, 0, "a finding of an unknown level");
}

/* Checked whole before anything is added.  Long texts are cut: they are for people. */
static bool one_from_json(struct findings *f, struct json_object *o, struct err *e)
{
    const char *level_name, *code, *what, *next;
    enum finding_level level;

    if (!json_object_is_type(o, json_type_object))
        return err_set(e, ERR_PROTO, 0, "a finding that is not an object");
    if (!json_get_str(o, "level", &level_name, e) ||
        !json_get_str(o, "code", &code, e) || !json_get_str(o, "what", &what, e) ||
        !json_get_str(o, "next", &next, e))
        return err_wrap(e, "finding");
    if (!level_parse(level_name, &level, e))
        return false;
    findings_add(f, level, code, next, "%s", what);
    return true;
}

bool findings_from_json(struct findings *f, struct json_object *array, struct err *e)
{
    if (!json_object_is_type(array, json_type_array))
        return err_set(e, ERR_PROTO, 0, "findings are not a list");
    if (json_object_array_length(array) > FINDINGS_MAX)
        return err_set(e, ERR_PROTO, 0, "%zu findings, at most %d are taken",
                       json_object_array_length(array), FINDINGS_MAX);
    for (size_t i = 0; i < json_object_array_length(array); i++)
        if (!one_from_json(f, json_object_array_get_idx(array, i), e))
            return false;
    return true;
}

/* Texts may quote foreign names: cleaned, so that the other side takes them. */
static void add_clean(struct json_object *o, const char *key, const char *text)
{
    char clean[sizeof((struct finding *)0)->what];

    json_add_str(o, key, log_clean(clean, sizeof clean, text));
}

struct json_object *findings_to_json(const struct findings *f)
{
    struct json_object *const array = json_object_new_array();

    for (size_t i = 0; i < f->n; i++) {
        const struct finding *const x = &f->list[i];
        struct json_object *const o = json_new();
        json_add_str(o, "level", level_names[x->level]);
        add_clean(o, "code", x->code);
        add_clean(o, "what", x->what);
        add_clean(o, "next", x->next);
        json_object_array_add(array, o);
    }
    return array;
}

void findings_fini(struct findings *f)
{
    free(f->list);
    memset(f, 0, sizeof *f);
}

void findings_fini_auto(struct findings *f)
{
    findings_fini(f);
}
