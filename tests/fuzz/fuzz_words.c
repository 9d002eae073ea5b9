/* Texts of users, of ssh and of the agent's host: where to go, the words of --ssh, log lines.
 * What is taken as a host can never be an option of ssh; what is shown is no control. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "tests/fuzz/text.h"
#include "tunnel/sshcmd.h"
#include "tunnel/words.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_be_clean(const char *s)
{
    for (; *s != '\0'; s++)
        if ((unsigned char)*s < ' ' || *s == 0x7f)
            abort();
}

static void sink(enum log_level level, const char *line, void *ctx)
{
    (void)level, (void)ctx;
    must_be_clean(line);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    log_init(LOG_TRACE, "src");
    log_set_sink(sink, NULL);
    return 0;
}

static void check_argv(const struct sshcmd *c, const struct dest *d)
{
    if (c->n < 3 || strcmp(c->argv[c->n - 1], "snmigrate agent") != 0 ||
        strcmp(c->argv[c->n - 2], d->host) != 0 || strcmp(c->argv[c->n - 3], "--") != 0)
        abort();
    for (unsigned i = 0; i + 1 < c->n; i++)
        if (strcmp(c->argv[i], "-l") == 0 && c->argv[i + 1] == d->user &&
            d->user[0] == '-')
            abort();
}

static void go_to(const char *s)
{
    const struct sshcmd_opts o = { .connect_s = 15, .batch = true };
    static struct sshcmd c;
    struct dest d;
    struct err e = { 0 };

    if (!dest_parse(s, &d, &e))
        return;
    if (d.host[0] == '-' || d.host[0] == '\0' || d.user[0] == '-' || d.port > 65535)
        abort();
    must_be_clean(d.host);
    must_be_clean(d.user);
    if (sshcmd_words("ssh", &c, &e) && sshcmd_finish(&c, &d, &o, &e))
        check_argv(&c, &d);
}

static void say(const char *s, size_t len)
{
    char cause[WORDS_LEN];
    struct words *w;
    struct err e;
    int pipes[2];

    if (pipe(pipes) < 0)
        abort();
    if (!words_new(pipes[0], &w, &e))
        abort();
    if (write(pipes[1], s, len) < 0)
        abort();
    close(pipes[1]);
    words_end(w, cause);
    words_free(w);
    must_be_clean(cause);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { PIPE_ROOM = 16 << 10 };
    AUTO(mem_free) char *text = text_of(data, size);
    static struct sshcmd c;
    struct err e = { 0 };

    go_to(text);
    (void)!sshcmd_words(text, &c, &e);
    log_foreign("dst", text);
    say((const char *)data, size < PIPE_ROOM ? size : PIPE_ROOM);
    return 0;
}
