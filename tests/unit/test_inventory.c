/* What a host's journals, locks and sockets say of moves, and how it is shown. */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/journal.h"
#include "base/mem.h"
#include "base/unix.h"
#include "cli/list.h"
#include "migrate/inventory.h"
#include "tests/lib/own-state.h"

#define UUID "6e1ad2a6-1b7e-4c7a-9d4e-0123456789ab"
#define ID1  "11111111111111111111111111111111"
#define ID2  "22222222222222222222222222222222"

#define SRC \
    "{\"step\":\"prepared\",\"time\":\"2026-11-22T10:00:00Z\",\"role\":\"src\"," \
    "\"name\":\"web\",\"uuid\":\"" UUID "\",\"destination\":\"root@hostb\"}"
#define DST \
    "{\"step\":\"prepared\",\"time\":\"2026-11-22T11:00:00Z\",\"role\":\"dst\"," \
    "\"name\":\"web\",\"uuid\":\"" UUID "\",\"source\":\"hosta\",\"disks\":[]}"
#define STEP(s) "{\"step\":\"" s "\",\"time\":\"2026-11-22T12:00:00Z\"}"

/* --- a journal --- */

static struct inventory_move read_text(const char *text, bool busy)
{
    AUTO(json_put) struct json_object *entries = NULL;
    struct inventory_move m = { .id = ID1 };
    struct err e;

    assert_ok(json_parse(text, strlen(text), &entries, &e), e);
    inventory_read(entries, busy, &m);
    return m;
}

static void read__knows_the_state(void **state)
{
    static const struct {
        const char *entries;
        enum inventory_state is;
    } all[] = {
        { "[" SRC "]", INVENTORY_KILLED },
        { "[" SRC "," STEP("opened") "," STEP("copied") "]", INVENTORY_KILLED },
        { "[" SRC "," STEP("kept") "," STEP("opened") "]", INVENTORY_KILLED },
        { "[" SRC "," STEP("memory") "," STEP("copied") "]", INVENTORY_OPEN },
        { "[" SRC "," STEP("memory") "]", INVENTORY_OPEN },
        { "[" SRC "," STEP("slowed") "]", INVENTORY_OPEN },
        { "[" SRC "," STEP("released") "," STEP("taken-back") "]", INVENTORY_OPEN },
        { "[" SRC "," STEP("something new") "]", INVENTORY_OPEN },
        { "[" SRC "," STEP("kept") "]", INVENTORY_KEPT },
        { "[" SRC "," STEP("memory") "," STEP("kept") "]", INVENTORY_KEPT },
        /* a second "prepared" hides the first: nothing is done with it */
        { "[" SRC "," STEP("kept") "," STEP("prepared") "]", INVENTORY_UNREADABLE },
        { "[" SRC "," STEP("kept") "," STEP("memory") "]", INVENTORY_OPEN },
        { "[" SRC "," STEP("committed") "," STEP("done") "]", INVENTORY_OPEN },
        { "[" DST "]", INVENTORY_PARKED },
        { "[" DST "," STEP("closed") "," STEP("reopened") "]", INVENTORY_PARKED },
        { "[" DST "," STEP("closed") "," STEP("released") "]", INVENTORY_OPEN },
        { "[" DST "," STEP("released") "," STEP("committed") "]", INVENTORY_ARRIVED },
        { "[" DST "," STEP("running") "]", INVENTORY_ARRIVED },
        { "[]", INVENTORY_EMPTY },
        { "[" STEP("kept") "]", INVENTORY_EMPTY },
        { "[{\"step\":\"prepared\",\"role\":7}]", INVENTORY_UNREADABLE },
    };

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        const struct inventory_move m = read_text(all[i].entries, false);

        assert_string_equal(inventory_state_name(m.state),
                            inventory_state_name(all[i].is));
    }
}

static void read__says_whose_it_is(void **state)
{
    struct inventory_move m = read_text("[" SRC "," STEP("memory") "]", true);

    (void)state;
    assert_int_equal(m.state, INVENTORY_RUNNING);
    assert_true(m.at_source);
    assert_string_equal(m.domain, "web");
    assert_string_equal(m.uuid, UUID);
    assert_string_equal(m.other, "root@hostb");
    assert_string_equal(m.step, "memory");
    assert_string_equal(m.since, "2026-11-22T12:00:00Z");
    m = read_text("[" DST "]", false);
    assert_false(m.at_source);
    assert_string_equal(m.other, "hosta");
}

