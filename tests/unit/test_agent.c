/* A whole agent in a process of its own, behind a link, with real images, qemu-nbd and
 * journals, a fake libvirt and a fake QEMU; killed and cut at every step. */
#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libnbd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "agent/agent.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/proc.h"
#include "base/unix.h"
#include "base/version.h"
#include "nbd-mirror/digest-wire.h"
#include "tests/lib/fake-guest.h"
#include "tests/lib/loop.h"
#include "tests/lib/own-state.h"
#include "tests/lib/tmp.h"
#include "tunnel/link.h"

#define UUID "6e1ad2a6-1b7e-4c7a-9d4e-0123456789ab"
#define ID1  "11111111111111111111111111111111"
#define ID2  "22222222222222222222222222222222"

enum { MIB = 1 << 20, SIZE = 4 * MIB, CALL_MS = 60000 };

static struct fake_guest *fake;

/* ---- the agent ------------------------------------------------------------------------------ */

/* The other role of this program: test_agent --agent STATE-FILE */
static int be_agent(const char *file)
{
    struct err e = { 0 };
    const int in = fcntl(0, F_DUPFD_CLOEXEC, 3), out = fcntl(1, F_DUPFD_CLOEXEC, 3);

    signal(SIGPIPE, SIG_IGN);
    log_init(LOG_WARN, "dst");
    fake_guest_map(file);
    return fault_init(&e) && agent_serve(in, out, -1, &fake_guest_ops, &e) ? 0 : 1;
}

struct agent {
    struct proc proc;
    struct link *link;
};

static void agent_start(struct agent *a, const char *fault)
{
    char env[200];
    const char *const argv[] = { "/proc/self/exe", "--agent", tmp_path("guest"), NULL };
    const char *const vars[] = { env, NULL };
    int to[2], from[2];
    struct err e;

    snprintf(env, sizeof env, "SNMIGRATE_FAULT=%s", fault != NULL ? fault : "");
    assert_int_equal(pipe2(to, O_CLOEXEC), 0);
    assert_int_equal(pipe2(from, O_CLOEXEC), 0);
    const struct proc_cfg cfg = {
        .argv = argv, .in = to[0], .out = from[1], .err = -1, .env = vars
    };
    assert_ok(proc_spawn(&cfg, &a->proc, &e), e);
    close(to[0]);
    close(from[1]);
    const struct link_cfg link = { .in = from[0], .out = to[1] };
    assert_ok(link_open(&link, 10000, NULL, &a->link, &e), e);
}

/* The link ends in order or is cut (as far as the agent sees); it does what it has to. */
static void agent_end(struct agent *a)
{
    int status;
    struct err e;

    link_close(a->link);
    assert_ok(proc_wait(&a->proc, 60000, &status, &e), e);
}

static void agent_kill(struct agent *a)
{
    int status;
    struct err e;

    kill(a->proc.pid, SIGKILL);
    assert_ok(proc_wait(&a->proc, 10000, &status, &e), e);
    link_close(a->link);
}

static bool call(struct agent *a, const char *method, const char *path,
                 struct json_object *body, struct json_object **reply, struct err *e)
{
    return link_call(a->link, method, path, body, CALL_MS, NULL, reply, e);
}

/* ---- the source's side ------------------------------------------------------------------------ */

static struct json_object *put_body_at(const char *at, const char *format)
{
    struct json_object *const disk = json_new(),
                              *disks = json_object_new_array(), *const o = json_new();

    json_add_str(json_add_str(disk, "target", "vda"), "path", at);
    json_add_u64(json_add_str(disk, "format", format), "size", SIZE);
    json_object_array_add(disks, disk);
    json_add_str(json_add_str(o, "name", "vm1"), "uuid", UUID);
    return json_add_obj(json_add_str(o, "source", "hosta"), "disks", disks);
}

static struct json_object *put_body(const char *format)
{
    return put_body_at(tmp_path("images/a.img"), format);
}

/* Of the first disk. */
static void assert_kind(struct json_object *reply, bool zero_want, bool block_want)
{
    struct json_object *list;
    bool zero, block;
    struct err e;

    assert_ok(json_get_array(reply, "disks", &list, &e), e);
    struct json_object *const disk = json_object_array_get_idx(list, 0);
    assert_ok(json_get_bool(disk, "zero", &zero, &e), e);
    assert_ok(json_get_bool(disk, "block", &block, &e), e);
    assert_int_equal(zero, zero_want);
    assert_int_equal(block, block_want);
}

/* Whether a reply to PUT or reopen says that an image was written by somebody else. */
static bool is_changed(struct json_object *reply)
{
    bool changed;
    struct err e;

    assert_ok(json_get_bool(reply, "changed", &changed, &e), e);
    return changed;
}

/* Only a seed's disk says which file it is. */
static bool tells_file(struct json_object *reply, const char *path)
{
    struct json_object *list;
    struct statx st;
    uint64_t ino, born_ns;
    struct err e;

    assert_ok(json_get_array(reply, "disks", &list, &e), e);
    struct json_object *const disk = json_object_array_get_idx(list, 0);
    if (!json_has(disk, "ino") && !json_has(disk, "born_ns"))
        return false;
    assert_ok(json_get_u64(disk, "ino", &ino, &e), e);
    assert_ok(json_get_u64(disk, "born_ns", &born_ns, &e), e);
    assert_int_equal(statx(AT_FDCWD, path, 0, STATX_INO | STATX_BTIME, &st), 0);
    assert_int_equal(ino, st.stx_ino);
    if ((st.stx_mask & STATX_BTIME) != 0)
        assert_int_equal(born_ns, (uint64_t)st.stx_btime.tv_sec * 1000000000 +
                                      st.stx_btime.tv_nsec);
    return true;
}

static void put(struct agent *a, const char *id, const char *format)
{
    AUTO(json_put) struct json_object *r = NULL;
    struct json_object *list;
    char path[100];
    struct err e;

    snprintf(path, sizeof path, "/moves/%s", id);
    assert_ok(call(a, "PUT", path, put_body(format), &r, &e), e);
    assert_kind(r, true, false);
    assert_false(is_changed(r));
    assert_false(tells_file(r, tmp_path("images/a.img")));
    assert_ok(json_get_array(r, "token_paths", &list, &e), e);
    assert_int_equal(json_object_array_length(list), 1);
    assert_int_equal(
        access(json_object_get_string(json_object_array_get_idx(list, 0)), F_OK), 0);
}

