#include <errno.h>
#include <string.h>

#include "migrate/phases.h"
#include "unit.h"

struct move {
    char trail[32];
    int bad;    /* so often run_sometimes() fails */
    int tries;  /* so often it may begin again */
    bool unfit; /* mend fails */
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

static bool run_sometimes(struct move *m, struct err *e)
{
    if (m->bad-- > 0)
        return run_bad(m, e);
    return run_ok(m, e);
}

static bool again(struct move *m, const struct err *e)
{
    (void)e;
    return m->tries-- > 0;
}

static bool mend(struct move *m, struct err *e)
{
    strncat(m->trail, "*", sizeof m->trail - strlen(m->trail) - 1);
    return !m->unfit || err_set(e, ERR_LINK, 0, "beyond repair");
}

static const struct phase_hooks no_hooks = { NULL, NULL, NULL };
static const struct phase_hooks explain = { failed, NULL, NULL };
static const struct phase_hooks retry = { NULL, again, mend };

static void phases__failure_before_commit_undoes_newest_first(void **state)
{
    const struct phase tab[] = { { "a", run_ok, undo_a, NULL, false },
                                 { "n", run_ok, NULL, NULL, false },
                                 { "b", run_bad, undo_b, NULL, false },
                                 { "c", run_ok, NULL, NULL, true } };
    struct move m = { .trail = "" };
    struct err e = { 0 };

    (void)state;
    assert_false(phases_run(tab, 4, &m, &no_hooks, &e));
    assert_string_equal(m.trail, "++!ba");
    assert_string_equal(e.msg, "no such luck: Input/output error");
}

static void phases__failure_is_explained_before_anything_is_undone(void **state)
{
    const struct phase tab[] = { { "a", run_bad, undo_a, NULL, false } };
    struct move m = { .trail = "" };
    struct err e = { 0 };

    (void)state;
    assert_false(phases_run(tab, 1, &m, &explain, &e));
    assert_string_equal(m.trail, "!?a");
    assert_int_equal(e.kind, ERR_LINK);
}

static void phases__failed_commit_phase_undoes(void **state)
{
    const struct phase tab[] = { { "a", run_ok, undo_a, NULL, false },
                                 { "c", run_bad, NULL, NULL, true } };
    struct move m = { .trail = "" };
    struct err e = { 0 };

    (void)state;
    assert_false(phases_run(tab, 2, &m, &no_hooks, &e));
    assert_string_equal(m.trail, "+!a");
}

static void phases__failure_after_commit_undoes_nothing(void **state)
{
    const struct phase tab[] = { { "a", run_ok, undo_a, NULL, false },
                                 { "c", run_ok, undo_b, NULL, true },
                                 { "f", run_bad, undo_a, NULL, false } };
    struct move m = { .trail = "" };
    struct err e = { 0 };

    (void)state;
    assert_false(phases_run(tab, 3, &m, &no_hooks, &e));
    assert_string_equal(m.trail, "++!");
}

static void phases__unresolved_undoes_nothing(void **state)
{
    const struct phase tab[] = { { "a", run_ok, undo_a, NULL, false },
                                 { "c", run_unresolved, undo_b, NULL, true } };
    struct move m = { .trail = "" };
    struct err e = { 0 };

    (void)state;
    assert_false(phases_run(tab, 2, &m, &no_hooks, &e));
    assert_string_equal(m.trail, "+");
}

/* What the tests below run: c goes back to b, and a stays done. */
static const struct phase going_back[] = { { "a", run_ok, undo_a, NULL, false },
                                           { "b", run_ok, undo_b, "b", false },
                                           { "c", run_sometimes, NULL, "b", false },
                                           { "d", run_ok, NULL, NULL, true } };

static void phases__going_back_undoes_only_what_runs_again(void **state)
{
    struct move m = { .bad = 2, .tries = 3 };
    struct err e = { 0 };

    (void)state;
    assert_true(phases_run(going_back, 4, &m, &retry, &e));
    assert_string_equal(m.trail, "++!b*+!b*+++");
}

static void phases__tries_used_up_undo_everything(void **state)
{
    struct move m = { .bad = 9, .tries = 1 };
    struct err e = { 0 };

    (void)state;
    assert_false(phases_run(going_back, 4, &m, &retry, &e));
    assert_string_equal(m.trail, "++!b*+!ba");
    assert_string_equal(e.msg, "no such luck: Input/output error");
}

static void phases__what_cannot_be_mended_undoes_the_rest(void **state)
{
    struct move m = { .bad = 9, .tries = 9, .unfit = true };
    struct err e = { 0 };

    (void)state;
    assert_false(phases_run(going_back, 4, &m, &retry, &e));
    assert_string_equal(m.trail, "++!b*a");
    assert_string_equal(e.msg, "beyond repair");
}

static void phases__phase_without_a_way_back_is_final(void **state)
{
    const struct phase tab[] = { { "a", run_ok, undo_a, NULL, false },
                                 { "b", run_bad, undo_b, NULL, false } };
    struct move m = { .tries = 9 };
    struct err e = { 0 };

    (void)state;
    assert_false(phases_run(tab, 2, &m, &retry, &e));
    assert_string_equal(m.trail, "+!ba");
    assert_int_equal(m.tries, 9); /* not even asked */
}

static void phases__nothing_begins_again_after_the_commit(void **state)
{
    const struct phase tab[] = { { "a", run_ok, undo_a, NULL, true },
                                 { "b", run_bad, undo_b, "b", false } };
    struct move m = { .tries = 9 };
    struct err e = { 0 };

    (void)state;
    assert_false(phases_run(tab, 2, &m, &retry, &e));
    assert_string_equal(m.trail, "+!");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(phases__failure_before_commit_undoes_newest_first),
        cmocka_unit_test(phases__failure_is_explained_before_anything_is_undone),
        cmocka_unit_test(phases__failed_commit_phase_undoes),
        cmocka_unit_test(phases__failure_after_commit_undoes_nothing),
        cmocka_unit_test(phases__unresolved_undoes_nothing),
        cmocka_unit_test(phases__going_back_undoes_only_what_runs_again),
        cmocka_unit_test(phases__tries_used_up_undo_everything),
        cmocka_unit_test(phases__what_cannot_be_mended_undoes_the_rest),
        cmocka_unit_test(phases__phase_without_a_way_back_is_final),
        cmocka_unit_test(phases__nothing_begins_again_after_the_commit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
