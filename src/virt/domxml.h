/* src/virt/domxml.h - domain XML to facts and back; pure (libxml2, no I/O, no network).
 *
 * Foreign text: at most 4 MiB, DOCTYPE and entities refused, depth bounded (libxml2's own
 * limits stay on).  Errors: ERR_PROTO with the element.
 */
#ifndef SNM_VIRT_DOMXML_H
#define SNM_VIRT_DOMXML_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/findings.h"

enum { DOMXML_MAX = 4 << 20, DOMXML_DISKS_MAX = 64 };

/* A disk whose contents must move. */
struct domdisk {
    char target[32]; /* "vda" */
    char alias[64];  /* "virtio-disk0"; "" in an inactive XML */
    char path[4096]; /* file or block device */
    char format[16]; /* "raw", "qcow2" */
    bool block;      /* type='block' */
};

/* A file of the host that the domain needs but that we do not copy. */
struct domfile {
    char what[40]; /* "cdrom sda", "floppy fda", "NVRAM", "loader", "kernel", ... */
    char path[4096];
    bool optional;            /* startupPolicy optional or requisite */
    char template_path[4096]; /* NVRAM: libvirt makes a missing one from this; or "" */
};

struct domnet {
    char kind[24];    /* "bridge", "network", "direct", "ethernet", "user", ... */
    char source[256]; /* bridge, network or device name */
};

struct dominfo {
    char name[256];
    char uuid[37];
    char type[16]; /* "kvm", "qemu" */
    char arch[32], machine[64], emulator[4096];
    uint64_t memory; /* bytes, the maximum */
    unsigned vcpus;
    char *cpu;      /* the <cpu> element as XML, owned; NULL: none */
    bool iothreads; /* the I/O of a disk or of its controller runs in an iothread */
    struct domdisk *disks;
    size_t ndisks;
    struct domfile *files;
    size_t nfiles;
    struct domnet *nets;
    size_t nnets;
};

/* Facts of @xml.  What could never move is added to @f as blockers (with codes):
 * a disk without explicit format, network or volume disks, shareable, transient, backing or
 * data file outside the image, encryption, other formats than raw and qcow2, hostdev,
 * virtiofs and other filesystems, vhost-user, vdpa, ivshmem, a domain that is not of QEMU,
 * more than DOMXML_DISKS_MAX disks, qemu:commandline (warning).  @f may be NULL. */
MUST_CHECK bool domxml_parse(const char *xml, struct dominfo *out, struct findings *f,
                             struct err *e);
void dominfo_fini(struct dominfo *d);
void dominfo_fini_auto(struct dominfo *d);

/* How one disk looks at the destination. */
struct domdisk_to {
    const char *target; /* which */
    const char *path, *format;
    bool block; /* a block device */
};

/* @xml with the sources of those disks replaced: type='file' and <source file=...>, or
 * type='block' and <source dev=...>, driver type, no <backingStore> chain (an empty element), no index attributes, no slices,
 * no seclabel of the source file.  Everything else byte-identical in meaning.
 * The result is for DEST_XML (of the live, migratable XML) and PERSIST_XML (inactive).
 * *out: free(3).  Errors: ERR_PROTO; ERR_USAGE a target that is not there. */
MUST_CHECK bool domxml_rewrite(const char *xml, const struct domdisk_to *to, size_t n,
                               char **out, struct err *e);

#endif
