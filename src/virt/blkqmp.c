#include "virt/blkqmp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* ---- names ------------------------------------------------------------------------- */

void blkqmp_prefix(char out[32], const char *id)
{
    if (id == NULL)
        snprintf(out, 32, BLKQMP_OURS);
    else
        snprintf(out, 32, BLKQMP_OURS "%.8s-", id);
}

bool blkqmp_has_prefix(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

void blkqmp_bitmap(const struct blk *b, unsigned generation, char out[BLKQMP_NAME])
{
    snprintf(out, BLKQMP_NAME, "%s%u", b->prefix, generation);
}

void blkqmp_export_prefix(const struct blk *b, size_t i, char out[BLKQMP_NAME])
{
    snprintf(out, BLKQMP_NAME, "%s%s-", b->prefix, b->disks[i].target);
}

void blkqmp_export_name(const struct blk *b, size_t i, char out[BLKQMP_NAME])
{
    snprintf(out, BLKQMP_NAME, "%.13s%s-%u", b->prefix, b->disks[i].target,
             b->generation);
}

/* ---- arguments --------------------------------------------------------------------- */

static struct json_object *strings(const char *one)
{
    struct json_object *const a = json_object_new_array();

    json_object_array_add(a, json_object_new_string(one));
    return a;
}

/* {"node": N, "name": B}, which all bitmap commands take. */
static struct json_object *bitmap_on(const char *node, const char *name)
{
    return json_add_str(json_add_str(json_new(), "node", node), "name", name);
}

static struct json_object *bitmap_of(const struct blkdisk *d, const char *name)
{
    return bitmap_on(d->node, name);
}

static void action(struct json_object *actions, const char *type,
                   struct json_object *data)
{
    json_object_array_add(
        actions, json_add_obj(json_add_str(json_new(), "type", type), "data", data));
}

/* Not persistent: it works on every format and dies with QEMU. */
static void add_bitmap(struct json_object *actions, const struct blkdisk *d,
                       const char *name)
{
    struct json_object *const data =
        json_add_u64(bitmap_of(d, name), "granularity", BLKQMP_GRANULARITY);

    action(actions, "block-dirty-bitmap-add", json_add_bool(data, "persistent", false));
}

static void merge_bitmap(struct json_object *actions, const char *node,
                         const char *from, const char *into)
{
    struct json_object *const data =
        json_add_str(json_add_str(json_new(), "node", node), "target", into);

    action(actions, "block-dirty-bitmap-merge",
           json_add_obj(data, "bitmaps", strings(from)));
}

static struct json_object *transaction(struct json_object *actions)
{
    return json_add_obj(json_new(), "actions", actions);
}

struct json_object *blkqmp_start(const struct blk *b)
{
    struct json_object *const actions = json_object_new_array();
    char name[BLKQMP_NAME];

    blkqmp_bitmap(b, 0, name);
    for (size_t i = 0; i < b->ndisks; i++)
        add_bitmap(actions, &b->disks[i], name);
    return transaction(actions);
}

struct json_object *blkqmp_rotate(const struct blk *b)
{
    struct json_object *const actions = json_object_new_array();
    char now[BLKQMP_NAME], next[BLKQMP_NAME];

    blkqmp_bitmap(b, b->generation, now);
    blkqmp_bitmap(b, b->generation + 1, next);
    for (size_t i = 0; i < b->ndisks; i++) {
        add_bitmap(actions, &b->disks[i], next);
        action(actions, "block-dirty-bitmap-disable", bitmap_of(&b->disks[i], now));
    }
    return transaction(actions);
}

static void drop(struct json_object *actions, const struct blk *b, unsigned generation)
{
    char name[BLKQMP_NAME];

    blkqmp_bitmap(b, generation, name);
    for (size_t i = 0; i < b->ndisks; i++)
        action(actions, "block-dirty-bitmap-remove", bitmap_of(&b->disks[i], name));
}

struct json_object *blkqmp_drop(const struct blk *b, bool newest)
{
    AUTO(json_put) struct json_object *actions = json_object_new_array();

    if (b->held)
        drop(actions, b, b->generation - 2);
    if (newest)
        drop(actions, b, b->generation - 1);
    return b->held || newest ? transaction(ptr_steal(&actions)) : NULL;
}

static struct json_object *server(const struct blk *b, const char *type,
                                  const char *key, const char *value)
{
    struct json_object *const data = json_add_str(json_new(), key, value);
    struct json_object *const addr =
        json_add_obj(json_add_str(json_new(), "type", type), "data", data);

    return json_add_u64(json_add_obj(json_new(), "addr", addr), "max-connections",
                        (b->ndisks + 1) * BLKQMP_CONNECTIONS);
}

struct json_object *blkqmp_server_unix(const struct blk *b, const char *path)
{
    return server(b, "unix", "path", path);
}

struct json_object *blkqmp_server_fd(const struct blk *b, const char *fdname)
{
    return server(b, "fd", "str", fdname);
}

struct json_object *blkqmp_export(const struct blk *b, size_t i, bool bitmap)
{
    struct json_object *const o = json_add_str(json_new(), "type", "nbd");
    char name[BLKQMP_NAME];

    blkqmp_export_name(b, i, name);
    json_add_str(o, "id", name);
    json_add_str(o, "name", name);
    json_add_str(o, "node-name", b->disks[i].node);
    /* A writable one would keep QEMU from inactivating the disk at its switchover. */
    json_add_bool(o, "writable", false);
    if (bitmap) {
        blkqmp_bitmap(b, b->generation - 1, name);
        json_add_obj(o, "bitmaps", strings(name));
    }
    return o;
}

/* ---- query-block ------------------------------------------------------------------- */

static bool need_array(struct json_object *o, const char *what, struct err *e)
{
    return json_object_is_type(o, json_type_array) ||
           err_set(e, ERR_PROTO, 0, "%s did not give a list", what);
}

static bool need_object(struct json_object *o, const char *what, struct err *e)
{
    return json_object_is_type(o, json_type_object) ||
           err_set(e, ERR_PROTO, 0, "%s gave a list of something else than objects",
                   what);
}

/* What query-named-block-nodes has answered: an array of objects. */
static bool need_nodes(struct json_object *nodes, struct err *e)
{
    if (!need_array(nodes, "query-named-block-nodes", e))
        return false;
    for (size_t i = 0; i < json_object_array_length(nodes); i++)
        if (!need_object(json_object_array_get_idx(nodes, i), "query-named-block-nodes",
                         e))
            return false;
    return true;
}

/* Whether @alias is one of the components of the path @qdev. */
static bool has_component(const char *qdev, const char *alias)
{
    const size_t len = strlen(alias);

    for (const char *at = qdev; at != NULL; at = strchr(at, '/')) {
        at += *at == '/';
        if (strncmp(at, alias, len) == 0 && (at[len] == '/' || at[len] == '\0'))
            return true;
    }
    return false;
}

static bool copy(char *dst, size_t size, const char *src, const char *what,
                 struct err *e)
{
    const size_t len = strlen(src);

    if (len >= size)
        return err_set(e, ERR_PROTO, 0, "%s of %zu bytes", what, len);
    memcpy(dst, src, len + 1);
    return true;
}

/* A string of an object, borrowed from it; NULL: it has none. */
static const char *text_in(struct json_object *o, const char *key)
{
    struct json_object *v;

    return json_object_object_get_ex(o, key, &v) &&
                   json_object_is_type(v, json_type_string)
               ? json_object_get_string(v)
               : NULL;
}

/* Entries look like { "qdev": Q, "removable": B, "inserted": { "node-name": N, "image":
 * { "virtual-size": S, "actual-size": A }, "dirty-bitmaps": [...] } }; a drive without a
 * medium has no inserted, something built in has no qdev. */
static const char *qdev_of(struct json_object *entry)
{
    const char *const qdev = text_in(entry, "qdev");

    return qdev != NULL ? qdev : "";
}

static bool read_disk(struct json_object *entry, struct blkdisk *out, struct err *e)
{
    struct json_object *inserted, *image;
    const char *node;

    if (!copy(out->qdev, sizeof out->qdev, qdev_of(entry), "qdev", e))
        return false;
    if (!json_has(entry, "inserted"))
        return err_set(e, ERR_REFUSED, 0, "%s has no medium", out->qdev);
    return json_get_object(entry, "inserted", &inserted, e) &&
           json_get_str(inserted, "node-name", &node, e) &&
           copy(out->node, sizeof out->node, node, "node-name", e) &&
           json_get_object(inserted, "image", &image, e) &&
           json_get_u64(image, "virtual-size", &out->size, e);
}

bool blkqmp_find(struct json_object *blocks, const char *alias, struct blkdisk *out,
                 struct err *e)
{
    struct json_object *hit = NULL;

    if (!need_array(blocks, "query-block", e))
        return false;
    for (size_t i = 0; i < json_object_array_length(blocks); i++) {
        struct json_object *const entry = json_object_array_get_idx(blocks, i);
        if (!need_object(entry, "query-block", e))
            return false;
        if (!has_component(qdev_of(entry), alias))
            continue;
        if (hit != NULL)
            return err_set(e, ERR_PROTO, 0, "QEMU has two block devices named %s",
                           alias);
        hit = entry;
    }
    if (hit == NULL)
        return err_set(e, ERR_REFUSED, 0, "QEMU has no block device named %s", alias);
    return read_disk(hit, out, e) || err_wrap(e, "block device %s", alias);
}

static bool name_is(struct json_object *entry, const char *name)
{
    const char *const is = text_in(entry, "name");

    return is != NULL && strcmp(is, name) == 0;
}

bool blkqmp_has_name(struct json_object *list, const char *name, bool *has,
                     struct err *e)
{
    *has = false;
    if (!need_array(list, "query-commands", e))
        return false;
    for (size_t i = 0; i < json_object_array_length(list) && !*has; i++)
        *has = name_is(json_object_array_get_idx(list, i), name);
    return true;
}

bool blkqmp_count(struct json_object *blocks, unsigned *n, struct err *e)
{
    *n = 0;
    if (!need_array(blocks, "query-block", e))
        return false;
    for (size_t i = 0; i < json_object_array_length(blocks); i++) {
        struct json_object *const entry = json_object_array_get_idx(blocks, i);
        bool removable;
        if (!need_object(entry, "query-block", e) ||
            !json_get_bool(entry, "removable", &removable, e))
            return false;
        *n += !removable && json_has(entry, "inserted");
    }
    return true;
}

/* ---- verification ------------------------------------------------------------------ */

static bool changed(struct err *e, const struct blkdisk *d, const char *how)
{
    err_set(e, ERR_REFUSED, 0, "the disk set changed: %s %s", d->target, how);
    return err_next(e,
                    "Run the command again; until it ends, add or remove no disk, and "
                    "take no snapshot");
}

/* The entry with that exact qdev; NULL: none. */
static struct json_object *entry_of(struct json_object *blocks, const char *qdev)
{
    for (size_t i = 0; i < json_object_array_length(blocks); i++) {
        struct json_object *const entry = json_object_array_get_idx(blocks, i);
        if (strcmp(qdev_of(entry), qdev) == 0)
            return entry;
    }
    return NULL;
}

/* The bitmaps of an entry of query-block; NULL: none. */
static struct json_object *bitmaps_in(struct json_object *entry)
{
    struct json_object *inserted, *list;

    return json_object_object_get_ex(entry, "inserted", &inserted) &&
                   json_object_object_get_ex(inserted, "dirty-bitmaps", &list) &&
                   json_object_is_type(list, json_type_array)
               ? list
               : NULL;
}

/* The one named @name; NULL: none. */
static struct json_object *bitmap_in(struct json_object *entry, const char *name)
{
    struct json_object *const list = bitmaps_in(entry);

    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        struct json_object *const bitmap = json_object_array_get_idx(list, i);
        if (name_is(bitmap, name))
            return bitmap;
    }
    return NULL;
}

