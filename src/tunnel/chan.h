/* src/tunnel/chan.h - a channel, as channel.c (bytes) and chan-open.c (opening) share it. */
#ifndef SNM_TUNNEL_CHAN_H
#define SNM_TUNNEL_CHAN_H

#include "tunnel/link-int.h"

/* The local end of a channel.  What a thread of the pool made, the session takes over. */
struct ends {
    int fd;   /* the socket; -1: not there yet */
    int pair; /* the session's end of the zstage's pair, or -1 */
    struct zstage *zstage;
};
#define ENDS_NONE \
    { \
        -1, -1, NULL \
    }

struct block; /* bytes that wfd did not take yet */

struct chan {
    struct stream s;    /* must stay first */
    struct task start;  /* client */
    struct job open;    /* server: calls the handler in the pool; */
    struct task opened; /* then this brings the descriptor back */
    struct link *l;
    char path[PATH_MAX_LEN];
    enum link_class class;
    bool packed;

    /* The pool's while ->opening. */
    struct ends made;
    struct err open_err; /* what the handler said */

    /* Session thread only. */
    struct wait *wait; /* client: who waits for the answer, or NULL */
    struct ends ends;
    int rfd, wfd;        /* two of them; -1: not there yet */
    uint64_t seen_bytes; /* through the zstage, at the last look */
    struct body problem; /* a refusal, coming or going */
    int status;          /* client: of the answer */

    bool opening;  /* server: in the pool */
    bool may_read; /* the answer was 200 */
    bool readable; /* rfd had something when looked at last */
    bool read_end; /* rfd is at its end */
    bool read_failed;
    bool write_end;    /* the peer's body is complete */
    bool write_shut;   /* and wfd knows */
    bool write_failed; /* nobody reads any more: throw away */
    bool closed;       /* the stream is gone */
    bool aborted;      /* by a reset of either side, or with the link */
    bool reset;        /* we have asked for it */
    bool zstage_seen;  /* its failure was dealt with */

    uint32_t window; /* of the stream, promised beyond the initial one */
    struct block *head, **tail;
};

extern const struct stream_ops chan_ops;    /* open, or being opened by a server */
extern const struct stream_ops opening_ops; /* client: no answer yet */

struct chan *chan_new(struct link *l, const char *path, struct err *e);
/* Not in the link's list, no stream, no job.  Stops the zstage if it must. */
void chan_free(struct chan *c);
/* Make the ends of a channel around the socket @fd, which is taken over in any case; @zstd
 * as link_channel(), packing at the client, unpacking at the server.  Any thread. */
MUST_CHECK bool ends_make(struct link *l, int fd, int zstd, struct ends *out,
                          struct err *e);
void ends_free(struct ends *ends);

/* --- session thread --- */

/* From now on the channel reads and writes there. */
void chan_take_ends(struct chan *c, const struct ends *ends);
/* Let the peer send more than the initial window. */
void chan_window_open(struct chan *c);
void chan_window_give_back(struct chan *c, size_t n);
/* The body to submit: what comes from ->rfd. */
nghttp2_data_provider chan_provider(struct chan *c);
/* Write what is kept, as far as it goes. */
void chan_flush(struct chan *c);
/* Nobody takes what comes: it is thrown away from now on. */
void chan_write_failed(struct chan *c);
void chan_closed(struct link *l, struct stream *s, uint32_t code);
void chan_reset(struct link *l, struct chan *c, uint32_t code);

#endif