static bool post(struct agent *a, const char *id, const char *what,
                 struct json_object *body, struct err *e)
{
    char path[100];

    snprintf(path, sizeof path, "/moves/%s/%s", id, what);
    return call(a, "POST", path, body, NULL, e);
}

static void write_disk(struct agent *a, const char *id)
{
    static uint8_t buf[MIB];
    struct nbd_handle *const nbd = nbd_create();
    char path[100];
    int fd;
    struct err e;

    memset(buf, 0x5a, sizeof buf);
    snprintf(path, sizeof path, "disk/%s/vda", id);
    assert_ok(link_channel_pair(a->link, path, LINK_BULK, ZSTD_AUTO, &fd, &e), e);
    assert_int_equal(nbd_connect_socket(nbd, fd), 0);
    assert_int_equal(nbd_get_size(nbd), SIZE);
    assert_int_equal(nbd_can_multi_conn(nbd), 1);
    assert_int_equal(nbd_pwrite(nbd, buf, sizeof buf, MIB, 0), 0);
    assert_int_equal(nbd_flush(nbd, 0), 0);
    assert_int_equal(nbd_shutdown(nbd, 0), 0);
    nbd_close(nbd);
}

/* What the destination reads; returns the first wrong byte or -1. */
static long disk_wrong(const char *format)
{
    const char *const argv[] = {
        "qemu-img",      "convert", "-f", format, "-O", "raw", tmp_path("images/a.img"),
        tmp_path("out"), NULL
    };
    AUTO(mem_free) uint8_t *buf = malloc(SIZE);
    struct err e;

    assert_ok(proc_run(argv, 20000, NULL, 0, &e), e);
    AUTO(fd_close) int fd = open(tmp_path("out"), O_RDONLY | O_CLOEXEC);
    assert_ok(fd_read_all(fd, buf, SIZE, &e), e);
    for (long i = 0; i < SIZE; i++)
        if (buf[i] != (i >= MIB && i < 2 * MIB ? 0x5a : 0))
            return i;
    return -1;
}

/* ---- RAM: a fake QEMU that says what it got ------------------------------------------------------ */

static const char stream[] = "the first part|and the end";
enum { LIMIT = 15, STREAM = sizeof stream - 1 };

struct ram {
    int listener, qemu, src;
};

static void ram_open(struct agent *a, const char *id, struct ram *r)
{
    char path[100], sock[PATHS_SOCK_MAX], buf[LIMIT];
    struct err e;

    paths_ram_sock(sock, id, "vm1");
    unlink(sock);
    assert_ok(unix_listen(sock, &r->listener, &e), e);
    atomic_store(&fake->why, VDOM_WHY_MIGRATION);
    atomic_store(&fake->run, VDOM_PAUSED);
    snprintf(path, sizeof path, "ram/%s", id);
    assert_ok(link_channel_pair(a->link, path, LINK_BULK, 1, &r->src, &e), e);
    assert_ok(fd_write_all(r->src, stream, STREAM, &e), e);
    assert_ok(unix_accept(r->listener, 10000, NULL, &r->qemu, &e), e);
    assert_ok(post(a, id, "ram-limit", json_add_u64(json_new(), "bytes", LIMIT), &e),
              e);
    assert_ok(fd_read_all(r->qemu, buf, LIMIT, &e), e);
    assert_memory_equal(buf, stream, LIMIT);
    assert_int_equal(recv(r->qemu, buf, 1, MSG_DONTWAIT), -1);
    unlink(sock); /* QEMU's, and with it */
}

/* To the end; the number of bytes after the limit. */
static size_t ram_rest(struct ram *r)
{
    char buf[100];
    size_t n = 0;
    ssize_t k;

    while ((k = read(r->qemu, buf + n, sizeof buf - n)) > 0)
        n += (size_t)k;
    return n;
}

static void ram_close(struct ram *r)
{
    close(r->src);
    close(r->qemu);
    close(r->listener);
}

static void loaded(void)
{
    atomic_store(&fake->why, VDOM_WHY_USER);
}

/* ---- frame ---------------------------------------------------------------------------------------- */

static int setup(void **state)
{
    if (tmp_make(state) != 0)
        return -1;
    fake = fake_guest_map(tmp_path("guest"));
    return mkdir(tmp_path("images"), 0700);
}

