/* src/migrate/move.h - one move, from preflight to the end; what cli/ sees of it.
 *
 * move_run() blocks in the calling thread (main) and never talks to the user: it logs,
 * keeps a progress that any thread may copy, and ends with a result that says where the
 * guest runs.
 */
#ifndef SNM_MIGRATE_MOVE_H
#define SNM_MIGRATE_MOVE_H

#include "base/cancel.h"
#include "base/findings.h"
#include "base/paths.h"
#include "base/texts.h"
#include "migrate/forecast.h"
#include "migrate/pause.h"
#include "tunnel/dial.h"
#include "virt/domxml.h"

/* --disk TARGET=PATH[,format=F] */
struct move_disk_opt {
    char target[32];
    char path[PATHS_MAX];
    char format[16]; /* "": --format, else as the source */
};

struct move_cfg {
    const char *connect; /* source libvirt URI; NULL: qemu:///system */
    const char *domain;  /* name, uuid or id */
    struct dest dest;
    const char *dest_text; /* as the user wrote it, for messages */
    const char *ssh;       /* NULL: ssh */
    const char *disks_to;  /* directory at the destination; NULL: same paths */
    const char *format;    /* for all disks; NULL: as the source */
    struct move_disk_opt disks[DOMXML_DISKS_MAX];
    size_t ndisks;
    int verify; /* enum move_verify */
    bool
        verify_later; /* what the guest writes there is to be told apart from the copy */
    bool seed;        /* images lie there already: only what differs is copied */
    uint64_t max_downtime_ms; /* the pause budget */
    uint64_t bandwidth;       /* bytes/s over everything; 0: no limit */
    uint64_t timeout_ms;      /* of the whole move up to the switch; 0: none */
    unsigned retries;         /* after failures, but for a link lost while disks only
                                 are copied */
    uint64_t reconnect_ms;    /* how long a lost link is dialled again; 0: never */
    uint64_t
        guest_latency_ms;     /* of its writes, above which copying backs off; 0: any */
    bool hold;                /* stay in step until move_set_switch() */
    int on_stall;             /* enum control_policy */
    int zstd;                 /* ZSTD_AUTO, ZSTD_OFF or a level */
    bool keep_source;         /* leave it defined there, shut off */
    bool remove_source_disks; /* after success */
    bool set_time;            /* by the guest agent, on arrival */
    bool check_only;
    const struct move_words *words; /* NULL: no control socket */
    uint64_t forecast_ms; /* with check_only: how long to watch the guest; 0: not */
};

/* --verify, in the order of its words. */
enum move_verify { MOVE_VERIFY_SAMPLE, MOVE_VERIFY_FULL, MOVE_VERIFY_NONE };

/* What it found; bytes. */
struct move_verified {
    bool done;
    uint64_t compared;  /* digested on both sides */
    uint64_t alike;     /* of that, when it was looked at first */
    uint64_t differing; /* and nobody had written it */
    uint64_t repaired;
    char digest[33]; /* of one disk: XXH3-128 over what was alike, in hex; "": none */
};

/* How cli/ writes things down: what the control socket answers with. */
struct move_progress;
struct move_result;
struct move_words {
    struct json_object *(*progress)(const struct move_progress *p);
    struct json_object *(*result)(const struct move_cfg *cfg,
                                  const struct move_result *r);
};

/* What can be changed while it runs, and within which bounds. */
struct move_settings {
    bool has_bandwidth, has_max_downtime, has_guest_latency;
    uint64_t bandwidth, max_downtime_ms, guest_latency_ms; /* as in move_cfg */
};
enum { MOVE_RATE_MIN = 12500 }; /* 100 kbit/s: below, the heartbeat suffers */
#define MOVE_RATE_MAX UINT64_C(125000000000) /* 1 Tbit/s */
enum { MOVE_DOWNTIME_MAX_MS = 60000, MOVE_LATENCY_MAX_MS = 10000 };

enum move_phase {
    MOVE_CONNECT,
    MOVE_PREFLIGHT,
    MOVE_FORECAST, /* --check --forecast only */
    MOVE_PREPARE,
    MOVE_BULK,
    MOVE_ROUNDS,
    MOVE_MEMORY,
    MOVE_SWITCH,
    MOVE_COMMIT,
    MOVE_FINISH,
    MOVE_UNDO,
    MOVE_RECONNECT, /* something went wrong: getting ready to begin again */
    MOVE_DONE,
    MOVE_PHASES
};
const char *move_phase_name(enum move_phase p);

/* A copy job as the display shows it.  Bytes and bytes/s. */
struct move_gauge {
    char name[32];  /* "vda", "RAM" */
    uint64_t size;  /* of the whole thing */
    uint64_t total; /* what the current pass has to move */
    uint64_t done;  /* of that */
    uint64_t dirty; /* waiting for the next pass */
    uint64_t hot; /* written in every round and left for the last ones, at most; some of
                          it may be dirty again */
    double rate;  /* being moved */
    double dirty_rate; /* written by the guest; < 0: not known yet */
    uint64_t limit;    /* of the guest's writes, or RAM's share of the link; 0: none */
};

