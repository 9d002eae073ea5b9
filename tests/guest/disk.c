/* disk.c - one writer: does the operations of record.h at a rate and checks what it reads */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { ALIGN = 4096, READ_EVERY = 4, MAX_ERRORS = 20 };

/* After so many errors of one disk no more are said, so that the console stays readable. */
static void disk_error(struct disk *d, const char *what, uint64_t slot, uint64_t seq,
                       long off)
{
    static _Thread_local int n;

    if (n++ < MAX_ERRORS)
        say_error("%s %s slot %llu seq %llu offset %lld: %s", d->name, what,
                  (unsigned long long)slot, (unsigned long long)seq,
                  (long long)(slot * SLOT_BYTES) + off, strerror(errno));
}

/* ---- opening ------------------------------------------------------------------- */

static bool superblock_io(struct disk *d, bool write)
{
    const size_t len = SECTOR_BYTES;
    ssize_t n;

    if (write) {
        memset(d->buf, 0, len);
        memcpy(d->buf, &d->sb, sizeof d->sb);
        n = pwrite(d->fd, d->buf, len, 0);
    } else {
        n = pread(d->fd, d->buf, len, 0);
        memcpy(&d->sb, d->buf, sizeof d->sb);
    }
    return n == (ssize_t)len;
}

/* Take the next lease of seqs; after this the superblock on disk tells the next boot
 * (and the checker) where it may begin. */
static bool lease_take(struct disk *d)
{
    d->sb.next_start += SEQ_LEASE;
    superblock_seal(&d->sb);
    return superblock_io(d, true);
}

/* On the first boot every byte is known; later ones do not know what the last boot did. */
static bool slots_init(struct disk *d)
{
    const uint64_t n = slot_count(&d->sb);
    const bool first = d->sb.next_start == 1;

    d->slots = calloc(n, sizeof *d->slots);
    if (d->slots == NULL)
        return false;
    for (uint64_t i = 1; i < n; i++) {
        d->slots[i] = slot_initial(&d->sb, i);
        if (!first)
            d->slots[i].content = CONTENT_UNKNOWN;
    }
    return true;
}

static bool disk_size(int fd, uint64_t *out)
{
    return ioctl(fd, BLKGETSIZE64, out) == 0;
}

bool disk_open(struct disk *d, const char *name, uint64_t rate)
{
    char path[32];
    uint64_t size;

    snprintf(d->name, sizeof d->name, "%s", name);
    snprintf(path, sizeof path, "/dev/%s", name);
    d->rate = rate;
    d->fd = open(path, O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC);
    d->buf = aligned_alloc(ALIGN, SLOT_BYTES);
    if (d->fd < 0 || d->buf == NULL || !disk_size(d->fd, &size) ||
        !superblock_io(d, false)) {
        say_error("%s cannot open: %s", name, strerror(errno));
        return false;
    }
    if (!superblock_valid(&d->sb) || d->sb.disk_bytes != size) {
        say("note %s is not formatted for this guest: %llu bytes, left alone", name,
            (unsigned long long)size);
        return false;
    }
    d->start = d->sb.next_start;
    atomic_store(&d->acked, d->start - 1);
    if (!slots_init(d) || !lease_take(d)) {
        say_error("%s cannot start: %s", name, strerror(errno));
        return false;
    }
    say("start %s %llu", d->name, (unsigned long long)d->start);
    return true;
}

/* ---- operations ------------------------------------------------------------------ */

static bool op_do(struct disk *d, const struct op *op, uint64_t seq)
{
    const size_t len = slot_len(&d->sb, op->slot);
    uint64_t range[2] = { op->slot * SLOT_BYTES, len };

    switch (op->kind) {
    case OP_WRITE:
        record_fill(&d->sb, op->slot, seq, d->buf);
        errno = 0;
        return pwrite(d->fd, d->buf, len, (off_t)range[0]) == (ssize_t)len;
    case OP_ZERO:
        return ioctl(d->fd, BLKZEROOUT, range) == 0;
    case OP_DISCARD:
        return ioctl(d->fd, BLKDISCARD, range) == 0 || errno == EOPNOTSUPP;
    }
    return false;
}

static const char *const op_names[] = { "write", "zero", "discard" };

/* A failed operation is said and done again later: its slot stays as it must be. */
static bool op_run(struct disk *d, uint64_t seq)
{
    const struct op op = op_of(&d->sb, seq);

    if (!op_do(d, &op, seq)) {
        disk_error(d, op_names[op.kind], op.slot, seq, 0);
        return false;
    }
    slot_apply(&d->slots[op.slot], op.kind, seq);
    atomic_fetch_add(&d->written, slot_len(&d->sb, op.slot));
    return true;
}

static void read_check(struct disk *d, uint64_t slot)
{
    const struct slot_state *st = &d->slots[slot];
    const size_t len = slot_len(&d->sb, slot);

    errno = 0;
    if (pread(d->fd, d->buf, len, (off_t)(slot * SLOT_BYTES)) != (ssize_t)len) {
        disk_error(d, "read", slot, st->seq, 0);
        return;
    }
    const long off = slot_check(&d->sb, slot, st, d->buf);
    errno = EBADMSG;
    if (off >= 0)
        disk_error(d, "wrong data read", slot, st->seq, off);
    else
        atomic_fetch_add(&d->verified, len);
}

/* Half of the reads go where this boot wrote lately, half anywhere. */
static uint64_t slot_to_read(const struct disk *d, uint64_t seq)
{
    const uint64_t dice = mix64(seq + 77);
    const uint64_t back = 1 + (dice >> 8) % 64;

    if (dice % 2 == 0 && seq > d->start + back)
        return op_of(&d->sb, seq - back).slot;
    return 1 + (dice >> 8) % (slot_count(&d->sb) - 1);
}

static void *disk_run(void *arg)
{
    struct disk *d = arg;
    struct pace pace;
    uint64_t seq = d->start;

    pace_init(&pace, d->rate);
    while (pace_wait(&pace, SLOT_BYTES)) {
        if (seq + SEQ_LEASE / 2 > d->sb.next_start && !lease_take(d))
            disk_error(d, "lease", 0, seq, 0);
        if (!op_run(d, seq))
            continue;
        atomic_store(&d->acked, seq);
        if (seq % READ_EVERY == 0)
            read_check(d, slot_to_read(d, seq));
        seq++;
    }
    return NULL;
}

void disk_start(struct disk *d)
{
    if (d->rate == 0)
        return;
    d->running = pthread_create(&d->thread, NULL, disk_run, d) == 0;
    if (!d->running)
        say_error("%s cannot start its writer", d->name);
}
