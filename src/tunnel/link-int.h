/* src/tunnel/link-int.h - what the files of the tunnel share; private to src/tunnel/.
 *
 * Threads of one link, all with every signal blocked:
 *
 *   session   the only one that touches nghttp2, the pipe, streams and channels; it never
 *             blocks but in poll(2).  Lives from link_open() to link_close().
 *   pool      server: POOL_THREADS that run the handlers of link_server_ops.  They live as
 *             long as the link: children that a handler spawned die with its thread.
 *   zstage    one per compressed channel: blocking recv, compress or expand, blocking send.
 *
 * Other threads reach the session by link_post(): a task runs on the session's thread.
 *
 *   caller --task--> session <--poll--> pipe, channels' sockets
 *                       |  job ^ task
 *                       v      |
 *                      pool ---+
 *
 * Locks: link.lock and pool.lock; neither is taken while the other is held, and none is
 * held over I/O or a callback.
 */
#ifndef SNM_TUNNEL_LINK_INT_H
#define SNM_TUNNEL_LINK_INT_H

#include <assert.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/rate.h"
#include "base/thread.h"
#include "tunnel/link.h"
#include "tunnel/pace.h"

enum {
    FRAME_MAX = 1 << 20,    /* bytes of one DATA frame, SETTINGS_MAX_FRAME_SIZE */
    INBUF = 1 << 20,        /* bytes received at once, at most */
    PIPE_SIZE = 1 << 20,    /* of the pipes to ssh: the most without a privilege */
    BULK_BUF = 512 << 10,   /* of the sockets on a bulk channel's way: fewer turns */
    FRAME_MIN = 16 << 10,   /* what bulk gets however slow the pipe is */
    WINDOW_BULK = 16 << 20, /* bytes a bulk channel may have on its way to us, */
    WINDOW_BULK_ALL = 96 << 20, /* and all of them together: later ones get less */
    WINDOW_TALK = 1 << 20, /* the same for the rest; SETTINGS_INITIAL_WINDOW_SIZE */
    STREAMS_MAX = 256,     /* open at one time */
    JOBS_MAX = 2 * STREAMS_MAX,      /* handlers not finished; more is a reset flood */
    BODIES_MAX = 4 * JSON_MAX_BYTES, /* control bodies held at one time */
    HEADERS_MAX = 16 << 10,          /* bytes of the header fields of one stream */
    PATH_MAX_LEN = 1024,
    POOL_THREADS = 16,
    PING_MS = 2000,
    HEARTBEAT_MS = 10000,
    DRAIN_MS = 1000,         /* link_close: for what is under way */
    DRAIN_IDLE_MS = 100,     /* nothing moved for so long: nothing is under way */
    CHANNEL_OPEN_MS = 60000, /* for the peer's channel handler */
};

/* --- tasks: run something on the session's thread --- */

struct task {
    struct task *next;
    void (*run)(struct link *l, struct task *t);
};

/* For new work: false, nothing queued, when the link is not open.  Tasks run in the order
 * posted, also after the link broke (they look at l->up), and before it is freed. */
MUST_CHECK bool link_post(struct link *l, struct task *t, struct err *e);
/* For what was begun: in any state. */
void link_post_always(struct link *l, struct task *t);
/* Make the session look at its channels. */
void link_wake(struct link *l);
/* Session thread. */
void link_tasks_run(struct link *l);

/* --- streams: one HTTP/2 stream, whatever it is used for; session thread only --- */

struct head { /* the header fields that mean something to us */
    int status;
    char method[16];
    char path[PATH_MAX_LEN];
    bool zstd, bulk;
    size_t bytes; /* of all fields */
};

struct stream;
struct stream_ops {
    const char *type; /* content-type of its bodies */
    /* Client: the response's header block came. */
    void (*head)(struct link *l, struct stream *s, const struct head *h);
    /* Bytes of the peer's body; the owner gives the stream's window back. */
    void (*data)(struct link *l, struct stream *s, const uint8_t *p, size_t len);
    /* The peer's body is complete. */
    void (*end)(struct link *l, struct stream *s);
    /* nghttp2 has forgotten the stream (or the link broke): nothing above comes any more.
     * @code: NGHTTP2_NO_ERROR where both bodies were complete. */
    void (*closed)(struct link *l, struct stream *s, uint32_t code);
    /* Fill pollfd slots from @at; return how many, at most 2.  May be NULL. */
    unsigned (*poll)(struct stream *s, struct pollfd *at);
    void (*ready)(struct link *l, struct stream *s, const struct pollfd *at);
};

