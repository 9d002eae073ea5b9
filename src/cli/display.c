/* The live display is a block of lines at the bottom of what was written, with the
 * cursor at the beginning of the line below it.  To redraw: go up as many lines as it
 * has on the screen, write what shall stay above it, write it again, each line erased
 * to its end, and erase what is left of the old one; all with one write(2), so that
 * nothing flickers.
 */
#include "cli/display.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "base/units.h"
#include "base/unix.h"
#include "cli/json_out.h"
#include "cli/render.h"

enum {
    TICK_MS = 200,
    PLAIN_MS = 5000,
    HELD_MS = 60000, /* a line a minute once it is held for one */
    JSON_MS = 1000,
    QUEUE_LEN = 512, /* lines; a trace that writes more between two ticks loses some */
    ROWS_MIN = 6,    /* of a terminal worth a live display */
    COLS_MIN = 20,
    NOTE = -1, /* the level of what is no log line */
};

struct line {
    int level; /* enum log_level, or NOTE */
    char *text;
};

struct display {
    struct display_cfg cfg; /* constant */
    pthread_t thread;

    pthread_mutex_t lock; /* guards the queue and stop */
    pthread_cond_t wake;
    struct line queue[QUEUE_LEN];
    size_t n, dropped;
    bool stop;

    /* The thread's own. */
    struct move_progress now;
    enum move_phase phase; /* seen last */
    bool new_phase, greeted;
    int64_t plain_at, json_at; /* when the next is due */
    int64_t held_since;        /* 0: it is not held */
    struct text out;           /* what to write */
    struct text frame;         /* the block to be drawn */
    struct text shown;         /* the block that is on the screen; empty: none */
    bool err_gone, out_gone;   /* nobody is there any more; the move goes on */
};

enum display_mode display_best_mode(int err)
{
    const char *const term = getenv("TERM");

    return isatty(err) && term != NULL && term[0] != '\0' && strcmp(term, "dumb") != 0
               ? DISPLAY_LIVE
               : DISPLAY_PLAIN;
}

bool display_wants_colour(void)
{
    const char *const no = getenv("NO_COLOR"); /* https://no-color.org */

    return no == NULL || no[0] == '\0';
}

/* --- the queue --- */

static void enqueue(struct display *d, int level, const char *text)
{
    LOCK_SCOPE(&d->lock);

    char *const copy = d->n < QUEUE_LEN ? strdup(text) : NULL;
    if (copy == NULL) {
        d->dropped++;
        return;
    }
    d->queue[d->n++] = (struct line){ level, copy };
    if (d->cfg.mode != DISPLAY_LIVE) /* there it waits for the next redraw */
        pthread_cond_signal(&d->wake);
}

static void sink(enum log_level level, const char *line, void *ctx)
{
    enqueue(ctx, (int)level, line);
}

void display_note(struct display *d, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    enqueue(d, NOTE, text);
}

/* Wait until a line is there, the tick is over or the end; put the lines into d->out,
 * each followed by @eol.  false: the end. */
static bool wait_lines(struct display *d, int64_t until_ms, const char *eol)
{
    static const enum text_style styles[LOG_LEVELS] = { TEXT_BAD, TEXT_WARN, TEXT_DIM,
                                                        TEXT_DIM, TEXT_DIM };
    const struct timespec at = { .tv_sec = until_ms / MS_PER_S,
                                 .tv_nsec = until_ms % MS_PER_S * NS_PER_MS };
    struct line lines[QUEUE_LEN];
    size_t n, dropped;
    bool stop;
    {
        LOCK_SCOPE(&d->lock);

        while (!d->stop && (d->n == 0 || d->cfg.mode == DISPLAY_LIVE) &&
               clock_ms() < until_ms)
            pthread_cond_timedwait(&d->wake, &d->lock, &at);
        n = d->n;
        dropped = d->dropped;
        stop = d->stop;
        memcpy(lines, d->queue, n * sizeof lines[0]);
        d->n = d->dropped = 0;
    }
    for (size_t i = 0; i < n; i++) {
        const int level = lines[i].level;

        text_put(&d->out, level == NOTE ? TEXT_BOLD : styles[level], lines[i].text);
        text_raw(&d->out, eol);
        text_newline(&d->out);
        free(lines[i].text);
    }
    if (dropped > 0) {
        text_printf(&d->out, TEXT_WARN, "(%zu lines left out)", dropped);
        text_raw(&d->out, eol);
        text_newline(&d->out);
    }
    return !stop;
}

