/* RELEASED to RUNNING: the only code of snmigrate that starts a guest at the destination. */
#include <stdio.h>
#include <string.h>

#include "agent/arrival-int.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"

enum {
    READY_MS = 20 * 1000, /* for the end of the migration in libvirt */
    POLL_MS = 5,          /* inside the guest's pause; events usually come before */
    RESUME_MS = 5000,     /* a lock on an image may be let go of a moment late */
    RESUME_AGAIN_MS = 20,
    REOPEN_MS = 50, /* libvirtd restarts */
};

/* Nothing can be waited for any more.  Before "committed" that is a failure; after it the
 * guest may have been started, the answer lost, and the guest ended: it is what it is. */
static bool is_settled(const struct arrival *a, const struct guest_look *now)
{
    return guest_is_ready(now) || now->run == VDOM_RUNNING ||
           (arrival_at(a) == ARRIVAL_COMMITTED &&
            (now->run == VDOM_NONE || now->run == VDOM_OFF || guest_has_run(now)));
}

/* Wait until the guest is loaded and nothing of the migration is under way. */
static bool wait_ready(struct arrival *a, struct guest_look *now, struct err *e)
{
    const int64_t end = clock_ms() + READY_MS;
    struct err why = { 0 };

    do {
        if (!arrival_see(a, now, &why)) {
            clock_sleep_ms(REOPEN_MS);
            continue;
        }
        if (is_settled(a, now))
            return true;
        if (now->run == VDOM_NONE || now->run == VDOM_OFF)
            return err_set(e, ERR_GUEST, 0, "the domain %s is %s at the destination",
                           a->name, now->run == VDOM_OFF ? "off" : "gone");
        err_set(&why, ERR_TIMEOUT, 0, "the domain %s is %s%s", a->name,
                guest_run_name(now->run), now->job ? ", in a migration" : "");
        a->ops->wait(a->guest, POLL_MS);
    } while (clock_left_ms(end) > 0);
    *e = why;
    return err_wrap(e, "not loaded after %d ms", READY_MS);
}

/* *now: as it is then. */
static bool resume(struct arrival *a, struct guest_look *now, struct err *e)
{
    const int64_t end = clock_ms() + RESUME_MS;
    struct err why;

    while (!arrival_guest(a, e) || !a->ops->resume(a->guest, e)) {
        /* An answer that was lost may have been "done". */
        if (arrival_see(a, now, &why) && now->run == VDOM_RUNNING)
            return true;
        if (clock_left_ms(end) == 0)
            return err_wrap(e, "cannot start %s", a->name);
        log_debug("guest", "starting again: %s", e->msg);
        clock_sleep_ms(RESUME_AGAIN_MS);
    }
    if (!arrival_see(a, now, &why)) {
        log_warn("guest", "started; its state is not known: %s", why.msg);
        now->run = VDOM_RUNNING;
    }
    return true;
}

/* The guest runs, and the source is to hear so, whatever becomes of the entry: a later
 * agent finds "committed" and looks at the domain. */
static void enter_running(struct arrival *a)
{
    struct json_object *const more = json_add_str(json_new(), "state", a->ran_state);
    struct err why = { 0 };

    json_add_u64(more, "ms", a->ran_ms);
    if (arrival_enter(a, ARRIVAL_RUNNING, more, &why))
        return;
    log_warn("agent", "move %.8s: %s is %s, which is not written down: %s", a->id,
             a->name, a->ran_state, why.msg);
    arrival_move(a, ARRIVAL_RUNNING);
}

void arrival_want_marks(struct arrival *a)
{
    LOCK_SCOPE(&a->lock);
    a->want_marks = true;
}

/* Inside the guest's pause, because libvirt lets nobody speak to an incoming QEMU. */
static void mark(struct arrival *a)
{
    const int64_t begin = clock_ms();

    if (!a->want_marks || a->marked)
        return;
    a->marked = a->ops->mark(a->guest, a->id, &a->unmarked);
    log_debug("guest", "its writes are%s marked, which took %lldms",
              a->marked ? "" : " not", (long long)(clock_ms() - begin));
}

static bool commit(struct arrival *a, bool run, int64_t since_ms, struct err *e)
{
    struct guest_look now = { 0 };

    if (!wait_ready(a, &now, e))
        return false;
    if (arrival_at(a) == ARRIVAL_RELEASED &&
        !arrival_enter(a, ARRIVAL_COMMITTED, json_add_bool(json_new(), "run", run), e))
        return false;
    if (!fault_point("agent.committed", e))
        return false;
    if (guest_is_ready(&now))
        mark(a);
    if (run && guest_is_ready(&now) && !resume(a, &now, e))
        return false;
    if (run && now.run != VDOM_RUNNING)
        log_warn("guest", "%s was to run and is %s", a->name, guest_run_name(now.run));
    a->ran_ms = (uint64_t)(clock_ms() - since_ms);
    snprintf(a->ran_state, sizeof a->ran_state, "%s", guest_run_name(now.run));
    enter_running(a);
    return fault_point("agent.running", e);
}

static bool runs(struct arrival *a, struct err *e)
{
    LOCK_SCOPE(&a->lock);

    return arrival_at(a) == ARRIVAL_RUNNING || arrival_refuse(a, "greeted", e);
}

static void add_text(struct json_object *list, const char *s)
{
    json_object_array_add(list, json_object_new_string(s));
}

bool arrival_greet(struct arrival *a, bool set_time, struct json_object *done,
                   struct json_object *failed, struct err *e)
{
    struct guest *g = NULL;
    struct err why = { 0 };

    /* A connection of our own, since no lock is held. */
    if (!runs(a, e) || !a->ops->open(a->uuid, &g, e))
        return false;
    if (a->ops->announce(g, &why))
        add_text(done, "its network addresses were announced again");
    else
        add_text(failed, (err_wrap(&why, "network not announced again"), why.msg));
    if (set_time && a->ops->sync_time(g, &why))
        add_text(done, "its clock was set by the guest agent");
    else if (set_time)
        add_text(failed, (err_wrap(&why, "clock not set"), why.msg));
    a->ops->close(g);
    return true;
}

bool arrival_commit(struct arrival *a, bool run, int64_t since_ms, struct err *e)
{
    LOCK_SCOPE(&a->lock);

    switch (arrival_at(a)) {
    case ARRIVAL_RUNNING:
    case ARRIVAL_FINISHED:
        return true;
    case ARRIVAL_RELEASED:
    case ARRIVAL_COMMITTED:
        break;
    default:
        return arrival_refuse(a, "committed", e);
    }
    if (!commit(a, run, since_ms, e))
        return err_wrap(e, "commit");
    log_info("guest", "committed: domain=%s state=%s took=%llums", a->name,
             a->ran_state, (unsigned long long)a->ran_ms);
    return true;
}
