/* tests/lib/fake-guest.h - a libvirt with one domain, for the agent (src/agent/guest.h).
 *
 * Its state is in a shared mapping of a file, so that a test can watch and move the domain
 * of an agent in another process.
 */
#ifndef SNM_TESTS_FAKE_GUEST_H
#define SNM_TESTS_FAKE_GUEST_H

#include <stdatomic.h>

#include "agent/guest.h"

struct fake_guest {
    atomic_int run, why, job; /* of struct guest_look */
    atomic_int defined;       /* what is left when it is not active */
    atomic_int resumes, removes, undefines, autostarts, announces, syncs,
        marks;        /* how often it was asked */
    atomic_int early; /* resumed when it was not ready: the guest may run twice */
    atomic_int resume_fails, open_fails, look_fails, announce_fails, sync_fails,
        mark_fails; /* so many times more */
    char disk
        [200]; /* the path of one of another domain, "owner"; not while an agent asks */
};

/* Make (with an absent domain) or take the file; the mapping stays for ever. */
struct fake_guest *fake_guest_map(const char *path);

/* Works on what fake_guest_map() gave last. */
extern const struct guest_ops fake_guest_ops;

#endif
