/* The steps of a move at its destination, with real images, qemu-nbd and journals and a
 * fake libvirt. */
#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/arrival.h"
#include "agent/arrivals.h"
#include "agent/hold.h"
#include "base/clock.h"
#include "base/journal.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/unix.h"
#include "tests/lib/fake-guest.h"
#include "tests/lib/loop.h"
#include "tests/lib/own-state.h"
#include "tests/lib/tmp.h"

#define UUID "6e1ad2a6-1b7e-4c7a-9d4e-0123456789ab"
#define ID1  "11111111111111111111111111111111"
#define ID2  "22222222222222222222222222222222"

enum { MIB = 1 << 20, DEVICE = 8 * MIB, WAIT_MS = 20000 };

static struct fake_guest *fake;

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
    int n = 0;

    if (dir == NULL)
        return 0;
    for (const struct dirent *d; (d = readdir(dir)) != NULL;)
        n += d->d_name[0] != '.' || strncmp(d->d_name, ".snm", 4) == 0;
    closedir(dir);
    return n;
}

/* Nothing of any move is left on this host. */
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

#define TEST_MOVE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static struct json_object *body_add(struct json_object *disks, const char *target,
                                    const char *name, const char *format, uint64_t size)
{
    struct json_object *const o = json_new();

    json_add_str(json_add_str(o, "target", target), "path", tmp_path(name));
    json_object_array_add(
        disks, json_add_u64(json_add_str(o, "format", format), "size", size));
    return disks;
}

static struct json_object *body_of(struct json_object *disks)
{
    struct json_object *const o = json_new();

    json_add_str(json_add_str(o, "name", "vm1"), "uuid", UUID);
    return json_add_obj(json_add_str(o, "source", "hosta"), "disks", disks);
}

/* One raw disk, images/a.img. */
static struct arrival *parsed(const char *id)
{
    AUTO(json_put)
    struct json_object *body =
        body_of(body_add(json_object_new_array(), "vda", "images/a.img", "raw", MIB));
    struct arrival *a = NULL;
    struct err e;

    assert_ok(arrival_parse(id, &fake_guest_ops, body, &a, &e), e);
    return a;
}

static struct arrival *prepared(const char *id)
{
    struct arrival *const a = parsed(id);
    struct err e;

    assert_ok(arrival_prepare(a, &e), e);
    return a;
}

