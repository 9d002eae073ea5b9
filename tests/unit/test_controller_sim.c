/* The controller over simulated guests, links and QEMUs: thousands of seeds.
 *
 * A disk is a working set that is written evenly: what is dirty of it grows by the write
 * rate times the part that is still clean.  RAM is the same with QEMU's passes: pages that
 * were dirtied show up when it looks, which it does when nearly nothing is left; if nearly
 * nothing was dirtied either, it stops the guest by itself.  A disk round and RAM share the
 * link evenly.  A small working set is hot after some rounds, all of it.  A failure prints the
 * trace and the seed. */
#include <math.h>
#include <string.h>

#include "migrate/controller.h"
#include "unit.h"

enum {
    MIB = 1 << 20,
    TICK_MS = 20,
    END_MS = 3600 * 1000, /* by then everything has ended */
    SWITCH_MS = 100,      /* what converge.c passes as fixed_ms */
    SEEDS = 60,           /* of each trace */
    HOT_SET = 16000000,   /* bytes of the largest working set that is hot */
    DISK_STEPS = 5,
    CPU_STEPS = 4,
    TOLERANCE_MS = 60, /* of a steady guest's pause, beyond the budget */
};

/* --- the world --- */

struct load {
    double rate; /* bytes/s written when it writes */
    double set;  /* bytes of its working set; 0: never the same twice */
    /* It writes for on_ms of every period_ms; 0: always. */
    int64_t on_ms, period_ms;
};

struct trace {
    const char *name;
    struct load disks[2];
    struct load ram;
    double ram_total, link, disk_max; /* bytes and bytes/s; disk_max 0: as the link */
    double swing;                     /* the link's rate: +- this part of it */
    bool steady;                      /* the pause is held to the budget */
    bool easy; /* well below the link: it must converge unslowed */
};

struct sim {
    const struct trace *t;
    uint64_t seed;
    int64_t now, phase; /* ms; of bursts and of the link */
    double dirty[2], limit[2], waits[2];
    double sent; /* by rounds */
    unsigned rounds;
    bool never_hot;
    double left, dirtied, ram_rate; /* RAM: to send, dirtied since the look */
    int64_t synced_at;
    uint64_t syncs;
    bool ram, stopped;
    int cpu_percent, cpu_wanted; /* of its speed, held back; from the next look on */
    int disk_step[2], cpu_step;
    double disk_rate, ram_limit;
    int round_fixed;
};

static double uniform(struct sim *s)
{
    s->seed = s->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(s->seed >> 33) / (double)(UINT64_C(1) << 31);
}

static double between(struct sim *s, double a, double b)
{
    return a + (b - a) * uniform(s);
}

static double writes(const struct sim *s, const struct load *l)
{
    if (l->period_ms == 0)
        return l->rate;
    return (s->now + s->phase) % l->period_ms < l->on_ms ? l->rate : 0;
}

/* Dirty bytes after @ms more. */
static double dirtier(const struct load *l, double dirty, double rate, double ms)
{
    const double more = rate * ms / 1000;

    if (l->set <= 0)
        return dirty + more;
    return l->set - (l->set - dirty) * exp(-more / l->set);
}

static double link_now(const struct sim *s)
{
    const double turn = (double)((s->now + s->phase) % 60000) / 60000;

    return s->t->link * (1 + s->t->swing * sin(turn * 6.283));
}

static double ram_speed(const struct sim *s, bool round)
{
    const double share = round ? link_now(s) / 2 : link_now(s);

    return s->ram_limit > 0 && s->ram_limit < share ? s->ram_limit : share;
}

static double disk_speed(const struct sim *s)
{
    const bool busy = s->ram && s->left > 0;
    const double share = link_now(s) - (busy ? ram_speed(s, true) : 0);

    return s->t->disk_max > 0 && s->t->disk_max < share ? s->t->disk_max : share;
}

/* QEMU looks for dirty pages when what is left takes less than 1 ms. */
static void look(struct sim *s)
{
    s->left = s->dirtied;
    s->dirtied = 0;
    s->syncs++;
    s->synced_at = s->now;
    s->cpu_percent = s->cpu_wanted;
    s->stopped = s->left < link_now(s) / 1000;
}

