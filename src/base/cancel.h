/* src/base/cancel.h - a flag that says "stop", which poll(2) can wait for.
 *
 * Set once, never cleared.  Thread: any, in every function; no lock is taken.
 */
#ifndef SNM_BASE_CANCEL_H
#define SNM_BASE_CANCEL_H

#include "base/err.h"

struct cancel;

/* NULL only when out of memory or descriptors. */
struct cancel *cancel_new(void);
void cancel_free(struct cancel *c);
void cancel_free_auto(struct cancel **c);

/* Ask to stop.  Async-signal-safe. */
void cancel_set(struct cancel *c);

/* @c may be NULL: never cancelled. */
bool cancel_is_set(const struct cancel *c);

/* Readable (POLLIN) for ever once cancelled; -1 for NULL, which poll(2) ignores. */
int cancel_fd(const struct cancel *c);

/* false with ERR_CANCELLED when set. */
MUST_CHECK bool cancel_check(const struct cancel *c, struct err *e);

/* Sleep @ms; false with ERR_CANCELLED as soon as cancelled. */
MUST_CHECK bool cancel_sleep_ms(const struct cancel *c, int ms, struct err *e);

#endif
