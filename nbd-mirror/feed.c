#include "nbd-mirror/feed.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "nbd-mirror/counters.h"
#include "nbd-mirror/frontier.h"
#include "nbd-mirror/hot.h"
#include "nbd-mirror/mirror.h"

static bool asks(const struct feed *f)
{
    return f->cfg.rule.use[EXTENTS_ALLOC] || f->cfg.rule.use[EXTENTS_DIRTY];
}

/* The list of a pass that is told what to copy: complete from the start. */
static bool list_take(struct feed *f, struct err *e)
{
    f->item = calloc(f->cfg.nranges + 1, sizeof *f->item);
    if (f->item == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "no memory for %zu stretches",
                       f->cfg.nranges);
    for (size_t i = 0; i < f->cfg.nranges; i++) {
        const struct mirror_range *r = &f->cfg.ranges[i];

        assert(r->off <= f->cfg.rule.size && r->len <= f->cfg.rule.size - r->off);
        assert(r->off % f->cfg.rule.align == 0);
        if (r->len > 0)
            f->item[f->nitems++] = (struct feed_item){ r->off, r->len, PIECE_DATA };
        counter_add(&f->cfg.counters->pass_total, r->len);
    }
    f->cfg.ranges = NULL; /* the caller's again */
    return true;
}

uint64_t feed_tail(const struct feed_cfg *cfg)
{
    const struct extents_rule *r = &cfg->rule;

    return r->use[EXTENTS_ALLOC] || r->use[EXTENTS_DIRTY] ? r->size - r->size % r->align
                                                          : r->size;
}

bool feed_init(struct feed *f, const struct feed_cfg *cfg, const int *wake_fd,
               unsigned n, struct err *e)
{
    *f = (struct feed){ .cfg = *cfg, .window = FEED_WINDOW_MIN };
    assert(n <= FEED_LANES_MAX);
    for (unsigned i = 0; i < FEED_LANES_MAX; i++)
        f->wake_fd[i] = i < n ? wake_fd[i] : -1;
    f->current = &f->slot[0];
    f->coming = &f->slot[1];
    /* The rest of a disk that is no whole number of blocks cannot be asked about: it is
     * data, and comes first. */
    f->ask_end = asks(f) ? cfg->rule.size - cfg->rule.size % cfg->rule.align : 0;
    f->run = (struct piece){ f->ask_end, cfg->rule.size - f->ask_end, PIECE_DATA };
    if (cfg->start > f->run.off)
        f->run = (struct piece){ cfg->start, cfg->rule.size - cfg->start, PIECE_DATA };
    f->asked = cfg->start < f->ask_end ? cfg->start : f->ask_end;
    if (cfg->ranges != NULL)
        f->run.len = 0;
    if (asks(f) && (!extents_init(&f->slot[0], e) || !extents_init(&f->slot[1], e))) {
        extents_fini(&f->slot[0]);
        return false;
    }
    pthread_mutex_init(&f->lock, NULL);
    /* How much a dirty bitmap marks comes out answer by answer: see feed_tell(). */
    counter_set(&cfg->counters->pass_total,
                cfg->rule.use[EXTENTS_DIRTY] || cfg->ranges != NULL ? f->run.len
                                                                    : cfg->rule.size);
    counter_set(&cfg->counters->pass_done, cfg->start);
    rate_set(&f->rate, cfg->rate, clock_ns());
    if (cfg->ranges == NULL)
        return true;
    assert(cfg->whole_list && !asks(f));
    if (list_take(f, e))
        return true;
    feed_fini(f);
    return false;
}

void feed_fini(struct feed *f)
{
    pthread_mutex_destroy(&f->lock);
    extents_fini(&f->slot[0]);
    extents_fini(&f->slot[1]);
    free(f->item);
}

static void wake(int fd)
{
    const uint64_t one = 1;

    /* Fails only when the counter is full: then it is readable anyway. */
    if (fd >= 0 && write(fd, &one, sizeof one) < 0)
        assert(errno == EAGAIN);
}

static void wake_waiting_locked(struct feed *f)
{
    for (unsigned i = 0; i < FEED_LANES_MAX; i++)
        if (f->waiting & 1u << i)
            wake(f->wake_fd[i]);
    f->waiting = 0;
}

