# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2016
# Tests of scripts/kernel.sh: a build runs when an input has changed, and only then.

# A kernel that "builds": make notes its targets, and its configuration is what the fragment asks for.
fake_kernel() {
	fake_debian 7.3-1
	mkdir -p repo/drivers/new
	echo 'int new;' >repo/drivers/new/new.c
	echo 'CONFIG_RUST=y' >repo/scripts/kernel.config
	fake make <<-'EOF2'
		for argument; do
			case $argument in
			O=*) build=${argument#O=} ;;
			KCONFIG_ALLCONFIG=*) fragment=${argument#*=} ;;
			LOCALVERSION=*) echo "${argument#*=}" >"$T/localversion" ;;
			esac
		done
		case $* in
		*allnoconfig*) echo configure >>"$T/made"; grep -vxF "$(cat "$T/drops" 2>/dev/null)" "$fragment" >"$build/.config" || true ;;
		*rustavailable*) [[ ! -e $T/no-rust ]] || { echo '*** Rust compiler is too old'; exit 1; } ;;
		*bzImage*)
			echo build >>"$T/made"
			echo '  CC      a.o'
			[[ ! -e $T/broken ]] || { echo 'a.rs:1:2: error: expected item'; echo 'make: *** [x] Error 2'; exit 2; }
			touch "$build/vmlinux"
			;;
		esac
	EOF2
}

build() { env TPH_TOOLBOX="${TOOLBOX:-test}" "$@" repo/scripts/kernel build; }
steps_made() {
	paste -sd' ' made 2>/dev/null
	: >made
}

test_a_kernel_is_built_once() {
	fake_kernel
	same "$(build)" "$T/cache/kernel/7.3-1/build-test-release"
	same "$(steps_made)" 'configure build'
	touch repo/drivers/new/new.c
	build
	same "$(steps_made)" ''
}

test_each_input_of_the_build_builds_it_again() {
	fake_kernel
	build
	: >made
	echo 'int edited;' >repo/drivers/new/new.c
	build
	same "$(steps_made)" build
	touch repo/drivers/new/added.c
	build
	same "$(steps_made)" build
	rm repo/drivers/new/added.c
	build
	same "$(steps_made)" build
	mkdir repo/patches
	make_patch repo/patches/0001.patch 's/one/ONE/'
	build
	same "$(steps_made)" build
	echo 'CONFIG_PCI=y' >>repo/scripts/kernel.config
	build
	same "$(steps_made)" 'configure build'
	echo 'config NEW' >repo/drivers/new/Kconfig
	build
	same "$(steps_made)" 'configure build'
	TOOLBOX=other build
	same "$(steps_made)" 'configure build'
	build
	same "$(steps_made)" ''
}

test_an_edit_of_KSRC_builds_it_again() {
	fake_kernel
	fake_tree mine 7.3
	build KSRC="$T/mine"
	: >made
	build KSRC="$T/mine"
	same "$(steps_made)" ''
	echo edited >mine/drivers/base/core.c
	build KSRC="$T/mine"
	same "$(steps_made)" build
}

test_a_failed_build_names_the_error_and_is_gone_on_with() {
	fake_kernel
	touch broken
	fails 'building the release kernel failed \(exit code 2\): correct the source that the first error names' build
	grep -q '^a.rs:1:2: error: expected item' output
	: >made
	fails 'building the release kernel failed' build
	same "$(steps_made)" build
	rm broken
	build
	same "$(steps_made)" build
}

test_a_build_that_is_killed_is_gone_on_with() {
	fake_kernel
	mv bin/make make.real
	fake make <<<'[[ $* != *bzImage* ]] || kill -KILL $PPID $$; exec "$T/make.real" "$@"'
	! build >output 2>&1 || fail 'a killed build is no success'
	mv make.real bin/make
	: >made
	build
	same "$(steps_made)" build
}

test_a_symbol_that_the_configuration_drops_is_an_error() {
	fake_kernel
	printf 'CONFIG_VFIO=m\n# CONFIG_SWAP is not set\n' >>repo/scripts/kernel.config
	echo CONFIG_VFIO=m >drops
	fails 'has not got CONFIG_VFIO=m of scripts/kernel.config' build
	fails 'has not got CONFIG_VFIO=m of scripts/kernel.config' build # it does not pass the second time
	same "$(grep -c build made)" 0
	rm drops
	build
}

