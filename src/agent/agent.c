/* The agent's process: descriptors, signals, the link, the end.
 *
 * Threads: main waits for a signal or the end of the link; the link's session and pool run
 * the requests (route.c); "ram" passes RAM on (hold.c); virt-ev is libvirt's.
 */
#include "agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/route.h"
#include "agent/sandbox.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "tunnel/link.h"
#include "virt/virt.h"

enum { GREET_MS = 30 * 1000 };

/* ssh's pipe becomes the link's alone; nothing else may write into it, ever. */
static bool take_stdio(int *in, int *out, struct err *e)
{
    AUTO(fd_close) int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    *in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    *out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (null < 0 || *in < 0 || *out < 0 || dup2(null, STDIN_FILENO) < 0 ||
        dup2(null, STDOUT_FILENO) < 0)
        return err_set(e, ERR_SYS, errno, "standard input and output");
    return true;
}

/* Signals that mean "go away" are read by main; before any thread exists. */
static bool take_signals(int *fd, struct err *e)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* EFBIG says it, too */
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    *fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return *fd >= 0 ? true : err_set(e, ERR_SYS, errno, "signalfd");
}

/* true: the peer said good-bye. */
static bool wait_end(struct link *link, int signals, struct err *e)
{
    struct pollfd p[] = { { .fd = signals, .events = POLLIN },
                          { .fd = link_lost_fd(link), .events = POLLIN } };

    while (poll(p, 2, -1) < 0)
        ;
    if (p[0].revents != 0)
        return err_set(e, ERR_CANCELLED, 0, "told to end by a signal");
    return link_wait(link, e);
}

bool agent_serve(int in, int out, int signals, const struct guest_ops *ops,
                 struct err *e)
{
    struct arrivals *const s = arrivals_new(ops);
    const struct link_server_ops server = { route_request, route_channel, s };
    const struct link_cfg cfg = { .in = in, .out = out, .server = &server };
    struct link *link = NULL;

    if (s == NULL || !link_open(&cfg, GREET_MS, NULL, &link, e)) {
        if (s == NULL)
            return err_set(e, ERR_SYS, ENOMEM, "agent");
        arrivals_free(s);
        return false;
    }
    const bool ok = wait_end(link, signals, e);
    link_close(link); /* handlers that run come to their end; no more start */
    arrivals_lost(s);
    arrivals_free(s);
    return ok;
}

int agent_main(void)
{
    AUTO(fd_close) int signals = -1;
    int in = -1, out = -1; /* the link's, once it is open */
    struct err e = { 0 };

    umask(077);
    log_init(LOG_DEBUG, "dst"); /* the source shows what it was asked to show */
    if (take_stdio(&in, &out, &e) && take_signals(&signals, &e) && fault_init(&e) &&
        sandbox_enter(&e) && virt_init(&e) &&
        agent_serve(in, out, signals, &guest_libvirt, &e))
        return 0;
    log_line(e.kind == ERR_LINK || e.kind == ERR_CANCELLED ? LOG_INFO : LOG_ERROR,
             "agent", "%s", e.msg);
    return 1;
}
