/* The connect phase: the source's libvirt, the lock, the tunnel, the destination's libvirt.
 * Nothing of the VM is changed on either host. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"
#include "base/version.h"
#include "migrate/ctl.h"
#include "migrate/move-int.h"

enum {
    LOCK_WAIT_MS = 20000, /* for a guard to be through */
    LOCK_BUSY_MS = 1000,  /* for an snmigrate that is about to end */
    AGAIN_S = 5,          /* for ssh to connect when only the undo waits for it */
};

static bool no_domain(const struct move *m, struct err *e)
{
    char shown[300];

    err_set(e, ERR_REFUSED, 0, "there is no domain '%s' on this host",
            log_clean(shown, sizeof shown, m->cfg->domain));
    return err_next(e, "See what is there with: virsh list --all");
}

static bool find_domain(struct move *m, struct err *e)
{
    if (!virt_init(e))
        return false;
    if (!virt_open(m->cfg->connect, &m->src, e)) {
        e->kind = ERR_CONNECT;
        err_wrap(e, "cannot connect to libvirt on this host");
        return err_next(e, "Is libvirtd running, and are you root?");
    }
    if (!vdom_find(m->src, m->cfg->domain, &m->dom, e))
        return false;
    if (m->dom == NULL)
        return no_domain(m, e);
    return vdom_facts(m->dom, &m->facts, e) && virt_host(m->src, &m->src_host, e);
}

static bool find_again(struct move *m, struct err *e)
{
    vdom_free(m->dom);
    m->dom = NULL;
    if (!vdom_find_uuid(m->src, m->facts.uuid, &m->dom, e))
        return false;
    return m->dom != NULL ? vdom_facts(m->dom, &m->facts, e) : no_domain(m, e);
}

static void lock_path(const struct move *m, char out[PATHS_MAX])
{
    snprintf(out, PATHS_MAX, PATHS_RUN "/%s.lock", m->facts.uuid);
}

/* Whether @path still names what @fd has open: its last holder removed it otherwise. */
static bool same_file(const char *path, int fd)
{
    struct stat a, b;

    return stat(path, &a) == 0 && fstat(fd, &b) == 0 && a.st_ino == b.st_ino &&
           a.st_dev == b.st_dev;
}

/* Who holds the lock is an snmigrate that lives: it has a record lock, which a guard does
 * not inherit. */
