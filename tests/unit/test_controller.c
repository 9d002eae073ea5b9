#include <string.h>

#include "migrate/controller.h"
#include "unit.h"

enum { MIB = 1 << 20, FIXED_MS = 50, ROUND_MS = 50 /* until rounds have told */ };

static const struct control_cfg wait_cfg = { CONTROL_ON_STALL_WAIT, FIXED_MS, 10000 };

/* Disks and RAM with something left each, which is copied at 100 MiB/s. */
static struct control_sample disks(double mib)
{
    return (struct control_sample){ .budget_ms = 300,
                                    .ndisks = 2,
                                    .disks = { { .dirty = (uint64_t)(mib * MIB) } },
                                    .disk_rate = 100.0 * MIB };
}

static struct control_sample both(double disk_mib, double ram_mib)
{
    struct control_sample s = disks(disk_mib);

    s.ram_running = true;
    s.ram_remaining = (uint64_t)(ram_mib * MIB);
    s.ram_rate = 100.0 * MIB;
    s.ram_syncs = 2;
    return s;
}

static struct control fresh(enum control_policy policy)
{
    struct control_cfg cfg = wait_cfg;
    struct control c;

    cfg.policy = policy;
    control_init(&c, &cfg);
    return c;
}

static struct control_verdict step(struct control *c, const struct control_sample *s)
{
    struct control_verdict v;

    control_step(c, s, &v);
    assert_true(v.why[0] != '\0');
    return v;
}

static enum control_do first(const struct control_sample *s)
{
    struct control c = fresh(CONTROL_ON_STALL_WAIT);

    return step(&c, s).todo;
}

static void
controller__disks_come_first_and_ram_when_they_are_nearly_in_step(void **state)
{
    struct control_sample s = disks(4096);

    (void)state;
    assert_int_equal(first(&s), CONTROL_ROUND);
    s = disks(1);
    s.disk_rate = 0; /* nobody knows how long that takes */
    assert_int_equal(first(&s), CONTROL_ROUND);
    s = disks(19); /* 190 ms and the fixed 100: fits 300 */
    assert_int_equal(first(&s), CONTROL_RAM);
    s = disks(21);
    assert_int_equal(first(&s), CONTROL_ROUND);
    s = disks(0);
    s.disk_rate = 0;
    assert_int_equal(first(&s), CONTROL_RAM);
}

static void controller__all_disks_count(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_WAIT);
    struct control_sample s = both(5, 5);

    (void)state;
    s.disks[1].dirty = 10 * MIB;
    assert_int_equal(control_predict(&c, &s), FIXED_MS + ROUND_MS + 50 + 100 + 50);
}

static void controller__round_trips_are_part_of_the_pause(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_WAIT);
    struct control_sample s = both(0, 0);

    (void)state;
    s.rtt_us = 20000;
    assert_int_equal(step(&c, &s).pause_ms, FIXED_MS + ROUND_MS + 6 * 20);
}

static void controller__never_switches_above_budget(void **state)
{
    (void)state;
    for (int mib = 0; mib < 60; mib++) {
        struct control c = fresh(CONTROL_ON_STALL_WAIT);
        struct control_sample s = both(mib, 5);
        struct control_verdict v = { .todo = CONTROL_WAIT };

        for (s.now_ms = 0; s.now_ms < 100000; s.now_ms += 10) {
            v = step(&c, &s);
            if (v.todo == CONTROL_SWITCH)
                break;
        }
        assert_int_equal(v.pause_ms, FIXED_MS + ROUND_MS + 50 + mib * 10);
        assert_true((v.pause_ms <= 300) == (v.todo == CONTROL_SWITCH));
    }
}

/* What the rounds were wrong by keeps a distance from the budget; but not for ever. */
static void controller__errors_of_prediction_make_a_margin_that_ends(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_WAIT);
    struct control_sample s = both(0, 18);
    struct control_verdict v;

    (void)state;
    for (int i = 0; i < 20; i++)
        control_round_took(&c, MIB, 100.0 * MIB, i % 2 ? 60 : 110, true);
    v = step(&c, &s);
    assert_int_equal(v.pause_ms, FIXED_MS + 50 + 180);
    assert_in_range(v.margin_ms, 30, 100);
    assert_int_not_equal(v.todo, CONTROL_SWITCH);
    for (s.now_ms = 10; v.todo != CONTROL_SWITCH; s.now_ms += 10) {
        v = step(&c, &s);
        assert_true(s.now_ms < 21000);
    }
    assert_true(s.now_ms > 5000);
    assert_true(v.pause_ms + v.margin_ms <= 300);
}

