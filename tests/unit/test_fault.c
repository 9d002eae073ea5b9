#include "unit.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"

static bool init_with(const char *text, struct err *e)
{
    if (text != NULL)
        setenv("SNMIGRATE_FAULT", text, 1);
    else
        unsetenv("SNMIGRATE_FAULT");
    return fault_init(e);
}

static void fault__unset_never_fails(void **state)
{
    struct err e;

    (void)state;
    assert_ok(init_with(NULL, &e), e);
    assert_ok(fault_point("phase.bulk", &e), e);
    assert_ok(init_with("", &e), e);
    assert_ok(fault_point("phase.bulk", &e), e);
}

static void fault__fail_happens_once_at_its_point(void **state)
{
    struct err e;

    (void)state;
    assert_ok(init_with("phase.bulk:fail", &e), e);
    assert_ok(fault_point("phase.bul", &e), e);
    assert_ok(fault_point("phase.bulk2", &e), e);
    assert_err(fault_point("phase.bulk", &e), e, ERR_SYS);
    assert_int_equal(e.os, EIO);
    assert_string_equal(e.msg, "fault point phase.bulk: Input/output error");
    for (int i = 0; i < 5; i++)
        assert_ok(fault_point("phase.bulk", &e), e);
}

static void fault__countdown_counts_passings(void **state)
{
    struct err e;

    (void)state;
    assert_ok(init_with("a:fail:3,b:drop-link:2,a:fail:4", &e), e);
    assert_ok(fault_point("a", &e), e);
    assert_ok(fault_point("b", &e), e);
    assert_ok(fault_point("a", &e), e);
    assert_err(fault_point("a", &e), e, ERR_SYS);
    assert_err(fault_point("b", &e), e, ERR_SYS);
    /* The second row of "a" counts by itself. */
    assert_ok(fault_point("b", &e), e);
}

static void fault__two_rows_of_a_point_both_happen(void **state)
{
    struct err e;

    (void)state;
    assert_ok(init_with("a:fail:1,a:fail:2", &e), e);
    assert_err(fault_point("a", &e), e, ERR_SYS);
    assert_err(fault_point("a", &e), e, ERR_SYS);
    assert_ok(fault_point("a", &e), e);
}

static void fault__delay_waits_and_goes_on(void **state)
{
    const int64_t begin = clock_ms();
    struct err e;

    (void)state;
    assert_ok(init_with("a:delay-30", &e), e);
    assert_ok(fault_point("a", &e), e);
    assert_true(clock_ms() - begin >= 30);
}

static void fault__pass_survives_a_fail(void **state)
{
    struct err e;

    (void)state;
    assert_ok(init_with("a:fail", &e), e);
    fault_pass("a");
    assert_ok(fault_point("a", &e), e); /* it was used up */
}

/* How a child ends that passes "a" under @text. */
static int status_of_child(const char *text, int options)
{
    struct err e;
    int status;

    assert_ok(init_with(text, &e), e);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        fault_pass("a");
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, options), pid);
    if (WIFSTOPPED(status)) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    return status;
}

static void fault__deadly_actions_end_or_stop_the_process(void **state)
{
    int status;

    (void)state;
    status = status_of_child("a:kill-self", 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    status = status_of_child("a:exit", 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    status = status_of_child("a:stop", WUNTRACED);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(status_of_child("a:kill-self:2", 0), 0);
}

static void fault__only_heeds_its_own_prefix(void **state)
{
    struct err e;

    (void)state;
    setenv("SNMIGRATE_FAULT", "commit:fail,guard.begin:fail,guard:fail", 1);
    assert_ok(fault_init_only("guard.", &e), e);
    assert_ok(fault_point("commit", &e), e);
    assert_ok(fault_point("guard", &e), e);
    assert_err(fault_point("guard.begin", &e), e, ERR_SYS);
}

static void fault__malformed_is_refused(void **state)
{
    static const char *const texts[] = {
        "a",
        "a:",
        ":fail",
        "a:what",
        "a:fail:",
        "a:fail:0",
        "a:fail:-1",
        "a:fail:1x",
        "a:fail:1:2",
        "a:delay-",
        "a:delay-x",
        "a:delay-0",
        ",",
        "a:fail,",
        "a:fail:99999999999999",
        "a:delay-700000",
        "a234567890123456789012345678901234567890123456789012345678901234:fail",
        "a:fail,a:fail,a:fail,a:fail,a:fail,a:fail,a:fail,a:fail,a:fail,"
        "a:fail,a:fail,a:fail,a:fail,a:fail,a:fail,a:fail,a:fail",
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct err e = { .kind = ERR_NONE };

        if (init_with(texts[i], &e))
            fail_msg("\"%s\" was taken", texts[i]);
        assert_int_equal(e.kind, ERR_USAGE);
        assert_ok(fault_point("a", &e), e); /* nothing was half set */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(fault__unset_never_fails),
        TEST(fault__fail_happens_once_at_its_point),
        TEST(fault__countdown_counts_passings),
        TEST(fault__two_rows_of_a_point_both_happen),
        TEST(fault__delay_waits_and_goes_on),
        TEST(fault__pass_survives_a_fail),
        TEST(fault__deadly_actions_end_or_stop_the_process),
        TEST(fault__only_heeds_its_own_prefix),
        TEST(fault__malformed_is_refused),
    };

    log_init(LOG_ERROR, "src");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
