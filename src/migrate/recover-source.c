/* The source's side of recover: look at both hosts, ask the rule, do what it says.
 *
 * The lock of the domain is held meanwhile, so that neither a move nor a guard works on it
 * as well. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/units.h"
#include "base/unix.h"
#include "migrate/recover-int.h"
#include "migrate/rescue.h"

enum {
    LIBVIRT_MS = 30000,  /* for a libvirtd that starts */
    VERDICT_MS = 5000,   /* libvirt's state follows the death of QEMU */
    LOOK_AGAIN_MS = 100, /* between two looks at it */
    DEATH_MS = 15000,    /* of a QEMU that libvirt was told to end */
};

/* What the journal tells beside the facts of its first entry. */
struct past {
    enum recover_journal at;
    bool suspending; /* the move was about to stop the guest, or had stopped it */
    bool destroying; /* it was ending the source's QEMU, which is no end of the guest */
    bool arrived;    /* COMMIT was answered: the guest ran at the destination */
    bool rebooted;   /* this host, since the move began */
};

struct job {
    struct rescue r;
    struct past past;
    struct recover_known known;
    struct recover_seen seen;
    struct recover_result *out;
};

/* --- the journal --- */

static void read_memory(struct rescue *r, struct json_object *entry)
{
    struct err ignored;
    uint64_t ms;
    bool ran;

    if (json_get_u64(entry, "downtime_ms", &ms, &ignored))
        r->downtime_ms = ms;
    if (json_get_bool(entry, "was_running", &ran, &ignored))
        r->move->facts.run = ran ? VDOM_RUNNING : VDOM_PAUSED;
}

static void read_slowed(struct rescue *r, struct json_object *entry)
{
    AUTO(mem_free) char *text = NULL;
    struct json_object *args = NULL;
    const char *command;
    struct err ignored;

    if (json_get_str(entry, "restore", &command, &ignored) &&
        json_object_object_get_ex(entry, "arguments", &args) &&
        asprintf(&text, "%s %s", command,
                 json_object_to_json_string_ext(args, JSON_C_TO_STRING_PLAIN)) > 0)
        rescue_restore(r, text);
}

static void read_step(struct job *j, const char *step, struct json_object *entry)
{
    struct past *const p = &j->past;

    if (strcmp(step, "memory") == 0) {
        j->r.moves_ram = true;
        read_memory(&j->r, entry);
    } else if (strcmp(step, "slowed") == 0) {
        read_slowed(&j->r, entry);
    } else if (strcmp(step, "prepared") == 0) { /* what was before is settled */
        *p = (struct past){ .at = RECOVER_JOURNAL_BEFORE };
        rescue_forget(&j->r);
        read_memory(&j->r, entry);
    } else if (strcmp(step, "suspending") == 0) {
        p->suspending = true;
    } else if (strcmp(step, "taken-back") == 0) {
        p->suspending = p->destroying = false;
        if (p->at == RECOVER_JOURNAL_RELEASED)
            p->at = RECOVER_JOURNAL_TAKEN_BACK;
    } else if (strcmp(step, "released") == 0) {
        p->at = RECOVER_JOURNAL_RELEASED;
    } else if (strcmp(step, "destroying") == 0) {
        p->destroying = true;
    } else if (strcmp(step, "committed") == 0) {
        p->at = RECOVER_JOURNAL_COMMITTED;
    } else if (strcmp(step, "arrived") == 0 || strcmp(step, "done") == 0) {
        p->at = RECOVER_JOURNAL_COMMITTED;
        p->arrived = true;
    }
}

static void read_past(struct job *j, struct json_object *entries)
{
    j->past.at = RECOVER_JOURNAL_BEFORE;
    for (size_t i = 0; i < json_object_array_length(entries); i++) {
        struct json_object *const o = json_object_array_get_idx(entries, i);
        struct err ignored;
        const char *step;

        if (json_get_str(o, "step", &step, &ignored))
            read_step(j, step, o);
    }
}

/* A pidfd of the QEMU that the move began with.  Of one that is gone: a descriptor that is
 * readable for good, as a pidfd of a dead process is. */
static bool open_qemu(struct job *j, struct json_object *first, struct err *e)
{
    struct move *const m = j->r.move;
    char boot[PROC_BOOT_ID];
    uint64_t pid, started;
    const char *then;
    struct err gone;

    if (!json_get_u64(first, "pid", &pid, e) ||
        !json_get_u64(first, "pid_start", &started, e) ||
        !json_get_str(first, "boot_id", &then, e))
        return false;
    m->facts.pid = (pid_t)pid;
    j->past.rebooted = strcmp(then, proc_boot_id(boot)) != 0;
    AUTO(fd_close) int fd = -1;
    if (!j->past.rebooted && proc_open(m->facts.pid, &fd, &gone) &&
        proc_start_time(m->facts.pid) == started) {
        m->qemu_pidfd = fd_steal(&fd);
        return true;
    }
    m->qemu_pidfd = eventfd(1, EFD_CLOEXEC);
    return m->qemu_pidfd >= 0 ? true : err_set(e, ERR_SYS, errno, "eventfd");
}

