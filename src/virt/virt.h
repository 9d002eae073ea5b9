/* src/virt/virt.h - libvirt, and nobody above this folder includes its headers.
 *
 * A connection may be used by several threads, each call alone.  But whoever blocks in
 * vdom_migrate() has connections of its own: monitor and job calls were seen to hang behind
 * it (libvirt 9).
 * One thread, "virt-ev", runs libvirt's event loop; started by virt_init().
 * Errors: ERR_VIRT with libvirt's text (libvirt's own stderr output is silenced),
 * ERR_TIMEOUT for its "cannot acquire state change lock" and agent time-outs.
 */
#ifndef SNM_VIRT_VIRT_H
#define SNM_VIRT_VIRT_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/findings.h"
#include "base/json.h"
#include "virt/domxml.h"

struct virt; /* a connection */
struct vdom; /* a domain on it */
struct cancel;

/* Once, before any other; starts the event thread. */
MUST_CHECK bool virt_init(struct err *e);

/* @uri NULL: qemu:///system. */
MUST_CHECK bool virt_open(const char *uri, struct virt **out, struct err *e);
/* libvirt behind a Unix socket of our own (the tunnel): qemu+unix:///system?socket=PATH */
MUST_CHECK bool virt_open_socket(const char *path, struct virt **out, struct err *e);
void virt_close(struct virt *v);
void virt_close_auto(struct virt **v);
bool virt_alive(struct virt *v);

struct virt_host {
    char hostname[256];
    char uuid[37];
    uint64_t memory_free; /* bytes */
};
MUST_CHECK bool virt_host(struct virt *v, struct virt_host *out, struct err *e);

/* By name, uuid or id (digits: an id first, then a name).  *out NULL and true: there is
 * none.  Owned by the caller (vdom_free); must be freed before its connection. */
MUST_CHECK bool vdom_find(struct virt *v, const char *spec, struct vdom **out,
                          struct err *e);
MUST_CHECK bool vdom_find_uuid(struct virt *v, const char *uuid, struct vdom **out,
                               struct err *e);
void vdom_free(struct vdom *d);
void vdom_free_auto(struct vdom **d);

enum vdom_run { VDOM_NONE, VDOM_RUNNING, VDOM_PAUSED, VDOM_OFF, VDOM_OTHER };
enum vdom_why {
    VDOM_WHY_OTHER,
    VDOM_WHY_USER,
    VDOM_WHY_MIGRATION,
    VDOM_WHY_MIGRATED,
    VDOM_WHY_IOERROR,
    VDOM_WHY_STARTING,
    VDOM_WHY_CRASHED,
    VDOM_WHY_SHUTDOWN,
    VDOM_WHY_FAILED,
    VDOM_WHY_DESTROYED,
    VDOM_WHY_POSTCOPY
};
/* OTHER run: pmsuspended, blocked, shutting down.  A domain that has vanished: VDOM_NONE. */
MUST_CHECK bool vdom_state(struct vdom *d, enum vdom_run *run, enum vdom_why *why,
                           struct err *e);
const char *vdom_run_name(enum vdom_run run);

struct vdom_facts {
    char name[256], uuid[37];
    int id; /* -1: not active */
    enum vdom_run run;
    enum vdom_why why;
    bool pmsuspended;
    bool persistent, autostart, managed_save;
    unsigned snapshots, checkpoints;
    bool job;  /* a domain job is active */
    pid_t pid; /* of QEMU, 0: unknown or not a local connection */
};
MUST_CHECK bool vdom_facts(struct vdom *d, struct vdom_facts *out, struct err *e);

enum vdom_xml {
    VDOM_XML_LIVE,
    VDOM_XML_LIVE_MIGRATABLE,
    VDOM_XML_INACTIVE,
    VDOM_XML_INACTIVE_MIGRATABLE
}; /* all with VIR_DOMAIN_XML_SECURE */
MUST_CHECK bool vdom_xml(struct vdom *d, enum vdom_xml which, char **out,
                         struct err *e);

/* Boot a domain that is off. */
MUST_CHECK bool vdom_start(struct vdom *d, struct err *e);
MUST_CHECK bool vdom_suspend(struct vdom *d, struct err *e);
MUST_CHECK bool vdom_resume(struct vdom *d, struct err *e);
/* Kill it / forget it; already gone is success. */
MUST_CHECK bool vdom_destroy(struct vdom *d, struct err *e);
/* Undefine; keeps NVRAM and TPM state, takes managed save and checkpoint metadata along. */
MUST_CHECK bool vdom_undefine(struct vdom *d, struct err *e);
MUST_CHECK bool vdom_set_autostart(struct vdom *d, bool on, struct err *e);
/* Whether a job is active now; abort it. */
MUST_CHECK bool vdom_job_active(struct vdom *d, bool *active, struct err *e);
MUST_CHECK bool vdom_job_abort(struct vdom *d, struct err *e);
/* ms; QEMU then switches over by itself only below it (an idle guest does anyway). */
MUST_CHECK bool vdom_set_max_downtime(struct vdom *d, uint64_t ms, struct err *e);

/* On arrival.  QEMU tells the switches anew where the guest's NICs are, several times over
 * a few seconds, and does not wait for it; harmless without a NIC. */
