/* src/base/texts.h - a short list of sentences for the reader; pure. */
#ifndef SNM_BASE_TEXTS_H
#define SNM_BASE_TEXTS_H

#include <stddef.h>

#include "base/err.h"

enum { TEXTS_MAX = 16, TEXTS_LEN = 400 }; /* bytes of each, with its NUL */

/* Empty when zeroed; may be copied. */
struct texts {
    char text[TEXTS_MAX][TEXTS_LEN];
    size_t n;
};

/* A longer one is cut; behind the last that fits it is dropped. */
PRINTF(2, 3) void texts_add(struct texts *t, const char *fmt, ...);

#endif
