/* tests/lib/link-duo.h - a client and a server of the tunnel in one process, over a socket
 * pair that a test can cut, slow down or corrupt. */
#ifndef SNM_TESTS_LINK_DUO_H
#define SNM_TESTS_LINK_DUO_H

#include <pthread.h>
#include <stdatomic.h>

#include "tunnel/link.h"

enum {
    LONG_MS = 60000, /* a test that waits so long has failed */
    KIB = 1 << 10,
    MIB = 1 << 20,
    FAR_FDS = 512,
};

/* What the server's handlers share.  Paths: "/echo", "/nothing", "/method", "/wait" (until
 * far_go()), "/moves/..." (says what it was asked), anything else fails with ENOSPC;
 * channels: all but "refused". */
struct far {
    pthread_mutex_t lock; /* guards below */
    pthread_cond_t changed;
    bool go;          /* "/wait" handlers may return */
    unsigned waiting; /* of them */
    int fds[FAR_FDS]; /* the service's end of each channel, in the order opened */
    unsigned nfds;
};

void far_init(struct far *f);
void far_fini(struct far *f); /* closes the descriptors */
void far_go(struct far *f);
void far_wait_for(struct far *f, unsigned waiting);
struct link_server_ops far_ops(struct far *f);

struct duo {
    struct far far;
    struct link *client, *server;
    int wire; /* a copy of the client's end of the pipe, to cut it */
};

void duo_open(struct duo *d);
void duo_open_with(struct duo *d, uint64_t rate, int heartbeat_ms);
void duo_close(struct duo *d);
/* Both directions of the pipe end, as when ssh dies. */
void duo_cut(struct duo *d);

/* A channel: the user's end is returned, *far is the service's end, which the duo owns. */
int duo_channel(struct duo *d, enum link_class class, int zstd, int *far);
/* The service closes its end of the newest channel. */
void duo_far_close(struct duo *d);

/* Bytes whose value follows from their place: compressible, but not by much. */
void pattern(uint8_t *p, size_t len, uint64_t at, unsigned seed);

/* A thread that sends or receives that many bytes of the pattern. */
struct flow {
    int fd;
    uint64_t bytes;
    unsigned seed;
    bool shut; /* sending: shutdown(SHUT_WR) behind them */
    bool bad;  /* out: what came was not the pattern, or not exactly all of it */
    pthread_t thread;
};

void flow_send(struct flow *f);
void flow_receive(struct flow *f); /* up to the end of file */
/* Wait for it; true: all was well. */
bool flow_end(struct flow *f);

#endif
