# shale - one LevelDB database for every process on a machine.
#
#   make            the daemon, the library and the tools, under build/release
#   make demo       the main job on real input
#   make check      every test (BUILD=asan, BUILD=tsan, BUILD=debug: the same under a sanitizer, side by side)
#   make help       all targets
#
# One Makefile for all folders; header dependencies come from the compiler. Sources are found by folder:
#   shm/ client/ → libshale     shm/ engine/ daemon/ → shaled     tools/*/ → one program per folder, tools/*.c for all of them
#   tests/<folder>/test_*.c → one Check program each (tests/<folder>/*.c without test_ are helpers linked to all of the folder)

BUILD  ?= release
OUT    ?= build/$(BUILD)
PREFIX ?= /usr/local
# Of the library and its pkg-config file; a Debian package says /usr/lib/x86_64-linux-gnu.
LIBDIR ?= $(PREFIX)/lib
SOVERSION := 0
VERSION   := $(shell sed -n 's/^\#define SHALE_VERSION "\(.*\)"/\1/p' client/shale.h)
# make's own default is cc, which a bare system does not have and deps.sh does not bring.
ifeq ($(origin CC),default)
CC := gcc
endif

CFLAGS_release := -O2 -g
CFLAGS_debug   := -O1 -g -DSHALE_DEBUG
CFLAGS_asan    := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined -DSHALE_DEBUG
CFLAGS_tsan    := -O1 -g -fsanitize=thread -DSHALE_DEBUG
CFLAGS_fuzz    := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined \
	-DSHALE_DEBUG -DFUZZ_LIBFUZZER
CFLAGS_coverage := -O0 -g --coverage -fprofile-update=atomic -DSHALE_DEBUG
LDFLAGS_asan   := -fsanitize=address,undefined
LDFLAGS_tsan   := -fsanitize=thread
LDFLAGS_fuzz   := -fsanitize=address,undefined
LDFLAGS_coverage := --coverage
ifeq ($(CFLAGS_$(BUILD)),)
$(error BUILD=$(BUILD) is not known: use release, debug, asan, tsan, fuzz or coverage)
endif

WARNINGS := -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings
ifdef WERROR
WARNINGS += -Werror
endif
ALL_CFLAGS := -std=gnu17 -D_GNU_SOURCE -I. $(WARNINGS) -fPIC -fvisibility=hidden -ffunction-sections -fdata-sections \
	-pthread $(CFLAGS_$(BUILD)) $(CPPFLAGS) $(CFLAGS)
ALL_LDFLAGS := -pthread -Wl,--gc-sections $(LDFLAGS_$(BUILD)) $(LDFLAGS)

ENGINE_LIBS := -luring -lisal -lzstd -lsnappy
DAEMON_LIBS := $(ENGINE_LIBS) -linih -lsystemd
ifeq ($(BUILD),release)
DAEMON_LIBS += -ljemalloc
endif
TOOL_LIBS_shalectl    := -lsmartcols -ljansson -linih $(ENGINE_LIBS)
TOOL_LIBS_demo        := -lleveldb
TOOL_LIBS_shale-bench := -lleveldb -ljansson -lm $(DAEMON_LIBS)

# Engines that shale-bench compares with, as far as their packages are there (make deps-bench).
bench_peers := $(foreach p,rocksdb lmdb hiredis,$(shell pkg-config --exists $(p) 2>/dev/null && echo $(p)))
CPPFLAGS_shale-bench  := $(if $(filter rocksdb,$(bench_peers)),-DHAVE_ROCKSDB) $(if $(filter lmdb,$(bench_peers)),-DHAVE_LMDB) \
	$(if $(filter hiredis,$(bench_peers)),-DHAVE_REDIS)
TOOL_LIBS_shale-bench += $(if $(filter rocksdb,$(bench_peers)),-lrocksdb) $(if $(filter lmdb,$(bench_peers)),-llmdb) \
	$(if $(filter hiredis,$(bench_peers)),-lhiredis)

shm_src    := $(wildcard shm/*.c)
engine_src := $(wildcard engine/*.c)
client_src := $(wildcard client/*.c)
daemon_src := $(wildcard daemon/*.c)
objects     = $(patsubst %.c,$(OUT)/obj/%.o,$(1))

tools      := $(notdir $(patsubst %/,%,$(dir $(wildcard tools/*/main.c))))
programs   := $(OUT)/shaled $(addprefix $(OUT)/,$(tools))
libraries  := $(OUT)/libshale.so $(OUT)/libshale.a

