/* tests/unit/unit.h - cmocka, which wants these four in this order, and its gaps. */
#ifndef SNM_TESTS_UNIT_UNIT_H
#define SNM_TESTS_UNIT_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

#define TEST(f) cmocka_unit_test(f)

/* @call gave true; or fail with the error that it set in @e. */
#define assert_ok(call, e) \
    do { \
        if (!(call)) \
            fail_msg("%s: %s", #call, (e).msg); \
    } while (0)

/* @call gave false with an error of that kind. */
#define assert_err(call, e, wanted) \
    do { \
        (e).kind = ERR_NONE; \
        assert_false(call); \
        assert_string_equal(err_kind_name((e).kind), err_kind_name(wanted)); \
    } while (0)

#define assert_contains(text, part) \
    do { \
        if (strstr(text, part) == NULL) \
            fail_msg("\"%s\" does not contain \"%s\"", text, part); \
    } while (0)

#endif
