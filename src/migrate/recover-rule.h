/* src/migrate/recover-rule.h - who gets the guest of a move whose snmigrate and guard are
 * gone: the commit rule as a table of what is known; pure.
 *
 * What is not known never counts as "no": a host that cannot be asked may run the guest.
 */
#ifndef SNM_MIGRATE_RECOVER_RULE_H
#define SNM_MIGRATE_RECOVER_RULE_H

#include <stdbool.h>

#include "virt/virt.h"

/* The guest at the source. */
enum recover_src {
    RECOVER_SRC_ELSEWHERE, /* this host is the destination: nothing is known of it */
    RECOVER_SRC_MUTE,      /* libvirt of this host does not say */
    RECOVER_SRC_RUNS,      /* in the QEMU that the move began with */
    RECOVER_SRC_STILL, /* the same, but it stands still, which was not the move's doing */
    RECOVER_SRC_PAUSED,  /* the same, paused by the move */
    RECOVER_SRC_ANOTHER, /* somebody has started it anew, in another QEMU */
    RECOVER_SRC_OFF,     /* the move's QEMU is dead: by libvirt's or by our own doing */
    RECOVER_SRC_ENDED, /* it is dead, and libvirt says that the guest ended by itself */
    RECOVER_SRC_CUT,   /* it is dead, and its host has been restarted since */
    RECOVER_SRC_UNSEEN, /* it is dead, and libvirt does not say how it ended */
    RECOVER_SRCS
};

/* How far the source's journal says that it came. */
enum recover_journal {
    RECOVER_JOURNAL_NONE,       /* this host is the destination */
    RECOVER_JOURNAL_BEFORE,     /* never released */
    RECOVER_JOURNAL_TAKEN_BACK, /* released, then resumed here, or about to be */
    RECOVER_JOURNAL_RELEASED,   /* the destination may have all of the guest */
    RECOVER_JOURNAL_COMMITTED,  /* COMMIT may have been sent: the source was dead */
    RECOVER_JOURNALS
};

/* The guest at the destination. */
enum recover_dst {
    RECOVER_DST_UNKNOWN,  /* cannot be asked */
    RECOVER_DST_NONE,     /* no trace of the move, and no such domain is active */
    RECOVER_DST_PART,     /* incomplete: never released there */
    RECOVER_DST_LOADING,  /* released, and loading */
    RECOVER_DST_READY,    /* complete and paused; has not run */
    RECOVER_DST_LOST,     /* released, and its domain is gone */
    RECOVER_DST_STARTING, /* committed, and not yet running */
    RECOVER_DST_RUNS,     /* runs, or has run and stands still */
    RECOVER_DST_ENDED,    /* has run, and is off */
    RECOVER_DST_ODD,      /* none of these: somebody else's hand */
    RECOVER_DSTS
};

/* What the operator said. */
enum recover_word {
    RECOVER_WORD_NONE,
    RECOVER_WORD_SOURCE,      /* the destination is gone, or shall not have it */
    RECOVER_WORD_DESTINATION, /* the same of the source */
    RECOVER_WORDS
};

enum recover_act {
    RECOVER_REPORT, /* not to be decided here: do nothing, say what an operator can */
    RECOVER_LEAVE,  /* nothing is open here, the other host has to do the rest */
    RECOVER_KEEP,   /* it is at the source as it should be: tidy up on both hosts */
    RECOVER_TAKE_BACK, /* resume it at the source, then the same */
    RECOVER_GIVE_UP,   /* its memory is lost: remove the destination's copy, tidy up; on
                          the destination: remove what is here */
    RECOVER_START,     /* tell the destination COMMIT, and no more */
    RECOVER_FORWARD, /* COMMIT where it is not running yet, then finish on both hosts */
    RECOVER_END_SOURCE, /* end the source's paused QEMU, see it dead, then the same */
    RECOVER_FORGET, /* it is at the destination, by another way: remove the journal */
};

struct recover_known {
    enum recover_src src;
    enum recover_journal journal;
    enum recover_dst dst;
    enum recover_word word;
};

/* What is to be done; *why is a sentence without a full stop, static. */
enum recover_act recover_rule(const struct recover_known *k, const char **why);

/* No QEMU is at the source, and libvirt says @why.  @destroying: the move was ending it;
 * @rebooted: its host was, since; @persistent: its definition is still there then. */
enum recover_src recover_src_off(enum vdom_why why, bool destroying, bool rebooted,
                                 bool persistent);

/* What the destination's agent and libvirt say.  @step: of the agent's journal, NULL: it
 * knows no such move; @domain: "none", "running", "paused", "off" or "other"; of a paused
 * one: @ready, loaded and without a job; @incoming, waits for a migration's data; @ran,
 * only a guest that has run gets there.  @journal: the source's; @arrived: it has COMMIT's
 * answer. */
enum recover_dst recover_dst_of(const char *step, const char *domain, bool ready,
                                bool incoming, bool ran, enum recover_journal journal,
                                bool arrived);

/* "paused by the move" and so on, for people and JSON. */
const char *recover_src_name(enum recover_src s);
const char *recover_journal_name(enum recover_journal j);
const char *recover_dst_name(enum recover_dst d);

#endif
