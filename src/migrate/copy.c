/* Track, bulk and rounds: bitmaps, exports and mirrors of all disks, kept in step.
 *
 * A round:   rotate (all disks, one instant) -> export each with its frozen bitmap
 *            -> one mirror_pass() per disk, side by side -> flush -> unexport -> drop.
 * A write in flight at the rotation lands in the new bitmap: nothing is missed.  A frozen
 * bitmap is dropped only after what it marked was copied and flushed; that of a round which
 * failed is merged back into the one that records (copy_settle).
 *
 * What is written in every round may wait for the last ones (nbd-mirror/hot.h).  The frozen
 * bitmap of a round that has left it out, and marks it, is held until the next one was copied
 * and flushed: two frozen ones then, both of which a failure merges back.  So the truth is in
 * QEMU always, and what we know only saves copying. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "base/units.h"
#include "base/unix.h"
#include "migrate/move-int.h"
#include "nbd-mirror/hot.h"

enum {
    LANES = 2,            /* per disk; all share one ssh, more gain nothing */
    REQUESTS = 16,        /* for a way that is long */
    FLUSH_MIN = 16 << 20, /* bytes of the bulk between two flushes */
    FLUSH_MAX = 256 << 20,
    SAMPLE_MS = 1000, /* how often dirty bytes are read while a pass runs */
};

static bool dial_writer(void *ctx, int *fd, struct err *e)
{
    struct copy_disk *const c = ctx;
    struct move *const m = c->move;
    char path[128];

    snprintf(path, sizeof path, "disk/%s/%s", m->id, m->plan.disks[c->index].target);
    return link_channel_pair(m->link, path, LINK_BULK, m->cfg->zstd, fd, e);
}

static struct mirror_side destination(struct copy_disk *c)
{
    return (struct mirror_side){ dial_writer, c, "" };
}

static void set_mirror(struct copy_disk *c, struct mirror *mirror)
{
    LOCK_SCOPE(&c->move->lock);
    c->mirror = mirror;
}

bool copy_open(struct move *m, struct err *e)
{
    for (size_t i = 0; i < m->plan.n; i++) {
        struct copy_disk *const c = &m->copies[i];
        const struct mirror_cfg cfg = { .name = m->plan.disks[i].target,
                                        .size = m->plan.disks[i].size,
                                        .lanes = LANES,
                                        .requests = REQUESTS,
                                        .cancel = m->halt };
        const struct mirror_side dst = destination(c);
        struct mirror *mirror = NULL;

        c->move = m;
        c->index = i;
        if (c->hot == NULL && (c->hot = hot_new()) == NULL)
            return err_set(e, ERR_SYS, ENOMEM, "disk %s", m->plan.disks[i].target);
        if (!mirror_open(&cfg, &dst, &mirror, e))
            return err_wrap(e, "disk %s", m->plan.disks[i].target);
        set_mirror(c, mirror);
    }
    return true;
}

void copy_drop(struct move *m)
{
    for (size_t i = 0; i < m->plan.n; i++) {
        struct mirror *const mirror = m->copies[i].mirror;

        if (mirror == NULL)
            continue;
        set_mirror(&m->copies[i], NULL);
        mirror_close(mirror);
    }
}

/* Those of the newest pass; or, with @any, whatever there may be. */
static bool unexport_all(struct move *m, bool any, struct err *e)
{
    for (size_t i = 0; i < m->plan.n; i++)
        if ((any || !m->copies[i].idle) && !blk_unexport(&m->blk, i, e))
            return false;
    return true;
}

bool copy_settle(struct move *m, struct err *e)
{
    if (m->dom == NULL)
        return err_set(e, ERR_VIRT, 0, "libvirt on this host does not answer");
    m->blk.dom = m->dom; /* another where libvirtd was restarted */
    for (size_t i = 0; i < m->plan.n; i++)
        if (m->copies[i].hot != NULL)
            hot_forget(m->copies[i].hot);
    return unexport_all(m, true, e) && blk_bitmaps_settle(&m->blk, e);
}

static bool dial_qemu(void *ctx, int *fd, struct err *e)
{
    const struct copy_disk *const c = ctx;

    return unix_connect(c->move->blk.sock, fd, e);
}

struct mirror_side copy_source(struct copy_disk *c)
{
    return (struct mirror_side){ dial_qemu, c, c->export_name };
}

/* How often the bulk is made safe: what was copied since is copied again after a failure,
 * at most 2 % of the disk, while a flush that is too frequent costs time. */
uint64_t copy_flush_every(uint64_t size)
{
    const uint64_t every = size / 50;

    return every < FLUSH_MIN ? FLUSH_MIN : every > FLUSH_MAX ? FLUSH_MAX : every;
}

