/* format-disk - make a raw image such as the test guest wants: record.h
 *
 *   format-disk FILE DISK BYTES FILL_BYTES DISCARD(0|1) [RING_BYTES]
 *
 * FILE is made anew, sparse; the seed is random.  RING_BYTES: what is written over and over.
 */
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static uint8_t buf[SLOT_BYTES] __attribute__((aligned(8)));

static void put(int fd, const void *data, size_t len, uint64_t off)
{
    if (pwrite(fd, data, len, (off_t)off) == (ssize_t)len)
        return;
    perror("format-disk: write");
    exit(1);
}

static void format(int fd, const struct superblock *sb)
{
    put(fd, sb, sizeof *sb, 0);
    for (uint64_t slot = 1; slot < slot_count(sb); slot++) {
        if (!slot_is_fill(sb, slot))
            continue;
        record_fill(sb, slot, 0, buf);
        put(fd, buf, slot_len(sb, slot), slot * SLOT_BYTES);
    }
}

int main(int argc, char **argv)
{
    struct superblock sb;
    uint64_t seed;

    if (argc != 6 && argc != 7) {
        fprintf(stderr,
                "usage: format-disk FILE DISK BYTES FILL_BYTES DISCARD [RING]\n");
        return 2;
    }
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
        return 1;
    superblock_init(&sb, argv[2], strtoull(argv[3], NULL, 10),
                    strtoull(argv[4], NULL, 10), argv[5][0] == '1', seed);
    if (argc == 7) {
        sb.ring_slots = strtoull(argv[6], NULL, 10) / SLOT_BYTES;
        superblock_seal(&sb);
    }
    if (!superblock_valid(&sb)) {
        fprintf(stderr,
                "format-disk: the size must be a multiple of %d and more than %d\n",
                SECTOR_BYTES, SLOT_BYTES);
        return 2;
    }

    const int fd = open(argv[1], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)sb.disk_bytes) < 0) {
        fprintf(stderr, "format-disk: %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    format(fd, &sb);
    return close(fd) == 0 ? 0 : 1;
}
