/* nghttp2 and its callbacks: bytes of the pipe become events of streams.
 *
 * Callbacks run inside nghttp2_session_mem_recv() and _mem_send(), which must not be
 * entered again and whose session must not be deleted: a callback notes a violation and
 * returns, the session's loop then breaks the link.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "tunnel/link-int.h"

enum { CONNECTION_WINDOW = INT32_MAX };

void stream_add(struct link *l, struct stream *s)
{
    s->next = l->streams;
    s->pprev = &l->streams;
    if (s->next != NULL)
        s->next->pprev = &s->next;
    l->streams = s;
}

void stream_remove(struct stream *s)
{
    if (s->pprev == NULL)
        return;
    *s->pprev = s->next;
    if (s->next != NULL)
        s->next->pprev = s->pprev;
    s->next = NULL;
    s->pprev = NULL;
}

int link_violation(struct link *l, const char *fmt, ...)
{
    char text[256], clean[300];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (l->violation.kind == ERR_NONE)
        err_set(&l->violation, ERR_PROTO, 0, "the peer broke the protocol: %s",
                log_clean(clean, sizeof clean, text));
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* --- header blocks: one at a time, so one place to collect it --- */

static bool is(const uint8_t *p, size_t len, const char *s)
{
    return len == strlen(s) && memcmp(p, s, len) == 0;
}

/* Keep a value of printable characters that must fit; false: it is not, or does not. */
static bool keep(char *dst, size_t size, const uint8_t *p, size_t len)
{
    if (len >= size)
        return false;
    for (size_t i = 0; i < len; i++)
        if (p[i] <= ' ' || p[i] > '~')
            return false;
    memcpy(dst, p, len);
    dst[len] = '\0';
    return true;
}

static int on_begin_headers(nghttp2_session *h2, const nghttp2_frame *f, void *arg)
{
    struct link *const l = arg;

    (void)h2;
    (void)f;
    memset(&l->head, 0, sizeof l->head);
    return 0;
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *f, const uint8_t *name,
                     size_t nlen, const uint8_t *value, size_t vlen, uint8_t flags,
                     void *arg)
{
    struct link *const l = arg;
    struct head *const h = &l->head;

    (void)h2;
    (void)f;
    (void)flags;
    h->bytes += nlen + vlen;
    if (h->bytes > HEADERS_MAX)
        return link_violation(l, "more than %d bytes of header fields", HEADERS_MAX);
    if (is(name, nlen, ":path") && !keep(h->path, sizeof h->path, value, vlen))
        return link_violation(l, "a path that is too long or not printable");
    if (is(name, nlen, ":method") && !keep(h->method, sizeof h->method, value, vlen))
        return link_violation(l, "a method that is too long or not printable");
    if (is(name, nlen, ":status")) {
        h->status = 0;
        for (size_t i = 0; i < vlen && i < 3; i++)
            h->status = h->status * 10 + (value[i] - '0');
    }
    if (is(name, nlen, "content-encoding") && !is(value, vlen, "identity")) {
        if (!is(value, vlen, "zstd"))
            return link_violation(l, "an unknown content-encoding");
        h->zstd = true;
    }
    if (is(name, nlen, "snm-class"))
        h->bulk = is(value, vlen, "bulk");
    return 0;
}

static int headers_done(struct link *l, const nghttp2_frame *f)
{
    struct stream *const s =
        nghttp2_session_get_stream_user_data(l->h2, f->hd.stream_id);
    const struct head *const h = &l->head;

    if (l->server && f->headers.cat == NGHTTP2_HCAT_REQUEST) {
        const bool channel = strcmp(h->method, "POST") == 0 && chan_path(h->path);

        return channel ? chan_accept(l, f->hd.stream_id, h)
                       : serve_request(l, f->hd.stream_id, h);
    }
    if (!l->server && f->headers.cat == NGHTTP2_HCAT_RESPONSE) {
        if (h->status < 200 || h->status > 599)
            return link_violation(l, "response status %d", h->status);
        if (s != NULL)
            s->ops->head(l, s, h);
        return 0;
    }
    return 0; /* trailers: nothing in them is of use */
}

/* --- frames --- */

static int on_settings(struct link *l)
{
    const uint64_t one = 1;

    if (l->state != LINK_GREETING)
        return 0;
    link_move(l, LINK_OPEN);
    l->last_ping_ms = 0; /* the first measure of the round trip, now */
    if (write(l->greet_fd, &one, sizeof one) < 0)
        return link_violation(l, "greeted twice");
    return 0;
}

static void on_pong(struct link *l, const uint8_t *payload)
{
    uint64_t number;

    memcpy(&number, payload, sizeof number);
    if (pace_answer(&l->out.pace, number, clock_ns()))
        atomic_store(&l->rtt_us, pace_trip(&l->out.pace) / 1000);
}

