# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The work tree: the pristine kernel with patches/ and the repository's slice of the kernel tree on top.
# Sourced by scripts/kernel.sh; runs inside the toolbox.
#
# Make trusts mtimes, so a file of the work tree changes only if its content does, and then by a rename:
# a new mtime, and the hard link to the pristine file is left alone.

# The folders of the repository that are a slice of the kernel tree. (tools/ is built by cargo, not by Kbuild.)
SLICE=(rust drivers samples include Documentation)

# list_files DIR [PATH...]: every file that no .gitignore excludes, sorted. Asked of an empty repository elsewhere, so that
# it works in an unpacked tarball and in a git worktree too.
list_files() {
	local dir=$1
	shift
	if [[ ! -d $CACHE/empty.git ]]; then
		git init --quiet --bare "$CACHE/empty.git.$$"
		mv -T "$CACHE/empty.git.$$" "$CACHE/empty.git" || rm -r "$CACHE/empty.git.$$"
	fi
	(cd "$dir" && GIT_DIR=$CACHE/empty.git GIT_WORK_TREE=. git -c core.quotePath=off ls-files --others \
		--exclude-standard -- "$@" | LC_ALL=C sort)
}

list_overlay() {
	local folder present=()
	[[ ! $FOREIGN ]] || return 0
	for folder in "${SLICE[@]}"; do
		[[ ! -d $REPO/$folder ]] || present+=("$folder")
	done
	((${#present[@]} == 0)) || list_files "$REPO" "${present[@]}"
}

list_patches() { [[ $FOREIGN ]] || find "$REPO/patches" -maxdepth 1 -name '*.patch' 2>/dev/null | LC_ALL=C sort; }

# stage DIR: what the repository makes of the pristine tree, in DIR: patched files, and the overlay.
stage() {
	local stage=$1 patch path why
	rm -rf "$stage"
	mkdir -p "$stage"
	local patches=()
	mapfile -t patches < <(list_patches)
	if ((${#patches[@]} > 0)); then
		sed -nE 's,^(---|\+\+\+) [ab]/([^[:space:]]+).*,\2,p' "${patches[@]}" | LC_ALL=C sort -u | while read -r path; do
			[[ ! -f $BASE/$path ]] || echo "$path"
		done | rsync -a --files-from=- "$BASE/" "$stage/"
	fi
	for patch in "${patches[@]}"; do
		why=$(cd "$stage" && GIT_DIR=$CACHE/empty.git GIT_WORK_TREE=. git apply --allow-empty --whitespace=nowarn "$patch" 2>&1) ||
			die "patches/${patch##*/} does not apply to $(shown "$BASE") ($(head -n 1 <<<"${why#error: }")); refresh the patch or give the Linux $SERIES that it was made for"
	done
	list_overlay | while read -r path; do
		[[ ! -e $stage/$path && ! -e $BASE/$path ]] ||
			die "$path is in the kernel already; a change of it belongs into patches/"
		echo "$path"
	done | rsync -a --files-from=- "$REPO/" "$stage/"
}

# settle STAGE TREE MANIFEST [CHANGED]: makes TREE what STAGE and BASE say. MANIFEST names the files of TREE that are not
# BASE's; CHANGED names those that have changed in BASE since.
settle() {
	local stage=$1 tree=$2 manifest=$3 changed=${4:-/dev/null} temp=$KERNEL_DIR/tmp.settle path
	rm -rf "$temp"
	mkdir -p "$temp/partial"
	touch "$manifest"
	(cd "$stage" && find . -type f -o -type l) | sed 's,^\./,,' | LC_ALL=C sort >"$temp/wanted"
	# Interrupted from here on, the next run still knows every file that may differ from BASE.
	LC_ALL=C sort -u "$temp/wanted" "$manifest" >"$temp/all"
	cp "$temp/all" "$manifest.new"
	mv "$manifest.new" "$manifest"

	LC_ALL=C sort -u "$manifest" "$changed" | LC_ALL=C comm -23 - "$temp/wanted" >"$temp/others"
	while read -r path; do
		if [[ -e $BASE/$path || -L $BASE/$path ]]; then
			echo "$path" >&3
		else
			rm -f "${tree:?}/$path"
		fi
	done <"$temp/others" 3>"$temp/restore"
	local by_content=(rsync --recursive --links --checksum --temp-dir="$temp/partial")
	"${by_content[@]}" --files-from="$temp/restore" "$BASE/" "$tree/"
	"${by_content[@]}" --files-from="$temp/wanted" "$stage/" "$tree/"
	cp "$temp/wanted" "$manifest.new"
	mv "$manifest.new" "$manifest"
	rm -rf "$temp"
}

# The user's tree as it is: path, size and mtime of every file, without what a build in it may have left there.
list_ksrc() {
	local files=(find . '(' -type f -o -type l ')' -printf '%P\n')
	[[ ! -e $BASE/.git ]] || files=(list_files .)
	(cd "$BASE" && "${files[@]}" | tr '\n' '\0' | xargs -0 stat --printf='%n\t%s %y %F\n' | LC_ALL=C sort)
}

# The work tree of Debian's source is made of hard links; the user's own tree is copied, so that nothing can reach it.
# tree_ready [STAGE]: STAGE DIR makes what differs from the pristine tree.
tree_ready() {
	local make_stage=${1:-stage} tree=$KERNEL_DIR/tree temp=$KERNEL_DIR/tmp.tree list=$KERNEL_DIR/ksrc.list
	rm -rf "$temp" "$KERNEL_DIR/stage"
	"$make_stage" "$KERNEL_DIR/stage"
	: >"$KERNEL_DIR/tmp.changed"
	if [[ ${KSRC:-} ]]; then
		list_ksrc >"$list.new"
		if [[ -d $tree ]]; then
			touch "$list"
			LC_ALL=C comm -3 "$list" "$list.new" | sed 's/^\t//' | cut -f 1 | LC_ALL=C sort -u >"$KERNEL_DIR/tmp.changed"
		else
			need_space "$SOURCE_SPACE" "the copy of $(shown "$KSRC")"
			mkdir "$temp"
			long_work "copying $(shown "$KSRC")" no_status "$CACHE/log/copy.log" 'run it again' \
				rsync -a --files-from=<(cut -f 1 "$list.new") "$BASE/" "$temp/"
			mv "$temp" "$tree"
		fi
	elif [[ ! -d $tree ]]; then
		cp -al "$BASE" "$temp"
		mv "$temp" "$tree"
	fi
	settle "$KERNEL_DIR/stage" "$tree" "$KERNEL_DIR/manifest" "$KERNEL_DIR/tmp.changed"
	[[ ! -e $list.new ]] || mv "$list.new" "$list"
	rm -rf "$KERNEL_DIR/stage" "$KERNEL_DIR/tmp.changed"
}

no_status() { printf 'going on'; }
