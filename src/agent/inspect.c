#include "agent/inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/digests.h"
#include "agent/image.h"
#include "agent/writer.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"
#include "nbd-mirror/survey.h"
#include "virt/blk.h"

struct inspect {
    pthread_mutex_t lock;                /* guards all below */
    char id[PATHS_ID_LEN + 1], uuid[37]; /* ->id "": none was begun */
    bool live, marked, frozen;
    struct virt *virt;
    struct vdom *dom;
    struct blk blk;              /* ->live; */
    size_t at[DOMXML_DISKS_MAX]; /* image i is its disk at[i] */
    char exports[DOMXML_DISKS_MAX][64], bitmaps[DOMXML_DISKS_MAX][64];
    struct image images[DOMXML_DISKS_MAX];
    struct writer readers[DOMXML_DISKS_MAX];
    size_t n, nreaders;
};

struct inspect *inspect_new(void)
{
    struct inspect *const s = calloc(1, sizeof *s);

    if (s != NULL)
        pthread_mutex_init(&s->lock, NULL);
    return s;
}

static bool is_active(enum vdom_run run)
{
    return run != VDOM_NONE && run != VDOM_OFF;
}

/* *dom NULL: it is not there, or has no QEMU. */
static bool find_active(const char *uuid, struct virt **v, struct vdom **dom,
                        struct err *e)
{
    enum vdom_run run = VDOM_NONE;
    enum vdom_why why;

    if (!virt_open(NULL, v, e) || !vdom_find_uuid(*v, uuid, dom, e) ||
        (*dom != NULL && !vdom_state(*dom, &run, &why, e)))
        return false;
    if (is_active(run))
        return true;
    vdom_free(*dom);
    *dom = NULL;
    return true;
}

/* --- the end --- */

/* Exports, the server and the frozen bitmaps go; what these mark stays marked. */
static bool tidy(struct vdom *dom, const char *id, bool forget, struct err *e)
{
    if (!forget && blk_keep(dom, id, e))
        return true;
    return (forget || e->kind == ERR_REFUSED) && blk_cleanup(dom, id, e);
}

/* On a connection of its own: a libvirtd that was restarted has dropped the other. */
static bool tidy_again(const char *uuid, const char *id, bool forget, struct err *e)
{
    AUTO(virt_close) struct virt *v = NULL;
    AUTO(vdom_free) struct vdom *dom = NULL;

    return find_active(uuid, &v, &dom, e) && (dom == NULL || tidy(dom, id, forget, e));
}

/* All that is this process's. */
static void let_go(struct inspect *s)
{
    char dir[PATHS_MAX];

    for (size_t i = 0; i < s->nreaders; i++)
        writer_kill(&s->readers[i]);
    for (size_t i = 0; i < s->n; i++)
        image_close(&s->images[i]);
    if (s->id[0] != '\0') {
        paths_run_dir(dir, s->id);
        dir_remove(dir);
    }
    vdom_free(s->dom);
    virt_close(s->virt);
    s->dom = NULL;
    s->virt = NULL;
    s->n = s->nreaders = 0;
    s->id[0] = '\0';
    s->live = s->marked = s->frozen = false;
}

static bool stop(struct inspect *s, bool forget, struct err *e)
{
    const bool live = s->live;
    char id[sizeof s->id], uuid[sizeof s->uuid];

    memcpy(id, s->id, sizeof id);
    memcpy(uuid, s->uuid, sizeof uuid);
    let_go(s);
    return !live || tidy_again(uuid, id, forget, e);
}

