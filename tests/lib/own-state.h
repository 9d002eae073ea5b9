/* tests/lib/own-state.h - a test that works on /var/lib/snmigrate and below /run.
 *
 * Those paths are fixed, so such a test gets a mount namespace with empty ones.
 */
#ifndef SNM_TESTS_OWN_STATE_H
#define SNM_TESTS_OWN_STATE_H

/* Call first in main(), before any thread.  Ends the process with status 77 (skipped) where
 * that is not possible. */
void own_state(void);

#endif
