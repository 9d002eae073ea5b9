/* The destination's side of recover: what can be done here without the source.
 *
 * An agent of our own does it, by the requests of src/README.md: it has the locks and the
 * checks.  The journal stays until the source has been told, or an operator says that it
 * never will be. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/journal.h"
#include "base/mem.h"
#include "migrate/recover-int.h"
#include "migrate/request.h"
#include "tunnel/dial.h"

enum { STEP_MS = 60000 };

/* Another agent has it: the move lives. */
static bool is_busy(const char *id)
{
    char dir[PATHS_MAX];

    paths_state_dir(dir, id);
    AUTO(fd_close) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;
}

/* A guest that stood at the source is not started; nobody else knows here. */
static bool runs(struct json_object *entries)
{
    struct json_object *const o = journal_find(entries, "committed");
    struct err ignored;
    bool run;

    return o == NULL || !json_get_bool(o, "run", &run, &ignored) || run;
}

static bool start(struct link *l, struct json_object *entries,
                  struct recover_result *out, char state[16], struct err *e)
{
    AUTO(json_put) struct json_object *r = NULL;
    const char *s;

    if (!request_move(l, "POST", out->id, "commit",
                      json_add_bool(json_new(), "run", runs(entries)), STEP_MS, NULL,
                      &r, e) ||
        !json_get_str(r, "state", &s, e))
        return false;
    snprintf(state, 16, "%s", s);
    return true;
}

static void left_for_source(struct recover_result *out)
{
    texts_add(&out->left,
              "on %.200s: snmigrate recover; if that host is gone for good, here: "
              "snmigrate recover --destination-wins %.36s",
              out->other, out->uuid);
}

static void note_ended(struct recover_result *out)
{
    texts_add(&out->notes, "it has ended since: virsh start %.200s", out->domain);
}

static bool act_start(struct link *l, struct json_object *entries,
                      struct recover_result *out, bool finish, struct err *e)
{
    char state[16];

    if (!start(l, entries, out, state, e))
        return false;
    recover_did(out, finish ? "finished it here" : "started it here");
    if (!finish) {
        left_for_source(out);
    } else {
        if (!request_move(l, "POST", out->id, "finish",
                          json_add_bool(json_new(), "autostart", false), STEP_MS, NULL,
                          NULL, e))
            return false;
        texts_add(&out->notes,
                  "whether it starts with this host: virsh autostart %.200s",
                  out->domain);
    }
    recover_settle(out, MOVE_AT_DESTINATION, state);
    return true;
}

static bool act_remove(struct link *l, struct recover_result *out, struct err *e)
{
    if (!request_move(l, "DELETE", out->id, "", NULL, STEP_MS, NULL, NULL, e))
        return false;
    recover_did(out, "removed it here");
    recover_settle(out, MOVE_UNKNOWN, "");
    return true;
}

static void act_leave(const struct recover_seen *seen, enum recover_dst dst,
                      struct recover_result *out)
{
    recover_did(out, "nothing");
    if (dst == RECOVER_DST_PART || dst == RECOVER_DST_NONE) {
        texts_add(
            &out->notes,
            "on %.150s the same command goes on, or snmigrate discard %.8s gives it "
            "up; without that host, here: snmigrate recover --source-wins %.36s",
            out->other, out->id, out->uuid);
        recover_settle(out, MOVE_AT_SOURCE, "");
        return;
    }
    left_for_source(out);
    if (dst == RECOVER_DST_ENDED)
        note_ended(out);
    recover_settle(out, MOVE_AT_DESTINATION, seen->domain);
}

static bool deal(struct link *l, const struct recover_cfg *cfg,
                 struct json_object *entries, struct recover_result *out, struct err *e)
{
    struct recover_known k = { .src = RECOVER_SRC_ELSEWHERE, .word = cfg->word };
    struct recover_seen seen;

    if (!recover_ask(l, out->id, &seen, e))
        return false;
    snprintf(out->found_journal, sizeof out->found_journal, "%s",
             seen.tracked ? seen.step : "none");
    k.dst = recover_dst_of(seen.tracked ? seen.step : NULL, seen.domain, seen.ready,
                           seen.incoming, seen.ran, RECOVER_JOURNAL_NONE, false);
    switch (recover_decide(&k, out)) {
    case RECOVER_START:
        return act_start(l, entries, out, false, e);
    case RECOVER_FORWARD:
        if (!act_start(l, entries, out, true, e))
            return false;
        if (k.dst == RECOVER_DST_ENDED) { /* COMMIT answers what was then */
            note_ended(out);
            recover_settle(out, MOVE_AT_DESTINATION, seen.domain);
        }
        return true;
    case RECOVER_GIVE_UP:
        return act_remove(l, out, e);
    case RECOVER_LEAVE:
        act_leave(&seen, k.dst, out);
        return true;
    default:
        recover_open(&k, out);
        return true;
    }
}

bool recover_arrival(const struct recover_cfg *cfg, struct json_object *entries,
                     struct recover_result *out)
{
    const struct dial_cfg local = { .dest = NULL };
    AUTO(dial_close) struct dial *d = NULL;
    struct err e = { 0 };

    if (is_busy(out->id)) {
        recover_busy(out);
        return true;
    }
    if (!dial_open(&local, NULL, &d, &e) || !deal(dial_link(d), cfg, entries, out, &e))
        recover_failed(out, &e);
    return true;
}