static void pass_time(struct sim *s, double ms, bool round)
{
    const double slow = (100.0 - s->cpu_percent) / 100;

    for (; ms > 0 && !s->stopped; ms -= TICK_MS) {
        const double dt = ms < TICK_MS ? ms : TICK_MS;

        for (int i = 0; i < 2; i++) {
            double w = writes(s, &s->t->disks[i]) * slow;

            if (s->limit[i] > 0 && w > s->limit[i])
                w = s->limit[i];
            s->dirty[i] = dirtier(&s->t->disks[i], s->dirty[i], w, dt);
        }
        s->now += (int64_t)ceil(dt);
        if (!s->ram)
            continue;
        s->dirtied = dirtier(&s->t->ram, s->dirtied, writes(s, &s->t->ram) * slow, dt);
        s->left -= ram_speed(s, round) * dt / 1000;
        if (s->left < link_now(s) / 1000)
            look(s);
    }
}

static double hot(const struct sim *s, int i)
{
    const double set = s->t->disks[i].set;

    return !s->never_hot && s->rounds >= 3 && set <= HOT_SET ? set : 0;
}

/* What is dirty or waits, or both: the same blocks with the chance that both have. */
static double remains(const struct sim *s, int i)
{
    const double both =
        s->waits[i] > 0 ? s->waits[i] * s->dirty[i] / s->t->disks[i].set : 0;

    return s->dirty[i] + s->waits[i] - both;
}

/* The bitmaps are rotated: how much is to be copied, and what waits then. */
static double rotate(struct sim *s, bool all)
{
    double bytes = 0;

    for (int i = 0; i < 2; i++) {
        const bool leave = !all && hot(s, i) > 0;

        bytes += remains(s, i) - (leave ? s->dirty[i] : 0);
        s->waits[i] = leave ? s->dirty[i] : 0;
        s->dirty[i] = 0;
    }
    s->rounds++;
    return bytes;
}

static void round_sim(struct sim *s, struct control *c, bool all)
{
    const int64_t begun = s->now;
    const double bytes = rotate(s, all);
    const double fixed = s->round_fixed * between(s, 1, 1.3);
    double left = bytes;

    s->sent += bytes;
    pass_time(s, fixed, false);
    /* The rounds' own speed may change while they run. */
    while (left >= 1 && !s->stopped) {
        const double speed = disk_speed(s), ms = left * 1000 / speed;
        const double step = ms > 1000 ? 1000 : ms;

        pass_time(s, step, true);
        left -= speed * step / 1000;
    }
    s->dirty[0] += left > 1 ? left : 0; /* the last round has them */
    control_round_took(c, (uint64_t)bytes, s->disk_rate, s->now - begun, !s->ram);
    if (bytes > 4 * MIB && s->now > begun) {
        const double rate = bytes * 1000 / (double)(s->now - begun);

        s->disk_rate = s->disk_rate > 0 ? (s->disk_rate + rate) / 2 : rate;
    }
    pass_time(s, 50, false);
}

static double pause_of(struct sim *s)
{
    const double bytes = remains(s, 0) + remains(s, 1) +
                         (s->ram && !s->stopped ? s->left + s->dirtied : 0);
    double speed = link_now(s);

    if (s->t->disk_max > 0 && s->t->disk_max < speed)
        speed = s->t->disk_max;
    return SWITCH_MS * between(s, 0.8, 1) + s->round_fixed + bytes * 1000 / speed;
}

/* --- one move --- */

struct outcome {
    enum control_do how;
    int64_t at, predicted;
    double pause, sent;
    int slows, missed;
    bool stopped;
};

static void sample(struct sim *s, struct control_sample *out, uint64_t budget,
                   int64_t timeout)
{
    *out = (struct control_sample){
        .now_ms = s->now,
        .budget_ms = budget,
        .overdue = timeout > 0 && s->now >= timeout,
        .rtt_us = 200,
        .ndisks = 2,
        .disk_rate = s->disk_rate,
        .ram_running = s->ram,
        .ram_remaining = (uint64_t)(s->left > 0 ? s->left : 0),
        .ram_rate = s->ram ? s->ram_rate : 0,
        .ram_since_sync_ms = s->now - s->synced_at,
        .ram_syncs = s->syncs,
        .can_slow_cpus = s->cpu_step < CPU_STEPS,
        .guest_stopped = s->stopped,
    };
    for (int i = 0; i < 2; i++)
        out->disks[i] = (struct control_disk){
            .dirty = (uint64_t)s->dirty[i] + (uint64_t)s->waits[i],
            .hot = (uint64_t)hot(s, i),
            .waits = (uint64_t)s->waits[i],
            .dirty_rate = writes(s, &s->t->disks[i]),
            .can_slow = s->disk_step[i] < DISK_STEPS,
        };
}

