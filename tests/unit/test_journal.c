#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/journal.h"
#include "base/mem.h"
#include "base/unix.h"
#include "tests/lib/tmp.h"

static const char first[] = "{\"step\":\"prepared\",\"time\":\"x\"}\n";

static void put_file(const char *text, size_t len)
{
    AUTO(fd_close)
    int fd =
        open(tmp_path("d/journal"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct err e;

    assert_ok(fd_write_all(fd, text, len, &e), e);
}

/* The steps of the journal, "a b c". */
static const char *steps(void)
{
    static char text[200];
    AUTO(json_put) struct json_object *list = NULL;
    struct err e;

    assert_ok(journal_read(tmp_path("d"), &list, &e), e);
    text[0] = '\0';
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        const char *s;

        assert_ok(json_get_str(json_object_array_get_idx(list, i), "step", &s, &e), e);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s",
                 i > 0 ? " " : "", s);
    }
    return text;
}

static int in_dir(void **state)
{
    struct err e;

    return tmp_make(state) == 0 && dir_private(tmp_path("d"), &e) ? 0 : -1;
}

/* A move whose journal cannot be opened goes on where an entry only informs. */
static void journal__without_one_a_step_fails(void **state)
{
    struct err e;

    (void)state;
    assert_err(journal_step(NULL, "committed", json_new(), &e), e, ERR_SYS);
    assert_string_equal(e.msg, "journal: step committed: Bad file descriptor");
}