static void read__counts_what_is_kept(void **state)
{
    struct inventory_move m =
        read_text("[" SRC ",{\"step\":\"kept\",\"disks\":[{\"target\":\"vda\",\"safe\":"
                  "100},{\"target\":\"vdb\",\"safe\":20}]}]",
                  false);

    (void)state;
    assert_true(m.counted);
    assert_int_equal(m.copied, 120);
    assert_int_equal(m.size, 0);
    m = read_text("[" SRC ",{\"step\":\"kept\",\"disks\":[{\"safe\":100,\"size\":400},"
                  "{\"safe\":20,\"size\":50}]}]",
                  false);
    assert_int_equal(m.size, 450);
    m = read_text(
        "[" SRC ",{\"step\":\"kept\",\"disks\":[{\"safe\":1,\"size\":2}]},"
        "{\"step\":\"copied\",\"disks\":[{\"safe\":2,\"size\":2}]}," STEP("memory") "]",
        false);
    assert_int_equal(m.copied, 2); /* the newest */
    m = read_text("[" SRC ",{\"step\":\"kept\"}]", false);
    assert_int_equal(m.state, INVENTORY_KEPT);
    assert_false(m.counted);
    m = read_text("[" SRC ",{\"step\":\"kept\",\"disks\":[{\"safe\":-1},7]}]", false);
    assert_int_equal(m.copied, 0);
}

static void is__by_name_uuid_or_id(void **state)
{
    struct inventory_move m = read_text("[" SRC "]", false);

    (void)state;
    assert_true(inventory_is(&m, "web"));
    assert_true(inventory_is(&m, "6E1AD2A6-1b7e-4c7a-9d4e-0123456789ab"));
    assert_true(inventory_is(&m, ID1));
    assert_true(inventory_is(&m, "11111111"));
    assert_false(inventory_is(&m, "1111111"));
    assert_false(inventory_is(&m, "11111112"));
    assert_false(inventory_is(&m, "we"));
    m.domain[0] = m.uuid[0] = '\0';
    assert_false(inventory_is(&m, ""));
}

/* --- this host --- */

static void put_journal(const char *id, const char *text)
{
    char path[PATHS_MAX];
    struct err e;

    paths_state_dir(path, id);
    assert_ok(dir_private(PATHS_STATE, &e), e);
    assert_ok(dir_private(path, &e), e);
    snprintf(path, sizeof path, PATHS_STATE "/%s/journal", id);
    AUTO(fd_close) int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    assert_ok(fd_write_all(fd, text, strlen(text), &e), e);
}

static void remove_all(void)
{
    dir_remove(PATHS_STATE "/" ID1);
    dir_remove(PATHS_STATE "/" ID2);
}

static struct inventory_move *scan(size_t wanted)
{
    struct inventory_move *list = NULL;
    struct err e;
    size_t n = 99;

    assert_ok(inventory_scan(&list, &n, &e), e);
    assert_int_equal(n, wanted);
    return list;
}

static void scan__finds_what_there_is(void **state)
{
    (void)state;
    free(scan(0));
    put_journal(ID1, DST "\n");
    put_journal(ID2, SRC "\n" STEP("me")); /* torn: it was not written */
    AUTO(mem_free) struct inventory_move *list = scan(2);
    assert_string_equal(list[0].id, ID2); /* the older one */
    assert_int_equal(list[0].state, INVENTORY_KILLED);
    assert_string_equal(list[1].id, ID1);
    assert_int_equal(list[1].state, INVENTORY_PARKED);
    remove_all();
}

static void scan__shows_what_cannot_be_read(void **state)
{
    (void)state;
    put_journal(ID1, "rubbish\n");
    put_journal(ID2, SRC); /* not even its first line is whole */
    AUTO(mem_free) struct inventory_move *list = scan(2);
    const bool first = list[0].state == INVENTORY_UNREADABLE;
    assert_string_equal(list[!first].id, ID1);
    assert_int_equal(list[!first].state, INVENTORY_UNREADABLE);
    assert_contains(list[!first].why, "line 1");
    assert_int_equal(list[first].state, INVENTORY_EMPTY);
    remove_all();
}

static void scan__sees_locks(void **state)
{
    struct err e;

    (void)state;
    put_journal(ID1, DST "\n");
    put_journal(ID2, SRC "\n");
    assert_ok(dir_private(PATHS_RUN, &e), e);
    AUTO(fd_close) int dst = open(PATHS_STATE "/" ID1, O_RDONLY | O_DIRECTORY);
    AUTO(fd_close) int src = open(PATHS_RUN "/" UUID ".lock", O_RDWR | O_CREAT, 0600);
    assert_int_equal(flock(dst, LOCK_EX), 0);
    AUTO(mem_free) struct inventory_move *one = scan(2);
    assert_int_equal(one[0].state, INVENTORY_KILLED);
    assert_int_equal(one[1].state, INVENTORY_RUNNING);
    assert_int_equal(flock(src, LOCK_EX), 0);
    AUTO(mem_free) struct inventory_move *two = scan(2);
    assert_int_equal(two[0].state, INVENTORY_RUNNING);
    remove_all();
}

