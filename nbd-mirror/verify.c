#include "nbd-mirror/verify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/cancel.h"
#include "base/mem.h"
#include "base/thread.h"
#include "nbd-mirror/digest.h"

/* What differs, for the repair.  Of more stretches the last one grows over what is between
 * them: copying what is alike does no harm, and memory is bounded (1 MiB). */
enum { RANGES_MAX = 64 * 1024 };

struct verify {
    const struct verify_cfg *cfg;
    struct verify_result *out;
    struct mirror_range *ranges; /* RANGES_MAX of them, or NULL: not kept */
    size_t nranges;
};

#define SIZE_UNKNOWN UINT64_MAX

/* One side's thread. */
struct side_job {
    struct digest_cfg cfg;
    /* Instead of digest_export(), or NULL. */
    bool (*elsewhere)(void *, const struct digest_cfg *, uint64_t *, struct err *);
    void *elsewhere_ctx;
    struct digest_queue queue;
    counter read;
    uint64_t size;       /* SIZE_UNKNOWN: not learnt */
    struct cancel *stop; /* of both; borrowed */
    pthread_t thread;
    bool ok;
    struct err e;
};

static void *side_thread(void *opaque)
{
    struct side_job *j = opaque;

    j->ok = j->elsewhere != NULL
                ? j->elsewhere(j->elsewhere_ctx, &j->cfg, &j->size, &j->e)
                : digest_export(&j->cfg, &j->size, &j->e);
    if (!j->ok)
        cancel_set(j->stop); /* the other side may be waiting for its server */
    digest_end(&j->queue);
    return NULL;
}

static void on_differs(void *ctx, uint64_t off, uint64_t len)
{
    struct verify *v = ctx;

    v->out->differ += len;
    v->out->stretches++;
    if (v->cfg->differs != NULL)
        v->cfg->differs(v->cfg->ctx, off, len);
    if (v->ranges == NULL)
        return;
    if (v->nranges < RANGES_MAX)
        v->ranges[v->nranges++] = (struct mirror_range){ off, len };
    else
        v->ranges[v->nranges - 1].len = off + len - v->ranges[v->nranges - 1].off;
}

static void on_alike(void *ctx, const struct digest *d)
{
    struct verify *v = ctx;

    v->cfg->alike(v->cfg->ctx, d);
}

/* The error of who failed by itself, not because another had. */
static bool jobs_err(const struct side_job *j, const struct err *comparing,
                     struct err *e)
{
    const struct side_job *first = &j[0];

    if (j[0].ok || (!j[1].ok && j[0].e.kind == ERR_CANCELLED))
        first = &j[1];
    const bool told = !first->ok && first->e.kind == ERR_CANCELLED &&
                      comparing->kind != ERR_NONE && !cancel_is_set(j[0].cfg.cancel);
    *e = first->ok || told ? *comparing : first->e;
    return false;
}

static bool sizes_alike(const struct side_job *j, struct err *e)
{
    if (j[0].size == j[1].size)
        return true;
    return err_set(e, ERR_PROTO, 0,
                   "src has %" PRIu64 " bytes, dst %" PRIu64 ": they cannot be alike",
                   j[0].size, j[1].size);
}

static bool jobs_run(struct verify *v, struct side_job *j, struct err *e)
{
    counter *const compared = (counter *)v->cfg->compared;
    const struct digest_diff diff = { .differs = on_differs,
                                      .alike = v->cfg->alike != NULL ? on_alike : NULL,
                                      .ctx = v,
                                      .compared = compared,
                                      .stretch_max = v->cfg->stretch_max };
    struct err why = { 0 };

    if (!thread_start(&j[0].thread, side_thread, &j[0], "digest-src", e))
        return false;
    if (!thread_start(&j[1].thread, side_thread, &j[1], "digest-dst", e)) {
        cancel_set(j[0].stop);
        digest_shut(&j[0].queue);
        pthread_join(j[0].thread, NULL);
        return false;
    }
    const bool ok = digest_compare(&j[0].queue, &j[1].queue, &diff, &why);
    if (!ok)
        cancel_set(j[0].stop);
    for (int i = 0; i < 2; i++)
        digest_shut(&j[i].queue);
    for (int i = 0; i < 2; i++)
        pthread_join(j[i].thread, NULL);
    if (j[0].size != SIZE_UNKNOWN && j[1].size != SIZE_UNKNOWN && !sizes_alike(j, e))
        return false;
    return ok && j[0].ok && j[1].ok ? true : jobs_err(j, &why, e);
}

static void jobs_free_auto(struct side_job **j)
{
    for (int i = 0; *j != NULL && i < 2; i++)
        digest_queue_fini(&(*j)[i].queue);
    free(*j);
}

