/* Which move is meant, whether it may be discarded, and what is said of it. */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "cli/discard.h"

#define UUID "6e1ad2a6-1b7e-4c7a-9d4e-0123456789ab"

static struct inventory_move move(const char *id, enum inventory_state s,
                                  bool at_source)
{
    struct inventory_move m = { .domain = "web",
                                .uuid = UUID,
                                .other = "root@hostb",
                                .at_source = at_source,
                                .state = s };

    snprintf(m.id, sizeof m.id, "%s%s", id, "000000000000000000000000");
    return m;
}

/* --- which --- */

static void choose__takes_what_can_be_discarded(void **state)
{
    struct inventory_move list[] = {
        move("11111111", INVENTORY_ARRIVED, false),
        move("22222222", INVENTORY_KEPT, true),
        move("33333333", INVENTORY_OPEN, true),
    };
    const struct inventory_move *m = NULL;
    struct err e;

    (void)state;
    snprintf(list[2].domain, sizeof list[2].domain, "db");
    assert_ok(discard_choose(list, 2, "web", &m, &e), e);
    assert_ptr_equal(m, &list[1]);
    assert_ok(discard_choose(list, 3, "11111111", &m, &e), e);
    assert_ptr_equal(m, &list[0]);
    assert_ok(discard_choose(list, 3, "db", &m, &e), e);
    assert_ptr_equal(m, &list[2]);
    snprintf(list[2].domain, sizeof list[2].domain, "web");
    assert_ok(discard_choose(list, 3, "web", &m, &e), e);
    assert_ptr_equal(m, &list[1]);
}

/* A move that is over is meant only where nothing else is, wherever it stands. */
static void choose__takes_what_is_over_last(void **state)
{
    const struct inventory_move list[] = {
        move("11111111", INVENTORY_MOVED, true),
        move("22222222", INVENTORY_MOVED, true),
        move("33333333", INVENTORY_RUNNING, true),
        move("44444444", INVENTORY_MOVED, true),
        move("55555555", INVENTORY_KEPT, true),
    };
    const struct inventory_move *m = NULL;
    struct err e;

    (void)state;
    assert_ok(discard_choose(list, 1, "web", &m, &e), e);
    assert_ptr_equal(m, &list[0]);
    assert_err(discard_choose(list, 2, "web", &m, &e), e, ERR_REFUSED);
    assert_ok(discard_choose(list, 4, "web", &m, &e), e);
    assert_ptr_equal(m, &list[2]);
    assert_ok(discard_choose(list, 5, "web", &m, &e), e);
    assert_ptr_equal(m, &list[4]);
    assert_ok(discard_choose(list, 5, "44444444", &m, &e), e);
    assert_ptr_equal(m, &list[3]);
}

static void choose__does_not_guess(void **state)
{
    const struct inventory_move list[] = {
        move("11111111", INVENTORY_KEPT, true),
        move("22222222", INVENTORY_PARKED, false),
    };
    const struct inventory_move *m = NULL;
    struct err e;

    (void)state;
    assert_err(discard_choose(list, 2, UUID, &m, &e), e, ERR_REFUSED);
    assert_contains(e.msg, "more than one");
    assert_contains(e.next, "11111111, 22222222");
    assert_err(discard_choose(list, 2, "e\033il", &m, &e), e, ERR_REFUSED);
    assert_contains(e.msg, "no move of 'e\\x1bil'");
    assert_err(discard_choose(NULL, 0, "web", &m, &e), e, ERR_REFUSED);
    assert_contains(e.next, "snmigrate list");
}

/* --- whether --- */

static void may__leaves_alone_what_concerns_the_guest(void **state)
{
    static const struct {
        enum inventory_state is;
        const char *why, *next; /* NULL: it may */
    } all[] = {
        { INVENTORY_KEPT, NULL, NULL },
        { INVENTORY_KILLED, NULL, NULL },
        { INVENTORY_PARKED, NULL, NULL },
        { INVENTORY_MOVED, NULL, NULL },
        { INVENTORY_RUNNING, "web is being moved", "abort web" },
        { INVENTORY_OPEN, "who has web", "snmigrate recover 11111111" },
        { INVENTORY_ARRIVED, "was started on this host", "recover 11111111" },
        { INVENTORY_EMPTY, "has changed nothing", "/var/lib/snmigrate/11111111" },
        { INVENTORY_UNREADABLE, "cannot be read", "/var/lib/snmigrate/11111111" },
    };
    struct err e;

    (void)state;
    assert_int_equal(sizeof all / sizeof all[0], INVENTORY_STATES);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        const struct inventory_move m = move("11111111", all[i].is, true);

        /* One that is over is not meant where another can be. */
        assert_int_equal(inventory_is_idle(&m),
                         all[i].why == NULL && all[i].is != INVENTORY_MOVED);
        if (all[i].why == NULL) {
            assert_ok(discard_may(&m, &e), e);
            continue;
        }
        assert_err(discard_may(&m, &e), e, ERR_REFUSED);
        assert_contains(e.msg, all[i].why);
        assert_contains(e.next, all[i].next);
    }
}

