# SPDX-License-Identifier: BSD-3-Clause
# The two commands: `make run` shows Lethe at work, `make check` tests it. The
# rest is behind them. All building is CMake's (CMakePresets.json).

.PHONY: check-k8s chaos-k8s k8s-shell k8s-release rdma-shell help run check check-long bench sim sim-planted chaos format build install uninstall package setup clean
SEEDS ?= 200
SEED ?=
MINUTES ?= 30
PREFIX ?= /usr/local

help:
	@echo 'make run         build, then show a NAT that survives kill -9, on real traffic (root)'
	@echo 'make check       build, with sanitizers too, and run the tests (root)'
	@echo 'make check-long  the same with the long tests'
	@echo 'make bench       measure; tables here, JSON in build/bench/'
	@echo 'make sim         the simulator alone: SEEDS=1000, or SEED=17 to replay one'
	@echo 'make sim-planted  every planted bug and the seeds it takes to find it (MINUTES=30)'
	@echo 'make chaos       break a whole site on purpose: SEED=7 MINUTES=30 (root)'
	@echo 'make chaos-k8s   break a Kubernetes of two nodes on purpose: SEED=7 MINUTES=10 (root)'
	@echo 'make check-k8s   the manifests on a Kubernetes of two nodes; make k8s-shell: one to try (root)'
	@echo 'make rdma-shell  a shell on a machine with soft-RoCE'
	@echo 'make format      clang-format over the lines you changed and did not commit'
	@echo 'make package     Debian packages in build/package/'
	@echo 'make install     PREFIX=/usr/local DESTDIR=; make uninstall takes it back'

setup:
	@./setup.sh

build: setup
	@mkdir -p build
	@cmake --preset dev >build/configure.log 2>&1 || { cat build/configure.log; exit 1; }
	@cmake --build --preset dev

run: build
	@tests/run.sh demo

check: build
	@./setup.sh check
	@tests/run.sh check

check-long: build
	@./setup.sh kubernetes
	@tests/run.sh check-long

sim: build
	@build/dev/tests/sim/sim $(if $(SEED),--seed $(SEED) --trace,--seeds $(SEEDS) --jobs $$(nproc))

# Two halves at once, one a core; each line is a bug and its seeds.
sim-planted: build
	@build/dev/tests/sim/sim --all-bugs --part 1/2 --minutes $(MINUTES) & \
	 build/dev/tests/sim/sim --all-bugs --part 2/2 --minutes $(MINUTES); \
	 second=$$?; wait $$! && exit $$second

chaos: build
	@tests/run.sh chaos $(if $(SEED),--seed $(SEED)) --minutes $(MINUTES) --least $$(($(MINUTES) / 3))

bench: setup
	@cmake --preset release >/dev/null && cmake --build --preset release
	@bench/run.sh

format:
	@git clang-format-14 --binary clang-format-14 --extensions c,h HEAD

install: setup
	@cmake --preset release -DCMAKE_INSTALL_PREFIX=$(PREFIX) >/dev/null && cmake --build --preset release --target installed
	@cmake --install build/release

uninstall:
	@test -f build/release/install_manifest.txt || { echo 'nothing was installed from this folder'; exit 1; }
	@while read -r f || [ -n "$$f" ]; do rm -fv "$(DESTDIR)$$f"; done <build/release/install_manifest.txt

package: setup
	@cmake --preset release -B build/package -DCMAKE_INSTALL_PREFIX=/usr >/dev/null && cmake --build build/package --target installed
	@cd build/package && cpack --config CPackConfig.cmake >cpack.log || { cat cpack.log; exit 1; }
	@ls build/package/*.deb

clean:
	rm -rf build

# With the programs that images are made of. The first time builds Kubernetes' own, too.
k8s-release:
	@./setup.sh kubernetes
	@cmake --preset release >/dev/null && cmake --build --preset release

check-k8s: k8s-release
	@tests/run.sh k8s

chaos-k8s: MINUTES = 10
chaos-k8s: k8s-release
	@tests/run.sh chaos-k8s $(if $(SEED),--seed $(SEED)) --minutes $(MINUTES)

k8s-shell: k8s-release
	@tests/run.sh k8s --shell

rdma-shell: setup
	@tests/rdma/vm.sh shell
