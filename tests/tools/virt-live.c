/* virt-live - drive src/virt against a real libvirt and QEMU, for tests/integ/virt-*.sh
 *
 *   virt-live facts NAME                 look a running domain up, suspend, resume
 *   virt-live blk NAME                   bitmaps and exports, a full cycle
 *   virt-live blk-each NAME              every disk is found, exported and records writes
 *   virt-live blk-refused NAME           the probe refuses it; prints why
 *   virt-live blk-close NAME first|after close NBD clients before or after the export goes;
 *                                        prints whether QEMU survived it
 *   virt-live blk-fd NAME                the NBD server by a descriptor
 *   virt-live blk-foreign NAME           an NBD server of another program is left alone
 *   virt-live lost NAME CMD              the connection breaks when CMD (sh -c) runs
 *   virt-live blk-changed NAME CMD       bitmaps are on while CMD (sh -c) changes the disks
 *   virt-live blk-cleanup NAME           after a dead move: nothing is left
 *   virt-live blk-keep NAME              a move that was stopped in a round is gone on with
 *   virt-live slow NAME                  disks and CPUs slowed, and as they were again
 *   virt-live check NAME URI             preflight; prints "LEVEL CODE WHAT" lines
 *   virt-live fits NAME URI              would what NAME is not run there?
 *   virt-live migrate NAME URI SOCKET    RAM to the libvirt at URI through SOCKET
 *
 * A failed check prints where and ends the program with status 1.
 */
#include <libnbd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "virt/blk.h"
#include "virt/throttle.h"
#include "virt/virt.h"

#define ID "5afe1a2bcccccccccccccccccccccccc"

static struct err e;

#define CHECK(x) ((x) ? (void)0 : fail(#x, __func__, __LINE__))

static void fail(const char *what, const char *func, int line)
{
    fprintf(stderr, "%s:%d: failed: %s (last error: %s%s%s)\n", func, line, what, e.msg,
            e.next[0] != '\0' ? "; next: " : "", e.next);
    exit(1);
}

/* ---- helpers ----------------------------------------------------------------------- */

static struct vdom *find(struct virt *v, const char *spec)
{
    struct vdom *d = NULL;

    CHECK(vdom_find(v, spec, &d, &e));
    CHECK(d != NULL);
    return d;
}

static void parse(struct vdom *d, struct dominfo *info)
{
    AUTO(mem_free) char *xml = NULL;

    CHECK(vdom_xml(d, VDOM_XML_LIVE, &xml, &e));
    CHECK(domxml_parse(xml, info, NULL, &e));
}

/* Write as the guest would: "write -P 17 0 64k" on disk @i. */
static void guest_io(struct blk *b, size_t i, const char *command)
{
    AUTO(json_put) struct json_object *ret = NULL;
    char line[512];

    snprintf(line, sizeof line, "qemu-io -d %s \"%s\"", b->disks[i].qdev, command);
    CHECK(vdom_qmp(b->dom, "human-monitor-command",
                   json_add_str(json_new(), "command-line", line), &ret, &e));
}

static struct nbd_handle *client(struct blk *b, const char *name, const char *bitmap)
{
    struct nbd_handle *const nbd = nbd_create();
    char context[128];

    CHECK(nbd != NULL && nbd_set_export_name(nbd, name) == 0);
    snprintf(context, sizeof context, "qemu:dirty-bitmap:%s", bitmap);
    CHECK(nbd_add_meta_context(nbd, bitmap[0] != '\0' ? context : "base:allocation") ==
          0);
    CHECK(nbd_connect_unix(nbd, b->sock) == 0);
    CHECK(nbd_is_read_only(nbd) == 1);
    CHECK(nbd_can_multi_conn(nbd) == 1);
    return nbd;
}

struct sum {
    uint64_t off, dirty, first; /* bytes; @first dirty one */
};

static int on_extent(void *user, const char *context, uint64_t off, uint32_t *entries,
                     size_t n, int *error)
{
    struct sum *const s = user;

    (void)context, (void)error;
    s->off = off;
    for (size_t i = 0; i < n; i += 2) {
        if (entries[i + 1] & 1) {
            if (s->dirty == 0)
                s->first = s->off;
            s->dirty += entries[i];
        }
        s->off += entries[i];
    }
    return 0;
}

static struct sum extents(struct nbd_handle *nbd, uint64_t size)
{
    struct sum s = { 0, 0, 0 };

    while (s.off < size)
        CHECK(nbd_block_status(
                  nbd, size - s.off, s.off,
                  (nbd_extent_callback){ .callback = on_extent, .user_data = &s },
                  0) == 0);
    return s;
}

static void expect_byte(struct nbd_handle *nbd, uint64_t off, unsigned char want)
{
    unsigned char buf[512];

    CHECK(nbd_pread(nbd, buf, sizeof buf, off, 0) == 0);
    for (size_t i = 0; i < sizeof buf; i++)
        CHECK(buf[i] == want);
}

static void bye(struct nbd_handle *nbd)
{
    CHECK(nbd_shutdown(nbd, 0) == 0);
    nbd_close(nbd);
}

/* How long the list is that a QMP command gives; @otherwise if it gives none. */
static unsigned count_or(struct vdom *d, const char *command, unsigned otherwise)
{
    AUTO(json_put) struct json_object *list = NULL;

    return vdom_qmp(d, command, NULL, &list, &e)
               ? (unsigned)json_object_array_length(list)
               : otherwise;
}

static unsigned count(struct vdom *d, const char *command)
{
    const unsigned n = count_or(d, command, 99999);

    CHECK(n != 99999);
    return n;
}

