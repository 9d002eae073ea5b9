#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/image.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/unix.h"
#include "tests/lib/loop.h"
#include "tests/lib/tmp.h"

enum { MIB = 1 << 20 };

static struct json_object *disk(const char *target, const char *path,
                                const char *format, uint64_t size)
{
    struct json_object *const o = json_new();

    json_add_str(json_add_str(o, "target", target), "path", path);
    return json_add_u64(json_add_str(o, "format", format), "size", size);
}

static bool parse(const char *target, const char *path, const char *format,
                  uint64_t size, struct image *out, struct err *e)
{
    AUTO(json_put) struct json_object *o = disk(target, path, format, size);

    return image_parse(o, out, e);
}

static struct image image(const char *name, const char *format, uint64_t size)
{
    struct image im;
    struct err e;

    assert_ok(parse("vda", tmp_path(name), format, size, &im, &e), e);
    return im;
}

static void put_file(const char *name, const char *text)
{
    AUTO(fd_close) int fd = open(tmp_path(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    struct err e;

    assert_ok(fd_write_all(fd, text, strlen(text), &e), e);
}

static bool exists(const char *name)
{
    return faccessat(AT_FDCWD, tmp_path(name), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void make(struct image *im)
{
    struct err e;

    assert_ok(image_make(im, &e), e);
    assert_ok(image_publish(im, &e), e);
}

/* ---- text ------------------------------------------------------------------------------ */

static void image__paths_that_climb_are_refused(void **state)
{
    static const char *const bad[] = {
        "x.img",  "../../etc/cron.d/x",
        "./x",    "/a/../etc/x",
        "/a/./x", "/a/..",
        "/a/.",   "/a/",
        "/",      "",
        "/a//b",  "/etc/cron.d/../x",
    };
    struct image im;
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (parse("vda", bad[i], "raw", 512, &im, &e))
            fail_msg("taken: %s", bad[i]);
    char name[300];
    memset(name, 'x', sizeof name - 1);
    name[0] = '/';
    name[256] = '\0'; /* 255 bytes after the '/' */
    assert_ok(parse("vda", name, "raw", 512, &im, &e), e);
    name[256] = 'x';
    name[257] = '\0';
    assert_err(parse("vda", name, "raw", 512, &im, &e), e, ERR_REFUSED);
    assert_false(parse("vda", "/a/b\nc", "raw", 512, &im, &e));
}

static void image__targets_formats_sizes_are_checked(void **state)
{
    struct image im;
    struct err e;

    (void)state;
    assert_err(parse("", "/x", "raw", 512, &im, &e), e, ERR_PROTO);
    assert_err(parse("a/b", "/x", "raw", 512, &im, &e), e, ERR_PROTO);
    assert_err(parse("..", "/x", "raw", 512, &im, &e), e, ERR_PROTO);
    assert_err(parse("vda", "/x", "vmdk", 512, &im, &e), e, ERR_PROTO);
    assert_err(parse("vda", "/x", "raw", 0, &im, &e), e, ERR_REFUSED);
    assert_err(parse("vda", "/x", "qcow2", 1000001, &im, &e), e, ERR_REFUSED);
    assert_err(parse("vda", "/x", "raw", UINT64_MAX - 511, &im, &e), e, ERR_REFUSED);
    assert_ok(parse("vda", "/x", "raw", 512, &im, &e), e);
}

static void image__journal_form_is_read_back(void **state)
{
    struct image im = image("a.img", "qcow2", 10 * MIB), back;
    struct err e;

    (void)state;
    im.id = (struct image_id){ 1, UINT64_MAX, 3 };
    AUTO(json_put) struct json_object *o = image_to_json(&im);
    assert_ok(image_from_json(o, &back, &e), e);
    assert_string_equal(back.path, im.path);
    assert_string_equal(back.target, "vda");
    assert_string_equal(back.format, "qcow2");
    assert_int_equal(back.size, 10 * MIB);
    assert_memory_equal(&back.id, &im.id, sizeof im.id);

    static const char *const bad[] = { "",
                                       "1",
                                       "1:2",
                                       "1:2:",
                                       "1:2:3 ",
                                       "1:2:x",
                                       "01:2:3",
                                       "1:2:3:4",
                                       "-1:2:3",
                                       " 1:2:3",
                                       "1:2:11111111111111111" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        json_add_str(o, "id", bad[i]);
        assert_err(image_from_json(o, &back, &e), e, ERR_PROTO);
    }
}

/* ---- making ------------------------------------------------------------------------------ */

static void image__raw_has_the_exact_size_and_no_blocks(void **state)
{
    struct image im = image("a.img", "raw", 3 * MIB + 512);
    struct stat st;
    struct err e;

    (void)state;
    make(&im);
    assert_int_equal(stat(tmp_path("a.img"), &st), 0);
    assert_int_equal(st.st_size, 3 * MIB + 512);
    assert_int_equal(st.st_blocks, 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_ok(image_sync(&im, &e), e);
    image_close(&im);
}

static void image__qcow2_has_the_exact_virtual_size(void **state)
{
    struct image im = image("a.qcow2", "qcow2", 7 * MIB + 512);
    const char *const argv[] = { "qemu-img", "info", "--output=json",
                                 tmp_path("a.qcow2"), NULL };
    char out[4096];
    struct err e;

    (void)state;
    make(&im);
    assert_ok(proc_run(argv, 10000, out, sizeof out, &e), e);
    assert_contains(out, "\"virtual-size\": 7340544");
    assert_contains(out, "\"lazy-refcounts\": false");
    assert_contains(out, "\"format\": \"qcow2\"");
    image_close(&im);
}

static void image__without_publish_nothing_is_left(void **state)
{
    struct image im = image("a.qcow2", "qcow2", MIB);
    struct err e;

    (void)state;
    assert_ok(image_make(&im, &e), e);
    assert_false(exists("a.qcow2"));
    assert_ok(image_remove(&im, &e), e);
    image_close(&im);
    assert_false(exists("a.qcow2"));
}

static void image__existing_file_is_never_touched(void **state)
{
    struct image im = image("a.img", "raw", MIB);
    struct stat st;
    struct err e;

    (void)state;
    put_file("a.img", "precious");
    assert_err(image_make(&im, &e), e, ERR_REFUSED);
    assert_int_equal(e.os, EEXIST);
    assert_ok(image_remove(&im, &e), e);
    image_close(&im);
    assert_int_equal(stat(tmp_path("a.img"), &st), 0);
    assert_int_equal(st.st_size, 8);
}

static void image__file_that_appears_before_publish_is_never_touched(void **state)
{
    struct image im = image("a.img", "raw", MIB);
    struct stat st;
    struct err e;

    (void)state;
    assert_ok(image_make(&im, &e), e);
    put_file("a.img", "precious");
    assert_err(image_publish(&im, &e), e, ERR_REFUSED);
    assert_ok(image_remove(&im, &e), e);
    image_close(&im);
    assert_int_equal(stat(tmp_path("a.img"), &st), 0);
    assert_int_equal(st.st_size, 8);
}

static void image__fd_path_is_the_file_before_it_has_a_name(void **state)
{
    struct image im = image("a.img", "raw", MIB);
    char path[IMAGE_FD_PATH];
    struct stat st;
    struct err e;

    (void)state;
    assert_ok(image_make(&im, &e), e);
    assert_ptr_equal(image_fd_path(&im, path), path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_ino, im.id.ino);
    assert_int_equal(st.st_size, MIB);
    assert_ok(image_remove(&im, &e), e);
    image_close(&im);
}

static void image__symlink_at_the_name_is_not_followed(void **state)
{
    struct image im = image("a.img", "raw", MIB);
    struct err e;

    (void)state;
    put_file("victim", "precious");
    assert_int_equal(symlink(tmp_path("victim"), tmp_path("a.img")), 0);
    assert_err(image_make(&im, &e), e, ERR_REFUSED);
    image_close(&im);
    unlink(tmp_path("a.img"));
    /* A dangling one, too. */
    assert_int_equal(symlink(tmp_path("nobody"), tmp_path("a.img")), 0);
    assert_err(image_make(&im, &e), e, ERR_REFUSED);
    image_close(&im);
    assert_false(exists("nobody"));
}

/* Somebody swaps the name between a symlink and nothing all the time. */
static atomic_bool swapping;

static void *swapper(void *arg)
{
    char link[200], victim[200];

    (void)arg;
    snprintf(link, sizeof link, "%s", tmp_path("a.img"));
    snprintf(victim, sizeof victim, "%s", tmp_path("victim"));
    while (atomic_load(&swapping)) {
        if (symlink(victim, link) == 0)
            unlink(link);
    }
    return NULL;
}

static void image__symlink_swapped_in_a_loop_is_never_followed(void **state)
{
    struct stat st;
    pthread_t t;
    struct err e;
    int made = 0;

    (void)state;
    put_file("victim", "precious");
    atomic_store(&swapping, true);
    assert_int_equal(pthread_create(&t, NULL, swapper, NULL), 0);
    for (int i = 0; i < 300; i++) {
        struct image im = image("a.img", "raw", MIB);

        if (image_make(&im, &e) && image_publish(&im, &e)) {
            made++;
            assert_ok(image_remove(&im, &e), e);
        } else {
            assert_int_equal(e.os, EEXIST);
        }
        image_close(&im);
    }
    atomic_store(&swapping, false);
    pthread_join(t, NULL);
    print_message("made %d of 300\n", made);
    assert_int_equal(stat(tmp_path("victim"), &st), 0);
    assert_int_equal(st.st_size, 8);
}

/* ---- removing ------------------------------------------------------------------------------ */

static void image__remove_takes_only_the_file_it_made(void **state)
{
    struct image im = image("a.img", "raw", MIB);
    struct err e;

    (void)state;
    make(&im);
    image_close(&im);
    assert_int_equal(rename(tmp_path("a.img"), tmp_path("moved")), 0);
    put_file("a.img", "precious");
    assert_ok(image_remove(&im, &e), e);
    assert_contains(im.spared, "is another file than the move made");
    image_close(&im);
    assert_true(exists("a.img"));
    assert_true(exists("moved"));
}

/* ext4 gives the next file the inode number of the one just removed. */
static void image__remove_leaves_a_file_with_the_same_inode_number(void **state)
{
    struct image im = image("a.img", "raw", MIB);
    struct err e;
    struct stat st;

    (void)state;
    make(&im);
    image_close(&im);
    unlink(tmp_path("a.img"));
    clock_sleep_ms(20); /* times of files move in ticks of up to 10 ms */
    put_file("a.img", "precious");
    assert_int_equal(stat(tmp_path("a.img"), &st), 0);
    print_message("inode reused: %s\n", st.st_ino == im.id.ino ? "yes" : "no");
    assert_ok(image_remove(&im, &e), e);
    image_close(&im);
    assert_true(exists("a.img"));
}

static void image__remove_works_from_the_journal(void **state)
{
    struct image im = image("a.img", "raw", MIB), back;
    struct err e;

    (void)state;
    make(&im);
    AUTO(json_put) struct json_object *o = image_to_json(&im);
    image_close(&im);
    assert_ok(image_from_json(o, &back, &e), e);
    assert_ok(image_remove(&back, &e), e);
    image_close(&back);
    assert_false(exists("a.img"));
    /* Again, and without the directory. */
    assert_ok(image_from_json(o, &back, &e), e);
    assert_ok(image_remove(&back, &e), e);
    image_close(&back);
}

static void image__remove_spares_what_was_written_since_it_was_left(void **state)
{
    static const char *const formats[] = { "raw", "qcow2" };
    struct err e;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct image im = image(formats[i], formats[i], MIB), back;

        make(&im);
        assert_ok(image_sync(&im, &e), e);
        clock_sleep_ms(20); /* times of files move in ticks of up to 10 ms */
        AUTO(json_put)
        struct json_object *o = image_to_json(&im), *mark = image_mark_to_json(&im);
        assert_int_equal(pwrite(im.fd, "x", 1, 4096), 1);
        image_close(&im);
        assert_ok(image_from_json(o, &back, &e), e);
        image_mark_from_json(&back, mark);
        assert_ok(image_remove(&back, &e), e);
        assert_false(back.removed);
        assert_contains(back.spared, "was written after the move had left it");
        assert_contains(back.spared, back.path);
        assert_ok(image_remove(&back, &e), e);
        image_close(&back);
        assert_true(exists(formats[i]));
    }
}

static void image__sync_finds_a_raw_file_that_grew(void **state)
{
    struct image im = image("a.img", "raw", MIB);
    struct err e;

    (void)state;
    make(&im);
    assert_int_equal(truncate(tmp_path("a.img"), MIB + 512), 0);
    assert_err(image_sync(&im, &e), e, ERR_SYS);
    image_close(&im);
}

/* ---- what has become of it ----------------------------------------------------------------- */

static void assert_fate(struct image *im, enum image_fate want)
{
    AUTO(json_put)
    struct json_object *o = image_to_json(im), *mark = image_mark_to_json(im);
    struct image back;
    struct err e;

    assert_int_equal(image_fate(im), want);
    /* The same for a later agent. */
    assert_ok(image_from_json(o, &back, &e), e);
    assert_int_equal(image_fate(&back), back.mark.known ? want : IMAGE_UNKNOWN);
    image_mark_from_json(&back, mark);
    assert_int_equal(image_fate(&back), want);
}

static void image__every_write_after_sync_is_found(void **state)
{
    static const char *const formats[] = { "raw", "qcow2" };
    struct err e;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct image im = image("a.img", formats[i], MIB);

        make(&im);
        assert_ok(image_sync(&im, &e), e);
        clock_sleep_ms(20);
        assert_int_equal(fchmod(im.fd, 0640), 0);
        assert_fate(&im, IMAGE_UNTOUCHED);
        assert_int_equal(pwrite(im.fd, "", 1, 100), 1);
        assert_fate(&im, IMAGE_WRITTEN);
        assert_ok(image_sync(&im, &e), e);
        assert_fate(&im, IMAGE_UNTOUCHED);
        assert_ok(image_remove(&im, &e), e);
        image_close(&im);
    }
}

static void image__another_file_and_none_are_told_apart(void **state)
{
    struct image im = image("a.img", "raw", MIB);
    struct err e;

    (void)state;
    make(&im);
    assert_ok(image_sync(&im, &e), e);
    assert_int_equal(rename(tmp_path("a.img"), tmp_path("b.img")), 0);
    assert_int_equal(image_fate(&im), IMAGE_GONE);
    assert_int_equal(symlink(tmp_path("b.img"), tmp_path("a.img")), 0);
    assert_int_equal(image_fate(&im), IMAGE_REPLACED);
    image_close(&im);
}

static void image__mark_of_another_disk_or_rubbish_is_unknown(void **state)
{
    static const char *const keys[] = { "target", "known", "size", "stamp" };
    struct image im = image("a.img", "raw", MIB);
    struct err e;

    (void)state;
    make(&im);
    assert_ok(image_sync(&im, &e), e);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        AUTO(json_put) struct json_object *o = image_mark_to_json(&im);

        image_mark_from_json(&im, o);
        assert_int_equal(image_fate(&im), IMAGE_UNTOUCHED);
        json_add_str(o, keys[i], "x");
        image_mark_from_json(&im, o);
        assert_int_equal(image_fate(&im), IMAGE_UNKNOWN);
        assert_ok(image_sync(&im, &e), e);
    }
    assert_ok(image_remove(&im, &e), e);
    image_close(&im);
}

/* ---- check --------------------------------------------------------------------------------- */

static void assert_found(const struct image *im, const struct image_id *own,
                         const char *code)
{
    AUTO(findings_fini) struct findings f = { 0 };

    image_check(im, own, &f);
    if (code == NULL) {
        if (f.n > 0)
            fail_msg("found %s: %s", f.list[0].code, f.list[0].what);
        return;
    }
    assert_int_equal(f.n, 1);
    assert_string_equal(f.list[0].code, code);
}

static void image__check_finds_what_is_in_the_way(void **state)
{
    struct image im = image("a.img", "raw", MIB);

    (void)state;
    assert_found(&im, NULL, NULL);
    assert_false(exists("a.img"));
    put_file("a.img", "x");
    assert_found(&im, NULL, "target-exists");
    im = image("none/a.img", "raw", MIB);
    assert_found(&im, NULL, "no-directory");
    im = image("a.img/b.img", "raw", MIB);
    assert_found(&im, NULL, "no-directory");
    im = image("huge.img", "raw", 1ULL << 60);
    assert_found(&im, NULL, "too-large");
    im = image("huge.qcow2", "qcow2", 1ULL << 50);
    assert_found(&im, NULL, NULL);
    struct err e;
    assert_ok(parse("vda", "/dev/nobody", "raw", 512, &im, &e), e);
    assert_found(&im, NULL, "device");
    assert_ok(parse("vda", "/dev/null", "raw", 512, &im, &e), e);
    assert_found(&im, NULL, "device");
}

static void image__check_takes_what_a_dead_move_made(void **state)
{
    struct image im = image("a.img", "raw", MIB);

    (void)state;
    make(&im);
    image_close(&im);
    assert_found(&im, NULL, "target-exists");
    assert_found(&im, &im.id, NULL);
}

/* A regular file in /dev would fill memory. */
static void image__dev_takes_devices_only(void **state)
{
    struct image im;
    struct err e;

    (void)state;
    assert_ok(parse("vda", "/dev/snm-test-file", "raw", MIB, &im, &e), e);
    assert_true(im.device);
    assert_err(image_make(&im, &e), e, ERR_SYS);
    image_close(&im);
    assert_int_equal(access("/dev/snm-test-file", F_OK), -1);
    assert_ok(parse("vda", "/dev/shm/x", "raw", MIB, &im, &e), e);
    assert_false(im.device);
}

/* ---- devices: a loop device, where there are any --------------------------------------------- */

static void image__every_write_to_a_device_after_sync_is_found(void **state)
{
    char path[LOOP_PATH];
    struct image im;
    struct err e;

    (void)state;
    loop_need(8 * MIB, path);
    assert_ok(parse("vda", path, "raw", 8 * MIB, &im, &e), e);
    assert_ok(image_make(&im, &e), e);
    assert_int_equal(pwrite(im.fd, "x", 1, 4 * MIB), 1);
    assert_ok(image_sync(&im, &e), e);
    assert_true(im.mark.known);
    assert_fate(&im, IMAGE_UNTOUCHED);
    AUTO(fd_close) int fd = open(path, O_RDWR | O_CLOEXEC); /* QEMU */
    assert_int_equal(pwrite(fd, "y", 1, 5 * MIB), 1);
    assert_int_equal(fsync(fd), 0);
    assert_fate(&im, IMAGE_WRITTEN);
    close(fd_steal(&fd));
    image_close(&im);
    loop_remove();
}

static void image__device_must_be_empty_and_of_the_right_size(void **state)
{
    char path[LOOP_PATH];
    struct image im;
    struct err e;

    (void)state;
    loop_need(8 * MIB, path);
    assert_ok(parse("vda", path, "raw", 8 * MIB, &im, &e), e);
    assert_found(&im, NULL, NULL);
    assert_ok(image_make(&im, &e), e);
    assert_ok(image_publish(&im, &e), e);
    assert_ok(image_sync(&im, &e), e);
    assert_found(&im, NULL, "device"); /* in use: by this very move */
    assert_int_equal(pwrite(im.fd, "x", 1, 8 * MIB - 1), 1);
    assert_ok(image_remove(&im, &e), e);
    image_close(&im);
    assert_int_equal(access(path, F_OK), 0);
    assert_found(&im, NULL, NULL); /* fit for another try */

    assert_ok(parse("vda", path, "raw", 4 * MIB, &im, &e), e);
    assert_found(&im, NULL, "device");
    assert_err(image_make(&im, &e), e, ERR_REFUSED);
    image_close(&im);
    assert_ok(parse("vda", path, "qcow2", 8 * MIB, &im, &e), e);
    assert_found(&im, NULL, "device");

    AUTO(fd_close) int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "x", 1, 8 * MIB - 1), 1);
    assert_ok(parse("vda", path, "raw", 8 * MIB, &im, &e), e);
    assert_found(&im, NULL, "device-not-empty");
    assert_err(image_make(&im, &e), e, ERR_REFUSED);
    image_close(&im);
    close(fd_steal(&fd));
    loop_remove();
}

