/* Memory: virDomainMigrate3, the relay for its stream, and the hold rule.
 *
 *   migrate  blocks in vdom_migrate() with connections of its own
 *   ram      accepts libvirtd's connection on the ram socket, opens the channel, relays
 *   poll     n = bytes received so far; query-migrate; if it says setup or active, those n
 *            bytes may pass on to the destination's QEMU, for the end-of-stream mark can
 *            only come after "active".  Order matters: count, then ask.
 *   limit    tells the agent so, and learns what has arrived: apart from poll, because
 *            QEMU may not answer while it writes, and what it writes must still flow; and
 *            hears from libvirt's events when QEMU has stopped the guest by itself.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/thread.h"
#include "base/unix.h"
#include "migrate/move-int.h"
#include "migrate/relay.h"
#include "migrate/request.h"

enum {
    POLL_MS = 15,       /* between two questions to QEMU */
    LIMIT_MS = 10,      /* between two calls of the agent */
    RATE_MS = 100,      /* over which the rate of RAM is reckoned */
    WINDOW_MS = 60,     /* of that rate under way, and what a call takes: a few looks */
    CALL_LATE_MS = 500, /* a call that takes longer says nothing of the tunnel */
    MUTE_MS = 100,      /* an answer of QEMU that takes longer is late */
    DOWNTIME_MS = 1,    /* below which QEMU switches over by itself */
    ABORT_MS = 60000,
};

struct ram {
    struct move *move;
    struct relay relay;
    unsigned stream;     /* its number: each try has its own */
    struct cancel *stop; /* ends relay and poll */
    int listener;
    char sock[PATHS_SOCK_MAX], dir[PATHS_MAX];
    struct virt *mig_src, *mig_dst, *poll_src; /* one thread each */
    struct vdom *mig_dom, *poll_dom;
    pthread_t migrate, ram, poll, limit;
    bool migrate_on, ram_on, poll_on, limit_on;
    atomic_uint_fast64_t allowed; /* bytes that may pass: the hold rule */
    atomic_bool released;
    atomic_int_fast64_t asked_ns; /* when poll asked QEMU; 0: it was answered */

    pthread_mutex_t lock; /* guards below */
    struct memory_sample sample;
    int64_t synced_at_ms;
    int64_t acked_at_ms; /* when ->rate was last reckoned, and what was acked then */
    uint64_t acked_then;
    double rate;
    double call_ms; /* that the agent took to answer, lately */
    bool ended;     /* virDomainMigrate3 has returned */
    struct err err;
};

static void *migrate_thread(void *arg)
{
    struct ram *const r = arg;
    const struct vmigrate cfg = { .dest_xml = r->move->dest_xml,
                                  .persist_xml = r->move->persist_xml,
                                  .ram_path = r->sock,
                                  .auto_converge = r->move->cfg->on_stall ==
                                                   CONTROL_ON_STALL_THROTTLE };
    struct err e = { 0 };
    const bool ok = vdom_migrate(r->mig_dom, r->mig_dst, &cfg, &e);

    log_debug("memory", "virDomainMigrate3 returned: %s", ok ? "success" : e.msg);
    LOCK_SCOPE(&r->lock);
    r->ended = true;
    r->sample.done = ok;
    r->sample.failed = !ok;
    r->err = e;
    return NULL;
}

static bool relay_ram(struct ram *r, struct err *e)
{
    AUTO(fd_close) int qemu = -1;
    AUTO(fd_close) int tunnel = -1;
    char path[64];

    snprintf(path, sizeof path, "ram/%s/%u", r->move->id, r->stream);
    return unix_accept(r->listener, -1, r->stop, &qemu, e) &&
           link_channel_pair(r->move->link, path, LINK_BULK, r->move->cfg->zstd,
                             &tunnel, e) &&
           relay_run(&r->relay, qemu, tunnel, r->stop, e);
}

static void *ram_thread(void *arg)
{
    struct ram *const r = arg;
    struct err e = { 0 };

    /* Whatever ends it here ends the migration in QEMU too, whose error is the telling
     * one. */
    if (!relay_ram(r, &e) && e.kind != ERR_CANCELLED)
        log_warn("memory", "relay: %s", e.msg);
    return NULL;
}

/* What may be under way: enough to keep the link busy from one answer of the agent to the
 * next, not more.  RAM is on its way for about as long as a call (both wait in the tunnel),
 * and an answer is half a call old on average when the next comes.  r->lock is held. */
