/* The channels of an arrival, and PREPARED to CLOSED to RELEASED. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/arrival-int.h"
#include "agent/digests.h"
#include "agent/hold.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/journal.h"
#include "base/log.h"
#include "base/mem.h"

/* ---- disks ----------------------------------------------------------------------------- */

/* The writer of that disk; NULL and *e: there is none now. */
static const struct writer *writer_of(const struct arrival *a, const char *target,
                                      const char *what, struct err *e)
{
    if (arrival_at(a) != ARRIVAL_PREPARED || !a->ours) {
        arrival_refuse(a, what, e);
        return NULL;
    }
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->writers[i].target, target) == 0)
            return &a->writers[i];
    err_set(e, ERR_REFUSED, 0, "move %.8s has no disk %.40s", a->id, target);
    return NULL;
}

bool arrival_disk(struct arrival *a, const char *target, int *fd, struct err *e)
{
    LOCK_SCOPE(&a->lock);

    const struct writer *const w = writer_of(a, target, "written to", e);
    if (w == NULL || (!a->used && !journal_step(a->journal, "used", NULL, e)))
        return false;
    a->used = true;
    return writer_connect(w, fd, e);
}

bool arrival_digest(struct arrival *a, const char *target, int *fd, struct err *e)
{
    LOCK_SCOPE(&a->lock);

    const struct writer *const w = writer_of(a, target, "digested", e);
    return w != NULL && digests_open(w->sock, "", fd, e);
}

/* All are told to end, then each is waited for; the first failure wins. */
static bool writers_close(struct arrival *a, struct err *e)
{
    bool ok = true;

    for (size_t i = 0; i < a->n; i++)
        writer_end(&a->writers[i]);
    for (size_t i = 0; i < a->n; i++) {
        struct err why;

        if (writer_close(&a->writers[i], &why))
            continue;
        a->torn = true;
        writer_kill(&a->writers[i]);
        if (ok)
            *e = why;
        ok = false;
    }
    return ok;
}

bool arrival_close(struct arrival *a, struct err *e)
{
    LOCK_SCOPE(&a->lock);

    if (arrival_at(a) >= ARRIVAL_CLOSED && arrival_at(a) != ARRIVAL_ABORTED)
        return true;
    if (arrival_at(a) != ARRIVAL_PREPARED || !a->ours)
        return arrival_refuse(a, "closed", e);
    const int64_t t0 = clock_ms();
    if (!fault_point("agent.close", e) || !writers_close(a, e))
        return err_wrap(e, "not closed");
    const int64_t t1 = clock_ms();
    for (size_t i = 0; i < a->n; i++)
        if (!image_sync(&a->images[i], e))
            return err_wrap(e, "not closed");
    arrival_tokens_remove(a);
    log_debug("disks", "closed: writers=%lldms sync=%lldms", (long long)(t1 - t0),
              (long long)(clock_ms() - t1));
    /* For abort, which must be able to tell whether the guest has run here. */
    struct json_object *const more =
        json_add_obj(json_new(), "disks", arrival_marks(a));
    return arrival_enter(a, ARRIVAL_CLOSED, more, e) && fault_point("agent.closed", e);
}

/* ---- RAM ------------------------------------------------------------------------------- */

static bool ram_over(struct hold *h)
{
    struct hold_stats s;

    hold_stats(h, &s);
    return s.state == HOLD_OVER;
}

/* The incoming domain is there; look at it while the guest still runs at the source, so that
 * COMMIT finds the connection and the domain at hand. */
static void know_guest(struct arrival *a)
{
    struct guest_look now;
    struct err why;

    if (!arrival_see(a, &now, &why))
        log_warn("agent", "looking at the incoming domain: %s", why.msg);
}

bool arrival_ram(struct arrival *a, uint64_t stream, int *fd, struct err *e)
{
    char sock[PATHS_SOCK_MAX];
    struct hold *h = NULL;

    LOCK_SCOPE(&a->lock);
    if ((arrival_at(a) != ARRIVAL_PREPARED && arrival_at(a) != ARRIVAL_CLOSED) ||
        !a->ours)
        return arrival_refuse(a, "given RAM", e);
    if (a->hold != NULL && (!ram_over(a->hold) || stream <= a->stream))
        return err_set(e, ERR_REFUSED, 0,
                       "RAM stream %llu of move %.8s is not over, or has that number",
                       (unsigned long long)a->stream, a->id);
    paths_ram_sock(sock, a->id, a->name);
    const struct hold_cfg cfg = { .sock = sock, .dir = a->state_dir };
    if (!fault_point("agent.ram", e) || !hold_open(&cfg, fd, &h, e))
        return false;

    pthread_mutex_lock(&a->ram_lock);
    struct hold *const old = a->hold;
    a->hold = h;
    a->stream = stream;
    pthread_mutex_unlock(&a->ram_lock);
    hold_free(old);
    know_guest(a);
    return true;
}

bool arrival_ram_limit(struct arrival *a, uint64_t stream, uint64_t bytes,
                       struct hold_stats *now, struct err *e)
{
    LOCK_SCOPE(&a->ram_lock);

    /* A number that was meant for an earlier stream would let the end of this one pass. */
    if (a->hold == NULL || a->stream != stream)
        return err_set(e, ERR_REFUSED, 0, "move %.8s has no RAM stream %llu", a->id,
                       (unsigned long long)stream);
    hold_limit(a->hold, bytes);
    hold_stats(a->hold, now);
    if (now->state != HOLD_OVER || now->err.kind == ERR_NONE)
        return true;
    err_set(e, ERR_REFUSED, 0, "the RAM stream is over: %s", now->err.msg);
    e->os = EPIPE;
    return false;
}

bool arrival_release(struct arrival *a, struct err *e)
{
    LOCK_SCOPE(&a->lock);

    const enum arrival_step at = arrival_at(a);
    if (at > ARRIVAL_RELEASED && at != ARRIVAL_ABORTED)
        return true;
    if ((at != ARRIVAL_CLOSED && at != ARRIVAL_RELEASED) || !a->ours)
        return arrival_refuse(a, "released", e);
    if (a->hold == NULL || (at == ARRIVAL_CLOSED && ram_over(a->hold)))
        return err_set(e, ERR_REFUSED, 0, "move %.8s has no RAM stream to release",
                       a->id);
    if (at == ARRIVAL_CLOSED && !arrival_enter(a, ARRIVAL_RELEASED, NULL, e))
        return false;
    return fault_point("agent.released", e) && hold_release(a->hold, e);
}
