/* src/migrate/guard.h - the small process that survives a kill -9 of snmigrate.
 *
 * "snmigrate guard" is started by the move before anything is changed in QEMU, in a session
 * of its own, with one end of a socket pair as its stdin.  End of file without the word
 * "bye" means that snmigrate died: the guard applies the commit rule of src/README.
 */
#ifndef SNM_MIGRATE_GUARD_H
#define SNM_MIGRATE_GUARD_H

/* The process's main; returns its exit status.  Everything else comes over stdin. */
int guard_main(void);

#endif
