/* src/migrate/kept.h - what a move that ended without success leaves, to be gone on with.
 *
 * In the source's QEMU a dirty bitmap that records on each disk; at the destination images
 * and journal; in this host's journal how far the bulk was copied and flushed:
 *
 *   prepared  {facts, disks: [{target, path, format, size, safe}]}   a try begins
 *   opened    {opening}         the destination let us at the images; see arrival.h
 *   copied    {disks: [...]}    the bulk is so far, and flushed
 *   kept      {opening, disks: [...]}   the last entry: nobody works on it
 *
 * What holds at every instant, and lets the next try trust it: a block of the destination
 * that is not what the source has, on its disk, lies at or behind ->safe or is marked in a
 * bitmap of the move, the one that records or a frozen one of the last two rounds.  ->safe is
 * written down after the flush that it rests on was answered; a frozen bitmap goes after its
 * round, and the next one where something of it waits, was flushed.  Whenever that is not so any more (no bitmaps, other images), an entry says
 * ->safe 0 before anything is copied.
 *
 * Thread: main.
 */
#ifndef SNM_MIGRATE_KEPT_H
#define SNM_MIGRATE_KEPT_H

#include "base/json.h"
#include "migrate/plan.h"

struct move;

struct kept_disk {
    char target[32], path[PATHS_MAX], format[16];
    uint64_t size;
    uint64_t safe; /* bytes; ->size: the bulk is complete */
};

struct kept {
    char id[PATHS_ID_LEN + 1], uuid[37], destination[512];
    char opening[PATHS_ID_LEN + 1]; /* the newest; "": none yet */
    char boot_id[64];               /* of this host, */
    uint64_t pid, pid_start;        /* and QEMU, when the try began */
    bool released;                  /* the images may have been QEMU's since */
    bool there;                     /* the destination has it: preflight found out */
    struct kept_disk disks[DOMXML_DISKS_MAX];
    size_t n;
};

/* From the entries of a journal of this host as source.  Of several tries the newest
 * counts.  Errors: ERR_PROTO it is not of that role, or says nothing of disks. */
MUST_CHECK bool kept_read(struct json_object *entries, const char *id, struct kept *out,
                          struct err *e);
/* Whether the last entry is "kept".  Both roles. */
bool kept_is_settled(struct json_object *entries);
/* Whether there is anything that a next try could go on from. */
bool kept_something(const struct kept *k);
/* Of all disks: how much is copied, and their size. */
void kept_amount(const struct kept *k, uint64_t *bytes, uint64_t *size);
/* Whether @plan is another than what was begun; *what: how, for people. */
bool kept_differs(const struct kept *k, const struct plan *plan, char what[400]);

/* --- of a running move; also for the guard and recover --- */

/* The disks of the plan and how far they are safe, for an entry of the journal. */
struct json_object *kept_disks(struct move *m);
/* They were written down. */
void kept_noted(struct move *m);
/* Write "copied" now.  Errors: ERR_SYS. */
MUST_CHECK bool kept_write(struct move *m, struct err *e);
/* The same where they are less far than the journal says: if it cannot be told, nothing of
 * this move may be kept. */
MUST_CHECK bool kept_lower(struct move *m, struct err *e);
/* The same if the bulk has come far enough since the newest entry, or, with @all,
 * any further.  A journal that does not take it costs only what is copied again. */
void kept_note(struct move *m, bool all);
/* m->kept anew from the journal, and whether it is something to keep: the bitmaps may not
 * be removed then. */
bool kept_may(struct move *m);
/* m->keeping, the bitmaps are kept: the destination is told (unless @is_there is false, for
 * it cannot be reached), and "kept" is written.  One that cannot be told parks by itself.
 * false, and the bitmaps go: it is not to be kept after all. */
bool kept_make(struct move *m, bool is_there);

#endif
