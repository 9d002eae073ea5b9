/* src/migrate/controller.h - another round, RAM, a slower guest, the switch, or none; pure.
 *
 * Samples in, decisions out: no clock, no I/O.  Bytes, bytes/s, milliseconds of any
 * monotonic clock.
 *
 *   copy     what is dirty on disks and in RAM, each over its own rate.  One after the
 *            other: they share a link, and this bounds what both take side by side.
 *   fixed    what a switch costs with nothing to copy: a constant, the fixed cost of the
 *            rounds of this move, some round trips
 *   pause    fixed + copy
 *   margin   twice the mean error of the same prediction made for the short rounds.  It
 *            shrinks to nothing while the pause fits without it: no chance is refused for
 *            ever because of noise.
 *
 * It switches when pause + margin fit the budget, at the lowest point of a chance: while the
 * pause falls it waits, for CHANCE_MS at most, and after some chances were missed by that it
 * takes the next at once.  It never switches with a pause above the budget, but for
 * "suspend"; QEMU can stop the guest at any moment, and then there is nothing to decide.
 *
 * Stalled is: the least time to copy of a window is not a twentieth below that of the
 * window before.  A window is at least as long as some rounds and passes.  During RAM's
 * first pass, which ends by itself, nothing is but disks that fall behind.  What follows, --on-stall:
 *
 *   wait      nothing: goes on, until the caller's --timeout, or for ever
 *   throttle  the worse half is slowed by a step (SLOW_DISK, SLOW_CPUS), never sped up
 *             again; without a step left, STALLED.  Steps are few: it ends
 *   suspend   SUSPEND once RAM's first pass is done, whatever the pause is; also when
 *             --timeout is over.  It ends
 *   abort     STALLED.  It ends
 *
 * What was written in each of the latest rounds is hot: it would be written again, so while
 * it takes at most half of what the budget leaves, rounds leave it out, and it is counted
 * with what the switch has to copy.  All is copied (->all) by the round before the switch,
 * and where the pause would fit but for what waits.
 *
 * A guest that writes at more than a third of what the disks reached alone gets RAM slowed
 * until it is near its end (->ram_limit), or the disks would fall behind meanwhile.
 *
 * While the user holds the move, nothing is stalled, and RAM does not begin: QEMU would
 * stop an idle guest by itself.
 */
#ifndef SNM_MIGRATE_CONTROLLER_H
#define SNM_MIGRATE_CONTROLLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virt/domxml.h"

/* In the order of --on-stall's words. */
enum control_policy {
    CONTROL_ON_STALL_WAIT,
    CONTROL_ON_STALL_THROTTLE,
    CONTROL_ON_STALL_SUSPEND,
    CONTROL_ON_STALL_ABORT
};

enum control_do {
    CONTROL_ROUND,     /* copy another round of dirty blocks */
    CONTROL_RAM,       /* start the memory pre-copy */
    CONTROL_WAIT,      /* RAM is under way; a disk round would gain nothing yet */
    CONTROL_HOLD,      /* in step, and the user wants it to stay so */
    CONTROL_SLOW_DISK, /* slow the guest's writes to ->disk, by a step */
    CONTROL_SLOW_CPUS, /* slow its CPUs, by a step */
    CONTROL_SWITCH, /* the predicted pause fits the budget, or the guest stands still */
    CONTROL_SUSPEND, /* it does not fit, and the user wants it all the same */
    CONTROL_STALLED, /* no progress towards the budget, and no means left */
    CONTROL_DOS
};
/* For the log and --json: "round", "ram", "wait", "hold", "throttle", "switch", "suspend",
 * "abort". */
const char *control_name(enum control_do d);

struct control_cfg {
    enum control_policy policy;
    uint64_t fixed_ms;    /* what a switch costs apart from a round's fixed cost */
    uint64_t patience_ms; /* the shortest window in which there must be progress */
};

struct control_disk {
    uint64_t dirty; /* to be copied before the switch, ->waits included */
    uint64_t hot;   /* what the next round may leave out */
    uint64_t waits; /* what rounds have left out; some of it may be dirty again, and be
                       counted twice */
    double dirty_rate;
    bool can_slow; /* there is a step left */
};

struct control_sample {
    int64_t now_ms;
    uint64_t budget_ms; /* may change from sample to sample */
    bool hold;
    bool overdue;   /* --timeout is over */
    int64_t rtt_us; /* the shortest: more is the queue of our own bulk; < 0: unknown */
    struct control_disk disks[DOMXML_DISKS_MAX];
    size_t ndisks;
    double disk_rate; /* that rounds reached, all disks together; 0 unknown */
    bool ram_running;
    uint64_t ram_remaining; /* as QEMU says, */
    uint64_t ram_under_way; /* and what it has sent and the destination not taken */
    double ram_rate;        /* 0 unknown */
    double ram_dirty_rate;
    int64_t ram_since_sync_ms; /* since QEMU last looked for dirty pages */
    uint64_t ram_syncs;        /* how often it did: 1 in the first pass */
    bool can_slow_cpus;
    bool guest_stopped; /* QEMU stopped the guest by itself */
};

struct control_verdict {
    enum control_do todo;
    size_t disk;       /* SLOW_DISK: which */
    bool all;          /* ROUND: what is hot, too */
    int64_t pause_ms;  /* predicted, if switched now; -1: a rate is not known */
    int64_t margin_ms; /* what it must be below the budget */
    double ram_limit;  /* bytes/s for RAM, its share of the link; 0: no limit */
    char why[160];     /* with its numbers, for people */
};

enum { CONTROL_ROUNDS = 8 };
struct control {
    struct control_cfg cfg;
    /* Learned from rounds. */
    int64_t fixed[CONTROL_ROUNDS]; /* what the latest took beyond their bytes */
    unsigned rounds;
    double error_ms;  /* mean error of predictions */
    int64_t round_ms; /* the latest */
    /* Learned from RAM. */
    uint64_t syncs; /* of the newest sample */
    int64_t sync_at_ms;
    double ram_dirty_rate; /* 0: not known yet */
    double alone_rate;     /* of the disks before RAM came */
    double ram_limit;
    /* Progress. */
    int64_t window_at_ms;         /* -1: none begun */
    double window_ms;             /* how long it is */
    double best_ms, last_best_ms; /* of this window and the one before; < 0: none */
    bool round_new;               /* a round ended since the last step */
    double found_ms;              /* what it found to copy */
    unsigned worse;               /* rounds in a row that left more */
    bool hopeless;                /* "suspend": stalled before RAM had started */
    /* The chance. */
    int64_t close_at_ms; /* since when the pause fits without margin; -1: it does not */
    int64_t fit_at_ms;   /* and with it */
    int64_t low_ms, low_at_ms; /* the lowest since, and when that was */
    bool rounded;              /* a round was already tried in this chance */
    unsigned missed;           /* chances that went by */
};

void control_init(struct control *c, const struct control_cfg *cfg);

/* Progress is measured from here on: another phase begins.  What was learned stays. */
void control_restart(struct control *c);

/* A round ended: @bytes at @rate as known before it (0: unknown), and how long all of it
 * took.  Not @alone: RAM had part of the link, and what the round waited for it is no fixed
 * cost of the pause, in which the rest of RAM is counted by itself. */
void control_round_took(struct control *c, uint64_t bytes, double rate, int64_t took_ms,
                        bool alone);

/* The pause if switched now, ms; -1 while a rate is not known. */
int64_t control_predict(const struct control *c, const struct control_sample *s);

/* Decide. */
void control_step(struct control *c, const struct control_sample *s,
                  struct control_verdict *out);

#endif
