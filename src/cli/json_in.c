#include "cli/json_in.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/json_out.h"

/* A number at least 0; -1 where it is null, not there or anything else. */
static double number(struct json_object *o, const char *key)
{
    struct json_object *v;

    if (!json_object_object_get_ex(o, key, &v) ||
        !(json_object_is_type(v, json_type_int) ||
          json_object_is_type(v, json_type_double)))
        return -1;
    const double d = json_object_get_double(v);
    return isfinite(d) && d >= 0 && d < 9e18 ? d : -1;
}

static bool text(struct json_object *o, const char *key, char *out, size_t size,
                 struct err *e)
{
    const char *s;

    if (!json_get_str(o, key, &s, e))
        return false;
    snprintf(out, size, "%s", s);
    return true;
}

static bool gauge(struct json_object *o, struct move_gauge *g, struct err *e)
{
    if (!text(o, "name", g->name, sizeof g->name, e) ||
        !json_get_u64(o, "size", &g->size, e) ||
        !json_get_u64(o, "total", &g->total, e) ||
        !json_get_u64(o, "done", &g->done, e) ||
        !json_get_u64(o, "dirty", &g->dirty, e))
        return false;
    g->hot = (uint64_t)fmax(0, number(o, "hot"));
    g->rate = fmax(0, number(o, "rate"));
    g->dirty_rate = number(o, "dirty_rate");
    return true;
}

static bool gauges(struct json_object *o, struct move_progress *p, struct err *e)
{
    struct json_object *list, *ram;

    if (!json_get_array(o, "disks", &list, e))
        return false;
    p->ndisks = json_object_array_length(list);
    if (p->ndisks > DOMXML_DISKS_MAX)
        return err_set(e, ERR_PROTO, 0, "%zu disks", p->ndisks);
    for (size_t i = 0; i < p->ndisks; i++) {
        struct json_object *const d = json_object_array_get_idx(list, i);

        if (!json_object_is_type(d, json_type_object))
            return err_set(e, ERR_PROTO, 0, "disk %zu is no object", i);
        if (!gauge(d, &p->disks[i], e))
            return false;
    }
    return !json_has(o, "ram") ||
           (json_get_object(o, "ram", &ram, e) && gauge(ram, &p->ram, e));
}

static bool words(struct json_object *o, struct move_progress *p, struct err *e)
{
    const char *phase, *trend;

    if (!json_get_str(o, "phase", &phase, e) || !json_get_str(o, "trend", &trend, e) ||
        !text(o, "domain", p->domain, sizeof p->domain, e) ||
        !text(o, "destination", p->dest, sizeof p->dest, e) ||
        !text(o, "why", p->why, sizeof p->why, e))
        return false;
    p->phase = MOVE_PHASES;
    for (int i = 0; i < MOVE_PHASES; i++)
        if (strcmp(phase, move_phase_name((enum move_phase)i)) == 0)
            p->phase = (enum move_phase)i;
    if (p->phase == MOVE_PHASES)
        return err_set(e, ERR_PROTO, 0, "unknown phase \"%.40s\"", phase);
    p->trend = json_out_trend(trend);
    return true;
}

bool json_in_progress(struct json_object *o, struct move_progress *out, struct err *e)
{
    struct move_progress *const p = out;
    uint64_t elapsed, round;

    memset(p, 0, sizeof *p);
    if (!words(o, p, e) || !gauges(o, p, e) ||
        !json_get_u64(o, "elapsed_ms", &elapsed, e) ||
        !json_get_u64(o, "round", &round, e) || !json_get_u64(o, "sent", &p->sent, e) ||
        !json_get_u64(o, "budget_ms", &p->budget_ms, e) ||
        !json_get_u64(o, "rate_limit", &p->rate_limit, e) ||
        !json_get_bool(o, "held", &p->held, e))
        return false;
    p->elapsed_ms = elapsed < INT64_MAX ? (int64_t)elapsed : INT64_MAX;
    p->round = round < UINT32_MAX ? (unsigned)round : UINT32_MAX;
    p->sent_rate = fmax(0, number(o, "sent_rate"));
    p->ratio = fmax(1, number(o, "ratio"));
    p->rtt_us = (int64_t)number(o, "rtt_us");
    p->predicted_pause_ms = (int64_t)number(o, "predicted_pause_ms");
    p->eta_ms = (int64_t)number(o, "eta_ms");
    const double write_us = number(o, "guest_write_us");
    p->guest_write_ms = write_us < 0 ? -1 : write_us / 1000;
    return true;
}
