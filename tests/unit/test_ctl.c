#include "unit.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/unix.h"
#include "migrate/ctl.h"
#include "migrate/move-int.h"
#include "tests/lib/own-state.h"

enum { LONG_MS = 20000 };
static const char uuid[] = "6a1d5c1e-0f6b-4f0e-9d3f-2f2b8c8f8a11";
static const char other_uuid[] = "11111111-0f6b-4f0e-9d3f-2f2b8c8f8a11";

/* --- the lines --- */

static bool parse(const char *line, struct ctl_request *r, struct err *e)
{
    return ctl_parse(line, strlen(line), r, e);
}

static void ctl__a_request_is_read_as_it_was_made(void **state)
{
    static const struct ctl_request all[] = {
        { .todo = CTL_STATUS },
        { .todo = CTL_SET, .set = { true, true, true, 50000000, 1500, 20 } },
        { .todo = CTL_SET, .set = { .has_bandwidth = true } },
        { .todo = CTL_SWITCH, .wait = true },
        { .todo = CTL_ABORT },
    };
    struct ctl_request got;
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        AUTO(json_put) struct json_object *o = ctl_request(&all[i]);
        const char *const text = json_object_to_json_string(o);

        assert_ok(parse(text, &got, &e), e);
        assert_memory_equal(&got, &all[i], sizeof got);
        for (size_t len = 0; len < strlen(text); len++)
            assert_false(ctl_parse(text, len, &got, &e));
    }
}

static void ctl__other_lines_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "null",
        "[]",
        "\"status\"",
        "{}",
        "{\"do\":7}",
        "{\"do\":\"stat\"}",
        "{\"do\":\"status\\u0000\"}",
        "{\"do\":\"status\\u001b[2J\"}",
        "{\"do\":\"set\"}",
        "{\"do\":\"set\",\"bandwidth\":null}",
        "{\"do\":\"set\",\"bandwidth\":-1}",
        "{\"do\":\"set\",\"bandwidth\":\"1\"}",
        "{\"do\":\"set\",\"bandwidth\":99999999999999999999999}",
        "{\"do\":\"abort\",\"wait\":1}",
        "{\"do\":\"status\"} {\"do\":\"abort\"}",
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    };
    struct ctl_request r;
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_err(parse(bad[i], &r, &e), e, ERR_PROTO);
}

static void ctl__a_refusal_arrives_as_the_error_it_was(void **state)
{
    struct err e, got = { 0 };
    struct json_object *move;

    (void)state;
    err_set(&e, ERR_REFUSED, 0, "too late");
    err_next(&e, "Wait.");
    AUTO(json_put) struct json_object *o = ctl_refusal(&e);
    assert_err(ctl_take_reply(o, &move, &got), got, ERR_REFUSED);
    assert_string_equal(got.msg, "too late");
    assert_string_equal(got.next, "Wait.");

    AUTO(json_put) struct json_object *list = json_object_new_array();
    assert_err(ctl_take_reply(list, &move, &got), got, ERR_PROTO);
    AUTO(json_put) struct json_object *empty = json_new();
    assert_err(ctl_take_reply(empty, &move, &got), got, ERR_PROTO);
}

/* --- a move that listens --- */

static struct json_object *say_progress(const struct move_progress *p)
{
    return json_add_str(json_new(), "domain", p->domain);
}

static struct json_object *say_result(const struct move_cfg *cfg,
                                      const struct move_result *r)
{
    (void)cfg;
    return json_add_u64(json_new(), "status", (uint64_t)r->status);
}

static const struct move_words words = { say_progress, say_result };
static const struct move_cfg cfg = { .domain = "web01",
                                     .dest = { .host = "hostb" },
                                     .max_downtime_ms = 300,
                                     .bandwidth = 1000000,
                                     .hold = true,
                                     .words = &words };

struct talk {
    struct move *m;
    struct cancel *user;
    struct ctl_move at;
};

/* A move of @of that is far enough to listen. */
static void talk_begin(struct talk *t, const char *of)
{
    struct err e;

    t->user = cancel_new();
    t->m = move_new(&cfg, t->user);
    assert_non_null(t->m);
    assert_ok(paths_new_id(t->m->id, &e), e);
    paths_run_dir(t->m->run_dir, t->m->id);
    snprintf(t->m->facts.uuid, sizeof t->m->facts.uuid, "%s", of);
    t->m->progress.phase = MOVE_BULK;
    assert_ok(dir_private(PATHS_RUN, &e) && dir_private(t->m->run_dir, &e), e);
    assert_ok(ctl_start(t->m, &e), e);
    snprintf(t->at.path, sizeof t->at.path, "%.60s/%s.ctl", t->m->run_dir, of);
}

