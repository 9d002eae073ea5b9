#include "cli/render.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/units.h"

enum {
    GAP = 2,
    LABEL_MIN = 5, /* "pause" */
    LABEL_MAX = 12,
    BAR_MIN = 8,
    BAR_MAX = 40,
    PERCENT_COLS = 4,
    SIZE_COLS = 10,   /* "1023.9 MiB" */
    RATE_COLS = 12,   /* "1023.9 MiB/s" */
    INDENT_FROM = 72, /* a narrower terminal has no columns to give away */
    WHY_LINES = 2,
    HEAD_ROWS = 2,
    FOOT_ROWS = 2 + WHY_LINES, /* link, pause, why */
    PLAIN_DISKS = 3,           /* more are summed up */
};

/* clang-format off */
static const char *const phases[MOVE_PHASES] = {
    [MOVE_CONNECT]   = "connecting",
    [MOVE_PREFLIGHT] = "checking both hosts",
    [MOVE_FORECAST]  = "watching the guest and the link",
    [MOVE_PREPARE]   = "preparing the destination",
    [MOVE_BULK]      = "copying disks",
    [MOVE_ROUNDS]    = "copying changes",
    [MOVE_MEMORY]    = "copying memory",
    [MOVE_SWITCH]    = "switching over",
    [MOVE_COMMIT]    = "starting at the destination",
    [MOVE_FINISH]    = "tidying up",
    [MOVE_UNDO]      = "ending this try",
    [MOVE_RECONNECT] = "reconnecting",
    [MOVE_DONE]      = "done",
};
static const struct { const char *name; enum text_style style; } trends[] = {
    [MOVE_TREND_UNKNOWN]    = { "", TEXT_PLAIN },
    [MOVE_TREND_CONVERGING] = { "converging", TEXT_GOOD },
    [MOVE_TREND_STEADY]     = { "steady", TEXT_WARN },
    [MOVE_TREND_DIVERGING]  = { "diverging", TEXT_BAD },
};
/* clang-format on */

const char *render_phase(enum move_phase phase)
{
    return phases[phase];
}

/* --- what a gauge says --- */

/* What its figures are about. */
enum gauge_kind {
    DISK_BULK,  /* the first pass over a disk */
    DISK_ROUND, /* a later one, over what the guest wrote meanwhile */
    RAM,        /* QEMU's "remaining", which counts pages written meanwhile already */
};

static uint64_t gauge_left(const struct move_gauge *g, enum gauge_kind kind)
{
    const uint64_t left = g->total > g->done ? g->total - g->done : 0;

    if (kind == DISK_BULK && g->total == 0)
        return g->size; /* the pass has not begun */
    return kind == RAM ? left : left + g->dirty + g->hot;
}

/* 0 to 1; 1 only when nothing is left. */
static double gauge_share(const struct move_gauge *g, enum gauge_kind kind)
{
    const uint64_t left = gauge_left(g, kind);
    const uint64_t whole = kind == DISK_BULK ? g->total + g->dirty : g->size;

    if (left == 0)
        return 1;
    if (left >= whole)
        return 0;
    return fmin(0.999, (double)(whole - left) / (double)whole);
}

/* All of @g from @from on as one. */
static struct move_gauge gauge_sum(const struct move_gauge *g, size_t from, size_t n)
{
    struct move_gauge sum = { .dirty_rate = -1 };

    for (size_t i = from; i < n; i++) {
        sum.size += g[i].size;
        sum.total += g[i].total;
        sum.done += g[i].done;
        sum.dirty += g[i].dirty;
        sum.hot += g[i].hot;
        sum.rate += g[i].rate;
        if (g[i].dirty_rate >= 0)
            sum.dirty_rate = fmax(sum.dirty_rate, 0) + g[i].dirty_rate;
    }
    return sum;
}

/* --- the table of disks and RAM --- */

/* Which columns there is room for, from left to right. */
struct columns {
    unsigned indent, label, bar;
    bool copied, left, rate, writes;
};

