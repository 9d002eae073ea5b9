/* src/migrate/move-int.h - the state of a move, shared by the phases' files only.
 *
 * Threads: main runs the phases and owns everything but what says otherwise;
 *   watch   cancels when the user asks, the link is lost or the pause is over time, and
 *           keeps the rates of the progress;
 *   copy-*  one per disk during a pass, inside mirror_pass();
 *   migrate blocked in vdom_migrate(), with connections of its own;
 *   ram     the relay between the source QEMU and the tunnel;
 *   poll    asks QEMU for the state of RAM and allows bytes to pass (the hold rule);
 *   libvirt accepts connections for the destination's libvirt;
 *   control answers snmigrate's other commands (ctl.c).
 */
#ifndef SNM_MIGRATE_MOVE_INT_H
#define SNM_MIGRATE_MOVE_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/journal.h"
#include "migrate/controller.h"
#include "migrate/kept.h"
#include "migrate/latency.h"
#include "migrate/move.h"
#include "migrate/plan.h"
#include "migrate/slow.h"
#include "nbd-mirror/mirror.h"
#include "virt/blk.h"
#include "virt/virt.h"

enum {
    CALL_MS = 20000,  /* a control call that only answers */
    CLOSE_MS = 60000, /* flushing and reaping writers */
    /* Of a switch with nothing left, apart from a round's own fixed cost: suspend, close and
     * 80 ms. */
    SWITCH_FIXED_MS = 100,
    PATIENCE_MS = 30000, /* windows without progress towards the budget, at least */
    /* Beyond the budget, then the guest is taken back: a second is promised, and taking back
     * takes time, too. */
    PAUSE_SLACK_MS = 600,
};

struct ctl;
struct guard_link;
struct ram;
struct proxy;

/* What the guest writes on a disk, from samples of its dirty bytes; converge.c. */
struct meter {
    int64_t at_ms;           /* when the count began; 0: not yet */
    unsigned round;          /* of the newest sample, */
    uint64_t dirty, counted; /* which said so much; and all since then */
    double rate;
};

/* One disk's copying: its mirror and the pass under way. */
struct copy_disk {
    struct move *move;
    size_t index;
    struct mirror *mirror; /* the lock of progress guards setting it */
    struct hot *hot;       /* NULL: copy_open() was not called yet */
    bool idle;             /* it takes no part in the newest pass */
    char export_name[64], bitmap[64];
    struct mirror_pass pass;
    /* Of the bulk: all before it was copied and flushed. */
    atomic_uint_fast64_t safe;
    uint64_t telling,
        noted; /* the same as an entry has it that is being written, and as
                                the journal has it */
    pthread_t thread;
    bool started, ok;
    bool ended; /* the thread has nothing left to do; the lock of progress guards it */
    int64_t copied_at_ns; /* the pass is through but for its flush */
    struct err err;
    /* The pass, where it is none of the mirror's; NULL: it is.  Thread: copy-*. */
    bool (*instead)(struct copy_disk *c, const struct mirror_side *src, struct err *e);
    struct prove *prove;           /* of prove.c, while it is at it; else NULL */
    struct move_verified verified; /* what it has found */
    atomic_bool comparing;         /* compare.c is at it, */
    atomic_uint_fast64_t compared; /* and has compared so much of the disk */
    bool compare; /* the image there holds something: bulk copies only what differs */
};

/* What a move foresees of itself (foresee.c). */
struct foresee_at {
    int64_t ms;
    uint64_t copied, sent; /* of the disks, plain; on the wire, of all */
};
struct foresee {
    struct foresee_at begin, first; /* of the bulk pass; after its first second */
    struct forecast_point points[8];
    size_t n;
    struct forecast out;
    int64_t at_ms; /* when it was made, after the start */
};

struct move {
    const struct move_cfg *cfg;
    struct cancel *user; /* the caller's */
    struct cancel *halt; /* stops copying: user, link lost, pause over time; the lock
                            guards setting it */
    char id[PATHS_ID_LEN + 1];
    char run_dir[PATHS_MAX], state_dir[PATHS_MAX];
    int lock_fd; /* flock on the domain's lock file, shared with the guard */
    struct journal *journal;
    struct guard_link *guard;

    /* What can be changed while it runs; begins as cfg says.  Thread: any. */
    atomic_uint_fast64_t budget_ms; /* the longest pause; read it with move_budget() */
    atomic_bool hold;               /* stay in step, do not switch yet */
    atomic_uint_fast64_t bandwidth, guest_latency_ms; /* as in move_cfg */
    atomic_uint_fast64_t
        latency_cap;        /* bytes/s that the guest's writes leave; 0: all */
    struct latency latency; /* Thread: main. */
    struct ctl *ctl;        /* NULL: not started */
    atomic_uint_fast64_t
        allowed_ms; /* this pause may be longer: --on-stall suspend; or 0 */

