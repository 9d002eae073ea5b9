#include "cli/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"

static const char *const styles[TEXT_STYLES] = {
    [TEXT_PLAIN] = "",        [TEXT_BOLD] = "\033[1m",  [TEXT_DIM] = "\033[2m",
    [TEXT_GOOD] = "\033[32m", [TEXT_WARN] = "\033[33m", [TEXT_BAD] = "\033[31m",
};

void text_fini(struct text *t)
{
    free(t->buf);
    t->buf = NULL;
    t->len = t->size = 0;
    t->col = t->lines = 0;
}

void text_fini_auto(struct text *t)
{
    text_fini(t);
}

void text_clear(struct text *t)
{
    t->len = 0;
    t->col = t->lines = 0;
    if (t->buf != NULL)
        t->buf[0] = '\0';
}

static void put_bytes(struct text *t, const char *s, size_t n)
{
    if (t->size - t->len <= n) {
        const size_t size = (t->size + n + 1) * 2;
        char *const buf = realloc(t->buf, size);

        if (buf == NULL)
            abort();
        t->buf = buf;
        t->size = size;
    }
    memcpy(t->buf + t->len, s, n);
    t->len += n;
    t->buf[t->len] = '\0';
}

void text_raw(struct text *t, const char *s)
{
    put_bytes(t, s, strlen(s));
}

void text_unwritten(const struct err *e)
{
    dprintf(STDERR_FILENO, "snmigrate: the report could not be written: %s\n", e->msg);
}

void text_flush(struct text *t, int fd)
{
    struct err e;

    if (t->len > 0 && !fd_write_all(fd, t->buf, t->len, &e) && fd != STDERR_FILENO)
        text_unwritten(&e);
    text_clear(t);
}

/* One thing to show: @n bytes of the cleaned string, or the escapes in @esc. */
struct glyph {
    size_t n;
    unsigned cols;
    char esc[4 * 4 + 1]; /* "" : show the bytes themselves */
};

/* The character at @s, which log_clean has made valid UTF-8.  wcwidth(3) goes by the
 * locale; what it does not know could do anything to the columns, so it is escaped. */
static struct glyph glyph_at(const struct text *t, const char *s)
{
    const unsigned char *const b = (const unsigned char *)s;
    struct glyph g = { .n = 1, .cols = 1 };

    if (b[0] < 0x80)
        return g;
    g.n = b[0] >= 0xf0 ? 4 : b[0] >= 0xe0 ? 3 : 2;
    unsigned cp = b[0] & (0x7fu >> g.n);
    for (size_t i = 1; i < g.n; i++)
        cp = cp << 6 | (b[i] & 0x3fu);
    const int cols = t->utf8 ? wcwidth((wchar_t)cp) : -1;
    if (cols >= 0) {
        g.cols = (unsigned)cols;
        return g;
    }
    for (size_t i = 0; i < g.n; i++)
        snprintf(g.esc + 4 * i, 5, "\\x%02x", b[i]);
    g.cols = (unsigned)(4 * g.n);
    return g;
}

/* Cleaned, to be freed. */
static char *clean_dup(const char *s)
{
    const size_t size = 4 * strlen(s) + 1;
    char *const out = malloc(size);

    if (out == NULL)
        abort();
    return log_clean(out, size, s);
}

static unsigned clean_columns(const struct text *t, const char *s)
{
    unsigned cols = 0;

    while (*s != '\0') {
        const struct glyph g = glyph_at(t, s);

        cols += g.cols;
        s += g.n;
    }
    return cols;
}

/* Bytes of @s that fit into @cols columns. */
static size_t clean_fit(const struct text *t, const char *s, unsigned cols)
{
    const char *p = s;

    while (*p != '\0') {
        const struct glyph g = glyph_at(t, p);

        if (g.cols > cols)
            break;
        cols -= g.cols;
        p += g.n;
    }
    return (size_t)(p - s);
}

