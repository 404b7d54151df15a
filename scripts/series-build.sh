# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2153 # of scripts/series-check and what it sources
# Builds the kernel at each patch of the series. Sourced by scripts/series-check; runs inside the toolbox.
#
# The tree goes from patch to patch as the lab's goes from edit to edit: only what differs gets a new mtime, and each set
# of options has a build directory that is kept. A warning is an error, so that what was built is without one, but for the
# objects in which the pristine kernel has one.

# y: all that scripts/kernel.config has as modules is built in. m: as it is. n: without what the series adds, and without
# TPH in the PCI core, so that the stubs are what is used.
OPTION_SETS=(y m n)

# The symbols that the series adds.
new_symbols() { list_patches | tr '\n' '\0' | xargs -0 sed -n 's/^+config /CONFIG_/p'; }

fragment() {
	local symbols symbol
	case $1 in
	y) sed 's/=m$/=y/' "$SCRIPTS/kernel.config" ;;
	m) cat "$SCRIPTS/kernel.config" ;;
	n)
		symbols=$(echo CONFIG_PCIE_TPH && new_symbols)
		grep -vE "^($(paste -sd'|' <<<"$symbols"))=" "$SCRIPTS/kernel.config" || true
		for symbol in $symbols; do echo "# $symbol is not set"; done
		;;
	esac
}

set_key() { fragment "$1" | short_hash; }

series_build() { printf '%s/build-%s-%s' "$STATE" "$TPH_TOOLBOX" "$1"; }

# The objects in which the pristine kernel has warnings.
unclean() { cat "$(series_build "$1")/unclean" 2>/dev/null || true; }

# series_kernel_make SET ARGUMENTS...
series_kernel_make() {
	local build exempt
	build=$(series_build "$1")
	mapfile -t exempt < <(unclean "$1" | sed 's,.*/,,; s/.*/CFLAGS_&=-Wno-error/')
	shift
	make -C "$STATE/tree" O="$build" W=1e CLIPPY=1 KBUILD_BUILD_USER=rust-tph KBUILD_BUILD_HOST=toolbox LOCALVERSION= \
		-j"${JOBS:-$(nproc)}" "${exempt[@]}" "$@"
}

# tree_of INDEX: the work tree of the series is that of this patch, or the pristine one.
tree_of() {
	COMMIT=base
	[[ $1 == base ]] || COMMIT=${COMMITS[$1]}
	KERNEL_DIR=$STATE tree_ready stage_commit
}

stage_commit() {
	rm -rf "$1"
	mkdir -p "$1"
	git_series archive "$COMMIT" | tar -x -C "$1"
}

# attempt LABEL LOG COMMAND...: long work; why it failed is the first error.
attempt() {
	local label=$1 log=$2
	shift 2
	(long_work "$label" steps_status "$log" 'correct the patch that is named' "$@") ||
		because "$(grep -m 3 -E '(error|warning|ERROR|WARNING)(\[|:)|undefined|\*\*\* ' "$log" || tail -n 3 "$log")"$'\n'"the log is $(shown "$log")"
}

# base_builds SET: the pristine kernel, and which of its objects have warnings.
base_builds() {
	local log=$LOGS/build-base-$1.log unclean
	tree_of base
	is_configured "$1" "$LOGS/configure-base-$1.log"
	unclean=$(series_build "$1")/unclean
	# All of it, whatever fails; then again, and then nothing may.
	attempt "the pristine kernel with $1" "$log" keep_going "$1"
	{ unclean "$1" && sed -nE 's,.*Makefile\.build:[0-9]+: ([^ ]+\.o)\] Error .*,\1,p' "$log"; } | LC_ALL=C sort -u >"$unclean.new"
	mv "$unclean.new" "$unclean"
	attempt "the pristine kernel with $1, its warnings aside" "$log" series_kernel_make "$1" vmlinux modules
}

keep_going() { series_kernel_make "$1" --keep-going vmlinux modules || true; }

# builds INDEX SET
builds() {
	local name hidden
	hidden=$(unclean "$2" | LC_ALL=C comm -12 - <(changed_by_series | sed -n 's/\.c$/.o/p' | LC_ALL=C sort))
	[[ ! $hidden ]] || because "the pristine kernel has warnings in $hidden, so that those of the series would not be seen"
	name=$(printf '%02d-%s' $(($1 + 1)) "$2")
	tree_of "$1"
	is_configured "$2" "$LOGS/configure-$name.log"
	attempt "patch $(($1 + 1)) with $2" "$LOGS/build-$name.log" series_kernel_make "$2" vmlinux modules
}