    /* Going on from an earlier try; kept.h. */
    char opening[PATHS_ID_LEN + 1]; /* the newest that the destination gave us */
    struct kept *kept; /* what it left, or what this one has; NULL: nothing */
    bool resume;       /* its images are taken up, */
    bool adopted;      /* and its bitmaps */
    bool unproved;     /* nothing was compared yet (sample.c) */
    bool keeping;      /* the undo has kept the bitmaps */
    bool no_keep;      /* a failure after which nothing is kept */
    bool unmended;     /* blocks that are wrong there, and no bitmap marks (prove.c) */
    int64_t noted_at_ms; /* of the newest entry "copied" */

    /* Source. */
    struct virt *src;
    struct vdom *dom;
    struct vdom_facts facts; /* as at the start */
    struct dominfo info;
    char *xml_live, *xml_inactive, *dest_xml, *persist_xml;
    int qemu_pidfd; /* -1: not yet; the lock guards setting it */
    struct blk blk;
    struct plan plan;
    struct findings findings;

    /* Destination. */
    struct dial *dial;
    struct link *link;
    struct proxy *proxy; /* the destination's libvirt, on a socket of ours */
    struct virt *dst;
    struct virt_host dst_host, src_host;
    uint64_t sent_before, received_before; /* by links that were lost; the lock guards
                                              them */
    bool prepared;                         /* PUT was sent: DELETE is owed */

    /* Copying. */
    struct copy_disk copies[DOMXML_DISKS_MAX];
    int64_t copied_at_ns; /* the same of all disks, in the newest pass */
    bool tracking;        /* bitmaps or exports may exist in QEMU */
    unsigned round;
    double disk_rate;         /* reached by recent passes, bytes/s over all disks */
    uint64_t disk_dirty;      /* newest sample, all disks, */
    uint64_t disk_written;    /* and what of it was written since ->tracked_since_ms */
    int64_t tracked_since_ms; /* when the active bitmaps were made, or adopted */
    uint64_t dirty_then[DOMXML_DISKS_MAX]; /* what they held then, of an earlier try */
    struct control control;
    struct meter meters[DOMXML_DISKS_MAX];
    struct slow slow;
    uint64_t ram_limit; /* of what QEMU sends, as last set; 0: none of ours */
    uint64_t ram_free;  /* and before */

    struct foresee foresee;
    struct move_verified verified;
    bool marked;        /* the destination says so, of --verify-later; */
    char unmarked[400]; /* why not */

    /* Memory. */
    struct ram *ram;         /* relay, poll and migrate threads */
    unsigned ram_streams;    /* how many there were */
    uint64_t downtime_limit; /* QEMU's own, ms, to put back; 0: never changed */
    uint64_t timeout_at_ms;  /* 0: none */

    /* Switch. */
    atomic_int_fast64_t pause_deadline_ms; /* 0: none; read by watch */
    atomic_int_fast64_t paused_at_ns;      /* 0: we never saw the guest stop */
    struct pause_marks marks;              /* but for ->begun and PAUSE_LOAD, */
    atomic_int_fast64_t loaded_at_ns;      /* which poll sets; 0: not seen */
    struct pause pause;                    /* of a move that arrived, by its steps */
    int64_t pause_ms;                      /* measured, -1 */
    struct move_greeting greeting;
    bool released, committed;
    char dst_state[16];    /* what COMMIT answered: "running", "paused", "off" */
    bool gave_up;          /* released, and then cancelled after all */
    bool source_destroyed; /* by us, paused and complete at the destination */
    bool source_unknown;   /* after the undo: the guard has to go on */
    bool taken_back;       /* or about to be, since the newest release */

    /* Beginning again. */
    unsigned retries; /* of those that --retries bounds */
    unsigned redials;
    int64_t lost_at_ms;  /* when the link was lost; 0: it was not, or it holds since */
    int64_t found_at_ms; /* when it was dialled again last */
    uint64_t fixed_ms;   /* what a switch costs with nothing left to copy, as learned */
    enum move_phase failed_in;

