#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/display.h"
#include "migrate/move.h"

enum { PATIENCE_MS = 10000 };

/* --- what is shown: set by the test, asked for by the display's thread --- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct move_progress shown;

static void progress(void *ctx, struct move_progress *out)
{
    LOCK_SCOPE(&lock);

    (void)ctx;
    *out = shown;
}

static void set_phase(enum move_phase phase)
{
    LOCK_SCOPE(&lock);

    shown = (struct move_progress){ .phase = phase,
                                    .domain = "web01",
                                    .dest = "hostb",
                                    .ratio = 1,
                                    .rtt_us = -1,
                                    .predicted_pause_ms = -1,
                                    .eta_ms = -1 };
}

/* --- a terminal: the bytes it got, and what they make of a screen --- */

enum { SCREEN_ROWS = 50, SCREEN_COLS = 100 };

struct terminal {
    int master, slave;
    char got[65536];
    size_t len;
};

static struct terminal terminal_open(void)
{
    const struct winsize size = { .ws_row = 24, .ws_col = SCREEN_COLS };
    struct terminal t = { .len = 0 };

    assert_int_equal(openpty(&t.master, &t.slave, NULL, NULL, &size), 0);
    return t;
}

static void terminal_close(struct terminal *t)
{
    close(t->slave);
    close(t->master);
}

/* Take what comes until @wanted has come; NULL: what is there already. */
static void terminal_read(struct terminal *t, const char *wanted)
{
    const int64_t end = clock_ms() + PATIENCE_MS;

    while (t->len + 1 < sizeof t->got) {
        struct pollfd p = { .fd = t->master, .events = POLLIN };

        t->got[t->len] = '\0';
        if (wanted != NULL && strstr(t->got, wanted) != NULL)
            return;
        if (poll(&p, 1, wanted != NULL ? clock_left_ms(end) : 0) <= 0)
            break;
        const ssize_t n = read(t->master, t->got + t->len, sizeof t->got - 1 - t->len);
        assert_true(n > 0);
        t->len += (size_t)n;
    }
    t->got[t->len] = '\0';
    if (wanted != NULL)
        fail_msg("\"%s\" did not come, but \"%s\"", wanted, t->got);
}

/* Take what comes until a redraw with @wanted in it has come to its end. */
static void terminal_frame(struct terminal *t, const char *wanted)
{
    terminal_read(t, wanted);
    const size_t at = (size_t)(strstr(t->got, wanted) - t->got);
    struct terminal rest = *t;

    memmove(rest.got, t->got + at, t->len - at + 1);
    rest.len = t->len - at;
    terminal_read(&rest, "\033[J");
    memcpy(t->got + at, rest.got, rest.len + 1);
    t->len = at + rest.len;
}

/* One control sequence, "\033[<n>X"; returns what follows it. */
static const char *control(const char *p, char rows[][SCREEN_COLS + 1], int *y, int x)
{
    char *end;
    const long n = strtol(p + 2, &end, 10);

    switch (*end) {
    case 'A':
        *y -= (int)n;
        break;
    case 'K':
        rows[*y][x] = '\0';
        break;
    case 'J':
        rows[*y][x] = '\0';
        for (int i = *y + 1; i < SCREEN_ROWS; i++)
            rows[i][0] = '\0';
        break;
    case 'm':
        break;
    default:
        fail_msg("unknown control sequence: %s", p + 1);
    }
    return end + 1;
}

/* The screen's lines up to the cursor, ASCII only; no line may be too long for it. */
static void screen(const struct terminal *t, char *out, size_t size)
{
    char rows[SCREEN_ROWS][SCREEN_COLS + 1] = { "" };
    int y = 0, x = 0;

    for (const char *p = t->got; *p != '\0';) {
        if (*p == '\033') {
            p = control(p, rows, &y, x);
            continue;
        }
        if (*p == '\r') {
            x = 0;
        } else if (*p == '\n') {
            y++;
        } else {
            if (rows[y][x] == '\0')
                rows[y][x + 1] = '\0';
            rows[y][x++] = *p;
        }
        assert_true(y >= 0 && y < SCREEN_ROWS && x < SCREEN_COLS);
        p++;
    }
    assert_int_equal(x, 0);
    out[0] = '\0';
    for (int i = 0; i < y; i++)
        snprintf(out + strlen(out), size - strlen(out), "%s\n", rows[i]);
}

static void assert_screen(const struct terminal *t, const char *wanted)
{
    char text[SCREEN_ROWS * (SCREEN_COLS + 2)];

    screen(t, text, sizeof text);
    assert_string_equal(text, wanted);
}

static struct display *start(enum display_mode mode, bool json, int out, int err)
{
    const struct display_cfg cfg = { .mode = mode,
                                     .json = json,
                                     .out = out,
                                     .err = err,
                                     .colour = true,
                                     .progress = progress };
    struct display *d = NULL;
    struct err e;

    assert_ok(display_start(&cfg, &d, &e), e);
    return d;
}

