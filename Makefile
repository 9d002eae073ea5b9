# One Makefile, no recursion but into itself: `make check` on a fresh machine must first
# install what pkg-config is asked about below.  `make help` lists the targets.

MODE   ?= release
B      := build/$(MODE)
PREFIX ?= /usr/local
Q      := $(if $(V),,@)

ifeq ($(filter $(MODE),release asan tsan cov fuzz),)
$(error MODE=$(MODE) is none of release asan tsan cov fuzz)
endif

VERSION := $(shell sed -n 's/.*SNMIGRATE_VERSION "\(.*\)"/\1/p' src/base/version.h)
PC        := libvirt libvirt-qemu libnbd libzstd libnghttp2 json-c libxml-2.0 libxxhash \
             libseccomp
PC_TEST   := cmocka
PC_ERRORS := $(shell pkg-config --print-errors --errors-to-stdout $(PC) 2>&1)

# No -D_FORTIFY_SOURCE under sanitizers: they check more, and it hides calls from them.
F_release := -O2 -D_FORTIFY_SOURCE=2 -fstack-protector-strong
F_asan    := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined \
             -fno-sanitize-recover=all
F_tsan    := -O1 -fno-omit-frame-pointer -fsanitize=thread
F_fuzz    := -O1 -fno-omit-frame-pointer -fno-sanitize-recover=all \
             -fsanitize=fuzzer-no-link,address,undefined
F_cov     := -O0 --coverage -fprofile-update=atomic
ifeq ($(MODE),fuzz)
CC := clang
endif
# NDEBUG is never defined: assert() guards the guest.
CPPFLAGS  += -Isrc -I. -D_GNU_SOURCE $(shell pkg-config --cflags $(PC) 2>/dev/null)
CFLAGS    += -std=c11 -g -pthread -pedantic -Wall -Wextra -Wshadow -Wvla -Wformat=2 \
             -Wwrite-strings -Wimplicit-fallthrough -Wmissing-prototypes \
             -Wstrict-prototypes $(F_$(MODE)) $(if $(DEV),-Werror)
LDFLAGS   += -pthread $(F_$(MODE))
LDLIBS    += $(shell pkg-config --libs $(PC) 2>/dev/null) -lm
LIBS_TEST := $(shell pkg-config --libs $(PC_TEST) 2>/dev/null)

# Objects have a folder of their own: nbd-mirror is a program and a folder.
o = $(patsubst %.c,$B/obj/%.o,$(1))
BASE   := $(call o,$(wildcard src/base/*.c))
MIRROR := $(call o,$(wildcard nbd-mirror/*.c))
MIRROR_CMD := $(call o,$(wildcard nbd-mirror/command/*.c))
OBJ    := $(call o,$(filter-out %/main.c,$(wildcard src/*/*.c))) $(MIRROR)
MAINS  := $(wildcard src/cli/main.c nbd-mirror/command/main.c)
BIN    := $(if $(filter src/cli/%,$(MAINS)),$B/snmigrate) \
          $(if $(filter nbd-mirror/%,$(MAINS)),$B/nbd-mirror)