/* Nothing of any move is left in QEMU: no export, bitmap or server. */
static void expect_clean(struct vdom *d)
{
    AUTO(json_put) struct json_object *nodes = NULL;
    struct json_object *args = json_add_str(json_new(), "type", "inet"), *addr;

    CHECK(count(d, "query-block-exports") == 0);
    CHECK(vdom_qmp(d, "query-named-block-nodes", NULL, &nodes, &e));
    CHECK(strstr(json_object_to_json_string(nodes), "dirty-bitmaps") == NULL);

    /* A server can be started: so none was left. */
    addr = json_add_str(json_add_str(json_new(), "host", "127.0.0.1"), "port", "0");
    args = json_add_obj(json_new(), "addr", json_add_obj(args, "data", addr));
    CHECK(vdom_qmp(d, "nbd-server-start", args, NULL, &e));
    CHECK(vdom_qmp(d, "nbd-server-stop", NULL, NULL, &e));
}

static void dirty(struct blk *b, uint64_t want0, uint64_t want1)
{
    uint64_t bytes[DOMXML_DISKS_MAX];

    CHECK(blk_dirty(b, bytes, &e));
    if (bytes[0] != want0 || bytes[1] != want1)
        fprintf(stderr, "dirty: %llu and %llu\n", (unsigned long long)bytes[0],
                (unsigned long long)bytes[1]);
    CHECK(bytes[0] == want0 && bytes[1] == want1);
}

/* ---- facts ------------------------------------------------------------------------- */

static bool readable(int fd, int ms)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    uint64_t n;

    return poll(&p, 1, ms) == 1 && read(fd, &n, sizeof n) == sizeof n;
}

static void expect_state(struct vdom *d, enum vdom_run run, enum vdom_why why)
{
    enum vdom_run r;
    enum vdom_why w;

    CHECK(vdom_state(d, &r, &w, &e));
    CHECK(r == run);
    CHECK(why == VDOM_WHY_OTHER || w == why);
}

static void facts_lookups(struct virt *v, const char *name, const struct vdom_facts *f)
{
    char id[16];
    AUTO(vdom_free) struct vdom *by_uuid = find(v, f->uuid);
    AUTO(vdom_free) struct vdom *none = NULL;

    snprintf(id, sizeof id, "%d", f->id);
    AUTO(vdom_free) struct vdom *by_id = find(v, id);
    struct vdom_facts g;
    CHECK(vdom_facts(by_id, &g, &e) && strcmp(g.name, name) == 0);
    CHECK(vdom_facts(by_uuid, &g, &e) && strcmp(g.name, name) == 0);
    CHECK(vdom_find(v, "no-such-domain", &none, &e) && none == NULL);
    CHECK(vdom_find(v, "4242", &none, &e) && none == NULL);
    CHECK(vdom_find(v, "aaaaaaaa-4c6c-4dcc-8000-000000000000", &none, &e) &&
          none == NULL);
    CHECK(vdom_find_uuid(v, "aaaaaaaa-4c6c-4dcc-8000-000000000000", &none, &e) &&
          none == NULL);
}

static void facts_xml(struct vdom *d, const char *name)
{
    const enum vdom_xml kinds[] = { VDOM_XML_LIVE, VDOM_XML_LIVE_MIGRATABLE,
                                    VDOM_XML_INACTIVE, VDOM_XML_INACTIVE_MIGRATABLE };

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        AUTO(mem_free) char *xml = NULL;
        AUTO(mem_free) char *moved = NULL;
        AUTO(dominfo_fini) struct dominfo info = { 0 };
        AUTO(dominfo_fini) struct dominfo then = { 0 };
        const struct domdisk_to to = { "vda", "/srv/a \"<&'>b", "qcow2", false };
        CHECK(vdom_xml(d, kinds[i], &xml, &e));
        CHECK(domxml_parse(xml, &info, NULL, &e) && strcmp(info.name, name) == 0);
        CHECK(domxml_rewrite(xml, &to, 1, &moved, &e));
        CHECK(domxml_parse(moved, &then, NULL, &e));
        CHECK(strcmp(then.disks[0].path, to.path) == 0);
        CHECK((info.disks[0].alias[0] != '\0') == (kinds[i] == VDOM_XML_LIVE));
    }
}

static void facts_pause(struct vdom *d)
{
    int fd;
    bool active = true;

    CHECK(vdom_watch(d, &fd, &e));
    CHECK(vdom_suspend(d, &e));
    CHECK(readable(fd, 5000));
    expect_state(d, VDOM_PAUSED, VDOM_WHY_USER);
    CHECK(vdom_suspend(d, &e)); /* twice is fine */
    CHECK(vdom_resume(d, &e));
    CHECK(readable(fd, 5000));
    expect_state(d, VDOM_RUNNING, VDOM_WHY_OTHER);
    CHECK(vdom_job_active(d, &active, &e) && !active);
    active = true;
    CHECK(vdom_blockjob(d, "vda", &active, &e) && !active);
    CHECK(!vdom_blockjob(d, "vdz", &active, &e) && e.kind == ERR_VIRT);
    CHECK(!vdom_job_abort(d, &e) && e.kind == ERR_VIRT);
}

static void facts_qmp(struct vdom *d)
{
    AUTO(json_put) struct json_object *ret = NULL;
    struct vram ram;
    const char *status;

    CHECK(vdom_qmp(d, "query-status", NULL, &ret, &e));
    CHECK(json_get_str(ret, "status", &status, &e) && strcmp(status, "running") == 0);
    CHECK(!vdom_qmp(d, "no-such-command", NULL, NULL, &e));
    CHECK(e.kind == ERR_VIRT && strstr(e.msg, "no-such-command") != NULL);
    CHECK(vdom_ram(d, &ram, &e) && ram.status == VRAM_NONE);
}

