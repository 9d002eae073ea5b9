#include <errno.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "virt/handle.h"
#include "virt/status.h"
#include "virt/virt.h"

/* ---- finding ----------------------------------------------------------------------- */

/* Wrap what a look-up gave.  NULL with "no such domain" is no error: *out stays NULL. */
static bool found(struct virt *v, virDomainPtr dom, struct vdom **out, struct err *e)
{
    AUTO(mem_free) struct vdom *d = calloc(1, sizeof *d);

    *out = NULL;
    if (dom == NULL)
        return virt_code() == VIR_ERR_NO_DOMAIN ||
               virt_fail(e, "cannot look the domain up");
    if (d == NULL) {
        virDomainFree(dom);
        return err_set(e, ERR_SYS, ENOMEM, "domain");
    }
    d->v = v;
    d->dom = dom;
    d->name = virDomainGetName(dom);
    *out = ptr_steal(&d);
    return true;
}

static bool is_uuid(const char *s)
{
    return strlen(s) == VIR_UUID_STRING_BUFLEN - 1 &&
           strspn(s, "0123456789abcdefABCDEF-") == VIR_UUID_STRING_BUFLEN - 1;
}

/* "7" is an id; "007", "-1" and "99999999999" are names. */
static bool is_id(const char *s, int *id)
{
    char back[16];

    if (strlen(s) > strlen("999999999"))
        return false;
    *id = (int)strtol(s, NULL, 10);
    snprintf(back, sizeof back, "%d", *id);
    return *id > 0 && strcmp(back, s) == 0;
}

bool vdom_find(struct virt *v, const char *spec, struct vdom **out, struct err *e)
{
    int id;

    *out = NULL;
    if (is_id(spec, &id) && !found(v, virDomainLookupByID(v->conn, id), out, e))
        return err_wrap(e, "%s", spec);
    if (*out == NULL && is_uuid(spec) && !vdom_find_uuid(v, spec, out, e))
        return false;
    if (*out == NULL && !found(v, virDomainLookupByName(v->conn, spec), out, e))
        return err_wrap(e, "%s", spec);
    return true;
}

bool vdom_find_uuid(struct virt *v, const char *uuid, struct vdom **out, struct err *e)
{
    return found(v, virDomainLookupByUUIDString(v->conn, uuid), out, e) ||
           err_wrap(e, "%s", uuid);
}

void vdom_free(struct vdom *d)
{
    if (d == NULL)
        return;
    watch_stop(d);
    virDomainFree(d->dom);
    free(d);
}

void vdom_free_auto(struct vdom **d)
{
    vdom_free(*d);
}

/* ---- state ------------------------------------------------------------------------- */

static enum vdom_why why_paused(int reason)
{
    switch (reason) {
    case VIR_DOMAIN_PAUSED_USER:
        return VDOM_WHY_USER;
    case VIR_DOMAIN_PAUSED_MIGRATION:
        return VDOM_WHY_MIGRATION;
    case VIR_DOMAIN_PAUSED_IOERROR:
        return VDOM_WHY_IOERROR;
    case VIR_DOMAIN_PAUSED_STARTING_UP:
        return VDOM_WHY_STARTING;
    case VIR_DOMAIN_PAUSED_CRASHED:
        return VDOM_WHY_CRASHED;
    case VIR_DOMAIN_PAUSED_SHUTTING_DOWN:
        return VDOM_WHY_SHUTDOWN;
    case VIR_DOMAIN_PAUSED_POSTCOPY:
    case VIR_DOMAIN_PAUSED_POSTCOPY_FAILED:
        return VDOM_WHY_POSTCOPY;
    default:
        return VDOM_WHY_OTHER;
    }
}

static enum vdom_why why_off(int reason)
{
    switch (reason) {
    case VIR_DOMAIN_SHUTOFF_SHUTDOWN:
        return VDOM_WHY_SHUTDOWN;
    case VIR_DOMAIN_SHUTOFF_DESTROYED:
        return VDOM_WHY_DESTROYED;
    case VIR_DOMAIN_SHUTOFF_CRASHED:
        return VDOM_WHY_CRASHED;
    case VIR_DOMAIN_SHUTOFF_MIGRATED:
        return VDOM_WHY_MIGRATED;
    case VIR_DOMAIN_SHUTOFF_FAILED:
        return VDOM_WHY_FAILED;
    default:
        return VDOM_WHY_OTHER;
    }
}

static void state_of(int state, int reason, enum vdom_run *run, enum vdom_why *why)
{
    *why = VDOM_WHY_OTHER;
    switch (state) {
    case VIR_DOMAIN_RUNNING:
        *run = VDOM_RUNNING;
        return;
    case VIR_DOMAIN_PAUSED:
        *run = VDOM_PAUSED;
        *why = why_paused(reason);
        return;
    case VIR_DOMAIN_SHUTOFF:
        *run = VDOM_OFF;
        *why = why_off(reason);
        return;
    case VIR_DOMAIN_CRASHED: /* on_crash=preserve: QEMU is still there */
        *why = VDOM_WHY_CRASHED;
        *run = VDOM_OTHER;
        return;
    default:
        *run = VDOM_OTHER;
    }
}

