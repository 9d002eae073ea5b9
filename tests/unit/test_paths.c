#include "unit.h"

#include "base/paths.h"

static const char id[] = "0123456789abcdef0123456789abcdef";

static void paths__new_ids_are_valid_and_differ(void **state)
{
    char a[PATHS_ID_LEN + 1], b[PATHS_ID_LEN + 1];
    struct err e;

    (void)state;
    assert_ok(paths_new_id(a, &e), e);
    assert_ok(paths_new_id(b, &e), e);
    assert_true(paths_id_ok(a));
    assert_true(paths_id_ok(b));
    assert_string_not_equal(a, b);
}

/* An id becomes part of a path that is removed at the end. */
static void paths__foreign_ids_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "..",
        "0123456789abcdef0123456789abcde",
        "0123456789abcdef0123456789abcdef0",
        "0123456789ABCDEF0123456789ABCDEF",
        "../../../../../../../../etc/pass",
        "0123456789abcdef0123456789abcde\n",
    };

    (void)state;
    assert_true(paths_id_ok(id));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(paths_id_ok(bad[i]));
}

static void paths__directories_carry_the_id(void **state)
{
    char p[PATHS_MAX];

    (void)state;
    paths_state_dir(p, id);
    assert_string_equal(p, "/var/lib/snmigrate/0123456789abcdef0123456789abcdef");
    paths_run_dir(p, id);
    assert_string_equal(p, "/run/snmigrate/0123456789abcdef0123456789abcdef");
    paths_ram_dir(p, id);
    assert_string_equal(p, "/run/libvirt/snmigrate-01234567");
}

static void paths__ram_socket_fits_for_any_name(void **state)
{
    char p[PATHS_SOCK_MAX], name[200];

    (void)state;
    paths_ram_sock(p, id, "web1");
    assert_string_equal(p,
                        "/run/libvirt/snmigrate-01234567/ram.tunnelmigrate.dest.web1");
    paths_ram_sock(p, id, "a/b");
    assert_string_equal(p, "/run/libvirt/snmigrate-01234567/ram");
    for (size_t len = 1; len < sizeof name; len++) {
        memset(name, 'n', len);
        name[len] = '\0';
        paths_ram_sock(p, id, name);
        const size_t at = strlen(p);
        assert_true(at < PATHS_SOCK_MAX);
        /* Whole or not at all: a cut name would be another one's. */
        assert_true(strcmp(p + at - 4, "/ram") == 0 ||
                    (at > len && strcmp(p + at - len, name) == 0));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(paths__new_ids_are_valid_and_differ),
        TEST(paths__foreign_ids_are_refused),
        TEST(paths__directories_carry_the_id),
        TEST(paths__ram_socket_fits_for_any_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
