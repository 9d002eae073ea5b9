/* The guard: outlives a killed or stuck snmigrate and brings the VM to one owner.
 *
 * What it is told, a line each:
 *
 *   {facts}      first
 *   ran, stood   the guest runs, or was paused by its user, as memory begins
 *   downtime N   QEMU's downtime limit in ms, to put back
 *   restore C A  the QMP command and arguments that put back what is now changed (slow.h)
 *   suspending N the guest is about to stop, for N ms at most: a deadline runs
 *   released     the destination may complete
 *   destroying   the source QEMU, left over and complete at the destination, is being ended
 *   undoing      snmigrate is taking it back itself: more time, and never forward
 *   resumed      it runs again on the source: no deadline
 *   committed    the source QEMU is dead, COMMIT is being sent
 *   arrived      COMMIT was answered: only tidying up is left
 *   bye          all is well, end
 *
 * End of file without "bye", or a deadline over (then snmigrate is killed first, so that
 * there is never a second hand): the commit rule.  The source QEMU lives: it is the owner,
 * because the destination starts on COMMIT only and nobody else is left to send one; its
 * job is ended, it is resumed if it ran, what was copied is kept (kept.h), or bitmaps go
 * and the destination is told ABORT.  It is dead and the end of RAM was released: forward, COMMIT until answered. */
#include "migrate/guard.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/unix.h"
#include "migrate/rescue.h"

enum {
    LINE_LEN = 8192,
    SUSPEND_SLACK_MS = PAUSE_SLACK_MS + 300, /* snmigrate's own deadline comes first */
    UNDO_MS = 90000,
    RELEASED_MS = 20000, /* commit.c cancels after 5 s, and libvirt needs its time */
    LIBVIRT_MS = 120000, /* a restarting libvirtd */
};

struct guard {
    struct rescue r;
    struct cancel *never; /* of its move */
    int main_pidfd;
    bool released, arrived, bye;
    int64_t deadline_ms; /* 0: none */
};

/* Descriptors are inherited, those of the lock and of QEMU as well. */
static bool take_facts(struct guard *g, const char *line, struct err *e)
{
    AUTO(json_put) struct json_object *o = NULL;
    uint64_t main_fd, qemu_fd, lock_fd;

    if (!json_parse(line, strlen(line), &o, e) || !rescue_init(&g->r, o, g->never, e) ||
        !json_get_u64(o, "main_fd", &main_fd, e) ||
        !json_get_u64(o, "qemu_fd", &qemu_fd, e) ||
        !json_get_u64(o, "lock_fd", &lock_fd, e))
        return false;
    g->main_pidfd = (int)main_fd;
    g->r.move->qemu_pidfd = (int)qemu_fd;
    g->r.move->lock_fd = (int)lock_fd;
    return true;
}

static void take_word(struct guard *g, const char *word)
{
    const int64_t now = clock_ms();

    if (strcmp(word, "ran") == 0) {
        g->r.move->facts.run = VDOM_RUNNING;
    } else if (strcmp(word, "stood") == 0) {
        g->r.move->facts.run = VDOM_PAUSED;
    } else if (strncmp(word, "downtime ", 9) == 0) {
        g->r.downtime_ms = strtoull(word + 9, NULL, 10);
        g->r.moves_ram = true;
    } else if (strncmp(word, "suspending ", 11) == 0) {
        g->deadline_ms =
            now + (int64_t)strtoull(word + 11, NULL, 10) + SUSPEND_SLACK_MS;
    } else if (strncmp(word, "restore ", 8) == 0) {
        rescue_restore(&g->r, word + 8);
    } else if (strcmp(word, "undoing") == 0) {
        g->released = false;
        g->deadline_ms = now + UNDO_MS;
    } else if (strcmp(word, "resumed") == 0) {
        g->released = g->r.moves_ram = false;
        g->deadline_ms = 0;
    } else if (strcmp(word, "arrived") == 0) {
        g->arrived = true;
    } else if (strcmp(word, "released") == 0) {
        g->released = true;
        g->deadline_ms = now + RELEASED_MS;
    } else if (strcmp(word, "destroying") == 0) {
        g->r.move->source_destroyed = true;
    } else if (strcmp(word, "committed") == 0) {
        g->deadline_ms = 0; /* it asks for as long as it takes */
    } else if (strcmp(word, "bye") == 0) {
        g->bye = true;
    }
}

/* --- one owner --- */

