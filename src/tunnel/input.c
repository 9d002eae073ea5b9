/* The receiving side of the pipe.  What a client hears first must be the greeting of an
 * agent: a shell, a message of the day or another program in its place is named in the
 * error by what it said. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "tunnel/link-int.h"

enum { NOISE_MS = 300 }; /* to hear the rest of what is no greeting */

/* --- the greeting of a server --- */

/* The peer's first frame must be SETTINGS: 3 bytes of length, type 4, no flag, stream 0.
 * Any text that a shell prints differs in the first byte. */
static bool greeting_is_good(const struct link *l)
{
    static const uint8_t want[9] = { 0, 0, 0, 4 };

    for (unsigned i = 0; i < l->nfirst && i < sizeof want; i++)
        if (i != 1 && i != 2 && l->first[i] != want[i])
            return false;
    return true;
}

static void greeting_keep(struct link *l, const uint8_t *p, size_t n)
{
    const size_t room = sizeof l->first - l->nfirst;

    memcpy(l->first + l->nfirst, p, n < room ? n : room);
    l->nfirst += (unsigned)(n < room ? n : room);
}

static void greeting_bad(struct link *l, struct err *e)
{
    const int64_t end = clock_ms() + NOISE_MS;
    struct pollfd p = { .fd = l->in, .events = POLLIN };
    char text[sizeof l->first + 1], clean[4 * sizeof text];
    size_t len = 0;
    uint8_t more[sizeof l->first];

    while (l->nfirst < sizeof l->first && poll(&p, 1, clock_left_ms(end)) == 1) {
        const ssize_t n = read(l->in, more, sizeof more);

        if (n <= 0)
            break;
        greeting_keep(l, more, (size_t)n);
    }
    /* Its first line, before what an agent may have said. */
    for (unsigned i = 0; i < l->nfirst && (len == 0 || l->first[i] >= ' '); i++)
        if (l->first[i] >= ' ')
            text[len++] = (char)l->first[i];
    text[len] = '\0';
    err_set(e, ERR_PROTO, 0, "the peer is not an snmigrate agent, it said \"%s\"",
            log_clean(clean, sizeof clean, text));
}

/* --- the pipe --- */

static bool input_end(struct link *l, struct err *e)
{
    if (l->bye_received || l->bye_sent) {
        link_end(l);
        return true;
    }
    if (l->state == LINK_GREETING && l->nfirst > 0) {
        greeting_bad(l, e);
        return false;
    }
    return err_set(e, ERR_LINK, 0, "the peer closed the connection%s",
                   l->state == LINK_GREETING ? " before it said a word" : "");
}

bool input_turn(struct link *l, struct err *e)
{
    if (!fault_point("tunnel.recv", e)) {
        e->kind = ERR_LINK; /* as if the network had done it */
        return err_wrap(e, "receiving");
    }

    const ssize_t n = read(l->in, l->inbuf, INBUF);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n < 0)
        return err_set(e, ERR_LINK, errno, "receiving from the peer");
    if (n == 0)
        return input_end(l, e);

    l->last_rx_ms = clock_ms();
    atomic_fetch_add(&l->received, (uint64_t)n);
    if (l->state == LINK_GREETING && !l->server) {
        greeting_keep(l, l->inbuf, (size_t)n);
        if (!greeting_is_good(l)) {
            greeting_bad(l, e);
            return false;
        }
    }
    return session_input(l, l->inbuf, (size_t)n, e);
}