static int count(const char *path)
{
    DIR *const dir = opendir(path);
    int n = -2;

    if (dir == NULL)
        return 0;
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

static void assert_no_litter(void)
{
    assert_int_equal(count(tmp_path("images")), 0);
    assert_int_equal(count(PATHS_STATE), 0);
    assert_int_equal(count(PATHS_RUN), 0);
    assert_int_equal(count("/run/libvirt"), 0);
}

static int teardown(void **state)
{
    assert_no_litter();
    assert_int_equal(atomic_load(&fake->early), 0);
    return tmp_remove(state);
}

#define TEST_AGENT(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* It has moved nothing: an agent that ends otherwise keeps what it made. */
static void agent_away(struct agent *a, const char *id)
{
    char path[64];
    struct err e;

    snprintf(path, sizeof path, "/moves/%s", id);
    assert_ok(call(a, "DELETE", path, NULL, NULL, &e), e);
    agent_end(a);
}

/* Whether a process has @path's image open: a writer that outlived its agent. */
static bool has_writer(void)
{
    const char *const argv[] = { "qemu-img", "info", tmp_path("images/a.img"), NULL };
    struct err e;

    return !proc_run(argv, 10000, NULL, 0, &e) && strstr(e.msg, "lock") != NULL;
}

/* ---- tests -------------------------------------------------------------------------------------------- */

static void agent__says_who_it_is(void **state)
{
    AUTO(json_put) struct json_object *r = NULL;
    const char *s;
    uint64_t n;
    struct agent a;
    struct err e;

    (void)state;
    agent_start(&a, NULL);
    assert_ok(call(&a, "GET", "/agent", NULL, &r, &e), e);
    assert_ok(json_get_u64(r, "protocol", &n, &e), e);
    assert_int_equal(n, AGENT_PROTOCOL);
    assert_ok(json_get_str(r, "version", &s, &e), e);
    assert_ok(json_get_str(r, "hostname", &s, &e), e);
    assert_ok(json_get_str(r, "boot_id", &s, &e), e);
    assert_int_equal(strlen(s), 36);
    assert_ok(json_get_u64(r, "uid", &n, &e), e);
    assert_int_equal(n, 0);
    agent_end(&a);
}

static void agent__refuses_what_is_not_in_the_protocol(void **state)
{
    /* clang-format off */
    static const struct { const char *method, *path; } bad[] = {
        { "GET", "/" }, { "GET", "/moves/" }, { "GET", "/moves/x" },
        { "GET", "/moves/" ID1 "/" }, { "GET", "/moves/" ID1 "/close" },
        { "POST", "/agent" }, { "DELETE", "/moves" }, { "PUT", "/moves/" ID1 },
        { "POST", "/moves/" ID1 "/commit" }, { "GET", "/moves/../../etc" },
        { "PUT", "/moves/1111111111111111111111111111111G" },
    };
    /* clang-format on */
    static const char *const channels[] = { "disk",      "disk/" ID1,        "ram/",
                                            "ram/x",     "ram/" ID1 "/01",   "other",
                                            "libvirt/x", "disk/" ID1 "/../x" };
    struct agent a;
    struct err e;
    int fd;

    (void)state;
    agent_start(&a, NULL);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_err(call(&a, bad[i].method, bad[i].path, NULL, NULL, &e), e, ERR_PROTO);
    for (size_t i = 0; i < sizeof channels / sizeof channels[0]; i++)
        assert_false(
            link_channel_pair(a.link, channels[i], LINK_TALK, ZSTD_OFF, &fd, &e));
    assert_err(call(&a, "GET", "/moves/" ID1, NULL, NULL, &e), e, ERR_REFUSED);
    assert_int_equal(e.os, ENOENT);
    assert_err(post(&a, ID1, "close", NULL, &e), e, ERR_REFUSED);
    assert_ok(call(&a, "DELETE", "/moves/" ID1, NULL, NULL, &e), e);
    assert_ok(
        post(&a, ID1, "finish", json_add_bool(json_new(), "autostart", false), &e), e);
    agent_end(&a);
}

/* What is sent there is taken at any amount, and nothing comes back but the end. */
static void agent__probe_takes_what_comes(void **state)
{
    static char block[1 << 20];
    struct agent a;
    struct err e;
    char byte;
    int fd;

    (void)state;
    agent_start(&a, NULL);
    assert_ok(link_channel_pair(a.link, "probe", LINK_BULK, ZSTD_OFF, &fd, &e), e);
    for (int i = 0; i < 64; i++)
        assert_ok(fd_write_all(fd, block, sizeof block, &e), e);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    assert_int_equal(read(fd, &byte, 1), 0);
    close(fd);
    agent_end(&a);
}

/* Block 16 to 31 of 64, of 64 KiB each, hold 0x5a; see write_disk(). */
static bool take_digest(void *ctx, const struct digest *d, struct err *e)
{
    static uint8_t block[MIRROR_BLOCK];
    uint64_t *const at = ctx;
    XXH128_canonical_t sum;

    (void)e;
    assert_int_equal(d->off, *at);
    *at += d->len;
    assert_int_equal(d->zero, d->off < MIB || d->off >= 2 * MIB);
    if (d->zero)
        return true;
    memset(block, 0x5a, sizeof block);
    XXH128_canonicalFromHash(&sum, XXH3_128bits(block, sizeof block));
    assert_memory_equal(d->sum, sum.digest, DIGEST_LEN);
    return true;
}

static void agent__digests_what_was_written(void **state)
{
    uint64_t at = 0;
    const struct digest_cfg cfg = { .name = "dst",
                                    .size = SIZE,
                                    .block = MIRROR_BLOCK,
                                    .emit = take_digest,
                                    .ctx = &at };
    struct agent a;
    struct err e;
    int fd;

    (void)state;
    agent_start(&a, NULL);
    put(&a, ID1, "qcow2");
    write_disk(&a, ID1);
    assert_ok(
        link_channel_pair(a.link, "digest/" ID1 "/vda", LINK_BULK, ZSTD_OFF, &fd, &e),
        e);
    assert_ok(digest_wire_fetch(fd, &cfg, &e), e);
    assert_int_equal(at, SIZE);
    close(fd);
    assert_false(
        link_channel_pair(a.link, "digest/" ID1 "/vdb", LINK_BULK, ZSTD_OFF, &fd, &e));
    assert_false(
        link_channel_pair(a.link, "digest/" ID1, LINK_BULK, ZSTD_OFF, &fd, &e));
    assert_ok(post(&a, ID1, "close", NULL, &e), e);
    assert_false(
        link_channel_pair(a.link, "digest/" ID1 "/vda", LINK_BULK, ZSTD_OFF, &fd, &e));
    agent_away(&a, ID1);
}

/* The body of "check" for the move that @put, which is used up, is of. */
static struct json_object *check_body(struct json_object *put)
{
    struct json_object *list;
    struct err e;

    assert_ok(json_get_array(put, "disks", &list, &e), e);
    json_add_u64(json_object_array_get_idx(list, 0), "allocated", 0);
    json_add_obj(put, "files", json_object_new_array());
    return json_add_obj(put, "bridges", json_object_new_array());
}

static struct json_object *seed_body(void)
{
    struct json_object *const body = put_body("raw");
    struct json_object *list;
    struct err e;

    assert_ok(json_get_array(body, "disks", &list, &e), e);
    json_add_bool(json_object_array_get_idx(list, 0), "seed", true);
    return body;
}

/* It was there before and is so afterwards, whatever becomes of the move. */
static void agent__leaves_a_seed_where_it_was(void **state)
{
    const char *const path = "/moves/" ID1;
    struct agent a;
    struct err e;

    (void)state;
    agent_start(&a, NULL);
    assert_err(call(&a, "PUT", path, seed_body(), NULL, &e), e, ERR_REFUSED);
    AUTO(fd_close) int fd = open(tmp_path("images/a.img"), O_CREAT | O_RDWR, 0600);
    assert_err(call(&a, "PUT", path, seed_body(), NULL, &e), e, ERR_REFUSED);
    assert_int_equal(ftruncate(fd, SIZE), 0);
    for (int turn = 0; turn < 2; turn++) {
        AUTO(json_put) struct json_object *r = NULL;

        assert_ok(call(&a, "PUT", path, seed_body(), &r, &e), e);
        assert_kind(r, false, false);
        assert_true(tells_file(r, tmp_path("images/a.img")));
        write_disk(&a, ID1);
        if (turn == 0)
            assert_ok(call(&a, "DELETE", path, NULL, NULL, &e), e);
        else
            agent_kill(&a);
        assert_int_equal(disk_wrong("raw"), -1);
    }
    agent_start(&a, NULL);
    agent_away(&a, ID1); /* from the journal */
    assert_int_equal(disk_wrong("raw"), -1);
    unlink(tmp_path("images/a.img"));
}

/* Nobody has it open: the owner is off. */
static void agent__finds_the_owner_of_a_seed(void **state)
{
    struct agent a;
    struct err e;

    (void)state;
    AUTO(fd_close) int fd = open(tmp_path("images/a.img"), O_CREAT | O_RDWR, 0600);
    assert_int_equal(ftruncate(fd, SIZE), 0);
    for (int owned = 0; owned < 2; owned++) {
        AUTO(json_put) struct json_object *r = NULL;

        snprintf(fake->disk, sizeof fake->disk, "%s",
                 owned ? tmp_path("images/a.img") : "");
        agent_start(&a, NULL);
        assert_ok(call(&a, "POST", "/check", check_body(seed_body()), &r, &e), e);
        assert_int_equal(strstr(json_object_to_json_string(r),
                                "is a disk of the domain 'owner' there") != NULL,
                         owned);
        agent_end(&a);
    }
    unlink(tmp_path("images/a.img"));
}

/* Nor has anybody what a move has kept; its owner is said before all is given up for it. */
static void agent__finds_the_owner_of_what_was_kept(void **state)
{
    struct agent a;
    struct err e;

    (void)state;
    agent_start(&a, NULL);
    put(&a, ID1, "raw");
    assert_ok(post(&a, ID1, "keep", NULL, &e), e);
    agent_end(&a);
    for (int owned = 0; owned < 2; owned++) {
        AUTO(json_put) struct json_object *r = NULL;

        snprintf(fake->disk, sizeof fake->disk, "%s",
                 owned ? tmp_path("images/a.img") : "");
        agent_start(&a, NULL);
        assert_ok(call(&a, "POST", "/check", check_body(put_body("raw")), &r, &e), e);
        assert_int_equal(strstr(json_object_to_json_string(r), "target-owned") != NULL,
                         owned);
        agent_end(&a);
    }
    fake->disk[0] = '\0';
    agent_start(&a, NULL);
    agent_away(&a, ID1);
}

/* What was kept may be gone on with, whoever has written it since: then it says so. */
static void agent__says_what_was_written_while_it_was_kept(void **state)
{
    struct agent a;
    struct err e;

    (void)state;
    agent_start(&a, NULL);
    put(&a, ID1, "raw");
    write_disk(&a, ID1);
    for (int turn = 0; turn < 2; turn++) {
        AUTO(json_put) struct json_object *c = NULL, *r = NULL;

        assert_ok(post(&a, ID1, "keep", NULL, &e), e);
        agent_end(&a);
        clock_sleep_ms(20); /* times of files move in ticks of up to 10 ms */
        AUTO(fd_close) int fd = open(tmp_path("images/a.img"), O_RDWR | O_CLOEXEC);
        if (turn == 1)
            assert_int_equal(pwrite(fd, "x", 1, 4096), 1);
        agent_start(&a, NULL);
        assert_ok(call(&a, "POST", "/check", check_body(put_body("raw")), &c, &e), e);
        assert_null(strstr(json_object_to_json_string(c), "target-exists"));
        assert_ok(call(&a, "POST", "/moves/" ID1 "/reopen", NULL, &r, &e), e);
        assert_kind(r, false, false);
        assert_int_equal(is_changed(r), turn == 1);
        write_disk(&a, ID1);
    }
    agent_away(&a, ID1);
}

static void agent__check_lists_everything_at_once(void **state)
{
    AUTO(json_put) struct json_object *r = NULL;
    struct json_object *body = put_body("raw"), *list, *file = json_new(), *files,
                       *names;
    char all[4000] = "";
    struct agent a;
    struct err e;

    (void)state;
    AUTO(fd_close) int fd = open(tmp_path("images/a.img"), O_CREAT | O_WRONLY, 0600);
    assert_ok(json_get_array(body, "disks", &list, &e), e);
    json_add_u64(json_object_array_get_idx(list, 0), "allocated", 1ULL << 60);
    files = json_object_new_array();
    json_add_str(json_add_str(file, "what", "cdrom sda"), "path", "/nowhere/x.iso");
    json_add_str(json_add_bool(file, "optional", true), "template", "");
    json_object_array_add(files, file);
    file = json_new();
    json_add_str(json_add_str(file, "what", "NVRAM"), "path", "/nowhere/vars.fd");
    json_add_str(json_add_bool(file, "optional", false), "template", "/bin/sh");
    json_object_array_add(files, file);
    names = json_object_new_array();
    json_object_array_add(names, json_object_new_string("snmnobr0"));
    json_object_array_add(names, json_object_new_string("../lo"));
    json_object_array_add(names, json_object_new_string("lo"));
    json_add_obj(json_add_obj(body, "files", files), "bridges", names);
    agent_start(&a, NULL);
    assert_ok(call(&a, "POST", "/check", body, &r, &e), e);
    assert_ok(json_get_array(r, "findings", &list, &e), e);
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        const char *code, *level;

        assert_ok(json_get_str(json_object_array_get_idx(list, i), "code", &code, &e),
                  e);
        assert_ok(json_get_str(json_object_array_get_idx(list, i), "level", &level, &e),
                  e);
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s %s;", level, code);
    }
    assert_string_equal(all, "blocker target-exists;warning no-access;blocker no-space;"
                             "warning missing-file;blocker no-bridge;"
                             "blocker no-bridge;warning bridge-kind;");
    agent_end(&a);
    unlink(tmp_path("images/a.img"));
}

