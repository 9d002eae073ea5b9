/* Preflight: what libvirt can tell about whether the move would work. */
#include <libvirt/virterror.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/units.h"
#include "virt/handle.h"
#include "virt/xml.h"

/* libvirt said no: that is what preflight wants to know, as long as it was not the
 * connection that broke.  false: it was, and @e says so. */
static bool said_no(struct virt *v, struct findings *f, const char *code,
                    const char *next, const char *what, struct err *e)
{
    struct err no;

    virt_fail(&no, "%s", what);
    if (!virt_alive(v)) {
        *e = no;
        return false;
    }
    findings_add(f, FINDING_BLOCKER, code, next, "%.*s",
                 (int)sizeof((struct finding *)0)->what - 1, no.msg);
    return true;
}

/* ---- the destination: is the place free --------------------------------------------- */

static bool uuid_taken(struct vdom *dom, const struct dominfo *want, struct findings *f,
                       struct err *e)
{
    enum vdom_run run;
    enum vdom_why why;
    char next[300];

    if (!vdom_state(dom, &run, &why, e))
        return false;
    if (run == VDOM_OFF || run == VDOM_NONE)
        snprintf(
            next, sizeof next,
            "If it is a leftover, remove it there: virsh undefine %.200s --keep-nvram.",
            dom->name);
    else
        snprintf(
            next, sizeof next,
            "It is %s there.  If that is the guest to keep, do not move this one: it "
            "must not run twice.",
            vdom_run_name(run));
    findings_add(
        f, FINDING_BLOCKER, "uuid-taken", next,
        "the destination already has a domain with the uuid %s, named '%.200s'",
        want->uuid, dom->name);
    return true;
}

static bool check_taken(struct virt *v, const struct dominfo *want, struct findings *f,
                        struct err *e)
{
    AUTO(vdom_free) struct vdom *by_uuid = NULL;
    AUTO(vir_domain) virDomainPtr by_name = NULL;

    if (!vdom_find_uuid(v, want->uuid, &by_uuid, e))
        return false;
    if (by_uuid != NULL)
        return uuid_taken(by_uuid, want, f, e);
    by_name = virDomainLookupByName(v->conn, want->name);
    if (by_name == NULL)
        return virt_code() == VIR_ERR_NO_DOMAIN ||
               virt_fail(e, "cannot look up %s", want->name);
    findings_add(f, FINDING_BLOCKER, "name-taken",
                 "Rename one of the two: virsh domrename OLD NEW (while it is off).",
                 "the destination already has another domain named '%.200s'",
                 want->name);
    return true;
}

/* ---- the destination: can it run this machine ---------------------------------------- */

/* Domain capabilities asked for step by step, so that the first no names its cause. */
static const struct {
    bool virttype, machine;
    const char *code, *what, *next;
} caps_steps[] = {
    { false, false, "emulator", "the destination does not have this emulator",
      "Install QEMU there (Debian: qemu-system-x86), or a link of that name." },
    { true, false, "virt-type", "the destination cannot run this type of guest",
      "For type 'kvm' see that /dev/kvm exists there and is usable." },
    { true, true, "machine-type",
      "the destination's QEMU does not know this machine type",
      "Upgrade QEMU there; virsh domcapabilities lists what it knows." },
};

/* *caps NULL and true: a finding says why. */
static bool domain_caps(struct virt *v, const struct dominfo *want, struct findings *f,
                        char **caps, struct err *e)
{
    const char *const emulator = want->emulator[0] != '\0' ? want->emulator : NULL;

    for (size_t i = 0; i < sizeof caps_steps / sizeof caps_steps[0]; i++) {
        free(*caps);
        *caps = virConnectGetDomainCapabilities(
            v->conn, emulator, want->arch, caps_steps[i].machine ? want->machine : NULL,
            caps_steps[i].virttype ? want->type : NULL, 0);
        if (*caps == NULL)
            return said_no(v, f, caps_steps[i].code, caps_steps[i].next,
                           caps_steps[i].what, e);
    }
    return true;
}

static bool check_vcpus(const char *caps, const struct dominfo *want,
                        struct findings *f, struct err *e)
{
    AUTO(xml_doc) xmlDocPtr doc = NULL;
    char max[16];

    if (!xml_load(caps, "domainCapabilities", &doc, e) ||
        !xml_attr(xml_child(xmlDocGetRootElement(doc), "vcpu"), "max", max, sizeof max,
                  e))
        return err_wrap(e, "domain capabilities");
    if (max[0] != '\0' && strtoul(max, NULL, 10) < want->vcpus)
        findings_add(
            f, FINDING_BLOCKER, "vcpus", NULL,
            "the guest has up to %u CPUs, the destination's machine type at most "
            "%s",
            want->vcpus, max);
    return true;
}

