#include "tunnel/dial.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"
#include "tunnel/sshcmd.h"

enum {
    CONNECT_S = 15,
    GREET_BATCH_MS = 30000, /* connect, authenticate, start the agent */
    GREET_ASK_MS = 300000,  /* the same with a person who types a password */
    SHOW_MS = 5000,         /* ssh -G */
    END_MS = 2000,
    DRAIN_MS = 500, /* for the last words on stderr */
    CAUSE_LEN = 300,
    NOT_FOUND = 127, /* exit status of a shell that knows no such command */
    SSH_FAILED = 255,
};

struct dial {
    struct proc ssh;
    struct link *link;
    int err_fd; /* ssh's stderr, read by ->reader */
    pthread_t reader;
    bool reading;
    pthread_mutex_t lock;
    char cause[CAUSE_LEN]; /* the newest line that ssh itself wrote; under lock */
};

/* --- what ssh says --- */

/* The agent's own lines begin with a time; everything else is ssh's or the shell's. */
static bool is_agent_line(const char *s)
{
    return strlen(s) > 13 && s[2] == ':' && s[5] == ':' && s[8] == '.';
}

/* ssh adds words that tell nothing of the cause. */
static bool is_noise(const char *s)
{
    return s[0] == '\0' || strncmp(s, "Warning: Permanently added", 26) == 0 ||
           strncmp(s, "Killed by signal", 16) == 0 ||
           strncmp(s, "Connection to ", 14) == 0 || strspn(s, "@") == strlen(s);
}

static void take_line(struct dial *d, char *line)
{
    line[strcspn(line, "\r\n")] = '\0';
    if (is_agent_line(line)) {
        log_foreign("dst", line);
        return;
    }
    if (is_noise(line))
        return;
    log_debug("ssh", "%s", line);
    LOCK_SCOPE(&d->lock);
    /* The first words about a changed or unknown key tell more than the last. */
    if (strstr(d->cause, "IDENTIFICATION") == NULL)
        log_clean(d->cause, sizeof d->cause, line);
}

static void *read_stderr(void *arg)
{
    struct dial *const d = arg;
    FILE *const f = fdopen(d->err_fd, "r");
    char line[2048];

    if (f == NULL)
        return NULL;
    while (fgets(line, sizeof line, f) != NULL)
        take_line(d, line);
    fclose(f);
    return NULL;
}

/* --- ciphers --- */

static bool cpu_has_aes(void)
{
    char line[8192];
    FILE *const f = fopen("/proc/cpuinfo", "re");
    bool found = false;

    if (f == NULL)
        return false;
    while (!found && fgets(line, sizeof line, f) != NULL)
        found = strncmp(line, "flags", 5) == 0 && strstr(line, " aes ") != NULL;
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

/* AES-GCM is the fastest where the CPU does AES (18 s against 27 s for 4 GiB, DESIGN);
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

/* --- start and end --- */

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
    AUTO(fd_close) int words_r = words[0];
    AUTO(fd_close) int words_w = words[1];
    const struct proc_cfg cfg = { .argv = cmd->argv,
                                  .in = to_r,
                                  .out = from_w,
                                  .err = words_w,
                                  .death_signal = SIGTERM,
                                  .new_session = !terminal,
                                  .ignore_terminal = true };
    if (!proc_spawn(&cfg, &d->ssh, e))
        return false;
    d->err_fd = fd_steal(&words_r);
    const int os = pthread_create(&d->reader, NULL, read_stderr, d);
    if (os != 0)
        return err_set(e, ERR_SYS, os, "cannot start a thread");
    d->reading = true;
    *in = fd_steal(&from_r);
    *out = fd_steal(&to_w);
    return true;
}

/* What ssh itself said and how it ended is the cause; the link only saw end of file. */
static bool explain(struct dial *d, const struct dest *dest, struct err *e)
{
    int status = 0;
    struct err we = { 0 };
    char cause[CAUSE_LEN];

    if (e->kind == ERR_CANCELLED || !proc_wait(&d->ssh, END_MS, &status, &we))
        return false;
    clock_sleep_ms(DRAIN_MS / 10); /* its last words may still be in the pipe */
    pthread_mutex_lock(&d->lock);
    memcpy(cause, d->cause, sizeof cause);
    pthread_mutex_unlock(&d->lock);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_FOUND) {
        err_set(e, ERR_CONNECT, 0, "snmigrate is not installed on %s%s%s%s", dest->host,
                cause[0] != '\0' ? " (" : "", cause, cause[0] != '\0' ? ")" : "");
        return err_next(e, "Install the same snmigrate package on %s, in root's PATH.",
                        dest->host);
    }
    if (e->kind == ERR_PROTO)
        return false;
    err_set(e, ERR_CONNECT, 0, "cannot connect to %s: %s", dest->host,
            cause[0] != '\0' ? cause : "ssh ended without a word");
    return err_next(e, "Try it by hand: ssh %s%s%s snmigrate --version", dest->user,
                    dest->user[0] != '\0' ? "@" : "", dest->host);
}

bool dial_open(const struct dial_cfg *cfg, const struct cancel *cancel,
               struct dial **out, struct err *e)
{
    AUTO(dial_close) struct dial *d = calloc(1, sizeof *d);
    const bool terminal = have_terminal();
    struct sshcmd cmd;
    struct sshcmd_opts o = { .connect_s =
                                 cfg->connect_s != 0 ? cfg->connect_s : CONNECT_S,
                             .batch = !terminal };
    int in, pipe_out;

    if (d == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "cannot start ssh");
    pthread_mutex_init(&d->lock, NULL);
    d->ssh = (struct proc)PROC_NONE;
    d->err_fd = -1;
    const char *const words = cfg->ssh != NULL ? cfg->ssh : "ssh";
    if (!sshcmd_words(words, &cmd, e))
        return false;
    o.aes = prefer_aes(words, cfg->dest);
    if (!sshcmd_finish(&cmd, cfg->dest, &o, e) ||
        !spawn(d, &cmd, terminal, &in, &pipe_out, e))
        return false;
    const struct link_cfg link = {
        .in = in, .out = pipe_out, .rate = cfg->rate, .heartbeat_ms = cfg->heartbeat_ms
    };
    if (!link_open(&link, terminal ? GREET_ASK_MS : GREET_BATCH_MS, cancel, &d->link,
                   e))
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
    struct err e = { 0 };
    int status;

    if (d == NULL)
        return;
    link_close(d->link);
    if (d->ssh.pid != 0 && !proc_wait(&d->ssh, END_MS, &status, &e))
        proc_stop(&d->ssh, END_MS);
    if (d->reading)
        pthread_join(d->reader, NULL);
    else if (d->err_fd >= 0)
        close(d->err_fd);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

void dial_close_auto(struct dial **d)
{
    dial_close(*d);
}
