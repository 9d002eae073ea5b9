#include "base/cancel.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/mem.h"

struct cancel {
    atomic_bool set;
    int fd;
};

struct cancel *cancel_new(void)
{
    AUTO(mem_free) struct cancel *c = calloc(1, sizeof *c);

    if (c == NULL)
        return NULL;
    c->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return c->fd < 0 ? NULL : ptr_steal(&c);
}

void cancel_free(struct cancel *c)
{
    if (c == NULL)
        return;
    close(c->fd);
    free(c);
}

void cancel_free_auto(struct cancel **c)
{
    cancel_free(*c);
}

void cancel_set(struct cancel *c)
{
    const uint64_t one = 1;
    const int os = errno;

    atomic_store(&c->set, true);
    /* Fails only if the counter is full, and then the descriptor is readable anyway. */
    if (write(c->fd, &one, sizeof one) < 0)
        errno = os;
}

bool cancel_is_set(const struct cancel *c)
{
    return c != NULL && atomic_load(&c->set);
}

int cancel_fd(const struct cancel *c)
{
    return c != NULL ? c->fd : -1;
}

bool cancel_check(const struct cancel *c, struct err *e)
{
    return cancel_is_set(c) ? err_set(e, ERR_CANCELLED, 0, "cancelled") : true;
}

bool cancel_sleep_ms(const struct cancel *c, int ms, struct err *e)
{
    const int64_t end = clock_ms() + ms;
    struct pollfd p = { .fd = cancel_fd(c), .events = POLLIN };

    do {
        if (poll(&p, 1, clock_left_ms(end)) < 0 && errno != EINTR)
            return err_set(e, ERR_SYS, errno, "poll");
    } while (!cancel_is_set(c) && clock_ms() < end);
    return cancel_check(c, e);
}
