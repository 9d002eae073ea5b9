/* Domain XML to facts and back, on documents as libvirt writes them and on hostile ones. */
#include <stdio.h>
#include <stdlib.h>

#include "base/findings.h"
#include "base/mem.h"
#include "unit.h"
#include "virt/domxml.h"

static struct err e;

/* tests/data/domxml/@name as a string; free(3). */
static char *data(const char *name)
{
    enum { SIZE = 64 << 10 };
    char path[128], *const text = malloc(SIZE);
    FILE *f;
    size_t n;

    snprintf(path, sizeof path, "tests/data/domxml/%s", name);
    f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(text);
    n = fread(text, 1, SIZE - 1, f);
    assert_int_equal(fclose(f), 0);
    text[n] = '\0';
    return text;
}

static void parse(const char *name, struct dominfo *info, struct findings *f)
{
    AUTO(mem_free) char *xml = data(name);

    assert_ok(domxml_parse(xml, info, f, &e), e);
}

/* How many findings have that code, at that level. */
static unsigned found(const struct findings *f, enum finding_level level,
                      const char *code)
{
    unsigned n = 0;

    for (size_t i = 0; i < f->n; i++)
        n += f->list[i].level == level && strcmp(f->list[i].code, code) == 0;
    return n;
}

/* @from replaced by @to, once; free(3). */
static char *edit(const char *text, const char *from, const char *to)
{
    const char *const at = strstr(text, from);
    const size_t size = strlen(text) + strlen(to) + 1;
    char *const out = malloc(size);

    assert_non_null(at);
    assert_non_null(out);
    snprintf(out, size, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

/* ---- facts ------------------------------------------------------------------------- */

static void domxml__inactive_uefi_domain_gives_machine(void **state)
{
    AUTO(dominfo_fini) struct dominfo d = { 0 };
    AUTO(findings_fini) struct findings f = { 0 };

    (void)state;
    parse("uefi-inactive.xml", &d, &f);
    assert_string_equal(d.name, "web01");
    assert_string_equal(d.uuid, "5e2f9fd0-9d0a-4a6e-8f4a-7b0f1d1c2a33");
    assert_string_equal(d.type, "kvm");
    assert_string_equal(d.arch, "x86_64");
    assert_string_equal(d.machine, "pc-q35-7.2");
    assert_string_equal(d.emulator, "/usr/bin/qemu-system-x86_64");
    assert_int_equal(d.memory, 8ull << 30);
    assert_int_equal(d.vcpus, 4);
    assert_contains(d.cpu, "<cpu mode=\"custom\"");
    assert_contains(d.cpu, "EPYC-Rome");
    assert_int_equal(f.n, 0);
}

static void domxml__inactive_uefi_domain_gives_disks(void **state)
{
    AUTO(dominfo_fini) struct dominfo d = { 0 };

    (void)state;
    parse("uefi-inactive.xml", &d, NULL);
    assert_int_equal(d.ndisks, 2);
    assert_string_equal(d.disks[0].target, "vda");
    assert_string_equal(d.disks[0].alias, "");
    assert_string_equal(d.disks[0].path, "/var/lib/libvirt/images/web01.qcow2");
    assert_string_equal(d.disks[0].format, "qcow2");
    assert_false(d.disks[0].block);
    assert_string_equal(d.disks[1].target, "sdb");
    assert_string_equal(d.disks[1].path, "/dev/vg0/web01-data");
    assert_string_equal(d.disks[1].format, "raw");
    assert_true(d.disks[1].block);
}

static void domxml__inactive_uefi_domain_gives_files_and_nets(void **state)
{
    AUTO(dominfo_fini) struct dominfo d = { 0 };

    (void)state;
    parse("uefi-inactive.xml", &d, NULL);
    assert_int_equal(d.nfiles, 3);
    assert_string_equal(d.files[0].what, "cdrom sda");
    assert_string_equal(d.files[0].path, "/var/lib/libvirt/images/debian-12.iso");
    assert_true(d.files[0].optional);
    assert_string_equal(d.files[1].what, "loader");
    assert_string_equal(d.files[1].path, "/usr/share/OVMF/OVMF_CODE_4M.ms.fd");
    assert_false(d.files[1].optional);
    assert_string_equal(d.files[2].what, "NVRAM");
    assert_string_equal(d.files[2].path, "/var/lib/libvirt/qemu/nvram/web01_VARS.fd");
    assert_string_equal(d.files[2].template_path, "/usr/share/OVMF/OVMF_VARS_4M.ms.fd");

    assert_int_equal(d.nnets, 3);
    assert_string_equal(d.nets[0].kind, "bridge");
    assert_string_equal(d.nets[0].source, "br0");
    assert_string_equal(d.nets[1].kind, "network");
    assert_string_equal(d.nets[1].source, "backend");
    assert_string_equal(d.nets[2].kind, "direct");
    assert_string_equal(d.nets[2].source, "eno1");
}

static void domxml__live_domain_gives_aliases(void **state)
{
    AUTO(dominfo_fini) struct dominfo d = { 0 };
    AUTO(findings_fini) struct findings f = { 0 };

    (void)state;
    parse("live-chain.xml", &d, &f);
    assert_int_equal(d.memory, 512ull << 20);
    assert_int_equal(d.ndisks, 2);
    assert_string_equal(d.disks[0].alias, "virtio-disk0");
    assert_string_equal(d.disks[1].alias, "ua-data");
    assert_string_equal(d.nets[0].source, "br1");
    assert_int_equal(d.nfiles, 2);
    assert_string_equal(d.files[0].path, "/boot/vmlinuz");
    assert_string_equal(d.files[1].path, "/boot/initrd.img");
    assert_int_equal(found(&f, FINDING_BLOCKER, "disk-backing"), 1); /* vda alone */
    assert_int_equal(f.n, 1);
}

static void domxml__nvram_with_source_element_is_read(void **state)
{
    AUTO(mem_free) char *xml = data("uefi-inactive.xml");
    AUTO(mem_free)
    char *xml2 = edit(xml, ">/var/lib/libvirt/qemu/nvram/web01_VARS.fd</nvram>",
                      " type='file'><source file='/srv/vars.fd'/></nvram>");
    AUTO(dominfo_fini) struct dominfo d = { 0 };

    (void)state;
    assert_ok(domxml_parse(xml2, &d, NULL, &e), e);
    assert_string_equal(d.files[2].path, "/srv/vars.fd");
}

static void domxml__memory_units_are_those_of_libvirt(void **state)
{
    static const struct {
        const char *xml;
        uint64_t bytes;
    } cases[] = {
        { "<memory>1024</memory>", 1 << 20 },
        { "<memory unit='b'>4096</memory>", 4096 },
        { "<memory unit='KB'>4096</memory>", 4096000 },
        { "<memory unit='MiB'>3</memory>", 3 << 20 },
        { "<memory unit='G'>2</memory>", 2ull << 30 },
        { "<memory unit='TiB'>1</memory>", 1ull << 40 },
    };
    AUTO(mem_free) char *xml = data("lxc.xml");

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        AUTO(mem_free)
        char *with = edit(xml, "<memory unit='GiB'>1</memory>", cases[i].xml);
        AUTO(dominfo_fini) struct dominfo d = { 0 };
        assert_ok(domxml_parse(with, &d, NULL, &e), e);
        assert_int_equal(d.memory, cases[i].bytes);
    }
}

static void domxml__iothreads_of_disks_and_controllers_are_seen(void **state)
{
    static const struct {
        const char *from, *to;
    } edits[] = {
        { "cache='none' io='native'", "cache='none' iothread='1'" },
        { "<driver name='qemu' type='raw' cache='none' io='native'/>",
          "<driver type='raw'><iothreads><iothread id='1'/></iothreads></driver>" },
        { "model='virtio-scsi'/>",
          "model='virtio-scsi'><driver iothread='2'/></controller>" },
    };
    AUTO(mem_free) char *xml = data("uefi-inactive.xml");
    AUTO(dominfo_fini) struct dominfo without = { 0 };

    (void)state;
    assert_ok(domxml_parse(xml, &without, NULL, &e), e);
    assert_false(without.iothreads);
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        AUTO(mem_free) char *with = edit(xml, edits[i].from, edits[i].to);
        AUTO(dominfo_fini) struct dominfo d = { 0 };
        assert_ok(domxml_parse(with, &d, NULL, &e), e);
        assert_true(d.iothreads);
    }
}

