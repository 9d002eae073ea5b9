/* src/agent/inspect.h - the disks of a domain of this host, for "snmigrate verify" to compare.
 *
 * Of a domain that is active they are read through its own QEMU: read-only exports, and what
 * the bitmaps of --verify-later mark, which go on recording all the while.  Else through one
 * "qemu-nbd --read-only" per image.  The guest is not stopped and nothing is written.
 *
 *   inspect_begin()   exports or servers are there, and digests can be asked for
 *   inspect_marks()   what is marked so far is frozen, and exported; again: so far
 *   inspect_end()     they are gone; the bitmaps stay, unless they are to be forgotten
 *
 * An agent has one at a time, and ends it with its link.  What one that was killed has left
 * (its servers die with it, what is in QEMU does not) is removed by the next begin or end of
 * the same move.  Thread: any; they wait for each other.  Blocks: on libvirt and QEMU.
 */
#ifndef SNM_AGENT_INSPECT_H
#define SNM_AGENT_INSPECT_H

#include "base/json.h"

struct inspect;

struct inspect *inspect_new(void); /* NULL: out of memory */
/* Ends it, if it was begun. */
void inspect_free(struct inspect *s);

/* @body: {uuid, idle, disks: [{target, path, format, size}]}; *reply: {live, marked, why}:
 * read through QEMU; there are bitmaps, and if not, why.  @idle: the domain must not be
 * active.  Errors: ERR_REFUSED it is; the disks are not those; another tool's export or block
 * job, an image that is in use; ERR_PROTO; ERR_VIRT; ERR_SYS. */
MUST_CHECK bool inspect_begin(struct inspect *s, const char *id,
                              struct json_object *body, struct json_object **reply,
                              struct err *e);
/* *reply: {disks: [{target, export, bitmap}]}.  Errors: ERR_REFUSED not begun, not marked, the
 * disk set changed; ERR_VIRT. */
MUST_CHECK bool inspect_marks(struct inspect *s, const char *id,
                              struct json_object **reply, struct err *e);
/* @body: {uuid, forget}.  Also of one that another agent had begun.  Errors: ERR_VIRT. */
MUST_CHECK bool inspect_end(struct inspect *s, const char *id, struct json_object *body,
                            struct err *e);

/* Whether @id is the one that was begun. */
bool inspect_is(struct inspect *s, const char *id);
/* As digests_open(), of that disk. */
MUST_CHECK bool inspect_digest(struct inspect *s, const char *target, int *fd,
                               struct err *e);
/* A connection to the NBD server that has the marks of that disk. */
MUST_CHECK bool inspect_connect(struct inspect *s, const char *target, int *fd,
                                struct err *e);

#endif
