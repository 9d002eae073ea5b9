#!/bin/bash
# What "make install" installs can be used: the example in mirror.h is compiled against it
# with what pkg-config says, and copies a disk; so is a program that verifies.
. "$(dirname "$0")/lib/mirror.bash"
requires make cc pkg-config nbdkit openssl
[ "${SNM_MODE:-release}" = release ] || skip "a library with sanitizers is not installed"

tree=$PWD/tree
make -s -C "$SOURCES" install MODE=release DESTDIR="$tree" PREFIX=/usr >make.txt 2>&1 ||
    die "$(cat make.txt)"
[ -x tree/usr/bin/nbd-mirror ] || die "no nbd-mirror"
[ -s tree/usr/share/man/man1/nbd-mirror.1 ] || die "no man page"
export PKG_CONFIG_PATH=$tree/usr/lib/pkgconfig
pkg-config --exists nbdmirror || die "pkg-config does not know it"
[ "nbd-mirror $(pkg-config --modversion nbdmirror)" = "$(mirror --version)" ] ||
    die "another version"
# Not PKG_CONFIG_SYSROOT_DIR, which would move libnbd too.
read -ra flags < <(pkg-config --define-variable=prefix="$tree/usr" --cflags --libs nbdmirror)
build() {
    cc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -o "$1" "$1.c" "${flags[@]}" >cc.txt 2>&1 ||
        die "$(cat cc.txt)"
}

# The lines of the comment from the first include to the end of main().
sed 's,^ \*     ,,; s,^ \*$,,' tree/usr/include/nbd-mirror/mirror.h |
    awk '/^#include <errno.h>/ { on = 1 } /^int main/ { last = 1 }
         on { print } /^}$/ && last { on = last = 0 }' >example.c
grep -q mirror_flush example.c || die "no example in mirror.h"
build example
scatter a.raw 5000192 11
noise 12 5000192 >b.raw
serve_nbdkit src -r file a.raw
serve_nbdkit dst file b.raw
./example src dst || die "the example fails"
cmp a.raw b.raw
./example src nowhere 2>err.txt && die "no error"
grep -q 'vda: dst: cannot connect: nowhere: No such file' err.txt || die "$(cat err.txt)"

# Every installed header compiles alone, and the rest of the library links.
for h in mirror verify digest; do
    echo "#include <nbd-mirror/$h.h>"
done >user.c
cat >>user.c <<'EOF'
#include <nbd-mirror/base/cancel.h>
int main(int argc, char **argv)
{
    const struct verify_cfg cfg = { .name = "vda", .connections = 17 };
    const struct mirror_side none = { NULL, argv, "" };
    struct verify_result r;
    struct err e;

    return !verify_run(&cfg, &none, &none, &r, &e) && e.kind == ERR_USAGE ? 0 : argc;
}
EOF
build user
./user || die "verify_run() of no sense"

make -s -C "$SOURCES" uninstall DESTDIR="$tree" PREFIX=/usr >make.txt 2>&1
[ -z "$(find tree -type f)" ] || die "left: $(find tree -type f)"