static bool holder_moves(int fd)
{
    struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

    return fcntl(fd, F_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

/* *out stays -1 while another process holds the lock. */
static bool try_lock(const char *path, int *out, bool *moves, struct err *e)
{
    AUTO(fd_close) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    const struct flock mine = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

    if (fd < 0)
        return err_set(e, ERR_SYS, errno, "cannot open %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        if (!same_file(path, fd))
            return true;
        if (fcntl(fd, F_SETLK, &mine) < 0)
            return err_set(e, ERR_SYS, errno, "cannot lock %s", path);
        *out = fd_steal(&fd);
        return true;
    }
    if (errno != EWOULDBLOCK)
        return err_set(e, ERR_SYS, errno, "cannot lock %s", path);
    *moves = holder_moves(fd);
    return true;
}

/* The guard inherits the lock and keeps it while it tidies up after a killed snmigrate: wait
 * for that a little. */
bool connect_lock(struct move *m, struct err *e)
{
    char path[PATHS_MAX];
    const int64_t start = clock_ms();
    bool moves = false;

    lock_path(m, path);
    if (!dir_private(PATHS_RUN, e))
        return false;
    while (try_lock(path, &m->lock_fd, &moves, e)) {
        if (m->lock_fd >= 0)
            return true;
        if (clock_ms() - start >= (moves ? LOCK_BUSY_MS : LOCK_WAIT_MS)) {
            err_set(e, ERR_REFUSED, 0, "another snmigrate is moving '%s'",
                    m->facts.name);
            return err_next(
                e, "See it: snmigrate status %.90s; to end it: snmigrate abort %.90s.",
                m->facts.name, m->facts.name);
        }
        if (!cancel_sleep_ms(m->user, 200, e))
            return false;
    }
    return false;
}

void connect_unlock(struct move *m)
{
    char path[PATHS_MAX];

    if (m->lock_fd < 0)
        return;
    lock_path(m, path);
    /* While it is ours: who waits sees another file, and tries again.  A guard that was
     * left to itself holds it too, and removes it when it is through. */
    if (m->guard == NULL)
        unlink(path);
    close(m->lock_fd);
    m->lock_fd = -1;
}

/* After the release, and for an undo, the user's wish to stop has to wait. */
static const struct cancel *may_cancel(const struct move *m)
{
    return m->released || m->failed_in != 0 ? NULL : m->user;
}

static bool greet(struct move *m, struct err *e)
{
    AUTO(json_put) struct json_object *r = NULL;
    const char *version;
    uint64_t protocol, uid;

    if (!link_call(m->link, "GET", "/agent", NULL, CALL_MS, may_cancel(m), &r, e) ||
        !json_get_str(r, "version", &version, e) ||
        !json_get_u64(r, "protocol", &protocol, e) || !json_get_u64(r, "uid", &uid, e))
        return false;
    if (protocol != AGENT_PROTOCOL) {
        err_set(e, ERR_REFUSED, 0,
                "snmigrate %s on %s speaks protocol %llu, this one (%s) speaks %d",
                version, m->cfg->dest.host, (unsigned long long)protocol,
                SNMIGRATE_VERSION, AGENT_PROTOCOL);
        return err_next(e, "Install the same version on both hosts.");
    }
    if (uid != 0) {
        err_set(e, ERR_REFUSED, 0, "the agent on %s does not run as root",
                m->cfg->dest.host);
        return err_next(e, "Use root@%s.", m->cfg->dest.host);
    }
    return true;
}

static bool dial(struct move *m, struct err *e)
{
    const struct dial_cfg cfg = { .dest = &m->cfg->dest,
                                  .ssh = m->cfg->ssh,
                                  .connect_s = m->failed_in != 0 ? AGAIN_S : 0,
                                  .rate = move_rate(m) };
    struct dial *d = NULL;

    if (!dial_open(&cfg, may_cancel(m), &d, e))
        return false;
    pthread_mutex_lock(&m->lock);
    m->dial = d;
    m->link = dial_link(d);
    link_set_rate(m->link, move_rate(m)); /* it may have been changed meanwhile */
    pthread_mutex_unlock(&m->lock);
    return greet(m, e);
}

bool connect_redial(struct move *m, struct err *e)
{
    virt_close(m->dst);
    m->dst = NULL;
    proxy_stop(m->proxy);
    m->proxy = NULL;
    pthread_mutex_lock(&m->lock);
    struct dial *const old = m->dial;
    struct link_stats st = { 0 };
    if (old != NULL)
        link_stats(m->link, &st);
    m->sent_before += st.sent;
    m->received_before += st.received;
    m->dial = NULL;
    m->link = NULL;
    pthread_mutex_unlock(&m->lock);
    dial_close(old);
    return dial(m, e);
}

/* virConnectOpen waits for ever where a libvirt takes the connection and says nothing. */
bool connect_by_proxy(struct move *m, const char *path, struct virt **out,
                      struct err *e)
{
    atomic_store(&m->answer_by_ms, clock_ms() + CALL_MS);
    const bool ok = virt_open_socket(path, out, e);
    atomic_store(&m->answer_by_ms, 0);
    return ok || !cancel_is_set(m->user) ? ok : cancel_check(m->user, e);
}

void connect_proxy_path(const struct move *m, char path[CONNECT_PROXY_PATH_MAX])
{
    snprintf(path, CONNECT_PROXY_PATH_MAX, "%s/libvirt.sock", m->run_dir);
}

bool connect_dst_libvirt(struct move *m, struct err *e)
{
    char path[CONNECT_PROXY_PATH_MAX];

    connect_proxy_path(m, path);
    if (!proxy_start(m->link, path, &m->proxy, e))
        return false;
    if (!connect_by_proxy(m, path, &m->dst, e)) {
        if (e->kind == ERR_CANCELLED)
            return false;
        e->kind = ERR_CONNECT;
        err_wrap(e, "cannot connect to libvirt on %s", m->cfg->dest.host);
        return err_next(e, "Is libvirtd running on %s?", m->cfg->dest.host);
    }
    return virt_host(m->dst, &m->dst_host, e);
}

bool connect_again(struct move *m, struct err *e)
{
    char path[CONNECT_PROXY_PATH_MAX];

    connect_proxy_path(m, path);
    return connect_redial(m, e) && proxy_start(m->link, path, &m->proxy, e);
}

bool connect_run(struct move *m, struct err *e)
{
    move_enter(m, MOVE_CONNECT);
    if (!find_domain(m, e) || !connect_lock(m, e) || !earlier_settle(m, e))
        return false;
    ctl_tidy(m->facts.uuid);
    /* Another move may have ended while we waited for the lock, and taken it away. */
    if (!find_again(m, e) || !dir_private(m->run_dir, e) || !ctl_start(m, e))
        return false;
    if (!fault_point("connect", e) || !dial(m, e))
        return false;
    return connect_dst_libvirt(m, e);
}

void connect_close(struct move *m)
{
    virt_close(m->dst);
    m->dst = NULL;
    proxy_stop(m->proxy);
    m->proxy = NULL;
    pthread_mutex_lock(&m->lock);
    struct dial *const d = m->dial;
    m->dial = NULL;
    m->link = NULL;
    pthread_mutex_unlock(&m->lock);
    dial_close(d);
    vdom_free(m->dom);
    m->dom = NULL;
    virt_close(m->src);
    m->src = NULL;
    dir_remove(m->run_dir);
    connect_unlock(m);
    ctl_stop(m);
}
