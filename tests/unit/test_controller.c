#include <string.h>

#include "migrate/controller.h"
#include "unit.h"

enum { MIB = 1 << 20 };

static const struct control_cfg cfg = { .budget_ms = 300,
                                        .fixed_ms = 100,
                                        .patience_ms = 60000 };
static char why[160];

static enum control_do step(struct control *c, const struct control_sample *s)
{
    return control_step(c, s, why, sizeof why);
}

static void controller__big_backlog_copies_disks_first(void **state)
{
    const struct control_sample s = { .disk_dirty = 4096ull * MIB,
                                      .disk_rate = 100.0 * MIB };
    struct control c;

    (void)state;
    control_init(&c, &cfg);
    assert_int_equal(step(&c, &s), CONTROL_ROUND);
    assert_true(why[0] != '\0');
}

static void controller__unknown_rate_copies_disks(void **state)
{
    const struct control_sample s = { .disk_dirty = MIB };
    struct control c;

    (void)state;
    control_init(&c, &cfg);
    assert_int_equal(step(&c, &s), CONTROL_ROUND);
}

static void controller__disks_in_step_start_ram(void **state)
{
    const struct control_sample s = { .disk_dirty = 10 * MIB,
                                      .disk_rate = 100.0 * MIB };
    const struct control_sample clean = { .disk_dirty = 0 };
    struct control c;

    (void)state;
    control_init(&c, &cfg);
    assert_int_equal(step(&c, &s), CONTROL_RAM);
    control_init(&c, &cfg);
    assert_int_equal(step(&c, &clean), CONTROL_RAM);
}

static void controller__never_switches_above_budget(void **state)
{
    struct control c;

    (void)state;
    for (int mib = 0; mib < 100; mib++) {
        const struct control_sample s = { .disk_dirty = (uint64_t)mib * MIB,
                                          .disk_rate = 100.0 * MIB,
                                          .ram_running = true,
                                          .ram_remaining = 5 * MIB,
                                          .ram_rate = 100.0 * MIB };

        control_init(&c, &cfg);
        const int64_t pause = control_predict(&c, &s);
        assert_int_equal(pause, 100 + 50 + mib * 10);
        if (pause <= 300)
            assert_int_equal(step(&c, &s), CONTROL_SWITCH);
        else
            assert_true(step(&c, &s) == CONTROL_ROUND || step(&c, &s) == CONTROL_WAIT);
    }
}

static void controller__pages_dirtied_since_the_sync_count(void **state)
{
    const struct control_sample s = { .ram_running = true,
                                      .ram_remaining = 0,
                                      .ram_rate = 100.0 * MIB,
                                      .ram_dirty_rate = 50.0 * MIB,
                                      .ram_since_sync_ms = 1000 };
    struct control c;

    (void)state;
    control_init(&c, &cfg);
    assert_int_equal(control_predict(&c, &s), 100 + 500);
    assert_int_equal(step(&c, &s), CONTROL_WAIT);
}

static void controller__guest_stopped_by_qemu_switches(void **state)
{
    const struct control_sample s = { .disk_dirty = 4096ull * MIB,
                                      .disk_rate = 1.0 * MIB,
                                      .ram_running = true,
                                      .guest_stopped = true };
    struct control c;

    (void)state;
    control_init(&c, &cfg);
    assert_int_equal(step(&c, &s), CONTROL_SWITCH);
}

/* A guest that writes as fast as the link carries: it ends, and not too early. */
static void controller__no_progress_ends_after_patience(void **state)
{
    struct control c;
    int64_t t = 0;

    (void)state;
    control_init(&c, &cfg);
    for (;; t += 1000) {
        const struct control_sample s = { .now_ms = t,
                                          .disk_dirty =
                                              900ull * MIB + (uint64_t)(t % 7) * MIB,
                                          .disk_rate = 100.0 * MIB };

        if (step(&c, &s) == CONTROL_STALLED)
            break;
        assert_true(t < 1000000);
    }
    assert_in_range(t, 60000, 62000);
    assert_non_null(strstr(why, "MiB/s"));
}

static void controller__slow_progress_is_progress(void **state)
{
    struct control c;

    (void)state;
    control_init(&c, &cfg);
    for (int64_t t = 0; t < 600000; t += 1000) {
        const struct control_sample s = { .now_ms = t,
                                          .disk_dirty =
                                              (uint64_t)(100000 - t / 10) * MIB,
                                          .disk_rate = 100.0 * MIB };

        assert_int_equal(step(&c, &s), CONTROL_ROUND);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(controller__big_backlog_copies_disks_first),
        cmocka_unit_test(controller__unknown_rate_copies_disks),
        cmocka_unit_test(controller__disks_in_step_start_ram),
        cmocka_unit_test(controller__never_switches_above_budget),
        cmocka_unit_test(controller__pages_dirtied_since_the_sync_count),
        cmocka_unit_test(controller__guest_stopped_by_qemu_switches),
        cmocka_unit_test(controller__no_progress_ends_after_patience),
        cmocka_unit_test(controller__slow_progress_is_progress),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