static int run_facts(struct virt *v, char **args)
{
    AUTO(vdom_free) struct vdom *d = find(v, args[0]);
    struct virt_host host;
    struct vdom_facts f;

    CHECK(virt_alive(v));
    CHECK(virt_host(v, &host, &e));
    CHECK(strlen(host.uuid) == 36 && host.hostname[0] != '\0');
    CHECK(host.memory_free > 64 << 20);
    CHECK(vdom_facts(d, &f, &e));
    CHECK(strcmp(f.name, args[0]) == 0 && f.id > 0 && f.run == VDOM_RUNNING && !f.job);
    CHECK(f.pid > 1 && kill(f.pid, 0) == 0);
    CHECK(f.persistent && !f.autostart && f.snapshots == 0);
    CHECK(vdom_set_autostart(d, true, &e) && vdom_facts(d, &f, &e) && f.autostart);
    CHECK(vdom_set_autostart(d, false, &e) && vdom_facts(d, &f, &e) && !f.autostart);
    facts_lookups(v, args[0], &f);
    facts_xml(d, args[0]);
    facts_pause(d);
    facts_qmp(d);
    CHECK(!virt_open("qemu+unix:///system?socket=/nowhere", &v, &e));
    CHECK(e.kind == ERR_CONNECT && e.next[0] != '\0');
    return 0;
}

/* Nothing hangs, leaks or crashes when libvirtd goes; a new connection finds all again. */
static int run_lost(struct virt *v, char **args)
{
    AUTO(virt_close) struct virt *again = NULL;
    AUTO(vdom_free) struct vdom *d2 = NULL;
    struct vdom *d = find(v, args[0]);
    struct vdom_facts before, after;
    enum vdom_run run;
    enum vdom_why why;
    int fd;

    CHECK(vdom_facts(d, &before, &e));
    CHECK(vdom_watch(d, &fd, &e));
    CHECK(virt_alive(v));
    CHECK(system(args[1]) == 0);
    CHECK(!vdom_state(d, &run, &why, &e) && e.kind == ERR_VIRT);
    puts(e.msg);
    CHECK(!virt_alive(v));
    CHECK(!vdom_suspend(d, &e) && !vdom_facts(d, &after, &e));
    vdom_free(d);

    CHECK(virt_open(NULL, &again, &e));
    d2 = find(again, args[0]);
    CHECK(vdom_watch(d2, &fd, &e));
    CHECK(vdom_facts(d2, &after, &e));
    CHECK(after.pid == before.pid && after.run == before.run);
    return 0;
}

/* ---- bitmaps and exports ------------------------------------------------------------ */

static void blk_start(struct vdom *d, struct blk *b)
{
    AUTO(dominfo_fini) struct dominfo info = { 0 };

    parse(d, &info);
    CHECK(info.ndisks >= 2);
    CHECK(blk_probe(d, ID, &info, b, &e));
}

static void blk_bulk(struct blk *b)
{
    char name[64], bitmap[64];

    CHECK(blk_server_start(b, &e) && b->server_ours);
    CHECK(blk_bitmaps_start(b, &e));
    dirty(b, 0, 0);
    for (size_t i = 0; i < b->ndisks; i++) {
        CHECK(blk_export(b, i, false, name, bitmap, &e));
        struct nbd_handle *nbd = client(b, name, bitmap);
        CHECK((uint64_t)nbd_get_size(nbd) == b->disks[i].size);
        bye(nbd);
        CHECK(blk_unexport(b, i, &e));
    }
}

/* The frozen bitmap says exactly what was written before; later writes are in the new. */
static void blk_round(struct blk *b)
{
    char name[64], bitmap[64];
    struct sum s;

    guest_io(b, 0, "write -P 17 1M 128k");
    guest_io(b, 1, "write -P 18 0 4k"); /* one bit: 64 KiB */
    dirty(b, 128 << 10, 64 << 10);
    CHECK(blk_bitmaps_rotate(b, &e));
    dirty(b, 0, 0);
    guest_io(b, 0, "write -P 19 8M 64k");

    CHECK(blk_export(b, 0, true, name, bitmap, &e));
    struct nbd_handle *nbd = client(b, name, bitmap);
    s = extents(nbd, b->disks[0].size);
    CHECK(s.dirty == 128 << 10 && s.first == 1 << 20);
    expect_byte(nbd, 1 << 20, 17);
    bye(nbd);
    CHECK(!blk_bitmap_drop(b, false, &e)); /* exported: busy */
    CHECK(blk_unexport(b, 0, &e));
    CHECK(blk_unexport(b, 0, &e)); /* not there: fine */
    CHECK(blk_bitmap_drop(b, false, &e));
    dirty(b, 64 << 10, 0);
}

static void blk_failed_round(struct blk *b)
{
    guest_io(b, 1, "write -P 20 1M 64k");
    CHECK(blk_bitmaps_rotate(b, &e));
    guest_io(b, 1, "write -P 21 2M 64k");
    dirty(b, 0, 64 << 10);
    CHECK(blk_bitmaps_settle(b, &e));
    dirty(b, 64 << 10, 128 << 10);
    CHECK(blk_bitmaps_rotate(b, &e));
    CHECK(blk_bitmap_drop(b, false, &e));
    dirty(b, 0, 0);
}