static void whole_move(const char *format)
{
    AUTO(json_put) struct json_object *r = NULL;
    struct agent a;
    struct ram ram;
    const char *s;
    struct err e;

    agent_start(&a, NULL);
    put(&a, ID1, format);
    write_disk(&a, ID1);
    ram_open(&a, ID1, &ram);
    assert_ok(post(&a, ID1, "close", NULL, &e), e);
    assert_int_equal(disk_wrong(format), -1);
    assert_ok(post(&a, ID1, "release", json_new(), &e), e);
    shutdown(ram.src, SHUT_WR);
    assert_int_equal(ram_rest(&ram), STREAM - LIMIT);
    loaded();
    assert_ok(call(&a, "POST", "/moves/" ID1 "/commit",
                   json_add_bool(json_new(), "run", true), &r, &e),
              e);
    assert_ok(json_get_str(r, "state", &s, &e), e);
    assert_string_equal(s, "running");
    assert_ok(post(&a, ID1, "finish", json_add_bool(json_new(), "autostart", true), &e),
              e);
    assert_int_equal(atomic_load(&fake->autostarts), 1);
    agent_end(&a);
    ram_close(&ram);
    assert_int_equal(count(tmp_path("images")), 1);
    assert_int_equal(disk_wrong(format), -1);
    unlink(tmp_path("images/a.img"));
    atomic_store(&fake->run, VDOM_NONE);
}

