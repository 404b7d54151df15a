# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What all scripts share: messages, the cache, locks, disk space, long work with progress.
# Sourced, never run. A script that sources it has `set -euo pipefail` on already.

PATH=$PATH:/usr/sbin:/sbin # an ordinary user's may lack them
SCRIPTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034 # for the scripts that source this
REPO=${SCRIPTS%/scripts}
CACHE=${CACHE:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/rust-tph}
V=${V:-0}

# Inside the toolbox the repository and the cache have other names than the user knows them by.
shown() {
	local path=$1
	[[ ${TPH_HOST_CACHE:-} ]] && path=${path/#\/tph\/cache/$TPH_HOST_CACHE}
	[[ ${TPH_HOST_REPO:-} ]] && path=${path/#\/tph\/repo/$TPH_HOST_REPO}
	[[ ${TPH_HOST_KBUILD:-} ]] && path=${path/#\/tph\/kbuild/$TPH_HOST_KBUILD}
	[[ ${TPH_HOST_KSRC:-} ]] && path=${path/#\/tph\/ksrc/$TPH_HOST_KSRC}
	printf '%s' "$path"
}

note() { printf '%s\n' "$*" >&2; }

# The one clear line of a failure: what is wrong, then what to do.
die() {
	note "error: $*"
	exit 1
}

in_toolbox() { [[ ${TPH_TOOLBOX:-} ]]; }

# Makes the cache directory and refuses one that another user's files are in.
cache_ready() {
	mkdir -p "$CACHE/log" 2>/dev/null ||
		die "cannot create the cache $(shown "$CACHE"); give a directory of your own as CACHE="
	[[ -O $CACHE ]] ||
		die "the cache $(shown "$CACHE") belongs to another user; give a directory of your own as CACHE="
	CACHE=$(cd "$CACHE" && pwd -P)
	if [[ ! -e $CACHE/CACHEDIR.TAG ]]; then
		printf 'Signature: 8a477f597d28d172789f06886806bc55\n# cache of rust-tph\n' >"$CACHE/CACHEDIR.TAG"
	fi
}

# lock FD FILE shared|exclusive: held until the process and its children have closed FD. A second call changes the kind.
declare -A LOCKED=()
lock() {
	local fd=$1 file=$2 how=$3
	if [[ ${LOCKED[$fd]:-} != "$file" ]]; then
		eval "exec $fd>>\"\$file\""
		LOCKED[$fd]=$file
	fi
	flock --"$how" --nonblock "$fd" && return
	note "waiting for another run that uses $(shown "$file")"
	flock --"$how" "$fd"
}

unlock() {
	eval "exec $1>&-"
	unset "LOCKED[$1]"
}

# need_space MEGABYTES WHAT: checked before each big step, so that it does not fail at its end.
need_space() {
	local need=$1 what=$2 free
	free=$(df --output=avail --block-size=1M "$CACHE" | tail -n 1)
	((free >= need)) ||
		die "$what needs $need MB of disk space in $(shown "$CACHE"), $((free)) MB are free; free some or give another place as CACHE="
}

short_hash() { sha256sum | cut -c 1-12; }

# newer_version A B: is A newer than or the same as B, as `sort -V` has it?
newer_version() { [[ $(printf '%s\n' "$1" "$2" | sort -V | tail -n 1) == "$1" ]]; }

# What a log says about a failure that is not the fault of the thing being built.
diagnose() {
	local log=$1
	if grep -qi 'no space left on device' "$log"; then
		printf 'the disk is full; free some space or give another place as CACHE='
	elif grep -qiE "could not resolve|couldn't resolve|could not connect|couldn't connect|unable to connect|temporary failure|connection (refused|timed out|failed|reset)|network is unreachable|failed to (fetch|download)" "$log"; then
		printf 'the network failed; connect this machine (or set http_proxy and https_proxy) and run it again'
	elif grep -qE 'NO_PUBKEY|Missing key|is not signed|no keyring' "$log"; then
		printf "the archive's signing key is not known here; install debian-archive-keyring"
	elif grep -qE 'signal: 9|signal terminated program|Killed' "$log"; then
		printf 'something was killed, most likely for lack of memory; use fewer JOBS='
	else
		printf '%s' "$2"
	fi
}

# The first error of a log, and its end.
show_failure() {
	local log=$1
	note "--- from $(shown "$log")"
	if (($(wc -l <"$log") > 40)); then
		grep -m 1 -A 12 -E '(^|[[:space:]])(error|fatal error)(\[E[0-9]+\])?:|\*\*\* ' "$log" >&2 || true
		note '...'
	fi
	tail -n 20 "$log" >&2
	note '---'
}

elapsed() { printf '%d:%02d' $((SECONDS / 60)) $((SECONDS % 60)); }

# One updating line on a terminal, a line every 15 seconds elsewhere, until it is killed.
report_progress() {
	local label=$1 status=$2 log=$3 pulse
	exec {pulse}<> <(:) # nothing ever comes: a timed read of it is a sleep without a process to leave behind
	SECONDS=0
	while :; do
		if [[ -t 2 ]]; then
			read -r -t 1 -u "$pulse" || true
			printf '\r\e[K%s: %s, %s' "$label" "$("$status" "$log")" "$(elapsed)" >&2
		else
			read -r -t 15 -u "$pulse" || true
			note "$label: $("$status" "$log"), $(elapsed)"
		fi
	done
}

# long_work LABEL STATUS LOG CURE COMMAND...
# Runs COMMAND with its output in LOG. STATUS is a function that prints in a few words how far LOG has come.
# V=1 shows the output itself. On failure: the errors, the last lines, and one line that says what to do.
long_work() {
	local label=$1 status=$2 log=$3 cure=$4 code=0 reporter start=$SECONDS interrupted=''
	shift 4
	trap 'interrupted=1' INT
	if [[ $V == 1 ]]; then
		note "$label"
		"$@" </dev/null 2>&1 | tee "$log" >&2 || code=$?
	else
		report_progress "$label" "$status" "$log" 7>&- 8>&- 9>&- &
		reporter=$!
		# shellcheck disable=SC2064 # the reporter of now
		trap "kill $reporter 2>/dev/null || true" EXIT
		"$@" >"$log" 2>&1 </dev/null || code=$?
		kill "$reporter" 2>/dev/null || true
		wait "$reporter" 2>/dev/null || true
		trap - EXIT
		[[ -t 2 ]] && printf '\r\e[K' >&2
	fi
	trap - INT
	if ((code == 0)); then
		((SECONDS - start < 2)) || note "$label: done in $((SECONDS - start)) s"
		return 0
	fi
	[[ ! $interrupted ]] || die "$label: interrupted; run it again to go on"
	[[ $V == 1 ]] || show_failure "$log"
	die "$label failed (exit code $code): $(diagnose "$log" "$cure")"
}
