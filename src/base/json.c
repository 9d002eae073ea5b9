#include "base/json.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

enum { STR_MAX = 4096 };

static void tokener_free_auto(struct json_tokener **t)
{
    if (*t != NULL)
        json_tokener_free(*t);
}

/* UTF-8 is not validated here: a message that was cut in the middle of a character must
 * still be readable, and what is shown goes through log_clean() anyway. */
bool json_parse(const char *text, size_t len, struct json_object **out, struct err *e)
{
    AUTO(tokener_free) struct json_tokener *t = json_tokener_new_ex(JSON_MAX_DEPTH);
    AUTO(json_put) struct json_object *o = NULL;

    if (t == NULL)
        return err_set(e, ERR_PROTO, 0, "JSON: out of memory");
    if (len > JSON_MAX_BYTES)
        return err_set(e, ERR_PROTO, 0, "JSON: %zu bytes, at most %d are taken", len,
                       JSON_MAX_BYTES);
    json_tokener_set_flags(t, JSON_TOKENER_STRICT);
    o = json_tokener_parse_ex(t, text, (int)len);
    /* A number may go on; only the end of the text ends it. */
    if (json_tokener_get_error(t) == json_tokener_continue)
        o = json_tokener_parse_ex(t, "", 1);
    if (json_tokener_get_error(t) == json_tokener_continue)
        return err_set(e, ERR_PROTO, 0, "JSON: cut off after %zu bytes", len);
    if (json_tokener_get_error(t) != json_tokener_success)
        return err_set(e, ERR_PROTO, 0, "JSON: %s at byte %zu",
                       json_tokener_error_desc(json_tokener_get_error(t)),
                       json_tokener_get_parse_end(t));
    if (o == NULL)
        return err_set(e, ERR_PROTO, 0, "JSON: null");
    *out = ptr_steal(&o);
    return true;
}

/* The member @key of @o if it has that type. */
static bool member(struct json_object *o, const char *key, enum json_type type,
                   struct json_object **out, struct err *e)
{
    if (!json_object_object_get_ex(o, key, out))
        return err_set(e, ERR_PROTO, 0, "JSON: no member \"%s\"", key);
    if (!json_object_is_type(*out, type))
        return err_set(e, ERR_PROTO, 0, "JSON: member \"%s\" is %s, not %s", key,
                       json_type_to_name(json_object_get_type(*out)),
                       json_type_to_name(type));
    return true;
}

bool json_get_str(struct json_object *o, const char *key, const char **out,
                  struct err *e)
{
    struct json_object *v;

    if (!member(o, key, json_type_string, &v, e))
        return false;
    const char *const s = json_object_get_string(v);
    const size_t len = (size_t)json_object_get_string_len(v);
    if (len > STR_MAX)
        return err_set(e, ERR_PROTO, 0, "JSON: member \"%s\" has %zu bytes, at most %d",
                       key, len, STR_MAX);
    if (strlen(s) != len)
        return err_set(e, ERR_PROTO, 0, "JSON: member \"%s\" has a NUL in it", key);
    for (const char *p = s; *p != '\0'; p++)
        if ((unsigned char)*p < ' ' || *p == '\177')
            return err_set(e, ERR_PROTO, 0,
                           "JSON: member \"%s\" has control characters", key);
    *out = s;
    return true;
}

bool json_copy_str(struct json_object *o, const char *key, char *dst, size_t size,
                   struct err *e)
{
    const char *s;

    if (!json_get_str(o, key, &s, e))
        return false;
    return (size_t)snprintf(dst, size, "%s", s) < size ||
           err_set(e, ERR_PROTO, 0,
                   "JSON: member \"%s\" is too long, at most %zu bytes fit", key,
                   size - 1);
}

bool json_get_u64(struct json_object *o, const char *key, uint64_t *out, struct err *e)
{
    struct json_object *v;

    if (!member(o, key, json_type_int, &v, e))
        return false;
    if (json_object_get_int64(v) < 0)
        return err_set(e, ERR_PROTO, 0, "JSON: member \"%s\" is negative", key);
    /* json-c 0.16 makes this of every number that is larger. */
    if (json_object_get_uint64(v) == UINT64_MAX)
        return err_set(e, ERR_PROTO, 0, "JSON: member \"%s\" is too large", key);
    *out = json_object_get_uint64(v);
    return true;
}

bool json_get_bool(struct json_object *o, const char *key, bool *out, struct err *e)
{
    struct json_object *v;

    if (!member(o, key, json_type_boolean, &v, e))
        return false;
    *out = json_object_get_boolean(v);
    return true;
}

bool json_get_array(struct json_object *o, const char *key, struct json_object **out,
                    struct err *e)
{
    struct json_object *v;

    if (!member(o, key, json_type_array, &v, e))
        return false;
    *out = v;
    return true;
}

bool json_get_object(struct json_object *o, const char *key, struct json_object **out,
                     struct err *e)
{
    struct json_object *v;

    if (!member(o, key, json_type_object, &v, e))
        return false;
    *out = v;
    return true;
}

bool json_has(struct json_object *o, const char *key)
{
    struct json_object *v;

    return json_object_object_get_ex(o, key, &v) && v != NULL;
}

struct json_object *json_new(void)
{
    struct json_object *const o = json_object_new_object();

    if (o == NULL)
        abort();
    return o;
}

struct json_object *json_add_obj(struct json_object *o, const char *key,
                                 struct json_object *v)
{
    assert(json_object_is_type(o, json_type_object));
    if (json_object_object_add(o, key, v) != 0)
        abort();
    return o;
}

/* json-c says "out of memory" with NULL, which would become a null in the text. */
static struct json_object *must(struct json_object *v)
{
    if (v == NULL)
        abort();
    return v;
}

struct json_object *json_add_str(struct json_object *o, const char *key, const char *v)
{
    return json_add_obj(o, key, v != NULL ? must(json_object_new_string(v)) : NULL);
}

struct json_object *json_add_u64(struct json_object *o, const char *key, uint64_t v)
{
    return json_add_obj(o, key, must(json_object_new_uint64(v)));
}

/* JSON has no infinity: a null then. */
struct json_object *json_add_f(struct json_object *o, const char *key, double v)
{
    return json_add_obj(o, key, isfinite(v) ? must(json_object_new_double(v)) : NULL);
}

struct json_object *json_add_bool(struct json_object *o, const char *key, bool v)
{
    return json_add_obj(o, key, must(json_object_new_boolean(v)));
}
