// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares what the same tests say on the pristine kernel and on ours.

use super::{Case, Verdict};

/// A case for each test of either kernel: it passes if it passes on both.
#[must_use]
pub fn compare(before: &[Case], after: &[Case]) -> Vec<Case> {
    let verdict = |cases: &[Case], name: &str| {
        let found = cases.iter().find(|case| case.name == name);
        found.map(|case| case.verdict.clone())
    };
    let gone = before
        .iter()
        .filter(|case| verdict(after, &case.name).is_none());
    after
        .iter()
        .chain(gone)
        .map(|case| {
            let name = case.name.as_str();
            match (verdict(before, name), verdict(after, name)) {
                (Some(Verdict::Pass), Some(Verdict::Pass)) => {
                    Case::pass(format!("{name}, on both"))
                }
                (Some(Verdict::Skip(was)), Some(Verdict::Skip(is))) if was == is => {
                    Case::skip(name, format!("on both: {is}"))
                }
                (was, is) => Case::fail(
                    name,
                    format!(
                        "on the pristine kernel: {}\non ours: {}",
                        in_words(was),
                        in_words(is)
                    ),
                ),
            }
        })
        .collect()
}

fn in_words(verdict: Option<Verdict>) -> String {
    match verdict {
        None => "not run".to_owned(),
        Some(Verdict::Pass) => "passed".to_owned(),
        Some(Verdict::Skip(reason)) => format!("skipped: {reason}"),
        Some(Verdict::Fail(why)) if why.is_empty() => "failed".to_owned(),
        Some(Verdict::Fail(why)) => format!("failed: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kselftest::Kselftests;

    const DEVICE: &str = "0000:00:10.0 vfio_pci_device_test";
    const MSI: &str = "0000:00:10.0 vfio_pci_device_test: vfio_pci_irq_test.msi.enable";

    /// What a guest's tests came to, of which one had `result` and one ended with `status`.
    fn guest(result: &str, status: u8) -> Vec<Case> {
        let text = format!(
            "== start {DEVICE}\nTAP version 13\n1..2\n#  RUN           vfio_pci_device_test.reset ...\n\
             ok 1 vfio_pci_device_test.reset\n{result}\n== end {}\n\
             == start 0000:00:10.0 vfio_pci_driver_test\nNo driver found for device 0000:00:10.0\n== end {status}\n\
             == start 0000:00:10.0 vfio_pci_sriov_uapi_test\n1..0 # SKIP SR-IOV may not be supported\n== end 4\n",
            u8::from(result.starts_with("not ok"))
        );
        let mut programs = Kselftests::default();
        for line in text.lines() {
            programs.line(line);
        }
        programs.end()
    }

    const SKIP: &str = "ok 2 vfio_pci_irq_test.msi.enable # SKIP MSI: not supported";
    const FAIL: &str = "not ok 2 vfio_pci_irq_test.msi.enable";

    /// What is wrong with a test.
    fn why(cases: &[Case], name: &str) -> String {
        let wrong = cases.iter().find_map(|case| match &case.verdict {
            Verdict::Fail(why) if case.name == name => Some(why.clone()),
            _ => None,
        });
        wrong.unwrap_or_else(|| panic!("{name} did not fail: {cases:#?}"))
    }

    #[test]
    fn what_is_the_same_on_both_kernels_is_well() {
        let cases = compare(&guest(SKIP, 4), &guest(SKIP, 4));
        assert_eq!(
            cases,
            [
                Case::pass(format!("{DEVICE}: vfio_pci_device_test.reset, on both")),
                Case::skip(MSI, "on both: MSI: not supported"),
                Case::skip(
                    "0000:00:10.0 vfio_pci_driver_test",
                    "on both: No driver found for device 0000:00:10.0"
                ),
                Case::skip(
                    "0000:00:10.0 vfio_pci_sriov_uapi_test",
                    "on both: SR-IOV may not be supported"
                ),
            ]
        );
    }

    #[test]
    fn a_test_that_fails_on_one_kernel_or_on_both_fails() {
        let cases = compare(&guest(SKIP, 4), &guest(FAIL, 4));
        let said = "on the pristine kernel: skipped: MSI: not supported\non ours: failed";
        assert_eq!(why(&cases, MSI), said);
        let cases = compare(&guest(FAIL, 4), &guest(FAIL, 4));
        assert_eq!(
            why(&cases, MSI),
            "on the pristine kernel: failed\non ours: failed"
        );
    }

    #[test]
    fn a_test_that_is_skipped_for_another_reason_or_for_none_fails() {
        let other = guest(&SKIP.replace("MSI:", "cannot open:"), 4);
        let cases = compare(&guest(SKIP, 4), &other);
        assert!(why(&cases, MSI).ends_with("on ours: skipped: cannot open: not supported"));
        let none = guest(&SKIP.replace(" MSI: not supported", ""), 4);
        assert!(why(&compare(&none, &none), MSI).contains("skipped without a reason"));
    }

    #[test]
    fn a_program_that_crashes_fails() {
        let cases = compare(&guest(SKIP, 4), &guest(SKIP, 139));
        let said = why(&cases, "0000:00:10.0 vfio_pci_driver_test");
        assert!(said.ends_with("on ours: failed: ended with 139"), "{said}");
    }

    #[test]
    fn a_test_that_one_kernel_does_not_run_fails() {
        let (all, some) = (guest(SKIP, 4), guest(SKIP, 4)[1..].to_vec());
        let reset = format!("{DEVICE}: vfio_pci_device_test.reset");
        for (before, after, said) in [
            (
                &all,
                &some,
                "on the pristine kernel: passed\non ours: not run",
            ),
            (
                &some,
                &all,
                "on the pristine kernel: not run\non ours: passed",
            ),
        ] {
            assert_eq!(why(&compare(before, after), &reset), said);
        }
    }
}
