/* What bulk channels of the tunnel carry, and how calls and small messages fare beside them.
 *
 *   tunnel-rate serve                      the far end, on stdin and stdout
 *   tunnel-rate plain [--mib N] CMD...     without a tunnel: start CMD, which says a line,
 *                                          reads to the end and says another one
 *   tunnel-rate send [OPTION]... CMD...    start CMD, which is "serve" somewhere; send; print
 *                                          an object with what came of it
 *     --mib N      for each stream (256)        --streams N   bulk channels at once (1)
 *     --zstd WORD  auto, off, mixed: the first auto, the others off (auto)
 *     --data WORD  noise, text: shrinks (noise); mixed: the first text, the others noise
 *     --rate N     bytes per second (no limit)
 *
 * A stream is over when the far end has read all of it.  Meanwhile a call is made every
 * 50 ms, and a message goes to and fro on a talk channel.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/unix.h"
#include "tunnel/link.h"

enum {
    STREAMS = 16,
    BLOCK = 1 << 20,
    DATA = 64 << 20,
    PAUSE_MS = 50,
    LONG_MS = 600000
};

static void must(bool ok, const struct err *e)
{
    if (ok)
        return;
    fprintf(stderr, "tunnel-rate: %s\n", e->msg);
    exit(1);
}

/* --- the far end --- */

/* "sink": read to the end, then close.  "echo": give back what comes. */
struct service {
    int fd;
    bool echo;
};

static void *service_main(void *arg)
{
    struct service *const s = arg;
    char *const buf = malloc(BLOCK);
    ssize_t n;
    struct err e;

    while (buf != NULL && (n = recv(s->fd, buf, BLOCK, 0)) > 0)
        if (s->echo && !fd_write_all(s->fd, buf, (size_t)n, &e))
            break;
    close(s->fd);
    free(buf);
    free(s);
    return NULL;
}

static bool channel(void *ctx, const char *path, int *fd, struct err *e)
{
    struct service *const s = calloc(1, sizeof *s);
    pthread_t t;
    int pair[2];

    (void)ctx;
    if (s == NULL || !unix_pair(pair, e))
        return err_set(e, ERR_SYS, 0, "no memory");
    *s = (struct service){ pair[0], strcmp(path, "echo") == 0 };
    *fd = pair[1];
    if (pthread_create(&t, NULL, service_main, s) != 0)
        return err_set(e, ERR_SYS, 0, "no thread");
    pthread_detach(t);
    return true;
}

static bool request(void *ctx, const char *method, const char *path,
                    struct json_object *body, struct json_object **reply, struct err *e)
{
    (void)ctx, (void)method, (void)path, (void)body, (void)reply, (void)e;
    return true;
}

static int serve(void)
{
    const struct link_server_ops ops = { request, channel, NULL };
    const struct link_cfg cfg = { .in = 0, .out = dup(1), .server = &ops };
    struct link *l;
    struct err e;

    must(link_open(&cfg, 0, NULL, &l, &e), &e);
    const bool ok = link_wait(l, &e);
    link_close(l);
    return ok ? 0 : 1;
}

/* --- the near end --- */

struct stream {
    struct link *link;
    const uint8_t *data;
    uint64_t bytes;
    int zstd;
    int64_t ms; /* out */
    pthread_t thread;
};

static void *stream_main(void *arg)
{
    struct stream *const s = arg;
    const int64_t start = clock_ms();
    struct err e;
    int fd;
    char c;

    must(link_channel_pair(s->link, "sink", LINK_BULK, s->zstd, &fd, &e), &e);
    for (uint64_t at = 0; at < s->bytes; at += BLOCK)
        must(fd_write_all(fd, s->data + at % DATA, BLOCK, &e), &e);
    shutdown(fd, SHUT_WR);
    if (recv(fd, &c, 1, 0) != 0) {
        fprintf(stderr, "tunnel-rate: the stream was cut off\n");
        exit(1);
    }
    s->ms = clock_ms() - start;
    close(fd);
    return NULL;
}