static void
image__device_of_an_earlier_try_is_known_until_the_host_restarts(void **state)
{
    char path[LOOP_PATH];
    struct image im, back;
    struct image_id file;
    struct err e;

    (void)state;
    loop_need(8 * MIB, path);
    assert_ok(parse("vda", path, "raw", 8 * MIB, &im, &e), e);
    assert_ok(image_make(&im, &e), e);
    assert_int_equal(pwrite(im.fd, "x", 1, 0), 1);
    assert_ok(image_sync(&im, &e), e);
    AUTO(json_put)
    struct json_object *o = image_to_json(&im), *mark = image_mark_to_json(&im);
    image_close(&im);
    assert_found(&im, NULL, "device-not-empty");
    assert_ok(image_from_json(o, &back, &e), e);
    image_mark_from_json(&back, mark);
    assert_found(&im, &back.id, NULL);
    file = back.id;
    file.ino = 1; /* a file on that device */
    assert_found(&im, &file, "device-not-empty");
    assert_ok(image_reopen(&back, &e), e);
    image_close(&back);
    assert_int_equal(image_fate(&back), IMAGE_UNTOUCHED);

    image_forget_device(&back);
    assert_found(&im, &back.id, "device-not-empty");
    assert_int_equal(image_fate(&back), IMAGE_UNKNOWN);
    assert_err(image_reopen(&back, &e), e, ERR_REFUSED);
    assert_contains(e.msg, "the host was started anew");
    assert_int_equal(back.fd, -1);
    loop_remove();
}