static bool exists(const char *path)
{
    return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void guest_is(enum vdom_run run, enum vdom_why why, bool job)
{
    atomic_store(&fake->job, job);
    atomic_store(&fake->why, (int)why);
    atomic_store(&fake->run, (int)run);
}

/* RAM has flowed and is complete; QEMU listens at *qemu's other end. */
static void ram_flows(struct arrival *a, int *src, int *qemu)
{
    AUTO(fd_close) int listener = -1;
    char sock[PATHS_SOCK_MAX];
    struct hold_stats now;
    struct err e;

    paths_ram_sock(sock, a->id, a->name);
    assert_ok(unix_listen(sock, &listener, &e), e);
    assert_ok(arrival_ram(a, 0, src, &e), e);
    assert_ok(fd_write_all(*src, "ramramramend", 12, &e), e);
    assert_ok(unix_accept(listener, WAIT_MS, NULL, qemu, &e), e);
    assert_ok(arrival_ram_limit(a, 0, 9, &now, &e), e);
    guest_is(VDOM_PAUSED, VDOM_WHY_MIGRATION, true);
    unlink(sock);
}

struct moving {
    struct arrival *a;
    int src, qemu;
};

static void moving_released(struct moving *m, const char *id)
{
    char buf[12];
    struct err e;

    m->a = prepared(id);
    ram_flows(m->a, &m->src, &m->qemu);
    assert_ok(arrival_close(m->a, &e), e);
    assert_ok(arrival_release(m->a, &e), e);
    assert_ok(fd_read_all(m->qemu, buf, 12, &e), e);
    assert_memory_equal(buf, "ramramramend", 12);
}

static void moving_free(struct moving *m)
{
    arrival_free(m->a);
    close(m->src);
    close(m->qemu);
}

static void finish_away(struct arrival *a)
{
    AUTO(json_put) struct json_object *left = json_object_new_array();
    struct err e;

    assert_ok(arrival_finish(a, false, left, &e), e);
    assert_int_equal(json_object_array_length(left), 0);
    unlink(tmp_path("images/a.img"));
}

static void abort_away(struct arrival *a)
{
    struct err e;

    assert_ok(arrival_abort(a, &e), e);
    arrival_free(a);
}

/* ---- the good way ----------------------------------------------------------------------------- */

static void arrival__prepare_makes_images_tokens_sockets(void **state)
{
    AUTO(json_put)
    struct json_object *body = body_of(
        body_add(body_add(json_object_new_array(), "vda", "images/a.img", "raw", MIB),
                 "vdb", "images/b.qcow2", "qcow2", 2 * MIB));
    struct arrival *a = NULL;
    char token[PATHS_MAX], path[PATHS_MAX + 40];
    struct stat st;
    struct err e;

    (void)state;
    assert_ok(arrival_parse(ID1, &fake_guest_ops, body, &a, &e), e);
    assert_ok(arrival_prepare(a, &e), e);
    assert_ok(arrival_prepare(a, &e), e);
    assert_int_equal(stat(tmp_path("images/a.img"), &st), 0);
    assert_int_equal(st.st_size, MIB);
    assert_true(exists(tmp_path("images/b.qcow2")));
    arrival_token(a, &a->images[1], token);
    assert_string_equal(token, tmp_path("images/.snmigrate-" ID1));
    assert_true(exists(token));
    assert_int_equal(stat(PATHS_RUN "/" ID1, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    snprintf(path, sizeof path, "%s/vdb.sock", a->run_dir);
    assert_true(exists(path));
    assert_int_equal(stat(a->ram_dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(st.st_uid, 64055);
    abort_away(a);
}

static void arrival__whole_move_runs_once_and_leaves_only_the_images(void **state)
{
    struct moving m;
    struct err e;

    (void)state;
    moving_released(&m, ID1);
    assert_false(exists(tmp_path("images/.snmigrate-" ID1)));
    guest_is(VDOM_PAUSED, VDOM_WHY_USER, false);
    assert_ok(arrival_commit(m.a, true, clock_ms(), &e), e);
    assert_string_equal(m.a->ran_state, "running");
    assert_ok(arrival_commit(m.a, true, clock_ms(), &e), e);
    assert_int_equal(atomic_load(&fake->resumes), 1);
    assert_true(exists(tmp_path("images/a.img")));
    finish_away(m.a);
    moving_free(&m);
}

static void arrival__paused_guest_stays_paused(void **state)
{
    struct moving m;
    struct err e;

    (void)state;
    moving_released(&m, ID1);
    guest_is(VDOM_PAUSED, VDOM_WHY_USER, false);
    assert_ok(arrival_commit(m.a, false, clock_ms(), &e), e);
    assert_string_equal(m.a->ran_state, "paused");
    assert_int_equal(atomic_load(&fake->resumes), 0);
    finish_away(m.a);
    moving_free(&m);
}

/* What greeting says: how many things were done, and failed. */
static void assert_greets(struct arrival *a, bool set_time, size_t done, size_t failed)
{
    AUTO(json_put) struct json_object *d = json_object_new_array();
    AUTO(json_put) struct json_object *f = json_object_new_array();
    struct err e;

    assert_ok(arrival_greet(a, set_time, d, f, &e), e);
    assert_int_equal(json_object_array_length(d), done);
    assert_int_equal(json_object_array_length(f), failed);
}

static void arrival__a_guest_that_runs_is_greeted(void **state)
{
    AUTO(json_put) struct json_object *list = json_object_new_array();
    struct moving m;
    struct err e;

    (void)state;
    moving_released(&m, ID1);
    assert_err(arrival_greet(m.a, true, list, list, &e), e, ERR_REFUSED);
    guest_is(VDOM_PAUSED, VDOM_WHY_USER, false);
    assert_ok(arrival_commit(m.a, true, clock_ms(), &e), e);
    assert_int_equal(atomic_load(&fake->announces), 0); /* not in the guest's pause */
    assert_greets(m.a, false, 1, 0);
    assert_int_equal(atomic_load(&fake->syncs), 0);
    assert_greets(m.a, true, 2, 0);
    assert_int_equal(atomic_load(&fake->announces), 2);
    assert_int_equal(atomic_load(&fake->syncs), 1);
    /* No agent, an old QEMU: said, and the move goes on to its end. */
    atomic_store(&fake->announce_fails, 1);
    atomic_store(&fake->sync_fails, 1);
    assert_greets(m.a, true, 0, 2);
    finish_away(m.a);
    moving_free(&m);
}

/* ---- steps out of order -------------------------------------------------------------------------- */

static void arrival__steps_out_of_order_are_refused(void **state)
{
    AUTO(json_put) struct json_object *left = json_object_new_array();
    struct moving m;
    struct err e;

    (void)state;
    m.a = prepared(ID1);
    guest_is(VDOM_PAUSED, VDOM_WHY_USER, false);
    assert_err(arrival_release(m.a, &e), e, ERR_REFUSED);
    assert_err(arrival_commit(m.a, true, clock_ms(), &e), e, ERR_REFUSED);
    assert_err(arrival_finish(m.a, false, left, &e), e, ERR_REFUSED);
    ram_flows(m.a, &m.src, &m.qemu);
    assert_ok(arrival_close(m.a, &e), e);
    assert_err(arrival_commit(m.a, true, clock_ms(), &e), e, ERR_REFUSED);
    assert_ok(arrival_release(m.a, &e), e);
    assert_err(arrival_prepare(m.a, &e), e, ERR_REFUSED);
    assert_int_equal(atomic_load(&fake->resumes), 0);
    guest_is(VDOM_PAUSED, VDOM_WHY_USER, false);
    assert_ok(arrival_commit(m.a, true, clock_ms(), &e), e);
    assert_err(arrival_abort(m.a, &e), e, ERR_REFUSED);
    assert_int_equal(atomic_load(&fake->removes), 0);
    finish_away(m.a);
    assert_err(arrival_abort(m.a, &e), e, ERR_REFUSED);
    moving_free(&m);
}

static void arrival__release_without_a_ram_stream_is_refused(void **state)
{
    struct arrival *const a = prepared(ID1);
    struct err e;

    (void)state;
    assert_ok(arrival_close(a, &e), e);
    assert_err(arrival_release(a, &e), e, ERR_REFUSED);
    assert_contains(e.msg, "no RAM stream");
    abort_away(a);
}

static void arrival__disks_cannot_be_reached_after_close(void **state)
{
    struct arrival *const a = prepared(ID1);
    int fd = -1;
    struct err e;

    (void)state;
    assert_ok(arrival_disk(a, "vda", &fd, &e), e);
    close(fd);
    assert_err(arrival_disk(a, "vdb", &fd, &e), e, ERR_REFUSED);
    assert_ok(arrival_close(a, &e), e);
    assert_ok(arrival_close(a, &e), e);
    assert_err(arrival_disk(a, "vda", &fd, &e), e, ERR_REFUSED);
    abort_away(a);
}

static void arrival__killed_writer_is_not_closed(void **state)
{
    struct arrival *const a = prepared(ID1);
    int fd;
    struct err e;

    (void)state;
    kill(a->writers[0].proc.pid, SIGKILL);
    while (arrival_disk(a, "vda", &fd, &e))
        close(fd);
    assert_contains(e.msg, "vda");
    assert_err(arrival_close(a, &e), e, ERR_SYS);
    assert_contains(e.msg, "killed by signal 9");
    assert_err(arrival_close(a, &e), e, ERR_SYS);
    assert_err(arrival_release(a, &e), e, ERR_REFUSED);
    abort_away(a);
}

/* ---- RAM streams ------------------------------------------------------------------------------------ */

static void arrival__limit_of_an_earlier_ram_stream_is_refused(void **state)
{
    struct arrival *const a = prepared(ID1);
    int src, qemu, again;
    struct hold_stats now;
    struct err e;

    (void)state;
    assert_err(arrival_ram_limit(a, 0, 9, &now, &e), e, ERR_REFUSED);
    ram_flows(a, &src, &qemu);
    assert_err(arrival_ram(a, 1, &again, &e), e, ERR_REFUSED); /* not over */
    close(qemu);
    const int64_t end = clock_ms() + WAIT_MS;
    while (arrival_ram_limit(a, 0, 9, &now, &e))
        assert_true(clock_left_ms(end) > 0);
    /* So that the source does not wait for what is over. */
    assert_int_equal(e.kind, ERR_REFUSED);
    assert_int_equal(e.os, EPIPE);
    close(src);
    while (!arrival_ram(a, 1, &again, &e))
        assert_true(clock_left_ms(end) > 0);
    assert_err(arrival_ram_limit(a, 0, 1000, &now, &e), e, ERR_REFUSED);
    assert_ok(arrival_ram_limit(a, 1, 10, &now, &e), e);
    close(again);
    abort_away(a);
}

/* ---- commit ------------------------------------------------------------------------------------------- */

static void *later_ready(void *arg)
{
    (void)arg;
    clock_sleep_ms(100);
    guest_is(VDOM_PAUSED, VDOM_WHY_MIGRATION, false);
    clock_sleep_ms(50);
    guest_is(VDOM_PAUSED, VDOM_WHY_USER, true);
    clock_sleep_ms(50);
    atomic_store(&fake->job, 0);
    return NULL;
}

/* fake->early, which every test looks at, counts a resume before that. */
static void arrival__commit_waits_for_the_end_of_the_migration(void **state)
{
    struct moving m;
    pthread_t t;
    struct err e;

    (void)state;
    moving_released(&m, ID1);
    assert_int_equal(pthread_create(&t, NULL, later_ready, NULL), 0);
    assert_ok(arrival_commit(m.a, true, clock_ms(), &e), e);
    pthread_join(t, NULL);
    assert_int_equal(atomic_load(&fake->resumes), 1);
    assert_true(m.a->ran_ms >= 190);
    finish_away(m.a);
    moving_free(&m);
}

static void arrival__commit_tries_again_while_an_image_is_locked(void **state)
{
    struct moving m;
    struct err e;

    (void)state;
    moving_released(&m, ID1);
    guest_is(VDOM_PAUSED, VDOM_WHY_USER, false);
    atomic_store(&fake->resume_fails, 3);
    assert_ok(arrival_commit(m.a, true, clock_ms(), &e), e);
    assert_int_equal(atomic_load(&fake->resumes), 4);
    finish_away(m.a);
    moving_free(&m);
}

/* Before the guest's first write here, or not at all: then it is started, and that is said. */
static void arrival__commit_marks_what_the_guest_writes_if_wanted(void **state)
{
    (void)state;
    for (int fails = 0; fails < 2; fails++) {
        struct moving m;
        struct err e;

        guest_is(VDOM_NONE, VDOM_WHY_OTHER, false);
        moving_released(&m, ID1);
        guest_is(VDOM_PAUSED, VDOM_WHY_USER, false);
        atomic_store(&fake->marks, 0);
        atomic_store(&fake->mark_fails, fails);
        arrival_want_marks(m.a);
        assert_ok(arrival_commit(m.a, true, clock_ms(), &e), e);
        assert_int_equal(atomic_load(&fake->marks), 1 - fails);
        assert_int_equal(atomic_load(&fake->early), 0);
        assert_int_equal(m.a->marked, !fails);
        assert_string_equal(m.a->ran_state, "running");
        if (fails)
            assert_string_equal(m.a->unmarked.msg, "no such node");
        finish_away(m.a);
        moving_free(&m);
    }
}

static void arrival__commit_outlives_a_restart_of_libvirt(void **state)
{
    struct moving m;
    struct err e;

    (void)state;
    moving_released(&m, ID1);
    guest_is(VDOM_PAUSED, VDOM_WHY_USER, false);
    atomic_store(&fake->look_fails, 1);
    atomic_store(&fake->open_fails, 3);
    assert_ok(arrival_commit(m.a, true, clock_ms(), &e), e);
    assert_int_equal(atomic_load(&fake->open_fails), 0);
    finish_away(m.a);
    moving_free(&m);
}

static void arrival__commit_of_a_domain_that_is_gone_is_not_committed(void **state)
{
    struct moving m;
    struct err e;

    (void)state;
    moving_released(&m, ID1);
    guest_is(VDOM_NONE, VDOM_WHY_OTHER, false);
    assert_err(arrival_commit(m.a, true, clock_ms(), &e), e, ERR_GUEST);
    assert_int_equal(atomic_load(&fake->resumes), 0);
    assert_ok(arrival_abort(m.a, &e), e);
    moving_free(&m);
}

/* ---- a later agent ---------------------------------------------------------------------------------------- */

/* The process is gone, as far as the host can tell. */
static struct arrival *reloaded(struct arrival *a)
{
    struct arrival *b = NULL;
    char id[PATHS_ID_LEN + 1];
    struct err e;

    memcpy(id, a->id, sizeof id);
    arrival_free(a);
    assert_ok(arrival_load(id, &fake_guest_ops, 0, &b, &e), e);
    assert_non_null(b);
    return b;
}

static void arrival__later_agent_commits_from_the_journal(void **state)
{
    struct moving m;
    struct err e;

    (void)state;
    moving_released(&m, ID1);
    m.a = reloaded(m.a);
    assert_string_equal(m.a->name, "vm1");
    guest_is(VDOM_PAUSED, VDOM_WHY_USER, false);
    assert_ok(arrival_commit(m.a, true, clock_ms(), &e), e);
    assert_int_equal(atomic_load(&fake->resumes), 1);
    m.a = reloaded(m.a);
    assert_ok(arrival_commit(m.a, true, clock_ms(), &e), e);
    assert_string_equal(m.a->ran_state, "running");
    assert_int_equal(atomic_load(&fake->resumes), 1);
    finish_away(m.a);
    moving_free(&m);
}

/* It died between "committed" and the resume, or right after the resume; the guest may have
 * run and ended, or have been stopped, since. */
static void arrival__later_agent_goes_on_after_committed(void **state)
{
    static const struct {
        enum vdom_run run;
        enum vdom_why why;
        const char *answer;
        int resumes;
    } found[] = {
        { VDOM_PAUSED, VDOM_WHY_USER, "running", 1 },
        { VDOM_RUNNING, VDOM_WHY_OTHER, "running", 0 },
        { VDOM_OFF, VDOM_WHY_SHUTDOWN, "off", 0 },
        { VDOM_NONE, VDOM_WHY_OTHER, "none", 0 },
        { VDOM_PAUSED, VDOM_WHY_IOERROR, "paused", 0 },
        { VDOM_OTHER, VDOM_WHY_OTHER, "other", 0 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof found / sizeof found[0]; i++) {
        struct moving m;
        struct err e;

        moving_released(&m, ID1);
        assert_ok(journal_step(m.a->journal, "committed", NULL, &e), e);
        m.a = reloaded(m.a);
        assert_err(arrival_abort(m.a, &e), e, ERR_REFUSED);
        guest_is(found[i].run, found[i].why, false);
        atomic_store(&fake->resumes, 0);
        assert_ok(arrival_commit(m.a, true, clock_ms(), &e), e);
        assert_string_equal(m.a->ran_state, found[i].answer);
        assert_int_equal(atomic_load(&fake->resumes), found[i].resumes);
        finish_away(m.a);
        moving_free(&m);
        guest_is(VDOM_NONE, VDOM_WHY_OTHER, false);
    }
}

/* A disk that is full is one more reason to tell the source that the guest runs. */
static void arrival__journal_without_room_for_running_is_no_failure(void **state)
{
    struct rlimit old, full;
    struct moving m;
    struct stat st;
    struct err e;

    (void)state;
    moving_released(&m, ID1);
    assert_ok(journal_step(m.a->journal, "committed", NULL, &e), e);
    m.a = reloaded(m.a);
    guest_is(VDOM_PAUSED, VDOM_WHY_USER, false);
    assert_int_equal(stat(PATHS_STATE "/" ID1 "/journal", &st), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    full = old;
    full.rlim_cur = (rlim_t)st.st_size;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
    const bool ok = arrival_commit(m.a, true, clock_ms(), &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_ok(ok, e);
    assert_string_equal(m.a->ran_state, "running");
    assert_ok(arrival_commit(m.a, true, clock_ms(), &e), e);
    /* A later agent knows of "committed" only. */
    m.a = reloaded(m.a);
    assert_err(arrival_abort(m.a, &e), e, ERR_REFUSED);
    assert_ok(arrival_commit(m.a, true, clock_ms(), &e), e);
    assert_string_equal(m.a->ran_state, "running");
    assert_int_equal(atomic_load(&fake->resumes), 1);
    finish_away(m.a);
    moving_free(&m);
}

static void arrival__later_agent_cannot_go_on_before_released(void **state)
{
    struct arrival *a = reloaded(prepared(ID1));
    int fd;
    struct err e;

    (void)state;
    guest_is(VDOM_PAUSED, VDOM_WHY_USER, false);
    assert_err(arrival_close(a, &e), e, ERR_REFUSED);
    assert_err(arrival_disk(a, "vda", &fd, &e), e, ERR_REFUSED);
    assert_err(arrival_ram(a, 0, &fd, &e), e, ERR_REFUSED);
    assert_err(arrival_release(a, &e), e, ERR_REFUSED);
    assert_err(arrival_commit(a, true, clock_ms(), &e), e, ERR_REFUSED);
    /* Its guest cannot be there yet: that is somebody else's. */
    assert_err(arrival_abort(a, &e), e, ERR_REFUSED);
    assert_int_equal(atomic_load(&fake->removes), 0);
    guest_is(VDOM_PAUSED, VDOM_WHY_MIGRATION, true);
    assert_ok(arrival_abort(a, &e), e);
    assert_int_equal(atomic_load(&fake->removes), 1);
    arrival_free(a);
}

static void arrival__move_of_a_live_agent_cannot_be_loaded(void **state)
{
    struct arrival *const a = prepared(ID1);
    struct arrival *b = NULL;
    struct err e;

    (void)state;
    assert_err(arrival_load(ID1, &fake_guest_ops, 100, &b, &e), e, ERR_REFUSED);
    assert_ok(arrival_peek(ID1, &fake_guest_ops, &b, &e), e);
    assert_non_null(b);
    arrival_free(b);
    abort_away(a);
    assert_ok(arrival_load(ID1, &fake_guest_ops, 100, &b, &e), e);
    assert_null(b);
}

/* Another role's journal (this host is the source of another move) is not touched. */
static void arrival__journal_of_a_source_is_not_ours(void **state)
{
    AUTO(journal_close) struct journal *j = NULL;
    struct arrival *b = NULL;
    struct err e;

    (void)state;
    assert_ok(dir_private(PATHS_STATE, &e), e);
    assert_ok(journal_open(PATHS_STATE "/" ID2, &j, &e), e);
    assert_ok(journal_step(j, "prepared", json_add_str(json_new(), "uuid", UUID), &e),
              e);
    assert_ok(arrival_load(ID2, &fake_guest_ops, 0, &b, &e), e);
    assert_null(b);
    abort_away(prepared(ID1));
    assert_true(exists(PATHS_STATE "/" ID2 "/journal"));
    /* Both roles of one move on one host: refused, and the source's journal stays. */
    struct arrival *const a = parsed(ID2);
    assert_err(arrival_prepare(a, &e), e, ERR_REFUSED);
    arrival_free(a);
    assert_true(exists(PATHS_STATE "/" ID2 "/journal"));
    journal_remove(PATHS_STATE "/" ID2);
}

/* ---- abort ------------------------------------------------------------------------------------------------ */

static void arrival__abort_removes_the_domain_it_brought(void **state)
{
    struct moving m;
    struct err e;

    (void)state;
    moving_released(&m, ID1);
    guest_is(VDOM_PAUSED, VDOM_WHY_USER, false);
    atomic_store(&fake->defined, 1);
    assert_ok(arrival_abort(m.a, &e), e);
    assert_ok(arrival_abort(m.a, &e), e);
    assert_int_equal(atomic_load(&fake->run), VDOM_NONE);
    assert_int_equal(atomic_load(&fake->removes), 1);
    moving_free(&m);
}

static void arrival__abort_keeps_a_definition_that_was_there_before(void **state)
{
    struct moving m;
    struct err e;

    (void)state;
    atomic_store(&fake->defined, 1);
    guest_is(VDOM_OFF, VDOM_WHY_OTHER, false);
    moving_released(&m, ID1);
    guest_is(VDOM_PAUSED, VDOM_WHY_USER, false);
    m.a = reloaded(m.a);
    assert_ok(arrival_abort(m.a, &e), e);
    assert_int_equal(atomic_load(&fake->run), VDOM_OFF);
    assert_int_equal(atomic_load(&fake->undefines), 0);
    moving_free(&m);
}

static void arrival__abort_never_removes_a_guest_that_may_have_run(void **state)
{
    struct moving m;
    struct err e;

    (void)state;
    moving_released(&m, ID1);
    guest_is(VDOM_RUNNING, VDOM_WHY_OTHER, false);
    assert_err(arrival_abort(m.a, &e), e, ERR_REFUSED);
    guest_is(VDOM_PAUSED, VDOM_WHY_IOERROR, false);
    assert_err(arrival_abort(m.a, &e), e, ERR_REFUSED);
    guest_is(VDOM_OTHER, VDOM_WHY_OTHER, false);
    assert_err(arrival_abort(m.a, &e), e, ERR_REFUSED);
    assert_int_equal(atomic_load(&fake->removes), 0);
    assert_true(exists(tmp_path("images/a.img")));
    guest_is(VDOM_NONE, VDOM_WHY_OTHER, false);
    assert_ok(arrival_abort(m.a, &e), e);
    moving_free(&m);
}

/* A copy that waits for its move to go on is taken for another one's disk. */
static void arrival__abort_keeps_what_somebody_has_defined_since(void **state)
{
    struct arrival *a = prepared(ID1);
    struct err e;

    (void)state;
    arrival_park(a);
    a = reloaded(a);
    atomic_store(&fake->defined, 1);
    guest_is(VDOM_OFF, VDOM_WHY_SHUTDOWN, false);
    assert_err(arrival_abort(a, &e), e, ERR_REFUSED);
    assert_contains(e.msg, "somebody has defined vm1 here since");
    assert_int_equal(atomic_load(&fake->removes), 0);
    assert_true(exists(tmp_path("images/a.img")));
    atomic_store(&fake->defined, 0);
    guest_is(VDOM_NONE, VDOM_WHY_OTHER, false);
    assert_ok(arrival_abort(a, &e), e);
    assert_true(a->images[0].removed);
    arrival_free(a);
}

/* As a guest does that somebody resumed by hand. */
static void write_image(void)
{
    AUTO(fd_close) int fd = open(tmp_path("images/a.img"), O_WRONLY | O_CLOEXEC);

    clock_sleep_ms(20); /* times of files move in ticks of up to 10 ms */
    assert_int_equal(pwrite(fd, "x", 1, 4096), 1);
}

static void assert_abort_refused(struct arrival *a, const char *why)
{
    struct err e;

    assert_err(arrival_abort(a, &e), e, ERR_REFUSED);
    assert_contains(e.msg, why);
    assert_contains(e.next, "virsh list --all");
    assert_int_equal(atomic_load(&fake->removes), 0);
    assert_true(exists(PATHS_STATE "/" ID1 "/journal"));
}

/* The user has cleared up by hand: then the journal goes with the next move. */
static void cleared_by_hand(struct moving *m)
{
    struct err e;

    guest_is(VDOM_NONE, VDOM_WHY_OTHER, false);
    unlink(tmp_path("images/a.img"));
    assert_ok(arrival_abort(m->a, &e), e);
    moving_free(m);
}

static void arrival__abort_keeps_disks_that_were_written_after_close(void **state)
{
    static const enum vdom_run found[] = { VDOM_PAUSED, VDOM_OFF, VDOM_NONE };
    struct moving m;

    (void)state;
    for (size_t i = 0; i < sizeof found / sizeof found[0]; i++) {
        moving_released(&m, ID1);
        guest_is(found[i], VDOM_WHY_USER, false);
        write_image();
        assert_abort_refused(m.a, "disk vda was written after the move had left it");
        m.a = reloaded(m.a);
        assert_abort_refused(m.a, "the guest may have run here");
        assert_true(exists(tmp_path("images/a.img")));
        cleared_by_hand(&m);
    }
}

static void arrival__next_move_keeps_disks_that_were_written_after_close(void **state)
{
    struct arrival *const next = parsed(ID2);
    struct moving m;
    struct err e;

    (void)state;
    moving_released(&m, ID1);
    guest_is(VDOM_OFF, VDOM_WHY_SHUTDOWN, false);
    write_image();
    arrival_free(m.a);
    assert_err(arrival_prepare(next, &e), e, ERR_REFUSED);
    assert_contains(e.msg, "was written after the move had left it");
    arrival_free(next);
    assert_int_equal(atomic_load(&fake->removes), 0);
    assert_true(exists(tmp_path("images/a.img")));
    assert_ok(arrival_load(ID1, &fake_guest_ops, 0, &m.a, &e), e);
    cleared_by_hand(&m);
}

/* Somebody set the time back. */
static void arrival__abort_keeps_a_disk_that_has_another_size(void **state)
{
    struct moving m;
    struct stat st;

    (void)state;
    moving_released(&m, ID1);
    guest_is(VDOM_OFF, VDOM_WHY_OTHER, false);
    assert_int_equal(stat(tmp_path("images/a.img"), &st), 0);
    assert_int_equal(truncate(tmp_path("images/a.img"), 2 * MIB), 0);
    const struct timespec times[] = { st.st_atim, st.st_mtim };
    assert_int_equal(utimensat(AT_FDCWD, tmp_path("images/a.img"), times, 0), 0);
    assert_abort_refused(m.a, "was written");
    cleared_by_hand(&m);
}

static void arrival__abort_keeps_a_domain_whose_disk_was_moved(void **state)
{
    struct moving m;

    (void)state;
    moving_released(&m, ID1);
    guest_is(VDOM_OFF, VDOM_WHY_OTHER, false);
    assert_int_equal(rename(tmp_path("images/a.img"), tmp_path("moved")), 0);
    assert_abort_refused(m.a, "disk vda is gone");
    AUTO(fd_close) int fd = open(tmp_path("images/a.img"), O_CREAT | O_WRONLY, 0600);
    assert_abort_refused(m.a, "is another file now");
    cleared_by_hand(&m);
    assert_true(exists(tmp_path("moved")));
}

/* libvirt gives it to QEMU's user; QEMU opens it and ends. */
static void arrival__abort_removes_disks_that_only_changed_hands(void **state)
{
    struct moving m;
    struct err e;

    (void)state;
    moving_released(&m, ID1);
    guest_is(VDOM_PAUSED, VDOM_WHY_USER, false);
    m.a = reloaded(m.a);
    clock_sleep_ms(20);
    assert_int_equal(chown(tmp_path("images/a.img"), 64055, 64055), 0);
    assert_int_equal(chmod(tmp_path("images/a.img"), 0640), 0);
    AUTO(fd_close) int fd = open(tmp_path("images/a.img"), O_RDWR | O_CLOEXEC);
    assert_int_equal(fsync(fd), 0);
    assert_ok(arrival_abort(m.a, &e), e);
    assert_int_equal(atomic_load(&fake->removes), 1);
    moving_free(&m);
}

static void arrival__abort_after_close_knows_the_states_of_a_new_guest(void **state)
{
    struct moving m;
    struct err e;

    (void)state;
    m.a = prepared(ID1);
    ram_flows(m.a, &m.src, &m.qemu);
    assert_ok(arrival_close(m.a, &e), e);
    guest_is(VDOM_PAUSED, VDOM_WHY_OTHER, false); /* a snapshot, a watchdog */
    assert_abort_refused(m.a, "is paused here: it is not removed");
    guest_is(VDOM_PAUSED, VDOM_WHY_STARTING, false);
    assert_ok(arrival_abort(m.a, &e), e);
    moving_free(&m);
}

/* Without the marks nothing is removed, and COMMIT works. */
static void arrival__journal_without_marks_can_be_committed_only(void **state)
{
    struct moving m = { .src = -1, .qemu = -1 };
    struct err e;

    (void)state;
    m.a = prepared(ID1);
    assert_ok(journal_step(m.a->journal, "closed", NULL, &e), e);
    assert_ok(journal_step(m.a->journal, "released", NULL, &e), e);
    m.a = reloaded(m.a);
    guest_is(VDOM_PAUSED, VDOM_WHY_USER, false);
    assert_abort_refused(m.a, "cannot tell");
    assert_ok(arrival_commit(m.a, true, clock_ms(), &e), e);
    finish_away(m.a);
    moving_free(&m);
}

static void arrival__abort_without_libvirt_keeps_images_and_journal(void **state)
{
    struct arrival *const a = prepared(ID1);
    struct err e;

    (void)state;
    atomic_store(&fake->look_fails, 100);
    assert_err(arrival_abort(a, &e), e, ERR_VIRT);
    assert_true(exists(tmp_path("images/a.img")));
    assert_true(exists(PATHS_STATE "/" ID1 "/journal"));
    assert_err(arrival_prepare(a, &e), e,
               ERR_REFUSED); /* not good for a move any more */
    atomic_store(&fake->look_fails, 0);
    abort_away(a);
}

static void arrival__abort_drops_held_ram(void **state)
{
    struct moving m;
    char buf[20];
    struct err e;

    (void)state;
    m.a = prepared(ID1);
    ram_flows(m.a, &m.src, &m.qemu);
    assert_ok(arrival_abort(m.a, &e), e);
    ssize_t n = 0, k;
    while ((k = read(m.qemu, buf, sizeof buf)) > 0)
        n += k;
    assert_true(n <= 9);
    moving_free(&m);
}

static void arrival__abort_leaves_a_file_that_took_the_images_place(void **state)
{
    struct arrival *const a = prepared(ID1);
    struct err e;

    (void)state;
    assert_int_equal(rename(tmp_path("images/a.img"), tmp_path("moved")), 0);
    AUTO(fd_close) int fd = open(tmp_path("images/a.img"), O_CREAT | O_WRONLY, 0600);
    assert_ok(arrival_abort(a, &e), e);
    assert_true(exists(tmp_path("images/a.img")));
    unlink(tmp_path("images/a.img"));
    arrival_free(a);
}

/* ---- prepare: what is in the way ------------------------------------------------------------------------------ */

static void arrival__existing_target_is_refused_and_all_undone(void **state)
{
    AUTO(json_put)
    struct json_object *body = body_of(
        body_add(body_add(json_object_new_array(), "vda", "images/a.img", "raw", MIB),
                 "vdb", "images/b.img", "raw", MIB));
    AUTO(fd_close) int fd = open(tmp_path("images/b.img"), O_CREAT | O_WRONLY, 0600);
    struct arrival *a = NULL;
    struct err e;

    (void)state;
    assert_ok(arrival_parse(ID1, &fake_guest_ops, body, &a, &e), e);
    assert_err(arrival_prepare(a, &e), e, ERR_REFUSED);
    assert_contains(e.msg, "b.img");
    arrival_free(a);
    assert_true(exists(tmp_path("images/b.img")));
    unlink(tmp_path("images/b.img"));
}

static void arrival__two_disks_on_one_path_are_refused(void **state)
{
    AUTO(json_put)
    struct json_object *body = body_of(
        body_add(body_add(json_object_new_array(), "vda", "images/a.img", "raw", MIB),
                 "vdb", "images/a.img", "raw", MIB));
    struct arrival *a = NULL;
    struct err e;

    (void)state;
    assert_err(arrival_parse(ID1, &fake_guest_ops, body, &a, &e), e, ERR_REFUSED);
}

static void arrival__active_domain_of_that_uuid_is_refused(void **state)
{
    struct arrival *const a = parsed(ID1);
    struct err e;

    (void)state;
    guest_is(VDOM_RUNNING, VDOM_WHY_OTHER, false);
    assert_err(arrival_prepare(a, &e), e, ERR_REFUSED);
    guest_is(VDOM_PAUSED, VDOM_WHY_USER, false);
    assert_int_equal(atomic_load(&fake->removes), 0);
    arrival_free(a);
}

static void arrival__dead_move_of_the_same_vm_is_removed(void **state)
{
    struct arrival *const old = prepared(ID1);
    struct stat before, after;

    (void)state;
    /* kill -9: the locks go, all else stays. */
    kill(old->writers[0].proc.pid, SIGKILL);
    arrival_free(old);
    guest_is(VDOM_PAUSED, VDOM_WHY_MIGRATION, true);
    assert_int_equal(stat(tmp_path("images/a.img"), &before), 0);
    struct arrival *const a = prepared(ID2);
    assert_int_equal(stat(tmp_path("images/a.img"), &after), 0);
    assert_int_equal(atomic_load(&fake->removes), 1);
    assert_false(exists(PATHS_STATE "/" ID1));
    assert_false(exists(PATHS_RUN "/" ID1));
    assert_false(exists(tmp_path("images/.snmigrate-" ID1)));
    abort_away(a);
}

static void arrival__same_id_again_after_a_crash_starts_anew(void **state)
{
    (void)state;
    arrival_free(prepared(ID1));
    abort_away(prepared(ID1));
}

static void arrival__second_move_of_the_same_vm_is_refused(void **state)
{
    struct arrival *const first = prepared(ID1), *const second = parsed(ID2);
    struct err e;

    (void)state;
    assert_err(arrival_prepare(second, &e), e, ERR_REFUSED);
    assert_contains(e.msg, "another move of this VM is running");
    arrival_free(second);
    /* The first is unharmed. */
    assert_ok(arrival_close(first, &e), e);
    abort_away(first);
}

/* The same id from another agent must not tear down what the first one uses. */
static void arrival__same_id_while_alive_is_refused(void **state)
{
    struct arrival *const first = prepared(ID1), *const second = parsed(ID1);
    int fd;
    struct err e;

    (void)state;
    assert_err(arrival_prepare(second, &e), e, ERR_REFUSED);
    arrival_free(second);
    assert_ok(arrival_disk(first, "vda", &fd, &e), e);
    close(fd);
    assert_true(exists(first->ram_dir));
    abort_away(first);
}

static void
arrival__unfinished_committed_move_blocks_while_its_domain_is_there(void **state)
{
    struct arrival *const a = parsed(ID2);
    struct moving m;
    struct err e;

    (void)state;
    moving_released(&m, ID1);
    guest_is(VDOM_PAUSED, VDOM_WHY_USER, false);
    assert_ok(arrival_commit(m.a, true, clock_ms(), &e), e);
    moving_free(&m);
    guest_is(VDOM_OFF, VDOM_WHY_OTHER, false);
    assert_err(arrival_prepare(a, &e), e, ERR_REFUSED);
    assert_contains(e.msg, "was not finished");
    arrival_free(a);
    assert_true(exists(tmp_path("images/a.img")));
    /* The VM has moved away since: history. */
    guest_is(VDOM_NONE, VDOM_WHY_OTHER, false);
    unlink(tmp_path("images/a.img"));
    abort_away(prepared(ID2));
}

/* ---- the link is lost --------------------------------------------------------------------------------------------- */

static void arrival__lost_before_release_keeps_disks_only(void **state)
{
    struct moving m;
    struct err e;

    (void)state;
    m.a = prepared(ID1);
    ram_flows(m.a, &m.src, &m.qemu);
    assert_ok(arrival_close(m.a, &e), e);
    arrival_lost(m.a);
    assert_int_equal(count(tmp_path("images")), 1);
    assert_true(exists(PATHS_STATE "/" ID1 "/journal"));
    assert_int_equal(count(PATHS_RUN), 0);
    assert_int_equal(count("/run/libvirt"), 0);
    m.a = reloaded(m.a);
    assert_ok(arrival_abort(m.a, &e), e);
    moving_free(&m);
}

/* ---- opened again ------------------------------------------------------------------------------------------------- */

static void expect_writable(struct arrival *a)
{
    struct err e;
    int fd = -1;

    assert_ok(arrival_disk(a, "vda", &fd, &e), e);
    close(fd);
}

/* What the journal says is what the next agent does. */
static void arrival__reopened_is_prepared_again(void **state)
{
    struct moving m;
    struct err e;
    int fd;

    (void)state;
    m.a = prepared(ID1);
    ram_flows(m.a, &m.src, &m.qemu);
    assert_ok(arrival_close(m.a, &e), e);
    assert_ok(arrival_reopen(m.a, NULL, &e), e);
    expect_writable(m.a);
    m.a = reloaded(m.a);
    assert_int_equal(atomic_load(&m.a->step), ARRIVAL_PREPARED);
    assert_err(arrival_disk(m.a, "vda", &fd, &e), e, ERR_REFUSED); /* no writer yet */
    assert_ok(arrival_reopen(m.a, NULL, &e), e);
    expect_writable(m.a);
    assert_ok(arrival_close(m.a, &e), e);
    assert_int_equal(atomic_load(&m.a->step), ARRIVAL_CLOSED);
    m.a = reloaded(m.a);
    assert_int_equal(atomic_load(&m.a->step), ARRIVAL_CLOSED);
    assert_ok(arrival_abort(m.a, &e), e);
    moving_free(&m);
}

/* Nothing of a stream that was given up passes, neither what was held nor a late limit. */
static void arrival__reopened_drops_the_old_stream(void **state)
{
    char buf[20];
    struct hold_stats now;
    struct moving m;
    ssize_t passed = 0;
    struct err e;
    int src;

    (void)state;
    m.a = prepared(ID1);
    ram_flows(m.a, &m.src, &m.qemu);
    assert_ok(arrival_reopen(m.a, NULL, &e), e);
    for (ssize_t k; (k = read(m.qemu, buf, sizeof buf)) > 0;)
        passed += k;
    assert_true(passed <= 9); /* of what was allowed; without the end */
    assert_err(arrival_ram(m.a, 0, &src, &e), e, ERR_REFUSED); /* that number is used */
    close(m.src);
    close(m.qemu);
    AUTO(fd_close) int listener = -1;
    char sock[PATHS_SOCK_MAX];
    paths_ram_sock(sock, m.a->id, m.a->name);
    assert_ok(unix_listen(sock, &listener, &e), e);
    assert_ok(arrival_ram(m.a, 1, &m.src, &e), e);
    assert_ok(fd_write_all(m.src, "newramramend", 12, &e), e);
    assert_ok(unix_accept(listener, WAIT_MS, NULL, &m.qemu, &e), e);
    assert_err(arrival_ram_limit(m.a, 0, 12, &now, &e), e, ERR_REFUSED);
    assert_ok(arrival_ram_limit(m.a, 1, 3, &now, &e), e);
    assert_ok(fd_read_all(m.qemu, buf, 3, &e), e);
    assert_memory_equal(buf, "new", 3);
    assert_ok(arrival_abort(m.a, &e), e);
    moving_free(&m);
}

/* The guest has another name by now, and so has the socket of its QEMU here. */
static void arrival__reopened_listens_by_the_name_of_now(void **state)
{
    char sock[PATHS_SOCK_MAX], was[PATHS_SOCK_MAX], longest[257];
    struct arrival *a = prepared(ID1);
    struct moving m;
    struct err e;

    (void)state;
    assert_ok(arrival_keep(a, &e), e);
    a = reloaded(a);
    memset(longest, 'x', sizeof longest - 1);
    longest[256] = '\0';
    assert_err(arrival_rename(a, longest, &e), e, ERR_PROTO);
    assert_err(arrival_rename(a, "", &e), e, ERR_PROTO);
    paths_ram_sock(was, ID1, a->name);
    assert_ok(arrival_rename(a, "vm2", &e), e);
    assert_ok(arrival_reopen(a, NULL, &e), e);
    paths_ram_sock(sock, ID1, "vm2");
    assert_string_not_equal(sock, was);
    m.a = a;
    AUTO(fd_close) int listener = -1;
    assert_ok(unix_listen(sock, &listener, &e), e);
    assert_ok(arrival_ram(a, 0, &m.src, &e), e);
    assert_ok(fd_write_all(m.src, "r", 1, &e), e);
    assert_ok(unix_accept(listener, WAIT_MS, NULL, &m.qemu, &e), e);
    unlink(sock);
    assert_ok(arrival_abort(a, &e), e);
    moving_free(&m);
}

static void arrival__reopen_refuses_another_file(void **state)
{
    struct arrival *a = prepared(ID1);
    struct err e;

    (void)state;
    a = reloaded(a);
    assert_int_equal(rename(tmp_path("images/a.img"), tmp_path("b.img")), 0);
    assert_err(arrival_reopen(a, NULL, &e), e, ERR_REFUSED);
    AUTO(fd_close) int fd = open(tmp_path("images/a.img"), O_CREAT | O_RDWR, 0600);
    assert_int_equal(ftruncate(fd, MIB), 0);
    assert_err(arrival_reopen(a, NULL, &e), e, ERR_REFUSED);
    assert_int_equal(rename(tmp_path("b.img"), tmp_path("images/a.img")), 0);
    assert_ok(arrival_reopen(a, NULL, &e), e);
    abort_away(a);
}

static void arrival__released_cannot_be_reopened(void **state)
{
    struct moving m;
    struct err e;

    (void)state;
    moving_released(&m, ID1);
    assert_err(arrival_reopen(m.a, NULL, &e), e, ERR_REFUSED);
    guest_is(VDOM_PAUSED, VDOM_WHY_USER, false);
    assert_ok(arrival_commit(m.a, true, clock_ms(), &e), e);
    assert_err(arrival_reopen(m.a, NULL, &e), e, ERR_REFUSED);
    finish_away(m.a);
    moving_free(&m);
}

/* By hand, from outside: then its disks are not ours any more. */
static void arrival__reopen_refuses_disks_of_a_guest_that_ran(void **state)
{
    struct moving m;
    struct err e;

    (void)state;
    m.a = prepared(ID1);
    ram_flows(m.a, &m.src, &m.qemu);
    assert_ok(arrival_close(m.a, &e), e);
    guest_is(VDOM_RUNNING, VDOM_WHY_OTHER, false);
    assert_err(arrival_reopen(m.a, NULL, &e), e, ERR_REFUSED);
    assert_int_equal(atomic_load(&m.a->step), ARRIVAL_CLOSED);
    guest_is(VDOM_NONE, VDOM_WHY_OTHER, false);
    assert_ok(arrival_abort(m.a, &e), e);
    moving_free(&m);
}

static void arrival__reopen_mends_after_a_killed_writer(void **state)
{
    struct arrival *const a = prepared(ID1);
    struct err e;

    (void)state;
    kill(a->writers[0].proc.pid, SIGKILL);
    assert_ok(arrival_reopen(a, NULL, &e), e);
    expect_writable(a);
    assert_ok(arrival_close(a, &e), e);
    abort_away(a);
}

/* The newest opening, and any before it, but none that this journal never had. */
static void arrival__reopen_knows_what_it_goes_on_from(void **state)
{
    struct arrival *a = prepared(ID1);
    char first[PATHS_ID_LEN + 1];
    struct err e;

    (void)state;
    memcpy(first, a->opening, sizeof first);
    assert_true(paths_id_ok(first));
    assert_ok(arrival_reopen(a, first, &e), e);
    assert_true(paths_id_ok(a->opening));
    assert_string_not_equal(a->opening, first);
    a = reloaded(a);
    assert_err(arrival_reopen(a, ID2, &e), e, ERR_REFUSED);
    assert_int_equal(e.os, ESTALE);
    assert_ok(arrival_reopen(a, first, &e), e); /* the one between was not used */
    memcpy(first, a->opening, sizeof first);
    expect_writable(a);
    a = reloaded(a);
    assert_ok(arrival_reopen(a, first, &e), e);
    expect_writable(a);
    /* The source is of an earlier time: it does not know what was written since. */
    assert_err(arrival_reopen(a, first, &e), e, ERR_REFUSED);
    assert_int_equal(e.os, ESTALE);
    memcpy(first, a->opening, sizeof first);
    assert_ok(arrival_keep(a, &e), e);
    assert_string_not_equal(a->opening, first);
    assert_ok(arrival_reopen(a, first, &e), e); /* the answer was lost */
    abort_away(a);
}

/* Nothing but images and journal, and a later agent goes on from it. */
static void arrival__kept_is_gone_on_with_later(void **state)
{
    struct moving m;
    struct err e;
    int fd;

    (void)state;
    m.a = prepared(ID1);
    ram_flows(m.a, &m.src, &m.qemu);
    assert_ok(arrival_close(m.a, &e), e);
    assert_ok(arrival_keep(m.a, &e), e);
    assert_ok(arrival_keep(m.a, &e), e); /* the answer was lost */
    assert_err(arrival_disk(m.a, "vda", &fd, &e), e, ERR_REFUSED);
    assert_int_equal(access(m.a->run_dir, F_OK), -1);
    assert_int_equal(access(m.a->ram_dir, F_OK), -1);
    assert_int_equal(access(tmp_path("images/a.img"), F_OK), 0);
    m.a = reloaded(m.a);
    assert_int_equal(atomic_load(&m.a->step), ARRIVAL_CLOSED);
    assert_ok(arrival_keep(m.a, &e), e); /* by an agent that was asked for that only */
    assert_ok(arrival_reopen(m.a, NULL, &e), e);
    expect_writable(m.a);
    assert_ok(arrival_abort(m.a, &e), e);
    moving_free(&m);
}

/* Once it is used: then the source has heard. */
static void arrival__reopen_tells_what_was_written_while_it_was_kept(void **state)
{
    struct arrival *a = prepared(ID1);
    struct err e;

    (void)state;
    expect_writable(a);
    assert_ok(arrival_keep(a, &e), e);
    a = reloaded(a);
    assert_ok(arrival_reopen(a, NULL, &e), e);
    assert_false(a->changed);
    expect_writable(a);
    write_image(); /* as our writers do */
    assert_ok(arrival_keep(a, &e), e);
    assert_ok(arrival_reopen(a, NULL, &e), e); /* of the same agent */
    assert_false(a->changed);
    assert_ok(arrival_keep(a, &e), e);
    write_image();
    a = reloaded(a);
    assert_ok(arrival_keep(a, &e), e); /* it knows no more than the one before */
    a = reloaded(a);
    assert_ok(arrival_reopen(a, NULL, &e), e);
    assert_true(a->changed);
    a = reloaded(a);
    assert_ok(arrival_reopen(a, NULL, &e), e); /* the answer was lost */
    assert_true(a->changed);
    assert_ok(arrival_reopen(a, NULL, &e), e);
    assert_true(a->changed);
    expect_writable(a);
    write_image();
    a = reloaded(a);
    assert_ok(arrival_reopen(a, NULL, &e), e); /* the marks are void */
    assert_false(a->changed);
    abort_away(a);
}

/* An agent that was killed leaves no marks, but those of "closed" are good until it is
 * reopened. */
static void arrival__reopen_without_marks_takes_what_it_finds(void **state)
{
    struct arrival *a = prepared(ID1);
    struct err e;

    (void)state;
    write_image();
    a = reloaded(a);
    assert_ok(arrival_reopen(a, NULL, &e), e);
    assert_false(a->changed);
    assert_ok(arrival_close(a, &e), e);
    assert_ok(arrival_reopen(a, NULL, &e), e);
    assert_false(a->changed);
    write_image();
    assert_ok(arrival_reopen(a, NULL, &e), e); /* by the same agent */
    assert_false(a->changed);
    a = reloaded(a);
    assert_false(a->images[0].mark.known);
    assert_ok(arrival_reopen(a, NULL, &e), e);
    assert_false(a->changed);
    abort_away(a);
}

/* Mending writes: it must not hide, nor look like, what somebody else wrote. */
static void arrival__reopen_looks_before_it_mends(void **state)
{
    AUTO(json_put)
    struct json_object *body =
        body_of(body_add(json_object_new_array(), "vda", "images/a.img", "qcow2", MIB));
    const char *const argv[] = { "qemu-io", "-f",          "qcow2",
                                 "-c",      "write 0 64k", tmp_path("images/a.img"),
                                 NULL };
    /* The refcount, of 16 bits, of the fifth cluster: behind header,
     * table of refcount blocks, the first of these, and the L1 table. */
    enum { CLUSTER = 65536, LEAKED = 2 * CLUSTER + 4 * 2 };
    char count[2];
    struct arrival *a = NULL;
    struct err e;

    (void)state;
    assert_ok(arrival_parse(ID1, &fake_guest_ops, body, &a, &e), e);
    assert_ok(arrival_prepare(a, &e), e);
    kill(a->writers[0].proc.pid, SIGKILL);
    AUTO(fd_close) int fd = open(tmp_path("images/a.img"), O_RDWR | O_CLOEXEC);
    /* It had counted a cluster that nothing refers to yet. */
    assert_int_equal(ftruncate(fd, 5 * CLUSTER), 0);
    assert_int_equal(pwrite(fd, "\0\1", 2, LEAKED), 2);
    assert_ok(arrival_keep(a, &e), e);
    clock_sleep_ms(20);
    a = reloaded(a);
    assert_ok(arrival_reopen(a, NULL, &e), e);
    assert_false(a->changed);
    assert_int_equal(pread(fd, count, 2, LEAKED), 2);
    assert_memory_equal(count, "\0\0", 2); /* mended */
    assert_ok(arrival_keep(a, &e), e);
    clock_sleep_ms(20);
    assert_ok(proc_run(argv, WAIT_MS, NULL, 0, &e), e);
    a = reloaded(a);
    assert_ok(arrival_reopen(a, NULL, &e), e);
    assert_true(a->changed);
    abort_away(a);
}

/* It was defined here all the time, and somebody has started it on the copy. */
static void arrival__kept_disks_that_a_guest_has_written_are_left(void **state)
{
    struct arrival *a;
    struct err e;

    (void)state;
    atomic_store(&fake->defined, 1);
    guest_is(VDOM_OFF, VDOM_WHY_OTHER, false);
    a = prepared(ID1);
    assert_ok(arrival_keep(a, &e), e);
    a = reloaded(a);
    assert_ok(arrival_reopen(a, NULL, &e), e); /* it was not started */
    assert_ok(arrival_keep(a, &e), e);
    write_image();
    assert_abort_refused(a, "disk vda was written after the move had left it");
    a = reloaded(a);
    assert_abort_refused(a, "disk vda was written after the move had left it");
    assert_err(arrival_reopen(a, NULL, &e), e, ERR_REFUSED);
    struct arrival *const next = parsed(ID2);
    assert_err(arrival_prepare(next, &e), e, ERR_REFUSED);
    arrival_free(next);
    arrival_free(a);
    a = NULL;
    assert_ok(arrival_load(ID1, &fake_guest_ops, 0, &a, &e), e);
    assert_true(exists(tmp_path("images/a.img")));
    unlink(tmp_path("images/a.img")); /* by hand */
    abort_away(a);
    assert_int_equal(atomic_load(&fake->removes), 0);
}

/* Somebody has made something else of it. */
static void arrival__kept_disks_that_were_written_since_are_spared(void **state)
{
    struct arrival *a = prepared(ID1);
    struct err e;

    (void)state;
    assert_ok(arrival_keep(a, &e), e);
    write_image();
    a = reloaded(a);
    assert_ok(arrival_abort(a, &e), e);
    assert_contains(a->images[0].spared, "was written after the move had left it");
    assert_false(a->images[0].removed);
    arrival_free(a);
    assert_true(exists(tmp_path("images/a.img")));
    /* Nor does the next move take its name. */
    a = parsed(ID2);
    assert_err(arrival_prepare(a, &e), e, ERR_REFUSED);
    arrival_free(a);
    unlink(tmp_path("images/a.img"));
}

/* The answer to the first one was lost. */
static void arrival__kept_again_does_not_hide_what_was_written(void **state)
{
    struct arrival *a = prepared(ID1);
    struct err e;

    (void)state;
    assert_ok(arrival_keep(a, &e), e);
    write_image();
    assert_ok(arrival_keep(a, &e), e);
    a = reloaded(a);
    assert_ok(arrival_reopen(a, NULL, &e), e);
    assert_true(a->changed);
    assert_ok(arrival_keep(a, &e), e);
    a = reloaded(a);
    assert_ok(arrival_reopen(a, NULL, &e), e); /* nobody has acted upon it */
    assert_true(a->changed);
    abort_away(a);
}

/* A program of QEMU has it open, only to read. */
static void read_image(struct proc *p)
{
    char pid[220];
    struct err e;

    snprintf(pid, sizeof pid, "--pid-file=%s", tmp_path("pid"));
    unlink(tmp_path("pid")); /* written once the image is open */
    const char *const argv[] = {
        "qemu-nbd", "--read-only",    "--persistent",           pid, "-f", "raw",
        "-k",       tmp_path("sock"), tmp_path("images/a.img"), NULL
    };
    const struct proc_cfg cfg = { .argv = argv, .in = -1, .out = -1, .err = -1 };
    assert_ok(proc_spawn(&cfg, p, &e), e);
    const int64_t end = clock_ms() + WAIT_MS;
    while (!exists(tmp_path("pid")) && clock_left_ms(end) > 0)
        clock_sleep_ms(10);
}

/* It may pass: that is told apart from what is not the move's any more. */
static void arrival__kept_disks_that_somebody_reads_stay_kept(void **state)
{
    struct arrival *a = prepared(ID1);
    struct proc reader = PROC_NONE;
    struct err again = { 0 }, gone = { 0 };

    (void)state;
    assert_ok(arrival_keep(a, &again), again);
    a = reloaded(a);
    read_image(&reader);
    const bool taken = arrival_reopen(a, NULL, &again), kept = arrival_keep(a, &gone);
    proc_stop(&reader, 2000); /* whatever comes of it */
    assert_false(taken);
    assert_true(kept);
    assert_int_equal(again.kind, ERR_REFUSED);
    assert_int_equal(again.os, EBUSY);
    assert_contains(again.msg, "is in use");
    assert_ok(arrival_reopen(a, NULL, &again), again);
    assert_false(a->changed);
    assert_ok(arrival_keep(a, &again), again);
    read_image(&reader);
    const bool removed = arrival_abort(a, &gone);
    proc_stop(&reader, 2000);
    assert_false(removed);
    assert_int_equal(gone.os, EBUSY);
    abort_away(a);
}

/* What is not known is no reason: it had not the guest's memory. */
static void arrival__left_beside_a_definition_is_removed(void **state)
{
    struct arrival *a;

    (void)state;
    atomic_store(&fake->defined, 1);
    guest_is(VDOM_OFF, VDOM_WHY_OTHER, false);
    a = prepared(ID1);
    write_image();
    a = reloaded(a); /* the agent was killed */
    abort_away(a);
}

/* What a lost link leaves is marked as what is kept. */
static void arrival__parked_disks_that_were_written_since_are_spared(void **state)
{
    struct arrival *a = prepared(ID1);
    struct err e;

    (void)state;
    arrival_park(a);
    a = reloaded(a);
    assert_true(a->images[0].mark.known);
    assert_ok(arrival_reopen(a, NULL, &e), e);
    assert_false(a->changed);
    arrival_park(a);
    write_image();
    a = reloaded(a);
    assert_ok(arrival_abort(a, &e), e);
    assert_contains(a->images[0].spared, "was written after the move had left it");
    arrival_free(a);
    assert_true(exists(tmp_path("images/a.img")));
    unlink(tmp_path("images/a.img"));
}

enum { JOURNAL_MAX = 8192 };

/* The journal, open, and in @text; *at: where @key is in it. */
static int journal_find_key(const char *key, char text[JOURNAL_MAX], char **at)
{
    const int fd = open(PATHS_STATE "/" ID1 "/journal", O_RDWR | O_CLOEXEC);
    const ssize_t n = read(fd, text, JOURNAL_MAX - 1);

    assert_true(n > 0);
    text[n] = '\0';
    *at = strstr(text, key);
    assert_non_null(*at);
    return fd;
}

static void journal_put_back(int fd, const char *text)
{
    struct err e;

    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    assert_ok(fd_write_all(fd, text, strlen(text), &e), e);
    close(fd);
}

/* Another boot's journal, or one without that. */
static void journal_of_boot(const char *boot)
{
    static const char key[] = "\"boot_id\"";
    char text[JOURNAL_MAX], *at;
    const int fd = journal_find_key(key, text, &at);

    if (boot == NULL) {
        memcpy(at, "\"boot_xx\"", sizeof key - 1);
    } else {
        char *const v = strchr(at + sizeof key - 1, '"') + 1;

        assert_int_equal(strcspn(v, "\""), strlen(boot));
        memcpy(v, boot, strlen(boot));
    }
    journal_put_back(fd, text);
}

/* The file system of the (first) image had another number. */
static void journal_of_file_system(void)
{
    static const char key[] = "\"id\"";
    char text[JOURNAL_MAX], *at;
    const int fd = journal_find_key(key, text, &at);
    char *const v = strchr(at + sizeof key - 1, '"') + 1;

    v[0] = v[0] == '7' ? '8' : '7';
    journal_put_back(fd, text);
}

/* A move to the block device @path. */
static struct arrival *parsed_on(const char *path)
{
    struct json_object *const disk = json_new(), *const disks = json_object_new_array();
    struct arrival *a = NULL;
    struct err e;

    json_add_str(json_add_str(disk, "target", "vda"), "path", path);
    json_add_u64(json_add_str(disk, "format", "raw"), "size", DEVICE);
    json_object_array_add(disks, disk);
    AUTO(json_put) struct json_object *body = body_of(disks);
    assert_ok(arrival_parse(ID1, &fake_guest_ops, body, &a, &e), e);
    return a;
}

static struct arrival *prepared_on(const char *path)
{
    struct arrival *const a = parsed_on(path);
    struct err e;

    assert_ok(arrival_prepare(a, &e), e);
    return a;
}

/* As QEMU, which opens it beside us. */
static void write_device(const char *path, char byte)
{
    AUTO(fd_close) int fd = open(path, O_WRONLY | O_CLOEXEC);

    assert_int_equal(pwrite(fd, &byte, 1, 4096), 1);
    assert_int_equal(fsync(fd), 0);
}

static char device_byte(const char *path)
{
    AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    char byte;

    assert_int_equal(pread(fd, &byte, 1, 4096), 1);
    return byte;
}

/* Also one that has not written yet: nothing but libvirt tells. */
static void arrival__device_of_another_domain_is_not_touched(void **state)
{
    char path[LOOP_PATH];
    struct arrival *a;
    struct err e;

    (void)state;
    loop_need(DEVICE, path);
    snprintf(fake->disk, sizeof fake->disk, "%s", path);
    a = parsed_on(path);
    assert_err(arrival_prepare(a, &e), e, ERR_REFUSED); /* though it is empty */
    assert_contains(e.msg, "is a disk of the domain 'owner'");
    arrival_free(a);
    for (int known = 0; known <= 1; known++) {
        fake->disk[0] = '\0';
        write_device(path, '\0');
        a = prepared_on(path);
        write_device(path, 'x');
        if (known == 1)
            arrival_park(a);
        a = reloaded(a);
        assert_int_equal(a->images[0].mark.known, known == 1);
        snprintf(fake->disk, sizeof fake->disk, "%s", path);
        assert_err(arrival_reopen(a, NULL, &e), e, ERR_REFUSED);
        assert_contains(e.msg, "is a disk of the domain 'owner'");
        assert_ok(arrival_abort(a, &e), e);
        assert_false(a->images[0].blanked);
        assert_contains(a->images[0].spared, "is a disk of the domain 'owner'");
        arrival_free(a);
        assert_int_equal(device_byte(path), 'x');
    }
    loop_remove();
}

/* Somebody has made a guest of it, which is off: its file must not be written over nor go. */
static void arrival__file_of_another_domain_is_not_touched(void **state)
{
    const char *const path = tmp_path("images/a.img");
    struct arrival *a;
    struct err e;

    (void)state;
    snprintf(fake->disk, sizeof fake->disk, "%s", path);
    a = parsed(ID1);
    assert_err(arrival_prepare(a, &e), e, ERR_REFUSED); /* though it is not there */
    assert_contains(e.msg, "is a disk of the domain 'owner'");
    arrival_free(a);
    for (int known = 0; known <= 1; known++) {
        fake->disk[0] = '\0';
        a = prepared(ID1);
        if (known == 1)
            arrival_park(a);
        else
            write_image();
        a = reloaded(a);
        assert_int_equal(a->images[0].mark.known, known == 1);
        snprintf(fake->disk, sizeof fake->disk, "%s", path);
        assert_err(arrival_reopen(a, NULL, &e), e, ERR_REFUSED);
        assert_contains(e.msg, "is a disk of the domain 'owner'");
        assert_ok(arrival_abort(a, &e), e);
        assert_false(a->images[0].removed);
        assert_contains(a->images[0].spared, "is a disk of the domain 'owner'");
        arrival_free(a);
        assert_true(exists(path));
        unlink(path);
    }
}

/* Of a file that has no name yet nobody can have a disk; what has its name is another. */
static void arrival__undoing_beside_anothers_disk_leaves_it(void **state)
{
    struct arrival *const a = parsed(ID1);
    struct err e;

    (void)state;
    AUTO(fd_close)
    int fd = open(tmp_path("images/a.img"), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    snprintf(fake->disk, sizeof fake->disk, "%s", tmp_path("images/a.img"));
    assert_err(arrival_prepare(a, &e), e, ERR_REFUSED);
    assert_string_equal(a->images[0].spared, "");
    arrival_free(a);
    assert_true(exists(tmp_path("images/a.img")));
    unlink(tmp_path("images/a.img"));
}

static void arrival__device_that_was_left_is_blanked_only_if_nobody_wrote(void **state)
{
    char path[LOOP_PATH];
    struct arrival *a;
    struct err e;

    (void)state;
    loop_need(DEVICE, path);
    a = prepared_on(path);
    write_device(path, 'x');
    abort_away(a); /* it was open all the time */
    assert_int_equal(device_byte(path), '\0');
    a = prepared_on(path);
    write_device(path, 'x');
    arrival_park(a);
    a = reloaded(a);
    assert_ok(arrival_abort(a, &e), e);
    assert_true(a->images[0].blanked);
    arrival_free(a);
    a = prepared_on(path);
    write_device(path, 'x');
    a = reloaded(a); /* killed: since then nobody has looked */
    assert_ok(arrival_abort(a, &e), e);
    assert_contains(a->images[0].spared, "may have been written");
    arrival_free(a);
    assert_int_equal(device_byte(path), 'x');
    loop_remove();
}

/* Its domain is gone since: nothing else tells that it has run here. */
static void arrival__abort_knows_a_device_that_a_guest_has_written(void **state)
{
    char path[LOOP_PATH];
    struct moving m;
    struct err e;

    (void)state;
    loop_need(DEVICE, path);
    m.a = prepared_on(path);
    write_device(path, 'x');
    ram_flows(m.a, &m.src, &m.qemu);
    assert_ok(arrival_close(m.a, &e), e);
    assert_ok(arrival_release(m.a, &e), e);
    m.a = reloaded(m.a);
    guest_is(VDOM_NONE, VDOM_WHY_OTHER, false);
    write_device(path, 'y');
    assert_abort_refused(m.a, "disk vda was written after the move had left it");
    m.a = reloaded(m.a);
    write_device(path, '\0'); /* an abort that was cut short had blanked it */
    assert_ok(arrival_abort(m.a, &e), e);
    assert_false(m.a->images[0].blanked);
    moving_free(&m);
    loop_remove();
}

static void arrival__restart_of_the_host_forgets_devices_only(void **state)
{
    static const char *const boots[] = { "00000000-0000-0000-0000-000000000000", NULL };
    char path[LOOP_PATH];
    struct err e;

    (void)state;
    struct arrival *a = prepared(ID1);
    assert_ok(arrival_keep(a, &e), e);
    journal_of_boot(boots[0]);
    a = reloaded(a);
    assert_ok(arrival_reopen(a, NULL, &e), e);
    assert_false(a->changed);
    abort_away(a);
    loop_need(DEVICE, path);
    for (size_t i = 0; i < sizeof boots / sizeof boots[0]; i++) {
        a = parsed_on(path);
        assert_ok(arrival_prepare(a, &e), e);
        assert_ok(arrival_keep(a, &e), e);
        a = reloaded(a);
        assert_true(a->images[0].id.dev != 0);
        assert_ok(arrival_reopen(a, NULL, &e), e);
        assert_ok(arrival_keep(a, &e), e);
        journal_of_boot(boots[i]);
        a = reloaded(a);
        assert_int_equal(a->images[0].id.dev, 0);
        assert_false(a->images[0].mark.known);
        assert_err(arrival_reopen(a, NULL, &e), e, ERR_REFUSED);
        assert_contains(e.msg, "the host was started anew");
        abort_away(a);
    }
    loop_remove();
}

static const char another_boot[] = "00000000-0000-0000-0000-000000000000";

/* Its number is another one in another boot only, and the file is the same: it is gone on with,
 * and removed. */
static void arrival__restart_of_the_host_renumbers_file_systems(void **state)
{
    struct arrival *a = prepared(ID1);
    struct err e;

    (void)state;
    if (a->images[0].id.born == 0) {
        abort_away(a);
        skip(); /* a file system that does not tell when a file was made */
    }
    assert_ok(arrival_keep(a, &e), e);
    journal_of_file_system();
    a = reloaded(a);
    assert_err(arrival_reopen(a, NULL, &e), e, ERR_REFUSED);
    assert_contains(e.msg, "is another file than the move made");
    journal_of_boot(another_boot);
    for (int written = 0; written < 2; written++) {
        if (written == 1)
            write_image();
        a = reloaded(a);
        assert_ok(arrival_reopen(a, NULL, &e), e);
        assert_int_equal(a->changed, written);
        assert_ok(arrival_keep(a, &e), e);
    }
    a = reloaded(a);
    assert_ok(arrival_abort(a, &e), e);
    assert_true(a->images[0].removed);
    arrival_free(a);
}

/* The source's QEMU has ended, and the guest's memory has not come: it is given up there. */
static void arrival__restart_of_the_host_does_not_hide_what_has_run(void **state)
{
    (void)state;
    for (int written = 0; written < 2; written++) {
        struct moving m;
        struct err e;

        moving_released(&m, ID1);
        journal_of_file_system();
        journal_of_boot(another_boot);
        const bool told = m.a->images[0].id.born != 0;
        m.a = reloaded(m.a);
        guest_is(VDOM_NONE, VDOM_WHY_OTHER, false);
        if (written == 1)
            write_image();
        if (written == 1 || !told) {
            assert_err(arrival_abort(m.a, &e), e, ERR_REFUSED);
            assert_contains(e.msg, "the guest may have run here");
            unlink(tmp_path("images/a.img")); /* by hand */
            m.a = reloaded(m.a);
        }
        assert_ok(arrival_abort(m.a, &e), e);
        moving_free(&m);
    }
}

static void arrival__released_or_run_is_not_kept(void **state)
{
    struct moving m;
    struct err e;

    (void)state;
    m.a = prepared(ID1);
    ram_flows(m.a, &m.src, &m.qemu);
    assert_ok(arrival_close(m.a, &e), e);
    guest_is(VDOM_RUNNING, VDOM_WHY_OTHER, false);
    assert_err(arrival_keep(m.a, &e), e, ERR_REFUSED);
    guest_is(VDOM_NONE, VDOM_WHY_OTHER, false);
    assert_ok(arrival_abort(m.a, &e), e);
    moving_free(&m);
    moving_released(&m, ID1);
    assert_err(arrival_keep(m.a, &e), e, ERR_REFUSED);
    assert_ok(arrival_abort(m.a, &e), e);
    moving_free(&m);
}

static void arrival__lost_after_release_delivers_ram_and_keeps_all(void **state)
{
    char buf[64];
    struct moving m;
    struct err e;

    (void)state;
    m.a = prepared(ID1);
    ram_flows(m.a, &m.src, &m.qemu);
    assert_ok(arrival_close(m.a, &e), e);
    assert_ok(arrival_release(m.a, &e), e);
    close(m.src); /* as the link does when it breaks */
    m.src = -1;
    shutdown(m.qemu, SHUT_WR);
    arrival_lost(m.a);
    ssize_t n = 0, k;
    while ((k = read(m.qemu, buf, sizeof buf)) > 0)
        n += k;
    assert_int_equal(n, 12);
    assert_int_equal(atomic_load(&fake->removes), 0);
    m.a = reloaded(m.a);
    assert_true(exists(tmp_path("images/a.img")));
    assert_ok(arrival_abort(m.a, &e), e);
    moving_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_MOVE(arrival__prepare_makes_images_tokens_sockets),
        TEST_MOVE(arrival__whole_move_runs_once_and_leaves_only_the_images),
        TEST_MOVE(arrival__paused_guest_stays_paused),
        TEST_MOVE(arrival__a_guest_that_runs_is_greeted),
        TEST_MOVE(arrival__steps_out_of_order_are_refused),
        TEST_MOVE(arrival__release_without_a_ram_stream_is_refused),
        TEST_MOVE(arrival__disks_cannot_be_reached_after_close),
        TEST_MOVE(arrival__killed_writer_is_not_closed),
        TEST_MOVE(arrival__limit_of_an_earlier_ram_stream_is_refused),
        TEST_MOVE(arrival__commit_waits_for_the_end_of_the_migration),
        TEST_MOVE(arrival__commit_tries_again_while_an_image_is_locked),
        TEST_MOVE(arrival__commit_marks_what_the_guest_writes_if_wanted),
        TEST_MOVE(arrival__commit_outlives_a_restart_of_libvirt),
        TEST_MOVE(arrival__commit_of_a_domain_that_is_gone_is_not_committed),
        TEST_MOVE(arrival__later_agent_commits_from_the_journal),
        TEST_MOVE(arrival__later_agent_goes_on_after_committed),
        TEST_MOVE(arrival__journal_without_room_for_running_is_no_failure),
        TEST_MOVE(arrival__later_agent_cannot_go_on_before_released),
        TEST_MOVE(arrival__move_of_a_live_agent_cannot_be_loaded),
        TEST_MOVE(arrival__journal_of_a_source_is_not_ours),
        TEST_MOVE(arrival__abort_removes_the_domain_it_brought),
        TEST_MOVE(arrival__abort_keeps_a_definition_that_was_there_before),
        TEST_MOVE(arrival__abort_never_removes_a_guest_that_may_have_run),
        TEST_MOVE(arrival__abort_keeps_what_somebody_has_defined_since),
        TEST_MOVE(arrival__abort_keeps_disks_that_were_written_after_close),
        TEST_MOVE(arrival__next_move_keeps_disks_that_were_written_after_close),
        TEST_MOVE(arrival__abort_keeps_a_disk_that_has_another_size),
        TEST_MOVE(arrival__abort_keeps_a_domain_whose_disk_was_moved),
        TEST_MOVE(arrival__abort_removes_disks_that_only_changed_hands),
        TEST_MOVE(arrival__abort_after_close_knows_the_states_of_a_new_guest),
        TEST_MOVE(arrival__journal_without_marks_can_be_committed_only),
        TEST_MOVE(arrival__abort_without_libvirt_keeps_images_and_journal),
        TEST_MOVE(arrival__abort_drops_held_ram),
        TEST_MOVE(arrival__abort_leaves_a_file_that_took_the_images_place),
        TEST_MOVE(arrival__existing_target_is_refused_and_all_undone),
        TEST_MOVE(arrival__two_disks_on_one_path_are_refused),
        TEST_MOVE(arrival__active_domain_of_that_uuid_is_refused),
        TEST_MOVE(arrival__dead_move_of_the_same_vm_is_removed),
        TEST_MOVE(arrival__same_id_again_after_a_crash_starts_anew),
        TEST_MOVE(arrival__second_move_of_the_same_vm_is_refused),
        TEST_MOVE(arrival__same_id_while_alive_is_refused),
        TEST_MOVE(arrival__unfinished_committed_move_blocks_while_its_domain_is_there),
        TEST_MOVE(arrival__lost_before_release_keeps_disks_only),
        TEST_MOVE(arrival__reopened_is_prepared_again),
        TEST_MOVE(arrival__reopened_drops_the_old_stream),
        TEST_MOVE(arrival__reopened_listens_by_the_name_of_now),
        TEST_MOVE(arrival__reopen_refuses_another_file),
        TEST_MOVE(arrival__released_cannot_be_reopened),
        TEST_MOVE(arrival__reopen_refuses_disks_of_a_guest_that_ran),
        TEST_MOVE(arrival__reopen_mends_after_a_killed_writer),
        TEST_MOVE(arrival__reopen_knows_what_it_goes_on_from),
        TEST_MOVE(arrival__kept_is_gone_on_with_later),
        TEST_MOVE(arrival__reopen_tells_what_was_written_while_it_was_kept),
        TEST_MOVE(arrival__reopen_without_marks_takes_what_it_finds),
        TEST_MOVE(arrival__reopen_looks_before_it_mends),
        TEST_MOVE(arrival__kept_disks_that_a_guest_has_written_are_left),
        TEST_MOVE(arrival__kept_disks_that_were_written_since_are_spared),
        TEST_MOVE(arrival__kept_again_does_not_hide_what_was_written),
        TEST_MOVE(arrival__kept_disks_that_somebody_reads_stay_kept),
        TEST_MOVE(arrival__left_beside_a_definition_is_removed),
        TEST_MOVE(arrival__parked_disks_that_were_written_since_are_spared),
        TEST_MOVE(arrival__restart_of_the_host_forgets_devices_only),
        TEST_MOVE(arrival__device_of_another_domain_is_not_touched),
        TEST_MOVE(arrival__restart_of_the_host_renumbers_file_systems),
        TEST_MOVE(arrival__restart_of_the_host_does_not_hide_what_has_run),
        TEST_MOVE(arrival__file_of_another_domain_is_not_touched),
        TEST_MOVE(arrival__undoing_beside_anothers_disk_leaves_it),
        TEST_MOVE(arrival__device_that_was_left_is_blanked_only_if_nobody_wrote),
        TEST_MOVE(arrival__abort_knows_a_device_that_a_guest_has_written),
        TEST_MOVE(arrival__released_or_run_is_not_kept),
        TEST_MOVE(arrival__lost_after_release_delivers_ram_and_keeps_all),
    };

    own_state();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    log_init(LOG_ERROR, "dst");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
