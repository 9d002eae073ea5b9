#include "tunnel/words.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/log.h"
#include "base/mem.h"
#include "tunnel/link-int.h"

enum { LINE_MAX_LEN = 2048 }; /* a longer one is taken in pieces */

struct words {
    int fd, stop_fd;
    pthread_t thread;
    bool running;

    /* The thread's own, then words_end()'s. */
    char line[LINE_MAX_LEN];
    size_t len;
    char cause[WORDS_LEN];
    int rank; /* of ->cause */
};

/* A line of base/log: "12:04:31.118 dst info ...". */
static bool is_agent_line(const char *s)
{
    static const char form[] = "00:00:00.000 ";

    for (size_t i = 0; form[i] != '\0'; i++)
        if (form[i] == '0' ? !isdigit((unsigned char)s[i]) : s[i] != form[i])
            return false;
    return true;
}

int words_rank(const char *line)
{
    /* clang-format off */
    static const struct { const char *part; int rank; } known[] = {
        { "Permanently added", 0 }, { "Killed by signal", 0 }, { "@@@@", 0 },
        /* Whoever sees that a host key changed must read nothing else. */
        { "REMOTE HOST IDENTIFICATION HAS CHANGED", 9 },
        { "Host key verification failed", 8 },
        { "No matching host key", 8 },
        { "Permission denied", 7 },
        { "Too many authentication failures", 7 },
        { "Could not resolve hostname", 7 },
        { "Connection refused", 7 }, { "No route to host", 7 },
        { "Network is unreachable", 7 }, { "timed out", 7 },
        { "Unable to negotiate", 7 }, { "Bad owner or permissions", 7 },
        { "command not found", 6 }, { "not found", 5 }, { "No such file", 5 },
        { "kex_exchange_identification", 4 },
        { "Connection reset", 3 }, { "Connection closed", 3 }, { "Broken pipe", 3 },
    };
    /* clang-format on */

    if (line[strspn(line, " \t@")] == '\0')
        return 0;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strstr(line, known[i].part) != NULL)
            return known[i].rank;
    return 2;
}

static void take_line(struct words *w)
{
    w->line[w->len] = '\0';
    w->line[strcspn(w->line, "\r\n")] = '\0';
    w->len = 0;
    if (is_agent_line(w->line)) {
        log_foreign("dst", w->line);
        return;
    }
    const int rank = words_rank(w->line);

    if (rank == 0)
        return;
    log_debug("ssh", "%s", w->line);
    if (rank < w->rank)
        return;
    w->rank = rank;
    /* Without the frame that ssh draws around its worst news, and without a full stop. */
    log_clean(w->cause, sizeof w->cause, w->line + strspn(w->line, "@ "));
    for (size_t n = strlen(w->cause); n > 0 && strchr("@ .", w->cause[n - 1]); n--)
        w->cause[n - 1] = '\0';
}

/* false: end of file. */
static bool take_bytes(struct words *w)
{
    char buf[1024];
    const ssize_t n = read(w->fd, buf, sizeof buf);

    if (n < 0)
        return errno == EINTR || errno == EAGAIN;
    for (ssize_t i = 0; i < n; i++) {
        if (buf[i] != '\0')
            w->line[w->len++] = buf[i];
        if (buf[i] == '\n' || w->len == sizeof w->line - 1)
            take_line(w);
    }
    return n > 0;
}

static void *words_main(void *arg)
{
    struct words *const w = arg;
    struct pollfd p[2] = { { .fd = w->fd, .events = POLLIN },
                           { .fd = w->stop_fd, .events = POLLIN } };

    for (bool on = true; on;) {
        if (poll(p, 2, -1) < 0)
            continue;
        if (p[0].revents != 0)
            on = take_bytes(w);
        else
            on = p[1].revents == 0; /* told to stop, and nothing is left */
    }
    if (w->len > 0)
        take_line(w);
    return NULL;
}

static void words_free_auto(struct words **w)
{
    words_free(*w);
}

bool words_new(int fd, struct words **out, struct err *e)
{
    AUTO(fd_close) int owned = fd;
    AUTO(words_free) struct words *w = calloc(1, sizeof *w);

    if (w == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "reading what ssh says");
    w->fd = fd_steal(&owned);
    w->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->stop_fd < 0)
        return err_set(e, ERR_SYS, errno, "eventfd");
    if (!thread_start(&w->thread, words_main, w, "link-words", e))
        return false;
    w->running = true;
    *out = ptr_steal(&w);
    return true;
}

void words_end(struct words *w, char cause[WORDS_LEN])
{
    const uint64_t one = 1;

    if (w->running && write(w->stop_fd, &one, sizeof one) == (ssize_t)sizeof one)
        pthread_join(w->thread, NULL);
    w->running = false;
    memcpy(cause, w->cause, WORDS_LEN);
}

void words_free(struct words *w)
{
    char ignored[WORDS_LEN];

    if (w == NULL)
        return;
    words_end(w, ignored);
    fd_close_auto(&w->fd);
    fd_close_auto(&w->stop_fd);
    free(w);
}
