/* check-disk - does a disk hold every operation that the test guest acknowledged?
 *
 *   check-disk [--window N] DISK IMAGE CONSOLE...
 *
 * IMAGE is a raw image, a file or "-" for standard input (qemu-img convert -O raw; nbdcopy).  The CONSOLE logs
 * may come in any order: the number of an operation tells of which boot it is.
 *
 * Every byte of the disk is checked, not only the records: see record.h.  Operations that
 * the guest may have done without having said so yet, at most N (4096) after each
 * last ack, may be on the disk or not; a slot that holds a mixture of two such
 * conditions is "torn", which only a guest that was killed can leave, one per disk.
 *
 * Exit status: 0 all is there, 1 something is missing (the first violations are printed),
 * 2 usage, or the input cannot be read.
 */
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WINDOW = 4096, MAX_SHOWN = 10, MAX_BOOTS = 64, LINE = 4096 };

/* One boot of the guest: the operations from start to acked are certain. */
struct boot {
    uint64_t start, acked;
};

/* An operation that may have been done. */
struct maybe {
    struct maybe *next; /* of the same slot, by rising seq */
    uint64_t seq;
    enum op_kind kind;
};

struct check {
    const char *disk;
    uint64_t window;
    struct boot boots[MAX_BOOTS];
    size_t n_boots;
    struct superblock sb;
    struct slot_state *certain;
    struct maybe **maybe; /* of each slot */
    uint64_t records, zeros, ahead, torn, wrong, acked_ops;
};

__attribute__((noreturn)) static void die(const char *what)
{
    fprintf(stderr, "check-disk: %s: %s\n", what, strerror(errno));
    exit(2);
}

static void *must_alloc(size_t n, size_t size)
{
    void *p = calloc(n, size);

    if (p == NULL)
        die("memory");
    return p;
}

/* ---- console ------------------------------------------------------------------- */

/* "WORD DISK NUMBER" for our disk? */
static bool line_number(const char *line, const char *word, const char *disk,
                        uint64_t *out)
{
    const size_t w = strlen(word), d = strlen(disk);

    if (strncmp(line, word, w) != 0 || line[w] != ' ' ||
        strncmp(line + w + 1, disk, d) != 0 || line[w + 1 + d] != ' ')
        return false;
    *out = strtoull(line + w + d + 2, NULL, 10);
    return true;
}

/* By rising start; a boot may have been seen on any console. */
static void start_take(struct check *c, const char *line)
{
    uint64_t seq;
    size_t at = c->n_boots;

    if (!line_number(line, "start", c->disk, &seq))
        return;
    if (c->n_boots == MAX_BOOTS)
        die("too many boots");
    for (; at > 0 && c->boots[at - 1].start > seq; at--)
        c->boots[at] = c->boots[at - 1];
    c->boots[at] = (struct boot){ seq, seq - 1 };
    c->n_boots++;
}

/* When all starts are known.  Before its first operation a boot acknowledges the number
 * before its own first: that is no word of the boot before it. */
static void ack_take(struct check *c, const char *line)
{
    uint64_t seq;

    if (!line_number(line, "ack", c->disk, &seq))
        return;
    for (size_t i = c->n_boots; i-- > 0;) {
        struct boot *const b = &c->boots[i];

        if (seq + 1 == b->start)
            return;
        if (seq < b->start)
            continue;
        if (seq > b->acked)
            b->acked = seq;
        return;
    }
}

/* Only whole lines count: the log of a killed QEMU may end inside a number. */
static void console_read(struct check *c, const char *path,
                         void (*take)(struct check *c, const char *line))
{
    FILE *f = fopen(path, "re");
    char line[LINE];

    if (f == NULL)
        die(path);
    while (fgets(line, sizeof line, f) != NULL)
        if (strchr(line, '\n') != NULL)
            take(c, line);
    fclose(f);
}

/* ---- what must be there ------------------------------------------------------------ */

static void maybe_clear(struct maybe **list)
{
    while (*list != NULL) {
        struct maybe *m = *list;

        *list = m->next;
        free(m);
    }
}

static void maybe_add(struct maybe **list, uint64_t seq, enum op_kind kind)
{
    struct maybe *m = must_alloc(1, sizeof *m);

    while (*list != NULL)
        list = &(*list)->next;
    *m = (struct maybe){ NULL, seq, kind };
    *list = m;
}

