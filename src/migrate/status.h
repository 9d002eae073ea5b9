/* src/migrate/status.h - the exit statuses of snmigrate(1), which scripts rely on.
 *
 * A ->status of a result is one of them; the commands of cli/ give no other.
 */
#ifndef SNM_MIGRATE_STATUS_H
#define SNM_MIGRATE_STATUS_H

enum {
    STATUS_OK,
    STATUS_USAGE = 2,         /* wrongly called */
    STATUS_REFUSED = 3,       /* and nothing was changed */
    STATUS_FAILED = 4,        /* the guest runs at the source */
    STATUS_GUEST_ENDED = 5,   /* by itself, while it was moved */
    STATUS_LEFT = 6,          /* it runs at the destination, something is left to do */
    STATUS_DIFFER = 6,        /* of verify: the copies do */
    STATUS_UNRESOLVED = 7,    /* who has the guest is not decided */
    STATUS_STALLED = 8,       /* the copy did not converge */
    STATUS_NO_CONNECTION = 9, /* and nothing was changed */
    STATUS_INTERRUPTED = 130, /* by the user; the guest runs at the source */
};

#endif