static int on_goaway(struct link *l, const nghttp2_goaway *g)
{
    char text[128];
    const size_t len =
        g->opaque_data_len < sizeof text - 1 ? g->opaque_data_len : sizeof text - 1;

    if (g->error_code != NGHTTP2_NO_ERROR) {
        if (len != 0)
            memcpy(text, g->opaque_data, len);
        text[len] = '\0';
        return link_violation(l, "it says that we did (%s%s%s)",
                              nghttp2_http2_strerror(g->error_code),
                              len != 0 ? ": " : "", text);
    }
    l->bye_received = true;
    return 0;
}

static int on_frame_recv(nghttp2_session *h2, const nghttp2_frame *f, void *arg)
{
    struct link *const l = arg;
    int rc = 0;

    switch (f->hd.type) {
    case NGHTTP2_SETTINGS:
        return f->hd.flags & NGHTTP2_FLAG_ACK ? 0 : on_settings(l);
    case NGHTTP2_PING:
        if (f->hd.flags & NGHTTP2_FLAG_ACK)
            on_pong(l, f->ping.opaque_data);
        return 0;
    case NGHTTP2_GOAWAY:
        return on_goaway(l, &f->goaway);
    case NGHTTP2_HEADERS:
        rc = headers_done(l, f);
        break;
    case NGHTTP2_DATA:
        break;
    default:
        return 0;
    }
    if (rc == 0 && f->hd.flags & NGHTTP2_FLAG_END_STREAM) {
        struct stream *const s =
            nghttp2_session_get_stream_user_data(h2, f->hd.stream_id);

        if (s != NULL)
            s->ops->end(l, s);
    }
    return rc;
}

/* The connection's window is given back at once: only a stream's own window holds its
 * sender up, so that one slow channel costs the others nothing. */
static int on_data(nghttp2_session *h2, uint8_t flags, int32_t id, const uint8_t *p,
                   size_t len, void *arg)
{
    struct link *const l = arg;
    struct stream *const s = nghttp2_session_get_stream_user_data(h2, id);

    (void)flags;
    if (nghttp2_session_consume_connection(h2, len) != 0)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    if (s != NULL)
        s->ops->data(l, s, p, len);
    else if (nghttp2_session_consume_stream(h2, id, len) != 0)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    link_moved(l);
    return l->violation.kind == ERR_NONE ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_stream_close(nghttp2_session *h2, int32_t id, uint32_t code, void *arg)
{
    struct stream *const s = nghttp2_session_get_stream_user_data(h2, id);

    if (s == NULL)
        return 0;
    s->id = 0;
    s->ops->closed(arg, s, code);
    return 0;
}

static int on_invalid_frame(nghttp2_session *h2, const nghttp2_frame *f, int code,
                            void *arg)
{
    (void)h2;
    return link_violation(arg, "frame type %u on stream %d: %s", f->hd.type,
                          f->hd.stream_id, nghttp2_strerror(code));
}

/* Not every complaint is an error: kept for the message if one follows. */
static int on_complaint(nghttp2_session *h2, int code, const char *msg, size_t len,
                        void *arg)
{
    struct link *const l = arg;

    (void)h2;
    (void)code;
    snprintf(l->h2_said, sizeof l->h2_said, "%.*s", len > 150 ? 150 : (int)len, msg);
    return 0;
}

/* --- DATA frames of channels: the payload is in out.big already (read callback) --- */

static int on_send_data(nghttp2_session *h2, nghttp2_frame *f, const uint8_t *hd,
                        size_t len, nghttp2_data_source *src, void *arg)
{
    enum { FRAME_HEADER = 9 };
    struct link *const l = arg;
    struct out *const o = &l->out;

    (void)src;
    assert(f->data.padlen == 0);                       /* we set no padding callback */
    memcpy(o->small + o->small_len, hd, FRAME_HEADER); /* collect() left room */
    o->small_len += FRAME_HEADER;
    o->big_len = len;
    const struct stream *const s =
        nghttp2_session_get_stream_user_data(h2, f->hd.stream_id);
    if (s != NULL && stream_is_bulk(s))
        o->bulk += len;
    link_moved(l);
    return NGHTTP2_ERR_PAUSE; /* done, and no further frame in this batch */
}

static ssize_t data_frame_length(nghttp2_session *h2, uint8_t type, int32_t id,
                                 int32_t connection_window, int32_t stream_window,
                                 uint32_t peer_max, void *arg)
{
    struct stream *const s = nghttp2_session_get_stream_user_data(h2, id);
    size_t n = s != NULL && stream_is_bulk(s) ? out_frame(arg) : FRAME_MIN;

    (void)type;
    (void)connection_window; /* nghttp2 cuts to both windows itself */
    (void)stream_window;
    return (ssize_t)(n < peer_max ? n : peer_max);
}

/* --- the session --- */

static nghttp2_session_callbacks *callbacks_make(void)
{
    nghttp2_session_callbacks *cb;

    if (nghttp2_session_callbacks_new(&cb) != 0)
        return NULL;
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, on_invalid_frame);
    nghttp2_session_callbacks_set_error_callback2(cb, on_complaint);
    nghttp2_session_callbacks_set_send_data_callback(cb, on_send_data);
    nghttp2_session_callbacks_set_data_source_read_length_callback(cb,
                                                                   data_frame_length);
    return cb;
}

