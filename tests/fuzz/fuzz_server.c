/* What comes to an agent through the pipe: HTTP/2, whoever speaks it.  The client's preface
 * is sent before the input, or no input would get far. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/unix.h"
#include "tests/lib/link-duo.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    enum { INPUT_MAX = 64 << 10 }; /* what the pair takes without a reader */
    struct far far;
    struct link *l;
    struct err e;
    int pair[2];

    far_init(&far);
    far_go(&far);
    const struct link_server_ops ops = far_ops(&far);
    if (size > INPUT_MAX)
        return 0;
    if (!unix_pair(pair, &e) ||
        !fd_write_all(pair[1], preface, sizeof preface - 1, &e) ||
        !fd_write_all(pair[1], data, size, &e))
        abort();
    shutdown(pair[1], SHUT_WR);
    const struct link_cfg cfg = { .in = pair[0], .out = pair[0], .server = &ops };
    if (!link_open(&cfg, 0, NULL, &l, &e))
        abort();
    if (!link_wait(l, &e) && e.msg[0] == '\0')
        abort(); /* broken, and it does not say why */
    link_close(l);
    close(pair[1]);
    far_fini(&far);
    return 0;
}
