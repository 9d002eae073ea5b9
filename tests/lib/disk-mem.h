/* tests/lib/disk-mem.h - a disk in memory behind nbd-mirror/disk.h, with faults.
 *
 * One struct mem_disk is a server; mem_connect() opens a connection to it, as many as
 * wanted, each for one thread.  Commands take effect only when they complete, and they
 * complete some at a time and in any order, as a seed says: who looks at a buffer early,
 * or uses it again too early, gets the wrong bytes.
 */
#ifndef SNM_TESTS_LIB_DISK_MEM_H
#define SNM_TESTS_LIB_DISK_MEM_H

#include <stdatomic.h>
#include <stdint.h>

#include "nbd-mirror/disk.h"

struct mem_disk {
    uint8_t *bytes;
    uint64_t size;
    /* base:allocation and the bitmap, a byte for each byte of the disk: not 0 where zero,
     * where dirty.  NULL: the server does not have it. */
    uint8_t *zero, *dirty;
    unsigned seed;
    uint32_t block_min, block_max;
    bool no_zero;       /* does not offer WRITE_ZEROES */
    unsigned pairs_max; /* extents in one answer; 0: any number */

    /* The fault: at the @fault_at'th command (from 0) of ->fault_op on any connection.
     * Constant while connections are in use. */
    enum {
        MEM_NO_FAULT,
        MEM_FAIL,     /* this one fails with ->fault_os */
        MEM_FAIL_ALL, /* this one and all later ones do */
        MEM_DIE,      /* the connection is lost */
        MEM_STUCK     /* it, and all after it on the connection, never complete */
    } fault;
    enum disk_op fault_op;
    unsigned fault_at;
    int fault_os;

    atomic_uint count[DISK_OPS]; /* commands started */
    atomic_uint connections;
};

/* All of the disk reads as zeroes; without maps. */
struct mem_disk *mem_disk_new(uint64_t size, unsigned seed);
void mem_disk_free(struct mem_disk *m);

struct disk *mem_connect(struct mem_disk *m, const char *side);

#endif
