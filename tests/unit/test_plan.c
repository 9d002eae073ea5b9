#include <stdio.h>
#include <string.h>

#include "migrate/plan.h"
#include "unit.h"

static struct plan plan;
static struct domdisk two[] = {
    { .target = "vda", .path = "/srv/a/web.qcow2", .format = "qcow2" },
    { .target = "vdb", .path = "/srv/b/data.img", .format = "raw" },
};
static struct dominfo info = { .name = "web01", .disks = two, .ndisks = 2 };

static struct move_disk_opt disk(const char *target, const char *path,
                                 const char *format)
{
    struct move_disk_opt o;

    snprintf(o.target, sizeof o.target, "%s", target);
    snprintf(o.path, sizeof o.path, "%s", path);
    snprintf(o.format, sizeof o.format, "%s", format);
    return o;
}

static bool has_code(const struct findings *f, const char *code)
{
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->list[i].code, code) == 0)
            return true;
    return false;
}

static void plan__without_options_keeps_paths(void **state)
{
    static const struct move_cfg cfg = { 0 };
    struct findings f = { 0 };

    (void)state;
    plan_make(&cfg, &info, &plan, &f);
    assert_int_equal(f.n, 0);
    assert_int_equal(plan.n, 2);
    assert_string_equal(plan.disks[0].dst, "/srv/a/web.qcow2");
    assert_string_equal(plan.disks[0].dst_format, "qcow2");
    assert_string_equal(plan.disks[1].dst, "/srv/b/data.img");
}

static void plan__disks_to_and_disk_can_be_mixed(void **state)
{
    static struct move_cfg cfg = { .disks_to = "/var/lib/images//", .ndisks = 1 };
    struct findings f = { 0 };

    (void)state;
    cfg.disks[0] = disk("vdb", "/fast/d.raw", "");
    plan_make(&cfg, &info, &plan, &f);
    assert_int_equal(f.n, 0);
    assert_string_equal(plan.disks[0].dst, "/var/lib/images/web.qcow2");
    assert_string_equal(plan.disks[1].dst, "/fast/d.raw");
}

static void plan__conversion_renames_only_a_matching_ending(void **state)
{
    static struct move_cfg cfg = { .disks_to = "/d", .format = "raw", .ndisks = 1 };
    struct findings f = { 0 };

    (void)state;
    cfg.disks[0] = disk("vdb", "", "qcow2");
    plan_make(&cfg, &info, &plan, &f);
    assert_int_equal(f.n, 0);
    assert_string_equal(plan.disks[0].dst, "/d/web.raw");
    assert_string_equal(plan.disks[1].dst, "/d/data.img");
    assert_string_equal(plan.disks[1].dst_format, "qcow2");
}

static void plan__block_device_gets_a_name(void **state)
{
    static const struct move_cfg cfg = { .disks_to = "/d" };
    struct domdisk lv = {
        .target = "sda", .path = "/dev/vg/lv", .format = "raw", .block = true
    };
    const struct dominfo one = { .name = "db", .disks = &lv, .ndisks = 1 };
    struct findings f = { 0 };

    (void)state;
    plan_make(&cfg, &one, &plan, &f);
    assert_int_equal(f.n, 0);
    assert_string_equal(plan.disks[0].dst, "/d/db-sda.raw");
}

static void plan__same_destination_twice_is_a_blocker(void **state)
{
    static const struct move_cfg cfg = { .disks_to = "/d" };
    struct domdisk same[] = {
        { .target = "vda", .path = "/a/x.img", .format = "raw" },
        { .target = "vdb", .path = "/b/x.img", .format = "raw" }
    };
    const struct dominfo clash = { .name = "db", .disks = same, .ndisks = 2 };
    struct findings f = { 0 };

    (void)state;
    plan_make(&cfg, &clash, &plan, &f);
    assert_true(has_code(&f, "same-path"));
    findings_fini(&f);
}

static void plan__bad_disk_options_are_all_listed(void **state)
{
    static struct move_cfg cfg = { .disks_to = "/d", .ndisks = 4 };
    struct findings f = { 0 };

    (void)state;
    cfg.disks[0] = disk("vdz", "/x", "");
    cfg.disks[1] = disk("vda", "/x", "");
    cfg.disks[2] = disk("vda", "/y", "");
    cfg.disks[3] = disk("vdb", "/z", "vmdk");
    plan_make(&cfg, &info, &plan, &f);
    assert_true(has_code(&f, "disk-unknown"));
    assert_true(has_code(&f, "disk-twice"));
    assert_true(has_code(&f, "format"));
    findings_fini(&f);
}

static void plan__path_too_long_is_a_blocker(void **state)
{
    static struct move_cfg cfg;
    static char dir[PATHS_MAX];
    struct findings f = { 0 };

    (void)state;
    memset(dir, 'x', sizeof dir - 1);
    dir[0] = '/';
    cfg.disks_to = dir;
    plan_make(&cfg, &info, &plan, &f);
    assert_true(has_code(&f, "path-long"));
    findings_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plan__without_options_keeps_paths),
        cmocka_unit_test(plan__disks_to_and_disk_can_be_mixed),
        cmocka_unit_test(plan__conversion_renames_only_a_matching_ending),
        cmocka_unit_test(plan__block_device_gets_a_name),
        cmocka_unit_test(plan__same_destination_twice_is_a_blocker),
        cmocka_unit_test(plan__bad_disk_options_are_all_listed),
        cmocka_unit_test(plan__path_too_long_is_a_blocker),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
