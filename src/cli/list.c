#include "cli/list.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/units.h"
#include "base/unix.h"
#include "cli/args.h"
#include "cli/json_out.h"
#include "cli/opts.h"
#include "cli/report.h"
#include "migrate/status.h"

enum { COLUMNS = 4, GAP = 2, CELL = 600, SHOWN = 8 /* digits of an id */ };

/* --- in words; pure --- */

static void put_count(char out[500], const char *word, const struct inventory_move *m)
{
    char a[UNITS_LEN], b[UNITS_LEN];

    if (!m->counted)
        snprintf(out, 500, "%s while disks were copied", word);
    else if (m->size == 0)
        snprintf(out, 500, "%s: %s copied", word, units_size(a, m->copied));
    else
        snprintf(out, 500, "%s: %s of %s copied", word, units_size(a, m->copied),
                 units_size(b, m->size));
}

void list_state(char out[500], const struct inventory_move *m)
{
    char a[UNITS_LEN];

    switch (m->state) {
    case INVENTORY_RUNNING:
        snprintf(out, 500, "running");
        break;
    case INVENTORY_KEPT:
        put_count(out, "kept", m);
        break;
    case INVENTORY_KILLED:
        put_count(out, "killed", m);
        break;
    case INVENTORY_PARKED:
        snprintf(out, 500, "incomplete: %s on disk", units_size(a, m->on_disk));
        break;
    case INVENTORY_OPEN:
        snprintf(out, 500, "open: needs snmigrate recover");
        break;
    case INVENTORY_ARRIVED:
        snprintf(out, 500, "arrived: its source has to finish it");
        break;
    case INVENTORY_EMPTY:
        snprintf(out, 500, "nothing was begun: an empty journal");
        break;
    case INVENTORY_MOVED:
        snprintf(out, 500, "moved");
        break;
    default:
        snprintf(out, 500, "unreadable: %s", m->why);
    }
}

static const char *or_dash(const char *s)
{
    return s[0] != '\0' ? s : "-";
}

static void cells(const struct inventory_move *m, char out[COLUMNS][CELL])
{
    snprintf(out[0], CELL, "%.*s", SHOWN, m->id);
    snprintf(out[1], CELL, "%s", or_dash(m->domain));
    if (m->other[0] != '\0')
        snprintf(out[2], CELL, "%s %s", m->at_source ? "to" : "from", m->other);
    else
        snprintf(out[2], CELL, "-");
    snprintf(out[3], CELL, "%s", or_dash(m->since));
}

/* What can be done, once for each state that there is. */
static void put_hints(struct text *t, const struct inventory_move *list, size_t n)
{
    static const struct {
        enum inventory_state of;
        const char *text;
    } hints[] = {
        { INVENTORY_RUNNING, "running: snmigrate status, on its source" },
        { INVENTORY_KEPT, "kept: the same command goes on from there; snmigrate "
                          "discard ID gives it up" },
        { INVENTORY_KILLED, "killed: the same command goes on, or begins anew; "
                            "snmigrate discard ID gives it up" },
        { INVENTORY_PARKED, "incomplete: a copy for a move that its source may go on "
                            "with; snmigrate discard ID removes it" },
        { INVENTORY_OPEN, "open: snmigrate recover ID finds out who has the guest" },
        { INVENTORY_ARRIVED, "arrived: the guest is here; snmigrate recover, on its "
                             "source, ends the move" },
        { INVENTORY_MOVED, "moved: snmigrate verify ID compares its disks here and "
                           "there (after --verify-later it tells damage from what "
                           "the guest wrote); snmigrate discard ID forgets it" },
        { INVENTORY_EMPTY, "empty, unreadable: see /var/lib/snmigrate" },
        { INVENTORY_UNREADABLE, "empty, unreadable: see /var/lib/snmigrate" },
    };
    const char *last = "";

    for (size_t h = 0; h < sizeof hints / sizeof hints[0]; h++)
        for (size_t i = 0; i < n; i++) {
            if (list[i].state != hints[h].of || strcmp(last, hints[h].text) == 0)
                continue;
            if (last[0] == '\0')
                text_newline(t);
            last = hints[h].text;
            text_fold(t, last, GAP);
        }
}

