/* nbd-mirror/hot.h - what is written in every round, and waits for the last ones; pure.
 *
 * A round copies what its frozen bitmap marks.  What each of the HOT_ROUNDS rounds before
 * it has marked, too, is hot: it would be written again before the end, whatever is copied
 * of it now.  A round that may leave it out does this:
 *
 *                       hot       not hot
 *   marked              waits     copied
 *   not, but it waited  copied    copied: it has cooled
 *   neither             -         -
 *
 * So what waits after a round is marked by the bitmap of that very round, and the one before
 * that, which marks what waited until then, is not needed any more.  Whoever rotates bitmaps
 * keeps the frozen one until the next round was copied and flushed.  The lists here only tell
 * what to leave out: to forget them all, with the bitmaps merged, loses nothing.
 *
 * Memory is bounded: of more than HOT_MAX stretches the rest is not hot.
 *
 * Thread: one at a time; during a pass the feed's, which asks once at a time.
 */
#ifndef NBD_MIRROR_HOT_H
#define NBD_MIRROR_HOT_H

#include <stddef.h>
#include <stdint.h>

#include "nbd-mirror/mirror.h"

enum {
    HOT_ROUNDS = 3,
    HOT_MAX = 16384, /* stretches: 256 KiB for each list */
};

struct hot;
/* NULL: out of memory. */
struct hot *hot_new(void);
void hot_free(struct hot *h);

/* A round begins; @wait: it leaves out what is hot. */
void hot_begin(struct hot *h, bool wait);
/* It was copied and flushed. */
void hot_end(struct hot *h);
/* All that waits is marked in the bitmap that records: nothing is known any more. */
void hot_forget(struct hot *h);

/* Bytes that the next round may leave out; */
uint64_t hot_bytes(const struct hot *h);
/* bytes that wait. */
uint64_t hot_waiting(const struct hot *h);

/* --- for the feed --- */

/* The bitmap is looked at from its beginning; */
void hot_look(struct hot *h);
/* it marks this, which is behind all that was told since hot_look(). */
void hot_marked(struct hot *h, uint64_t off, uint64_t len);
/* What is to be done about @len bytes at @off, as an answer to BLOCK_STATUS: pairs of a
 * length and flags EXTENTS_OURS_*.  At most HOT_PAIRS_MAX of them; returns how many. */
enum { HOT_PAIRS_MAX = 4 * HOT_MAX + 1 };
size_t hot_pairs(const struct hot *h, uint64_t off, uint32_t len, uint32_t *pairs);

#endif