/* It may have another number after each start. */
static void image__of_a_file_its_file_system_is_forgotten(void **state)
{
    struct image im = image("a.img", "raw", MIB);
    struct err e;

    (void)state;
    make(&im);
    assert_ok(image_sync(&im, &e), e);
    const uint64_t born = im.id.born;
    if (born == 0)
        skip(); /* a file system that does not tell */
    im.id.dev++;
    assert_int_equal(image_fate(&im), IMAGE_REPLACED);
    im.id.born = 0; /* nothing but the number tells it from another of that inode */
    image_forget_device(&im);
    assert_int_not_equal(im.id.dev, 0);
    im.id.born = born;
    image_forget_device(&im);
    assert_int_equal(image_fate(&im), IMAGE_UNTOUCHED);
    im.id.born++;
    assert_int_equal(image_fate(&im), IMAGE_REPLACED);
    im.id.born = born;
    im.id.ino++;
    assert_int_equal(image_fate(&im), IMAGE_REPLACED);
    im.id.ino--;
    image_close(&im);
    assert_ok(image_reopen(&im, &e), e);
    assert_ok(image_remove(&im, &e), e);
    image_close(&im);
}

/* The byte of the device at @off. */
static int byte_at(const char *path, off_t off)
{
    AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t byte;

    assert_int_equal(pread(fd, &byte, 1, off), 1);
    return byte;
}

