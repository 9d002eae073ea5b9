/* tests/lib/loop.h - a file as a block device, where there are loop devices. */
#ifndef SNM_TESTS_LOOP_H
#define SNM_TESTS_LOOP_H

#include <stdbool.h>
#include <stdint.h>

enum { LOOP_PATH = 64 };

/* A device of @size zero bytes, in tmp_path("disk").  false: there are none here, or we
 * are not root.  One at a time; it goes with the process in any case. */
bool loop_make(uint64_t size, char path[LOOP_PATH]);
void loop_remove(void);

#endif
