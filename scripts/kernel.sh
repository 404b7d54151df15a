# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The guest's kernel: configured and built from the work tree when, and only when, one of its inputs has changed.
# Sourced by scripts/kernel and scripts/lab; runs inside the toolbox.
#
# It comes in flavours, each with a build directory of its own: `release` is scripts/kernel.config alone, any other NAME
# adds scripts/kernel-NAME.config, which may also take back what the former says.

# shellcheck source=scripts/kernel-source.sh
. "$SCRIPTS/kernel-source.sh"
# shellcheck source=scripts/kernel-tree.sh
. "$SCRIPTS/kernel-tree.sh"

FOREIGN=${FOREIGN:-} # not empty: the tree as it is, without patches/ and the slice (scripts/foreign.sh)
BUILD_SPACE=800 # MB
STEPS=2000       # of a build from nothing, about; the last one is remembered

# kernel_ready [FLAVOUR...]: KERNEL_BUILD holds the build directories of these flavours (of release, if none is named), all
# of them built from this checkout. A shared lock on them is held until this process and the one it becomes have ended, so
# that another checkout cannot rebuild them below a running guest.
kernel_ready() {
	local flavour
	(($#)) || set -- release
	check_flavours "$@"
	lock 8 "$CACHE/kernel.lock" shared
	until kernels_fresh "$@"; do
		lock 8 "$CACHE/kernel.lock" exclusive
		kernels_build "$@"
		lock 8 "$CACHE/kernel.lock" shared
	done
	KERNEL_BUILD=()
	for flavour; do KERNEL_BUILD+=("$(build_dir "$flavour")"); done
}

check_flavours() {
	local flavour
	for flavour; do
		[[ $flavour == release || $flavour =~ ^[a-z0-9]+$ && -f $SCRIPTS/kernel-$flavour.config ]] ||
			die "there is no kernel flavour '$flavour'; FLAVOUR= takes: $(flavours)"
	done
}

flavours() {
	printf release
	find "$SCRIPTS" -name 'kernel-*.config' | LC_ALL=C sort | sed -n 's,.*/kernel-\(.*\)\.config$,\1,p' | xargs -r printf ', %s'
}

# The configuration's fragments of a flavour; what a later one says of a symbol holds.
fragments() {
	printf '%s\n' "$SCRIPTS/kernel.config"
	[[ $1 == release ]] || printf '%s\n' "$SCRIPTS/kernel-$1.config"
}

build_dir() { printf '%s/build-%s-%s' "$KERNEL_DIR" "$TPH_TOOLBOX" "$1"; }

kernels_fresh() {
	local flavour
	source_known || return
	for flavour; do kernel_fresh "$flavour" || return; done
}

kernels_build() {
	local flavour
	source_ready
	mkdir -p "$KERNEL_DIR"
	for flavour; do kernel_fresh "$flavour" || kernel_build "$flavour"; done
}

kernel_fresh() { [[ $(cat "$(build_dir "$1")/inputs" 2>/dev/null) == "$(inputs "$1")" ]]; }

# A hash of all that decides what is built.
inputs() {
	{
		echo "$TPH_TOOLBOX"
		fragments "$1" | tr '\n' '\0' | xargs -0 sha256sum
		sha256sum "$SCRIPTS"/kernel*.sh
		list_patches | tr '\n' '\0' | xargs -0r sha256sum
		(cd "$REPO" && list_overlay | tr '\n' '\0' | xargs -0r sha256sum)
		[[ ! ${KSRC:-} ]] || list_ksrc
	} | short_hash
}

kernel_build() {
	local flavour=$1 now build
	build=$(build_dir "$flavour")
	now=$(inputs "$flavour") # before the files are read: what is edited meanwhile is built next time
	rm -f "$build/inputs"
	tree_ready
	configure "$flavour"
	compile "$flavour"
	echo "$now" >"$build/inputs.new"
	mv "$build/inputs.new" "$build/inputs"
}

# kernel_make FLAVOUR ARGUMENTS...: `uname -r` tells which flavour a kernel is.
kernel_make() {
	local flavour=$1 settings fragment
	shift
	settings=(O="$(build_dir "$flavour")" KBUILD_BUILD_USER=rust-tph KBUILD_BUILD_HOST=toolbox LOCALVERSION=)
	[[ $flavour == release ]] || settings+=(LOCALVERSION="-$flavour")
	fragment=$SCRIPTS/kernel-$flavour.config
	[[ ! -e $fragment ]] || ! grep -qxF CONFIG_CC_IS_CLANG=y "$fragment" || settings+=(LLVM=1)
	make -C "$KERNEL_DIR/tree" "${settings[@]}" "$@"
}

# configure FLAVOUR: only when a fragment or a Kconfig file has changed.
configure() {
	local flavour=$1 build key fragments
	build=$(build_dir "$flavour")
	mapfile -t fragments < <(fragments "$flavour")
	mkdir -p "$build"
	key=$(cd "$KERNEL_DIR/tree" && find . -name 'Kconfig*' -print0 | LC_ALL=C sort -z |
		xargs -0 cat "${fragments[@]}" | short_hash)
	[[ -e $build/.config && $(cat "$build/config.key" 2>/dev/null) == "$key" ]] && return
	rm -f "$build/config.key"
	cat "${fragments[@]}" >"$build/fragments"
	long_work "configuring the $flavour kernel" no_status "$CACHE/log/configure.log" "see whether scripts/kernel*.config are right" \
		configure_now "$flavour" "$build/fragments"
	while ((${#fragments[@]} > 0)); do
		check_config "$build/.config" "${fragments[@]}"
		fragments=("${fragments[@]:1}")
	done
	echo "$key" >"$build/config.key"
}

configure_now() {
	kernel_make "$1" KCONFIG_ALLCONFIG="$2" allnoconfig || return
	! grep -qxF CONFIG_RUST=y "$(build_dir "$1")/.config" || kernel_make "$1" rustavailable
}

# check_config CONFIG FRAGMENT [LATER...]: CONFIG is as FRAGMENT says, but for symbols of which a LATER one says something.
# Kconfig drops a symbol without a word if a dependency is missing.
check_config() {
	local config=$1 fragment=$2 line symbol later missing=()
	later=$(cat /dev/null "${@:3}" | symbols)
	while read -r line; do
		symbol=$(symbols <<<"$line")
		[[ $symbol ]] || continue
		! grep -qxF -- "$symbol" <<<"$later" || continue
		if [[ $line == "# $symbol is not set" ]]; then
			! grep -q "^$symbol=" "$config" || missing+=("$symbol=n")
		else
			grep -qxF -- "$line" "$config" || missing+=("$line")
		fi
	done <"$fragment"
	((${#missing[@]} > 0)) || return 0
	if [[ $FOREIGN ]]; then
		note "this tree has not got, or has not got everything for: ${missing[*]}"
		return
	fi
	die "the kernel's configuration has not got ${missing[*]} of scripts/${fragment##*/}; add what it depends on, or remove it"
}

# The symbol of each line that has one.
symbols() { sed -nE 's/^(# )?(CONFIG_[A-Za-z0-9_]+)(=.*| is not set)$/\2/p'; }

compile() {
	local flavour=$1 build status=steps_status
	build=$(build_dir "$flavour")
	[[ -e $build/vmlinux ]] || need_space "$BUILD_SPACE" 'the build of the kernel'
	[[ -d $build/kernel ]] || status=first_steps_status
	long_work "building the $flavour kernel" "$status" "$CACHE/log/build.log" 'correct the source that the first error names' \
		kernel_make "$flavour" -j"${JOBS:-$(nproc)}" bzImage modules
	[[ $status == steps_status ]] || steps "$CACHE/log/build.log" >"$CACHE/kernel/steps"
}

steps() { grep -cE '^  [A-Z]' "$1" || true; }
steps_status() { printf '%d steps' "$(steps "$1")"; }
first_steps_status() {
	printf '%d of about %d steps' "$(steps "$1")" "$(cat "$CACHE/kernel/steps" 2>/dev/null || echo "$STEPS")"
}