static void talk_end(struct talk *t)
{
    ctl_stop(t->m);
    dir_remove(t->m->run_dir);
    move_free(t->m);
    cancel_free(t->user);
}

/* Ask; true: *member of what it says of the move is set, if @key is not NULL. */
static bool ask(struct talk *t, const struct ctl_request *r, const char *key,
                uint64_t *member, struct err *e)
{
    AUTO(json_put) struct json_object *reply = NULL;
    struct json_object *move;

    return ctl_call(t->at.path, r, LONG_MS, &reply, NULL, e) &&
           ctl_take_reply(reply, &move, e) &&
           (key == NULL || json_get_u64(move, key, member, e));
}

static const struct ctl_request status = { .todo = CTL_STATUS };

static void ctl__a_move_is_found_and_says_how_far_it_is(void **state)
{
    struct ctl_move list[4];
    struct talk t, u;
    struct err e;
    uint64_t rate;

    (void)state;
    assert_int_equal(ctl_list(list, 4), 0);
    talk_begin(&t, uuid);
    talk_begin(&u, other_uuid);
    assert_int_equal(ctl_list(list, 4), 2);
    assert_int_equal(ctl_list(list, 1), 1);
    assert_ok(ask(&t, &status, "bandwidth", &rate, &e), e);
    assert_int_equal(rate, 1000000);
    talk_end(&u);
    assert_int_equal(ctl_list(list, 4), 1);
    assert_string_equal(list[0].uuid, uuid);
    assert_string_equal(list[0].id, t.m->id);
    assert_string_equal(list[0].path, t.at.path);
    talk_end(&t);
    assert_int_equal(ctl_list(list, 4), 0);
}

static void ctl__settings_are_taken_or_refused_as_a_whole(void **state)
{
    struct ctl_request r = { .todo = CTL_SET,
                             .set = { true, true, false, 0, 2000, 0 } };
    struct talk t;
    struct err e;

    (void)state;
    talk_begin(&t, uuid);
    assert_ok(ask(&t, &r, NULL, NULL, &e), e);
    assert_int_equal(move_budget(t.m), 2000);
    assert_int_equal(move_rate(t.m), 0);

    r.set.bandwidth = 7; /* less than can be kept */
    r.set.max_downtime_ms = 100;
    assert_err(ask(&t, &r, NULL, NULL, &e), e, ERR_USAGE);
    assert_int_equal(move_budget(t.m), 2000);
    r.set.bandwidth = 800000;
    r.set.max_downtime_ms = 60001;
    assert_err(ask(&t, &r, NULL, NULL, &e), e, ERR_USAGE);
    assert_int_equal(move_rate(t.m), 0);

    t.m->progress.phase = MOVE_SWITCH;
    r.set.max_downtime_ms = 100;
    assert_err(ask(&t, &r, NULL, NULL, &e), e, ERR_REFUSED);
    assert_int_equal(move_budget(t.m), 2000);
    talk_end(&t);
}

static void ctl__switch_ends_a_hold_once(void **state)
{
    const struct ctl_request r = { .todo = CTL_SWITCH };
    struct talk t;
    struct err e;

    (void)state;
    talk_begin(&t, uuid);
    assert_true(atomic_load(&t.m->hold));
    assert_ok(ask(&t, &r, NULL, NULL, &e), e);
    assert_false(atomic_load(&t.m->hold));
    assert_err(ask(&t, &r, NULL, NULL, &e), e, ERR_REFUSED);
    talk_end(&t);
}

static void ctl__abort_is_refused_past_the_release(void **state)
{
    const struct ctl_request r = { .todo = CTL_ABORT };
    struct talk t;
    struct err e;

    (void)state;
    talk_begin(&t, uuid);
    t.m->progress.released = true;
    t.m->progress.phase = MOVE_COMMIT;
    assert_err(ask(&t, &r, NULL, NULL, &e), e, ERR_REFUSED);
    assert_contains(e.msg, "hostb");
    assert_false(cancel_is_set(t.user));
    t.m->progress.phase = MOVE_UNDO; /* it is being taken back */
    assert_ok(ask(&t, &r, NULL, NULL, &e), e);
    assert_true(cancel_is_set(t.user));
    talk_end(&t);
}

static void ctl__who_waits_is_told_the_end(void **state)
{
    static struct move_result result = { .status = 130 };
    const struct ctl_request r = { .todo = CTL_ABORT, .wait = true };
    AUTO(json_put) struct json_object *first = NULL;
    AUTO(json_put) struct json_object *last = NULL;
    AUTO(fd_close) int fd = -1;
    struct json_object *move;
    struct talk t;
    struct err e;
    uint64_t code;

    (void)state;
    talk_begin(&t, uuid);
    assert_ok(ctl_call(t.at.path, &r, LONG_MS, &first, &fd, &e), e);
    assert_true(cancel_is_set(t.user));
    assert_err(ctl_read(fd, 10, &last, &e), e, ERR_TIMEOUT);
    ctl_result(t.m, &result);
    ctl_stop(t.m);
    assert_ok(ctl_read(fd, LONG_MS, &last, &e), e);
    assert_ok(ctl_take_reply(last, &move, &e), e);
    assert_ok(json_get_u64(move, "status", &code, &e), e);
    assert_int_equal(code, 130);
    talk_end(&t);
}

