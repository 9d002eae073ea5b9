/* The command line of "snmigrate verify", what it says, and what it finds moves by. */
#include "unit.h"

#include <stdio.h>

#include "base/journal.h"
#include "base/mem.h"
#include "base/unix.h"
#include "cli/recheck.h"
#include "migrate/moved.h"
#include "tests/lib/own-state.h"

#define UUID  "6e1ad2a6-1b7e-4c7a-9d4e-0123456789ab"
#define STATE PATHS_STATE "/0123456789abcdef0123456789abcdef"

/* --- the command line --- */

static bool parse(struct recheck_opts *o, const char *a, const char *b, const char *c,
                  struct err *e)
{
    char *argv[] = { (char *)"verify", (char *)a, (char *)b, (char *)c };
    int argc = 1;

    while (argc < 4 && argv[argc] != NULL)
        argc++;
    return recheck_parse(argc, argv, o, e);
}

static void parse__takes_options_in_both_forms(void **state)
{
    struct recheck_opts o;
    struct err e;

    (void)state;
    assert_ok(parse(&o, "--json", "web", NULL, &e), e);
    assert_true(o.json);
    assert_string_equal(o.what, "web");
    assert_ok(parse(&o, "--progress", "plain", "web", &e), e);
    assert_int_equal(o.progress, OPTS_PROGRESS_PLAIN);
    assert_string_equal(o.what, "web");
    assert_ok(parse(&o, "web", "--progress=none", NULL, &e), e);
    assert_int_equal(o.progress, OPTS_PROGRESS_NONE);
    assert_ok(parse(&o, "--", "--json", NULL, &e), e);
    assert_string_equal(o.what, "--json");
    assert_ok(parse(&o, "-h", NULL, NULL, &e), e);
    assert_true(o.help);
}

static void parse__refuses_what_makes_no_sense(void **state)
{
    struct recheck_opts o;
    struct err e;

    (void)state;
    assert_err(parse(&o, NULL, NULL, NULL, &e), e, ERR_USAGE);
    assert_err(parse(&o, "", NULL, NULL, &e), e, ERR_USAGE);
    assert_err(parse(&o, "a", "b", NULL, &e), e, ERR_USAGE);
    assert_err(parse(&o, "--jsonx", "a", NULL, &e), e, ERR_USAGE);
    assert_err(parse(&o, "a", "--progress", NULL, &e), e, ERR_USAGE);
    assert_err(parse(&o, "a", "--progress", "often", &e), e, ERR_USAGE);
}

/* --- what it says --- */

static struct recheck_result differing(void)
{
    struct recheck_result r = { .status = 6,
                                .id = "0123456789abcdef0123456789abcdef",
                                .domain = "web",
                                .uuid = UUID,
                                .destination = "root@hostb",
                                .live = true,
                                .marked = true,
                                .compared = true,
                                .elapsed_ms = 1500,
                                .ndisks = 1 };

    r.disks[0] = (struct recheck_disk){ .target = "vda",
                                        .src = "/a",
                                        .dst = "/b",
                                        .size = 1 << 20,
                                        .compared = 1 << 20,
                                        .alike = 7 << 17,
                                        .written = 65536,
                                        .differing = 65536,
                                        .digest = "0a1b",
                                        .where = { { 131072, 65536 } },
                                        .nwhere = 1 };
    return r;
}

static void says(const struct recheck_result *r, const char *what)
{
    AUTO(text_fini) struct text t = { 0 };

    recheck_text(&t, r);
    assert_contains(t.buf, what);
}

static void text__says_what_differs_where_and_whether_that_is_certain(void **state)
{
    struct recheck_result r = differing();

    (void)state;
    says(&r,
         "vda      1.0 MiB compared: 64.0 KiB DIFFER, but for 64.0 KiB that the guest");
    says(&r, "at byte 131072 (64.0 KiB)\n");
    says(&r, "one of\nthem is damaged");
    r.marked = false;
    snprintf(r.why, sizeof r.why, "no bitmap");
    says(&r, "64.0 KiB differ\n");
    says(&r, "web: the copies differ; no bitmap, so this is what the guest has written "
             "since,\nor damage\n");
    r.status = 0;
    r.disks[0].differing = r.disks[0].nwhere = 0;
    says(&r, "web: both copies of its disks are alike");
}

