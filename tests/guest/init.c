/* init - pid 1 of the test guest
 *
 * Boots, starts the writers and the RAM checker, then says every quarter of a second on
 * the console how far they are.  Lines (tests/README.md tells who reads them):
 *
 *   READY                      all is running
 *   start DISK SEQ             this boot's operations begin with SEQ (record.h)
 *   ack DISK SEQ               every operation up to SEQ is durable
 *   mem PASSES ok              how often all of the working set was found right
 *   time SECONDS               the clock, of a guest with an agent
 *   beat MS written=.. verified=.. dirtied=..    guest clock; bytes, bytes, pages
 *   ERROR ...                  something was wrong
 *   note ...                   something to know
 *   POWEROFF                   the last line
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MAX_DISKS = 8, REPORT_MS = 250, LINE = 200, REPORT_BYTES = 1024 };
enum { NS_PER_S = 1000000000, NS_PER_MS = 1000000 };

atomic_bool stopping;
static atomic_ulong errors;
static int console = 2;

/* ---- console ------------------------------------------------------------------- */

static void say_va(const char *prefix, const char *fmt, va_list ap)
{
    char text[LINE];
    int n = snprintf(text, sizeof text, "%s", prefix);

    n += vsnprintf(text + n, sizeof text - 1 - (size_t)n, fmt, ap);
    if (n > LINE - 2)
        n = LINE - 2;
    text[n++] = '\n';
    if (write(console, text, (size_t)n) != n)
        atomic_fetch_add(&errors, 1);
}

void say(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say_va("", fmt, ap);
    va_end(ap);
}

void say_error(const char *fmt, ...)
{
    va_list ap;

    atomic_fetch_add(&errors, 1);
    va_start(ap, fmt);
    say_va("ERROR ", fmt, ap);
    va_end(ap);
}

/* ---- pace ----------------------------------------------------------------------- */

uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

void pace_init(struct pace *p, uint64_t rate)
{
    *p = (struct pace){ rate, now_ns(), 0 };
}

bool pace_wait(struct pace *p, uint64_t units)
{
    const uint64_t most = p->rate / 4 > units ? p->rate / 4 : units;

    while (!atomic_load(&stopping)) {
        const uint64_t now = now_ns(),
                       gained = (now - p->last_ns) / 1000 * p->rate / 1000000;

        p->credit += gained;
        p->last_ns += gained * NS_PER_S / p->rate; /* the rest of a unit is not lost */
        if (p->credit > most)
            p->credit = most;
        if (p->credit >= units) {
            p->credit -= units;
            return true;
        }
        const uint64_t wait_ns = (units - p->credit) * NS_PER_S / p->rate + 1000;
        const struct timespec ts = { (time_t)(wait_ns / NS_PER_S),
                                     (long)(wait_ns % NS_PER_S) };
        nanosleep(&ts, NULL);
    }
    return false;
}

/* ---- boot ----------------------------------------------------------------------- */

static void mount_all(void)
{
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mkdir("/dev", 0755);
    if (mount("proc", "/proc", "proc", 0, NULL) < 0 ||
        mount("sys", "/sys", "sysfs", 0, NULL) < 0 ||
        (mount("dev", "/dev", "devtmpfs", 0, NULL) < 0 && errno != EBUSY))
        say_error("mount: %s", strerror(errno));
}

static bool module_load(const char *name)
{
    char path[64];

    snprintf(path, sizeof path, "/modules/%s.ko", name);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    const bool ok = syscall(SYS_finit_module, fd, "", 0) == 0 || errno == EEXIST;
    close(fd);
    return ok;
}

static void modules_load(void)
{
    static const char *const names[] = {
        /* each needs those before it */
        "virtio_ring",
        "virtio",
        "virtio_pci_legacy_dev",
        "virtio_pci_modern_dev",
        "virtio_pci",
        "virtio_blk",
        "button",
        "evdev",
        "virtio_console",
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!module_load(names[i]))
            say_error("module %s: %s", names[i], strerror(errno));
}

static uint64_t size_parse(const char *text)
{
    char *end;
    const uint64_t n = strtoull(text, &end, 10);

    switch (*end) {
    case 'K':
        return n << 10;
    case 'M':
        return n << 20;
    case 'G':
        return n << 30;
    default:
        return n;
    }
}

