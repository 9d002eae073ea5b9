/* QMP of bitmaps and exports: what we send, and what we make of the answers. */
#include "virt/blkqmp.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "unit.h"

static struct err e;

#define ID "1a2b3c4d5e6f70819293a4b5c6d7e8f9"

/* As QEMU 7.2 answers, cut down to what is read and some of what is not. */
#define IMAGE(size) \
    "\"image\":{\"virtual-size\":" size ",\"filename\":\"/x\"," \
    "\"actual-size\":4096,\"format\":\"raw\"}"
#define VDA \
    "{\"io-status\":\"ok\",\"device\":\"\",\"locked\":false,\"removable\":false," \
    "\"inserted\":{\"ro\":false,\"node-name\":\"libvirt-2-format\"," IMAGE( \
        "1048576") ",\"dirty-bitmaps\":[{\"name\":\"other\",\"recording\":true," \
                   "\"count\":1}," \
                   "{\"name\":\"snm-1a2b3c4d-3\",\"recording\":true,\"busy\":false," \
                   "\"granularity\":65536,\"count\":131072}]}," \
                   "\"qdev\":\"/machine/peripheral/virtio-disk0/" \
                   "virtio-backend\",\"type\":\"unknown\"}"
#define SDA \
    "{\"device\":\"\",\"locked\":false,\"removable\":false,\"inserted\":{\"ro\":" \
    "false," \
    "\"node-name\":\"libvirt-1-storage\"," IMAGE( \
        "513") ",\"dirty-bitmaps\":[{\"name\":\"snm-1a2b3c4d-3\",\"recording\":true," \
               "\"count\":0}]},\"qdev\":\"scsi0-0-0-1\",\"type\":\"unknown\"}"
#define CDROM \
    "{\"device\":\"\",\"locked\":false,\"removable\":true,\"tray_open\":false," \
    "\"qdev\":\"sata0-0-0\",\"type\":\"unknown\"}"
#define FLASH \
    "{\"device\":\"\",\"locked\":false,\"removable\":false,\"inserted\":{" \
    "\"node-name\":\"libvirt-pflash1-format\"," IMAGE( \
        "540672") "}," \
                  "\"qdev\":\"/machine/system.flash1\",\"type\":\"unknown\"}"
#define BLOCKS "[" VDA "," SDA "," CDROM "," FLASH "]"

static struct json_object *parse(const char *text)
{
    struct json_object *o = NULL;

    assert_ok(json_parse(text, strlen(text), &o, &e), e);
    return o;
}

/* Two disks, generation 3. */
static struct blk *move(void)
{
    static struct blk b;
    static const struct blkdisk disks[] = {
        { "vda", "/machine/peripheral/virtio-disk0/virtio-backend", "libvirt-2-format",
          1048576 },
        { "sda", "scsi0-0-0-1", "libvirt-1-storage", 513 },
    };

    memset(&b, 0, sizeof b);
    blkqmp_prefix(b.prefix, ID);
    memcpy(b.disks, disks, sizeof disks);
    b.ndisks = 2;
    b.nfixed = 3;
    b.generation = 3;
    return &b;
}

static void expect(struct json_object *o, const char *want)
{
    assert_string_equal(json_object_to_json_string_ext(
                            o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE),
                        want);
    json_object_put(o);
}

/* ---- what we send -------------------------------------------------------------------- */

static void blkqmp__names_carry_the_move_and_the_generation(void **state)
{
    char name[BLKQMP_NAME], prefix[32];
    struct blk *b = move();

    (void)state;
    assert_string_equal(b->prefix, "snm-1a2b3c4d-");
    blkqmp_bitmap(b, 12, name);
    assert_string_equal(name, "snm-1a2b3c4d-12");
    blkqmp_export_name(b, 1, name);
    assert_string_equal(name, "snm-1a2b3c4d-sda-3");
    blkqmp_export_prefix(b, 1, name);
    assert_string_equal(name, "snm-1a2b3c4d-sda-");
    blkqmp_prefix(prefix, NULL);
    assert_string_equal(prefix, "snm-");
}