    /* Watch thread and progress. */
    pthread_t watch;
    bool watching;
    atomic_bool watch_stop;
    atomic_bool over_time; /* halted because the pause was over time */
    /* Somebody waits for an answer that only the end of the link would end: then, or when
     * the user stops, watch hangs up.  0: nobody. */
    atomic_int_fast64_t answer_by_ms;
    pthread_mutex_t lock;      /* guards progress and setting mirrors and ram */
    pthread_cond_t copy_ended; /* with it: a disk's thread has ->ended */
    struct move_progress progress;
    int64_t started_ms;
    uint64_t moved_disk, moved_ram;
    struct texts left, notes;
};

/* --- move.c --- */
void move_enter(struct move *m, enum move_phase phase);

/* How its user starts the guest again at the source, in @words, which are returned. */
enum { MOVE_START_MAX = 320 };
const char *move_start_words(const struct move *m, char words[MOVE_START_MAX]);
/* That it is off there, and what to do.  False, as err_set(). */
bool move_guest_ended(const struct move *m, struct err *e);

/* The longest pause that is allowed now, ms. */
uint64_t move_budget(const struct move *m);
/* The pause after which the guest is taken back, ms: the budget and some slack, or what
 * --on-stall suspend was decided for. */
uint64_t move_pause_max(const struct move *m);

/* --- limit.c: what may be sent, and what else can be changed while it runs --- */
/* What may be sent now, bytes/s; 0: any.  Thread: any. */
uint64_t move_rate(struct move *m);
/* Look at the guest's write latency, at most twice a second.  Thread: main. */
void limit_look(struct move *m);
/* The guest stands still or is through: only --bandwidth counts.  Thread: main. */
void limit_no_latency(struct move *m);

/* --- ctl.c: the control socket, in the run directory --- */
MUST_CHECK bool ctl_start(struct move *m, struct err *e);
/* What who waits for the end is told. */
void ctl_result(struct move *m, const struct move_result *r);
/* Tell them, and end.  NULL is allowed for m->ctl. */
void ctl_stop(struct move *m);

/* --- connect.c: lock, source, tunnel, the destination's libvirt --- */
bool connect_run(struct move *m, struct err *e);
/* One snmigrate for a VM at a time: m->lock_fd, on the file of m->facts.uuid; a guard that
 * tidies up is waited for.  Errors: ERR_REFUSED it is being moved. */
MUST_CHECK bool connect_lock(struct move *m, struct err *e);
void connect_unlock(struct move *m);
/* Dial the destination again (after the release); replaces m->dial and m->link. */
MUST_CHECK bool connect_redial(struct move *m, struct err *e);
/* The same, before the release, with the destination's libvirt. */
MUST_CHECK bool connect_again(struct move *m, struct err *e);
/* Where the destination's libvirt is for libvirt here. */
enum { CONNECT_PROXY_PATH_MAX = PATHS_MAX + 16 };
void connect_proxy_path(const struct move *m, char path[CONNECT_PROXY_PATH_MAX]);
/* The destination's libvirt through the link, by the proxy's socket @path.  Errors: of
 * virt_open_socket; ERR_CANCELLED. */
MUST_CHECK bool connect_by_proxy(struct move *m, const char *path, struct virt **out,
                                 struct err *e);
/* The destination's libvirt through the link, on a socket in m->run_dir: m->dst. */
MUST_CHECK bool connect_dst_libvirt(struct move *m, struct err *e);
void connect_close(struct move *m);

/* --- earlier.c --- */
/* What an earlier move of this guest left whose snmigrate and guard were killed is brought
 * to one owner.  What one has kept is m->kept then, and unless only --check is wanted this
 * move is that one.  The lock is held before and after.  Errors: ERR_REFUSED it is open, or
 * killed and only --check is wanted. */
MUST_CHECK bool earlier_settle(struct move *m, struct err *e);

/* --- proxy.c --- */
MUST_CHECK bool proxy_start(struct link *link, const char *path, struct proxy **out,
                            struct err *e);
void proxy_stop(struct proxy *p);

/* --- again.c: after a failure, begin again --- */
bool again_may(struct move *m, const struct err *e);
bool again_mend(struct move *m, struct err *e);

/* --- preflight.c --- */
bool preflight_run(struct move *m, struct err *e);

/* --- survey.c: --check --forecast --- */
bool forecast_run(struct move *m, struct err *e);
void forecast_undo(struct move *m);

/* --- foresee.c: the move's own forecast --- */
enum { FORESEE_RAM_MOST = 400 << 20 }; /* bytes/s that a QEMU sends of RAM through us */
/* The bulk pass begins; it goes on, or is @over. */
void foresee_begin(struct move *m);
void foresee_tick(struct move *m, bool over);
/* Of what a forecast is made: costs and budget; */
void foresee_fixed(struct move *m, struct forecast_in *in);
/* the guest's RAM: how much of it is not zero (all where that cannot be seen), and a sample
 * of that.  Returns how the sample shrinks. */
