#include "unit.h"

#include <locale.h>
#include <stdio.h>

#include "base/mem.h"
#include "cli/report.h"

static const uint64_t MIB = 1 << 20, GIB = 1 << 30;

static const struct move_cfg cfg = { .domain = "7",
                                     .dest_text = "root@hostb",
                                     .max_downtime_ms = 300 };
static struct move_result result; /* over half a megabyte: not for the stack */

/* As it is after a move that went well. */
static struct move_result *moved(void)
{
    result = (struct move_result){
        .where = MOVE_AT_DESTINATION,
        .state = "running",
        .pause_ms = 87,
        .budget_ms = 300,
        .elapsed_ms = 192 * 1000,
        .rounds = 4,
        .disk_bytes = 12 * GIB,
        .ram_bytes = 1100 * MIB,
        .sent = 6 * GIB,
        .domain = "web01",
        .source_host = "hosta",
        .dest_host = "hostb",
        .disks = { { "vda", "/old/web01.img", "/new/web01.img", "raw", 20 * GIB },
                   { "nvme0n12", "/old/b.qcow2", "/new/b.qcow2", "qcow2", 513 } },
        .ndisks = 2,
        .notes = { { "the definition was saved as /var/lib/snmigrate/x.xml",
                     "the old disk vda stays on hosta: /old/web01.img" },
                   2 },
    };
    return &result;
}

/* As it is after one that failed in the bulk pass. */
static struct move_result *failed(int status, enum err_kind kind)
{
    struct move_result *const r = moved();

    r->status = status;
    r->where = MOVE_AT_SOURCE;
    r->pause_ms = -1;
    r->rounds = 0;
    r->ram_bytes = 0;
    r->notes.n = 0;
    err_set(&r->err, kind, 0, "vda: dst: write of 65536 bytes at 3221225472");
    return r;
}

static void assert_report(const struct move_cfg *c, const struct move_result *r,
                          const char *wanted)
{
    AUTO(text_fini) struct text t = { .utf8 = true };

    report_result(&t, c, r);
    assert_string_equal(t.buf, wanted);
}

static void assert_failure(const struct move_cfg *c, const struct move_result *r,
                           bool where, const char *wanted)
{
    AUTO(text_fini) struct text t = { .utf8 = true };

    report_failure(&t, c, r, where);
    const char *const text = t.len > 0 ? t.buf : "";
    assert_string_equal(text, wanted);
}

static void blocked(struct move_result *r)
{
    findings_add(&r->findings, FINDING_WARNING, "older", NULL,
                 "hostb has an older CPU");
    findings_add(&r->findings, FINDING_BLOCKER, "target-exists", "Remove it.",
                 "/new/web01.img exists on hostb");
    findings_add(&r->findings, FINDING_BLOCKER, "no-bridge", NULL,
                 "br0 is missing on hostb");
}

/* clang-format off */
static void report__success_says_all(void **state)
{
    (void)state;
    assert_report(&cfg, moved(),
        "web01 moved to hostb in 3m 12s.\n"
        "  paused 87 ms (300 ms allowed)\n"
        "  copied 12.0 GiB of disks (4 rounds for what changed), 1.1 GiB of memory\n"
        "  sent   6.0 GiB in 3m 12s (32.0 MiB/s)\n"
        "  vda    /old/web01.img\n"
        "         → hostb:/new/web01.img (raw, 20.0 GiB)\n"
        "  nvme0n12 /old/b.qcow2\n"
        "         → hostb:/new/b.qcow2 (qcow2, 513 B)\n"
        "Notes:\n"
        "  - the definition was saved as /var/lib/snmigrate/x.xml\n"
        "  - the old disk vda stays on hosta: /old/web01.img\n"
        "web01: running on hostb (destination)\n");
    assert_failure(&cfg, moved(), true,
        "");
}

static void report__status_6_lists_what_is_left_to_do(void **state)
{
    struct move_result *const r = moved();

    (void)state;
    r->status = 6;
    r->ndisks = 0;
    texts_add(&r->left, "on hosta: virsh undefine web01");
    assert_report(&cfg, r,
        "web01 moved to hostb in 3m 12s; something is left to do.\n"
        "  paused 87 ms (300 ms allowed)\n"
        "  copied 12.0 GiB of disks (4 rounds for what changed), 1.1 GiB of memory\n"
        "  sent   6.0 GiB in 3m 12s (32.0 MiB/s)\n"
        "Notes:\n"
        "  - the definition was saved as /var/lib/snmigrate/x.xml\n"
        "  - the old disk vda stays on hosta: /old/web01.img\n"
        "Left to do:\n"
        "  - on hosta: virsh undefine web01\n"
        "web01: running on hostb (destination)\n");
    assert_failure(&cfg, r, false,
        "");
    assert_failure(&cfg, r, true,
        "snmigrate: left to do:\n"
        "  - on hosta: virsh undefine web01\n"
        "snmigrate: web01: running on hostb (destination)\n");
}