static void blkqmp__a_prefix_is_a_beginning(void **state)
{
    (void)state;
    assert_true(blkqmp_has_prefix("snm-1a2b3c4d-0", BLKQMP_OURS));
    assert_true(blkqmp_has_prefix("snm-1a2b3c4d-0", "snm-1a2b3c4d-"));
    assert_true(blkqmp_has_prefix("snm-", BLKQMP_OURS));
    assert_false(blkqmp_has_prefix("snm", BLKQMP_OURS));
    assert_false(blkqmp_has_prefix("snm-1a2b3c4e-0", "snm-1a2b3c4d-"));
    assert_false(blkqmp_has_prefix("not-snm-1a2b3c4d-0", BLKQMP_OURS));
    assert_false(blkqmp_has_prefix("", BLKQMP_OURS));
}

static void blkqmp__longest_names_are_whole(void **state)
{
    char name[BLKQMP_NAME];
    struct blk *b = move();

    (void)state;
    memset(b->disks[0].target, 'x', sizeof b->disks[0].target - 1);
    b->generation = 4294967295;
    blkqmp_export_name(b, 0, name);
    assert_string_equal(name,
                        "snm-1a2b3c4d-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-4294967295");
}

static void blkqmp__start_adds_one_bitmap_to_each_disk(void **state)
{
    (void)state;
    expect(
        blkqmp_start(move()),
        "{\"actions\":["
        "{\"type\":\"block-dirty-bitmap-add\",\"data\":{\"node\":\"libvirt-2-format\","
        "\"name\":\"snm-1a2b3c4d-0\",\"granularity\":65536,\"persistent\":false}},"
        "{\"type\":\"block-dirty-bitmap-add\",\"data\":{\"node\":\"libvirt-1-storage\","
        "\"name\":\"snm-1a2b3c4d-0\",\"granularity\":65536,\"persistent\":false}}]}");
}

static void blkqmp__rotate_adds_the_new_and_freezes_the_old(void **state)
{
    struct blk *b = move();

    (void)state;
    b->ndisks = 1;
    expect(
        blkqmp_rotate(b),
        "{\"actions\":["
        "{\"type\":\"block-dirty-bitmap-add\",\"data\":{\"node\":\"libvirt-2-format\","
        "\"name\":\"snm-1a2b3c4d-4\",\"granularity\":65536,\"persistent\":false}},"
        "{\"type\":\"block-dirty-bitmap-disable\",\"data\":{\"node\":"
        "\"libvirt-2-format\",\"name\":\"snm-1a2b3c4d-3\"}}]}");
}

/* What the frozen bitmap marks on each disk; it must be there. */
static void blkqmp__frozen_is_counted(void **state)
{
    struct blk *b = move();
    AUTO(json_put) struct json_object *blocks = parse(BLOCKS);
    AUTO(json_put) struct json_object *none = json_object_new_array();
    uint64_t bytes[2] = { 1, 1 };

    (void)state;
    b->generation = 4;
    assert_ok(blkqmp_frozen(b, blocks, bytes, &e), e);
    assert_int_equal(bytes[0], 131072);
    assert_int_equal(bytes[1], 0);
    b->generation = 3;
    assert_err(blkqmp_frozen(b, blocks, bytes, &e), e, ERR_REFUSED);
    assert_err(blkqmp_frozen(b, none, bytes, &e), e, ERR_REFUSED);
}

