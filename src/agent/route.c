#include "agent/route.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/check.h"
#include "agent/hold.h"
#include "agent/inspect.h"
#include "agent/probe.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/unix.h"
#include "base/version.h"

/* What a handler is given; @body is NULL only where the table says so. */
struct request {
    struct arrivals *all;
    char id[PATHS_ID_LEN + 1]; /* "" where the path has none */
    struct json_object *body;
    int64_t since_ms;
};

/* ---- the host ----------------------------------------------------------------------------- */

static bool get_agent(const struct request *r, struct json_object **reply,
                      struct err *e)
{
    struct json_object *const o = json_new();
    char host[256] = "", boot[PROC_BOOT_ID];

    (void)r, (void)e;
    if (gethostname(host, sizeof host - 1) < 0)
        host[0] = '\0';
    json_add_u64(json_add_str(o, "version", SNMIGRATE_VERSION), "protocol",
                 AGENT_PROTOCOL);
    json_add_str(json_add_str(o, "hostname", host), "boot_id", proc_boot_id(boot));
    *reply = json_add_u64(o, "uid", (uint64_t)geteuid());
    return true;
}

static bool post_check(const struct request *r, struct json_object **reply,
                       struct err *e)
{
    AUTO(findings_fini) struct findings f = { 0 };

    if (!fault_point("agent.check", e) ||
        !check_host(r->body, arrivals_ops(r->all), &f, e))
        return false;
    *reply = json_add_obj(json_new(), "findings", findings_to_json(&f));
    return true;
}

/* ---- moves -------------------------------------------------------------------------------- */

static struct json_object *move_json(const struct arrival *a,
                                     const struct guest_look *now)
{
    struct json_object *const o = json_new();

    json_add_str(json_add_str(o, "id", a->id), "name", a->name);
    json_add_str(json_add_str(o, "uuid", a->uuid), "step",
                 arrival_step_name(atomic_load(&a->step)));
    json_add_str(json_add_str(o, "source", a->source), "domain",
                 guest_run_name(now->run));
    json_add_bool(json_add_bool(o, "incoming", guest_is_incoming(now)), "ready",
                  guest_is_ready(now));
    return json_add_bool(o, "ran", guest_has_run(now));
}

static bool absent(const char *id, struct err *e)
{
    err_set(e, ERR_REFUSED, ENOENT, "move %.8s", id);
    return err_next(e, "It was aborted or finished, or never came here.");
}

/* Always from the journal, whoever has the move: asking never waits for a step. */
static bool get_move(const struct request *r, struct json_object **reply, struct err *e)
{
    AUTO(arrival_free) struct arrival *a = NULL;
    struct guest_look now;

    if (!arrival_peek(r->id, arrivals_ops(r->all), &a, e))
        return false;
    if (a == NULL)
        return absent(r->id, e);
    if (!arrival_look(a, &now, e))
        return false;
    *reply = move_json(a, &now);
    return true;
}

struct listing {
    const struct guest_ops *ops;
    struct json_object *moves;
};

static bool list_move(void *ctx, const char *id, struct err *e)
{
    struct listing *const l = ctx;
    AUTO(arrival_free) struct arrival *a = NULL;
    struct guest_look now;
    struct err why;

    if (!arrival_peek(id, l->ops, &a, &why)) {
        log_warn("agent", "%s", why.msg); /* one that cannot be read hides no other */
        return true;
    }
    if (a == NULL)
        return true;
    if (!arrival_look(a, &now, e))
        return false;
    json_object_array_add(l->moves, move_json(a, &now));
    return true;
}

static bool get_moves(const struct request *r, struct json_object **reply,
                      struct err *e)
{
    AUTO(json_put) struct json_object *o = json_new();
    struct listing l = { arrivals_ops(r->all), json_object_new_array() };

    json_add_obj(o, "moves", l.moves);
    if (!arrival_scan(list_move, &l, e))
        return false;
    *reply = ptr_steal(&o);
    return true;
}

/* Paths of the tokens, each once. */
static struct json_object *token_paths(const struct arrival *a)
{
    struct json_object *const list = json_object_new_array();

    for (size_t i = 0; i < a->n; i++) {
        char path[PATHS_MAX];
        bool known = false;

        arrival_token(a, &a->images[i], path);
        for (size_t j = 0; j < json_object_array_length(list); j++)
            known |= strcmp(json_object_get_string(json_object_array_get_idx(list, j)),
                            path) == 0;
        if (path[0] != '\0' && !known)
            json_object_array_add(list, json_object_new_string(path));
    }
    return list;
}

/* @fresh: nothing was ever written to the images. */
static struct json_object *prepared_json(const struct arrival *a, bool fresh)
{
    struct json_object *const disks = json_object_new_array();

