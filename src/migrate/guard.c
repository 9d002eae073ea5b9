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
 *   undoing      snmigrate is taking it back itself: more time, and never forward
 *   resumed      it runs again on the source: no deadline
 *   committed    the source QEMU is dead, COMMIT is being sent
 *   arrived      COMMIT was answered: only tidying up is left
 *   bye          all is well, end
 *
 * End of file without "bye", or a deadline over (then snmigrate is killed first, so that
 * there is never a second hand): the commit rule.  The source QEMU lives: it is the owner,
 * because the destination starts on COMMIT only and nobody else is left to send one; its
 * job is ended, it is resumed if it ran, bitmaps and exports go, the destination is told
 * ABORT.  It is dead and the end of RAM was released: forward, COMMIT until answered. */
#include "migrate/guard.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/unix.h"
#include "migrate/move-int.h"

enum {
    LINE_LEN = 8192,
    SUSPEND_SLACK_MS = PAUSE_SLACK_MS + 300, /* snmigrate's own deadline comes first */
    UNDO_MS = 90000,
    RELEASED_MS = 20000, /* commit.c cancels after 5 s, and libvirt needs its time */
    LIBVIRT_MS = 120000, /* a restarting libvirtd */
};

struct guard {
    struct move_cfg cfg;
    char connect[256], destination[512], ssh[2048];
    struct move *move;
    int main_pidfd;
    bool released, arrived, bye;
    uint64_t downtime_ms; /* 0: never changed */
    char *restore[DOMXML_DISKS_MAX + 1];
    size_t nrestore;
    int64_t deadline_ms; /* 0: none */
};

static void copy_text(char *dst, size_t size, const char *src)
{
    snprintf(dst, size, "%s", src);
}

static bool take_numbers(struct guard *g, struct json_object *o, struct err *e)
{
    uint64_t main_fd, qemu_fd, budget, lock_fd;
    bool was_running, persistent, autostart, keep, set_time;
    struct move *const m = g->move;

    if (!json_get_u64(o, "main_fd", &main_fd, e) ||
        !json_get_u64(o, "qemu_fd", &qemu_fd, e) ||
        !json_get_u64(o, "lock_fd", &lock_fd, e) ||
        !json_get_u64(o, "budget_ms", &budget, e) ||
        !json_get_bool(o, "was_running", &was_running, e) ||
        !json_get_bool(o, "persistent", &persistent, e) ||
        !json_get_bool(o, "autostart", &autostart, e) ||
        !json_get_bool(o, "set_time", &set_time, e) ||
        !json_get_bool(o, "keep_source", &keep, e))
        return false;
    g->cfg.max_downtime_ms = budget;
    g->cfg.keep_source = keep;
    g->cfg.set_time = set_time;
    m->facts.run = was_running ? VDOM_RUNNING : VDOM_PAUSED;
    m->facts.persistent = persistent;
    m->facts.autostart = autostart;
    g->main_pidfd = (int)main_fd; /* inherited, as the lock is */
    m->qemu_pidfd = (int)qemu_fd;
    m->lock_fd = (int)lock_fd;
    return true;
}

static bool take_facts(struct guard *g, const char *line, struct err *e)
{
    AUTO(json_put) struct json_object *o = NULL;
    const char *id, *uuid, *name, *connect, *destination, *ssh;
    struct move *const m = g->move;

    if (!json_parse(line, strlen(line), &o, e) || !json_get_str(o, "id", &id, e) ||
        !json_get_str(o, "uuid", &uuid, e) || !json_get_str(o, "name", &name, e) ||
        !json_get_str(o, "connect", &connect, e) || !json_get_str(o, "ssh", &ssh, e) ||
        !json_get_str(o, "destination", &destination, e))
        return false;
    copy_text(m->id, sizeof m->id, id);
    copy_text(m->facts.uuid, sizeof m->facts.uuid, uuid);
    copy_text(m->facts.name, sizeof m->facts.name, name);
    copy_text(g->connect, sizeof g->connect, connect);
    copy_text(g->destination, sizeof g->destination, destination);
    copy_text(g->ssh, sizeof g->ssh, ssh);
    g->cfg.connect = connect[0] != '\0' ? g->connect : NULL;
    g->cfg.ssh = ssh[0] != '\0' ? g->ssh : NULL;
    g->cfg.dest_text = g->destination;
    paths_run_dir(m->run_dir, m->id);
    paths_state_dir(m->state_dir, m->id);
    return dest_parse(destination, &g->cfg.dest, e) && take_numbers(g, o, e);
}