/* Whether a disk's pass is another than the mirror's. */
static bool any_instead(const struct move *m)
{
    bool any = false;

    for (size_t i = 0; i < m->plan.n; i++)
        any |= m->copies[i].instead != NULL;
    return any;
}

/* Thread: main. */
static void keep_safe(struct copy_disk *c)
{
    struct mirror_stats st;

    mirror_stats(c->mirror, &st);
    if (c->pass.what == MIRROR_ALL && c->instead == NULL && st.safe > c->safe)
        c->safe = st.safe;
}

static void note_safe(struct move *m)
{
    for (size_t i = 0; i < m->plan.n; i++)
        keep_safe(&m->copies[i]);
    kept_note(m, false);
}

static void copy_once(struct copy_disk *c)
{
    const struct mirror_side src = copy_source(c);

    c->ok = c->instead != NULL ? c->instead(c, &src, &c->err)
                               : prove_excuse(c, &src, &c->err) &&
                                     mirror_pass(c->mirror, &src, &c->pass, &c->err);
    if (!c->ok && c->err.os == EPERM && c->pass.what == MIRROR_DIRTY &&
        c->instead == NULL) {
        /* QEMU 10: the node went inactive, which ends all but reads, since
         * QEMU stopped the guest during this round.  That happens once per migration; the
         * frozen bitmap still marks all of the round. */
        struct err again = { 0 };

        log_info("disks", "%s: export became inactive, activating it again",
                 c->move->plan.disks[c->index].target);
        if (blk_activate(&c->move->blk, c->index, &again))
            c->ok = mirror_pass(c->mirror, &src, &c->pass, &c->err);
    }
    /* Here, so that all disks flush at a time, not one after the other. */
    c->copied_at_ns = clock_ns();
    c->ok = c->ok && mirror_flush(c->mirror, &c->err);
    if (!c->ok)
        cancel_set(c->move->halt); /* the others may have hours to go */
}

static void *copy_thread(void *arg)
{
    struct copy_disk *const c = arg;

    copy_once(c);
    LOCK_SCOPE(&c->move->lock);
    c->ended = true;
    pthread_cond_broadcast(&c->move->copy_ended);
    return NULL;
}

/* Wait, at most @ms, for the end of a disk's thread.  pthread_clockjoin_np() would do, but
 * ThreadSanitizer does not know it (gcc 12). */
static bool ended_within(struct copy_disk *c, int ms)
{
    struct move *const m = c->move;
    const int64_t until = clock_ms() + ms;
    const struct timespec ts = { until / MS_PER_S, until % MS_PER_S * NS_PER_MS };

    LOCK_SCOPE(&m->lock);
    while (!c->ended)
        if (pthread_cond_clockwait(&m->copy_ended, &m->lock, CLOCK_MONOTONIC, &ts) != 0)
            break;
    return c->ended;
}

/* Of @dirty bytes, those that the guest wrote since it is tracked by this try. */
static uint64_t written_since(const struct move *m, size_t disk, uint64_t dirty)
{
    const uint64_t then = m->dirty_then[disk];

    return dirty > then ? dirty - then : 0;
}

/* Dirty bytes of all disks that wait for the next round, and the rate at which they come. */
bool copy_sample(struct move *m, struct err *e)
{
    uint64_t bytes[DOMXML_DISKS_MAX], sum = 0, written = 0;
    const int64_t age = clock_ms() - m->tracked_since_ms;

    if (!blk_dirty(&m->blk, bytes, e))
        return false;
    limit_look(m);
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->plan.n; i++) {
        struct move_gauge *const g = &m->progress.disks[i];
        const uint64_t since = written_since(m, i, bytes[i]);

        sum += bytes[i];
        written += since;
        g->dirty = bytes[i];
        g->hot = hot_waiting(m->copies[i].hot);
        if (age >= SAMPLE_MS)
            g->dirty_rate = (double)since * MS_PER_S / (double)age;
    }
    pthread_mutex_unlock(&m->lock);
    m->disk_dirty = sum;
    m->disk_written = written;
    return true;
}

static bool start_passes(struct move *m, struct err *e)
{
    char name[THREAD_NAME];

    for (size_t i = 0; i < m->plan.n; i++) {
        struct copy_disk *const c = &m->copies[i];

        c->ok = c->ended = false;
        c->err = (struct err){ 0 };
        c->copied_at_ns = 0;
        if (c->idle)
            continue;
        snprintf(name, sizeof name, "copy-%u", (unsigned)i);
        c->started = thread_start(&c->thread, copy_thread, c, name, e);
        if (!c->started)
            return false;
    }
    return true;
}

