/* src/tunnel/link.h - one HTTP/2 session over one byte pipe (ssh's stdin and stdout).
 *
 * The source is the HTTP/2 client, the agent the server.  Control calls are requests with
 * JSON bodies; a channel is a POST whose body streams in both directions and whose local
 * end is a descriptor (socket) that the link reads and writes.  One thread owns the session
 * and forwards between the pipe and the channels' descriptors with flow control per
 * channel: a slow reader of one channel never holds up another, nor control.  Compression
 * (zstd frames, content-encoding: zstd) of the direction client -> server runs in a thread
 * of the channel at either end.
 *
 * What lies unread in the buffers between the two ends (pipes, ssh, TCP) is kept to about
 * 50 ms of the network's speed (pace.h), so that calls and heartbeats pass quickly.
 *
 * Heartbeat: PING every 2 s; no byte from the peer for 10 s breaks the link (ERR_LINK).
 * A broken link closes every channel's descriptor (both directions: the local user sees
 * end of file or EPIPE) and fails every call with the first cause; it never recovers: dial
 * a new one.
 */
#ifndef SNM_TUNNEL_LINK_H
#define SNM_TUNNEL_LINK_H

#include <stdint.h>

#include "base/err.h"
#include "base/json.h"

struct link;
struct cancel;

enum link_state {
    LINK_GREETING,
    LINK_OPEN,
    LINK_DRAINING,
    LINK_CLOSED,
    LINK_BROKEN,
    LINK_STATES
};

/* How a channel's bulk direction (client to server) is encoded. */
enum { ZSTD_AUTO = 1000, ZSTD_OFF = 1001 }; /* else a level, -5 to 19 */

enum link_class {
    LINK_BULK, /* disks, RAM: large windows */
    LINK_TALK, /* libvirt RPC: small messages, goes first */
};

/* The server's side of the conversation; called on threads of a small pool (at least 8),
 * so that a blocking handler holds up nobody else. */
struct link_server_ops {
    /* @body may be NULL.  On success *reply (may stay NULL) is taken over.  A failure is
     * sent as a problem document {kind, os, what, next} and arrives as the client's error
     * with the same errno and texts, prefixed "dst: ", and the same kind if that is SYS,
     * NBD, VIRT, PROTO, TIMEOUT or REFUSED; else it is PEER. */
    bool (*request)(void *ctx, const char *method, const char *path,
                    struct json_object *body, struct json_object **reply,
                    struct err *e);
    /* Give the local end of a new channel, a connected stream socket which the link then
     * owns.  @path is what follows "/channel/". */
    bool (*channel)(void *ctx, const char *path, int *fd, struct err *e);
    void *ctx;
};

struct link_cfg {
    int in, out;      /* the pipe; owned by the link from the call on */
    uint64_t rate;    /* bytes/s sent on the pipe, 0 no limit */
    int heartbeat_ms; /* 0: 10 s */
    const struct link_server_ops *server; /* NULL: client */
};

/* Start the session and its threads.  Client: blocks until the peer's SETTINGS arrive or
 * @timeout_ms is over.  Errors: ERR_PROTO not our peer (with the first bytes it sent,
 * escaped), ERR_LINK end of file, ERR_TIMEOUT, ERR_CANCELLED.  SIGPIPE is ignored in the
 * whole process from then on, unless it has a handler: the pipe's other end may go. */
MUST_CHECK bool link_open(const struct link_cfg *cfg, int timeout_ms,
                          const struct cancel *cancel, struct link **out,
                          struct err *e);

/* A control call: method and path as in src/README.md; @body is taken over, may be NULL;
 * *reply (may be NULL to ignore) is owned by the caller and may be set to NULL where the
 * peer had nothing to say.  Thread: any, several at once.
 * Errors: the peer's (see above), ERR_LINK, ERR_TIMEOUT (the call is reset then; whether
 * the peer did it is unknown), ERR_CANCELLED. */
MUST_CHECK bool link_call(struct link *l, const char *method, const char *path,
                          struct json_object *body, int timeout_ms,
                          const struct cancel *cancel, struct json_object **reply,
                          struct err *e);

/* Open the channel @path ("disk/vda", "ram", "libvirt") whose local end is @fd, a connected
 * stream socket owned by the link from here on, also on failure.  Returns when the peer
 * has answered 200 or refused.  @zstd: a level, ZSTD_AUTO or ZSTD_OFF.
 * End of file on one side's descriptor becomes shutdown(SHUT_WR) on the other's. */
MUST_CHECK bool link_channel(struct link *l, const char *path, int fd,
                             enum link_class class, int zstd, struct err *e);

/* The same with a socket pair; *fd is the caller's end. */
MUST_CHECK bool link_channel_pair(struct link *l, const char *path,
                                  enum link_class class, int zstd, int *fd,
                                  struct err *e);

void link_set_rate(struct link *l, uint64_t bytes_per_s);

enum link_state link_state(const struct link *l);
/* Readable once the link is no longer open; for poll(2). */
int link_lost_fd(const struct link *l);
/* Why it broke; ERR_NONE while it has not. */
void link_cause(const struct link *l, struct err *e);

struct link_stats {
    uint64_t sent, received; /* bytes on the pipe */
    uint64_t plain, packed;  /* bytes into and out of the zstd stages that send */
    int64_t rtt_us;          /* the shortest of the last 10 to 20 s; -1: none yet */
    int level;               /* of the busiest zstd stage now */
};
void link_stats(const struct link *l, struct link_stats *out);

/* Server: block until the client has gone or the link broke.  true: orderly end. */
MUST_CHECK bool link_wait(struct link *l, struct err *e);

/* Orderly end where possible (GOAWAY, flush up to 1 s), then stop the threads and free.
 * A server waits for its running handlers: end what they wait for first. */
void link_close(struct link *l);
void link_close_auto(struct link **l);

#endif