test_a_symbol_that_the_configuration_adds_is_an_error() {
	needs rsync
	printf '# CONFIG_SWAP is not set\nCONFIG_A="x y"\n' >fragment
	printf 'CONFIG_SWAP=y\nCONFIG_A="x y"\n' >config
	in_kernel() { bash -euo pipefail -c '. repo/scripts/lib.sh; . repo/scripts/kernel.sh; check_config config fragment'; }
	fails 'has not got CONFIG_SWAP=n of' in_kernel
	printf 'CONFIG_A="x y"\n' >config
	in_kernel
}

test_a_toolchain_without_Rust_is_an_error() {
	fake_kernel
	touch no-rust
	fails 'configuring the release kernel failed' build
	grep -q 'Rust compiler is too old' output
}

test_a_full_disk_is_noticed_before_the_build() {
	fake_kernel
	stage
	fake df <<<'echo Avail; echo 10'
	fails 'the build of the kernel needs [0-9]+ MB' build
	same "$(grep -c build made)" 0
}

test_unknown_commands_are_refused() {
	fails "unknown command 'x'" env TPH_TOOLBOX=test repo/scripts/kernel x
	fails "unknown command 'x'" repo/scripts/lab x
	fails "unknown command 'x'" repo/scripts/toolbox x
	fails 'run what' repo/scripts/toolbox run
}

test_an_edit_that_failed_and_was_undone_is_built_again() {
	fake_kernel
	build
	echo broken >repo/drivers/new/new.c
	touch broken
	fails 'building the release kernel failed' build
	rm broken
	echo 'int new;' >repo/drivers/new/new.c
	: >made
	build # the objects may be those of the failed build
	same "$(steps_made)" build
	echo 'CONFIG_VFIO=m' >>repo/scripts/kernel.config
	echo CONFIG_VFIO=m >drops
	fails 'has not got CONFIG_VFIO=m' build
	echo 'CONFIG_RUST=y' >repo/scripts/kernel.config
	: >made
	build
	same "$(steps_made)" 'configure build'
}

test_a_flavour_has_a_fragment_a_build_and_a_name_of_its_own() {
	fake_kernel
	build
	same "$(<localversion)" ''
	echo 'CONFIG_PROVE_LOCKING=y' >repo/scripts/kernel-debug.config
	: >made
	same "$(build FLAVOUR=debug)" "$T/cache/kernel/7.3-1/build-test-debug"
	same "$(steps_made)" 'configure build'
	same "$(<localversion)" -debug
	same "$(paste -sd' ' cache/kernel/7.3-1/build-test-debug/.config)" 'CONFIG_RUST=y CONFIG_PROVE_LOCKING=y'
	same "$(paste -sd' ' cache/kernel/7.3-1/build-test-release/.config)" 'CONFIG_RUST=y'
	build
	same "$(steps_made)" ''
	echo 'CONFIG_PROVE_RCU=y' >>repo/scripts/kernel-debug.config
	build FLAVOUR=release
	same "$(steps_made)" ''
	build FLAVOUR=debug
	same "$(steps_made)" 'configure build'
	echo 'CONFIG_PCI=y' >>repo/scripts/kernel.config
	build FLAVOUR=debug
	same "$(steps_made)" 'configure build'
}

test_a_flavour_can_take_back_what_the_others_have() {
	fake_kernel
	echo 'CONFIG_TPH=y' >>repo/scripts/kernel.config
	echo '# CONFIG_TPH is not set' >repo/scripts/kernel-notph.config
	echo CONFIG_TPH=y >drops # allnoconfig takes the last line
	build FLAVOUR=notph
	rm drops
	cp repo/scripts/kernel-notph.config repo/scripts/kernel-other.config
	fails 'has not got CONFIG_TPH=n of scripts/kernel-other.config' build FLAVOUR=other
}

test_a_flavour_that_asks_for_clang_is_built_by_LLVM() {
	fake_kernel
	echo 'CONFIG_CC_IS_CLANG=y' >repo/scripts/kernel-kasan.config
	mv bin/make make.real
	fake make <<<'case "$*" in *LLVM=1*) touch "$T/llvm" ;; esac; exec "$T/make.real" "$@"'
	build
	absent llvm
	build FLAVOUR=kasan
	[[ -e llvm ]] || fail 'built by the default compiler'
}