static void take_word(struct guard *g, const char *word)
{
    const int64_t now = clock_ms();

    if (strcmp(word, "ran") == 0) {
        g->move->facts.run = VDOM_RUNNING;
    } else if (strcmp(word, "stood") == 0) {
        g->move->facts.run = VDOM_PAUSED;
    } else if (strncmp(word, "downtime ", 9) == 0) {
        g->downtime_ms = strtoull(word + 9, NULL, 10);
    } else if (strncmp(word, "suspending ", 11) == 0) {
        g->deadline_ms =
            now + (int64_t)strtoull(word + 11, NULL, 10) + SUSPEND_SLACK_MS;
    } else if (strncmp(word, "restore ", 8) == 0) {
        if (g->nrestore < sizeof g->restore / sizeof g->restore[0])
            g->restore[g->nrestore++] = strdup(word + 8);
    } else if (strcmp(word, "undoing") == 0) {
        g->released = false;
        g->deadline_ms = now + UNDO_MS;
    } else if (strcmp(word, "resumed") == 0) {
        g->released = false;
        g->deadline_ms = 0;
    } else if (strcmp(word, "arrived") == 0) {
        g->arrived = true;
    } else if (strcmp(word, "released") == 0) {
        g->released = true;
        g->deadline_ms = now + RELEASED_MS;
    } else if (strcmp(word, "committed") == 0) {
        g->deadline_ms = 0; /* it asks for as long as it takes */
    } else if (strcmp(word, "bye") == 0) {
        g->bye = true;
    }
}

/* --- one owner --- */

static void tidy_source(struct move *m)
{
    char dir[PATHS_MAX];

    journal_close(m->journal);
    m->journal = NULL;
    journal_remove(m->state_dir);
    paths_ram_dir(dir, m->id);
    dir_remove(dir);
}

/* false: libvirt cannot say where the guest stands; everything is left as it is. */
static bool take_back(struct guard *g)
{
    struct move *const m = g->move;
    struct err e = { 0 };

    if (!owner_take_back(m, &e)) {
        log_line(LOG_ERROR, "guard", "%s: %s", m->facts.name, e.msg);
        return false;
    }
    if (proc_ended(m->qemu_pidfd))
        return true;
    log_warn("guard", "snmigrate was killed: %s stays on this host", m->facts.name);
    if (!blk_cleanup(m->dom, m->id, &e))
        log_warn("guard", "cleaning up in QEMU: %s", e.msg);
    if (g->downtime_ms != 0 && !vdom_set_max_downtime(m->dom, g->downtime_ms, &e))
        log_debug("guard", "downtime limit: %s", e.msg);
    /* The first that was told of a thing is what was there at first. */
    for (size_t i = g->nrestore; i-- > 0;)
        if (g->restore[i] != NULL && !slow_restore(m->dom, g->restore[i], &e))
            log_warn("guard", "the guest may still be slowed: %s", e.msg);
    return true;
}

static void finish(struct move *m)
{
    char dir[PATHS_MAX];
    struct err e = { 0 };

    log_warn("guard", "%s runs on %s", m->facts.name, m->cfg->dest.host);
    m->committed = true;
    if (m->link == NULL && !connect_redial(m, &e))
        log_warn("guard", "cannot reach %s: %s", m->cfg->dest.host, e.msg);
    if (!finish_run(m, &e))
        log_warn("guard", "%s", e.msg);
    paths_ram_dir(dir, m->id);
    dir_remove(dir);
}

static void go_forward(struct move *m)
{
    struct err e = { 0 };

    log_warn("guard", "snmigrate was killed: %s goes on to %s", m->facts.name,
             m->cfg->dest.host);
    if (commit_forward(m, &e)) {
        finish(m);
        return;
    }
    log_line(LOG_ERROR, "guard", "%s", e.msg);
    if (e.kind != ERR_GUEST)
        return;
    owner_abort_destination(m);
    tidy_source(m);
}

static void rescue(struct guard *g)
{
    struct move *const m = g->move;
    struct err e = { 0 };

    m->released = true; /* nobody can cancel any more, and ABORT is worth a new dial */
    if (!journal_open(m->state_dir, &m->journal, &e))
        log_warn("guard", "journal: %s", e.msg);
    if (g->arrived) {
        finish(m);
        return;
    }
    if (!proc_ended(m->qemu_pidfd)) {
        if (!owner_source_alive(m, &e) && !owner_source(m, LIBVIRT_MS, &e)) {
            log_line(LOG_ERROR, "guard", "%s", e.msg);
            return;
        }
        if (!take_back(g))
            return;
    }
    if (proc_ended(m->qemu_pidfd) && g->released) {
        go_forward(m);
        return;
    }
    if (proc_ended(m->qemu_pidfd))
        log_warn("guard", "the guest %s ended by itself", m->facts.name);
    owner_abort_destination(m);
    tidy_source(m);
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
            if (first && (!virt_init(&se) || !owner_source(g->move, 0, &se)))
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
    AUTO(cancel_free) struct cancel *never = cancel_new();
    struct err e = { 0 };

    prctl(PR_SET_NAME, "snmigrate"); /* not "exe" */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    g.cfg.domain = "";
    g.cfg.dest_text = "";
    g.move = move_new(&g.cfg, never);
    if (g.move == NULL)
        return 1;
    if (!listen_lines(&g, &e)) {
        log_line(LOG_ERROR, "guard", "%s", e.msg);
        return 1;
    }
    if (!g.bye) { /* else snmigrate ends all that itself */
        rescue(&g);
        connect_close(g.move);
    }
    move_free(g.move);
    return 0;
}