static void blkqmp__drop_removes_the_frozen(void **state)
{
    struct blk *b = move();

    (void)state;
    b->ndisks = 1;
    expect(blkqmp_drop(b, true),
           "{\"actions\":[{\"type\":\"block-dirty-bitmap-remove\",\"data\":"
           "{\"node\":\"libvirt-2-format\",\"name\":\"snm-1a2b3c4d-2\"}}]}");
    assert_null(blkqmp_drop(b, false));
    b->held = true;
    expect(blkqmp_drop(b, false),
           "{\"actions\":[{\"type\":\"block-dirty-bitmap-remove\",\"data\":"
           "{\"node\":\"libvirt-2-format\",\"name\":\"snm-1a2b3c4d-1\"}}]}");
    expect(blkqmp_drop(b, true),
           "{\"actions\":[{\"type\":\"block-dirty-bitmap-remove\",\"data\":"
           "{\"node\":\"libvirt-2-format\",\"name\":\"snm-1a2b3c4d-1\"}},"
           "{\"type\":\"block-dirty-bitmap-remove\",\"data\":"
           "{\"node\":\"libvirt-2-format\",\"name\":\"snm-1a2b3c4d-2\"}}]}");
}

static void blkqmp__server_takes_a_path_or_a_descriptor(void **state)
{
    (void)state;
    expect(
        blkqmp_server_unix(move(), "/var/lib/libvirt/qemu/domain-1-x/snm-1a2b3c4d-nbd"),
        "{\"addr\":{\"type\":\"unix\",\"data\":{\"path\":"
        "\"/var/lib/libvirt/qemu/domain-1-x/snm-1a2b3c4d-nbd\"}},"
        "\"max-connections\":48}");
    expect(blkqmp_server_fd(move(), "fd0"),
           "{\"addr\":{\"type\":\"fd\",\"data\":{\"str\":"
           "\"fd0\"}},\"max-connections\":48}");
}

static void blkqmp__export_is_read_only_and_names_the_frozen_bitmap(void **state)
{
    (void)state;
    expect(blkqmp_export(move(), 1, true),
           "{\"type\":\"nbd\",\"id\":\"snm-1a2b3c4d-sda-3\",\"name\":"
           "\"snm-1a2b3c4d-sda-3\",\"node-name\":\"libvirt-1-storage\","
           "\"writable\":false,\"bitmaps\":[\"snm-1a2b3c4d-2\"]}");
    expect(blkqmp_export(move(), 0, false),
           "{\"type\":\"nbd\",\"id\":\"snm-1a2b3c4d-vda-3\",\"name\":"
           "\"snm-1a2b3c4d-vda-3\",\"node-name\":\"libvirt-2-format\","
           "\"writable\":false}");
}

/* ---- query-block ----------------------------------------------------------------------- */

static void blkqmp__disk_is_found_by_alias_as_component(void **state)
{
    AUTO(json_put) struct json_object *blocks = parse(BLOCKS);
    struct blkdisk d = { 0 };

    (void)state;
    assert_ok(blkqmp_find(blocks, "virtio-disk0", &d, &e), e);
    assert_string_equal(d.qdev, "/machine/peripheral/virtio-disk0/virtio-backend");
    assert_string_equal(d.node, "libvirt-2-format");
    assert_int_equal(d.size, 1048576);
    assert_ok(blkqmp_find(blocks, "scsi0-0-0-1", &d, &e), e);
    assert_string_equal(d.node, "libvirt-1-storage");
    assert_int_equal(d.size, 513);
}

static void blkqmp__alias_is_never_matched_in_part(void **state)
{
    static const char *const aliases[] = { "virtio-disk", "irtio-disk0", "scsi0-0-0",
                                           "virtio-disk00", "virtio-disk0/virtio" };
    AUTO(json_put) struct json_object *blocks = parse(BLOCKS);
    struct blkdisk d;

    (void)state;
    for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++)
        assert_err(blkqmp_find(blocks, aliases[i], &d, &e), e, ERR_REFUSED);
}