static unsigned columns_without_bar(const struct columns *c)
{
    return c->indent + c->label + GAP + GAP + PERCENT_COLS +
           (c->copied ? GAP + SIZE_COLS : 0) + (c->left ? GAP + SIZE_COLS : 0) +
           (c->rate ? GAP + RATE_COLS : 0) + (c->writes ? GAP + RATE_COLS : 0);
}

/* What matters least goes first. */
static struct columns columns_fit(const struct text *t, const struct move_progress *p)
{
    struct columns c = {
        .label = LABEL_MIN, .copied = true, .left = true, .rate = true, .writes = true
    };
    bool *const drop[] = { &c.copied, &c.writes, &c.rate, &c.left };

    c.indent = t->width >= INDENT_FROM ? GAP : 0;
    for (size_t i = 0; i < p->ndisks; i++) {
        const unsigned n = text_columns(t, p->disks[i].name);

        c.label = n > c.label ? n : c.label;
    }
    if (c.label > LABEL_MAX)
        c.label = LABEL_MAX;
    for (size_t i = 0; i < sizeof drop / sizeof drop[0]; i++)
        if (columns_without_bar(&c) + BAR_MIN > t->width)
            *drop[i] = false;

    const unsigned rest = columns_without_bar(&c);
    c.bar = t->width > rest ? t->width - rest : 0;
    if (c.bar > BAR_MAX)
        c.bar = BAR_MAX;
    return c;
}

static void put_label(struct text *t, const struct columns *c, const char *s)
{
    text_pad(t, c->indent);
    text_fit(t, TEXT_DIM, s, c->label);
    text_pad(t, c->indent + c->label + GAP);
}

static void put_bar(struct text *t, double share, unsigned cols)
{
    const unsigned full = (unsigned)(share * cols);
    const enum text_style style = share >= 1 ? TEXT_GOOD : TEXT_BOLD;

    text_repeat(t, style, t->utf8 ? "━" : "#", full);
    text_repeat(t, TEXT_DIM, t->utf8 ? "─" : ".", cols - full);
}

static void put_cell(struct text *t, enum text_style style, const char *s,
                     unsigned cols)
{
    text_pad(t, t->col + GAP);
    text_right(t, style, s, cols);
}

/* @rate below 0: unknown; nothing worth a number is a dash. */
static void put_rate(struct text *t, double rate)
{
    char s[UNITS_LEN];

    if (rate < 0)
        put_cell(t, TEXT_DIM, "?", RATE_COLS);
    else if (rate < 1)
        put_cell(t, TEXT_DIM, "-", RATE_COLS);
    else
        put_cell(t, TEXT_PLAIN, units_rate(s, rate), RATE_COLS);
}

static void put_titles(struct text *t, const struct columns *c)
{
    text_pad(t, c->indent + c->label + GAP + c->bar + GAP + PERCENT_COLS);
    if (c->copied)
        put_cell(t, TEXT_DIM, "copied", SIZE_COLS);
    if (c->left)
        put_cell(t, TEXT_DIM, "left", SIZE_COLS);
    if (c->rate)
        put_cell(t, TEXT_DIM, "copying at", RATE_COLS);
    if (c->writes)
        put_cell(t, TEXT_DIM, "guest writes", RATE_COLS);
    text_newline(t);
}

static void put_gauge(struct text *t, const struct columns *c, const char *name,
                      const struct move_gauge *g, enum gauge_kind kind)
{
    const double share = gauge_share(g, kind);
    char s[UNITS_LEN];

    put_label(t, c, name);
    put_bar(t, share, c->bar);
    snprintf(s, sizeof s, "%.0f%%", floor(share * 100));
    put_cell(t, TEXT_PLAIN, s, PERCENT_COLS);
    if (c->copied)
        put_cell(t, TEXT_PLAIN, units_size(s, g->done), SIZE_COLS);
    if (c->left)
        put_cell(t, TEXT_PLAIN, units_size(s, gauge_left(g, kind)), SIZE_COLS);
    if (c->rate)
        put_rate(t, g->rate);
    if (c->writes)
        put_rate(t, g->dirty_rate);
    text_newline(t);
}

