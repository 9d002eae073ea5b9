/* What a move left, from its journal; and whether it is the one that is wanted now. */
#include "migrate/kept.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "unit.h"

#define ID      "1a2b3c4d5e6f70819293a4b5c6d7e8f9"
#define OPENING "00112233445566778899aabbccddeeff"
#define NEWER   "ffeeddccbbaa99887766554433221100"

#define DISK(target, safe) \
    "{\"target\":\"" target "\",\"path\":\"/srv/" target \
    ".img\",\"format\":\"raw\",\"size\":1000,\"safe\":" safe "}"
#define DISKS(a, b) "\"disks\":[" DISK("vda", a) "," DISK("vdb", b) "]"
#define PREPARED(opening, pid, a, b) \
    "{\"step\":\"prepared\",\"role\":\"src\",\"uuid\":\"u\",\"destination\":\"root@" \
    "b\"," \
    "\"opening\":\"" opening "\",\"boot_id\":\"boot\",\"pid\":" pid \
    ",\"pid_start\":5," DISKS(a, b) "}"
#define OPENED(opening) "{\"step\":\"opened\",\"opening\":\"" opening "\"}"
#define COPIED(a, b)    "{\"step\":\"copied\"," DISKS(a, b) "}"
#define KEPT(a, b)      "{\"step\":\"kept\",\"opening\":\"" OPENING "\"," DISKS(a, b) "}"
#define STEP(name)      "{\"step\":\"" name "\"}"

static struct kept kept;
static struct err e;

static bool read_text(const char *text)
{
    AUTO(json_put) struct json_object *o = NULL;

    assert_ok(json_parse(text, strlen(text), &o, &e), e);
    return kept_read(o, ID, &kept, &e);
}

static void kept__newest_entry_says_how_far(void **state)
{
    uint64_t bytes, size;

    (void)state;
    assert_ok(read_text("[" PREPARED("", "7", "0", "0") "," OPENED(OPENING) "," COPIED(
                  "100", "0") "," COPIED("300", "1000") "," STEP("memory") "]"),
              e);
    assert_int_equal(kept.n, 2);
    assert_int_equal(kept.disks[0].safe, 300);
    assert_int_equal(kept.disks[1].safe, 1000);
    assert_string_equal(kept.opening, OPENING);
    assert_string_equal(kept.id, ID);
    assert_int_equal(kept.pid, 7);
    assert_true(kept_something(&kept));
    kept_amount(&kept, &bytes, &size);
    assert_int_equal(bytes, 1300);
    assert_int_equal(size, 2000);
}

static bool settled(const char *text)
{
    AUTO(json_put) struct json_object *o = NULL;

    assert_ok(json_parse(text, strlen(text), &o, &e), e);
    return kept_is_settled(o);
}

static void kept__settled_is_what_ends_with_kept(void **state)
{
    (void)state;
    assert_true(settled("[" STEP("opened") "," KEPT("200", "0") "]"));
    assert_false(settled("[" KEPT("200", "0") "," STEP("prepared") "]"));
    assert_false(settled("[" STEP("copied") "]"));
    assert_false(settled("[]"));
    assert_ok(read_text("[" PREPARED("", "7", "0", "0") "," OPENED(OPENING) "," KEPT(
                  "200", "0") "," PREPARED(OPENING, "7", "200", "0") "]"),
              e);
    assert_true(kept_something(&kept));
}

/* A later try says anew what it trusts; what the one before had copied is no proof. */
static void kept__newest_try_counts(void **state)
{
    (void)state;
    assert_ok(read_text("[" PREPARED("", "7", "0", "0") "," OPENED(OPENING) "," KEPT(
                  "900", "900") "," PREPARED(OPENING, "8", "0", "0") "]"),
              e);
    assert_int_equal(kept.disks[0].safe, 0);
    assert_int_equal(kept.pid, 8);
    assert_string_equal(kept.opening, OPENING);
    assert_false(kept_something(&kept));
    assert_ok(
        read_text("[" PREPARED("", "7", "0", "0") "," OPENED(OPENING) "," KEPT(
            "900", "900") "," PREPARED(OPENING, "7", "900",
                                       "900") "," OPENED(NEWER) "," COPIED("0",
                                                                           "900") "]"),
        e);
    assert_int_equal(kept.disks[0].safe, 0); /* it was found to be another */
    assert_int_equal(kept.disks[1].safe, 900);
    assert_string_equal(kept.opening, NEWER);
}