static void agent__whole_move_raw(void **state)
{
    (void)state;
    whole_move("raw");
}

static void agent__whole_move_qcow2(void **state)
{
    (void)state;
    whole_move("qcow2");
}

/* ---- block devices: a loop device, where there are any ---------------------------------------- */

/* Up to "released", and QEMU has it all; "the guest" has not run. */
static void device_released(struct agent *a, const char *path)
{
    AUTO(json_put) struct json_object *r = NULL;
    struct json_object *list;
    struct ram ram;
    struct err e;

    agent_start(a, NULL);
    assert_ok(call(a, "PUT", "/moves/" ID1, put_body_at(path, "raw"), &r, &e), e);
    assert_kind(r, false, true);
    assert_ok(json_get_array(r, "token_paths", &list, &e), e);
    assert_int_equal(json_object_array_length(list), 0);
    write_disk(a, ID1);
    ram_open(a, ID1, &ram);
    assert_ok(post(a, ID1, "close", NULL, &e), e);
    assert_ok(post(a, ID1, "release", json_new(), &e), e);
    shutdown(ram.src, SHUT_WR);
    assert_int_equal(ram_rest(&ram), STREAM - LIMIT);
    ram_close(&ram);
    loaded();
}

static int device_byte(const char *path, off_t off)
{
    AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t byte;

    assert_int_equal(pread(fd, &byte, 1, off), 1);
    return byte;
}

static void device_write(const char *path, off_t off, uint8_t byte)
{
    AUTO(fd_close) int fd = open(path, O_WRONLY | O_CLOEXEC);

    assert_int_equal(pwrite(fd, &byte, 1, off), 1);
    assert_int_equal(fsync(fd), 0);
}

static void agent__whole_move_to_a_block_device(void **state)
{
    char path[LOOP_PATH];
    struct agent a;
    struct err e;

    (void)state;
    loop_need(SIZE, path);
    device_released(&a, path);
    assert_ok(post(&a, ID1, "commit", json_add_bool(json_new(), "run", true), &e), e);
    assert_ok(
        post(&a, ID1, "finish", json_add_bool(json_new(), "autostart", false), &e), e);
    agent_end(&a);
    assert_int_equal(device_byte(path, MIB), 0x5a);
    assert_int_equal(device_byte(path, 2 * MIB), 0);
    loop_remove();
}

/* Its ends are made empty for the next try while nobody can have written but us. */
static void agent__delete_keeps_a_block_device_that_was_written(void **state)
{
    char path[LOOP_PATH];
    struct agent a;
    struct err e;

    (void)state;
    loop_need(SIZE, path);
    device_released(&a, path);
    assert_ok(call(&a, "DELETE", "/moves/" ID1, NULL, NULL, &e), e);
    agent_end(&a);
    assert_int_equal(atomic_load(&fake->run), VDOM_NONE);

    device_released(&a, path);
    device_write(path, 1000, 0x77);
    assert_err(call(&a, "DELETE", "/moves/" ID1, NULL, NULL, &e), e, ERR_REFUSED);
    assert_contains(e.msg, "disk vda was written after the move had left it");
    agent_end(&a);
    agent_start(&a, NULL);
    atomic_store(&fake->run, VDOM_OFF);
    assert_err(call(&a, "DELETE", "/moves/" ID1, NULL, NULL, &e), e, ERR_REFUSED);
    /* It may have been a domain without a definition: what it wrote is all that tells. */
    atomic_store(&fake->run, VDOM_NONE);
    assert_err(call(&a, "DELETE", "/moves/" ID1, NULL, NULL, &e), e, ERR_REFUSED);
    assert_int_equal(device_byte(path, 1000), 0x77);
    device_write(path, 1000, 0); /* by hand, or by an abort that was cut short */
    assert_ok(call(&a, "DELETE", "/moves/" ID1, NULL, NULL, &e), e);
    agent_end(&a);
    assert_int_equal(atomic_load(&fake->removes), 1); /* of the first one */
    loop_remove();
}

/* ---- again, listed, lost --------------------------------------------------------------------- */

/* The answer to DELETE: so many images, of this test's. */
static void assert_removed(struct json_object *reply, size_t n)
{
    struct json_object *list;
    const char *path;
    uint64_t bytes;
    struct err e;

    assert_ok(json_get_array(reply, "removed", &list, &e), e);
    assert_int_equal(json_object_array_length(list), n);
    for (size_t i = 0; i < n; i++) {
        struct json_object *const o = json_object_array_get_idx(list, i);

        assert_ok(json_get_str(o, "path", &path, &e), e);
        assert_string_equal(path, tmp_path("images/a.img"));
        assert_ok(json_get_u64(o, "bytes", &bytes, &e), e);
        assert_true(bytes > 0);
    }
}