    for (size_t i = 0; i < a->n; i++) {
        const struct image *const im = &a->images[i];
        struct json_object *const o = json_new();

        json_add_str(json_add_str(o, "target", im->target), "path", im->path);
        json_add_bool(o, "zero", fresh && !im->device && !im->seed);
        json_add_bool(o, "block", im->device);
        if (im->seed) /* the source may find that this is its own file */
            json_add_u64(json_add_u64(o, "ino", im->id.ino), "born_ns", im->id.born);
        json_object_array_add(disks, o);
    }
    struct json_object *const reply = json_add_str(json_new(), "opening", a->opening);
    json_add_bool(reply, "changed", !fresh && a->changed);
    return json_add_obj(json_add_obj(reply, "disks", disks), "token_paths",
                        token_paths(a));
}

static bool put_move(const struct request *r, struct json_object **reply, struct err *e)
{
    AUTO(arrival_free) struct arrival *a = NULL;

    if (!arrival_parse(r->id, arrivals_ops(r->all), r->body, &a, e) ||
        !arrivals_add(r->all, &a, e))
        return false;
    struct arrival *const kept = ptr_steal(&a);
    if (!arrival_prepare(kept, e))
        return false;
    *reply = prepared_json(kept, true);
    return true;
}

/* The move of the request; absent is an error. */
static bool the_move(const struct request *r, struct arrival **out, struct err *e)
{
    return arrivals_get(r->all, r->id, out, e) && (*out != NULL || absent(r->id, e));
}

/* Of this agent only: no other has its RAM stream, and it must not wait for a lock. */
static bool post_ram_limit(const struct request *r, struct json_object **reply,
                           struct err *e)
{
    struct arrival *const a = arrivals_find(r->all, r->id);
    uint64_t bytes, stream = 0;
    struct hold_stats now;

    if (a == NULL)
        return absent(r->id, e);
    if (!json_get_u64(r->body, "bytes", &bytes, e) ||
        (json_has(r->body, "stream") && !json_get_u64(r->body, "stream", &stream, e)) ||
        !arrival_ram_limit(a, stream, bytes, &now, e))
        return false;
    *reply = json_add_u64(json_new(), "received", now.received);
    json_add_u64(*reply, "passed", now.passed);
    return true;
}

/* Absent is told apart by ENOENT, held by another agent by EBUSY. */
static bool post_reopen(const struct request *r, struct json_object **reply,
                        struct err *e)
{
    const char *after = NULL, *name = NULL;
    struct arrival *a;

    if ((json_has(r->body, "after") && !json_get_str(r->body, "after", &after, e)) ||
        (json_has(r->body, "name") && !json_get_str(r->body, "name", &name, e)))
        return false;
    if (!the_move(r, &a, e) || (name != NULL && !arrival_rename(a, name, e)) ||
        !arrival_reopen(a, after, e))
        return false;
    *reply = prepared_json(a, false);
    return true;
}

static bool post_keep(const struct request *r, struct json_object **reply,
                      struct err *e)
{
    struct arrival *a;

    if (!the_move(r, &a, e) || !arrival_keep(a, e))
        return false;
    *reply = json_add_str(json_new(), "opening", a->opening);
    return true;
}

static bool post_close(const struct request *r, struct json_object **reply,
                       struct err *e)
{
    struct arrival *a;

    (void)reply;
    return the_move(r, &a, e) && arrival_close(a, e);
}

static bool post_release(const struct request *r, struct json_object **reply,
                         struct err *e)
{
    struct arrival *a;

    (void)reply;
    return the_move(r, &a, e) && arrival_release(a, e);
}

static bool post_commit(const struct request *r, struct json_object **reply,
                        struct err *e)
{
    struct arrival *a;
    bool run, mark = false;

    if (!json_get_bool(r->body, "run", &run, e) ||
        (json_has(r->body, "mark") && !json_get_bool(r->body, "mark", &mark, e)) ||
        !the_move(r, &a, e))
        return false;
    if (mark)
        arrival_want_marks(a);
    if (!arrival_commit(a, run, r->since_ms, e))
        return false;
    *reply =
        json_add_u64(json_add_str(json_new(), "state", a->ran_state), "ms", a->ran_ms);
    if (mark)
        json_add_str(json_add_bool(*reply, "marked", a->marked), "why",
                     a->marked || a->unmarked.msg[0] != '\0'
                         ? a->unmarked.msg
                         : "another agent started it: it was not seen how this began");
    return true;
}

static bool post_greet(const struct request *r, struct json_object **reply,
                       struct err *e)
{
    AUTO(json_put) struct json_object *done = json_object_new_array();
    AUTO(json_put) struct json_object *failed = json_object_new_array();
    struct arrival *a;
    bool set_time;

