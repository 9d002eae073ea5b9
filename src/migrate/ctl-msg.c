/* The lines of the control socket, both ways; pure. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "migrate/ctl.h"

static const char *const names[] = {
    [CTL_STATUS] = "status",
    [CTL_SET] = "set",
    [CTL_SWITCH] = "switch",
    [CTL_ABORT] = "abort",
};
static_assert(sizeof names / sizeof names[0] == CTL_DOS,
              "names[] and enum ctl_do differ");

static bool take_setting(struct json_object *o, const char *key, bool *has,
                         uint64_t *value, struct err *e)
{
    *has = json_has(o, key);
    return !*has || json_get_u64(o, key, value, e);
}

static bool take_settings(struct json_object *o, struct move_settings *s, struct err *e)
{
    if (!take_setting(o, "bandwidth", &s->has_bandwidth, &s->bandwidth, e) ||
        !take_setting(o, "max_downtime_ms", &s->has_max_downtime, &s->max_downtime_ms,
                      e) ||
        !take_setting(o, "guest_latency_ms", &s->has_guest_latency,
                      &s->guest_latency_ms, e))
        return false;
    return s->has_bandwidth || s->has_max_downtime || s->has_guest_latency ||
           err_set(e, ERR_PROTO, 0, "nothing to set");
}

bool ctl_parse(const char *line, size_t len, struct ctl_request *out, struct err *e)
{
    AUTO(json_put) struct json_object *o = NULL;
    const char *todo;
    struct ctl_request r = { .todo = CTL_DOS };

    if (!json_parse(line, len, &o, e))
        return false;
    if (!json_object_is_type(o, json_type_object))
        return err_set(e, ERR_PROTO, 0, "a request is an object");
    if (!json_get_str(o, "do", &todo, e))
        return false;
    for (int i = 0; i < CTL_DOS; i++)
        if (strcmp(todo, names[i]) == 0)
            r.todo = (enum ctl_do)i;
    if (r.todo == CTL_DOS)
        return err_set(e, ERR_PROTO, 0, "unknown request \"%.40s\"", todo);
    if (r.todo == CTL_SET && !take_settings(o, &r.set, e))
        return false;
    if (json_has(o, "wait") && !json_get_bool(o, "wait", &r.wait, e))
        return false;
    *out = r;
    return true;
}

struct json_object *ctl_request(const struct ctl_request *r)
{
    struct json_object *const o = json_add_str(json_new(), "do", names[r->todo]);

    if (r->set.has_bandwidth)
        json_add_u64(o, "bandwidth", r->set.bandwidth);
    if (r->set.has_max_downtime)
        json_add_u64(o, "max_downtime_ms", r->set.max_downtime_ms);
    if (r->set.has_guest_latency)
        json_add_u64(o, "guest_latency_ms", r->set.guest_latency_ms);
    return r->wait ? json_add_bool(o, "wait", true) : o;
}

struct json_object *ctl_reply(struct json_object *move)
{
    struct json_object *const o = json_add_bool(json_new(), "ok", true);

    return move != NULL ? json_add_obj(o, "move", move) : o;
}

struct json_object *ctl_refusal(const struct err *e)
{
    struct json_object *const why = json_new();

    json_add_str(why, "kind", err_kind_name(e->kind));
    json_add_str(why, "what", e->msg);
    json_add_str(why, "next", e->next);
    return json_add_obj(json_add_bool(json_new(), "ok", false), "error", why);
}

bool ctl_take_reply(struct json_object *reply, struct json_object **move, struct err *e)
{
    struct json_object *why;
    const char *kind, *what, *next;
    bool ok;

    *move = NULL;
    if (!json_object_is_type(reply, json_type_object))
        return err_set(e, ERR_PROTO, 0, "its answer is no object");
    if (!json_get_bool(reply, "ok", &ok, e))
        return false;
    if (ok)
        return !json_has(reply, "move") || json_get_object(reply, "move", move, e);
    if (!json_get_object(reply, "error", &why, e) ||
        !json_get_str(why, "kind", &kind, e) || !json_get_str(why, "what", &what, e) ||
        !json_get_str(why, "next", &next, e))
        return false;
    err_set(e, err_kind_parse(kind), 0, "%s", what);
    return err_next(e, "%s", next);
}