static void do_slow(struct sim *s, const struct control_verdict *v)
{
    if (v->todo == CONTROL_SLOW_CPUS)
        s->cpu_wanted = 90 * ++s->cpu_step / CPU_STEPS;
    else
        s->limit[v->disk] = s->disk_rate / (double)(2 << s->disk_step[v->disk]++);
}

static void act(struct sim *s, struct control *c, const struct control_verdict *v)
{
    switch (v->todo) {
    case CONTROL_ROUND:
        round_sim(s, c, v->all);
        break;
    case CONTROL_RAM:
        s->ram = true;
        s->left = s->t->ram_total;
        s->dirtied = 0;
        s->syncs = 1;
        s->synced_at = s->now;
        control_restart(c);
        pass_time(s, TICK_MS, false);
        break;
    case CONTROL_SLOW_DISK:
    case CONTROL_SLOW_CPUS:
        do_slow(s, v);
        break;
    default:
        pass_time(s, TICK_MS, false);
        break;
    }
    s->ram_limit = v->ram_limit;
    s->ram_rate = ram_speed(s, v->todo == CONTROL_ROUND);
}

static struct outcome run_hot(const struct trace *t, uint64_t seed,
                              enum control_policy policy, uint64_t budget,
                              int64_t timeout, bool never_hot)
{
    const struct control_cfg cfg = { policy, SWITCH_MS, 10000 };
    struct sim s = { .t = t, .seed = seed, .never_hot = never_hot };
    struct control_sample in;
    struct control_verdict v;
    struct control c;
    struct outcome out = { .slows = 0 };

    for (int i = 0; i < 3; i++)
        uniform(&s);
    s.phase = (int64_t)between(&s, 0, 60000);
    s.round_fixed = (int)between(&s, 15, 70);
    control_init(&c, &cfg);
    s.disk_rate = disk_speed(&s); /* of the bulk, which took some seconds */
    pass_time(&s, between(&s, 1000, 60000), false);
    for (;;) {
        sample(&s, &in, budget, timeout);
        const int before = (int)c.missed;
        control_step(&c, &in, &v);
        assert_true(v.why[0] != '\0' && control_name(v.todo) != NULL);
        out.slows += v.todo == CONTROL_SLOW_CPUS || v.todo == CONTROL_SLOW_DISK;
        out.missed += (int)c.missed > before;
        if (v.todo >= CONTROL_SWITCH || s.now > END_MS ||
            (policy == CONTROL_ON_STALL_WAIT && in.overdue))
            break;
        act(&s, &c, &v);
    }
    out.how = v.todo;
    out.at = s.now;
    out.predicted = v.pause_ms;
    out.stopped = s.stopped;
    out.pause = pause_of(&s);
    out.sent = s.sent;
    return out;
}

static struct outcome run(const struct trace *t, uint64_t seed,
                          enum control_policy policy, uint64_t budget, int64_t timeout)
{
    return run_hot(t, seed, policy, budget, timeout, false);
}

