# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2016
# Tests of scripts/series and scripts/series-check: claims, identity, versions, and a check that goes on where it was.

# A Debian source, a fix, a patch with a file of the slice, and one with a test; on a host that knows who exports.
fake_series() {
	needs git rsync perl
	fake_debian 7.3-1
	cp linux-source-7.3/Makefile Makefile.base
	mkdir -p linux-source-7.3/scripts repo/patches repo/drivers/new repo/tools/testing
	printf 'VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 0\nEXTRAVERSION = -rc7\n' >linux-source-7.3/Makefile
	echo 'print `cat $ENV{T}/checkpatch-says 2>/dev/null`;' >linux-source-7.3/scripts/checkpatch.pl
	make_patch repo/patches/0001-two.patch 's/two/TWO/'
	describe repo/patches/0001-two.patch 'base: Shout' 'It was too silent.'
	: >repo/patches/0005-new.patch
	describe repo/patches/0005-new.patch 'new: Add a driver' 'There is none.' drivers/new/
	: >repo/patches/0007-test.patch
	describe repo/patches/0007-test.patch 'new: Add a test' 'To see it.' tools/
	echo 'int new;' >repo/drivers/new/new.c
	echo 'test' >repo/tools/testing/test
	chmod +x repo/tools/testing/test
	printf 'new: A series\n\nIt is made for @base@.\n\n@sizes@\n\nTests: @tests@\n\n@cost@\n' >repo/patches/cover-letter
	printf '# nothing\n' >repo/patches/checkpatch-justified
	printf '#!/bin/bash\nshift\n[[ $1 != --with ]] || shift 2\ncd "$T/repo" && TPH_TOOLBOX=test exec "${@:2}"\n' >repo/scripts/toolbox
	export GIT_CONFIG_GLOBAL=$T/gitconfig GIT_CONFIG_NOSYSTEM=1 SOURCE_DATE_EPOCH=1700000000
	unset GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL SIGNOFF PREV
	git config --global user.name 'Ada Example'
	git config --global user.email ada@example.org
}

# describe PATCH SUBJECT TEXT [CLAIM...]: a header for what the file holds.
describe() {
	local patch=$1 subject=$2 text=$3 hunks claim
	shift 3
	hunks=$(sed -n '/^--- a/,$p' "$patch")
	{
		echo "Subject: $subject"
		for claim; do echo "Adds: $claim"; done
		printf '\n%s\n---\n' "$text"
		[[ ! $hunks ]] || printf '%s\n' "$hunks"
	} >"$patch.new"
	mv "$patch.new" "$patch"
}

