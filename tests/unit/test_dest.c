#include "unit.h"

#include "tunnel/dial.h"
#include "tunnel/sshcmd.h"

/* --- destinations --- */

static void dest__forms(void **state)
{
    /* clang-format off */
    static const struct { const char *s, *user, *host; unsigned port; } good[] = {
        { "hostb", "", "hostb", 0 },
        { "root@hostb", "root", "hostb", 0 },
        { "root@10.0.0.2", "root", "10.0.0.2", 0 },
        { "host-b.example.org", "", "host-b.example.org", 0 },
        { "host_b", "", "host_b", 0 },
        { "ssh://hostb", "", "hostb", 0 },
        { "ssh://hostb/", "", "hostb", 0 },
        { "ssh://root@hostb:2222", "root", "hostb", 2222 },
        { "ssh://root@hostb:65535/", "root", "hostb", 65535 },
        { "root@[::1]", "root", "::1", 0 },
        { "[fe80::1%eth0]", "", "fe80::1%eth0", 0 },
        { "fe80::1", "", "fe80::1", 0 },
        { "ssh://root@[2001:db8::7]:22", "root", "2001:db8::7", 22 },
        { "ssh://[::1]", "", "::1", 0 },
        { "admin@corp.example@hostb", "admin@corp.example", "hostb", 0 },
    };
    /* clang-format on */
    struct dest d;
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_ok(dest_parse(good[i].s, &d, &e), e);
        assert_string_equal(d.user, good[i].user);
        assert_string_equal(d.host, good[i].host);
        assert_int_equal(d.port, good[i].port);
    }
}

static void dest__what_could_mean_something_else_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "@",
        "root@",
        "@hostb",
        "-oProxyCommand=touch /tmp/x",
        "root@-oProxyCommand=x",
        "-lroot@hostb",
        "ssh://-oProxyCommand=x",
        "ssh://root@-G:22",
        "[-G]",
        "hostb\n",
        "host b",
        "root@host\tb",
        "hostb\x01",
        "hostb;reboot",
        "$(reboot)@hostb",
        "`x`@hostb",
        "ro'ot@hostb",
        "DOM\\user@hostb",
        "host\"b",
        "host|b",
        "host&b",
        "host<b",
        "host\xc3\xb6",
        "hostb/system",
        "ssh://hostb/x",
        "ssh://root:secret@hostb",
        "ssh://hostb:0",
        "ssh://hostb:65536",
        "ssh://hostb:22x",
        "ssh://hostb:",
        "ssh://hostb:-1",
        "ssh://hostb:+22",
        "hostb:22",
        "[::1]:22",
        "[::1",
        "[]",
        "ssh://",
        "qemu+ssh://hostb/system",
        "~@hostb",
        "*",
    };
    char longest[600];
    struct dest d = { .host = "untouched" };
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (dest_parse(bad[i], &d, &e))
            fail_msg("\"%s\" was taken: user \"%s\" host \"%s\"", bad[i], d.user,
                     d.host);
        assert_int_equal(e.kind, ERR_USAGE);
    }
    memset(longest, 'a', sizeof longest);
    for (size_t len = 250; len < sizeof longest; len += 5) {
        longest[len] = '\0';
        if (len > 255)
            assert_false(dest_parse(longest, &d, &e));
        longest[len] = 'a';
    }
    assert_string_equal(d.host, "untouched");
}

/* --- the words of --ssh --- */

static void sshcmd__words_are_quoted_as_in_sh(void **state)
{
    /* clang-format off */
    static const struct { const char *s; const char *words[6]; } good[] = {
        { "ssh", { "ssh" } },
        { "  ssh\t-F  file ", { "ssh", "-F", "file" } },
        { "ssh -F 'my file'", { "ssh", "-F", "my file" } },
        { "ssh -oX=\"a b\"c", { "ssh", "-oX=a bc" } },
        { "my\\ ssh a\\'b", { "my ssh", "a'b" } },
        { "ssh '' \"\"", { "ssh", "", "" } },
        { "ssh 'a\\b' \"a\\b\" \"a\\\"b\" \"a\\\\b\"",
          { "ssh", "a\\b", "a\\b", "a\"b", "a\\b" } },
        { "ssh '\"' \"'\"", { "ssh", "\"", "'" } },
        { "ssh $HOME `x` *", { "ssh", "$HOME", "`x`", "*" } }, /* nothing is expanded */
        { "ssh a\\", { "ssh", "a\\" } },
    };
    /* clang-format on */
    struct sshcmd c;
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        unsigned n = 0;

        assert_ok(sshcmd_words(good[i].s, &c, &e), e);
        for (; n < 6 && good[i].words[n] != NULL; n++)
            assert_string_equal(c.argv[n], good[i].words[n]);
        assert_int_equal(c.n, n);
        assert_null(c.argv[n]);
    }
}

