/* The guard: outlives a killed or stuck snmigrate and brings the VM to one owner.
 *
 * What it is told, a line each:
 *
 *   {facts}      first
 *   suspending   the guest is about to stop: a deadline runs
 *   undoing      snmigrate is taking it back itself: more time
 *   resumed      it runs again on the source: no deadline
 *   released     the destination may complete
 *   committed    the source QEMU is dead, COMMIT is being sent
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
    JOB_MS = 60000,
    NUDGE_MS = 1000,
};

struct guard {
    struct move_cfg cfg;
    char connect[256], destination[512], ssh[2048];
    struct move *move;
    int main_pidfd;
    bool released, bye;
    int64_t deadline_ms; /* 0: none */
};

static void copy_text(char *dst, size_t size, const char *src)
{
    snprintf(dst, size, "%s", src);
}

static bool take_numbers(struct guard *g, struct json_object *o, struct err *e)
{
    uint64_t main_pid, qemu_pid, budget, lock_fd;
    bool was_running, persistent, autostart, keep;
    struct move *const m = g->move;

    if (!json_get_u64(o, "main_pid", &main_pid, e) ||
        !json_get_u64(o, "qemu_pid", &qemu_pid, e) ||
        !json_get_u64(o, "lock_fd", &lock_fd, e) ||
        !json_get_u64(o, "budget_ms", &budget, e) ||
        !json_get_bool(o, "was_running", &was_running, e) ||
        !json_get_bool(o, "persistent", &persistent, e) ||
        !json_get_bool(o, "autostart", &autostart, e) ||
        !json_get_bool(o, "keep_source", &keep, e))
        return false;
    g->cfg.max_downtime_ms = budget;
    g->cfg.keep_source = keep;
    m->facts.run = was_running ? VDOM_RUNNING : VDOM_PAUSED;
    m->facts.persistent = persistent;
    m->facts.autostart = autostart;
    m->facts.pid = (pid_t)qemu_pid;
    m->lock_fd = (int)lock_fd;
    return proc_open((pid_t)main_pid, &g->main_pidfd, e) &&
           proc_open((pid_t)qemu_pid, &m->qemu_pidfd, e);
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

    if (strcmp(word, "suspending") == 0) {
        g->deadline_ms = now + (int64_t)g->cfg.max_downtime_ms + SUSPEND_SLACK_MS;
    } else if (strcmp(word, "undoing") == 0) {
        g->deadline_ms = now + UNDO_MS;
    } else if (strcmp(word, "resumed") == 0) {
        g->deadline_ms = 0;
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

static bool open_source(struct move *m, struct err *e)
{
    const int64_t end = clock_ms() + LIBVIRT_MS;

    for (;;) {
        if (virt_open(m->cfg->connect, &m->src, e) &&
            vdom_find_uuid(m->src, m->facts.uuid, &m->dom, e)) {
            if (m->dom != NULL)
                return true;
            return err_set(e, ERR_VIRT, 0, "the domain %s is gone", m->facts.name);
        }
        virt_close(m->src);
        m->src = NULL;
        if (clock_ms() >= end)
            return false;
        clock_sleep_ms(500);
    }
}

/* libvirt drops the job when its client dies and the stream breaks; an abort helps it on.
 * A guest whose migration QEMU calls failed runs again at once. */
static void end_job(struct move *m)
{
    const int64_t start = clock_ms();
    bool active = true, nudged = false, cont = false;
    struct err e = { 0 };
    struct vram v;

    while (clock_ms() - start < JOB_MS && !proc_ended(m->qemu_pidfd)) {
        if (vdom_job_active(m->dom, &active, &e) && !active)
            return;
        if (!cont && m->facts.run == VDOM_RUNNING && vdom_ram(m->dom, &v, &e) &&
            (v.status == VRAM_FAILED || v.status == VRAM_CANCELLED))
            cont = vdom_qmp(m->dom, "cont", NULL, NULL, &e);
        if (!nudged && clock_ms() - start > NUDGE_MS) {
            nudged = true;
            if (!vdom_job_abort(m->dom, &e))
                log_line(LOG_DEBUG, "guard", "abort: %s", e.msg);
        }
        clock_sleep_ms(20);
    }
}

static void resume_source(struct move *m)
{
    const int64_t end = clock_ms() + JOB_MS;
    struct err e = { 0 };
    enum vdom_run run;
    enum vdom_why why;

    while (m->facts.run == VDOM_RUNNING && clock_ms() < end &&
           !proc_ended(m->qemu_pidfd)) {
        if (vdom_state(m->dom, &run, &why, &e) &&
            (run != VDOM_PAUSED || vdom_resume(m->dom, &e)))
            return;
        clock_sleep_ms(200);
    }
}

static void tell_abort(struct move *m)
{
    struct err e = { 0 };
    char path[64];

    snprintf(path, sizeof path, "/moves/%s", m->id);
    if (!connect_redial(m, &e) ||
        !link_call(m->link, "DELETE", path, NULL, CLOSE_MS, NULL, NULL, &e))
        log_warn("guard", "%s could not be tidied up (%s): the next move of %s does it",
                 m->cfg->dest.host, e.msg, m->facts.name);
}

static void tidy_source(struct move *m)
{
    char dir[PATHS_MAX];

    journal_close(m->journal);
    m->journal = NULL;
    journal_remove(m->state_dir);
    paths_ram_dir(dir, m->id);
    dir_remove(dir);
}

static void take_back(struct move *m)
{
    struct err e = { 0 };

    resume_source(m);
    log_warn("guard", "snmigrate was killed: %s stays on this host", m->facts.name);
    if (!blk_cleanup(m->dom, m->id, &e))
        log_warn("guard", "cleaning up in QEMU: %s", e.msg);
    tell_abort(m);
    tidy_source(m);
}

static void go_forward(struct move *m)
{
    char dir[PATHS_MAX];
    struct err e = { 0 };

    log_warn("guard", "snmigrate was killed: %s goes on to %s", m->facts.name,
             m->cfg->dest.host);
    if (!commit_forward(m, &e)) {
        log_line(LOG_ERROR, "guard", "%s", e.msg);
        return;
    }
    log_warn("guard", "%s runs on %s", m->facts.name, m->cfg->dest.host);
    if (!finish_run(m, &e))
        log_warn("guard", "%s", e.msg);
    paths_ram_dir(dir, m->id);
    dir_remove(dir);
}

static void rescue(struct guard *g)
{
    struct move *const m = g->move;
    struct err e = { 0 };

    if (!virt_init(&e) || !open_source(m, &e)) {
        log_line(LOG_ERROR, "guard", "%s", e.msg);
        if (!proc_ended(m->qemu_pidfd))
            return;
    }
    if (!journal_open(m->state_dir, &m->journal, &e))
        log_warn("guard", "journal: %s", e.msg);
    if (m->dom != NULL)
        end_job(m);
    if (!proc_ended(m->qemu_pidfd)) {
        take_back(m);
    } else if (g->released) {
        go_forward(m);
    } else {
        log_warn("guard", "the guest %s ended by itself", m->facts.name);
        tell_abort(m);
        tidy_source(m);
    }
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