/* Calls and messages while bulk goes; the worst and the sum of what they took. */
struct probes {
    struct link *link;
    atomic_bool stop;
    int64_t call_ms, talk_ms, call_sum_ms, talk_sum_ms;
    unsigned n;
    pthread_t thread;
};

static void note(int64_t start, int64_t *worst, int64_t *sum)
{
    const int64_t ms = clock_ms() - start;

    *sum += ms;
    *worst = ms > *worst ? ms : *worst;
}

static void *probes_main(void *arg)
{
    struct probes *const p = arg;
    char msg[100] = "x", back[sizeof msg];
    struct err e;
    int fd;

    must(link_channel_pair(p->link, "echo", LINK_TALK, ZSTD_OFF, &fd, &e), &e);
    while (!atomic_load(&p->stop)) {
        int64_t start = clock_ms();

        must(link_call(p->link, "GET", "/agent", NULL, LONG_MS, NULL, NULL, &e), &e);
        note(start, &p->call_ms, &p->call_sum_ms);
        start = clock_ms();
        must(fd_write_all(fd, msg, sizeof msg, &e), &e);
        must(fd_read_all(fd, back, sizeof back, &e), &e);
        note(start, &p->talk_ms, &p->talk_sum_ms);
        p->n++;
        clock_sleep_ms(PAUSE_MS);
    }
    close(fd);
    return NULL;
}

/* What no compression makes smaller, or what it makes a third of. */
static uint8_t *data_make(bool text)
{
    uint8_t *const p = malloc(DATA);
    uint64_t x = 88172645463325252u;

    for (size_t i = 0; p != NULL && i < DATA; i += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        const uint64_t v = text && (i >> 5) % 3 != 0 ? 0x2065687420666f20u : x;
        memcpy(p + i, &v, 8);
    }
    return p;
}

struct plan {
    unsigned streams;
    uint64_t mib, rate;
    const char *zstd, *data;
};

