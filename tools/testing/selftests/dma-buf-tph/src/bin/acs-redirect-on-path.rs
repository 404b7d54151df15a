// SPDX-License-Identifier: GPL-2.0
//! Tests of peers directly below a root port that redirects what they send each other to the host
//! bridge (`pci=config_acs=`), on a processor that the kernel does not trust with it.

use dma_buf_tph::accelerator::Accelerator;
use dma_buf_tph::initiator::{self, Initiator};
use dma_buf_tph::kmsg::Log;
use dma_buf_tph::pci::{self, CompleterType};
use dma_buf_tph::tap::{self, assert_errno};
use libc::EINVAL;
use std::os::fd::AsFd;
use std::process::ExitCode;

const NODES: [&str; 2] = [initiator::STANDARD, initiator::EXTENDED];

fn root_port() -> pci::Device {
    let pdev = pci::Device::accelerator(CompleterType::ExtTph).unwrap();
    pdev.root_port().unwrap().expect("a root port")
}

fn redirected() {
    let port = root_port();
    assert!(port.acs_redirects().unwrap());
    let accelerator = Accelerator::open().unwrap();
    let before = accelerator.state().unwrap();
    for node in NODES {
        let initiator = Initiator::open(node).unwrap();
        initiator.import(accelerator.dmabuf.as_fd()).unwrap();
        let log = Log::from_now().unwrap();
        assert_errno(initiator.write(0, &[0x5a; 32]), EINVAL);
        log.assert_says(&["pci=disable_acs_redir=", &port.address()]);
    }
    assert_eq!(accelerator.state().unwrap(), before);
    assert!(accelerator.is_published().unwrap());
}

fn not_redirected() {
    let port = root_port();
    port.clear_acs_redirect().unwrap();
    assert!(!port.acs_redirects().unwrap());

    let accelerator = Accelerator::open_anew().unwrap();
    let mut before = accelerator.state().unwrap().memory;
    for node in NODES {
        let initiator = Initiator::open(node).unwrap();
        initiator.import(accelerator.dmabuf.as_fd()).unwrap();
        assert!(initiator.write(0, &[1; 32]).unwrap().is_some());
        let after = accelerator.state().unwrap().memory;
        assert_eq!(after, before.map(|dword| dword + 0x0101_0101), "{node}");
        before = after;
    }
}

fn main() -> ExitCode {
    tap::run(vec![
        (
            "redirect: the map fails: EINVAL, and nothing arrives",
            Box::new(redirected),
        ),
        (
            "no redirect: the write arrives with its hint",
            Box::new(not_redirected),
        ),
    ])
}
