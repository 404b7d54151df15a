# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2016
# Tests of scripts/kernel-source.sh: which kernel, how it gets here, and what if it does not.

# A tree that looks like Linux VERSION.
fake_tree() {
	local tree=$1 version=$2
	mkdir -p "$tree/rust/kernel" "$tree/drivers/base"
	printf 'VERSION = %s\nPATCHLEVEL = %s\nSUBLEVEL = 0\n' "${version%.*}" "${version#*.}" >"$tree/Makefile"
	echo 'config SOMETHING' >"$tree/Kconfig"
	printf 'one\ntwo\nthree\n' >"$tree/drivers/base/core.c"
	echo 'library' >"$tree/rust/kernel/lib.rs"
}

# stage VARIABLE=VALUE...: brings source and work tree up to date, as inside the toolbox.
stage() { env TPH_TOOLBOX=test "$@" repo/scripts/kernel stage; }

# A Debian that offers the versions in $T/offers; its package holds a tree that tells its version.
fake_debian() {
	needs rsync dpkg-deb xz
	printf '%s\n' "$@" >offers
	fake apt-get <<-'EOF2'
		echo "$*" >>"$T/apt"
		[[ ! -e $T/offline ]] || { echo "E: Failed to fetch x  Could not connect to y" >&2; exit 100; }
		[[ $1 == download ]] || exit 0
		version=${2#*=}
		grep -qxF "$version" "$T/offers" || { echo "E: Version not found"; exit 100; }
		mkdir -p "$T/deb/DEBIAN" "$T/deb/usr/src"
		printf 'Package: linux-source-7.3\nVersion: %s\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n' \
			"$version" >"$T/deb/DEBIAN/control"
		echo "$version" >"$T/linux-source-7.3/debian-version"
		tar -C "$T" -cJf "$T/deb/usr/src/linux-source-7.3.tar.xz" linux-source-7.3
		dpkg-deb --build "$T/deb" source.deb >/dev/null
		[[ ! -e $T/truncate ]] || truncate -s -300 source.deb
	EOF2
	fake apt-cache <<-'EOF2'
		[[ $1 == madison ]] || exit 0
		sed 's/.*/linux-source-7.3 | & | mirror sid\/main amd64 Packages/' "$T/offers"
	EOF2
	fake_tree linux-source-7.3 7.3
}

nothing_unpacked() { absent cache/kernel/*/base cache/kernel/*/tree; }
# What an interrupted run leaves under a temporary name goes with the next one.
nothing_temporary() { absent cache/kernel/*/tmp.* cache/kernel/*/stage cache/apt/download; }

test_a_KSRC_that_is_not_a_kernel_7_3_is_refused() {
	needs rsync
	mkdir empty
	fails "KSRC=$T/empty is not a Linux kernel tree" stage KSRC="$T/empty"
	fake_tree older 7.2
	fails "KSRC=$T/older is Linux 7.2; the patches are for 7.3" stage KSRC="$T/older"
	fake_tree built 7.3
	touch built/.config
	fails "KSRC=$T/built has been built in; run: make -C $T/built mrproper" stage KSRC="$T/built"
	rm built/.config
	fails 'KSRC= and KVER= contradict' stage KSRC="$T/built" KVER=7.3-1
	nothing_unpacked
	stage KSRC="$T/built"
}

test_the_newest_version_of_all_suites_is_taken() {
	fake_debian 7.3~rc7-1~exp1 7.3.2-1 7.3-1~exp1 7.3.1-2
	stage
	same "$(<cache/kernel/7.3.2-1/tree/debian-version)" 7.3.2-1
	nothing_temporary
}

test_KVER_takes_another_version() {
	fake_debian 7.3~rc7-1~exp1 7.3.2-1
	stage KVER=7.3~rc7-1~exp1
	same "$(<cache/kernel/7.3-rc7-1-exp1/tree/debian-version)" 7.3~rc7-1~exp1
	fails 'downloading linux-source-7.3 7.9-1 failed.*KVER=7.9-1' stage KVER=7.9-1
	absent cache/kernel/7.9-1/base
}

test_Debian_is_asked_once_a_day_and_not_when_offline() {
	fake_debian 7.3-1
	stage
	: >apt
	stage
	same "$(<apt)" ''
	touch -d '2 days ago' cache/kernel/newest
	touch offline
	stage 2>message # the last answer stands
	grep -q 'going on with linux-source-7.3 7.3-1' message
	rm offline
	echo 7.3-2 >>offers
	touch -d '2 days ago' cache/kernel/newest
	stage
	same "$(<cache/kernel/7.3-2/tree/debian-version)" 7.3-2
}

test_no_network_and_nothing_cached_is_an_error() {
	fake_debian 7.3-1
	touch offline
	fails 'looking for the newest linux-source-7.3 failed .*the network failed' stage
	absent cache/kernel/newest
	rm offline
	stage
}

test_the_real_apt_without_a_network_is_an_error() {
	needs rsync apt-get
	[[ -s /etc/apt/sources.list ]] || skip 'this machine has no /etc/apt/sources.list; the toolbox has'
	fails 'the network failed' stage http_proxy=http://127.0.0.1:9 https_proxy=http://127.0.0.1:9
	nothing_unpacked
}

test_no_source_in_Debian_is_an_error() {
	fake_debian 7.3-1
	: >offers
	fails 'offer no linux-source-7.3; give an unpacked Linux 7.3 as KSRC=' stage
}

test_a_truncated_download_leaves_nothing_and_the_next_try_works() {
	fake_debian 7.3-1
	touch truncate
	fails 'unpacking the kernel source failed' stage
	nothing_unpacked
	rm truncate
	stage
	nothing_temporary
}

test_an_unpacking_that_is_killed_is_begun_anew() {
	fake_debian 7.3-1
	fake tar <<<'[[ ! -e $T/die || $* != *-C* || $* == *-cJf* ]] || { mkdir -p "$T/cache/kernel/7.3-1/tmp.base/half"; kill -KILL $$; }; exec /usr/bin/tar "$@"'
	touch die
	! stage >output 2>&1 || fail 'half a source is no success'
	nothing_unpacked
	rm die
	stage
	absent cache/kernel/7.3-1/base/half cache/kernel/7.3-1/tree/half
	nothing_temporary
}

test_a_full_disk_is_noticed_before_the_source_is_fetched() {
	fake_debian 7.3-1
	fake df <<<'echo Avail; echo 10'
	fails 'the kernel source needs [0-9]+ MB' stage
	same "$(grep -c download apt)" 0
	nothing_unpacked
}