# TEST_FOLDERS="shm engine": only theirs. TESTS: single programs.
TEST_FOLDERS ?= *
test_src   := $(wildcard $(TEST_FOLDERS:%=tests/%/test_*.c))
# The model is the same in every build, and takes half a minute.
ifneq ($(BUILD),release)
test_src   := $(filter-out tests/model/%,$(test_src))
endif
tests      := $(patsubst tests/%.c,$(OUT)/tests/%,$(test_src))
TESTS      ?= $(tests)

.PHONY: all man check sim sim-exhaustive sim-bugs crash tests fuzz fuzz-programs model coverage differential hostile bit-flips check-systemd deb check-deb demo bench fairness install uninstall deps deps-ci deps-bench deps-deb format help clean FORCE
all: $(libraries) $(programs)

# ---- what the build needs; installed by itself where it may ----

DEPS_OK := build/.deps
deps:
	@tools/deps.sh
deps-ci:
	@tools/deps.sh ci
deps-bench:
	@tools/deps.sh bench
deps-deb:
	@tools/deps.sh deb
$(DEPS_OK): tools/deps.sh
	@tools/deps.sh
	@mkdir -p build && touch $@

# ---- compile ----

# V=1 shows whole commands; make -s none at all.
ifeq ($(V)$(findstring s,$(firstword -$(MAKEFLAGS))),)
quiet = @printf '  %-5s %s\n' $(1) $@;
endif