void inspect_free(struct inspect *s)
{
    struct err e = { 0 };

    if (s == NULL)
        return;
    if (s->id[0] != '\0' && !stop(s, false, &e))
        log_warn("verify", "%s", e.msg);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

bool inspect_end(struct inspect *s, const char *id, struct json_object *body,
                 struct err *e)
{
    const char *uuid;
    bool forget;

    LOCK_SCOPE(&s->lock);
    if (!json_get_str(body, "uuid", &uuid, e) ||
        !json_get_bool(body, "forget", &forget, e))
        return false;
    if (strcmp(s->id, id) == 0)
        let_go(s);
    return tidy_again(uuid, id, forget, e);
}

/* --- through QEMU --- */

static bool other(struct err *e, const struct image *im, const char *how)
{
    err_set(e, ERR_REFUSED, 0, "disk %s %s", im->target, how);
    return err_next(e, "Its two copies cannot be compared any more.");
}

/* The domain's disks are those that were moved. */
static bool match(struct inspect *s, const struct dominfo *info, struct err *e)
{
    for (size_t i = 0; i < s->n; i++) {
        size_t at = 0;

        while (at < info->ndisks &&
               strcmp(info->disks[at].target, s->images[i].target) != 0)
            at++;
        if (at == info->ndisks)
            return other(e, &s->images[i], "is not there any more");
        if (strcmp(info->disks[at].path, s->images[i].path) != 0 ||
            strcmp(info->disks[at].format, s->images[i].format) != 0)
            return other(e, &s->images[i], "is another image now");
        s->at[i] = at;
    }
    return info->ndisks == s->n ||
           err_set(e, ERR_REFUSED, 0, "the domain has %zu disks, %zu were moved",
                   info->ndisks, s->n);
}

static bool know_disks(struct inspect *s, struct err *e)
{
    AUTO(dominfo_fini) struct dominfo info = { 0 };
    AUTO(mem_free) char *xml = NULL;

    if (!vdom_xml(s->dom, VDOM_XML_LIVE, &xml, e) ||
        !domxml_parse(xml, &info, NULL, e) || !match(s, &info, e) ||
        !blk_probe(s->dom, s->id, &info, &s->blk, e))
        return false;
    for (size_t i = 0; i < s->n; i++)
        if (s->blk.disks[s->at[i]].size != s->images[i].size)
            return other(e, &s->images[i], "has another size now");
    return true;
}

static bool export_all(struct inspect *s, struct err *e)
{
    for (size_t i = 0; i < s->n; i++)
        if (!blk_export(&s->blk, s->at[i], s->frozen, s->exports[i], s->bitmaps[i], e))
            return false;
    return true;
}

/* What an agent that was killed has left goes first. */
static bool open_live(struct inspect *s, struct err *why, struct err *e)
{
    if (!know_disks(s, e) || !tidy(s->dom, s->id, false, e))
        return false;
    s->live = true;
    s->marked = blk_bitmaps_adopt(&s->blk, why);
    return blk_server_start(&s->blk, e) && export_all(s, e);
}

static bool freeze(struct inspect *s, struct err *e)
{
    for (size_t i = 0; i < s->n; i++)
        if (!blk_unexport(&s->blk, s->at[i], e))
            return false;
    if (s->frozen && !blk_bitmaps_settle(&s->blk, e))
        return false;
    s->frozen = false;
    if (!blk_bitmaps_rotate(&s->blk, e))
        return false;
    s->frozen = true;
    return export_all(s, e);
}

bool inspect_marks(struct inspect *s, const char *id, struct json_object **reply,
                   struct err *e)
{
    LOCK_SCOPE(&s->lock);
    if (strcmp(s->id, id) != 0 || !s->marked)
        return err_set(e, ERR_REFUSED, 0, "nothing is marked here of %.8s", id);
    if (!freeze(s, e))
        return false;

    struct json_object *const disks = json_object_new_array();
    for (size_t i = 0; i < s->n; i++) {
        struct json_object *const o =
            json_add_str(json_new(), "target", s->images[i].target);

        json_add_str(json_add_str(o, "export", s->exports[i]), "bitmap", s->bitmaps[i]);
        json_object_array_add(disks, o);
    }
    *reply = json_add_obj(json_new(), "disks", disks);
    return true;
}

/* --- images that nobody uses --- */

static bool dial(void *ctx, int *fd, struct err *e)
{
    return writer_connect(ctx, fd, e);
}

static bool open_image(struct inspect *s, struct image *im, const char *dir,
                       struct err *e)
{
    struct writer *const w = &s->readers[s->nreaders];
    const struct mirror_side side = { dial, w, "" };
    struct survey found;

    im->fd = open(im->path, O_RDONLY | O_CLOEXEC);
    if (im->fd < 0)
        return err_set(e, ERR_REFUSED, errno, "disk %s: %s", im->target, im->path);
    if (!writer_start_reader(w, im, dir, e)) {
        e->kind = ERR_REFUSED; /* in use, or not an image of that format */
        return false;
    }
    s->nreaders++;
    if (!survey_run(&side, im->target, NULL, false, NULL, &found, e))
        return false;
    return found.size == im->size || other(e, im, "has another size now");
}

static bool open_images(struct inspect *s, struct err *e)
{
    char dir[PATHS_MAX];

    paths_run_dir(dir, s->id);
    if (!dir_private(PATHS_RUN, e) || !dir_private(dir, e))
        return false;
    for (size_t i = 0; i < s->n; i++)
        if (!open_image(s, &s->images[i], dir, e))
            return false;
    return true;
}

/* --- the beginning --- */

static bool parse(struct inspect *s, const char *id, struct json_object *body,
                  struct err *e)
{
    struct json_object *list;
    const char *uuid;

    if (!json_get_str(body, "uuid", &uuid, e) ||
        !json_get_array(body, "disks", &list, e))
        return false;
    if (strlen(uuid) >= sizeof s->uuid ||
        json_object_array_length(list) > DOMXML_DISKS_MAX)
        return err_set(e, ERR_PROTO, 0, "not a domain, or too many disks");
    snprintf(s->id, sizeof s->id, "%s", id);
    snprintf(s->uuid, sizeof s->uuid, "%s", uuid);
    for (; s->n < json_object_array_length(list); s->n++)
        if (!image_parse(json_object_array_get_idx(list, s->n), &s->images[s->n], e))
            return false;
    return true;
}

static bool begin(struct inspect *s, const char *id, struct json_object *body,
                  struct err *why, struct err *e)
{
    bool idle;

    if (!json_get_bool(body, "idle", &idle, e) || !parse(s, id, body, e) ||
        !find_active(s->uuid, &s->virt, &s->dom, e))
        return false;
    if (s->dom != NULL && idle)
        return err_set(e, ERR_REFUSED, 0, "the domain is active on this host");
    return s->dom != NULL ? open_live(s, why, e) : open_images(s, e);
}

bool inspect_begin(struct inspect *s, const char *id, struct json_object *body,
                   struct json_object **reply, struct err *e)
{
    struct err why = { 0 }, ignored;
    char shown[sizeof why.msg];

    LOCK_SCOPE(&s->lock);
    if (s->id[0] != '\0' && !stop(s, false, e))
        return false;
    if (!begin(s, id, body, &why, e)) {
        (void)!stop(s, false, &ignored); /* the next one tries again */
        return false;
    }
    *reply = json_add_bool(json_new(), "live", s->live);
    json_add_bool(*reply, "marked", s->marked);
    json_add_str(*reply, "why", log_clean(shown, sizeof shown, why.msg));
    return true;
}

/* --- channels --- */

bool inspect_is(struct inspect *s, const char *id)
{
    LOCK_SCOPE(&s->lock);
    return strcmp(s->id, id) == 0;
}

static bool find(const struct inspect *s, const char *target, size_t *i, struct err *e)
{
    for (*i = 0; *i < s->n; ++*i)
        if (strcmp(s->images[*i].target, target) == 0)
            return true;
    return err_set(e, ERR_REFUSED, 0, "there is no disk %.40s", target);
}

bool inspect_digest(struct inspect *s, const char *target, int *fd, struct err *e)
{
    size_t i;

    LOCK_SCOPE(&s->lock);
    return find(s, target, &i, e) &&
           (s->live ? digests_open(s->blk.sock, s->exports[i], fd, e)
                    : digests_open(s->readers[i].sock, "", fd, e));
}

bool inspect_connect(struct inspect *s, const char *target, int *fd, struct err *e)
{
    size_t i;

    LOCK_SCOPE(&s->lock);
    if (!find(s, target, &i, e))
        return false;
    return s->frozen ? unix_connect(s->blk.sock, fd, e)
                     : err_set(e, ERR_REFUSED, 0, "disk %s: nothing is frozen", target);
}
