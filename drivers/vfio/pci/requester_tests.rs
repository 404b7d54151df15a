// SPDX-License-Identifier: GPL-2.0-only

//! KUnit tests of what user space may see, select, ask and write.

use kernel::{
    bindings,
    pci::tph::{
        Namespace,
        SteeringTag, //
    },
    prelude::*, //
};

use super::{
    requester_capability::{
        Capability,
        Policy, //
    },
    requester_control::Control,
    requester_request::{
        literal,
        Entry,
        RawEntry,
        Resolve,
        SetEntries,
        Source, //
    },
};

const POLICIES: [Policy; 4] = [
    Policy::NoSt,
    Policy::IvSt,
    Policy::DsSt,
    Policy::Literal, //
];

const NS: u32 = 1;
const IV: u32 = 2;
const DS: u32 = 4;
const EXT: u32 = 1 << 8;
const LOC_CAP: u32 = 1 << 9;
const LOC_MSIX: u32 = 2 << 9;
const LOC_RESERVED: u32 = 3 << 9;
/// A table of 64 entries.
const SIZE: u32 = 63 << 16;

/// The requester types.
const OFF: u8 = 0;
const TPH: u8 = 1;
const RESERVED: u8 = 2;
const BOTH: u8 = 3;

/// A device that can do everything.
const ALL: u32 = NS | IV | DS | EXT | LOC_CAP | SIZE;

fn capability(policy: Policy) -> Capability {
    Capability::new(ALL, BOTH, policy)
}

fn entry(index: u32, source: u32, value: u32) -> RawEntry {
    RawEntry(bindings::vfio_device_tph_st_entry {
        index,
        source,
        value,
        reserved: 0,
    })
}

fn resolve(flags: u32, source: u32) -> Resolve {
    Resolve(bindings::vfio_device_feature_tph_resolve {
        flags,
        source,
        ..Default::default()
    })
}

fn set_entries(flags: u32) -> SetEntries {
    SetEntries(bindings::vfio_device_feature_tph_st {
        flags,
        ..Default::default()
    })
}

/// The errno of a request with these entries, or none.
fn refused(flags: u32, entries: &[RawEntry], policy: Policy) -> Option<Error> {
    set_entries(flags)
        .check(entries, capability(policy), policy)
        .err()
}

#[kunit_tests(rust_vfio_pci_tph)]
mod tests {
    use super::*;

    #[test]
    fn level_that_does_not_exist_is_the_strictest() {
        for (level, policy) in (0..).zip(POLICIES) {
            assert_eq!(Policy::from_level(level), policy);
        }
        for level in [4, 5, 0x80, 0xff] {
            assert_eq!(Policy::from_level(level), Policy::NoSt);
        }
    }

    #[test]
    fn level_decides_the_modes() {
        let modes = [NS, NS | IV, NS | IV | DS, NS | IV | DS];

        for (policy, modes) in POLICIES.into_iter().zip(modes) {
            for hardware in 0..8 {
                let seen = Capability::new(hardware, TPH, policy);
                assert_eq!(seen, Capability(hardware & modes));
            }
        }
    }

    #[test]
    fn level_decides_whether_there_is_a_table() {
        assert_eq!(capability(Policy::NoSt), Capability(NS | EXT));
        assert_eq!(
            capability(Policy::IvSt),
            Capability(NS | IV | EXT | LOC_CAP | SIZE)
        );
        assert_eq!(capability(Policy::DsSt), Capability(ALL));
        assert_eq!(capability(Policy::Literal), Capability(ALL));
    }

    #[test]
    fn root_port_decides_about_extended() {
        for policy in POLICIES {
            let extended = |supported| Capability::new(ALL, supported, policy).0 & EXT;

            assert_eq!(extended(TPH), 0);
            assert_eq!(extended(BOTH), EXT);
        }
    }

