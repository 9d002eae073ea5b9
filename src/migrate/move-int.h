/* src/migrate/move-int.h - the state of a move, shared by the phases' files only.
 *
 * Threads: main runs the phases and owns everything but what says otherwise;
 *   watch   cancels when the user asks, the link is lost or the pause is over time, and
 *           keeps the rates of the progress;
 *   copy-*  one per disk during a pass, inside mirror_pass();
 *   migrate blocked in vdom_migrate(), with connections of its own;
 *   ram     the relay between the source QEMU and the tunnel;
 *   poll    asks QEMU for the state of RAM and allows bytes to pass (the hold rule);
 *   libvirt accepts connections for the destination's libvirt.
 */
#ifndef SNM_MIGRATE_MOVE_INT_H
#define SNM_MIGRATE_MOVE_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/journal.h"
#include "migrate/controller.h"
#include "migrate/move.h"
#include "migrate/plan.h"
#include "nbd-mirror/mirror.h"
#include "virt/blk.h"
#include "virt/virt.h"

enum {
    CALL_MS = 20000,     /* a control call that only answers */
    PREPARE_MS = 120000, /* making images, starting writers */
    CLOSE_MS = 60000,    /* flushing and reaping writers */
    SWITCH_FIXED_MS =
        150, /* a switch with nothing left: 80 ms seen (DESIGN 3.13), and the
                              rounds' fixed costs */
    PATIENCE_MS = 180000, /* without progress towards the budget: status 8 */
    PAUSE_SLACK_MS =
        600, /* beyond the budget, then the guest is taken back (I11 has 1 s,
                             and taking back takes time too) */
    LIBVIRT_AGAIN_MS = 30000, /* for a restarted libvirtd to answer */
    RESOLVE_MS = 600000, /* past the release: how long the destination is asked again */
};

struct guard_link;
struct ram;
struct proxy;

/* One disk's copying: its mirror and the pass under way. */
struct copy_disk {
    struct move *move;
    size_t index;
    struct mirror *mirror; /* the lock of progress guards setting it */
    char export_name[64], bitmap[64];
    struct mirror_pass pass;
    pthread_t thread;
    bool started, ok;
    struct err err;
};

struct move {
    const struct move_cfg *cfg;
    struct cancel *user; /* the caller's */
    struct cancel *halt; /* stops copying: user, link lost, pause over time */
    char id[PATHS_ID_LEN + 1];
    char run_dir[PATHS_MAX], state_dir[PATHS_MAX];
    int lock_fd; /* flock on the domain's lock file, shared with the guard */
    struct journal *journal;
    struct guard_link *guard;

    /* What can be changed while it runs; begins as cfg says.  Thread: any. */
    atomic_uint_fast64_t budget_ms; /* the longest pause; read it with move_budget() */
    atomic_bool hold;               /* stay in step, do not switch yet */

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
    bool prepared; /* PUT was sent: DELETE is owed */

    /* Copying. */
    struct copy_disk copies[DOMXML_DISKS_MAX];
    bool tracking; /* bitmaps or exports may exist in QEMU */
    unsigned round;
    double disk_rate; /* reached by recent passes, bytes/s over all disks */
    double disk_dirty_rate;
    uint64_t disk_dirty;      /* newest sample, all disks */
    int64_t tracked_since_ms; /* when the active bitmaps were made */
    struct control control;

    /* Memory. */
    struct ram *ram;        /* relay, poll and migrate threads */
    uint64_t timeout_at_ms; /* 0: none */

    /* Switch. */
    atomic_int_fast64_t pause_deadline_ms; /* 0: none; read by watch */
    atomic_int_fast64_t paused_at_ns;      /* 0: we never saw the guest stop */
    int64_t pause_ms;                      /* measured, -1 */
    bool released, committed;
    char dst_state[16];    /* what COMMIT answered: "running", "paused", "off" */
    bool gave_up;          /* released, and then cancelled after all */
    bool source_destroyed; /* by us, paused and complete at the destination */
    bool source_unknown;   /* after the undo: the guard has to go on */
    bool taken_back;       /* said so in the journal */
    enum move_phase failed_in;

    /* Watch thread and progress. */
    pthread_t watch;
    bool watching;
    atomic_bool watch_stop;
    atomic_bool over_time; /* halted because the pause was over time */
    pthread_mutex_t lock;  /* guards progress and setting mirrors and ram */
    struct move_progress progress;
    int64_t started_ms;
    uint64_t moved_disk, moved_ram;
    char left[MOVE_LEFT_MAX][400], notes[MOVE_LEFT_MAX][400];
    size_t nleft, nnotes;
};

/* --- move.c --- */
void move_enter(struct move *m, enum move_phase phase);
PRINTF(2, 3) void move_left(struct move *m, const char *fmt, ...);
PRINTF(2, 3) void move_note(struct move *m, const char *fmt, ...);

/* The longest pause that is allowed now, ms. */
uint64_t move_budget(const struct move *m);

/* --- connect.c: lock, source, tunnel, the destination's libvirt --- */
bool connect_run(struct move *m, struct err *e);
/* One snmigrate for a VM at a time: m->lock_fd, on the file of m->facts.uuid; a guard that
 * tidies up is waited for.  Errors: ERR_REFUSED it is being moved. */
MUST_CHECK bool connect_lock(struct move *m, struct err *e);
/* Dial the destination again (after the release); replaces m->dial and m->link. */
MUST_CHECK bool connect_redial(struct move *m, struct err *e);
/* The destination's libvirt through the link, on a socket in m->run_dir: m->dst. */
MUST_CHECK bool connect_dst_libvirt(struct move *m, struct err *e);
void connect_close(struct move *m);

/* --- proxy.c --- */
MUST_CHECK bool proxy_start(struct link *link, const char *path, struct proxy **out,
                            struct err *e);
void proxy_stop(struct proxy *p);

/* --- preflight.c --- */
bool preflight_run(struct move *m, struct err *e);

/* --- prepare.c --- */
bool prepare_run(struct move *m, struct err *e);
void prepare_undo(struct move *m);

/* --- converge.c: the controller's ears and hands --- */
bool rounds_run(struct move *m, struct err *e);
bool memory_run(struct move *m, struct err *e);
/* ERR_STALLED when --timeout is over. */
MUST_CHECK bool converge_in_time(struct move *m, struct err *e);

/* --- copy.c --- */
bool bulk_run(struct move *m, struct err *e);
/* What waits for the next round on every disk, and how fast it comes, into the progress and
 * m->disk_dirty, m->disk_dirty_rate.  Thread: main. */
MUST_CHECK bool copy_sample(struct move *m, struct err *e);
/* Rotate, export, copy, flush, drop; @last: nothing may write any more, lists first. */
MUST_CHECK bool copy_round(struct move *m, bool last, struct err *e);
/* Flush and disconnect every mirror; the writers can be closed then. */
MUST_CHECK bool copy_close(struct move *m, struct err *e);
void copy_undo(struct move *m);

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
