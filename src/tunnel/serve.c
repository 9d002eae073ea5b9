/* Control requests, the server's side: collect the body, let a pool thread call the
 * handler, send what it said. */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "tunnel/link-int.h"

struct req {
    struct stream s;  /* must stay first */
    struct job job;   /* to the pool */
    struct task done; /* and back */
    struct link *l;
    char method[16];
    char path[PATH_MAX_LEN];

    /* The session's, but the pool's while ->working. */
    struct body body;
    struct body reply;
    int status;
    bool working;
    bool closed; /* session thread only: the stream is gone */
};

static void req_free(struct req *r)
{
    stream_remove(&r->s);
    body_free(r->l, &r->body);
    body_free(NULL, &r->reply);
    free(r);
}

/* --- in the pool --- */

static bool handle(struct req *r, struct json_object **reply, struct err *e)
{
    const struct link_server_ops *const ops = &r->l->ops;
    AUTO(json_put) struct json_object *body = NULL;

    if (r->body.len != 0 && !json_parse((char *)r->body.p, r->body.len, &body, e))
        return false;
    if (ops->request == NULL)
        return err_set(e, ERR_REFUSED, 0, "no requests here");
    return ops->request(ops->ctx, r->method, r->path, body, reply, e);
}

static void req_run(struct job *j, bool drop)
{
    struct req *const r = (struct req *)((char *)j - offsetof(struct req, job));
    AUTO(json_put) struct json_object *doc = NULL;
    struct err e = { .kind = ERR_PEER }; /* should the handler fail without a word */

    r->status = 200;
    if (!drop && !handle(r, &doc, &e)) {
        json_object_put(doc);
        doc = problem_make(&e);
        r->status = problem_status(e.kind);
    }
    if (doc != NULL && !body_of_json(&r->reply, doc))
        r->status = 500;
    link_post_always(r->l, &r->done);
}

/* --- on the session's thread --- */

static void req_done(struct link *l, struct task *t)
{
    struct req *const r = (struct req *)((char *)t - offsetof(struct req, done));
    const nghttp2_data_provider src = body_source(&r->reply);
    struct err e;

    r->working = false;
    l->jobs--;
    if (r->closed) {
        req_free(r);
        return;
    }
    if (!session_response(l, &r->s, r->status, r->reply.len != 0 ? &src : NULL, &e)) {
        log_warn("tunnel", "%s %s: %s", r->method, r->path, e.msg);
        session_reset(l, &r->s, NGHTTP2_INTERNAL_ERROR);
    }
}

static void req_data(struct link *l, struct stream *s, const uint8_t *p, size_t len)
{
    struct req *const r = (struct req *)s;

    if (nghttp2_session_consume_stream(l->h2, s->id, len) != 0 ||
        !body_add(l, &r->body, p, len))
        (void)link_violation(l, "a request of more than %zu bytes", r->body.len);
}

static void req_end(struct link *l, struct stream *s)
{
    struct req *const r = (struct req *)s;

    if (l->jobs >= JOBS_MAX) {
        (void)link_violation(l, "more than %d requests at one time", JOBS_MAX);
        return;
    }
    l->jobs++;
    r->working = true;
    pool_add(l->pool, &r->job);
}

static void req_closed(struct link *l, struct stream *s, uint32_t code)
{
    struct req *const r = (struct req *)s;

    (void)l;
    (void)code;
    r->closed = true;
    if (!r->working)
        req_free(r);
}

static void req_head(struct link *l, struct stream *s, const struct head *h)
{
    (void)s;
    (void)h;
    (void)link_violation(l, "a response from the client");
}

static const struct stream_ops req_ops = {
    .type = "application/json",
    .head = req_head,
    .data = req_data,
    .end = req_end,
    .closed = req_closed,
};

int serve_request(struct link *l, int32_t id, const struct head *h)
{
    struct req *const r = calloc(1, sizeof *r);

    if (r == NULL)
        return link_violation(l, "out of memory for a request");
    r->s.ops = &req_ops;
    r->s.id = id;
    r->l = l;
    r->job.run = req_run;
    r->done.run = req_done;
    memcpy(r->method, h->method, sizeof r->method);
    memcpy(r->path, h->path, sizeof r->path);
    nghttp2_session_set_stream_user_data(l->h2, id, &r->s);
    stream_add(l, &r->s);
    return 0;
}
