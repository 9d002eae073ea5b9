/* What a source may ask of the agent: "METHOD PATH" in the first line, a JSON body in the
 * rest; and PATH as the name of a channel.  In a jail, for it makes and removes files. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/arrivals.h"
#include "agent/route.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "tests/fuzz/text.h"
#include "tests/lib/fake-guest.h"
#include "tests/lib/jail.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void quiet(enum log_level level, const char *line, void *ctx)
{
    (void)level, (void)line, (void)ctx;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    jail_enter();
    log_set_sink(quiet, NULL);
    fake_guest_map("/tmp/guest");
    return 0;
}

static void ask(struct arrivals *all, const char *line, struct json_object *body)
{
    AUTO(json_put) struct json_object *reply = NULL;
    char method[16] = "", path[1024] = "";
    struct err e = { 0 };
    int fd = -1;

    if (sscanf(line, "%15s %1023s", method, path) != 2)
        return;
    if (!route_request(all, method, path, body, &reply, &e) && e.msg[0] == '\0')
        abort(); /* a failure that says nothing */
    if (route_channel(all, path, &fd, &e))
        close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(json_put) struct json_object *body = NULL;
    const uint8_t *const nl = memchr(data, '\n', size);
    const size_t head = nl != NULL ? (size_t)(nl - data) : size;
    AUTO(mem_free) char *line = text_of(data, head);
    struct err e;

    if (nl != NULL && !json_parse((const char *)nl + 1, size - head - 1, &body, &e))
        return 0;
    struct arrivals *const all = arrivals_new(&fake_guest_ops);
    ask(all, line, body);
    arrivals_lost(all);
    arrivals_free(all);
    return 0;
}
