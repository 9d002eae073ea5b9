/* src/cli/remote.h - snmigrate status, set, switch and abort: words to a running move. */
#ifndef SNM_CLI_REMOTE_H
#define SNM_CLI_REMOTE_H

#include <stdbool.h>

/* Whether @word as the first argument is one of them. */
bool remote_is_command(const char *word);

/* @argv[0] is the word.  Returns the exit status: 0; 2 usage; 3 there is no such move, or it
 * refuses; 4 it could not be asked; of switch and abort also how the move ended. */
int remote_main(int argc, char **argv, bool utf8);

#endif
