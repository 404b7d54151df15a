/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a platform's firmware knows of steering tags for CPU memory: the _DSM of the PCI host bridge
 * tells the tag with which a device below one of its root ports should write what a CPU will read.
 *
 * Linux asks in pcie_tph_get_cpu_st() (drivers/pci/tph.c), whose union st_info is the answer. No cache
 * is behind these tags; they only differ in all that could be mixed up:
 *
 *             volatile memory   persistent memory
 *     8 bits  C0h   + CPU       D0h   + CPU
 *    16 bits  CA00h + CPU       DA00h + CPU
 *
 * Firmware need not know all of them, and says which of its answers are valid. This one does not know
 * CPU 2's tags of 8 bits for volatile and of 16 bits for persistent memory, and of CPU 3 not the two
 * others. What it answers there is a tag all the same, for whoever does not look.
 */
DefinitionBlock ("", "SSDT", 2, "RSTTPH", "CPUTAGS", 1)
{
    External (\_SB.PCI0, DeviceObj)

    Scope (\_SB.PCI0)
    {
        Method (_DSM, 4, Serialized)
        {
            If (Arg0 != ToUUID ("e5c937d0-3553-4d7a-9117-ea4d19c3434d") || Arg1 < 7)
            {
                Return (Buffer (1) { 0 })
            }

            /* Which functions there are: this one and 15. */
            If (Arg2 == 0)
            {
                Return (Buffer (2) { 0x01, 0x80 })
            }

            Name (TAGS, Buffer (8) {})
            CreateByteField (TAGS, 0, VVAL)
            CreateByteField (TAGS, 1, VST)
            CreateWordField (TAGS, 2, VXST)
            CreateByteField (TAGS, 4, PVAL)
            CreateByteField (TAGS, 5, PST)
            CreateWordField (TAGS, 6, PXST)

            /* Nothing is valid but for the cache (feature 0) of a processor that there may be. */
            TAGS = Buffer (8) {}
            If (Arg2 == 15)
            {
                Local0 = DerefOf (Arg3 [0])
                Local1 = DerefOf (Arg3 [1])
                If (Local0 == 0 && Local1 < 16)
                {
                    /* Bit 0: 8 bits, bit 1: 16 bits. */
                    VVAL = 3
                    PVAL = 3
                    If (Local1 == 2)
                    {
                        VVAL = 2
                        PVAL = 1
                    }
                    If (Local1 == 3)
                    {
                        VVAL = 1
                        PVAL = 2
                    }

                    VST = 0xC0 + Local1
                    VXST = 0xCA00 + Local1
                    PST = 0xD0 + Local1
                    PXST = 0xDA00 + Local1
                }
            }

            Return (TAGS)
        }
    }
}
