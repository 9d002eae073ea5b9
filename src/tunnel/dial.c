/* ssh, the words it says, and the link over its stdin and stdout. */
#include "tunnel/dial.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cancel.h"
#include "base/mem.h"
#include "tunnel/sshcmd.h"
#include "tunnel/words.h"

enum {
    CONNECT_S = 15,
    GREET_BATCH_MS = 20000, /* beyond ConnectTimeout: authenticate, start the agent */
    GREET_ASK_MS = 300000,  /* the same with a person who types a password */
    SHOW_MS = 2000,         /* ssh -G */
    END_MS = 2000,
    NOT_FOUND = 127,  /* exit status of a shell that knows no such command */
    SSH_FAILED = 255, /* ssh's own, ssh(1) */
};

struct dial {
    struct proc ssh;
    struct words *words;
    struct link *link;
};

/* --- ciphers --- */

static bool cpu_has_aes(void)
{
    char line[8192];
    FILE *const f = fopen("/proc/cpuinfo", "re");
    bool found = false;

    if (f == NULL)
        return false;
    while (!found && fgets(line, sizeof line, f) != NULL)
        found = (strncmp(line, "flags", 5) == 0 || strncmp(line, "Features", 8) == 0) &&
                strstr(line, " aes ") != NULL;
    fclose(f);
    return found;
}

static bool ciphers_of(const char *const *argv, char out[1024])
{
    char text[16384];
    struct err e = { 0 };

    if (!proc_run(argv, SHOW_MS, text, sizeof text, &e))
        return false;
    const char *const at = strstr(text, "\nciphers ");
    return at != NULL && sscanf(at, "\nciphers %1023s", out) == 1;
}

/* AES-GCM is the fastest where the CPU does AES (18 s against 27 s for 4 GiB);
 * whoever chose ciphers keeps them. */
static bool prefer_aes(const char *words, const struct dest *dest)
{
    const struct sshcmd_opts o = { .connect_s = CONNECT_S,
                                   .batch = true,
                                   .show = true };
    char configured[1024], built_in[1024];
    struct sshcmd c;
    struct err e = { 0 };

    if (!cpu_has_aes() || !sshcmd_words(words, &c, &e) ||
        !sshcmd_finish(&c, dest, &o, &e))
        return false;
    const char *const bare[] = {
        c.argv[0], "-F", "/dev/null", "-G", "localhost", NULL
    };
    return ciphers_of(c.argv, configured) && ciphers_of(bare, built_in) &&
           strcmp(configured, built_in) == 0;
}

/* --- start --- */

