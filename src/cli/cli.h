/* src/cli/cli.h - the command "snmigrate", apart from main(), so that a test program
 * can be linked with another move (tests/tools/snmigrate-fake.c). */
#ifndef SNM_CLI_CLI_H
#define SNM_CLI_CLI_H

/* The program from its arguments to its exit status (snmigrate(1)). */
int cli_main(int argc, char **argv);

#endif
