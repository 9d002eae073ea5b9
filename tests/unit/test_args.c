/* The options of the subcommands. */
#include "unit.h"

#include "cli/args.h"

enum { WORDS = 6 };

static bool json, help;
static const char *progress;
static const struct args_flag flags[] = {
    { "--json", &json, NULL },
    { "--help", &help, NULL },
    { "--progress", NULL, &progress },
    { 0 },
};

/* Of "word a b ..."; @argv gets the operands behind the word. */
static bool parse(const char **argv, int most, int *n, struct err *e)
{
    int argc = 1;

    json = help = false;
    progress = NULL;
    argv[0] = "word";
    while (argv[argc] != NULL)
        argc++;
    return args_parse(argc, (char **)argv, flags, most, n, e);
}

#define ARGV(...) \
    (const char *[WORDS]) \
    { \
        NULL, __VA_ARGS__ \
    }

static void options__are_noted_wherever_they_stand(void **state)
{
    const char **argv;
    struct err e;
    int n;

    (void)state;
    argv = ARGV("--json", "a", "-h", "b");
    assert_ok(parse(argv, 2, &n, &e), e);
    assert_true(json);
    assert_true(help);
    assert_null(progress);
    assert_int_equal(n, 2);
    assert_string_equal(argv[0], "word");
    assert_string_equal(argv[1], "a");
    assert_string_equal(argv[2], "b");
    assert_ok(parse(ARGV(NULL), 0, &n, &e), e);
    assert_int_equal(n, 0);
    assert_false(json);
    assert_false(help);
}

static void value__is_the_next_word_or_behind_the_equals_sign(void **state)
{
    const char **argv;
    struct err e;
    int n;

    (void)state;
    argv = ARGV("--progress", "plain", "a");
    assert_ok(parse(argv, 1, &n, &e), e);
    assert_string_equal(progress, "plain");
    assert_int_equal(n, 1);
    assert_string_equal(argv[1], "a");
    assert_ok(parse(ARGV("--progress=none"), 0, &n, &e), e);
    assert_string_equal(progress, "none");
    assert_ok(parse(ARGV("--progress="), 0, &n, &e), e);
    assert_string_equal(progress, "");
    assert_ok(parse(ARGV("--progress", "--json"), 0, &n, &e), e);
    assert_string_equal(progress, "--json");
    assert_false(json);
    assert_err(parse(ARGV("--progress"), 0, &n, &e), e, ERR_USAGE);
    assert_contains(e.msg, "--progress needs a value");
}

static void two_dashes__end_the_options(void **state)
{
    const char **argv = ARGV("--", "--json", "--");
    struct err e;
    int n;

    (void)state;
    assert_ok(parse(argv, 2, &n, &e), e);
    assert_false(json);
    assert_int_equal(n, 2);
    assert_string_equal(argv[1], "--json");
    assert_string_equal(argv[2], "--");
}

static void what_there_is_not__is_refused(void **state)
{
    struct err e;
    int n;

    (void)state;
    assert_err(parse(ARGV("a", "--jsonx"), 1, &n, &e), e, ERR_USAGE);
    assert_string_equal(e.msg, "snmigrate word has no option --jsonx");
    assert_err(parse(ARGV("--js"), 1, &n, &e), e, ERR_USAGE);
    assert_err(parse(ARGV("--json=1"), 1, &n, &e), e, ERR_USAGE);
    assert_err(parse(ARGV("--progressx=1"), 1, &n, &e), e, ERR_USAGE);
    assert_err(parse(ARGV("-"), 1, &n, &e), e, ERR_USAGE);
    assert_err(parse(ARGV("-hh"), 1, &n, &e), e, ERR_USAGE);
    assert_err(parse(ARGV("a", "b"), 1, &n, &e), e, ERR_USAGE);
    assert_string_equal(e.msg, "\"b\" is one argument too many");
    assert_err(parse(ARGV("--", "b"), 0, &n, &e), e, ERR_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(options__are_noted_wherever_they_stand),
        TEST(value__is_the_next_word_or_behind_the_equals_sign),
        TEST(two_dashes__end_the_options),
        TEST(what_there_is_not__is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