static void agent__delete_leaves_nothing(void **state)
{
    struct agent a;
    struct ram ram;
    AUTO(json_put) struct json_object *reply = NULL;
    struct err e;

    (void)state;
    agent_start(&a, NULL);
    put(&a, ID1, "qcow2");
    write_disk(&a, ID1);
    ram_open(&a, ID1, &ram);
    assert_ok(call(&a, "DELETE", "/moves/" ID1, NULL, &reply, &e), e);
    assert_removed(reply, 1);
    assert_no_litter();
    assert_int_equal(atomic_load(&fake->run), VDOM_NONE);
    assert_ok(call(&a, "DELETE", "/moves/" ID1, NULL, NULL, &e), e);
    assert_int_equal(ram_rest(&ram), 0);
    agent_end(&a);
    ram_close(&ram);
}

/* "snmigrate discard" had seen it parked, and had to wait for its lock. */
static void agent__delete_of_the_unreleased_spares_the_released(void **state)
{
    static const char path[] = "/moves/" ID1;
    struct agent a;
    struct ram ram;
    struct err e;

    (void)state;
    for (int released = 0; released < 2; released++) {
        agent_start(&a, NULL);
        put(&a, ID1, "raw");
        ram_open(&a, ID1, &ram);
        assert_ok(post(&a, ID1, "close", NULL, &e), e);
        if (released)
            assert_ok(post(&a, ID1, "release", json_new(), &e), e);
        shutdown(ram.src, SHUT_WR);
        if (released)
            assert_int_equal(ram_rest(&ram), STREAM - LIMIT);
        ram_close(&ram);
        agent_end(&a);
        if (released)
            loaded();
        agent_start(&a, NULL);
        struct json_object *const only = json_add_bool(json_new(), "unreleased", true);
        if (released) {
            assert_err(call(&a, "DELETE", path, only, NULL, &e), e, ERR_REFUSED);
            assert_contains(e.msg, "is released by now");
            assert_contains(e.next, "snmigrate recover");
            assert_int_equal(atomic_load(&fake->removes), 1); /* of the first one */
            assert_int_equal(access(tmp_path("images/a.img"), F_OK), 0);
        } else {
            assert_ok(call(&a, "DELETE", path, only, NULL, &e), e);
            assert_no_litter();
            assert_ok(call(&a, "DELETE", path,
                           json_add_bool(json_new(), "unreleased", true), NULL, &e),
                      e);
        }
        agent_away(&a, ID1);
    }
}

static void agent__put_again_gives_the_same_answer(void **state)
{
    struct agent a;
    struct err e;

    (void)state;
    agent_start(&a, NULL);
    put(&a, ID1, "raw");
    write_disk(&a, ID1);
    put(&a, ID1, "raw");
    assert_ok(post(&a, ID1, "close", NULL, &e), e);
    assert_int_equal(disk_wrong("raw"), -1); /* nothing was made anew */
    agent_away(&a, ID1);
}

static void agent__lists_moves(void **state)
{
    AUTO(json_put) struct json_object *r = NULL;
    struct json_object *list;
    const char *s;
    struct agent a, b;
    struct err e;

    (void)state;
    agent_start(&a, NULL);
    put(&a, ID1, "raw");
    agent_start(&b, NULL); /* another one sees it, too */
    assert_ok(call(&b, "GET", "/moves", NULL, &r, &e), e);
    assert_ok(json_get_array(r, "moves", &list, &e), e);
    assert_int_equal(json_object_array_length(list), 1);
    r = (json_object_put(r), NULL);
    assert_ok(call(&b, "GET", "/moves/" ID1, NULL, &r, &e), e);
    assert_ok(json_get_str(r, "step", &s, &e), e);
    assert_string_equal(s, "prepared");
    assert_ok(json_get_str(r, "domain", &s, &e), e);
    assert_string_equal(s, "none");
    agent_end(&b);
    agent_away(&a, ID1);
}

static void agent__lost_link_before_release_is_gone_on_with(void **state)
{
    struct agent a;
    struct ram ram;
    struct err e;

    (void)state;
    agent_start(&a, NULL);
    put(&a, ID1, "qcow2");
    write_disk(&a, ID1);
    ram_open(&a, ID1, &ram);
    assert_ok(post(&a, ID1, "close", NULL, &e), e);
    agent_end(&a);
    /* Not a byte of RAM, no domain, no socket and no writer, but the disk. */
    assert_int_equal(ram_rest(&ram), 0);
    ram_close(&ram);
    assert_int_equal(atomic_load(&fake->run), VDOM_NONE);
    assert_int_equal(atomic_load(&fake->resumes), 0);
    assert_int_equal(count(PATHS_RUN), 0);
    assert_int_equal(count("/run/libvirt"), 0);
    assert_false(has_writer());
    assert_int_equal(disk_wrong("qcow2"), -1);

    agent_start(&a, NULL);
    assert_ok(post(&a, ID1, "reopen", NULL, &e), e);
    write_disk(&a, ID1);
    assert_err(post(&a, ID1, "release", json_new(), &e), e, ERR_REFUSED);
    assert_ok(post(&a, ID1, "close", NULL, &e), e);
    assert_int_equal(disk_wrong("qcow2"), -1);
    agent_away(&a, ID1);
    assert_no_litter();
}

/* The old agent is killed in the middle of its writing; the new one waits for the end of
 * its writer, and both never have the image open. */
static void agent__killed_while_writing_is_gone_on_with(void **state)
{
    struct agent a;
    struct err e;

    (void)state;
    agent_start(&a, NULL);
    put(&a, ID1, "qcow2");
    write_disk(&a, ID1);
    agent_kill(&a);
    agent_start(&a, NULL);
    assert_ok(post(&a, ID1, "reopen", NULL, &e), e);
    write_disk(&a, ID1);
    assert_ok(post(&a, ID1, "close", NULL, &e), e);
    assert_int_equal(disk_wrong("qcow2"), -1);
    agent_away(&a, ID1);
}

static void agent__reopen_of_another_agents_move_is_refused(void **state)
{
    struct agent a, b;
    struct err e;

    (void)state;
    agent_start(&a, NULL);
    put(&a, ID1, "raw");
    agent_start(&b, NULL);
    assert_err(post(&b, ID1, "reopen", NULL, &e), e, ERR_REFUSED);
    assert_int_equal(e.os, EBUSY);
    assert_err(post(&b, ID2, "reopen", NULL, &e), e, ERR_REFUSED);
    assert_int_equal(e.os, ENOENT);
    write_disk(&a, ID1); /* undisturbed */
    agent_end(&b);
    agent_away(&a, ID1);
}

