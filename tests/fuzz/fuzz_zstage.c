/* The packed stream of a channel.  It comes out in bounded memory, or is refused. */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/unix.h"
#include "tunnel/zstage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUT_MAX = 8 << 20 }; /* a bomb may go on for gigabytes: enough of it was seen */

static void nobody(void *arg)
{
    (void)arg;
}

struct input {
    int fd;
    const uint8_t *data;
    size_t size;
};

static void *feed(void *arg)
{
    const struct input *const in = arg;

    for (size_t at = 0; at < in->size;) {
        const ssize_t n = send(in->fd, in->data + at, in->size - at, MSG_NOSIGNAL);

        if (n <= 0)
            break;
        at += (size_t)n;
    }
    shutdown(in->fd, SHUT_WR);
    return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct zstage_cfg cfg = { .pack = false, .wake = nobody };
    static uint8_t out[64 << 10];
    struct zstage *z;
    pthread_t feeder;
    struct err e;
    int local[2], end;
    size_t total = 0;
    ssize_t n;

    if (!unix_pair(local, &e))
        abort();
    cfg.fd = local[0];
    if (!zstage_new(&cfg, &z, &end, &e))
        abort();
    struct input in = { end, data, size };
    if (pthread_create(&feeder, NULL, feed, &in) != 0)
        abort();
    while (total < OUT_MAX && !zstage_failed(z, &e) &&
           (n = recv(local[1], out, sizeof out, MSG_DONTWAIT)) != 0) {
        if (n > 0)
            total += (size_t)n;
        else
            sched_yield();
    }
    zstage_stop(z);
    pthread_join(feeder, NULL);
    zstage_free(z);
    close(local[0]);
    close(local[1]);
    close(end);
    return 0;
}
