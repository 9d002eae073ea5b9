/* dial_open() with tests/lib/fake-ssh; this program is its own agent. */
#include "unit.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "tests/lib/link-duo.h"
#include "tests/lib/tmp.h"
#include "tunnel/dial.h"
#include "tunnel/words.h"

/* --- the agent --- */

static int agent(void)
{
    static struct far far;
    struct link *l;
    struct err e;

    far_init(&far);
    const struct link_server_ops ops = far_ops(&far);
    const struct link_cfg cfg = { .in = 0, .out = 1, .server = &ops };
    log_init(LOG_INFO, "dst");
    log_info("agent", "started");
    if (!link_open(&cfg, 0, NULL, &l, &e))
        return 1;
    const bool ok = link_wait(l, &e);
    far_go(&far);
    link_close(l);
    return ok ? 0 : 3;
}

/* --- the surroundings of a test --- */

static char lines[4096]; /* what the log got; under lock */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void sink(enum log_level level, const char *line, void *ctx)
{
    (void)level;
    (void)ctx;
    LOCK_SCOPE(&lock);
    const size_t at = strlen(lines);
    snprintf(lines + at, sizeof lines - at, "%s\n", line);
}

static int setup(void **state)
{
    char exe[1024];

    if (tmp_make(state) != 0)
        return -1;
    const ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n < 0)
        return -1;
    exe[n] = '\0';
    FILE *const f = fopen(tmp_path("snmigrate"), "w");
    if (f == NULL)
        return -1;
    fprintf(f, "#!/bin/sh\nexec %s \"$@\"\n", exe);
    fclose(f);
    if (chmod(tmp_path("snmigrate"), 0700) != 0)
        return -1;
    snprintf(exe, sizeof exe, "%s:/usr/bin:/bin", tmp_dir());
    setenv("FAKE_SSH_PATH", exe, 1);
    setenv("FAKE_SSH_LOG", tmp_path("log"), 1);
    unsetenv("FAKE_SSH_STDERR");
    unsetenv("FAKE_SSH_STDOUT");
    unsetenv("FAKE_SSH_STATUS");
    unsetenv("FAKE_SSH_CIPHERS");
    lines[0] = '\0';
    return 0;
}

static bool dial(const char *ssh, const struct cancel *c, struct dial **out,
                 struct err *e)
{
    static const struct dest dest = { .user = "root", .host = "hostb" };
    const struct dial_cfg cfg = { .dest = &dest, .ssh = ssh };

    return dial_open(&cfg, c, out, e);
}

static const char fake[] = "tests/lib/fake-ssh";

/* The arguments of the last run, each with a newline around it. */
static char *last_run(void)
{
    static char text[8192];
    FILE *const f = fopen(tmp_path("log"), "r");

    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    char *last = text;
    for (char *p = text; (p = strstr(p, "\n\n")) != NULL && p[2] != '\0'; p += 2)
        last = p + 1;
    return last;
}

/* --- tests --- */

static void dial__opens_a_link_to_the_agent(void **state)
{
    struct json_object *reply = NULL;
    struct dial *d = NULL;
    struct err e;

    (void)state;
    assert_ok(dial(fake, NULL, &d, &e), e);
    assert_ok(
        link_call(dial_link(d), "GET", "/method", NULL, LONG_MS, NULL, &reply, &e), e);
    assert_string_equal(json_object_get_string(json_object_object_get(reply, "method")),
                        "GET");
    json_object_put(reply);
    dial_close(d);
    assert_contains(last_run(), "\n--\nhostb\nsnmigrate agent\n");
    pthread_mutex_lock(&lock);
    assert_contains(lines, "agent: started");
    pthread_mutex_unlock(&lock);
}

static void dial__ciphers_only_where_the_user_chose_none(void **state)
{
    static const char aes[] = "\n-oCiphers=^aes128-gcm";
    struct dial *d = NULL;
    struct err e;

    (void)state;
    setenv("FAKE_SSH_CIPHERS", "chacha20-poly1305@openssh.com", 1);
    assert_ok(dial(fake, NULL, &d, &e), e);
    dial_close(d);
    assert_null(strstr(last_run(), aes));
}

static void dial__words_of_ssh_are_the_cause(void **state)
{
    /* clang-format off */
    static const struct { const char *says, *status, *msg; } table[] = {
        { "root@hostb: Permission denied (publickey).\r\n", "255",
          "cannot connect to hostb: root@hostb: Permission denied (publickey)" },
        { "Warning: Permanently added 'hostb' to the list of known hosts.\n"
          "ssh: connect to host hostb port 22: Connection refused\r\n", "255",
          "cannot connect to hostb: ssh: connect to host hostb port 22: Connection refused" },
        { "@@@@@@@@@@@@@@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n"
          "@@@@@@@@@@@@@@@@@\nIt is possible that someone is doing something nasty!\n"
          "Host key verification failed.\n", "255",
          "cannot connect to hostb: WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!" },
        { "No ED25519 host key is known\nHost key verification failed.\n", "255",
          "cannot connect to hostb: Host key verification failed" },
        { "ssh: Could not resolve hostname hostb: Name or service not known\n", "255",
          "Could not resolve hostname hostb" },
        { "bash: line 1: snmigrate: command not found\n", "127",
          "snmigrate is not installed on hostb (bash: line 1: snmigrate: command not found)" },
        { "snmigrate: Command not found.\n", "1", "the agent on hostb ended with status 1" },
        { "", "255", "cannot connect to hostb" },
        { "\033[31mred", "255", "red" },
    };
    /* clang-format on */
    struct dial *d = NULL;
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        setenv("FAKE_SSH_STDERR", table[i].says, 1);
        setenv("FAKE_SSH_STATUS", table[i].status, 1);
        assert_err(dial(fake, NULL, &d, &e), e, ERR_CONNECT);
        assert_contains(e.msg, table[i].msg);
        assert_null(strchr(e.msg, '\033'));
        assert_true(e.next[0] != '\0');
    }
}

