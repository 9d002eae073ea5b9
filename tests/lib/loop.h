/* tests/lib/loop.h - a file as a block device, where there are loop devices; for unit tests. */
#ifndef SNM_TESTS_LOOP_H
#define SNM_TESTS_LOOP_H

#include <stdint.h>

enum { LOOP_PATH = 64 };

/* A device of @size zero bytes, in tmp_path("disk").  Where there are none, or we are not root,
 * the test is skipped.  One at a time; it goes with the process in any case. */
void loop_need(uint64_t size, char path[LOOP_PATH]);
void loop_remove(void);

#endif