series() { (cd "$T" && env "$@" repo/scripts/series); }
series_check() { (cd "$T" && repo/scripts/series-check "$@"); }
mail_of() { cat "$T"/repo/out/series/*"$1"-*.patch; }

test_the_series_holds_hunks_files_and_a_letter() {
	fake_series
	same "$(series | sed 's/.*: //')" "3 patches and a cover letter, against v7.3-rc7 (Debian's linux-source-7.3 7.3-1)"
	same "$(ls repo/out/series)" "$(printf '%s\n' 0000-cover-letter.patch 0001-base-Shout.patch 0002-new-Add-a-driver.patch 0003-new-Add-a-test.patch)"
	mail_of 0000 | grep -q '^Subject: \[PATCH 0/3\] new: A series$'
	mail_of 0000 | grep -qF "It is made for v7.3-rc7 (Debian's linux-source-7.3 7.3-1)."
	mail_of 0000 | grep -q 'Tests: not measured'
	mail_of 0000 | grep -q ' 3 files changed, 3 insertions(+), 1 deletion(-)'
	mail_of 0001 | grep -q '^From: Ada Example <ada@example.org>$'
	mail_of 0001 | grep -q '^It was too silent.$'
	mail_of 0001 | grep -q '^+TWO$'
	mail_of 0002 | grep -q '^+int new;$'
	mail_of 0003 | grep -q '^new file mode 100755$'
	! cat repo/out/series/* | grep -qE '^(Adds:|Signed-off-by:|base-commit:)' || fail 'what is not for readers is in the mails'
}

test_the_same_input_gives_the_same_bytes() {
	fake_series
	series
	cp -R repo/out/series first
	touch repo/patches/* repo/drivers/new/new.c
	series
	diff -r first repo/out/series
	absent repo/out/series.old
}

test_a_file_that_no_patch_claims_is_named() {
	fake_series
	series
	echo 'int other;' >repo/drivers/other.c
	fails 'drivers/other.c is claimed by no patch; add a line "Adds: drivers/other.c"' series
	[[ -e repo/out/series/0000-cover-letter.patch ]] || fail 'the former series is gone'
}

test_a_file_that_two_patches_claim_is_named() {
	fake_series
	describe repo/patches/0007-test.patch 'new: Add a test' 'To see it.' tools/ drivers/new/new.c
	fails 'drivers/new/new.c is claimed by two patches, 0005-new.patch and 0007-test.patch' series
}

test_a_claim_of_nothing_is_named() {
	fake_series
	describe repo/patches/0007-test.patch 'new: Add a test' 'To see it.' tools/ drivers/new/gone.c
	fails '0007-test.patch claims drivers/new/gone.c, which is not there' series
}

test_a_patch_without_a_subject_or_without_changes_is_named() {
	fake_series
	echo | cat - repo/patches/0001-two.patch >new
	cp new repo/patches/0001-two.patch
	fails "patches/0001-two.patch does not begin with its 'Subject: '" series
	sed -i 1d repo/patches/0001-two.patch
	: >repo/patches/0009-none.patch
	describe repo/patches/0009-none.patch 'nothing: At all' 'Why not.'
	fails 'patches/0009-none.patch changes nothing' series
}

test_without_an_identity_there_is_no_author() {
	fake_series
	git config --global --unset user.email
	fails 'git does not know who you are.*user.email' series
	absent repo/out/series
	GIT_AUTHOR_EMAIL=other@example.org series
	mail_of 0001 | grep -q '^From: Ada Example <other@example.org>$'
}

test_only_SIGNOFF_1_signs_off() {
	fake_series
	series SIGNOFF=1
	same "$(grep -c '^Signed-off-by: Ada Example <ada@example.org>$' repo/out/series/000[123]*.patch | sed 's/.*://' | paste -sd,)" 1,1,1
	fails 'SIGNOFF=yes is neither 0 nor 1' series SIGNOFF=yes
	series SIGNOFF=0
	! grep -q '^Signed-off-by:' repo/out/series/*.patch || fail 'signed off unasked'
}

test_V_2_says_how_it_differs_from_PREV() {
	fake_series
	series V=1 2>/dev/null
	[[ -e repo/out/series/0001-base-Shout.patch ]] || fail 'V=1 is the first version'
	cp -R repo/out/series v1
	sed -i 's/too silent/far too silent/' repo/patches/0001-two.patch
	series V=2 PREV="$T/v1"
	mail_of 0000 | grep -q '^Subject: \[PATCH v2 0/3\] '
	mail_of 0000 | grep -q '^Range-diff'
	mail_of 0000 | grep -q '^1: .* ! 1: .* base: Shout$'
	mail_of 0000 | grep -q '^2: .* = 2: .* new: Add a driver$'
	# What stands in the way of the former series is no version of this one.
	series V=2 PREV=repo/out/series
}

test_a_PREV_that_is_none_is_refused() {
	fake_series
	series
	fails 'PREV= is what a later version is compared with; give V=2' series PREV="$T/repo/out/series"
	fails "PREV=$T/gone holds no" series V=2 PREV="$T/gone"
	fails 'V=x is not a version' series V=x
	cp -R repo/out/series v1
	sed -i 's/^-two/-deux/' v1/0001*
	fails "PREV=$T/v1 does not apply to .*Patch failed at 0001" series V=2 PREV="$T/v1"
	mail_of 0000 | grep -q 'PATCH 0/3'
}

test_a_base_of_git_is_named_by_its_commit_and_must_be_that() {
	fake_series
	cp -R linux-source-7.3 mine
	git -C mine init --quiet
	git -C mine add .
	git -C mine commit --quiet -m base
	local commit
	commit=$(git -C mine rev-parse HEAD)
	series KSRC="$T/mine"
	same "$(mail_of 0000 | tail -n 1)" "base-commit: $commit"
	echo four >>mine/drivers/base/core.c
	fails "KSRC=$T/mine is not what its commit $commit says" series KSRC="$T/mine"
	git -C mine commit --quiet -am four
	series KSRC="$T/mine"
	sed -i s/two/deux/ mine/drivers/base/core.c
	git -C mine commit --quiet -am deux
	fails 'patches/0001-two.patch does not apply to ' series KSRC="$T/mine"
}

test_the_letter_has_the_numbers_of_the_last_runs() {
	needs python3
	printf '1\t2\tdrivers/a.c\n30\t0\trust/kernel/b.rs\n4\t0\tsamples/rust/c.rs\n' >numstat
	printf 'subject\n\nTests: @tests@\n\n@sizes@\n\n@cost@\n' >letter
	echo '{"complete": true, "kernels": [{"name": "7.3-tph", "inputs": "abc"}], "parts": [],
		"total": {"passed": 1200, "failed": 0, "skipped": 7}}' >check.json
	echo '{"inputs": "abc", "measurements": [
		{"group": "copies", "name": "memcpy", "value": 3, "unit": "GB/s"},
		{"group": "In a guest", "name": "entries: 1", "value": 182, "unit": "instructions"},
		{"group": "In a guest", "name": "the largest", "value": 1.25, "unit": "times", "compared_with": "the smallest"}]}' >bench.json
	letter() { repo/scripts/series-letter --base v7 --numstat numstat --check check.json --bench bench.json --inputs "$1" letter >filled; }
	letter 'abc def'
	grep -q '^Tests: 1200 passed, 0 failed, 7 skipped, on the kernels 7.3-tph' filled
	grep -qx '  kernel         C           1        2' filled
	grep -qx '  kernel         Rust       30        0' filled
	grep -qx '  samples        Rust        4        0' filled
	grep -qx 'In a guest:' filled
	grep -qx '  entries: 1: 182 instructions' filled
	grep -qx '  the largest: 1.25 times (compared with the smallest)' filled
	! grep -q 'GB/s\|before the last change' filled || fail "it says: $(<filled)"
	letter def
	same "$(tr '\n' ' ' <filled | grep -o 'measured before the last change of the sources' | wc -l)" 2
	sed -i 's/true/false/' check.json
	letter abc
	grep -q '^Tests: not measured: the last make check was one of some parts only' filled
	echo '{' >check.json
	fails 'check.json is not what a run writes' letter abc
	echo '@speed@' >letter
	rm check.json
	fails 'asks for @speed@, which nobody knows' letter abc
}

test_the_quick_check_finds_nothing_in_a_good_series() {
	fake_series
	series_check --quick >output
	grep -qx 'ok 1 - git am makes the tree that the lab builds' output
	grep -qx 'ok 2 - 01 base: Shout: checkpatch --strict' output
	same "$(tail -n 1 output)" '5 passed, 0 failed, 0 skipped'
}

test_what_checkpatch_says_is_justified_or_a_failure() {
	fake_series
	printf '%s\n' 'WARNING:LONG_LINE: line is long' '#12: FILE: drivers/new/new.c:1:' '+int new;' '' 'CHECK:TYPO: in the log' '#3: ' >checkpatch-says
	! series_check --quick >output || fail 'it succeeded'
	grep -qx '# WARNING:LONG_LINE: line is long in drivers/new/new.c' output
	grep -qx '# CHECK:TYPO: in the log' output
	same "$(tail -n 1 output)" '2 passed, 3 failed, 0 skipped'
	printf '%s\n' 'LONG_LINE drivers/new/ It has to be.' 'TYPO * It is none.' >repo/patches/checkpatch-justified
	series_check --quick
	echo 'GONE * It was once.' >>repo/patches/checkpatch-justified
	! series_check --quick >output || fail 'it succeeded'
	grep -qx '# excuses nothing any more, remove it: GONE \* It was once.' output
	# One patch by itself needs not all of them.
	series_check --quick --patch 1
}

test_a_tree_that_is_not_the_labs_is_found() {
	fake_series
	# What git keeps of a file is whether it may be executed: a mail that loses it makes another tree.
	fake git <<<'if [[ $* == *" am --quiet"* ]]; then /usr/bin/git "$@" && chmod -x "$2/tools/testing/test"; else exec /usr/bin/git "$@"; fi'
	! series_check --quick >output || fail 'it succeeded'
	grep -qx 'not ok 1 - git am makes the tree that the lab builds' output
	grep -qx '# -./tools/testing/test' output
}

# A kernel that "builds" unless a file says BROKEN; what was built is in $T/made.
fake_builds() {
	mkdir -p linux-source-7.3/scripts
	printf '#!/bin/sh\necho "$3:1: warning: $(cat "$T/kernel-doc-says" 2>/dev/null)" | grep -v ": $"\n' >linux-source-7.3/scripts/kernel-doc
	chmod +x linux-source-7.3/scripts/kernel-doc
	fake make <<-'EOF2'
		# fs/old.c of the pristine kernel has a warning.
		pristine() {
			[[ $* != *CFLAGS_old.o=-Wno-error* ]] || return 0
			echo "make[5]: *** [$2/scripts/Makefile.build:295: fs/old.o] Error 1"
			return 2
		}
		for argument; do
			case $argument in
			O=*) build=${argument#O=} ;;
			KCONFIG_ALLCONFIG=*) fragment=${argument#*=} ;;
			esac
		done
		case $* in
		*allnoconfig*) cp "$fragment" "$build/.config" ;;
		*modules*)
			[[ $2 == */tree ]] && grep -q TWO "$2/drivers/base/core.c" || { pristine "$@"; exit; }
			echo "${build##*-}" >>"$T/made"
			pristine "$@" || exit
			if grep -rq BROKEN "$2/drivers"; then echo 'new.c:1:1: error: BROKEN'; exit 2; fi
			;;
		*rustdoc*)
			echo 'warning: an old one'
			[[ $2 == */tree && -e $2/rust/kernel/new.rs ]] || exit 0
			sed 's,^// ,,' "$2/rust/kernel/new.rs"
			;;
		*C=2*)
			echo "$*" >>"$T/checked"
			cat "$T/sparse-says" 2>/dev/null
			! grep -q TWO "$2/drivers/base/core.c" || cat "$T/sparse-says-of-ours" 2>/dev/null
			exit 0
			;;
		esac
	EOF2
}