/* A device with "x" at both ends and in the middle, written by a move that left it: as a
 * later agent finds it. */
static struct image device_left(const char *path)
{
    static const off_t ends[] = { 0, 4 * MIB, 8 * MIB - 1 };
    struct image im, back;
    struct err e;

    assert_ok(parse("vda", path, "raw", 8 * MIB, &im, &e), e);
    assert_ok(image_make(&im, &e), e);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pwrite(im.fd, "x", 1, ends[i]), 1);
    assert_ok(image_sync(&im, &e), e);
    AUTO(json_put)
    struct json_object *o = image_to_json(&im), *mark = image_mark_to_json(&im);
    image_close(&im);
    assert_ok(image_from_json(o, &back, &e), e);
    image_mark_from_json(&back, mark);
    return back;
}

static void assert_spared(struct image *im, const char *why)
{
    struct err e;

    assert_ok(image_remove(im, &e), e);
    assert_false(im->blanked);
    assert_contains(im->spared, why);
    image_close(im);
    assert_int_equal(byte_at(im->path, 0), 'x');
    assert_int_equal(byte_at(im->path, 8 * MIB - 1), 'x');
}

/* Half a file system does not look like a whole one, and the next move takes it. */
static void image__device_that_was_left_is_blanked_at_its_ends(void **state)
{
    char path[LOOP_PATH];
    struct err e;

    (void)state;
    loop_need(8 * MIB, path);
    for (int known = 1; known >= 0; known--) {
        struct image im = device_left(path);

        im.mark.known &= known == 1; /* the agent was killed */
        assert_ok(image_remove(&im, &e), e);
        assert_true(im.blanked);
        assert_string_equal(im.spared, "");
        image_close(&im);
        assert_int_equal(byte_at(path, 0), 0);
        assert_int_equal(byte_at(path, 8 * MIB - 1), 0);
        assert_int_equal(byte_at(path, 4 * MIB), 'x');
        assert_found(&im, NULL, NULL);
    }
    loop_remove();
}