static bool verify_disk(const struct blk *b, size_t i, struct json_object *blocks,
                        uint64_t *dirty, struct err *e)
{
    const struct blkdisk *const d = &b->disks[i];
    struct json_object *const entry = entry_of(blocks, d->qdev);
    struct json_object *bitmap;
    struct blkdisk now;
    char name[BLKQMP_NAME];
    bool recording;

    if (entry == NULL || !json_has(entry, "inserted"))
        return changed(e, d, "is gone");
    if (!read_disk(entry, &now, e))
        return err_wrap(e, "disk %s", d->target);
    if (strcmp(now.node, d->node) != 0)
        return changed(e, d, "has another image on top (a snapshot or block job)");
    if (now.size != d->size)
        return changed(e, d, "has another size");

    blkqmp_bitmap(b, b->generation, name);
    bitmap = bitmap_in(entry, name);
    if (bitmap == NULL)
        return changed(e, d, "has lost its dirty bitmap");
    if (!json_get_bool(bitmap, "recording", &recording, e) ||
        !json_get_u64(bitmap, "count", dirty, e))
        return err_wrap(e, "bitmap of %s", d->target);
    return recording || changed(e, d, "has a dirty bitmap that does not record");
}

bool blkqmp_verify(const struct blk *b, struct json_object *blocks, uint64_t *dirty,
                   struct err *e)
{
    uint64_t count;
    unsigned n;