static void blkqmp__drive_without_medium_is_refused(void **state)
{
    AUTO(json_put) struct json_object *blocks = parse(BLOCKS);
    struct blkdisk d;

    (void)state;
    assert_err(blkqmp_find(blocks, "sata0-0-0", &d, &e), e, ERR_REFUSED);
}

static void blkqmp__two_devices_of_one_alias_are_refused(void **state)
{
    AUTO(json_put) struct json_object *blocks = parse("[" VDA "," VDA "]");
    struct blkdisk d;

    (void)state;
    assert_err(blkqmp_find(blocks, "virtio-disk0", &d, &e), e, ERR_PROTO);
}

static void blkqmp__fixed_media_are_counted(void **state)
{
    AUTO(json_put) struct json_object *blocks = parse(BLOCKS);
    unsigned n;

    (void)state;
    assert_ok(blkqmp_count(blocks, &n, &e), e);
    assert_int_equal(n, 3); /* two disks and the flash, not the empty CD-ROM */
}

static void blkqmp__command_is_found_by_its_whole_name(void **state)
{
    AUTO(json_put)
    struct json_object *list =
        parse("[{\"name\":\"blockdev-set-active2\"},null,7,{\"name\":null},"
              "{\"name\":\"blockdev-add\"}]");
    bool has;

    (void)state;
    assert_ok(blkqmp_has_name(list, "blockdev-add", &has, &e), e);
    assert_true(has);
    assert_ok(blkqmp_has_name(list, "blockdev-set-active", &has, &e), e);
    assert_false(has);
}

static void blkqmp__usage_is_virtual_and_allocated(void **state)
{
    AUTO(json_put) struct json_object *blocks = parse(BLOCKS);
    uint64_t size, used;

    (void)state;
    assert_ok(blkqmp_usage(move(), blocks, 0, &size, &used, &e), e);
    assert_int_equal(size, 1048576);
    assert_int_equal(used, 4096);
}

static void blkqmp__malformed_answers_are_refused(void **state)
{
    static const char *const texts[] = {
        "{}",
        "[7]",
        "[[]]",
        "[{}]",
        "[{\"qdev\":\"scsi0-0-0-1\",\"removable\":7}]",
        "[{\"qdev\":\"scsi0-0-0-1\",\"removable\":false,\"inserted\":7}]",
        "[{\"qdev\":\"scsi0-0-0-1\",\"removable\":false,\"inserted\":{}}]",
        "[{\"qdev\":\"scsi0-0-0-1\",\"removable\":false,\"inserted\":"
        "{\"node-name\":\"n\",\"image\":{\"virtual-size\":-1}}}]",
        "[{\"qdev\":\"scsi0-0-0-1\",\"removable\":false,\"inserted\":{\"node-name\":"
        "\"a-node-name-that-is-much-longer-than-the-thirty-one-bytes-that-qemu-"
        "allows\","
        "\"image\":{\"virtual-size\":1}}}]",
    };
    struct blkdisk d;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        AUTO(json_put) struct json_object *o = parse(texts[i]);
        if (blkqmp_verify(move(), o, NULL, &e) || blkqmp_find(o, "scsi0-0-0-1", &d, &e))
            fail_msg("accepted: %s", texts[i]);
    }
}

/* ---- verification ------------------------------------------------------------------------ */

/* BLOCKS with @from replaced by @to; verify it. */
static bool verify_edited(const char *from, const char *to)
{
    const char *const at = strstr(BLOCKS, from);
    AUTO(mem_free) char *text = malloc(sizeof BLOCKS + strlen(to));

    assert_non_null(at);
    snprintf(text, sizeof BLOCKS + strlen(to), "%.*s%s%s", (int)(at - BLOCKS), BLOCKS,
             to, at + strlen(from));
    AUTO(json_put) struct json_object *blocks = parse(text);
    return blkqmp_verify(move(), blocks, NULL, &e);
}