struct foresee_ram {
    uint64_t bytes;
    size_t len;
    uint8_t sample[4 << 20];
};
double foresee_ram(struct move *m, struct foresee_ram *ram);
uint64_t foresee_disk_size(const struct move *m);
void foresee_log(const struct forecast *f);

/* --- prepare.c --- */
bool prepare_run(struct move *m, struct err *e);
void prepare_undo(struct move *m);
/* New writers at the destination, for the images as we know them; "opened" is written.
 * Errors: of link_call(); ERR_REFUSED, ERR_SYS they are not as we know them. */
MUST_CHECK bool prepare_reopen(struct move *m, struct err *e);

/* --- converge.c: the controller's ears and hands --- */
bool rounds_run(struct move *m, struct err *e);
bool memory_run(struct move *m, struct err *e);
void converge_undo(struct move *m);
/* ERR_STALLED when --timeout is over, but for --on-stall suspend. */
MUST_CHECK bool converge_in_time(struct move *m, struct err *e);

/* --- copy.c --- */
/* A bitmap on every disk and an NBD server: nothing that is written is missed after it. */
bool track_run(struct move *m, struct err *e);
void track_undo(struct move *m);
bool bulk_run(struct move *m, struct err *e);
/* Where connections of a disk's source come from; its export is there. */
struct mirror_side copy_source(struct copy_disk *c);
/* Bytes that the mirrors of all disks have copied. */
uint64_t copy_bytes(const struct move *m);
/* Bytes of a disk of @size that are copied between two flushes of the bulk. */
uint64_t copy_flush_every(uint64_t size);
/* Connect a mirror to every writer. */
MUST_CHECK bool copy_open(struct move *m, struct err *e);
/* Disconnect them, whatever is in flight; after it the writers can be closed. */
void copy_drop(struct move *m);
/* After a failed pass: no exports, and what an unfinished round had to copy marked in the
 * bitmaps that record. */
MUST_CHECK bool copy_settle(struct move *m, struct err *e);
/* What waits for the next round on every disk, and how fast it comes, into the progress and
 * m->disk_dirty, m->disk_written.  Thread: main. */
MUST_CHECK bool copy_sample(struct move *m, struct err *e);
/* Rotate, export, copy, flush, drop; @last: nothing may write any more, lists first. */
MUST_CHECK bool copy_round(struct move *m, bool last, struct err *e);
/* But what is written in every round waits for the next copy_round(). */
MUST_CHECK bool copy_round_cold(struct move *m, struct err *e);
/* No disk took part in the newest round: there was nothing to copy. */
bool copy_was_idle(const struct move *m);
/* Bytes that wait so, at most. */
uint64_t copy_waiting(const struct move *m);
/* A pass of another kind over all disks, and a flush. */
MUST_CHECK bool copy_instead(struct move *m,
                             bool (*pass)(struct copy_disk *c,
                                          const struct mirror_side *src, struct err *e),
                             struct err *e);

/* --- sample.c --- */
/* Of a move that goes on from an earlier try, once: compare some of what is there, and let
 * go of what is not as it was left.  Errors: as of a pass; ERR_SYS the journal. */
MUST_CHECK bool sample_run(struct move *m, struct err *e);

/* --- compare.c: digests of both sides --- */
/* The bulk pass of a disk with ->compare, in its thread: digest both sides, copy what
 * differs.  Moves ->safe on.  Errors: of verify_run() and mirror_pass(). */
MUST_CHECK bool compare_run(struct copy_disk *c, const struct mirror_side *src,
                            struct err *e);
/* The digests of disk @target of the move @id as the agent at the other end of @l reads it.
 * Thread: any.  Errors: of link_channel_pair() and digest_wire_fetch(). */
struct digest_cfg;
MUST_CHECK bool compare_fetch(struct link *l, const char *id, const char *target,
                              const struct digest_cfg *cfg, struct err *e);
/* Digest both sides, in the thread that calls; the disk's export is there. */
struct suspects;
struct digest;
struct compare_look {
    const struct suspects *only; /* NULL: all of the disk */
    struct suspects *differ;     /* what differs then; another one than ->only */
    void (*alike)(void *ctx, const struct digest *d); /* as in verify.h; may be NULL */
    void *ctx;
};
MUST_CHECK bool compare_look(struct copy_disk *c, const struct mirror_side *src,
                             struct compare_look *l, struct err *e);
