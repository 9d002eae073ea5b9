/* libvirt's status file of a running domain. */
#include "virt/status.h"

#include "unit.h"

static struct err e;

static void status__pid_and_directory_are_read(void **state)
{
    struct status s;

    (void)state;
    assert_ok(status_parse("<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n"
                           "<domstatus state='running' reason='booted' pid='4711'>\n"
                           "  <monitor path='/x/monitor.sock' type='unix'/>\n"
                           "  <libDir path='/var/lib/libvirt/qemu/domain-3-web01'/>\n"
                           "  <domain type='kvm' id='3'><name>web01</name></domain>\n"
                           "</domstatus>\n",
                           &s, &e),
              e);
    assert_int_equal(s.pid, 4711);
    assert_string_equal(s.libdir, "/var/lib/libvirt/qemu/domain-3-web01");
}

static void status__documents_without_them_are_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "<domstatus/>",
        "<domstatus pid='7'/>",
        "<domstatus pid='7'><libDir/></domstatus>",
        "<domstatus pid='7'><libDir path='relative'/></domstatus>",
        "<domstatus pid='1'><libDir path='/x'/></domstatus>",
        "<domstatus pid='-7'><libDir path='/x'/></domstatus>",
        "<domstatus pid='7'><libDir path='/x'/>",
        "<domain pid='7'><libDir path='/x'/></domain>",
        "<!DOCTYPE domstatus><domstatus pid='7'><libDir path='/x'/></domstatus>",
    };
    struct status s;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_err(status_parse(texts[i], &s, &e), e, ERR_PROTO);
}

static void status__domain_that_does_not_run_has_none(void **state)
{
    struct status s;

    (void)state;
    assert_err(status_read("no such domain", &s, &e), e, ERR_SYS);
    assert_err(status_read("../../etc/passwd", &s, &e), e, ERR_USAGE);
    assert_int_equal(status_qemu_pid("no such domain", "x"), 0);
    assert_int_equal(status_qemu_pid("../x", "x"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(status__pid_and_directory_are_read),
        TEST(status__documents_without_them_are_refused),
        TEST(status__domain_that_does_not_run_has_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
