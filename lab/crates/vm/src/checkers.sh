#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# What the checkers of a debug kernel found, and whether they still check, in TAP. Run when the tests have ended.
#
#   checkers.sh ROOT SECONDS CHECKER...
#
# ROOT is what stands before /proc and /sys. SECONDS is the age from which kmemleak takes an object for leaked.
root=$1 age=$2
shift 2
debug=$root/sys/kernel/debug

is_well() {
	case $1 in
	lockdep)
		name='lockdep is still on and has found nothing'
		grep -Eq '^ *debug_locks: +1$' "$root/proc/lockdep_stats"
		;;
	dma_api)
		name='the DMA API was used without an error, and its use is still checked'
		read -r errors <"$debug/dma-api/error_count" && read -r disabled <"$debug/dma-api/disabled" &&
			[ "$errors $disabled" = '0 N' ]
		;;
	kmemleak)
		name='no memory leaked'
		sleep "$age"
		# The first scan takes checksums, the second reports what nothing refers to and has not changed since.
		echo scan >"$debug/kmemleak" && echo scan >"$debug/kmemleak" && report=$(cat "$debug/kmemleak") || return
		[ -z "$report" ] && return
		# One leak can have thousands of objects, and the first few tell the story.
		printf '%s\n' "$report" | sed 's/^/# /; 100q'
		printf '# %s objects leaked\n' "$(printf '%s\n' "$report" | grep -c '^unreferenced object')"
		return 1
		;;
	*)
		name="$1 is no checker"
		false
		;;
	esac
}

number=0 status=0
echo "1..$#"
for checker; do
	number=$((number + 1)) result=ok
	is_well "$checker" || result='not ok' status=1
	echo "$result $number - $name"
done
exit $status