MUST_CHECK bool vdom_announce(struct vdom *d, struct err *e);
/* The guest agent sets the guest's clock by its hardware clock.  Errors: ERR_REFUSED there
 * is no agent, or it does not answer; ERR_VIRT.  Blocks: for as long as the agent takes. */
MUST_CHECK bool vdom_sync_time(struct vdom *d, struct err *e);

/* Whether libvirt has a block job on that disk (virDomainGetBlockJobInfo). */
MUST_CHECK bool vdom_blockjob(struct vdom *d, const char *target, bool *active,
                              struct err *e);

/* Lifecycle and job events wake whoever polls *fd (an eventfd of the vdom, readable after
 * each event; read it, then look at the state).  Borrowed until vdom_free(). */
MUST_CHECK bool vdom_watch(struct vdom *d, int *fd, struct err *e);
/* When (clock_ns()) libvirt last said that a migration has stopped the guest; 0: not since
 * vdom_watch().  QEMU may not answer for long after it: it flushes the disks first.
 * Thread: any that knows @d to be alive. */
int64_t vdom_stopped_ns(const struct vdom *d);

/* One QMP command through libvirt; *ret is the "return" member, owned by the caller (may be
 * NULL to ignore).  @args is taken over, may be NULL.  A QMP error is ERR_VIRT with the
 * command and its desc. */
MUST_CHECK bool vdom_qmp(struct vdom *d, const char *command, struct json_object *args,
                         struct json_object **ret, struct err *e);
/* The same handing over one descriptor (getfd); libvirt >= 8.2. */
MUST_CHECK bool vdom_qmp_fd(struct vdom *d, const char *command,
                            struct json_object *args, int fd, struct json_object **ret,
                            struct err *e);

/* Preflight, asked of the destination's libvirt: name or uuid taken, emulator, arch,
 * machine type, virt type, CPU (virConnectCompareHypervisorCPU where the mode is host-model
 * or custom; host-passthrough gives a warning), memory, networks active.
 * Adds to @f; an error is only returned when libvirt itself fails. */
MUST_CHECK bool virt_check_fits(struct virt *v, const struct dominfo *want,
                                struct findings *f, struct err *e);

/* A domain of this host, running or off, other than the one of uuid @but_uuid, that has
 * @path as a disk, under whatever name or as a volume of a storage pool: its name into @name;
 * "": there is none.  Blocks: on libvirt, once for each domain.  Errors: ERR_VIRT. */
MUST_CHECK bool virt_disk_user(struct virt *v, const char *path, const char *but_uuid,
                               char *name, size_t size, struct err *e);
/* Preflight of the source domain: snapshots, jobs, block jobs, managed save, not running,
 * not persistent (warning). */
MUST_CHECK bool vdom_check_moves(struct vdom *d, const struct dominfo *info,
                                 struct findings *f, struct err *e);

/* Memory: virDomainMigrate3, blocking (its own thread and connections).  Flags LIVE,
 * UNSAFE, PERSIST_DEST (when @persist_xml), PAUSED, ABORT_ON_ERROR.
 * @ram_path: of the unix:// URI, the same on both hosts.  true: the destination is defined,
 * loaded and paused, and the source QEMU is gone. */
struct vmigrate {
    const char *dest_xml, *persist_xml; /* @persist_xml NULL: transient */
    const char *ram_path;
    bool auto_converge;
};
MUST_CHECK bool vdom_migrate(struct vdom *d, struct virt *dst, const struct vmigrate *m,
                             struct err *e);

/* What QEMU itself says (query-migrate), which libvirt's statistics smooth over. */
enum vram_status {
    VRAM_NONE,
    VRAM_SETUP,
    VRAM_ACTIVE,
    VRAM_PRE_SWITCHOVER,
    VRAM_DEVICE,
    VRAM_COMPLETED,
    VRAM_FAILED,
    VRAM_CANCELLED,
    VRAM_OTHER
};
struct vram {
    enum vram_status status;
    uint64_t total, remaining; /* bytes */
    uint64_t dirty_rate;       /* bytes/s */
    uint64_t passes;           /* dirty-sync-count */
};
MUST_CHECK bool vdom_ram(struct vdom *d, struct vram *out, struct err *e);

/* How fast the guest, with @memory bytes, dirties them: QEMU hashes some of its pages now and
 * @seconds later (1 to 60); RAM of less than 128 MiB it does not look at.  Only
 * this way of measuring is used: "dirty-bitmap" was seen to kill QEMU 7.2.22 under TCG.
 * Start returns at once; *bytes_per_s of the other is below 0 while it goes on. */
MUST_CHECK bool vdom_dirty_rate_start(struct vdom *d, uint64_t memory, unsigned seconds,
                                      struct err *e);
MUST_CHECK bool vdom_dirty_rate(struct vdom *d, double *bytes_per_s, struct err *e);

/* As whom this host's libvirt runs QEMU (the DAC base label of its capabilities); 0 and 0
 * where it does not say.  Errors: ERR_VIRT, ERR_PROTO. */
MUST_CHECK bool virt_qemu_ids(struct virt *v, uid_t *uid, gid_t *gid, struct err *e);

#endif
