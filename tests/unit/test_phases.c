#include <errno.h>
#include <string.h>

#include "migrate/phases.h"
#include "unit.h"

struct move {
    char trail[32];
};

static bool run_ok(struct move *m, struct err *e)
{
    (void)e;
    strncat(m->trail, "+", sizeof m->trail - strlen(m->trail) - 1);
    return true;
}

static bool run_bad(struct move *m, struct err *e)
{
    strncat(m->trail, "!", sizeof m->trail - strlen(m->trail) - 1);
    return err_set(e, ERR_SYS, EIO, "no such luck");
}

static bool run_unresolved(struct move *m, struct err *e)
{
    (void)m;
    return err_set(e, ERR_UNRESOLVED, 0, "no answer");
}

static void undo_a(struct move *m)
{
    strncat(m->trail, "a", sizeof m->trail - strlen(m->trail) - 1);
}

static void undo_b(struct move *m)
{
    strncat(m->trail, "b", sizeof m->trail - strlen(m->trail) - 1);
}

static void failed(struct move *m, struct err *e)
{
    strncat(m->trail, "?", sizeof m->trail - strlen(m->trail) - 1);
    err_set(e, ERR_LINK, 0, "the first cause");
}

static void phases__failure_before_commit_undoes_newest_first(void **state)
{
    const struct phase tab[] = { { "a", run_ok, undo_a, false },
                                 { "n", run_ok, NULL, false },
                                 { "b", run_bad, undo_b, false },
                                 { "c", run_ok, NULL, true } };
    struct move m = { "" };
    struct err e = { 0 };

    (void)state;
    assert_false(phases_run(tab, 4, &m, NULL, &e));
    assert_string_equal(m.trail, "++!ba");
    assert_string_equal(e.msg, "no such luck: Input/output error");
}

static void phases__failure_is_explained_before_anything_is_undone(void **state)
{
    const struct phase tab[] = { { "a", run_bad, undo_a, false } };
    struct move m = { "" };
    struct err e = { 0 };

    (void)state;
    assert_false(phases_run(tab, 1, &m, failed, &e));
    assert_string_equal(m.trail, "!?a");
    assert_int_equal(e.kind, ERR_LINK);
}

static void phases__failed_commit_phase_undoes(void **state)
{
    const struct phase tab[] = { { "a", run_ok, undo_a, false },
                                 { "c", run_bad, NULL, true } };
    struct move m = { "" };
    struct err e = { 0 };

    (void)state;
    assert_false(phases_run(tab, 2, &m, NULL, &e));
    assert_string_equal(m.trail, "+!a");
}

static void phases__failure_after_commit_undoes_nothing(void **state)
{
    const struct phase tab[] = { { "a", run_ok, undo_a, false },
                                 { "c", run_ok, undo_b, true },
                                 { "f", run_bad, undo_a, false } };
    struct move m = { "" };
    struct err e = { 0 };

    (void)state;
    assert_false(phases_run(tab, 3, &m, NULL, &e));
    assert_string_equal(m.trail, "++!");
}

static void phases__unresolved_undoes_nothing(void **state)
{
    const struct phase tab[] = { { "a", run_ok, undo_a, false },
                                 { "c", run_unresolved, undo_b, true } };
    struct move m = { "" };
    struct err e = { 0 };

    (void)state;
    assert_false(phases_run(tab, 2, &m, NULL, &e));
    assert_string_equal(m.trail, "+");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(phases__failure_before_commit_undoes_newest_first),
        cmocka_unit_test(phases__failure_is_explained_before_anything_is_undone),
        cmocka_unit_test(phases__failed_commit_phase_undoes),
        cmocka_unit_test(phases__failure_after_commit_undoes_nothing),
        cmocka_unit_test(phases__unresolved_undoes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
