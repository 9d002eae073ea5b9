/* src/virt/blkqmp.h - the QMP of blk.h as pure functions: arguments out, answers in.
 *
 * Builders return objects owned by the caller.  Parsers take what QEMU answered and check
 * it; what they return is copied.  Thread: any; nothing blocks.
 */
#ifndef SNM_VIRT_BLKQMP_H
#define SNM_VIRT_BLKQMP_H

#include "virt/blk.h"

enum {
    BLKQMP_NAME = 64,           /* bytes of a bitmap's or export's name with its NUL */
    BLKQMP_GRANULARITY = 65536, /* bytes per bit: 10 TiB take 20 MiB of bitmap */
    BLKQMP_CONNECTIONS =
        16, /* NBD connections for each disk; QEMU's limit counts all */
};

#define BLKQMP_OURS "snm-" /* what every name that we give begins with */

/* "snm-1a2b3c4d-" of a move's id; "snm-" when @id is NULL. */
void blkqmp_prefix(char out[32], const char *id);
bool blkqmp_has_prefix(const char *name, const char *prefix);
/* "snm-1a2b3c4d-3", the bitmap of a generation. */
void blkqmp_bitmap(const struct blk *b, unsigned generation, char out[BLKQMP_NAME]);
/* "snm-1a2b3c4d-vda-3", of the generation that is active while it exists; and the part of
 * it that all exports of the disk begin with. */
void blkqmp_export_name(const struct blk *b, size_t i, char out[BLKQMP_NAME]);
void blkqmp_export_prefix(const struct blk *b, size_t i, char out[BLKQMP_NAME]);

/* Arguments of "transaction", one or two actions per disk. */
struct json_object *blkqmp_start(const struct blk *b);  /* add 0 */
struct json_object *blkqmp_rotate(const struct blk *b); /* add g + 1, disable g */
/* Remove g - 2, where it is held, and the @newest frozen one, g - 1.  NULL: neither. */
struct json_object *blkqmp_drop(const struct blk *b, bool newest);

/* Arguments of nbd-server-start: on a path, or on a descriptor that getfd named. */
struct json_object *blkqmp_server_unix(const struct blk *b, const char *path);
struct json_object *blkqmp_server_fd(const struct blk *b, const char *fdname);
/* Arguments of block-export-add for disk @i, with the frozen bitmap if @bitmap. */
struct json_object *blkqmp_export(const struct blk *b, size_t i, bool bitmap);

/* Find the disk that libvirt calls @alias in the answer of query-block: the one whose qdev
 * has the alias as a component of its path.  Fills all of @out but ->target.
 * Errors: ERR_REFUSED not there, or without a medium; ERR_PROTO. */
MUST_CHECK bool blkqmp_find(struct json_object *blocks, const char *alias,
                            struct blkdisk *out, struct err *e);
/* Whether one of a list of objects has that "name" (query-commands). */
MUST_CHECK bool blkqmp_has_name(struct json_object *list, const char *name, bool *has,
                                struct err *e);
/* How many entries hold a medium that cannot be changed: disks and flash, not CD-ROMs. */
MUST_CHECK bool blkqmp_count(struct json_object *blocks, unsigned *n, struct err *e);
/* Whether the disks are what they were: same nodes and sizes, none added, and the active
 * bitmap recording on each; its count of dirty bytes goes to @dirty[], which may be NULL.
 * Errors: ERR_REFUSED "the disk set changed: ..."; ERR_PROTO. */
MUST_CHECK bool blkqmp_verify(const struct blk *b, struct json_object *blocks,
                              uint64_t *dirty, struct err *e);
/* How much the newest frozen bitmap marks on each disk.
 * Errors: ERR_REFUSED "the disk set changed: ..."; ERR_PROTO. */
MUST_CHECK bool blkqmp_frozen(const struct blk *b, struct json_object *blocks,
                              uint64_t *bytes, struct err *e);
/* Whether one bitmap of ->prefix is on every disk, of one generation and fit to be gone on
 * with: it records, nobody uses it, and it is as blkqmp_start() makes them.
 * Errors: ERR_REFUSED what is wrong; ERR_PROTO. */
MUST_CHECK bool blkqmp_adopt(const struct blk *b, struct json_object *blocks,
                             unsigned *generation, struct err *e);
/* Arguments of "transaction" that leave one bitmap of @prefix on each node of the answer of
 * query-named-block-nodes, the newest, which then marks what the others did.  *n: how many
 * nodes have one; NULL: there is nothing to merge.
 * Errors: ERR_REFUSED the newest does not record; ERR_PROTO. */
MUST_CHECK bool blkqmp_merge(struct json_object *nodes, const char *prefix,
                             struct json_object **args, unsigned *n, struct err *e);
/* image.virtual-size and image.actual-size of that disk. */
MUST_CHECK bool blkqmp_usage(const struct blk *b, struct json_object *blocks, size_t i,
                             uint64_t *virtual_bytes, uint64_t *allocated,
                             struct err *e);

/* Call @each for all exports of the answer of query-block-exports, or all bitmaps of
 * query-named-block-nodes, whose name begins with @prefix; @node is NULL for exports.
 * Errors: ERR_PROTO; and what @each said, at once. */
typedef bool (*blkqmp_each)(void *ctx, const char *node, const char *name,
                            struct err *e);
MUST_CHECK bool blkqmp_exports(struct json_object *exports, const char *prefix,
                               blkqmp_each each, void *ctx, struct err *e);
MUST_CHECK bool blkqmp_bitmaps(struct json_object *nodes, const char *prefix,
                               blkqmp_each each, void *ctx, struct err *e);

#endif
