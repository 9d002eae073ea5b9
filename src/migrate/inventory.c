#include "migrate/inventory.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/journal.h"
#include "base/mem.h"
#include "migrate/ctl.h"
#include "migrate/moved.h"

enum {
    ID_LEAST = 8, /* digits of an id, as messages show them */
    ASK_MS = 3000,
    SECTOR = 512, /* of st_blocks, stat(2) */
};

/* clang-format off */
static const char *const state_names[] = {
    [INVENTORY_RUNNING] = "running",
    [INVENTORY_KEPT] = "kept",
    [INVENTORY_KILLED] = "killed",
    [INVENTORY_PARKED] = "parked",
    [INVENTORY_OPEN] = "open",
    [INVENTORY_ARRIVED] = "arrived",
    [INVENTORY_EMPTY] = "empty",
    [INVENTORY_UNREADABLE] = "unreadable",
    [INVENTORY_MOVED] = "moved",
};
/* clang-format on */
static_assert(sizeof state_names / sizeof state_names[0] == INVENTORY_STATES,
              "state_names[] and enum inventory_state differ");

const char *inventory_state_name(enum inventory_state s)
{
    return state_names[s];
}

bool inventory_is_idle(const struct inventory_move *m)
{
    return m->state == INVENTORY_KEPT || m->state == INVENTORY_KILLED ||
           m->state == INVENTORY_PARKED;
}

bool inventory_is(const struct inventory_move *m, const char *what)
{
    const size_t n = strlen(what);

    return (m->domain[0] != '\0' && strcmp(what, m->domain) == 0) ||
           (m->uuid[0] != '\0' && strcasecmp(what, m->uuid) == 0) ||
           (n >= ID_LEAST && strncmp(what, m->id, n) == 0);
}

/* --- what a journal says --- */

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static const char *text_of(struct json_object *o, const char *key)
{
    struct err ignored;
    const char *s;

    return json_get_str(o, key, &s, &ignored) ? s : "";
}

static uint64_t number_of(struct json_object *o, const char *key)
{
    struct err ignored;
    uint64_t v;

    return json_get_u64(o, key, &v, &ignored) ? v : 0;
}

/* Steps that are taken while only disks are copied.  Any other one, also one that is not
 * known here, may have touched the guest. */
static bool is_of_disks(const char *step)
{
    return is(step, "prepared") || is(step, "opened") || is(step, "copied") ||
           is(step, "kept");
}

/* "kept" settles all that was before. */
static enum inventory_state source_state(struct json_object *entries)
{
    const size_t n = json_object_array_length(entries);
    enum inventory_state state = INVENTORY_KILLED;

    for (size_t i = 0; i < n; i++) {
        const char *const step = text_of(json_object_array_get_idx(entries, i), "step");

        if (is(step, "kept"))
            state = i + 1 == n ? INVENTORY_KEPT : INVENTORY_KILLED;
        else if (!is_of_disks(step))
            state = INVENTORY_OPEN;
    }
    return state;
}

/* From "released" on it may be the only host that has all of the guest. */
static enum inventory_state arrival_state(struct json_object *entries)
{
    if (journal_find(entries, "committed") != NULL ||
        journal_find(entries, "running") != NULL)
        return INVENTORY_ARRIVED;
    return journal_find(entries, "released") != NULL ? INVENTORY_OPEN
                                                     : INVENTORY_PARKED;
}

/* The newest entry that says how far the disks are. */
static struct json_object *newest_count(struct json_object *entries)
{
    for (size_t i = json_object_array_length(entries); i-- > 0;) {
        struct json_object *const o = json_object_array_get_idx(entries, i);
        const char *const step = text_of(o, "step");

        if (is(step, "kept") || is(step, "copied"))
            return o;
    }
    return NULL;
}

