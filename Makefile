# SPDX-License-Identifier: Apache-2.0
# For people; Meson does the work. `make help` lists the targets.
.PHONY: all run check quick bench format tidy deb install clean help

BUILD = build
CC = gcc

all: $(BUILD)/build.ninja ## build; the programs are build/sarsend and build/sarsen
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@tools/install-deps build
	@CC="$$(command -v ccache) $(CC)" meson setup $(BUILD)

# Only the programs: tests and benchmarks take longer to build than they do.
run: $(BUILD)/build.ninja ## start the daemon on a pool below run/, one disk over iSCSI and NVMe
	@tools/install-deps run
	@ninja -C $(BUILD) sarsend sarsen sarsen-keeper
	@exec tools/run $(BUILD)

check: ## everything that must pass before a change lands (40 minutes on 2 cores)
	@tools/install-deps build check
	@tools/check

quick: all ## the fast tests only (under a minute)
	@meson test -C $(BUILD) --suite fast

bench: ## measure against the raw disk and peers
	@tools/install-deps build bench
	@$(MAKE) --no-print-directory all
	@bench/run

format: ## lay the C code out with clang-format
	@tools/install-deps format
	@git ls-files '*.c' '*.h' | xargs clang-format -i

tidy: ## rules of the house that no compiler checks, with notes
	@tools/tidy --notes

deb: ## Debian packages of this checkout, in build-deb/
	@tools/install-deps build deb
	@tools/deb

install: all ## programs and pages to the system (DESTDIR=... to stage)
	@meson install -C $(BUILD)

clean: ## remove the builds; run/ holds data and stays
	@rm -rf build build-asan build-tsan build-fuzz build-deb

help:
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10
