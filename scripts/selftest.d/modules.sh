# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2016
# Tests of scripts/modules: what is wrong with a KDIR, and what make is asked for with one that is right.

RUSTC_TEXT='rustc 1.97.1 (8bab26f4f 2026-07-14)'

# fake_kdir DIR: a kernel that the modules can be built for.
fake_kdir() {
	mkdir -p "$1"/{include/config,include/generated,scripts/mod,rust}
	echo "include $T/source/Makefile" >"$1/Makefile"
	mkdir -p source
	touch source/Makefile "$1/.config"
	printf 'CONFIG_%s=y\n' MODULES PCI DMA_SHARED_BUFFER PCIE_TPH RUST >"$1/include/config/auto.conf"
	echo "CONFIG_RUSTC_VERSION_TEXT=$RUSTC_TEXT" >>"$1/include/config/auto.conf"
	echo 7.3.0-rc7-mine >"$1/include/config/kernel.release"
	printf '0x00000000\t%s\tvmlinux\tEXPORT_SYMBOL_GPL\t\n' dma_buf_get_tph pcie_tph_completer_type pcie_tph_enabled_req_type \
		_RNvMNtCs1_6kernel7dma_bufNtB2_6DmaBuf7from_fd >"$1/Module.symvers"
	printf content | tee "$1"/include/generated/autoconf.h "$1"/scripts/mod/modpost "$1"/rust/lib{core,kernel}.rmeta >/dev/null
}

# Tools that note how they are called; make leaves what kbuild would.
fake_tools() {
	unset KDIR MO CLIPPY INSTALL_MOD_PATH RUSTC BINDGEN MAKEFLAGS
	fake rustc <<<"echo '$RUSTC_TEXT'"
	fake bindgen <<<''
	fake make <<-'EOF2'
		echo "$*" >>"$T/made"
		for argument; do [[ $argument != MO=* ]] || touch "${argument#MO=}/modules.order"; done
		[[ ! -e $T/broken ]] || exit 2
	EOF2
}

modules() { env KDIR="$T/kdir" "$@" repo/scripts/modules build; }
# refuses PATTERN: and nothing is begun.
refuses() {
	fails "$1" modules
	absent made repo/out/modules
}

test_modules_are_built_with_the_kernel_for_them() {
	fake_tools
	fake_kdir kdir
	modules 2>message
	grep -q -- "^-C $T/kdir .*M=$T/repo MO=$T/repo/out/modules FACADE= .* modules$" made
	! grep -q CLIPPY made || fail 'Clippy without being asked for'
	same "$(tail -n 1 message)" "modules for Linux 7.3.0-rc7-mine are in $T/repo/out/modules"
	: >made
	modules CLIPPY=1 JOBS=3 2>message
	grep -q -- 'CLIPPY=1 -j3 modules$' made
	echo CONFIG_CC_IS_CLANG=y >>kdir/include/config/auto.conf
	modules 2>message
	grep -q 'LLVM=1' made
}

test_a_kernel_with_the_C_half_gets_the_other_one_in_the_modules() {
	fake_tools
	fake_kdir kdir
	sed -i /6kernel7dma_buf/d kdir/Module.symvers
	modules 2>message
	grep -q 'FACADE=y' made
	grep -q 'with the Rust half of the series in them' message
	rm -r made repo/out bin/bindgen
	BINDGEN=no-bindgen refuses 'no-bindgen is missing'
}

test_a_KDIR_that_is_no_directory_is_refused() {
	fake_tools
	refuses "KDIR=$T/kdir is not a directory; give the directory in which a Linux 7.3 was built"
}

test_without_KDIR_it_is_the_running_kernel() {
	fake_tools
	fake uname <<<'echo 9.9.9-none'
	fails 'KDIR=/lib/modules/9.9.9-none/build is not a directory' repo/scripts/modules build
}

test_nobody_needs_a_home_to_build_modules() { # dkms may run without one
	fake_tools
	fake_kdir kdir
	env -u HOME -u CACHE -u XDG_CACHE_HOME KDIR="$T/kdir" repo/scripts/modules build
	grep -q 'modules$' made
}

