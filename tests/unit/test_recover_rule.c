#include "migrate/recover-rule.h"
#include "unit.h"

enum { NONE_SAID = 1, SRC_SAID = 2, DST_SAID = 4, ANY_WORD = 7 };

static enum recover_act rule(enum recover_src src, enum recover_journal journal,
                             enum recover_dst dst, enum recover_word word)
{
    const struct recover_known k = { src, journal, dst, word };
    const char *why = NULL;
    const enum recover_act act = recover_rule(&k, &why);

    assert_non_null(why);
    return act;
}

/* --- rows: the states that a crash leaves, and what lies between --- */

#define S(x) RECOVER_SRC_##x
#define J(x) RECOVER_JOURNAL_##x
#define D(x) RECOVER_DST_##x
#define A(x) RECOVER_##x

/* clang-format off */
static const struct {
    enum recover_src src;
    enum recover_journal journal;
    enum recover_dst dst;
    unsigned words; /* the row holds for these */
    enum recover_act act;
} rows[] = {
    { S(MUTE), J(RELEASED), D(READY), ANY_WORD, A(REPORT) },

    /* It runs at the source. */
    { S(RUNS), J(BEFORE), D(NONE), NONE_SAID | SRC_SAID, A(KEEP) },
    { S(RUNS), J(BEFORE), D(PART), NONE_SAID, A(KEEP) },
    { S(RUNS), J(TAKEN_BACK), D(READY), NONE_SAID, A(KEEP) },
    { S(RUNS), J(RELEASED), D(READY), NONE_SAID, A(KEEP) },
    { S(RUNS), J(RELEASED), D(UNKNOWN), NONE_SAID, A(KEEP) },
    { S(RUNS), J(BEFORE), D(PART), DST_SAID, A(REPORT) },
    { S(RUNS), J(RELEASED), D(RUNS), ANY_WORD, A(REPORT) },
    { S(RUNS), J(COMMITTED), D(STARTING), ANY_WORD, A(REPORT) },
    { S(RUNS), J(COMMITTED), D(UNKNOWN), NONE_SAID | DST_SAID, A(REPORT) },
    { S(RUNS), J(COMMITTED), D(UNKNOWN), SRC_SAID, A(KEEP) },
    { S(STILL), J(BEFORE), D(PART), NONE_SAID, A(KEEP) },
    { S(STILL), J(RELEASED), D(RUNS), ANY_WORD, A(REPORT) },
    { S(STILL), J(BEFORE), D(ODD), ANY_WORD, A(REPORT) },

    /* The move had paused it there. */
    { S(PAUSED), J(BEFORE), D(NONE), NONE_SAID, A(TAKE_BACK) },
    { S(PAUSED), J(BEFORE), D(PART), NONE_SAID | SRC_SAID, A(TAKE_BACK) },
    { S(PAUSED), J(BEFORE), D(UNKNOWN), NONE_SAID, A(TAKE_BACK) },
    { S(PAUSED), J(RELEASED), D(LOADING), NONE_SAID, A(TAKE_BACK) },
    { S(PAUSED), J(RELEASED), D(READY), NONE_SAID | SRC_SAID, A(TAKE_BACK) },
    { S(PAUSED), J(RELEASED), D(READY), DST_SAID, A(END_SOURCE) },
    { S(PAUSED), J(TAKEN_BACK), D(READY), DST_SAID, A(REPORT) },
    { S(PAUSED), J(RELEASED), D(LOADING), DST_SAID, A(REPORT) },
    { S(PAUSED), J(RELEASED), D(RUNS), ANY_WORD, A(END_SOURCE) },
    { S(PAUSED), J(RELEASED), D(STARTING), NONE_SAID, A(END_SOURCE) },
    { S(PAUSED), J(BEFORE), D(RUNS), ANY_WORD, A(REPORT) },
    { S(PAUSED), J(TAKEN_BACK), D(RUNS), ANY_WORD, A(REPORT) },
    { S(PAUSED), J(RELEASED), D(UNKNOWN), NONE_SAID | DST_SAID, A(REPORT) },
    { S(PAUSED), J(TAKEN_BACK), D(UNKNOWN), NONE_SAID, A(REPORT) },
    { S(PAUSED), J(RELEASED), D(UNKNOWN), SRC_SAID, A(TAKE_BACK) },
    { S(PAUSED), J(COMMITTED), D(NONE), NONE_SAID, A(REPORT) },

    /* Somebody has started it at the source, cold. */
    { S(ANOTHER), J(BEFORE), D(UNKNOWN), NONE_SAID, A(KEEP) },
    { S(ANOTHER), J(RELEASED), D(READY), NONE_SAID, A(KEEP) },
    { S(ANOTHER), J(RELEASED), D(UNKNOWN), NONE_SAID, A(REPORT) },
    { S(ANOTHER), J(RELEASED), D(UNKNOWN), SRC_SAID, A(KEEP) },
    { S(ANOTHER), J(RELEASED), D(READY), DST_SAID, A(REPORT) },
    { S(ANOTHER), J(COMMITTED), D(RUNS), ANY_WORD, A(REPORT) },
    { S(ANOTHER), J(COMMITTED), D(NONE), NONE_SAID, A(REPORT) },
    { S(ANOTHER), J(COMMITTED), D(LOST), NONE_SAID, A(KEEP) },

    /* Its QEMU is dead. */
    { S(OFF), J(BEFORE), D(PART), NONE_SAID | SRC_SAID, A(GIVE_UP) },
    { S(OFF), J(BEFORE), D(UNKNOWN), NONE_SAID, A(GIVE_UP) },
    { S(OFF), J(BEFORE), D(PART), DST_SAID, A(REPORT) },
    { S(OFF), J(TAKEN_BACK), D(READY), NONE_SAID, A(GIVE_UP) },
    { S(OFF), J(TAKEN_BACK), D(READY), DST_SAID, A(REPORT) },
    { S(OFF), J(TAKEN_BACK), D(RUNS), NONE_SAID | SRC_SAID, A(REPORT) },
    { S(OFF), J(TAKEN_BACK), D(RUNS), DST_SAID, A(FORWARD) },
    { S(OFF), J(RELEASED), D(READY), NONE_SAID | DST_SAID, A(FORWARD) },
    { S(OFF), J(RELEASED), D(READY), SRC_SAID, A(GIVE_UP) },
    { S(OFF), J(RELEASED), D(LOADING), NONE_SAID, A(FORWARD) },
    { S(OFF), J(RELEASED), D(PART), NONE_SAID, A(GIVE_UP) },
    { S(OFF), J(RELEASED), D(LOST), NONE_SAID, A(GIVE_UP) },
    { S(OFF), J(RELEASED), D(NONE), NONE_SAID, A(GIVE_UP) },
    { S(OFF), J(RELEASED), D(NONE), DST_SAID, A(REPORT) },
    { S(OFF), J(RELEASED), D(UNKNOWN), NONE_SAID | DST_SAID, A(REPORT) },
    { S(OFF), J(RELEASED), D(UNKNOWN), SRC_SAID, A(GIVE_UP) },
    { S(OFF), J(RELEASED), D(RUNS), NONE_SAID | DST_SAID, A(FORWARD) },
    { S(OFF), J(RELEASED), D(RUNS), SRC_SAID, A(REPORT) },
    { S(OFF), J(COMMITTED), D(READY), NONE_SAID, A(FORWARD) },
    { S(OFF), J(COMMITTED), D(STARTING), NONE_SAID, A(FORWARD) },
    { S(OFF), J(COMMITTED), D(RUNS), NONE_SAID, A(FORWARD) },
    { S(OFF), J(COMMITTED), D(ENDED), NONE_SAID, A(FORWARD) },
    { S(OFF), J(COMMITTED), D(UNKNOWN), NONE_SAID, A(REPORT) },
    { S(OFF), J(COMMITTED), D(NONE), NONE_SAID, A(REPORT) },
    { S(OFF), J(COMMITTED), D(NONE), DST_SAID, A(FORGET) },
    { S(OFF), J(COMMITTED), D(NONE), SRC_SAID, A(GIVE_UP) },
    { S(OFF), J(RELEASED), D(ODD), NONE_SAID | SRC_SAID, A(REPORT) },
    { S(OFF), J(RELEASED), D(ODD), DST_SAID, A(FORGET) },

    /* The same, and libvirt says that the guest ended, so it had run again. */
    { S(ENDED), J(BEFORE), D(PART), NONE_SAID, A(GIVE_UP) },
    { S(ENDED), J(RELEASED), D(READY), NONE_SAID | SRC_SAID, A(GIVE_UP) },
    { S(ENDED), J(RELEASED), D(READY), DST_SAID, A(FORWARD) },
    { S(ENDED), J(RELEASED), D(RUNS), NONE_SAID, A(FORWARD) },
    { S(ENDED), J(COMMITTED), D(READY), NONE_SAID, A(REPORT) },
    { S(ENDED), J(COMMITTED), D(RUNS), NONE_SAID, A(FORWARD) },

    /* The same, and nobody knows whether it had run again: its host went down, or libvirt
     * has forgotten. */
    { S(CUT), J(BEFORE), D(PART), NONE_SAID | SRC_SAID, A(GIVE_UP) },
    { S(CUT), J(RELEASED), D(READY), NONE_SAID | SRC_SAID, A(GIVE_UP) },
    { S(CUT), J(RELEASED), D(LOADING), NONE_SAID, A(GIVE_UP) },
    { S(CUT), J(RELEASED), D(READY), DST_SAID, A(FORWARD) },
    { S(CUT), J(RELEASED), D(RUNS), NONE_SAID, A(FORWARD) },
    { S(CUT), J(RELEASED), D(UNKNOWN), NONE_SAID, A(REPORT) },
    { S(CUT), J(COMMITTED), D(READY), NONE_SAID, A(FORWARD) },
    { S(CUT), J(COMMITTED), D(STARTING), NONE_SAID, A(FORWARD) },
    { S(UNSEEN), J(BEFORE), D(PART), NONE_SAID, A(GIVE_UP) },
    { S(UNSEEN), J(RELEASED), D(READY), NONE_SAID, A(REPORT) },
    { S(UNSEEN), J(RELEASED), D(READY), SRC_SAID, A(GIVE_UP) },
    { S(UNSEEN), J(RELEASED), D(READY), DST_SAID, A(FORWARD) },
    { S(UNSEEN), J(RELEASED), D(LOST), NONE_SAID, A(GIVE_UP) },
    { S(UNSEEN), J(COMMITTED), D(READY), NONE_SAID, A(FORWARD) },

    /* On the destination. */
    { S(ELSEWHERE), J(NONE), D(PART), NONE_SAID, A(LEAVE) },
    { S(ELSEWHERE), J(NONE), D(PART), SRC_SAID, A(GIVE_UP) },
    { S(ELSEWHERE), J(NONE), D(PART), DST_SAID, A(REPORT) },
    { S(ELSEWHERE), J(NONE), D(LOADING), NONE_SAID | DST_SAID, A(REPORT) },
    { S(ELSEWHERE), J(NONE), D(READY), NONE_SAID, A(REPORT) },
    { S(ELSEWHERE), J(NONE), D(READY), SRC_SAID, A(GIVE_UP) },
    { S(ELSEWHERE), J(NONE), D(READY), DST_SAID, A(FORWARD) },
    { S(ELSEWHERE), J(NONE), D(LOST), NONE_SAID | DST_SAID, A(REPORT) },
    { S(ELSEWHERE), J(NONE), D(LOST), SRC_SAID, A(GIVE_UP) },
    { S(ELSEWHERE), J(NONE), D(STARTING), NONE_SAID, A(START) },
    { S(ELSEWHERE), J(NONE), D(STARTING), DST_SAID, A(FORWARD) },
    { S(ELSEWHERE), J(NONE), D(RUNS), NONE_SAID, A(LEAVE) },
    { S(ELSEWHERE), J(NONE), D(RUNS), SRC_SAID, A(REPORT) },
    { S(ELSEWHERE), J(NONE), D(RUNS), DST_SAID, A(FORWARD) },
    { S(ELSEWHERE), J(NONE), D(ENDED), NONE_SAID, A(LEAVE) },
    { S(ELSEWHERE), J(NONE), D(ODD), ANY_WORD, A(REPORT) },
    { S(ELSEWHERE), J(NONE), D(UNKNOWN), NONE_SAID, A(REPORT) },
};
/* clang-format on */

