// SPDX-License-Identifier: GPL-2.0
//! Tests that the lab's devices look like real ones to the kernel and to `lspci -vvv`.

use dma_buf_tph::{pci, tap};
use std::process::{Command, ExitCode};

/// What `lspci -vvv` says of a device.
fn lspci(device: u16) -> String {
    let output = Command::new("lspci")
        .args(["-vvv", "-d", &format!("{:04x}:{device:04x}", pci::VENDOR)])
        .output()
        .unwrap();
    assert!(output.status.success(), "lspci: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Asserts that `text` contains all of `parts`.
#[track_caller]
fn assert_shows(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no '{part}' in:\n{text}");
    }
}

fn express() {
    for device in [pci::INITIATOR, pci::INITIATOR_EXT, pci::ACCELERATOR] {
        assert_shows(
            &lspci(device),
            &[
                "Express (v2) Root Complex Integrated Endpoint",
                "ExtTag+ RBE+ FLReset+",
                "ExtFmt+ EETLPPrefix+, MaxEETLPPrefixes 1",
                "Power Management version 3",
                "Device Serial Number",
            ],
        );
    }
}

fn msix() {
    for device in [pci::INITIATOR, pci::INITIATOR_EXT, pci::ACCELERATOR] {
        assert_shows(
            &lspci(device),
            &[
                "MSI-X: Enable- Count=1 Masked-",
                "Vector table: BAR=0 offset=00001000",
                "PBA: BAR=0 offset=00001800",
            ],
        );
    }
}

fn tph_requester() {
    for device in [pci::INITIATOR, pci::INITIATOR_EXT] {
        assert_shows(
            &lspci(device),
            &[
                "Transaction Processing Hints",
                "Device specific mode supported",
                "Steering table in TPH capability structure",
            ],
        );
    }
    assert!(!lspci(pci::ACCELERATOR).contains("Transaction Processing Hints"));
}

fn bars() {
    let accelerator = lspci(pci::ACCELERATOR);
    assert_shows(
        &accelerator,
        &[
            "(64-bit, non-prefetchable) [size=8K]",
            "(64-bit, prefetchable) [size=4G]",
        ],
    );
    assert_shows(
        &lspci(pci::INITIATOR),
        &["(64-bit, non-prefetchable) [size=8K]"],
    );
}

fn nothing_unknown() {
    for device in [pci::INITIATOR, pci::INITIATOR_EXT, pci::ACCELERATOR] {
        let text = lspci(device);
        for word in ["unknown", "Unknown", "<access denied>", "!!!", "virtual"] {
            assert!(!text.contains(word), "'{word}' in:\n{text}");
        }
    }
}

fn main() -> ExitCode {
    tap::run(vec![
        ("lspci: PCI Express capability v2", Box::new(express)),
        ("lspci: MSI-X", Box::new(msix)),
        (
            "lspci: TPH capability of requesters only",
            Box::new(tph_requester),
        ),
        ("lspci: BARs", Box::new(bars)),
        ("lspci: nothing unknown", Box::new(nothing_unknown)),
    ])
}
