#include "unit.h"

#include <stdlib.h>

#include "base/mem.h"
#include "cli/opts.h"

enum { ARGS_MAX = 40 };

/* Far from small; one parse at a time. */
static struct opts opts;
static char *argv[ARGS_MAX + 2];

/* Parse the NULL-terminated words behind the program's name. */
static bool parse(const char *const *words, struct err *e)
{
    int argc = 1;

    argv[0] = (char *)"snmigrate";
    for (; *words != NULL; words++)
        argv[argc++] = (char *)*words;
    argv[argc] = NULL;
    memset(e, 0, sizeof *e);
    return opts_parse(argc, argv, &opts, e);
}

#define PARSE(e, ...) parse((const char *const[]){ __VA_ARGS__, NULL }, e)

#define assert_taken(...) \
    do { \
        struct err e_; \
        assert_ok(PARSE(&e_, __VA_ARGS__), e_); \
    } while (0)

/* Refused with a message and a next step that hold these. */
#define assert_refused(what, then, ...) \
    do { \
        struct err e_; \
        assert_err(PARSE(&e_, __VA_ARGS__), e_, ERR_USAGE); \
        assert_contains(e_.msg, what); \
        assert_contains(e_.next, then); \
    } while (0)

static void opts__two_words_leave_the_defaults(void **state)
{
    (void)state;
    assert_taken("web01", "root@hostb");
    assert_string_equal(opts.move.domain, "web01");
    assert_string_equal(opts.move.dest_text, "root@hostb");
    assert_string_equal(opts.move.dest.user, "root");
    assert_string_equal(opts.move.dest.host, "hostb");
    assert_null(opts.move.connect);
    assert_null(opts.move.ssh);
    assert_null(opts.move.disks_to);
    assert_null(opts.move.format);
    assert_int_equal(opts.move.ndisks, 0);
    assert_int_equal(opts.move.max_downtime_ms, 300);
    assert_int_equal(opts.move.bandwidth, 0);
    assert_int_equal(opts.move.timeout_ms, 0);
    assert_int_equal(opts.move.retries, 3);
    assert_int_equal(opts.move.reconnect_ms, 15 * 60 * 1000);
    assert_int_equal(opts.move.zstd, ZSTD_AUTO);
    assert_false(opts.move.keep_source);
    assert_false(opts.move.remove_source_disks);
    assert_false(opts.move.check_only);
    assert_int_equal(opts.progress, OPTS_PROGRESS_AUTO);
    assert_int_equal(opts.verbose, 0);
    assert_false(opts.quiet || opts.json || opts.help || opts.version);
}

static void opts__each_option_sets_its_field(void **state)
{
    (void)state;
    assert_taken("-c", "qemu:///session", "--disks-to", "/srv/vm", "--format", "qcow2",
                 "--max-downtime", "1500ms", "--bandwidth=800Mbit", "--compress", "-3",
                 "--timeout", "2h", "--check", "--ssh", "ssh -F cfg", "--json",
                 "--progress", "plain", "-vv", "--verbose", "web01", "hostb");
    assert_string_equal(opts.move.connect, "qemu:///session");
    assert_string_equal(opts.move.disks_to, "/srv/vm");
    assert_string_equal(opts.move.format, "qcow2");
    assert_int_equal(opts.move.max_downtime_ms, 1500);
    assert_int_equal(opts.move.bandwidth, 100000000);
    assert_int_equal(opts.move.zstd, -3);
    assert_int_equal(opts.move.timeout_ms, 7200000);
    assert_true(opts.move.check_only);
    assert_string_equal(opts.move.ssh, "ssh -F cfg");
    assert_true(opts.json);
    assert_int_equal(opts.progress, OPTS_PROGRESS_PLAIN);
    assert_int_equal(opts.verbose, 3);

    assert_taken("--keep-source", "--compress", "off", "--bandwidth", "0", "-q", "a",
                 "b");
    assert_true(opts.move.keep_source);
    assert_true(opts.quiet);
    assert_int_equal(opts.move.zstd, ZSTD_OFF);
    assert_int_equal(opts.move.bandwidth, 0);

    assert_taken("--retries", "0", "--reconnect", "0s", "a", "b");
    assert_int_equal(opts.move.retries, 0);
    assert_int_equal(opts.move.reconnect_ms, 0);
    assert_taken("--retries", "100", "--reconnect", "2h", "a", "b");
    assert_int_equal(opts.move.retries, 100);
    assert_int_equal(opts.move.reconnect_ms, 7200000);

    assert_taken("--remove-source-disks", "--progress", "none", "a", "b");
    assert_true(opts.move.remove_source_disks);
    assert_int_equal(opts.progress, OPTS_PROGRESS_NONE);
}

