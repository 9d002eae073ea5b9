#include "base/journal.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/paths.h"
#include "base/unix.h"

static const char file_name[] = "journal";

struct journal {
    int fd;
    off_t end; /* bytes that are known to be whole entries */
};

static bool dir_open(const char *dir, int *out, struct err *e)
{
    *out = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return *out >= 0 ? true : err_set(e, ERR_SYS, errno, "journal in %s", dir);
}

/* All of @fd; *text is owned by the caller. */
static bool read_whole(int fd, char **text, size_t *len, struct err *e)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_set(e, ERR_SYS, errno, "journal");
    if (!S_ISREG(st.st_mode) || st.st_size > JSON_MAX_BYTES)
        return err_set(e, ERR_PROTO, 0, "journal: not a file of at most %d bytes",
                       JSON_MAX_BYTES);
    AUTO(mem_free) char *buf = malloc((size_t)st.st_size + 1);
    if (buf == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "journal");
    if (lseek(fd, 0, SEEK_SET) < 0)
        return err_set(e, ERR_SYS, errno, "journal");
    if (!fd_read_all(fd, buf, (size_t)st.st_size, e))
        return err_wrap(e, "journal");
    *len = (size_t)st.st_size;
    *text = ptr_steal(&buf);
    return true;
}

/* Bytes up to and with the last newline: what follows was never synced as a whole, so
 * nobody has acted on it. */
static size_t whole_lines(const char *text, size_t len)
{
    while (len > 0 && text[len - 1] != '\n')
        len--;
    return len;
}

/* Cut a torn last line off, or the next entry would be joined to it. */
static bool repair(struct journal *j, struct err *e)
{
    AUTO(mem_free) char *text = NULL;
    size_t len;

    if (!read_whole(j->fd, &text, &len, e))
        return false;
    j->end = (off_t)whole_lines(text, len);
    if ((size_t)j->end < len && ftruncate(j->fd, j->end) < 0)
        return err_set(e, ERR_SYS, errno, "journal: cannot cut its torn last line");
    return true;
}

bool journal_open(const char *dir, struct journal **out, struct err *e)
{
    AUTO(journal_close) struct journal *j = calloc(1, sizeof *j);
    AUTO(fd_close) int dirfd = -1;

    if (j == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "journal");
    j->fd = -1;
    if (!dir_private(dir, e) || !dir_open(dir, &dirfd, e))
        return false;
    j->fd = openat(dirfd, file_name,
                   O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (j->fd < 0)
        return err_set(e, ERR_SYS, errno, "journal in %s", dir);
    if (!repair(j, e))
        return err_wrap(e, "%s", dir);
    /* The names must be on disk as well as what they name. */
    AUTO(fd_close) int up = openat(dirfd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fsync(dirfd) < 0 || (up >= 0 && fsync(up) < 0))
        return err_set(e, ERR_SYS, errno, "journal in %s", dir);
    *out = ptr_steal(&j);
    return true;
}

void journal_close(struct journal *j)
{
    if (j == NULL)
        return;
    fd_close_auto(&j->fd);
    free(j);
}

void journal_close_auto(struct journal **j)
{
    journal_close(*j);
}

static struct json_object *entry_new(const char *step, struct json_object *more)
{
    struct json_object *const o = json_new();
    const time_t now = time(NULL); /* for people; nothing is computed from it */
    char text[32];
    struct tm tm;

    gmtime_r(&now, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    json_add_str(json_add_str(o, "step", step), "time", text);
    if (more == NULL)
        return o;
    json_object_object_foreach(more, key, value)
    {
        assert(!json_has(o, key)); /* would replace the step */
        json_add_obj(o, key, json_object_get(value));
    }
    return o;
}

/* One write, then the disk. */
static bool append(struct journal *j, const char *line, size_t len, struct err *e)
{
    if (!fd_write_all(j->fd, line, len, e))
        return false;
    return fdatasync(j->fd) == 0 ? true : err_set(e, ERR_SYS, errno, "fdatasync");
}

uint64_t journal_size(const struct journal *j)
{
    return (uint64_t)j->end;
}

bool journal_step(struct journal *j, const char *step, struct json_object *more,
                  struct err *e)
{
    AUTO(json_put) struct json_object *taken = more;

    if (j == NULL)
        return err_set(e, ERR_SYS, EBADF, "journal: step %s", step);
    AUTO(json_put) struct json_object *entry = entry_new(step, taken);
    size_t len;
    const char *const text = json_object_to_json_string_length(
        entry, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
    AUTO(mem_free) char *line = malloc(len + 1);

    if (text == NULL || line == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "journal: step %s", step);
    memcpy(line, text, len);
    line[len++] = '\n';
    if (!append(j, line, len, e)) {
        /* The caller will act as if the step was not taken, so no reader may find it:
         * neither half of it (a full disk) nor all of it (a sync that failed). */
        if (ftruncate(j->fd, j->end) < 0)
            err_wrap(e, "and it could not be taken back");
        return err_wrap(e, "journal: step %s", step);
    }
    j->end += (off_t)len;
    return true;
}

/* One line to an entry at the end of @list. */
static bool entry_read(const char *line, size_t len, struct json_object *list,
                       struct err *e)
{
    AUTO(json_put) struct json_object *o = NULL;
    const char *step;

    if (!json_parse(line, len, &o, e) || !json_get_str(o, "step", &step, e))
        return false;
    if (json_object_array_add(list, o) != 0)
        return err_set(e, ERR_SYS, ENOMEM, "journal");
    o = NULL; /* the list's now */
    return true;
}

bool journal_read(const char *dir, struct json_object **out, struct err *e)
{
    AUTO(json_put) struct json_object *list = json_object_new_array();
    AUTO(mem_free) char *text = NULL;
    AUTO(fd_close) int dirfd = -1;
    size_t len, nr = 1;

    if (list == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "journal");
    if (!dir_open(dir, &dirfd, e))
        return false;
    AUTO(fd_close) int fd = openat(dirfd, file_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, ERR_SYS, errno, "journal in %s", dir);
    if (!read_whole(fd, &text, &len, e))
        return err_wrap(e, "%s", dir);

    const char *const end = text + whole_lines(text, len);
    for (const char *p = text; p < end; nr++) {
        const char *const nl = memchr(p, '\n', (size_t)(end - p));

        assert(nl != NULL); /* whole lines only */
        if (!entry_read(p, (size_t)(nl - p), list, e))
            return err_wrap(e, "%s: journal: line %zu", dir, nr);
        p = nl + 1;
    }
    *out = ptr_steal(&list);
    return true;
}

struct json_object *journal_find(struct json_object *entries, const char *step)
{
    for (size_t i = json_object_array_length(entries); i-- > 0;) {
        struct json_object *const o = json_object_array_get_idx(entries, i);
        struct err ignored;
        const char *s;

        if (json_get_str(o, "step", &s, &ignored) && strcmp(s, step) == 0)
            return o;
    }
    return NULL;
}

bool journal_scan(journal_each each, void *ctx, struct err *e)
{
    DIR *const dir = opendir(PATHS_STATE);
    bool ok = true;

    if (dir == NULL)
        return errno == ENOENT || err_set(e, ERR_SYS, errno, PATHS_STATE);
    for (const struct dirent *d; ok && (d = readdir(dir)) != NULL;)
        if (paths_id_ok(d->d_name))
            ok = each(ctx, d->d_name, e);
    closedir(dir);
    return ok;
}

void journal_remove(const char *dir)
{
    dir_remove(dir);
}
