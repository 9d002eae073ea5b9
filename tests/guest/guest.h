/* guest.h - the parts of the test guest's init
 *
 * Threads: main (boots, then reports), one writer per disk (disk.c), ram (ram.c), power
 * (power.c).  They share nothing but the atomic fields below and the console.
 */
#ifndef SNM_TESTS_GUEST_H
#define SNM_TESTS_GUEST_H

#include "record.h"

#include <pthread.h>
#include <stdatomic.h>

/* From the kernel's command line: name=VALUE, sizes and rates in bytes, K M G allowed. */
struct options {
    uint64_t write;    /* bytes per second, all disks together; 0: none */
    uint64_t dirty;    /* bytes of RAM per second; 0: none */
    uint64_t ram;      /* size of the working set */
    uint64_t verify;   /* bytes of RAM checked per second */
    uint64_t poweroff; /* after so many seconds; 0: never */
    uint64_t clock;    /* seconds by which the clock is behind; 0: as the RTC says */
    bool agent_stands; /* agent=stopped */
};

struct disk {
    char name[16]; /* "vda" */
    int fd;
    uint64_t rate;
    struct superblock sb;
    struct slot_state *slots; /* what each slot must read as; of the writer */
    uint8_t *buf;             /* one slot; of the writer */
    pthread_t thread;
    bool running;              /* the thread was started */
    uint64_t start;            /* the first seq of this boot */
    _Atomic uint64_t acked;    /* all from start to here are durable; start - 1: none */
    _Atomic uint64_t written;  /* bytes */
    _Atomic uint64_t verified; /* bytes read and found right */
};

struct ram {
    uint64_t pages;
    uint64_t *mem;
    uint32_t *gen;          /* of each page */
    uint64_t dirty, verify; /* bytes per second */
    pthread_t thread;
    _Atomic uint64_t passes;  /* times that every page was found right */
    _Atomic uint64_t dirtied; /* pages */
};

extern atomic_bool stopping; /* writers and ram end soon */

/* One line, in one piece.  say_error() puts "ERROR " before it and counts. */
__attribute__((format(printf, 1, 2))) void say(const char *fmt, ...);
__attribute__((format(printf, 1, 2))) void say_error(const char *fmt, ...);

bool disk_open(struct disk *d, const char *name, uint64_t rate);
void disk_start(struct disk *d);
bool ram_start(struct ram *r, const struct options *o);
void power_start(void);
/* QEMU's guest agent, where the initramfs has it.  */
void agent_start(const struct options *o);
/* It was started: the clock is of interest. */
bool agent_is_there(void);

/* What a thread with a rate may do next. */
struct pace {
    uint64_t rate; /* units per second */
    uint64_t last_ns;
    uint64_t credit; /* units */
};

uint64_t now_ns(void);
void pace_init(struct pace *p, uint64_t rate);
/* Sleep until @units may be done; false: stopping.  After a stall at most a quarter of
 * a second's units are caught up on. */
bool pace_wait(struct pace *p, uint64_t units);

#endif
