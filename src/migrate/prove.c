/* Proof that both sides are alike, while the guest runs and before memory follows.
 *
 *   look 1   every block, or a sample, is digested on both sides: what differs is suspected
 *   round    what its bitmap marks was written meanwhile, and is excused
 *   look 2   the suspects again; and a round
 *            what is suspected still is wrong: copied again, counted, said
 *
 * A bitmap marks a write when it has ended.  That may be after the look that saw its data and
 * after the rotation that follows; then the next round has its mark.  So a block is called
 * wrong only when it differed twice, with a round and no mark after each time. */
#include <errno.h>
#include <stdio.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/units.h"
#include "migrate/move-int.h"
#include "migrate/suspects.h"
#include "nbd-mirror/digest.h"

enum {
    SAMPLE = 256, /* blocks of a disk */
    LOOKS = 2,
};

/* Of one disk. */
struct prove {
    struct suspects list[2];
    struct suspects *now, *next; /* of these two */
    bool all;                    /* look at the whole disk */
    uint64_t looked;             /* bytes, in the first look, */
    uint64_t alike;              /* of those */
    struct digest_fold *fold;    /* over the latter */
};

static void turn(struct prove *p)
{
    struct suspects *const was = p->now;

    p->now = p->next;
    p->next = was;
}

static void on_alike(void *ctx, const struct digest *d)
{
    struct prove *const p = ctx;

    p->alike += d->len;
    digest_fold_add(p->fold, d);
}

/* The digest is of the newest first look. */
static bool fold_begin(struct prove *p, struct err *e)
{
    digest_fold_free(p->fold);
    p->alike = 0;
    p->fold = digest_fold_new(MIRROR_BLOCK);
    return p->fold != NULL || err_set(e, ERR_SYS, ENOMEM, "no memory to compare");
}

/* In the disk's thread. */
static bool look(struct copy_disk *c, const struct mirror_side *src, struct err *e)
{
    struct prove *const p = c->prove;
    const bool first = p->looked == 0;
    struct compare_look l = { .only = p->all ? NULL : p->now, .differ = p->next };

    if (!p->all && p->now->n == 0)
        return true;
    if (first) {
        if (!fold_begin(p, e))
            return false;
        l.alike = on_alike;
        l.ctx = p;
    }
    const bool ok = compare_look(c, src, &l, e);
    if (first)
        p->looked = atomic_load(&c->compared);
    p->all = false;
    turn(p);
    return ok;
}

bool prove_excuse(struct copy_disk *c, const struct mirror_side *src, struct err *e)
{
    struct prove *const p = c->prove;

    if (p == NULL || p->now->n == 0)
        return true;
    if (!compare_excuse(c, src, p->now, p->next, e))
        return false;
    turn(p);
    return true;
}

static bool mend(struct copy_disk *c, const struct mirror_side *src, struct err *e)
{
    const struct suspects *const s = c->prove->now;
    const struct mirror_pass pass = { .what = MIRROR_RANGES,
                                      .ranges = s->list,
                                      .nranges = s->n };

    return s->n == 0 || mirror_pass(c->mirror, src, &pass, e);
}

/* --- all disks --- */

static void prove_fini(struct move *m)
{
    for (size_t i = 0; i < m->plan.n; i++) {
        struct prove *const p = m->copies[i].prove;

        if (p != NULL)
            digest_fold_free(p->fold);
        free(p);
        m->copies[i].prove = NULL;
    }
}

static bool sample(struct suspects *s, uint64_t size, struct err *e)
{
    uint64_t random[SAMPLE];

    if (!random_bytes(random, sizeof random, e))
        return false;
    suspects_sample(s, size, SAMPLE, random);
    return true;
}

static bool prove_init(struct move *m, struct err *e)
{
    for (size_t i = 0; i < m->plan.n; i++) {
        struct prove *const p = calloc(1, sizeof *p);

        m->copies[i].prove = p;
        if (p == NULL)
            return err_set(e, ERR_SYS, ENOMEM, "no memory to compare");
        p->now = &p->list[0];
        p->next = &p->list[1];
        p->all = m->cfg->verify == MOVE_VERIFY_FULL;
        if (!p->all && !sample(p->now, m->plan.disks[i].size, e))
            return false;
    }
    return true;
}

static uint64_t suspected(const struct move *m)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < m->plan.n; i++)
        sum += suspects_bytes(m->copies[i].prove->now);
    return sum;
}

static bool looks(struct move *m, struct err *e)
{
    for (int i = 0; i < LOOKS; i++) {
        if (!copy_instead(m, look, e) || !fault_point("verify", e))
            return false;
        const uint64_t bytes = suspected(m);
        log_debug("verify", "look=%d suspected=%llu", i + 1, (unsigned long long)bytes);
        if (bytes == 0)
            return true;
        if (!copy_round(m, false, e))
            return false;
    }
    return true;
}