MAN    := $(wildcard src/cli/*.1 nbd-mirror/*.1)
UNITS  := $(PREFIX)/lib/systemd/system
# Helpers of the tests: a library (fake disks), programs, fuzz targets that replay.
LIB    := $(call o,$(wildcard tests/lib/*.c))
UNIT   := $(patsubst tests/unit/%.c,$B/unit/%,$(wildcard tests/unit/test_*.c))
TOOLS  := $(patsubst tests/tools/%.c,$B/tools/%,$(wildcard tests/tools/*.c))
FUZZ   := $(patsubst tests/fuzz/fuzz_%.c,$B/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
# What a user of the library includes: its headers, and those of base that they need.
API      := nbd-mirror/mirror.h nbd-mirror/hot.h nbd-mirror/verify.h nbd-mirror/digest.h nbd-mirror/counters.h
API_BASE := src/base/err.h src/base/cancel.h
C_ALL  := $(wildcard src/*/*.[ch] nbd-mirror/*.[ch] nbd-mirror/*/*.[ch] tests/*/*.[ch] examples/*.[ch])

# Once more ourselves, after something that pkg-config must see; on all CPUs.
AGAIN = +$(MAKE) $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

.PHONY: all check check-run check-part check-faults check-cross asan tsan asan-faults tsan-faults \
        faults-part cov fuzz fuzz-run tidy format \
        format-check lint torture bench bench-run demo demo-run install uninstall clean help \
        deps man flags tests
.DELETE_ON_ERROR:
.SECONDARY:

## all: the two programs and libnbdmirror.a, in build/$(MODE)
all: $(BIN) $B/libnbdmirror.a

$B/obj/%.o: %.c
	$(if $(PC_ERRORS),$(error $(PC_ERRORS) ("make deps" installs it)))
	@mkdir -p $(@D)
	$(if $Q,@echo "  CC   $@")
	$Q$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# The mirror engine and all of base, of which a linker takes what is used.
$B/libnbdmirror.a: $(MIRROR) $(BASE)
$B/libsnmigrate.a: $(OBJ)
$B/libtests.a: $(LIB)
$B/lib%.a:
	@mkdir -p $(@D)
	@rm -f $@
	$(if $Q,@echo "  AR   $@")
	$Q$(AR) rcs $@ $^

LINK = $Qmkdir -p $(@D); $(if $Q,echo "  LINK $@";) $(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^
$B/snmigrate: $B/obj/src/cli/main.o $(OBJ)
	$(LINK) $(LDLIBS)
$B/nbd-mirror: $(MIRROR_CMD) $B/libnbdmirror.a
	$(LINK) $(LDLIBS)
$B/unit/%: $B/obj/tests/unit/%.o $B/libtests.a $B/libsnmigrate.a
	$(LINK) $(LDLIBS) $(LIBS_TEST)
$B/tools/%: $B/obj/tests/tools/%.o $B/libtests.a $B/libsnmigrate.a
	$(LINK) $(LDLIBS)
# Replaying its corpus; with MODE=fuzz looking for more.
FUZZ_MAIN := $(if $(filter fuzz,$(MODE)),,$B/obj/tests/fuzz/replay.o)
$B/fuzz/%: $B/obj/tests/fuzz/fuzz_%.o $(FUZZ_MAIN) $B/libtests.a $B/libsnmigrate.a
	$(LINK) $(LDLIBS) $(if $(FUZZ_MAIN),,-fsanitize=fuzzer)

## check: everything that is tested, after installing what it needs; about 35 minutes
check: deps
	$(AGAIN) check-run
check-run: all tests
	tests/run $B
tests: $(UNIT) $(TOOLS) $(FUZZ)

## check-faults: every cell of tests/fault/MATRIX.md; about 75 minutes
FAULTS := $(patsubst tests/%,%,$(wildcard tests/e2e/fault-*.sh))
check-faults: deps
	$(AGAIN) all tests
	SNM_FAULTS=all tests/run $B $(FAULTS) fault

## check-cross: moves between this Debian and another one's libvirt and QEMU
check-cross: deps
	$(AGAIN) all tests
	tests/run $B cross

## asan: unit, fuzz replay, integration tests and leaks of whole moves under ASan and UBSan
## tsan: the same under the thread sanitizer
## cov: the same, counting lines; then gcov reads build/cov
asan tsan cov:
	$(AGAIN) MODE=$@ check-part
check-part: all tests
	tests/run $B unit fuzz integ $(if $(filter asan,$(MODE)),e2e/ok-leaks.sh)

## asan-faults tsan-faults: the fault cells of make check under a sanitizer; about 30 minutes
asan-faults tsan-faults: deps
	$(AGAIN) MODE=$(@:-faults=) faults-part
faults-part: all tests
	tests/run $B $(FAULTS)

## fuzz: libFuzzer on every target, or on those in NAMES=, for SECONDS=60 each; by clang
fuzz: deps
	$(AGAIN) MODE=fuzz fuzz-run
fuzz-run: $(FUZZ)
	tests/fuzz/run $B $(or $(SECONDS),60) $(NAMES)

## lint: layers, headers, banned calls, formatting, options against their documents
lint: all
	tests/run $B lint
## tidy: clang-tidy and cppcheck
tidy:
	tests/tidy
## format: lay the sources out as .clang-format says; format-check: only look
format:
	clang-format -i $(C_ALL)
format-check:
	tests/lint/format.sh
## man: check the manual pages and write them as text into build/man
man:
	@mkdir -p build/man
	$(foreach m,$(MAN),mandoc -T lint -W warning $m && \
	mandoc -T utf8 -O width=80 $m | col -bx > build/man/$(notdir $m).txt &&) :

## torture: moves with faults at random for SECONDS=600 (of SEED=N, which it prints)
torture: deps
	$(AGAIN) all tests
	SNM_BUILD=$(abspath $B) tests/fault/torture $(or $(SECONDS),600) $(SEED)
## bench: the measurements of tests/bench/README
bench: deps
	$(AGAIN) bench-run
bench-run: all tests
	tests/bench/run $B
## demo: a move between two hosts on this machine, as a user would do it
demo: deps
	$(AGAIN) demo-run
demo-run: all tests
	SNM_BUILD=$(abspath $B) examples/demo

## install, uninstall: under $(DESTDIR)$(PREFIX), which is /usr/local
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1
	$(if $(BIN),install $(BIN) $(DESTDIR)$(PREFIX)/bin)
	$(if $(MAN),install -m 644 $(MAN) $(DESTDIR)$(PREFIX)/share/man/man1)
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,lib/pkgconfig include/nbd-mirror/base)
	install -m 644 $B/libnbdmirror.a $(DESTDIR)$(PREFIX)/lib
	install -m 644 $(API) $(DESTDIR)$(PREFIX)/include/nbd-mirror
	install -m 644 $(API_BASE) $(DESTDIR)$(PREFIX)/include/nbd-mirror/base
	sed 's,@PREFIX@,$(PREFIX),; s,@VERSION@,$(VERSION),' nbd-mirror/nbdmirror.pc.in \
	    > $(DESTDIR)$(PREFIX)/lib/pkgconfig/nbdmirror.pc
	install -d $(DESTDIR)$(UNITS)
	sed 's,@bindir@,$(PREFIX)/bin,' src/cli/snmigrate-recover.service \
	    > $(DESTDIR)$(UNITS)/snmigrate-recover.service
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/snmigrate $(DESTDIR)$(PREFIX)/bin/nbd-mirror
	rm -f $(DESTDIR)$(PREFIX)/share/man/man1/snmigrate.1
	rm -f $(DESTDIR)$(PREFIX)/share/man/man1/nbd-mirror.1
	rm -f $(DESTDIR)$(PREFIX)/lib/libnbdmirror.a
	rm -f $(DESTDIR)$(PREFIX)/lib/pkgconfig/nbdmirror.pc
	rm -rf $(DESTDIR)$(PREFIX)/include/nbd-mirror
	rm -f $(DESTDIR)$(UNITS)/snmigrate-recover.service

## deps: install the Debian packages that building and testing need (as root)
deps:
	tests/deps
## flags: print what the sources are compiled with, for tests/lint and editors
flags:
	@echo $(CPPFLAGS) $(CFLAGS)
## clean: remove build/
clean:
	rm -rf build
## help: this list; variables: MODE=release|asan|tsan|cov|fuzz DEV=1 V=1 PREFIX= DESTDIR=
help:
	@sed -n 's/^## //p' Makefile

-include $(shell find $B -name '*.d' 2>/dev/null)