static void display__live_frame_is_drawn_below_the_lines_and_removed(void **state)
{
    struct terminal t = terminal_open();

    (void)state;
    set_phase(MOVE_CONNECT);
    struct display *const d = start(DISPLAY_LIVE, false, -1, t.slave);
    terminal_read(&t, "connecting to hostb");
    set_phase(MOVE_PREFLIGHT);
    terminal_frame(&t, "0 ms");
    assert_screen(&t,
                  "connecting to hostb\n"
                  "web01 -> hostb  checking both hosts"
                  "                                                            0 ms\n");
    display_note(d, "a note");
    display_note(d, "a\033[31mnother\n");
    terminal_read(&t, "nother\\x0a");
    set_phase(MOVE_UNDO);
    terminal_frame(&t, "ending this try");
    assert_screen(&t, "connecting to hostb\n"
                      "a note\n"
                      "a\\x1b[31mnother\\x0a\n"
                      "web01 -> hostb  ending this try"
                      "                                                                "
                      "0 ms\n");
    display_stop(d);
    terminal_read(&t, NULL);
    assert_screen(&t, "connecting to hostb\na note\na\\x1b[31mnother\\x0a\n");
    terminal_close(&t);
}

static void display__live_log_lines_do_not_tear_it(void **state)
{
    struct terminal t = terminal_open();

    (void)state;
    set_phase(MOVE_PREFLIGHT);
    struct display *const d = start(DISPLAY_LIVE, false, -1, t.slave);
    terminal_read(&t, "0 ms");
    for (int i = 0; i < 9; i++)
        log_warn("test", "line %d", i);
    terminal_read(&t, "line 8");
    display_stop(d);
    terminal_read(&t, NULL);

    char text[SCREEN_ROWS * (SCREEN_COLS + 2)];
    screen(&t, text, sizeof text);
    const char *p = text;
    for (int i = 0; i < 9; i++) {
        char wanted[40];

        snprintf(wanted, sizeof wanted, "src warn test: line %d\n", i);
        p += strlen("12:34:56.789 ");
        assert_memory_equal(p, wanted, strlen(wanted));
        p += strlen(wanted);
    }
    assert_string_equal(p, "");
    terminal_close(&t);
}

static void display__plain_says_each_new_phase_once(void **state)
{
    struct terminal t = terminal_open();

    (void)state;
    set_phase(MOVE_CONNECT);
    struct display *const d = start(DISPLAY_PLAIN, false, -1, t.slave);
    terminal_read(&t, "connecting");
    set_phase(MOVE_BULK);
    terminal_read(&t, "copying disks");
    set_phase(MOVE_DONE);
    display_stop(d);
    terminal_read(&t, NULL);
    assert_screen(&t, "[0 ms] web01: connecting\n"
                      "[0 ms] web01: copying disks, sending 0 B/s\n");
    terminal_close(&t);
}

static void display__json_says_each_new_phase(void **state)
{
    struct terminal t = terminal_open();
    AUTO(json_put) struct json_object *o = NULL;
    const char *phase;
    struct err e;

    (void)state;
    set_phase(MOVE_PREFLIGHT);
    struct display *const d = start(DISPLAY_NONE, true, t.slave, -1);
    terminal_read(&t, "\n");
    set_phase(MOVE_DONE);
    display_stop(d);
    assert_ok(json_parse(t.got, strcspn(t.got, "\r\n"), &o, &e), e);
    assert_ok(json_get_str(o, "phase", &phase, &e), e);
    assert_string_equal(phase, "preflight");
    terminal_close(&t);
}

static void display__one_that_takes_nothing_holds_up_nobody(void **state)
{
    char line[1000];
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    set_phase(MOVE_PREFLIGHT);
    struct display *const d = start(DISPLAY_NONE, false, -1, ends[1]);
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = '\0';
    for (int i = 0; i < 10000; i++) /* much more than a pipe and the queue take */
        log_warn("test", "%s", line);
    close(ends[0]); /* the reader goes away: so does what is still to be written */
    display_stop(d);
    close(ends[1]);
}

static void display__lines_left_out_are_counted(void **state)
{
    struct terminal t = terminal_open();

    (void)state;
    set_phase(MOVE_PREFLIGHT);
    struct display *const d = start(DISPLAY_LIVE, false, -1, t.slave);
    for (int i = 0; i < 2000; i++) /* live: they wait for the next redraw */
        display_note(d, "%d", i);
    terminal_read(&t, " lines left out)");
    display_stop(d);
    terminal_close(&t);
}

static void display__mode_follows_the_terminal(void **state)
{
    struct terminal t = terminal_open();
    AUTO(fd_close) int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    (void)state;
    setenv("TERM", "xterm", 1);
    assert_int_equal(display_best_mode(t.slave), DISPLAY_LIVE);
    assert_int_equal(display_best_mode(null), DISPLAY_PLAIN);
    setenv("TERM", "dumb", 1);
    assert_int_equal(display_best_mode(t.slave), DISPLAY_PLAIN);
    unsetenv("TERM");
    assert_int_equal(display_best_mode(t.slave), DISPLAY_PLAIN);

    unsetenv("NO_COLOR");
    assert_true(display_wants_colour());
    setenv("NO_COLOR", "", 1);
    assert_true(display_wants_colour());
    setenv("NO_COLOR", "1", 1);
    assert_false(display_wants_colour());
    terminal_close(&t);
}

static int set_up(void **state)
{
    const struct sigaction ignore = { .sa_handler = SIG_IGN };

    (void)state;
    log_init(LOG_WARN, "src");
    unsetenv("COLUMNS");
    return sigaction(SIGPIPE, &ignore, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(display__live_frame_is_drawn_below_the_lines_and_removed),
        TEST(display__live_log_lines_do_not_tear_it),
        TEST(display__plain_says_each_new_phase_once),
        TEST(display__json_says_each_new_phase),
        TEST(display__one_that_takes_nothing_holds_up_nobody),
        TEST(display__lines_left_out_are_counted),
        TEST(display__mode_follows_the_terminal),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