static void rule__rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (int w = 0; w < RECOVER_WORDS; w++)
            if ((rows[i].words & 1u << w) != 0 &&
                rule(rows[i].src, rows[i].journal, rows[i].dst, w) != rows[i].act)
                fail_msg("row %zu, word %d: action %d, expected %d", i, w,
                         rule(rows[i].src, rows[i].journal, rows[i].dst, w),
                         rows[i].act);
}

/* --- properties, over all that can be known --- */

typedef void (*check)(const struct recover_known *k, enum recover_act act);

static void for_all(check f)
{
    for (int s = 0; s < RECOVER_SRCS; s++)
        for (int j = 0; j < RECOVER_JOURNALS; j++)
            for (int d = 0; d < RECOVER_DSTS; d++)
                for (int w = 0; w < RECOVER_WORDS; w++) {
                    const struct recover_known k = { s, j, d, w };

                    if ((s == S(ELSEWHERE)) == (j == J(NONE)))
                        f(&k, rule(s, j, d, w));
                }
}

/* @holds, or say of what it does not. */
static void must(bool holds, const struct recover_known *k, enum recover_act act)
{
    if (!holds)
        fail_msg("source %d, journal %d, destination %d, word %d: action %d", k->src,
                 k->journal, k->dst, k->word, act);
}