/* What waits is marked by the bitmap of its round, which is held until the next one ended; a
 * failure brings all of it back. */
static void blk_held_round(struct blk *b)
{
    guest_io(b, 0, "write -P 22 1M 64k");
    CHECK(blk_bitmaps_rotate(b, &e) && b->frozen[0] == 64 << 10 && b->frozen[1] == 0);
    CHECK(blk_bitmap_drop(b, true, &e) && b->held);
    guest_io(b, 1, "write -P 23 1M 128k");
    CHECK(blk_bitmaps_rotate(b, &e) && b->frozen[0] == 0 && b->frozen[1] == 128 << 10);
    guest_io(b, 0, "write -P 24 4M 64k");
    CHECK(blk_bitmaps_settle(b, &e) && !b->held); /* in the middle of that round */
    dirty(b, 128 << 10, 128 << 10);
    CHECK(blk_bitmaps_rotate(b, &e) && blk_bitmap_drop(b, true, &e));
    CHECK(blk_bitmaps_settle(b, &e)); /* between two rounds */
    dirty(b, 128 << 10, 128 << 10);
    CHECK(blk_bitmaps_rotate(b, &e) && blk_bitmap_drop(b, true, &e));
    CHECK(blk_bitmaps_rotate(b, &e) && blk_bitmap_drop(b, false, &e) && !b->held);
    CHECK(blk_bitmaps_settle(b, &e)); /* nothing is left of both */
    dirty(b, 0, 0);
}

/* A client that does not go is cut off, after a grace. */
static void blk_stuck_client(struct blk *b)
{
    char name[64], bitmap[64], buf[512];
    const int64_t start = clock_ms();

    CHECK(blk_export(b, 0, false, name, bitmap, &e));
    struct nbd_handle *nbd = client(b, name, bitmap);
    CHECK(blk_unexport(b, 0, &e));
    CHECK(clock_ms() - start >= 4500);
    CHECK(nbd_pread(nbd, buf, sizeof buf, 0, 0) == -1);
    nbd_close(nbd);
}

static int run_blk(struct virt *v, char **args)
{
    AUTO(vdom_free) struct vdom *d = find(v, args[0]);
    AUTO(mem_free) struct blk *b = malloc(sizeof *b);
    uint64_t size, used;

    CHECK(blk_cleanup(d, NULL, &e));
    blk_start(d, b);
    for (size_t i = 0; i < b->ndisks; i++) {
        CHECK(blk_usage(b, i, &size, &used, &e) && size == b->disks[i].size);
        printf("%s %s %s %llu\n", b->disks[i].target, b->disks[i].qdev,
               b->disks[i].node, (unsigned long long)size);
    }
    blk_bulk(b);
    printf("socket %s set-active %d\n", b->sock, b->has_set_active);
    blk_round(b);
    blk_failed_round(b);
    blk_held_round(b);
    blk_stuck_client(b);
    if (b->has_set_active)
        CHECK(blk_activate(b, 0, &e));
    else
        CHECK(!blk_activate(b, 0, &e));
    CHECK(blk_cleanup(d, ID, &e));
    CHECK(access(b->sock, F_OK) != 0);
    expect_clean(d);
    CHECK(blk_cleanup(d, ID, &e)); /* nothing to do */
    return 0;
}

static int run_blk_each(struct virt *v, char **args)
{
    AUTO(vdom_free) struct vdom *d = find(v, args[0]);
    AUTO(mem_free) struct blk *b = malloc(sizeof *b);
    AUTO(dominfo_fini) struct dominfo info = { 0 };
    uint64_t bytes[DOMXML_DISKS_MAX], size, used;

    parse(d, &info);
    CHECK(blk_probe(d, ID, &info, b, &e) && b->ndisks == info.ndisks);
    blk_bulk(b);
    for (size_t i = 0; i < b->ndisks; i++) {
        CHECK(blk_usage(b, i, &size, &used, &e));
        guest_io(b, i, "write -P 17 0 512");
        CHECK(blk_dirty(b, bytes, &e));
        printf("%s %s %s size=%llu dirty=%llu\n", b->disks[i].target, b->disks[i].qdev,
               b->disks[i].node, (unsigned long long)size,
               (unsigned long long)bytes[i]);
    }
    CHECK(blk_bitmaps_rotate(b, &e) && blk_bitmaps_settle(b, &e));
    CHECK(blk_bitmaps_rotate(b, &e) && blk_bitmap_drop(b, false, &e));
    CHECK(blk_cleanup(d, ID, &e));
    expect_clean(d);
    return 0;
}

static int run_blk_refused(struct virt *v, char **args)
{
    AUTO(vdom_free) struct vdom *d = find(v, args[0]);
    AUTO(mem_free) struct blk *b = malloc(sizeof *b);
    AUTO(dominfo_fini) struct dominfo info = { 0 };

    parse(d, &info);
    CHECK(!blk_probe(d, ID, &info, b, &e) && e.kind == ERR_REFUSED &&
          e.next[0] != '\0');
    puts(e.msg);
    return 0;
}

