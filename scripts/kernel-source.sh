# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Where the pristine kernel comes from: Debian's newest linux-source-7.3, or the user's tree KSRC.
# Sourced by scripts/kernel.sh; runs inside the toolbox.
#
# Sets KERNEL_DIR (the cache's directory of this source) and BASE (the pristine tree, never written to).

SERIES=7.3
SOURCE_PACKAGE=linux-source-$SERIES
SOURCE_SPACE=2300 # MB: 1.8 GB of unpacked source, the package, the work tree's directories

# source_known: sets them without any work; false if there is work to do first, and then source_ready does it.
source_known() {
	local version
	if [[ ${KSRC:-} ]]; then
		[[ ! ${KVER:-} ]] || die "KSRC= and KVER= contradict each other; give one of them"
		check_ksrc "$KSRC"
		KERNEL_DIR=$CACHE/kernel/${FOREIGN}ksrc-$(shown "$KSRC" | short_hash)
		BASE=$KSRC
		return
	fi
	if [[ ! ${KVER:-} ]]; then
		[[ -s $CACHE/kernel/newest && ! $(find "$CACHE/kernel/newest" -mmin +1440) ]] || return
	fi
	version=${KVER:-$(<"$CACHE/kernel/newest")}
	KERNEL_DIR=$CACHE/kernel/${version//[^A-Za-z0-9.+-]/-}
	BASE=$KERNEL_DIR/base
	[[ -d $BASE ]]
}

source_ready() {
	source_known && return
	[[ ${KVER:-} ]] || find_newest
	source_known || unpack "${KVER:-$(<"$CACHE/kernel/newest")}"
}

check_ksrc() {
	local tree=$1 version
	[[ -f $tree/Makefile && -f $tree/Kconfig && -d $tree/rust/kernel ]] ||
		die "KSRC=$(shown "$tree") is not a Linux kernel tree; give an unpacked Linux $SERIES"
	[[ ! $FOREIGN ]] || return 0
	version=$(sed -n 's/^VERSION = //p; s/^PATCHLEVEL = //p' "$tree/Makefile" | head -n 2 | paste -sd.)
	[[ $version == "$SERIES" ]] ||
		die "KSRC=$(shown "$tree") is Linux $version; the patches are for $SERIES: give such a tree"
	[[ -e $tree/.git || ! -e $tree/.config && ! -d $tree/include/config ]] ||
		die "KSRC=$(shown "$tree") has been built in; run: make -C $(shown "$tree") mrproper"
}

# apt with the toolbox's mirror and keys, three suites, and a state of its own in the cache.
private_apt() {
	local apt=$CACHE/apt
	if [[ ! -e $apt/apt.conf ]]; then
		mkdir -p "$apt/state" "$apt/cache"
		local suite
		for suite in forky sid experimental; do
			sed -n "s/^\(deb .*\) forky main.*/\1 $suite main/p" /etc/apt/sources.list
		done >"$apt/sources.list"
		printf '%s\n' "Dir::State \"$apt/state\";" "Dir::Cache \"$apt/cache\";" 'Dir::State::status "/dev/null";' \
			"Dir::Etc::SourceList \"$apt/sources.list\";" 'Dir::Etc::SourceParts "/dev/null";' \
			'Acquire::Languages "none";' 'APT::Update::Error-Mode "any";' >"$apt/apt.conf.new"
		mv "$apt/apt.conf.new" "$apt/apt.conf"
	fi
	APT_CONFIG=$apt/apt.conf "$@"
}

# Asks for the newest version, at most once a day; without a network the last answer stands for another day.
find_newest() {
	local known=$CACHE/kernel/newest newest='' version
	mkdir -p "$CACHE/kernel"
	if ! (long_work "looking for the newest $SOURCE_PACKAGE" apt_status "$CACHE/log/apt.log" 'look into the log' \
		private_apt apt-get update); then
		[[ -s $known ]] || exit 1
		note "going on with $SOURCE_PACKAGE $(<"$known"), the newest when Debian was last asked"
		touch "$known"
		return
	fi
	while read -r version; do
		if [[ ! $newest ]] || dpkg --compare-versions "$version" gt "$newest"; then newest=$version; fi
	done < <(private_apt apt-cache madison "$SOURCE_PACKAGE" | cut -d '|' -f 2 | tr -d ' ')
	[[ $newest ]] || die "Debian's suites offer no $SOURCE_PACKAGE; give an unpacked Linux $SERIES as KSRC="
	printf '%s\n' "$newest" >"$known.new"
	mv "$known.new" "$known"
}

apt_status() { tail -n 1 "$1" | cut -c 1-60; }

# unpack VERSION: apt checks the package against the signed index. BASE appears by a rename, when it is complete.
unpack() {
	local version=$1 temp=$KERNEL_DIR/tmp.base deb
	mkdir -p "$KERNEL_DIR"
	rm -rf "$temp"
	need_space "$SOURCE_SPACE" 'the kernel source'
	mkdir -p "$temp" "$CACHE/apt/download"
	long_work "downloading $SOURCE_PACKAGE $version" apt_status "$CACHE/log/download.log" \
		"see whether Debian still offers it: KVER=$version" download "$version"
	deb=$(find "$CACHE/apt/download" -name '*.deb')
	long_work 'unpacking the kernel source' files_status "$CACHE/log/unpack.log" 'run it again' extract "$deb" "$temp"
	check_ksrc "$temp"
	mv "$temp" "$BASE"
	rm -r "$CACHE/apt/download"
}

download() (
	# A version that is pinned, or whose index is gone, has to be looked up first.
	private_apt apt-cache show "$SOURCE_PACKAGE=$1" >/dev/null 2>&1 || private_apt apt-get update
	cd "$CACHE/apt/download" && rm -f ./*.deb && private_apt apt-get download "$SOURCE_PACKAGE=$1"
)

extract() {
	dpkg-deb --fsys-tarfile "$1" | tar -xOf - "./usr/src/$SOURCE_PACKAGE.tar.xz" |
		tar -xJf - -C "$2" --strip-components=1 --checkpoint=500 --checkpoint-action=echo=%u
}

files_status() { printf '%s' "$(($(wc -l <"$1") * 5)) MB"; }
