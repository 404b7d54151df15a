// SPDX-License-Identifier: GPL-2.0
//! Test of peers below a switch whose root port redirects (`pci=config_acs=`): the port is not
//! between them. The processor is none that the kernel trusts, so nothing may go through the host
//! bridge.

use dma_buf_tph::accelerator::Accelerator;
use dma_buf_tph::initiator::{self, Initiator};
use dma_buf_tph::pci::{self, CompleterType};
use dma_buf_tph::tap;
use std::os::fd::AsFd;
use std::process::ExitCode;

fn redirect_above_the_switch() {
    let pdev = pci::Device::accelerator(CompleterType::ExtTph).unwrap();
    let port = pdev.root_port().unwrap().expect("a root port");
    assert!(port.acs_redirects().unwrap());

    let accelerator = Accelerator::open_anew().unwrap();
    let before = accelerator.state().unwrap().memory;
    let initiator = Initiator::open(initiator::STANDARD).unwrap();
    initiator.import(accelerator.dmabuf.as_fd()).unwrap();
    assert!(initiator.write(0, &[1; 32]).unwrap().is_some());
    let after = accelerator.state().unwrap().memory;
    assert_eq!(after, before.map(|dword| dword + 0x0101_0101));
}

fn main() -> ExitCode {
    tap::run(vec![(
        "redirect above the switch: the write arrives with its hint",
        Box::new(redirect_above_the_switch),
    )])
}
