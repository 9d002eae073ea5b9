/* Threads: their name, what signals they take, and that failing to start one is said. */
#include "unit.h"

#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>

#include "base/thread.h"

/* What a thread finds out of itself, once it may. */
struct seen {
    sem_t go, done;
    char name[THREAD_NAME];
    sigset_t mask;
    int detached;
};

static void *look(void *arg)
{
    struct seen *const s = arg;
    pthread_attr_t attr;

    sem_wait(&s->go);
    pthread_getname_np(pthread_self(), s->name, sizeof s->name);
    pthread_sigmask(SIG_SETMASK, NULL, &s->mask);
    pthread_getattr_np(pthread_self(), &attr);
    pthread_attr_getdetachstate(&attr, &s->detached);
    pthread_attr_destroy(&attr);
    sem_post(&s->done);
    return s;
}

static void seen_init(struct seen *s)
{
    memset(s, 0, sizeof *s);
    sem_init(&s->go, 0, 0);
    sem_init(&s->done, 0, 0);
}

static void start__names_it_and_keeps_signals_from_it(void **state)
{
    static const int ours[] = { SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGPIPE, SIGCHLD };
    struct seen s;
    sigset_t before, after;
    pthread_t t;
    struct err e;
    void *end;

    (void)state;
    seen_init(&s);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    assert_ok(thread_start(&t, look, &s, "fifteen-letters", &e), e);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    sem_post(&s.go);
    assert_int_equal(pthread_join(t, &end), 0);
    assert_ptr_equal(end, &s);
    assert_string_equal(s.name, "fifteen-letters");
    assert_int_equal(s.detached, PTHREAD_CREATE_JOINABLE);
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
        assert_true(sigismember(&s.mask, ours[i]));
        assert_int_equal(sigismember(&before, ours[i]), sigismember(&after, ours[i]));
    }
    assert_false(sigismember(&s.mask, SIGSEGV));
    assert_false(sigismember(&s.mask, SIGBUS));
}

static void start_detached__needs_no_join(void **state)
{
    static struct seen s; /* the thread may outlive this function */
    struct err e;

    (void)state;
    seen_init(&s);
    assert_ok(thread_start_detached(look, &s, "alone", &e), e);
    sem_post(&s.go);
    sem_wait(&s.done);
    assert_string_equal(s.name, "alone");
    assert_int_equal(s.detached, PTHREAD_CREATE_DETACHED);
    assert_true(sigismember(&s.mask, SIGTERM));
}

/* A stack that no address space has room for. */
static void start__says_which_could_not_be_started(void **state)
{
    pthread_attr_t old, huge;
    sigset_t before, after;
    struct err e;
    pthread_t t;

    (void)state;
    pthread_getattr_default_np(&old);
    pthread_attr_init(&huge);
    assert_int_equal(pthread_attr_setstacksize(&huge, (size_t)1 << 60), 0);
    assert_int_equal(pthread_setattr_default_np(&huge), 0);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    const bool ok = thread_start(&t, look, NULL, "huge", &e);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_int_equal(pthread_setattr_default_np(&old), 0);
    pthread_attr_destroy(&huge);
    pthread_attr_destroy(&old);
    assert_false(ok);
    assert_int_equal(e.kind, ERR_SYS);
    assert_contains(e.msg, "cannot start thread huge: ");
    assert_int_equal(sigismember(&before, SIGTERM), sigismember(&after, SIGTERM));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(start__names_it_and_keeps_signals_from_it),
        TEST(start_detached__needs_no_join),
        TEST(start__says_which_could_not_be_started),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