test_each_patch_is_built_with_each_set_of_options() {
	fake_series
	fake_builds
	series_check >output 2>log || fail "$(<output)"
	grep -qx 'ok 2 - the pristine kernel: builds with y' output
	grep -q '^ok .*01 base: Shout: builds with m$' output
	grep -q '^ok .*01 base: Shout: builds with n$' output
	grep -q '^ok .*01 base: Shout: sparse$' output
	grep -q 'git am on a fresh unpacked base makes the tree that the lab builds' output
	same "$(sort made | uniq -c | tr -s ' \n' ' ')" ' 3 m 3 n 3 y '
	absent cache/series/7.3-1/fresh cache/series/7.3-1/work
}

test_what_passed_is_not_done_again() {
	fake_series
	fake_builds
	echo 'int BROKEN;' >repo/drivers/new/new.c
	! series_check >output 2>log || fail 'it succeeded'
	grep -A 1 'not ok .*02 new: Add a driver: builds with y' output | grep -q '# new.c:1:1: error: BROKEN'
	grep -q '^ok .*01 base: Shout: builds with y' output
	rm made
	! series_check >output 2>log || fail 'what failed must not pass by being forgotten'
	same "$(sort made | uniq -c | tr -s ' \n' ' ')" ' 2 m 2 n 2 y '
	rm made
	echo 'int right;' >repo/drivers/new/new.c
	series_check >output 2>log || fail "$(<output)"
	same "$(sort made | uniq -c | tr -s ' \n' ' ')" ' 2 m 2 n 2 y '
	rm made
	series_check >output 2>log
	absent made
}