static bool has_run(enum recover_dst d)
{
    return d == D(RUNS) || d == D(ENDED) || d == D(STARTING);
}

static bool is_dead(enum recover_src s)
{
    return s == S(OFF) || s == S(ENDED) || s == S(CUT) || s == S(UNSEEN);
}

/* The destination starts only where the source's QEMU is dead, or is ended before, or an
 * operator says that the source is gone, or COMMIT had come. */
static void starts_safely(const struct recover_known *k, enum recover_act act)
{
    if (act != A(START) && act != A(FORWARD) && act != A(END_SOURCE))
        return;
    if (k->src == S(ELSEWHERE))
        must(k->dst == D(STARTING) || k->word == RECOVER_WORD_DESTINATION, k, act);
    else if (act == A(END_SOURCE))
        must(k->src == S(PAUSED), k, act);
    else
        must(is_dead(k->src), k, act);
    /* before COMMIT only where it is known that it has not run again at the source */
    if (is_dead(k->src) && k->src != S(OFF) && !has_run(k->dst) &&
        k->word == RECOVER_WORD_NONE)
        must(k->journal == J(COMMITTED), k, act);
    /* and never what cannot be complete, or was taken back */
    must(has_run(k->dst) || k->dst == D(READY) || k->dst == D(LOADING), k, act);
    if (!has_run(k->dst) && k->src != S(ELSEWHERE))
        must(k->journal == J(RELEASED) || k->journal == J(COMMITTED), k, act);
    if (k->src == S(ELSEWHERE))
        must(k->dst != D(LOADING), k, act);
}