static void report__failure_says_what_why_where_and_next(void **state)
{
    struct move_result *const r = failed(4, ERR_NBD);

    (void)state;
    err_next(&r->err, "Make room on hostb.");
    assert_report(&cfg, r,
        "web01 was not moved to hostb.\n"
        "  copied 12.0 GiB of disks\n"
        "  sent   6.0 GiB in 3m 12s (32.0 MiB/s)\n"
        "web01: running on hosta (source)\n");
    assert_failure(&cfg, r, false,
        "snmigrate: error: vda: dst: write of 65536 bytes at 3221225472\n"
        "snmigrate: Make room on hostb.\n");
    assert_failure(&cfg, r, true,
        "snmigrate: error: vda: dst: write of 65536 bytes at 3221225472\n"
        "snmigrate: Make room on hostb.\n"
        "snmigrate: web01: running on hosta (source)\n");
}

static void report__pause_of_a_failed_move_is_told(void **state)
{
    struct move_result *const r = failed(4, ERR_NBD);

    (void)state;
    r->pause_ms = 512;
    r->disk_bytes = r->sent = 0;
    assert_report(&cfg, r,
        "web01 was not moved to hostb.\n"
        "  paused 512 ms, longer than the 300 ms allowed\n"
        "web01: running on hosta (source)\n");
}

static void report__each_status_has_its_words(void **state)
{
    struct move_result *r = failed(5, ERR_GUEST);

    (void)state;
    r->disk_bytes = r->sent = 0;
    r->where = MOVE_NOWHERE;
    assert_report(&cfg, r,
        "web01 ended during the move to hostb.\n"
        "web01: runs nowhere: it has ended\n");
    r->status = 7;
    r->where = MOVE_UNKNOWN;
    assert_report(&cfg, r,
        "web01: the move to hostb is unresolved after 3m 12s.\n"
        "web01: unresolved: nothing is lost, and it runs nowhere until hostb answers\n");
    r->status = 8;
    r->where = MOVE_AT_SOURCE;
    assert_report(&cfg, r,
        "web01 was not moved to hostb.\n"
        "web01: running on hosta (source)\n");
    assert_failure(&cfg, r, false,
        "snmigrate: error: vda: dst: write of 65536 bytes at 3221225472\n"
        "snmigrate: Allow a longer pause with --max-downtime, or run it when the guest writes less.\n");
    r->status = 130;
    assert_report(&cfg, r,
        "web01 was not moved to hostb.\n"
        "web01: running on hosta (source)\n");
    assert_failure(&cfg, r, false,
        "snmigrate: error: vda: dst: write of 65536 bytes at 3221225472\n"
        "snmigrate: Nothing is lost; the same command can be run again.\n");
    r->kept_bytes = 1288490189;
    r->kept_size = UINT64_C(4) << 30;
    assert_report(&cfg, r,
        "web01 was not moved to hostb.\n"
        "What was copied is kept on hostb (1.2 GiB of 4.0 GiB): the same command goes on;\n"
        "to give it up: snmigrate discard web01\n"
        "web01: running on hosta (source)\n");
    assert_failure(&cfg, r, true,
        "snmigrate: error: vda: dst: write of 65536 bytes at 3221225472\n"
        "snmigrate: Nothing is lost; the same command can be run again.\n"
        "snmigrate: What was copied is kept on hostb (1.2 GiB of 4.0 GiB): the same\n"
        "           command goes on; to give it up: snmigrate discard web01\n"
        "snmigrate: web01: running on hosta (source)\n");
    r->kept_bytes = 0;
    r->status = 4;
    r->where = MOVE_UNKNOWN;
    assert_report(&cfg, r,
        "web01 was not moved to hostb.\n"
        "web01: where it runs could not be asked: see virsh list --all\n");
}