    #[test]
    fn capability_is_hidden_if_nothing_is_left() {
        for policy in POLICIES {
            for supported in [OFF, RESERVED, 4, 0xff] {
                assert!(Capability::new(ALL, supported, policy).is_hidden());
            }
            assert!(Capability::new(EXT | LOC_CAP | SIZE, BOTH, policy).is_hidden());
            assert!(Capability::new(0, BOTH, policy).is_hidden());
        }
        assert!(Capability::new(IV | DS, BOTH, Policy::NoSt).is_hidden());
        assert!(Capability::new(DS, BOTH, Policy::IvSt).is_hidden());
        assert!(!Capability::new(IV, BOTH, Policy::IvSt).is_hidden());
        assert!(!Capability::new(DS, BOTH, Policy::DsSt).is_hidden());
    }

    #[test]
    fn reserved_bits_are_not_shown() {
        for policy in POLICIES {
            let known = ALL | LOC_RESERVED | 0x07ff_0000;
            assert_eq!(Capability::new(u32::MAX, BOTH, policy).0 & !known, 0);
        }
    }

    #[test]
    fn interrupt_vectors_have_no_tags_in_the_msix_table() {
        for policy in POLICIES {
            let seen = Capability::new(NS | IV | DS | LOC_MSIX, TPH, policy);

            assert!(!seen.has_mode(1));
            assert!(seen.has_mode(0));
            assert_eq!(seen.has_mode(2), policy >= Policy::DsSt);
            assert_eq!(seen.entries(), Err(EOPNOTSUPP));
            assert!(Capability::new(IV | LOC_MSIX, TPH, policy).is_hidden());
        }
    }

    #[test]
    fn table_is_in_the_capability_and_used_by_a_mode() {
        for (location, entries) in [
            (0, Err(EOPNOTSUPP)),
            (LOC_CAP, Ok(64)),
            (LOC_MSIX, Err(EOPNOTSUPP)),
            (LOC_RESERVED, Err(EOPNOTSUPP)),
        ] {
            let hardware = NS | IV | DS | location | SIZE;
            let seen = |policy| Capability::new(hardware, TPH, policy).entries();

            assert_eq!(seen(Policy::NoSt), Err(EOPNOTSUPP));
            assert_eq!(seen(Policy::IvSt), entries);
            assert_eq!(seen(Policy::DsSt), entries);
            assert_eq!(seen(Policy::Literal), entries);
        }

        // No mode with tags is left.
        let hardware = NS | DS | LOC_CAP | SIZE;
        assert_eq!(
            Capability::new(hardware, TPH, Policy::IvSt).entries(),
            Err(EOPNOTSUPP)
        );

        let hardware = NS | IV | LOC_CAP;
        assert_eq!(
            Capability::new(hardware, TPH, Policy::IvSt).entries(),
            Ok(1)
        );
        let hardware = NS | IV | LOC_CAP | 0x07ff_0000;
        assert_eq!(
            Capability::new(hardware, TPH, Policy::IvSt).entries(),
            Ok(2048)
        );
    }

    #[test]
    fn tags_are_disclosed_from_device_specific_mode_on() {
        let disclosed = POLICIES.map(Policy::discloses_tags);

        assert_eq!(disclosed, [false, false, true, true]);
    }

    #[test]
    fn level_decides_what_can_be_asked() {
        for (source, allowed) in [
            (Source::None, [false; 4]),
            (Source::DmaBuf(3), [true; 4]),
            (Source::Cpu(1), [false, false, true, true]),
            (Source::Literal(1), [false; 4]),
        ] {
            assert_eq!(POLICIES.map(|policy| policy.may_resolve(source)), allowed);
        }
    }

    #[test]
    fn level_decides_what_can_be_programmed() {
        for (source, allowed) in [
            (Source::None, [false, true, true, true]),
            (Source::DmaBuf(3), [false, true, true, true]),
            (Source::Cpu(1), [false, true, true, true]),
            (Source::Literal(1), [false, false, false, true]),
        ] {
            assert_eq!(POLICIES.map(|policy| policy.may_program(source)), allowed);
        }
    }

    /// Each old value, each value written: what is selectable is taken, all else stays.
    #[test]
    fn mode_is_taken_if_it_is_shown() {
        for policy in POLICIES {
            let seen = capability(policy);

            for old in 0..8 {
                for wanted in 0..8 {
                    let new = Control(0x100 | old).write(Control(0x100 | wanted), seen);
                    let is_shown = match policy {
                        Policy::NoSt => wanted == 0,
                        Policy::IvSt => wanted <= 1,
                        Policy::DsSt | Policy::Literal => wanted <= 2,
                    };

                    assert_eq!(new.mode(), if is_shown { wanted } else { old });
                    assert_eq!(new.enable(), 1);
                }
            }
        }
    }