static void kept__nothing_is_kept_without_a_copy_or_after_the_release(void **state)
{
    (void)state;
    assert_ok(read_text("[" PREPARED("", "7", "0", "0") "," OPENED(OPENING) "]"), e);
    assert_false(kept_something(&kept));
    assert_ok(read_text("[" PREPARED("", "7", "0", "0") "," COPIED("5", "0") "]"), e);
    assert_false(kept_something(&kept));
    assert_ok(read_text("[" PREPARED("", "7", "0", "0") "," OPENED(OPENING) "," COPIED(
                  "1000", "1000") "," STEP("released") "," STEP("taken-back") "]"),
              e);
    assert_true(kept.released);
    assert_false(kept_something(&kept));
    /* That of an earlier try was dealt with. */
    assert_ok(
        read_text("[" PREPARED("", "7", "0", "0") "," STEP("released") "," PREPARED(
            "", "7", "0", "0") "," OPENED(OPENING) "," COPIED("1000", "0") "]"),
        e);
    assert_true(kept_something(&kept));
}

static void kept__other_journals_are_refused(void **state)
{
    static const char *const bad[] = {
        "[]",
        "[" STEP("copied") "]",
        "[{\"step\":\"prepared\",\"role\":\"dst\"}]",
        "[{\"step\":\"prepared\",\"role\":\"src\",\"uuid\":\"u\"}]",
        "[" PREPARED("", "7", "1001", "0") "]",
        "[" PREPARED("", "7", "0", "0") "," STEP("copied") "]",
        "[" PREPARED("", "7", "0", "0") "," STEP("opened") "]",
        "[" PREPARED(OPENING "00", "7", "0", "0") "]",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (read_text(bad[i]))
            fail_msg("accepted: %s", bad[i]);
}

static struct plan plan_as_kept(void)
{
    struct plan p = { .n = 2 };

    for (size_t i = 0; i < p.n; i++) {
        struct plan_disk *const d = &p.disks[i];

        snprintf(d->target, sizeof d->target, i == 0 ? "vda" : "vdb");
        snprintf(d->dst, sizeof d->dst, "/srv/%s.img", d->target);
        snprintf(d->dst_format, sizeof d->dst_format, "raw");
        d->size = 1000;
    }
    return p;
}

static void kept__another_plan_is_told(void **state)
{
    AUTO(mem_free) struct plan *p = malloc(sizeof *p);
    char what[400];

    (void)state;
    assert_non_null(p);
    assert_ok(read_text("[" PREPARED("", "7", "0", "0") "]"), e);
    *p = plan_as_kept();
    assert_false(kept_differs(&kept, p, what));
    p->n = 1;
    assert_true(kept_differs(&kept, p, what));
    assert_contains(what, "2 disks");
    *p = plan_as_kept();
    snprintf(p->disks[1].target, sizeof p->disks[1].target, "sda");
    assert_true(kept_differs(&kept, p, what));
    assert_contains(what, "vdb");
    *p = plan_as_kept();
    snprintf(p->disks[1].dst, sizeof p->disks[1].dst, "/other");
    assert_true(kept_differs(&kept, p, what));
    assert_contains(what, "/other");
    *p = plan_as_kept();
    snprintf(p->disks[0].dst_format, sizeof p->disks[0].dst_format, "qcow2");
    assert_true(kept_differs(&kept, p, what));
    assert_contains(what, "qcow2");
    *p = plan_as_kept();
    p->disks[0].size = 2000;
    assert_true(kept_differs(&kept, p, what));
    assert_contains(what, "2000");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kept__newest_entry_says_how_far),
        cmocka_unit_test(kept__settled_is_what_ends_with_kept),
        cmocka_unit_test(kept__newest_try_counts),
        cmocka_unit_test(kept__nothing_is_kept_without_a_copy_or_after_the_release),
        cmocka_unit_test(kept__other_journals_are_refused),
        cmocka_unit_test(kept__another_plan_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