static void blkqmp__unchanged_disks_give_their_dirty_bytes(void **state)
{
    AUTO(json_put) struct json_object *blocks = parse(BLOCKS);
    uint64_t dirty[2];

    (void)state;
    assert_ok(blkqmp_verify(move(), blocks, dirty, &e), e);
    assert_int_equal(dirty[0], 131072);
    assert_int_equal(dirty[1], 0);
}

static void blkqmp__changed_disk_set_is_refused(void **state)
{
    static const struct {
        const char *from, *to, *says;
    } edits[] = {
        { "libvirt-2-format", "libvirt-4-format", "another image" },
        { "\"virtual-size\":1048576", "\"virtual-size\":2097152", "another size" },
        { "\"virtual-size\":513", "\"virtual-size\":512", "another size" },
        { "snm-1a2b3c4d-3", "snm-1a2b3c4d-2", "lost its dirty bitmap" },
        { "3\",\"recording\":true,\"count\"", "3\",\"recording\":false,\"count\"",
          "does not record" },
        { "\"scsi0-0-0-1\"", "\"scsi0-0-0-2\"", "sda is gone" },
        { "," FLASH, "", "2 block devices" },
        { "," FLASH, "," FLASH "," FLASH, "4 block devices" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        assert_err(verify_edited(edits[i].from, edits[i].to), e, ERR_REFUSED);
        assert_contains(e.msg, "the disk set changed");
        assert_contains(e.msg, edits[i].says);
        assert_true(e.next[0] != '\0');
    }
}

static void blkqmp__cdrom_may_come_and_go(void **state)
{
    (void)state;
    assert_ok(verify_edited("," CDROM, ""), e);
}

/* ---- what is ours ------------------------------------------------------------------------ */

struct seen {
    unsigned n;
    char last[128];
};

static bool note(void *ctx, const char *node, const char *name, struct err *err)
{
    struct seen *const s = ctx;

    (void)err;
    s->n++;
    snprintf(s->last, sizeof s->last, "%s/%s", node != NULL ? node : "", name);
    return true;
}

static bool refuse(void *ctx, const char *node, const char *name, struct err *err)
{
    (void)ctx, (void)node;
    return err_set(err, ERR_REFUSED, 0, "%s", name);
}

static void blkqmp__exports_are_chosen_by_prefix(void **state)
{
    AUTO(json_put)
    struct json_object *o =
        parse("[{\"id\":\"snm-1a2b3c4d-vda-1\",\"type\":\"nbd\"},"
              "{\"id\":\"backup\",\"type\":\"nbd\"},{\"id\":\"snm-00000000-vda-1\"}]");
    struct seen s = { 0 };

    (void)state;
    assert_ok(blkqmp_exports(o, "snm-1a2b3c4d-", note, &s, &e), e);
    assert_int_equal(s.n, 1);
    assert_ok(blkqmp_exports(o, "snm-", note, &s, &e), e);
    assert_int_equal(s.n, 3);
    assert_err(blkqmp_exports(o, "back", refuse, NULL, &e), e, ERR_REFUSED);
}

static void blkqmp__bitmaps_are_chosen_by_prefix(void **state)
{
    AUTO(json_put)
    struct json_object *o = parse(
        "[{\"node-name\":\"a\"},{\"node-name\":\"b\",\"dirty-bitmaps\":["
        "{\"recording\":true},{\"name\":\"check1\"},{\"name\":\"snm-1a2b3c4d-7\"}]}]");
    struct seen s = { 0 };

    (void)state;
    assert_ok(blkqmp_bitmaps(o, "snm-", note, &s, &e), e);
    assert_int_equal(s.n, 1);
    assert_string_equal(s.last, "b/snm-1a2b3c4d-7");
}

/* ---- going on later ---------------------------------------------------------------------- */

/* A disk as move() has it, with these bitmaps. */
#define DISK(node, qdev, bitmaps) \
    "{\"removable\":false,\"inserted\":{\"node-name\":\"" node \
    "\"," IMAGE("1") ",\"dirty-bitmaps\":[" bitmaps "]},\"qdev\":\"" qdev "\"}"
#define ON_VDA(bitmaps) \
    DISK("libvirt-2-format", "/machine/peripheral/virtio-disk0/virtio-backend", bitmaps)
#define ON_SDA(bitmaps) DISK("libvirt-1-storage", "scsi0-0-0-1", bitmaps)
#define BITMAP_SO(name, recording, busy, persistent, granularity) \
    "{\"name\":\"" name "\",\"recording\":" recording ",\"busy\":" busy \
    ",\"persistent\":" persistent ",\"granularity\":" granularity ",\"count\":0}"
#define BITMAP(name) BITMAP_SO(name, "true", "false", "false", "65536")

static void blkqmp__sound_bitmaps_of_one_round_are_adopted(void **state)
{
    AUTO(json_put)
    struct json_object *blocks =
        parse("[" ON_VDA(BITMAP("other") "," BITMAP("snm-1a2b3c4d-7")) "," ON_SDA(
            BITMAP("snm-1a2b3c4d-7") "," BITMAP("snm-99999999-8")) "]");
    unsigned g = 0;

    (void)state;
    assert_ok(blkqmp_adopt(move(), blocks, &g, &e), e);
    assert_int_equal(g, 7);
}

static void blkqmp__bitmaps_that_cannot_be_relied_on_are_not_adopted(void **state)
{
#define OWN "snm-1a2b3c4d-7"
#define BAD(recording, busy, persistent, granularity) \
    "[" ON_VDA(BITMAP(OWN)) "," ON_SDA( \
        BITMAP_SO(OWN, recording, busy, persistent, granularity)) "]"
    static const char *const bad[] = {
        "[" ON_VDA(BITMAP(OWN)) "]",
        "[" ON_VDA(BITMAP(OWN)) "," ON_SDA("") "]",
        "[" ON_VDA(BITMAP(OWN)) "," ON_SDA(BITMAP("snm-1a2b3c4d-8")) "]",
        "[" ON_VDA(BITMAP(OWN)) "," ON_SDA(BITMAP("snm-1a2b3c4d-7x")) "]",
        "[" ON_VDA(BITMAP(OWN)) "," ON_SDA(BITMAP("snm-1a2b3c4d-07")) "]",
        "[" ON_VDA(BITMAP(OWN)) "," ON_SDA(BITMAP("snm-99999999-7")) "]",
        "[" ON_VDA(BITMAP(OWN) "," BITMAP("snm-1a2b3c4d-6")) "," ON_SDA(
            BITMAP(OWN)) "]",
        BAD("false", "false", "false", "65536"),
        BAD("true", "true", "false", "65536"),
        BAD("true", "false", "true", "65536"),
        BAD("true", "false", "false", "4096"),
        "[" ON_VDA(BITMAP(OWN)) "," ON_SDA("{\"name\":\"" OWN "\"}") "]",
        "[" ON_VDA(BITMAP(OWN)) "," ON_SDA(
            "{\"name\":\"" OWN "\",\"recording\":true,\"busy\":false,"
            "\"persistent\":false,\"granularity\":65536,\"inconsistent\":true}") "]",
        "{}",
    };
    unsigned g;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        AUTO(json_put) struct json_object *o = parse(bad[i]);

        if (blkqmp_adopt(move(), o, &g, &e))
            fail_msg("adopted: %s", bad[i]);
        if (i == 0)
            assert_string_equal(e.msg, "disk sda: the disk set changed: sda is gone");
    }
}

