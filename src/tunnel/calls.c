/* Control calls, the client's side: a request with a JSON body, a response with one. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "tunnel/link-int.h"

struct call {
    struct stream s; /* must stay first */
    struct task start;
    atomic_int refs; /* the caller's and the session's */
    struct link *l;
    struct wait *wait;
    struct head head;
    struct body request;

    /* The session's until ->wait is done, then the caller's. */
    int status;
    struct body reply;
    size_t counted; /* bytes of ->reply in link.bodies; session thread only */
};

static void call_unref(struct call *c)
{
    if (c == NULL || atomic_fetch_sub(&c->refs, 1) > 1)
        return;
    wait_unref(c->wait);
    body_free(NULL, &c->request);
    body_free(NULL, &c->reply);
    free(c);
}

static void call_unref_auto(struct call **c)
{
    call_unref(*c);
}

static struct call *call_new(struct link *l, const char *method, const char *path,
                             struct json_object *body, struct err *e)
{
    AUTO(call_unref) struct call *c = NULL;

    if (!path_check(method, sizeof c->head.method - 1, e) ||
        !path_check(path, sizeof c->head.path - 1, e))
        return NULL;
    c = calloc(1, sizeof *c);
    if (c == NULL) {
        err_set(e, ERR_SYS, ENOMEM, "call");
        return NULL;
    }
    atomic_init(&c->refs, 1);
    c->l = l;
    snprintf(c->head.method, sizeof c->head.method, "%s", method);
    snprintf(c->head.path, sizeof c->head.path, "%s", path);
    c->wait = wait_new(e);
    if (c->wait == NULL)
        return NULL;
    if (body != NULL && !body_of_json(&c->request, body)) {
        err_set(e, ERR_SYS, ENOMEM, "call");
        return NULL;
    }
    if (c->request.len > JSON_MAX_BYTES) {
        err_set(e, ERR_USAGE, 0, "a request of %zu bytes, at most %d are taken",
                c->request.len, JSON_MAX_BYTES);
        return NULL;
    }
    return ptr_steal(&c);
}

/* --- on the session's thread --- */

static void call_head(struct link *l, struct stream *s, const struct head *h)
{
    (void)l;
    ((struct call *)s)->status = h->status;
}

static void call_data(struct link *l, struct stream *s, const uint8_t *p, size_t len)
{
    struct call *const c = (struct call *)s;

    if (nghttp2_session_consume_stream(l->h2, s->id, len) != 0 ||
        !body_add(l, &c->reply, p, len)) {
        (void)link_violation(l, "a reply of more than %zu bytes", c->reply.len);
        return;
    }
    c->counted += len;
}

/* The reply is complete.  It is the caller's from here on. */
static void call_end(struct link *l, struct stream *s)
{
    struct call *const c = (struct call *)s;

    l->bodies -= c->counted;
    c->counted = 0;
    wait_finish(c->wait, NULL);
}

static void call_closed(struct link *l, struct stream *s, uint32_t code)
{
    struct call *const c = (struct call *)s;
    struct err e;

    l->bodies -= c->counted;
    c->counted = 0;
    if (!l->up || code == NGHTTP2_REFUSED_STREAM)
        link_error(l, &e);
    else
        err_set(&e, ERR_PEER, 0, "the peer ended the call (%s)",
                nghttp2_http2_strerror(code));
    wait_finish(c->wait, &e); /* nothing, if the reply had come */
    c->wait->s = NULL;
    stream_remove(s);
    call_unref(c);
}

static const struct stream_ops call_ops = {
    .type = "application/json",
    .head = call_head,
    .data = call_data,
    .end = call_end,
    .closed = call_closed,
};

static void call_start(struct link *l, struct task *t)
{
    struct call *const c = (struct call *)((char *)t - offsetof(struct call, start));
    const nghttp2_data_provider src = body_source(&c->request);
    struct err e;

    c->s.ops = &call_ops;
    if (!l->up)
        link_error(l, &e);
    if (!l->up ||
        !session_request(l, &c->s, &c->head, c->request.len != 0 ? &src : NULL, &e)) {
        wait_finish(c->wait, &e);
        call_unref(c);
        return;
    }
    c->wait->s = &c->s;
}

/* --- on the caller's --- */

static bool call_result(struct call *c, struct json_object **reply, struct err *e)
{
    if (c->status < 200 || c->status > 299)
        return problem_read(c->status, c->reply.p, c->reply.len, e);
    if (reply == NULL)
        return true;
    *reply = NULL;
    return c->reply.len == 0 ||
           json_parse((const char *)c->reply.p, c->reply.len, reply, e);
}

bool link_call(struct link *l, const char *method, const char *path,
               struct json_object *body, int timeout_ms, const struct cancel *cancel,
               struct json_object **reply, struct err *e)
{
    AUTO(json_put) struct json_object *owned = body;
    AUTO(call_unref) struct call *c = call_new(l, method, path, body, e);

    if (c == NULL)
        return err_wrap(e, "%s %s", method, path);
    c->start.run = call_start;
    atomic_fetch_add(&c->refs, 1); /* the session's */
    if (!link_post(l, &c->start, e)) {
        atomic_fetch_sub(&c->refs, 1);
        return err_wrap(e, "%s %s", method, path);
    }
    if (!wait_for(l, c->wait, timeout_ms, cancel, e))
        return err_wrap(e, "%s %s", method, path);
    return call_result(c, reply, e);
}
