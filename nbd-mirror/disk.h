/* nbd-mirror/disk.h - all that the engine knows of a disk: one connection to one side.
 *
 * Back ends: disk-nbd.c (libnbd), tests/lib/disk-mem.c (memory, with faults).
 *
 * A command is started and completes later: the back end only records that, from inside
 * ->start or ->ready, and the owner picks it up with disk_pop().  (libnbd runs callbacks
 * inside its lock: calling back into the handle there would deadlock.)
 *
 * Thread: the lane that owns the disk.
 */
#ifndef NBD_MIRROR_DISK_H
#define NBD_MIRROR_DISK_H

#include <stdint.h>

#include "base/err.h"

struct cancel;
struct disk;
struct extents;
struct pollfd;

enum disk_op { DISK_READ, DISK_WRITE, DISK_ZERO, DISK_STATUS, DISK_FLUSH, DISK_OPS };

/* One command; it and its buffer belong to the disk until disk_pop() gives it back, or
 * the disk is closed. */
struct disk_cmd {
    enum disk_op op;
    uint64_t off;
    uint32_t len;          /* 0 for DISK_FLUSH */
    uint8_t *buf;          /* DISK_READ, DISK_WRITE: @len bytes */
    struct extents *map;   /* DISK_STATUS: where the answer goes */
    int os;                /* of a completed command: 0, or the server's errno */
    int64_t cookie;        /* the back end's */
    struct disk *disk;     /* set by disk_start() */
    struct disk_cmd *next; /* in ->done */
};

struct disk_ops {
    /* Start @cmd.  On failure it will not complete. */
    bool (*start)(struct disk *d, struct disk_cmd *cmd, struct err *e);
    /* What poll(2) must wait for.  Errors: the connection is lost; all commands have
     * completed, with an errno. */
    bool (*events)(struct disk *d, struct pollfd *p, struct err *e);
    /* After poll(2): go on.  Errors: as above. */
    bool (*ready)(struct disk *d, short revents, struct err *e);
    /* A last word on a command that disk_pop() is about to give back; may be NULL. */
    void (*finish)(struct disk *d, struct disk_cmd *cmd);
    /* Abandons what is in flight: no command completes any more, no buffer is touched. */
    void (*close)(struct disk *d);
};

struct disk {
    const struct disk_ops *ops;
    const char *side;   /* "src" or "dst", for messages */
    uint64_t size;      /* bytes */
    uint32_t block_min; /* a power of two, at most 64 KiB; 1: any access is fine */
    uint32_t block_max; /* bytes of the largest READ or WRITE */
    bool multi_conn;    /* a flush covers what other connections wrote */
    bool read_only, can_zero, can_flush;
    bool has_alloc;     /* DISK_STATUS tells base:allocation */
    bool dead;          /* the connection is lost */
    unsigned in_flight; /* started and not popped */
    struct disk_cmd *done, **done_tail;
};

/* The part of a back end's constructor that is the same for all. */
void disk_init(struct disk *d, const struct disk_ops *ops, const char *side);
void disk_close(struct disk *d); /* NULL is fine */
void disk_close_auto(struct disk **d);

/* Errors: named with side, command, offset and length. */
MUST_CHECK bool disk_start(struct disk *d, struct disk_cmd *cmd, struct err *e);
/* For back ends: @cmd has completed, @os as above. */
void disk_complete(struct disk_cmd *cmd, int os);
/* The oldest completed command, or NULL. */
struct disk_cmd *disk_pop(struct disk *d);

/* Whether the server has answered @cmd with an errno of its own, and lives on. */
bool disk_refused(const struct disk_cmd *cmd);

/* "dst: write of 262144 bytes at 1048576: No space left on device", or how the connection
 * was lost; returns false. */
bool disk_cmd_err(const struct disk_cmd *cmd, struct err *e);

/* Do one command and nothing else, to the end.  Errors: as above, or ERR_CANCELLED: then
 * the command is still in flight and the disk can only be closed. */
MUST_CHECK bool disk_do(struct disk *d, struct disk_cmd *cmd,
                        const struct cancel *cancel, struct err *e);
/* Let the commands in flight complete, whatever comes of them, for at most @ms.  false:
 * they did not, and the disk can only be closed. */
MUST_CHECK bool disk_drain(struct disk *d, int ms, const struct cancel *cancel);

#endif
