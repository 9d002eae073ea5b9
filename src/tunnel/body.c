#include <string.h>

#include "tunnel/link-int.h"

bool body_add(struct link *l, struct body *b, const uint8_t *p, size_t len)
{
    enum { FIRST = 4096 };

    if (len > JSON_MAX_BYTES - b->len || len > BODIES_MAX - l->bodies)
        return false;
    if (b->len + len > b->size) {
        const size_t want = b->len + len > 2 * b->size ? b->len + len : 2 * b->size;
        const size_t size = want > FIRST ? want : FIRST;
        uint8_t *const more = realloc(b->p, size);

        if (more == NULL)
            return false;
        b->p = more;
        b->size = size;
    }
    memcpy(b->p + b->len, p, len);
    b->len += len;
    l->bodies += len;
    return true;
}

/* @l: the link whose sum body_add() counted it in; NULL: body_of_json() made it. */
void body_free(struct link *l, struct body *b)
{
    if (l != NULL && b->len > 0)
        l->bodies -= b->len;
    free(b->p);
    *b = (struct body){ 0 };
}

bool body_of_json(struct body *b, struct json_object *o)
{
    size_t len;
    const char *const text = json_object_to_json_string_length(
        o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);

    *b = (struct body){ 0 };
    if (text == NULL || (b->p = malloc(len + 1)) == NULL)
        return false;
    memcpy(b->p, text, len);
    b->p[len] = '\0';
    b->len = b->size = len;
    return true;
}

/* nghttp2_data_source_read_callback */
static ssize_t body_read(nghttp2_session *h2, int32_t id, uint8_t *buf, size_t len,
                         uint32_t *flags, nghttp2_data_source *src, void *link)
{
    struct body *const b = src->ptr;
    const size_t n = b->len - b->pos < len ? b->len - b->pos : len;

    (void)h2;
    (void)id;
    (void)link;
    memcpy(buf, b->p + b->pos, n);
    b->pos += n;
    if (b->pos == b->len)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

nghttp2_data_provider body_source(struct body *b)
{
    b->pos = 0;
    return (nghttp2_data_provider){ .source.ptr = b, .read_callback = body_read };
}