static void put_gauges(struct text *t, const struct columns *c,
                       const struct move_progress *p, unsigned rows)
{
    const bool ram = p->ram.size > 0;
    const enum gauge_kind kind = p->round > 0 ? DISK_ROUND : DISK_BULK;
    const size_t room = rows > ram ? rows - ram : 0;
    const size_t shown = p->ndisks <= room ? p->ndisks : room > 0 ? room - 1 : 0;

    for (size_t i = 0; i < shown; i++)
        put_gauge(t, c, p->disks[i].name, &p->disks[i], kind);
    if (shown < p->ndisks && room > 0) {
        const struct move_gauge sum = gauge_sum(p->disks, shown, p->ndisks);
        char name[24];

        snprintf(name, sizeof name, "+%zu", p->ndisks - shown);
        put_gauge(t, c, name, &sum, kind);
    }
    if (ram)
        put_gauge(t, c, p->ram.name, &p->ram, RAM);
}

/* --- the lines around it --- */

/* " · @s" unless it is the first of its line; only as a whole, if there is room. */
static void put_item(struct text *t, unsigned from, enum text_style style,
                     const char *s)
{
    const char *const dot = t->col == from ? "" : t->utf8 ? " · " : ", ";

    if (t->width != 0 && t->col + text_columns(t, dot) + text_columns(t, s) > t->width)
        return;
    text_put(t, TEXT_DIM, dot);
    text_put(t, style, s);
}

static void phase_text(char *out, size_t size, const struct move_progress *p)
{
    const bool rounds =
        p->round > 0 && p->phase >= MOVE_ROUNDS && p->phase <= MOVE_SWITCH;

    if (rounds)
        snprintf(out, size, "%s, disk round %u", phases[p->phase], p->round);
    else
        snprintf(out, size, "%s", phases[p->phase]);
}

/* "web01 → hostb                2m 13s" and the phase, on one line if they fit. */
static void put_head(struct text *t, const struct move_progress *p)
{
    char time[UNITS_LEN], phase[80];
    const char *const arrow = t->utf8 ? " → " : " -> ";

    units_time(time, p->elapsed_ms);
    phase_text(phase, sizeof phase, p);
    const unsigned last = text_columns(t, time) + GAP;
    const unsigned room = t->width > last + 4 ? t->width - last - 4 : 0;

    text_fit(t, TEXT_BOLD, p->domain, room / 2);
    text_put(t, TEXT_DIM, arrow);
    text_fit(t, TEXT_BOLD, p->dest, room - room / 2);
    if (t->col + GAP + text_columns(t, phase) + last <= t->width) {
        text_pad(t, t->col + GAP);
        text_put(t, TEXT_PLAIN, phase);
        phase[0] = '\0';
    }
    text_pad(t, t->width > last - GAP ? t->width - last + GAP : 0);
    text_put(t, TEXT_DIM, time);
    text_newline(t);
    if (phase[0] != '\0') {
        text_put(t, TEXT_PLAIN, phase);
        text_newline(t);
    }
}

/* "at most 12.0 MiB/s"; "guest's writes 3.1 ms".  Empty where there is no limit. */
static void limit_text(char *out, size_t size, const struct move_progress *p)
{
    char u[UNITS_LEN];

    out[0] = '\0';
    if (p->rate_limit > 0)
        snprintf(out, size, "at most %s", units_rate(u, (double)p->rate_limit));
}

static void writes_text(char *out, size_t size, const struct move_progress *p)
{
    out[0] = '\0';
    if (p->guest_write_ms > 0)
        snprintf(out, size, "guest's writes %.1f ms", p->guest_write_ms);
}