/* ---- what cannot move ---------------------------------------------------------------- */

static void domxml__every_unfit_disk_is_listed(void **state)
{
    AUTO(dominfo_fini) struct dominfo d = { 0 };
    AUTO(findings_fini) struct findings f = { 0 };

    (void)state;
    parse("odd.xml", &d, &f);
    assert_int_equal(found(&f, FINDING_BLOCKER, "disk-type"),
                     4); /* volume rbd none iso */
    assert_int_equal(found(&f, FINDING_BLOCKER, "disk-no-format"), 1);
    assert_int_equal(found(&f, FINDING_BLOCKER, "disk-format"), 1);
    assert_int_equal(found(&f, FINDING_BLOCKER, "disk-shareable"), 1);
    assert_int_equal(found(&f, FINDING_BLOCKER, "disk-transient"), 1);
    assert_int_equal(found(&f, FINDING_BLOCKER, "disk-encrypted"), 1);
    assert_int_equal(found(&f, FINDING_BLOCKER, "disk-lun"), 1);
    assert_int_equal(found(&f, FINDING_BLOCKER, "disk-data-file"), 1);
}

static void domxml__every_device_of_the_host_is_listed(void **state)
{
    AUTO(dominfo_fini) struct dominfo d = { 0 };
    AUTO(findings_fini) struct findings f = { 0 };

    (void)state;
    parse("odd.xml", &d, &f);
    assert_int_equal(found(&f, FINDING_BLOCKER, "hostdev"), 2);
    assert_int_equal(found(&f, FINDING_BLOCKER, "filesystem"), 1);
    assert_int_equal(found(&f, FINDING_BLOCKER, "vhost-user"), 2);
    assert_int_equal(found(&f, FINDING_BLOCKER, "vdpa"), 1);
    assert_int_equal(found(&f, FINDING_BLOCKER, "shmem"), 1);
    assert_int_equal(found(&f, FINDING_BLOCKER, "nvdimm"), 1);
    assert_int_equal(found(&f, FINDING_BLOCKER, "host-input"), 1);
    assert_int_equal(found(&f, FINDING_BLOCKER, "host-device"), 1);
    assert_int_equal(found(&f, FINDING_BLOCKER, "tpm"), 1);
    assert_int_equal(found(&f, FINDING_BLOCKER, "launch-security"), 1);
    assert_int_equal(found(&f, FINDING_WARNING, "qemu-commandline"), 1);
    assert_int_equal(f.n, 24);
}

