#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "cli/recover.h"
#include "unit.h"

/* --- the command line --- */

static struct recover_opts opts;

static bool parse(struct err *e, const char *a, const char *b, const char *c)
{
    char words[4][40];
    char *argv[5];
    int argc = 0;
    const char *const from[] = { "recover", a, b, c };

    for (int i = 0; i < 4 && from[i] != NULL; i++) {
        snprintf(words[i], sizeof words[i], "%s", from[i]);
        argv[argc++] = words[i];
    }
    argv[argc] = NULL;
    const bool ok = recover_parse(argc, argv, &opts, e);

    if (ok && opts.recover.what != NULL) /* it borrows from words[] */
        opts.recover.what = strcmp(opts.recover.what, "vm") == 0 ? "vm" : "?";
    return ok;
}

static void parse__takes_what_it_should(void **state)
{
    struct err e = { 0 };

    (void)state;
    assert_ok(parse(&e, NULL, NULL, NULL), e);
    assert_null(opts.recover.what);
    assert_int_equal(opts.recover.word, RECOVER_WORD_NONE);
    assert_ok(parse(&e, "--json", "-vv", "vm"), e);
    assert_true(opts.json);
    assert_int_equal(opts.verbose, 2);
    assert_string_equal(opts.recover.what, "vm");
    assert_ok(parse(&e, "vm", "--source-wins", "-q"), e);
    assert_int_equal(opts.recover.word, RECOVER_WORD_SOURCE);
    assert_true(opts.quiet);
    assert_ok(parse(&e, "--destination-wins", "--destination-wins", "vm"), e);
    assert_int_equal(opts.recover.word, RECOVER_WORD_DESTINATION);
    assert_ok(parse(&e, "--help", "--source-wins", NULL), e);
    assert_true(opts.help);
}

static void refused(const char *why, const char *a, const char *b, const char *c)
{
    struct err e = { 0 };

    assert_err(parse(&e, a, b, c), e, ERR_USAGE);
    assert_contains(e.msg, why);
    assert_contains(e.next, "--help");
}

static void parse__refuses(void **state)
{
    (void)state;
    refused("one argument too many", "vm", "hostb", NULL);
    refused("no option --source", "--source", "vm", NULL);
    refused("no option --bandwidth", "--bandwidth", "vm", NULL);
    refused("no option -x", "-x", "vm", NULL);
    refused("contradict", "--source-wins", "--destination-wins", "vm");
    refused("contradict", "-q", "-v", NULL);
    refused("said of one move", "--source-wins", NULL, NULL);
    refused("said of one move", "--destination-wins", "--json", NULL);
}

static void help__lists_the_words(void **state)
{
    char *text = NULL;
    size_t len = 0;
    FILE *const f = open_memstream(&text, &len);

    (void)state;
    recover_help(f);
    fclose(f);
    assert_contains(text, "      --source-wins  ");
    assert_contains(text, "      --destination-wins  ");
    free(text);
}

/* --- what it says --- */

static struct recover_result result(int status, enum move_where where)
{
    struct recover_result r = { .id = "0123456789abcdef0123456789abcdef",
                                .domain = "web\00301",
                                .uuid = "11111111-2222-3333-4444-555555555555",
                                .other = "root@hostb",
                                .at_source = true,
                                .found_source = "paused by the move",
                                .found_destination = "incomplete",
                                .found_journal = "not released",
                                .did = "resumed it at the source",
                                .why = "its QEMU lives here",
                                .where = where,
                                .state = "running",
                                .status = status };

    return r;
}

static void text__says_what_and_where(void **state)
{
    struct recover_result r = result(6, MOVE_AT_SOURCE);
    AUTO(text_fini) struct text t = { .utf8 = true };

    (void)state;
    texts_add(&r.left, "do this");
    recover_text(&t, &r);
    assert_contains(t.buf, "web\\x0301, move 01234567 to root@hostb\n");
    assert_contains(t.buf, "paused by the move\n");
    assert_contains(t.buf, "resumed it at the source\n");
    assert_contains(t.buf, "do this\n");
    assert_contains(t.buf, "web\\x0301: running on this host (source)\n");
}

static void text__says_what_is_open(void **state)
{
    struct recover_result r = result(7, MOVE_UNKNOWN);
    AUTO(text_fini) struct text t = { .utf8 = true };

    (void)state;
    if (!err_set(&r.err, ERR_UNRESOLVED, 0, "it cannot be asked"))
        err_next(&r.err, "Run it again.");
    recover_text(&t, &r);
    assert_contains(t.buf, "it cannot be asked\n");
    assert_contains(t.buf, "Run it again.\n");
    assert_contains(t.buf, ": unresolved\n");
}

static void text__knows_its_side(void **state)
{
    struct recover_result r = result(0, MOVE_AT_DESTINATION);
    AUTO(text_fini) struct text t = { .utf8 = true };

    (void)state;
    recover_text(&t, &r);
    assert_contains(t.buf, "running on root@hostb (destination)\n");
    text_clear(&t);
    r.at_source = false;
    recover_text(&t, &r);
    assert_contains(t.buf, "move 01234567 from root@hostb\n");
    assert_contains(t.buf, "running on this host (destination)\n");
    text_clear(&t);
    r.where = MOVE_NOWHERE;
    recover_text(&t, &r);
    assert_contains(t.buf, "runs nowhere: it is off\n");
}

static void json__has_all(void **state)
{
    struct recover_result r = result(7, MOVE_UNKNOWN);

    (void)state;
    if (!err_set(&r.err, ERR_UNRESOLVED, 0, "open"))
        texts_add(&r.left, "do this");
    AUTO(json_put) struct json_object *o = recover_json(&r);
    const char *const s = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);

    assert_contains(s, "\"type\":\"recover\",\"status\":7,\"id\":\"0123456789abcdef");
    assert_contains(s, "\"role\":\"source\",\"other_host\":\"root@hostb\"");
    assert_contains(s, "\"found\":{\"source\":\"paused by the move\",\"destination\":"
                       "\"incomplete\",\"journal\":\"not released\"}");
    assert_contains(s, "\"guest_location\":\"unknown\",\"guest_state\":\"running\"");
    assert_contains(s, "\"left\":[\"do this\"],\"notes\":[]");
    assert_contains(s, "\"error\":{\"kind\":\"unresolved\"");
    assert_null(strchr(s, 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(parse__takes_what_it_should),
        TEST(parse__refuses),
        TEST(help__lists_the_words),
        TEST(text__says_what_and_where),
        TEST(text__says_what_is_open),
        TEST(text__knows_its_side),
        TEST(json__has_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