/* The first @n bytes of the cleaned @s, as far as the line has room. */
static void put_clean(struct text *t, enum text_style style, const char *s, size_t n)
{
    const bool coloured = t->colour && style != TEXT_PLAIN && n > 0;
    const char *const end = s + n;

    if (coloured)
        text_raw(t, styles[style]);
    while (s < end) {
        const struct glyph g = glyph_at(t, s);

        if (t->width != 0 && t->col + g.cols > t->width)
            break;
        if (g.esc[0] != '\0')
            text_raw(t, g.esc);
        else
            put_bytes(t, s, g.n);
        t->col += g.cols;
        s += g.n;
    }
    if (coloured)
        text_raw(t, "\033[0m");
}

void text_put(struct text *t, enum text_style style, const char *s)
{
    AUTO(mem_free) char *c = clean_dup(s);

    put_clean(t, style, c, strlen(c));
}

void text_printf(struct text *t, enum text_style style, const char *fmt, ...)
{
    AUTO(mem_free) char *s = NULL;
    va_list ap;

    va_start(ap, fmt);
    const int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    if (n < 0)
        abort();
    text_put(t, style, s);
}

void text_fit(struct text *t, enum text_style style, const char *s, unsigned cols)
{
    const char *const more = t->utf8 ? "…" : "~"; /* one column each */
    AUTO(mem_free) char *c = clean_dup(s);

    if (clean_columns(t, c) <= cols) {
        put_clean(t, style, c, strlen(c));
    } else if (cols > 0) {
        put_clean(t, style, c, clean_fit(t, c, cols - 1));
        text_put(t, style, more);
    }
}

void text_right(struct text *t, enum text_style style, const char *s, unsigned cols)
{
    const unsigned have = text_columns(t, s);

    if (have < cols)
        text_pad(t, t->col + cols - have);
    text_put(t, style, s);
}

void text_repeat(struct text *t, enum text_style style, const char *s, unsigned times)
{
    const bool coloured = t->colour && style != TEXT_PLAIN && times > 0;

    if (coloured)
        text_raw(t, styles[style]);
    for (unsigned i = 0; i < times; i++)
        text_put(t, TEXT_PLAIN, s);
    if (coloured)
        text_raw(t, "\033[0m");
}

void text_pad(struct text *t, unsigned col)
{
    if (col > t->col)
        text_repeat(t, TEXT_PLAIN, " ", col - t->col);
}

/* Bytes of @s for a line of @cols columns: up to the last blank that fits, at least one
 * character. */
static size_t break_at(const struct text *t, const char *s, unsigned cols)
{
    const size_t n = clean_fit(t, s, cols);

    if (s[n] == '\0' || s[n] == ' ')
        return n;
    for (size_t i = n; i > 0; i--)
        if (s[i] == ' ')
            return i;
    return n > 0 ? n : glyph_at(t, s).n;
}

void text_wrap(struct text *t, enum text_style style, const char *s, unsigned indent,
               unsigned lines)
{
    AUTO(mem_free) char *c = clean_dup(s);
    const char *p = c;

    for (unsigned i = 0; i < lines; i++) {
        text_pad(t, indent);
        const unsigned room = t->width > t->col ? t->width - t->col : 1;
        if (t->width == 0 || i + 1 == lines) {
            text_fit(t, style, p, t->width == 0 ? clean_columns(t, p) : room);
            p += strlen(p);
        } else {
            const size_t n = break_at(t, p, room);

            put_clean(t, style, p, n);
            p += n;
            p += strspn(p, " ");
        }
        text_newline(t);
        if (*p == '\0')
            break;
    }
}

void text_fold(struct text *t, const char *s, unsigned indent)
{
    AUTO(mem_free) char *c = clean_dup(s);
    char *save = NULL;
    bool first = true;

    for (char *w = strtok_r(c, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
        if (!first && t->col + 1 + clean_columns(t, w) > TEXT_COLS) {
            text_newline(t);
            text_pad(t, indent);
        } else if (!first) {
            put_clean(t, TEXT_PLAIN, " ", 1);
        }
        put_clean(t, TEXT_PLAIN, w, strlen(w));
        first = false;
    }
    text_newline(t);
}

void text_newline(struct text *t)
{
    text_raw(t, "\n");
    t->col = 0;
    t->lines++;
}

unsigned text_columns(const struct text *t, const char *s)
{
    AUTO(mem_free) char *c = clean_dup(s);

    return clean_columns(t, c);
}
