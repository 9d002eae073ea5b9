/* src/migrate/recheck.h - "snmigrate verify": are the two copies of a moved guest's disks
 * alike, now that the move is over?
 *
 *   this host      an agent of our own digests the old images, which nobody uses
 *   the other one  its agent digests the disks, through QEMU where the guest runs
 *
 *   look 1   all blocks; then what the bitmaps of --verify-later mark is excused: the guest
 *            has written it since it arrived
 *   look 2   what is left, and what is marked, once more: a write that was under way in look
 *            1 is marked by now
 *
 * Without bitmaps there is one look, and what the guest wrote since is not told from what
 * was damaged.  Nothing is written on either host, and digests alone travel.
 */
#ifndef SNM_MIGRATE_RECHECK_H
#define SNM_MIGRATE_RECHECK_H

#include <stdatomic.h>

#include "base/cancel.h"
#include "base/json.h"
#include "migrate/move.h"
#include "nbd-mirror/mirror.h"

/* Any thread may read it meanwhile; bytes, of all disks. */
struct recheck_progress {
    _Atomic uint64_t compared, size;
};

struct recheck_cfg {
    const char *what; /* name or uuid of a domain, id of a move */
    struct cancel *cancel;
    struct recheck_progress *progress;
};

enum { RECHECK_SHOWN = 16 };

struct recheck_disk {
    char target[32], src[PATHS_MAX], dst[PATHS_MAX];
    char src_format[16], dst_format[16];
    uint64_t size;
    uint64_t compared; /* bytes, in the first look, */
    uint64_t alike;    /* of those */
    uint64_t written; /* marked as written by the guest since; ->marked of the result */
    uint64_t differing; /* of what is not; of all, where nothing is marked */
    char digest[33];    /* XXH3-128 over what was alike, in hex */
    struct mirror_range where[RECHECK_SHOWN]; /* of what differs, the first stretches */
    size_t nwhere;
};

struct recheck_result {
    int status; /* 0 alike; 6 they differ; 3, 4, 9, 130 as of a move */
    struct err err;
    char id[PATHS_ID_LEN + 1], domain[256], uuid[37], destination[512];
    bool live;     /* the guest is active there */
    bool marked;   /* and what it writes is marked; */
    char why[400]; /* if not, why */
    bool compared; /* all of all disks was: what they say is true */
    int64_t elapsed_ms;
    struct recheck_disk disks[DOMXML_DISKS_MAX];
    size_t ndisks;
};

/* *out is filled in any case.  Blocks: until all is read.  Thread: main. */
void recheck_run(const struct recheck_cfg *cfg, struct recheck_result *out);

/* Of a move that is over: remove the bitmaps that --verify-later has left at the destination,
 * which m->link leads to.  For discard.  Errors: of link_call(). */
MUST_CHECK bool recheck_forget(struct move *m, struct err *e);
/* Whether it may have left any: as the entry of moved.h says. */
bool recheck_left_marks(struct json_object *entry);

#endif