static bool check_machine(struct virt *v, const struct dominfo *want,
                          struct findings *f, bool *runs, struct err *e)
{
    AUTO(mem_free) char *caps = NULL;

    if (!domain_caps(v, want, f, &caps, e))
        return false;
    *runs = caps != NULL;
    return caps == NULL || check_vcpus(caps, want, f, e);
}

/* ---- the destination: its CPU ---------------------------------------------------------- */

/* check='none' says that the user wants the guest to start whatever the CPU lacks. */
static bool compare_cpu(struct virt *v, const struct dominfo *want, bool must,
                        struct findings *f, struct err *e)
{
    const char *const emulator = want->emulator[0] != '\0' ? want->emulator : NULL;
    const int rc = virConnectCompareHypervisorCPU(
        v->conn, emulator, want->arch, want->machine, want->type, want->cpu,
        VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE);

    if (rc > VIR_CPU_COMPARE_INCOMPATIBLE)
        return true;
    if (virt_code() == VIR_ERR_NO_SUPPORT ||
        virt_code() == VIR_ERR_CONFIG_UNSUPPORTED) {
        findings_add(f, FINDING_WARNING, "cpu-unknown", NULL,
                     "the destination cannot say whether its CPU can run this guest");
        return true;
    }
    if (!said_no(v, f, "cpu",
                 "Give the guest a CPU model that both hosts have: virsh "
                 "hypervisor-cpu-baseline.",
                 "the destination's CPU lacks what the guest uses", e))
        return false;
    if (!must)
        f->list[f->n - 1].level = FINDING_WARNING;
    return true;
}

static bool check_cpu(struct virt *v, const struct dominfo *want, struct findings *f,
                      struct err *e)
{
    AUTO(xml_doc) xmlDocPtr doc = NULL;
    xmlNodePtr cpu;

    if (want->cpu == NULL)
        return true;
    if (!xml_load(want->cpu, "cpu", &doc, e))
        return false;
    cpu = xmlDocGetRootElement(doc);
    if (xml_attr_is(cpu, "mode", "host-passthrough") ||
        xml_attr_is(cpu, "mode", "maximum")) {
        findings_add(
            f, FINDING_WARNING, "cpu-passthrough",
            "Move it only between hosts with the same CPU, microcode and kernel.",
            "the guest sees the host's own CPU; on another one it may crash");
        return true;
    }
    return compare_cpu(v, want, !xml_attr_is(cpu, "check", "none"), f, e);
}

/* ---- the destination: memory and networks ---------------------------------------------- */

static bool check_memory(struct virt *v, const struct dominfo *want, struct findings *f,
                         struct err *e)
{
    char need[UNITS_LEN], have[UNITS_LEN];
    struct virt_host host;

    if (!virt_host(v, &host, e))
        return false;
    if (want->memory > host.memory_free)
        findings_add(
            f, FINDING_BLOCKER, "no-memory",
            "Stop or shrink other guests there, or shrink this one: virsh setmem.",
            "the guest needs %s of memory, the destination has %s available",
            units_size(need, want->memory), units_size(have, host.memory_free));
    return true;
}

static bool check_network(struct virt *v, const char *name, struct findings *f,
                          struct err *e)
{
    AUTO(vir_network) virNetworkPtr net = virNetworkLookupByName(v->conn, name);
    const int active = net != NULL ? virNetworkIsActive(net) : -1;

    if (active == 1)
        return true;
    if (active == 0) {
        findings_add(f, FINDING_BLOCKER, "network-inactive",
                     "Start it there: virsh net-start NAME.",
                     "the network '%.200s' is not active at the destination", name);
        return true;
    }
    if (virt_code() == VIR_ERR_NO_SUPPORT) { /* a daemon without network driver */
        findings_add(f, FINDING_WARNING, "network-unknown", NULL,
                     "the destination cannot say whether it has the network '%.200s'",
                     name);
        return true;
    }
    if (virt_code() != VIR_ERR_NO_NETWORK)
        return virt_fail(e, "cannot look up the network %s", name);
    findings_add(f, FINDING_BLOCKER, "no-network",
                 "Define it there: virsh net-dumpxml here, virsh net-define there.",
                 "the destination has no network '%.200s'", name);
    return true;
}

