/* The ends of an arrival: finished, aborted, left by its source. */
#include <stdio.h>
#include <string.h>

#include "agent/arrival-int.h"
#include "agent/hold.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"

enum {
    DELIVER_IDLE_MS = 30 * 1000
}; /* RAM that QEMU does not take for so long is given up */

bool arrival_finish(struct arrival *a, bool autostart, struct json_object *left,
                    struct err *e)
{
    struct guest_look now;
    struct err why;
    char text[sizeof why.msg + 40];

    LOCK_SCOPE(&a->lock);
    if (arrival_at(a) == ARRIVAL_FINISHED)
        return true;
    if (arrival_at(a) != ARRIVAL_RUNNING)
        return arrival_refuse(a, "finished", e);
    if (autostart &&
        !(arrival_see(a, &now, &why) && a->ops->autostart(a->guest, true, &why))) {
        snprintf(text, sizeof text, "set autostart: %s", why.msg);
        json_object_array_add(left, json_object_new_string(text));
    }
    if (a->hold != NULL)
        hold_stop(a->hold);
    arrival_tokens_remove(a);
    dir_remove(a->ram_dir);
    dir_remove(a->run_dir);
    arrival_leave(a, ARRIVAL_FINISHED);
    return true;
}

/* Whether the guest can have done anything since it came. */
static bool may_have_run(const struct guest_look *l)
{
    if (l->run != VDOM_PAUSED)
        return l->run == VDOM_RUNNING || l->run == VDOM_OTHER;
    return l->why == VDOM_WHY_IOERROR || l->why == VDOM_WHY_CRASHED ||
           l->why == VDOM_WHY_SHUTDOWN || l->why == VDOM_WHY_POSTCOPY;
}

/* The domain that this move brought: it has our uuid and was not active before PUT. */
static bool domain_remove(struct arrival *a, struct err *e)
{
    struct guest_look now;

    if (!arrival_see(a, &now, e))
        return false;
    if (now.run == VDOM_NONE || (now.run == VDOM_OFF && a->defined))
        return true;
    if (may_have_run(&now))
        return err_set(e, ERR_REFUSED, 0, "the domain %s is %s here: it is not removed",
                       a->name, guest_run_name(now.run));
    log_info("guest", "removing the %s domain %s that the move brought",
             guest_run_name(now.run), a->name);
    return a->ops->remove(a->guest, !a->defined, e);
}

static bool abort_locked(struct arrival *a, struct err *e)
{
    if (arrival_at(a) == ARRIVAL_ABORTED)
        return true;
    if (arrival_at(a) >= ARRIVAL_COMMITTED)
        return arrival_refuse(a, "aborted", e);
    a->undone = true;
    if (a->hold != NULL)
        hold_stop(a->hold); /* not a byte more */
    for (size_t i = 0; i < a->n; i++)
        writer_end(&a->writers[i]);
    /* With a domain that is there, or may be, its images stay. */
    return domain_remove(a, e) && arrival_tidy(a, e);
}

bool arrival_abort(struct arrival *a, struct err *e)
{
    LOCK_SCOPE(&a->lock);

    if (!abort_locked(a, e))
        return err_wrap(e, "abort");
    log_info("agent", "aborted: move=%.8s domain=%s", a->id, a->name);
    return true;
}

void arrival_lost(struct arrival *a)
{
    struct err e;

    if (!a->ours)
        return;
    if (arrival_at(a) < ARRIVAL_RELEASED) {
        if (!arrival_abort(a, &e))
            log_warn("agent", "move %.8s: %s", a->id, e.msg);
        return;
    }
    LOCK_SCOPE(&a->lock);
    if (arrival_at(a) < ARRIVAL_FINISHED && a->hold != NULL &&
        !hold_wait(a->hold, DELIVER_IDLE_MS))
        log_warn("agent", "move %.8s: QEMU did not take all of its RAM", a->id);
}