/* --- the terminal --- */

static void window_size(int fd, unsigned *cols, unsigned *rows)
{
    const char *const env = getenv("COLUMNS");
    const unsigned long most = env != NULL ? strtoul(env, NULL, 10) : 0;
    struct winsize w = { 0 };

    ioctl(fd, TIOCGWINSZ, &w);
    *cols = w.ws_col > 0 ? w.ws_col : 80;
    *rows = w.ws_row > 0 ? w.ws_row : 24;
    if (most >= COLS_MIN && most < *cols)
        *cols = (unsigned)most;
}

/* A job in the background must not paint over what is in the foreground. */
static bool in_foreground(int fd)
{
    const pid_t group = tcgetpgrp(fd);

    return group < 0 || group == getpgrp();
}

/* Columns of the @n bytes at @s, which hold no control sequences but our colours. */
static unsigned line_columns(const struct text *t, const char *s, size_t n)
{
    AUTO(mem_free) char *bare = malloc(n + 1);
    size_t len = 0;

    if (bare == NULL)
        abort();
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\033')
            while (i < n && s[i] != 'm')
                i++;
        else
            bare[len++] = s[i];
    }
    bare[len] = '\0';
    return text_columns(t, bare);
}

/* Lines that the shown block takes on a screen of @cols columns: one that has been made
 * narrower has wrapped what was drawn before. */
static unsigned shown_rows(const struct display *d, unsigned cols)
{
    unsigned rows = 0;

    for (const char *p = d->shown.buf, *end; d->shown.len > 0 && *p != '\0';
         p = end + 1) {
        end = strchr(p, '\n');
        const unsigned have = line_columns(&d->shown, p, (size_t)(end - p));

        rows += have > cols ? (have + cols - 1) / cols : 1;
    }
    return rows;
}

static void write_out(struct display *d)
{
    struct err e;

    if (d->out.len > 0 && !d->err_gone)
        d->err_gone = !fd_write_all(d->cfg.err, d->out.buf, d->out.len, &e);
    text_clear(&d->out);
}

static void put_frame(struct text *out, const struct text *frame)
{
    for (const char *p = frame->buf, *end; frame->len > 0 && *p != '\0'; p = end + 1) {
        AUTO(mem_free) char *line = NULL;

        end = strchr(p, '\n');
        if (asprintf(&line, "%.*s\033[K\n", (int)(end - p), p) < 0)
            abort();
        text_raw(out, line);
    }
}

/* Make the screen show d->frame below the lines that wait in d->out. */
static void redraw(struct display *d, unsigned cols, unsigned rows)
{
    const unsigned have = shown_rows(d, cols);
    const unsigned up = have < rows ? have : rows - 1;
    const bool same = d->out.len == 0 && d->frame.len == d->shown.len &&
                      (d->frame.len == 0 || strcmp(d->frame.buf, d->shown.buf) == 0);
    AUTO(text_fini) struct text all = { 0 };
    char move[32] = "";

    if (same)
        return;
    if (up > 0)
        snprintf(move, sizeof move, "\r\033[%uA", up);
    text_raw(&all, move);
    if (d->out.len > 0)
        text_raw(&all, d->out.buf);
    put_frame(&all, &d->frame);
    text_raw(&all, "\033[J");

    text_clear(&d->out);
    text_raw(&d->out, all.buf);
    write_out(d);
    text_clear(&d->shown);
    if (d->frame.len > 0)
        text_raw(&d->shown, d->frame.buf);
}