enum move_trend {
    MOVE_TREND_UNKNOWN,
    MOVE_TREND_CONVERGING,
    MOVE_TREND_STEADY,
    MOVE_TREND_DIVERGING
};

struct move_progress {
    enum move_phase phase;
    char domain[256], dest[256];
    int64_t elapsed_ms;
    unsigned round; /* of the disks; 0: bulk */
    struct move_gauge disks[DOMXML_DISKS_MAX];
    size_t ndisks;
    struct move_gauge ram;      /* size 0: not started */
    uint64_t sent;              /* bytes on the wire so far */
    double sent_rate;           /* bytes/s now */
    double ratio;               /* plain / packed of the compressed channels; 1: none */
    int64_t rtt_us;             /* -1: unknown */
    int64_t predicted_pause_ms; /* if switched now; -1: unknown */
    uint64_t budget_ms;
    uint64_t rate_limit; /* bytes/s on the wire, in force now; 0: none */
    double
        guest_write_ms; /* what its writes take, with --guest-latency; <= 0: unknown */
    bool held;          /* --hold: in step, until it is told to switch */
    int64_t eta_ms;     /* to the switch; -1: unknown */
    enum move_trend trend;
    bool released;      /* too late to stop: it goes forward */
    char decision[16];  /* the newest, of control_name(); or "" */
    char why[160];      /* its reason: why it has not switched yet, for people; or "" */
    unsigned cpus_held; /* percent of their time that the guest's CPUs are held back */
};

/* Where the guest is, as asked of both sides, never assumed. */
enum move_where { MOVE_AT_SOURCE, MOVE_AT_DESTINATION, MOVE_NOWHERE, MOVE_UNKNOWN };
const char *move_where_name(enum move_where w); /* "source", "destination", ... */

/* What was done for the guest on arrival, as the agent says it; what failed is no failure
 * of the move. */
struct move_greeting {
    struct texts done, failed;
};

struct move_result {
    int status; /* exit status: snmigrate(1) */
    enum move_where where;
    char state[16];           /* "running", "paused", "off" there */
    struct err err;           /* ERR_NONE on success */
    struct findings findings; /* of preflight */
    int64_t pause_ms;         /* measured; -1: the guest was not paused */
    uint64_t budget_ms;       /* the pause that was allowed at the end */
    struct pause pause;       /* the same, step by step; of a move that arrived */
    struct forecast forecast; /* what was to be expected when it was made */
    int64_t forecast_at_ms;   /* after the start */
    struct move_greeting greeting;
    struct move_verified verified;
    int64_t elapsed_ms;
    unsigned rounds;
    unsigned retries;               /* so often memory and switch began again */
    unsigned redials;               /* so often the link was lost and found again */
    uint64_t disk_bytes, ram_bytes; /* moved, before compression */
    uint64_t sent, received;        /* on the wire */
    uint64_t kept_bytes,
        kept_size; /* of all disks: so much of so much was copied, and is
                                       kept for the same command; 0: nothing is */
    char id[PATHS_ID_LEN + 1];
    char domain[256], uuid[37], source_host[256], dest_host[256];
    struct {
        char target[32], src[PATHS_MAX], dst[PATHS_MAX], format[16];
        uint64_t size;
        struct move_verified verified;
    } disks[DOMXML_DISKS_MAX];
    size_t ndisks;
    struct texts left;  /* what is left to do or was left on the source */
    struct texts notes; /* what was kept on purpose: source disks, saved XML */
};
void move_result_fini(struct move_result *r);

struct move;
/* Cheap; no I/O.  NULL only when out of memory.  @cfg and @cancel are borrowed. */
struct move *move_new(const struct move_cfg *cfg, struct cancel *cancel);
/* The whole move; always fills *out (release with move_result_fini).  Thread: main. */
void move_run(struct move *m, struct move_result *out);
/* Thread: any, while the move exists. */
void move_progress(struct move *m, struct move_progress *out);
/* Change what is set in @s; takes effect at once, and all or nothing.  Thread: any.
 * Errors: ERR_USAGE out of bounds; ERR_REFUSED too late, the switch has begun. */
MUST_CHECK bool move_set(struct move *m, const struct move_settings *s, struct err *e);
/* --hold ends.  Thread: any.  Errors: ERR_REFUSED it is not held. */
MUST_CHECK bool move_set_switch(struct move *m, struct err *e);
/* As Ctrl-C.  Thread: any.  Errors: ERR_REFUSED too late to go back. */
MUST_CHECK bool move_abort(struct move *m, struct err *e);
void move_free(struct move *m);

#endif