test_a_warning_that_would_hide_behind_one_of_the_pristine_kernel_is_a_failure() {
	fake_series
	fake_builds
	sed -i 's,fs/old\.o],drivers/base/core.o],; s/CFLAGS_old/CFLAGS_core/' bin/make
	! series_check --patch 1 >output 2>log || fail 'it succeeded'
	grep -q '^# the pristine kernel has warnings in drivers/base/core.o' output || fail "$(<output)"
}

test_one_patch_is_checked_by_its_place() {
	fake_series
	fake_builds
	series_check --patch 2 >output 2>log
	! grep -q '01 base\|03 new\|git am' output || fail "$(<output)"
	grep -q '02 new: Add a driver: builds with y' output
	fails 'P=4 is not a patch; the series has 3' series_check --patch 4
	fails 'P=x is not a patch' series_check --patch x
}

test_what_sparse_says_only_of_a_patch_fails() {
	fake_series
	fake_builds
	echo 'core.c:1:1: warning: different address spaces' >sparse-says
	series_check --patch 1 >output 2>log || fail "$(<output)"
	# The same words of another line are news.
	echo 'core.c:7:1: warning: different address spaces' >sparse-says-of-ours
	rm -r cache/series/7.3-1/passed
	! series_check --patch 1 >output 2>log || fail 'it succeeded'
	grep -q '^# core.c: warning: different address spaces' output || fail "$(<output)"
	grep -q '^ok .*the pristine kernel: sparse' output
}

