# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2016
# Tests of scripts/vfio-selftests: that both kernels are asked, and what differs is seen.

# A lab that prints what $T/says has, or $T/says-ours for this repository's kernel.
fake_guests() {
	needs rsync
	fake_kernel
	fake cargo <<<''
	mkdir -p target/release
	cat >target/release/lab <<-'EOF2'
		#!/bin/bash
		[[ "$*" == *' --topology t2-requesters '* ]] || exit 1
		kind=pristine
		[[ "$*" == *foreign-* ]] || kind=ours
		echo "$kind" >>"$T/asked"
		cat "$T/says-$kind" 2>/dev/null || cat "$T/says"
	EOF2
	chmod +x target/release/lab
	say >says
}

# say [RESULT]: what a guest prints.
say() {
	cat <<-END
		== start vfio_pci_device_test 0000:00:10.0
		TAP version 13
		1..2
		#  RUN           vfio_pci_device_test.reset ...
		ok 1 vfio_pci_device_test.reset
		${1:-ok} 2 vfio_pci_irq_test.msi.enable${2- # SKIP MSI: not supported}
		== end 0
		== start vfio_pci_driver_test 0000:00:10.0
		No driver found for device 0000:00:10.0
		== end ${3:-4}
		== start vfio_pci_sriov_uapi_test 0000:00:10.0
		1..0 # SKIP SR-IOV may not be supported
		== end 4
		== all
	END
}

vfio_selftests() { TPH_TOOLBOX=test CARGO_TARGET_DIR=$T/target repo/scripts/vfio-selftests 2>"$T/errors"; }

test_the_tests_of_vfio_say_the_same_on_both_kernels() {
	fake_guests
	vfio_selftests >output || fail "$(cat output errors)"
	same "$(paste -sd' ' asked)" 'pristine ours'
	same "$(cat output)" "$(
		cat <<-'END'
			TAP version 13
			ok 1 - 0000:00:10.0 vfio_pci_device_test: vfio_pci_device_test.reset, on both
			ok 2 - 0000:00:10.0 vfio_pci_device_test: vfio_pci_irq_test.msi.enable # SKIP on both: MSI: not supported
			ok 3 - 0000:00:10.0 vfio_pci_driver_test # SKIP on both: No driver found for device 0000:00:10.0
			ok 4 - 0000:00:10.0 vfio_pci_sriov_uapi_test # SKIP on both: SR-IOV may not be supported
			1..4
			1 passed, 0 failed, 3 skipped
		END
	)"
}

test_a_test_of_vfio_that_fails_on_one_kernel_is_named() {
	fake_guests
	say 'not ok' '' >says-ours
	! vfio_selftests >output || fail 'it succeeded'
	grep -q '^not ok 2 - 0000:00:10.0 vfio_pci_device_test: vfio_pci_irq_test.msi.enable$' output
	grep -q '^# on the pristine kernel: skipped: MSI: not supported$' output
	grep -q '^# on ours: failed$' output
	grep -q '^1 passed, 1 failed, 2 skipped$' output
}

test_a_test_of_vfio_that_crashes_on_one_kernel_is_named() {
	fake_guests
	say ok '' 139 >says-ours
	! vfio_selftests >output || fail 'it succeeded'
	grep -q '^# on the pristine kernel: skipped: No driver found for device 0000:00:10.0$' output
	grep -q '^# on ours: ended with 139$' output
}

test_a_test_of_vfio_that_fails_on_both_kernels_is_a_failure() {
	fake_guests
	say 'not ok' '' >says
	! vfio_selftests >output || fail 'it succeeded'
	grep -q '^# on the pristine kernel: failed$' output
	grep -q '^# on ours: failed$' output
}

test_a_test_of_vfio_that_is_skipped_for_another_reason_is_named() {
	fake_guests
	say ok ' # SKIP cannot open the device' >says-ours
	! vfio_selftests >output || fail 'it succeeded'
	grep -q '^# on ours: skipped: cannot open the device$' output
	grep -q '^1 passed, 1 failed, 2 skipped$' output
}

test_a_test_of_vfio_that_is_skipped_without_a_reason_is_a_failure() {
	fake_guests
	say ok ' # SKIP' >says
	! vfio_selftests >output || fail 'it succeeded'
	grep -q '^not ok 2 - 0000:00:10.0 vfio_pci_device_test: vfio_pci_irq_test.msi.enable$' output
}

test_a_guest_that_ends_early_is_no_result() {
	fake_guests
	say | sed '/== all/d' >says-ours
	! vfio_selftests >output || fail 'it succeeded'
	grep -q 'the tests on ours failed' errors
	absent output.results
}