/* A certain write or zeroing ends all doubt about its slot; a certain discard does not end
 * doubts about what was there before it. */
static void op_certain(struct check *c, uint64_t seq)
{
    const struct op op = op_of(&c->sb, seq);

    if (op.kind != OP_DISCARD)
        maybe_clear(&c->maybe[op.slot]);
    else if (c->maybe[op.slot] != NULL)
        maybe_add(&c->maybe[op.slot], seq, op.kind);
    slot_apply(&c->certain[op.slot], op.kind, seq);
    c->acked_ops++;
}

static void op_possible(struct check *c, uint64_t seq)
{
    const struct op op = op_of(&c->sb, seq);

    maybe_add(&c->maybe[op.slot], seq, op.kind);
}

static void expect_boot(struct check *c, const struct boot *b, uint64_t next_start)
{
    uint64_t end = b->acked + c->window;

    for (uint64_t seq = b->start; seq <= b->acked; seq++)
        op_certain(c, seq);
    if (end >= next_start)
        end = next_start - 1;
    for (uint64_t seq = b->acked + 1; seq <= end; seq++)
        op_possible(c, seq);
}

static void expect_all(struct check *c)
{
    const uint64_t n = slot_count(&c->sb);

    c->certain = must_alloc(n, sizeof *c->certain);
    c->maybe = must_alloc(n, sizeof(struct maybe *));
    for (uint64_t slot = 1; slot < n; slot++)
        c->certain[slot] = slot_initial(&c->sb, slot);
    for (size_t i = 0; i < c->n_boots; i++)
        expect_boot(c, &c->boots[i],
                    i + 1 < c->n_boots ? c->boots[i + 1].start : UINT64_MAX);
}

/* ---- what is there ------------------------------------------------------------------- */

static void violation(struct check *c, const char *what, uint64_t slot, long off,
                      const uint8_t *buf)
{
    const struct slot_state *st = &c->certain[slot];
    uint64_t found;

    if (c->wrong++ >= MAX_SHOWN)
        return;
    printf("%s: slot %llu byte %llu: %s; must be %s", c->disk, (unsigned long long)slot,
           (unsigned long long)slot * SLOT_BYTES + (unsigned long long)off, what,
           st->content == CONTENT_RECORD ? "record" : "zeros");
    if (st->content == CONTENT_RECORD)
        printf(" %llu%s", (unsigned long long)st->seq,
               st->maybe_zero ? " or zeros" : "");
    if (record_header(&c->sb, slot, buf, &found))
        printf("; has the header of record %llu\n", (unsigned long long)found);
    else
        printf("; has %s\n", all_zero(buf, SECTOR_BYTES) ? "zeros" : "no header");
}

/* Is every sector as one of the possible states says? */
static bool is_torn(const struct check *c, uint64_t slot, const uint8_t *buf)
{
    static uint8_t part[SLOT_BYTES] __attribute__((aligned(8)));
    static uint8_t want[SLOT_BYTES] __attribute__((aligned(8)));
    const size_t len = slot_len(&c->sb, slot);

    for (size_t off = 0; off < len; off += SECTOR_BYTES) {
        struct slot_state st = c->certain[slot];
        const struct maybe *m = c->maybe[slot];
        bool ok = false;

        for (;;) {
            memset(want, 0, len);
            if (st.content == CONTENT_RECORD)
                record_fill(&c->sb, slot, st.seq, want);
            memcpy(part, want, len);
            memcpy(part + off, buf + off, SECTOR_BYTES);
            ok = ok || slot_check(&c->sb, slot, &st, part) < 0;
            if (m == NULL || ok)
                break;
            slot_apply(&st, m->kind, m->seq);
            m = m->next;
        }
        if (!ok)
            return false;
    }
    return true;
}

static bool is_ahead(const struct check *c, uint64_t slot, const uint8_t *buf)
{
    struct slot_state st = c->certain[slot];

    for (const struct maybe *m = c->maybe[slot]; m != NULL; m = m->next) {
        slot_apply(&st, m->kind, m->seq);
        if (slot_check(&c->sb, slot, &st, buf) < 0)
            return true;
    }
    return false;
}