    if (!blkqmp_count(blocks, &n, e))
        return false;
    for (size_t i = 0; i < b->ndisks; i++) {
        if (!verify_disk(b, i, blocks, &count, e))
            return false;
        if (dirty != NULL)
            dirty[i] = count;
    }
    if (n == b->nfixed)
        return true;
    err_set(e, ERR_REFUSED, 0, "the disk set changed: %u block devices, there were %u",
            n, b->nfixed);
    return err_next(e,
                    "Run the command again, and add or remove no disk until it ends");
}

bool blkqmp_frozen(const struct blk *b, struct json_object *blocks, uint64_t *bytes,
                   struct err *e)
{
    char name[BLKQMP_NAME];

    blkqmp_bitmap(b, b->generation - 1, name);
    if (!need_array(blocks, "query-block", e))
        return false;
    for (size_t i = 0; i < b->ndisks; i++) {
        struct json_object *const entry = entry_of(blocks, b->disks[i].qdev);
        struct json_object *const bitmap =
            entry != NULL ? bitmap_in(entry, name) : NULL;

        if (bitmap == NULL)
            return changed(e, &b->disks[i], "has lost its dirty bitmap");
        if (!json_get_u64(bitmap, "count", &bytes[i], e))
            return err_wrap(e, "bitmap of %s", b->disks[i].target);
    }
    return true;
}