test_a_symbol_of_a_flavour_that_the_configuration_drops_is_an_error() {
	fake_kernel
	echo 'CONFIG_PROVE_LOCKING=y' >repo/scripts/kernel-debug.config
	echo 'CONFIG_PROVE_LOCKING=y' >drops
	fails 'has not got CONFIG_PROVE_LOCKING=y of scripts/kernel-debug.config' build FLAVOUR=debug
}

test_a_flavour_that_is_not_there_is_refused_before_any_work() {
	fake_kernel
	rm repo/scripts/kernel-*.config
	: | tee repo/scripts/kernel-debug.config >repo/scripts/kernel-other.config
	fails "no kernel flavour 'debgu'; FLAVOUR= takes: release, debug, other" build FLAVOUR=debgu
	fails "no kernel flavour '../debug'" build FLAVOUR=../debug
	fails "no kernel flavour 'x'" env TPH_TOOLBOX=test FLAVOUR=x repo/scripts/kernel stage
	fails "no kernel flavour 'x'" lab FLAVOUR=x demo
	absent made
}

# What `lab` is started with, after builds of fakes.
lab() {
	fake cargo <<<''
	mkdir -p target/release
	{ echo '#!/bin/sh' && echo 'echo "$*"'; } >target/release/lab
	chmod +x target/release/lab
	local settings=()
	while [[ $1 == *=* ]]; do
		settings+=("$1")
		shift
	done
	env TPH_TOOLBOX=test CARGO_TARGET_DIR="$T/target" "${settings[@]}" repo/scripts/lab "$@"
}

test_what_takes_one_kernel_is_not_given_several() {
	fake_kernel
	echo 'CONFIG_PROVE_LOCKING=y' >repo/scripts/kernel-debug.config
	local command
	for command in demo demo-rdma demo-vfio bench shell conformance; do
		fails "$command takes one kernel, and FLAVOUR= names several: release debug; give one" lab FLAVOUR='release debug' "$command"
	done
	absent made
	lab FLAVOUR='release debug' endurance | grep -q -- ' --also-on .*-debug '
}

test_a_trace_is_read_without_a_kernel() {
	fake_kernel
	same "$(lab TPH_HOST_REPO=/home/me/tph trace list out/a.pcapng /home/me/tph/out/b.pcapng --st 1)" \
		'trace list out/a.pcapng out/b.pcapng --st 1'
	absent made
}

test_a_check_has_the_readers_of_traces_in_its_toolbox() {
	fake_kernel
	{ echo '#!/bin/sh' && echo 'echo "$*"'; } >repo/scripts/toolbox
	same "$(repo/scripts/lab check --only x)" 'run --with traces -- scripts/lab check --only x'
	same "$(repo/scripts/lab check --quick)" 'run -- scripts/lab check --quick'
	same "$(repo/scripts/lab demo)" 'run -- scripts/lab demo'
}

test_a_check_is_of_the_flavours_that_are_asked_for() {
	fake_kernel
	echo 'CONFIG_PROVE_LOCKING=y' >repo/scripts/kernel-debug.config
	local kernel=$T/cache/kernel/7.3-1/build-test
	same "$(lab demo --st 1)" "demo --kernel $kernel-release --out $T/repo/out/demo --st 1"
	same "$(lab shell)" "shell --kernel $kernel-release"
	same "$(lab check --quick)" "check --kernel $kernel-release --out $T/repo/out/check --quick"
	absent "$kernel-debug"
	same "$(lab FLAVOUR=release check)" "check --kernel $kernel-release --out $T/repo/out/check"
	absent "$kernel-debug"
	for fragment in repo/scripts/kernel-{notph,norust}.config; do : >"$fragment"; done
	same "$(lab check)" "check --kernel $kernel-release --also-on $kernel-debug --also-on $kernel-notph --also-on $kernel-norust --out $T/repo/out/check"
	same "$(lab FLAVOUR='release debug' check)" "check --kernel $kernel-release --also-on $kernel-debug --out $T/repo/out/check"
	same "$(lab FLAVOUR=debug check)" "check --kernel $kernel-debug --out $T/repo/out/check"
	same "$(lab FLAVOUR=debug demo)" "demo --kernel $kernel-debug --out $T/repo/out/demo"
}