#define LINK (100.0 * MIB)
/* clang-format off */
static const struct trace traces[] = {
    { "idle", { { 0, 0, 0, 0 } }, { 0.2e6, 4e6, 0, 0 }, 2e9, LINK, 0, 0, true, true },
    { "steady", { { 10e6, 0, 0, 0 }, { 5e6, 200e6, 0, 0 } }, { 10e6, 100e6, 0, 0 },
      2e9, LINK, 0, 0, true, true },
    { "bursty", { { 150e6, 2e9, 3000, 30000 } }, { 80e6, 500e6, 2000, 20000 },
      2e9, LINK, 0, 0, false, false },
    { "log", { { 20e6, 0, 0, 0 } }, { 2e6, 50e6, 0, 0 }, 1e9, LINK, 0, 0, true, true },
    { "checkpoint", { { 5e6, 0, 0, 0 }, { 400e6, 3e9, 4000, 60000 } },
      { 20e6, 200e6, 0, 0 }, 4e9, LINK, 0, 0, false, false },
    { "hot", { { 60e6, 4e6, 0, 0 } }, { 10e6, 5e6, 0, 0 }, 1e9, LINK, 0, 0,
      true, false },
    { "spot", { { 20e6, 3e6, 0, 0 }, { 5e6, 0, 0, 0 } }, { 5e6, 100e6, 0, 0 }, 1e9,
      LINK, 0, 0, true, true },
    { "spot-slow", { { 5e6, 1e6, 0, 0 }, { 1e6, 0, 0, 0 } }, { 1e6, 10e6, 0, 0 }, 1e8,
      12e6, 0, 0, true, true },
    { "beside-spot", { { 250e6, 11e6, 0, 0 }, { 38e6, 0, 0, 0 } }, { 5e6, 100e6, 0, 0 },
      1e9, LINK, 0, 0, false, false },
    { "memory", { { 2e6, 0, 0, 0 } }, { 300e6, 3e9, 0, 0 }, 4e9, LINK, 0, 0, false,
      false },
    { "fast", { { 150e6, 0, 0, 0 } }, { 10e6, 0, 0, 0 }, 1e9, LINK, 0, 0, false, false },
    { "swing", { { 15e6, 0, 0, 0 } }, { 10e6, 100e6, 0, 0 }, 2e9, LINK, 0, 0.4, false,
      false },
    { "slow-disk", { { 8e6, 0, 0, 0 } }, { 10e6, 50e6, 0, 0 }, 1e9, LINK, 30.0 * MIB, 0,
      true, true },
};
/* clang-format on */
enum { TRACES = sizeof traces / sizeof traces[0] };

/* The same guest, faster or slower, on a budget of its own. */
static struct trace vary(const struct trace *t, struct sim *r, uint64_t *budget)
{
    const double faster = between(r, 0.7, 1.2);
    struct trace v = *t;

    for (int i = 0; i < 2; i++)
        v.disks[i].rate *= faster;
    v.ram.rate *= faster;
    *budget = (uint64_t)between(r, 300, 1500);
    return v;
}

static void complain(const struct trace *t, uint64_t seed, const struct outcome *o)
{
    print_error(
        "trace %s, seed %llu: %s at %lld ms, predicted %lld ms, %.0f ms, slowed "
        "%d times, missed %d chances\n",
        t->name, (unsigned long long)seed, control_name(o->how), (long long)o->at,
        (long long)o->predicted, o->pause, o->slows, o->missed);
}

#define HOLDS(x) \
    do { \
        if (!(x)) { \
            complain(&t, seed, &o); \
            assert_true(x); \
        } \
    } while (0)

static void check(const struct trace *trace, enum control_policy policy, uint64_t seed)
{
    struct sim r = { .seed = seed * 977 + 13 };
    uint64_t budget;
    const struct trace t = vary(trace, &r, &budget);
    const bool timed =
        policy == CONTROL_ON_STALL_WAIT || policy == CONTROL_ON_STALL_SUSPEND;
    const struct outcome o = run(&t, seed, policy, budget, timed ? 120000 : 0);

    HOLDS(o.at < END_MS);
    if (o.how == CONTROL_SWITCH && !o.stopped)
        HOLDS(o.predicted <= (int64_t)budget);
    HOLDS(o.slows <=
          (policy == CONTROL_ON_STALL_THROTTLE ? 2 * DISK_STEPS + CPU_STEPS : 0));
    HOLDS(o.missed <= 4);
    HOLDS(o.how == CONTROL_SWITCH || !t.easy);
    HOLDS(o.slows == 0 || !t.easy);
    if (o.how == CONTROL_SWITCH && t.steady)
        HOLDS(o.pause <= (double)budget + TOLERANCE_MS);
    if (policy == CONTROL_ON_STALL_SUSPEND)
        HOLDS(o.how == CONTROL_SWITCH || o.how == CONTROL_SUSPEND);
}

