/* src/cli/list.h - "snmigrate list [--json]": what moves have left on this host. */
#ifndef SNM_CLI_LIST_H
#define SNM_CLI_LIST_H

#include "base/json.h"
#include "cli/text.h"
#include "migrate/inventory.h"

/* Its whole life, @argv[0] being "list"; returns the exit status: 0, 2 usage, 4 it could not
 * be read. */
int list_main(int argc, char **argv, bool utf8);

/* The state in words: "kept: 1.2 GiB of 4.0 GiB copied".  Pure, as all below. */
void list_state(char out[500], const struct inventory_move *m);
/* All of them as a table, and what can be done. */
void list_text(struct text *t, const struct inventory_move *list, size_t n);
/* One as the object of --json. */
struct json_object *list_json(const struct inventory_move *m);

#endif
