/* src/virt/domrefuse.h - what in a domain cannot move; pure, used by domxml.c only. */
#ifndef SNM_VIRT_DOMREFUSE_H
#define SNM_VIRT_DOMREFUSE_H

#include <libxml/tree.h>

#include "base/findings.h"

/* Add what makes this <disk device='disk'> unfit: its image is not a plain raw or qcow2
 * file or block device that belongs to this guest alone. */
void domrefuse_disk(xmlNodePtr disk, const char *target, struct findings *f);

/* Add everything of <domain> outside its disks that is bound to the host. */
void domrefuse_domain(xmlNodePtr domain, struct findings *f);

#endif