static void controller__rounds_teach_their_fixed_cost(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_WAIT);
    struct control_sample s = both(0, 0);

    (void)state;
    control_round_took(&c, MIB, 100.0 * MIB, 10 + 35, true);
    control_round_took(&c, MIB, 100.0 * MIB, 10 + 80, true);
    assert_int_equal(control_predict(&c, &s), FIXED_MS + 35);
    /* Of a long one nothing is learned. */
    control_round_took(&c, 1024ull * MIB, 100.0 * MIB, 10240, true);
    /* Nor of one that waited for RAM. */
    control_round_took(&c, MIB, 100.0 * MIB, 10 + 5, false);
    assert_int_equal(control_predict(&c, &s), FIXED_MS + 35);
    control_round_took(&c, MIB, 100.0 * MIB, 10 + 300, false);
    assert_int_equal(control_predict(&c, &s), FIXED_MS + 35);
}

static void controller__first_pass_of_ram_tells_nothing(void **state)
{
    struct control_sample s = both(0, 0);

    (void)state;
    s.ram_syncs = 1;
    assert_int_equal(first(&s), CONTROL_WAIT);
    s.ram_syncs = 2;
    assert_int_equal(first(&s), CONTROL_SWITCH);
}

static void controller__pages_dirtied_since_the_sync_count(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_WAIT);
    struct control_sample s = both(0, 0);

    (void)state;
    s.ram_dirty_rate = 50.0 * MIB;
    s.ram_since_sync_ms = 1000;
    assert_int_equal(step(&c, &s).pause_ms, FIXED_MS + ROUND_MS + 500);
}

/* QEMU has not reckoned a rate yet, but what it found says it. */
static void controller__what_a_look_finds_was_dirtied_since_the_last(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_WAIT);
    struct control_sample s = both(0, 100);

    (void)state;
    s.ram_syncs = 1;
    step(&c, &s);
    s = both(0, 20);
    s.now_ms = 500;            /* 40 MiB/s */
    s.ram_under_way = 5 * MIB; /* was sent before: found by nobody */
    step(&c, &s);
    s.now_ms = 600;
    s.ram_remaining = s.ram_under_way = 0;
    s.ram_since_sync_ms = 100;
    assert_int_equal(step(&c, &s).pause_ms, FIXED_MS + ROUND_MS + 40);
}

static void controller__switches_at_the_lowest_point_of_a_chance(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_WAIT);
    struct control_verdict v = { .todo = CONTROL_WAIT };
    int t = 0;

    (void)state;
    /* It falls for 100 ms and then rises. */
    for (; v.todo == CONTROL_WAIT; t += 10) {
        struct control_sample s = both(0, t <= 100 ? 15 - t / 10 : 5 + (t - 100) / 10);

        s.now_ms = t;
        v = step(&c, &s);
    }
    assert_int_equal(v.todo, CONTROL_SWITCH);
    assert_in_range(t, 110, 160);
}

static void controller__a_chance_is_not_waited_out_for_ever(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_WAIT);
    struct control_verdict v = { .todo = CONTROL_WAIT };
    int t = 0;

    (void)state;
    for (; v.todo == CONTROL_WAIT; t += 10) {
        struct control_sample s = both(0, 18 - (double)t / 200);

        s.now_ms = t;
        v = step(&c, &s);
    }
    assert_int_equal(v.todo, CONTROL_SWITCH);
    assert_in_range(t, 400, 600);
}

static void controller__missed_chances_make_it_quicker(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_WAIT);
    struct control_sample low = both(0, 15), high = both(0, 50);

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(step(&c, &low).todo, CONTROL_WAIT);
        low.now_ms = high.now_ms += 10;
        assert_int_equal(step(&c, &high).todo, CONTROL_WAIT);
        low.now_ms = high.now_ms += 10;
    }
    assert_int_equal(step(&c, &low).todo, CONTROL_SWITCH);
}

static void controller__guest_stopped_by_qemu_switches(void **state)
{
    struct control_sample s = both(4096, 0);

    (void)state;
    s.guest_stopped = true;
    s.hold = true;
    assert_int_equal(first(&s), CONTROL_SWITCH);
}

static void controller__clean_disks_need_no_round(void **state)
{
    struct control_sample s = both(0, 500);

    (void)state;
    assert_int_equal(first(&s), CONTROL_WAIT);
    s = both(50, 500);
    assert_int_equal(first(&s), CONTROL_ROUND);
}

