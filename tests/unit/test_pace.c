/* The pace against a model of a network: a queue without end, a speed, a delay; a shaper
 * that lets a burst pass at once after a while of silence. */
#include "unit.h"

#include "tunnel/pace.h"

enum { MS = 1000000, FRAME = 32 << 10, EVENTS = 4096 };
static const int64_t second = 1000000000;

struct net {
    double speed;  /* bytes/ns */
    int64_t delay; /* ns, to and fro */
    int64_t burst; /* ns of ->speed that pass at once */
    int64_t free;  /* when the last byte queued will have left */

    struct {
        uint64_t number;
        int64_t at;
    } answer[EVENTS]; /* on their way back, in order */
    unsigned head, tail;

    uint64_t sent, acked_bytes;
    int64_t
        worst; /* longest time a byte waited in the queue since it was last cleared */
};

static void net_send(struct net *n, uint64_t bytes, int64_t now)
{
    if (n->free < now - n->burst)
        n->free = now - n->burst;
    if (n->free - now > n->worst)
        n->worst = n->free - now;
    n->free += (int64_t)((double)bytes / n->speed);
    n->sent += bytes;
}

static void net_probe(struct net *n, struct pace *p, int64_t now)
{
    if (!pace_wants_probe(p, n->sent))
        return;
    assert_true(n->head - n->tail < EVENTS);
    n->answer[n->head % EVENTS].number = pace_probe(p, n->sent, now);
    n->answer[n->head++ % EVENTS].at = (n->free > now ? n->free : now) + n->delay;
}

static void net_answer(struct net *n, struct pace *p, int64_t now)
{
    while (n->tail != n->head && n->answer[n->tail % EVENTS].at <= now)
        (void)pace_answer(p, n->answer[n->tail++ % EVENTS].number, now);
}

/* Nothing to send, for @ns. */
static void rest(struct pace *p, struct net *n, int64_t *now, int64_t ns)
{
    for (const int64_t end = *now + ns; *now < end; *now += MS / 10)
        net_answer(n, p, *now);
}

/* A sender that always has more, for @ns; returns bytes/ns. */
static double run(struct pace *p, struct net *n, int64_t *now, int64_t ns)
{
    const int64_t start = *now, end = *now + ns;
    const uint64_t before = n->sent;

    for (; *now < end; *now += MS / 10) {
        net_answer(n, p, *now);
        for (int i = 0; i < 1000 && pace_open(p, n->sent); i++) {
            net_send(n, FRAME, *now);
            net_probe(n, p, *now);
        }
        net_probe(n, p, *now);
    }
    return (double)(n->sent - before) / (double)(end - start);
}

/* MB/s, round trip in ms */
static const double speeds[] = { 1, 12, 120, 1200 };
static const int delays[] = { 0, 1, 20, 100, 300 };

static void pace__network_is_busy_and_the_queue_short(void **state)
{
    (void)state;
    for (unsigned s = 0; s < 4; s++)
        for (unsigned d = 0; d < 5; d++) {
            struct net n = { .speed = speeds[s] / 1000, .delay = delays[d] * MS };
            struct pace p = { 0 };
            int64_t now = second;

            run(&p, &n, &now, 8 * second);
            n.worst = 0;
            const double got = run(&p, &n, &now, 60 * second);
            if (got < .93 * n.speed)
                fail_msg("%.0f MB/s, %d ms: only %.1f MB/s", speeds[s], delays[d],
                         got * 1000);
            /* 256 KiB are the least, whatever the speed; after each emptying the gap is
             * filled at once, so that up to a delay more waits for a moment. */
            const double most =
                60 + 1.1 * delays[d] + 1.3 * 256 * 1024 / speeds[s] / 1000;
            if ((double)n.worst / MS > most)
                fail_msg("%.0f MB/s, %d ms: a queue of %.1f ms", speeds[s], delays[d],
                         (double)n.worst / MS);
        }
}

static void pace__follows_a_network_that_changes(void **state)
{
    struct net n = { .speed = .1, .delay = 5 * MS };
    struct pace p = { 0 };
    int64_t now = second;

    (void)state;
    run(&p, &n, &now, 30 * second);
    n.speed = .01; /* slower: the queue is short again after a while */
    run(&p, &n, &now, 40 * second);
    n.worst = 0;
    assert_true(run(&p, &n, &now, 20 * second) > .9 * n.speed);
    assert_true(n.worst < 100 * MS);
    n.speed = .2; /* faster */
    run(&p, &n, &now, 5 * second);
    assert_true(run(&p, &n, &now, 20 * second) > .9 * n.speed);
    n.delay = 200 * MS; /* further away */
    run(&p, &n, &now, 40 * second);
    assert_true(run(&p, &n, &now, 20 * second) > .9 * n.speed);
    n.delay = 1 * MS; /* near again */
    run(&p, &n, &now, 40 * second);
    n.worst = 0;
    assert_true(run(&p, &n, &now, 20 * second) > .9 * n.speed);
    assert_true(n.worst < 100 * MS);
}

static void pace__a_shapers_burst_is_not_its_speed(void **state)
{
    struct net n = { .speed = .0125, .delay = MS / 10, .burst = 20 * MS };
    struct pace p = { 0 };
    int64_t now = second;

    (void)state;
    run(&p, &n, &now, 5 * second);
    for (int i = 0; i < 30; i++) {
        rest(&p, &n, &now, second / 5);
        n.worst = 0;
        run(&p, &n, &now, second / 2);
        if (n.worst > 100 * MS)
            fail_msg("a queue of %.1f ms", (double)n.worst / MS);
    }
}

static void pace__starts_soon(void **state)
{
    struct net n = { .speed = .1, .delay = 100 * MS }; /* 10 MB fill it */
    struct pace p = { 0 };
    int64_t now = second;

    (void)state;
    run(&p, &n, &now, 2 * second);
    assert_true(run(&p, &n, &now, second) > .9 * n.speed);
}

static void pace__answers_that_are_none_change_nothing(void **state)
{
    struct pace p = { 0 };

    (void)state;
    assert_false(pace_answer(&p, 0, second));
    assert_int_equal(pace_probe(&p, 1000, second), 0);
    assert_false(pace_answer(&p, 1, second));
    assert_false(pace_answer(&p, UINT64_MAX, second));
    assert_true(pace_answer(&p, 0, second + 7 * MS));
    assert_int_equal(pace_trip(&p), 7 * MS);
    assert_false(pace_answer(&p, 0, second + 9 * MS));
    assert_int_equal(p.arrived, 1000);
}

static void pace__no_answer_closes_it(void **state)
{
    struct pace p = { 0 };
    uint64_t sent = 0;

    (void)state;
    while (pace_open(&p, sent) && sent < 1u << 30) {
        sent += FRAME;
        if (pace_wants_probe(&p, sent))
            (void)pace_probe(&p, sent, second);
    }
    assert_in_range(sent, 256 << 10, 2 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pace__network_is_busy_and_the_queue_short),
        TEST(pace__follows_a_network_that_changes),
        TEST(pace__a_shapers_burst_is_not_its_speed),
        TEST(pace__starts_soon),
        TEST(pace__answers_that_are_none_change_nothing),
        TEST(pace__no_answer_closes_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