/* Compare all, or what @ranges say. */
static bool compare(struct verify *v, const struct mirror_side *src,
                    const struct mirror_side *dst, const struct mirror_range *ranges,
                    size_t nranges, struct err *e)
{
    const struct verify_cfg *cfg = v->cfg;
    AUTO(cancel_free) struct cancel *stop = cancel_new();
    AUTO(jobs_free) struct side_job *j = calloc(2, sizeof *j);

    if (j == NULL || stop == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "no memory");
    for (int i = 0; i < 2; i++) {
        digest_queue_init(&j[i].queue);
        j[i].size = SIZE_UNKNOWN;
        j[i].stop = stop;
        j[i].cfg = (struct digest_cfg){ .name = i == 0 ? "src" : "dst",
                                        .side = i == 0 ? src : dst,
                                        .size = cfg->size,
                                        .ranges = ranges,
                                        .nranges = nranges,
                                        .start = ranges == NULL ? cfg->start : 0,
                                        .block = cfg->block,
                                        .connections = cfg->connections,
                                        .requests = cfg->requests,
                                        .cancel = cfg->cancel,
                                        .stop = stop,
                                        .emit = digest_push,
                                        .ctx = &j[i].queue,
                                        .read = &j[i].read };
    }
    j[0].elsewhere = cfg->src_digests;
    j[0].elsewhere_ctx = cfg->src_ctx;
    j[1].elsewhere = cfg->dst_digests;
    j[1].elsewhere_ctx = cfg->dst_ctx;
    v->out->differ = v->out->stretches = 0;
    const bool ok = jobs_run(v, j, e);
    if (j[0].size != SIZE_UNKNOWN)
        v->out->size = j[0].size;
    for (int i = 0; i < 2; i++)
        v->out->read[i] += counter_get(&j[i].read);
    return ok;
}

static bool cfg_check(const struct verify_cfg *cfg, struct err *e)
{
    const uint32_t block = cfg->block;

    if (cfg->connections > MIRROR_LANES_MAX || cfg->requests > MIRROR_REQUESTS_MAX)
        return err_set(e, ERR_USAGE, 0, "%u connections, %u requests are too many",
                       cfg->connections, cfg->requests);
    if (block != 0 && ((block & (block - 1)) != 0 || block < MIRROR_BLOCK ||
                       block > MIRROR_REQUEST_SIZE_MAX))
        return err_set(e, ERR_USAGE, 0,
                       "a block of %" PRIu32 " bytes is no power of two from %d to %d",
                       block, MIRROR_BLOCK, MIRROR_REQUEST_SIZE_MAX);
    return true;
}

bool verify_run(const struct verify_cfg *cfg, const struct mirror_side *src,
                const struct mirror_side *dst, struct verify_result *out, struct err *e)
{
    struct verify v = { .cfg = cfg, .out = out };

    *out = (struct verify_result){ 0 };
    if (cfg_check(cfg, e) && compare(&v, src, dst, cfg->ranges, cfg->nranges, e))
        return true;
    return err_wrap(e, "%s", cfg->name);
}

/* --- repair --- */

static bool copy_again(const struct verify *v, const struct mirror_cfg *how,
                       const struct mirror_side *src, const struct mirror_side *dst,
                       struct err *e)
{
    const struct mirror_pass pass = { .what = MIRROR_RANGES,
                                      .ranges = v->ranges,
                                      .nranges = v->nranges };
    AUTO(mirror_close) struct mirror *m = NULL;
    struct mirror_cfg cfg = *how;

    cfg.name = v->cfg->name;
    cfg.size = v->out->size;
    cfg.cancel = v->cfg->cancel;
    return mirror_open(&cfg, dst, &m, e) && mirror_pass(m, src, &pass, e) &&
           mirror_flush(m, e);
}

static bool repair(struct verify *v, const struct mirror_cfg *how,
                   const struct mirror_side *src, const struct mirror_side *dst,
                   struct err *e)
{
    struct verify_cfg again = *v->cfg;
    struct verify after = { .cfg = &again, .out = v->out };

    if (!copy_again(v, how, src, dst, e))
        return false; /* named already */
    for (size_t i = 0; i < v->nranges; i++)
        v->out->repaired += v->ranges[i].len;
    again.compared = NULL;
    again.alike = NULL;
    again.size = v->out->size; /* the ranges are of that */
    return compare(&after, src, dst, v->ranges, v->nranges, e)
               ? true
               : err_wrap(e, "%s", v->cfg->name);
}

bool verify_repair(const struct verify_cfg *cfg, const struct mirror_cfg *how,
                   const struct mirror_side *src, const struct mirror_side *dst,
                   struct verify_result *out, struct err *e)
{
    AUTO(mem_free) struct mirror_range *ranges = calloc(RANGES_MAX, sizeof *ranges);
    struct verify v = { .cfg = cfg, .out = out, .ranges = ranges };

    *out = (struct verify_result){ 0 };
    if (ranges == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "%s: no memory", cfg->name);
    if (!cfg_check(cfg, e) || !compare(&v, src, dst, NULL, 0, e))
        return err_wrap(e, "%s", cfg->name);
    return v.nranges == 0 || repair(&v, how, src, dst, e);
}
