/* nbd-mirror/command/show.h - all that the command says: progress, result, errors. */
#ifndef NBD_MIRROR_COMMAND_SHOW_H
#define NBD_MIRROR_COMMAND_SHOW_H

#include <pthread.h>
#include <stdint.h>

#include "base/err.h"
#include "nbd-mirror/counters.h"
#include "nbd-mirror/mirror.h"
#include "nbd-mirror/survey.h"
#include "nbd-mirror/verify.h"

struct cancel;
struct json_object;

enum { LISTED_MAX = 1024 }; /* stretches in JSON; of more only the number is told */

/* What has come of it. */
struct result {
    bool dry_run, copied, compared;
    struct survey survey;        /* ->dry_run */
    struct mirror_stats stats;   /* ->copied, or failed at it */
    struct verify_result verify; /* ->compared */
    struct mirror_range differ[LISTED_MAX];
    unsigned ndiffer;
    int64_t ms;
};

/* @e: NULL, it worked. */
void show_json(const struct result *r, const struct err *e);
void show_summary(const struct result *r);
void show_differs(uint64_t off, uint64_t len);
void show_error(const struct err *e);

/* A thread that shows how far it is. */
struct progress {
    const struct mirror *mirror; /* of the copy, or: */
    counter *compared;
    uint64_t size;
    struct cancel *stop; /* set when there is nothing more to show; NULL: none shown */
    int64_t begun_ms;
    bool tty;
    pthread_t thread;
};

/* With ->mirror or ->compared and ->size set.  Errors: ERR_SYS. */
MUST_CHECK bool progress_start(struct progress *p, struct err *e);
void progress_end(struct progress *p);

#endif
