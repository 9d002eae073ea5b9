#include "cli/json_out.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"

static const char *const trends[] = {
    [MOVE_TREND_UNKNOWN] = "unknown",
    [MOVE_TREND_CONVERGING] = "converging",
    [MOVE_TREND_STEADY] = "steady",
    [MOVE_TREND_DIVERGING] = "diverging",
};

enum move_trend json_out_trend(const char *name)
{
    for (int i = 0; i <= MOVE_TREND_DIVERGING; i++)
        if (strcmp(name, trends[i]) == 0)
            return (enum move_trend)i;
    return MOVE_TREND_UNKNOWN;
}

static void add_null(struct json_object *o, const char *key)
{
    json_object_object_add(o, key, NULL);
}

static struct json_object *clean_string(const char *s)
{
    const size_t size = 4 * strlen(s) + 1;
    AUTO(mem_free) char *c = malloc(size);

    if (c == NULL)
        abort();
    return json_object_new_string(log_clean(c, size, s));
}

static void add_clean(struct json_object *o, const char *key, const char *s)
{
    json_object_object_add(o, key, clean_string(s));
}

/* A number that is unknown where it is below 0. */
static void add_known(struct json_object *o, const char *key, int64_t v)
{
    if (v < 0)
        add_null(o, key);
    else
        json_add_u64(o, key, (uint64_t)v);
}

static void add_rate(struct json_object *o, const char *key, double v)
{
    add_known(o, key, v >= 0 && v < 9e18 ? llround(v) : -1);
}

/* Two decimals are enough, and 2.1 is not written 2.1000000000000001. */
static void add_ratio(struct json_object *o, const char *key, double v)
{
    char s[32];

    if (!isfinite(v) || v < 0 || v > 1e6)
        v = 1;
    snprintf(s, sizeof s, "%.2f", v);
    json_object_object_add(o, key, json_object_new_double_s(v, s));
}

static struct json_object *gauge(const struct move_gauge *g)
{
    struct json_object *const o = json_new();

    add_clean(o, "name", g->name);
    json_add_u64(o, "size", g->size);
    json_add_u64(o, "total", g->total);
    json_add_u64(o, "done", g->done);
    json_add_u64(o, "dirty", g->dirty);
    json_add_u64(o, "hot", g->hot);
    add_rate(o, "rate", g->rate);
    add_rate(o, "dirty_rate", g->dirty_rate);
    add_known(o, "limit", g->limit > 0 ? (int64_t)g->limit : -1);
    return o;
}

struct json_object *json_out_progress(const struct move_progress *p)
{
    struct json_object *const o = json_new(), *const disks = json_object_new_array();

    json_add_str(o, "type", "progress");
    json_add_str(o, "phase", move_phase_name(p->phase));
    add_clean(o, "domain", p->domain);
    add_clean(o, "destination", p->dest);
    json_add_u64(o, "elapsed_ms", (uint64_t)p->elapsed_ms);
    json_add_u64(o, "round", p->round);
    for (size_t i = 0; i < p->ndisks; i++)
        json_object_array_add(disks, gauge(&p->disks[i]));
    json_add_obj(o, "disks", disks);
    json_object_object_add(o, "ram", p->ram.size > 0 ? gauge(&p->ram) : NULL);
    json_add_u64(o, "sent", p->sent);
    add_rate(o, "sent_rate", p->sent_rate);
    add_ratio(o, "ratio", p->ratio);
    add_known(o, "rtt_us", p->rtt_us);
    add_known(o, "predicted_pause_ms", p->predicted_pause_ms);
    json_add_u64(o, "budget_ms", p->budget_ms);
    json_add_u64(o, "rate_limit", p->rate_limit);
    add_known(o, "guest_write_us",
              p->guest_write_ms > 0 ? llround(p->guest_write_ms * 1000) : -1);
    json_add_bool(o, "held", p->held);
    add_known(o, "eta_ms", p->eta_ms);
    json_add_str(o, "trend", trends[p->trend]);
    json_add_str(o, "decision", p->decision);
    add_clean(o, "why", p->why);
    json_add_u64(o, "cpus_held", p->cpus_held);
    return o;
}

