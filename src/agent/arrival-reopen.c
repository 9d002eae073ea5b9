/* A move whose switch was taken back or whose link was lost: parked, and opened again.
 *
 * Between the two, nobody writes its images: the flock on the state directory is held by
 * the agent and, because they inherit it, by its writers, so that whoever gets it knows
 * that the last of them has ended.  What a writer had acknowledged and not flushed may be
 * missing in the image then; the source knows how far it was flushed, and copies the rest
 * again. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/arrival-int.h"
#include "agent/hold.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/journal.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"

enum { TICK_MS = 12 }; /* a jiffy has 10 ms at most */

/* Flushed as they end.  One that was killed may leave a qcow2 image with lost clusters. */
static void writers_stop(struct arrival *a)
{
    struct err why;

    for (size_t i = 0; i < a->n; i++)
        writer_end(&a->writers[i]);
    for (size_t i = 0; i < a->n; i++) {
        if (a->writers[i].proc.pid <= 0)
            continue;
        if (!writer_close(&a->writers[i], &why)) {
            log_warn("agent", "move %.8s: %s", a->id, why.msg);
            a->torn = true;
            writer_kill(&a->writers[i]);
        }
    }
}

static bool park_locked(struct arrival *a, struct err *e)
{
    if (a->hold != NULL)
        hold_stop(a->hold); /* not a byte more */
    writers_stop(a);
    const bool ok = arrival_domain_remove(a, e);
    arrival_tokens_remove(a);
    dir_remove(a->ram_dir);
    dir_remove(a->run_dir);
    return ok;
}

/* Times of files move in ticks: what is written once this one is over has another.  What
 * somebody has written since an earlier mark stays known for that. */
static bool images_mark(struct arrival *a, struct err *e)
{
    for (size_t i = 0; i < a->n; i++) {
        struct image *const im = &a->images[i];
        const struct image_mark was = im->mark;
        const bool written = image_fate(im) == IMAGE_WRITTEN;

        if (im->fd >= 0 && !image_sync(im, e))
            return false;
        if (written)
            im->mark = was;
    }
    clock_sleep_ms(TICK_MS);
    return true;
}

/* What was marked when it was closed has been left since then. */
static bool note_parked(struct arrival *a, struct err *e)
{
    return arrival_at(a) != ARRIVAL_PREPARED ||
           (images_mark(a, e) &&
            journal_step(a->journal, "parked",
                         json_add_obj(json_new(), "disks", arrival_marks(a)), e));
}

void arrival_park(struct arrival *a)
{
    struct err why;

    LOCK_SCOPE(&a->lock);
    if (!park_locked(a, &why) || !note_parked(a, &why))
        log_warn("agent", "move %.8s: %s", a->id, why.msg);
    log_info("agent", "parked: move=%.8s domain=%s", a->id, a->name);
}

static bool may_reopen(const struct arrival *a)
{
    const enum arrival_step at = arrival_at(a);

    return (at == ARRIVAL_PREPARED || at == ARRIVAL_CLOSED) && !a->undone;
}

/* With what every write of somebody else would change from now on.  Of images that are not
 * open what was known stays known. */
static struct json_object *kept_json(const struct arrival *a)
{
    struct json_object *const o = json_add_str(json_new(), "opening", a->opening);

    return json_add_obj(o, "disks", arrival_marks(a));
}

bool arrival_keep(struct arrival *a, struct err *e)
{
    LOCK_SCOPE(&a->lock);

    if (!may_reopen(a))
        return arrival_refuse(a, "kept", e);
    if (!park_locked(a, e) || !images_mark(a, e) || !paths_new_id(a->opening, e) ||
        !journal_step(a->journal, "kept", kept_json(a), e))
        return err_wrap(e, "not kept");
    a->ours = false; /* parked already, when the link ends */
    log_info("agent", "kept: move=%.8s domain=%s", a->id, a->name);
    return true;
}

/* Whether that is the newest opening, but for those that nobody has used: their answers were
 * lost. */
static bool is_newest(const struct arrival *a, const char *opening, struct err *e)
{
    AUTO(json_put) struct json_object *entries = NULL;
    bool used = false;

    if (!journal_read(a->state_dir, &entries, e))
        return false;
    for (size_t i = json_object_array_length(entries); i-- > 0;) {
        struct json_object *const o = json_object_array_get_idx(entries, i);
        const char *s;
        struct err ignored;

        if (json_get_str(o, "step", &s, &ignored) && strcmp(s, "used") == 0)
            used = true;
        if (!json_get_str(o, "opening", &s, &ignored))
            continue;
        if (strcmp(s, opening) == 0)
            return true;
        if (used) /* that one, and the source does not know it */
            break;
    }
    return err_set(e, ERR_REFUSED, ESTALE,
                   "what is here is of another time than the source knows of");
}

/* Before we write: mending does, and so do writers.  A device may have got another use, and
 * would have to be empty for a new move. */
static bool images_look(struct arrival *a, struct err *e)
{
    if (a->used) /* the source knows of what was found before */
        a->changed = false;
    for (size_t i = 0; i < a->n; i++) {
        const struct image *const im = &a->images[i];

        if (!arrival_unowned(a, im, e))
            return false;
        if (image_fate(im) != IMAGE_WRITTEN)
            continue;
        if (im->device)
            return err_set(e, ERR_REFUSED, 0,
                           "disk %s: %s was written after the move had left it",
                           im->target, im->path);
        log_warn("agent", "move %.8s: %s was written since the move had left it", a->id,
                 im->path);
        a->changed = true;
    }
    return true;
}

static bool images_again(struct arrival *a, struct err *e)
{
    /* How the writers of another agent ended is not known. */
    a->torn |= !a->ours;
    for (size_t i = 0; i < a->n; i++)
        if (!image_reopen(&a->images[i], e) ||
            (a->torn && !image_mend(&a->images[i], e)))
            return false;
    a->torn = false;
    return true;
}

static struct json_object *reopened_json(const struct arrival *a)
{
    struct json_object *const o = json_add_str(json_new(), "opening", a->opening);

    return json_add_bool(o, "changed", a->changed);
}

static bool reopen(struct arrival *a, const char *after, struct err *e)
{
    if (after != NULL && !is_newest(a, after, e))
        return false;
    if (a->hold != NULL)
        hold_stop(a->hold);
    writers_stop(a);
    /* The images of a guest that may have run here are not written again. */
    if (!arrival_domain_remove(a, e) || !fault_point("agent.reopen", e))
        return false;
    if (!images_look(a, e) || !images_again(a, e) || !paths_new_id(a->opening, e) ||
        !journal_step(a->journal, "reopened", reopened_json(a), e))
        return false;
    for (size_t i = 0; i < a->n; i++)
        a->images[i].mark.known = false; /* from here on we write */
    if (arrival_at(a) == ARRIVAL_CLOSED)
        arrival_move(a, ARRIVAL_PREPARED);
    a->used = false;
    a->ours = true;
    return arrival_dirs_make(a, e) && arrival_writers_start(a, e);
}

bool arrival_reopen(struct arrival *a, const char *after, struct err *e)
{
    LOCK_SCOPE(&a->lock);

    if (!may_reopen(a))
        return arrival_refuse(a, "opened again", e);
    if (!reopen(a, after, e))
        return err_wrap(e, "not opened again");
    log_info("agent", "opened again: move=%.8s domain=%s", a->id, a->name);
    return true;
}