/* "snm-1a2b3c4d-3" with that prefix: 3.  false: another name. */
static bool generation_of(struct json_object *bitmap, const char *prefix, unsigned *out)
{
    const char *const name = text_in(bitmap, "name");
    char back[BLKQMP_NAME];

    if (name == NULL || !blkqmp_has_prefix(name, prefix))
        return false;
    *out = (unsigned)strtoul(name + strlen(prefix), NULL, 10);
    snprintf(back, sizeof back, "%.32s%u", prefix, *out);
    return strcmp(back, name) == 0;
}

/* Whether it can be relied on for what it has not marked. */
static bool is_sound(struct json_object *bitmap, struct err *e)
{
    bool recording, busy, persistent, inconsistent = false;
    uint64_t granularity;

    if (!json_get_bool(bitmap, "recording", &recording, e) ||
        !json_get_bool(bitmap, "busy", &busy, e) ||
        !json_get_bool(bitmap, "persistent", &persistent, e) ||
        !json_get_u64(bitmap, "granularity", &granularity, e) ||
        (json_has(bitmap, "inconsistent") &&
         !json_get_bool(bitmap, "inconsistent", &inconsistent, e)))
        return false;
    if (recording && !busy && !persistent && !inconsistent &&
        granularity == BLKQMP_GRANULARITY)
        return true;
    return err_set(e, ERR_REFUSED, 0, "its dirty bitmap is not as it was left");
}

/* Exactly one of ours; more were left by something that was cut short. */
static bool adopt_disk(const struct blk *b, const struct blkdisk *d,
                       struct json_object *blocks, unsigned *generation, struct err *e)
{
    struct json_object *const entry = entry_of(blocks, d->qdev);
    struct json_object *hit = NULL;
    unsigned g;

    if (entry == NULL)
        return changed(e, d, "is gone");
    struct json_object *const list = bitmaps_in(entry);
    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        struct json_object *const bitmap = json_object_array_get_idx(list, i);

        if (!generation_of(bitmap, b->prefix, &g))
            continue;
        if (hit != NULL)
            return err_set(e, ERR_REFUSED, 0, "it has more than one dirty bitmap");
        hit = bitmap;
        *generation = g;
    }
    if (hit == NULL)
        return err_set(e, ERR_REFUSED, 0, "its dirty bitmap is gone");
    return is_sound(hit, e);
}

bool blkqmp_adopt(const struct blk *b, struct json_object *blocks, unsigned *generation,
                  struct err *e)
{
    unsigned g = 0;

    if (!need_array(blocks, "query-block", e))
        return false;
    if (b->ndisks == 0)
        return err_set(e, ERR_REFUSED, 0, "no disks");
    for (size_t i = 0; i < b->ndisks; i++) {
        if (!adopt_disk(b, &b->disks[i], blocks, &g, e))
            return err_wrap(e, "disk %s", b->disks[i].target);
        if (i > 0 && g != *generation)
            return err_set(e, ERR_REFUSED, 0, "the dirty bitmaps are not of one round");
        *generation = g;
    }
    return true;
}

