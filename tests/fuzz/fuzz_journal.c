/* A journal that may be torn, from another version or from somebody who means harm: a later
 * agent lists the moves, takes the move and tries all that a source may ask, whatever the
 * domain is doing.  It must never start a guest that is not committed.  In a jail. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/arrivals.h"
#include "agent/route.h"
#include "base/journal.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"
#include "tests/lib/fake-guest.h"
#include "tests/lib/jail.h"

#define ID  "11111111111111111111111111111111"
#define DIR PATHS_STATE "/" ID

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fake_guest *fake;

static void quiet(enum log_level level, const char *line, void *ctx)
{
    (void)level, (void)line, (void)ctx;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    jail_enter();
    log_set_sink(quiet, NULL);
    fake = fake_guest_map("/tmp/guest");
    return 0;
}

static bool write_journal(const uint8_t *data, size_t size)
{
    struct err e;

    if (!dir_private(PATHS_STATE, &e) || !dir_private(DIR, &e))
        abort();
    AUTO(fd_close)
    int fd = open(DIR "/journal", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    return fd >= 0 && fd_write_all(fd, data, size, &e);
}

/* true: it was done. */
static bool ask(const char *method, const char *path, const char *body)
{
    struct arrivals *const all = arrivals_new(&fake_guest_ops);
    AUTO(json_put) struct json_object *o = NULL;
    AUTO(json_put) struct json_object *reply = NULL;
    struct err e = { 0 };

    if (body != NULL && !json_parse(body, strlen(body), &o, &e))
        abort();
    const bool ok = route_request(all, method, path, o, &reply, &e);
    arrivals_lost(all);
    arrivals_free(all);
    return ok;
}

static bool has_entry(const char *step)
{
    AUTO(json_put) struct json_object *entries = NULL;
    struct err e;

    return journal_read(DIR, &entries, &e) && journal_find(entries, step) != NULL;
}

/* What a guest is found as; none of them is waited for. */
static const struct {
    int run, why;
} states[] = {
    { VDOM_NONE, VDOM_WHY_OTHER },
    { VDOM_PAUSED, VDOM_WHY_USER },
    { VDOM_RUNNING, VDOM_WHY_OTHER },
    { VDOM_OFF, VDOM_WHY_OTHER },
};

static void try_all(void)
{
    const bool may_run = has_entry("released") || has_entry("committed");

    (void)ask("GET", "/moves", NULL);
    (void)ask("GET", "/moves/" ID, NULL);
    (void)ask("POST", "/moves/" ID "/close", NULL);
    (void)ask("POST", "/moves/" ID "/release", NULL);
    (void)ask("POST", "/moves/" ID "/ram-limit", "{\"bytes\": 1}");
    (void)ask("POST", "/check",
              "{\"uuid\": \"6e1ad2a6-1b7e-4c7a-9d4e-0123456789ab\", "
              "\"disks\": [], \"files\": [], \"bridges\": []}");
    if (ask("POST", "/moves/" ID "/commit", "{\"run\": true}") &&
        atomic_load(&fake->resumes) > 0 && !may_run)
        abort();
    (void)ask("POST", "/moves/" ID "/finish", "{\"autostart\": true}");
    (void)ask("DELETE", "/moves/" ID, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        atomic_store(&fake->run, states[i].run);
        atomic_store(&fake->why, states[i].why);
        atomic_store(&fake->resumes, 0);
        atomic_store(&fake->defined, 0);
        if (!write_journal(data, size))
            return 0;
        try_all();
        dir_remove(DIR);
    }
    return 0;
}