static void agent__lost_link_after_release_waits_for_commit(void **state)
{
    struct agent a;
    struct ram ram;
    struct err e;

    (void)state;
    agent_start(&a, NULL);
    put(&a, ID1, "raw");
    write_disk(&a, ID1);
    ram_open(&a, ID1, &ram);
    assert_ok(post(&a, ID1, "close", NULL, &e), e);
    assert_ok(post(&a, ID1, "release", json_new(), &e), e);
    /* The agent ends only when QEMU has all; we are QEMU. */
    shutdown(ram.qemu, SHUT_WR);
    agent_end(&a);
    assert_int_equal(ram_rest(&ram), STREAM - LIMIT);
    ram_close(&ram);
    assert_int_equal(atomic_load(&fake->resumes), 0);
    assert_int_equal(disk_wrong("raw"), -1);

    loaded();
    agent_start(&a, NULL);
    assert_ok(post(&a, ID1, "commit", json_add_bool(json_new(), "run", true), &e), e);
    assert_ok(
        post(&a, ID1, "finish", json_add_bool(json_new(), "autostart", false), &e), e);
    agent_end(&a);
    assert_int_equal(atomic_load(&fake->resumes), 1);
    unlink(tmp_path("images/a.img"));
    atomic_store(&fake->run, VDOM_NONE);
}

/* ---- kill -9 of the agent ----------------------------------------------------------------------------- */

static void agent__writers_die_with_it(void **state)
{
    const int64_t end = clock_ms() + 10000;
    struct agent a;

    (void)state;
    agent_start(&a, NULL);
    put(&a, ID1, "qcow2");
    assert_true(has_writer());
    agent_kill(&a);
    while (has_writer())
        assert_true(clock_left_ms(end) > 0);
    agent_start(&a, NULL);
    put(&a, ID2, "qcow2");
    write_disk(&a, ID2);
    assert_false(access(PATHS_STATE "/" ID1, F_OK) == 0);
    agent_away(&a, ID2);
}

static void agent__next_put_removes_what_a_killed_one_left(void **state)
{
    struct agent a;
    struct ram ram;

    (void)state;
    agent_start(&a, NULL);
    put(&a, ID1, "raw");
    write_disk(&a, ID1);
    ram_open(&a, ID1, &ram);
    agent_kill(&a);
    assert_int_equal(ram_rest(&ram), 0); /* dead before the release: not a byte more */
    ram_close(&ram);
    assert_true(access(tmp_path("images/a.img"), F_OK) == 0);

    agent_start(&a, NULL);
    put(&a, ID2, "qcow2");
    assert_int_equal(atomic_load(&fake->removes), 1);
    agent_away(&a, ID2);
}

/* Killed at each fault point; then the guest's owner is known from the journal. */
static void agent__killed_in_prepare_leaves_what_the_next_removes(void **state)
{
    struct agent a;
    struct err e;

    (void)state;
    agent_start(&a, "agent.prepare:kill-self");
    assert_false(call(&a, "PUT", "/moves/" ID1, put_body("raw"), NULL, &e));
    agent_kill(&a);
    assert_int_equal(access(tmp_path("images/a.img"), F_OK), -1);
    agent_start(&a, NULL);
    put(&a, ID2, "raw");
    agent_away(&a, ID2);
}

static void agent__failed_prepare_leaves_nothing(void **state)
{
    struct agent a;
    struct err e;

    (void)state;
    agent_start(&a, "agent.prepare:fail");
    assert_false(call(&a, "PUT", "/moves/" ID1, put_body("raw"), NULL, &e));
    assert_no_litter();
    put(&a, ID1, "raw"); /* the same id again is a new try */
    agent_away(&a, ID1);
}

static const char *step_of(struct agent *a)
{
    static char step[16];
    AUTO(json_put) struct json_object *r = NULL;
    const char *s;
    struct err e;

    assert_ok(call(a, "GET", "/moves/" ID1, NULL, &r, &e), e);
    assert_ok(json_get_str(r, "step", &s, &e), e);
    snprintf(step, sizeof step, "%s", s);
    return step;
}

static void agent__killed_at_closed_can_only_be_aborted(void **state)
{
    struct agent a;
    struct ram ram;
    struct err e;

    (void)state;
    agent_start(&a, "agent.closed:kill-self");
    put(&a, ID1, "raw");
    ram_open(&a, ID1, &ram);
    assert_false(post(&a, ID1, "close", NULL, &e));
    agent_kill(&a);
    assert_int_equal(ram_rest(&ram), 0);
    ram_close(&ram);

    loaded();
    agent_start(&a, NULL);
    assert_string_equal(step_of(&a), "closed");
    assert_err(post(&a, ID1, "release", json_new(), &e), e, ERR_REFUSED);
    assert_err(post(&a, ID1, "commit", json_add_bool(json_new(), "run", true), &e), e,
               ERR_REFUSED);
    assert_int_equal(atomic_load(&fake->resumes), 0);
    assert_ok(call(&a, "DELETE", "/moves/" ID1, NULL, NULL, &e), e);
    agent_end(&a);
}

/* "released" was written, nothing was passed on: no destination can complete. */
static void agent__killed_at_released_has_passed_nothing(void **state)
{
    struct agent a;
    struct ram ram;
    struct err e;

    (void)state;
    agent_start(&a, "agent.released:kill-self");
    put(&a, ID1, "raw");
    ram_open(&a, ID1, &ram);
    assert_ok(post(&a, ID1, "close", NULL, &e), e);
    assert_false(post(&a, ID1, "release", json_new(), &e));
    agent_kill(&a);
    assert_int_equal(ram_rest(&ram), 0);
    ram_close(&ram);

    agent_start(&a, NULL);
    assert_string_equal(step_of(&a), "released");
    /* QEMU saw the end of a stream that was cut: it is gone. */
    atomic_store(&fake->run, VDOM_NONE);
    assert_err(post(&a, ID1, "commit", json_add_bool(json_new(), "run", true), &e), e,
               ERR_PEER);
    assert_contains(e.msg, "gone at the destination");
    assert_ok(call(&a, "DELETE", "/moves/" ID1, NULL, NULL, &e), e);
    agent_end(&a);
}