/* What a probe would refuse: see tests/platform/nbd-iothread-close.sh. */
static int run_blk_close(struct virt *v, char **args)
{
    AUTO(vdom_free) struct vdom *d = find(v, args[0]);
    AUTO(mem_free) struct blk *b = malloc(sizeof *b);
    AUTO(dominfo_fini) struct dominfo info = { 0 };
    const bool first = strcmp(args[1], "first") == 0;
    char name[64], bitmap[64], buf[512];
    bool alive = true;

    parse(d, &info);
    info.iothreads = false;
    CHECK(blk_cleanup(d, NULL, &e));
    CHECK(blk_probe(d, ID, &info, b, &e) && blk_server_start(b, &e));
    for (int i = 0; i < 10 && alive; i++) {
        CHECK(blk_export(b, 0, false, name, bitmap, &e));
        struct nbd_handle *nbd = client(b, name, bitmap);
        CHECK(nbd_pread(nbd, buf, sizeof buf, 0, 0) == 0);
        if (first)
            nbd_close(nbd);
        alive = blk_cleanup(d, ID, &e) && count_or(d, "query-block-exports", 99) == 0;
        if (!first)
            nbd_close(nbd);
        b->server_ours = false;
        alive = alive && blk_server_start(b, &e);
    }
    puts(alive ? "survived" : "died");
    return 0;
}

/* A directory in the way of the socket makes QEMU fail as a confined one would. */
static int run_blk_fd(struct virt *v, char **args)
{
    AUTO(vdom_free) struct vdom *d = find(v, args[0]);
    AUTO(mem_free) struct blk *b = malloc(sizeof *b);
    char command[512];

    blk_start(d, b);
    snprintf(command, sizeof command,
             "cd /var/lib/libvirt/qemu/domain-*-%s && mkdir snm-%.8s-nbd", args[0], ID);
    CHECK(system(command) == 0);
    blk_bulk(b);
    printf("socket %s\n", b->sock);
    CHECK(strncmp(b->sock, "/run/snmigrate/", 15) == 0);
    blk_round(b);
    CHECK(blk_cleanup(d, NULL, &e)); /* finds it without the id, too */
    CHECK(access(b->sock, F_OK) != 0);
    expect_clean(d);
    return system("rmdir /var/lib/libvirt/qemu/domain-*/snm-*-nbd") == 0 ? 0 : 1;
}

static int run_blk_foreign(struct virt *v, char **args)
{
    AUTO(vdom_free) struct vdom *d = find(v, args[0]);
    AUTO(mem_free) struct blk *b = malloc(sizeof *b);
    AUTO(dominfo_fini) struct dominfo info = { 0 };
    struct json_object *addr = json_add_str(json_new(), "host", "127.0.0.1"), *x;

    blk_start(d, b);
    addr = json_add_obj(json_add_str(json_new(), "type", "inet"), "data",
                        json_add_str(addr, "port", "0"));
    CHECK(vdom_qmp(d, "nbd-server-start", json_add_obj(json_new(), "addr", addr), NULL,
                   &e));
    CHECK(!blk_server_start(b, &e) && e.kind == ERR_REFUSED && e.next[0] != '\0');
    puts(e.msg);
    x = json_add_str(json_add_str(json_new(), "type", "nbd"), "id", "backup-1");
    x = json_add_str(json_add_str(x, "node-name", b->disks[0].node), "name",
                     "backup-1");
    CHECK(vdom_qmp(d, "block-export-add", x, NULL, &e));
    parse(d, &info);
    CHECK(!blk_probe(d, ID, &info, b, &e) && e.kind == ERR_REFUSED &&
          e.next[0] != '\0');
    puts(e.msg);

    CHECK(blk_cleanup(d, NULL, &e));
    CHECK(count(d, "query-block-exports") == 1); /* not ours: still there */
    CHECK(vdom_qmp(d, "nbd-server-stop", NULL, NULL, &e));
    expect_clean(d);
    return 0;
}

static int run_blk_changed(struct virt *v, char **args)
{
    AUTO(vdom_free) struct vdom *d = find(v, args[0]);
    AUTO(mem_free) struct blk *b = malloc(sizeof *b);
    uint64_t bytes[DOMXML_DISKS_MAX];

    blk_start(d, b);
    CHECK(blk_bitmaps_start(b, &e));
    CHECK(blk_bitmaps_rotate(b, &e) && blk_bitmap_drop(b, false, &e));
    CHECK(blk_dirty(b, bytes, &e));
    CHECK(system(args[1]) == 0);
    CHECK(!blk_dirty(b, bytes, &e));
    puts(e.msg);
    CHECK(e.kind == ERR_REFUSED && strstr(e.msg, "the disk set changed") != NULL);
    CHECK(!blk_bitmaps_rotate(b, &e));
    CHECK(blk_cleanup(d, NULL, &e));
    expect_clean(d);
    return 0;
}

static int run_blk_cleanup(struct virt *v, char **args)
{
    AUTO(vdom_free) struct vdom *d = find(v, args[0]);
    AUTO(mem_free) struct blk *b = malloc(sizeof *b);
    char name[64], bitmap[64];
    pid_t dead;

    fflush(stdout);
    dead = fork(); /* a move that dies with its NBD connection open */
    if (dead == 0) {
        char *again[] = { (char *)"virt-live", (char *)"blk-abandon", args[0], NULL };
        execv("/proc/self/exe", again);
        _exit(1);
    }
    int status;
    CHECK(waitpid(dead, &status, 0) == dead && WIFSIGNALED(status));
    CHECK(count(d, "query-block-exports") == 2);

    blk_start(d, b); /* leftovers of ours are no obstacle for a look, */
    CHECK(!blk_server_start(b, &e) && e.kind == ERR_REFUSED); /* but for more */
    puts(e.next);
    CHECK(blk_cleanup(d, NULL, &e));
    expect_clean(d);
    CHECK(blk_server_start(b, &e) && blk_bitmaps_start(b, &e));
    CHECK(blk_export(b, 1, false, name, bitmap, &e));
    CHECK(
        blk_cleanup(d, "0123456789abcdef0123456789abcdef", &e)); /* another move's id */
    CHECK(count(d, "query-block-exports") == 1);
    CHECK(blk_cleanup(d, ID, &e));
    expect_clean(d);
    return 0;
}

