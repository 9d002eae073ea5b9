/* src/cli/text.h - text for people: columns counted, foreign strings made harmless.
 *
 * Grows as needed; out of memory aborts (what we say is small).  Every string that goes
 * in is cleaned (log_clean); where the reader's locale is not UTF-8, other than ASCII
 * is escaped too.  A line never gets more than ->width columns: what is beyond is
 * dropped.
 * Thread: the owner's.
 */
#ifndef SNM_CLI_TEXT_H
#define SNM_CLI_TEXT_H

#include <stddef.h>

#include "base/err.h"

enum { TEXT_COLS = 80 };

enum text_style {
    TEXT_PLAIN,
    TEXT_BOLD,
    TEXT_DIM,
    TEXT_GOOD,
    TEXT_WARN,
    TEXT_BAD,
    TEXT_STYLES
};

struct text {
    char *buf; /* NUL-terminated once something is in it */
    size_t len, size;
    unsigned width; /* columns of a line; 0: any */
    unsigned col;   /* of the current line, from 0 */
    unsigned lines; /* ended so far */
    bool utf8, colour;
};

void text_fini(struct text *t);
void text_fini_auto(struct text *t);
/* Forget the contents. */
void text_clear(struct text *t);

/* Add it at the end of the current line, which it cannot end. */
void text_put(struct text *t, enum text_style style, const char *s);
PRINTF(3, 4)
void text_printf(struct text *t, enum text_style style, const char *fmt, ...);
/* The same, with @s shortened ("abc…") where it has more than @cols columns. */
void text_fit(struct text *t, enum text_style style, const char *s, unsigned cols);
/* The same, at the right edge of a field of @cols columns. */
void text_right(struct text *t, enum text_style style, const char *s, unsigned cols);
/* @s so many times. */
void text_repeat(struct text *t, enum text_style style, const char *s, unsigned times);
/* Blanks until column @col. */
void text_pad(struct text *t, unsigned col);
/* @s over as many lines as needed, at most @lines, broken at blanks, from @indent on;
 * the current line must be the first of them.  Ends the last line. */
void text_wrap(struct text *t, enum text_style style, const char *s, unsigned indent,
               unsigned lines);
/* For reports: @s from the current column on, broken at blanks to lines of TEXT_COLS columns,
 * those after the first from @indent on; a longer word stays whole.  Ends the last line. */
void text_fold(struct text *t, const char *s, unsigned indent);
void text_newline(struct text *t);
/* Bytes as they are, for terminal controls and the like: not cleaned, not counted. */
void text_raw(struct text *t, const char *s);

/* Write it to @fd and forget it.  What cannot be written is said on stderr, and is no reason
 * for another status: the guest is where it is, whether or not somebody can be told. */
void text_flush(struct text *t, int fd);
/* Only that: @e kept what there was to say from being written. */
void text_unwritten(const struct err *e);

/* Columns that @s takes once cleaned. */
unsigned text_columns(const struct text *t, const char *s);

#endif