static void ctl__killed_moves_answer_nobody_and_are_tidied_up(void **state)
{
    AUTO(json_put) struct json_object *reply = NULL;
    struct ctl_move list[4];
    struct talk t, other;
    struct stat st;
    struct err e;

    (void)state;
    talk_begin(&t, uuid);
    talk_begin(&other, other_uuid);
    ctl_stop(t.m); /* the socket's file stays, as after a kill -9 */
    ctl_stop(other.m);
    assert_err(ctl_call(t.at.path, &status, LONG_MS, &reply, NULL, &e), e, ERR_LINK);
    assert_int_equal(ctl_list(list, 4), 2);
    ctl_tidy(uuid);
    assert_int_equal(stat(t.m->run_dir, &st), -1);
    assert_int_equal(stat(other.m->run_dir, &st), 0);
    talk_end(&t);
    talk_end(&other);
}

/* --- clients that mean no good --- */

static int dial(struct talk *t)
{
    struct err e;
    int fd;

    assert_ok(unix_connect(t->at.path, &fd, &e), e);
    return fd;
}

/* Send @text; it is refused and the connection ended. */
static void assert_thrown_out(struct talk *t, const char *text, size_t len)
{
    AUTO(json_put) struct json_object *reply = NULL;
    AUTO(fd_close) int fd = dial(t);
    struct json_object *move;
    struct err e;
    char c;

    assert_int_equal(send(fd, text, len, MSG_NOSIGNAL), len);
    assert_ok(ctl_read(fd, LONG_MS, &reply, &e), e);
    assert_err(ctl_take_reply(reply, &move, &e), e, ERR_PROTO);
    /* What we sent and it did not read may make this a reset. */
    assert_true(recv(fd, &c, 1, 0) <= 0);
}

static void ctl__nobody_holds_it_up(void **state)
{
    static char junk[CTL_REQUEST_MAX + 100];
    int idle[CTL_CLIENTS - 1];
    struct talk t;
    struct err e;

    (void)state;
    talk_begin(&t, uuid);
    memset(junk, 'x', sizeof junk);
    assert_thrown_out(&t, junk, sizeof junk);
    memset(junk, '{', sizeof junk);
    junk[200] = '\n';
    assert_thrown_out(&t, junk, 201);
    memset(junk, 0, sizeof junk);
    junk[9] = '\n';
    assert_thrown_out(&t, junk, 10);
    assert_thrown_out(&t, "\n", 1);

    /* Half of a request, and silence: there is room for another still. */
    for (int i = 0; i < CTL_CLIENTS - 1; i++) {
        idle[i] = dial(&t);
        assert_int_equal(send(idle[i], "{\"do\":", 6, 0), 6);
    }
    for (int i = 0; i < 20; i++)
        assert_ok(ask(&t, &status, NULL, NULL, &e), e);
    const int last = dial(&t);
    /* It is taken in before the one that comes next. */
    assert_err(ask(&t, &status, NULL, NULL, &e), e, ERR_REFUSED);
    assert_contains(e.msg, "others");
    close(last);
    for (int i = 0; i < CTL_CLIENTS - 1; i++)
        close(idle[i]);
    /* One that goes before its answer. */
    for (int i = 0; i < 20; i++) {
        const int fd = dial(&t);

        assert_true(send(fd, "{\"do\":\"status\"}\n", 16, MSG_NOSIGNAL) == 16);
        close(fd);
    }
    while (!ask(&t, &status, NULL, NULL, &e))
        assert_contains(e.msg, "others"); /* until it has seen them go */
    talk_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(ctl__a_request_is_read_as_it_was_made),
        TEST(ctl__other_lines_are_refused),
        TEST(ctl__a_refusal_arrives_as_the_error_it_was),
        TEST(ctl__a_move_is_found_and_says_how_far_it_is),
        TEST(ctl__settings_are_taken_or_refused_as_a_whole),
        TEST(ctl__switch_ends_a_hold_once),
        TEST(ctl__abort_is_refused_past_the_release),
        TEST(ctl__who_waits_is_told_the_end),
        TEST(ctl__killed_moves_answer_nobody_and_are_tidied_up),
        TEST(ctl__nobody_holds_it_up),
    };

    own_state();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
