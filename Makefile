# SPDX-License-Identifier: GPL-2.0
# The front door of rust-tph. `make help` lists what there is.

help: ## show this
	@echo 'Commands:'
	@sed -n 's/^\([a-z_-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 22
	@echo 'Variables:'
	@sed -n 's/^#   \([A-Z]*=[^ ]*\) */  \1	/p' $(MAKEFILE_LIST) | expand -t 22

#   KSRC=dir   a Linux 7.3 tree of your own instead of Debian's newest (it is only read); conformance and endurance build it as it is
#   KBUILD=dir the build directory of a kernel of your own (it is only read); of check, the demos and the guest tests
#   KDIR=dir   the kernel to build modules for: the directory that it was built in (default: that of the running kernel)
#   KVER=v     that version of Debian's linux-source-7.3 instead of the newest
#   FLAVOUR=f  the guest's kernel: release, debug, notph, norust or kasan; for check also several (its default: all but kasan; ARGS=--quick: release)
#   JOBS=n     parallel jobs (default: one for each CPU); for check also guests at a time (default: three for each two CPUs)
#   CACHE=dir  where all that is fetched and built is kept (default: rust-tph in your cache directory)
#   KVM=0|1    0: never use KVM; 1: use it (default: if a short boot proves that it works)
#   V=1        show the output of what is being run
#   V=2        for series: the version, from the second one on
#   PREV=dir   for series: the mails of the former version, to say how V=2 differs
#   SIGNOFF=1  for series: add the Signed-off-by of your git identity
#   P=n        for series-check: only the nth patch
#   QUICK=1    for series-check: only what takes no builds
#   ARGS=...   further arguments of `lab demo`, `lab check`, `lab shell` or `lab trace`; names of faults for mutants

demo: ## publish a steering tag, see it on the wire (sets up what is missing)
	@scripts/lab demo $(ARGS)

demo-rdma: ## the same by RDMA: a tag on the writes of an emulated ConnectX that the mlx5 drivers drive
	@scripts/lab demo-rdma $(ARGS)

demo-vfio: ## the same with a driver in user space: both devices are its users', and memory steered at a CPU
	@scripts/lab demo-vfio $(ARGS)

check: ## every case at least once, one total (a quarter of an hour); ARGS=--quick: an answer in minutes
	@scripts/lab check $(ARGS)

check-all: ## everything there is, for a night
	@scripts/check-all

fuzz: ## the fuzz targets of the lab, ten minutes in all; ARGS= for so many seconds
	@scripts/fuzz $(ARGS)

endurance: ## what takes long (hours), on this kernel or one of your own, KBUILD= or KSRC=
	@scripts/lab endurance $(ARGS)

conformance: ## the tests of the uAPI on a kernel of your own, case by case: KBUILD= or KSRC=
	@scripts/lab conformance $(ARGS)

vfio-selftests: ## the kernel's own tests of VFIO, on the pristine kernel and on ours
	@scripts/vfio-selftests

mutants: ## faults in the kernel half, one at a time: each must be found by the guest tests (hours)
	@scripts/mutants $(ARGS)

docs: ## the kernel's pages that are ours or changed, and the lab's crates, as HTML in out/docs
	@scripts/docs build

docs-check: ## that they build, and warn of nothing that the pristine kernel does not (a quarter of an hour)
	@scripts/docs check

modules: ## build the samples and the tests' modules out of tree, KDIR=; CLIPPY=1 has Clippy look at them
	+@scripts/modules build

modules_install: ## install them, below INSTALL_MOD_PATH= if that is given
	+@scripts/modules install

modules_clean: ## remove what was built of them
	@scripts/modules clean

rust-analyzer: ## write rust-project.json, which tells editors about the modules: KDIR=
	+@scripts/modules rust-analyzer

bench: ## the benchmarks, as a table and as JSON: RDMA, commands, interrupts, memory, steering tags
	@scripts/lab bench $(ARGS)

trace: ## what a trace holds: ARGS='summary FILE', or list, html, filter; ARGS='list --help' has the conditions
	@scripts/lab trace $(or $(ARGS),--help)

series: ## write the patch series to out/series/
	@scripts/series write

series-check: ## the series by the kernel's own tools, patch by patch (hours; goes on where it was)
	@scripts/series check $(if $(QUICK),--quick) $(if $(P),--patch '$(P)')

shell: ## a shell in the guest with the lab's devices present
	@scripts/lab shell $(ARGS)

clean: ## remove out/ and what was built; keep the toolbox and all that was fetched
	@scripts/clean

distclean: ## remove out/ and the whole cache
	@scripts/clean all

.PHONY: help demo demo-rdma demo-vfio check check-all fuzz endurance conformance vfio-selftests mutants docs docs-check modules modules_install modules_clean rust-analyzer bench trace series series-check shell clean distclean
.NOTPARALLEL:
