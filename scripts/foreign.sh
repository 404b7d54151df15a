# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034 # the variables are for scripts/kernel*.sh and scripts/lab
# A kernel that was not built here, or from a tree as it is. Sourced by scripts/lab; runs inside the toolbox.

# foreign_ready: KERNEL_BUILD holds one build directory: of the user's kernel KBUILD, or of the user's tree KSRC as it is.
foreign_ready() {
	[[ ! ${KBUILD:-} || ! ${KSRC:-} ]] || die "KBUILD= and KSRC= contradict each other; give one of them"
	if [[ ${KBUILD:-} ]]; then
		copy_build
	else
		FOREIGN=foreign-
		kernel_ready release
	fi
}

# Only what a guest needs: virtme-ng writes into a build directory, and the user's is only read.
copy_build() {
	local file copy
	for file in .config System.map arch/x86/boot/bzImage modules.order; do
		[[ -e $KBUILD/$file ]] ||
			die "KBUILD=$(shown "$KBUILD") is not a built kernel, it has no $file; run there: make bzImage modules"
	done
	copy=$CACHE/kernel/foreign-kbuild-$(shown "$KBUILD" | short_hash)
	mkdir -p "$copy"
	lock 8 "$CACHE/kernel.lock" exclusive
	long_work "copying $(shown "$KBUILD")" no_status "$CACHE/log/copy.log" 'run it again' \
		rsync -a --delete --prune-empty-dirs --exclude=/.virtme_mods --include='*/' --include=/.config --include=/System.map \
		--include=/arch/x86/boot/bzImage --include='/modules.*' --include=/include/config/kernel.release --include='*.ko' --exclude='*' "$KBUILD/" "$copy/"
	lock 8 "$CACHE/kernel.lock" shared
	KERNEL_BUILD=("$copy")
}
