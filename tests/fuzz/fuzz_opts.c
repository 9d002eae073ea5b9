/* The command line: arguments end with a newline each. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/opts.h"
#include "tests/fuzz/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARGS_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(mem_free) char *text = text_of(data, size);
    static char name[] = "snmigrate";
    char *argv[ARGS_MAX + 2] = { name }, *save = NULL;
    static struct opts o;
    struct err e = { 0 };
    int argc = 1;

    for (char *s = strtok_r(text, "\n", &save); s != NULL && argc <= ARGS_MAX;
         s = strtok_r(NULL, "\n", &save))
        argv[argc++] = s;
    if (!opts_parse(argc, argv, &o, &e) && (e.kind != ERR_USAGE || e.msg[0] == '\0'))
        abort();
    return 0;
}
