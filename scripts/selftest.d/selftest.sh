# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Tests of scripts/selftest itself.

test_a_pattern_that_matches_no_test_is_refused() {
	fails "no test has a name that matches 'no such test'" repo/scripts/selftest 'no such test'
	fails "no test has a name that matches '\['" repo/scripts/selftest '['
	same "$(repo/scripts/selftest '^too_little_disk_space_' | sed -n 2p)" 1..1
}
