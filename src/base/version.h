/* src/base/version.h - which version this is, and what both hosts must agree on. */
#ifndef SNM_BASE_VERSION_H
#define SNM_BASE_VERSION_H

#define SNMIGRATE_VERSION "0.1.0"

/* Of the control protocol (src/README.md); a peer with another number is refused. */
enum { AGENT_PROTOCOL = 4 };

#endif
