#include "unit.h"

#include <locale.h>
#include <stdio.h>

#include "base/mem.h"
#include "cli/render.h"

static const uint64_t KIB = 1 << 10, MIB = 1 << 20, GIB = 1 << 30;

static struct move_gauge gauge(const char *name, uint64_t size, uint64_t total,
                               uint64_t done, uint64_t dirty, double rate,
                               double dirty_rate)
{
    struct move_gauge g = { .size = size,
                            .total = total,
                            .done = done,
                            .dirty = dirty,
                            .rate = rate,
                            .dirty_rate = dirty_rate };

    snprintf(g.name, sizeof g.name, "%s", name);
    return g;
}

/* In the middle of the bulk pass of two disks. */
static struct move_progress bulk(void)
{
    struct move_progress p = { .phase = MOVE_BULK,
                               .domain = "web01",
                               .dest = "hostb",
                               .elapsed_ms = 72 * 1000,
                               .ndisks = 2,
                               .sent = 3 * GIB,
                               .sent_rate = 57.0 * (double)MIB,
                               .ratio = 1.9,
                               .rtt_us = 1240,
                               .predicted_pause_ms = -1,
                               .budget_ms = 300,
                               .eta_ms = 95 * 1000,
                               .trend = MOVE_TREND_UNKNOWN };

    p.disks[0] =
        gauge("vda", 20 * GIB, 12 * GIB, 4 * GIB, 60 * MIB, 87.0 * (double)MIB, -1);
    p.disks[1] = gauge("vdb", 4 * GIB, 200 * MIB, 200 * MIB, 0, 0, 0);
    return p;
}

/* In the second round, memory on its way. */
static struct move_progress memory(void)
{
    struct move_progress p = bulk();

    p.phase = MOVE_MEMORY;
    p.round = 2;
    p.disks[0] =
        gauge("vda", 20 * GIB, 24 * MIB, 8 * MIB, 2 * MIB, 31e6, 1.5 * (double)MIB);
    p.disks[1] = gauge("vdb", 4 * GIB, 0, 0, 0, 0, 12.0 * (double)KIB);
    /* QEMU counts what is dirty as remaining, which is what is not done. */
    p.ram = gauge("RAM", 4 * GIB, 4 * GIB, 3 * GIB, 1 * GIB, 110.0 * (double)MIB,
                  8.0 * (double)MIB);
    p.predicted_pause_ms = 412;
    p.eta_ms = 12345;
    p.trend = MOVE_TREND_CONVERGING;
    snprintf(
        p.why, sizeof p.why,
        "1.0 GiB of memory and 18.0 MiB of disks do not fit into a pause of 300 ms");
    return p;
}

static void assert_live(const struct move_progress *p, unsigned width, unsigned rows,
                        bool utf8, const char *wanted)
{
    AUTO(text_fini) struct text t = { .width = width, .utf8 = utf8 };

    render_live(&t, p, rows);
    assert_string_equal(t.buf, wanted);
}

/* As the user sees it. */
/* clang-format off */
static void render__bulk_on_80_columns(void **state)
{
    const struct move_progress p = bulk();

    (void)state;
    assert_live(&p, 80, 23, true,
        "web01 → hostb  copying disks                                              1m 12s\n"
        "\n"
        "                                  copied        left    copying at  guest writes\n"
        "  vda    ━━━━─────────   33%     4.0 GiB     8.1 GiB    87.0 MiB/s             ?\n"
        "  vdb    ━━━━━━━━━━━━━  100%   200.0 MiB         0 B             -             -\n"
        "\n"
        "  link   57.0 MiB/s · 3.0 GiB sent · compressed 1.9x · round trip 1.2 ms\n"
        "  pause  300 ms allowed · switch in 1m 35s\n");
}

static void render__memory_on_80_columns(void **state)
{
    const struct move_progress p = memory();

    (void)state;
    assert_live(&p, 80, 23, true,
        "web01 → hostb  copying memory, disk round 2                               1m 12s\n"
        "\n"
        "                                  copied        left    copying at  guest writes\n"
        "  vda    ━━━━━━━━━━━━─   99%     8.0 MiB    18.0 MiB    29.6 MiB/s     1.5 MiB/s\n"
        "  vdb    ━━━━━━━━━━━━━  100%         0 B         0 B             -    12.0 KiB/s\n"
        "  RAM    ━━━━━━━━━────   75%     3.0 GiB     1.0 GiB   110.0 MiB/s     8.0 MiB/s\n"
        "\n"
        "  link   57.0 MiB/s · 3.0 GiB sent · compressed 1.9x · round trip 1.2 ms\n"
        "  pause  412 ms (300 ms allowed) · converging · switch in 13 s\n"
        "  why    1.0 GiB of memory and 18.0 MiB of disks do not fit into a pause of 300\n"
        "         ms\n");
}

