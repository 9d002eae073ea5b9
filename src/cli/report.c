#include "cli/report.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/units.h"
#include "migrate/status.h"

enum { LABEL = 9 }; /* columns of "  copied " */

/* --- names --- */

static const char *domain(const struct move_cfg *cfg, const struct move_result *r)
{
    return r->domain[0] != '\0' ? r->domain : cfg->domain;
}

static const char *source(const struct move_result *r)
{
    return r->source_host[0] != '\0' ? r->source_host : "this host";
}

static const char *destination(const struct move_cfg *cfg, const struct move_result *r)
{
    return r->dest_host[0] != '\0' ? r->dest_host : cfg->dest_text;
}

static void put_line(struct text *t, const char *s)
{
    text_put(t, TEXT_PLAIN, s);
    text_newline(t);
}

/* --- where the guest is: the last line --- */

/* Nothing was changed on either host. */
static bool untouched(const struct move_cfg *cfg, const struct move_result *r)
{
    return r->status == STATUS_REFUSED || r->status == STATUS_NO_CONNECTION ||
           cfg->check_only;
}

static void put_where(struct text *t, const struct move_cfg *cfg,
                      const struct move_result *r)
{
    const char *const state = r->state[0] != '\0' ? r->state : "running";

    text_printf(t, TEXT_PLAIN, "%s: ", domain(cfg, r));
    switch (r->where) {
    case MOVE_AT_DESTINATION:
        text_printf(t, TEXT_PLAIN, "%s on %s (destination)", state,
                    destination(cfg, r));
        break;
    case MOVE_AT_SOURCE:
        text_printf(t, TEXT_PLAIN, "%s on %s (source)", state, source(r));
        break;
    case MOVE_NOWHERE:
        text_put(t, TEXT_PLAIN,
                 r->status == 3 ? "runs nowhere" : "runs nowhere: it has ended");
        break;
    case MOVE_UNKNOWN:
        if (r->status == STATUS_UNRESOLVED)
            text_printf(t, TEXT_PLAIN,
                        "unresolved: nothing is lost, and it runs nowhere "
                        "until %s answers",
                        destination(cfg, r));
        else if (!untouched(cfg, r))
            text_put(t, TEXT_PLAIN,
                     "where it runs could not be asked: see virsh list --all");
        break;
    }
    if (untouched(cfg, r))
        text_printf(t, TEXT_PLAIN, "%snothing was changed",
                    r->where == MOVE_UNKNOWN ? "" : "; ");
    text_newline(t);
}

void report_kept(struct text *t, const char *lead, const char *dest, const char *domain,
                 uint64_t bytes, uint64_t size)
{
    char a[UNITS_LEN], b[UNITS_LEN], s[1200];

    if (bytes == 0)
        return;
    snprintf(s, sizeof s,
             "What was copied is kept on %s (%s of %s): the same command goes on; to "
             "give it up: snmigrate discard %s",
             dest, units_size(a, bytes), units_size(b, size), domain);
    text_put(t, TEXT_PLAIN, lead);
    text_fold(t, s, t->col);
}

static void put_kept(struct text *t, const char *lead, const struct move_cfg *cfg,
                     const struct move_result *r)
{
    report_kept(t, lead, destination(cfg, r), domain(cfg, r), r->kept_bytes,
                r->kept_size);
}

/* --- findings --- */

static void put_finding(struct text *t, const char *lead, const struct finding *f)
{
    const unsigned indent = text_columns(t, lead);

    text_put(t, TEXT_PLAIN, lead);
    put_line(t, f->what);
    if (f->next[0] != '\0') {
        text_pad(t, indent);
        put_line(t, f->next);
    }
}

/* Blockers numbered, then the warnings. */
static void put_findings(struct text *t, const struct findings *f)
{
    unsigned n = 0;
    char lead[16];

    for (size_t i = 0; i < f->n; i++) {
        if (f->list[i].level != FINDING_BLOCKER)
            continue;
        snprintf(lead, sizeof lead, "  %u. ", ++n);
        put_finding(t, lead, &f->list[i]);
    }
    for (size_t i = 0; i < f->n; i++)
        if (f->list[i].level == FINDING_WARNING)
            put_finding(t, "  warning: ", &f->list[i]);
}