static void rule__destination_starts_when_the_source_is_dead(void **state)
{
    (void)state;
    for_all(starts_safely);
}

/* The source is resumed only where the destination has not run, and where it cannot be
 * asked only if it cannot be complete or an operator says so. */
static void resumes_safely(const struct recover_known *k, enum recover_act act)
{
    if (act != A(TAKE_BACK))
        return;
    must(k->src == S(PAUSED) && !has_run(k->dst) && k->dst != D(ODD), k, act);
    if (k->dst == D(UNKNOWN))
        must(k->journal == J(BEFORE) || k->word == RECOVER_WORD_SOURCE, k, act);
}

static void rule__source_resumes_when_the_destination_has_not_run(void **state)
{
    (void)state;
    for_all(resumes_safely);
}

/* What may have run is never removed. */
static void removes_safely(const struct recover_known *k, enum recover_act act)
{
    if (act == A(GIVE_UP) || act == A(KEEP) || act == A(TAKE_BACK))
        must(!has_run(k->dst) && k->dst != D(ODD), k, act);
    /* nor is a journal forgotten that is the only trace, but by an operator's word */
    if (act == A(FORGET))
        must(k->word == RECOVER_WORD_DESTINATION, k, act);
    if (act == A(GIVE_UP) && k->dst == D(UNKNOWN) && k->word == RECOVER_WORD_NONE)
        must(k->journal == J(BEFORE) || k->journal == J(TAKEN_BACK), k, act);
}

