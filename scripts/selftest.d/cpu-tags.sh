# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Tests of the guest's ACPI table with the steering tags of CPU memory, in ACPICA's interpreter.

# compiled: the table, and one with the device that it extends.
compiled() {
	needs iasl acpiexec
	cat >host.asl <<-'EOF2'
		DefinitionBlock ("", "DSDT", 2, "RSTTPH", "HOST", 1) { Scope (\_SB) { Device (PCI0) { Name (_ADR, 0) } } }
	EOF2
	iasl -p host host.asl >log 2>&1 || fail "$(<log)"
	iasl -p tags "$HERE/../lab/crates/vm/src/cpu-tags.asl" >log 2>&1 || fail "$(<log)"
}

# dsm REVISION FUNCTION FEATURE UID: the bytes of its answer.
dsm() {
	acpiexec -b "evaluate \\_SB.PCI0._DSM (D0 37 C9 E5 53 35 7A 4D 91 17 EA 4D 19 C3 43 4D) $1 $2 [$3 $4 0]" \
		host.aml tags.aml 2>&1 | sed -n 's/.*\[Buffer\] Length .. = *0000: \([0-9A-F ]*[0-9A-F]\) *\/\/.*/\1/p'
}

# Per memory type: which tags are valid, that of 8 bits, that of 16 bits; see union st_info in drivers/pci/tph.c.
test_the_firmware_tells_the_tags_of_each_cpu() {
	compiled
	same "$(dsm 7 0xF 0 0)" '03 C0 00 CA 03 D0 00 DA'
	same "$(dsm 7 0xF 0 1)" '03 C1 01 CA 03 D1 01 DA'
	same "$(dsm 7 0xF 0 0xF)" '03 CF 0F CA 03 DF 0F DA'
}

test_the_firmware_says_which_tags_it_does_not_know() {
	compiled
	same "$(dsm 7 0xF 0 2)" '02 C2 02 CA 01 D2 02 DA'
	same "$(dsm 7 0xF 0 3)" '01 C3 03 CA 02 D3 03 DA'
	same "$(dsm 7 0xF 0 0x10)" '00 00 00 00 00 00 00 00'
	same "$(dsm 7 0xF 1 0)" '00 00 00 00 00 00 00 00'
}

test_the_firmware_has_the_function_from_revision_7_on() {
	compiled
	same "$(dsm 7 0 0 0)" '01 80'
	same "$(dsm 6 0 0 0)" '00'
}