/* @why: why it is not known what it writes; "": it is. */
static void commit_again(struct agent *a, const char *why)
{
    AUTO(json_put) struct json_object *r = NULL;
    struct json_object *const body = json_add_bool(json_new(), "run", true);
    const char *said;
    struct err e;
    bool marked;

    assert_ok(call(a, "POST", "/moves/" ID1 "/commit",
                   json_add_bool(body, "mark", true), &r, &e),
              e);
    assert_ok(json_get_bool(r, "marked", &marked, &e), e);
    assert_ok(json_get_str(r, "why", &said, &e), e);
    assert_int_equal(marked, why[0] == '\0');
    assert_contains(said, why);
}

static void killed_in_commit(const char *fault, int resumes_before)
{
    struct agent a;
    struct ram ram;
    struct err e;

    atomic_store(&fake->resumes, 0);
    agent_start(&a, fault);
    put(&a, ID1, "raw");
    ram_open(&a, ID1, &ram);
    assert_ok(post(&a, ID1, "close", NULL, &e), e);
    assert_ok(post(&a, ID1, "release", json_new(), &e), e);
    shutdown(ram.src, SHUT_WR);
    assert_int_equal(ram_rest(&ram), STREAM - LIMIT);
    ram_close(&ram);
    loaded();
    assert_false(post(&a, ID1, "commit", json_add_bool(json_new(), "run", true), &e));
    agent_kill(&a);
    assert_int_equal(atomic_load(&fake->resumes), resumes_before);

    agent_start(&a, NULL);
    assert_err(call(&a, "DELETE", "/moves/" ID1, NULL, NULL, &e), e, ERR_REFUSED);
    assert_err(call(&a, "PUT", "/moves/" ID2, put_body("raw"), NULL, &e), e,
               ERR_REFUSED);
    commit_again(&a, resumes_before == 0 ? "" : "it was not seen how this began");
    assert_int_equal(atomic_load(&fake->resumes), 1);
    assert_int_equal(atomic_load(&fake->run), VDOM_RUNNING);
    assert_ok(
        post(&a, ID1, "finish", json_add_bool(json_new(), "autostart", false), &e), e);
    agent_end(&a);
    assert_int_equal(atomic_load(&fake->removes), 0);
    unlink(tmp_path("images/a.img"));
    atomic_store(&fake->run, VDOM_NONE);
}

static void agent__killed_at_committed_goes_forward(void **state)
{
    (void)state;
    killed_in_commit("agent.committed:kill-self", 0);
}

static void agent__killed_at_running_does_not_start_it_twice(void **state)
{
    (void)state;
    killed_in_commit("agent.running:kill-self", 1);
}

/* The source gave up its link, half open: the old agent still lives when the new one asks. */
static void agent__commit_waits_for_the_agent_before_it(void **state)
{
    struct agent old, a;
    struct ram ram;
    struct err e;

    (void)state;
    agent_start(&old, NULL);
    put(&old, ID1, "raw");
    ram_open(&old, ID1, &ram);
    assert_ok(post(&old, ID1, "close", NULL, &e), e);
    assert_ok(post(&old, ID1, "release", json_new(), &e), e);
    loaded();
    agent_start(&a, NULL);
    shutdown(ram.qemu, SHUT_WR);
    link_close(old.link);
    assert_ok(post(&a, ID1, "commit", json_add_bool(json_new(), "run", true), &e), e);
    proc_stop(&old.proc, 30000);
    assert_int_equal(ram_rest(&ram), STREAM - LIMIT);
    ram_close(&ram);
    assert_ok(
        post(&a, ID1, "finish", json_add_bool(json_new(), "autostart", false), &e), e);
    agent_end(&a);
    unlink(tmp_path("images/a.img"));
    atomic_store(&fake->run, VDOM_NONE);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST_AGENT(agent__says_who_it_is),
        TEST_AGENT(agent__refuses_what_is_not_in_the_protocol),
        TEST_AGENT(agent__probe_takes_what_comes),
        TEST_AGENT(agent__digests_what_was_written),
        TEST_AGENT(agent__leaves_a_seed_where_it_was),
        TEST_AGENT(agent__finds_the_owner_of_a_seed),
        TEST_AGENT(agent__finds_the_owner_of_what_was_kept),
        TEST_AGENT(agent__says_what_was_written_while_it_was_kept),
        TEST_AGENT(agent__check_lists_everything_at_once),
        TEST_AGENT(agent__whole_move_raw),
        TEST_AGENT(agent__whole_move_qcow2),
        TEST_AGENT(agent__whole_move_to_a_block_device),
        TEST_AGENT(agent__delete_keeps_a_block_device_that_was_written),
        TEST_AGENT(agent__delete_leaves_nothing),
        TEST_AGENT(agent__delete_of_the_unreleased_spares_the_released),
        TEST_AGENT(agent__put_again_gives_the_same_answer),
        TEST_AGENT(agent__lists_moves),
        TEST_AGENT(agent__lost_link_before_release_is_gone_on_with),
        TEST_AGENT(agent__killed_while_writing_is_gone_on_with),
        TEST_AGENT(agent__reopen_of_another_agents_move_is_refused),
        TEST_AGENT(agent__lost_link_after_release_waits_for_commit),
        TEST_AGENT(agent__writers_die_with_it),
        TEST_AGENT(agent__next_put_removes_what_a_killed_one_left),
        TEST_AGENT(agent__killed_in_prepare_leaves_what_the_next_removes),
        TEST_AGENT(agent__failed_prepare_leaves_nothing),
        TEST_AGENT(agent__killed_at_closed_can_only_be_aborted),
        TEST_AGENT(agent__killed_at_released_has_passed_nothing),
        TEST_AGENT(agent__killed_at_committed_goes_forward),
        TEST_AGENT(agent__killed_at_running_does_not_start_it_twice),
        TEST_AGENT(agent__commit_waits_for_the_agent_before_it),
    };

    if (argc == 3 && strcmp(argv[1], "--agent") == 0)
        return be_agent(argv[2]);
    own_state();
    signal(SIGPIPE, SIG_IGN);
    log_init(LOG_ERROR, "src");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
