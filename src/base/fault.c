#include "base/fault.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

enum { FAULTS_MAX = 16, DELAY_MAX_MS = 600 * 1000, TIMES_MAX = 1000000 };

enum action { FAULT_KILL, FAULT_STOP, FAULT_EXIT, FAULT_FAIL, FAULT_DELAY };

struct fault {
    char name[64];
    enum action action;
    int delay_ms;
    atomic_int left; /* passings until it happens; any thread */
};

/* Written by fault_init() before threads start; then only ->left changes. */
static struct fault faults[FAULTS_MAX];
static unsigned nfaults;

/* A decimal number of 1..@max that fills @s. */
static bool count_parse(const char *s, int max, int *out)
{
    int v = 0;

    for (; *s >= '0' && *s <= '9' && v <= max; s++)
        v = v * 10 + (*s - '0');
    *out = v;
    return *s == '\0' && v >= 1 && v <= max;
}

static bool action_parse(const char *s, struct fault *f)
{
    /* clang-format off */
    static const struct { const char *name; enum action action; } names[] = {
        { "kill-self", FAULT_KILL }, { "stop", FAULT_STOP }, { "exit", FAULT_EXIT },
        { "fail", FAULT_FAIL },      { "drop-link", FAULT_FAIL },
    };
    /* clang-format on */
    static const char delay[] = "delay-";

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(s, names[i].name) == 0) {
            f->action = names[i].action;
            return true;
        }
    f->action = FAULT_DELAY;
    return strncmp(s, delay, strlen(delay)) == 0 &&
           count_parse(s + strlen(delay), DELAY_MAX_MS, &f->delay_ms);
}

/* One "POINT:ACTION[:N]", which is cut to pieces. */
static bool fault_parse(char *spec, struct fault *f, struct err *e)
{
    char whole[128];
    int times = 1;

    log_clean(whole, sizeof whole, spec);
    const char *const name = strsep(&spec, ":");
    const char *const action = strsep(&spec, ":");
    if (name[0] == '\0' || strlen(name) >= sizeof f->name || action == NULL ||
        !action_parse(action, f) ||
        (spec != NULL && !count_parse(spec, TIMES_MAX, &times)))
        return err_set(e, ERR_USAGE, 0,
                       "SNMIGRATE_FAULT: \"%s\" is not POINT:ACTION[:N]", whole);
    memcpy(f->name, name, strlen(name) + 1);
    atomic_store(&f->left, times);
    return true;
}

bool fault_init(struct err *e)
{
    return fault_init_only("", e);
}

bool fault_init_only(const char *prefix, struct err *e)
{
    const char *const env = getenv("SNMIGRATE_FAULT");
    char text[FAULTS_MAX * sizeof(struct fault)];
    char *rest = text;
    unsigned n = 0;

    nfaults = 0;
    if (env == NULL || env[0] == '\0')
        return true;
    if (strlen(env) >= sizeof text)
        return err_set(e, ERR_USAGE, 0, "SNMIGRATE_FAULT is too long");
    memcpy(text, env, strlen(env) + 1);
    for (char *spec; (spec = strsep(&rest, ",")) != NULL;) {
        if (n == FAULTS_MAX)
            return err_set(e, ERR_USAGE, 0, "SNMIGRATE_FAULT: more than %d",
                           FAULTS_MAX);
        if (!fault_parse(spec, &faults[n], e))
            return false;
        if (strncmp(faults[n].name, prefix, strlen(prefix)) == 0)
            n++;
    }
    nfaults = n;
    return true;
}

static bool fault_do(const struct fault *f, struct err *e)
{
    log_warn("fault", "point=%s happens now", f->name);
    switch (f->action) {
    case FAULT_KILL:
        kill(getpid(), SIGKILL);
        break;
    case FAULT_STOP:
        kill(getpid(), SIGSTOP);
        break;
    case FAULT_EXIT:
        _exit(1);
    case FAULT_DELAY:
        clock_sleep_ms(f->delay_ms);
        break;
    case FAULT_FAIL:
        return err_set(e, ERR_SYS, EIO, "fault point %s", f->name);
    }
    return true;
}

bool fault_point(const char *name, struct err *e)
{
    bool ok = true;

    for (unsigned i = 0; i < nfaults;
         i++) /* to the end: each row counts each passing */
        if (strcmp(faults[i].name, name) == 0 &&
            atomic_fetch_sub(&faults[i].left, 1) == 1)
            ok &= fault_do(&faults[i], e);
    return ok;
}

void fault_pass(const char *name)
{
    struct err ignored;

    if (!fault_point(name, &ignored))
        return; /* the caller has no way to fail */
}
