#include "base/procmem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

enum {
    PLACES = 512, /* looked at, */
    PAGES = 16,   /* so many pages in a row each */
    PAGE = 4096,
};

static bool find_mapping(pid_t pid, uint64_t bytes, uint64_t *start, uint64_t *size,
                         struct err *e)
{
    char path[64], line[512];

    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *const f = fopen(path, "re");
    if (f == NULL)
        return err_set(e, ERR_SYS, errno, "cannot open %s", path);
    *size = UINT64_MAX;
    while (fgets(line, sizeof line, f) != NULL) {
        uint64_t from, to;

        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " rw", &from, &to) != 2 || to <= from ||
            to - from < bytes || to - from >= *size)
            continue;
        *start = from;
        *size = to - from;
    }
    fclose(f);
    return *size != UINT64_MAX ||
           err_set(e, ERR_SYS, ENOENT, "process %d has no mapping of that size",
                   (int)pid);
}

/* Whether the page is in memory; proc(5), pagemap. */
static bool present(uint64_t entry)
{
    return (entry >> 63 & 1) != 0;
}

static bool swapped(uint64_t entry)
{
    return (entry >> 62 & 1) != 0;
}

static bool is_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

struct look {
    int mem, map; /* /proc/PID/mem, /proc/PID/pagemap */
    unsigned long seen, used;
    struct procmem *out;
};

static void look_at_page(struct look *l, uint64_t at, uint64_t entry)
{
    uint8_t page[PAGE];
    struct procmem *const p = l->out;

    l->seen++;
    if (swapped(entry))
        l->used++; /* it was worth swapping, and is not fetched for us */
    if (!present(entry) || pread(l->mem, page, PAGE, (off_t)at) != PAGE ||
        is_zero(page))
        return;
    l->used++;
    if (p->buf == NULL || p->size - p->len < PAGE)
        return;
    memcpy(p->buf + p->len, page, PAGE);
    p->len += PAGE;
}

static bool look_at_place(struct look *l, uint64_t at, struct err *e)
{
    uint64_t entries[PAGES];
    const off_t where = (off_t)(at / PAGE * sizeof entries[0]);

    if (pread(l->map, entries, sizeof entries, where) != (ssize_t)sizeof entries)
        return err_set(e, ERR_SYS, errno, "cannot read the page map of a process");
    for (unsigned i = 0; i < PAGES; i++)
        look_at_page(l, at + (uint64_t)i * PAGE, entries[i]);
    return true;
}

static bool open_proc(pid_t pid, const char *what, int *fd, struct err *e)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, what);
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    return *fd >= 0 || err_set(e, ERR_SYS, errno, "cannot open %s", path);
}

bool procmem_look(pid_t pid, uint64_t bytes, struct procmem *p, struct err *e)
{
    AUTO(fd_close) int mem = -1;
    AUTO(fd_close) int map = -1;
    uint64_t start, size;

    p->len = 0;
    p->used = 0;
    if (bytes < (uint64_t)PAGES * PAGE)
        return err_set(e, ERR_SYS, EINVAL, "too small to look at");
    if (!find_mapping(pid, bytes, &start, &size, e) ||
        !open_proc(pid, "mem", &mem, e) || !open_proc(pid, "pagemap", &map, e))
        return false;

    struct look l = { .mem = mem, .map = map, .out = p };
    const uint64_t pages = size / PAGE - PAGES + 1;
    for (unsigned i = 0; i < PLACES; i++)
        if (!look_at_place(&l, start + pages * i / PLACES * PAGE, e))
            return false;
    p->used = (double)l.used / (double)l.seen;
    return true;
}