static void put_row(struct text *t, const unsigned *at, char cell[COLUMNS][CELL],
                    const char *state)
{
    for (int c = 0; c < COLUMNS; c++) {
        text_put(t, TEXT_PLAIN, cell[c]);
        text_pad(t, at[c + 1]);
    }
    text_put(t, TEXT_PLAIN, state);
    text_newline(t);
}

void list_text(struct text *t, const struct inventory_move *list, size_t n)
{
    char head[COLUMNS][CELL] = { "ID", "DOMAIN", "HOST", "SINCE" }, row[COLUMNS][CELL];
    unsigned at[COLUMNS + 1] = { 0 }, wide[COLUMNS];
    char state[500];

    for (int c = 0; c < COLUMNS; c++)
        wide[c] = text_columns(t, head[c]);
    for (size_t i = 0; i < n; i++) {
        cells(&list[i], row);
        for (int c = 0; c < COLUMNS; c++)
            if (text_columns(t, row[c]) > wide[c])
                wide[c] = text_columns(t, row[c]);
    }
    for (int c = 0; c < COLUMNS; c++)
        at[c + 1] = at[c] + wide[c] + GAP;
    put_row(t, at, head, "STATE");
    for (size_t i = 0; i < n; i++) {
        cells(&list[i], row);
        list_state(state, &list[i]);
        put_row(t, at, row, state);
    }
    put_hints(t, list, n);
}

/* What is not known is null. */
static void add_text(struct json_object *o, const char *key, const char *s)
{
    if (s[0] != '\0')
        json_out_clean(o, key, s);
    else
        json_add_obj(o, key, NULL);
}

static void add_bytes(struct json_object *o, const char *key, uint64_t v, bool known)
{
    if (known)
        json_add_u64(o, key, v);
    else
        json_add_obj(o, key, NULL);
}

struct json_object *list_json(const struct inventory_move *m)
{
    struct json_object *const o = json_new();
    const bool known = m->domain[0] != '\0';

    json_add_str(json_add_str(o, "type", "move"), "id", m->id);
    add_text(o, "domain", m->domain);
    add_text(o, "uuid", m->uuid);
    json_add_str(o, "role", !known ? NULL : m->at_source ? "source" : "destination");
    add_text(o, "other_host", m->other);
    json_add_str(o, "state", inventory_state_name(m->state));
    add_text(o, "step", m->step);
    add_text(o, "since", m->since);
    add_bytes(o, "copied", m->copied, m->counted);
    add_bytes(o, "size", m->size, m->size > 0);
    add_bytes(o, "on_disk", m->on_disk, known && !m->at_source);
    add_text(o, "why", m->why);
    return o;
}

/* --- the program --- */

static bool show(const struct inventory_move *list, size_t n, bool json, bool utf8,
                 struct err *e)
{
    AUTO(text_fini) struct text t = { .utf8 = utf8 };

    for (size_t i = 0; json && i < n; i++)
        if (!json_out_write(STDOUT_FILENO, list_json(&list[i]), e))
            return false;
    if (json)
        return true;
    if (n > 0) {
        list_text(&t, list, n);
    } else {
        text_put(&t, TEXT_PLAIN, "No move has left anything on this host.");
        text_newline(&t);
    }
    return fd_write_all(STDOUT_FILENO, t.buf, t.len, e);
}

int list_main(int argc, char **argv, bool utf8)
{
    AUTO(mem_free) struct inventory_move *list = NULL;
    bool json = false, help = false;
    const struct args_flag flags[] = { { "--json", &json, NULL },
                                       { "--help", &help, NULL },
                                       { 0 } };
    struct err e = { 0 };
    size_t n = 0;
    int operands;

    log_init(LOG_WARN, "src");
    if (!args_parse(argc, argv, flags, 0, &operands, &e)) {
        err_next(&e, "See: snmigrate --help");
        return report_fail(&e, STATUS_USAGE, utf8);
    }
    if (help) {
        opts_help(stdout);
        return fflush(stdout) == 0 ? STATUS_OK : STATUS_USAGE;
    }
    if (!need_root(&e))
        return report_fail(&e, STATUS_REFUSED, utf8);
    if (inventory_scan(&list, &n, &e) && show(list, n, json, utf8, &e))
        return STATUS_OK;
    return report_fail(&e, STATUS_FAILED, utf8);
}