static void render__what_is_hot_has_a_line(void **state)
{
    struct move_progress p = memory();

    (void)state;
    p.disks[0].hot = 3 * MIB;
    p.disks[1].hot = MIB;
    p.why[0] = '\0';
    assert_live(&p, 80, 23, true,
        "web01 → hostb  copying memory, disk round 2                               1m 12s\n"
        "\n"
        "                                  copied        left    copying at  guest writes\n"
        "  vda    ━━━━━━━━━━━━─   99%     8.0 MiB    21.0 MiB    29.6 MiB/s     1.5 MiB/s\n"
        "  vdb    ━━━━━━━━━━━━─   99%         0 B     1.0 MiB             -    12.0 KiB/s\n"
        "  RAM    ━━━━━━━━━────   75%     3.0 GiB     1.0 GiB   110.0 MiB/s     8.0 MiB/s\n"
        "\n"
        "  link   57.0 MiB/s · 3.0 GiB sent · compressed 1.9x · round trip 1.2 ms\n"
        "  pause  412 ms (300 ms allowed) · converging · switch in 13 s\n"
        "  hot    4.0 MiB wait for the last round\n");
}

static void render__memory_on_120_columns(void **state)
{
    const struct move_progress p = memory();

    (void)state;
    assert_live(&p, 120, 23, true,
        "web01 → hostb  copying memory, disk round 2                                                                       1m 12s\n"
        "\n"
        "                                                             copied        left    copying at  guest writes\n"
        "  vda    ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━─   99%     8.0 MiB    18.0 MiB    29.6 MiB/s     1.5 MiB/s\n"
        "  vdb    ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━  100%         0 B         0 B             -    12.0 KiB/s\n"
        "  RAM    ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━──────────   75%     3.0 GiB     1.0 GiB   110.0 MiB/s     8.0 MiB/s\n"
        "\n"
        "  link   57.0 MiB/s · 3.0 GiB sent · compressed 1.9x · round trip 1.2 ms\n"
        "  pause  412 ms (300 ms allowed) · converging · switch in 13 s\n"
        "  why    1.0 GiB of memory and 18.0 MiB of disks do not fit into a pause of 300 ms\n");
}

static void render__memory_on_40_columns(void **state)
{
    const struct move_progress p = memory();

    (void)state;
    assert_live(&p, 40, 23, true,
        "web01 → hostb                     1m 12s\n"
        "copying memory, disk round 2\n"
        "\n"
        "                                    left\n"
        "vda    ━━━━━━━━━━━━━━─   99%    18.0 MiB\n"
        "vdb    ━━━━━━━━━━━━━━━  100%         0 B\n"
        "RAM    ━━━━━━━━━━━────   75%     1.0 GiB\n"
        "\n"
        "link   57.0 MiB/s · 3.0 GiB sent\n"
        "pause  412 ms (300 ms allowed)\n"
        "why    1.0 GiB of memory and 18.0 MiB of\n"
        "       disks do not fit into a pause of…\n");
}

static void render__ascii_where_the_locale_is_not_utf8(void **state)
{
    const struct move_progress p = memory();

    (void)state;
    assert_live(&p, 80, 23, false,
        "web01 -> hostb  copying memory, disk round 2                              1m 12s\n"
        "\n"
        "                                  copied        left    copying at  guest writes\n"
        "  vda    ############.   99%     8.0 MiB    18.0 MiB    29.6 MiB/s     1.5 MiB/s\n"
        "  vdb    #############  100%         0 B         0 B             -    12.0 KiB/s\n"
        "  RAM    #########....   75%     3.0 GiB     1.0 GiB   110.0 MiB/s     8.0 MiB/s\n"
        "\n"
        "  link   57.0 MiB/s, 3.0 GiB sent, compressed 1.9x, round trip 1.2 ms\n"
        "  pause  412 ms (300 ms allowed), converging, switch in 13 s\n"
        "  why    1.0 GiB of memory and 18.0 MiB of disks do not fit into a pause of 300\n"
        "         ms\n");
}

