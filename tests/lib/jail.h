/* tests/lib/jail.h - a process that can change nothing of the machine, for fuzz targets that
 * do what foreign bytes ask for.
 *
 * A mount namespace in which everything is read-only; /tmp, /run, /var/lib and /dev are
 * empty and in memory, so there is no device either.  Programs are not found.
 */
#ifndef SNM_TESTS_JAIL_H
#define SNM_TESTS_JAIL_H

/* Call first, before any thread.  Ends the process with status 77 (skipped) where that is
 * not possible. */
void jail_enter(void);

#endif
