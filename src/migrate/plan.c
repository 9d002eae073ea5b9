#include "migrate/plan.h"

#include <stdio.h>
#include <string.h>

static bool known_format(const char *s)
{
    return strcmp(s, "raw") == 0 || strcmp(s, "qcow2") == 0;
}

/* The option for that target, or NULL; a second one for the same target is a blocker. */
static const struct move_disk_opt *opt_for(const struct move_cfg *cfg,
                                           const char *target, struct findings *f)
{
    const struct move_disk_opt *found = NULL;

    for (size_t i = 0; i < cfg->ndisks; i++) {
        if (strcmp(cfg->disks[i].target, target) != 0)
            continue;
        if (found != NULL)
            findings_add(f, FINDING_BLOCKER, "disk-twice",
                         "Give --disk once per target.", "--disk names %s twice",
                         target);
        found = &cfg->disks[i];
    }
    return found;
}

static void check_opts_used(const struct move_cfg *cfg, const struct dominfo *info,
                            struct findings *f)
{
    for (size_t i = 0; i < cfg->ndisks; i++) {
        bool used = false;
        char next[300];

        for (size_t k = 0; k < info->ndisks; k++)
            used |= strcmp(cfg->disks[i].target, info->disks[k].target) == 0;
        snprintf(next, sizeof next, "See the targets with: virsh domblklist %.200s",
                 cfg->domain);
        if (!used)
            findings_add(f, FINDING_BLOCKER, "disk-unknown", next,
                         "--disk names %s, but the domain has no such disk",
                         cfg->disks[i].target);
    }
}

/* The name of the copy below --disks-to: the source's own name; where the format changes
 * and the name ends in the old one, it ends in the new one; a device gets a name made of
 * the domain's and the target's. */
static void copy_name(const struct dominfo *info, const struct domdisk *d,
                      const char *format, char *out, size_t size)
{
    const char *const slash = strrchr(d->path, '/');
    const char *const base = slash != NULL ? slash + 1 : d->path;
    const char *const dot = strrchr(base, '.');

    if (d->block)
        snprintf(out, size, "%s-%s.%s", info->name, d->target, format);
    else if (dot != NULL && strcmp(dot + 1, d->format) == 0)
        snprintf(out, size, "%.*s.%s", (int)(dot - base), base, format);
    else
        snprintf(out, size, "%s", base);
}

static bool place(const struct move_cfg *cfg, const struct dominfo *info,
                  const struct domdisk *d, const struct move_disk_opt *opt,
                  struct plan_disk *p)
{
    char name[PATHS_MAX];
    const char *dir = cfg->disks_to;
    size_t len;
    int n;

    if (opt != NULL && opt->path[0] != '\0') {
        n = snprintf(p->dst, sizeof p->dst, "%s", opt->path);
    } else if (dir == NULL) {
        n = snprintf(p->dst, sizeof p->dst, "%s", d->path);
    } else {
        copy_name(info, d, p->dst_format, name, sizeof name);
        for (len = strlen(dir); len > 1 && dir[len - 1] == '/';)
            len--;
        n = snprintf(p->dst, sizeof p->dst, "%.*s/%s", (int)len, dir, name);
    }
    return n > 0 && (size_t)n < sizeof p->dst;
}

void plan_make(const struct move_cfg *cfg, const struct dominfo *info, struct plan *out,
               struct findings *f)
{
    memset(out, 0, sizeof *out);
    check_opts_used(cfg, info, f);
    for (size_t i = 0; i < info->ndisks; i++) {
        const struct domdisk *d = &info->disks[i];
        const struct move_disk_opt *opt = opt_for(cfg, d->target, f);
        struct plan_disk *p = &out->disks[out->n++];
        const char *format = opt != NULL && opt->format[0] != '\0' ? opt->format
                             : cfg->format != NULL                 ? cfg->format
                                                                   : d->format;

        snprintf(p->target, sizeof p->target, "%s", d->target);
        snprintf(p->src, sizeof p->src, "%s", d->path);
        snprintf(p->src_format, sizeof p->src_format, "%s", d->format);
        snprintf(p->dst_format, sizeof p->dst_format, "%s", format);
        if (!known_format(format))
            findings_add(f, FINDING_BLOCKER, "format", "Use raw or qcow2.",
                         "disk %s cannot be written as '%s'", d->target, format);
        if (!place(cfg, info, d, opt, p))
            findings_add(f, FINDING_BLOCKER, "path-long", NULL,
                         "the destination path of disk %s is too long", d->target);
        for (size_t k = 0; k + 1 < out->n; k++)
            if (strcmp(out->disks[k].dst, p->dst) == 0)
                findings_add(f, FINDING_BLOCKER, "same-path",
                             "Name one of them with --disk TARGET=PATH.",
                             "disks %s and %s would both become %s",
                             out->disks[k].target, p->target, p->dst);
    }
}
