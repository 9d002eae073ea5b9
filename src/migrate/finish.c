/* Finish: the guest runs at the destination; nothing here may fail the move, what could not
 * be done is listed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"
#include "migrate/move-int.h"
#include "migrate/moved.h"
#include "migrate/request.h"

enum {
    LIBVIRT_END_MS = 30000,
    GREET_MS = 15000, /* a guest agent sets the clock in a few seconds, or hangs */
};

/* A list of the agent's, if it has given one. */
static void take_texts(struct json_object *reply, const char *key, struct texts *out)
{
    struct json_object *list;
    struct err e = { 0 };

    if (reply == NULL || !json_get_array(reply, key, &list, &e))
        return;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        const char *s = json_object_get_string(json_object_array_get_idx(list, i));
        char text[TEXTS_LEN];

        texts_add(out, "%s", log_clean(text, sizeof text, s != NULL ? s : ""));
    }
}

/* The network learns where the guest is, and its clock is set, while libvirt still tidies
 * up.  The guest runs: what fails is only told. */
static void greet(struct move *m)
{
    AUTO(json_put) struct json_object *r = NULL;
    struct move_greeting *const g = &m->greeting;
    struct err e = { 0 };
    char text[TEXTS_LEN];

    if (m->link == NULL || strcmp(m->dst_state, "running") != 0)
        return;
    if (!request_move(m->link, "POST", m->id, "greet",
                      json_add_bool(json_new(), "set_time", m->cfg->set_time), GREET_MS,
                      NULL, &r, &e)) {
        texts_add(&g->failed, "%s", log_clean(text, sizeof text, e.msg));
    } else {
        take_texts(r, "done", &g->done);
        take_texts(r, "failed", &g->failed);
    }
    for (size_t i = 0; i < g->failed.n; i++)
        log_warn("finish", "%s", g->failed.text[i]);
}

static bool ask_finish(struct move *m, struct json_object **r, struct err *e)
{
    return request_move(m->link, "POST", m->id, "finish",
                        json_add_bool(json_new(), "autostart", m->facts.autostart),
                        CALL_MS, NULL, r, e);
}

/* An agent that died, or a link that was lost, is replaced once. */
static bool tell_finished(struct move *m, struct json_object **r, struct err *e)
{
    if (m->link != NULL && ask_finish(m, r, e))
        return true;
    if (m->link != NULL && link_state(m->link) == LINK_OPEN)
        return false;
    memory_quiet(m);
    return connect_redial(m, e) && ask_finish(m, r, e);
}

static void finish_destination(struct move *m)
{
    AUTO(json_put) struct json_object *r = NULL;
    struct err e = { 0 };

    if (tell_finished(m, &r, &e))
        take_texts(r, "left", &m->left);
    else
        texts_add(&m->left,
                  "on %s: the move's files in " PATHS_STATE
                  "/%s are to be removed (%s)",
                  m->cfg->dest.host, m->id, e.msg);
}

/* The definition, so that "virsh define" brings it back.  A file that is there is of a
 * finish of this move that was cut short. */
static bool save_xml(struct move *m, char path[PATHS_MAX], struct err *e)
{
    AUTO(mem_free) char *xml = NULL;

    snprintf(path, PATHS_MAX, PATHS_STATE "/%s-%.8s.xml", m->facts.uuid, m->id);
    if (!vdom_xml(m->dom, VDOM_XML_INACTIVE, &xml, e))
        return false;
    AUTO(fd_close)
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(e, ERR_SYS, errno, "cannot create %s", path);
    if (!fd_write_all(fd, xml, strlen(xml), e))
        return false;
    return fsync(fd) == 0 ? true : err_set(e, ERR_SYS, errno, "fsync of %s", path);
}

static void forget_source(struct move *m)
{
    struct err e = { 0 };
    char path[PATHS_MAX];

    if (!m->facts.persistent)
        return;
    /* A libvirtd that was restarted meanwhile has dropped our connection. */
    if (!owner_source_alive(m, &e) && !owner_source(m, LIBVIRT_END_MS, &e)) {
        if (e.kind == ERR_GUEST) /* undefined already, by a finish that was cut short */
            return;
        texts_add(&m->left, "on this host: virsh undefine %s (%s)", m->facts.name,
                  e.msg);
        return;
    }
    if (m->cfg->keep_source) {
        texts_add(&m->notes,
                  "the definition of %s stays on %s, shut off: never start it there",
                  m->facts.name, m->src_host.hostname);
        return;
    }
    if (!save_xml(m, path, &e) || !vdom_undefine(m->dom, &e))
        texts_add(&m->left, "on %s: virsh undefine %s (%s)", m->src_host.hostname,
                  m->facts.name, e.msg);
    else
        texts_add(&m->notes, "the definition was saved as %s", path);
}

static void source_disks(struct move *m)
{
    for (size_t i = 0; i < m->plan.n; i++) {
        const struct plan_disk *const d = &m->plan.disks[i];

        if (!m->cfg->remove_source_disks || m->info.disks[i].block)
            texts_add(&m->notes, "the old disk %s stays on %s: %s", d->target,
                      m->src_host.hostname, d->src);
        else if (unlink(d->src) != 0)
            texts_add(&m->left, "on %s: remove %s (%s)", m->src_host.hostname, d->src,
                      strerrordesc_np(errno));
    }
}

/* For "snmigrate verify", as long as both copies are there. */
static void remember(struct move *m)
{
    struct err e = { 0 };

    if (m->cfg->remove_source_disks)
        return;
    if (!moved_write(m->state_dir, m->id, m->facts.uuid, &e))
        log_warn("finish", "snmigrate verify will not know of this move: %s", e.msg);
    else if (m->cfg->verify_later && !m->marked)
        texts_add(&m->notes,
                  "what the guest writes on %s may not be told from damage later: %s",
                  m->cfg->dest.host, m->unmarked);
}

bool finish_run(struct move *m, struct err *e)
{
    struct err je = { 0 };

    (void)e;
    move_enter(m, MOVE_FINISH);
    fault_pass("finish");
    if (strcmp(m->dst_state, "running") != 0 && strcmp(m->dst_state, "paused") != 0 &&
        m->dst_state[0] != '\0')
        texts_add(&m->left, "on %s: the guest was started and has ended since (%s)",
                  m->cfg->dest.host, m->dst_state);
    greet(m);
    if (!memory_wait(m, LIBVIRT_END_MS))
        log_warn("finish", "libvirt is slow to end the migration");
    finish_destination(m);
    fault_pass("finish.told");
    forget_source(m);
    source_disks(m);
    remember(m);
    m->tracking = false; /* bitmaps, exports and server went with QEMU */
    track_undo(m);
    if (!journal_step(m->journal, "done", NULL, &je))
        log_debug("finish", "journal: %s", je.msg);
    journal_close(m->journal);
    m->journal = NULL;
    journal_remove(m->state_dir);
    memory_close(m); /* its threads may speak to the guard */
    guard_bye(m);
    return true;
}