test_a_directory_that_is_no_kernel_is_refused() {
	fake_tools
	mkdir kdir
	refuses 'is not a kernel'
	echo 'all:' >kdir/Makefile
	refuses 'is not a kernel'
}

test_a_kernel_that_was_not_built_is_refused() {
	fake_tools
	mkdir kdir
	touch kdir/{Makefile,Kconfig}
	refuses 'is the source of a kernel, but none was built there; .*run there: make'
	touch kdir/.config
	refuses 'is configured but not built, it has no include/config/auto.conf; run there: make'
	fake_kdir kdir
	rm kdir/scripts/mod/modpost
	refuses 'is configured but not built, it has no scripts/mod/modpost'
	fake_kdir kdir
	: >kdir/Module.symvers
	refuses 'has no Module.symvers, .*run there: make'
}

test_a_kernel_whose_source_is_elsewhere_is_refused() {
	fake_tools
	fake_kdir kdir
	rm source/Makefile
	refuses "was built from a source that is not here: $T/source; "
}

test_a_kernel_of_another_series_is_refused() {
	fake_tools
	fake_kdir kdir
	local release
	for release in 7.2.9 7.30.1 17.3.0 6.12.3-amd64; do
		echo "$release" >kdir/include/config/kernel.release
		refuses "is Linux $release; the modules are for Linux 7.3"
	done
	for release in 7.3.0 7.3-rc1 7.3; do
		echo "$release" >kdir/include/config/kernel.release
		modules
	done
}

test_a_kernel_without_Rust_is_refused() {
	fake_tools
	fake_kdir kdir
	sed -i '/^CONFIG_RUST/d' kdir/include/config/auto.conf
	refuses 'was built without CONFIG_RUST; turn that on'
	sed -i '/^CONFIG_PCI=/d' kdir/include/config/auto.conf
	refuses 'was built without CONFIG_PCI, CONFIG_RUST;'
}

test_a_kernel_without_the_hooks_is_refused() {
	fake_tools
	fake_kdir kdir
	sed -i /dma_buf_get_tph/d kdir/Module.symvers
	refuses 'has not got dma_buf_get_tph\(\); apply the series'
	sed -i /pcie_tph/d kdir/Module.symvers
	refuses 'has not got dma_buf_get_tph\(\), pcie_tph_completer_type\(\), pcie_tph_enabled_req_type\(\);'
	fake_kdir kdir
	sed -i 's/dma_buf_get_tph/dma_buf_get_tph_v2/' kdir/Module.symvers
	refuses 'has not got dma_buf_get_tph\(\);'
}

test_a_kernel_without_TPH_has_its_functions_inline() {
	fake_tools
	fake_kdir kdir
	sed -i /CONFIG_PCIE_TPH/d kdir/include/config/auto.conf
	sed -i /pcie_tph/d kdir/Module.symvers
	modules
}

test_a_kernel_of_another_rustc_is_refused() {
	fake_tools
	fake_kdir kdir
	fake rustc <<<'echo rustc 1.85.0'
	refuses 'was built by rustc 1.97.1 \(8bab26f4f 2026-07-14\), but rustc here is rustc 1.85.0; install that one, or give it as RUSTC='
	RUSTC=no-rustc refuses 'was built by rustc 1.97.1 .*, and no-rustc does not run here'
	fake rustc-1.97 <<<"echo '$RUSTC_TEXT'"
	modules RUSTC=rustc-1.97
	grep -q 'RUSTC=rustc-1.97' made
	sed -i 's/^\(CONFIG_RUSTC_VERSION_TEXT\)=.*/\1="rustc 1.85.0"/' kdir/include/config/auto.conf # as older Kconfig wrote it
	modules
}

test_a_package_of_headers_that_leaves_Rust_out_is_refused() {
	fake_tools
	fake_kdir kdir
	rm kdir/rust/libkernel.rmeta
	refuses 'has not got rust/libkernel.rmeta, which packages of headers leave out'
}