static void report(const struct plan *plan, const struct stream *s, struct link *l,
                   const struct probes *p)
{
    struct json_object *const o = json_new(), *const ms = json_object_new_array();
    struct link_stats st;
    int64_t all = 1;

    for (unsigned i = 0; i < plan->streams; i++) {
        json_object_array_add(ms, json_object_new_int64(s[i].ms));
        all = s[i].ms > all ? s[i].ms : all;
    }
    link_stats(l, &st);
    json_add_u64(o, "bytes", plan->streams * (plan->mib << 20));
    json_add_u64(o, "ms", (uint64_t)all);
    json_add_obj(o, "stream_ms", ms);
    json_add_u64(o, "sent", st.sent);
    json_add_u64(o, "level", (uint64_t)(st.level + 100)); /* from -5 on */
    json_add_u64(o, "probes", p->n);
    json_add_u64(o, "call_worst_ms", (uint64_t)p->call_ms);
    json_add_u64(o, "talk_worst_ms", (uint64_t)p->talk_ms);
    json_add_f(o, "call_mean_ms", p->n > 0 ? (double)p->call_sum_ms / p->n : 0);
    json_add_f(o, "talk_mean_ms", p->n > 0 ? (double)p->talk_sum_ms / p->n : 0);
    printf("%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
    json_object_put(o);
}

/* A child with pipes as its stdin and stdout, as dial.c has them; our ends. */
static void start(char **argv, struct proc *out, int *in, int *to)
{
    int there[2], back[2];
    struct err e;

    must(pipe2(there, O_CLOEXEC) == 0 && pipe2(back, O_CLOEXEC) == 0,
         &(struct err){ .msg = "pipe" });
    const struct proc_cfg cfg = {
        .argv = (const char *const *)argv, .in = there[0], .out = back[1], .err = -1
    };
    must(proc_spawn(&cfg, out, &e), &e);
    close(there[0]);
    close(back[1]);
    *to = there[1];
    *in = back[0];
}

static struct link *dial(char **argv, uint64_t rate, struct proc *ssh)
{
    struct link_cfg link = { .rate = rate };
    struct link *l;
    struct err e;

    start(argv, ssh, &link.in, &link.out);

    must(link_open(&link, LONG_MS, NULL, &l, &e), &e);
    return l;
}

static int send_plain(const struct plan *plan, char **argv)
{
    uint8_t *const noise = data_make(false);
    struct proc ssh = PROC_NONE;
    struct err e;
    int in, out;
    char c;

    start(argv, &ssh, &in, &out);
    must(fd_read_all(in, &c, 1, &e), &e);
    const int64_t begin = clock_ms();
    for (uint64_t at = 0; at < plan->mib << 20; at += BLOCK)
        must(fd_write_all(out, noise + at % DATA, BLOCK, &e), &e);
    close(out);
    must(fd_read_all(in, &c, 1, &e), &e);
    printf("{\"bytes\":%llu,\"ms\":%lld}\n", (unsigned long long)plan->mib << 20,
           (long long)(clock_ms() - begin));
    proc_stop(&ssh, 5000);
    free(noise);
    return 0;
}

static int send_all(const struct plan *plan, char **argv)
{
    uint8_t *const noise = data_make(false), *const text = data_make(true);
    const bool mixed = strcmp(plan->data, "mixed") == 0;
    struct stream s[STREAMS];
    struct proc ssh = PROC_NONE;
    struct probes p = { .link = dial(argv, plan->rate, &ssh) };

    for (unsigned i = 0; i < plan->streams; i++) {
        const bool shrinks = mixed ? i == 0 : strcmp(plan->data, "text") == 0;
        const bool packs =
            strcmp(plan->zstd, "mixed") == 0 ? i == 0 : strcmp(plan->zstd, "auto") == 0;

        s[i] = (struct stream){ .link = p.link,
                                .data = shrinks ? text : noise,
                                .bytes = plan->mib << 20,
                                .zstd = packs ? ZSTD_AUTO : ZSTD_OFF };
    }
    pthread_create(&p.thread, NULL, probes_main, &p);
    for (unsigned i = 0; i < plan->streams; i++)
        pthread_create(&s[i].thread, NULL, stream_main, &s[i]);
    for (unsigned i = 0; i < plan->streams; i++)
        pthread_join(s[i].thread, NULL);
    atomic_store(&p.stop, true);
    pthread_join(p.thread, NULL);
    report(plan, s, p.link, &p);
    link_close(p.link);
    proc_stop(&ssh, 5000);
    free(noise);
    free(text);
    return 0;
}

int main(int argc, char **argv)
{
    struct plan plan = { .streams = 1, .mib = 256, .zstd = "auto", .data = "noise" };
    int i = 2;

    log_init(LOG_WARN, "src");
    signal(SIGPIPE, SIG_IGN);
    if (argc == 2 && strcmp(argv[1], "serve") == 0)
        return serve();
    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        const char *const v = argv[i + 1];

        if (strcmp(argv[i], "--mib") == 0)
            plan.mib = strtoull(v, NULL, 10);
        else if (strcmp(argv[i], "--streams") == 0)
            plan.streams = (unsigned)strtoul(v, NULL, 10);
        else if (strcmp(argv[i], "--rate") == 0)
            plan.rate = strtoull(v, NULL, 10);
        else if (strcmp(argv[i], "--zstd") == 0)
            plan.zstd = v;
        else if (strcmp(argv[i], "--data") == 0)
            plan.data = v;
        else
            return 2;
    }
    if (argc > i && strcmp(argv[1], "plain") == 0)
        return send_plain(&plan, argv + i);
    if (argc < 2 || strcmp(argv[1], "send") != 0 || i >= argc || plan.streams < 1 ||
        plan.streams > STREAMS)
        return 2;
    return send_all(&plan, argv + i);
}
