/* tests/lib/tmp.h - a directory of its own for each test function; cmocka's setup and
 * teardown: cmocka_unit_test_setup_teardown(f, tmp_make, tmp_remove). */
#ifndef SNM_TESTS_TMP_H
#define SNM_TESTS_TMP_H

/* Short enough for the paths of Unix sockets in it; "" before tmp_make(). */
const char *tmp_dir(void);

/* "<the directory>/@name", valid until the third call after this in the same thread. */
const char *tmp_path(const char *name);

int tmp_make(void **state);
int tmp_remove(void **state);

#define TEST_TMP(f) cmocka_unit_test_setup_teardown(f, tmp_make, tmp_remove)

#endif