test_modules_of_another_kernel_are_built_from_nothing() {
	fake_tools
	fake_kdir kdir
	modules
	touch repo/out/modules/old.o
	modules
	[[ -e repo/out/modules/old.o ]] || fail 'built from nothing for the same kernel'
	echo other >kdir/rust/libkernel.rmeta
	modules
	absent repo/out/modules/old.o
	touch repo/out/modules/old.o
	fake_kdir kdir2
	modules KDIR="$T/kdir2"
	absent repo/out/modules/old.o
}

test_modules_that_do_not_compile_are_an_error() {
	fake_tools
	fake_kdir kdir
	touch broken
	fails "the modules do not compile for $T/kdir" modules
}

test_only_what_was_built_for_a_kernel_is_installed() {
	fake_tools
	fake_kdir kdir
	install() { env KDIR="$T/kdir" "$@" repo/scripts/modules install; }
	fails "no modules were built for $T/kdir; run: make modules KDIR=$T/kdir" install
	modules
	install INSTALL_MOD_PATH="$T/root"
	tail -n 1 made | grep -q "INSTALL_MOD_PATH=$T/root .* modules_install$"
	echo other >kdir/rust/libkernel.rmeta
	fails 'no modules were built for' install
}

test_a_kernel_in_the_cache_is_built_for_in_the_toolbox() {
	fake_tools
	cat >repo/scripts/toolbox <<-'EOF2'
		#!/bin/bash
		echo "$*" >>"$T/toolbox"
	EOF2
	fake_kdir cache/kernel/x/build-y
	modules KDIR="$T/cache/kernel/x/build-y" CLIPPY=1
	same "$(<toolbox)" 'run -- env KDIR=/tph/cache/kernel/x/build-y MO=/tph/repo/out/modules CLIPPY=1 scripts/modules build'
	absent made
	fails 'say where its modules shall go: INSTALL_MOD_PATH=' env KDIR="$T/cache/kernel/x/build-y" repo/scripts/modules install
	fails "INSTALL_MOD_PATH=/else cannot be seen in the toolbox" \
		env KDIR="$T/cache/kernel/x/build-y" INSTALL_MOD_PATH=/else repo/scripts/modules install
	env KDIR="$T/cache/kernel/x/build-y" INSTALL_MOD_PATH=repo/out/root repo/scripts/modules install
	tail -n 1 toolbox | grep -q 'INSTALL_MOD_PATH=/tph/repo/out/root scripts/modules install$'
}

test_modules_are_cleaned() {
	mkdir -p repo/out/{modules,check}
	touch repo/rust-project.json
	repo/scripts/modules clean
	absent repo/out/modules repo/rust-project.json
	[[ -d repo/out/check ]] || fail 'more was removed'
	fails "unknown command 'x'" repo/scripts/modules x
}

# analyzed FACADE: which crate each of ours has for `kernel`.
analyzed() {
	needs python3
	mkdir -p repo/samples/rust
	touch repo/samples/rust/rust_sample.rs
	local crates='' name
	for name in core pin_init zerocopy zerocopy_derive kernel; do
		crates+="${crates:+,}{\"display_name\":\"$name\",\"root_module\":\"/tph/cache/$name.rs\",\"cfg\":[\"A\"]}"
	done
	printf '{"crates":[%s],"sysroot":"/usr"}' "$crates" |
		env REPO="$T/repo" MO="$T/mo" FACADE="$1" "${@:2}" repo/scripts/modules-analyzer >project
	python3 -c 'import json
project = json.load(open("project"))
crates = project["crates"]
for crate in crates[5:]:
	kernel = next(dep["crate"] for dep in crate["deps"] if dep["name"] == "kernel")
	print(crate["display_name"], crates[kernel]["display_name"])
print(project["sysroot"], crates[4]["root_module"])'
}

test_editors_are_told_what_kernel_is_to_a_module() {
	same "$(analyzed '' | paste -sd,)" 'rust_sample kernel,/usr /tph/cache/kernel.rs'
	same "$(analyzed y | paste -sd,)" 'facade kernel,rust_sample facade,/usr /tph/cache/kernel.rs'
	same "$(analyzed '' TPH_TOOLBOX=abc TPH_HOST_CACHE=/c TPH_HOST_REPO=/r | tail -n 1)" '/c/toolbox-abc/usr /c/kernel.rs'
}
