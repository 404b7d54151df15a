# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Tests of scripts/mutants: kernels with faults, which nobody else gets. (fake_kernel, build: kernel.sh)

fake_fault() {
	fake_kernel
	rm repo/scripts/mutants.d/*
	printf 'Found-by: a: b\n--- a/drivers/new/new.c\n+++ b/drivers/new/new.c\n@@ -1 +1 @@\n-int new;\n+int fault;\n' \
		>repo/scripts/mutants.d/fault.patch
}

mutant() { TPH_TOOLBOX=test CARGO_TARGET_DIR=$T/target repo/scripts/mutants build "$@"; }

test_a_kernel_with_a_fault_is_one_of_its_own() {
	fake_fault
	build
	local kernel=$T/cache/kernel/7.3-1
	same "$(mutant)" "$kernel/mutants/build-test-release"
	same "$(<"$kernel/mutants/tree/drivers/new/new.c")" 'int new;'
	: >made
	same "$(mutant fault)" "$kernel/mutants/build-test-release"
	same "$(steps_made)" build
	same "$(<"$kernel/mutants/tree/drivers/new/new.c")" 'int fault;'
	same "$(<"$kernel/tree/drivers/new/new.c")$(<repo/drivers/new/new.c)" 'int new;int new;'
	build # nothing has happened to it
	same "$(steps_made)" ''
	mutant
	same "$(<"$kernel/mutants/tree/drivers/new/new.c")" 'int new;'
}

test_a_fault_that_is_none_or_does_not_build_is_an_error() {
	fake_fault
	fails 'there is no scripts/mutants.d/gone.patch' mutant gone
	echo 'int other;' >repo/drivers/new/new.c
	fails 'its patch does not apply .*refresh scripts/mutants.d/fault.patch' mutant fault
	echo 'int new;' >repo/drivers/new/new.c
	touch broken
	fails 'building the release kernel failed' mutant fault
}
