# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034 # LAB is for whoever sources this
# The programs: `lab`, and what runs in the guest. Sourced by whatever boots guests; runs inside the toolbox.

LAB=$CARGO_TARGET_DIR/release/lab

crates_status() { printf '%d crates' "$(grep -cE '^ *Compiling ' "$1" || true)"; }

# What cargo says is kept beside the programs: `lab` runs only what is named there, and not what else lies around.
build_programs() {
	local list=${LAB%/*}/programs.json
	mkdir -p "${LAB%/*}" &&
		cargo build --release --locked --message-format=json-render-diagnostics \
			--manifest-path "$REPO/lab/Cargo.toml" >"$list.new" &&
		mv "$list.new" "$list"
}

# programs_ready: builds them. Unchanged, this costs a tenth of a second.
programs_ready() {
	lock 7 "$CACHE/cargo.lock" exclusive
	long_work 'building lab' crates_status "$CACHE/log/cargo.log" 'correct the source that the first error names' \
		build_programs
	unlock 7
}