/* ssh may be asking for a passphrase while we connect: no redrawing then. */
static void show_live(struct display *d)
{
    unsigned cols, rows;

    text_clear(&d->frame);
    if (!in_foreground(d->cfg.err)) {
        text_clear(&d->shown); /* whatever is there now, it is not ours any more */
        write_out(d);
        return;
    }
    window_size(d->cfg.err, &cols, &rows);
    if (d->now.phase == MOVE_CONNECT && !d->greeted) {
        d->greeted = true;
        text_printf(&d->out, TEXT_DIM, "connecting to %s", d->now.dest);
        text_newline(&d->out);
        write_out(d);
    } else if (d->now.phase != MOVE_CONNECT && d->now.phase != MOVE_DONE &&
               cols >= COLS_MIN && rows >= ROWS_MIN) {
        /* The last column stays free: some terminals wrap as soon as it is written. */
        d->frame.width = cols - 1;
        render_live(&d->frame, &d->now, rows - 1);
    }
    redraw(d, cols, rows);
}

static void show_plain(struct display *d)
{
    const int64_t now = clock_ms();
    char time[UNITS_LEN];

    if (!d->now.held)
        d->held_since = 0;
    else if (d->held_since == 0)
        d->held_since = now;
    const bool settled = d->held_since != 0 && now - d->held_since >= HELD_MS;
    if (d->now.phase != MOVE_DONE && (d->new_phase || now >= d->plain_at)) {
        d->plain_at = now + (settled ? HELD_MS : PLAIN_MS);
        text_printf(&d->out, TEXT_PLAIN, "[%s] ", units_time(time, d->now.elapsed_ms));
        render_plain(&d->out, &d->now);
        text_newline(&d->out);
    }
    write_out(d);
}

static void show_json(struct display *d)
{
    struct err e;

    if (d->now.phase == MOVE_DONE || (!d->new_phase && clock_ms() < d->json_at))
        return;
    d->json_at = clock_ms() + JSON_MS;
    d->out_gone = !json_out_write(d->cfg.out, json_out_progress(&d->now), &e);
}

static void show(struct display *d)
{
    d->cfg.progress(d->cfg.ctx, &d->now);
    d->new_phase = d->now.phase != d->phase;
    d->phase = d->now.phase;
    if (d->cfg.json && !d->out_gone)
        show_json(d);
    if (d->cfg.mode == DISPLAY_LIVE)
        show_live(d);
    else if (d->cfg.mode == DISPLAY_PLAIN)
        show_plain(d);
    else
        write_out(d);
}

static void *display_thread(void *arg)
{
    struct display *const d = arg;
    const char *const eol = d->cfg.mode == DISPLAY_LIVE ? "\033[K" : "";

    do
        show(d);
    while (wait_lines(d, clock_ms() + TICK_MS, eol));

    if (d->cfg.mode == DISPLAY_LIVE) {
        unsigned cols, rows;

        text_clear(&d->frame);
        window_size(d->cfg.err, &cols, &rows);
        redraw(d, cols, rows);
    }
    write_out(d);
    return NULL;
}

static void display_free(struct display *d)
{
    for (size_t i = 0; i < d->n; i++)
        free(d->queue[i].text);
    text_fini(&d->out);
    text_fini(&d->frame);
    text_fini(&d->shown);
    pthread_cond_destroy(&d->wake);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

bool display_start(const struct display_cfg *cfg, struct display **out, struct err *e)
{
    struct display *const d = calloc(1, sizeof *d);
    pthread_condattr_t attr;

    if (d == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "display");
    d->cfg = *cfg;
    d->phase = MOVE_PHASES;
    d->out.utf8 = d->frame.utf8 = d->shown.utf8 = cfg->utf8;
    d->out.colour = d->frame.colour = cfg->colour && cfg->mode == DISPLAY_LIVE;
    pthread_mutex_init(&d->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&d->wake, &attr);
    pthread_condattr_destroy(&attr);
    log_set_sink(sink, d);

    if (!thread_start(&d->thread, display_thread, d, "display", e)) {
        log_set_sink(NULL, NULL);
        display_free(d);
        return false;
    }
    *out = d;
    return true;
}

void display_stop(struct display *d)
{
    log_set_sink(NULL, NULL);
    {
        LOCK_SCOPE(&d->lock);

        d->stop = true;
        pthread_cond_signal(&d->wake);
    }
    pthread_join(d->thread, NULL);
    display_free(d);
}