static void count_disks(struct json_object *entry, struct inventory_move *out)
{
    struct json_object *disks;
    struct err ignored;
    bool sized = true;

    if (entry == NULL || !json_get_array(entry, "disks", &disks, &ignored))
        return;
    out->counted = true;
    for (size_t i = 0; i < json_object_array_length(disks); i++) {
        struct json_object *const d = json_object_array_get_idx(disks, i);

        out->copied += number_of(d, "safe");
        out->size += number_of(d, "size");
        sized = sized && json_has(d, "size");
    }
    if (!sized)
        out->size = 0;
}

void inventory_read(struct json_object *entries, bool busy, struct inventory_move *out)
{
    const size_t n = json_object_array_length(entries);
    struct json_object *const first = journal_find(entries, "prepared");

    if (n > 0) {
        struct json_object *const last = json_object_array_get_idx(entries, n - 1);

        snprintf(out->step, sizeof out->step, "%s", text_of(last, "step"));
        snprintf(out->since, sizeof out->since, "%s", text_of(last, "time"));
    }
    out->state = INVENTORY_EMPTY;
    if (first == NULL)
        return;
    const char *const role = text_of(first, "role");

    out->at_source = is(role, "src");
    snprintf(out->domain, sizeof out->domain, "%s", text_of(first, "name"));
    snprintf(out->uuid, sizeof out->uuid, "%s", text_of(first, "uuid"));
    snprintf(out->other, sizeof out->other, "%s",
             text_of(first, out->at_source ? "destination" : "source"));
    if (!out->at_source && !is(role, "dst")) {
        out->state = INVENTORY_UNREADABLE;
        snprintf(out->why, sizeof out->why, "it has no role");
        return;
    }
    out->state = busy             ? INVENTORY_RUNNING
                 : out->at_source ? source_state(entries)
                                  : arrival_state(entries);
    if (out->at_source)
        count_disks(newest_count(entries), out);
}

void inventory_moved(struct json_object *entry, const char *id,
                     struct inventory_move *out)
{
    *out = (struct inventory_move){ .state = INVENTORY_MOVED, .at_source = true };
    snprintf(out->id, sizeof out->id, "%s", id);
    snprintf(out->domain, sizeof out->domain, "%s", text_of(entry, "name"));
    snprintf(out->uuid, sizeof out->uuid, "%s", text_of(entry, "uuid"));
    snprintf(out->other, sizeof out->other, "%s", text_of(entry, "destination"));
    snprintf(out->step, sizeof out->step, "%s", text_of(entry, "step"));
    snprintf(out->since, sizeof out->since, "%s", text_of(entry, "time"));
}

/* --- on this host --- */

/* Somebody has the flock of that file or directory.  Shared, and let go of at once: who
 * wants it in that instant tries again. */
static bool is_locked(const char *path)
{
    AUTO(fd_close) int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);

    return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

/* The source locks the domain (connect.c), an agent the move. */
static bool is_busy(struct json_object *first, const char *dir)
{
    const char *const uuid = text_of(first, "uuid");
    char path[PATHS_MAX];

    if (!is(text_of(first, "role"), "src"))
        return is_locked(dir);
    if (strspn(uuid, "0123456789abcdefABCDEF-") != strlen(uuid))
        return false;
    snprintf(path, sizeof path, PATHS_RUN "/%s.lock", uuid);
    return is_locked(path);
}

/* What its images take, of those that are files. */
static uint64_t on_disk(struct json_object *first)
{
    struct json_object *disks;
    struct err ignored;
    uint64_t sum = 0;

    if (!json_get_array(first, "disks", &disks, &ignored))
        return 0;
    for (size_t i = 0; i < json_object_array_length(disks); i++) {
        struct stat st;

        if (lstat(text_of(json_object_array_get_idx(disks, i), "path"), &st) == 0 &&
            S_ISREG(st.st_mode))
            sum += (uint64_t)st.st_blocks * SECTOR;
    }
    return sum;
}

struct scan {
    struct inventory_move *list;
    size_t n;
};