static void report__nothing_was_changed(void **state)
{
    struct move_result *const r = &result;

    (void)state;
    result = (struct move_result){ .status = 9, .where = MOVE_UNKNOWN, .pause_ms = -1 };
    err_set(&r->err, ERR_CONNECT, 0, "ssh: connect to host hostb port 22: timed out");
    assert_report(&cfg, r,
        "7 was not moved to root@hostb.\n"
        "7: nothing was changed\n");
    assert_failure(&cfg, r, true,
        "snmigrate: error: ssh: connect to host hostb port 22: timed out\n"
        "snmigrate: Nothing was changed; see that ssh takes you there and finds snmigrate.\n"
        "snmigrate: 7: nothing was changed\n");
    r->status = 3;
    r->where = MOVE_AT_SOURCE;
    snprintf(r->state, sizeof r->state, "paused");
    assert_report(&cfg, r,
        "7 was not moved to root@hostb.\n"
        "7: paused on this host (source); nothing was changed\n");
}

static void report__refusal_lists_all_blockers(void **state)
{
    struct move_result *const r = failed(3, ERR_REFUSED);

    (void)state;
    r->disk_bytes = r->sent = 0;
    blocked(r);
    assert_failure(&cfg, r, true,
        "snmigrate: error: web01 cannot move to hostb: 2 blockers\n"
        "  1. /new/web01.img exists on hostb\n"
        "     Remove it.\n"
        "  2. br0 is missing on hostb\n"
        "  warning: hostb has an older CPU\n"
        "snmigrate: web01: running on hosta (source); nothing was changed\n");
    assert_report(&cfg, r,
        "web01 was not moved to hostb.\n"
        "web01: running on hosta (source); nothing was changed\n");
    findings_fini(&r->findings);
}

static void report__check_says_whether_it_can_move(void **state)
{
    struct move_cfg check = cfg;
    struct move_result *const r = moved();

    (void)state;
    check.check_only = true;
    r->where = MOVE_AT_SOURCE;
    r->pause_ms = -1;
    r->disk_bytes = r->ram_bytes = r->notes.n = r->sent = 0;
    assert_report(&check, r,
        "web01 can move to hostb.\n"
        "  vda    /old/web01.img\n"
        "         → hostb:/new/web01.img (raw, 20.0 GiB)\n"
        "  nvme0n12 /old/b.qcow2\n"
        "         → hostb:/new/b.qcow2 (qcow2, 513 B)\n"
        "web01: running on hosta (source); nothing was changed\n");
    blocked(r);
    r->status = 3;
    assert_report(&check, r,
        "web01 cannot move to hostb: 2 blockers\n"
        "  1. /new/web01.img exists on hostb\n"
        "     Remove it.\n"
        "  2. br0 is missing on hostb\n"
        "  warning: hostb has an older CPU\n"
        "web01: running on hosta (source); nothing was changed\n");
    findings_fini(&r->findings);
}

static struct forecast foreseen(void)
{
    return (struct forecast){ .made = true, .converges = true, .total_ms = 200 * 1000,
        .pause_ms = 190, .sent = 5 * GIB, .in = { .budget_ms = 300,
        .disk_bytes = 12 * GIB, .ram_bytes = GIB, .disk_rate = 87.0 * (1 << 20),
        .disk_ratio = 2.1, .ram_ratio = 1.5, .disk = { 10 << 20, 64 << 20 },
        .ram = { 20 << 20, 0 } } };
}

static void report__forecast_and_outcome_side_by_side(void **state)
{
    struct move_result *const r = moved();

    (void)state;
    r->forecast = foreseen();
    r->forecast_at_ms = 4000;
    r->pause = (struct pause){ { 2, 30, 3, 9, 0, 5, 20, 10, 8 }, 87 };
    r->ndisks = r->notes.n = 0;
    r->greeting = (struct move_greeting){ .done = { { "announced" }, 1 },
                                          .failed = { { "no agent" }, 1 } };
    assert_report(&cfg, r,
        "web01 moved to hostb in 3m 12s.\n"
        "  paused 87 ms (300 ms allowed)\n"
        "         suspend 2, last round 30, flush 3, close 9, release 5, load 20, source\n"
        "         dead 10, resume 8\n"
        "  copied 12.0 GiB of disks (4 rounds for what changed), 1.1 GiB of memory\n"
        "  sent   6.0 GiB in 3m 12s (32.0 MiB/s)\n"
        "  foresaw 3m 20s, 5.0 GiB sent, paused 190 ms; time -4 %, bytes +20 % (said\n"
        "          after 4.0 s)\n"
        "On arrival:\n"
        "  - announced\n"
        "Not done on arrival:\n"
        "  - no agent\n"
        "web01: running on hostb (destination)\n");
}