static void json__has_every_field(void **state)
{
    AUTO(json_put) struct json_object *o = NULL;
    struct recheck_result r = differing();

    (void)state;
    o = recheck_json(&r);
    assert_string_equal(
        json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
                                              JSON_C_TO_STRING_NOSLASHESCAPE),
        "{\"type\":\"verify\",\"status\":6,"
        "\"id\":\"0123456789abcdef0123456789abcdef\",\"domain\":\"web\","
        "\"uuid\":\"" UUID "\",\"destination\":\"root@hostb\","
        "\"elapsed_ms\":1500,\"live\":true,\"marked\":true,\"why\":\"\","
        "\"disks\":[{\"target\":\"vda\",\"source_path\":\"/a\","
        "\"destination_path\":\"/b\",\"size\":1048576,\"compared\":1048576,"
        "\"alike\":917504,\"differing\":65536,\"written\":65536,"
        "\"where\":[{\"offset\":131072,\"length\":65536}],"
        "\"digest\":\"0a1b\"}],\"error\":null}");
}

/* --- what is known of moves that are over --- */

/* A journal as a move leaves it, of a domain with that uuid. */
static void journal(const char *uuid)
{
    AUTO(journal_close) struct journal *j = NULL;
    struct json_object *const o = json_add_str(json_new(), "uuid", uuid);
    struct err e;

    json_add_obj(o, "source_disks", json_object_new_array());
    journal_remove(STATE);
    assert_ok(dir_private(PATHS_STATE, &e) && journal_open(STATE, &j, &e), e);
    assert_ok(journal_step(j, "prepared", json_add_str(o, "name", "web"), &e), e);
    assert_ok(journal_step(j, "released", NULL, &e), e);
}

static bool count(void *ctx, const char *id, struct json_object *entry, struct err *e)
{
    (void)id, (void)entry, (void)e;
    ++*(unsigned *)ctx;
    return true;
}

static unsigned known(void)
{
    unsigned n = 0;
    struct err e;

    assert_ok(moved_scan(count, &n, &e), e);
    return n;
}

static void moved__keeps_one_of_a_domain_and_a_number_of_all(void **state)
{
    AUTO(json_put) struct json_object *entry = NULL, *last = NULL;
    char id[PATHS_ID_LEN + 1], uuid[37];
    const char *name;
    struct err e;

    (void)state;
    assert_int_equal(known(), 0);
    journal(UUID);
    assert_ok(moved_write(STATE, "00000000000000000000000000000001", UUID, &e), e);
    assert_ok(moved_write(STATE, "00000000000000000000000000000002", UUID, &e), e);
    assert_int_equal(known(), 1);
    /* recover finishes it again */
    assert_ok(moved_write(STATE, "00000000000000000000000000000002", UUID, &e), e);
    assert_int_equal(known(), 1);
    assert_ok(moved_read("00000000000000000000000000000002", &entry, &e), e);
    assert_ok(json_get_str(entry, "name", &name, &e), e);
    assert_string_equal(name, "web");
    assert_err(moved_read("00000000000000000000000000000001", &entry, &e), e, ERR_SYS);
    for (unsigned i = 0; i < MOVED_MAX + 5; i++) {
        snprintf(id, sizeof id, "%032x", 16 + i);
        snprintf(uuid, sizeof uuid, "6e1ad2a6-1b7e-4c7a-9d4e-%012x", i);
        journal(uuid);
        assert_ok(moved_write(STATE, id, uuid, &e), e);
    }
    assert_int_equal(known(), MOVED_MAX);
    assert_ok(moved_read(id, &last, &e), e);
    moved_remove(id);
    assert_int_equal(known(), MOVED_MAX - 1);
}

static void moved__is_not_written_from_a_journal_without_the_disks(void **state)
{
    AUTO(journal_close) struct journal *j = NULL;
    struct err e;

    (void)state;
    journal_remove(STATE);
    assert_ok(journal_open(STATE, &j, &e), e);
    assert_ok(journal_step(j, "prepared", NULL, &e), e);
    assert_err(moved_write(STATE, "00000000000000000000000000000003", UUID, &e), e,
               ERR_PROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(parse__takes_options_in_both_forms),
        TEST(parse__refuses_what_makes_no_sense),
        TEST(text__says_what_differs_where_and_whether_that_is_certain),
        TEST(json__has_every_field),
        TEST(moved__keeps_one_of_a_domain_and_a_number_of_all),
        TEST(moved__is_not_written_from_a_journal_without_the_disks),
    };

    own_state();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
