/* Before an earlier try is gone on with: do its images hold what we think they do?
 *
 * Random blocks of what is safe are digested on both sides.  One that differs must be marked
 * in a bitmap: the guest has written it since.  QEMU is asked for that after both were read,
 * by a rotation, which waits for what is being written.  One that is not marked proves that
 * somebody has changed the image (a backup that was restored, another tool): then that disk
 * is copied anew. */
#include <errno.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "migrate/move-int.h"
#include "migrate/suspects.h"

enum { BLOCKS = 64 };

struct sample {
    struct copy_disk *disk;
    struct suspects looked, differ, wrong;
};

static bool choose(struct sample *s, struct err *e)
{
    uint64_t random[BLOCKS];

    if (!random_bytes(random, sizeof random, e))
        return false;
    suspects_sample(&s->looked, s->disk->safe - s->disk->safe % MIRROR_BLOCK, BLOCKS,
                    random);
    return true;
}

static bool compare(struct sample *s, struct err *e)
{
    const struct mirror_side src = copy_source(s->disk);
    struct compare_look l = { .only = &s->looked, .differ = &s->differ };

    return compare_look(s->disk, &src, &l, e);
}

static bool excuse(struct sample *s, struct err *e)
{
    const struct mirror_side src = copy_source(s->disk);

    return compare_excuse(s->disk, &src, &s->differ, &s->wrong, e);
}

/* --- all disks --- */

/* With the disk's export there meanwhile. */
static bool exported(struct move *m, struct sample *s, bool bitmap,
                     bool (*run)(struct sample *s, struct err *e), struct err *e)
{
    const size_t i = s->disk->index;

    return blk_export(&m->blk, i, bitmap, s->disk->export_name, s->disk->bitmap, e) &&
           run(s, e) && blk_unexport(&m->blk, i, e);
}

static bool judge(struct move *m, const struct sample *s, struct err *e)
{
    if (s->wrong.n == 0)
        return true;
    log_warn("resume",
             "%s: what is on %s is not what was copied (%llu of %llu bytes that were "
             "looked at, the first at %llu): both sides are compared",
             m->plan.disks[s->disk->index].target, m->cfg->dest.host,
             (unsigned long long)suspects_bytes(&s->wrong),
             (unsigned long long)suspects_bytes(&s->looked),
             (unsigned long long)s->wrong.list[0].off);
    s->disk->safe = 0;
    s->disk->compare = true;
    return kept_lower(m, e);
}

static bool look(struct move *m, struct sample *list, struct err *e)
{
    bool differ = false;

    for (size_t i = 0; i < m->plan.n; i++) {
        list[i].disk = &m->copies[i];
        if (!choose(&list[i], e) ||
            (list[i].looked.n > 0 && !exported(m, &list[i], false, compare, e)))
            return false;
        log_info("resume", "%s: %llu of %llu bytes that were looked at differ",
                 m->plan.disks[i].target,
                 (unsigned long long)suspects_bytes(&list[i].differ),
                 (unsigned long long)suspects_bytes(&list[i].looked));
        differ |= list[i].differ.n > 0;
    }
    if (!differ)
        return true;
    if (!blk_bitmaps_rotate(&m->blk, e))
        return false;
    for (size_t i = 0; i < m->plan.n; i++)
        if (list[i].differ.n > 0 && !exported(m, &list[i], true, excuse, e))
            return false;
    return blk_bitmaps_settle(&m->blk, e);
}

bool sample_run(struct move *m, struct err *e)
{
    AUTO(mem_free) struct sample *list = calloc(m->plan.n, sizeof *list);

    if (!m->unproved)
        return true;
    if (list == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "sample");
    if (!fault_point("sample", e) || !look(m, list, e))
        return err_wrap(e, "comparing with an earlier try");
    for (size_t i = 0; i < m->plan.n; i++)
        if (!judge(m, &list[i], e))
            return false;
    m->unproved = false;
    return true;
}