bool vdom_state(struct vdom *d, enum vdom_run *run, enum vdom_why *why, struct err *e)
{
    int state, reason;

    if (virDomainGetState(d->dom, &state, &reason, 0) < 0) {
        if (virt_code() != VIR_ERR_NO_DOMAIN)
            return virt_fail(e, "cannot ask for the state of %s", d->name);
        *run = VDOM_NONE;
        *why = VDOM_WHY_OTHER;
        return true;
    }
    state_of(state, reason, run, why);
    return true;
}

const char *vdom_run_name(enum vdom_run run)
{
    static const char *const names[] = {
        [VDOM_NONE] = "absent",
        [VDOM_RUNNING] = "running",
        [VDOM_PAUSED] = "paused",
        [VDOM_OFF] = "shut off",
        [VDOM_OTHER] = "in another state",
    };

    return names[run];
}

/* ---- facts ------------------------------------------------------------------------- */

static bool facts_state(struct vdom *d, struct vdom_facts *out, struct err *e)
{
    int state, reason;

    if (virDomainGetState(d->dom, &state, &reason, 0) < 0)
        return virt_fail(e, "cannot ask for the state");
    state_of(state, reason, &out->run, &out->why);
    out->pmsuspended = state == VIR_DOMAIN_PMSUSPENDED;
    return true;
}

/* The yes/no questions: -1 is an error. */
static bool facts_flags(struct vdom *d, struct vdom_facts *out, struct err *e)
{
    const int persistent = virDomainIsPersistent(d->dom);
    const int saved = persistent >= 0 ? virDomainHasManagedSaveImage(d->dom, 0) : -1;
    int autostart = 0;

    if (persistent < 0 || saved < 0 || virDomainGetAutostart(d->dom, &autostart) < 0)
        return virt_fail(e, "cannot ask how the domain is defined");
    out->persistent = persistent == 1;
    out->managed_save = saved == 1;
    out->autostart = autostart == 1;
    return true;
}

static bool facts_counts(struct vdom *d, struct vdom_facts *out, struct err *e)
{
    const int snapshots = virDomainSnapshotNum(d->dom, 0);
    int checkpoints;

    if (snapshots < 0)
        return virt_fail(e, "cannot count the snapshots");
    checkpoints = virDomainListAllCheckpoints(d->dom, NULL, 0);
    if (checkpoints < 0)
        return virt_fail(e, "cannot count the checkpoints");
    out->snapshots = (unsigned)snapshots;
    out->checkpoints = (unsigned)checkpoints;
    return true;
}

static bool facts_names(struct vdom *d, struct vdom_facts *out, struct err *e)
{
    const unsigned id = virDomainGetID(d->dom);

    if (virDomainGetUUIDString(d->dom, out->uuid) < 0)
        return virt_fail(e, "cannot ask for the domain's uuid");
    if (snprintf(out->name, sizeof out->name, "%s", d->name) >= (int)sizeof out->name)
        return err_set(e, ERR_USAGE, 0, "a domain name of more than %zu bytes",
                       sizeof out->name - 1);
    out->id = id == (unsigned)-1 ? -1 : (int)id;
    return true;
}

bool vdom_facts(struct vdom *d, struct vdom_facts *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    if (!facts_names(d, out, e))
        return false;
    if (!facts_state(d, out, e) || !facts_flags(d, out, e) ||
        !facts_counts(d, out, e) || !vdom_job_active(d, &out->job, e))
        return err_wrap(e, "domain %s", out->name);
    if (out->id >= 0 && d->v->local)
        out->pid = status_qemu_pid(out->name, out->uuid);
    return true;
}

bool vdom_xml(struct vdom *d, enum vdom_xml which, char **out, struct err *e)
{
    static const unsigned flags[] = {
        [VDOM_XML_LIVE] = 0,
        [VDOM_XML_LIVE_MIGRATABLE] = VIR_DOMAIN_XML_MIGRATABLE,
        [VDOM_XML_INACTIVE] = VIR_DOMAIN_XML_INACTIVE,
        [VDOM_XML_INACTIVE_MIGRATABLE] =
            VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_MIGRATABLE,
    };
    char *const xml = virDomainGetXMLDesc(d->dom, VIR_DOMAIN_XML_SECURE | flags[which]);

    if (xml == NULL)
        return virt_fail(e, "cannot get the XML of %s", d->name);
    *out = xml;
    return true;
}

/* ---- doing ------------------------------------------------------------------------- */

/* What a call on the domain gave, as ours: "cannot WHAT NAME: libvirt's text". */
static bool done(struct vdom *d, int rc, const char *what, struct err *e)
{
    return rc >= 0 || virt_fail(e, "cannot %s %s", what, d->name);
}