/* Join all.  The first failure wins; that the others were cancelled then is no cause. */
static bool join_passes(struct move *m, bool sample, struct err *e)
{
    bool ok = true;

    for (size_t i = 0; i < m->plan.n; i++) {
        struct copy_disk *const c = &m->copies[i];
        struct err se = { 0 };

        if (!c->started)
            continue;
        while (!ended_within(c, SAMPLE_MS)) {
            if (ok && sample && (!copy_sample(m, &se) || !converge_in_time(m, &se))) {
                ok = false;
                *e = se;
                cancel_set(m->halt);
            } else if (ok && sample && m->round == 0) {
                foresee_tick(m, false);
            }
            if (c->pass.what == MIRROR_ALL)
                note_safe(m);
        }
        pthread_join(c->thread, NULL);
        c->started = false;
        keep_safe(c);
        if (!c->ok && (ok || e->kind == ERR_CANCELLED))
            *e = c->err;
        ok &= c->ok;
    }
    return ok;
}

uint64_t copy_bytes(const struct move *m)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < m->plan.n; i++) {
        struct mirror_stats st;

        mirror_stats(m->copies[i].mirror, &st);
        sum += st.data;
    }
    return sum;
}

/* When the last disk of the pass that began at @at was copied, and only its flush was left. */
static int64_t copied_at(const struct move *m, int64_t at)
{
    for (size_t i = 0; i < m->plan.n; i++)
        if (m->copies[i].copied_at_ns > at)
            at = m->copies[i].copied_at_ns;
    return at;
}

static bool export_all(struct move *m, bool bitmap, struct err *e)
{
    for (size_t i = 0; i < m->plan.n; i++)
        if (!m->copies[i].idle &&
            !blk_export(&m->blk, i, bitmap, m->copies[i].export_name,
                        m->copies[i].bitmap, e))
            return false;
    return true;
}

/* A disk that is clean takes no part in a round; nothing is unflushed there, for each pass
 * ends with a flush. */
static void note_idle(struct move *m, bool round)
{
    for (size_t i = 0; i < m->plan.n; i++)
        m->copies[i].idle =
            round && m->blk.frozen[i] == 0 && hot_waiting(m->copies[i].hot) == 0;
}

/* One pass over all disks; exports are there before and gone after. */
static bool pass_all(struct move *m, bool bitmap, bool sample, struct err *e)
{
    const uint64_t before = copy_bytes(m);
    const int64_t begin = clock_ns();

    note_idle(m, bitmap);
    if (!export_all(m, bitmap, e) ||
        !fault_point(sample ? "copy.exported" : "switch.exported", e))
        return false;
    const int64_t start = clock_ns();
    const bool started = start_passes(m, e);
    if (!started)
        cancel_set(m->halt);
    const bool joined = join_passes(m, sample, e);
    const uint64_t copied = copy_bytes(m) - before;

    m->moved_disk += copied;
    if (!joined || !started)
        return false;
    m->copied_at_ns = copied_at(m, start);
    log_debug("disks", "export=%lldms copy=%lldms flush=%lldms",
              (long long)((start - begin) / NS_PER_MS),
              (long long)((m->copied_at_ns - start) / NS_PER_MS),
              (long long)((clock_ns() - m->copied_at_ns) / NS_PER_MS));

    const double seconds = (double)(clock_ns() - start) / 1e9;

    /* Tiny passes tell only about fixed costs, not about the rate; nor does comparing. */
    if (copied >= 4 << 20 && seconds > 0 && !any_instead(m))
        m->disk_rate = m->disk_rate > 0 ? (m->disk_rate + (double)copied / seconds) / 2
                                        : (double)copied / seconds;
    return true;
}

bool track_run(struct move *m, struct err *e)
{
    m->tracking = true;
    /* Those of an earlier try that cannot be gone on with have the names of the new ones;
     * the journal has said that nothing is safe by them. */
    if (m->kept != NULL && !m->adopted && !blk_cleanup(m->dom, m->id, e))
        return false;
    if (!blk_server_start(&m->blk, e) ||
        !(m->adopted
              ? blk_bitmaps_adopt(&m->blk, e) && blk_dirty(&m->blk, m->dirty_then, e)
              : blk_bitmaps_start(&m->blk, e)))
        return false;
    m->tracked_since_ms = clock_ms();
    return true;
}

/* The bitmaps stay where a next try can go on with them. */
static void release_bitmaps(struct move *m)
{
    struct err e = { 0 };

    kept_note(m, true);
    if (kept_may(m)) {
        m->keeping = blk_keep(m->dom, m->id, &e);
        if (m->keeping)
            return;
        log_warn("undo", "what was copied cannot be kept: %s", e.msg);
    }
    if (!blk_cleanup(m->dom, m->id, &e))
        log_warn("undo", "cleaning up in QEMU: %s", e.msg);
}

void track_undo(struct move *m)
{
    copy_drop(m);
    if (m->dom == NULL)
        m->source_unknown = true; /* left to the guard */
    if (m->source_unknown)
        return;
    if (m->tracking)
        release_bitmaps(m);
    m->tracking = false;
}

