/* Channels: an HTTP/2 stream whose two bodies are a local socket.
 *
 *   plain          socket <------------------------> session
 *   zstd, client   socket --zstage--> socket pair --> session,  socket <-- session
 *   zstd, server   socket <--zstage-- socket pair <-- session,  socket --> session
 *
 * So a channel reads (->rfd) what goes to the peer and writes (->wfd) what came from it;
 * they are one descriptor unless a zstage stands in between.
 *
 * Each direction ends by itself: end of file on ->rfd becomes END_STREAM; the peer's
 * END_STREAM becomes shutdown(SHUT_WR) on ->wfd once all was written.  What ->wfd does not
 * take is kept here, at most a stream's window of it: its window is given back only for
 * what was written.  A channel may outlive its stream, to write the rest.
 *
 * Life:  made -> [link.streams] -> stream closed -> all written -> zstage ended -> freed
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "tunnel/chan.h"
#include "tunnel/zstage.h"

struct block {
    struct block *next;
    size_t off, len;
    uint8_t data[];
};
enum { BLOCK = 128 << 10 }; /* bytes of data in a block */

static struct chan *chan_of(struct stream *s)
{
    return s->ops == &chan_ops || s->ops == &opening_ops ? (struct chan *)s : NULL;
}

bool stream_is_bulk(const struct stream *s)
{
    return s->ops == &chan_ops && ((const struct chan *)s)->class == LINK_BULK;
}

struct chan *chan_new(struct link *l, const char *path, struct err *e)
{
    struct chan *const c = calloc(1, sizeof *c);

    if (c == NULL) {
        err_set(e, ERR_SYS, ENOMEM, "channel");
        return NULL;
    }
    c->s.ops = &chan_ops;
    c->l = l;
    c->made = c->ends = (struct ends)ENDS_NONE;
    c->rfd = c->wfd = -1;
    c->tail = &c->head;
    snprintf(c->path, sizeof c->path, "%s", path);
    return c;
}

static void queue_clear(struct chan *c)
{
    for (struct block *b = c->head, *next; b != NULL; b = next) {
        next = b->next;
        free(b);
    }
    c->head = NULL;
    c->tail = &c->head;
}

void chan_free(struct chan *c)
{
    if (c->ends.fd >= 0 && c->aborted)
        shutdown(c->ends.fd, SHUT_RDWR); /* also for those who hold a copy of it */
    ends_free(&c->ends);
    ends_free(&c->made);
    queue_clear(c);
    body_free(c->l->server ? NULL : c->l, &c->problem);
    wait_unref(c->wait);
    free(c);
}

/* --- ends --- */

static void on_zstage_end(void *arg)
{
    link_wake(arg);
}

bool ends_make(struct link *l, int fd, int zstd, struct ends *out, struct err *e)
{
    const struct zstage_cfg cfg = { .fd = fd,
                                    .pack = !l->server,
                                    .level = zstd,
                                    .plain = &l->plain,
                                    .packed = &l->packed,
                                    .wake = on_zstage_end,
                                    .arg = l };

    *out = (struct ends){ fd, -1, NULL };
    return zstd == ZSTD_OFF || zstage_new(&cfg, &out->zstage, &out->pair, e);
}

void ends_free(struct ends *ends)
{
    if (ends->zstage != NULL && !zstage_done(ends->zstage))
        zstage_stop(ends->zstage);
    zstage_free(ends->zstage);
    fd_close_auto(&ends->fd);
    fd_close_auto(&ends->pair);
    *ends = (struct ends)ENDS_NONE;
}

void chan_take_ends(struct chan *c, const struct ends *ends)
{
    c->ends = *ends;
    c->rfd = c->wfd = ends->fd;
    if (ends->zstage != NULL && !c->l->server)
        c->rfd = ends->pair;
    else if (ends->zstage != NULL)
        c->wfd = ends->pair;
}

/* --- windows --- */

/* A bulk channel may have more on its way than the initial window, as far as the sum of
 * all allows. */
void chan_window_open(struct chan *c)
{
    struct link *const l = c->l;
    const uint64_t left = (WINDOW_BULK_ALL - l->windows_bulk) / 2;

    if (c->class != LINK_BULK || left <= WINDOW_TALK)
        return;
    c->window = left < WINDOW_BULK ? (uint32_t)left : WINDOW_BULK;
    l->windows_bulk += c->window;
    if (nghttp2_session_set_local_window_size(l->h2, NGHTTP2_FLAG_NONE, c->s.id,
                                              (int32_t)c->window) != 0)
        log_debug("tunnel", "channel %s keeps the small window", c->path);
}