bool session_new(struct link *l, struct err *e)
{
    const nghttp2_settings_entry settings[] = {
        { NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
        { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS_MAX },
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_TALK },
        { NGHTTP2_SETTINGS_MAX_FRAME_SIZE, FRAME_MAX },
        { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADERS_MAX },
    };
    nghttp2_session_callbacks *const cb = callbacks_make();
    nghttp2_option *opt = NULL;
    int rc = NGHTTP2_ERR_NOMEM;

    if (cb != NULL && nghttp2_option_new(&opt) == 0) {
        nghttp2_option_set_no_auto_window_update(opt, 1);
        nghttp2_option_set_no_closed_streams(opt, 1);
        rc = l->server ? nghttp2_session_server_new2(&l->h2, cb, l, opt)
                       : nghttp2_session_client_new2(&l->h2, cb, l, opt);
        nghttp2_option_del(opt);
    }
    nghttp2_session_callbacks_del(cb);
    if (rc == 0)
        rc = nghttp2_submit_settings(l->h2, NGHTTP2_FLAG_NONE, settings,
                                     sizeof settings / sizeof settings[0]);
    if (rc == 0)
        rc = nghttp2_session_set_local_window_size(l->h2, NGHTTP2_FLAG_NONE, 0,
                                                   CONNECTION_WINDOW);
    if (rc != 0)
        return err_set(e, ERR_SYS, 0, "HTTP/2 session: %s", nghttp2_strerror(rc));
    return true;
}

static bool violated(struct link *l, const char *why, struct err *e)
{
    (void)link_violation(l, "%s", l->h2_said[0] != '\0' ? l->h2_said : why);
    *e = l->violation;
    return false;
}

bool session_input(struct link *l, const uint8_t *p, size_t len, struct err *e)
{
    const ssize_t n = nghttp2_session_mem_recv(l->h2, p, len);

    if (n < 0)
        return violated(l, nghttp2_strerror((int)n), e);
    if (l->violation.kind == ERR_NONE)
        return true;
    *e = l->violation;
    return false;
}

bool session_goes_on(struct link *l, struct err *e)
{
    if (nghttp2_session_want_read(l->h2) || l->bye_sent || l->bye_received)
        return true;
    return violated(l, "bad frame", e);
}

/* --- sending header blocks --- */

bool path_check(const char *path, size_t max, struct err *e)
{
    const size_t len = strlen(path);

    if (len == 0 || len > max)
        return err_set(e, ERR_USAGE, 0, "a path of %zu bytes, 1 to %zu fit", len, max);
    for (size_t i = 0; i < len; i++)
        if (path[i] <= ' ' || path[i] > '~')
            return err_set(e, ERR_USAGE, 0, "a path with character %d",
                           (unsigned char)path[i]);
    return true;
}

static nghttp2_nv field(const char *name, const char *value)
{
    return (nghttp2_nv){ .name = (uint8_t *)name,
                         .value = (uint8_t *)value,
                         .namelen = strlen(name),
                         .valuelen = strlen(value),
                         .flags = NGHTTP2_NV_FLAG_NONE };
}

bool session_request(struct link *l, struct stream *s, const struct head *h,
                     const nghttp2_data_provider *src, struct err *e)
{
    nghttp2_nv nv[8] = { field(":method", h->method), field(":scheme", "http"),
                         field(":authority", "snmigrate"), field(":path", h->path) };
    size_t n = 4;

    if (h->bulk)
        nv[n++] = field("snm-class", "bulk");
    if (h->zstd)
        nv[n++] = field("content-encoding", "zstd");
    if (src != NULL)
        nv[n++] = field("content-type", s->ops->type);

    const int32_t id = nghttp2_submit_request(l->h2, NULL, nv, n, src, s);
    if (id < 0)
        return err_set(e, ERR_LINK, 0, "HTTP/2 request: %s", nghttp2_strerror(id));
    s->id = id;
    stream_add(l, s);
    return true;
}

bool session_response(struct link *l, struct stream *s, int status,
                      const nghttp2_data_provider *src, struct err *e)
{
    char text[12];

    snprintf(text, sizeof text, "%d", status);
    const nghttp2_nv nv[] = {
        field(":status", text),
        field("content-type", status < 300 ? s->ops->type : "application/problem+json")
    };
    const int rc = nghttp2_submit_response(l->h2, s->id, nv, 2, src);
    if (rc != 0)
        return err_set(e, ERR_LINK, 0, "HTTP/2 response: %s", nghttp2_strerror(rc));
    return true;
}

void session_reset(struct link *l, struct stream *s, uint32_t code)
{
    /* Only memory can be short here; the stream then ends with the link. */
    if (l->up && s->id != 0 &&
        nghttp2_submit_rst_stream(l->h2, NGHTTP2_FLAG_NONE, s->id, code) != 0)
        log_warn("tunnel", "could not reset stream %d", s->id);
}
