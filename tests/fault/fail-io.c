/* fail-io - preloaded into qemu-nbd or QEMU: reads or writes of its images fail on demand
 *
 * While /run/fail-writes exists every positioned write fails with the errno that the file
 * holds; while /run/fail-reads exists every positioned read of more than READ_MIN bytes: the
 * test guest's own are of a slot of 128 KiB at most (record.h), those of a copy larger. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <sys/uio.h>
#include <unistd.h>

enum { READ_MIN = 128 << 10 };

/* 0: not to fail */
static int told(const char *path)
{
    int os = 0;

    if (access(path, F_OK) != 0)
        return 0;
    FILE *const f = fopen(path, "re");
    if (f == NULL)
        return 0;
    if (fscanf(f, "%d", &os) != 1)
        os = EIO;
    fclose(f);
    return os;
}

static int write_fails(void)
{
    return told("/run/fail-writes");
}

static int read_fails(size_t bytes)
{
    return bytes > READ_MIN ? told("/run/fail-reads") : 0;
}

static size_t total(const struct iovec *iov, int n)
{
    size_t sum = 0;

    for (int i = 0; i < n; i++)
        sum += iov[i].iov_len;
    return sum;
}

#define NEXT(name)        ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL_OR(os, call) ((os) != 0 ? (errno = (os), -1) : (call))

#define DEFINE(pw, pr, pwv, prv, off) \
    ssize_t pw(int fd, const void *buf, size_t n, off at) \
    { \
        const int os = write_fails(); \
        return FAIL_OR(os, NEXT(pw)(fd, buf, n, at)); \
    } \
    ssize_t pr(int fd, void *buf, size_t n, off at) \
    { \
        const int os = read_fails(n); \
        return FAIL_OR(os, NEXT(pr)(fd, buf, n, at)); \
    } \
    ssize_t pwv(int fd, const struct iovec *iov, int n, off at) \
    { \
        const int os = write_fails(); \
        return FAIL_OR(os, NEXT(pwv)(fd, iov, n, at)); \
    } \
    ssize_t prv(int fd, const struct iovec *iov, int n, off at) \
    { \
        const int os = read_fails(total(iov, n)); \
        return FAIL_OR(os, NEXT(prv)(fd, iov, n, at)); \
    }

DEFINE(pwrite, pread, pwritev, preadv, off_t)
DEFINE(pwrite64, pread64, pwritev64, preadv64, off64_t)