static void set_window_locked(struct ram *r, uint64_t acked, int64_t now,
                              int64_t took_ms)
{
    const int64_t age = now - r->acked_at_ms;

    r->call_ms +=
        ((took_ms < CALL_LATE_MS ? (double)took_ms : CALL_LATE_MS) - r->call_ms) / 4;
    if (age < RATE_MS)
        return;
    if (r->acked_at_ms != 0 && acked > r->acked_then) {
        const double rate = (double)(acked - r->acked_then) * MS_PER_S / (double)age;

        r->rate = r->rate > 0 ? (r->rate + rate) / 2 : rate;
    }
    r->acked_at_ms = now;
    r->acked_then = acked;
    double window = r->rate * (WINDOW_MS + 1.5 * r->call_ms) / MS_PER_S;

    if (r->rate <= 0)
        window = RELAY_WINDOW;
    if (window < RELAY_WINDOW_MIN)
        window = RELAY_WINDOW_MIN;
    if (window > RELAY_WINDOW_MAX)
        window = RELAY_WINDOW_MAX;
    atomic_store(&r->relay.window, (uint64_t)window);
}

/* Let the first @bytes pass; learn how many have come, and passed. */
static bool pass_limit(struct ram *r, uint64_t bytes, struct err *e)
{
    AUTO(json_put) struct json_object *reply = NULL;
    const int64_t asked_at = clock_ms();
    uint64_t received, passed;

    if (!request_move(
            r->move->link, "POST", r->move->id, "ram-limit",
            json_add_u64(json_add_u64(json_new(), "bytes", bytes), "stream", r->stream),
            CALL_MS, r->stop, &reply, e) ||
        !json_get_u64(reply, "received", &received, e) ||
        !json_get_u64(reply, "passed", &passed, e))
        return false;
    if (passed > bytes || passed > received ||
        received > atomic_load(&r->relay.received))
        return err_set(e, ERR_PROTO, 0,
                       "the destination counts the RAM stream wrongly (%llu of %llu)",
                       (unsigned long long)passed, (unsigned long long)received);
    atomic_store(&r->relay.acked, received);
    LOCK_SCOPE(&r->lock);
    r->sample.passed = passed;
    set_window_locked(r, received, clock_ms(), clock_ms() - asked_at);
    return true;
}

/* Libvirt says that the guest was stopped, but not by whom: QEMU, or somebody's virsh.  That
 * QEMU does not answer poll tells: it flushes the disks first. */
static void heed_event(struct ram *r)
{
    const int64_t stopped = vdom_stopped_ns(r->poll_dom);
    const int64_t asked = atomic_load(&r->asked_ns);
    const int64_t since = stopped > asked ? stopped : asked;

    if (stopped != 0 && asked != 0 && clock_ns() - since > MUTE_MS * NS_PER_MS)
        switch_pause_begins(r->move, stopped);
}

static void *limit_thread(void *arg)
{
    struct ram *const r = arg;
    struct err e = { 0 };

    while (cancel_sleep_ms(r->stop, LIMIT_MS, &e)) {
        heed_event(r);
        /* Nothing has come yet: the channel may not be there. */
        if (atomic_load(&r->relay.received) == 0 || atomic_load(&r->released))
            continue;
        if (pass_limit(r, atomic_load(&r->allowed), &e) || e.kind == ERR_CANCELLED)
            continue;
        /* What a release lets pass is more than this allowed, and right. */
        const bool before = !atomic_load(&r->released),
                   lies = before && e.kind == ERR_PROTO,
                   over = before && e.kind == ERR_REFUSED && e.os == EPIPE;

        log_line(lies || over ? LOG_WARN : LOG_DEBUG, "memory", "ram-limit: %s", e.msg);
        if (lies) /* nothing that it says can be used: the move ends with its link */
            dial_kill(r->move->dial);
        /* QEMU here does not notice while it is kept waiting: without its end of the stream
         * its migration fails. */
        if (over)
            cancel_set(r->stop);
    }
    return NULL;
}

static bool is_stopped(enum vram_status s)
{
    return s == VRAM_PRE_SWITCHOVER || s == VRAM_DEVICE || s == VRAM_COMPLETED;
}

static void take_sample(struct ram *r, const struct vram *v)
{
    const int64_t now = clock_ms(), stopped = vdom_stopped_ns(r->poll_dom);

    /* QEMU may have stopped the guest by itself: its pause has begun. */
    if (is_stopped(v->status))
        switch_pause_begins(r->move, stopped != 0 ? stopped : clock_ns());
    if (v->status == VRAM_COMPLETED)
        switch_loaded(r->move);
    LOCK_SCOPE(&r->lock);
    if (v->passes != r->sample.ram.passes || r->synced_at_ms == 0)
        r->synced_at_ms = now;
    r->sample.ram = *v;
    r->sample.since_sync_ms = now - r->synced_at_ms;
    r->sample.stopped = is_stopped(v->status);
    if (r->sample.stopped)
        atomic_store(&r->relay.drain, true);
}

