/* src/base/json.h - json-c with our error convention, and limits for foreign text. */
#ifndef SNM_BASE_JSON_H
#define SNM_BASE_JSON_H

#include <json-c/json.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { JSON_MAX_BYTES = 16 << 20, JSON_MAX_DEPTH = 32 };

static inline void json_put_auto(struct json_object **o)
{
    json_object_put(*o);
}

/* Parse exactly one value of @len bytes, within the limits above.  *out is owned by the
 * caller (json_object_put).  Errors: ERR_PROTO. */
MUST_CHECK bool json_parse(const char *text, size_t len, struct json_object **out,
                           struct err *e);

/* Members of an object.  Borrowed from @o.  Errors: ERR_PROTO missing, or another type;
 * a string with control characters or over 4096 bytes (json_get_str) is refused too, and
 * so is a number that is negative or over UINT64_MAX - 1 (json_get_u64). */
MUST_CHECK bool json_get_str(struct json_object *o, const char *key, const char **out,
                             struct err *e);
/* The same into @dst, of @size bytes; ERR_PROTO: it does not fit. */
MUST_CHECK bool json_copy_str(struct json_object *o, const char *key, char *dst,
                              size_t size, struct err *e);
MUST_CHECK bool json_get_u64(struct json_object *o, const char *key, uint64_t *out,
                             struct err *e);
MUST_CHECK bool json_get_bool(struct json_object *o, const char *key, bool *out,
                              struct err *e);
MUST_CHECK bool json_get_array(struct json_object *o, const char *key,
                               struct json_object **out, struct err *e);
MUST_CHECK bool json_get_object(struct json_object *o, const char *key,
                                struct json_object **out, struct err *e);
/* Whether the member is there and not null. */
bool json_has(struct json_object *o, const char *key);

/* Add members; return @o so that calls can be nested.  Out of memory aborts: these objects
 * are small and ours. */
struct json_object *json_new(void);
struct json_object *json_add_str(struct json_object *o, const char *key, const char *v);
struct json_object *json_add_u64(struct json_object *o, const char *key, uint64_t v);
struct json_object *json_add_f(struct json_object *o, const char *key, double v);
struct json_object *json_add_bool(struct json_object *o, const char *key, bool v);
struct json_object *json_add_obj(struct json_object *o, const char *key,
                                 struct json_object *v); /* takes @v over */

#endif