    /// Nothing but mode bits makes a mode.
    #[test]
    fn other_bits_are_no_modes() {
        let seen = Capability(u32::MAX);

        for mode in 3..64 {
            assert!(!seen.has_mode(mode));
        }
        assert!(!seen.has_mode(u32::MAX));
    }

    #[test]
    fn enable_is_taken_if_it_is_supported() {
        for (supported, accepted) in [
            (TPH, [true, true, false, false]),
            (BOTH, [true, true, false, true]),
        ] {
            let seen = Capability::new(ALL, supported, Policy::Literal);

            for old in 0..4 {
                for (wanted, accepted) in (0..).zip(accepted) {
                    let new = Control(old << 8 | 2).write(Control(wanted << 8 | 2), seen);

                    assert_eq!(new.enable(), if accepted { wanted } else { old });
                    assert_eq!(new.mode(), 2);
                }
            }
        }
    }

    #[test]
    fn hidden_capability_cannot_be_enabled() {
        for wanted in [0x100, 0x101, 0x300, 0x302, 0x200, u32::MAX] {
            let new = Control::default().write(Control(wanted), Capability::HIDDEN);
            assert_eq!(new, Control::default());
        }
    }

    #[test]
    fn undefined_bits_of_control_are_dropped() {
        let new = Control::default().write(Control(0xffff_fff8), capability(Policy::Literal));

        assert_eq!(new, Control(0x300));
    }

    #[test]
    fn fields_are_judged_one_by_one() {
        let seen = Capability::new(NS | IV, TPH, Policy::IvSt);
        let old = Control(0x001);

        // The mode is refused, the enable is not; and the other way round.
        assert_eq!(old.write(Control(0x102), seen), Control(0x101));
        assert_eq!(Control(0x101).write(Control(0x300), seen), Control(0x100));
    }

    #[test]
    fn bytes_are_merged_in_their_place() {
        let old = Control(0x4433_2211);

        assert_eq!(old.merge(0, 4, 0xddcc_bbaa), Control(0xddcc_bbaa));
        assert_eq!(old.merge(0, 2, 0xbbaa), Control(0x4433_bbaa));
        assert_eq!(old.merge(2, 2, 0xbbaa), Control(0xbbaa_2211));
        for (offset, merged) in [
            (0, 0x4433_22aa),
            (1, 0x4433_aa11),
            (2, 0x44aa_2211),
            (3, 0xaa33_2211),
        ] {
            assert_eq!(old.merge(offset, 1, 0xaa), Control(merged));
            // What lies above the bytes that are written is none of them.
            assert_eq!(old.merge(offset, 1, 0xffff_ffaa), Control(merged));
        }
    }

    /// Each value that the register can take, written at once or byte by byte, in either order.
    #[test]
    fn width_of_a_write_does_not_matter() {
        for policy in POLICIES {
            for supported in [TPH, BOTH] {
                let seen = Capability::new(ALL, supported, policy);

                for old in (0..4).flat_map(|enable| (0..3).map(move |mode| enable << 8 | mode)) {
                    for value in 0..0x400 {
                        let old = Control(old);
                        let step = |old: Control, offset, count, value| {
                            old.write(old.merge(offset, count, value), seen)
                        };
                        let low = value & 0xff;
                        let high = value >> 8;
                        let dword = step(old, 0, 4, value);

                        assert_eq!(step(old, 0, 2, value), dword);
                        assert_eq!(step(step(old, 0, 1, low), 1, 1, high), dword);
                        assert_eq!(step(step(old, 1, 1, high), 0, 1, low), dword);
                    }
                }
            }
        }
    }

    #[test]
    fn table_is_written_while_enabled_for_the_namespace() {
        for mode in [1, 2] {
            for (enable, st, ext) in [
                (0, Err(EINVAL), Err(EINVAL)),
                (1, Ok(()), Err(EINVAL)),
                (2, Err(EINVAL), Err(EINVAL)),
                (3, Ok(()), Ok(())),
            ] {
                let control = Control(enable << 8 | mode);

                assert_eq!(control.check(Namespace::St), st);
                assert_eq!(control.check(Namespace::ExtSt), ext);
            }
        }
    }