/* A libvirtd that ends, for 30 s if one of its threads waits for QEMU, while QEMU may stop the
 * guest, or has.  Nobody could resume it; but without its stream the migration fails, and then
 * QEMU does.  Everything can still be taken back before the release. */
static void break_without_libvirt(struct ram *r)
{
    if (virt_alive(r->poll_src) || atomic_load(&r->released))
        return;
    log_warn("memory", "libvirt on this host is gone: memory will be sent anew");
    cancel_set(r->stop);
}

static void *poll_thread(void *arg)
{
    struct ram *const r = arg;
    struct err e = { 0 };

    while (cancel_sleep_ms(r->stop, POLL_MS, &e)) {
        const uint64_t received = atomic_load(&r->relay.received);
        struct vram v;

        atomic_store(&r->asked_ns, clock_ns());
        const bool ok = vdom_ram(r->poll_dom, &v, &e);
        atomic_store(&r->asked_ns, 0);
        if (!ok) {
            log_debug("memory", "query-migrate: %s", e.msg);
            break_without_libvirt(r);
            continue;
        }
        /* Before the first byte QEMU speaks of an earlier migration: the one that brought
         * the guest here is "completed" for good. */
        if (received == 0)
            v = (struct vram){ .status = VRAM_NONE };
        take_sample(r, &v);
        if (v.status == VRAM_SETUP || v.status == VRAM_ACTIVE)
            atomic_store(&r->allowed, received);
    }
    return NULL;
}

/* --- start --- */

static bool open_connections(struct ram *r, struct err *e)
{
    struct move *const m = r->move;
    char path[CONNECT_PROXY_PATH_MAX];
    int events; /* only vdom_stopped_ns() is asked */

    connect_proxy_path(m, path);
    if (!virt_open(m->cfg->connect, &r->mig_src, e) ||
        !virt_open(m->cfg->connect, &r->poll_src, e) ||
        !connect_by_proxy(m, path, &r->mig_dst, e) ||
        !vdom_find_uuid(r->mig_src, m->facts.uuid, &r->mig_dom, e) ||
        !vdom_find_uuid(r->poll_src, m->facts.uuid, &r->poll_dom, e))
        return false;
    if (r->mig_dom == NULL || r->poll_dom == NULL)
        return err_set(e, ERR_GUEST, 0, "the domain has ended");
    return vdom_watch(r->poll_dom, &events, e);
}

/* QEMU must not switch over by itself while disks are behind; it does so all the same when
 * next to nothing of RAM is left.  Not 0: QEMU 7.2 looks for newly dirtied pages only when
 * what is left is below limit times rate, so with 0 it never looks again and stops the
 * guest after one pass with all that was dirtied meanwhile still to send (70 MiB seen).
 * The old value is put back if the guest stays. */
static bool set_downtime(struct ram *r, struct err *e)
{
    AUTO(json_put) struct json_object *p = NULL;

    struct move *const m = r->move;
    uint64_t now;
    char word[64];

    if (!vdom_qmp(m->dom, "query-migrate-parameters", NULL, &p, e) ||
        !json_get_u64(p, "downtime-limit", &now, e))
        return false;
    if (m->downtime_limit == 0) /* else it may be ours, of the try before */
        m->downtime_limit = now;
    snprintf(word, sizeof word, "downtime %llu", (unsigned long long)m->downtime_limit);
    p = (json_put_auto(&p), json_new());
    json_add_u64(p, "downtime_ms", m->downtime_limit);
    json_add_bool(p, "was_running", m->facts.run == VDOM_RUNNING);
    return guard_say(m, word, e) &&
           journal_step(m->journal, "memory", ptr_steal(&p), e) &&
           vdom_set_max_downtime(m->dom, DOWNTIME_MS, e);
}

bool memory_start(struct move *m, struct err *e)
{
    struct ram *const r = calloc(1, sizeof *r);

    if (r == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "memory");
    pthread_mutex_init(&r->lock, NULL);
    r->move = m;
    r->stream = m->ram_streams++;
    r->listener = -1;
    pthread_mutex_lock(&m->lock);
    m->ram = r;
    pthread_mutex_unlock(&m->lock);
    r->stop = cancel_new();
    if (r->stop == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "memory");
    paths_ram_dir(r->dir, m->id);
    paths_ram_sock(r->sock, m->id, m->facts.name);
    return open_connections(r, e) && set_downtime(r, e) && slow_prepare_cpus(m, e) &&
           (!m->facts.autostart || vdom_set_autostart(m->dom, false, e)) &&
           dir_private(r->dir, e) && unix_listen(r->sock, &r->listener, e) &&
           (r->ram_on = thread_start(&r->ram, ram_thread, r, "ram", e)) &&
           (r->poll_on = thread_start(&r->poll, poll_thread, r, "poll", e)) &&
           (r->limit_on = thread_start(&r->limit, limit_thread, r, "limit", e)) &&
           (r->migrate_on = thread_start(&r->migrate, migrate_thread, r, "migrate", e));
}

