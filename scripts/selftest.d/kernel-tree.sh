# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2016
# Tests of scripts/kernel-tree.sh: patches, overlay, and a work tree whose mtimes move only where content does.

# A Debian source, a patch for it and an overlay file, staged; $tree and $base are set.
staged() {
	fake_debian 7.3-1
	mkdir -p repo/patches repo/drivers/new
	make_patch repo/patches/0001-two.patch 's/two/TWO/'
	echo 'int new;' >repo/drivers/new/new.c
	stage
	tree=$T/cache/kernel/7.3-1/tree
	base=$T/cache/kernel/7.3-1/base
	age
}

# make_patch FILE SED: what SED makes of drivers/base/core.c.
make_patch() {
	mkdir -p a/drivers/base b/drivers/base
	cp linux-source-7.3/drivers/base/core.c a/drivers/base/
	sed "$2" a/drivers/base/core.c >b/drivers/base/core.c
	{ echo 'Subject: a change' && diff -u a/drivers/base/core.c b/drivers/base/core.c; } >"$1" || true
}

# Every file of the work tree as if staged an hour ago: what is written later shows.
age() { find "$tree" -type f -exec touch -h -d '1 hour ago' {} +; }
written() { (cd "$tree" && find . -type f -mmin -30 -printf '%P\n' | sort | paste -sd' '); }

test_patches_and_overlay_are_in_the_work_tree_and_the_base_is_pristine() {
	staged
	same "$(paste -sd' ' "$tree/drivers/base/core.c")" 'one TWO three'
	same "$(<"$tree/drivers/new/new.c")" 'int new;'
	same "$(paste -sd' ' "$base/drivers/base/core.c")" 'one two three'
	absent "$base/drivers/new"
	[[ $tree/Kconfig -ef $base/Kconfig ]] || fail 'unchanged files are not shared with the base'
}