/* @left MiB wait, and @again more are dirty; as much is hot as waits. */
static struct control_sample hot(double left, double again, double ram_mib)
{
    struct control_sample s = both(left + again, ram_mib);

    s.disks[0].waits = s.disks[0].hot = (uint64_t)(left * MIB);
    return s;
}

static void controller__what_waits_counts_but_needs_no_round(void **state)
{
    struct control_sample s = hot(6, 6, 30);
    struct control c = fresh(CONTROL_ON_STALL_WAIT);
    struct control_verdict v = step(&c, &s);

    (void)state;
    assert_int_equal(v.pause_ms, FIXED_MS + ROUND_MS + 60 + 60 + 300);
    assert_int_equal(v.todo, CONTROL_WAIT);
    s = hot(6, 15, 30); /* nine of the dirty ones are not hot: 90 ms */
    v = step(&c, &s);
    assert_int_equal(v.todo, CONTROL_ROUND);
    assert_false(v.all);
    s.disks[0].hot = 11 * MIB; /* more than half of what the budget leaves */
    v = step(&c, &s);
    assert_int_equal(v.todo, CONTROL_ROUND);
    assert_true(v.all);
}

static void controller__what_waits_is_sent_where_only_it_is_too_much(void **state)
{
    struct control_sample s = hot(6, 6, 11);
    struct control c = fresh(CONTROL_ON_STALL_WAIT);
    const struct control_verdict v = step(&c, &s);

    (void)state;
    assert_int_equal(v.pause_ms, FIXED_MS + ROUND_MS + 60 + 60 + 110);
    assert_int_equal(v.todo, CONTROL_ROUND);
    assert_true(v.all);
}

static void controller__the_round_before_the_switch_is_of_all(void **state)
{
    struct control_sample s = hot(8, 8, 0);
    struct control c = fresh(CONTROL_ON_STALL_WAIT);
    struct control_verdict v = step(&c, &s);

    (void)state;
    assert_int_equal(v.todo, CONTROL_ROUND);
    assert_true(v.all);
    s = hot(0, 0, 0);
    v = step(&c, &s);
    assert_int_equal(v.todo, CONTROL_SWITCH);
}

static void controller__a_new_budget_counts_at_once(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_WAIT);
    struct control_sample s = both(0, 50);

    (void)state;
    assert_int_equal(step(&c, &s).todo, CONTROL_WAIT);
    s.budget_ms = 2000;
    s.now_ms = 10;
    step(&c, &s);
    s.now_ms = 100;
    assert_int_equal(step(&c, &s).todo, CONTROL_SWITCH);
}

static void controller__held_stays_in_step_without_ram_and_without_end(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_ABORT);
    struct control_sample s = disks(1);

    (void)state;
    s.hold = true;
    for (; s.now_ms < 86400000; s.now_ms += 1000)
        assert_int_equal(step(&c, &s).todo, CONTROL_HOLD);
    s.disks[0].dirty = 100ull * MIB;
    assert_int_equal(step(&c, &s).todo, CONTROL_ROUND);
    s = disks(1);
    assert_int_equal(step(&c, &s).todo, CONTROL_RAM);
    s = both(0, 0);
    s.hold = true;
    assert_int_equal(step(&c, &s).todo, CONTROL_HOLD);
}

static void controller__disks_that_write_much_get_their_share_of_the_link(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_WAIT);
    struct control_sample s = disks(1);

    (void)state;
    assert_int_equal(step(&c, &s).todo, CONTROL_RAM);
    s = both(1, 1000);
    s.ram_syncs = 1;
    s.disks[0].dirty_rate = 20.0 * MIB;
    assert_true(step(&c, &s).ram_limit <= 0);
    s.disks[0].dirty_rate = 40.0 * MIB;
    assert_int_equal(step(&c, &s).ram_limit, 40.0 * MIB);
    s.disks[0].dirty_rate = 42.0 * MIB; /* not at every breath */
    assert_int_equal(step(&c, &s).ram_limit, 40.0 * MIB);
    s.disks[0].dirty_rate = 300.0 * MIB;
    assert_int_equal(step(&c, &s).ram_limit, 25.0 * MIB);
    s.ram_remaining = 50 * MIB; /* near its end */
    assert_true(step(&c, &s).ram_limit <= 0);
    s = both(1, 1000);
    s.disks[0].dirty_rate = 300.0 * MIB;
    assert_int_equal(step(&c, &s).ram_limit, 25.0 * MIB);
    s.budget_ms = 60000; /* it fits now, and goes */
    s.now_ms = 20;
    step(&c, &s);
    s.now_ms = 1000;
    const struct control_verdict v = step(&c, &s);
    assert_int_equal(v.todo, CONTROL_SWITCH);
    assert_true(v.ram_limit <= 0);
}

