# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2016
# Tests of scripts/series: what it tells `lab series`. (fake_kernel, fake_tree: kernel.sh, kernel-source.sh)

# A toolbox that is this machine, a lab that says how it is called, and a host that knows who exports.
fake_export() {
	fake_kernel
	fake cargo <<<''
	mkdir -p target/release repo/patches
	printf '#!/bin/sh\necho "$*"\n' >target/release/lab
	chmod +x target/release/lab
	printf '#!/bin/bash\nshift\n[[ $1 != --with ]] || { echo "with $2" && shift 2; }\ncd "$T/repo" && TPH_TOOLBOX=test exec "${@:2}"\n' \
		>repo/scripts/toolbox
	export CARGO_TARGET_DIR=$T/target GIT_CONFIG_GLOBAL=$T/gitconfig GIT_CONFIG_NOSYSTEM=1 SOURCE_DATE_EPOCH=1700000000
	unset GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL SIGNOFF PREV
	git config --global user.name 'Ada Example'
	git config --global user.email ada@example.org
}

series() { env "$@" repo/scripts/series write; }

test_a_series_is_told_who_exports_it_and_what_it_is_made_against() {
	fake_export
	series >line
	grep -qF "series write --repo $T/repo --base $T/cache/kernel/7.3-1/base --base-name Debian's linux-source-7.3 7.3-1 --inputs " line
	grep -q -- ' --inputs\( [0-9a-f]\{12\}\)\{5\} --out out/series ' line
	grep -q -- ' --name Ada Example --email ada@example.org --date 1700000000$' line
	series SIGNOFF=1 V=2 | grep -q -- ' --signoff --version 2$'
	series GIT_AUTHOR_EMAIL=other@example.org | grep -q -- ' --email other@example.org '
	git config --global --unset user.email
	fails 'git does not know who you are.*user.email' series
}

test_what_makes_no_series_is_refused() {
	fake_export
	fails 'SIGNOFF=yes is neither 0 nor 1' series SIGNOFF=yes
	fails 'V=x is not a version' series V=x
	fails "PREV=$T/gone is not a directory" series V=2 PREV="$T/gone"
	fails "unknown command 'x'" repo/scripts/series x
}

test_a_series_is_told_of_the_former_one() {
	fake_export
	mkdir v1 && echo mail >v1/0001-x.patch
	series V=2 PREV="$T/v1" | grep -q -- ' --version 2 --previous /tph/cache/series/previous$'
	same "$(<cache/series/previous/0001-x.patch)" mail
}

test_a_base_of_git_is_named_by_its_commit_and_must_be_that() {
	fake_export
	fake_tree mine 7.3
	git -C mine init --quiet
	git -C mine add .
	git -C mine commit --quiet -m base
	series KSRC="$T/mine" >line
	grep -q -- " --base-commit $(git -C mine rev-parse HEAD)\$" line
	echo four >>mine/drivers/base/core.c
	fails "KSRC=$T/mine is not what its commit .* says" series KSRC="$T/mine"
}

test_a_check_of_the_series_has_what_the_lab_makes_of_the_kernel() {
	fake_export
	make_patch repo/patches/0001-two.patch 's/two/TWO/'
	same "$(JOBS=3 repo/scripts/series check --quick 2>progress)" "series check --repo $T/repo --base $T/cache/kernel/7.3-1/base \
--base-key 7.3-1 --staged $T/cache/series/7.3-1/staged --state $T/cache/series/7.3-1 --toolbox test --jobs 3 --out out/series-check --quick"
	same "$(cd cache/series/7.3-1/staged && find . -type f | sort | paste -sd' ')" './drivers/base/core.c ./drivers/new/new.c'
	same "$(repo/scripts/series check --patch 2 | head -n 1)" 'with series'
	V=1 repo/scripts/series check --quick 2>progress | grep -q -- ' --verbose --quick$'
}