bool blkqmp_usage(const struct blk *b, struct json_object *blocks, size_t i,
                  uint64_t *virtual_bytes, uint64_t *allocated, struct err *e)
{
    struct json_object *entry, *inserted, *image;

    if (!need_array(blocks, "query-block", e))
        return false;
    entry = entry_of(blocks, b->disks[i].qdev);
    if (entry == NULL || !json_has(entry, "inserted"))
        return changed(e, &b->disks[i], "is gone");
    if (!json_get_object(entry, "inserted", &inserted, e) ||
        !json_get_object(inserted, "image", &image, e) ||
        !json_get_u64(image, "virtual-size", virtual_bytes, e))
        return err_wrap(e, "disk %s", b->disks[i].target);
    *allocated = *virtual_bytes; /* where QEMU does not know: the worst case */
    return !json_has(image, "actual-size") ||
           json_get_u64(image, "actual-size", allocated, e);
}

/* ---- what is ours ------------------------------------------------------------------ */

bool blkqmp_exports(struct json_object *exports, const char *prefix, blkqmp_each each,
                    void *ctx, struct err *e)
{
    const char *id;

    if (!need_array(exports, "query-block-exports", e))
        return false;
    for (size_t i = 0; i < json_object_array_length(exports); i++) {
        struct json_object *const x = json_object_array_get_idx(exports, i);
        if (!need_object(x, "query-block-exports", e) || !json_get_str(x, "id", &id, e))
            return false;
        if (blkqmp_has_prefix(id, prefix) && !each(ctx, NULL, id, e))
            return false;
    }
    return true;
}

static bool node_bitmaps(struct json_object *node, const char *prefix, blkqmp_each each,
                         void *ctx, struct err *e)
{
    struct json_object *list;
    const char *node_name, *name;

    if (!json_has(node, "dirty-bitmaps"))
        return true;
    if (!json_get_array(node, "dirty-bitmaps", &list, e) ||
        !json_get_str(node, "node-name", &node_name, e))
        return false;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *const bitmap = json_object_array_get_idx(list, i);
        if (!need_object(bitmap, "dirty-bitmaps", e))
            return false;
        if (!json_has(bitmap, "name")) /* a block job's own */
            continue;
        if (!json_get_str(bitmap, "name", &name, e) ||
            (blkqmp_has_prefix(name, prefix) && !each(ctx, node_name, name, e)))
            return false;
    }
    return true;
}

/* Of one node: all of ours into the newest. */
static bool merge_node(struct json_object *node, const char *prefix,
                       struct json_object *actions, unsigned *n, struct err *e)
{
    struct json_object *list, *newest = NULL;
    const char *node_name, *into, *name;
    unsigned g, most = 0;
    bool recording;

    if (!json_has(node, "dirty-bitmaps"))
        return true;
    if (!json_get_array(node, "dirty-bitmaps", &list, e) ||
        !json_get_str(node, "node-name", &node_name, e))
        return false;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *const bitmap = json_object_array_get_idx(list, i);

        if (generation_of(bitmap, prefix, &g) && (newest == NULL || g > most)) {
            newest = bitmap;
            most = g;
        }
    }
    if (newest == NULL)
        return true;
    ++*n;
    if (!json_get_str(newest, "name", &into, e) ||
        !json_get_bool(newest, "recording", &recording, e))
        return false;
    if (!recording)
        return err_set(e, ERR_REFUSED, 0, "bitmap %s does not record", into);
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *const bitmap = json_object_array_get_idx(list, i);

        if (bitmap == newest || !generation_of(bitmap, prefix, &g))
            continue;
        if (!json_get_str(bitmap, "name", &name, e))
            return false;
        merge_bitmap(actions, node_name, name, into);
        action(actions, "block-dirty-bitmap-remove", bitmap_on(node_name, name));
    }
    return true;
}

bool blkqmp_merge(struct json_object *nodes, const char *prefix,
                  struct json_object **args, unsigned *n, struct err *e)
{
    AUTO(json_put) struct json_object *actions = json_object_new_array();

    *n = 0;
    *args = NULL;
    if (!need_nodes(nodes, e))
        return false;
    for (size_t i = 0; i < json_object_array_length(nodes); i++)
        if (!merge_node(json_object_array_get_idx(nodes, i), prefix, actions, n, e))
            return false;
    if (json_object_array_length(actions) > 0)
        *args = transaction(ptr_steal(&actions));
    return true;
}

bool blkqmp_bitmaps(struct json_object *nodes, const char *prefix, blkqmp_each each,
                    void *ctx, struct err *e)
{
    if (!need_nodes(nodes, e))
        return false;
    for (size_t i = 0; i < json_object_array_length(nodes); i++)
        if (!node_bitmaps(json_object_array_get_idx(nodes, i), prefix, each, ctx, e))
            return false;
    return true;
}