static void check_slot(struct check *c, uint64_t slot, const uint8_t *buf)
{
    const long off = slot_check(&c->sb, slot, &c->certain[slot], buf);

    if (off < 0) {
        if (c->certain[slot].content == CONTENT_RECORD)
            c->records++;
        else
            c->zeros++;
    } else if (is_ahead(c, slot, buf)) {
        c->ahead++;
    } else if (c->torn == 0 && c->maybe[slot] != NULL && is_torn(c, slot, buf)) {
        c->torn++;
    } else {
        violation(c, "wrong content", slot, off, buf);
    }
}

/* ---- input ------------------------------------------------------------------------ */

static size_t read_full(int fd, uint8_t *buf, size_t len)
{
    size_t at = 0;

    while (at < len) {
        const ssize_t n = read(fd, buf + at, len - at);

        if (n < 0 && errno != EINTR)
            die("read");
        if (n == 0)
            break;
        at += n > 0 ? (size_t)n : 0;
    }
    return at;
}

static bool check_superblock(struct check *c, const uint8_t *buf, size_t len)
{
    memcpy(&c->sb, buf, sizeof c->sb);
    if (len < SLOT_BYTES || !superblock_valid(&c->sb)) {
        printf("%s: no valid superblock\n", c->disk);
        return false;
    }
    if (strcmp(c->sb.disk, c->disk) != 0) {
        printf("%s: this is the image of %s\n", c->disk, c->sb.disk);
        return false;
    }
    if (c->n_boots > 0 && c->sb.next_start <= c->boots[c->n_boots - 1].acked) {
        printf("%s: superblock: next start %llu, but %llu is acknowledged\n", c->disk,
               (unsigned long long)c->sb.next_start,
               (unsigned long long)c->boots[c->n_boots - 1].acked);
        return false;
    }
    if (!all_zero(buf + sizeof c->sb, SLOT_BYTES - sizeof c->sb)) {
        printf("%s: slot 0 is not zero behind the superblock\n", c->disk);
        c->wrong++;
    }
    return true;
}

static void check_slots(struct check *c, int fd)
{
    static uint8_t buf[SLOT_BYTES] __attribute__((aligned(8)));

    for (uint64_t slot = 1; slot < slot_count(&c->sb); slot++) {
        const size_t len = slot_len(&c->sb, slot);

        if (read_full(fd, buf, len) != len) {
            printf("%s: the image ends in slot %llu\n", c->disk,
                   (unsigned long long)slot);
            c->wrong++;
            return;
        }
        check_slot(c, slot, buf);
    }
    if (read_full(fd, buf, 1) != 0) {
        printf("%s: the image is longer than %llu bytes\n", c->disk,
               (unsigned long long)c->sb.disk_bytes);
        c->wrong++;
    }
}

static int check_image(struct check *c, int fd)
{
    static uint8_t buf[SLOT_BYTES];

    if (!check_superblock(c, buf, read_full(fd, buf, SLOT_BYTES)))
        return 1;
    expect_all(c);
    check_slots(c, fd);
    printf(
        "%s: %s: %llu boots, %llu operations acknowledged; %llu slots: %llu records, "
        "%llu zeros, %llu ahead of the ack, %llu torn, %llu wrong\n",
        c->disk, c->wrong == 0 ? "ok" : "WRONG", (unsigned long long)c->n_boots,
        (unsigned long long)c->acked_ops, (unsigned long long)slot_count(&c->sb),
        (unsigned long long)c->records, (unsigned long long)c->zeros,
        (unsigned long long)c->ahead, (unsigned long long)c->torn,
        (unsigned long long)c->wrong);
    return c->wrong == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    static struct check c = { .window = WINDOW };
    int at = 1, fd = STDIN_FILENO;

    if (argc > 3 && strcmp(argv[1], "--window") == 0) {
        c.window = strtoull(argv[2], NULL, 10);
        at = 3;
    }
    if (argc - at < 3) {
        fprintf(stderr, "usage: check-disk [--window N] DISK IMAGE CONSOLE...\n");
        return 2;
    }
    c.disk = argv[at];
    for (int i = at + 2; i < argc; i++)
        console_read(&c, argv[i], start_take);
    for (int i = at + 2; i < argc; i++)
        console_read(&c, argv[i], ack_take);
    if (c.n_boots == 0) {
        fprintf(stderr, "check-disk: no \"start %s\" on the consoles\n", c.disk);
        return 2;
    }
    if (strcmp(argv[at + 1], "-") != 0)
        fd = open(argv[at + 1], O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        die(argv[at + 1]);
    return check_image(&c, fd);
}