/* @to: what of @from the frozen bitmap, which is exported, does not mark. */
MUST_CHECK bool compare_excuse(struct copy_disk *c, const struct mirror_side *src,
                               const struct suspects *from, struct suspects *to,
                               struct err *e);

/* --- prove.c --- */
/* Once, unless --verify none: both sides are digested, all or a sample, what differs without
 * having been written is copied again, counted and said.  Rounds are part of it. */
MUST_CHECK bool prove_run(struct move *m, struct err *e);
/* Before the pass of a round, in the disk's thread: what its bitmap marks is right. */
MUST_CHECK bool prove_excuse(struct copy_disk *c, const struct mirror_side *src,
                             struct err *e);

/* --- memory.c: relay, hold rule, virDomainMigrate3 --- */
void memory_undo(struct move *m);
MUST_CHECK bool memory_start(struct move *m, struct err *e);
struct memory_sample {
    struct vram ram;
    bool stopped; /* QEMU left "active": the guest is stopped, the stream ends */
    bool failed;  /* virDomainMigrate3 has returned an error */
    bool done;    /* it has returned well */
    int64_t since_sync_ms;
    uint64_t received;  /* bytes from QEMU so far, */
    uint64_t passed;    /* of those, taken by the destination's QEMU */
    uint64_t under_way; /* the difference */
    double rate;        /* bytes/s that the latter takes; 0: not known yet */
};
void memory_sample(struct move *m, struct memory_sample *out);
/* Why virDomainMigrate3 failed. */
void memory_error(struct move *m, struct err *e);
/* Wait for its end; false on time-out. */
bool memory_wait(struct move *m, int timeout_ms);
/* The whole stream may pass from here on (after RELEASE was answered). */
void memory_released(struct move *m);
/* Stop relay, poll and limit, which use m->link, so that it can be replaced. */
void memory_quiet(struct move *m);
/* Stop threads, close connections; the migration is over one way or the other. */
void memory_close(struct move *m);

/* --- switch.c, commit.c, finish.c --- */
bool switch_run(struct move *m, struct err *e);
void switch_undo(struct move *m);
/* The guest is about to stop, or was seen stopped, at @at_ns: the pause's clock and deadline
 * start, once, and the guard is told.  Thread: main, poll and limit. */
void switch_pause_begins(struct move *m, int64_t at_ns);
/* QEMU here says that QEMU there has loaded all.  Thread: poll. */
void switch_loaded(struct move *m);
bool commit_run(struct move *m, struct err *e);
/* The source QEMU is dead: ask the destination until it runs the guest or says that it has
 * none.  For the guard as well.  Errors: ERR_GUEST, ERR_UNRESOLVED. */
MUST_CHECK bool commit_forward(struct move *m, struct err *e);
bool finish_run(struct move *m, struct err *e);

/* --- owner.c: for the undo and the guard --- */
/* A new connection to the source's libvirt, and the domain.  ERR_GUEST: no such domain. */
MUST_CHECK bool owner_source(struct move *m, int timeout_ms, struct err *e);
/* Whether the connection answers. */
MUST_CHECK bool owner_source_alive(struct move *m, struct err *e);
/* true: no job is left and the guest is as it was before the move, or has ended.
 * false: that is not known. */
MUST_CHECK bool owner_take_back(struct move *m, struct err *e);
/* The source QEMU is dead: whether the guest had been running again after the release, so
 * that what the destination has is old and COMMIT must not be sent. */
MUST_CHECK bool owner_ran_again(struct move *m);
/* Whether it starts with this host, as it was before the move, which turns that off: a host
 * that boots after COMMIT must not start its old copy. */
void owner_autostart(struct move *m);
/* ABORT at the destination, dialling again where the link is lost. */
MUST_CHECK bool owner_abort(struct move *m, struct err *e);
/* The same, where a failure is left to the next move of the VM. */
void owner_abort_destination(struct move *m);

/* --- watcher.c --- */
MUST_CHECK bool watcher_start(struct move *m, struct err *e);
void watcher_stop(struct move *m);

/* --- guard-link.c: the move's side of the guard --- */
MUST_CHECK bool guard_start(struct move *m, struct err *e);
/* Tell it a word of guard.c's table.  Errors: ERR_SYS the guard is gone. */
MUST_CHECK bool guard_say(struct move *m, const char *word, struct err *e);
/* Dismiss it.  Without this it goes on where we end. */
void guard_bye(struct move *m);

#endif
