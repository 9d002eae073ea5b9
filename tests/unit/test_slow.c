#include <stdio.h>
#include <string.h>

#include "migrate/slow.h"
#include "unit.h"
#include "virt/throttle.h"

static struct json_object *parsed(const char *text)
{
    struct json_object *o;
    struct err e;

    assert_true(json_parse(text, strlen(text), &o, &e));
    return o;
}

/* One disk of query-block, with @limits. */
static struct json_object *slower(const char *limits, uint64_t bps)
{
    struct json_object *before, *after, *blocks;
    char text[1024];
    struct err e;

    snprintf(text, sizeof text,
             "[{\"qdev\":\"/x\"},{\"qdev\":\"/a\",\"inserted\":{%s}}]", limits);
    blocks = parsed(text);
    assert_true(throttle_of(blocks, "/a", &before, &e));
    after = throttle_slower(before, bps, "mine");
    json_object_put(before);
    json_object_put(blocks);
    return after;
}

static void expect(const char *limits, uint64_t bps, const char *want)
{
    struct json_object *const o = slower(limits, bps), *const w = parsed(want);

    if (!json_object_equal(o, w))
        fail_msg("%s, not %s", json_object_to_json_string(o), want);
    json_object_put(o);
    json_object_put(w);
}

#define REST "\"bps_rd\":0,\"iops\":0,\"iops_rd\":0,\"iops_wr\":7"

static void slow__a_disk_without_limits_gets_one_in_our_group(void **state)
{
    (void)state;
    expect("\"bps\":0,\"bps_wr\":0," REST ",\"drv\":\"raw\"", 5,
           "{\"id\":\"/a\",\"bps\":0,\"bps_wr\":5," REST ",\"group\":\"mine\"}");
}

static void slow__a_limit_of_all_is_lowered_and_its_burst_goes(void **state)
{
    (void)state;
    expect("\"bps\":9,\"bps_wr\":0," REST ",\"bps_max\":20,\"bps_max_length\":2,"
           "\"group\":\"gold\"",
           5, "{\"id\":\"/a\",\"bps\":5,\"bps_wr\":0," REST ",\"group\":\"gold\"}");
}

static void slow__a_lower_limit_stays(void **state)
{
    (void)state;
    expect("\"bps\":0,\"bps_wr\":3," REST ",\"iops_wr_max\":9,\"group\":\"g\"", 5,
           "{\"id\":\"/a\",\"bps\":0,\"bps_wr\":3," REST
           ",\"iops_wr_max\":9,\"group\":\"g\"}");
}

static void slow__rubbish_from_qemu_is_refused(void **state)
{
    static const char *const bad[] = { "{}", "[]", "[{\"qdev\":\"/a\"}]",
                                       "[{\"qdev\":\"/a\",\"inserted\":{}}]",
                                       "[{\"qdev\":\"/a\",\"inserted\":{" REST
                                       ",\"bps\":\"x\",\"bps_wr\":0}}]" };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct json_object *const blocks = parsed(bad[i]);
        struct json_object *out = NULL;
        struct err e;

        assert_false(throttle_of(blocks, "/a", &out, &e));
        assert_null(out);
        json_object_put(blocks);
    }
}

static void slow__steps_go_down_to_a_floor(void **state)
{
    struct slow s = { .cpu_steps = 0 };
    uint64_t last = 100 << 20;

    (void)state;
    assert_int_equal(slow_limit(100 << 20, 0), 50 << 20);
    for (unsigned i = 0; i < 10; i++) {
        const uint64_t limit = slow_limit(100 << 20, i);

        assert_true(limit <= last && limit >= 1 << 20);
        last = limit;
    }
    assert_int_equal(last, 1 << 20);
    assert_int_equal(slow_limit(0, 0), 1 << 20);
    assert_true(slow_disk_left(&s, 0));
    s.disks[0].limit = 1 << 20;
    assert_false(slow_disk_left(&s, 0));
    s.disks[1].steps = 5;
    assert_false(slow_disk_left(&s, 1));
}

static void slow__cpus_never_stand_still_for_longer_than_the_budget(void **state)
{
    static const struct {
        uint64_t budget_ms;
        unsigned most;
    } cases[] = { { 50, 75 }, { 90, 90 }, { 300, 96 }, { 1000, 99 }, { 60000, 99 } };
    struct slow s = { .cpu_steps = 0 };

    (void)state;
    assert_false(slow_cpus_left(&s, 300)); /* not prepared: QEMU would not obey */
    s.cpus_before = json_new();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned last = 0;

        for (s.cpu_steps = 0; slow_cpus_left(&s, cases[i].budget_ms); s.cpu_steps++) {
            assert_true(slow_percent(s.cpu_steps) > last);
            last = slow_percent(s.cpu_steps);
        }
        assert_int_equal(last, cases[i].most);
    }
    slow_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slow__a_disk_without_limits_gets_one_in_our_group),
        cmocka_unit_test(slow__a_limit_of_all_is_lowered_and_its_burst_goes),
        cmocka_unit_test(slow__a_lower_limit_stays),
        cmocka_unit_test(slow__rubbish_from_qemu_is_refused),
        cmocka_unit_test(slow__steps_go_down_to_a_floor),
        cmocka_unit_test(slow__cpus_never_stand_still_for_longer_than_the_budget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