/* Interfaces often share a network: it is asked about once. */
static bool seen_before(const struct dominfo *want, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (strcmp(want->nets[j].kind, want->nets[i].kind) == 0 &&
            strcmp(want->nets[j].source, want->nets[i].source) == 0)
            return true;
    return false;
}

static bool check_networks(struct virt *v, const struct dominfo *want,
                           struct findings *f, struct err *e)
{
    for (size_t i = 0; i < want->nnets; i++)
        if (strcmp(want->nets[i].kind, "network") == 0 && !seen_before(want, i) &&
            !check_network(v, want->nets[i].source, f, e))
            return false;
    return true;
}

bool virt_check_fits(struct virt *v, const struct dominfo *want, struct findings *f,
                     struct err *e)
{
    bool runs;

    return check_taken(v, want, f, e) && check_machine(v, want, f, &runs, e) &&
           (!runs || check_cpu(v, want, f, e)) && check_memory(v, want, f, e) &&
           check_networks(v, want, f, e);
}

/* ---- the source ------------------------------------------------------------------------- */

static void check_state(const struct vdom_facts *d, struct findings *f)
{
    if (d->pmsuspended)
        findings_add(f, FINDING_BLOCKER, "not-running",
                     "Wake it up: virsh dompmwakeup DOMAIN.",
                     "the domain '%.200s' is suspended to RAM", d->name);
    else if (d->id < 0 || (d->run != VDOM_RUNNING && d->run != VDOM_PAUSED))
        findings_add(
            f, FINDING_BLOCKER, "not-running",
            "Start it, or copy the disks and the definition of a domain that is "
            "off.",
            "the domain '%.200s' is not running (%s)", d->name, vdom_run_name(d->run));
    else if (d->why == VDOM_WHY_IOERROR)
        findings_add(f, FINDING_BLOCKER, "io-error",
                     "Repair the storage, then: virsh resume DOMAIN.",
                     "the domain '%.200s' is paused by an I/O error", d->name);
    else if (d->why == VDOM_WHY_MIGRATION || d->why == VDOM_WHY_POSTCOPY ||
             d->why == VDOM_WHY_STARTING)
        findings_add(f, FINDING_BLOCKER, "in-migration",
                     "If an earlier move was interrupted: snmigrate(1), RECOVERY.",
                     "the domain '%.200s' is paused by a migration", d->name);
    else if (d->why == VDOM_WHY_CRASHED)
        findings_add(f, FINDING_BLOCKER, "crashed", "Restart it: virsh reset DOMAIN.",
                     "the domain '%.200s' is paused because the guest crashed",
                     d->name);
}

static void check_definition(const struct vdom_facts *d, struct findings *f)
{
    if (d->snapshots > 0)
        findings_add(f, FINDING_BLOCKER, "snapshots",
                     "Delete them, or forget them: virsh snapshot-delete DOMAIN NAME "
                     "--metadata.",
                     "the domain has %u snapshots, with which libvirt does not migrate",
                     d->snapshots);
    if (d->managed_save)
        findings_add(f, FINDING_BLOCKER, "managed-save",
                     "Remove it: virsh managedsave-remove DOMAIN.",
                     "the domain has a managed save image");
    if (d->job)
        findings_add(f, FINDING_BLOCKER, "job-active",
                     "Wait for it to end: virsh domjobinfo DOMAIN.",
                     "a job (migration, backup, save or dump) is active on the domain");
    if (d->checkpoints > 0)
        findings_add(
            f, FINDING_WARNING, "checkpoints", "The next backup will be a full one.",
            "the domain has %u checkpoints, which stay behind", d->checkpoints);
    if (!d->persistent)
        findings_add(f, FINDING_WARNING, "transient", NULL,
                     "the domain is transient and will be so at the destination");
}

static bool check_block_jobs(struct vdom *d, const struct dominfo *info,
                             struct findings *f, struct err *e)
{
    bool active;

    for (size_t i = 0; i < info->ndisks; i++) {
        if (!vdom_blockjob(d, info->disks[i].target, &active, e))
            return false;
        if (active)
            findings_add(f, FINDING_BLOCKER, "block-job",
                         "Wait for it to end, or: virsh blockjob DOMAIN DISK --abort.",
                         "disk %s has an active block job", info->disks[i].target);
    }
    return true;
}

bool vdom_check_moves(struct vdom *d, const struct dominfo *info, struct findings *f,
                      struct err *e)
{
    struct vdom_facts facts;

    if (!vdom_facts(d, &facts, e))
        return false;
    check_state(&facts, f);
    check_definition(&facts, f);
    return facts.id < 0 || check_block_jobs(d, info, f, e);
}