static void report__forecast_of_no_pause_at_all(void **state)
{
    struct move_result *const r = moved();

    (void)state;
    r->forecast = foreseen();
    r->forecast.converges = false;
    r->forecast.pause_ms = -1;
    r->forecast_at_ms = 4000;
    r->ndisks = r->notes.n = 0;
    assert_report(&cfg, r,
        "web01 moved to hostb in 3m 12s.\n"
        "  paused 87 ms (300 ms allowed)\n"
        "  copied 12.0 GiB of disks (4 rounds for what changed), 1.1 GiB of memory\n"
        "  sent   6.0 GiB in 3m 12s (32.0 MiB/s)\n"
        "  foresaw 3m 20s, 5.0 GiB sent, no pause that is short enough; time -4 %, bytes\n"
        "          +20 % (said after 4.0 s)\n"
        "web01: running on hostb (destination)\n");
}

static void report__forecast_of_a_check(void **state)
{
    struct move_cfg check = cfg;
    struct move_result *const r = moved();

    (void)state;
    check.check_only = true;
    r->where = MOVE_AT_SOURCE;
    r->pause_ms = -1;
    r->disk_bytes = r->ram_bytes = r->notes.n = r->sent = r->ndisks = 0;
    r->forecast = foreseen();
    assert_report(&check, r,
        "web01 can move to hostb.\n"
        "  forecast converges within a pause of 300 ms: about 3m 20s, 5.0 GiB sent,\n"
        "           paused 190 ms\n"
        "  to copy 12.0 GiB of disks at 87.0 MiB/s (2.1x), 1.0 GiB of memory (1.5x)\n"
        "  dirties disks at 10.0 MiB/s within 64.0 MiB, memory at 20.0 MiB/s\n"
        "web01: running on hosta (source); nothing was changed\n");
    r->forecast.converges = false;
    r->forecast.pause_ms = 740;
    r->status = 8;
    assert_report(&check, r,
        "web01 would not converge on its way to hostb.\n"
        "  forecast does NOT converge within a pause of 300 ms: given up after about 3m\n"
        "           20s, 5.0 GiB sent, paused 740 ms at best\n"
        "  to copy 12.0 GiB of disks at 87.0 MiB/s (2.1x), 1.0 GiB of memory (1.5x)\n"
        "  dirties disks at 10.0 MiB/s within 64.0 MiB, memory at 20.0 MiB/s\n"
        "web01: running on hosta (source); nothing was changed\n");
}

static void report__foreign_strings_are_cleaned(void **state)
{
    struct move_result *const r = failed(4, ERR_PEER);

    (void)state;
    r->disk_bytes = r->sent = 0;
    snprintf(r->domain, sizeof r->domain, "a\033[2J\nb");
    snprintf(r->err.msg, sizeof r->err.msg, "dst: \033]0;x\007");
    snprintf(r->err.next, sizeof r->err.next, "\xc2\x9b");
    assert_report(&cfg, r,
        "a\\x1b[2J\\x0ab was not moved to hostb.\n"
        "a\\x1b[2J\\x0ab: running on hosta (source)\n");
    assert_failure(&cfg, r, false,
        "snmigrate: error: dst: \\x1b]0;x\\x07\n"
        "snmigrate: \\xc2\\x9b\n");
}
/* clang-format on */

static void report__error_of_the_command_line(void **state)
{
    AUTO(text_fini) struct text t = { .utf8 = true };
    struct err e = { 0 };

    (void)state;
    err_set(&e, ERR_USAGE, 0, "there is no option --chek");
    err_next(&e, "Did you mean --check?");
    report_error(&t, &e);
    assert_string_equal(t.buf, "snmigrate: error: there is no option --chek\n"
                               "snmigrate: Did you mean --check?\n");
}

static int set_locale(void **state)
{
    (void)state;
    return setlocale(LC_CTYPE, "C.UTF-8") != NULL ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(report__success_says_all),
        TEST(report__status_6_lists_what_is_left_to_do),
        TEST(report__failure_says_what_why_where_and_next),
        TEST(report__pause_of_a_failed_move_is_told),
        TEST(report__each_status_has_its_words),
        TEST(report__nothing_was_changed),
        TEST(report__refusal_lists_all_blockers),
        TEST(report__check_says_whether_it_can_move),
        TEST(report__forecast_and_outcome_side_by_side),
        TEST(report__forecast_of_no_pause_at_all),
        TEST(report__forecast_of_a_check),
        TEST(report__foreign_strings_are_cleaned),
        TEST(report__error_of_the_command_line),
    };

    return cmocka_run_group_tests(tests, set_locale, NULL);
}