/* --- what the agent says --- */

static bool take(const char *text, struct discard_result *r, struct err *e)
{
    AUTO(json_put) struct json_object *o = NULL;

    memset(r, 0, sizeof *r);
    assert_ok(json_parse(text, strlen(text), &o, e), *e);
    return discard_take(o, r, e);
}

static void take__reads_what_was_removed(void **state)
{
    static struct discard_result r;
    struct err e;

    (void)state;
    assert_ok(discard_take(NULL, &r, &e), e);
    assert_int_equal(r.nfiles, 0);
    assert_ok(take("{\"removed\":[{\"path\":\"/a\",\"bytes\":7},{\"path\":\"/b\","
                   "\"bytes\":0}],\"blanked\":[{\"path\":\"/dev/c\"}],"
                   "\"left\":[{\"path\":\"/d\",\"why\":\"/d is used\"}]}",
                   &r, &e),
              e);
    assert_int_equal(r.nfiles, 4);
    assert_int_equal(r.files[0].did, DISCARD_REMOVED);
    assert_string_equal(r.files[0].path, "/a");
    assert_int_equal(r.files[0].bytes, 7);
    assert_string_equal(r.files[1].path, "/b");
    assert_int_equal(r.files[2].did, DISCARD_BLANKED);
    assert_string_equal(r.files[2].path, "/dev/c");
    assert_int_equal(r.files[3].did, DISCARD_SPARED);
    assert_string_equal(r.files[3].path, "/d");
    assert_string_equal(r.files[3].why, "/d is used");
}

static void take__refuses_the_rest(void **state)
{
    static struct discard_result r;
    AUTO(json_put) struct json_object *many = json_new();
    struct json_object *const list = json_object_new_array();
    struct err e;

    (void)state;
    assert_err(take("{}", &r, &e), e, ERR_PROTO);
    assert_err(take("[]", &r, &e), e, ERR_PROTO);
    assert_err(take("{\"removed\":[]}", &r, &e), e, ERR_PROTO);
    assert_err(take("{\"removed\":[],\"blanked\":[]}", &r, &e), e, ERR_PROTO);
    assert_err(take("{\"removed\":[],\"blanked\":[{}],\"left\":[]}", &r, &e), e,
               ERR_PROTO);
    assert_err(
        take("{\"removed\":[],\"blanked\":[],\"left\":[{\"path\":\"/a\"}]}", &r, &e), e,
        ERR_PROTO);
    assert_err(take("{\"removed\":[7]}", &r, &e), e, ERR_PROTO);
    assert_err(take("{\"removed\":[{\"path\":\"/a\",\"bytes\":-1}]}", &r, &e), e,
               ERR_PROTO);
    assert_err(take("{\"removed\":[{\"path\":\"\\u001b\",\"bytes\":1}]}", &r, &e), e,
               ERR_PROTO);
    json_add_obj(many, "removed", list);
    for (int i = 0; i <= DOMXML_DISKS_MAX; i++) {
        struct json_object *const f = json_add_str(json_new(), "path", "/a");

        json_object_array_add(list, json_add_u64(f, "bytes", 1));
    }
    memset(&r, 0, sizeof r);
    assert_err(discard_take(many, &r, &e), e, ERR_PROTO);
    assert_contains(e.msg, "more files than disks");
}

/* --- the command line --- */

static struct discard_opts opts;

static bool parse(struct err *e, const char *a, const char *b, const char *c)
{
    char *argv[] = { (char *)"discard", (char *)a, (char *)b, (char *)c, NULL };
    int argc = 1;

    while (argv[argc] != NULL)
        argc++;
    return discard_parse(argc, argv, &opts, e);
}

static void parse__takes_and_refuses(void **state)
{
    struct err e = { 0 };

    (void)state;
    assert_ok(parse(&e, "web", NULL, NULL), e);
    assert_string_equal(opts.discard.what, "web");
    assert_false(opts.discard.here || opts.json || opts.help);
    assert_ok(parse(&e, "--json", "web", "--here"), e);
    assert_true(opts.discard.here && opts.json);
    assert_ok(parse(&e, "--", "--here", NULL), e);
    assert_string_equal(opts.discard.what, "--here");
    assert_ok(parse(&e, "-h", NULL, NULL), e);
    assert_true(opts.help);
    assert_err(parse(&e, NULL, NULL, NULL), e, ERR_USAGE);
    assert_contains(e.msg, "DOMAIN or ID is missing");
    assert_err(parse(&e, "", NULL, NULL), e, ERR_USAGE);
    assert_err(parse(&e, "--he", "web", NULL), e, ERR_USAGE);
    assert_contains(e.msg, "no option --he");
    assert_err(parse(&e, "web", "hostb", NULL), e, ERR_USAGE);
    assert_contains(e.msg, "one argument too many");
}

