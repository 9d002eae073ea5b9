#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

enum {
    LINE_MAX_BYTES =
        4096,       /* PIPE_BUF: a line from each of two hosts never interleaves */
    STUCK_MS = 100, /* how long a full non-blocking stderr may hold up the move */
};

static const char *const level_names[LOG_LEVELS] = { "error", "warn", "info", "debug",
                                                     "trace" };

static void to_stderr(enum log_level level, const char *line, void *ctx);

/* Written before threads start, then only read. */
static enum log_level max_level = LOG_INFO;
static const char *our_name = "src";

static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER; /* one line at a time */
static log_sink sink_fn = to_stderr;
static void *sink_ctx;

void log_init(enum log_level max, const char *who)
{
    max_level = max;
    our_name = who;
}

void log_set_sink(log_sink sink, void *ctx)
{
    LOCK_SCOPE(&sink_lock);

    sink_fn = sink != NULL ? sink : to_stderr;
    sink_ctx = ctx;
}

static bool enabled(enum log_level level)
{
    return level <= max_level;
}

/* A log that cannot be written is not a reason to fail: nobody could be told. */
static void to_stderr(enum log_level level, const char *line, void *ctx)
{
    char buf[LINE_MAX_BYTES + 1];
    const size_t len = (size_t)snprintf(buf, sizeof buf, "%s\n", line);
    size_t done = 0;

    (void)level;
    (void)ctx;
    while (done < len) {
        const ssize_t n = write(STDERR_FILENO, buf + done, len - done);
        struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };

        if (n >= 0)
            done += (size_t)n;
        else if (errno == EAGAIN && poll(&p, 1, STUCK_MS) == 1)
            continue; /* ssh makes a stderr that it shares with us non-blocking */
        else if (errno != EINTR)
            return;
    }
}

static void emit(enum log_level level, const char *line)
{
    LOCK_SCOPE(&sink_lock);

    sink_fn(level, line, sink_ctx);
}

/* "12:04:31.118 src info " */
static size_t put_head(char *buf, size_t size, enum log_level level, const char *who)
{
    struct timespec ts;
    struct tm tm;

    clock_gettime(CLOCK_REALTIME, &ts); /* for people; nothing is computed from it */
    localtime_r(&ts.tv_sec, &tm);
    return (size_t)snprintf(buf, size, "%02d:%02d:%02d.%03ld %s %s ", tm.tm_hour,
                            tm.tm_min, tm.tm_sec, ts.tv_nsec / 1000000, who,
                            level_names[level]);
}

void log_line(enum log_level level, const char *topic, const char *fmt, ...)
{
    const int os = errno;
    char text[LINE_MAX_BYTES / 2], line[LINE_MAX_BYTES];
    va_list ap;

    if (!enabled(level))
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);

    size_t at = put_head(line, sizeof line, level, our_name);
    at += (size_t)snprintf(line + at, sizeof line - at, "%s: ", topic);
    log_clean(line + at, sizeof line - at, text);
    emit(level, line);
    errno = os;
}

/* What follows "hh:mm:ss.mmm WHO " in a line that log_line wrote on the other host, with
 * its level; NULL: not such a line. */
static const char *own_format(const char *who, const char *text, enum log_level *level)
{
    static const char shape[] = "00:00:00.000 ";
    const size_t nwho = strlen(who);
    const char *p = text;

    for (const char *s = shape; *s != '\0'; s++, p++)
        if (*s == '0' ? *p < '0' || *p > '9' : *p != *s)
            return NULL;
    if (strncmp(p, who, nwho) != 0 || p[nwho] != ' ')
        return NULL;
    p += nwho + 1;
    for (int l = 0; l < LOG_LEVELS; l++) {
        const size_t n = strlen(level_names[l]);

        if (strncmp(p, level_names[l], n) == 0 && p[n] == ' ') {
            *level = (enum log_level)l;
            return p;
        }
    }
    return NULL;
}

void log_foreign(const char *who, const char *text)
{
    const int os = errno;
    enum log_level level = LOG_INFO;
    char line[LINE_MAX_BYTES];
    size_t at = 0;

    if (own_format(who, text, &level) == NULL) {
        at = put_head(line, sizeof line, level, who);
        at += (size_t)snprintf(line + at, sizeof line - at, "stderr: ");
    }
    if (!enabled(level))
        return;
    log_clean(line + at, sizeof line - at, text);
    emit(level, line);
    errno = os;
}

/* Characters that do something to a terminal instead of being shown: C0, DEL, C1, and those
 * that turn the direction of what follows. */
static bool is_control(unsigned cp)
{
    return cp < 0x20 || (cp >= 0x7f && cp < 0xa0) || (cp >= 0x202a && cp <= 0x202e) ||
           (cp >= 0x2066 && cp <= 0x2069) || cp == 0x2028 || cp == 0x2029;
}

/* Length of the character at @s; 0: not UTF-8 as of RFC 3629 (shortest form, no
 * surrogates, up to U+10FFFF), or a control character. */
static size_t shown_len(const unsigned char *s)
{
    static const unsigned least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    const size_t n = s[0] < 0x80             ? 1
                     : (s[0] & 0xe0) == 0xc0 ? 2
                     : (s[0] & 0xf0) == 0xe0 ? 3
                     : (s[0] & 0xf8) == 0xf0 ? 4
                                             : 0;

    if (n == 0)
        return 0;
    unsigned cp = n == 1 ? s[0] : s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) /* the final NUL ends here too */
            return 0;
        cp = cp << 6 | (s[i] & 0x3fu);
    }
    if (cp < least[n] || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
        return 0;
    return is_control(cp) ? 0 : n;
}

char *log_clean(char *dst, unsigned long size, const char *s)
{
    static const char hex[] = "0123456789abcdef";
    const unsigned char *in = (const unsigned char *)s;
    size_t at = 0;

    if (size == 0)
        return dst;
    while (*in != '\0') {
        const size_t n = shown_len(in);

        /* Whole characters and whole escapes only, so that a cut line is clean too. */
        if (size - at <= (n > 0 ? n : 4))
            break;
        if (n > 0) {
            memcpy(dst + at, in, n);
            at += n;
            in += n;
        } else {
            dst[at++] = '\\';
            dst[at++] = 'x';
            dst[at++] = hex[*in >> 4];
            dst[at++] = hex[*in++ & 15];
        }
    }
    dst[at] = '\0';
    return dst;
}
