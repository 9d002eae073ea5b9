#include "nbd-mirror/command/show.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "base/units.h"

enum { PROGRESS_TTY_MS = 200, PROGRESS_LINES_MS = 2000 };

/* --- progress --- */

static void progress_show(const struct progress *p)
{
    char done[UNITS_LEN], total[UNITS_LEN], rate[UNITS_LEN];
    const double seconds = (double)(clock_ms() - p->begun_ms) / MS_PER_S;
    struct mirror_stats s = { .pass_total = p->size };

    if (p->mirror != NULL)
        mirror_stats(p->mirror, &s);
    else
        s.pass_done = counter_get(p->compared);
    fprintf(stderr, "%s%s%3.0f %%  %s of %s  %s%s", p->tty ? "\r" : "",
            p->mirror != NULL ? "" : "compared ",
            s.pass_total > 0 ? 100.0 * (double)s.pass_done / (double)s.pass_total
                             : 100.0,
            units_size(done, s.pass_done), units_size(total, s.pass_total),
            units_rate(rate, seconds > 0 ? (double)s.pass_done / seconds : 0),
            p->tty ? "\033[K" : "\n");
}

static void *progress_thread(void *opaque)
{
    const struct progress *p = opaque;
    struct err stopped;

    while (cancel_sleep_ms(p->stop, p->tty ? PROGRESS_TTY_MS : PROGRESS_LINES_MS,
                           &stopped))
        progress_show(p);
    progress_show(p);
    if (p->tty)
        fputc('\n', stderr);
    return NULL;
}

bool progress_start(struct progress *p, struct err *e)
{
    p->stop = cancel_new();
    p->begun_ms = clock_ms();
    p->tty = isatty(STDERR_FILENO);
    if (p->stop == NULL)
        return err_set(e, ERR_SYS, errno, "cannot show progress");
    if (thread_start(&p->thread, progress_thread, p, "progress", e))
        return true;
    cancel_free(ptr_steal(&p->stop));
    return false;
}

void progress_end(struct progress *p)
{
    if (p->stop == NULL)
        return;
    cancel_set(p->stop);
    pthread_join(p->thread, NULL);
    cancel_free(ptr_steal(&p->stop));
}

/* --- errors --- */

void show_error(const struct err *e)
{
    char clean[4 * sizeof e->msg];

    log_clean(clean, sizeof clean, e->msg);
    fprintf(stderr, "%s%s\n",
            strncmp(clean, "nbd-mirror:", 11) == 0 ? "" : "nbd-mirror: ", clean);
    if (e->next[0] != '\0')
        fprintf(stderr, "%s\n", log_clean(clean, sizeof clean, e->next));
}

/* --- the result --- */

static void json_differ(struct json_object *o, const struct result *r)
{
    struct json_object *list = json_object_new_array(), *v = json_new();

    for (unsigned i = 0; i < r->ndiffer; i++) {
        struct json_object *range = json_new();

        json_add_u64(range, "offset", r->differ[i].off);
        json_add_u64(range, "length", r->differ[i].len);
        json_object_array_add(list, range);
    }
    json_add_u64(v, "differ", r->verify.differ);
    json_add_u64(v, "stretches", r->verify.stretches);
    json_add_u64(v, "repaired", r->verify.repaired);
    json_add_u64(v, "read_src", r->verify.read[0]);
    json_add_u64(v, "read_dst", r->verify.read[1]);
    json_add_obj(v, "found", list);
    json_add_obj(o, "verify", v);
}

static void json_survey(struct json_object *o, const struct survey *s)
{
    json_add_u64(o, "size", s->size);
    json_add_u64(o, "data", s->data);
    json_add_u64(o, "zero", s->zero);
    json_add_u64(o, "holes", s->holes);
    json_add_u64(o, "clean", s->clean);
    json_add_bool(o, "extents", s->extents);
}

static void json_stats(struct json_object *o, const struct mirror_stats *s)
{
    json_add_u64(o, "size", s->size);
    json_add_u64(o, "data", s->data);
    json_add_u64(o, "zeroed", s->zeroed);
    json_add_u64(o, "skipped", s->skipped);
    json_add_u64(o, "requests", s->requests);
    json_add_u64(o, "connections", s->lanes);
}

static const char *outcome(const struct result *r, const struct err *e)
{
    if (e != NULL)
        return "failed";
    return r->compared && r->verify.differ > 0 ? "differ" : "ok";
}

void show_json(const struct result *r, const struct err *e)
{
    char clean[4 * sizeof e->msg];
    AUTO(json_put) struct json_object *o = json_new();

    json_add_str(o, "result", outcome(r, e));
    if (e != NULL) {
        json_add_str(o, "kind", err_kind_name(e->kind));
        json_add_u64(o, "errno", (uint64_t)e->os);
        json_add_str(o, "error", log_clean(clean, sizeof clean, e->msg));
    }
    if (r->dry_run)
        json_survey(o, &r->survey);
    else
        json_stats(o, &r->stats);
    if (r->compared)
        json_differ(o, r);
    json_add_f(o, "seconds", (double)r->ms / MS_PER_S);
    puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
}

static void summary_copy(const struct mirror_stats *s, int64_t ms)
{
    char size[UNITS_LEN], data[UNITS_LEN], zeroed[UNITS_LEN], skipped[UNITS_LEN];
    char took[UNITS_LEN];

    printf("%s copied in %s: %s data, %s zeroed, %s skipped\n",
           units_size(size, s->data + s->zeroed + s->skipped), units_time(took, ms),
           units_size(data, s->data), units_size(zeroed, s->zeroed),
           units_size(skipped, s->skipped));
}

static void summary_survey(const struct survey *s)
{
    char size[UNITS_LEN], data[UNITS_LEN], zero[UNITS_LEN], holes[UNITS_LEN];
    char clean[UNITS_LEN];

    printf("%s would be copied: %s data, %s zero, %s holes",
           units_size(size, s->size - s->clean), units_size(data, s->data),
           units_size(zero, s->zero), units_size(holes, s->holes));
    if (s->clean > 0)
        printf("; %s not marked", units_size(clean, s->clean));
    puts(s->extents ? "" : " (the source does not tell holes)");
}

static void summary_verify(const struct verify_result *v)
{
    char size[UNITS_LEN], differ[UNITS_LEN], repaired[UNITS_LEN];

    if (v->differ > 0)
        printf("%s compared: %s in %llu stretch%s %s\n", units_size(size, v->size),
               units_size(differ, v->differ), (unsigned long long)v->stretches,
               v->stretches == 1 ? "" : "es",
               v->repaired > 0 ? "differ even now" : "differ");
    else if (v->repaired > 0)
        printf("%s compared: %s differed and were copied again, now alike\n",
               units_size(size, v->size), units_size(repaired, v->repaired));
    else
        printf("%s compared: alike\n", units_size(size, v->size));
}

void show_summary(const struct result *r)
{
    if (r->dry_run)
        summary_survey(&r->survey);
    if (r->copied)
        summary_copy(&r->stats, r->ms);
    if (r->compared)
        summary_verify(&r->verify);
}

void show_differs(uint64_t off, uint64_t len)
{
    printf("differs: %llu bytes at %llu\n", (unsigned long long)len,
           (unsigned long long)off);
}