    #[test]
    fn table_is_not_written_in_no_st_mode() {
        for enable in 0..4 {
            for namespace in [Namespace::St, Namespace::ExtSt] {
                assert_eq!(Control(enable << 8).check(namespace), Err(EINVAL));
            }
        }
    }

    #[test]
    fn literal_is_a_tag_of_its_namespace() {
        assert_eq!(literal(0, Namespace::St), Ok(SteeringTag::St(0)));
        assert_eq!(literal(0xff, Namespace::St), Ok(SteeringTag::St(0xff)));
        assert_eq!(
            literal(0xff, Namespace::ExtSt),
            Ok(SteeringTag::ExtSt(0xff))
        );
        assert_eq!(
            literal(0xffff, Namespace::ExtSt),
            Ok(SteeringTag::ExtSt(0xffff))
        );
        for number in [0x100, 0xffff, u32::MAX] {
            assert_eq!(literal(number, Namespace::St), Err(EINVAL));
        }
        for number in [0x1_0000, u32::MAX] {
            assert_eq!(literal(number, Namespace::ExtSt), Err(EINVAL));
        }
    }

    #[test]
    fn resolve_says_what_it_asks_for() {
        for (flags, namespace) in [(0, Namespace::St), (1, Namespace::ExtSt)] {
            let mut request = resolve(flags, 1);
            request.0.value = 7;
            assert_eq!(
                request.check(Capability(ALL), Policy::NoSt),
                Ok((namespace, Source::DmaBuf(7)))
            );
            request.0.source = 2;
            assert_eq!(
                request.check(Capability(ALL), Policy::DsSt),
                Ok((namespace, Source::Cpu(7)))
            );
        }
    }

    #[test]
    fn resolve_that_is_malformed_is_invalid() {
        for policy in POLICIES {
            for flags in [2, 3, 0x8000_0000, u32::MAX] {
                let request = resolve(flags, 1);
                assert_eq!(request.check(Capability(ALL), policy), Err(EINVAL));
            }
            for source in [0, 3, 4, u32::MAX] {
                let request = resolve(0, source);
                assert_eq!(request.check(Capability(ALL), policy), Err(EINVAL));
            }
            let mut request = resolve(0, 1);
            request.0.reserved = 1;
            assert_eq!(request.check(Capability(ALL), policy), Err(EINVAL));
        }
    }

    #[test]
    fn resolve_at_each_level() {
        let cpu = POLICIES.map(|policy| resolve(0, 2).check(capability(policy), policy).err());
        let dmabuf = POLICIES.map(|policy| resolve(0, 1).check(capability(policy), policy).err());

        assert_eq!(cpu, [Some(EOPNOTSUPP), Some(EOPNOTSUPP), None, None]);
        assert_eq!(dmabuf, [None; 4]);
    }

    #[test]
    fn resolve_of_extended_needs_support() {
        let seen = Capability::new(ALL, TPH, Policy::Literal);

        assert_eq!(resolve(1, 1).check(seen, Policy::Literal), Err(EOPNOTSUPP));
        assert!(resolve(0, 1).check(seen, Policy::Literal).is_ok());
        // What is malformed comes first.
        let mut request = resolve(1, 1);
        request.0.reserved = 1;
        assert_eq!(request.check(seen, Policy::Literal), Err(EINVAL));
    }

    #[test]
    fn count_is_that_of_a_table_at_most() {
        let count = |count| {
            let mut request = set_entries(0);
            request.0.count = count;
            request.count(64)
        };

        assert_eq!(count(1), Ok(1));
        assert_eq!(count(64), Ok(64));
        for wrong in [0, 65, 0x1000_0000, u32::MAX] {
            assert_eq!(count(wrong), Err(EINVAL));
        }
    }

