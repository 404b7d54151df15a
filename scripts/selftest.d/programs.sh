# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2016
# Tests of scripts/programs.sh: what was built is known, and what is only left over is not.

programs_ready_here() {
	CARGO_TARGET_DIR=$T/target bash -euo pipefail -c \
		'. repo/scripts/lib.sh; . repo/scripts/programs.sh; programs_ready; crates_status "$CACHE/log/cargo.log"'
}

test_the_list_of_programs_is_what_cargo_says() {
	fake cargo <<<'echo "   Compiling tlp v0.1.0" >&2; echo "{\"arguments\":\"$*\"}"'
	same "$(programs_ready_here)" '1 crates'
	grep -q '^{.*--message-format=json-render-diagnostics' target/release/programs.json
}

test_a_build_that_fails_leaves_the_list_of_the_one_before() {
	mkdir -p target/release
	echo before >target/release/programs.json
	fake cargo <<<'echo after; echo "error[E0308]: a type" >&2; exit 101'
	fails 'building lab failed \(exit code 101\): correct the source' programs_ready_here
	grep -qF 'error[E0308]: a type' output
	same "$(<target/release/programs.json)" before
}
