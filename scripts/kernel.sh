# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The guest's kernel: configured and built from the work tree when, and only when, one of its inputs has changed.
# Sourced by scripts/kernel and scripts/lab; runs inside the toolbox.

# shellcheck source=scripts/kernel-source.sh
. "$SCRIPTS/kernel-source.sh"
# shellcheck source=scripts/kernel-tree.sh
. "$SCRIPTS/kernel-tree.sh"

FRAGMENT=$SCRIPTS/kernel.config
BUILD_SPACE=800 # MB
STEPS=2000       # of a build from nothing, about; the last one is remembered

# kernel_ready: KERNEL_BUILD is a built kernel of this checkout. A shared lock on it is held until this process and the
# one it becomes have ended, so that another checkout cannot rebuild it below a running guest.
kernel_ready() {
	lock 8 "$CACHE/kernel.lock" shared
	until kernel_fresh; do
		lock 8 "$CACHE/kernel.lock" exclusive
		kernel_build
		lock 8 "$CACHE/kernel.lock" shared
	done
	# shellcheck disable=SC2034 # for the script that sources this
	KERNEL_BUILD=$(build_dir)
}

build_dir() { printf '%s/build-%s' "$KERNEL_DIR" "$TPH_TOOLBOX"; }

kernel_fresh() {
	source_known && [[ $(cat "$(build_dir)/inputs" 2>/dev/null) == "$(inputs)" ]]
}

# A hash of all that decides what is built.
inputs() {
	{
		echo "$TPH_TOOLBOX"
		sha256sum "$FRAGMENT" "$SCRIPTS"/kernel*.sh
		list_patches | tr '\n' '\0' | xargs -0r sha256sum
		(cd "$REPO" && list_overlay | tr '\n' '\0' | xargs -0r sha256sum)
		[[ ! ${KSRC:-} ]] || list_ksrc
	} | short_hash
}

kernel_build() {
	local now build
	source_ready
	mkdir -p "$KERNEL_DIR"
	build=$(build_dir)
	now=$(inputs) # before the files are read: what is edited meanwhile is built next time
	[[ $(cat "$build/inputs" 2>/dev/null) != "$now" ]] || return 0
	rm -f "$build/inputs"
	tree_ready
	configure "$KERNEL_DIR/tree" "$build"
	compile "$KERNEL_DIR/tree" "$build"
	echo "$now" >"$build/inputs.new"
	mv "$build/inputs.new" "$build/inputs"
}

kernel_make() {
	local tree=$1 build=$2
	shift 2
	make -C "$tree" O="$build" KBUILD_BUILD_USER=rust-tph KBUILD_BUILD_HOST=toolbox "$@"
}

# configure TREE BUILD: only when the fragment or a Kconfig file has changed.
configure() {
	local tree=$1 build=$2 key
	mkdir -p "$build"
	key=$(cd "$tree" && find . -name 'Kconfig*' -print0 | LC_ALL=C sort -z | xargs -0 cat "$FRAGMENT" | short_hash)
	[[ -e $build/.config && $(cat "$build/config.key" 2>/dev/null) == "$key" ]] && return
	rm -f "$build/config.key"
	long_work 'configuring the kernel' no_status "$CACHE/log/configure.log" "see whether scripts/kernel.config is right" \
		configure_now "$tree" "$build"
	check_config "$FRAGMENT" "$build/.config"
	echo "$key" >"$build/config.key"
}

configure_now() {
	kernel_make "$1" "$2" KCONFIG_ALLCONFIG="$FRAGMENT" allnoconfig && kernel_make "$1" "$2" rustavailable
}

# Kconfig drops a symbol without a word if a dependency is missing.
check_config() {
	local fragment=$1 config=$2 line symbol missing=()
	while read -r line; do
		case $line in
		CONFIG_*=*) grep -qxF -- "$line" "$config" || missing+=("$line") ;;
		'# CONFIG_'*' is not set')
			symbol=${line#\# }
			! grep -q "^${symbol% is not set}=" "$config" || missing+=("${symbol% is not set}=n")
			;;
		esac
	done <"$fragment"
	((${#missing[@]} == 0)) ||
		die "the kernel's configuration has not got ${missing[*]} of scripts/kernel.config; add what it depends on, or remove it"
}

compile() {
	local tree=$1 build=$2 status=steps_status
	[[ -e $build/vmlinux ]] || need_space "$BUILD_SPACE" 'the build of the kernel'
	[[ -d $build/kernel ]] || status=first_steps_status
	long_work 'building the kernel' "$status" "$CACHE/log/build.log" 'correct the source that the first error names' \
		kernel_make "$tree" "$build" -j"${JOBS:-$(nproc)}" bzImage modules
	[[ $status == steps_status ]] || steps "$CACHE/log/build.log" >"$CACHE/kernel/steps"
}

steps() { grep -cE '^  [A-Z]' "$1" || true; }
steps_status() { printf '%d steps' "$(steps "$1")"; }
first_steps_status() {
	printf '%d of about %d steps' "$(steps "$1")" "$(cat "$CACHE/kernel/steps" 2>/dev/null || echo "$STEPS")"
}
