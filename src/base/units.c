#include "base/units.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define KIB UINT64_C(1024)
#define KB  UINT64_C(1000)

struct unit {
    const char *name;
    uint64_t times;
    uint64_t per; /* value = number * times / per */
};

/* clang-format off */
static const struct unit sizes[] = {
    { "", 1, 1 }, { "B", 1, 1 },
    { "K", KIB, 1 },                         { "KiB", KIB, 1 },
    { "M", KIB * KIB, 1 },                   { "MiB", KIB * KIB, 1 },
    { "G", KIB * KIB * KIB, 1 },             { "GiB", KIB * KIB * KIB, 1 },
    { "T", KIB * KIB * KIB * KIB, 1 },       { "TiB", KIB * KIB * KIB * KIB, 1 },
    { "P", KIB * KIB * KIB * KIB * KIB, 1 }, { "PiB", KIB * KIB * KIB * KIB * KIB, 1 },
    { "KB", KB, 1 },
    { "MB", KB * KB, 1 },
    { "GB", KB * KB * KB, 1 },
    { "TB", KB * KB * KB * KB, 1 },
    { "PB", KB * KB * KB * KB * KB, 1 },
    { NULL, 0, 0 },
};
static const struct unit bits[] = {
    { "bit", 1, 8 },
    { "Kbit", KB, 8 },
    { "Mbit", KB * KB, 8 },
    { "Gbit", KB * KB * KB, 8 },
    { "Tbit", KB * KB * KB * KB, 8 },
    { NULL, 0, 0 },
};
static const struct unit times[] = {
    { "ms", 1, 1 },
    { "s", 1000, 1 },
    { "m", UINT64_C(60) * 1000, 1 },
    { "h", UINT64_C(60) * 60 * 1000, 1 },
    { "d", UINT64_C(24) * 60 * 60 * 1000, 1 },
    { NULL, 0, 0 },
};
/* clang-format on */

/* 9999 * 2^50 (the largest unit) still fits in 64 bits. */
enum { MAX_DECIMALS = 4 };

/* A number as written: whole + frac / scale. */
struct number {
    uint64_t whole, frac, scale;
};

/* Read digits [ '.' digits ] and move *s behind them. */
static bool number_get(const char **s, struct number *out, struct err *e)
{
    const char *const start = *s, *p = start;
    struct number n = { 0, 0, 1 };

    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(n.whole, 10, &n.whole) ||
            __builtin_add_overflow(n.whole, (uint64_t)(*p - '0'), &n.whole))
            return err_set(e, ERR_USAGE, 0, "\"%.40s\" is too large", start);
    if (p == start)
        return err_set(e, ERR_USAGE, 0, "\"%.40s\" does not begin with a digit", start);
    if (*p == '.') {
        const char *const point = p++;

        for (; *p >= '0' && *p <= '9'; p++) {
            if (p - point > MAX_DECIMALS)
                return err_set(e, ERR_USAGE, 0, "\"%.40s\" has more than %d decimals",
                               start, MAX_DECIMALS);
            n.frac = n.frac * 10 + (uint64_t)(*p - '0');
            n.scale *= 10;
        }
        if (n.scale == 1)
            return err_set(e, ERR_USAGE, 0, "\"%.40s\" has no digit after the point",
                           start);
    }
    *s = p;
    *out = n;
    return true;
}

