/* record.c - see record.h */
#include "record.h"

#include <assert.h>
#include <string.h>

#define SB_MAGIC     0x314b534944544e53ull /* "SNTDISK1" */
#define RECORD_MAGIC 0x3144524f43455253ull /* "SRECORD1" */
#define WORD_STEP    0x9e3779b97f4a7c15ull /* odd: 2^64 / golden ratio */

enum { RING_SLOTS = 256 };

struct header {
    uint64_t magic, seq, slot, check;
};

enum { HEADER_WORDS = sizeof(struct header) / 8 };

uint64_t mix64(uint64_t x) /* the finalizer of splitmix64 */
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

void pattern_fill(uint64_t key, uint64_t *buf, size_t words)
{
    uint64_t word = mix64(key);

    for (size_t i = 0; i < words; i++) {
        buf[i] = word;
        word += WORD_STEP;
    }
}

bool pattern_matches(uint64_t key, const uint64_t *buf, size_t words)
{
    uint64_t word = mix64(key), diff = 0;

    for (size_t i = 0; i < words; i++) {
        diff |= buf[i] ^ word;
        word += WORD_STEP;
    }
    return diff == 0;
}

bool all_zero(const uint8_t *buf, size_t len)
{
    return len == 0 || (buf[0] == 0 && memcmp(buf, buf + 1, len - 1) == 0);
}

/* ---- superblock -------------------------------------------------------------- */

static uint64_t sb_checksum(const struct superblock *sb)
{
    struct superblock copy = *sb;
    uint64_t words[sizeof copy / 8], sum = SB_MAGIC;

    copy.check = 0;
    memcpy(words, &copy, sizeof copy);
    for (size_t i = 0; i < sizeof copy / 8; i++)
        sum = mix64(sum ^ words[i]);
    return sum;
}

void superblock_seal(struct superblock *sb)
{
    sb->check = sb_checksum(sb);
}

void superblock_init(struct superblock *sb, const char *disk, uint64_t disk_bytes,
                     uint64_t fill_bytes, bool discard, uint64_t seed)
{
    memset(sb, 0, sizeof *sb);
    sb->magic = SB_MAGIC;
    sb->seed = seed;
    sb->disk_bytes = disk_bytes;
    sb->slot_bytes = SLOT_BYTES;
    sb->discard = discard;
    sb->next_start = 1;
    strncpy(sb->disk, disk, sizeof sb->disk - 1);

    const uint64_t free_slots = slot_count(sb) - 1;
    const uint64_t fill = fill_bytes / SLOT_BYTES;
    sb->ring_slots = free_slots < RING_SLOTS ? free_slots : RING_SLOTS;
    sb->fill_slots = fill < free_slots ? fill : free_slots;
    superblock_seal(sb);
}

bool superblock_valid(const struct superblock *sb)
{
    return sb->magic == SB_MAGIC && sb->slot_bytes == SLOT_BYTES &&
           sb->disk_bytes % SECTOR_BYTES == 0 && slot_count(sb) >= 2 &&
           sb->ring_slots >= 1 && sb->ring_slots < slot_count(sb) &&
           sb->disk[sizeof sb->disk - 1] == '\0' && sb->check == sb_checksum(sb);
}

/* ---- slots and operations -------------------------------------------------------- */

uint64_t slot_count(const struct superblock *sb)
{
    return (sb->disk_bytes + SLOT_BYTES - 1) / SLOT_BYTES;
}

size_t slot_len(const struct superblock *sb, uint64_t slot)
{
    const uint64_t left = sb->disk_bytes - slot * SLOT_BYTES;

    return left < SLOT_BYTES ? (size_t)left : SLOT_BYTES;
}

bool slot_is_fill(const struct superblock *sb, uint64_t slot)
{
    const uint64_t n = slot_count(sb) - 1;

    return slot > 0 && slot * sb->fill_slots / n != (slot - 1) * sb->fill_slots / n;
}

/* One operation in 64 goes to the last slot, whose length may be odd; a quarter of the
 * others anywhere; the rest round the ring. */
static uint64_t op_slot(const struct superblock *sb, uint64_t seq, uint64_t dice)
{
    const uint64_t n = slot_count(sb);

    if (dice % 64 == 0)
        return n - 1;
    if ((dice >> 8) % 4 == 0)
        return 1 + (dice >> 16) % (n - 1);
    return 1 + seq % sb->ring_slots;
}

