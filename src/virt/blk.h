/* src/virt/blk.h - dirty bitmaps and read-only NBD exports of a running QEMU, by QMP.
 *
 * All names begin with "snm-<id8>-" (the first 8 hex digits of the move's id), so that
 * blk_cleanup() of whoever comes later finds them.  How they are used: the head of migrate/copy.c.
 * Thread and connection: those of the vdom; blk_activate() from another thread too.  Errors: ERR_VIRT; ERR_REFUSED where the disk
 * set is not what it was ("the disk set changed: ...").
 */
#ifndef SNM_VIRT_BLK_H
#define SNM_VIRT_BLK_H

#include "virt/virt.h"

struct blkdisk {
    char target[32];
    char qdev[256]; /* of query-block; a path ending in the alias */
    char node[64];  /* node-name of the root that the guest writes to */
    uint64_t size;  /* virtual, bytes */
};

struct blk {
    struct vdom *dom; /* borrowed */
    char prefix[32];  /* "snm-1a2b3c4d-" */
    char sock[108];   /* of the NBD server in QEMU; "" until started */
    bool server_ours;
    unsigned generation; /* of the bitmaps: round N's frozen bitmap is N - 1, */
    bool held;           /* and N - 2 is there, too */
    uint64_t frozen[DOMXML_DISKS_MAX]; /* bytes that N - 1 marks */
    bool has_set_active; /* blockdev-set-active is in the schema (QEMU 10) */
    unsigned nfixed; /* block devices in QEMU whose medium cannot be changed: ours, and
                            flash; one more or less means that the disk set changed */
    struct blkdisk disks[DOMXML_DISKS_MAX];
    size_t ndisks;
};

/* Look the disks of @info up (query-block by alias); fill sizes and nodes.
 * Changes nothing.  Errors: ERR_REFUSED a disk without node, an NBD server or export that
 * is not ours, a block job. */
MUST_CHECK bool blk_probe(struct vdom *dom, const char *id, const struct dominfo *info,
                          struct blk *out, struct err *e);

/* Virtual and allocated bytes of one disk's image (query-named-block-nodes / query-block:
 * image.virtual-size, image.actual-size). */
MUST_CHECK bool blk_usage(struct blk *b, size_t disk, uint64_t *virtual_bytes,
                          uint64_t *allocated, struct err *e);

/* nbd-server-start on a socket in the domain's own directory (read from the status file
 * /run/libvirt/qemu/<name>.xml), max-connections given; where that fails, a listening
 * socket of ours passed with getfd.  b->sock says where to connect. */
MUST_CHECK bool blk_server_start(struct blk *b, struct err *e);

/* One transaction: a bitmap on every disk, generation 0; all share one instant. */
MUST_CHECK bool blk_bitmaps_start(struct blk *b, struct err *e);
/* The same with nothing but what it needs: for a guest that waits.  Those that were made
 * before will do.  Errors: ERR_VIRT. */
MUST_CHECK bool blk_mark(struct vdom *dom, const char *id, const struct dominfo *info,
                         struct err *e);
/* One transaction: a new bitmap on every disk, the old one disabled.  Verifies afterwards
 * that nodes, sizes and bitmaps are as expected, else ERR_REFUSED; fills b->frozen. */
MUST_CHECK bool blk_bitmaps_rotate(struct blk *b, struct err *e);
/* After a failure, when it is not known how far a rotation or a round came: all frozen
 * bitmaps are merged into the one that records, and removed.  Errors: ERR_REFUSED also where
 * none records. */
MUST_CHECK bool blk_bitmaps_settle(struct blk *b, struct err *e);
/* Go on with the bitmaps that blk_keep() left: changes nothing in QEMU.
 * Errors: ERR_REFUSED they are not there, or not fit. */
MUST_CHECK bool blk_bitmaps_adopt(struct blk *b, struct err *e);
/* The round was copied and flushed: remove the frozen bitmaps; but with @hold the newest
 * stays until the same is called after the next rotation (some of it waits). */
MUST_CHECK bool blk_bitmap_drop(struct blk *b, bool hold, struct err *e);
/* Dirty bytes of the active (recording) bitmap of each disk, in the order of ->disks;
 * also verifies that the disk set is unchanged. */
MUST_CHECK bool blk_dirty(struct blk *b, uint64_t *bytes, struct err *e);

/* Export disk @i read-only, with its frozen bitmap if @bitmap, under *name; *bitmap_name is
 * what qemu:dirty-bitmap: wants.  Both in the caller's 64-byte buffers. */
MUST_CHECK bool blk_export(struct blk *b, size_t i, bool bitmap, char name[64],
                           char bitmap_name[64], struct err *e);
/* Delete the export and wait until query-block-exports no longer lists it. */
MUST_CHECK bool blk_unexport(struct blk *b, size_t i, struct err *e);
/* EPERM on BLOCK_STATUS (QEMU 10, inactive node): activate the node again; false with
 * ERR_VIRT where the command does not exist. */
MUST_CHECK bool blk_activate(struct blk *b, size_t i, struct err *e);

/* Remove all exports and bitmaps whose name has our prefix ("snm-" of any move when @id is
 * NULL) and the limits in throttle groups named so, then the NBD server if it is ours and no export is left.  For the end, for undo,
 * for the guard.  Goes on after a failure and returns the first. */
MUST_CHECK bool blk_cleanup(struct vdom *dom, const char *id, struct err *e);
/* The same, but one bitmap of the move @id stays on each disk and goes on recording: it
 * marks all that any bitmap of it did.  Errors: ERR_REFUSED also where there is none. */
MUST_CHECK bool blk_keep(struct vdom *dom, const char *id, struct err *e);
/* blk_cleanup() of all moves, but that the bitmaps of @spared stay; NULL: of none. */
MUST_CHECK bool blk_cleanup_others(struct vdom *dom, const char *spared, struct err *e);
/* blk_cleanup() where QEMU is dead, and all but the server's socket went with it. */
void blk_forget(const char *id);

#endif