# is_configured SET LOG: what the tree knows of the set's symbols is as the set says. A driver that can only be a module
# is one in y, too. Nothing is done if neither the set nor a Kconfig file has changed.
is_configured() {
	local build key known symbol line wrong='' missing other
	build=$(series_build "$1")
	missing=$(comm -23 <(new_symbols | LC_ALL=C sort) <(symbols <"$SCRIPTS/kernel.config" | LC_ALL=C sort))
	[[ ! $missing ]] || because "nobody would build what scripts/kernel.config does not have: $missing"
	if [[ ! -d $build ]]; then
		need_space "$BUILD_SPACE" "the build of the series"
		rm -rf "$build.new"
		mkdir "$build.new"
		# Most of it is the same in all sets.
		for other in "${OPTION_SETS[@]}"; do
			[[ ! -d $(series_build "$other") ]] || { rm -r "$build.new" && cp -a "$(series_build "$other")" "$build.new" && break; }
		done
		mv "$build.new" "$build"
	fi
	fragment "$1" >"$build/fragments"
	key=$(cd "$STATE/tree" && find . -name 'Kconfig*' -print0 | LC_ALL=C sort -z | xargs -0 cat "$build/fragments" | short_hash)
	[[ $(cat "$build/config.key" 2>/dev/null) != "$key" ]] || return 0
	rm -f "$build/config.key"
	attempt "configuring $1" "$2" series_kernel_make "$1" KCONFIG_ALLCONFIG="$build/fragments" allnoconfig
	known=$(find "$STATE/tree" -name 'Kconfig*' -print0 | xargs -0 sed -nE 's/^\s*(menu)?config /CONFIG_/p' | LC_ALL=C sort -u)
	while read -r line; do
		symbol=$(symbols <<<"$line")
		[[ $symbol ]] || continue
		grep -qxF "$symbol" <<<"$known" || continue
		if [[ $line == "# $symbol is not set" ]]; then
			! grep -q "^$symbol=" "$build/.config" || wrong+=" $symbol=n"
		else
			grep -qxE "$line|${line/%=y/=m}" "$build/.config" || wrong+=" $line"
		fi
	done <"$build/fragments"
	[[ ! $wrong ]] || because "the configuration has not got$wrong"
	echo "$key" >"$build/config.key"
}

# The objects of the C files on standard input. A file that another one of its folder includes is in that one's.
objects() {
	local path includer
	while read -r path; do
		includer=$(cd "$STATE/tree" && grep -lF "#include \"${path##*/}\"" "${path%/*}"/*.c || true)
		path=${includer:-$path}
		echo "${path%.c}.o"
	done | LC_ALL=C sort -u
}

# What sparse says, without the numbers of lines, as often as it says it.
sparse_warnings() { sed -nE "s,^$STATE/tree/,,; s/^([^:]+):[0-9]+:[0-9]+: (warning|error): /\1: \2: /p" "$1" | LC_ALL=C sort; }

# base_sparse FILE...: what sparse says of these C files in the pristine kernel.
base_sparse() {
	local log=$LOGS/sparse-base.log objects
	tree_of base
	is_configured m "$log"
	mapfile -t objects < <(printf '%s\n' "$@" | objects)
	attempt 'the pristine kernel: sparse' "$log" series_kernel_make m C=2 CHECK=sparse "${objects[@]}"
	sparse_warnings "$log" >"$(series_build m)/sparse"
}

# sparse_is_clean INDEX: about the files that the patch changes, but for what is said of the pristine kernel.
sparse_is_clean() {
	local log objects new
	log=$LOGS/sparse-$(printf '%02d' $(($1 + 1))).log
	tree_of "$1"
	is_configured m "$log"
	mapfile -t objects < <(changed "$1" '\.c$' | objects)
	attempt "patch $(($1 + 1)): sparse" "$log" series_kernel_make m C=2 CHECK=sparse "${objects[@]}"
	new=$(LC_ALL=C comm -13 "$(series_build m)/sparse" <(sparse_warnings "$log"))
	[[ ! $new ]] || because "$new"
}

# What rustdoc warns of, without the numbers of lines.
rustdoc_warnings() {
	{ grep -A 1 '^warning' "$1" || true; } | sed -E 's/:[0-9]+:[0-9]+$//' |
		awk '/^warning/ { if (line) print line; line = $0; next } /^ +-->/ { line = line " " $0 } END { if (line) print line }' |
		LC_ALL=C sort -u
}

# base_rustdoc: what it warns of in the pristine kernel.
base_rustdoc() {
	local log=$LOGS/rustdoc-base.log
	tree_of base
	is_configured m "$log"
	attempt 'the pristine kernel: rustdoc' "$log" series_kernel_make m rustdoc
	rustdoc_warnings "$log" >"$(series_build m)/rustdoc"
}

rustdoc_renders() {
	local log new
	log=$LOGS/rustdoc-$(printf '%02d' $(($1 + 1))).log
	tree_of "$1"
	is_configured m "$log"
	attempt "patch $(($1 + 1)): rustdoc" "$log" series_kernel_make m rustdoc
	new=$(LC_ALL=C comm -13 "$(series_build m)/rustdoc" <(rustdoc_warnings "$log"))
	[[ ! $new ]] || because "$new"
}
