#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/unix.h"
#include "tests/lib/tmp.h"

enum { LONG_MS = 30000 }; /* a test that waits so long has failed */

static void unix__connection_carries_bytes_both_ways(void **state)
{
    AUTO(fd_close) int l = -1;
    AUTO(fd_close) int a = -1;
    AUTO(fd_close) int b = -1;
    char c;
    struct err e;

    (void)state;
    assert_ok(unix_listen(tmp_path("s"), &l, &e), e);
    assert_ok(unix_connect(tmp_path("s"), &a, &e), e);
    assert_ok(unix_accept(l, LONG_MS, NULL, &b, &e), e);
    assert_ok(fd_write_all(a, "x", 1, &e), e);
    assert_ok(fd_read_all(b, &c, 1, &e), e);
    assert_int_equal(c, 'x');
    assert_ok(fd_write_all(b, "y", 1, &e), e);
    assert_ok(fd_read_all(a, &c, 1, &e), e);
    assert_int_equal(c, 'y');
    assert_int_equal(fcntl(l, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(a, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(b, F_GETFD), FD_CLOEXEC);
}

static void unix__path_length_is_checked(void **state)
{
    char path[200];
    int fd = 77;
    struct err e;

    (void)state;
    memset(path, 'a', sizeof path);
    path[108] = '\0';
    assert_err(unix_listen(path, &fd, &e), e, ERR_USAGE);
    assert_err(unix_connect(path, &fd, &e), e, ERR_USAGE);
    assert_err(unix_listen("", &fd, &e), e, ERR_USAGE); /* would be an abstract name */
    assert_int_equal(fd, 77);

    /* One less fits. */
    AUTO(fd_close) int l = -1;
    path[107] = '\0';
    memcpy(path, tmp_dir(), strlen(tmp_dir()));
    path[strlen(tmp_dir())] = '/';
    assert_ok(unix_listen(path, &l, &e), e);
}

static void unix__busy_path_is_refused(void **state)
{
    AUTO(fd_close) int l = -1;
    int fd = 77;
    struct err e;

    (void)state;
    assert_ok(unix_listen(tmp_path("s"), &l, &e), e);
    assert_err(unix_listen(tmp_path("s"), &fd, &e), e, ERR_SYS);
    assert_int_equal(e.os, EADDRINUSE);
    assert_int_equal(fd, 77);
}

static void *listen_later(void *out)
{
    struct err e;

    clock_sleep_ms(50);
    if (!unix_listen(tmp_path("s"), out, &e))
        *(int *)out = -1;
    return NULL;
}

static void unix__connect_waits_for_a_listener(void **state)
{
    AUTO(fd_close) int l = -1;
    AUTO(fd_close) int fd = -1;
    pthread_t t;
    struct err e;

    (void)state;
    assert_int_equal(pthread_create(&t, NULL, listen_later, &l), 0);
    assert_ok(unix_connect_wait(tmp_path("s"), LONG_MS, NULL, &fd, &e), e);
    pthread_join(t, NULL);
    assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
}

static void unix__connect_gives_up_in_time(void **state)
{
    AUTO(cancel_free) struct cancel *c = cancel_new();
    int fd = 77;
    struct err e;

    (void)state;
    assert_err(unix_connect_wait(tmp_path("none"), 30, NULL, &fd, &e), e, ERR_TIMEOUT);
    assert_contains(e.msg, "gave up after 30 ms: cannot connect to /tmp/");
    cancel_set(c);
    assert_err(unix_connect_wait(tmp_path("none"), LONG_MS, c, &fd, &e), e,
               ERR_CANCELLED);
    /* Waiting does not help here. */
    assert_err(unix_connect_wait("/dev/null/s", LONG_MS, NULL, &fd, &e), e, ERR_SYS);
    assert_int_equal(e.os, ENOTDIR);
    assert_int_equal(fd, 77);
}

/* connect(2) blocks while the backlog is full: the deadline must hold anyway. */
static void unix__connect_to_a_full_listener_gives_up_in_time(void **state)
{
    AUTO(fd_close) int l = -1;
    int fds[64], n = 0;
    struct err e;

    (void)state;
    assert_ok(unix_listen(tmp_path("s"), &l, &e), e);
    e.kind = ERR_NONE;
    while (n < 64 && unix_connect_wait(tmp_path("s"), 30, NULL, &fds[n], &e))
        n++;
    assert_int_equal(e.kind, ERR_TIMEOUT);
    while (n > 0)
        close(fds[--n]);
}

static void *set_it(void *c)
{
    cancel_set(c);
    return NULL;
}

static void unix__accept_gives_up_in_time(void **state)
{
    AUTO(cancel_free) struct cancel *c = cancel_new();
    AUTO(fd_close) int l = -1;
    int fd = 77;
    pthread_t t;
    struct err e;

    (void)state;
    assert_ok(unix_listen(tmp_path("s"), &l, &e), e);
    assert_err(unix_accept(l, 10, NULL, &fd, &e), e, ERR_TIMEOUT);
    assert_int_equal(pthread_create(&t, NULL, set_it, c), 0);
    assert_err(unix_accept(l, LONG_MS, c, &fd, &e), e, ERR_CANCELLED);
    pthread_join(t, NULL);
    assert_int_equal(fd, 77);
}

enum { BIG = 1 << 20 }; /* more than a socket holds */

static void *write_big(void *fd)
{
    static char buf[BIG];
    struct err e;

    memset(buf, 'b', sizeof buf);
    return fd_write_all(*(int *)fd, buf, sizeof buf, &e) ? fd : NULL;
}

static void both_ways_big(int flags)
{
    static char buf[BIG];
    int fd[2];
    pthread_t t;
    void *ok;
    struct err e;

    assert_ok(unix_pair(fd, &e), e);
    assert_int_equal(fcntl(fd[0], F_SETFL, flags) | fcntl(fd[1], F_SETFL, flags), 0);
    assert_int_equal(pthread_create(&t, NULL, write_big, &fd[0]), 0);
    memset(buf, 0, sizeof buf);
    assert_ok(fd_read_all(fd[1], buf, sizeof buf, &e), e);
    pthread_join(t, &ok);
    assert_non_null(ok);
    assert_int_equal(buf[0], 'b');
    assert_int_equal(buf[BIG - 1], 'b');
    close(fd[0]);
    close(fd[1]);
}

static void unix__long_buffers_pass_whole(void **state)
{
    (void)state;
    both_ways_big(0);
    both_ways_big(O_NONBLOCK);
}

static void unix__short_read_says_how_much_came(void **state)
{
    char buf[10];
    int fd[2];
    struct err e;

    (void)state;
    assert_ok(unix_pair(fd, &e), e);
    assert_ok(fd_write_all(fd[0], "abc", 3, &e), e);
    close(fd[0]);
    assert_err(fd_read_all(fd[1], buf, sizeof buf, &e), e, ERR_PROTO);
    assert_string_equal(e.msg, "end of file after 3 of 10 bytes");
    assert_ok(fd_read_all(fd[1], buf, 0, &e), e);
    close(fd[1]);
}

static void unix__write_to_nobody_is_an_error(void **state)
{
    int fd[2];
    struct err e;

    (void)state;
    signal(SIGPIPE, SIG_IGN); /* as the program does */
    assert_ok(unix_pair(fd, &e), e);
    close(fd[1]);
    assert_err(fd_write_all(fd[0], "x", 1, &e), e, ERR_SYS);
    assert_int_equal(e.os, EPIPE);
    close(fd[0]);
    signal(SIGPIPE, SIG_DFL);
}

static unsigned mode_of(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 ? st.st_mode & 07777 : 0;
}

static void dir__private_is_made_with_its_parents(void **state)
{
    const mode_t old = umask(022);
    struct err e;

    (void)state;
    assert_ok(dir_private(tmp_path("a/b//c/"), &e), e);
    umask(old);
    assert_int_equal(mode_of(tmp_path("a")), 0755);
    assert_int_equal(mode_of(tmp_path("a/b")), 0755);
    assert_int_equal(mode_of(tmp_path("a/b/c")), 0700);
    assert_ok(dir_private(tmp_path("a/b/c"), &e), e); /* ours: taken */
}

static void dir__private_may_be_relative(void **state)
{
    const int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct err e;

    (void)state;
    assert_int_equal(chdir(tmp_dir()), 0);
    const bool ok = dir_private("a/b", &e);
    assert_int_equal(fchdir(here), 0);
    close(here);
    assert_true(ok);
    assert_int_equal(mode_of(tmp_path("a/b")), 0700);
}

static void dir__open_to_others_is_refused(void **state)
{
    struct err e;

    (void)state;
    assert_int_equal(mkdir(tmp_path("d"), 0700) | chmod(tmp_path("d"), 0710), 0);
    assert_err(dir_private(tmp_path("d"), &e), e, ERR_SYS);
    assert_contains(e.msg, "is open to others (mode 0710)");
}

static void dir__of_another_owner_is_refused(void **state)
{
    struct err e;

    (void)state;
    assert_int_equal(mkdir(tmp_path("d"), 0700), 0);
    if (chown(tmp_path("d"), 12345, (gid_t)-1) != 0)
        skip(); /* not root */
    assert_err(dir_private(tmp_path("d"), &e), e, ERR_SYS);
    assert_contains(e.msg, "belongs to uid 12345, not to us");
}

static void dir__symlink_is_refused_only_at_the_end(void **state)
{
    struct err e;

    (void)state;
    assert_int_equal(mkdir(tmp_path("d"), 0700), 0);
    assert_int_equal(symlink("d", tmp_path("l")), 0);
    assert_err(dir_private(tmp_path("l"), &e), e, ERR_SYS);
    assert_err(dir_private(tmp_path("l/"), &e), e, ERR_SYS);
    assert_ok(dir_private(tmp_path("l/x"), &e), e); /* as below /var/run */
    assert_int_equal(mode_of(tmp_path("d/x")), 0700);
}

static void dir__what_is_no_directory_is_refused(void **state)
{
    struct err e;

    (void)state;
    close(open(tmp_path("f"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_err(dir_private(tmp_path("f"), &e), e, ERR_SYS);
    assert_int_equal(e.os, ENOTDIR);
    assert_err(dir_private(tmp_path("f/x"), &e), e, ERR_SYS);
    assert_err(dir_private("/", &e), e, ERR_USAGE);
    assert_err(dir_private("", &e), e, ERR_USAGE);
}

static void dir__remove_takes_files_and_spares_link_targets(void **state)
{
    struct err e;

    (void)state;
    assert_ok(dir_private(tmp_path("keep/inner"), &e), e);
    assert_ok(dir_private(tmp_path("d/empty"), &e), e);
    close(open(tmp_path("d/f"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_int_equal(symlink("../keep", tmp_path("d/l")), 0);
    dir_remove(tmp_path("d"));
    assert_int_equal(access(tmp_path("d"), F_OK), -1);
    assert_int_equal(access(tmp_path("keep/inner"), F_OK), 0);
}

static void dir__remove_of_a_symlink_or_nothing_does_nothing(void **state)
{
    struct err e;

    (void)state;
    assert_ok(dir_private(tmp_path("d"), &e), e);
    assert_int_equal(symlink("d", tmp_path("l")), 0);
    dir_remove(tmp_path("l"));
    dir_remove(tmp_path("none"));
    assert_int_equal(access(tmp_path("l"), F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_TMP(unix__connection_carries_bytes_both_ways),
        TEST_TMP(unix__path_length_is_checked),
        TEST_TMP(unix__busy_path_is_refused),
        TEST_TMP(unix__connect_waits_for_a_listener),
        TEST_TMP(unix__connect_gives_up_in_time),
        TEST_TMP(unix__connect_to_a_full_listener_gives_up_in_time),
        TEST_TMP(unix__accept_gives_up_in_time),
        TEST(unix__long_buffers_pass_whole),
        TEST(unix__short_read_says_how_much_came),
        TEST(unix__write_to_nobody_is_an_error),
        TEST_TMP(dir__private_is_made_with_its_parents),
        TEST_TMP(dir__private_may_be_relative),
        TEST_TMP(dir__open_to_others_is_refused),
        TEST_TMP(dir__of_another_owner_is_refused),
        TEST_TMP(dir__symlink_is_refused_only_at_the_end),
        TEST_TMP(dir__what_is_no_directory_is_refused),
        TEST_TMP(dir__remove_takes_files_and_spares_link_targets),
        TEST_TMP(dir__remove_of_a_symlink_or_nothing_does_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
