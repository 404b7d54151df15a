# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2016
# Tests of scripts/docs on a Sphinx and a rustdoc that say what the file tells them to.

# A kernel with a page, a patch of it, a page of ours and a file of ours in the crate `kernel`. In a page or source, a line
# "says: ..." is what is said when it is read.
fake_docs() {
	fake_debian 7.3-1
	mkdir -p linux-source-7.3/Documentation/{PCI,driver-api} a/Documentation/PCI b/Documentation/PCI \
		repo/Documentation/driver-api repo/rust/kernel repo/patches repo/lab
	printf 'says: WARNING: old label\nold\n' >linux-source-7.3/Documentation/PCI/tph.rst
	echo 'old' >linux-source-7.3/Documentation/driver-api/index.rst
	printf 'ours\n' >repo/Documentation/driver-api/ours.rst
	printf '//! ours\n' >repo/rust/kernel/ours.rs
	patch_page 's/old$/new/'
	echo 'CONFIG_RUST=y' >repo/scripts/kernel.config
	fake sphinx-build <<<'exit 0'
	fake make <<-'EOF2'
		while (($#)); do
			case $1 in
			-C) tree=$2 && shift ;;
			O=*) build=${1#O=} ;;
			SPHINXDIRS=*) folders=${1#*=} ;;
			KCONFIG_ALLCONFIG=*) cp "${1#*=}" "$build/.config" ;;
			htmldocs) what=html ;;
			rustdoc) what=rust ;;
			esac
			shift
		done
		case ${what:-} in
		html)
			echo "html of $folders" >>"$T/made"
			[[ ! -e $T/broken ]] || { echo 'Extension error!'; exit 2; }
			cd "$tree/Documentation"
			for folder in $folders; do
				for page in "$folder"/*.rst; do
					mkdir -p "$build/Documentation/output/$folder"
					sed -n "s,^says: ,$tree/Documentation/$page:$(wc -l <"$page"): ,p" "$page"
					grep -q 'says: nothing' "$page" || cp "$page" "$build/Documentation/output/${page%.rst}.html"
				done
			done
			;;
		rust)
			echo rustdoc >>"$T/made"
			cd "$tree"
			grep -rH '^// says: ' rust | while IFS=: read -r file _ text; do
				printf 'warning:%s\n  --> %s:1:1\n' "$text" "$file"
			done
			sed -n 's,^// link: ,warning: srctree/ link to ,p' rust/kernel/*.rs
			;;
		esac
	EOF2
	fake cargo <<-'EOF2'
		echo "cargo $RUSTDOCFLAGS" >>"$T/made"
		[[ -e $T/bad-link ]] || { mkdir -p "$CARGO_TARGET_DIR/doc/lab" && touch "$CARGO_TARGET_DIR/doc/lab/index.html" && exit; }
		printf 'error: unresolved link to `gone`\n --> crates/lab/src/lib.rs:1:1\n'
		exit 101
	EOF2
}

# patch_page SED: the patch that makes of the kernel's page what SED does.
patch_page() {
	cp linux-source-7.3/Documentation/PCI/tph.rst a/Documentation/PCI/
	sed "$1" a/Documentation/PCI/tph.rst >b/Documentation/PCI/tph.rst
	{ echo 'Subject: a page' && diff -u a/Documentation/PCI/tph.rst b/Documentation/PCI/tph.rst; } >repo/patches/0001.patch || true
}

docs() { env TPH_TOOLBOX=test CARGO_TARGET_DIR="$T/target" "$@"; }
docs_check() { docs repo/scripts/docs check 2>progress; }
is_found() {
	! docs_check >output || fail "it succeeded: $(<output)"
	grep -q "$1" output || fail "expected '$1', got: $(<output)"
	grep -qF "$2" output || fail "expected '$2', got: $(<output)"
}

test_docs_without_fault_pass() {
	fake_docs
	docs_check >output || fail "$(<output)"
	same "$(<output)" "$(
		cat <<-'EOF2'
			TAP version 13
			1..5
			ok 1 - rustdoc of the lab's crates does not warn
			ok 2 - rustdoc of our part of the crate kernel does not warn
			ok 3 - Documentation/PCI/tph.rst is a page
			ok 4 - Documentation/driver-api/ours.rst is a page
			ok 5 - the pages of PCI driver-api warn of nothing that the pristine kernel does not
			5 passed, 0 failed, 0 skipped
		EOF2
	)"
	grep -qx 'cargo -D warnings' made
}

test_docs_are_made_again_only_after_a_change() {
	fake_docs
	docs_check >/dev/null
	: >made
	docs_check >/dev/null
	same "$(steps_made)" 'cargo -D warnings'
	echo 'ours, edited' >repo/Documentation/driver-api/ours.rst
	docs_check >/dev/null
	same "$(steps_made)" 'html of PCI driver-api rustdoc cargo -D warnings'
}

test_a_warning_of_a_page_of_ours_is_found() {
	fake_docs
	echo 'says: WARNING: undefined label' >>repo/Documentation/driver-api/ours.rst
	is_found '^not ok 5 ' '# Documentation/driver-api/ours.rst: WARNING: undefined label'
}

test_a_warning_that_a_patch_adds_is_found_even_if_the_page_had_it_once() {
	fake_docs
	patch_page 's/^old$/says: WARNING: old label/'
	is_found '^not ok 5 ' '# Documentation/PCI/tph.rst: WARNING: old label'
}

test_an_old_warning_on_another_line_is_not_new() {
	fake_docs
	patch_page '1i added'
	docs_check >output || fail "$(<output)"
}

test_a_page_that_is_not_made_is_found() {
	fake_docs
	echo 'says: nothing' >repo/Documentation/driver-api/ours.rst
	is_found '^not ok 4 ' '# there is no driver-api/ours.html'
}

test_a_warning_of_rustdoc_in_a_file_of_ours_is_found_and_no_other() {
	fake_docs
	echo '// says: unclosed tag' >>linux-source-7.3/rust/kernel/lib.rs
	docs_check >output || fail "$(<output)"
	echo '// says: unresolved link' >>repo/rust/kernel/ours.rs
	is_found '^not ok 2 ' '# warning: unresolved link'
}

test_a_link_to_a_kernel_file_that_is_not_there_is_found() {
	fake_docs
	printf '// link: include/gone.h does not exist\n//! [gone](srctree/include/gone.h)\n' >>repo/rust/kernel/ours.rs
	is_found '^not ok 2 ' '# rust/kernel/ours.rs: warning: srctree/ link to include/gone.h'
}

test_a_bad_link_in_the_lab_is_found() {
	fake_docs
	touch bad-link
	is_found '^not ok 1 ' '# error: unresolved link to `gone`'
	! docs repo/scripts/docs check-lab >output || fail 'it succeeded'
	grep -q '^not ok 1 - rustdoc' output
}

test_a_cargo_that_fails_without_an_error_line_is_found() {
	fake_docs
	fake cargo <<<'echo "no such command: doc"; exit 101'
	! docs repo/scripts/docs check-lab >output || fail 'it succeeded'
	grep -qF '# no such command: doc' output
}

test_a_Sphinx_that_fails_is_one_error_and_is_asked_again() {
	fake_docs
	touch broken
	fails 'making the pages of PCI driver-api \(pristine\) failed' docs repo/scripts/docs check
	rm broken
	docs_check >output || fail "$(<output)"
}

test_docs_are_left_in_out() {
	fake_docs
	same "$(docs repo/scripts/docs build 2>progress)" \
		"$(printf '%s\n' "$T/repo/out/docs/"{PCI/tph.html,driver-api/ours.html,lab/lab/index.html})"
	same "$(<repo/out/docs/PCI/tph.html)" "$(printf 'says: WARNING: old label\nnew')"
	[[ -e repo/out/docs/lab/lab/index.html ]]
}