/* --- stalled --- */

/* Rounds of a guest that writes as fast as the link carries; what it ends with, and when. */
static struct control_verdict run_out(struct control *c, struct control_sample *s,
                                      bool slowing)
{
    struct control_verdict v = { .todo = CONTROL_ROUND };
    int slowed = 0;

    while (v.todo == CONTROL_ROUND || v.todo == CONTROL_SLOW_DISK) {
        s->now_ms += 1000;
        s->disks[0].dirty = 900ull * MIB + (uint64_t)(s->now_ms % 7) * MIB;
        s->disks[0].dirty_rate = 100.0 * MIB;
        s->disks[0].can_slow = slowing && slowed < 3;
        control_round_took(c, 900ull * MIB, 100.0 * MIB, 1000, true);
        v = step(c, s);
        slowed += v.todo == CONTROL_SLOW_DISK;
        assert_true(s->now_ms < 1000000);
    }
    assert_int_equal(slowed, slowing ? 3 : 0);
    return v;
}

static void controller__abort_ends_after_two_windows(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_ABORT);
    struct control_sample s = disks(900);
    const struct control_verdict v = run_out(&c, &s, false);

    (void)state;
    assert_int_equal(v.todo, CONTROL_STALLED);
    assert_in_range(s.now_ms, 27000, 60000);
    assert_non_null(strstr(v.why, "MiB/s"));
}

static void controller__throttle_slows_the_disk_and_then_gives_up(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_THROTTLE);
    struct control_sample s = disks(900);

    (void)state;
    assert_int_equal(run_out(&c, &s, true).todo, CONTROL_STALLED);
}

static void controller__suspend_starts_ram_and_stops_after_its_first_pass(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_SUSPEND);
    struct control_sample s = disks(900);

    (void)state;
    assert_int_equal(run_out(&c, &s, false).todo, CONTROL_RAM);
    s = both(900, 1000);
    s.ram_syncs = 1;
    assert_int_equal(step(&c, &s).todo, CONTROL_ROUND);
    s.ram_syncs = 2;
    const struct control_verdict v = step(&c, &s);
    assert_int_equal(v.todo, CONTROL_SUSPEND);
    assert_true(v.pause_ms > 300);
}

/* Whatever it is: at the time-out RAM starts, and the guest is stopped. */
static void controller__suspend_obeys_the_time(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_SUSPEND);
    struct control_sample s = disks(900);

    (void)state;
    assert_int_equal(step(&c, &s).todo, CONTROL_ROUND);
    s.overdue = true;
    assert_int_equal(step(&c, &s).todo, CONTROL_RAM);
    s = both(900, 0);
    assert_int_equal(step(&c, &s).todo, CONTROL_ROUND);
    s.overdue = true;
    assert_int_equal(step(&c, &s).todo, CONTROL_SUSPEND);
}

static void controller__wait_never_gives_up(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_WAIT);
    struct control_sample s = disks(900);

    (void)state;
    s.overdue = true; /* the caller ends it then */
    for (; s.now_ms < 3600000; s.now_ms += 1000)
        assert_int_equal(step(&c, &s).todo, CONTROL_ROUND);
}

static void controller__slow_progress_is_progress(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_ABORT);

    (void)state;
    for (int64_t t = 0; t < 600000; t += 1000) {
        struct control_sample s = disks(100000 - (double)t / 10);

        s.now_ms = t;
        assert_int_equal(step(&c, &s).todo, CONTROL_ROUND);
    }
}

static void controller__cpus_are_slowed_where_ram_is_the_worse(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_THROTTLE);
    struct control_sample s = both(1, 400);
    struct control_verdict v = { .todo = CONTROL_WAIT };

    (void)state;
    s.can_slow_cpus = s.disks[0].can_slow = true;
    for (; v.todo == CONTROL_WAIT; s.now_ms += 10)
        v = step(&c, &s);
    assert_int_equal(v.todo, CONTROL_SLOW_CPUS);
    assert_string_equal(control_name(v.todo), "throttle");
}