/* --- the source --- */

static enum recover_src living(const struct job *j, enum vdom_run run,
                               enum vdom_why why)
{
    if (run == VDOM_RUNNING)
        return RECOVER_SRC_RUNS;
    if (run == VDOM_PAUSED && j->r.moves_ram && j->r.move->facts.run == VDOM_RUNNING &&
        (why == VDOM_WHY_MIGRATION || (why == VDOM_WHY_USER && j->past.suspending)))
        return RECOVER_SRC_PAUSED;
    return run == VDOM_PAUSED || run == VDOM_OTHER ? RECOVER_SRC_STILL
                                                   : RECOVER_SRC_MUTE;
}

static enum recover_src off(const struct job *j, enum vdom_why why)
{
    return recover_src_off(why, j->past.destroying, j->past.rebooted,
                           j->r.move->facts.persistent);
}

static enum recover_src dead(const struct job *j, enum vdom_run run, enum vdom_why why)
{
    const struct move *const m = j->r.move;
    struct vdom_facts now;
    struct err e = { 0 };

    if (run == VDOM_OFF || run == VDOM_NONE)
        return off(j, why);
    if (vdom_facts(m->dom, &now, &e) && now.pid > 0 && now.pid != m->facts.pid)
        return RECOVER_SRC_ANOTHER;
    return RECOVER_SRC_MUTE;
}

/* Until libvirt and the process table agree. */
static enum recover_src look_at_source(struct job *j)
{
    struct move *const m = j->r.move;
    const int64_t end = clock_ms() + VERDICT_MS;
    enum recover_src src = RECOVER_SRC_MUTE;
    struct err e = { 0 };
    enum vdom_run run;
    enum vdom_why why;

    if (!owner_source(m, LIBVIRT_MS, &e)) {
        if (e.kind != ERR_GUEST)
            log_warn("recover", "%s", e.msg);
        return e.kind == ERR_GUEST && proc_ended(m->qemu_pidfd) ? off(j, VDOM_WHY_OTHER)
                                                                : RECOVER_SRC_MUTE;
    }
    if (!virt_host(m->src, &m->src_host, &e))
        log_debug("recover", "%s", e.msg);
    for (;;) {
        const bool ended = proc_ended(m->qemu_pidfd);

        if (vdom_state(m->dom, &run, &why, &e))
            src = ended ? dead(j, run, why) : living(j, run, why);
        if (src != RECOVER_SRC_MUTE || clock_ms() >= end)
            return src;
        clock_sleep_ms(LOOK_AGAIN_MS);
    }
}

/* --- the destination --- */

/* Its agent knows no such move, but the guest may be there. */
static bool look_for_domain(struct move *m, struct recover_seen *seen, struct err *e)
{
    struct vdom *dom = NULL;
    enum vdom_run run;
    enum vdom_why why;
    const char *is = "none";

    if (!connect_dst_libvirt(m, e) || !vdom_find_uuid(m->dst, m->facts.uuid, &dom, e))
        return false;
    const bool ok = dom == NULL || vdom_state(dom, &run, &why, e);
    if (ok && dom != NULL && run != VDOM_NONE)
        is = run == VDOM_OFF ? "off" : run == VDOM_RUNNING ? "running" : "paused";
    snprintf(seen->domain, sizeof seen->domain, "%s", is);
    vdom_free(dom);
    return ok;
}

static enum recover_dst look_at_destination(struct job *j)
{
    struct move *const m = j->r.move;
    struct recover_seen *const seen = &j->seen;
    struct err e = { 0 };

    if (!connect_redial(m, &e) || !recover_ask(m->link, m->id, seen, &e) ||
        (!seen->tracked && !look_for_domain(m, seen, &e))) {
        log_warn("recover", "%s: %s", m->cfg->dest.host, e.msg);
        texts_add(&j->out->notes, "%.200s: %.180s", m->cfg->dest.host, e.msg);
        return RECOVER_DST_UNKNOWN;
    }
    return recover_dst_of(seen->tracked ? seen->step : NULL, seen->domain, seen->ready,
                          seen->incoming, seen->ran, j->past.at, j->past.arrived);
}

/* --- what is done --- */

/* What ->move has noted on the way. */
static void take_notes(struct job *j)
{
    const struct move *const m = j->r.move;

    for (size_t i = 0; i < m->left.n; i++)
        texts_add(&j->out->left, "%s", m->left.text[i]);
    for (size_t i = 0; i < m->notes.n; i++)
        texts_add(&j->out->notes, "%s", m->notes.text[i]);
}