static void image__device_that_may_be_anothers_is_left_alone(void **state)
{
    char path[LOOP_PATH];
    struct err e;

    (void)state;
    loop_need(8 * MIB, path);
    struct image im = device_left(path);
    struct image before = im, later = im, smaller = im, used = im;

    before.id.born--; /* its number was another device's */
    assert_spared(&before, "is another device");
    image_forget_device(&later);
    assert_spared(&later, "the host was started anew");
    smaller.size = 4 * MIB;
    assert_spared(&smaller, "has 8388608 bytes");
    AUTO(fd_close) int fd = open(path, O_RDWR | O_EXCL | O_CLOEXEC); /* mounted */
    assert_spared(&used, "busy");
    close(fd_steal(&fd));
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "y", 1, 5 * MIB), 1);
    assert_int_equal(fsync(fd), 0);
    assert_spared(&im, "was written after the move had left it");
    assert_ok(image_remove(&im, &e), e); /* again: no longer ours */
    assert_int_equal(byte_at(path, 0), 'x');
    close(fd_steal(&fd));
    loop_remove();
}

/* Also where the making, and not the removing, was what failed. */
static void image__device_that_was_never_taken_is_never_blanked(void **state)
{
    char path[LOOP_PATH];
    struct image im;
    struct err e;

    (void)state;
    loop_need(8 * MIB, path);
    AUTO(fd_close) int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "x", 1, 100), 1);
    assert_ok(parse("vda", path, "raw", 8 * MIB, &im, &e), e);
    assert_err(image_make(&im, &e), e, ERR_REFUSED);
    assert_ok(image_remove(&im, &e), e);
    image_close(&im);
    assert_string_equal(im.spared, "");
    assert_int_equal(byte_at(path, 100), 'x');
    close(fd_steal(&fd));
    loop_remove();
}