bool vdom_start(struct vdom *d, struct err *e)
{
    return done(d, virDomainCreate(d->dom), "start", e);
}

bool vdom_suspend(struct vdom *d, struct err *e)
{
    return done(d, virDomainSuspend(d->dom), "suspend", e);
}

bool vdom_resume(struct vdom *d, struct err *e)
{
    return done(d, virDomainResume(d->dom), "resume", e);
}

bool vdom_destroy(struct vdom *d, struct err *e)
{
    enum vdom_run run = VDOM_OTHER;
    enum vdom_why why;
    struct err refusal, ask;

    if (done(d, virDomainDestroy(d->dom), "destroy", &refusal))
        return true;
    if (vdom_state(d, &run, &why, &ask) && (run == VDOM_NONE || run == VDOM_OFF))
        return true; /* gone before or meanwhile: that is what was wanted */
    *e = refusal;
    return false;
}

bool vdom_undefine(struct vdom *d, struct err *e)
{
    enum {
        FLAGS = VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_KEEP_NVRAM |
                VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | VIR_DOMAIN_UNDEFINE_KEEP_TPM
    };
    const int persistent = virDomainIsPersistent(d->dom);

    if (persistent == 0 || (persistent < 0 && virt_code() == VIR_ERR_NO_DOMAIN))
        return true;
    return done(d, persistent, "ask for the definition of", e) &&
           done(d, virDomainUndefineFlags(d->dom, FLAGS), "undefine", e);
}

bool vdom_set_autostart(struct vdom *d, bool on, struct err *e)
{
    return done(d, virDomainSetAutostart(d->dom, on), "set autostart of", e);
}

bool vdom_announce(struct vdom *d, struct err *e)
{
    enum { FIRST_MS = 50, STEP_MS = 150, MOST_MS = 1000, ROUNDS = 8 }; /* over 4 s */
    struct json_object *const a = json_new();

    json_add_u64(json_add_u64(a, "initial", FIRST_MS), "max", MOST_MS);
    json_add_u64(json_add_u64(a, "rounds", ROUNDS), "step", STEP_MS);
    return vdom_qmp(d, "announce-self", a, NULL, e);
}

enum { AGENT_S = 5 }; /* for an answer of a guest agent; libvirt asks twice */

/* By default libvirt waits without end for an agent that has said that it is there, and then
 * stops. */
static void agent_patience(struct vdom *d, int seconds)
{
    if (virDomainAgentSetResponseTimeout(d->dom, seconds, 0) < 0)
        log_debug("virt", "the guest agent of %s may be waited for", d->name);
}

bool vdom_sync_time(struct vdom *d, struct err *e)
{
    agent_patience(d, AGENT_S);
    const bool ok = virDomainSetTime(d->dom, 0, 0, VIR_DOMAIN_TIME_SYNC) == 0;
    const int code = virt_code();
    if (!ok)
        virt_fail(e, "cannot set the clock of %s", d->name);
    agent_patience(d, VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK);
    if (ok)
        return true;
    /* No agent is configured, or none is connected or answers. */
    if (code == VIR_ERR_AGENT_UNRESPONSIVE || code == VIR_ERR_ARGUMENT_UNSUPPORTED ||
        code == VIR_ERR_CONFIG_UNSUPPORTED || code == VIR_ERR_OPERATION_UNSUPPORTED)
        e->kind = ERR_REFUSED;
    return false;
}

/* ---- jobs -------------------------------------------------------------------------- */

bool vdom_job_active(struct vdom *d, bool *active, struct err *e)
{
    virDomainJobInfo info;
    struct err why;

    *active = false;
    if (virDomainGetJobInfo(d->dom, &info) < 0) {
        virt_fail(&why, "cannot ask for the job of %s", d->name);
        if (virDomainIsActive(d->dom) == 0 || virt_code() == VIR_ERR_NO_DOMAIN)
            return true; /* without a QEMU there is none */
        *e = why;
        return false;
    }
    *active =
        info.type == VIR_DOMAIN_JOB_BOUNDED || info.type == VIR_DOMAIN_JOB_UNBOUNDED;
    return true;
}

bool vdom_job_abort(struct vdom *d, struct err *e)
{
    return done(d, virDomainAbortJob(d->dom), "abort the job of", e);
}

bool vdom_set_max_downtime(struct vdom *d, uint64_t ms, struct err *e)
{
    return done(d, virDomainMigrateSetMaxDowntime(d->dom, ms, 0), "set the downtime of",
                e);
}

bool vdom_blockjob(struct vdom *d, const char *target, bool *active, struct err *e)
{
    virDomainBlockJobInfo info;
    const int n = virDomainGetBlockJobInfo(d->dom, target, &info, 0);

    if (n < 0)
        return virt_fail(e, "cannot ask for block jobs on %s", target);
    *active = n == 1;
    return true;
}