/* A move that ended in a round, its frozen bitmap exported and a client connected: what that
 * and the active one marked is in the one that is kept, which goes on recording. */
static int run_blk_keep(struct virt *v, char **args)
{
    static const char other[] = "0123456789abcdef0123456789abcdef";
    AUTO(vdom_free) struct vdom *d = find(v, args[0]);
    AUTO(mem_free) struct blk *b = malloc(sizeof *b);
    char name[64], bitmap[64];

    CHECK(blk_cleanup(d, NULL, &e));
    CHECK(!blk_keep(d, ID, &e) && e.kind == ERR_REFUSED); /* there is none */
    blk_start(d, b);
    CHECK(!blk_bitmaps_adopt(b, &e) && e.kind == ERR_REFUSED);
    blk_bulk(b);
    guest_io(b, 0, "write -P 30 1M 64k");
    CHECK(blk_bitmaps_rotate(b, &e));
    guest_io(b, 0, "write -P 31 4M 64k");
    guest_io(b, 1, "write -P 32 4M 64k");
    CHECK(blk_export(b, 0, true, name, bitmap, &e));
    struct nbd_handle *nbd = client(b, name, bitmap);
    CHECK(blk_keep(d, ID, &e));
    nbd_close(nbd);
    CHECK(count(d, "query-block-exports") == 0);
    CHECK(access(b->sock, F_OK) != 0);
    CHECK(blk_keep(d, ID, &e)); /* nothing to do */

    CHECK(blk_cleanup(d, other, &e) && blk_cleanup_others(d, ID, &e));
    guest_io(b, 1, "write -P 33 8M 64k");
    blk_start(d, b); /* of the next process */
    CHECK(blk_bitmaps_adopt(b, &e) && b->generation == 1);
    dirty(b, 128 << 10, 128 << 10);
    CHECK(blk_server_start(b, &e) && blk_bitmaps_rotate(b, &e));
    CHECK(!blk_bitmaps_adopt(b, &e) && e.kind == ERR_REFUSED); /* in a round */
    CHECK(blk_bitmaps_settle(b, &e));
    dirty(b, 128 << 10, 128 << 10);
    CHECK(blk_cleanup_others(d, other, &e));
    expect_clean(d);
    return 0;
}

static int run_blk_abandon(struct virt *v, char **args)
{
    struct vdom *d = find(v, args[0]);
    struct blk *b = malloc(sizeof *b);
    char name[64], bitmap[64];

    blk_start(d, b);
    CHECK(blk_server_start(b, &e) && blk_bitmaps_start(b, &e));
    CHECK(blk_bitmaps_rotate(b, &e));
    CHECK(blk_export(b, 0, true, name, bitmap, &e));
    client(b, name, bitmap);
    CHECK(blk_export(b, 1, true, name, bitmap, &e));
    raise(SIGKILL);
    return 1;
}

/* ---- preflight ----------------------------------------------------------------------- */

static int run_check(struct virt *v, char **args)
{
    AUTO(vdom_free) struct vdom *d = find(v, args[0]);
    AUTO(virt_close) struct virt *dst = NULL;
    AUTO(dominfo_fini) struct dominfo info = { 0 };
    AUTO(findings_fini) struct findings f = { NULL, 0 };
    AUTO(mem_free) char *xml = NULL;
    struct vdom_facts facts;

    CHECK(virt_open(args[1], &dst, &e));
    CHECK(vdom_facts(d, &facts, &e));
    CHECK(vdom_xml(d, VDOM_XML_LIVE, &xml, &e));
    CHECK(domxml_parse(xml, &info, &f, &e));
    CHECK(vdom_check_moves(d, &info, &f, &e));
    CHECK(virt_check_fits(dst, &info, &f, &e));
    for (size_t i = 0; i < f.n; i++)
        printf("%s %s %s [%s]\n",
               f.list[i].level == FINDING_BLOCKER ? "blocker" : "warning",
               f.list[i].code, f.list[i].what, f.list[i].next);
    return 0;
}

/* One doctored fact at a time: @code is what comes out, alone; "" for nothing. */
static void expect_fit(struct virt *dst, const struct dominfo *want, const char *code)
{
    AUTO(findings_fini) struct findings f = { NULL, 0 };

    CHECK(virt_check_fits(dst, want, &f, &e));
    for (size_t i = 0; i < f.n; i++)
        printf("%s: %s\n", f.list[i].code, f.list[i].what);
    if (f.n != (code[0] != '\0') || (f.n == 1 && strcmp(f.list[0].code, code) != 0))
        fprintf(stderr, "expected '%s', got %zu findings\n", code, f.n);
    CHECK(f.n == (code[0] != '\0') && (f.n == 0 || strcmp(f.list[0].code, code) == 0));
}

static void fits_cpus(struct virt *dst, struct dominfo *want)
{
    static const struct {
        const char *cpu, *code;
    } cpus[] = {
        { "<cpu mode='host-passthrough' check='none'/>", "cpu-passthrough" },
        { "<cpu mode='custom' match='exact' check='full'><model>qemu64</model></cpu>",
          "" },
        { "<cpu mode='custom' match='exact' check='full'><model>qemu64</model>"
          "<feature policy='require' name='avx512f'/></cpu>",
          "cpu" },
        { "<cpu mode='custom' match='exact' check='none'><model>qemu64</model>"
          "<feature policy='require' name='avx512f'/></cpu>",
          "cpu" },
        { "<cpu mode='custom' match='exact' check='full'><model>power11</model></cpu>",
          "cpu" },
    };
    char *const own = want->cpu;

    for (size_t i = 0; i < sizeof cpus / sizeof cpus[0]; i++) {
        want->cpu = (char *)cpus[i].cpu;
        expect_fit(dst, want, cpus[i].code);
    }
    want->cpu = own;
}