static void put_link(struct text *t, const struct columns *c,
                     const struct move_progress *p)
{
    char s[64], u[UNITS_LEN];

    put_label(t, c, "link");
    const unsigned from = t->col;
    put_item(t, from, TEXT_PLAIN, units_rate(u, p->sent_rate));
    snprintf(s, sizeof s, "%s sent", units_size(u, p->sent));
    put_item(t, from, TEXT_PLAIN, s);
    limit_text(s, sizeof s, p);
    if (s[0] != '\0')
        put_item(t, from, TEXT_PLAIN, s);
    writes_text(s, sizeof s, p);
    if (s[0] != '\0')
        put_item(t, from, TEXT_PLAIN, s);
    if (p->ratio >= 1.05) {
        snprintf(s, sizeof s, "compressed %.1fx", p->ratio);
        put_item(t, from, TEXT_PLAIN, s);
    }
    if (p->rtt_us >= 0) {
        snprintf(s, sizeof s, "round trip %.1f ms", (double)p->rtt_us / 1000);
        put_item(t, from, TEXT_PLAIN, s);
    }
    text_newline(t);
}

/* What the guest would be paused for now, and may be. */
static void pause_text(char *out, size_t size, const struct move_progress *p)
{
    char now[UNITS_LEN], budget[UNITS_LEN];

    units_time(budget, (int64_t)p->budget_ms);
    if (p->predicted_pause_ms >= 0)
        snprintf(out, size, "%s (%s allowed)", units_time(now, p->predicted_pause_ms),
                 budget);
    else
        snprintf(out, size, "%s allowed", budget);
}

/* "switch in 36 s": tenths of seconds would only be restless. */
static void eta_text(char *out, size_t size, int64_t ms)
{
    char u[UNITS_LEN];

    if (ms < 60 * 1000)
        snprintf(out, size, "switch in %lld s", (long long)(ms + 999) / 1000);
    else
        snprintf(out, size, "switch in %s", units_time(u, ms));
}

/* "4.0 MiB wait for the last round"; empty where nothing does. */
static void hot_text(char *out, size_t size, const struct move_progress *p)
{
    const uint64_t hot = gauge_sum(p->disks, 0, p->ndisks).hot;
    char u[UNITS_LEN];

    out[0] = '\0';
    if (hot > 0)
        snprintf(out, size, "%s wait for the last round", units_size(u, hot));
}

static void put_hot(struct text *t, const struct columns *c,
                    const struct move_progress *p)
{
    char s[64];

    hot_text(s, sizeof s, p);
    if (s[0] == '\0')
        return;
    put_label(t, c, "hot");
    text_fit(t, TEXT_PLAIN, s, t->width > t->col ? t->width - t->col : 0);
    text_newline(t);
}

static bool copying(const struct move_progress *p)
{
    return p->phase >= MOVE_BULK && p->phase <= MOVE_SWITCH;
}

static bool pause_ahead(const struct move_progress *p)
{
    return p->phase >= MOVE_BULK && p->phase <= MOVE_MEMORY;
}

/* While it is held it comes no nearer on purpose. */
static bool has_trend(const struct move_progress *p)
{
    return p->trend != MOVE_TREND_UNKNOWN && !p->held;
}

static void put_pause(struct text *t, const struct columns *c,
                      const struct move_progress *p)
{
    const bool over = p->predicted_pause_ms > (int64_t)p->budget_ms;
    char s[96];

    put_label(t, c, "pause");
    const unsigned from = t->col;
    pause_text(s, sizeof s, p);
    put_item(t, from, p->predicted_pause_ms < 0 || over ? TEXT_PLAIN : TEXT_GOOD, s);
    if (has_trend(p))
        put_item(t, from, trends[p->trend].style, trends[p->trend].name);
    if (p->eta_ms >= 0) {
        eta_text(s, sizeof s, p->eta_ms);
        put_item(t, from, TEXT_PLAIN, s);
    }
    text_newline(t);
}

/* Disks and RAM, with @rows lines for them and what follows: airy where there is room,
 * disks summed up where there is not even room for all of them. */