/* Until all is mended no next try may take these disks for what they ought to be: neither one
 * of this process (again.c) nor, by the journal, another. */
static bool distrust(struct move *m, struct err *e)
{
    for (size_t i = 0; i < m->plan.n; i++)
        if (m->copies[i].prove->now->n > 0)
            m->copies[i].safe = 0;
    m->unmended = true;
    return kept_lower(m, e);
}

/* What was copied again is flushed: copy_instead() does that. */
static bool trust(struct move *m, struct err *e)
{
    for (size_t i = 0; i < m->plan.n; i++)
        m->copies[i].safe = m->plan.disks[i].size;
    m->unmended = false;
    return kept_write(m, e);
}

static bool mend_all(struct move *m, uint64_t wrong, struct err *e)
{
    char a[UNITS_LEN];

    for (size_t i = 0; i < m->plan.n; i++)
        if (m->copies[i].prove->now->n > 0)
            log_warn("verify", "%s: %s at the destination differed, first at %llu",
                     m->plan.disks[i].target,
                     units_size(a, suspects_bytes(m->copies[i].prove->now)),
                     (unsigned long long)m->copies[i].prove->now->list[0].off);
    if (!distrust(m, e) || !copy_instead(m, mend, e))
        return false;
    for (size_t i = 0; i < m->plan.n; i++)
        m->copies[i].verified.repaired += suspects_bytes(m->copies[i].prove->now);
    texts_add(
        &m->notes,
        "%s of the copy differed without having been written, and was copied again: "
        "look at the destination's disks and memory",
        units_size(a, wrong));
    return true;
}

/* What the looks have found; and how much they have compared. */
static uint64_t found(struct move *m)
{
    for (size_t i = 0; i < m->plan.n; i++) {
        struct move_verified *const v = &m->copies[i].verified;
        const struct prove *const p = m->copies[i].prove;
        uint8_t sum[DIGEST_LEN];

        v->compared = p->looked;
        v->alike = p->alike;
        v->differing += suspects_bytes(p->now);
        if (p->fold == NULL)
            continue; /* a disk of no bytes */
        digest_fold_sum(p->fold, sum);
        digest_hex(sum, v->digest);
    }
    return suspected(m);
}

/* Of all disks together. */
static void sum_up(struct move *m)
{
    struct move_verified *const all = &m->verified;

    *all = (struct move_verified){ .done = true };
    for (size_t i = 0; i < m->plan.n; i++) {
        struct move_verified *const v = &m->copies[i].verified;

        v->done = true;
        all->compared += v->compared;
        all->alike += v->alike;
        all->differing += v->differing;
        all->repaired += v->repaired;
    }
}

/* What a sample finds wrong is never all of it. */
static void widen(struct move *m)
{
    for (size_t i = 0; i < m->plan.n; i++) {
        struct prove *const p = m->copies[i].prove;

        p->all = p->now->n > 0;
        if (p->all)
            p->looked = 0;
        p->now->n = 0;
    }
}

static bool prove(struct move *m, struct err *e)
{
    /* What waits for the last rounds is not there yet, which is no damage. */
    if ((copy_waiting(m) > 0 && !copy_round(m, false, e)) || !prove_init(m, e) ||
        !looks(m, e))
        return false;
    uint64_t wrong = found(m);
    if (wrong == 0)
        return true;
    if (!mend_all(m, wrong, e))
        return false;
    if (m->cfg->verify != MOVE_VERIFY_FULL) {
        widen(m);
        if (!looks(m, e))
            return false;
        wrong = found(m);
        if (wrong > 0 && !mend_all(m, wrong, e))
            return false;
    }
    return trust(m, e);
}

bool prove_run(struct move *m, struct err *e)
{
    char a[UNITS_LEN], b[UNITS_LEN];

    if (m->verified.done || m->cfg->verify == MOVE_VERIFY_NONE)
        return true;
    pthread_mutex_lock(&m->lock);
    snprintf(m->progress.why, sizeof m->progress.why,
             "comparing %s of both sides' disks",
             m->cfg->verify == MOVE_VERIFY_FULL ? "all" : "a sample");
    pthread_mutex_unlock(&m->lock);
    const bool ok = prove(m, e);
    prove_fini(m);
    if (!ok)
        return false;
    sum_up(m);
    log_info("verify", "compared=%s differing=%s", units_size(a, m->verified.compared),
             units_size(b, m->verified.differing));
    return true;
}