static void opts__options_may_follow_the_operands(void **state)
{
    (void)state;
    assert_taken("--check", "--forecast", "10s", "--set-time", "web01", "hostb");
    assert_int_equal(opts.move.forecast_ms, 10000);
    assert_true(opts.move.set_time);
    assert_taken("web01", "--check", "hostb", "--json");
    assert_int_equal(opts.move.forecast_ms, 0);
    assert_false(opts.move.set_time);
    assert_string_equal(opts.move.domain, "web01");
    assert_string_equal(opts.move.dest.host, "hostb");
    assert_true(opts.move.check_only && opts.json);
}

static void opts__last_of_two_counts(void **state)
{
    (void)state;
    assert_taken("--format", "raw", "--format", "qcow2", "a", "b");
    assert_string_equal(opts.move.format, "qcow2");
}

static void opts__after_dashes_all_are_operands(void **state)
{
    (void)state;
    assert_taken("--", "--check", "hostb");
    assert_string_equal(opts.move.domain, "--check");
    assert_false(opts.move.check_only);
    assert_taken("--", "agent", "hostb");
    assert_string_equal(opts.move.domain, "agent");
}

static void opts__disk_may_be_repeated_and_have_a_format(void **state)
{
    (void)state;
    assert_taken("--disk", "vda=/srv/a.img", "--disk",
                 "sdb=/srv/b,,c=d.img,format=qcow2", "a", "b");
    assert_int_equal(opts.move.ndisks, 2);
    assert_string_equal(opts.move.disks[0].target, "vda");
    assert_string_equal(opts.move.disks[0].path, "/srv/a.img");
    assert_string_equal(opts.move.disks[0].format, "");
    assert_string_equal(opts.move.disks[1].target, "sdb");
    assert_string_equal(opts.move.disks[1].path, "/srv/b,c=d.img");
    assert_string_equal(opts.move.disks[1].format, "qcow2");
}

static void opts__bad_disks_are_refused(void **state)
{
    (void)state;
    assert_refused("no TARGET=", "--help", "--disk", "/srv/a", "a", "b");
    assert_refused("no TARGET=", "--help", "--disk", "=/srv/a", "a", "b");
    assert_refused("no disk target", "--help", "--disk", "vd/a=/srv/a", "a", "b");
    assert_refused("no disk target", "--help", "--disk",
                   "abcdefghijklmnopqrstuvwxyzabcdefghijkl=/a", "a", "b");
    assert_refused("not absolute", "--help", "--disk", "vda=a.img", "a", "b");
    assert_refused("not absolute", "--help", "--disk", "vda=", "a", "b");
    assert_refused("a directory", "--help", "--disk", "vda=/srv/", "a", "b");
    assert_refused("neither ,format=raw", ",,", "--disk", "vda=/srv/a,fromat=raw", "a",
                   "b");
    assert_refused("neither ,format=raw", "--help", "--disk", "vda=/srv/a,format=vmdk",
                   "a", "b");
    assert_refused("control characters", "--help", "--disk", "vda=/srv/\033[31m", "a",
                   "b");
    assert_refused("given twice", "--help", "--disk", "vda=/a", "--disk", "vda=/b", "a",
                   "b");
    assert_refused("would share /a", "--help", "--disk", "vda=/a", "--disk", "vdb=/a",
                   "a", "b");
}

static void opts__too_many_disks_are_refused(void **state)
{
    char text[DOMXML_DISKS_MAX + 1][40];
    char *args[DOMXML_DISKS_MAX + 5] = { (char *)"snmigrate" };
    struct err e = { 0 };
    int n = 1;

    (void)state;
    for (int i = 0; i <= DOMXML_DISKS_MAX; i++) {
        snprintf(text[i], sizeof text[i], "--disk=d%d=/srv/%d", i, i);
        args[n++] = text[i];
    }
    args[n++] = (char *)"a";
    args[n++] = (char *)"b";
    assert_err(opts_parse(n, args, &opts, &e), e, ERR_USAGE);
    assert_contains(e.msg, "more than 64 times");
}