# Other flags, another compiler, or a package of choice that has come (make deps-bench): everything is compiled again.
flags_now = $(CC) $(ALL_CFLAGS) $(CPPFLAGS_shale-bench) $(wildcard /usr/include/sys/sdt.h /usr/include/*/sys/sdt.h)
$(OUT)/.flags: FORCE | $(DEPS_OK)
	@mkdir -p $(@D)
	@echo '$(flags_now)' | cmp -s - $@ || echo '$(flags_now)' >$@
FORCE:

$(OUT)/obj/%.o: %.c $(OUT)/.flags | $(DEPS_OK)
	@mkdir -p $(@D)
	$(call quiet,CC)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

-include $(shell find $(OUT)/obj -name '*.d' 2>/dev/null)

$(OUT)/libshm.a: $(call objects,$(shm_src))
$(OUT)/libengine.a: $(call objects,$(engine_src))
$(OUT)/libdaemon.a: $(call objects,$(filter-out daemon/main.c,$(daemon_src)))
$(OUT)/libtools.a: $(call objects,$(wildcard tools/*.c))
$(OUT)/libshale.a: $(call objects,$(client_src) $(shm_src))
$(OUT)/%.a:
	@rm -f $@
	$(call quiet,AR)ar rcs $@ $^

# nodelete: threads that used the library run its clean-up when they end, maybe after a dlclose().
$(OUT)/libshale.so.$(SOVERSION): $(call objects,$(client_src) $(shm_src)) client/libshale.map
	$(call quiet,LD)$(CC) $(ALL_LDFLAGS) -shared -Wl,-soname,libshale.so.$(SOVERSION) -Wl,--version-script,client/libshale.map \
		-Wl,-z,defs -Wl,-z,nodelete -o $@ $(filter %.o,$^)
$(OUT)/libshale.so: $(OUT)/libshale.so.$(SOVERSION)
	@ln -sf $(<F) $@

$(OUT)/shaled: $(OUT)/obj/daemon/main.o $(OUT)/libdaemon.a $(OUT)/libengine.a $(OUT)/libshm.a
	$(call quiet,LD)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(DAEMON_LIBS)

# verify, repair and dump read files themselves: offline, with the engine's code; config knows the daemon's settings.
TOOL_PARTS_shalectl   := $(OUT)/libdaemon.a $(OUT)/libengine.a
# The driver "engine" runs ours in the benchmark's own process.
TOOL_PARTS_shale-bench := $(OUT)/libdaemon.a $(OUT)/libengine.a
$(OUT)/obj/tools/shale-bench/%.o: private ALL_CFLAGS += $(CPPFLAGS_shale-bench)

define tool_rule
$(OUT)/$(1): $(call objects,$(wildcard tools/$(1)/*.c)) $(OUT)/libtools.a $$(TOOL_PARTS_$(1)) $(OUT)/libshale.a
	$$(call quiet,LD)$$(CC) $$(ALL_LDFLAGS) -o $$@ $$^ $$(TOOL_LIBS_$(1))
endef
$(foreach t,$(tools),$(eval $(call tool_rule,$(t))))

# ---- test ----

define test_rule
$(OUT)/tests/$(1)/test_%: $(OUT)/obj/tests/$(1)/test_%.o $(call objects,$(wildcard tests/*.c) \
		$(filter-out tests/$(1)/test_%,$(wildcard tests/$(1)/*.c))) \
		$(OUT)/libdaemon.a $(OUT)/libengine.a $(OUT)/libtools.a $(OUT)/libshale.a
	@mkdir -p $$(@D)
	$$(call quiet,LD)$$(CC) $$(ALL_LDFLAGS) -o $$@ $$^ -lcheck -lm -lrt -lsubunit -lleveldb $$(filter-out -ljemalloc,$$(DAEMON_LIBS)) -ljansson
endef
$(foreach d,$(patsubst tests/%/,%,$(sort $(dir $(test_src)))),$(eval $(call test_rule,$(d))))
.SECONDARY:

tests: all $(TESTS)
check: tests
	@SHALE_BUILD=$(abspath $(OUT)) tests/run.sh $(TESTS)

# SECONDS: of each target; TARGET="block table": only these. The corpus that is kept is tests/fuzz/corpus/; see tests/fuzz/README.md.
FUZZ_SECONDS := $(if $(filter command% environment%,$(origin SECONDS)),$(SECONDS),8)
fuzz_targets := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
fuzz:
	@$(MAKE) --no-print-directory BUILD=fuzz OUT=build/fuzz CC=clang fuzz-programs
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run.sh build/fuzz/fuzz $(or $(TARGET),$(fuzz_targets))
fuzz-programs: $(fuzz_targets:%=$(OUT)/fuzz/%)
$(OUT)/fuzz/%: $(OUT)/obj/tests/fuzz/fuzz_%.o $(call objects,$(filter-out tests/fuzz/fuzz_% tests/fuzz/test_%,$(wildcard tests/fuzz/*.c))) \
		$(OUT)/libdaemon.a $(OUT)/libengine.a $(OUT)/libshm.a
	@mkdir -p $(@D)
	$(call quiet,LD)$(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(DAEMON_LIBS)

# The parking protocol of the rings, checked by spin: it holds, and each planted fault is found.
model:
	@tests/model/run.sh || [ $$? = 77 ]

# Which lines and branches the tests reach; fails below the floors in tests/coverage.sh.
coverage:
	@tests/coverage.sh

# Daemons killed, and file systems taken away, some 200 times. BUILD=debug or asan: at named points of the code as well.
crash_tests := $(filter $(OUT)/tests/proc/test_crash_%,$(tests))
crash: all $(crash_tests)
	@SHALE_BUILD=$(abspath $(OUT)) tests/crash.sh $(crash_tests)

# As many hostile submissions as fit into SECONDS, against a real daemon; the last line counts them.
SECONDS ?= 60
hostile: $(OUT)/shaled $(OUT)/tests/proc/test_hostile_flood
	@SHALE_BUILD=$(abspath $(OUT)) SHALE_HOSTILE_SECONDS=$(SECONDS) $(OUT)/tests/proc/test_hostile_flood >$(OUT)/hostile.log 2>&1; rc=$$?; \
		grep -v '^hostile: ' $(OUT)/hostile.log; grep '^hostile: ' $(OUT)/hostile.log || echo 'hostile: failed'; exit $$rc

# Ours against stock LevelDB, a million operations for each of ten seeds, two at a time: some three minutes on two cores. SHALE_SEED=n: seeds n to n + 9. In memory where
# there is room: creating files is what the disk would be asked for most.
differential: $(OUT)/tests/engine/test_differential
	@SHALE_DIFF_OPS=$${SHALE_DIFF_OPS:-1000000} SHALE_DIFF_SEEDS=1 TMPDIR=$$([ -w /dev/shm ] && echo /dev/shm || echo $${TMPDIR:-/tmp}) \
		sh -c 'first=$${SHALE_SEED:-$$(date +%s)}; seq $$first $$((first + 9)) | xargs -P 2 -I{} env SHALE_SEED={} $<'

# Every bit of every file of a small database, one at a time: some two minutes. (check flips one bit of every byte.)
bit-flips: $(OUT)/tests/engine/test_bit_flips
	@SHALE_FLIP_ALL=1 $<

# The service as make install leaves it, in a container with systemd as PID 1. Needs root, systemd and systemd-container; else it says so.
check-systemd: all man $(OUT)/tests/systemd/worker
	@tests/systemd/run.sh $(OUT)
$(OUT)/tests/systemd/worker: $(call objects,$(wildcard tests/systemd/*.c)) $(OUT)/libshale.a
	@mkdir -p $(@D)
	$(call quiet,LD)$(CC) $(ALL_LDFLAGS) -o $@ $^

# ---- simulate: engine, disk, crashes in one process (tests/sim/README.md) ----

# SEED, SECONDS, SIM_JOBS: where to begin, for how long, with how many processes. REPLAY=file runs one script.
SEED    ?= 1
SECONDS ?= 60
SIM_JOBS ?= $(shell nproc)
# Operations in a sequence for sim-exhaustive; seconds for each planted bug.
SIM_OPERATIONS ?= 3
SIM_BUG_SECONDS ?= 30

sim_src := $(filter-out tests/sim/test_%,$(wildcard tests/sim/*.c)) tests/sim/run/main.c
# The bugs of engine/plant.h are in these objects only.
planted  = $(patsubst %.c,$(OUT)/obj/planted/%.o,$(1))

$(OUT)/obj/planted/%.o: %.c $(OUT)/.flags | $(DEPS_OK)
	@mkdir -p $(@D)
	$(call quiet,CC)$(CC) $(ALL_CFLAGS) -DSHALE_PLANT -MMD -MP -c -o $@ $<

$(OUT)/sim: $(call objects,$(sim_src)) $(OUT)/libengine.a $(OUT)/libshm.a
$(OUT)/sim-planted: $(call planted,$(sim_src) $(engine_src)) $(OUT)/libshm.a
$(OUT)/sim $(OUT)/sim-planted:
	$(call quiet,LD)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(ENGINE_LIBS)

sim: $(OUT)/sim
	@$< --failures $(OUT)/sim-failures $(if $(REPLAY),--replay $(REPLAY),--seed $(SEED) --seconds $(SECONDS) --jobs $(SIM_JOBS))
sim-exhaustive: $(OUT)/sim
	@$< --exhaustive $(SIM_OPERATIONS) --jobs $(SIM_JOBS)
sim-bugs: $(OUT)/sim-planted
	@$< --bugs --seed $(SEED) --seconds $(SIM_BUG_SECONDS) --jobs $(SIM_JOBS)

# ---- use ----

demo: all
	@tools/demo/run.sh $(OUT)

bench: all
	@tools/shale-bench/run.sh $(OUT)

# What a flooding client costs another: p50 and p99 alone, beside one and beside four. Some two minutes, on a quiet machine.
fairness: all
	@$(OUT)/shale-fairness

# ---- manual pages ----

# Of the library's functions, the tools, the daemon and its settings, from */man/*.scd. Without scdoc there are none.
man: $(OUT)/shaled $(OUT)/shalectl
	@client/man/build.sh $(OUT)/man $(OUT)/shaled

# ---- install ----

bindir     := $(DESTDIR)$(PREFIX)/bin
libdir     := $(DESTDIR)$(LIBDIR)
includedir := $(DESTDIR)$(PREFIX)/include
docdir     := $(DESTDIR)$(PREFIX)/share/doc/shale
mandir     := $(DESTDIR)$(PREFIX)/share/man
unitdir    := $(DESTDIR)$(PREFIX)/lib/systemd/system
systemd    := $(unitdir)/shaled.service $(unitdir)/shaled.socket $(unitdir)/shaled@.service $(unitdir)/shaled@.socket \
	$(DESTDIR)$(PREFIX)/lib/sysusers.d/shale.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/shale.conf
compdir    := $(DESTDIR)$(PREFIX)/share/bash-completion/completions
installed  := $(bindir)/shaled $(bindir)/shalectl $(bindir)/shale-run $(bindir)/shale-bench \
	$(libdir)/libshale.so $(libdir)/libshale.so.$(SOVERSION) $(libdir)/libshale.a $(libdir)/pkgconfig/shale.pc \
	$(includedir)/shale.h $(compdir)/shalectl

install: all man
	install -d $(bindir) $(libdir)/pkgconfig $(includedir) $(docdir)/examples $(compdir)
	install -m 755 $(addprefix $(OUT)/,shaled shalectl shale-run shale-bench) $(bindir)
	$(OUT)/shalectl completion bash >$(compdir)/shalectl
	install -m 755 $(OUT)/libshale.so.$(SOVERSION) $(libdir)
	ln -sf libshale.so.$(SOVERSION) $(libdir)/libshale.so
	install -m 644 $(OUT)/libshale.a $(libdir)
	install -m 644 client/shale.h $(includedir)
	sed -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@LIBDIR@|$(LIBDIR:$(PREFIX)/%=$${prefix}/%)|g' -e 's|@VERSION@|$(VERSION)|g' client/shale.pc.in >$(libdir)/pkgconfig/shale.pc
	install -m 644 README.md ARCHITECTURE.md LICENSE $(wildcard daemon/shaled.conf*) $(docdir)
	install -m 644 $(wildcard client/examples/*) $(docdir)/examples
	for page in $(OUT)/man/man*/*; do [ ! -f "$$page" ] || install -D -m 644 -t $(mandir)/"$$(basename "$${page%/*}")" "$$page" || exit; done
	daemon/systemd/units.sh $(PREFIX)/bin $(unitdir)
	install -D -m 644 daemon/systemd/shale.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/shale.conf
	install -D -m 644 daemon/systemd/shale.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/shale.conf

uninstall:
	rm -f $(installed) $(systemd)
	rm -rf $(docdir)
	rm -f $(mandir)/man3/libshale.3 $(mandir)/man3/shale_*.3 $(mandir)/man1/shalectl.1 $(mandir)/man1/shale-*.1 \
		$(mandir)/man5/shaled.conf.5 $(mandir)/man7/shale-probes.7 $(mandir)/man8/shaled.8

# ---- Debian packages ----

# shaled, shale-tools, libshale0, libshale-dev, from the tracked files as they are now.
deb: deps-deb
	@tools/debian/build.sh build/deb

# Looked at by lintian; installed, upgraded, removed and purged in a bare Debian in a container. Needs root and a mirror; else it says so.
check-deb: deb
	@tests/packages/run.sh build/deb

# ---- keep ----

format:
	clang-format -i $(shell git ls-files '*.c')

clean:
	rm -rf build

help:
	@sed -n '/^# /p;/^$$/q' Makefile | cut -c3-
	@echo 'targets'
	@echo '  all        the default: shaled, libshale, shalectl, shale-run, shale-bench, the demo'
	@echo '  demo       four writers, a scanner, two kills; read back by us and by stock LevelDB'
	@echo '  check      all tests; one: make check TESTS=build/release/tests/shm/test_ring; TEST_FOLDERS="shm engine"'
	@echo '  crash      the daemon killed, and its file system taken away, some 200 times (BUILD=debug: at named points, too)'
	@echo '  hostile    a flood of hostile submissions for SECONDS=60, beside a client that checks its data'
	@echo '  differential  a random stream of a million operations, ten times, into ours and into stock LevelDB'
	@echo '  fuzz       libFuzzer (clang) over every decoder, SECONDS=n each; one: TARGET=block'
	@echo '  model      the parking protocol as a model, by spin'
	@echo '  coverage   lines and branches that the tests reach, by gcovr'
	@echo '  bit-flips  each bit of a small database flipped in turn: detected, or harmless'
	@echo '  sim        the engine on a simulated disk, with crashes and faults: SEED=1 SECONDS=60, or REPLAY=file'
	@echo '  sim-exhaustive  every short sequence of operations, with a crash at every I/O;  sim-bugs: planted bugs, each must be found'
	@echo '  bench      shale beside its peers on this machine: JSON lines, ratios, a chart in build/bench (deps-bench first)'
	@echo '  man        manual pages, where scdoc is installed'
	@echo '  install    into PREFIX ($(PREFIX)), below DESTDIR, with units for systemd; uninstall takes it away'
	@echo '  deb        Debian packages, in build/deb;  check-deb: lintian, and what installing, upgrading, removing and purging them does (root)'
	@echo '  check-systemd  the installed service in a container with systemd as PID 1 (root only)'
	@echo '  deps       installs the Debian packages, or prints the line that does; called by itself'
	@echo '  deps-ci    the same for what CI checks beside the tests: fuzzers, models, valgrind, file systems'
	@echo '  deps-bench the same for the engines that make bench compares with: RocksDB, LMDB, Redis'
	@echo '  deps-deb   the same for building and trying out the Debian packages'
	@echo '  format     clang-format over every .c (headers are laid out by hand);  clean: removes build/'
	@echo 'variables'
	@echo '  BUILD=release|debug|asan|tsan|coverage   OUT=folder   WERROR=1   V=1 (whole commands)   CC, CFLAGS, LDFLAGS'
