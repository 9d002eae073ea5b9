/* record.h - what the test guest writes on a disk, known in advance to every byte
 *
 * A disk is a row of slots of SLOT_BYTES; the last one may be shorter.  Slot 0 holds the
 * superblock in its first sector and zeros after that.  Every other slot is at any
 * time in one of these conditions:
 *
 *   zeros           never written, or zeroed
 *   record of seq   written by operation seq: a header and a payload that follow from
 *                   (seed, disk, slot, seq); seq 0 are records made with the disk (fill)
 *   discarded       each sector zeros, or what it was before
 *
 * Operation seq = 1, 2, 3... does something to one slot, and which follows from the
 * superblock and seq alone (op_of()).  So who knows up to which seq operations are done
 * knows every byte of the disk.  The guest says so on its console:
 *
 *   start DISK SEQ   operations from SEQ on follow (a boot)
 *   ack DISK SEQ     all operations from start to SEQ are done and durable
 *
 * Numbers on disk are little-endian; this code runs on little-endian machines only.
 */
#ifndef SNM_TESTS_RECORD_H
#define SNM_TESTS_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SECTOR_BYTES = 512, SLOT_BYTES = 128 << 10 };

/* Each boot takes so many seqs for itself before it uses one, so that a boot never
 * repeats a seq of the boot before it. */
#define SEQ_LEASE (1ull << 20)

struct superblock { /* all of it checked by superblock_valid() */
    uint64_t magic;
    uint64_t seed;
    uint64_t disk_bytes;
    uint64_t slot_bytes;
    uint64_t ring_slots; /* slots 1..ring_slots are written in turn, most of the time */
    uint64_t fill_slots; /* so many slots, spread evenly, begin as records of seq 0 */
    uint64_t discard;    /* 1: some operations discard or zero */
    uint64_t next_start; /* the first seq of the next boot */
    char disk[16];       /* "vda" */
    uint64_t check;
};

enum op_kind { OP_WRITE, OP_ZERO, OP_DISCARD };

struct op {
    enum op_kind kind;
    uint64_t slot;
};

/* What a slot must read as. */
enum content { CONTENT_ZERO, CONTENT_RECORD, CONTENT_UNKNOWN };

struct slot_state {
    uint64_t seq; /* of the record, if CONTENT_RECORD */
    uint8_t content;
    bool maybe_zero; /* discarded: each sector may be zeros as well */
};

void superblock_init(struct superblock *sb, const char *disk, uint64_t disk_bytes,
                     uint64_t fill_bytes, bool discard, uint64_t seed);
void superblock_seal(struct superblock *sb); /* after every change */
bool superblock_valid(const struct superblock *sb);

uint64_t slot_count(const struct superblock *sb);
size_t slot_len(const struct superblock *sb, uint64_t slot);
bool slot_is_fill(const struct superblock *sb, uint64_t slot);

struct op op_of(const struct superblock *sb, uint64_t seq);

/* The state of @slot before operation 1, and after operation @seq of kind @kind. */
struct slot_state slot_initial(const struct superblock *sb, uint64_t slot);
void slot_apply(struct slot_state *st, enum op_kind kind, uint64_t seq);

/* Make the record of @seq for @slot in @buf, slot_len() bytes. */
void record_fill(const struct superblock *sb, uint64_t slot, uint64_t seq,
                 uint8_t *buf);

/* The seq in the header, if the header in @buf is one for @slot. */
bool record_header(const struct superblock *sb, uint64_t slot, const uint8_t *buf,
                   uint64_t *seq);

/* -1 if @buf, slot_len() bytes read from @slot, is as @st says; else the offset of the
 * first wrong sector.  An unknown slot may be anything, but a record in it must be whole. */
long slot_check(const struct superblock *sb, uint64_t slot, const struct slot_state *st,
                const uint8_t *buf);

bool all_zero(const uint8_t *buf, size_t len);

/* @words 64-bit words that follow from @key: cheap to make and to compare under an
 * emulated CPU, and not compressible. */
void pattern_fill(uint64_t key, uint64_t *buf, size_t words);
bool pattern_matches(uint64_t key, const uint64_t *buf, size_t words);
uint64_t mix64(uint64_t x);

#endif