/* ---- seeds --------------------------------------------------------------------------------- */

static struct image seed(const char *name, const char *format, uint64_t size)
{
    AUTO(json_put) struct json_object *o = disk("vda", tmp_path(name), format, size);
    struct image im;
    struct err e;

    json_add_bool(o, "seed", true);
    assert_ok(image_parse(o, &im, &e), e);
    assert_true(im.seed);
    return im;
}

static void img(const char *const *argv)
{
    struct err e;

    assert_ok(proc_run(argv, 20000, NULL, 0, &e), e);
}

/* A fresh image of 4 MiB, and a seed of it. */
static struct image qcow2_seed(void)
{
    const char *const argv[] = { "qemu-img", "create",          "-q", "-f",
                                 "qcow2",    tmp_path("a.img"), "4M", NULL };

    unlink(tmp_path("a.img"));
    img(argv);
    return seed("a.img", "qcow2", 4 * MIB);
}

static void assert_no_seed(struct image im, const char *code, const char *words)
{
    struct findings f = { 0 };
    struct err e;

    assert_err(image_make(&im, &e), e, ERR_REFUSED);
    assert_contains(e.msg, words);
    assert_ok(image_remove(&im, &e), e);
    image_close(&im);
    image_check(&im, NULL, &f);
    assert_int_equal(f.n, 1);
    assert_string_equal(f.list[0].code, code);
    findings_fini(&f);
}

static void seed__is_taken_over_and_never_removed(void **state)
{
    struct image im = seed("a.img", "raw", MIB), back;
    struct findings f = { 0 };
    struct err e;
    char byte = 0;

    (void)state;
    put_file("a.img", "precious");
    assert_int_equal(truncate(tmp_path("a.img"), MIB), 0);
    image_check(&im, NULL, &f);
    assert_int_equal(f.n, 0);
    findings_fini(&f);
    make(&im);
    assert_int_equal(pread(im.fd, &byte, 1, 0), 1);
    assert_int_equal(byte, 'p');
    AUTO(json_put) struct json_object *o = image_to_json(&im);
    assert_ok(image_remove(&im, &e), e);
    image_close(&im);
    assert_true(exists("a.img"));

    assert_ok(image_from_json(o, &back, &e), e);
    assert_true(back.seed);
    assert_ok(image_reopen(&back, &e), e);
    assert_ok(image_sync(&back, &e), e);
    assert_ok(image_remove(&back, &e), e);
    image_close(&back);
    assert_true(exists("a.img"));
}