void feed_wake_all(struct feed *f)
{
    for (unsigned i = 0; i < FEED_LANES_MAX; i++)
        wake(f->wake_fd[i]);
}

/* --- pieces --- */

/* Nothing is to be done for @p: zeroes that the destination has, or what the bitmap does
 * not mark, which no total counts. */
static void skip(const struct feed *f, const struct piece *p)
{
    if (f->cfg.rule.use[EXTENTS_DIRTY])
        return;
    counter_add(&f->cfg.counters->skipped, p->len);
    counter_add(&f->cfg.counters->pass_done, p->len);
}

/* The next stretch of the list into ->run.  The list is complete. */
static bool run_from_list(struct feed *f)
{
    if (f->item_next == f->nitems)
        return false;
    const struct feed_item *i = &f->item[f->item_next++];
    f->run = (struct piece){ i->off, i->len, (enum piece_kind)i->kind };
    return true;
}

/* The next stretch of the answers that are here into ->run. */
static bool run_from_answers(struct feed *f)
{
    while (!extents_next(f->current, &f->cfg.rule, &f->run)) {
        if (f->answer != ANSWER_READY)
            return false;
        struct extents *const empty = f->current;
        f->current = f->coming;
        f->coming = empty;
        f->answer = ANSWER_NONE;
    }
    return true;
}

/* Whether all that there is to know has been told. */
static bool told_all(const struct feed *f)
{
    return f->asked == f->ask_end && f->answer != ANSWER_ASKED;
}

/* Make ->run the next stretch that needs work. */
static bool run_next(struct feed *f)
{
    do {
        if (f->run.kind == PIECE_SKIP && f->run.len > 0)
            skip(f, &f->run);
        f->run.len = 0;
        if (f->cfg.whole_list && !told_all(f))
            return false;
        if (!(f->cfg.whole_list ? run_from_list(f) : run_from_answers(f)))
            return false;
    } while (f->run.kind == PIECE_SKIP);
    return true;
}

/* Whether the rate limit lets the next piece go, which is of data; *later_ms: when. */
static bool rate_lets(struct feed *f, int *later_ms)
{
    const int64_t wait_ns = rate_wait_ns(&f->rate, clock_ns());

    if (wait_ns == 0)
        return true;
    *later_ms =
        (int)(wait_ns < NS_PER_S ? (wait_ns + NS_PER_MS - 1) / NS_PER_MS : MS_PER_S);
    return false;
}

enum feed_next feed_take(struct feed *f, unsigned lane, uint32_t large,
                         struct piece *out, int *later_ms)
{
    LOCK_SCOPE(&f->lock);
    if (f->run.len == 0 && !run_next(f)) {
        if (told_all(f))
            return FEED_END;
        f->waiting |= 1u << lane;
        return FEED_WAIT;
    }
    if (f->run.kind == PIECE_DATA && !rate_lets(f, later_ms))
        return FEED_LATER;
    if (large > 0 && f->run.kind == PIECE_DATA && f->run.len >= large)
        *out = piece_take(&f->run, large);
    else
        *out = piece_cut(&f->run,
                         f->run.kind == PIECE_ZERO ? FEED_ZERO_MAX : f->cfg.data_max);
    if (out->kind == PIECE_DATA)
        rate_take(&f->rate, out->len, clock_ns());
    if (f->cfg.frontier != NULL)
        frontier_take(f->cfg.frontier, out->off, out->len);
    return FEED_PIECE;
}

/* --- questions and answers --- */

struct extents *feed_ask(struct feed *f)
{
    LOCK_SCOPE(&f->lock);
    const uint64_t left = f->ask_end - f->asked;

    if (f->answer != ANSWER_NONE || left == 0)
        return NULL;
    extents_ask(f->coming, f->asked, left < f->window ? left : f->window);
    f->answer = ANSWER_ASKED;
    return f->coming;
}

/* A fragmented disk gets small questions, so that little of an answer is thrown away. */
static void window_adapt(struct feed *f, const struct extents *x)
{
    if (!x->list[EXTENTS_ALLOC].cut && !x->list[EXTENTS_DIRTY].cut)
        f->window *= 2;
    else if (f->window > FEED_WINDOW_MIN)
        f->window /= 2;
    if (f->window > FEED_WINDOW_MAX)
        f->window = FEED_WINDOW_MAX;
}

