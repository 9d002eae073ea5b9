#include "unit.h"

#include <errno.h>
#include <fcntl.h>

#include "base/mem.h"

static int open_null(void)
{
    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static void mem__fd_is_closed_at_scope_exit(void **state)
{
    int seen;

    (void)state;
    {
        AUTO(fd_close) int fd = open_null();

        seen = fd;
    }
    assert_int_equal(fcntl(seen, F_GETFD), -1);
    assert_int_equal(errno, EBADF);
}

static void mem__stolen_fd_stays_open(void **state)
{
    int kept;

    (void)state;
    {
        AUTO(fd_close) int fd = open_null();

        kept = fd_steal(&fd);
        assert_int_equal(fd, -1);
    }
    assert_true(fcntl(kept, F_GETFD) >= 0);
    close(kept);
}

static void mem__pointer_is_freed_or_stolen(void **state)
{
    char *kept;

    (void)state;
    {
        AUTO(mem_free) char *lost = strdup("LeakSanitizer watches this one");
        AUTO(mem_free) char *s = strdup("kept");

        assert_non_null(lost);
        kept = ptr_steal(&s);
        assert_null(s);
    }
    assert_string_equal(kept, "kept");
    free(kept);
}

static void mem__lock_scope_ends_with_its_block(void **state)
{
    pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;

    (void)state;
    {
        LOCK_SCOPE(&m);
        assert_int_equal(pthread_mutex_trylock(&m), EBUSY);
    }
    assert_int_equal(pthread_mutex_trylock(&m), 0);
    pthread_mutex_unlock(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(mem__fd_is_closed_at_scope_exit),
        TEST(mem__stolen_fd_stays_open),
        TEST(mem__pointer_is_freed_or_stolen),
        TEST(mem__lock_scope_ends_with_its_block),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