static void all_traces(enum control_policy policy)
{
    for (int i = 0; i < TRACES; i++)
        for (uint64_t seed = 1; seed <= SEEDS; seed++)
            check(&traces[i], policy, seed);
}

static void controller__waiting_ends_with_a_switch_or_the_time(void **state)
{
    (void)state;
    all_traces(CONTROL_ON_STALL_WAIT);
}

static void controller__throttling_ends_and_keeps_the_budget(void **state)
{
    (void)state;
    all_traces(CONTROL_ON_STALL_THROTTLE);
}

static void controller__suspending_always_ends_at_the_destination(void **state)
{
    (void)state;
    all_traces(CONTROL_ON_STALL_SUSPEND);
}

static void controller__aborting_ends(void **state)
{
    (void)state;
    all_traces(CONTROL_ON_STALL_ABORT);
}

/* What neither waits nor aborts could do: slowing the guest makes it move. */
static void controller__throttling_moves_what_is_faster_than_the_link(void **state)
{
    (void)state;
    for (int i = 0; i < TRACES; i++) {
        const bool fast = strcmp(traces[i].name, "fast") == 0;

        if (!fast && strcmp(traces[i].name, "memory") != 0)
            continue;
        for (uint64_t seed = 1; seed <= SEEDS; seed++) {
            const struct trace t = traces[i];
            struct outcome o = run(&t, seed, CONTROL_ON_STALL_ABORT, 500, 0);

            HOLDS(o.how == CONTROL_STALLED);
            o = run(&t, seed, CONTROL_ON_STALL_THROTTLE, 500, 0);
            HOLDS(o.how == CONTROL_SWITCH && o.slows > 0);
        }
    }
}

/* Rounds that leave out what is hot send less, and the pause is no longer for it. */
static void controller__what_is_hot_is_sent_less_often(void **state)
{
    (void)state;
    for (int i = 0; i < TRACES; i++) {
        double sent[2] = { 0 }, pause[2] = { 0 };

        if (strncmp(traces[i].name, "spot", 4) != 0)
            continue;
        for (uint64_t seed = 1; seed <= SEEDS; seed++)
            for (int never = 0; never < 2; never++) {
                const struct trace t = traces[i];
                const struct outcome o =
                    run_hot(&t, seed, CONTROL_ON_STALL_ABORT, 500, 0, never);

                HOLDS(o.how == CONTROL_SWITCH);
                sent[never] += o.sent;
                pause[never] += o.pause;
            }
        print_message("%s: rounds send %.2f of what they did, pauses %.2f\n",
                      traces[i].name, sent[0] / sent[1], pause[0] / pause[1]);
        assert_true(sent[0] < 0.8 * sent[1]);
        assert_true(pause[0] < 1.1 * pause[1]);
    }
}

/* What waits, and is dirty again, counts twice: that alone is no reason to stall. */
static void controller__what_waits_does_not_keep_memory_from_starting(void **state)
{
    (void)state;
    for (int i = 0; i < TRACES; i++) {
        if (strcmp(traces[i].name, "beside-spot") != 0)
            continue;
        for (uint64_t budget = 350; budget <= 600; budget += 25)
            for (uint64_t seed = 1; seed <= SEEDS; seed++) {
                const struct trace t = traces[i];
                struct outcome o =
                    run_hot(&t, seed, CONTROL_ON_STALL_ABORT, budget, 0, true);

                if (o.how != CONTROL_SWITCH)
                    continue;
                o = run_hot(&t, seed, CONTROL_ON_STALL_ABORT, budget, 0, false);
                HOLDS(o.how == CONTROL_SWITCH);
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(controller__what_is_hot_is_sent_less_often),
        cmocka_unit_test(controller__what_waits_does_not_keep_memory_from_starting),
        cmocka_unit_test(controller__waiting_ends_with_a_switch_or_the_time),
        cmocka_unit_test(controller__throttling_ends_and_keeps_the_budget),
        cmocka_unit_test(controller__suspending_always_ends_at_the_destination),
        cmocka_unit_test(controller__aborting_ends),
        cmocka_unit_test(controller__throttling_moves_what_is_faster_than_the_link),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
