/* The rule, as a table: the first row that fits counts.
 *
 * What it stands on:
 *   - the end of RAM passes only after "released" is on the source's disk: without that
 *     entry the destination cannot have a guest that could run;
 *   - COMMIT is sent only when the QEMU that the move began with is dead: while that one
 *     lives nothing of ours has started the guest at the destination;
 *   - what was released and not committed may have been resumed at the source, by libvirt or
 *     by hand, without an entry: only who knows how its QEMU ended knows that it was not;
 *   - only an operator knows that a host which cannot be asked is gone for good. */
#include "migrate/recover-rule.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

/* clang-format off */
static const char *const src_names[] = {
    [RECOVER_SRC_ELSEWHERE] = "not asked, this is the destination",
    [RECOVER_SRC_MUTE] = "unknown",
    [RECOVER_SRC_RUNS] = "running",
    [RECOVER_SRC_STILL] = "standing still, not by the move",
    [RECOVER_SRC_PAUSED] = "paused by the move",
    [RECOVER_SRC_ANOTHER] = "started anew",
    [RECOVER_SRC_OFF] = "off",
    [RECOVER_SRC_ENDED] = "ended by itself",
    [RECOVER_SRC_CUT] = "off, its host was restarted",
    [RECOVER_SRC_UNSEEN] = "off, nobody saw how",
};
static_assert(sizeof src_names / sizeof src_names[0] == RECOVER_SRCS, "names differ");

static const char *const journal_names[] = {
    [RECOVER_JOURNAL_NONE] = "none",
    [RECOVER_JOURNAL_BEFORE] = "not released",
    [RECOVER_JOURNAL_TAKEN_BACK] = "taken back",
    [RECOVER_JOURNAL_RELEASED] = "released",
    [RECOVER_JOURNAL_COMMITTED] = "committed",
};
static_assert(sizeof journal_names / sizeof journal_names[0] == RECOVER_JOURNALS,
              "names differ");

static const char *const dst_names[] = {
    [RECOVER_DST_UNKNOWN] = "unreachable",
    [RECOVER_DST_NONE] = "none",
    [RECOVER_DST_PART] = "incomplete",
    [RECOVER_DST_LOADING] = "loading",
    [RECOVER_DST_READY] = "paused and complete",
    [RECOVER_DST_LOST] = "gone",
    [RECOVER_DST_STARTING] = "committed, not running yet",
    [RECOVER_DST_RUNS] = "running",
    [RECOVER_DST_ENDED] = "off, after it has run",
    [RECOVER_DST_ODD] = "changed by somebody else",
};
static_assert(sizeof dst_names / sizeof dst_names[0] == RECOVER_DSTS, "names differ");

#define S(x) (1u << RECOVER_SRC_##x)
#define J(x) (1u << RECOVER_JOURNAL_##x)
#define D(x) (1u << RECOVER_DST_##x)
#define W(x) (1u << RECOVER_WORD_##x)
enum {
    ANY = ~0u >> 1,
    OURS = S(RUNS) | S(STILL) | S(PAUSED), /* the QEMU that the move began with lives */
    DEAD = S(OFF) | S(ENDED) | S(CUT) | S(UNSEEN),
    HAS_RUN = D(RUNS) | D(ENDED),
    HAS_NOT = D(NONE) | D(PART) | D(LOADING) | D(READY) | D(LOST), /* run there */
    WHOLE = D(READY) | D(LOADING),
    GONE_ON = J(RELEASED) | J(COMMITTED),
    STAYED = J(BEFORE) | J(TAKEN_BACK),
    NO_WORD = W(NONE),
    NOT_SRC = W(NONE) | W(DESTINATION),
    NOT_DST = W(NONE) | W(SOURCE),
};