struct json_object *json_out_finding(const struct finding *f)
{
    struct json_object *const o = json_new();

    json_add_str(o, "type", "finding");
    json_add_str(o, "level", f->level == FINDING_BLOCKER ? "blocker" : "warning");
    add_clean(o, "code", f->code);
    add_clean(o, "what", f->what);
    add_clean(o, "next", f->next);
    return o;
}

static struct json_object *error(const struct err *e)
{
    if (e->kind == ERR_NONE)
        return NULL;

    struct json_object *const o = json_new();
    json_add_str(o, "kind", err_kind_name(e->kind));
    json_add_u64(o, "errno", (uint64_t)e->os);
    add_clean(o, "what", e->msg);
    add_clean(o, "next", e->next);
    return o;
}

static struct json_object *pause_steps(const struct pause *p)
{
    if (p->total_ms < 0)
        return NULL;

    struct json_object *const o = json_new();
    for (int i = 0; i < PAUSE_STEPS; i++)
        json_add_u64(o, pause_step_name((enum pause_step)i), (uint64_t)p->ms[i]);
    return o;
}

static struct json_object *curve(const struct forecast_curve *c)
{
    struct json_object *const o = json_new();

    add_rate(o, "rate", c->rate);
    add_rate(o, "working_set", c->set > 0 ? c->set : -1);
    return o;
}

static struct json_object *foreseen(const struct forecast *f)
{
    struct json_object *const o = json_new();

    json_add_bool(o, "converges", f->converges);
    json_add_u64(o, "total_ms", (uint64_t)f->total_ms);
    add_known(o, "pause_ms", f->pause_ms);
    json_add_u64(o, "budget_ms", f->in.budget_ms);
    json_add_u64(o, "rounds", f->rounds);
    json_add_u64(o, "disk_bytes", f->disk_bytes);
    json_add_u64(o, "ram_bytes", f->ram_bytes);
    json_add_u64(o, "sent", f->sent);
    json_add_u64(o, "data", f->in.disk_bytes);
    json_add_u64(o, "memory", f->in.ram_bytes);
    add_rate(o, "disk_rate", f->in.disk_rate);
    add_rate(o, "ram_rate", f->in.ram_rate);
    add_ratio(o, "disk_ratio", f->in.disk_ratio);
    add_ratio(o, "ram_ratio", f->in.ram_ratio);
    json_add_obj(o, "disk_writes", curve(&f->in.disk));
    json_add_obj(o, "ram_writes", curve(&f->in.ram));
    add_known(o, "needs_downtime_ms",
              f->needs_downtime_ms > 0 ? (int64_t)f->needs_downtime_ms : -1);
    add_rate(o, "needs_rate", f->needs_rate > 0 ? f->needs_rate : -1);
    return o;
}

struct json_object *json_out_forecast(const struct forecast *f)
{
    struct json_object *const o = foreseen(f);

    return json_add_str(o, "type", "forecast");
}

struct json_object *json_out_texts(const struct texts *t)
{
    struct json_object *const a = json_object_new_array();

    for (size_t i = 0; i < t->n; i++)
        json_object_array_add(a, clean_string(t->text[i]));
    return a;
}

/* null: nothing is. */
static struct json_object *kept(const struct move_result *r)
{
    return r->kept_bytes == 0
               ? NULL
               : json_add_u64(json_add_u64(json_new(), "bytes", r->kept_bytes), "size",
                              r->kept_size);
}

/* Of one disk, or of all where there is no digest; null: nothing was compared. */
static struct json_object *verified(const struct move_verified *v)
{
    if (!v->done)
        return NULL;