static bool have_terminal(void)
{
    const int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static bool make_pipe(int out[2], struct err *e)
{
    return pipe2(out, O_CLOEXEC) == 0 ? true : err_set(e, ERR_SYS, errno, "pipe");
}

/* *in and *out: the link's ends of ssh's stdout and stdin. */
static bool spawn(struct dial *d, const struct sshcmd *cmd, bool terminal, int *in,
                  int *out, struct err *e)
{
    int to[2], from[2], words[2];

    if (!make_pipe(to, e))
        return false;
    AUTO(fd_close) int to_r = to[0];
    AUTO(fd_close) int to_w = to[1];
    if (!make_pipe(from, e))
        return false;
    AUTO(fd_close) int from_r = from[0];
    AUTO(fd_close) int from_w = from[1];
    if (!make_pipe(words, e))
        return false;
    AUTO(fd_close) int words_w = words[1];
    if (!words_new(words[0], &d->words, e))
        return false;

    /* At a terminal ssh stays in our process group, or it could not ask there; a Ctrl-C
     * must not end it before we have undone what is to be undone. */
    const struct proc_cfg cfg = { .argv = cmd->argv,
                                  .in = to_r,
                                  .out = from_w,
                                  .err = words_w,
                                  .death_signal = SIGTERM,
                                  .new_session = !terminal,
                                  .ignore_terminal = true };
    if (!proc_spawn(&cfg, &d->ssh, e))
        return false;
    *in = fd_steal(&from_r);
    *out = fd_steal(&to_w);
    return true;
}

/* --- why it did not work --- */

static bool not_installed(const struct dest *dest, const char *cause, struct err *e)
{
    err_set(e, ERR_CONNECT, 0, "snmigrate is not installed on %s%s%s%s", dest->host,
            cause[0] != '\0' ? " (" : "", cause, cause[0] != '\0' ? ")" : "");
    return err_next(e, "Install the same snmigrate package on %s, in root's PATH.",
                    dest->host);
}

static bool is_noisy(const struct dest *dest, struct err *e)
{
    const char *const user = dest->user[0] != '\0' ? dest->user : "the user";

    err_wrap(e, "%s", dest->host);
    return err_next(e,
                    "Make the login shell of %s on %s print nothing when ssh runs a "
                    "command.",
                    user, dest->host);
}

static bool ssh_failed(const struct dest *dest, const char *cause, int status,
                       struct err *e)
{
    const char *const colon = cause[0] != '\0' ? ": " : "";

    if (WIFSIGNALED(status))
        err_set(e, ERR_CONNECT, 0,
                "cannot connect to %s: ssh was killed by signal %d%s%s", dest->host,
                WTERMSIG(status), colon, cause);
    else if (WEXITSTATUS(status) == SSH_FAILED)
        err_set(e, ERR_CONNECT, 0, "cannot connect to %s%s%s", dest->host, colon,
                cause);
    else
        err_set(e, ERR_CONNECT, 0, "the agent on %s ended with status %d%s%s",
                dest->host, WEXITSTATUS(status), colon, cause);
    char port[16] = "";
    if (dest->port != 0)
        snprintf(port, sizeof port, "-p %u ", dest->port);
    return err_next(e, "Try it by hand: ssh %s%s%s%s snmigrate --version", port,
                    dest->user, dest->user[0] != '\0' ? "@" : "", dest->host);
}

/* What ssh said and how it ended is the cause; the link only saw the end of a pipe. */
static bool explain(struct dial *d, const struct dest *dest, struct err *e)
{
    const enum err_kind seen = e->kind;
    char cause[WORDS_LEN];
    int status = 0;
    struct err late;

    /* ssh ends by itself, the link has closed its stdin; unless it still connects. */
    if (seen == ERR_CANCELLED || seen == ERR_TIMEOUT ||
        !proc_wait(&d->ssh, END_MS, &status, &late)) {
        proc_stop(&d->ssh, END_MS);
        status = -1;
    }
    words_end(d->words, cause);
    if (seen == ERR_CANCELLED)
        return false;
    if ((status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == NOT_FOUND) ||
        strstr(cause, "command not found") != NULL)
        return not_installed(dest, cause, e);
    if (seen == ERR_PROTO)
        return is_noisy(dest, e);
    if (status >= 0)
        return ssh_failed(dest, cause, status, e);
    e->kind = ERR_CONNECT;
    return err_wrap(e, "cannot connect to %s%s%s", dest->host,
                    cause[0] != '\0' ? ": " : "", cause);
}

/* --- life --- */

/* An agent on this host, for what its own journals say. */
static bool local_open(const struct dial_cfg *cfg, const struct cancel *cancel,
                       struct dial **out, struct err *e)
{
    AUTO(dial_close) struct dial *d = calloc(1, sizeof *d);
    const struct sshcmd cmd = { .argv = { "/proc/self/exe", "agent", NULL } };
    int in, pipe_out;

    if (d == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "cannot start an agent");
    d->ssh = (struct proc)PROC_NONE;
    if (!spawn(d, &cmd, false, &in, &pipe_out, e))
        return false;
    const struct link_cfg link = {
        .in = in, .out = pipe_out, .rate = cfg->rate, .heartbeat_ms = cfg->heartbeat_ms
    };
    if (!link_open(&link, GREET_BATCH_MS, cancel, &d->link, e))
        return err_wrap(e, "the agent on this host");
    *out = ptr_steal(&d);
    return true;
}

static int patience_ms(int connect_s, bool terminal)
{
    return terminal ? GREET_ASK_MS : connect_s * 1000 + GREET_BATCH_MS;
}

bool dial_open(const struct dial_cfg *cfg, const struct cancel *cancel,
               struct dial **out, struct err *e)
{
    AUTO(dial_close) struct dial *d = calloc(1, sizeof *d);
    const char *const words = cfg->ssh != NULL ? cfg->ssh : "ssh";
    const bool terminal = have_terminal();
    struct sshcmd_opts o = { .connect_s =
                                 cfg->connect_s > 0 ? cfg->connect_s : CONNECT_S,
                             .batch = !terminal };
    struct sshcmd cmd;
    int in, pipe_out;

    if (cfg->dest == NULL)
        return local_open(cfg, cancel, out, e);
    if (d == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "cannot start ssh");
    d->ssh = (struct proc)PROC_NONE;
    if (!sshcmd_words(words, &cmd, e))
        return false;
    o.aes = prefer_aes(words, cfg->dest);
    if (!sshcmd_finish(&cmd, cfg->dest, &o, e) ||
        !spawn(d, &cmd, terminal, &in, &pipe_out, e))
        return false;
    const struct link_cfg link = {
        .in = in, .out = pipe_out, .rate = cfg->rate, .heartbeat_ms = cfg->heartbeat_ms
    };
    if (!link_open(&link, patience_ms(o.connect_s, terminal), cancel, &d->link, e))
        return explain(d, cfg->dest, e);
    *out = ptr_steal(&d);
    return true;
}

struct link *dial_link(struct dial *d)
{
    return d->link;
}

void dial_kill(struct dial *d)
{
    /* The process is reaped in dial_close() only, so the pid is still its own. */
    kill(d->ssh.pid, SIGKILL);
}

void dial_close(struct dial *d)
{
    struct err e;
    int status;

    if (d == NULL)
        return;
    link_close(d->link);
    if (d->ssh.pid != 0 && !proc_wait(&d->ssh, END_MS, &status, &e))
        proc_stop(&d->ssh, END_MS);
    words_free(d->words);
    free(d);
}

void dial_close_auto(struct dial **d)
{
    dial_close(*d);
}