static void domxml__files_of_odd_places_are_listed(void **state)
{
    AUTO(dominfo_fini) struct dominfo d = { 0 };

    (void)state;
    parse("odd.xml", &d, NULL);
    assert_int_equal(d.nfiles, 3);
    assert_string_equal(d.files[0].what, "floppy fda");
    assert_string_equal(d.files[1].what, "ACPI table");
    assert_string_equal(d.files[2].what, "fwcfg");
    assert_string_equal(d.files[2].path, "/srv/b.ign");
}

static void domxml__container_is_refused(void **state)
{
    AUTO(dominfo_fini) struct dominfo d = { 0 };
    AUTO(findings_fini) struct findings f = { 0 };

    (void)state;
    parse("lxc.xml", &d, &f);
    assert_int_equal(found(&f, FINDING_BLOCKER, "not-qemu"), 1);
    assert_int_equal(f.n, 1);
}

/* A domain with @n disks vd0000...; free(3). */
static char *many_disks(unsigned n)
{
    AUTO(mem_free) char *xml = data("lxc.xml");
    AUTO(mem_free) char *disks = malloc(n * 200 + 200);
    size_t at = 0;

    assert_non_null(disks);
    for (unsigned i = 0; i < n; i++)
        at += (size_t)snprintf(disks + at, 200,
                               "<disk type='file'><driver type='raw'/><source "
                               "file='/d/%u'/><target dev='vd%04u'/></disk>",
                               i, i);
    snprintf(disks + at, 200, "</devices>");
    return edit(xml, "</devices>", disks);
}

