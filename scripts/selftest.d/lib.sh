# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2016
# Tests of scripts/lib.sh: messages, locks, disk space, long work.

# in_lib 'COMMANDS': runs them with lib.sh at hand.
in_lib() { bash -euo pipefail -c ". repo/scripts/lib.sh; status() { echo so far; }; $1"; }

test_too_little_disk_space_is_refused_with_how_much_and_where() {
	fake df <<<'echo "Avail"; echo "  123"'
	fails "needs 5000 MB of disk space in $T/cache, 123 MB are free" in_lib 'need_space 5000 "the toolbox"'
	in_lib 'need_space 100 "the toolbox"'
}

test_a_cache_of_another_user_is_refused() {
	[[ $(id -u) == 0 ]] || skip 'only root can give a directory away'
	chown 1 cache
	fails 'belongs to another user' in_lib cache_ready
	chown 0 cache
	in_lib cache_ready
}

test_a_cache_that_cannot_be_made_is_refused() {
	touch file
	CACHE=$T/file/cache fails 'cannot create the cache' in_lib cache_ready
}

test_a_failure_shows_errors_last_lines_and_a_cure() {
	fake work <<<'echo "x.rs:1: error: first"; for i in {1..40}; do echo "line $i"; done; exit 3'
	fails 'label failed \(exit code 3\): the cure' in_lib "long_work label status $T/log 'the cure' work"
	grep -q '^x.rs:1: error: first' output || fail "the first error is not shown: $(<output)"
	grep -q '^line 40' output || fail "the last line is not shown: $(<output)"
	! grep -q '^line 15$' output || fail 'more than the last lines is shown'
}

test_V_1_shows_the_output_and_keeps_the_log() {
	fake work <<<'echo seen'
	V=1 in_lib "long_work label status $T/log cure work" 2>shown
	grep -q seen shown && grep -q seen log
	in_lib "long_work label status $T/log cure work" 2>hidden
	! grep -q seen hidden || fail 'the output is shown without V=1'
}

test_long_work_leaves_no_process_that_holds_the_output_open() {
	local start=$SECONDS
	in_lib "long_work label status $T/log cure true" 2>&1 | cat
	((SECONDS - start < 10)) || fail 'the reporter outlived its work'
}

test_an_exclusive_lock_waits_for_a_shared_one_and_then_goes_on() {
	mkfifo release
	in_lib "lock 8 $T/lock shared; touch held; read -r <release; echo first >>order" &
	wait_for test -e held
	in_lib "lock 8 $T/lock shared" # two may read
	in_lib "lock 8 $T/lock exclusive; echo second >>order" 2>message &
	wait_for grep -q 'waiting for another run' message
	timeout 10 bash -c 'echo >release'
	wait
	same "$(paste -sd, order)" first,second
}

test_a_lock_is_not_mistaken_for_a_descriptor_that_was_inherited() {
	exec 8>inherited
	in_lib "lock 8 $T/lock exclusive; flock --nonblock $T/inherited true; ! flock --nonblock $T/lock true"
}

test_the_scripts_are_clean_for_shellcheck() {
	needs shellcheck
	cd repo/scripts || exit
	local file scripts=()
	for file in * selftest.d/*; do
		case $(head -n 3 "$file" 2>/dev/null) in *bash*) scripts+=("$file") ;; esac
	done
	((${#scripts[@]} > 8)) || fail "only ${scripts[*]} found"
	shellcheck --external-sources --source-path="$T/repo" "${scripts[@]}"
}