/* false: the destination is left as it is, with an error or (unreachable) without. */
static bool abort_destination(struct job *j, struct err *e)
{
    struct move *const m = j->r.move;

    if (j->known.dst == RECOVER_DST_UNKNOWN) {
        texts_add(&j->out->left,
                  "on %.200s, when it answers: snmigrate recover --source-wins %.36s",
                  m->cfg->dest.host, m->facts.uuid);
        return true;
    }
    return owner_abort(m, e);
}

static void note_kept(struct job *j)
{
    const struct move *const m = j->r.move;
    char a[UNITS_LEN], b[UNITS_LEN];
    uint64_t bytes, size;

    kept_amount(m->kept, &bytes, &size);
    texts_add(&j->out->notes,
              "what was copied to %.100s (%s of %s), for the same command; to give it "
              "up: snmigrate discard %.8s",
              m->cfg->dest.host, units_size(a, bytes), units_size(b, size), m->id);
}

/* Before the guest runs here again what the destination could start goes: an operator there
 * may be about to.  Where it does not go the rule is asked once more, and the agent's refusal
 * heeded: it may have run there. */
static bool bar_destination(struct job *j, struct err *e)
{
    const char *why;

    if (j->known.src != RECOVER_SRC_PAUSED ||
        j->known.journal == RECOVER_JOURNAL_BEFORE ||
        j->known.dst == RECOVER_DST_UNKNOWN || owner_abort(j->r.move, e))
        return true;
    log_warn("recover", "%s: %s", j->r.move->cfg->dest.host, e->msg);
    j->known.dst = look_at_destination(j);
    return (e->kind != ERR_REFUSED || j->known.word == RECOVER_WORD_SOURCE) &&
           recover_rule(&j->known, &why) == RECOVER_TAKE_BACK;
}

static bool act_keep(struct job *j, struct err *e)
{
    struct move *const m = j->r.move;
    struct err ae = { 0 };
    enum vdom_run run;
    enum vdom_why why;

    if (!bar_destination(j, e))
        return false;
    if (j->known.src != RECOVER_SRC_PAUSED)
        m->facts.run = VDOM_PAUSED; /* it is as somebody wants it: not resumed */
    if (!rescue_take_back(&j->r, e) || !vdom_state(m->dom, &run, &why, e))
        return false;
    if (run == VDOM_OFF || run == VDOM_NONE)
        return err_set(e, ERR_GUEST, 0, "its QEMU has just died");
    recover_did(j->out, "%s",
                j->known.src == RECOVER_SRC_PAUSED ? "resumed it at the source"
                                                   : "kept it at the source");
    const bool kept = kept_make(m, j->known.dst != RECOVER_DST_UNKNOWN);
    if (kept)
        note_kept(j);
    if (!kept && !abort_destination(j, &ae))
        texts_add(&j->out->left, "on %.100s: %.290s", m->cfg->dest.host, ae.msg);
    rescue_tidy(&j->r);
    take_notes(j);
    recover_settle(j->out, MOVE_AT_SOURCE, vdom_run_name(run));
    return true;
}

/* It would have started with this host, had the move not turned that off. */
static bool start_again(struct job *j)
{
    struct move *const m = j->r.move;
    struct err e = { 0 };
    enum vdom_run run;
    enum vdom_why why;

    if (!m->facts.autostart || j->known.src == RECOVER_SRC_ENDED || m->dom == NULL ||
        (j->known.dst == RECOVER_DST_UNKNOWN &&
         j->known.journal != RECOVER_JOURNAL_BEFORE) ||
        !vdom_state(m->dom, &run, &why, &e) || run != VDOM_OFF)
        return false;
    if (vdom_start(m->dom, &e))
        return true;
    texts_add(&j->out->left, "%.390s", e.msg);
    return false;
}

/* The destination first: if it refuses because the guest may have run there, nobody is told
 * to start it here. */
static bool act_give_up(struct job *j, struct err *e)
{
    struct move *const m = j->r.move;
    char words[MOVE_START_MAX];

    if (!abort_destination(j, e))
        return false;
    rescue_tidy(&j->r);
    if (start_again(j)) {
        recover_did(j->out, "booted it again at the source, its autostart being on");
        recover_settle(j->out, MOVE_AT_SOURCE, "running");
        return true;
    }
    recover_did(j->out, "gave up the memory that was moved");
    texts_add(&j->out->notes, "the disks of %.100s on this host are intact: %s",
              m->facts.name, move_start_words(m, words));
    recover_settle(j->out, MOVE_NOWHERE, "off");
    return true;
}