test_sparse_reads_a_file_where_it_is_included() {
	fake_series
	fake_builds
	echo 'int part;' >repo/drivers/new/part.c
	echo '#include "part.c"' >repo/drivers/new/new.c
	series_check --patch 2 >output 2>log || fail "$(<output)"
	grep -q 'CHECK=sparse drivers/new/new.o$' checked || fail "$(<checked)"
}

test_what_kernel_doc_says_only_of_a_patch_fails() {
	fake_series
	fake_builds
	# In the pristine kernel it is said of this file, too.
	echo 'not described' >kernel-doc-says
	series_check --patch 1 >output 2>log || fail "$(<output)"
	! series_check --patch 2 >output 2>log || fail 'it succeeded'
	grep -q '^# .*drivers/new/new.c.*not described' output || fail "$(<output)"
}

test_what_rustdoc_says_of_a_patch_fails() {
	fake_series
	fake_builds
	needs rustfmt
	mkdir -p repo/rust/kernel
	: >linux-source-7.3/.rustfmt.toml
	: >repo/patches/0008-rust.patch
	describe repo/patches/0008-rust.patch 'rust: Add a file' 'There is none.' rust/kernel/new.rs
	printf '// one\n' >repo/rust/kernel/new.rs
	series_check --patch 4 >output 2>log || fail "$(<output)"
	grep -q '^ok .*04 rust: Add a file: rustdoc$' output || fail "$(<output)"
	printf '// warning: unresolved link\n//   --> rust/kernel/new.rs:1:2\n' >repo/rust/kernel/new.rs
	! series_check --patch 4 >output 2>log || fail 'it succeeded'
	grep -q '^# warning: unresolved link *--> rust/kernel/new.rs$' output || fail "$(<output)"
}