static void domxml__more_disks_than_fit_are_a_blocker(void **state)
{
    AUTO(mem_free) char *fits = many_disks(DOMXML_DISKS_MAX);
    AUTO(mem_free) char *over = many_disks(DOMXML_DISKS_MAX + 2);
    AUTO(mem_free) char *absurd = many_disks(1000);
    AUTO(dominfo_fini) struct dominfo a = { 0 };
    AUTO(dominfo_fini) struct dominfo b = { 0 };
    AUTO(findings_fini) struct findings fa = { 0 };
    AUTO(findings_fini) struct findings fb = { 0 };
    struct dominfo c;

    (void)state;
    assert_ok(domxml_parse(fits, &a, &fa, &e), e);
    assert_int_equal(found(&fa, FINDING_BLOCKER, "disks-many"), 0);
    assert_ok(domxml_parse(over, &b, &fb, &e), e);
    assert_int_equal(b.ndisks, DOMXML_DISKS_MAX);
    assert_int_equal(found(&fb, FINDING_BLOCKER, "disks-many"), 2);
    assert_err(domxml_parse(absurd, &c, NULL, &e), e, ERR_PROTO);
}

/* ---- hostile and broken documents ------------------------------------------------------ */

static void domxml__doctype_is_refused_in_every_form(void **state)
{
    static const char *const names[] = { "laughs.xml", "entity.xml", "doctype.xml" };
    struct dominfo d;

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        AUTO(mem_free) char *xml = data(names[i]);
        char *out = NULL;
        assert_err(domxml_parse(xml, &d, NULL, &e), e, ERR_PROTO);
        assert_contains(e.msg, "DOCTYPE");
        assert_err(domxml_rewrite(xml, NULL, 0, &out, &e), e, ERR_PROTO);
        assert_null(out);
    }
}

static void domxml__five_megabytes_are_refused(void **state)
{
    enum { SIZE = 5 << 20 };
    AUTO(mem_free) char *xml = malloc(SIZE + 1);
    struct dominfo d;

    (void)state;
    assert_non_null(xml);
    memset(xml, ' ', SIZE);
    memcpy(xml, "<domain>", 8);
    memcpy(xml + SIZE - 9, "</domain>", 9);
    xml[SIZE] = '\0';
    assert_err(domxml_parse(xml, &d, NULL, &e), e, ERR_PROTO);
    assert_contains(e.msg, "bytes");
}

static void domxml__deep_nesting_is_refused(void **state)
{
    enum { DEPTH = 100000 };
    AUTO(mem_free) char *xml = malloc(DEPTH * 3 + 16);
    struct dominfo d;

    (void)state;
    assert_non_null(xml);
    memcpy(xml, "<domain>", 9);
    for (size_t i = 0; i < DEPTH; i++)
        memcpy(xml + 8 + 3 * i, "<a>", 4);
    assert_err(domxml_parse(xml, &d, NULL, &e), e, ERR_PROTO);
}

static void domxml__every_truncation_is_refused(void **state)
{
    AUTO(mem_free) char *xml = data("uefi-inactive.xml");
    struct dominfo d;

    (void)state;
    for (size_t len = strlen(xml) - strlen(">\n"); len-- > 0;) {
        xml[len] = '\0';
        assert_err(domxml_parse(xml, &d, NULL, &e), e, ERR_PROTO);
    }
}