/* --- while it runs --- */

void memory_sample(struct move *m, struct memory_sample *out)
{
    struct ram *const r = m->ram;

    LOCK_SCOPE(&r->lock);
    *out = r->sample;
    out->received = atomic_load(&r->relay.received);
    out->under_way = out->received - out->passed;
    out->rate = r->rate;
}

void memory_error(struct move *m, struct err *e)
{
    LOCK_SCOPE(&m->ram->lock);
    if (m->ram->err.kind == ERR_NONE)
        err_set(e, ERR_VIRT, 0, "memory ended before it was released");
    else
        *e = m->ram->err;
    err_wrap(e, "memory");
}

static bool memory_ended(struct ram *r)
{
    LOCK_SCOPE(&r->lock);
    return !r->migrate_on || r->ended;
}

bool memory_wait(struct move *m, int timeout_ms)
{
    const int64_t end = clock_ms() + timeout_ms;

    while (m->ram != NULL && !memory_ended(m->ram)) {
        if (clock_ms() >= end)
            return false;
        clock_sleep_ms(5);
    }
    return true;
}

void memory_released(struct move *m)
{
    atomic_store(&m->ram->released, true);
    atomic_store(&m->ram->relay.drain, true);
}

/* --- the end --- */

void memory_quiet(struct move *m)
{
    struct ram *const r = m->ram;

    if (r == NULL || r->stop == NULL)
        return;
    cancel_set(r->stop);
    if (r->ram_on)
        pthread_join(r->ram, NULL);
    if (r->poll_on)
        pthread_join(r->poll, NULL);
    if (r->limit_on)
        pthread_join(r->limit, NULL);
    r->ram_on = r->poll_on = r->limit_on = false;
}

void memory_close(struct move *m)
{
    struct ram *const r = m->ram;

    if (r == NULL)
        return;
    memory_quiet(m);
    pthread_mutex_lock(&m->lock);
    m->ram = NULL; /* the watch thread looks no more */
    pthread_mutex_unlock(&m->lock);
    if (r->migrate_on)
        pthread_join(r->migrate, NULL);
    m->moved_ram += atomic_load(&r->relay.received);
    vdom_free(r->mig_dom);
    vdom_free(r->poll_dom);
    virt_close(r->mig_src);
    virt_close(r->mig_dst);
    virt_close(r->poll_src);
    if (r->listener >= 0)
        close(r->listener);
    if (r->dir[0] != '\0')
        dir_remove(r->dir);
    cancel_free(r->stop);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

void memory_undo(struct move *m)
{
    struct ram *const r = m->ram;
    struct err e = { 0 };

    if (r == NULL)
        return;
    log_info("undo", "taking the guest back");
    switch_undo(m); /* QEMU may have stopped it, and the guard counts since */
    if (r->stop != NULL)
        cancel_set(r->stop); /* the stream breaks: QEMU's migration fails */
    m->source_unknown = !owner_take_back(m, &e);
    /* The call may have begun only now: QEMU would connect to a socket that nobody reads
     * any more, and fill it, until a cancel reaches its job (60 s seen). */
    memory_quiet(m);
    if (r->listener >= 0)
        close(r->listener);
    r->listener = -1;
    if (!memory_wait(m, ABORT_MS)) {
        log_warn("undo", "libvirt is still busy with the cancelled migration");
        /* A QEMU there that hangs would keep it so: the agent ends that with its link. */
        if (m->dial != NULL)
            dial_kill(m->dial);
    }
    if (!m->source_unknown)
        m->source_unknown = !owner_take_back(m, &e);
    if (m->source_unknown)
        log_warn("undo", "%s", e.msg);
    else if (!guard_say(m, "resumed", &e))
        log_debug("undo", "guard: %s", e.msg);
    if (m->downtime_limit != 0 && m->dom != NULL &&
        !vdom_set_max_downtime(m->dom, m->downtime_limit, &e))
        log_debug("undo", "downtime limit: %s", e.msg);
    owner_autostart(m);
    memory_close(m);
}