    if (!json_get_bool(r->body, "set_time", &set_time, e) || !the_move(r, &a, e) ||
        !arrival_greet(a, set_time, done, failed, e))
        return false;
    *reply = json_add_obj(json_new(), "done", ptr_steal(&done));
    json_add_obj(*reply, "failed", ptr_steal(&failed));
    return true;
}

/* Of a move that is not here there is nothing left: the answer to the first request was
 * lost. */
static bool post_finish(const struct request *r, struct json_object **reply,
                        struct err *e)
{
    AUTO(json_put) struct json_object *left = json_object_new_array();
    struct arrival *a;
    bool autostart;

    if (!json_get_bool(r->body, "autostart", &autostart, e) ||
        !arrivals_get(r->all, r->id, &a, e) ||
        (a != NULL && !arrival_finish(a, autostart, left, e)))
        return false;
    *reply = json_add_obj(json_new(), "left", ptr_steal(&left));
    return true;
}

enum { WHY_MAX = PATHS_MAX + 80 };

static const char *seed_stays(const struct image *im, char out[WHY_MAX])
{
    snprintf(out, WHY_MAX, "%s is a seed, maybe partly brought up to date", im->path);
    return out;
}

static struct json_object *removed_json(const struct arrival *a)
{
    struct json_object *const removed = json_object_new_array(),
                              *const blanked = json_object_new_array(),
                              *const left = json_object_new_array();
    char why[WHY_MAX];

    for (size_t i = 0; i < a->n; i++) {
        const struct image *const im = &a->images[i];
        struct json_object *const o = json_add_str(json_new(), "path", im->path);

        if (im->removed)
            json_object_array_add(removed, json_add_u64(o, "bytes", im->freed));
        else if (im->blanked)
            json_object_array_add(blanked, o);
        else if (im->spared[0] != '\0')
            json_object_array_add(left, json_add_str(o, "why", im->spared));
        else if (im->seed)
            json_object_array_add(left, json_add_str(o, "why", seed_stays(im, why)));
        else
            json_object_put(o);
    }
    return json_add_obj(
        json_add_obj(json_add_obj(json_new(), "removed", removed), "blanked", blanked),
        "left", left);
}

/* Asked with the lock: while it was waited for, the source may have gone on. */
static bool never_released(const struct arrival *a, struct err *e)
{
    const int step = atomic_load(&a->step);

    if (step < ARRIVAL_RELEASED || step >= ARRIVAL_FINISHED)
        return true;
    err_set(e, ERR_REFUSED, 0, "move %.8s is %s by now", a->id,
            arrival_step_name((enum arrival_step)step));
    return err_next(e, "Bring it to one owner first: snmigrate recover %.8s", a->id);
}

static bool delete_move(const struct request *r, struct json_object **reply,
                        struct err *e)
{
    bool unreleased = false;
    struct arrival *a;

    if ((json_has(r->body, "unreleased") &&
         !json_get_bool(r->body, "unreleased", &unreleased, e)) ||
        !arrivals_get(r->all, r->id, &a, e))
        return false;
    if (a != NULL && ((unreleased && !never_released(a, e)) || !arrival_abort(a, e)))
        return false;
    if (a != NULL)
        *reply = removed_json(a);
    return true;
}

/* ---- comparing the disks of a move that is over ------------------------------------------- */

static bool post_verify(const struct request *r, struct json_object **reply,
                        struct err *e)
{
    return inspect_begin(arrivals_inspect(r->all), r->id, r->body, reply, e);
}

static bool post_verify_marks(const struct request *r, struct json_object **reply,
                              struct err *e)
{
    return inspect_marks(arrivals_inspect(r->all), r->id, reply, e);
}

static bool post_verify_end(const struct request *r, struct json_object **reply,
                            struct err *e)
{
    (void)reply;
    return inspect_end(arrivals_inspect(r->all), r->id, r->body, e);
}

/* ---- the tables --------------------------------------------------------------------------- */

/* clang-format off */
static const struct route {
    const char *method, *path; /* '*' stands for a move's id */
    bool body;                 /* it needs one */
    bool (*run)(const struct request *r, struct json_object **reply, struct err *e);
} routes[] = {
    { "GET",    "/agent",             false, get_agent },
    { "POST",   "/check",             true,  post_check },
    { "GET",    "/moves",             false, get_moves },
    { "GET",    "/moves/*",           false, get_move },
    { "PUT",    "/moves/*",           true,  put_move },
    { "POST",   "/moves/*/ram-limit", true,  post_ram_limit },
    { "POST",   "/moves/*/reopen",    false, post_reopen },
    { "POST",   "/moves/*/keep",      false, post_keep },
    { "POST",   "/moves/*/close",     false, post_close },
    { "POST",   "/moves/*/release",   false, post_release },
    { "POST",   "/moves/*/commit",    true,  post_commit },
    { "POST",   "/moves/*/greet",     true,  post_greet },
    { "POST",   "/moves/*/finish",    true,  post_finish },
    { "DELETE", "/moves/*",           false, delete_move },
    { "POST",   "/verify/*",          true,  post_verify },
    { "POST",   "/verify/*/marks",    false, post_verify_marks },
    { "POST",   "/verify/*/end",      true,  post_verify_end },
};
/* clang-format on */

