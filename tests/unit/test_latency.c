#include "unit.h"

#include "base/mem.h"
#include "migrate/latency.h"

enum { TARGET_MS = 20, MB = 1000000 };

/* A disk whose writes take longer the more is copied from it, and a guest that writes. */
struct sim {
    struct latency l;
    struct blkstats disk[2];
    int64_t now_ms;
    double base_ms;   /* without any copying */
    double ms_per_mb; /* more for each MB/s of copying */
    double link;      /* bytes/s that copying reaches without a cap */
    uint64_t writes;  /* per second */
};

static double sent(const struct sim *s)
{
    return s->l.cap != 0 && (double)s->l.cap < s->link ? (double)s->l.cap : s->link;
}

/* A second passes; returns what the guest's writes took in it. */
static double second(struct sim *s)
{
    const double ms = s->base_ms + s->ms_per_mb * sent(s) / MB;

    s->disk[1].writes += s->writes;
    s->disk[1].write_ns += (uint64_t)(ms * 1e6) * s->writes;
    s->now_ms += 1000;
    latency_step(&s->l, s->now_ms, s->disk, 2, TARGET_MS, sent(s));
    return ms;
}

static struct sim sim(double base_ms, double ms_per_mb, uint64_t writes)
{
    struct sim s = { .now_ms = 5000,
                     .base_ms = base_ms,
                     .ms_per_mb = ms_per_mb,
                     .link = 100 * MB,
                     .writes = writes };

    latency_step(&s.l, s.now_ms, s.disk, 2, TARGET_MS, s.link);
    return s;
}

static void latency__copying_is_slowed_until_writes_are_quick(void **state)
{
    struct sim s = sim(2, 1, 100); /* 102 ms at full speed; 18 MB/s are right */
    double sum = 0, most = 0;

    (void)state;
    for (int i = 0; i < 10; i++)
        second(&s);
    for (int i = 0; i < 100; i++) {
        const double ms = second(&s);

        sum += ms;
        most = ms > most ? ms : most;
    }
    /* It stays near the target, and what the link could do is not given away. */
    assert_true(sum / 100 <= TARGET_MS);
    assert_true(sum / 100 >= TARGET_MS * 0.6);
    assert_true(most < TARGET_MS * 1.5);
}

static void latency__copying_that_does_no_harm_is_left_alone(void **state)
{
    struct sim quick = sim(2, 0.1, 100), idle = sim(500, 1, 0), few = sim(500, 1, 3);

    (void)state;
    for (int i = 0; i < 50; i++) {
        second(&quick);
        second(&idle);
        second(&few);
        assert_int_equal(quick.l.cap, 0);
        assert_int_equal(idle.l.cap, 0);
        assert_int_equal(few.l.cap, 0);
    }
    assert_true(idle.l.worst_ms < 0);
    assert_true(quick.l.worst_ms > 11 && quick.l.worst_ms < 13);
}

static void latency__a_slow_disk_never_stops_the_copying(void **state)
{
    struct sim s = sim(80, 0, 100);

    (void)state;
    for (int i = 0; i < 100; i++) {
        second(&s);
        assert_true(s.l.cap >= LATENCY_FLOOR);
    }
    assert_int_equal(s.l.cap, LATENCY_FLOOR);
}

static void latency__it_gets_faster_when_the_disk_does(void **state)
{
    struct sim s = sim(2, 2, 100);

    (void)state;
    for (int i = 0; i < 20; i++)
        second(&s);
    assert_true(sent(&s) < 15.0 * MB);
    s.ms_per_mb = 0.05;
    for (int i = 0; i < 60; i++)
        second(&s);
    assert_true(sent(&s) > 99.0 * MB);
    /* It does not run away meanwhile: what it would have to come down from is bounded. */
    assert_true(s.l.cap < 4u * 100 * MB);
}

static void latency__without_a_target_there_is_no_cap(void **state)
{
    struct sim s = sim(2, 2, 100);

    (void)state;
    for (int i = 0; i < 20; i++)
        second(&s);
    assert_true(s.l.cap != 0);
    assert_int_equal(latency_step(&s.l, s.now_ms, s.disk, 2, 0, sent(&s)), 0);
    assert_int_equal(s.l.then_ms, 0);
    /* And on again: the first look is none to judge by. */
    s.now_ms += 1000;
    assert_int_equal(latency_step(&s.l, s.now_ms, s.disk, 2, TARGET_MS, 1e8), 0);
}

static void latency__odd_counts_do_no_harm(void **state)
{
    struct sim s = sim(2, 1, 100);

    (void)state;
    second(&s);
    const uint64_t cap = s.l.cap;
    s.disk[1] = (struct blkstats){ 5, 7 }; /* QEMU counts anew */
    s.now_ms += 1000;
    latency_step(&s.l, s.now_ms, s.disk, 2, TARGET_MS, 0);
    assert_int_equal(s.l.cap, cap);
    second(&s);
    s.now_ms += 3600 * 1000; /* a long silence: nothing follows from it */
    const uint64_t then = s.l.cap;
    s.disk[1].writes += 1000;
    s.disk[1].write_ns += UINT64_C(1000000000000);
    assert_int_equal(latency_step(&s.l, s.now_ms, s.disk, 2, TARGET_MS, 1e8), then);
}

static void blkstats__answers_of_qemu_are_checked(void **state)
{
    static const char good[] =
        "[{\"device\":\"\",\"qdev\":\"/other\",\"stats\":{}},"
        "{\"qdev\":\"/machine/peripheral/virtio-disk0/virtio-backend\",\"stats\":"
        "{\"wr_operations\":7,\"wr_total_time_ns\":9000000,\"rd_operations\":1}}]";
    static const char *const bad[] = { "{}", "[]", "[7]", "[{\"qdev\":7}]" };
    struct blk b = { .ndisks = 1 };
    struct blkstats out[DOMXML_DISKS_MAX];
    struct err e;

    (void)state;
    memcpy(b.disks[0].qdev, "/machine/peripheral/virtio-disk0/virtio-backend", 48);
    AUTO(json_put) struct json_object *o = json_tokener_parse(good);
    assert_ok(blkstats_parse(&b, o, out, &e), e);
    assert_int_equal(out[0].writes, 7);
    assert_int_equal(out[0].write_ns, 9000000);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        AUTO(json_put) struct json_object *x = json_tokener_parse(bad[i]);

        assert_err(blkstats_parse(&b, x, out, &e), e, ERR_PROTO);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(latency__copying_is_slowed_until_writes_are_quick),
        TEST(latency__copying_that_does_no_harm_is_left_alone),
        TEST(latency__a_slow_disk_never_stops_the_copying),
        TEST(latency__it_gets_faster_when_the_disk_does),
        TEST(latency__without_a_target_there_is_no_cap),
        TEST(latency__odd_counts_do_no_harm),
        TEST(blkstats__answers_of_qemu_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