static void option_set(struct options *o, const char *word)
{
    const struct {
        const char *name;
        uint64_t *value;
    } table[] = {
        { "write=", &o->write },       { "dirty=", &o->dirty },
        { "ram=", &o->ram },           { "verify=", &o->verify },
        { "poweroff=", &o->poweroff }, { "clock=", &o->clock },
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const size_t n = strlen(table[i].name);

        if (strncmp(word, table[i].name, n) == 0)
            *table[i].value = size_parse(word + n);
    }
    if (strcmp(word, "agent=stopped") == 0)
        o->agent_stands = true;
}

static void options_read(struct options *o)
{
    static char text[2048];
    const int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    char *save = NULL;

    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    for (char *w = strtok_r(text, " \n", &save); w != NULL;
         w = strtok_r(NULL, " \n", &save))
        option_set(o, w);
}

static void hung_task_limit(const char *seconds)
{
    const int fd =
        open("/proc/sys/kernel/hung_task_timeout_secs", O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, seconds, strlen(seconds)) < 0)
        say("note no hung-task detection");
    if (fd >= 0)
        close(fd);
}

static bool disk_present(const char *name)
{
    char path[32];

    snprintf(path, sizeof path, "/dev/%s", name);
    return access(path, F_OK) == 0;
}

static size_t disks_open(struct disk *disks, const struct options *o)
{
    size_t present = 0, n = 0;
    char name[] = "vda";

    for (; present < MAX_DISKS; present++) {
        name[2] = (char)('a' + present);
        if (!disk_present(name))
            break;
    }
    for (size_t i = 0; i < present; i++) {
        name[2] = (char)('a' + i);
        n += disk_open(&disks[n], name, o->write / present);
    }
    return n;
}

/* ---- reports --------------------------------------------------------------------- */

static void report(const struct disk *disks, size_t n, const struct ram *ram)
{
    char text[REPORT_BYTES];
    unsigned long long written = 0, verified = 0;
    int at = 0;

    for (size_t i = 0; i < n; i++) {
        at += snprintf(text + at, sizeof text - (size_t)at, "ack %s %llu\n",
                       disks[i].name, (unsigned long long)atomic_load(&disks[i].acked));
        written += atomic_load(&disks[i].written);
        verified += atomic_load(&disks[i].verified);
    }
    at += snprintf(text + at, sizeof text - (size_t)at,
                   "mem %llu ok\nbeat %llu written=%llu verified=%llu dirtied=%llu\n",
                   (unsigned long long)atomic_load(&ram->passes),
                   (unsigned long long)(now_ns() / NS_PER_MS), written, verified,
                   (unsigned long long)atomic_load(&ram->dirtied));
    if (agent_is_there())
        at += snprintf(text + at, sizeof text - (size_t)at, "time %lld\n",
                       (long long)time(NULL));
    if (write(console, text, (size_t)at) != at)
        atomic_fetch_add(&errors, 1);
}

static void report_until_stopped(const struct disk *disks, size_t n,
                                 const struct ram *ram, uint64_t poweroff_s)
{
    const struct timespec quarter = { 0, REPORT_MS * NS_PER_MS };
    const uint64_t begin = now_ns();

    while (!atomic_load(&stopping)) {
        report(disks, n, ram);
        nanosleep(&quarter, NULL);
        if (poweroff_s != 0 && now_ns() - begin > poweroff_s * NS_PER_S)
            atomic_store(&stopping, true);
    }
}

static void power_off(const struct disk *disks, size_t n, const struct ram *ram)
{
    for (size_t i = 0; i < n; i++)
        if (disks[i].running)
            pthread_join(disks[i].thread, NULL);
    report(disks, n, ram);
    say("POWEROFF");
    sync();
    usleep(200000); /* let the serial port send its last characters */
    reboot(RB_POWER_OFF);
}

int main(void)
{
    struct options o = { .ram = 64 << 20, .verify = 16 << 20 };
    static struct disk disks[MAX_DISKS];
    static struct ram ram;

    mount_all();
    const int fd = open("/dev/console", O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        console = fd;
    modules_load();
    options_read(&o);
    hung_task_limit("20");

    const size_t n = disks_open(disks, &o);
    if (!ram_start(&ram, &o))
        say_error("ram cannot start");
    power_start();
    agent_start(&o);
    for (size_t i = 0; i < n; i++)
        disk_start(&disks[i]);
    say("READY");
    report_until_stopped(disks, n, &ram, o.poweroff);
    power_off(disks, n, &ram);
    for (;;)
        pause();
}