static bool has_blockers(const struct move_result *r)
{
    return r->status == STATUS_REFUSED && findings_blockers(&r->findings) > 0;
}

static void put_refusal(struct text *t, const struct move_cfg *cfg,
                        const struct move_result *r)
{
    const size_t n = findings_blockers(&r->findings);

    text_printf(t, TEXT_PLAIN, "%s cannot move to %s: %zu blocker%s", domain(cfg, r),
                destination(cfg, r), n, n == 1 ? "" : "s");
    text_newline(t);
    put_findings(t, &r->findings);
}

/* --- the report --- */

static void put_headline(struct text *t, const struct move_cfg *cfg,
                         const struct move_result *r)
{
    const char *const name = domain(cfg, r), *const to = destination(cfg, r);
    char time[UNITS_LEN];

    units_time(time, r->elapsed_ms);
    switch (r->status) {
    case STATUS_OK:
        if (cfg->check_only)
            text_printf(t, TEXT_PLAIN, "%s can move to %s.", name, to);
        else
            text_printf(t, TEXT_PLAIN, "%s moved to %s in %s.", name, to, time);
        break;
    case STATUS_STALLED:
        if (cfg->check_only)
            text_printf(t, TEXT_PLAIN, "%s would not converge on its way to %s.", name,
                        to);
        else
            text_printf(t, TEXT_PLAIN, "%s was not moved to %s.", name, to);
        break;
    case STATUS_GUEST_ENDED:
        text_printf(t, TEXT_PLAIN, "%s ended during the move to %s.", name, to);
        break;
    case STATUS_LEFT:
        text_printf(t, TEXT_PLAIN, "%s moved to %s in %s; something is left to do.",
                    name, to, time);
        break;
    case STATUS_UNRESOLVED:
        text_printf(t, TEXT_PLAIN, "%s: the move to %s is unresolved after %s.", name,
                    to, time);
        break;
    default:
        text_printf(t, TEXT_PLAIN, "%s was not moved to %s.", name, to);
        break;
    }
    text_newline(t);
}

static void put_label(struct text *t, const char *label)
{
    text_pad(t, 2);
    text_put(t, TEXT_PLAIN, label);
    text_pad(t, t->col < LABEL ? LABEL : t->col + 1);
}

/* The steps of the pause that took a while. */
static void put_steps(struct text *t, const struct pause *p)
{
    char s[400] = "", *c;

    if (p->total_ms <= 0)
        return;
    for (int i = 0; i < PAUSE_STEPS; i++)
        if (p->ms[i] != 0)
            snprintf(s + strlen(s), sizeof s - strlen(s), "%s%s %lld",
                     s[0] != '\0' ? ", " : "", pause_step_name((enum pause_step)i),
                     (long long)p->ms[i]);
    while ((c = strchr(s, '_')) != NULL)
        *c = ' '; /* the names are those of JSON */
    text_pad(t, LABEL);
    text_fold(t, s, LABEL);
}

/* To the millisecond, as long as those count. */
static const char *pause_text(char out[UNITS_LEN], int64_t ms)
{
    if (ms >= 10000)
        return units_time(out, ms);
    snprintf(out, UNITS_LEN, "%lld ms", (long long)ms);
    return out;
}

static void put_pause(struct text *t, const struct move_result *r)
{
    char budget[UNITS_LEN], time[UNITS_LEN];

    if (r->pause_ms < 0)
        return;
    put_label(t, "paused");
    units_time(budget, (int64_t)r->budget_ms);
    text_printf(t, TEXT_PLAIN,
                r->pause_ms > (int64_t)r->budget_ms ? "%s, longer than the %s allowed"
                                                    : "%s (%s allowed)",
                pause_text(time, r->pause_ms), budget);
    text_newline(t);
    put_steps(t, &r->pause);
}

/* --- forecasts --- */

