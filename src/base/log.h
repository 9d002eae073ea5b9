/* src/base/log.h - one line per event on stderr:
 *
 *   12:04:31.118 src info disks: disk=vda round=2 dirty=12.0MiB took=1.93s
 *
 * error: the command failed (said once, by cli/ or agent/); warn: we went another way;
 * info: a phase or round ended; debug: a decision and its inputs; trace: per frame.
 * Foreign text is escaped on the way out; never a secret, never guest data.
 * Thread: any.
 */
#ifndef SNM_BASE_LOG_H
#define SNM_BASE_LOG_H

#include "base/err.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE, LOG_LEVELS };

/* Where complete lines go (no newline at the end); the default writes to stderr. */
typedef void (*log_sink)(enum log_level level, const char *line, void *ctx);

/* @who: "src", "dst" or "guard"; borrowed for ever.  Call before threads start. */
void log_init(enum log_level max, const char *who);
void log_set_sink(log_sink sink, void *ctx);

/* @topic: the module's name for the reader, one word: "disks", "tunnel". */
PRINTF(3, 4)
void log_line(enum log_level level, const char *topic, const char *fmt, ...);

/* A line that the other host's agent wrote; printed with the @who prefix if it has none. */
void log_foreign(const char *who, const char *text);

/* Copy @s with control characters and invalid UTF-8 written as \xNN; at most @size bytes
 * with the NUL.  Returns @dst.  For every foreign string that a terminal may see. */
char *log_clean(char *dst, unsigned long size, const char *s);

#define log_warn(topic, ...)  log_line(LOG_WARN, topic, __VA_ARGS__)
#define log_info(topic, ...)  log_line(LOG_INFO, topic, __VA_ARGS__)
#define log_debug(topic, ...) log_line(LOG_DEBUG, topic, __VA_ARGS__)

#endif
