# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2016
# Tests of scripts/foreign.sh: kernels that are not this repository's. (fake_kernel, lab, ...: kernel.sh)

# A kernel of the user's own, as far as a guest needs it, and what it does not need.
fake_build() {
	mkdir -p mine/arch/x86/boot mine/drivers/vfio mine/kernel
	echo CONFIG_VFIO=m >mine/.config
	touch mine/System.map mine/arch/x86/boot/bzImage mine/modules.order mine/modules.builtin mine/drivers/vfio/vfio.ko
	touch mine/drivers/vfio/vfio.o mine/kernel/fork.o
}

test_a_build_of_the_users_own_is_copied_as_far_as_a_guest_needs_it() {
	needs rsync
	fake_build
	local before copy
	before=$(find mine | sort)
	copy=$(lab KBUILD="$T/mine" conformance | sed 's/^conformance --kernel \([^ ]*\) .*/\1/')
	same "$(cd "$copy" && find . -type f | sort | paste -sd' ')" \
		'./.config ./System.map ./arch/x86/boot/bzImage ./drivers/vfio/vfio.ko ./modules.builtin ./modules.order'
	same "$(find mine | sort)" "$before"
	rm mine/drivers/vfio/vfio.ko
	lab KBUILD="$T/mine" conformance
	absent "$copy/drivers/vfio/vfio.ko"
}

test_a_directory_without_a_kernel_is_refused() {
	needs rsync
	fake_build
	rm mine/arch/x86/boot/bzImage
	fails 'is not a built kernel, it has no arch/x86/boot/bzImage; run there: make' lab KBUILD="$T/mine" conformance
	fails 'KBUILD=/nowhere is not a directory' env KBUILD=/nowhere repo/scripts/toolbox run true
}

test_guests_are_tested_on_a_build_of_the_users_own() {
	needs rsync
	fake_build
	local copy
	copy=$T/cache/kernel/foreign-kbuild-$(printf %s "$T/mine" | sha256sum | cut -c 1-12)
	same "$(lab KBUILD="$T/mine" check)" "check --kernel $copy --out $T/repo/out/check --guest-only"
	same "$(lab KBUILD="$T/mine" demo)" "demo --kernel $copy --out $T/repo/out/demo"
}

test_a_tree_of_the_users_own_is_built_as_it_is() {
	fake_kernel
	fake_tree mine 7.2
	make_patch patch 's/one/ONE/'
	mkdir -p repo/patches
	cp patch repo/patches/0001.patch
	lab KSRC="$T/mine" conformance >line
	grep -qE '^conformance --kernel [^ ]*/kernel/foreign-ksrc-[0-9a-f]+/build-test-release ' line
	same "$(cat cache/kernel/foreign-ksrc-*/tree/drivers/base/core.c)" "$(cat mine/drivers/base/core.c)"
	absent cache/kernel/foreign-ksrc-*/tree/drivers/new
}

test_what_a_tree_of_the_users_own_does_not_know_is_named() {
	fake_kernel
	fake_tree mine 7.3
	echo CONFIG_SAMPLE_TPH=m >>repo/scripts/kernel.config
	echo CONFIG_SAMPLE_TPH=m >drops
	lab KSRC="$T/mine" conformance >output 2>&1
	grep -q 'this tree has not got.*CONFIG_SAMPLE_TPH=m' output
}

test_a_build_and_a_tree_contradict() {
	fake_kernel
	fake_tree mine 7.3
	fails 'KBUILD= and KSRC= contradict' lab KBUILD="$T/mine" KSRC="$T/mine" conformance
}

test_without_a_kernel_of_the_users_own_it_is_ours() {
	fake_kernel
	same "$(lab conformance)" "conformance --kernel $T/cache/kernel/7.3-1/build-test-release --out $T/repo/out/conformance"
}
