/* What an agent answers: the input is what comes on the pipe once the source has asked. */
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/findings.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"
#include "tunnel/link.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LONG_MS = 20000 };

static void quiet(enum log_level level, const char *line, void *ctx)
{
    (void)level, (void)line, (void)ctx;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    log_set_sink(quiet, NULL);
    return 0;
}

struct agent {
    int fd;
    const uint8_t *data;
    size_t size;
};

/* Greet; wait for the request, the first stream's HEADERS; then say it, and hang up. */
static void *agent_main(void *arg)
{
    static const uint8_t greeting[] = { 0, 0, 0, 4, 0, 0, 0, 0, 0 };
    const struct agent *const a = arg;
    uint8_t head[9];
    struct err e;

    if (!fd_write_all(a->fd, greeting, sizeof greeting, &e))
        return NULL;
    while (fd_read_all(a->fd, head, sizeof head, &e)) {
        uint8_t rest[256];
        size_t len = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];

        if (head[0] == 'P') /* "PRI * HTT", 15 more of the preface */
            len = 15;
        if (len > sizeof rest || !fd_read_all(a->fd, rest, len, &e) || head[3] == 1)
            break;
    }
    (void)!fd_write_all(a->fd, a->data, a->size, &e);
    shutdown(a->fd, SHUT_WR);
    return NULL;
}

static void look(struct json_object *reply)
{
    AUTO(findings_fini) struct findings f = { 0 };
    struct json_object *list;
    struct err e;

    if (json_get_array(reply, "findings", &list, &e))
        (void)!findings_from_json(&f, list, &e);
}

/* None of these is a peer's to claim: the source's exit status and its undo go by them. */
static bool is_ours_alone(enum err_kind kind)
{
    return kind == ERR_UNRESOLVED || kind == ERR_GUEST || kind == ERR_CANCELLED ||
           kind == ERR_STALLED || kind == ERR_CONNECT || kind == ERR_USAGE;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(json_put) struct json_object *reply = NULL;
    struct link *l = NULL;
    pthread_t t;
    struct err e;
    int pair[2];

    if (!unix_pair(pair, &e))
        abort();
    struct agent a = { pair[1], data, size };
    if (pthread_create(&t, NULL, agent_main, &a) != 0)
        abort();
    const struct link_cfg cfg = { .in = pair[0], .out = pair[0] };
    if (!link_open(&cfg, LONG_MS, NULL, &l, &e))
        abort();
    if (link_call(l, "GET", "/agent", NULL, LONG_MS, NULL, &reply, &e))
        look(reply);
    else if (is_ours_alone(e.kind) || e.msg[0] == '\0')
        abort();
    link_close(l);
    pthread_join(t, NULL);
    close(pair[1]);
    return 0;
}