static void seed__that_is_missing_or_of_another_size_is_refused(void **state)
{
    (void)state;
    assert_no_seed(seed("a.img", "raw", MIB), "no-seed", "only what differs");
    put_file("a.img", "precious");
    assert_no_seed(seed("a.img", "raw", MIB), "seed",
                   "has 8 bytes, the disk has 1048576");
    assert_no_seed(seed("a.img", "qcow2", MIB), "seed", "is not a qcow2 image");
    assert_int_equal(symlink(tmp_path("a.img"), tmp_path("link")), 0);
    assert_no_seed(seed("link", "raw", 8 * 512), "seed", "is a symbolic link");
    assert_int_equal(mkfifo(tmp_path("pipe"), 0600), 0);
    assert_no_seed(seed("pipe", "raw", 512), "seed", "is not a regular file");
}

static void seed__of_qcow2_holds_this_disk_alone(void **state)
{
    struct image im = qcow2_seed();
    struct err e;

    (void)state;
    make(&im);
    image_close(&im);
    im = seed("a.img", "qcow2", 8 * MIB);
    assert_no_seed(im, "seed", "has 4194304 bytes, the disk has 8388608");
    const char *const argv[] = { "qemu-img", "snapshot",        "-c",
                                 "s",        tmp_path("a.img"), NULL };
    img(argv);
    assert_no_seed(seed("a.img", "qcow2", 4 * MIB), "seed", "internal snapshots");

    const uint8_t one = 1, four = 4;
    im = qcow2_seed();
    AUTO(fd_close) int fd = open(tmp_path("a.img"), O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, &one, 1, 15), 1); /* a backing file's name at 1 */
    assert_no_seed(seed("a.img", "qcow2", 4 * MIB), "seed", "backing file");
    assert_int_equal(pwrite(fd, "\0", 1, 15), 1);
    assert_int_equal(pwrite(fd, &one, 1, 35), 1);
    assert_no_seed(seed("a.img", "qcow2", 4 * MIB), "seed", "is encrypted");
    assert_int_equal(pwrite(fd, "\0", 1, 35), 1);
    assert_int_equal(pwrite(fd, &one, 1, 79), 1);
    assert_no_seed(seed("a.img", "qcow2", 4 * MIB), "seed", "is not clean");
    assert_int_equal(pwrite(fd, &four, 1, 79), 1);
    assert_no_seed(seed("a.img", "qcow2", 4 * MIB), "seed", "in another file");
    assert_int_equal(pwrite(fd, "\0\200", 2, 78), 2);
    assert_no_seed(seed("a.img", "qcow2", 4 * MIB), "seed", "features");
    assert_ok(image_remove(&im, &e), e);
}

/* The source's own disk may be what both hosts see there. */
static void seed__on_a_device_is_refused(void **state)
{
    char path[LOOP_PATH];
    struct findings f = { 0 };
    struct image im;
    struct err e;

    (void)state;
    loop_need(4 * MIB, path);
    AUTO(json_put) struct json_object *o = disk("vda", path, "raw", 4 * MIB);
    json_add_bool(o, "seed", true);
    assert_ok(image_parse(o, &im, &e), e);
    assert_err(image_make(&im, &e), e, ERR_REFUSED);
    assert_contains(e.msg, "is a block device: it cannot be told from the source's");
    assert_contains(e.next, "--seed");
    assert_int_equal(im.fd, -1);
    image_check(&im, NULL, &f);
    assert_int_equal(f.n, 1);
    assert_string_equal(f.list[0].code, "seed");
    assert_contains(f.list[0].next, "--seed");
    findings_fini(&f);
    loop_remove();
}

static void put_byte(int fd, off_t at, uint8_t byte)
{
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
}