    #[test]
    fn entries_are_decoded() -> Result {
        let raw = [
            entry(0, 0, 0),
            entry(63, 1, 5),
            entry(1, 2, 6),
            entry(2, 3, 7),
        ];
        let (namespace, entries) = set_entries(1).check(&raw, Capability(ALL), Policy::Literal)?;

        assert_eq!(namespace, Namespace::ExtSt);
        assert_eq!(
            &entries[..],
            &[
                Entry {
                    index: 0,
                    source: Source::None
                },
                Entry {
                    index: 63,
                    source: Source::DmaBuf(5)
                },
                Entry {
                    index: 1,
                    source: Source::Cpu(6)
                },
                Entry {
                    index: 2,
                    source: Source::Literal(7)
                },
            ][..]
        );
        Ok(())
    }

    #[test]
    fn index_is_in_the_table() {
        for index in [64, 65, 0xffff, 0x1_0000, u32::MAX] {
            let entries = [entry(0, 0, 0), entry(index, 0, 0)];
            assert_eq!(refused(0, &entries, Policy::Literal), Some(EINVAL));
        }
        assert_eq!(refused(0, &[entry(63, 0, 0)], Policy::Literal), None);
    }

    #[test]
    fn entries_that_are_malformed_are_invalid() {
        for source in [4, 0x100, u32::MAX] {
            let entries = [entry(0, 0, 0), entry(0, source, 0)];
            assert_eq!(refused(0, &entries, Policy::Literal), Some(EINVAL));
        }
        for flags in [2, 3, 0x8000_0000, u32::MAX] {
            assert_eq!(
                refused(flags, &[entry(0, 0, 0)], Policy::Literal),
                Some(EINVAL)
            );
        }
        // No tag has a number other than zero.
        assert_eq!(refused(0, &[entry(0, 0, 1)], Policy::Literal), Some(EINVAL));

        let mut reserved = entry(0, 0, 0);
        reserved.0.reserved = 1;
        assert_eq!(refused(0, &[reserved], Policy::Literal), Some(EINVAL));

        let mut request = set_entries(0);
        request.0.reserved = 1;
        assert_eq!(
            request
                .check(&[entry(0, 0, 0)], Capability(ALL), Policy::Literal)
                .err(),
            Some(EINVAL)
        );
    }

    #[test]
    fn literal_fits_its_namespace() {
        assert_eq!(refused(0, &[entry(0, 3, 0xff)], Policy::Literal), None);
        assert_eq!(
            refused(0, &[entry(0, 3, 0x100)], Policy::Literal),
            Some(EINVAL)
        );
        assert_eq!(refused(1, &[entry(0, 3, 0xffff)], Policy::Literal), None);
        assert_eq!(
            refused(1, &[entry(0, 3, 0x1_0000)], Policy::Literal),
            Some(EINVAL)
        );
    }

    #[test]
    fn entries_at_each_level() {
        for (source, errors) in [
            (0, [None, None, None]),
            (1, [None, None, None]),
            (2, [None, None, None]),
            (3, [Some(EOPNOTSUPP), Some(EOPNOTSUPP), None]),
        ] {
            for (&policy, error) in POLICIES[1..].iter().zip(errors) {
                assert_eq!(refused(0, &[entry(0, source, 0)], policy), error);
            }
        }
        for source in 0..4 {
            let entries = [entry(0, source, 0)];
            assert_eq!(refused(0, &entries, Policy::NoSt), Some(EOPNOTSUPP));
        }
    }

    #[test]
    fn order_of_the_checks() {
        let good = entry(0, 0, 0);
        let outside = entry(64, 0, 0);
        let too_big = entry(0, 3, 0x100);

        // Malformed in any entry, then too big in any, then not allowed.
        assert_eq!(refused(0, &[too_big, outside], Policy::IvSt), Some(EINVAL));
        assert_eq!(refused(0, &[too_big], Policy::IvSt), Some(EINVAL));
        assert_eq!(
            refused(0, &[good, entry(0, 3, 1)], Policy::IvSt),
            Some(EOPNOTSUPP)
        );

        // Then the namespace that is not supported.
        let seen = Capability::new(ALL, TPH, Policy::IvSt);
        let check = |entries: &[RawEntry]| set_entries(1).check(entries, seen, Policy::IvSt).err();
        assert_eq!(check(&[good]), Some(EOPNOTSUPP));
        assert_eq!(check(&[good, outside]), Some(EINVAL));
    }
}