static void go_forward(struct guard *g)
{
    struct move *const m = g->r.move;
    struct err e = { 0 };

    fault_pass("guard.forward");
    if (rescue_forward(&g->r, &e)) {
        fault_pass("guard.arrived");
        rescue_finish(&g->r);
        return;
    }
    log_line(LOG_ERROR, "guard", "%s", e.msg);
    if (e.kind != ERR_GUEST)
        return;
    owner_abort_destination(m);
    rescue_tidy(&g->r);
}

static void rescue(struct guard *g)
{
    struct move *const m = g->r.move;
    struct err e = { 0 };

    log_warn("guard", "snmigrate was killed, or does not answer");
    fault_pass("guard.begin");
    m->released = true; /* nobody can cancel any more, and ABORT is worth a new dial */
    if (!journal_open(m->state_dir, &m->journal, &e))
        log_warn("guard", "journal: %s", e.msg);
    if (g->arrived) {
        rescue_finish(&g->r);
        return;
    }
    if (!proc_ended(m->qemu_pidfd)) {
        if (!owner_source_alive(m, &e) && !owner_source(m, LIBVIRT_MS, &e)) {
            log_line(LOG_ERROR, "guard", "%s", e.msg);
            return;
        }
        fault_pass("guard.resume");
        if (!rescue_take_back(&g->r, &e)) {
            log_line(LOG_ERROR, "guard", "%s: %s", m->facts.name, e.msg);
            return;
        }
        fault_pass("guard.resumed");
    }
    if (proc_ended(m->qemu_pidfd) && g->released) {
        go_forward(g);
        return;
    }
    if (proc_ended(m->qemu_pidfd))
        log_warn("guard", "the guest %s ended by itself", m->facts.name);
    if (!kept_make(m, true))
        owner_abort_destination(m);
    rescue_tidy(&g->r);
}

/* --- listening --- */

static void kill_main(struct guard *g)
{
    struct pollfd p = { .fd = g->main_pidfd, .events = POLLIN };

    log_warn("guard", "snmigrate does not answer and the guest waits: ending it");
    syscall(SYS_pidfd_send_signal, g->main_pidfd, SIGKILL, NULL, 0);
    poll(&p, 1, -1);
}

/* Lines from stdin until end of file, "bye" or the deadline. */
static bool listen_lines(struct guard *g, struct err *e)
{
    char buf[LINE_LEN];
    size_t len = 0;
    struct err se = { 0 };
    bool first = true;

    while (!g->bye) {
        struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
        const int wait = g->deadline_ms != 0 ? clock_left_ms(g->deadline_ms) : -1;
        const int got = poll(&p, 1, wait);

        if (got == 0) {
            kill_main(g);
            return true;
        }
        const ssize_t n = read(STDIN_FILENO, buf + len, sizeof buf - len - 1);
        if (n <= 0)
            return first ? err_set(e, ERR_PROTO, 0, "nothing to guard") : true;
        len += (size_t)n;
        buf[len] = '\0';
        for (char *nl; (nl = strchr(buf, '\n')) != NULL;) {
            *nl = '\0';
            if (first && !take_facts(g, buf, e))
                return false;
            /* Connected beforehand, so that a guest that waits need not wait for that. */
            if (first && (!virt_init(&se) || !owner_source(g->r.move, 0, &se)))
                log_debug("guard", "%s", se.msg);
            if (!first)
                take_word(g, buf);
            first = false;
            len -= (size_t)(nl + 1 - buf);
            memmove(buf, nl + 1, len + 1);
        }
        if (len == sizeof buf - 1)
            return err_set(e, ERR_PROTO, 0, "a line too long");
    }
    return true;
}

int guard_main(void)
{
    static struct guard g = { .main_pidfd = -1 };
    AUTO(cancel_free) struct cancel *never = g.never = cancel_new();
    struct err e = { 0 };

    prctl(PR_SET_NAME, "snmigrate"); /* not "exe" */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    if (never == NULL)
        return 1;
    /* The variable is snmigrate's, whose points the guard passes as well. */
    if (!fault_init_only("guard.", &e) || !listen_lines(&g, &e)) {
        log_line(LOG_ERROR, "guard", "%s", e.msg);
        return 1;
    }
    if (!g.bye) { /* else snmigrate ends all that itself */
        rescue(&g);
        connect_close(g.r.move);
    } else {
        vdom_free(g.r.move->dom);
        virt_close(g.r.move->src);
    }
    rescue_fini(&g.r);
    return 0;
}