    struct json_object *const o = json_new();
    json_add_u64(json_add_u64(o, "compared", v->compared), "alike", v->alike);
    json_add_u64(json_add_u64(o, "differing", v->differing), "repaired", v->repaired);
    return v->digest[0] != '\0' ? json_add_str(o, "digest", v->digest) : o;
}

static struct json_object *disks(const struct move_result *r)
{
    struct json_object *const a = json_object_new_array();

    for (size_t i = 0; i < r->ndisks; i++) {
        struct json_object *const d = json_new();

        add_clean(d, "target", r->disks[i].target);
        add_clean(d, "source_path", r->disks[i].src);
        add_clean(d, "destination_path", r->disks[i].dst);
        add_clean(d, "format", r->disks[i].format);
        json_add_u64(d, "size", r->disks[i].size);
        json_object_object_add(d, "verified", verified(&r->disks[i].verified));
        json_object_array_add(a, d);
    }
    return a;
}

struct json_object *json_out_result(const struct move_cfg *cfg,
                                    const struct move_result *r)
{
    struct json_object *const o = json_new();

    json_add_str(o, "type", "result");
    json_add_u64(o, "status", (uint64_t)r->status);
    json_add_bool(o, "check", cfg->check_only);
    json_add_str(o, "guest_location", move_where_name(r->where));
    add_clean(o, "guest_state", r->state);
    add_clean(o, "domain", r->domain[0] != '\0' ? r->domain : cfg->domain);
    add_clean(o, "uuid", r->uuid);
    add_clean(o, "source", r->source_host);
    add_clean(o, "destination",
              r->dest_host[0] != '\0' ? r->dest_host : cfg->dest_text);
    add_clean(o, "id", r->id);
    add_known(o, "pause_ms", r->pause_ms);
    json_object_object_add(o, "pause", pause_steps(&r->pause));
    json_add_u64(o, "budget_ms", r->budget_ms);
    json_object_object_add(o, "forecast",
                           r->forecast.made ? foreseen(&r->forecast) : NULL);
    add_known(o, "forecast_at_ms", r->forecast.made ? r->forecast_at_ms : -1);
    json_add_u64(o, "elapsed_ms", (uint64_t)r->elapsed_ms);
    json_add_u64(o, "rounds", r->rounds);
    json_add_u64(o, "retries", r->retries);
    json_add_u64(o, "redials", r->redials);
    json_add_u64(o, "disk_bytes", r->disk_bytes);
    json_add_u64(o, "ram_bytes", r->ram_bytes);
    json_add_u64(o, "sent", r->sent);
    json_add_u64(o, "received", r->received);
    json_object_object_add(o, "kept", kept(r));
    json_object_object_add(o, "verified", verified(&r->verified));
    json_add_obj(o, "disks", disks(r));
    json_add_obj(o, "left", json_out_texts(&r->left));
    json_add_obj(o, "notes", json_out_texts(&r->notes));
    struct json_object *const arrival = json_new();
    json_add_obj(arrival, "done", json_out_texts(&r->greeting.done));
    json_add_obj(arrival, "failed", json_out_texts(&r->greeting.failed));
    json_add_obj(o, "arrival", arrival);
    json_object_object_add(o, "error", error(&r->err));
    return o;
}

struct json_object *json_out_error(const struct err *e)
{
    return error(e);
}

void json_out_clean(struct json_object *o, const char *key, const char *s)
{
    add_clean(o, key, s);
}

bool json_out_write(int fd, struct json_object *o, struct err *e)
{
    AUTO(json_put) struct json_object *held = o;
    const char *const text = json_object_to_json_string_ext(
        held, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    AUTO(mem_free) char *line = NULL;

    if (text == NULL)
        abort();
    const int n = asprintf(&line, "%s\n", text);
    if (n < 0)
        abort();
    return fd_write_all(fd, line, (size_t)n, e);
}
