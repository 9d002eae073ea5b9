#include "agent/backlog.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"

/* Order: every byte in memory is older than every byte in the file.  So new bytes go to
 * memory only while the file is empty, and memory is filled again from the file. */
struct backlog {
    const char *dir;
    uint8_t *mem;
    size_t size, at,
        fill; /* of the ring in memory: bytes, the oldest's index, bytes used */
    int fd;   /* -1: not needed so far */
    uint64_t fsize, fat, ffill; /* the same for the file */
};

bool backlog_new(const char *dir, size_t memory, uint64_t file, struct backlog **out,
                 struct err *e)
{
    AUTO(backlog_free) struct backlog *b = calloc(1, sizeof *b);

    if (b == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "RAM backlog");
    b->dir = dir;
    b->size = memory;
    b->fsize = file;
    b->fd = -1;
    b->mem = malloc(memory); /* touched only as far as it fills */
    if (b->mem == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "RAM backlog of %zu bytes", memory);
    *out = ptr_steal(&b);
    return true;
}

void backlog_free(struct backlog *b)
{
    if (b == NULL)
        return;
    fd_close_auto(&b->fd);
    free(b->mem);
    free(b);
}

void backlog_free_auto(struct backlog **b)
{
    backlog_free(*b);
}

uint64_t backlog_len(const struct backlog *b)
{
    return b->fill + b->ffill;
}

size_t backlog_room(const struct backlog *b)
{
    return b->ffill > 0 ? 0 : b->size - b->fill;
}

/* A file that ends with its descriptor; not every file system has O_TMPFILE. */
static bool file_open(struct backlog *b, struct err *e)
{
    char path[4096];

    b->fd = open(b->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (b->fd >= 0)
        return true;
    snprintf(path, sizeof path, "%s/backlog", b->dir);
    b->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (b->fd < 0)
        return err_set(e, ERR_SYS, errno, "cannot keep RAM in %s", b->dir);
    unlink(path);
    return true;
}

/* Bytes from @at to the end of a ring of @size, at most @len. */
static uint64_t to_wrap(uint64_t at, uint64_t size, uint64_t len)
{
    return len < size - at ? len : size - at;
}

static bool file_put(struct backlog *b, const uint8_t *p, size_t len, struct err *e)
{
    if (b->fd < 0 && !file_open(b, e))
        return false;
    if (len > b->fsize - b->ffill)
        return err_set(e, ERR_SYS, ENOSPC, "%llu bytes of RAM are kept already",
                       (unsigned long long)backlog_len(b));
    while (len > 0) {
        const uint64_t end = (b->fat + b->ffill) % b->fsize;
        const ssize_t n = pwrite(b->fd, p, to_wrap(end, b->fsize, len), (off_t)end);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(e, ERR_SYS, errno, "cannot keep RAM in %s", b->dir);
        b->ffill += (uint64_t)n;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static void mem_put(struct backlog *b, const uint8_t *p, size_t len)
{
    while (len > 0) {
        const size_t end = (b->at + b->fill) % b->size;
        const size_t n = to_wrap(end, b->size, len);

        memcpy(b->mem + end, p, n);
        b->fill += n;
        p += n;
        len -= n;
    }
}

bool backlog_put(struct backlog *b, const void *buf, size_t len, struct err *e)
{
    const size_t room = backlog_room(b), n = len < room ? len : room;

    mem_put(b, buf, n);
    return n == len || file_put(b, (const uint8_t *)buf + n, len - n, e);
}

/* Memory is empty: take the oldest bytes of the file into it. */
static bool refill(struct backlog *b, struct err *e)
{
    const uint64_t want = b->ffill < b->size ? b->ffill : b->size;
    ssize_t n;

    assert(b->fill == 0 && want > 0);
    do
        n = pread(b->fd, b->mem, to_wrap(b->fat, b->fsize, want), (off_t)b->fat);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return err_set(e, ERR_SYS, n < 0 ? errno : EIO, "cannot read kept RAM back");
    b->at = 0;
    b->fill = (size_t)n;
    b->fat = (b->fat + (uint64_t)n) % b->fsize;
    b->ffill -= (uint64_t)n;
    if (b->ffill > 0)
        return true;
    b->fat = 0;
    /* Gives the space back; where that fails it goes with the descriptor. */
    if (ftruncate(b->fd, 0) < 0)
        errno = 0;
    return true;
}

bool backlog_peek(struct backlog *b, const uint8_t **p, size_t *len, struct err *e)
{
    if (b->fill == 0 && b->ffill > 0 && !refill(b, e))
        return false;
    *p = b->mem + b->at;
    *len = to_wrap(b->at, b->size, b->fill);
    return true;
}

void backlog_drop(struct backlog *b, size_t n)
{
    assert(n <= b->fill);
    b->fill -= n;
    /* An empty ring starts anew, in the part that the cache knows. */
    b->at = b->fill == 0 ? 0 : (b->at + n) % b->size;
}

void backlog_clear(struct backlog *b)
{
    b->at = b->fill = 0;
    b->fat = b->ffill = 0;
    if (b->fd >= 0)
        close(fd_steal(&b->fd));
}
