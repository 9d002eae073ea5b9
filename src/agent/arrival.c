#include "agent/arrival.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/arrival-int.h"
#include "agent/hold.h"
#include "base/journal.h"
#include "base/log.h"
#include "base/mem.h"

/* clang-format off */
#define TO(s) (1u << ARRIVAL_##s)
static const struct { const char *name; unsigned next; } steps[] = {
    [ARRIVAL_NEW]       = { "new",       TO(PREPARED)  | TO(ABORTED) },
    [ARRIVAL_PREPARED]  = { "prepared",  TO(CLOSED)    | TO(ABORTED) },
    [ARRIVAL_CLOSED]    = { "closed",    TO(PREPARED)  | TO(RELEASED)  | TO(ABORTED) },
    [ARRIVAL_RELEASED]  = { "released",  TO(COMMITTED) | TO(ABORTED) },
    [ARRIVAL_COMMITTED] = { "committed", TO(RUNNING) },
    [ARRIVAL_RUNNING]   = { "running",   TO(FINISHED) },
    [ARRIVAL_FINISHED]  = { "finished",  0 },
    [ARRIVAL_ABORTED]   = { "aborted",   0 },
};
/* clang-format on */
static_assert(sizeof steps / sizeof steps[0] == ARRIVAL_STEPS,
              "steps[] and enum arrival_step differ");

const char *arrival_step_name(enum arrival_step step)
{
    return steps[step].name;
}

enum arrival_step arrival_at(const struct arrival *a)
{
    return (enum arrival_step)atomic_load(&a->step);
}

void arrival_move(struct arrival *a, enum arrival_step to)
{
    assert(steps[arrival_at(a)].next & 1u << to);
    atomic_store(&a->step, to); /* the only change, but for arrival_new() */
}

bool arrival_refuse(const struct arrival *a, const char *what, struct err *e)
{
    return err_set(e, ERR_REFUSED, 0, "move %.8s is %s: it cannot be %s", a->id,
                   arrival_step_name(arrival_at(a)), what);
}

struct arrival *arrival_new(const char *id, const struct guest_ops *ops,
                            enum arrival_step step)
{
    struct arrival *const a = calloc(1, sizeof *a);

    if (a == NULL)
        return NULL;
    snprintf(a->id, sizeof a->id, "%s", id);
    paths_state_dir(a->state_dir, id);
    paths_run_dir(a->run_dir, id);
    paths_ram_dir(a->ram_dir, id);
    a->ops = ops;
    a->lock_fd = -1;
    atomic_init(&a->step, step);
    pthread_mutex_init(&a->lock, NULL);
    pthread_mutex_init(&a->ram_lock, NULL);
    for (size_t i = 0; i < ARRIVAL_DISKS; i++) {
        a->images[i].dirfd = a->images[i].fd = -1;
        a->writers[i] = (struct writer)WRITER_NONE;
    }
    return a;
}

void arrival_free(struct arrival *a)
{
    if (a == NULL)
        return;
    hold_free(a->hold);
    for (size_t i = 0; i < a->n; i++) {
        writer_kill(&a->writers[i]);
        image_close(&a->images[i]);
    }
    a->ops->close(a->guest);
    journal_close(a->journal);
    fd_close_auto(&a->lock_fd);
    pthread_mutex_destroy(&a->lock);
    pthread_mutex_destroy(&a->ram_lock);
    free(a);
}

void arrival_free_auto(struct arrival **a)
{
    arrival_free(*a);
}

static bool uuid_ok(const char *s)
{
    size_t n = 0;

    for (; s[n] != '\0'; n++)
        if (n == 8 || n == 13 || n == 18 || n == 23 ? s[n] != '-'
                                                    : !isxdigit((unsigned char)s[n]))
            return false;
    return n == 36;
}

static bool name_ok(const struct arrival *a, const char *name)
{
    return name[0] != '\0' && strlen(name) < sizeof a->name;
}

bool arrival_rename(struct arrival *a, const char *name, struct err *e)
{
    LOCK_SCOPE(&a->lock);

    if (!name_ok(a, name))
        return err_set(e, ERR_PROTO, 0, "that is no domain's name");
    snprintf(a->name, sizeof a->name, "%s", name);
    return true;
}

bool arrival_set_names(struct arrival *a, struct json_object *o, struct err *e)
{
    const char *name, *uuid, *source;

    if (!json_get_str(o, "name", &name, e) || !json_get_str(o, "uuid", &uuid, e) ||
        !json_get_str(o, "source", &source, e))
        return false;
    if (!name_ok(a, name) || strlen(source) >= sizeof a->source || !uuid_ok(uuid))
        return err_set(e, ERR_PROTO, 0, "name, uuid or source is not one");
    snprintf(a->name, sizeof a->name, "%s", name);
    snprintf(a->source, sizeof a->source, "%s", source);
    snprintf(a->uuid, sizeof a->uuid, "%s", uuid);
    return true;
}

/* Two disks on one file would destroy each other, and writers are told apart by target. */
static bool images_differ(const struct arrival *a, struct err *e)
{
    for (size_t i = 0; i < a->n; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(a->images[i].path, a->images[j].path) == 0 ||
                strcmp(a->images[i].target, a->images[j].target) == 0)
                return err_set(e, ERR_REFUSED, 0, "disks %s and %s have one path",
                               a->images[j].target, a->images[i].target);
    return true;
}

bool arrival_set_disks(struct arrival *a, struct json_object *o,
                       bool (*get)(struct json_object *, struct image *, struct err *),
                       struct err *e)
{
    struct json_object *list;

    if (!json_get_array(o, "disks", &list, e))
        return false;
    if (json_object_array_length(list) > ARRIVAL_DISKS)
        return err_set(e, ERR_REFUSED, 0, "more than %d disks", ARRIVAL_DISKS);
    for (size_t i = 0; i < json_object_array_length(list); i++, a->n++)
        if (!get(json_object_array_get_idx(list, i), &a->images[i], e))
            return false;
    return images_differ(a, e);
}

bool arrival_parse(const char *id, const struct guest_ops *ops,
                   struct json_object *body, struct arrival **out, struct err *e)
{
    AUTO(arrival_free) struct arrival *a = arrival_new(id, ops, ARRIVAL_NEW);

    if (a == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "move");
    a->ours = true;
    if (!arrival_set_names(a, body, e) || !arrival_set_disks(a, body, image_parse, e))
        return false;
    *out = ptr_steal(&a);
    return true;
}

bool arrival_guest(struct arrival *a, struct err *e)
{
    return a->guest != NULL || a->ops->open(a->uuid, &a->guest, e);
}

bool arrival_see(struct arrival *a, struct guest_look *now, struct err *e)
{
    const bool was_open = a->guest != NULL;

    if (arrival_guest(a, e) && a->ops->look(a->guest, now, e))
        return true;
    a->ops->close(a->guest);
    a->guest = NULL;
    return was_open && arrival_see(a, now, e);
}

bool arrival_look(const struct arrival *a, struct guest_look *out, struct err *e)
{
    struct guest *g;

    if (!a->ops->open(a->uuid, &g, e))
        return false;
    const bool ok = a->ops->look(g, out, e);
    a->ops->close(g);
    return ok;
}
