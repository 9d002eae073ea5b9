/* The sending side of the pipe.
 *
 * What goes out is made in batches: the frames that nghttp2 has ready (settings, pings,
 * window updates, headers, control bodies), then at most one DATA frame of a channel.  A
 * batch is written completely before the next is made, so a control frame waits for one
 * DATA frame at most, and that one is as small as 20 ms of the network.
 *
 * Order: control and talk by nghttp2; bulk only when nothing of them is left, one channel
 * after the other (chan_choose), and only when the rate limit lets it and the pace, which
 * bounds what lies in the buffers between here and the peer.  A bulk stream is "deferred"
 * for nghttp2 whenever it was not chosen.
 */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "tunnel/link-int.h"

enum {
    SMALL_MAX = 64 << 10,
    SMALL_ROOM = 20 << 10, /* nghttp2 gives at most 16 KiB and a frame header at once */
    FRAME_PARTS = 50,      /* of a second: a frame takes 20 ms of the network */
    TURN_MAX = 4 << 20,    /* bytes before the other descriptors are looked at */
    FRAME_UNMEASURED = 64 << 10,
};

bool out_init(struct link *l, struct err *e)
{
    struct out *const o = &l->out;

    o->small = malloc(SMALL_MAX);
    o->big = malloc(FRAME_MAX);
    if (o->small == NULL || o->big == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "send buffers");
    return true;
}

void out_fini(struct link *l)
{
    free(l->out.small);
    free(l->out.big);
}

int64_t out_wait_ns(struct link *l)
{
    /* While the pace holds it up, the answer to a probe wakes us. */
    if (out_pending(l) || !chan_waiting(l) || !pace_open(&l->out.pace, l->out.bulk))
        return -1;
    return rate_wait_ns(&l->out.rate, clock_ns());
}

bool out_pending(const struct link *l)
{
    return l->out.pos < l->out.small_len + l->out.big_len;
}

size_t out_frame(struct link *l)
{
    const struct out *const o = &l->out;
    const uint64_t speed = pace_speed(&o->pace);
    uint64_t n = speed != 0 ? speed / FRAME_PARTS : FRAME_UNMEASURED;

    if (n < FRAME_MIN)
        n = FRAME_MIN;
    if (n > rate_burst(&o->rate))
        n = rate_burst(&o->rate);
    return n < FRAME_MAX ? (size_t)n : FRAME_MAX;
}

/* --- making a batch --- */

/* Append what nghttp2 has ready, until it has no more or gave a DATA frame. */
static bool collect(struct link *l, struct err *e)
{
    struct out *const o = &l->out;
    const uint8_t *p;

    while (o->big_len == 0 && SMALL_MAX - o->small_len >= SMALL_ROOM) {
        const ssize_t n = nghttp2_session_mem_send(l->h2, &p);

        if (n < 0)
            return err_set(e, ERR_LINK, 0, "HTTP/2 session: %s",
                           nghttp2_strerror((int)n));
        if (n == 0)
            break;
        if ((size_t)n > SMALL_MAX - o->small_len)
            return err_set(e, ERR_LINK, 0, "HTTP/2 session gave %zd bytes at once", n);
        memcpy(o->small + o->small_len, p, (size_t)n);
        o->small_len += (size_t)n;
    }
    return true;
}

/* A PING at the head of the batch: for the pace, or for the heartbeat. */
static bool ping(struct link *l, struct err *e)
{
    struct out *const o = &l->out;
    uint64_t number =
        UINT64_MAX; /* of no probe: its answer only shows that they live */

    if (!o->ping_due && !pace_wants_probe(&o->pace, o->bulk))
        return true;
    if (!pace_full(&o->pace))
        number = pace_probe(&o->pace, o->bulk, clock_ns());
    o->ping_due = false;
    const int rc =
        nghttp2_submit_ping(l->h2, NGHTTP2_FLAG_NONE, (const uint8_t *)&number);
    return rc == 0 ? true : err_set(e, ERR_LINK, 0, "ping: %s", nghttp2_strerror(rc));
}

static bool may_send_bulk(struct link *l)
{
    return pace_open(&l->out.pace, l->out.bulk) &&
           rate_wait_ns(&l->out.rate, clock_ns()) == 0;
}

static bool make_batch(struct link *l, struct err *e)
{
    struct out *const o = &l->out;

    assert(!out_pending(l)); /* the buffers are free to be written into */
    o->small_len = o->big_len = o->pos = 0;
    if (!ping(l, e) || !collect(l, e))
        return false;
    if (o->big_len != 0 || !may_send_bulk(l))
        return true;

    /* A channel whose socket turns out to be empty gives no frame: ask the next. */
    for (int i = 0; i < STREAMS_MAX && o->big_len == 0; i++) {
        const size_t before = o->small_len;
        const int32_t id = chan_choose(l);

        if (id == 0)
            break;
        nghttp2_session_resume_data(l->h2, id);
        if (!collect(l, e))
            return false;
        l->chosen = NULL;
        if (o->small_len > before)
            break; /* its end of stream or a reset: send that */
    }
    return true;
}

/* --- writing it --- */

/* *full: the pipe takes no more now. */
static bool write_batch(struct link *l, bool *full, struct err *e)
{
    struct out *const o = &l->out;

    while (out_pending(l)) {
        const size_t small = o->pos < o->small_len ? o->small_len - o->pos : 0;
        const size_t big_at = small != 0 ? 0 : o->pos - o->small_len;
        struct iovec v[2] = { { o->small + o->pos, small },
                              { o->big + big_at, o->big_len - big_at } };

        if (!fault_point("tunnel.send", e)) {
            e->kind = ERR_LINK; /* as if the network had done it */
            return err_wrap(e, "sending");
        }
        const ssize_t n = small != 0 ? writev(l->out_fd, v, 2)
                                     : write(l->out_fd, v[1].iov_base, v[1].iov_len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            *full = true;
            return true;
        }
        if (n < 0)
            return err_set(e, ERR_LINK, errno, "sending to the peer");
        o->pos += (size_t)n;
        atomic_fetch_add(&l->sent, (uint64_t)n);
        rate_take(&o->rate, (uint64_t)n, clock_ns());
    }
    return true;
}

void out_last_words(struct link *l, const char *why)
{
    struct out *const o = &l->out;
    struct err ignored;
    bool full;

    /* In the middle of a frame nothing else can be said. */
    if (out_pending(l))
        return;
    o->small_len = o->big_len = o->pos = 0;
    if (nghttp2_submit_goaway(
            l->h2, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(l->h2),
            NGHTTP2_PROTOCOL_ERROR, (const uint8_t *)why, strlen(why)) == 0 &&
        collect(l, &ignored))
        (void)write_batch(l, &full, &ignored);
}

bool out_pump(struct link *l, struct err *e)
{
    struct out *const o = &l->out;
    const uint64_t start = atomic_load(&l->sent);
    bool full = false;

    o->more = false;
    if (atomic_exchange(&l->rate_changed, false))
        rate_set(&o->rate, atomic_load(&l->want_rate), clock_ns());

    while (atomic_load(&l->sent) - start < TURN_MAX) {
        if (!out_pending(l)) {
            if (!make_batch(l, e))
                return false;
            if (!out_pending(l))
                return true;
        }
        if (!write_batch(l, &full, e))
            return false;
        if (full)
            return true;
    }
    o->more = true;
    return true;
}