static void opts__paths_are_checked(void **state)
{
    char path[PATHS_MAX + 2] = "/";

    (void)state;
    memset(path + 1, 'x', PATHS_MAX);
    assert_refused("at most 4095", "--help", "--disks-to", path, "a", "b");
    path[PATHS_MAX - 1] = '\0';
    assert_taken("--disks-to", path, "a", "b");
    assert_refused("not absolute", "--help", "--disks-to", "vm", "a", "b");
    assert_refused("not absolute", "--help", "--disks-to", "", "a", "b");
    assert_refused("has a ..", "--help", "--disks-to", "/srv/../etc", "a", "b");
    assert_refused("has a ..", "--help", "--disks-to", "/..", "a", "b");
    assert_refused("has a .", "--help", "--disks-to", "/srv/./x", "a", "b");
    assert_refused("not UTF-8", "--help", "--disks-to", "/srv/\xff", "a", "b");
    assert_refused("control characters", "--help", "--disks-to", "/srv/\n", "a", "b");
    assert_taken("--disks-to", "/srv//..x/.y/x..", "a", "b");
    assert_taken("--disks-to", "/", "a", "b");
}

static void opts__values_are_checked(void **state)
{
    (void)state;
    assert_refused("--max-downtime: time: \"300\" has no known unit", "--help",
                   "--max-downtime", "300", "a", "b");
    assert_refused("between 1ms and 1m", "--help", "--max-downtime", "61s", "a", "b");
    assert_refused("between 1ms and 1m", "--help", "--max-downtime", "0ms", "a", "b");
    assert_refused("between 1s and 14d", "--help", "--timeout", "15d", "a", "b");
    assert_refused("--bandwidth: rate", "--help", "--bandwidth", "800", "a", "b");
    assert_refused("between 100Kbit and 1Tbit", "--help", "--bandwidth", "8bit", "a",
                   "b");
    assert_refused("none of raw|qcow2", "--help", "--format", "vmdk", "a", "b");
    assert_refused("none of raw|qcow2", "--help", "--format", "", "a", "b");
    assert_refused("none of raw|qcow2", "--help", "--format", "raw|qcow2", "a", "b");
    assert_refused("none of auto|plain|none", "--help", "--progress", "live", "a", "b");
    assert_refused("a level from -5 to 19", "--help", "--compress", "20", "a", "b");
    assert_refused("a level from -5 to 19", "--help", "--compress", "-6", "a", "b");
    assert_refused("a level from -5 to 19", "--help", "--compress", "3x", "a", "b");
    assert_refused("a level from -5 to 19", "--help", "--compress", "", "a", "b");
    assert_refused("--ssh: the CMD is empty", "--help", "--ssh", " ", "a", "b");
    assert_refused("control characters", "--help", "--ssh", "ssh\n", "a", "b");
    assert_refused("--connect: the URI is empty", "--help", "-c", "", "a", "b");
}

static void opts__contradictions_are_refused(void **state)
{
    (void)state;
    assert_refused("contradict", "Give one of them", "--keep-source",
                   "--remove-source-disks", "a", "b");
    assert_refused("nothing is left to compare", "See: snmigrate --help",
                   "--verify-later", "--remove-source-disks", "a", "b");
    assert_refused("contradict", "--help", "-q", "-v", "a", "b");
    assert_refused("--check only", "forecast of its own", "--forecast", "10s", "a",
                   "b");
}

static void opts__operands_are_checked(void **state)
{
    struct err e = { 0 };

    (void)state;
    argv[0] = (char *)"snmigrate";
    argv[1] = NULL;
    assert_err(opts_parse(1, argv, &opts, &e), e, ERR_USAGE);
    assert_contains(e.msg, "DOMAIN and DESTINATION are missing");
    assert_refused("DESTINATION is missing", "--help", "web01");
    assert_refused("one argument too many", "--help", "web01", "hostb", "hostc");
    assert_refused("DOMAIN is empty", "--help", "", "hostb");
    assert_refused("DOMAIN has control", "uuid", "web\033[2J", "hostb");
    assert_refused("DESTINATION", "--help", "web01", "");
    assert_refused("DESTINATION", "--help", "--", "web01", "-oProxyCommand=x");
}

static void opts__unknown_option_names_the_nearest(void **state)
{
    (void)state;
    assert_refused("no option --chek", "Did you mean --check?", "--chek", "a", "b");
    assert_refused("no option --max-dwontime=1s", "--max-downtime?",
                   "--max-dwontime=1s", "a");
    assert_refused("no option --disk-to", "--disks-to?", "--disk-to", "/a", "a", "b");
    assert_refused("no option --xyzzy", "snmigrate --help", "--xyzzy", "a", "b");
    assert_refused("no option -x", "snmigrate --help", "-x", "a", "b");
    assert_refused("no option -x", "snmigrate --help", "-qx", "a", "b");
}