static void render__hostile_names_are_escaped_and_cut(void **state)
{
    struct move_progress p = memory();

    (void)state;
    snprintf(p.domain, sizeof p.domain, "web\033[2J\r\n漢字%s", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
    snprintf(p.dest, sizeof p.dest, "\xff\xfe%s", "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy");
    snprintf(p.disks[0].name, sizeof p.disks[0].name, "vda\033[31mred");
    snprintf(p.why, sizeof p.why, "because\b\b\033]0;title\a");
    assert_live(&p, 80, 23, true,
        "web\\x1b[2J\\x0d\\x0a漢字xxxxxxxxxxx… → \\xff\\xfeyyyyyyyyyyyyyyyyyyyyyyyyy…   1m 12s\n"
        "copying memory, disk round 2\n"
        "\n"
        "                                                left    copying at  guest writes\n"
        "  vda\\x1b[31m…  ━━━━━━━━━━━━━━━━━─   99%    18.0 MiB    29.6 MiB/s     1.5 MiB/s\n"
        "  vdb           ━━━━━━━━━━━━━━━━━━  100%         0 B             -    12.0 KiB/s\n"
        "  RAM           ━━━━━━━━━━━━━─────   75%     1.0 GiB   110.0 MiB/s     8.0 MiB/s\n"
        "\n"
        "  link          57.0 MiB/s · 3.0 GiB sent · compressed 1.9x · round trip 1.2 ms\n"
        "  pause         412 ms (300 ms allowed) · converging · switch in 13 s\n"
        "  why           because\\x08\\x08\\x1b]0;title\\x07\n");
}

static void render__many_disks_share_a_line(void **state)
{
    struct move_progress p = bulk();

    (void)state;
    p.ndisks = 26;
    for (size_t i = 0; i < p.ndisks; i++) {
        char name[8];

        snprintf(name, sizeof name, "vd%c", (char)('a' + i));
        p.disks[i] = gauge(name, GIB, 100 * MIB, 10 * MIB * (i % 11), 0, 1e6, 0);
    }
    assert_live(&p, 80, 12, true,
        "web01 → hostb  copying disks                                              1m 12s\n"
        "                                  copied        left    copying at  guest writes\n"
        "  vda    ─────────────    0%         0 B   100.0 MiB   976.6 KiB/s             -\n"
        "  vdb    ━────────────   10%    10.0 MiB    90.0 MiB   976.6 KiB/s             -\n"
        "  vdc    ━━───────────   20%    20.0 MiB    80.0 MiB   976.6 KiB/s             -\n"
        "  vdd    ━━━──────────   30%    30.0 MiB    70.0 MiB   976.6 KiB/s             -\n"
        "  vde    ━━━━━────────   40%    40.0 MiB    60.0 MiB   976.6 KiB/s             -\n"
        "  +21    ━━━━━━───────   50%     1.0 GiB     1.0 GiB    20.0 MiB/s             -\n"
        "  link   57.0 MiB/s · 3.0 GiB sent · compressed 1.9x · round trip 1.2 ms\n"
        "  pause  300 ms allowed · switch in 1m 35s\n");
}

static void render__before_and_after_copying_one_line(void **state)
{
    struct move_progress p = memory();

    (void)state;
    p.why[0] = '\0';
    p.phase = MOVE_PREFLIGHT;
    assert_live(&p, 60, 23, true,
        "web01 → hostb  checking both hosts                    1m 12s\n");
    p.phase = MOVE_UNDO;
    assert_live(&p, 60, 23, true,
        "web01 → hostb  ending this try                        1m 12s\n");
}

static void assert_plain(const struct move_progress *p, const char *wanted)
{
    AUTO(text_fini) struct text t = { .utf8 = true };

    render_plain(&t, p);
    assert_string_equal(t.buf, wanted);
}

static void render__plain_lines(void **state)
{
    struct move_progress p = bulk();

    (void)state;
    assert_plain(&p,
        "web01: copying disks, vda 33% (8.1 GiB left), vdb 100%, sending 57.0 MiB/s, switch in 1m 35s");
    p = memory();
    p.phase = MOVE_ROUNDS;
    p.ram.size = 0;
    p.held = true; /* comes no nearer, on purpose */
    p.eta_ms = -1;
    snprintf(p.why, sizeof p.why, "in step, held");
    assert_plain(&p,
        "web01: copying changes, disk round 2, vda 99% (18.0 MiB left), vdb 100%, sending 57.0 MiB/s, pause 412 ms (300 ms allowed); in step, held");
    p = memory();
    assert_plain(&p,
        "web01: copying memory, disk round 2, vda 99% (18.0 MiB left), vdb 100%, RAM 75% (1.0 GiB left), sending 57.0 MiB/s, pause 412 ms (300 ms allowed), converging, switch in 13 s; 1.0 GiB of memory and 18.0 MiB of disks do not fit into a pause of 300 ms");
    p.ndisks = 4;
    p.disks[2] = p.disks[3] = p.disks[1];
    assert_plain(&p,
        "web01: copying memory, disk round 2, 4 disks 99% (18.0 MiB left), RAM 75% (1.0 GiB left), sending 57.0 MiB/s, pause 412 ms (300 ms allowed), converging, switch in 13 s; 1.0 GiB of memory and 18.0 MiB of disks do not fit into a pause of 300 ms");
    p.phase = MOVE_FINISH;
    p.why[0] = '\0';
    assert_plain(&p,
        "web01: tidying up");
}

static void render__limits_are_shown_where_there_are_some(void **state)
{
    AUTO(text_fini) struct text t = { .utf8 = true, .width = 80 };
    struct move_progress p = bulk();

    (void)state;
    p.rate_limit = 12 << 20;
    p.guest_write_ms = 34.04;
    assert_plain(&p,
        "web01: copying disks, vda 33% (8.1 GiB left), vdb 100%, sending 57.0 MiB/s, at most 12.0 MiB/s, guest's writes 34.0 ms, switch in 1m 35s");
    render_live(&t, &p, 23);
    assert_contains(t.buf, " · at most 12.0 MiB/s · guest's writes 34.0 ms\n");
}
/* clang-format on */

/* Lines of at most that many columns, at most that many of them, and nothing that does
 * something to a terminal. */
static void assert_fits(const struct text *t, unsigned width, unsigned rows)
{
    unsigned lines = 0;

    for (const char *p = t->buf, *end; *p != '\0'; p = end + 1, lines++) {
        AUTO(mem_free) char *line = NULL;

        end = strchr(p, '\n');
        assert_non_null(end);
        line = strndup(p, (size_t)(end - p));
        if (text_columns(t, line) > width)
            fail_msg("over %u columns: %s", width, line);
        for (const char *c = line; *c != '\0'; c++)
            assert_true((unsigned char)*c >= ' ' && *c != 0x7f);
    }
    if (lines > rows)
        fail_msg("%u lines on %u rows, width %u:\n%s", lines, rows, width, t->buf);
}

static void render__always_fits(void **state)
{
    struct move_progress p = memory();

    (void)state;
    memset(p.domain, '\033', sizeof p.domain - 1);
    memset(p.dest, 'd', sizeof p.dest - 1);
    for (size_t i = 0; i < DOMXML_DISKS_MAX; i++) {
        p.disks[i] = gauge("", UINT64_MAX, UINT64_MAX, i, UINT64_MAX, 1e300, 0.0 / 0.0);
        memset(p.disks[i].name, 'n', sizeof p.disks[i].name - 1);
    }
    for (unsigned width = 19; width < 150; width += 3)
        for (unsigned rows = 5; rows < 90; rows += 1 + rows / 12)
            for (unsigned disks = 0; disks <= DOMXML_DISKS_MAX; disks += 1 + disks / 3)
                for (unsigned utf8 = 0; utf8 < 2; utf8++) {
                    AUTO(text_fini) struct text t = { .width = width, .utf8 = utf8 };

                    p.ndisks = disks;
                    p.phase = (width + rows + disks) % MOVE_PHASES;
                    p.ram.size = disks % 2 * GIB;
                    render_live(&t, &p, rows);
                    assert_fits(&t, width, rows);
                }
}

static void render__all_done_only_when_nothing_is_left(void **state)
{
    struct move_progress p = bulk();
    AUTO(text_fini) struct text t = { .utf8 = true };

    (void)state;
    p.ndisks = 1;
    p.disks[0].done = p.disks[0].total - 1;
    p.disks[0].dirty = 0;
    render_plain(&t, &p);
    assert_contains(t.buf, "vda 99% (1 B left)");
}

static void render__nothing_is_done_before_the_bulk_pass_begins(void **state)
{
    struct move_progress p = bulk();
    AUTO(text_fini) struct text t = { .utf8 = true };

    (void)state;
    p.ndisks = 1;
    p.disks[0].total = p.disks[0].done = p.disks[0].dirty = 0;
    render_plain(&t, &p);
    assert_contains(t.buf, "vda 0% (20.0 GiB left)");
}

static int set_locale(void **state)
{
    (void)state;
    return setlocale(LC_CTYPE, "C.UTF-8") != NULL ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(render__bulk_on_80_columns),
        TEST(render__memory_on_80_columns),
        TEST(render__what_is_hot_has_a_line),
        TEST(render__memory_on_120_columns),
        TEST(render__memory_on_40_columns),
        TEST(render__ascii_where_the_locale_is_not_utf8),
        TEST(render__hostile_names_are_escaped_and_cut),
        TEST(render__many_disks_share_a_line),
        TEST(render__before_and_after_copying_one_line),
        TEST(render__plain_lines),
        TEST(render__limits_are_shown_where_there_are_some),
        TEST(render__always_fits),
        TEST(render__all_done_only_when_nothing_is_left),
        TEST(render__nothing_is_done_before_the_bulk_pass_begins),
    };

    return cmocka_run_group_tests(tests, set_locale, NULL);
}