/* --- what it says --- */

static struct discard_result *result(int status)
{
    static struct discard_result r;

    memset(&r, 0, sizeof r);
    r.move = move("11111111", INVENTORY_KEPT, true);
    r.status = status;
    snprintf(r.move.domain, sizeof r.move.domain, "w\003b");
    snprintf(r.files[0].path, sizeof r.files[0].path, "/var/web.raw");
    r.files[0].bytes = 5 << 20;
    r.nfiles = 1;
    r.in_qemu = true;
    return &r;
}

static void text__says_what_was_removed(void **state)
{
    struct discard_result *r = result(0);
    AUTO(text_fini) struct text t = { .utf8 = true };

    (void)state;
    discard_text(&t, r);
    assert_contains(t.buf, "w\\x03b, move 11111111 to root@hostb\n");
    assert_contains(t.buf, "/var/web.raw on root@hostb, 5.0 MiB\n");
    assert_contains(t.buf, "what it had in QEMU on this host\n");
    assert_contains(t.buf, "this move is forgotten; the guest was not touched\n");
    text_clear(&t);
    r->move.at_source = false;
    r->in_qemu = false;
    texts_add(&r->left, "do this");
    discard_text(&t, r);
    assert_contains(t.buf, "move 11111111 from root@hostb\n");
    assert_contains(t.buf, "/var/web.raw on this host, 5.0 MiB\n");
    assert_contains(t.buf, "left to do   do this\n");
    assert_contains(t.buf, "forgotten on this host;");
    assert_null(strstr(t.buf, "QEMU"));
    text_clear(&t);
    r->files[0].did = DISCARD_BLANKED;
    discard_text(&t, r);
    assert_contains(
        t.buf, "  blanked      /var/web.raw on this host, its first and last MiB\n");
    text_clear(&t);
    r->files[0].did = DISCARD_SPARED;
    snprintf(r->files[0].why, sizeof r->files[0].why, "/var/web.raw was written");
    discard_text(&t, r);
    assert_contains(t.buf, "  left alone   on this host: /var/web.raw was written\n");
    text_clear(&t);
    discard_text(&t, result(4));
    assert_contains(t.buf, ": not all of it was removed\n");
}

static void json__has_all(void **state)
{
    struct discard_result *const r = result(4);

    (void)state;
    if (!err_set(&r->err, ERR_LINK, 0, "gone"))
        texts_add(&r->left, "do this");
    AUTO(json_put) struct json_object *o = discard_json(r);
    const char *const s = json_object_to_json_string_ext(
        o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);

    assert_contains(s, "{\"type\":\"discard\",\"status\":4,\"id\":\"11111111");
    assert_contains(s, "\"domain\":\"w\\\\x03b\"");
    assert_contains(s, "\"role\":\"source\",\"other_host\":\"root@hostb\"");
    assert_contains(s,
                    "\"removed\":[{\"host\":\"root@hostb\",\"path\":\"/var/web.raw\","
                    "\"bytes\":5242880}],\"blanked\":[],\"left_alone\":[],"
                    "\"in_qemu\":true,\"left\":[\"do this\"]");
    assert_contains(s, "\"error\":{\"kind\":\"link\"");
}

static void json__tells_what_was_not_removed(void **state)
{
    struct discard_result *const r = result(0);

    (void)state;
    r->files[0].did = DISCARD_BLANKED;
    r->files[1].did = DISCARD_SPARED;
    snprintf(r->files[1].path, sizeof r->files[1].path, "/a");
    snprintf(r->files[1].why, sizeof r->files[1].why, "/a \033");
    r->nfiles = 2;
    AUTO(json_put) struct json_object *o = discard_json(r);
    assert_contains(
        json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
                                              JSON_C_TO_STRING_NOSLASHESCAPE),
        "\"removed\":[],\"blanked\":[{\"host\":\"root@hostb\","
        "\"path\":\"/var/web.raw\"}],\"left_alone\":[{\"host\":\"root@hostb\","
        "\"path\":\"/a\",\"why\":\"/a \\\\x1b\"}]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(choose__takes_what_can_be_discarded),
        TEST(choose__takes_what_is_over_last),
        TEST(choose__does_not_guess),
        TEST(may__leaves_alone_what_concerns_the_guest),
        TEST(take__reads_what_was_removed),
        TEST(take__refuses_the_rest),
        TEST(parse__takes_and_refuses),
        TEST(text__says_what_was_removed),
        TEST(json__has_all),
        TEST(json__tells_what_was_not_removed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