/* What a forecast says, and beside it what came of it. */
static void put_foreseen(struct text *t, const struct move_result *r)
{
    const struct forecast *const f = &r->forecast;
    char time[UNITS_LEN], sent[UNITS_LEN], at[UNITS_LEN];
    char pause[80] = "no pause that is short enough", s[400];

    if (!f->made)
        return;
    if (f->pause_ms >= 0)
        snprintf(pause, sizeof pause, "paused %s%s", pause_text(time, f->pause_ms),
                 f->converges ? "" : ", if at all");
    snprintf(s, sizeof s,
             "%s, %s sent, %s; time %+.0f %%, bytes %+.0f %% (said after %s)",
             units_time(time, f->total_ms), units_size(sent, f->sent), pause,
             100 * forecast_error((double)f->total_ms, (double)r->elapsed_ms),
             100 * forecast_error((double)f->sent, (double)r->sent),
             units_time(at, r->forecast_at_ms));
    put_label(t, "foresaw");
    text_fold(t, s, t->col);
}

static void put_writes(struct text *t, const char *what, const struct forecast_curve *c)
{
    char rate[UNITS_LEN], set[UNITS_LEN];

    text_printf(t, TEXT_PLAIN, "%s at %s", what, units_rate(rate, c->rate));
    if (c->set > 0)
        text_printf(t, TEXT_PLAIN, " within %s", units_size(set, (uint64_t)c->set));
}

/* The forecast that was asked for. */
static void put_forecast(struct text *t, const struct forecast *f)
{
    char a[UNITS_LEN], b[UNITS_LEN], c[UNITS_LEN], pause[80] = "", s[400];

    if (f->pause_ms >= 0)
        snprintf(pause, sizeof pause, ", paused %s%s", pause_text(a, f->pause_ms),
                 f->converges ? "" : " at best");
    snprintf(s, sizeof s, "%s within a pause of %s: %sabout %s, %s sent%s",
             f->converges ? "converges" : "does NOT converge",
             units_time(a, (int64_t)f->in.budget_ms),
             f->converges ? "" : "given up after ", units_time(c, f->total_ms),
             units_size(b, f->sent), pause);
    put_label(t, "forecast");
    text_fold(t, s, t->col);
    put_label(t, "to copy");
    text_printf(t, TEXT_PLAIN, "%s of disks at %s (%.1fx), ",
                units_size(a, f->in.disk_bytes), units_rate(b, f->in.disk_rate),
                f->in.disk_ratio);
    text_printf(t, TEXT_PLAIN, "%s of memory (%.1fx)", units_size(c, f->in.ram_bytes),
                f->in.ram_ratio);
    text_newline(t);
    put_label(t, "dirties");
    put_writes(t, "disks", &f->in.disk);
    put_writes(t, ", memory", &f->in.ram);
    text_newline(t);
}

static void put_amounts(struct text *t, const struct move_result *r)
{
    char disk[UNITS_LEN], ram[UNITS_LEN], sent[UNITS_LEN], rate[UNITS_LEN],
        time[UNITS_LEN];

    if (r->disk_bytes > 0 || r->ram_bytes > 0) {
        put_label(t, "copied");
        text_printf(t, TEXT_PLAIN, "%s of disks", units_size(disk, r->disk_bytes));
        if (r->rounds > 0)
            text_printf(t, TEXT_PLAIN, " (%u round%s for what changed)", r->rounds,
                        r->rounds == 1 ? "" : "s");
        if (r->ram_bytes > 0)
            text_printf(t, TEXT_PLAIN, ", %s of memory", units_size(ram, r->ram_bytes));
        text_newline(t);
    }
    if (r->sent > 0 && (r->disk_bytes > 0 || r->ram_bytes > 0)) {
        put_label(t, "sent");
        text_printf(t, TEXT_PLAIN, "%s in %s", units_size(sent, r->sent),
                    units_time(time, r->elapsed_ms));
        if (r->elapsed_ms > 0)
            text_printf(
                t, TEXT_PLAIN, " (%s)",
                units_rate(rate, (double)r->sent * 1000 / (double)r->elapsed_ms));
        text_newline(t);
    }
}

/* What a comparison has said of a disk. */
static void put_verified(struct text *t, const struct move_verified *v, bool whole)
{
    char a[UNITS_LEN], b[UNITS_LEN];

    if (!v->done)
        return;
    text_pad(t, LABEL);
    text_printf(t, TEXT_PLAIN, "compared %s", units_size(a, v->compared));
    if (v->differing > 0)
        text_printf(t, TEXT_PLAIN, ", %s differed", units_size(b, v->differing));
    if (v->repaired > 0)
        text_printf(t, TEXT_PLAIN, ", %s copied again", units_size(b, v->repaired));
    if (whole) /* that of a sample is like no other */
        text_printf(t, TEXT_PLAIN, "; digest %s", v->digest);
    text_newline(t);
}