static int run_fits(struct virt *v, char **args)
{
    AUTO(vdom_free) struct vdom *d = find(v, args[0]);
    AUTO(virt_close) struct virt *dst = NULL;
    AUTO(dominfo_fini) struct dominfo own = { 0 };
    struct domnet nets[] = { { .kind = "network", .source = "nowhere" },
                             { .kind = "bridge", .source = "br0" },
                             { .kind = "network", .source = "nowhere" } };
    struct dominfo want;

    CHECK(virt_open(args[1], &dst, &e));
    parse(d, &own);
    want = own;
    expect_fit(dst, &want, "");
    fits_cpus(dst, &want);
    snprintf(want.emulator, sizeof want.emulator, "/usr/libexec/qemu-kvm");
    expect_fit(dst, &want, "emulator");
    want = own;
    snprintf(want.machine, sizeof want.machine, "pc-q35-99.0");
    expect_fit(dst, &want, "machine-type");
    want = own;
    want.memory = 1ull << 60;
    expect_fit(dst, &want, "no-memory");
    want = own;
    want.vcpus = 60000;
    expect_fit(dst, &want, "vcpus");
    want = own;
    want.nets = nets;
    want.nnets = 3;
    expect_fit(dst, &want, "no-network");
    return 0;
}

/* ---- throttle ------------------------------------------------------------------------ */

static void same(struct json_object *a, struct json_object *b)
{
    if (!json_object_equal(a, b))
        fprintf(stderr, "%s\nis not\n%s\n", json_object_to_json_string(b),
                json_object_to_json_string(a));
    CHECK(json_object_equal(a, b));
}

/* The limit is there, also beside one that the disk had; then all is as before. */
static void slow_disk_and_back(struct vdom *d, const struct blkdisk *disk)
{
    AUTO(json_put) struct json_object *before = NULL;
    AUTO(json_put) struct json_object *during = NULL;
    AUTO(json_put) struct json_object *after = NULL;
    AUTO(mem_free) char *xml = NULL;
    AUTO(mem_free) char *then = NULL;
    uint64_t total, writes;

    CHECK(vdom_xml(d, VDOM_XML_LIVE_MIGRATABLE, &xml, &e));
    CHECK(throttle_read(d, disk->qdev, &before, &e));
    CHECK(throttle_writes(d, before, 2000000, "snm-5afe1a2b-x", &e));
    CHECK(throttle_read(d, disk->qdev, &during, &e));
    CHECK(json_get_u64(during, "bps", &total, &e));
    CHECK(json_get_u64(during, "bps_wr", &writes, &e));
    CHECK(total + writes == 2000000);
    CHECK(json_has(during, "group"));
    CHECK(vdom_xml(d, VDOM_XML_LIVE_MIGRATABLE, &then, &e));
    CHECK(strcmp(xml, then) == 0); /* the destination will not hear of it */
    CHECK(throttle_writes(d, before, 1000000, "snm-5afe1a2b-x", &e)); /* a step more */
    CHECK(throttle_restore(d, THROTTLE_DISK, before, &e));
    CHECK(throttle_read(d, disk->qdev, &after, &e));
    same(before, after);
    printf("%s: %s\n", disk->target, json_object_to_json_string(before));
}

static void slow_cpus_and_back(struct vdom *d)
{
    AUTO(json_put) struct json_object *before = NULL;
    AUTO(json_put) struct json_object *during = NULL;
    AUTO(json_put) struct json_object *after = NULL;
    uint64_t most;

    CHECK(throttle_cpus_read(d, &before, &e));
    CHECK(throttle_cpus(d, 1, &e));
    CHECK(throttle_cpus(d, 90, &e));
    CHECK(throttle_cpus(d, 25, &e));
    CHECK(throttle_cpus_read(d, &during, &e));
    CHECK(json_get_u64(during, "max-cpu-throttle", &most, &e) && most == 25);
    CHECK(throttle_restore(d, THROTTLE_MIGRATION, before, &e));
    CHECK(throttle_cpus_read(d, &after, &e));
    same(before, after);
}

/* What a move that was killed with its guard left on a disk that had no limit. */
static void slow_and_sweep(struct vdom *d, const struct blkdisk *disk)
{
    AUTO(json_put) struct json_object *before = NULL;
    AUTO(json_put) struct json_object *after = NULL;

    CHECK(throttle_read(d, disk->qdev, &before, &e));
    CHECK(!json_has(before, "group"));
    CHECK(throttle_writes(d, before, 2000000, "snm-5afe1a2b-x", &e));
    CHECK(blk_cleanup(d, "01234567", &e)); /* of another move: not its own */
    CHECK(throttle_read(d, disk->qdev, &after, &e));
    CHECK(!json_object_equal(before, after));
    json_object_put(after);
    after = NULL;
    CHECK(blk_cleanup(d, NULL, &e));
    CHECK(throttle_read(d, disk->qdev, &after, &e));
    same(before, after);
}