struct stream {
    const struct stream_ops *ops;
    int32_t id;                   /* 0: not in nghttp2 */
    struct stream *next, **pprev; /* in link.streams; pprev NULL: not in the list */
    unsigned slot, nslots;        /* in the poll table of this turn */
};

void stream_add(struct link *l, struct stream *s);
void stream_remove(struct stream *s);

/* --- out.c: the sending side of the pipe --- */

struct out {
    uint8_t *small; /* SMALL_MAX bytes: frames as nghttp2 gives them, in order, */
    size_t small_len;
    uint8_t *big; /* FRAME_MAX bytes: then the payload of one DATA frame */
    size_t big_len;
    size_t pos;    /* how much of both was written */
    bool more;     /* the turn ended, not the work */
    uint64_t bulk; /* bytes of bulk channels that were sent */
    bool ping_due; /* for the heartbeat */
    struct rate rate;
    struct pace pace;
};

struct chan;
MUST_CHECK bool out_init(struct link *l, struct err *e);
void out_fini(struct link *l);
/* Write until the pipe is full, nothing is left or a turn's share was sent. */
MUST_CHECK bool out_pump(struct link *l, struct err *e);
/* Something is on its way to the pipe. */
bool out_pending(const struct link *l);
/* A violation: tell the peer why, as far as the pipe takes it without waiting. */
void out_last_words(struct link *l, const char *why);
/* Nanoseconds until something that waits for the rate limit may go; -1: nothing does. */
int64_t out_wait_ns(struct link *l);
/* The largest DATA frame now. */
size_t out_frame(struct link *l);

/* --- the link --- */

struct link {
    /* Fixed by link_open(). */
    int in, out_fd, wake_fd, lost_fd, greet_fd;
    bool server;
    int heartbeat_ms;
    struct link_server_ops ops;
    pthread_t thread;
    struct pool *pool; /* server */

    /* Session thread only. */
    bool up; /* not broken and not closed: h2 may be used */
    nghttp2_session *h2;
    struct stream *streams; /* all, also channels that outlive their HTTP/2 stream */
    struct chan *chosen;    /* the bulk channel whose frame goes next */
    struct chan *turn;      /* where the round over the bulk channels goes on */
    struct out out;
    struct head head; /* of the header block that is coming in */
    uint8_t *inbuf;
    uint8_t first[64]; /* what the peer said first */
    unsigned nfirst;
    struct err violation;  /* set inside nghttp2's callbacks */
    char h2_said[200];     /* nghttp2's newest complaint */
    uint64_t windows_bulk; /* promised to bulk channels */
    uint64_t bodies;       /* bytes of control bodies held */
    unsigned jobs;         /* handed to the pool and not back */
    int64_t last_rx_ms, last_ping_ms, moved_ms, drain_until_ms, level_ms;
    bool bye_sent, bye_received;

    /* Any thread. */
    atomic_uint_fast64_t sent, received, plain, packed, want_rate;
    atomic_int_fast64_t rtt_us;
    atomic_int level;
    atomic_bool rate_changed;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t moved; /* state changed */
    struct task *tasks, **tasks_end;
    enum link_state state;
    struct err cause;
    bool close_asked, quit;
};

/* The link is over because of @e; the first cause stays.  Session thread. */
void link_break(struct link *l, const struct err *e);
/* For nghttp2's callbacks: note the peer's violation; the return value of the callback. */
PRINTF(2, 3) int link_violation(struct link *l, const char *fmt, ...);
/* The cause, or that the link is not open; always sets *e.  Any thread. */
void link_error(const struct link *l, struct err *e);
/* Both have said goodbye, or one has and the pipe is gone.  Session thread. */
void link_end(struct link *l);
void link_move(struct link *l, enum link_state to);
/* Something of a channel moved: a closing link waits on. */
void link_moved(struct link *l);

