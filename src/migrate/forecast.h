/* src/migrate/forecast.h - how a move would go, from what was measured before it; pure.
 *
 * A guest that writes the same blocks again and again dirties fewer of them than it writes:
 * what is dirty after a time is a curve that starts with a slope and bends towards the
 * working set.  From such a curve for the disks and one for RAM, the amounts and the rate
 * of the link, the rounds are played through as move.c would do them.
 *
 * Bytes, bytes/s, milliseconds.  Nothing here knows the controller's state: a forecast is
 * made before there is one.
 */
#ifndef SNM_MIGRATE_FORECAST_H
#define SNM_MIGRATE_FORECAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is dirty @s seconds after everything was clean:
 * set * (1 - exp(-rate * s / set)); never more than the set. */
struct forecast_curve {
    double rate; /* at the start, bytes/s */
    double set;  /* bytes; 0: no end of it was seen, then it is rate * s */
};
double forecast_dirty(const struct forecast_curve *c, double s);

/* @bytes were dirty after @s seconds. */
struct forecast_point {
    double s, bytes;
};
enum { FORECAST_POINTS = 64 };
/* The curve that fits best (least squares); @most: the set cannot be larger (the size of
 * the disks).  No point: nothing is dirtied. */
void forecast_fit(struct forecast_curve *c, const struct forecast_point *p, size_t n,
                  double most);

struct forecast_in {
    uint64_t disk_bytes,
        ram_bytes; /* to copy once: data, and pages that are not zero */
    struct forecast_curve disk, ram;
    double disk_rate; /* plain bytes/s that copying disks reaches, all together */
    double ram_rate;
    double disk_ratio, ram_ratio; /* plain bytes for one on the wire; > 0 */
    uint64_t budget_ms;           /* --max-downtime */
    uint64_t switch_ms;           /* pause of a switch with nothing left */
    uint64_t start_ms;            /* until the first byte of a disk is copied */
    uint64_t ram_start_ms;        /* until memory flows */
    uint64_t end_ms;              /* after the switch, until the command ends */
    uint64_t sent;                /* on the wire by then, besides disks and RAM */
};

struct forecast {
    bool made;      /* false: there is none, nothing below means anything */
    bool converges; /* disks and RAM come to fit the budget */
    int64_t total_ms;
    int64_t
        pause_ms;    /* of the switch; where it does not converge, the least there is */
    unsigned rounds; /* of the disks */
    uint64_t disk_bytes, ram_bytes; /* all that is copied, again and again */
    uint64_t sent;                  /* on the wire */
    struct forecast_in in;          /* what it was made from */
    /* What alone would make it converge; 0: nothing of its kind, or not needed. */
    uint64_t needs_downtime_ms; /* a longer pause */
    double needs_rate;          /* on the wire, bytes/s */
};

/* Errors: none; a disk_rate of 0 with something to copy does not converge. */
void forecast_make(const struct forecast_in *in, struct forecast *out);

/* How far an outcome is from what was forecast: 0.25 is a quarter more, -0.25 less; 0 where
 * nothing was forecast. */
double forecast_error(double forecast, double outcome);

#endif