/* Whatever was going on: one is left on each node, the one that records. */
static void blkqmp__merge_leaves_the_newest(void **state)
{
    AUTO(json_put)
    struct json_object *nodes =
        parse("[{\"node-name\":\"x\"},{\"node-name\":\"a\",\"dirty-bitmaps\":["
              "{\"name\":\"snm-1a2b3c4d-9\",\"recording\":false},"
              "{\"name\":\"snm-1a2b3c4d-10\",\"recording\":true},"
              "{\"name\":\"snm-99999999-11\",\"recording\":true}]},"
              "{\"node-name\":\"b\",\"dirty-bitmaps\":[{\"recording\":true},"
              "{\"name\":\"snm-1a2b3c4d-10\",\"recording\":true}]}]");
    struct json_object *args = NULL;
    unsigned n = 0;

    (void)state;
    assert_ok(blkqmp_merge(nodes, "snm-1a2b3c4d-", &args, &n, &e), e);
    assert_int_equal(n, 2);
    assert_non_null(args);
    expect(
        args,
        "{\"actions\":[{\"type\":\"block-dirty-bitmap-merge\",\"data\":{\"node\":\"a\","
        "\"target\":\"snm-1a2b3c4d-10\",\"bitmaps\":[\"snm-1a2b3c4d-9\"]}},"
        "{\"type\":\"block-dirty-bitmap-remove\",\"data\":{\"node\":\"a\","
        "\"name\":\"snm-1a2b3c4d-9\"}}]}");
    assert_ok(blkqmp_merge(nodes, "snm-99999999-", &args, &n, &e), e);
    assert_int_equal(n, 1);
    assert_null(args);
    assert_ok(blkqmp_merge(nodes, "snm-00000000-", &args, &n, &e), e);
    assert_int_equal(n, 0);
}