/* Between tries its owner may make of it what names other files of the host. */
static void seed__is_checked_when_it_is_opened_again(void **state)
{
    /* clang-format off */
    static const struct { off_t at; uint8_t byte; const char *words; } made[] = {
        { 15, 1, "backing file" },
        { 35, 1, "is encrypted" },
        { 63, 1, "internal snapshots" },
        { 79, 2, "is not clean" },   /* corrupt */
        { 79, 4, "in another file" },
        { 31, 1, "bytes, the disk has" },
    };
    /* clang-format on */
    struct image im = qcow2_seed();
    struct err e;

    (void)state;
    make(&im);
    AUTO(json_put) struct json_object *o = image_to_json(&im);
    AUTO(fd_close) int fd = open(tmp_path("a.img"), O_RDWR | O_CLOEXEC);
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) {
        struct image back;

        assert_ok(image_from_json(o, &back, &e), e);
        put_byte(fd, made[i].at, made[i].byte);
        assert_err(image_reopen(&back, &e), e, ERR_REFUSED);
        assert_contains(e.msg, made[i].words);
        image_close(&back);
        assert_err(image_reopen(&im, &e), e, ERR_REFUSED); /* open all the time */
        put_byte(fd, made[i].at, 0);
        assert_ok(image_reopen(&back, &e), e);
        image_close(&back);
    }
    put_byte(fd, 79, 1); /* dirty: a writer was killed */
    assert_ok(image_reopen(&im, &e), e);
    assert_ok(image_mend(&im, &e), e);
    put_byte(fd, 79, 0);
    image_close(&im);
}

/* A QEMU has it open. */
static void seed__in_use_is_refused(void **state)
{
    static const char *const formats[] = { "raw", "qcow2" };
    char pid[220];
    struct err e;

    (void)state;
    snprintf(pid, sizeof pid, "--pid-file=%s", tmp_path("pid"));
    for (int i = 0; i < 2; i++) {
        struct proc p = PROC_NONE;
        struct image im = qcow2_seed();

        if (i == 0) {
            assert_int_equal(truncate(tmp_path("a.img"), 4 * MIB), 0);
            im = seed("a.img", "raw", 4 * MIB);
        }
        unlink(tmp_path("pid")); /* written once the image is open */
        const char *const argv[] = {
            "qemu-nbd",       "--persistent",    pid, "-f", formats[i], "-k",
            tmp_path("sock"), tmp_path("a.img"), NULL
        };
        const struct proc_cfg cfg = { .argv = argv, .in = -1, .out = -1, .err = -1 };
        assert_ok(proc_spawn(&cfg, &p, &e), e);
        for (int n = 0; n < 1000 && !exists("pid"); n++)
            clock_sleep_ms(10);
        const bool taken = image_make(&im, &e);
        proc_stop(&p, 2000); /* whatever comes of it */
        image_close(&im);
        unlink(tmp_path("sock"));
        assert_false(taken);
        assert_contains(e.msg, "is in use");
        assert_int_equal(e.os, EBUSY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_TMP(image__paths_that_climb_are_refused),
        TEST_TMP(image__targets_formats_sizes_are_checked),
        TEST_TMP(image__journal_form_is_read_back),
        TEST_TMP(image__raw_has_the_exact_size_and_no_blocks),
        TEST_TMP(image__qcow2_has_the_exact_virtual_size),
        TEST_TMP(image__without_publish_nothing_is_left),
        TEST_TMP(image__existing_file_is_never_touched),
        TEST_TMP(image__file_that_appears_before_publish_is_never_touched),
        TEST_TMP(image__fd_path_is_the_file_before_it_has_a_name),
        TEST_TMP(image__symlink_at_the_name_is_not_followed),
        TEST_TMP(image__symlink_swapped_in_a_loop_is_never_followed),
        TEST_TMP(image__remove_takes_only_the_file_it_made),
        TEST_TMP(image__remove_leaves_a_file_with_the_same_inode_number),
        TEST_TMP(image__remove_works_from_the_journal),
        TEST_TMP(image__remove_spares_what_was_written_since_it_was_left),
        TEST_TMP(image__sync_finds_a_raw_file_that_grew),
        TEST_TMP(image__every_write_after_sync_is_found),
        TEST_TMP(image__another_file_and_none_are_told_apart),
        TEST_TMP(image__mark_of_another_disk_or_rubbish_is_unknown),
        TEST_TMP(image__check_finds_what_is_in_the_way),
        TEST_TMP(image__check_takes_what_a_dead_move_made),
        TEST_TMP(image__dev_takes_devices_only),
        TEST_TMP(image__every_write_to_a_device_after_sync_is_found),
        TEST_TMP(image__device_must_be_empty_and_of_the_right_size),
        TEST_TMP(image__device_of_an_earlier_try_is_known_until_the_host_restarts),
        TEST_TMP(image__of_a_file_its_file_system_is_forgotten),
        TEST_TMP(image__device_that_was_left_is_blanked_at_its_ends),
        TEST_TMP(image__device_that_may_be_anothers_is_left_alone),
        TEST_TMP(image__device_that_was_never_taken_is_never_blanked),
        TEST_TMP(seed__is_taken_over_and_never_removed),
        TEST_TMP(seed__that_is_missing_or_of_another_size_is_refused),
        TEST_TMP(seed__of_qcow2_holds_this_disk_alone),
        TEST_TMP(seed__on_a_device_is_refused),
        TEST_TMP(seed__is_checked_when_it_is_opened_again),
        TEST_TMP(seed__in_use_is_refused),
    };

    signal(SIGXFSZ, SIG_IGN);
    log_init(LOG_ERROR, "dst");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
