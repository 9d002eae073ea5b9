/* owner_ran_again(): of a source QEMU that is dead, on domains of libvirt's own test driver,
 * whose state all connections of a process share. */
#include "unit.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdio.h>

#include "migrate/move-int.h"

static const char forgotten[] = "6a1d5c1e-0f6b-4f0e-9d3f-2f2b8c8f8a11";
static const char nobody[] = "11111111-0f6b-4f0e-9d3f-2f2b8c8f8a11";
static virConnectPtr conn;

static void silence(void *data, virErrorPtr error)
{
    (void)data;
    (void)error;
}

/* A domain that is off, libvirt does not say why, as after a restart of libvirtd. */
static int open_libvirt(void **state)
{
    char xml[300];

    (void)state;
    virSetErrorFunc(NULL, silence);
    snprintf(xml, sizeof xml,
             "<domain type='test'><name>forgotten</name><uuid>%s</uuid>"
             "<memory>8192</memory><os><type>hvm</type></os></domain>",
             forgotten);
    conn = virConnectOpen("test:///default");
    virDomainPtr d = conn != NULL ? virDomainDefineXML(conn, xml) : NULL;
    if (d == NULL)
        return -1;
    virDomainFree(d);
    return 0;
}

static int close_libvirt(void **state)
{
    (void)state;
    virConnectClose(conn);
    return 0;
}

/* The word on domain @uuid, which snmigrate or its guard had @taken_back or not. */
static bool ran_again(const char *uuid, bool taken_back)
{
    static const struct move_cfg cfg = { .connect = "test:///default",
                                         .domain = "vm",
                                         .dest = { .host = "hostb" } };
    struct move *const m = move_new(&cfg, NULL);

    assert_non_null(m);
    snprintf(m->facts.uuid, sizeof m->facts.uuid, "%s", uuid);
    m->taken_back = taken_back;
    const bool ran = owner_ran_again(m);
    vdom_free(m->dom);
    virt_close(m->src);
    move_free(m);
    return ran;
}

static void ran_again__what_libvirt_has_seen_counts(void **state)
{
    virDomainPtr d = virDomainLookupByName(conn, "test");
    char uuid[VIR_UUID_STRING_BUFLEN];

    (void)state;
    assert_non_null(d);
    assert_int_equal(virDomainGetUUIDString(d, uuid), 0);
    assert_true(ran_again(uuid, false)); /* it runs */
    assert_int_equal(virDomainDestroy(d), 0);
    assert_true(ran_again(uuid, false));
    virDomainFree(d);
}

/* Where libvirt has no word, what is known here: resumed, it may have written to its disks, so
 * that the destination has an old copy; else it was not. */
static void ran_again__else_whether_it_was_taken_back(void **state)
{
    (void)state;
    assert_false(ran_again(forgotten, false));
    assert_true(ran_again(forgotten, true));
    assert_false(ran_again(nobody, false));
    assert_true(ran_again(nobody, true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(ran_again__what_libvirt_has_seen_counts),
        TEST(ran_again__else_whether_it_was_taken_back),
    };

    return cmocka_run_group_tests(tests, open_libvirt, close_libvirt);
}
