/* src/cli/json_out.h - the objects of --json; pure.  Every field is in snmigrate(1).
 *
 * Sizes are bytes, rates bytes per second (whole numbers), times as the names say; what
 * is not known is null.  Strings are cleaned (log_clean).  The caller owns what is
 * returned.
 */
#ifndef SNM_CLI_JSON_OUT_H
#define SNM_CLI_JSON_OUT_H

#include "base/json.h"
#include "migrate/move.h"

struct json_object *json_out_progress(const struct move_progress *p);
/* The trend of that name; unknown for another. */
enum move_trend json_out_trend(const char *name);
struct json_object *json_out_finding(const struct finding *f);
struct json_object *json_out_forecast(const struct forecast *f);
struct json_object *json_out_result(const struct move_cfg *cfg,
                                    const struct move_result *r);

/* Parts of them: an error (NULL: there is none), a list of texts, a foreign string. */
struct json_object *json_out_error(const struct err *e);
struct json_object *json_out_texts(const struct texts *t);
void json_out_clean(struct json_object *o, const char *key, const char *s);

/* It and a newline, in one write(2) where the kernel can; @o is released. */
MUST_CHECK bool json_out_write(int fd, struct json_object *o, struct err *e);

#endif