static struct inventory_move *add(struct scan *s, const char *id)
{
    struct inventory_move *const grown =
        reallocarray(s->list, s->n + 1, sizeof *s->list);

    if (grown == NULL)
        return NULL;
    s->list = grown;
    struct inventory_move *const m = &grown[s->n++];
    *m = (struct inventory_move){ .state = INVENTORY_EMPTY };
    snprintf(m->id, sizeof m->id, "%s", id);
    return m;
}

static bool look(void *ctx, const char *id, struct err *e)
{
    AUTO(json_put) struct json_object *entries = NULL;
    struct scan *const s = ctx;
    char dir[PATHS_MAX];
    struct err why = { 0 };

    paths_state_dir(dir, id);
    const bool ok = journal_read(dir, &entries, &why);
    if (!ok && why.os == ENOENT && access(dir, F_OK) != 0)
        return true; /* it has just ended */
    struct inventory_move *const m = add(s, id);
    if (m == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "list");
    if (ok) {
        struct json_object *const first = journal_find(entries, "prepared");

        inventory_read(entries, first != NULL && is_busy(first, dir), m);
        if (first != NULL && !m->at_source)
            m->on_disk = on_disk(first);
    } else if (why.os != ENOENT) {
        m->state = INVENTORY_UNREADABLE;
        snprintf(m->why, sizeof m->why, "%.390s", why.msg);
    }
    return true;
}

static bool look_at_moved(void *ctx, const char *id, struct json_object *entry,
                          struct err *e)
{
    struct inventory_move *const m = add(ctx, id);

    if (m == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "list");
    inventory_moved(entry, id, m);
    return true;
}

/* A move that has not changed anything yet is known by its control socket only. */
static void ask(const struct ctl_move *c, struct scan *s)
{
    const struct ctl_request r = { .todo = CTL_STATUS };
    AUTO(json_put) struct json_object *reply = NULL;
    struct json_object *said;
    struct err e;

    for (size_t i = 0; i < s->n; i++)
        if (is(s->list[i].id, c->id))
            return;
    if (!ctl_call(c->path, &r, ASK_MS, &reply, NULL, &e)) {
        if (e.kind == ERR_LINK)
            return; /* dead: nothing is left but its socket */
        said = NULL;
    } else if (!ctl_take_reply(reply, &said, &e)) {
        said = NULL;
    }
    struct inventory_move *const m = add(s, c->id);
    if (m == NULL)
        return;
    m->state = INVENTORY_RUNNING;
    m->at_source = true;
    snprintf(m->uuid, sizeof m->uuid, "%s", c->uuid);
    if (said == NULL)
        return;
    snprintf(m->domain, sizeof m->domain, "%s", text_of(said, "domain"));
    snprintf(m->other, sizeof m->other, "%s", text_of(said, "destination"));
}

static int older_first(const void *a, const void *b)
{
    const struct inventory_move *const x = a, *const y = b;
    const int by_time = strcmp(x->since, y->since);

    return by_time != 0 ? by_time : strcmp(x->id, y->id);
}

bool inventory_scan(struct inventory_move **out, size_t *n, struct err *e)
{
    AUTO(mem_free) struct ctl_move *running = calloc(CTL_MOVES_MAX, sizeof *running);
    struct scan s = { 0 };

    if (running == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "list");
    /* The sockets before the journals: one that begins its journal meanwhile is in both,
     * one that ends is in neither. */
    const size_t sockets = ctl_list(running, CTL_MOVES_MAX);
    if (!journal_scan(look, &s, e) || !moved_scan(look_at_moved, &s, e)) {
        free(s.list);
        return false;
    }
    for (size_t i = 0; i < sockets; i++)
        ask(&running[i], &s);
    if (s.n > 1)
        qsort(s.list, s.n, sizeof *s.list, older_first);
    *out = s.list;
    *n = s.n;
    return true;
}