static void dial__missing_agent_says_what_to_install(void **state)
{
    struct dial *d = NULL;
    struct err e;

    (void)state;
    setenv("FAKE_SSH_PATH", "/nowhere", 1);
    assert_err(dial(fake, NULL, &d, &e), e, ERR_CONNECT);
    assert_contains(e.msg, "snmigrate is not installed on hostb");
    assert_contains(e.next, "Install the same snmigrate package on hostb");
}

static void dial__noise_of_a_shell_is_named(void **state)
{
    struct dial *d = NULL;
    struct err e;

    (void)state;
    setenv("FAKE_SSH_STDOUT", "You have new mail.\\n", 1);
    assert_err(dial(fake, NULL, &d, &e), e, ERR_PROTO);
    assert_contains(e.msg, "hostb");
    assert_contains(e.msg, "You have new mail.");
    assert_contains(e.next, "login shell of root on hostb");
}

static void dial__no_ssh_at_all(void **state)
{
    struct dial *d = NULL;
    struct err e;

    (void)state;
    assert_false(dial("/no/such/ssh", NULL, &d, &e));
    assert_contains(e.msg, "cannot run ssh");
    assert_err(dial("'", NULL, &d, &e), e, ERR_USAGE);
}

static void *cancel_main(void *arg)
{
    clock_sleep_ms(100);
    cancel_set(arg);
    return NULL;
}

static void dial__cancel_ends_it_soon(void **state)
{
    struct cancel *const c = cancel_new();
    const int64_t start = clock_ms();
    struct dial *d = NULL;
    pthread_t t;
    struct err e;

    (void)state;
    assert_int_equal(pthread_create(&t, NULL, cancel_main, c), 0);
    /* a shell that never comes to the agent */
    assert_err(dial("sh -c 'exec sleep 1000' sh", c, &d, &e), e, ERR_CANCELLED);
    pthread_join(t, NULL);
    assert_true(clock_ms() - start < 30000);
    cancel_free(c);
}

static void dial__kill_breaks_the_link_at_once(void **state)
{
    struct dial *d = NULL;
    struct err e;

    (void)state;
    assert_ok(dial(fake, NULL, &d, &e), e);
    dial_kill(d);
    assert_err(link_call(dial_link(d), "GET", "/wait", NULL, LONG_MS, NULL, NULL, &e),
               e, ERR_LINK);
    dial_close(d);
}

/* A process that ssh left behind holds its stderr. */
static void dial__close_waits_for_nobody_who_holds_stderr(void **state)
{
    const int64_t start = clock_ms();
    struct dial *d = NULL;
    struct err e;

    (void)state;
    assert_ok(dial("sh -c 'sleep 60 <&- >&- & exec tests/lib/fake-ssh \"$@\"' sh", NULL,
                   &d, &e),
              e);
    dial_close(d);
    assert_true(clock_ms() - start < 30000);
}

static void words__rank_prefers_the_cause(void **state)
{
    (void)state;
    assert_int_equal(words_rank(""), 0);
    assert_int_equal(words_rank("@@@@@@@@@@"), 0);
    assert_int_equal(words_rank("Warning: Permanently added 'x' (ED25519)"), 0);
    assert_true(words_rank("Permission denied (publickey).") >
                words_rank("some banner"));
    assert_true(words_rank("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @") >
                words_rank("Host key verification failed."));
    assert_true(
        words_rank("kex_exchange_identification: Connection closed by remote host") >
        words_rank("Connection closed by 10.0.0.2 port 22"));
}

#define TEST_DIAL(f) cmocka_unit_test_setup_teardown(f, setup, tmp_remove)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST_DIAL(dial__opens_a_link_to_the_agent),
        TEST_DIAL(dial__ciphers_only_where_the_user_chose_none),
        TEST_DIAL(dial__words_of_ssh_are_the_cause),
        TEST_DIAL(dial__missing_agent_says_what_to_install),
        TEST_DIAL(dial__noise_of_a_shell_is_named),
        TEST_DIAL(dial__no_ssh_at_all),
        TEST_DIAL(dial__cancel_ends_it_soon),
        TEST_DIAL(dial__kill_breaks_the_link_at_once),
        TEST_DIAL(dial__close_waits_for_nobody_who_holds_stderr),
        TEST(words__rank_prefers_the_cause),
    };

    if (argc > 1 && strcmp(argv[1], "agent") == 0)
        return agent();
    log_init(LOG_DEBUG, "src");
    log_set_sink(sink, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
