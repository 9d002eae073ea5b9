/* How a channel comes to be: the client asks, the server's handler gives a socket, and the
 * answer is 200 or a problem document.
 *
 *   client   link_channel() --task--> request ... 200 --> chan_ops, the caller goes on
 *                                              problem --> reset, the caller fails
 *   server   request --job--> handler in the pool --task--> 200 or problem
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"
#include "tunnel/chan.h"

static const char prefix[] = "/channel/";

bool chan_path(const char *path)
{
    return strncmp(path, prefix, strlen(prefix)) == 0;
}

/* --- the client's side of opening --- */

static void opening_head(struct link *l, struct stream *s, const struct head *h)
{
    struct chan *const c = (struct chan *)s;

    (void)l;
    c->status = h->status;
    if (h->status != 200)
        return; /* the problem document follows */
    s->ops = &chan_ops;
    c->may_read = true;
    chan_window_open(c);
    wait_finish(c->wait, NULL);
}

static void opening_data(struct link *l, struct stream *s, const uint8_t *p, size_t len)
{
    struct chan *const c = (struct chan *)s;

    chan_window_give_back(c, len);
    if (!body_add(l, &c->problem, p, len))
        (void)link_violation(l, "a refusal of more than %zu bytes", c->problem.len);
}

static void opening_end(struct link *l, struct stream *s)
{
    struct chan *const c = (struct chan *)s;
    struct err e;

    problem_read(c->status, c->problem.p, c->problem.len, &e);
    err_wrap(&e, "channel %s", c->path + strlen(prefix));
    wait_finish(c->wait, &e);
    chan_reset(l, c, NGHTTP2_CANCEL); /* our body has no end yet */
}

const struct stream_ops opening_ops = {
    .type = "application/octet-stream",
    .head = opening_head,
    .data = opening_data,
    .end = opening_end,
    .closed = chan_closed,
};

static void chan_take_made(struct chan *c)
{
    chan_take_ends(c, &c->made);
    c->made = (struct ends)ENDS_NONE;
}

static void chan_start(struct link *l, struct task *t)
{
    struct chan *const c = (struct chan *)((char *)t - offsetof(struct chan, start));
    struct head h = { .method = "POST",
                      .zstd = c->packed,
                      .bulk = c->class == LINK_BULK };
    const nghttp2_data_provider src = chan_provider(c);
    struct err e;

    snprintf(h.path, sizeof h.path, "%s", c->path);
    c->s.ops = &opening_ops;
    chan_take_made(c);
    if (!l->up)
        link_error(l, &e);
    if (!l->up || !session_request(l, &c->s, &h, &src, &e)) {
        wait_finish(c->wait, &e);
        chan_free(c);
        return;
    }
    c->wait->s = &c->s;
}

bool link_channel(struct link *l, const char *path, int fd, enum link_class class,
                  int zstd, struct err *e)
{
    char whole[PATH_MAX_LEN];
    AUTO(fd_close) int owned = fd;

    if (!fault_point("tunnel.channel", e))
        return err_wrap(e, "channel %s", path);
    if (!path_check(path, sizeof whole - sizeof prefix, e))
        return false;
    snprintf(whole, sizeof whole, "%s%s", prefix, path);

    struct wait *const w = wait_new(e);
    struct chan *const c = w != NULL ? chan_new(l, whole, e) : NULL;
    if (c == NULL) {
        wait_unref(w);
        return false;
    }
    atomic_fetch_add(&w->refs, 1);
    c->wait = w;
    c->class = class;
    c->packed = zstd != ZSTD_OFF;
    c->start.run = chan_start;

    bool ok =
        ends_make(l, fd_steal(&owned), zstd, &c->made, e) && link_post(l, &c->start, e);
    if (!ok)
        chan_free(c);
    else
        ok = wait_for(l, w, CHANNEL_OPEN_MS, NULL, e);
    wait_unref(w);
    return ok;
}

bool link_channel_pair(struct link *l, const char *path, enum link_class class,
                       int zstd, int *fd, struct err *e)
{
    int pair[2];

    if (!unix_pair(pair, e))
        return false;
    AUTO(fd_close) int ours = pair[0];
    if (class == LINK_BULK)
        unix_widen(ours, BULK_BUF);
    if (!link_channel(l, path, pair[1], class, zstd, e))
        return false;
    *fd = fd_steal(&ours);
    return true;
}

/* --- the server's side of opening --- */

/* In the pool. */
static bool call_handler(struct chan *c, struct err *e)
{
    const struct link_server_ops *const ops = &c->l->ops;
    int fd = -1;

    if (ops->channel == NULL)
        return err_set(e, ERR_REFUSED, 0, "no channels here");
    if (!fault_point("tunnel.channel", e) ||
        !ops->channel(ops->ctx, c->path + strlen(prefix), &fd, e))
        return false;
    if (c->class == LINK_BULK)
        unix_widen(fd, BULK_BUF);
    return ends_make(c->l, fd, c->packed ? ZSTD_AUTO : ZSTD_OFF, &c->made, e);
}

static void open_run(struct job *j, bool drop)
{
    struct chan *const c = (struct chan *)((char *)j - offsetof(struct chan, open));

    struct err e = { .kind = ERR_PEER }; /* should the handler fail without a word */

    if (drop || !call_handler(c, &e))
        c->open_err = e;
    link_post_always(c->l, &c->opened);
}

static bool chan_refuse(struct link *l, struct chan *c, struct err *e)
{
    AUTO(json_put) struct json_object *doc = problem_make(&c->open_err);

    if (!body_of_json(&c->problem, doc))
        return err_set(e, ERR_SYS, ENOMEM, "channel");
    const nghttp2_data_provider src = body_source(&c->problem);
    return session_response(l, &c->s, problem_status(c->open_err.kind), &src, e);
}

static void opened_run(struct link *l, struct task *t)
{
    struct chan *const c = (struct chan *)((char *)t - offsetof(struct chan, opened));
    const nghttp2_data_provider src = chan_provider(c);
    struct err e;
    bool ok;

    c->opening = false;
    l->jobs--;
    chan_take_made(c);
    if (c->open_err.kind != ERR_NONE)
        chan_write_failed(c);
    if (c->closed)
        return; /* chan_tend() does the rest */
    if (c->open_err.kind != ERR_NONE) {
        ok = chan_refuse(l, c, &e);
    } else {
        ok = session_response(l, &c->s, 200, &src, &e);
        c->may_read = true;
        chan_flush(c);
    }
    if (!ok) {
        log_warn("tunnel", "channel %s: %s", c->path, e.msg);
        chan_reset(l, c, NGHTTP2_INTERNAL_ERROR);
    }
}

int chan_accept(struct link *l, int32_t id, const struct head *h)
{
    struct err e;
    struct chan *const c = chan_new(l, h->path, &e);

    if (c == NULL || l->jobs >= JOBS_MAX) {
        if (c != NULL)
            chan_free(c);
        return link_violation(l, "more than %d requests at one time", JOBS_MAX);
    }
    c->s.id = id;
    c->class = h->bulk ? LINK_BULK : LINK_TALK;
    c->packed = h->zstd;
    c->opening = true;
    c->open.run = open_run;
    c->opened.run = opened_run;
    l->jobs++;
    nghttp2_session_set_stream_user_data(l->h2, id, &c->s);
    stream_add(l, &c->s);
    chan_window_open(c);
    pool_add(l->pool, &c->open);
    return 0;
}
