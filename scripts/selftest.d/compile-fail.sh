# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2016
# Tests of scripts/compile-fail on a compiler that says what the file tells it to.

fake_compiler() {
	mkdir uses
	fake make <<-'EOF2'
		for argument; do
			case $argument in
			M=*) work=${argument#M=} ;;
			*.o) name=${argument%.o} ;;
			esac
		done
		sed -n 's,^// says: ,,p' "$work/$name.rs" | grep . && { echo 'error: aborting due to 1 previous error'; exit 2; }
		touch "$work/$name.o"
	EOF2
}

# use NAME EXPECTED SAID
use() { printf '//! what %s says\n%s\n%s\n' "$1" "${2:+//! $2}" "${3:+// says: $3}" >"uses/$1.rs"; }
compile_fail() { repo/scripts/compile-fail "$T/build" "$T/uses" "$T/work"; }

test_misuse_fails_with_the_error_that_it_names() {
	fake_compiler
	use misuse 'error[E0505]' 'error[E0505]: cannot move'
	use right-use '' ''
	same "$(compile_fail)" "$(printf 'TAP version 13\n1..2\nok 1 - what misuse says\nok 2 - what right-use says')"
}

test_misuse_that_compiles_is_found() {
	fake_compiler
	use misuse 'error[E0505]' ''
	! compile_fail >output || fail 'it succeeded'
	grep -qx 'not ok 1 - what misuse says' output
	grep -qF "expected 'error[E0505]', got ''" output
}

test_misuse_that_fails_for_another_reason_is_found() {
	fake_compiler
	use misuse 'error[E0505]' 'error[E0432]: unresolved import'
	! compile_fail >output || fail 'it succeeded'
	grep -qF "expected 'error[E0505]', got 'error[E0432]'" output
}

test_right_use_that_does_not_compile_is_found() {
	fake_compiler
	use right-use '' 'error: expected item'
	! compile_fail >output || fail 'it succeeded'
	grep -qF "not ok 1 - what right-use says" output
}

test_a_folder_without_misuse_is_an_error() {
	fake_compiler
	fails 'holds no .rs file' compile_fail
}