static const struct row {
    unsigned src, journal, dst, word;
    enum recover_act act;
    const char *why;
} rows[] = {
    /* --- on the source --- */
    { S(MUTE), ANY, ANY, ANY, RECOVER_REPORT,
      "libvirt of this host does not say where the guest stands" },

    { S(RUNS) | S(ANOTHER), ANY, HAS_RUN | D(STARTING), ANY, RECOVER_REPORT,
      "split brain: it runs here, and was started at the destination" },
    { S(STILL), ANY, HAS_RUN | D(STARTING), ANY, RECOVER_REPORT,
      "it stands still here, not by the move, and was started at the destination" },
    { OURS | S(ANOTHER), ANY, D(ODD), ANY, RECOVER_REPORT,
      "the domain at the destination was changed by somebody else" },
    { OURS, J(COMMITTED), D(NONE) | D(UNKNOWN), NOT_SRC, RECOVER_REPORT,
      "COMMIT may have been sent, yet the source's QEMU lives" },

    { S(PAUSED), GONE_ON, HAS_RUN | D(STARTING), ANY, RECOVER_END_SOURCE,
      "it was started at the destination, so what is paused here is old" },
    { S(PAUSED), ANY, HAS_RUN | D(STARTING), ANY, RECOVER_REPORT,
      "it was started at the destination, which was not released, or is older" },
    { S(PAUSED), GONE_ON, D(READY), W(DESTINATION), RECOVER_END_SOURCE,
      "the destination has all of it, and the operator chose it" },
    { S(PAUSED), GONE_ON | J(TAKEN_BACK), D(UNKNOWN), NOT_SRC, RECOVER_REPORT,
      "the destination may have all of it, and cannot be asked" },
    { OURS, ANY, ANY, W(DESTINATION), RECOVER_REPORT,
      "the guest is here, and the destination has not all of it" },
    { S(PAUSED), ANY, ANY, ANY, RECOVER_TAKE_BACK,
      "its QEMU lives here, so nothing has started it at the destination" },
    { S(RUNS) | S(STILL), ANY, ANY, ANY, RECOVER_KEEP,
      "its QEMU lives here, so nothing has started it at the destination" },

    { S(ANOTHER), GONE_ON, D(UNKNOWN), NOT_SRC, RECOVER_REPORT,
      "it was started anew here, and the destination may run it, too" },
    { S(ANOTHER), J(COMMITTED), D(NONE), NOT_SRC, RECOVER_REPORT,
      "it was started anew here, and COMMIT may have been sent" },
    { S(ANOTHER), ANY, ANY, W(DESTINATION), RECOVER_REPORT,
      "it was started anew here" },
    { S(ANOTHER), ANY, ANY, ANY, RECOVER_KEEP,
      "it was started anew here, and has not run at the destination" },

    { DEAD, ANY, D(ODD), W(DESTINATION), RECOVER_FORGET,
      "the operator says that the domain at the destination is the guest" },
    { DEAD, ANY, D(ODD), ANY, RECOVER_REPORT,
      "the domain at the destination was changed by somebody else" },
    { DEAD, J(TAKEN_BACK), HAS_RUN, W(DESTINATION), RECOVER_FORWARD,
      "it was started at the destination, and the operator chose it" },
    { DEAD, STAYED, HAS_RUN | D(STARTING), ANY, RECOVER_REPORT,
      "it was started at the destination, which was not released, or is older" },
    { DEAD, STAYED, ANY, W(DESTINATION), RECOVER_REPORT,
      "the destination has not all of it, or what it has is older" },
    { DEAD, STAYED, ANY, ANY, RECOVER_GIVE_UP,
      "its QEMU died here, and the destination has not all of it, or what is older" },

    { DEAD, GONE_ON, HAS_RUN | D(STARTING), NOT_SRC, RECOVER_FORWARD,
      "it was started at the destination" },
    { DEAD, GONE_ON, HAS_RUN | D(STARTING), W(SOURCE), RECOVER_REPORT,
      "it was started at the destination: what is here is old" },
    { S(ENDED), J(RELEASED), WHOLE, NOT_DST, RECOVER_GIVE_UP,
      "it ended by itself here, so what the destination has is old" },
    { S(ENDED), J(COMMITTED), WHOLE, NO_WORD, RECOVER_REPORT,
      "it ended by itself here, after the destination had all of it" },
    { S(CUT), J(RELEASED), WHOLE, NO_WORD, RECOVER_GIVE_UP,
      "its host went down before COMMIT: what the destination has may be old" },
    { S(UNSEEN), J(RELEASED), WHOLE, NO_WORD, RECOVER_REPORT,
      "it may have run again here before it ended, which nobody saw" },
    { DEAD, GONE_ON, WHOLE, NOT_SRC, RECOVER_FORWARD,
      "its QEMU is dead here, and the destination has all of it" },
    { DEAD, GONE_ON, D(UNKNOWN), NOT_SRC, RECOVER_REPORT,
      "the destination may have all of it, and cannot be asked" },
    { DEAD, J(COMMITTED), D(NONE), NO_WORD, RECOVER_REPORT,
      "COMMIT may have been sent, and the destination has no trace of the move" },
    { DEAD, J(COMMITTED), D(NONE), W(DESTINATION), RECOVER_FORGET,
      "the operator says that the destination had the guest" },
    { DEAD, ANY, ANY, W(DESTINATION), RECOVER_REPORT,
      "the destination has not all of it" },
    { DEAD, ANY, ANY, W(SOURCE), RECOVER_GIVE_UP, "the operator chose the source" },
    { DEAD, ANY, ANY, ANY, RECOVER_GIVE_UP,
      "its QEMU died here, and the destination has not all of it" },

    /* --- on the destination --- */
    { ANY, ANY, D(READY), W(DESTINATION), RECOVER_FORWARD,
      "it is complete here, and the operator says that the source is gone" },
    { ANY, ANY, HAS_RUN | D(STARTING), W(DESTINATION), RECOVER_FORWARD,
      "it was committed here, and the operator says that the source is gone" },
    { ANY, ANY, HAS_RUN | D(STARTING), W(SOURCE), RECOVER_REPORT,
      "it was started here: it is not removed" },
    { ANY, ANY, D(STARTING), ANY, RECOVER_START, "the source is dead: it was committed" },
    { ANY, ANY, HAS_RUN, ANY, RECOVER_LEAVE, "it was started here" },
    { ANY, ANY, HAS_NOT, W(SOURCE), RECOVER_GIVE_UP, "the operator chose the source" },
    { ANY, ANY, D(PART) | D(NONE), NO_WORD, RECOVER_LEAVE,
      "it was never complete here: the source has it" },
    { ANY, ANY, ANY, W(DESTINATION), RECOVER_REPORT, "it is not complete here" },
    { ANY, ANY, WHOLE, ANY, RECOVER_REPORT,
      "it is complete here, and the source may have it as well" },
    { ANY, ANY, ANY, ANY, RECOVER_REPORT, "only the source knows who has the guest" },
};
/* clang-format on */