/* How much of the answer the bitmap marks. */
static uint64_t marked(const struct feed *f, const struct extents *x)
{
    struct extents copy = *x; /* of where it stands; the lists are shared */
    struct piece p;
    uint64_t sum = 0;

    while (extents_next(&copy, &f->cfg.rule, &p))
        if (p.kind != PIECE_SKIP)
            sum += p.len;
    return sum;
}

/* All that the bitmap marks, whatever is done about it. */
static void tell_hot(const struct feed *f, const struct extents *x)
{
    const struct extents_list *const l = &x->list[EXTENTS_DIRTY];
    uint64_t at = x->off;

    for (uint32_t i = 0; i < l->n && at < x->end; i++) {
        const uint64_t left = x->end - at, told = l->pairs[2 * i];
        const uint64_t len = told < left ? told : left;

        if (l->pairs[2 * i + 1] & EXTENTS_STATE_DIRTY)
            hot_marked(f->cfg.hot, at, len);
        at += len;
    }
}

static bool list_add(struct feed *f, const struct piece *p, struct err *e)
{
    struct feed_item *last = f->nitems > 0 ? &f->item[f->nitems - 1] : NULL;

    if (last != NULL && last->kind == p->kind && last->off + last->len == p->off) {
        last->len += p->len;
        return true;
    }
    if (f->nitems == FEED_LIST_MAX)
        return err_set(e, ERR_NBD, 0, "src: more than %d stretches are to be copied",
                       FEED_LIST_MAX);
    if (f->nitems == f->items_max) {
        const size_t max = f->items_max > 0 ? 2 * f->items_max : 1024;
        struct feed_item *more = realloc(f->item, max * sizeof *more);

        if (more == NULL)
            return err_set(e, ERR_SYS, ENOMEM, "no memory for %zu stretches", max);
        f->item = more;
        f->items_max = max;
    }
    f->item[f->nitems++] = (struct feed_item){ p->off, p->len, p->kind };
    return true;
}

/* Keep all of the answer that is work. */
static bool list_add_answer(struct feed *f, struct extents *x, struct err *e)
{
    struct piece p;

    while (extents_next(x, &f->cfg.rule, &p)) {
        if (p.kind == PIECE_SKIP)
            skip(f, &p);
        else if (!list_add(f, &p, e))
            return false;
    }
    return true;
}

bool feed_refused(struct feed *f)
{
    struct extents *const x = f->coming; /* the caller's until ->answer changes */
    const uint32_t data[] = { (uint32_t)x->len, 0 };

    if (f->cfg.rule.use[EXTENTS_DIRTY])
        return false;
    extents_ask(x, x->off, x->len); /* forgets a part of an answer */
    extents_record(x, EXTENTS_ALLOC, data, 1);
    return true;
}

bool feed_tell(struct feed *f, struct err *e)
{
    struct extents *const x = f->coming; /* the caller's until ->answer changes */
    struct extents_list *const ours = &x->list[EXTENTS_OURS];

    if (f->cfg.hot != NULL)
        ours->n =
            (uint32_t)hot_pairs(f->cfg.hot, x->off, (uint32_t)x->len, ours->pairs);
    if (!extents_check(x, &f->cfg.rule, e))
        return err_wrap(e, "src: block status of %" PRIu64 " bytes at %" PRIu64, x->len,
                        x->off);
    if (f->cfg.hot != NULL)
        tell_hot(f, x);
    if (f->cfg.rule.use[EXTENTS_DIRTY])
        counter_add(&f->cfg.counters->pass_total, marked(f, x));

    LOCK_SCOPE(&f->lock);
    assert(f->answer == ANSWER_ASKED);
    window_adapt(f, x);
    f->asked = x->end;
    if (f->cfg.whole_list && !list_add_answer(f, x, e))
        return false;
    f->answer = f->cfg.whole_list ? ANSWER_NONE : ANSWER_READY;
    wake_waiting_locked(f);
    return true;
}