static int run_slow(struct virt *v, char **args)
{
    AUTO(vdom_free) struct vdom *d = find(v, args[0]);
    AUTO(json_put) struct json_object *none = NULL;
    struct blk b;

    blk_start(d, &b);
    for (size_t i = 0; i < b.ndisks; i++)
        slow_disk_and_back(d, &b.disks[i]);
    slow_and_sweep(d, &b.disks[1]);
    slow_cpus_and_back(d);
    CHECK(!throttle_read(d, "/machine/peripheral/none", &none, &e));
    CHECK(e.kind == ERR_REFUSED);
    return 0;
}

/* PATH BUT-UUID: whose disk it is. */
static int run_disk_user(struct virt *v, char **args)
{
    char name[256];

    CHECK(virt_disk_user(v, args[0], args[1], name, sizeof name, &e));
    printf("%s\n", name[0] != '\0' ? name : "nobody's");
    return 0;
}

/* ---- memory -------------------------------------------------------------------------- */

/* Asks about RAM on a connection of its own until QEMU is gone, as a move does. */
struct ram_poll {
    const char *name;
    unsigned active, other; /* answers */
    uint64_t most;          /* bytes done, of one pass */
};

static void *poll_ram(void *arg)
{
    struct ram_poll *const p = arg;
    struct virt *v;
    struct vram ram;
    struct err why;

    CHECK(virt_open(NULL, &v, &why));
    AUTO(vdom_free) struct vdom *d = find(v, p->name);
    while (vdom_ram(d, &ram, &why)) {
        p->active += ram.status == VRAM_ACTIVE;
        p->other += ram.status != VRAM_ACTIVE;
        CHECK(ram.remaining <= ram.total && ram.status != VRAM_OTHER);
        if (ram.total - ram.remaining > p->most)
            p->most = ram.total - ram.remaining;
        clock_sleep_ms(2);
    }
    printf("ram: active %u times, else %u times, %llu bytes; then: %s\n", p->active,
           p->other, (unsigned long long)p->most, why.msg);
    vdom_free(d);
    d = NULL;
    virt_close(v);
    return NULL;
}

static int run_migrate(struct virt *v, char **args)
{
    AUTO(vdom_free) struct vdom *d = find(v, args[0]);
    AUTO(virt_close) struct virt *dst = NULL;
    AUTO(mem_free) char *live = NULL;
    AUTO(mem_free) char *inactive = NULL;
    AUTO(vdom_free) struct vdom *there = NULL;
    struct vdom_facts before, after;
    struct vmigrate m = { .ram_path = args[2] };
    struct ram_poll ram = { .name = args[0] };
    pthread_t thread;

    CHECK(virt_open(args[1], &dst, &e));
    CHECK(vdom_facts(d, &before, &e));
    CHECK(vdom_set_max_downtime(d, 200, &e));
    CHECK(vdom_xml(d, VDOM_XML_LIVE_MIGRATABLE, &live, &e));
    CHECK(vdom_xml(d, VDOM_XML_INACTIVE_MIGRATABLE, &inactive, &e));
    m.dest_xml = live;
    m.persist_xml = inactive;
    CHECK(pthread_create(&thread, NULL, poll_ram, &ram) == 0);
    CHECK(vdom_migrate(d, dst, &m, &e));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(ram.active > 0 && ram.most > 0);
    CHECK(kill(before.pid, 0) != 0);
    expect_state(d, VDOM_OFF, VDOM_WHY_MIGRATED);

    CHECK(vdom_find_uuid(dst, before.uuid, &there, &e) && there != NULL);
    expect_state(there, VDOM_PAUSED, VDOM_WHY_USER);
    CHECK(vdom_facts(there, &after, &e));
    CHECK(after.persistent && !after.job && after.pid == 0); /* not of this host */
    CHECK(vdom_resume(there, &e));
    expect_state(there, VDOM_RUNNING, VDOM_WHY_OTHER);
    CHECK(vdom_undefine(d, &e));
    expect_state(d, VDOM_NONE, VDOM_WHY_OTHER);
    CHECK(vdom_undefine(d, &e) && vdom_destroy(d, &e)); /* gone is fine */
    CHECK(vdom_destroy(there, &e));
    CHECK(vdom_destroy(there, &e));
    CHECK(vdom_undefine(there, &e));
    return 0;
}

/* ---- main ---------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int nargs;
    int (*run)(struct virt *v, char **args);
} scenarios[] = {
    { "facts", 1, run_facts },
    { "blk", 1, run_blk },
    { "blk-each", 1, run_blk_each },
    { "blk-refused", 1, run_blk_refused },
    { "blk-close", 2, run_blk_close },
    { "lost", 2, run_lost },
    { "blk-fd", 1, run_blk_fd },
    { "blk-foreign", 1, run_blk_foreign },
    { "blk-changed", 2, run_blk_changed },
    { "blk-cleanup", 1, run_blk_cleanup },
    { "blk-keep", 1, run_blk_keep },
    { "blk-abandon", 1, run_blk_abandon },
    { "slow", 1, run_slow },
    { "disk-user", 2, run_disk_user },
    { "check", 2, run_check },
    { "fits", 2, run_fits },
    { "migrate", 3, run_migrate },
};

int main(int argc, char **argv)
{
    AUTO(virt_close) struct virt *v = NULL;

    log_init(LOG_DEBUG, "src");
    CHECK(virt_init(&e));
    CHECK(virt_open(NULL, &v, &e));
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++)
        if (argc == scenarios[i].nargs + 2 && strcmp(argv[1], scenarios[i].name) == 0)
            return scenarios[i].run(v, argv + 2);
    fprintf(stderr, "usage: see the head of tests/tools/virt-live.c\n");
    return 2;
}