static void journal__steps_are_read_back_in_order(void **state)
{
    AUTO(journal_close) struct journal *j = NULL;
    AUTO(json_put) struct json_object *list = NULL;
    const char *s;
    uint64_t u;
    struct err e;

    (void)state;
    assert_ok(journal_open(tmp_path("x/id"), &j, &e), e);
    assert_ok(journal_step(j, "prepared", NULL, &e), e);
    assert_ok(journal_step(j, "round", json_add_u64(json_new(), "n", 1), &e), e);
    assert_ok(journal_step(j, "round", json_add_u64(json_new(), "n", 2), &e), e);
    assert_ok(journal_read(tmp_path("x/id"), &list, &e), e);
    assert_int_equal(json_object_array_length(list), 3);
    assert_null(journal_find(list, "done"));
    struct json_object *last = journal_find(list, "round"); /* the newest one */
    assert_non_null(last);
    assert_ok(json_get_u64(last, "n", &u, &e), e);
    assert_int_equal(u, 2);
    assert_ok(json_get_str(last, "time", &s, &e), e);
    assert_int_equal(strlen(s), strlen("2024-01-01T00:00:00Z"));

    struct stat st;
    assert_int_equal(stat(tmp_path("x/id/journal"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

static void journal__opened_again_goes_on(void **state)
{
    struct journal *j;
    struct err e;

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_ok(journal_open(tmp_path("d"), &j, &e), e);
        assert_ok(journal_step(j, "s", NULL, &e), e);
        journal_close(j);
    }
    assert_string_equal(steps(), "s s s");
}

/* A crash can cut the last line anywhere; what is before it stays, what comes after it is
 * not joined to it. */
static void journal__torn_last_line_is_ignored_at_every_length(void **state)
{
    char text[2 * sizeof first];
    struct journal *j;
    struct err e;

    (void)state;
    snprintf(text, sizeof text, "%s%s", first, first);
    for (size_t len = strlen(first); len < 2 * strlen(first); len++) {
        put_file(text, len);
        assert_string_equal(steps(), "prepared");
        assert_ok(journal_open(tmp_path("d"), &j, &e), e);
        assert_ok(journal_step(j, "next", NULL, &e), e);
        journal_close(j);
        assert_string_equal(steps(), "prepared next");
    }
}

static void journal__blocks_of_zeroes_after_a_power_cut_are_ignored(void **state)
{
    char text[4096] = "";

    (void)state;
    memcpy(text, first, strlen(first));
    put_file(text, sizeof text);
    assert_string_equal(steps(), "prepared");
}

static void journal__other_damage_is_an_error(void **state)
{
    static const char *const texts[] = {
        "{\"step\":\"a\"}\nrubbish\n{\"step\":\"b\"}\n", "\n",
        "{\"time\":\"no step\"}\n", "[1]\n", "{\"step\":\"a\"} {\"step\":\"b\"}\n"
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct json_object *list = NULL;
        struct err e;

        put_file(texts[i], strlen(texts[i]));
        assert_err(journal_read(tmp_path("d"), &list, &e), e, ERR_PROTO);
        assert_contains(e.msg, i == 0 ? "journal: line 2" : "journal: line 1");
        assert_null(list);
    }
}

static void journal__none_there_says_enoent(void **state)
{
    struct json_object *list = NULL;
    struct err e;

    (void)state;
    assert_err(journal_read(tmp_path("none"), &list, &e), e, ERR_SYS);
    assert_int_equal(e.os, ENOENT);
    assert_err(journal_read(tmp_path("d"), &list, &e), e, ERR_SYS);
    assert_int_equal(e.os, ENOENT);
}

static void journal__empty_has_no_steps(void **state)
{
    AUTO(journal_close) struct journal *j = NULL;
    struct err e;

    (void)state;
    assert_ok(journal_open(tmp_path("d"), &j, &e), e);
    assert_string_equal(steps(), "");
}

/* Nobody may later find a step that the move was told had failed. */
static void journal__step_that_does_not_fit_leaves_nothing(void **state)
{
    AUTO(journal_close) struct journal *j = NULL;
    struct rlimit old, small;
    char text[3000];
    struct err e;

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_ok(journal_open(tmp_path("d"), &j, &e), e);
    assert_ok(journal_step(j, "a", NULL, &e), e);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 2000; /* as a full disk: half of the line is written */
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const bool ok = journal_step(j, "b", json_add_str(json_new(), "t", text), &e);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_false(ok);
    assert_int_equal(e.os, EFBIG);
    assert_contains(e.msg, "journal: step b: write");
    assert_string_equal(steps(), "a");
    assert_ok(journal_step(j, "c", NULL, &e), e);
    assert_string_equal(steps(), "a c");
}

static void journal__symlinks_are_not_followed(void **state)
{
    struct journal *j = NULL;
    struct json_object *list = NULL;
    struct err e;

    (void)state;
    close(open(tmp_path("target"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_int_equal(symlink("../target", tmp_path("d/journal")), 0);
    assert_err(journal_open(tmp_path("d"), &j, &e), e, ERR_SYS);
    assert_err(journal_read(tmp_path("d"), &list, &e), e, ERR_SYS);
    assert_int_equal(symlink("d", tmp_path("l")), 0);
    assert_err(journal_open(tmp_path("l"), &j, &e), e, ERR_SYS);
    assert_null(j);
}

static void journal__remove_takes_the_directory(void **state)
{
    struct journal *j;
    struct err e;

    (void)state;
    assert_ok(journal_open(tmp_path("d"), &j, &e), e);
    journal_close(j);
    journal_remove(tmp_path("d"));
    assert_int_equal(access(tmp_path("d"), F_OK), -1);
    journal_close(NULL);
}

#define IN_DIR(f) cmocka_unit_test_setup_teardown(f, in_dir, tmp_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(journal__without_one_a_step_fails),
        TEST_TMP(journal__steps_are_read_back_in_order),
        IN_DIR(journal__opened_again_goes_on),
        IN_DIR(journal__torn_last_line_is_ignored_at_every_length),
        IN_DIR(journal__blocks_of_zeroes_after_a_power_cut_are_ignored),
        IN_DIR(journal__other_damage_is_an_error),
        IN_DIR(journal__none_there_says_enoent),
        IN_DIR(journal__empty_has_no_steps),
        IN_DIR(journal__step_that_does_not_fit_leaves_nothing),
        IN_DIR(journal__symlinks_are_not_followed),
        IN_DIR(journal__remove_takes_the_directory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