bool bulk_run(struct move *m, struct err *e)
{
    char a[UNITS_LEN], b[UNITS_LEN];

    move_enter(m, MOVE_BULK);
    if (!fault_point("bulk", e) || !sample_run(m, e))
        return false;
    for (size_t i = 0; i < m->plan.n; i++) {
        struct copy_disk *const c = &m->copies[i];

        if (c->safe > 0)
            log_info("disks", "%s: going on at %s of %s", m->plan.disks[i].target,
                     units_size(a, c->safe), units_size(b, m->plan.disks[i].size));
        c->compare |= m->cfg->seed;
        c->instead = c->compare ? compare_run : NULL;
        c->pass.what = MIRROR_ALL;
        c->pass.hot = NULL;
        c->pass.start = c->safe;
        c->pass.flush_every = copy_flush_every(m->plan.disks[i].size);
    }
    const int64_t start = clock_ms();
    const bool compared = any_instead(m);
    if (!compared) /* it would take the copies there for what they hold */
        foresee_begin(m);
    if (!pass_all(m, false, true, e) || !unexport_all(m, false, e))
        return false;
    if (compared)
        texts_add(&m->notes, "compared with the images that were there: %s differed",
                  units_size(a, m->moved_disk));
    for (size_t i = 0; i < m->plan.n; i++) {
        m->copies[i].safe = m->plan.disks[i].size;
        m->copies[i].instead = NULL;
        m->copies[i].pass.what = MIRROR_DIRTY;
        m->copies[i].pass.hot = m->copies[i].hot;
        m->copies[i].pass.start = m->copies[i].pass.flush_every = 0;
        m->copies[i].pass.dst_zero = false;
        m->copies[i].pass.bitmap = m->copies[i].bitmap;
    }
    kept_note(m, true);
    log_info("disks", "bulk copied %s in %s", units_size(a, m->moved_disk),
             units_time(b, clock_ms() - start));
    if (!copy_sample(m, e))
        return false;
    foresee_tick(m, true);
    return fault_point("bulk.done", e);
}

/* What the round has left out is marked by its bitmap alone: that is held. */
static bool round_ended(struct move *m, struct err *e)
{
    if (!unexport_all(m, false, e))
        return false;
    for (size_t i = 0; i < m->plan.n; i++)
        hot_end(m->copies[i].hot);
    return blk_bitmap_drop(&m->blk, copy_waiting(m) > 0, e);
}

static bool any_round(struct move *m, bool last, bool wait, struct err *e)
{
    const int64_t start = clock_ms();
    const uint64_t before = m->moved_disk;
    char a[UNITS_LEN], b[UNITS_LEN];

    if (!blk_bitmaps_rotate(&m->blk, e))
        return false;
    m->tracked_since_ms = clock_ms();
    memset(m->dirty_then, 0, sizeof m->dirty_then);
    pthread_mutex_lock(&m->lock);
    m->progress.round = ++m->round;
    pthread_mutex_unlock(&m->lock);
    for (size_t i = 0; i < m->plan.n; i++) {
        m->copies[i].pass.extents_first = last;
        hot_begin(m->copies[i].hot, wait);
    }
    /* After the last round exports and bitmaps go with QEMU, or with the undo. */
    if (!pass_all(m, true, !last, e) || (!last && !round_ended(m, e)))
        return false;
    log_info("disks", "round=%u%s copied=%s waits=%s took=%lldms", m->round,
             last ? " (last)" : "", units_size(a, m->moved_disk - before),
             units_size(b, last ? 0 : copy_waiting(m)),
             (long long)(clock_ms() - start));
    return last || copy_sample(m, e);
}

bool copy_round(struct move *m, bool last, struct err *e)
{
    return any_round(m, last, false, e);
}

bool copy_round_cold(struct move *m, struct err *e)
{
    return any_round(m, false, true, e);
}

bool copy_was_idle(const struct move *m)
{
    for (size_t i = 0; i < m->plan.n; i++)
        if (!m->copies[i].idle)
            return false;
    return true;
}

uint64_t copy_waiting(const struct move *m)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < m->plan.n; i++)
        sum += hot_waiting(m->copies[i].hot);
    return sum;
}

bool copy_instead(struct move *m,
                  bool (*pass)(struct copy_disk *c, const struct mirror_side *src,
                               struct err *e),
                  struct err *e)
{
    for (size_t i = 0; i < m->plan.n; i++)
        m->copies[i].instead = pass;
    const bool ok = pass_all(m, false, true, e);
    for (size_t i = 0; i < m->plan.n; i++)
        m->copies[i].instead = NULL;
    return ok && unexport_all(m, false, e);
}
