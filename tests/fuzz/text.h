/* tests/fuzz/text.h - an input as a string. */
#ifndef SNM_TESTS_FUZZ_TEXT_H
#define SNM_TESTS_FUZZ_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* With a NUL at its end: free(3).  Not strndup(), which AddressSanitizer's strict string
 * checks do not let read an input that has none. */
static inline char *text_of(const uint8_t *data, size_t size)
{
    char *const s = malloc(size + 1);

    if (s == NULL)
        abort();
    memcpy(s, data, size);
    s[size] = '\0';
    return s;
}

#endif