static char upper(char c)
{
    return (char)(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
}

/* The row of @tab named by the @len bytes at @s; NULL: none.  The prefix may be written
 * small ("10g", "5kB"); the rest not, because "Mb" says bits to some and bytes to others. */
static const struct unit *unit_find(const struct unit *tab, const char *s, size_t len)
{
    for (; tab->name != NULL; tab++) {
        if (strlen(tab->name) != len)
            continue;
        if (memcmp(tab->name, s, len) == 0)
            return tab;
        if (tab->name[0] >= 'A' && tab->name[0] <= 'Z' && tab->name[0] != 'B' &&
            upper(s[0]) == tab->name[0] && memcmp(tab->name + 1, s + 1, len - 1) == 0)
            return tab;
    }
    return NULL;
}

/* number * unit, cut to whole bytes or milliseconds; never 0 for what was not 0, because
 * 0 means "no limit" to some callers. */
static bool number_times(const char *s, const struct number *n, const struct unit *u,
                         uint64_t *out, struct err *e)
{
    uint64_t v;

    if (u->times == 1 && u->per == 1 && n->frac != 0)
        return err_set(e, ERR_USAGE, 0, "\"%.40s\" is not a whole number", s);
    if (__builtin_mul_overflow(n->whole, u->times, &v) ||
        __builtin_add_overflow(v, n->frac * u->times / n->scale, &v))
        return err_set(e, ERR_USAGE, 0, "\"%.40s\" is too large", s);
    v /= u->per;
    if (v == 0 && (n->whole | n->frac) != 0)
        return err_set(e, ERR_USAGE, 0, "\"%.40s\" is too small", s);
    *out = v;
    return true;
}

bool units_parse_size(const char *s, uint64_t *bytes, struct err *e)
{
    const char *p = s;
    struct number n;

    if (!number_get(&p, &n, e))
        return err_wrap(e, "size");
    const struct unit *u = unit_find(sizes, p, strlen(p));
    if (u == NULL)
        return err_set(e, ERR_USAGE, 0,
                       "size: \"%.40s\" has an unknown unit, write for example 10G or "
                       "512MiB",
                       s);
    return number_times(s, &n, u, bytes, e) ? true : err_wrap(e, "size");
}

bool units_parse_rate(const char *s, uint64_t *bytes_per_s, struct err *e)
{
    const char *p = s;
    struct number n;

    if (strcmp(s, "unlimited") == 0 || strcmp(s, "0") == 0) {
        *bytes_per_s = 0;
        return true;
    }
    if (!number_get(&p, &n, e))
        return err_wrap(e, "rate");

    size_t len = strlen(p);
    if (len >= 2 && strcmp(p + len - 2, "/s") == 0)
        len -= 2;
    const struct unit *u = unit_find(bits, p, len);
    if (u == NULL && len > 0) /* a bare number: of bits? of megabytes? */
        u = unit_find(sizes, p, len);
    if (u == NULL)
        return err_set(
            e, ERR_USAGE, 0,
            "rate: \"%.40s\" has no known unit, write for example 800Mbit or "
            "100MiB/s",
            s);
    return number_times(s, &n, u, bytes_per_s, e) ? true : err_wrap(e, "rate");
}

bool units_parse_time(const char *s, uint64_t *ms, struct err *e)
{
    const char *p = s;
    struct number n;

    if (!number_get(&p, &n, e))
        return err_wrap(e, "time");
    const struct unit *u = unit_find(times, p, strlen(p));
    if (u == NULL)
        return err_set(
            e, ERR_USAGE, 0,
            "time: \"%.40s\" has no known unit, write for example 300ms, 10s "
            "or 15m",
            s);
    return number_times(s, &n, u, ms, e) ? true : err_wrap(e, "time");
}

/* "1.5 GiB" + @tail */
static char *size_text(char out[UNITS_LEN], double v, const char *tail)
{
    static const char *const names[] = {
        "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"
    };
    const size_t last = sizeof names / sizeof names[0] - 1;
    size_t i = 0;

    if (!(v > 0)) /* NaN too: the rate of no bytes in no time */
        v = 0;
    /* 1023.95 would print as "1024.0 KiB". */
    for (; i < last && (i == 0 ? v >= 1024 : v >= 1023.95); i++)
        v /= 1024;
    if (isfinite(v) && v < 1e6)
        snprintf(out, UNITS_LEN, "%.*f %s%s", i > 0, v, names[i], tail);
    else
        snprintf(out, UNITS_LEN, "very many B%s", tail);
    return out;
}

char *units_size(char out[UNITS_LEN], uint64_t bytes)
{
    return size_text(out, (double)bytes, "");
}

char *units_rate(char out[UNITS_LEN], double bytes_per_s)
{
    /* Not %.0f's banker's "1024 B/s" for 1023.7. */
    return size_text(out, bytes_per_s < 1024 ? floor(bytes_per_s) : bytes_per_s, "/s");
}

char *units_time(char out[UNITS_LEN], int64_t ms)
{
    const char *const sign = ms < 0 ? "-" : "";
    const uint64_t v = ms < 0 ? 0 - (uint64_t)ms : (uint64_t)ms;
    const uint64_t s = (v + 500) / 1000, m = s / 60,
                   h = m / 60; /* to the nearest second */

    if (v < 1000)
        snprintf(out, UNITS_LEN, "%s%llu ms", sign, (unsigned long long)v);
    else if (v < 59950) /* above, "60.0 s" would be printed */
        snprintf(out, UNITS_LEN, "%s%.1f s", sign, (double)v / 1000);
    else if (m < 60)
        snprintf(out, UNITS_LEN, "%s%llum %llus", sign, (unsigned long long)m,
                 (unsigned long long)(s % 60));
    else if (h < 24)
        snprintf(out, UNITS_LEN, "%s%lluh %llum", sign, (unsigned long long)h,
                 (unsigned long long)(m % 60));
    else
        snprintf(out, UNITS_LEN, "%s%llud %lluh", sign, (unsigned long long)(h / 24),
                 (unsigned long long)(h % 24));
    return out;
}

char *units_time_typed(char out[UNITS_LEN], uint64_t ms)
{
    const struct unit *best = times;

    for (const struct unit *u = times; u->name != NULL; u++)
        if (ms >= u->times && ms % u->times == 0)
            best = u;
    snprintf(out, UNITS_LEN, "%llu%s", (unsigned long long)(ms / best->times),
             best->name);
    return out;
}