void chan_window_give_back(struct chan *c, size_t n)
{
    /* For a stream that has gone this does nothing; else only memory can be short, and
     * then nghttp2 fails at the next frame. */
    if (c->l->up && c->s.id != 0 &&
        nghttp2_session_consume_stream(c->l->h2, c->s.id, n) != 0)
        log_warn("tunnel", "channel %s: window of %zu bytes lost", c->path, n);
}

/* --- from the socket to the peer --- */

/* What is there, up to @size.  0: nothing now, or ->read_end, or ->read_failed. */
static size_t chan_read(struct chan *c, uint8_t *p, size_t size)
{
    size_t got = 0;

    while (got < size) {
        const ssize_t n = recv(c->rfd, p + got, size - got, MSG_DONTWAIT);
        struct err e;

        if (n > 0) {
            got += (size_t)n;
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        c->readable = false;
        if (n == 0 && !(c->ends.zstage != NULL && zstage_failed(c->ends.zstage, &e)))
            c->read_end = true;
        else if (n == 0 || errno != EAGAIN)
            c->read_failed = true;
        break;
    }
    return got;
}

/* nghttp2_data_source_read_callback: the bytes go to out.big, which on_send_data() sends. */
static ssize_t chan_source(nghttp2_session *h2, int32_t id, uint8_t *buf, size_t len,
                           uint32_t *flags, nghttp2_data_source *src, void *arg)
{
    struct chan *const c = src->ptr;
    struct link *const l = arg;
    size_t n = 0;

    (void)h2;
    (void)id;
    (void)buf;
    if (c->class == LINK_BULK && l->chosen != c)
        return NGHTTP2_ERR_DEFERRED;
    if (c->readable && !c->read_failed)
        n = chan_read(c, l->out.big, len);
    if (n == 0 && c->read_failed)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* resets the stream */
    if (n == 0 && !c->read_end)
        return NGHTTP2_ERR_DEFERRED;
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (c->read_end)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    /* A failure after some bytes is for the next frame to tell. */
    if (c->read_failed)
        c->readable = true;
    return (ssize_t)n;
}

nghttp2_data_provider chan_provider(struct chan *c)
{
    return (nghttp2_data_provider){ .source.ptr = c, .read_callback = chan_source };
}

static bool chan_can_send(struct link *l, const struct chan *c)
{
    return c->s.id != 0 && c->readable &&
           nghttp2_session_get_stream_remote_window_size(l->h2, c->s.id) > 0;
}

/* The bulk channel after l->turn in the list that can send, round and round. */
static struct chan *chan_next(struct link *l)
{
    struct stream *const from = l->turn != NULL ? l->turn->s.next : l->streams;

    if (nghttp2_session_get_remote_window_size(l->h2) <= 0)
        return NULL;
    for (int pass = 0; pass < 2; pass++) {
        for (struct stream *s = pass == 0 ? from : l->streams; s != NULL; s = s->next) {
            struct chan *const c = chan_of(s);

            if (c != NULL && c->class == LINK_BULK && chan_can_send(l, c))
                return c;
        }
    }
    return NULL;
}

int32_t chan_choose(struct link *l)
{
    l->chosen = chan_next(l);
    if (l->chosen == NULL)
        return 0;
    l->turn = l->chosen;
    return l->chosen->s.id;
}

bool chan_waiting(struct link *l)
{
    return chan_next(l) != NULL;
}

/* --- from the peer to the socket --- */

static void chan_keep(struct chan *c, const uint8_t *p, size_t len)
{
    while (len > 0) {
        struct block *last =
            c->head == NULL
                ? NULL
                : (struct block *)((char *)c->tail - offsetof(struct block, next));
        if (last == NULL || last->off + last->len == BLOCK) {
            last = malloc(sizeof *last + BLOCK);
            if (last == NULL) {
                (void)link_violation(c->l, "out of memory for channel %s", c->path);
                return;
            }
            *last = (struct block){ .next = NULL };
            *c->tail = last;
            c->tail = &last->next;
        }
        const size_t room = BLOCK - last->off - last->len, n = len < room ? len : room;

        memcpy(last->data + last->off + last->len, p, n);
        last->len += n;
        p += n;
        len -= n;
    }
}

/* The local user is gone.  What comes is thrown away from now on; once the other direction
 * has ended too, the peer is told by a reset. */
void chan_write_failed(struct chan *c)
{
    size_t lost = 0;

    for (const struct block *b = c->head; b != NULL; b = b->next)
        lost += b->len;
    queue_clear(c);
    chan_window_give_back(c, lost);
    c->write_failed = true;
}

/* As many bytes as wfd takes now. */
static size_t chan_write(struct chan *c, const uint8_t *p, size_t len)
{
    size_t done = 0;

    while (done < len && !c->write_failed) {
        const ssize_t n =
            send(c->wfd, p + done, len - done, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN)
            break;
        if (n >= 0)
            done += (size_t)n;
        else if (errno != EINTR)
            chan_write_failed(c);
    }
    chan_window_give_back(c, done);
    return done;
}

void chan_flush(struct chan *c)
{
    while (c->head != NULL && c->wfd >= 0) {
        struct block *const b = c->head;
        const size_t n = chan_write(c, b->data + b->off, b->len);

        if (c->write_failed)
            return; /* the queue is gone, @b with it */
        b->off += n;
        b->len -= n;
        link_moved(c->l);
        if (b->len > 0)
            return;
        c->head = b->next;
        if (c->head == NULL)
            c->tail = &c->head;
        free(b);
    }
}

static void chan_data(struct link *l, struct stream *s, const uint8_t *p, size_t len)
{
    struct chan *const c = (struct chan *)s;
    size_t done = 0;

    (void)l;
    if (c->head == NULL && c->wfd >= 0)
        done = chan_write(c, p, len);
    if (c->write_failed)
        chan_window_give_back(c, len - done);
    else
        chan_keep(c, p + done, len - done);
}

static void chan_shut(struct chan *c)
{
    if (!c->write_end || c->write_shut || c->head != NULL || c->wfd < 0)
        return;
    shutdown(c->wfd, SHUT_WR);
    c->write_shut = true;
}

static void chan_end(struct link *l, struct stream *s)
{
    struct chan *const c = (struct chan *)s;

    (void)l;
    c->write_end = true;
    chan_shut(c);
}

/* --- the end --- */

void chan_closed(struct link *l, struct stream *s, uint32_t code)
{
    struct chan *const c = (struct chan *)s;
    struct err e;

    c->closed = true;
    c->aborted = code != NGHTTP2_NO_ERROR || !c->write_end || !c->read_end;
    l->windows_bulk -= c->window;
    c->window = 0;
    if (!c->write_end)
        queue_clear(c); /* cut off: what is here is of no use */
    if (c->wait != NULL) {
        if (l->violation.kind == ERR_NONE && l->up)
            err_set(&e, ERR_PEER, 0, "channel %s: reset by the peer (%s)", c->path,
                    nghttp2_http2_strerror(code));
        else
            link_error(l, &e);
        wait_finish(c->wait, &e);
        c->wait->s = NULL;
    }
    link_wake(l);
}

void chan_reset(struct link *l, struct chan *c, uint32_t code)
{
    if (c->reset || c->s.id == 0)
        return;
    c->reset = true;
    session_reset(l, &c->s, code);
}

static void chan_zstage_failed(struct link *l, struct chan *c, const struct err *e)
{
    /* Of a body that was cut short by a reset, nothing else can be expected. */
    log_line(e->kind == ERR_PROTO && !c->closed ? LOG_WARN : LOG_DEBUG, "tunnel",
             "channel %s: %s", c->path, e->msg);
    if (!c->write_failed)
        chan_write_failed(c);
    /* The local user of the server's side closed its socket: it may still have said
     * something before.  Anything else cannot be carried on. */
    if (l->server && e->kind == ERR_SYS)
        return;
    c->aborted = true;
    chan_reset(l, c, NGHTTP2_INTERNAL_ERROR);
}

/* What is left to do outside the callbacks; frees the channel when that is nothing. */
static void chan_tend(struct link *l, struct chan *c)
{
    struct err e;

    if (c->ends.zstage != NULL && !c->zstage_seen &&
        zstage_failed(c->ends.zstage, &e)) {
        c->zstage_seen = true;
        chan_zstage_failed(l, c, &e);
    }
    chan_shut(c);
    /* Nobody reads here, and nothing more comes from here. */
    if (c->write_failed && c->read_end)
        chan_reset(l, c, NGHTTP2_CANCEL);

    if (!c->closed || c->opening || c->head != NULL)
        return;
    if (c->ends.zstage != NULL && !zstage_done(c->ends.zstage)) {
        /* The client's reads what nobody will get; the server's may have the rest of a
         * complete body to write. */
        if (!l->server || !c->write_end)
            zstage_stop(c->ends.zstage);
        return;
    }
    if (l->turn == c)
        l->turn = NULL;
    stream_remove(&c->s);
    chan_free(c);
}

/* The level of the zstage that had most to do since the last look. */
static void note_level(struct link *l)
{
    enum { LOOK_MS = 500 };
    const int64_t now = clock_ms();
    uint64_t most = 0;

    if (now - l->level_ms < LOOK_MS)
        return;
    l->level_ms = now;
    for (struct stream *s = l->streams; s != NULL; s = s->next) {
        struct chan *const c = chan_of(s);

        if (c == NULL || c->ends.zstage == NULL)
            continue;
        const uint64_t bytes = zstage_bytes(c->ends.zstage),
                       more = bytes - c->seen_bytes;
        c->seen_bytes = bytes;
        if (more > most) {
            most = more;
            atomic_store(&l->level, zstage_level(c->ends.zstage));
        }
    }
}

void chans_tend(struct link *l)
{
    note_level(l);
    for (struct stream *s = l->streams, *next; s != NULL; s = next) {
        next = s->next;
        if (chan_of(s) != NULL)
            chan_tend(l, chan_of(s));
    }
}

void chans_kill(struct link *l)
{
    while (l->streams != NULL) {
        struct chan *const c = chan_of(l->streams);

        assert(c != NULL && c->closed &&
               !c->opening); /* the rest ended with the link */
        c->aborted = true;
        stream_remove(&c->s);
        chan_free(c);
    }
}

/* --- poll --- */

static unsigned chan_poll(struct stream *s, struct pollfd *at)
{
    const struct chan *const c = (const struct chan *)s;
    const bool in = c->may_read && !c->closed && !c->readable && !c->read_end;
    const bool out = c->head != NULL && c->wfd >= 0 && !c->write_failed;
    const short events = (short)((in ? POLLIN : 0) | (out ? POLLOUT : 0));

    /* Nothing wanted, nothing polled: POLLHUP cannot be masked. */
    if (events == 0)
        return 0;
    if (c->rfd == c->wfd || !in || !out) {
        at[0] = (struct pollfd){ .fd = in ? c->rfd : c->wfd, .events = events };
        return 1;
    }
    at[0] = (struct pollfd){ .fd = c->rfd, .events = POLLIN };
    at[1] = (struct pollfd){ .fd = c->wfd, .events = POLLOUT };
    return 2;
}

static void chan_ready(struct link *l, struct stream *s, const struct pollfd *at)
{
    struct chan *const c = (struct chan *)s;
    enum { ENDS = POLLHUP | POLLERR };
    bool in = false, out = false;

    for (unsigned i = 0; i < s->nslots; i++) {
        in |= at[i].events & POLLIN && at[i].revents & (POLLIN | ENDS);
        out |= at[i].events & POLLOUT && at[i].revents & (POLLOUT | ENDS);
    }
    if (out)
        chan_flush(c);
    if (in && c->s.id != 0) {
        c->readable = true;
        link_moved(l);
        /* Bulk waits until chan_choose() calls it; an error says that it was not
         * deferred, and then nghttp2 asks by itself. */
        if (c->class != LINK_BULK)
            nghttp2_session_resume_data(l->h2, c->s.id);
    }
}

static void no_head(struct link *l, struct stream *s, const struct head *h)
{
    (void)s;
    (void)h;
    (void)link_violation(l, "a second response");
}

const struct stream_ops chan_ops = {
    .type = "application/octet-stream",
    .head = no_head,
    .data = chan_data,
    .end = chan_end,
    .closed = chan_closed,
    .poll = chan_poll,
    .ready = chan_ready,
};