static void domxml__missing_or_bad_elements_are_refused(void **state)
{
    static const struct {
        const char *from, *to;
    } edits[] = {
        { "<name>web01</name>", "" },
        { "<uuid>5e2f9fd0-9d0a-4a6e-8f4a-7b0f1d1c2a33</uuid>", "" },
        { "<uuid>5e", "<uuid>5555555e" },
        { "<memory unit='KiB'>8388608</memory>", "" },
        { "8388608</memory>", "-8388608</memory>" },
        { "8388608</memory>", "99999999999999999999</memory>" },
        { "'KiB'>8388608", "'TiB'>99999999999" },
        { "'KiB'>8388608", "'pages'>8388608" },
        { ">4</vcpu>", ">many</vcpu>" },
        { ">4</vcpu>", ">99999999</vcpu>" },
        { " arch='x86_64'", "" },
        { " machine='pc-q35-7.2'", "" },
        { "<target dev='vda' bus='virtio'/>", "" },
        { "dev='sdb'", "dev='vda'" },
        { "dev='vda'", "dev='vd&#10;a'" },
        { "dev='vda'", "dev='a-target-name-longer-than-thirty-one-bytes'" },
        { "'/dev/vg0/web01-data'", "'relative/path'" },
        { "<domain type", "<network type" },
        { "</devices>", "</device>" },
        { "web01</name>", "web\x1b[2J</name>" },
        { "web01</name>", "web\xff\xfe</name>" },
        { "<domain type='kvm'>", "<domain xmlns='urn:x' type='kvm'>" },
    };
    AUTO(mem_free) char *xml = data("uefi-inactive.xml");
    struct dominfo d;

    (void)state;
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        AUTO(mem_free) char *bad = NULL;
        if (strcmp(edits[i].from, "<domain type") == 0) {
            AUTO(mem_free) char *half = edit(xml, edits[i].from, edits[i].to);
            bad = edit(half, "</domain>", "</network>");
        } else
            bad = edit(xml, edits[i].from, edits[i].to);
        if (domxml_parse(bad, &d, NULL, &e))
            fail_msg("accepted: %s -> %s", edits[i].from, edits[i].to);
        assert_string_equal(err_kind_name(e.kind), "proto");
    }
}

/* ---- the way back ------------------------------------------------------------------------ */

static void rewritten(const char *name, const struct domdisk_to *to, size_t n,
                      const char *golden)
{
    AUTO(mem_free) char *xml = data(name);
    AUTO(mem_free) char *want = data(golden);
    AUTO(mem_free) char *out = NULL;
    AUTO(mem_free) char *again = NULL;

    assert_ok(domxml_rewrite(xml, to, n, &out, &e), e);
    want[strlen(want) - 1] = '\0'; /* the file's last newline */
    assert_string_equal(out, want);
    assert_ok(domxml_rewrite(out, to, n, &again, &e), e);
    assert_string_equal(again, out);
}

static void domxml__rewrite_changes_the_disks_and_nothing_else(void **state)
{
    static const struct domdisk_to to[] = {
        { "vda", "/var/lib/images/web01 & co.raw", "raw", false },
        { "sdb", "/var/lib/images/web01-sdb.qcow2", "qcow2", false },
    };

    (void)state;
    rewritten("uefi-inactive.xml", to, 2, "uefi-inactive.moved.xml");
}

static void domxml__rewrite_ends_the_chain_of_a_live_domain(void **state)
{
    static const struct domdisk_to to[] = {
        { "vda", "/new/vda.qcow2", "qcow2", false },
        { "sda", "/new/sda.raw", "raw", false },
    };

    (void)state;
    rewritten("live-chain.xml", to, 2, "live-chain.moved.xml");
}

static void domxml__rewrite_of_one_disk_leaves_the_other(void **state)
{
    const struct domdisk_to to = { "sdb", "/new/sdb.raw", "raw", false };
    AUTO(mem_free) char *xml = data("uefi-inactive.xml");
    AUTO(mem_free) char *out = NULL;
    AUTO(dominfo_fini) struct dominfo d = { 0 };

    (void)state;
    assert_ok(domxml_rewrite(xml, &to, 1, &out, &e), e);
    assert_ok(domxml_parse(out, &d, NULL, &e), e);
    assert_string_equal(d.disks[0].path, "/var/lib/libvirt/images/web01.qcow2");
    assert_string_equal(d.disks[1].path, "/new/sdb.raw");
    assert_false(d.disks[1].block);
}

