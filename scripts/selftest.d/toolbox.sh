# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2016
# Tests of scripts/toolbox: what the host lacks, and builds that fail or are cut short.

# A host with all that is needed: namespaces that cost nothing, and an mmdebstrap that makes a tiny root.
fake_host() {
	local user=$1
	fake id <<<"[[ \$1 == -un ]] && echo somebody || echo $user"
	fake unshare <<-'EOF2'
		if [[ $1 == --help ]]; then echo "--map-auto"; exit; fi
		while [[ $1 == --* ]]; do
			[[ $1 == --propagation ]] && shift
			shift
		done
		exec "$@"
	EOF2
	fake newuidmap <<<''
	fake grep <<<'[[ $* == *sub?id* ]] && exit 0; exec /usr/bin/grep "$@"' # /etc/subuid has a range for everybody
	fake mmdebstrap <<-'EOF2'
		[[ $1 != --version ]] || { echo "mmdebstrap 1.3.5"; exit; }
		echo called >>"$T/calls"
		root=${!#}
		mkdir -p "$root/etc/ssl/certs" "$root/usr/local/bin"
		echo "I: extracting archives..."
		[[ ! -e $T/mmdebstrap-dies ]] || kill -KILL $PPID $$
		[[ ! -e $T/mmdebstrap-fails ]] || { cat "$T/mmdebstrap-fails"; exit 1; }
	EOF2
	fake df <<<'echo Avail; echo 100000'
}

ensure() { repo/scripts/toolbox ensure; }
made() { [[ -d $(repo/scripts/toolbox path)/tph/repo ]]; }

nothing_cached() {
	absent cache/toolbox-*/
	absent cache/tmp.toolbox.*
}

# PATH with the commands of the usual directories except one, which may be installed on this machine.
path_without() {
	local tool
	mkdir -p some
	for tool in /usr/bin/* /usr/sbin/*; do
		[[ ${tool##*/} == "$1" ]] || ln -sf "$tool" some/
	done
	# lib.sh appends the system's directories, and what is missing must not be there either
	sed -i '/^PATH=/d' repo/scripts/lib.sh
	echo "$T/bin:$T/some"
}

test_root_gets_a_missing_mmdebstrap_installed() {
	fake_host 0
	mv bin/mmdebstrap mmdebstrap.real
	fake apt-get <<<'echo "$*" >>"$T/apt"; [[ $* != *install* ]] || cp "$T/mmdebstrap.real" "$T/bin/mmdebstrap"'
	PATH=$(path_without mmdebstrap) ensure
	made
	grep -q 'install .*mmdebstrap' apt
}

test_a_toolbox_that_cannot_be_made_leaves_nothing_and_the_next_try_works() {
	fake_host 0
	echo 'E: Could not resolve deb.example' >mmdebstrap-fails
	fails 'making the toolbox failed .*the network failed' ensure
	nothing_cached
	echo 'E: No space left on device' >mmdebstrap-fails
	fails 'the disk is full' ensure
	nothing_cached
	rm mmdebstrap-fails
	ensure
	made
}

test_a_killed_run_is_cleaned_up_by_the_next_one() {
	fake_host 0
	touch mmdebstrap-dies
	! ensure >output 2>&1 || fail 'a killed mmdebstrap is no success'
	rm mmdebstrap-dies
	mkdir -p cache/tmp.toolbox.999/half # as a SIGKILL of the script itself leaves it
	ensure
	made
	absent cache/tmp.toolbox.*
}

test_two_runs_at_once_make_one_toolbox() {
	fake_host 0
	ensure &
	ensure
	wait
	made
	same "$(wc -l <calls)" 1
	ensure # and a third finds it made
	same "$(wc -l <calls)" 1
}

test_other_packages_are_another_toolbox() {
	fake_host 0
	local before
	before=$(repo/scripts/toolbox path)
	echo '# a comment' >>repo/scripts/toolbox.packages
	same "$(repo/scripts/toolbox path)" "$before"
	echo 'one-more' >>repo/scripts/toolbox.packages
	[[ $(repo/scripts/toolbox path) != "$before" ]] || fail 'the same toolbox for other packages'
}

test_distclean_leaves_what_is_not_ours_in_the_cache() {
	fake_host 0
	ensure
	mkdir -p cache/mine cache/kernel/x/build-y cache/{cargo-fuzz-1,corpus/x} repo/out
	echo usable >cache/kvm-x
	repo/scripts/clean
	absent cache/kernel/x/build-y repo/out
	made
	repo/scripts/clean all
	same "$(ls -A cache)" mine
}

test_JOBS_that_is_no_number_is_refused() {
	fake_host 0
	JOBS=many fails 'JOBS=many is not a number of jobs' repo/scripts/toolbox run true
	JOBS=0 fails 'JOBS=0 is not a number of jobs' repo/scripts/toolbox run true
	nothing_cached
}

test_a_KSRC_that_is_no_directory_is_refused() {
	fake_host 0
	KSRC=$T/none fails "KSRC=$T/none is not a directory" repo/scripts/toolbox run true
}

# A toolbox whose packages are installed by a fake: it notes what was asked for and leaves the stamp.
fake_root() {
	fake_host 0
	echo 'one two # and a comment' >repo/scripts/toolbox-some.packages
	cat >repo/scripts/toolbox-init <<-'EOF2'
		#!/bin/sh
		echo "$*" >>"$T/ran"
		case $* in
		*' sh -euc '*)
			[ ! -e "$T/apt-fails" ] || { cat "$T/apt-fails"; exit 100; }
			while [ "$1" != sh ] || [ "$2" = -euc ]; do shift; done
			echo "$3" >"$ROOT$2"
			;;
		esac
	EOF2
}

test_packages_of_a_group_are_added_once_and_the_toolbox_stays_the_same() {
	fake_root
	local before
	before=$(repo/scripts/toolbox path)
	repo/scripts/toolbox run --with some -- true
	repo/scripts/toolbox run --with some true
	same "$(grep -c ' one two$' ran)" 1
	same "$(grep -c ' -- true$' ran)" 2
	same "$(repo/scripts/toolbox path)" "$before"
	echo three >>repo/scripts/toolbox-some.packages
	repo/scripts/toolbox run --with some true
	same "$(grep -c ' one two three$' ran)" 1
	same "$(repo/scripts/toolbox path)" "$before"
}

test_packages_that_cannot_be_added_are_tried_again() {
	fake_root
	echo 'E: Failed to fetch http://deb.example/one' >apt-fails
	fails 'adding packages for some to the toolbox failed .*the network failed' repo/scripts/toolbox run --with some true
	! grep -q -- '-- true$' ran || fail 'the command ran without its packages'
	rm apt-fails
	repo/scripts/toolbox run --with some true
	same "$(grep -c -- '-- true$' ran)" 1
}

test_a_group_that_there_is_not_is_refused() {
	fake_root
	fails "there is no group of packages 'none'; there are: .*some" repo/scripts/toolbox run --with none true
	fails "there is no group of packages '../x'" repo/scripts/toolbox run --with ../x true
	fails '--with wants a group of packages' repo/scripts/toolbox run --with
	absent ran
}