static bool fits(const struct row *r, const struct recover_known *k)
{
    return (r->src & 1u << k->src) != 0 && (r->journal & 1u << k->journal) != 0 &&
           (r->dst & 1u << k->dst) != 0 && (r->word & 1u << k->word) != 0;
}

enum recover_act recover_rule(const struct recover_known *k, const char **why)
{
    const struct row *r = rows;

    while (!fits(r, k))
        r++;
    *why = r->why;
    return r->act;
}

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

enum recover_src recover_src_off(enum vdom_why why, bool destroying, bool rebooted,
                                 bool persistent)
{
    switch (why) {
    case VDOM_WHY_SHUTDOWN:
    case VDOM_WHY_CRASHED:
    case VDOM_WHY_FAILED:
        return RECOVER_SRC_ENDED;
    case VDOM_WHY_DESTROYED:
        return destroying ? RECOVER_SRC_OFF : RECOVER_SRC_ENDED;
    case VDOM_WHY_MIGRATED:
        return RECOVER_SRC_OFF;
    default: /* libvirt has forgotten it, with the domain or in a restart */
        if (destroying && !rebooted)
            return RECOVER_SRC_OFF;
        /* Without a definition here the destination's may be the only one. */
        return rebooted && persistent ? RECOVER_SRC_CUT : RECOVER_SRC_UNSEEN;
    }
}

/* The agent has no journal of the move: aborted, finished, or never there.  One that only
 * stands there proves nothing, unless COMMIT may have been sent. */
static enum recover_dst untracked(const char *domain, enum recover_journal journal,
                                  bool arrived)
{
    const bool off = is(domain, "off"), sent = journal == RECOVER_JOURNAL_COMMITTED;

    if (is(domain, "none") || (off && (journal == RECOVER_JOURNAL_BEFORE ||
                                       journal == RECOVER_JOURNAL_TAKEN_BACK)))
        return RECOVER_DST_NONE;
    if (off) /* a guest that was started there, or a definition that an abort leaves? */
        return arrived ? RECOVER_DST_ENDED : RECOVER_DST_ODD;
    if (journal == RECOVER_JOURNAL_BEFORE)
        return RECOVER_DST_ODD;
    return sent || is(domain, "running") ? RECOVER_DST_RUNS : RECOVER_DST_ODD;
}

enum recover_dst recover_dst_of(const char *step, const char *domain, bool ready,
                                bool incoming, bool ran, enum recover_journal journal,
                                bool arrived)
{
    const bool paused = is(domain, "paused") && !ran, off = is(domain, "off");
    const bool active = !off && !is(domain, "none"), runs = active && !paused;

    if (step == NULL)
        return untracked(domain, journal, arrived);
    if (is(step, "prepared") || is(step, "closed"))
        return runs ? RECOVER_DST_ODD : RECOVER_DST_PART;
    if (is(step, "released")) {
        if (runs)
            return RECOVER_DST_RUNS;
        if (!active)
            return RECOVER_DST_LOST;
        return ready      ? RECOVER_DST_READY
               : incoming ? RECOVER_DST_LOADING
                          : RECOVER_DST_ODD;
    }
    if (!is(step, "committed") && !is(step, "running"))
        return RECOVER_DST_ODD;
    if (!active)
        return RECOVER_DST_ENDED;
    return paused && is(step, "committed") ? RECOVER_DST_STARTING : RECOVER_DST_RUNS;
}

const char *recover_src_name(enum recover_src s)
{
    return src_names[s];
}

const char *recover_journal_name(enum recover_journal j)
{
    return journal_names[j];
}

const char *recover_dst_name(enum recover_dst d)
{
    return dst_names[d];
}
