# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2016
# Tests of scripts/vfio-selftests: what it builds before `lab` runs. (fake_kernel: kernel.sh)

# A toolbox that is this machine, a lab that says how it is called, and a make that notes what it makes of the tests.
fake_vfio() {
	fake_kernel
	fake cargo <<<''
	mkdir -p target/release
	printf '#!/bin/sh\necho "$*"\n' >target/release/lab
	chmod +x target/release/lab
	mv bin/make bin/make-kernel
	fake make <<-'EOF2'
		case $* in
		*headers_install*)
			[[ ! -e $T/no-headers ]] || { echo 'make: *** [headers] Error 2' && exit 2; }
			echo headers >>"$T/made"
			;;
		*OUTPUT=*) echo programs >>"$T/made" ;;
		*) exec make-kernel "$@" ;;
		esac
	EOF2
}

vfio_selftests() { env TPH_TOOLBOX=test CARGO_TARGET_DIR="$T/target" repo/scripts/vfio-selftests "$@"; }

test_the_tests_of_vfio_are_built_and_run_on_both_kernels() {
	fake_vfio
	local kernel=$T/cache/kernel out=$T/repo/out/vfio-selftests stock
	vfio_selftests --only x >line
	same "$(paste -sd' ' made)" 'configure build headers programs configure build'
	stock=$(echo "$kernel"/foreign-ksrc-*/build-test-release)
	same "$(<line)" "vfio-selftests --kernel $kernel/7.3-1/build-test-release --pristine $stock \
--source $kernel/7.3-1/base/tools/testing/selftests/vfio --programs $out/programs --out $out --only x"
}

test_tests_of_vfio_without_their_headers_are_not_built() {
	fake_vfio
	touch no-headers
	fails "building the kernel's tests of VFIO failed \(exit code 2\)" vfio_selftests
	same "$(paste -sd' ' made)" 'configure build'
}

test_a_pristine_kernel_of_which_a_step_fails_ends_the_tests_of_vfio() {
	fake_vfio
	vfio_selftests >line
	local build
	build=$(echo cache/kernel/foreign-ksrc-*/build-test-release)
	rm "$build"/{inputs,config.key}
	mkdir "$build/config.key" # which no file can take the place of
	: >made
	if vfio_selftests >line 2>errors; then fail "succeeded: $(<line)"; fi
	grep -q 'config.key.*Is a directory' errors
	same "$(paste -sd' ' made)" 'headers programs'
}