static void sshcmd__bad_words_are_refused(void **state)
{
    static const char *const bad[] = { "", "  ", "'ssh", "ssh \"x", "ssh -o'a" };
    char many[300], text[2 * SSHCMD_TEXT];
    struct sshcmd c;
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_err(sshcmd_words(bad[i], &c, &e), e, ERR_USAGE);
    for (size_t i = 0; i + 2 < sizeof many; i += 2)
        memcpy(many + i, "a ", 3);
    assert_err(sshcmd_words(many, &c, &e), e, ERR_USAGE);
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '\0';
    assert_err(sshcmd_words(text, &c, &e), e, ERR_USAGE);
}

/* --- the whole command --- */

static struct sshcmd command(const char *words, const char *dest,
                             const struct sshcmd_opts *o)
{
    static struct sshcmd c; /* its argv points into both */
    static struct dest d;
    struct err e;

    assert_ok(dest_parse(dest, &d, &e), e);
    assert_ok(sshcmd_words(words, &c, &e), e);
    assert_ok(sshcmd_finish(&c, &d, o, &e), e);
    return c;
}

static bool has(const struct sshcmd *c, const char *arg)
{
    for (unsigned i = 0; i < c->n; i++)
        if (strcmp(c->argv[i], arg) == 0)
            return true;
    return false;
}

static void sshcmd__ends_in_host_and_a_fixed_command(void **state)
{
    const struct sshcmd_opts o = { .connect_s = 15 };
    const struct sshcmd c = command("ssh -F 'a file'", "ssh://root@[::1]:2222", &o);

    (void)state;
    assert_string_equal(c.argv[0], "ssh");
    assert_string_equal(c.argv[2], "a file");
    assert_true(has(&c, "-T"));
    assert_true(has(&c, "-oConnectTimeout=15"));
    assert_true(has(&c, "-p2222"));
    assert_string_equal(c.argv[c.n - 3], "--");
    assert_string_equal(c.argv[c.n - 2], "::1");
    assert_string_equal(c.argv[c.n - 1], "snmigrate agent");
    assert_null(c.argv[c.n]);
    for (unsigned i = 0; i + 1 < c.n; i++)
        if (strcmp(c.argv[i], "-l") == 0)
            assert_string_equal(c.argv[i + 1], "root");
    assert_true(has(&c, "-l"));
    assert_false(has(&c, "-oBatchMode=yes"));
    assert_false(has(&c, "-oCiphers=^aes128-gcm@openssh.com,aes256-gcm@openssh.com"));
}

static void sshcmd__options_follow_what_is_asked(void **state)
{
    const struct sshcmd_opts all = {
        .connect_s = 7, .batch = true, .aes = true, .show = true
    };
    const struct sshcmd c = command("ssh", "hostb", &all);

    (void)state;
    assert_true(has(&c, "-G"));
    assert_false(has(&c, "-T"));
    assert_true(has(&c, "-oBatchMode=yes"));
    assert_true(has(&c, "-oCiphers=^aes128-gcm@openssh.com,aes256-gcm@openssh.com"));
    assert_true(has(&c, "-oConnectTimeout=7"));
    assert_false(has(&c, "-l"));
    assert_string_equal(c.argv[c.n - 1], "hostb"); /* -G runs nothing */
    /* nothing of ours makes ssh trust more than the user does */
    for (unsigned i = 0; i < c.n; i++) {
        assert_null(strstr(c.argv[i], "StrictHostKeyChecking"));
        assert_null(strstr(c.argv[i], "UserKnownHostsFile"));
    }
}

static void sshcmd__too_much_is_refused(void **state)
{
    const struct sshcmd_opts o = { .connect_s = 15 };
    struct dest d = { .host = "hostb" };
    char many[128];
    struct sshcmd c;
    struct err e;

    (void)state;
    for (size_t i = 0; i + 2 < sizeof many; i += 2)
        memcpy(many + i, "a ", 3);
    many[2 * (SSHCMD_MAX - 4)] = '\0';
    assert_ok(sshcmd_words(many, &c, &e), e);
    assert_err(sshcmd_finish(&c, &d, &o, &e), e, ERR_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(dest__forms),
        TEST(dest__what_could_mean_something_else_is_refused),
        TEST(sshcmd__words_are_quoted_as_in_sh),
        TEST(sshcmd__bad_words_are_refused),
        TEST(sshcmd__ends_in_host_and_a_fixed_command),
        TEST(sshcmd__options_follow_what_is_asked),
        TEST(sshcmd__too_much_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
