# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The patch series: one commit for each file of patches/, with the files of the slice that its header claims by `Adds:`.
# Sourced by scripts/series and scripts/series-check; runs inside the toolbox.
#
# The repository of the commits holds of the pristine kernel only what the series changes. That is enough for patches,
# and does not need minutes and gigabytes.

# shellcheck source=scripts/kernel-source.sh
. "$SCRIPTS/kernel-source.sh"
# shellcheck source=scripts/kernel-tree.sh
. "$SCRIPTS/kernel-tree.sh"

FOREIGN=''

# base_ready: sets BASE and KERNEL_DIR. Which source is the newest is asked by who builds a kernel, not again here.
base_ready() {
	lock 8 "$CACHE/kernel.lock" shared
	source_known && return
	if [[ ! ${KSRC:-} && ! ${KVER:-} && -s $CACHE/kernel/newest ]]; then
		KVER=$(<"$CACHE/kernel/newest")
		source_known && return
	fi
	lock 8 "$CACHE/kernel.lock" exclusive
	source_ready
	lock 8 "$CACHE/kernel.lock" shared
}

# What the pristine kernel calls itself: v7.3-rc7.
base_version() {
	sed -n 's/^\(VERSION\|PATCHLEVEL\|SUBLEVEL\|EXTRAVERSION\) = *//p' "$BASE/Makefile" | paste -sd. |
		sed -E 's/^/v/; s/\.(-[^.]*)?$/\1/; s/^(v[0-9]+\.[0-9]+)\.0/\1/; s/\.-/-/'
}

# The files of the slice, and of tools/, which only the series brings into a kernel tree.
list_slice() {
	local SLICE=("${SLICE[@]}" tools)
	list_overlay
}

# claims: lines of PATCH and FILE, for every file of the slice; it is an error if not exactly one patch claims a file.
# A claim is a file, or a folder if it ends with a slash.
claims() {
	local patch claimed why
	claimed=$({
		list_patches | while read -r patch; do
			sed -n "/^\$/q; s,^Adds: ,${patch##*/}\t,p" "$patch"
		done
		echo
		list_slice
	} | awk -F '\t' '
		!files && $0 == "" { files = 1; next }
		!files { patch[++claims] = $1; what[claims] = $2; next }
		{
			by = ""
			for (i = 1; i <= claims; i++) {
				if ($0 != what[i] && (what[i] !~ /\/$/ || index($0, what[i]) != 1)) continue
				used[i] = 1
				if (by != "") print "!" $0 " is claimed by two patches, " by " and " patch[i] "; leave it to one of them"
				by = patch[i]
			}
			if (by == "") print "!" $0 " is claimed by no patch; add a line \"Adds: " $0 "\" to one in patches/"
			print by "\t" $0
		}
		END {
			for (i = 1; i <= claims; i++)
				if (!used[i]) print "!" patch[i] " claims " what[i] ", which is not there; remove that line"
		}')
	why=$(sed -n 's/^!//p' <<<"$claimed" | head -n 1)
	[[ ! $why ]] || die "$why"
	printf '%s\n' "$claimed"
}

# git of the repository REPOSITORY, whoever's configuration is around.
git_series() {
	GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 \
		GIT_AUTHOR_NAME=$AUTHOR_NAME GIT_AUTHOR_EMAIL=$AUTHOR_EMAIL \
		GIT_COMMITTER_NAME=$AUTHOR_NAME GIT_COMMITTER_EMAIL=$AUTHOR_EMAIL \
		GIT_AUTHOR_DATE="@$DATE +0000" GIT_COMMITTER_DATE="@$DATE +0000" \
		git -C "$REPOSITORY" -c core.abbrev=12 -c core.autocrlf=false -c commit.gpgSign=false "$@"
}

# repository_ready DIR [PATCH...]: makes REPOSITORY in DIR: the base's files that the series, or these other patches,
# change; tagged `base`.
repository_ready() {
	REPOSITORY=$1
	shift
	local patches path
	rm -rf "$REPOSITORY"
	mkdir -p "$REPOSITORY"
	git_series init --quiet --initial-branch=series
	mapfile -t patches < <(list_patches)
	((${#patches[@]} > 0)) || die "$(shown "$REPO/patches") holds no patch"
	sed -nE 's,^(---|\+\+\+) [ab]/([^[:space:]]+).*,\2,p' "${patches[@]}" "$@" | LC_ALL=C sort -u | while read -r path; do
		[[ ! -f $BASE/$path ]] || echo "$path"
	done | rsync -a --files-from=- "$BASE/" "$REPOSITORY/"
	git_series add --all --force
	git_series commit --quiet --allow-empty --message="$(base_version)"
	git_series tag base
}

# commit_series: one commit for each patch, a second apart; sets COMMITS, and PATCHES to the names.
# shellcheck disable=SC2034 # for the scripts that source this
commit_series() {
	local patch path why claimed start=$DATE
	claimed=$(claims)
	COMMITS=() PATCHES=()
	while read -r patch; do
		[[ $(head -n 1 "$patch") == 'Subject: '* ]] ||
			die "patches/${patch##*/} does not begin with its 'Subject: '; add it"
		why=$(git_series apply --index --allow-empty --whitespace=nowarn "$patch" 2>&1) ||
			die "patches/${patch##*/} does not apply to $(shown "$BASE") ($(head -n 1 <<<"${why#error: }")); refresh the patch or give the Linux $SERIES that it was made for"
		while read -r path; do
			[[ ! -e $BASE/$path ]] || die "$path is in the kernel already; a change of it belongs into patches/"
			mkdir -p "$REPOSITORY/$(dirname "$path")"
			cp --preserve=mode "$REPO/$path" "$REPOSITORY/$path"
			git_series add --force -- "$path"
		done < <(sed -n "s,^${patch##*/}\t,,p" <<<"$claimed")
		DATE=$((DATE + 1))
		message "$patch" | git_series commit --quiet --cleanup=whitespace --file=- ||
			die "patches/${patch##*/} changes nothing; give it hunks or a line 'Adds:'"
		COMMITS+=("$(git_series rev-parse HEAD)")
		PATCHES+=("${patch##*/}")
	done < <(list_patches)
	DATE=$start
}

# message PATCH: the subject, an empty line, the text.
message() { sed -n '1s/^Subject: //; /^---$/q; /^Adds: /d; p' "$1"; }

# mail DIR ARGUMENTS...: the commits as git format-patch writes them.
mail() {
	local dir=$1
	shift
	git_series format-patch --quiet --no-signature --output-directory="$dir" "$@" base..series
}