void link_pipe_close(struct link *l);
/* Make an eventfd readable. */
void raise_fd(int fd);

/* --- loop.c, input.c: the session's thread --- */

void *loop_main(void *link);
/* Receive what the pipe has. */
MUST_CHECK bool input_turn(struct link *l, struct err *e);

/* --- session.c: nghttp2's callbacks --- */

/* A path of ours: 1 to @max printable characters without blanks.  ERR_USAGE. */
MUST_CHECK bool path_check(const char *path, size_t max, struct err *e);
MUST_CHECK bool session_new(struct link *l, struct err *e);
/* Hand over what came from the pipe. */
MUST_CHECK bool session_input(struct link *l, const uint8_t *p, size_t len,
                              struct err *e);
/* false: nghttp2 has found a violation by itself, and has sent its GOAWAY. */
MUST_CHECK bool session_goes_on(struct link *l, struct err *e);
/* Start a request with a body that ops->... sends; @src NULL: no body.  Client. */
MUST_CHECK bool session_request(struct link *l, struct stream *s, const struct head *h,
                                const nghttp2_data_provider *src, struct err *e);
MUST_CHECK bool session_response(struct link *l, struct stream *s, int status,
                                 const nghttp2_data_provider *src, struct err *e);
void session_reset(struct link *l, struct stream *s, uint32_t code);

/* --- wait.c: a caller that waits for what the session does for it --- */

struct wait {
    struct task abandon; /* must stay first */
    atomic_int refs;     /* the caller's and the session's */
    int efd;
    struct stream *s;     /* session thread only; NULL: no stream to reset */
    pthread_mutex_t lock; /* guards below */
    bool done;
    struct err err;
};

struct wait *wait_new(struct err *e);
void wait_unref(struct wait *w);
/* Session: done, with @e or well (NULL).  The first call counts. */
void wait_finish(struct wait *w, const struct err *e);
/* Caller: true when it went well.  After ERR_TIMEOUT or ERR_CANCELLED the stream is reset. */
MUST_CHECK bool wait_for(struct link *l, struct wait *w, int timeout_ms,
                         const struct cancel *c, struct err *e);

/* --- body.c: bytes of a control message --- */

struct body {
    uint8_t *p;
    size_t len, size;
    size_t pos; /* sent */
};

/* false: over JSON_MAX_BYTES or BODIES_MAX, or out of memory. */
MUST_CHECK bool body_add(struct link *l, struct body *b, const uint8_t *p, size_t len);
void body_free(struct link *l, struct body *b);
nghttp2_data_provider body_source(struct body *b);
/* The JSON text of @o; false: out of memory. */
MUST_CHECK bool body_of_json(struct body *b, struct json_object *o);

/* --- problem.c: a failure as a document; pure --- */

struct json_object *problem_make(const struct err *e);
int problem_status(enum err_kind kind);
/* Always sets *e from the document, whatever it holds; returns false. */
bool problem_read(int status, const uint8_t *text, size_t len, struct err *e);

/* --- serve.c, channel.c, pool.c --- */

/* A request came (header block complete).  Returns what the callback returns. */
int serve_request(struct link *l, int32_t id, const struct head *h);
int chan_accept(struct link *l, int32_t id, const struct head *h);
bool chan_path(const char *path);

/* Let the next bulk channel that has something to send have its frame: its number in
 * nghttp2, 0 when there is none. */
int32_t chan_choose(struct link *l);
/* Some bulk channel has something to send and could. */
bool chan_waiting(struct link *l);
/* What is left to do outside nghttp2's callbacks; frees channels that are over. */
void chans_tend(struct link *l);
/* Free all channels, whatever they still had to write. */
void chans_kill(struct link *l);
/* The class of channel a stream is: DATA frames of bulk are sized by speed. */
bool stream_is_bulk(const struct stream *s);

struct job {
    struct job *next;
    /* @drop: the pool stops, do not call the handler. */
    void (*run)(struct job *j, bool drop);
};
MUST_CHECK bool pool_new(struct pool **out, struct err *e);
void pool_add(struct pool *p, struct job *j);
/* Let running handlers end, drop the others, join the threads. */
void pool_stop(struct pool *p);

#endif