static void scan__counts_what_images_take(void **state)
{
    static const char journal[] =
        "{\"step\":\"prepared\",\"role\":\"dst\",\"name\":\"web\",\"uuid\":\"" UUID
        "\",\"source\":\"hosta\",\"disks\":[{\"path\":\"/run/image\"},{\"path\":"
        "\"/run/none\"},{\"path\":\"/dev/null\"}]}\n";
    static char block[65536];
    struct err e;

    (void)state;
    memset(block, 1, sizeof block);
    AUTO(fd_close) int fd = open("/run/image", O_CREAT | O_WRONLY, 0600);
    assert_ok(fd_write_all(fd, block, sizeof block, &e), e);
    put_journal(ID1, journal);
    AUTO(mem_free) struct inventory_move *list = scan(1);
    assert_int_equal(list[0].on_disk, sizeof block);
    unlink("/run/image");
    remove_all();
}

/* --- shown --- */

static void text__is_a_table_with_hints(void **state)
{
    struct inventory_move list[2] = {
        read_text("[" SRC ",{\"step\":\"kept\",\"time\":\"2026-11-22T12:00:00Z\","
                  "\"disks\":[{\"safe\":1288490188,\"size\":4294967296}]}]",
                  false),
        read_text("[" DST "]", false),
    };
    AUTO(text_fini) struct text t = { .utf8 = true };

    (void)state;
    snprintf(list[0].domain, sizeof list[0].domain, "web\033[2Jserver");
    list_text(&t, list, 2);
    assert_contains(
        t.buf,
        "ID        DOMAIN            HOST           SINCE                 STATE\n");
    assert_contains(t.buf, "11111111  web\\x1b[2Jserver  to root@hostb  "
                           "2026-11-22T12:00:00Z  kept: 1.2 GiB of 4.0 GiB copied\n");
    assert_contains(t.buf, "11111111  web               from hosta     "
                           "2026-11-22T11:00:00Z  incomplete: 0 B on disk\n");
    assert_contains(t.buf, "\n\nkept: the same command goes on");
    assert_contains(t.buf, "\nincomplete: a copy");
    assert_null(strstr(t.buf, "snmigrate recover"));
    assert_null(strchr(t.buf, 033));
}

static void text__has_words_for_every_state(void **state)
{
    char last[500] = "", text[500];

    (void)state;
    for (int s = 0; s < INVENTORY_STATES; s++) {
        const struct inventory_move m = { .id = ID1, .state = (enum inventory_state)s };

        list_state(text, &m);
        assert_string_not_equal(text, last);
        assert_true(text[0] != '\0');
        snprintf(last, sizeof last, "%s", text);
    }
}

static void json__has_all(void **state)
{
    struct inventory_move m =
        read_text("[" SRC ",{\"step\":\"kept\",\"disks\":[{\"safe\":7}]}]", false);
    AUTO(json_put) struct json_object *o = list_json(&m);
    const char *s = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);

    (void)state;
    assert_contains(s, "{\"type\":\"move\",\"id\":\"" ID1 "\",\"domain\":\"web\"");
    assert_contains(s, "\"role\":\"source\",\"other_host\":\"root@hostb\"");
    assert_contains(s, "\"state\":\"kept\",\"step\":\"kept\",\"since\":null");
    assert_contains(s, "\"copied\":7,\"size\":null,\"on_disk\":null,\"why\":null}");
    const struct inventory_move bad = { .id = ID2,
                                        .state = INVENTORY_UNREADABLE,
                                        .why = "it is\003bad" };
    AUTO(json_put) struct json_object *b = list_json(&bad);
    s = json_object_to_json_string_ext(b, JSON_C_TO_STRING_PLAIN);
    assert_contains(s, "\"domain\":null");
    assert_contains(s, "\"role\":null");
    assert_contains(s, "it is\\\\x03bad");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(read__knows_the_state),
        TEST(read__says_whose_it_is),
        TEST(read__counts_what_is_kept),
        TEST(is__by_name_uuid_or_id),
        TEST(scan__finds_what_there_is),
        TEST(scan__shows_what_cannot_be_read),
        TEST(scan__sees_locks),
        TEST(scan__counts_what_images_take),
        TEST(text__is_a_table_with_hints),
        TEST(text__has_words_for_every_state),
        TEST(json__has_all),
    };

    own_state();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