static void blkqmp__merge_into_one_that_does_not_record_is_refused(void **state)
{
    AUTO(json_put)
    struct json_object *nodes =
        parse("[{\"node-name\":\"a\",\"dirty-bitmaps\":["
              "{\"name\":\"snm-1a2b3c4d-9\",\"recording\":true},"
              "{\"name\":\"snm-1a2b3c4d-10\",\"recording\":false}]}]");
    struct json_object *args;
    unsigned n;

    (void)state;
    assert_err(blkqmp_merge(nodes, "snm-1a2b3c4d-", &args, &n, &e), e, ERR_REFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(blkqmp__names_carry_the_move_and_the_generation),
        TEST(blkqmp__a_prefix_is_a_beginning),
        TEST(blkqmp__longest_names_are_whole),
        TEST(blkqmp__start_adds_one_bitmap_to_each_disk),
        TEST(blkqmp__rotate_adds_the_new_and_freezes_the_old),
        TEST(blkqmp__frozen_is_counted),
        TEST(blkqmp__drop_removes_the_frozen),
        TEST(blkqmp__server_takes_a_path_or_a_descriptor),
        TEST(blkqmp__export_is_read_only_and_names_the_frozen_bitmap),
        TEST(blkqmp__disk_is_found_by_alias_as_component),
        TEST(blkqmp__alias_is_never_matched_in_part),
        TEST(blkqmp__drive_without_medium_is_refused),
        TEST(blkqmp__two_devices_of_one_alias_are_refused),
        TEST(blkqmp__fixed_media_are_counted),
        TEST(blkqmp__command_is_found_by_its_whole_name),
        TEST(blkqmp__usage_is_virtual_and_allocated),
        TEST(blkqmp__malformed_answers_are_refused),
        TEST(blkqmp__unchanged_disks_give_their_dirty_bytes),
        TEST(blkqmp__changed_disk_set_is_refused),
        TEST(blkqmp__cdrom_may_come_and_go),
        TEST(blkqmp__exports_are_chosen_by_prefix),
        TEST(blkqmp__bitmaps_are_chosen_by_prefix),
        TEST(blkqmp__sound_bitmaps_of_one_round_are_adopted),
        TEST(blkqmp__bitmaps_that_cannot_be_relied_on_are_not_adopted),
        TEST(blkqmp__merge_leaves_the_newest),
        TEST(blkqmp__merge_into_one_that_does_not_record_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
