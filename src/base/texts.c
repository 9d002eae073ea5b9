#include "base/texts.h"

#include <stdarg.h>
#include <stdio.h>

void texts_add(struct texts *t, const char *fmt, ...)
{
    va_list ap;

    if (t->n == TEXTS_MAX)
        return;
    va_start(ap, fmt);
    vsnprintf(t->text[t->n++], TEXTS_LEN, fmt, ap);
    va_end(ap);
}