static enum op_kind op_kind(const struct superblock *sb, uint64_t dice)
{
    if (!sb->discard || (dice >> 10) % 16 != 0)
        return OP_WRITE;
    return (dice >> 14) % 2 ? OP_DISCARD : OP_ZERO;
}

struct op op_of(const struct superblock *sb, uint64_t seq)
{
    const uint64_t dice = mix64(sb->seed ^ seq * WORD_STEP);

    return (struct op){ op_kind(sb, dice), op_slot(sb, seq, dice) };
}

struct slot_state slot_initial(const struct superblock *sb, uint64_t slot)
{
    const bool fill = slot_is_fill(sb, slot);

    return (struct slot_state){ 0, fill ? CONTENT_RECORD : CONTENT_ZERO, false };
}

void slot_apply(struct slot_state *st, enum op_kind kind, uint64_t seq)
{
    switch (kind) {
    case OP_WRITE:
        *st = (struct slot_state){ seq, CONTENT_RECORD, false };
        break;
    case OP_ZERO:
        *st = (struct slot_state){ 0, CONTENT_ZERO, false };
        break;
    case OP_DISCARD:
        st->maybe_zero = true;
        break;
    }
}

/* ---- records ------------------------------------------------------------------- */

static uint64_t record_key(const struct superblock *sb, uint64_t slot, uint64_t seq)
{
    return mix64(sb->seed ^ mix64(slot)) ^ seq * WORD_STEP;
}

static struct header header_of(const struct superblock *sb, uint64_t slot, uint64_t seq)
{
    return (struct header){ RECORD_MAGIC, seq, slot, ~record_key(sb, slot, seq) };
}

void record_fill(const struct superblock *sb, uint64_t slot, uint64_t seq, uint8_t *buf)
{
    const struct header h = header_of(sb, slot, seq);
    const size_t words = slot_len(sb, slot) / 8;

    assert(words > HEADER_WORDS);
    pattern_fill(record_key(sb, slot, seq), (uint64_t *)(void *)buf, words);
    memcpy(buf, &h, sizeof h);
}

bool record_header(const struct superblock *sb, uint64_t slot, const uint8_t *buf,
                   uint64_t *seq)
{
    struct header h, want;

    memcpy(&h, buf, sizeof h);
    want = header_of(sb, slot, h.seq);
    *seq = h.seq;
    return memcmp(&h, &want, sizeof h) == 0;
}

/* The whole record at once: the common case, and the loop that must be cheap. */
static bool record_matches(const struct superblock *sb, uint64_t slot, uint64_t seq,
                           const uint8_t *buf)
{
    const uint64_t *words = (const uint64_t *)(const void *)buf;
    const uint64_t key = record_key(sb, slot, seq);
    const struct header h = header_of(sb, slot, seq);
    uint64_t word = mix64(key) + HEADER_WORDS * WORD_STEP, diff = 0;

    for (size_t i = HEADER_WORDS; i < slot_len(sb, slot) / 8; i++) {
        diff |= words[i] ^ word;
        word += WORD_STEP;
    }
    return diff == 0 && memcmp(buf, &h, sizeof h) == 0;
}

static bool sector_matches(const struct slot_state *st, const uint8_t *sector,
                           const uint8_t *want)
{
    if (st->content == CONTENT_RECORD && memcmp(sector, want, SECTOR_BYTES) == 0)
        return true;
    return (st->content == CONTENT_ZERO || st->maybe_zero) &&
           all_zero(sector, SECTOR_BYTES);
}

static long first_wrong_sector(const struct superblock *sb, uint64_t slot,
                               const struct slot_state *st, const uint8_t *buf)
{
    static _Thread_local uint8_t record[SLOT_BYTES] __attribute__((aligned(8)));

    if (st->content == CONTENT_RECORD)
        record_fill(sb, slot, st->seq, record);
    for (size_t off = 0; off < slot_len(sb, slot); off += SECTOR_BYTES)
        if (!sector_matches(st, buf + off, record + off))
            return (long)off;
    return -1;
}

long slot_check(const struct superblock *sb, uint64_t slot, const struct slot_state *st,
                const uint8_t *buf)
{
    struct slot_state found = *st;

    if (st->content == CONTENT_UNKNOWN) {
        if (st->maybe_zero || !record_header(sb, slot, buf, &found.seq))
            return -1;
        found.content = CONTENT_RECORD;
    }
    if (found.content == CONTENT_RECORD && record_matches(sb, slot, found.seq, buf))
        return -1;
    return first_wrong_sector(sb, slot, &found, buf);
}