/* Whether @path is @pattern with an id for its '*', which goes to @id ("" without one). */
static bool matches(const char *pattern, const char *path, char id[PATHS_ID_LEN + 1])
{
    const size_t head = strcspn(pattern, "*");

    id[0] = '\0';
    if (pattern[head] == '\0')
        return strcmp(pattern, path) == 0;
    if (strncmp(pattern, path, head) != 0 || strlen(path) < head + PATHS_ID_LEN)
        return false;
    memcpy(id, path + head, PATHS_ID_LEN);
    id[PATHS_ID_LEN] = '\0';
    return paths_id_ok(id) &&
           strcmp(pattern + head + 1, path + head + PATHS_ID_LEN) == 0;
}

bool route_request(void *ctx, const char *method, const char *path,
                   struct json_object *body, struct json_object **reply, struct err *e)
{
    struct request r = { .all = ctx, .body = body, .since_ms = clock_ms() };

    *reply = NULL;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (strcmp(routes[i].method, method) != 0 ||
            !matches(routes[i].path, path, r.id))
            continue;
        if (routes[i].body && body == NULL)
            return err_set(e, ERR_PROTO, 0, "%s %s needs a body", method, path);
        return routes[i].run(&r, reply, e);
    }
    return err_set(e, ERR_PROTO, 0, "no such request: %.10s %.100s", method, path);
}

/* libvirtd, or the socket of its QEMU part where there is no such thing any more. */
static bool open_libvirt(int *fd, struct err *e)
{
    struct err why;

    return unix_connect("/run/libvirt/libvirt-sock", fd, &why) ||
           unix_connect("/run/libvirt/virtqemud-sock", fd, &why) ||
           (*e = why, err_wrap(e, "the destination's libvirt"));
}

/* "NUMBER" without sign and leading zeroes. */
static bool number(const char *s, uint64_t *out)
{
    char back[24];

    *out = strtoull(s, NULL, 10);
    snprintf(back, sizeof back, "%llu", (unsigned long long)*out);
    return strcmp(back, s) == 0;
}

/* Of a move that is over, for "snmigrate verify". */
static bool open_inspected(struct inspect *s, const char *what, const char *target,
                           int *fd, struct err *e)
{
    return strcmp(what, "marks") == 0 ? inspect_connect(s, target, fd, e)
                                      : inspect_digest(s, target, fd, e);
}

/* "disk/ID/TARGET", "digest/ID/TARGET", "marks/ID/TARGET", "ram/ID", "ram/ID/STREAM",
 * "libvirt", "probe" */
bool route_channel(void *ctx, const char *path, int *fd, struct err *e)
{
    char id[PATHS_ID_LEN + 1], what[7] = "", rest[64] = "";
    uint64_t stream = 0;

    if (strcmp(path, "libvirt") == 0)
        return open_libvirt(fd, e);
    if (strcmp(path, "probe") == 0)
        return probe_open(fd, e);
    const int n = sscanf(path, "%6[a-z]/%32[0-9a-f]/%63[0-9A-Za-z_-]", what, id, rest);
    if (n < 2 || !paths_id_ok(id) ||
        strlen(path) != strlen(what) + 1 + strlen(id) + (n == 3 ? 1 + strlen(rest) : 0))
        return err_set(e, ERR_PROTO, 0, "no such channel: %.100s", path);
    const bool reads = strcmp(what, "digest") == 0 || strcmp(what, "marks") == 0;
    if (reads && n == 3 && inspect_is(arrivals_inspect(ctx), id))
        return open_inspected(arrivals_inspect(ctx), what, rest, fd, e);
    struct arrival *const a = arrivals_find(ctx, id);
    if (a == NULL)
        return absent(id, e);
    if (strcmp(what, "disk") == 0 && n == 3)
        return arrival_disk(a, rest, fd, e);
    if (strcmp(what, "digest") == 0 && n == 3)
        return arrival_digest(a, rest, fd, e);
    if (strcmp(what, "ram") == 0 && (n == 2 || number(rest, &stream)))
        return arrival_ram(a, stream, fd, e);
    return err_set(e, ERR_PROTO, 0, "no such channel: %.100s", path);
}