static void put_table(struct text *t, const struct columns *c,
                      const struct move_progress *p, unsigned rows)
{
    const unsigned gauges = (unsigned)p->ndisks + (p->ram.size > 0),
                   least = 1 + (p->ram.size > 0);
    const bool airy = rows >= 2 + 1 + gauges + FOOT_ROWS;
    unsigned room = rows > 1 + FOOT_ROWS ? rows - 1 - FOOT_ROWS : 0;

    if (room < least)
        room = rows - 1 < least ? rows - 1 : least;
    if (airy)
        text_newline(t);
    put_titles(t, c);
    put_gauges(t, c, p, room);
    if (airy)
        text_newline(t);
}

void render_live(struct text *t, const struct move_progress *p, unsigned rows)
{
    const struct columns c = columns_fit(t, p);

    assert(p->ndisks <= DOMXML_DISKS_MAX && rows > HEAD_ROWS);
    put_head(t, p);
    if (copying(p) && p->ndisks > 0 && t->lines + 1 < rows)
        put_table(t, &c, p, rows - t->lines);
    if (copying(p) && t->lines < rows)
        put_link(t, &c, p);
    if (pause_ahead(p) && t->lines < rows)
        put_pause(t, &c, p);
    if (pause_ahead(p) && t->lines + 1 < rows)
        put_hot(t, &c, p);
    if (p->why[0] != '\0' && t->lines < rows) {
        put_label(t, &c, "why");
        text_wrap(t, TEXT_PLAIN, p->why, t->col,
                  rows - t->lines < WHY_LINES ? rows - t->lines : WHY_LINES);
    }
}

static void plain_gauge(struct text *t, const char *name, const struct move_gauge *g,
                        enum gauge_kind kind)
{
    char u[UNITS_LEN];

    text_printf(t, TEXT_PLAIN, ", %s %.0f%%", name, floor(100 * gauge_share(g, kind)));
    if (gauge_left(g, kind) > 0)
        text_printf(t, TEXT_PLAIN, " (%s left)", units_size(u, gauge_left(g, kind)));
}

void render_plain(struct text *t, const struct move_progress *p)
{
    const enum gauge_kind kind = p->round > 0 ? DISK_ROUND : DISK_BULK;
    char s[96], u[UNITS_LEN];

    phase_text(s, sizeof s, p);
    text_printf(t, TEXT_PLAIN, "%s: %s", p->domain, s);
    if (copying(p)) {
        if (p->ndisks <= PLAIN_DISKS) {
            for (size_t i = 0; i < p->ndisks; i++)
                plain_gauge(t, p->disks[i].name, &p->disks[i], kind);
        } else {
            const struct move_gauge sum = gauge_sum(p->disks, 0, p->ndisks);

            snprintf(s, sizeof s, "%zu disks", p->ndisks);
            plain_gauge(t, s, &sum, kind);
        }
        if (p->ram.size > 0)
            plain_gauge(t, p->ram.name, &p->ram, RAM);
        text_printf(t, TEXT_PLAIN, ", sending %s", units_rate(u, p->sent_rate));
        limit_text(s, sizeof s, p);
        text_printf(t, TEXT_PLAIN, "%s%s", s[0] != '\0' ? ", " : "", s);
        writes_text(s, sizeof s, p);
        text_printf(t, TEXT_PLAIN, "%s%s", s[0] != '\0' ? ", " : "", s);
    }
    if (pause_ahead(p) && p->predicted_pause_ms >= 0) {
        pause_text(s, sizeof s, p);
        text_printf(t, TEXT_PLAIN, ", pause %s", s);
    }
    hot_text(s, sizeof s, p);
    if (s[0] != '\0' && pause_ahead(p))
        text_printf(t, TEXT_PLAIN, ", hot: %s", s);
    if (has_trend(p) && pause_ahead(p))
        text_printf(t, TEXT_PLAIN, ", %s", trends[p->trend].name);
    if (p->eta_ms >= 0 && pause_ahead(p)) {
        eta_text(s, sizeof s, p->eta_ms);
        text_printf(t, TEXT_PLAIN, ", %s", s);
    }
    if (p->why[0] != '\0')
        text_printf(t, TEXT_PLAIN, "; %s", p->why);
}