static void opts__abbreviation_is_not_taken(void **state)
{
    (void)state;
    assert_refused("no option --remove", "--remove-source-disks?", "--remove", "a",
                   "b");
    assert_refused("no option --band", "--bandwidth?", "--band", "1Gbit", "a", "b");
    assert_refused("no option --band", "--bandwidth?", "--band");
}

static void opts__value_missing_or_unwanted(void **state)
{
    (void)state;
    assert_refused("--bandwidth needs a value: RATE", "--help", "a", "b",
                   "--bandwidth");
    assert_refused("--connect needs a value: URI", "--help", "a", "b", "-c");
    assert_refused("--check takes no value", "--help", "--check=yes", "a", "b");
}

static void opts__help_and_version_need_nothing_else(void **state)
{
    (void)state;
    assert_taken("--help");
    assert_true(opts.help);
    assert_taken("-h");
    assert_true(opts.help);
    assert_taken("--version");
    assert_true(opts.version);
    assert_taken("-V");
    assert_true(opts.version);
}

static void opts__help_fits_into_80_columns(void **state)
{
    AUTO(mem_free) char *text = NULL;
    size_t size;
    FILE *const f = open_memstream(&text, &size);

    (void)state;
    opts_help(f);
    fclose(f);
    for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1)
        if (strcspn(line, "\n") > 80)
            fail_msg("over 80 columns: %.100s", line);
}

static void opts__settings_are_checked_as_the_options_are(void **state)
{
    static const struct {
        const char *text, *what, *then;
    } bad[] = {
        { "bandwith=1M", "bandwith", "bandwidth, max-downtime, guest-latency" },
        { "", "nothing that can be set", "bandwidth" },
        { "=1M", "nothing that can be set", "bandwidth" },
        { "bandwidth", "needs a value", "" },
        { "bandwidth=", "--bandwidth", "bandwidth=none" },
        { "bandwidth=1", "unit", "bandwidth=none" },
        { "bandwidth=1K", "100Kbit", "bandwidth=none" },
        { "max-downtime=none", "--max-downtime", "" },
        { "max-downtime=61s", "1ms and 1m", "" },
        { "guest-latency=20", "--guest-latency", "none" },
        { "hold=1", "hold", "" },
    };
    struct move_settings s = { 0 };
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        memset(&e, 0, sizeof e);
        assert_err(opts_setting(bad[i].text, &s, &e), e, ERR_USAGE);
        assert_contains(e.msg, bad[i].what);
        assert_contains(e.next, bad[i].then);
    }
    assert_false(s.has_bandwidth || s.has_max_downtime || s.has_guest_latency);
    assert_ok(opts_setting("bandwidth=400Mbit", &s, &e), e);
    assert_true(s.has_bandwidth && !s.has_max_downtime && s.bandwidth == 50000000);
    assert_ok(opts_setting("max-downtime=1s", &s, &e), e);
    assert_true(s.has_max_downtime && s.max_downtime_ms == 1000);
    assert_ok(opts_setting("guest-latency=20ms", &s, &e), e);
    assert_true(s.has_guest_latency && s.guest_latency_ms == 20);
    assert_ok(opts_setting("bandwidth=none", &s, &e), e);
    assert_ok(opts_setting("guest-latency=none", &s, &e), e);
    assert_true(s.bandwidth == 0 && s.guest_latency_ms == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(opts__two_words_leave_the_defaults),
        TEST(opts__each_option_sets_its_field),
        TEST(opts__options_may_follow_the_operands),
        TEST(opts__last_of_two_counts),
        TEST(opts__after_dashes_all_are_operands),
        TEST(opts__disk_may_be_repeated_and_have_a_format),
        TEST(opts__bad_disks_are_refused),
        TEST(opts__too_many_disks_are_refused),
        TEST(opts__paths_are_checked),
        TEST(opts__values_are_checked),
        TEST(opts__contradictions_are_refused),
        TEST(opts__operands_are_checked),
        TEST(opts__unknown_option_names_the_nearest),
        TEST(opts__abbreviation_is_not_taken),
        TEST(opts__value_missing_or_unwanted),
        TEST(opts__help_and_version_need_nothing_else),
        TEST(opts__help_fits_into_80_columns),
        TEST(opts__settings_are_checked_as_the_options_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