static bool act_forward(struct job *j, struct err *e)
{
    struct move *const m = j->r.move;

    /* The rule has decided what owner_ran_again() would ask. */
    m->source_destroyed = true;
    snprintf(m->dst_state, sizeof m->dst_state, "%s", j->seen.domain);
    if (j->seen.tracked && !rescue_forward(&j->r, e)) {
        if (e->kind != ERR_GUEST)
            return false;
        log_warn("recover", "%s", e->msg);
        return act_give_up(j, e);
    }
    if (j->known.dst == RECOVER_DST_ENDED) /* COMMIT answers what was then */
        snprintf(m->dst_state, sizeof m->dst_state, "%s", j->seen.domain);
    rescue_finish(&j->r);
    recover_did(j->out, "brought it to its end at the destination");
    take_notes(j);
    recover_settle(j->out, MOVE_AT_DESTINATION, m->dst_state);
    return true;
}

static bool act_end_source(struct job *j, struct err *e)
{
    struct move *const m = j->r.move;
    struct pollfd p = { .fd = m->qemu_pidfd, .events = POLLIN };

    /* Before it is done: else its end would look like that of the guest. */
    if (!journal_step(m->journal, "destroying", NULL, e) ||
        !fault_point("recover.destroying", e) || !vdom_destroy(m->dom, e))
        return false;
    if (poll(&p, 1, DEATH_MS) <= 0 || !proc_ended(m->qemu_pidfd))
        return err_set(e, ERR_TIMEOUT, 0, "its QEMU here does not end");
    return act_forward(j, e);
}

static bool act_forget(struct job *j)
{
    j->r.move->facts.autostart = false; /* of what is old */
    recover_did(j->out, "removed the journal");
    texts_add(&j->out->notes,
              "a definition of %.200s that is still here is not removed",
              j->r.move->facts.name);
    rescue_tidy(&j->r);
    recover_settle(j->out, MOVE_AT_DESTINATION, j->seen.domain);
    return true;
}

static bool act(struct job *j, struct err *e)
{
    switch (recover_decide(&j->known, j->out)) {
    case RECOVER_KEEP:
    case RECOVER_TAKE_BACK:
        return act_keep(j, e);
    case RECOVER_GIVE_UP:
        return act_give_up(j, e);
    case RECOVER_FORWARD:
        return act_forward(j, e);
    case RECOVER_END_SOURCE:
        return act_end_source(j, e);
    case RECOVER_FORGET:
        return act_forget(j);
    default:
        recover_open(&j->known, j->out);
        return true;
    }
}

/* --- one move --- */

/* *over: whoever had the lock has brought it to an end. */
static bool deal(struct job *j, bool *over, struct err *e)
{
    AUTO(json_put) struct json_object *entries = NULL;
    struct move *const m = j->r.move;
    struct err gone = { 0 };

    *over = !journal_read(m->state_dir, &entries, &gone) && gone.os == ENOENT;
    if (*over)
        return true;
    struct json_object *const first =
        entries != NULL ? journal_find(entries, "prepared") : NULL;
    if (first == NULL)
        return err_set(e, ERR_PROTO, 0, "%s", gone.msg);
    read_past(j, entries);
    if (!open_qemu(j, first, e) || !dir_private(m->run_dir, e) ||
        !journal_open(m->state_dir, &m->journal, e))
        return false;
    m->halt = cancel_new();
    if (m->halt == NULL)
        return err_set(e, ERR_SYS, errno, "cannot start");
    if (!watcher_start(m, e)) /* it hangs up on who does not answer */
        return false;
    m->released = true; /* no signal cancels, and a new dial is worth it */
    m->no_keep =
        j->known.word == RECOVER_WORD_SOURCE; /* who wants nothing of it there */
    j->known.journal = j->past.at;
    j->known.src = look_at_source(j);
    j->known.dst = look_at_destination(j);
    return fault_point("recover.looked", e) && act(j, e);
}

bool recover_source(const struct recover_cfg *cfg, struct json_object *entries,
                    struct recover_result *out)
{
    AUTO(mem_free) struct job *j = calloc(1, sizeof *j);
    AUTO(cancel_free) struct cancel *never = cancel_new();
    struct err e = { 0 };
    bool over = false;

    if (j == NULL || never == NULL) {
        err_set(&e, ERR_SYS, ENOMEM, "recover");
        recover_failed(out, &e);
        return true;
    }
    j->out = out;
    j->known.word = cfg->word;
    if (!rescue_init(&j->r, journal_find(entries, "prepared"), never, &e)) {
        recover_failed(out, &e);
    } else if (!connect_lock(j->r.move, &e)) {
        if (e.kind == ERR_REFUSED)
            recover_busy(out);
        else
            recover_failed(out, &e);
    } else {
        if (!deal(j, &over, &e))
            recover_failed(out, &e);
        journal_close(j->r.move->journal);
        connect_close(j->r.move);
        watcher_stop(j->r.move);
    }
    rescue_fini(&j->r);
    return !over;
}
