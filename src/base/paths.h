/* src/base/paths.h - the places that both hosts agree on; pure. */
#ifndef SNM_BASE_PATHS_H
#define SNM_BASE_PATHS_H

#include "base/err.h"

#define PATHS_STATE "/var/lib/snmigrate" /* + /<id>/journal; on both hosts */
#define PATHS_RUN   "/run/snmigrate"     /* + /<id>/, sockets */

enum { PATHS_ID_LEN = 32, PATHS_MAX = 4096, PATHS_SOCK_MAX = 108 };

/* A move's id: 32 lower-case hex digits, random. */
MUST_CHECK bool paths_new_id(char id[PATHS_ID_LEN + 1], struct err *e);
bool paths_id_ok(const char *id);

/* PATHS_STATE/<id> and PATHS_RUN/<id>. */
void paths_state_dir(char out[PATHS_MAX], const char *id);
void paths_run_dir(char out[PATHS_MAX], const char *id);

/* Where RAM passes on both hosts: the same string (libvirt's unix:// URI), in a 0700
 * directory owned by the QEMU user:
 *   /run/libvirt/snmigrate-<id8>/ram.tunnelmigrate.dest.<name>
 * which libvirt's AppArmor profile allows; without the name where the path would
 * be too long or the name holds a '/'. */
void paths_ram_dir(char out[PATHS_MAX], const char *id);
void paths_ram_sock(char out[PATHS_SOCK_MAX], const char *id, const char *name);

#endif
