/* src/base/err.h - how a function of this program says "it failed, because".
 *
 * One convention everywhere: bool f(..., struct err *e).  true leaves *e alone, false
 * has set it.  The callee says what failed with its numbers, a caller may add where
 * (err_wrap), and only cli/ and agent/ report it, once.
 */
#ifndef SNM_BASE_ERR_H
#define SNM_BASE_ERR_H

#include <stdarg.h>
#include <stdbool.h>

#define MUST_CHECK   __attribute__((warn_unused_result))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))

/* What kind of failure; the exit status follows from it and from where the guest is. */
enum err_kind {
    ERR_NONE,
    ERR_USAGE,      /* the caller or the user asked for something that has no meaning */
    ERR_SYS,        /* a system call; ->os is its errno */
    ERR_NBD,        /* an NBD server or libnbd; ->os is the errno it gave, or 0 */
    ERR_VIRT,       /* libvirt or QEMU said no */
    ERR_PROTO,      /* the peer broke the protocol */
    ERR_PEER,       /* the peer reported a failure of its own */
    ERR_TIMEOUT,    /* nothing came in the time allowed */
    ERR_CANCELLED,  /* the user or another part of the program asked to stop */
    ERR_REFUSED,    /* preflight: it could not work, nothing was changed */
    ERR_CONNECT,    /* could not reach or authenticate with a host */
    ERR_LINK,       /* the tunnel broke after it was open */
    ERR_GUEST,      /* the guest ended by itself, or its QEMU died */
    ERR_STALLED,    /* the copy does not converge */
    ERR_UNRESOLVED, /* past the release, the destination does not answer */
    ERR_KINDS
};

/* A plain value, never allocated: copy it, queue it, send it. */
struct err {
    enum err_kind kind;
    int os;         /* errno, or 0 */
    char msg[600];  /* "outer: inner: cause"; no newline, no final dot */
    char next[240]; /* what the user can do next, a sentence; or "" */
};

/* Always returns false, so that a caller writes: return err_set(e, ...);
 * with @os != 0 its text is added after ": ".  Clears ->next. */
PRINTF(4, 5)
bool err_set(struct err *e, enum err_kind kind, int os, const char *fmt, ...);

/* Put the text and ": " before e->msg; returns false. */
PRINTF(2, 3) bool err_wrap(struct err *e, const char *fmt, ...);

/* Say what the user can do next, unless somebody closer to the cause has; returns false. */
PRINTF(2, 3) bool err_next(struct err *e, const char *fmt, ...);

/* The compiler is told that they return false: it then knows that nobody looks at the out
 * parameters of a function that failed, and warns of those that are looked at. */
#define ERR_FALSE(call) \
    __extension__({ \
        (void)(call); \
        false; \
    })
#define err_set(...)  ERR_FALSE(err_set(__VA_ARGS__))
#define err_wrap(...) ERR_FALSE(err_wrap(__VA_ARGS__))
#define err_next(...) ERR_FALSE(err_next(__VA_ARGS__))

/* The name of a kind as logs, JSON and the control protocol write it ("sys", "nbd"). */
const char *err_kind_name(enum err_kind kind);

/* The kind of that name; ERR_PEER for a name that is not ours. */
enum err_kind err_kind_parse(const char *name);

#endif