/* Nor does slowing a disk help that is written to next to never. */
static void controller__disks_that_hold_nothing_up_are_left_alone(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_THROTTLE);
    struct control_sample s = both(1, 400);
    struct control_verdict v = { .todo = CONTROL_WAIT };

    (void)state;
    s.disks[0].can_slow = true;
    s.disks[0].dirty_rate = s.disk_rate / 10;
    for (; v.todo == CONTROL_WAIT; s.now_ms += 10)
        v = step(&c, &s);
    assert_int_equal(v.todo, CONTROL_STALLED);
}

/* They need not wait for RAM's first pass, which may take hours. */
static void
controller__disks_that_fall_behind_in_rams_first_pass_are_slowed(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_THROTTLE);
    struct control_sample s = both(90, 100000);
    struct control_verdict v = { .todo = CONTROL_ROUND };

    (void)state;
    s.ram_syncs = 1;
    s.can_slow_cpus = s.disks[0].can_slow = true;
    for (; v.todo == CONTROL_ROUND && s.now_ms < 100000; s.now_ms += 1000)
        v = step(&c, &s);
    assert_int_equal(v.todo, CONTROL_SLOW_DISK);
    s.disks[0].can_slow = false; /* nothing more to do, but no reason to give up */
    for (int64_t end = s.now_ms + 100000; s.now_ms < end; s.now_ms += 1000)
        assert_int_equal(step(&c, &s).todo, CONTROL_ROUND);
}

/* Nothing that the guest does keeps the pause long: slowing it would be for nothing. */
static void controller__a_switch_that_costs_too_much_slows_nobody(void **state)
{
    struct control c = fresh(CONTROL_ON_STALL_THROTTLE);
    struct control_sample s = both(0, 1);
    struct control_verdict v = { .todo = CONTROL_WAIT };

    (void)state;
    s.rtt_us = 100000;
    s.can_slow_cpus = s.disks[0].can_slow = true;
    for (; v.todo == CONTROL_WAIT; s.now_ms += 10)
        v = step(&c, &s);
    assert_int_equal(v.todo, CONTROL_STALLED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            controller__disks_come_first_and_ram_when_they_are_nearly_in_step),
        cmocka_unit_test(controller__all_disks_count),
        cmocka_unit_test(controller__round_trips_are_part_of_the_pause),
        cmocka_unit_test(controller__never_switches_above_budget),
        cmocka_unit_test(controller__errors_of_prediction_make_a_margin_that_ends),
        cmocka_unit_test(controller__rounds_teach_their_fixed_cost),
        cmocka_unit_test(controller__first_pass_of_ram_tells_nothing),
        cmocka_unit_test(controller__pages_dirtied_since_the_sync_count),
        cmocka_unit_test(controller__what_a_look_finds_was_dirtied_since_the_last),
        cmocka_unit_test(controller__switches_at_the_lowest_point_of_a_chance),
        cmocka_unit_test(controller__a_chance_is_not_waited_out_for_ever),
        cmocka_unit_test(controller__missed_chances_make_it_quicker),
        cmocka_unit_test(controller__guest_stopped_by_qemu_switches),
        cmocka_unit_test(controller__clean_disks_need_no_round),
        cmocka_unit_test(controller__what_waits_counts_but_needs_no_round),
        cmocka_unit_test(controller__what_waits_is_sent_where_only_it_is_too_much),
        cmocka_unit_test(controller__the_round_before_the_switch_is_of_all),
        cmocka_unit_test(controller__a_new_budget_counts_at_once),
        cmocka_unit_test(controller__held_stays_in_step_without_ram_and_without_end),
        cmocka_unit_test(controller__disks_that_write_much_get_their_share_of_the_link),
        cmocka_unit_test(controller__abort_ends_after_two_windows),
        cmocka_unit_test(controller__throttle_slows_the_disk_and_then_gives_up),
        cmocka_unit_test(controller__suspend_starts_ram_and_stops_after_its_first_pass),
        cmocka_unit_test(controller__suspend_obeys_the_time),
        cmocka_unit_test(controller__wait_never_gives_up),
        cmocka_unit_test(controller__slow_progress_is_progress),
        cmocka_unit_test(controller__cpus_are_slowed_where_ram_is_the_worse),
        cmocka_unit_test(controller__disks_that_hold_nothing_up_are_left_alone),
        cmocka_unit_test(
            controller__disks_that_fall_behind_in_rams_first_pass_are_slowed),
        cmocka_unit_test(controller__a_switch_that_costs_too_much_slows_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