test_staging_again_writes_nothing() {
	staged
	touch repo/drivers/new/new.c repo/patches/*
	stage
	same "$(written)" ''
}

test_only_what_was_edited_is_written() {
	staged
	echo 'int newer;' >repo/drivers/new/new.c
	touch -d '1 day ago' repo/drivers/new/new.c # make must see it although it is older than its object
	stage
	same "$(written)" drivers/new/new.c
	same "$(<"$tree/drivers/new/new.c")" 'int newer;'
}

test_a_removed_overlay_file_goes_and_a_removed_patch_is_undone() {
	staged
	rm repo/drivers/new/new.c repo/patches/0001-two.patch
	stage
	absent "$tree/drivers/new/new.c"
	same "$(paste -sd' ' "$tree/drivers/base/core.c")" 'one two three'
	same "$(written)" drivers/base/core.c # with a new mtime, or make would keep the object of the patched file
}

test_a_patch_that_does_not_apply_is_named_with_its_file_and_changes_nothing() {
	staged
	sed -i 's/^-two/-deux/' repo/patches/0001-two.patch
	fails 'patches/0001-two.patch does not apply to .*patch failed: drivers/base/core.c:1' stage
	same "$(written)" ''
	same "$(paste -sd' ' "$tree/drivers/base/core.c")" 'one TWO three'
}

test_a_patch_may_only_say_which_files_it_adds() {
	staged
	printf 'Subject: a driver\nAdds: drivers/new/\n\nText.\n---\n' >repo/patches/0002-new.patch
	stage
	same "$(written)" ''
}

test_a_patch_of_a_file_that_the_kernel_has_not_is_named() {
	staged
	sed -i 's,drivers/base/core.c,drivers/base/gone.c,' repo/patches/0001-two.patch
	fails 'patches/0001-two.patch does not apply to .*drivers/base/gone.c' stage
}

test_an_overlay_file_that_the_kernel_has_already_is_refused() {
	staged
	mkdir -p repo/rust/kernel
	echo mine >repo/rust/kernel/lib.rs
	fails 'rust/kernel/lib.rs is in the kernel already; a change of it belongs into patches/' stage
	same "$(written)" ''
}

test_patches_build_on_each_other_in_the_order_of_their_names() {
	staged
	sed 's/^ one/ one/; s/^-two/-TWO/; s/^+TWO/+2/' repo/patches/0001-two.patch >repo/patches/0002-two.patch
	stage
	same "$(paste -sd' ' "$tree/drivers/base/core.c")" 'one 2 three'
}

test_ignored_files_and_other_folders_are_no_overlay() {
	staged
	echo junk >repo/drivers/new/new.o
	mkdir -p repo/tools/testing repo/lab
	echo lab | tee repo/lab/lab.rs >repo/tools/testing/test.rs
	stage
	absent "$tree/drivers/new/new.o" "$tree/tools" "$tree/lab"
}

test_an_interrupted_installation_is_completed_by_the_next_run() {
	staged
	echo 'int other;' >repo/drivers/new/other.c
	rm repo/patches/0001-two.patch
	# rsync installs what is wanted as its last work: that one is killed half way, after the first file.
	fake rsync <<<'if [[ -e $T/die && $* == */stage/* && $* == *--checksum* ]]; then cp "$T/repo/drivers/new/other.c" "${!#}drivers/new/"; kill -KILL $PPID $$; fi; exec /usr/bin/rsync "$@"'
	touch die
	! stage >output 2>&1 || fail 'half an installation is no success'
	[[ -e $tree/drivers/new/other.c ]] || fail 'the test does not test'
	rm die repo/drivers/new/other.c # and before the next run the file is gone from the repository
	stage
	absent "$tree/drivers/new/other.c"
	same "$(cd "$tree" && find . -type f | sort)" "$(cd "$base" && { find . -type f && echo ./drivers/new/new.c; } | sort)"
}

test_two_checkouts_use_one_cache_in_turn() {
	staged
	cp -R repo other
	mv repo first
	mv other repo
	echo 'int other;' >repo/drivers/new/new.c
	echo 'more' >repo/drivers/new/more.c
	stage
	same "$(written)" 'drivers/new/more.c drivers/new/new.c'
	mv repo second
	mv first repo
	age
	stage
	same "$(written)" drivers/new/new.c
	absent "$tree/drivers/new/more.c"
}

test_a_tree_of_the_users_own_is_copied_followed_and_never_written_to() {
	fake_debian
	fake_tree mine 7.3
	mkdir mine/fs
	echo a >mine/fs/a.c
	echo b >mine/fs/b.c
	find mine -type f -exec touch -d '3 hours ago' {} +
	local before
	before=$(find mine -type f -printf '%p %T@ %i ' -exec sha256sum {} \; | sort)
	mkdir -p repo/patches
	make_patch repo/patches/0001-two.patch 's/two/TWO/'
	stage KSRC="$T/mine"
	tree=$(echo "$T"/cache/kernel/ksrc-*/tree)
	same "$(paste -sd' ' "$tree/drivers/base/core.c")" 'one TWO three'
	same "$(<"$tree/fs/a.c")" a
	age
	stage KSRC="$T/mine"
	same "$(written)" ''
	same "$(find mine -type f -printf '%p %T@ %i ' -exec sha256sum {} \; | sort)" "$before"
	# The user edits, adds, removes; what changes content is written, even if its mtime is old.
	echo A >mine/fs/a.c
	touch -d '2 hours ago' mine/fs/a.c
	touch mine/Kconfig
	rm mine/fs/b.c
	echo c >mine/fs/c.c
	sed -i 's/three/drei/' mine/drivers/base/core.c
	stage KSRC="$T/mine" 2>message || true
	grep -q 'does not apply' message
	make_patch_of_mine
	stage KSRC="$T/mine"
	same "$(written)" 'drivers/base/core.c fs/a.c fs/c.c'
	absent "$tree/fs/b.c"
	same "$(paste -sd' ' "$tree/drivers/base/core.c")" 'one TWO drei'
}

make_patch_of_mine() {
	cp mine/drivers/base/core.c linux-source-7.3/drivers/base/core.c
	make_patch repo/patches/0001-two.patch 's/two/TWO/'
}

test_a_git_tree_that_was_built_in_is_copied_without_the_products() {
	fake_debian
	fake_tree mine 7.3
	printf '*.o\n.config\n' >mine/.gitignore
	touch mine/.config mine/drivers/base/core.o
	mkdir mine/.git
	touch mine/.git/HEAD
	stage KSRC="$T/mine"
	tree=$(echo "$T"/cache/kernel/ksrc-*/tree)
	[[ -e $tree/drivers/base/core.c ]]
	absent "$tree/.config" "$tree/.git" "$tree/drivers/base/core.o"
}