static void rule__nothing_that_may_have_run_is_removed(void **state)
{
    (void)state;
    for_all(removes_safely);
}

static void only_reports(const struct recover_known *k, enum recover_act act)
{
    const bool here = k->src == S(RUNS) || k->src == S(ANOTHER) || k->src == S(STILL);

    if (k->src == S(MUTE) || (here && has_run(k->dst)))
        must(act == A(REPORT), k, act);
    /* without a word, a silent destination that may have it all */
    if (k->dst == D(UNKNOWN) && k->word == RECOVER_WORD_NONE &&
        (k->journal == J(RELEASED) || k->journal == J(COMMITTED)) &&
        k->src != S(RUNS) && k->src != S(STILL))
        must(act == A(REPORT), k, act);
}

static void rule__does_not_guess(void **state)
{
    (void)state;
    for_all(only_reports);
}

/* Both words cannot lead to what touches the other side's only copy. */
static void words_differ(const struct recover_known *k, enum recover_act act)
{
    if (k->word == RECOVER_WORD_SOURCE)
        must(act != A(FORWARD) && act != A(START) && act != A(FORGET), k, act);
    if (k->word == RECOVER_WORD_DESTINATION)
        must(act != A(GIVE_UP) && act != A(KEEP) && act != A(TAKE_BACK), k, act);
}

static void rule__a_word_is_kept(void **state)
{
    (void)state;
    for_all(words_differ);
}

/* --- what the destination says --- */

/* clang-format off */
static const struct {
    const char *step, *domain;
    bool ready, incoming, ran;
    enum recover_journal journal;
    enum recover_dst is;
} answers[] = {
    { NULL, "none", 0, 0, 0, J(BEFORE), D(NONE) },
    { NULL, "none", 0, 0, 0, J(COMMITTED), D(NONE) },
    { NULL, "off", 0, 0, 0, J(BEFORE), D(NONE) },
    { NULL, "off", 0, 0, 0, J(RELEASED), D(ODD) },
    { NULL, "off", 0, 0, 0, J(COMMITTED), D(ODD) },
    { NULL, "running", 0, 0, 0, J(BEFORE), D(ODD) },
    { NULL, "running", 0, 0, 0, J(RELEASED), D(RUNS) },
    { NULL, "running", 0, 0, 0, J(TAKEN_BACK), D(RUNS) },
    { NULL, "paused", 0, 0, 0, J(RELEASED), D(ODD) },
    { NULL, "paused", 0, 0, 0, J(COMMITTED), D(RUNS) },
    { NULL, "off", 0, 0, 0, J(TAKEN_BACK), D(NONE) },
    { "prepared", "none", 0, 0, 0, J(BEFORE), D(PART) },
    { "prepared", "paused", 0, 1, 0, J(BEFORE), D(PART) },
    { "closed", "off", 0, 0, 0, J(RELEASED), D(PART) },
    { "closed", "running", 0, 0, 0, J(RELEASED), D(ODD) },
    { "closed", "paused", 0, 0, 1, J(RELEASED), D(ODD) },
    { "released", "paused", 1, 0, 0, J(RELEASED), D(READY) },
    { "released", "paused", 0, 1, 0, J(RELEASED), D(LOADING) },
    { "released", "paused", 0, 0, 0, J(RELEASED), D(ODD) },
    { "released", "paused", 0, 0, 1, J(RELEASED), D(RUNS) },
    { "released", "running", 0, 0, 0, J(RELEASED), D(RUNS) },
    { "released", "none", 0, 0, 0, J(RELEASED), D(LOST) },
    { "released", "off", 0, 0, 0, J(COMMITTED), D(LOST) },
    { "committed", "paused", 1, 0, 0, J(COMMITTED), D(STARTING) },
    { "committed", "paused", 0, 0, 1, J(COMMITTED), D(RUNS) },
    { "committed", "other", 0, 0, 0, J(COMMITTED), D(RUNS) },
    { "committed", "off", 0, 0, 0, J(COMMITTED), D(ENDED) },
    { "running", "running", 0, 0, 0, J(COMMITTED), D(RUNS) },
    { "running", "paused", 1, 0, 0, J(COMMITTED), D(RUNS) },
    { "running", "none", 0, 0, 0, J(NONE), D(ENDED) },
    { "later", "running", 0, 0, 0, J(COMMITTED), D(ODD) },
};
/* clang-format on */