static void domxml__rewrite_makes_block_devices_of_files_and_back(void **state)
{
    const struct domdisk_to block[] = {
        { "vda", "/dev/vg0/a & b", "raw", true },
        { "sdb", "/new/sdb.raw", "raw", false },
    };
    const struct domdisk_to file = { "vda", "/new/vda.raw", "raw", false };
    AUTO(mem_free) char *xml = data("uefi-inactive.xml");
    AUTO(mem_free) char *out = NULL;
    AUTO(mem_free) char *back = NULL;
    AUTO(dominfo_fini) struct dominfo d = { 0 };

    (void)state;
    assert_ok(domxml_rewrite(xml, block, 2, &out, &e), e);
    assert_contains(out, "<disk type=\"block\" device=\"disk\"");
    assert_contains(out, "<source dev=\"/dev/vg0/a &amp; b\"/>");
    assert_ok(domxml_parse(out, &d, NULL, &e), e);
    assert_true(d.disks[0].block);
    assert_string_equal(d.disks[0].path, "/dev/vg0/a & b");
    assert_false(d.disks[1].block);
    assert_ok(domxml_rewrite(out, &file, 1, &back, &e), e);
    assert_contains(back, "<source file=\"/new/vda.raw\"/>");
    assert_null(strstr(back, "/dev/vg0"));
    assert_null(strstr(back, "type=\"block\""));
}

static void domxml__rewrite_adds_what_a_disk_lacks(void **state)
{
    const struct domdisk_to to = { "sdc", "/new/c.qcow2", "qcow2", false };
    AUTO(mem_free) char *xml = data("uefi-inactive.xml");
    AUTO(mem_free) char *out = NULL;

    (void)state;
    assert_ok(domxml_rewrite(xml, &to, 1, &out, &e), e);
    assert_contains(out, "<source file=\"/new/c.qcow2\"/>");
    assert_contains(out, "<driver type=\"qcow2\"/>");
}

static void domxml__rewrite_refuses_unknown_target_and_bad_path(void **state)
{
    static const struct domdisk_to to[] = {
        { "vdz", "/new/z.raw", "raw", false },
        { "vda", "relative.raw", "raw", false },
        { "vda", "/new/\n.raw", "raw", false },
        { "vda", "/new/\xff.raw", "raw", false },
        { "vda", "", "raw", false },
    };
    AUTO(mem_free) char *xml = data("uefi-inactive.xml");
    char *out = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof to / sizeof to[0]; i++)
        assert_err(domxml_rewrite(xml, &to[i], 1, &out, &e), e, ERR_USAGE);
    assert_null(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(domxml__inactive_uefi_domain_gives_machine),
        TEST(domxml__inactive_uefi_domain_gives_disks),
        TEST(domxml__inactive_uefi_domain_gives_files_and_nets),
        TEST(domxml__live_domain_gives_aliases),
        TEST(domxml__nvram_with_source_element_is_read),
        TEST(domxml__memory_units_are_those_of_libvirt),
        TEST(domxml__iothreads_of_disks_and_controllers_are_seen),
        TEST(domxml__every_unfit_disk_is_listed),
        TEST(domxml__every_device_of_the_host_is_listed),
        TEST(domxml__files_of_odd_places_are_listed),
        TEST(domxml__container_is_refused),
        TEST(domxml__more_disks_than_fit_are_a_blocker),
        TEST(domxml__doctype_is_refused_in_every_form),
        TEST(domxml__five_megabytes_are_refused),
        TEST(domxml__deep_nesting_is_refused),
        TEST(domxml__every_truncation_is_refused),
        TEST(domxml__missing_or_bad_elements_are_refused),
        TEST(domxml__rewrite_changes_the_disks_and_nothing_else),
        TEST(domxml__rewrite_ends_the_chain_of_a_live_domain),
        TEST(domxml__rewrite_of_one_disk_leaves_the_other),
        TEST(domxml__rewrite_makes_block_devices_of_files_and_back),
        TEST(domxml__rewrite_adds_what_a_disk_lacks),
        TEST(domxml__rewrite_refuses_unknown_target_and_bad_path),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
