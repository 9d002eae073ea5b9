#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/unix.h"
#include "migrate/relay.h"
#include "unit.h"

struct rig {
    struct relay relay;
    struct cancel *stop;
    int qemu[2], tunnel[2]; /* [0] the test's end, [1] the relay's */
    pthread_t thread;
    bool ok;
    struct err err;
};

static void *run(void *arg)
{
    struct rig *r = arg;

    r->ok = relay_run(&r->relay, r->qemu[1], r->tunnel[1], r->stop, &r->err);
    return NULL;
}

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    struct err e;

    r->stop = cancel_new();
    if (!unix_pair(r->qemu, &e) || !unix_pair(r->tunnel, &e))
        return -1;
    *state = r;
    return pthread_create(&r->thread, NULL, run, r);
}

static void join(struct rig *r)
{
    pthread_join(r->thread, NULL);
}

static int teardown(void **state)
{
    struct rig *r = *state;

    for (int i = 0; i < 2; i++) {
        close(r->qemu[i]);
        close(r->tunnel[i]);
    }
    cancel_free(r->stop);
    free(r);
    return 0;
}

static void *feed(void *arg)
{
    struct rig *r = arg;
    uint8_t buf[65536];
    struct err e;

    for (unsigned i = 0; i < 1024; i++) {
        memset(buf, (int)i, sizeof buf);
        if (!fd_write_all(r->qemu[0], buf, sizeof buf, &e))
            break;
    }
    shutdown(r->qemu[0], SHUT_WR);
    return NULL;
}

static void relay__carries_all_bytes_and_counts_them(void **state)
{
    struct rig *r = *state;
    uint8_t buf[65536];
    struct err e;
    pthread_t t;

    assert_int_equal(pthread_create(&t, NULL, feed, r), 0);
    for (unsigned i = 0; i < 1024; i++) {
        assert_true(fd_read_all(r->tunnel[0], buf, sizeof buf, &e));
        assert_int_equal(buf[0], i & 255);
        assert_int_equal(buf[sizeof buf - 1], i & 255);
        atomic_store(&r->relay.acked, (uint64_t)(i + 1) * sizeof buf);
        /* The hold rule: a byte is counted before it can be seen further on. */
        assert_true(atomic_load(&r->relay.received) >= (uint64_t)(i + 1) * sizeof buf);
    }
    assert_int_equal(read(r->tunnel[0], buf, 1), 0);
    pthread_join(t, NULL);
    shutdown(r->tunnel[0], SHUT_WR);
    assert_int_equal(read(r->qemu[0], buf, 1), 0);
    join(r);
    assert_true(r->ok);
    assert_int_equal(atomic_load(&r->relay.received), 64 << 20);
}

static void relay__return_path_works_while_forward_waits(void **state)
{
    struct rig *r = *state;
    char buf[4];
    struct err e;

    assert_true(fd_write_all(r->tunnel[0], "ack", 4, &e));
    assert_true(fd_read_all(r->qemu[0], buf, 4, &e));
    assert_string_equal(buf, "ack");
    cancel_set(r->stop);
    join(r);
    assert_false(r->ok);
    assert_int_equal(r->err.kind, ERR_CANCELLED);
}

static uint64_t settle(struct rig *r)
{
    uint64_t before;

    do {
        before = atomic_load(&r->relay.received);
        clock_sleep_ms(100);
    } while (atomic_load(&r->relay.received) != before);
    return before;
}

/* Nobody takes anything at the destination: QEMU is slowed; with ->drain it is not. */
static void relay__drain_takes_what_the_window_held(void **state)
{
    struct rig *r = *state;
    pthread_t t;

    assert_int_equal(pthread_create(&t, NULL, feed, r), 0);
    const uint64_t held = settle(r);
    assert_int_equal(held, RELAY_WINDOW);
    atomic_store(&r->relay.window, 4 * RELAY_WINDOW);
    assert_int_equal(settle(r), 4 * RELAY_WINDOW);
    atomic_store(&r->relay.drain, true);
    assert_true(settle(r) > 60u << 20);
    cancel_set(r->stop);
    join(r);
    pthread_join(t, NULL);
}

static void relay__stop_shuts_both_ends(void **state)
{
    struct rig *r = *state;
    char c;

    cancel_set(r->stop);
    join(r);
    assert_int_equal(read(r->qemu[0], &c, 1), 0);
    assert_int_equal(read(r->tunnel[0], &c, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(relay__carries_all_bytes_and_counts_them, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(relay__return_path_works_while_forward_waits,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(relay__drain_takes_what_the_window_held, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(relay__stop_shuts_both_ends, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