static void dst_of__rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        const enum recover_dst got = recover_dst_of(
            answers[i].step, answers[i].domain, answers[i].ready, answers[i].incoming,
            answers[i].ran, answers[i].journal, false);

        if (got != answers[i].is)
            fail_msg("answer %zu: \"%s\", expected \"%s\"", i, recover_dst_name(got),
                     recover_dst_name(answers[i].is));
    }
}

/* An agent that has forgotten the move may have removed the guest as well as brought it to its
 * end: what COMMIT answered tells. */
static void dst_of__arrived(void **state)
{
    (void)state;
    assert_int_equal(recover_dst_of(NULL, "off", false, false, false,
                                    RECOVER_JOURNAL_COMMITTED, true),
                     RECOVER_DST_ENDED);
    assert_int_equal(recover_dst_of(NULL, "none", false, false, false,
                                    RECOVER_JOURNAL_COMMITTED, true),
                     RECOVER_DST_NONE);
}

/* What libvirt does not tell is decided by what the move did, or by a person. */
static void src_off__rows(void **state)
{
    static const struct {
        enum vdom_why why;
        bool destroying, rebooted, persistent;
        enum recover_src is;
    } all[] = {
        { VDOM_WHY_SHUTDOWN, true, false, true, S(ENDED) },
        { VDOM_WHY_CRASHED, false, false, false, S(ENDED) },
        { VDOM_WHY_DESTROYED, true, false, true, S(OFF) },
        { VDOM_WHY_DESTROYED, false, false, true, S(ENDED) },
        { VDOM_WHY_MIGRATED, false, false, true, S(OFF) },
        { VDOM_WHY_OTHER, true, false, true, S(OFF) },
        { VDOM_WHY_OTHER, true, false, false, S(OFF) },
        { VDOM_WHY_OTHER, false, false, true, S(UNSEEN) },
        { VDOM_WHY_OTHER, false, false, false, S(UNSEEN) },
        { VDOM_WHY_OTHER, false, true, true, S(CUT) },
        { VDOM_WHY_OTHER, true, true, true, S(CUT) },
        { VDOM_WHY_OTHER, false, true, false, S(UNSEEN) },
        { VDOM_WHY_OTHER, true, true, false, S(UNSEEN) },
    };

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        assert_int_equal(recover_src_off(all[i].why, all[i].destroying, all[i].rebooted,
                                         all[i].persistent),
                         all[i].is);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(rule__rows),
        TEST(rule__destination_starts_when_the_source_is_dead),
        TEST(rule__source_resumes_when_the_destination_has_not_run),
        TEST(rule__nothing_that_may_have_run_is_removed),
        TEST(rule__does_not_guess),
        TEST(rule__a_word_is_kept),
        TEST(dst_of__rows),
        TEST(dst_of__arrived),
        TEST(src_off__rows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