/* Where each disk is, or would be, at the destination. */
static void put_disks(struct text *t, const struct move_cfg *cfg,
                      const struct move_result *r)
{
    const char *const arrow = t->utf8 ? "→" : "->";
    char size[UNITS_LEN];

    for (size_t i = 0; i < r->ndisks; i++) {
        put_label(t, r->disks[i].target);
        text_put(t, TEXT_PLAIN, r->disks[i].src);
        text_newline(t);
        text_pad(t, LABEL);
        text_printf(t, TEXT_PLAIN, "%s %s:%s (%s, %s)", arrow, destination(cfg, r),
                    r->disks[i].dst, r->disks[i].format,
                    units_size(size, r->disks[i].size));
        text_newline(t);
        put_verified(t, &r->disks[i].verified, cfg->verify == MOVE_VERIFY_FULL);
    }
}

static void put_list(struct text *t, const char *title, const struct texts *list)
{
    if (list->n > 0)
        put_line(t, title);
    for (size_t i = 0; i < list->n; i++) {
        text_put(t, TEXT_PLAIN, "  - ");
        put_line(t, list->text[i]);
    }
}

static void put_details(struct text *t, const struct move_cfg *cfg,
                        const struct move_result *r)
{
    const bool arrived = r->status == STATUS_OK || r->status == STATUS_LEFT;

    if (cfg->check_only && r->forecast.made)
        put_forecast(t, &r->forecast);
    put_pause(t, r);
    put_amounts(t, r);
    if (arrived && !cfg->check_only)
        put_foreseen(t, r);
    if (arrived)
        put_disks(t, cfg, r);
    if (arrived)
        put_findings(t, &r->findings);
    put_list(t, "On arrival:", &r->greeting.done);
    put_list(t, "Not done on arrival:", &r->greeting.failed);
    put_list(t, "Notes:", &r->notes);
    put_list(t, "Left to do:", &r->left);
}

void report_result(struct text *t, const struct move_cfg *cfg,
                   const struct move_result *r)
{
    if (has_blockers(r) && cfg->check_only)
        put_refusal(t, cfg, r);
    else
        put_headline(t, cfg, r);
    put_details(t, cfg, r);
    put_kept(t, "", cfg, r);
    put_where(t, cfg, r);
}

/* --- what went wrong --- */

static void put_said(struct text *t, const char *what, const char *s)
{
    text_printf(t, TEXT_PLAIN, "snmigrate: %s", what);
    put_line(t, s);
}

void report_error(struct text *t, const struct err *e)
{
    put_said(t, "error: ", e->msg);
    if (e->next[0] != '\0')
        put_said(t, "", e->next);
}

int report_fail(const struct err *e, int status, bool utf8)
{
    AUTO(text_fini) struct text t = { .utf8 = utf8 };

    report_error(&t, e);
    text_flush(&t, STDERR_FILENO);
    return status;
}

/* What to do where nobody closer to the cause said it. */
static const char *next_of(int status)
{
    switch (status) {
    case STATUS_FAILED:
    case STATUS_INTERRUPTED:
        return "Nothing is lost; the same command can be run again.";
    case STATUS_STALLED:
        return "Allow a longer pause with --max-downtime, or run it when the guest "
               "writes less.";
    case STATUS_NO_CONNECTION:
        return "Nothing was changed; see that ssh takes you there and finds snmigrate.";
    default:
        return "";
    }
}

void report_failure(struct text *t, const struct move_cfg *cfg,
                    const struct move_result *r, bool where)
{
    struct err e = r->err;

    if (r->status == STATUS_OK)
        return;
    if (has_blockers(r)) {
        text_put(t, TEXT_PLAIN, "snmigrate: error: ");
        put_refusal(t, cfg, r);
    } else if (e.kind != ERR_NONE) {
        if (e.next[0] == '\0')
            err_next(&e, "%s", next_of(r->status));
        report_error(t, &e);
    }
    if (where) {
        put_list(t, "snmigrate: left to do:", &r->left);
        put_kept(t, "snmigrate: ", cfg, r);
        text_put(t, TEXT_PLAIN, "snmigrate: ");
        put_where(t, cfg, r);
    }
}
