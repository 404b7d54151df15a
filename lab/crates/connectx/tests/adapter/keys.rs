// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory keys of a pool and the requests that change them, in the order in which the driver sends
//! them.

use crate::harness::{End, KEY_CHANGE, LOCAL_OPERATION, LOCAL_PROTECTION, Lab, REMOTE_ACCESS};
use connectx::ifc::mkc;
use connectx_driver::{Area, Key, QpOptions, Request, Sge, Umr, access, mask, state};

/// Where a region begins in its own address space.
const START: u64 = 0x7f00_0000_0000;

/// The driver's queue pair for keys, two ends that use them, and pages.
struct Bench {
    lab: Lab,
    umr: End,
    all: u32,
    a: End,
    b: End,
    pages: Area,
}

impl Bench {
    fn new() -> Self {
        let mut lab = Lab::new();
        let (umr, all) = lab.umr();
        let (a, b) = lab.pair(QpOptions::RC);
        let pages = lab.adapter.memory.pages(0x8_0000);
        Self {
            lab,
            umr,
            all,
            a,
            b,
            pages,
        }
    }

    fn pooled(&mut self, entries: u64) -> u32 {
        let key = Key::pooled(self.umr.pd, entries);
        self.lab.adapter.create_key(&key).unwrap()
    }

    /// Changes a key; the syndrome, or 0.
    fn change(&mut self, umr: &Umr) -> u8 {
        self.lab.adapter.post_umr(&mut self.umr.qp, self.all, umr);
        let completion = self.umr.cq.wait();
        assert_eq!(completion.request, Request::UMR);
        if completion.syndrome != 0 {
            assert_eq!(self.lab.state(&self.umr), state::ERROR);
            self.lab.adapter.to_reset(&mut self.umr.qp).unwrap();
            let nobody = connectx_driver::Connection::to(0);
            self.lab.adapter.connect(&self.umr.qp, &nobody).unwrap();
        }
        completion.syndrome
    }

    fn change_well(&mut self, umr: &Umr) {
        assert_eq!(self.change(umr), 0, "{umr:x?}");
    }

    /// The address of a page, the last of them first.
    fn page(&self, number: u64) -> u64 {
        self.pages.addr() + self.pages.len() - 0x1000 * (number + 1)
    }

    /// Enables a key for all rights in b's domain, with `count` pages from START on.
    fn enable(&mut self, key: u32, count: u64) {
        let pages: Vec<_> = (0..count).map(|number| self.page(number)).collect();
        let pd = self.b.pd;
        let len = count * 0x1000;
        self.change_well(&Umr::enable(key, pd, access::ALL, START, len, 12, &pages));
    }

    /// Whether `a` can write one byte to `addr` of the key, and the syndrome if not; where it comes
    /// to is the page's byte.
    fn write(&mut self, key: u32, addr: u64, byte: u8) -> Result<(), u8> {
        let write = Request::write(key, addr).inline(&[byte]);
        let completion = self.lab.run(&mut self.a, &write);
        match completion.syndrome {
            0 => Ok(()),
            syndrome => {
                self.lab.join_again(&mut self.a, &mut self.b);
                Err(syndrome)
            }
        }
    }

    fn byte(&self, addr: u64) -> u8 {
        self.pages.bytes::<1>(addr - self.pages.addr())[0]
    }
}

#[test]
fn a_key_lives_as_the_driver_has_it() {
    let mut bench = Bench::new();
    let key = bench.pooled(8);
    let refused = Err(REMOTE_ACCESS);
    assert_eq!(bench.write(key, START, 1), refused, "free");
    // Registration.
    bench.enable(key, 4);
    assert_eq!(bench.write(key, START + 0x1234, 2), Ok(()));
    let target = bench.page(1) + 0x234;
    assert_eq!(bench.byte(target), 2);
    // Registration again with other rights.
    let pd = bench.b.pd;
    bench.change_well(&Umr::rights(key, pd, access::ALL & !access::REMOTE_WRITE));
    assert_eq!(bench.write(key, START + 0x1234, 3), refused);
    bench.change_well(&Umr::rights(key, pd, access::REMOTE_WRITE));
    assert_eq!(bench.write(key, START + 0x1234, 4), Ok(()));
    // In another domain.
    let (umr_pd, other) = (bench.umr.pd, bench.a.pd);
    bench.change_well(&Umr::rights(key, other, access::ALL));
    assert_eq!(bench.write(key, START + 0x1234, 5), refused);
    // Its memory goes, and comes back elsewhere.
    bench.change_well(&Umr::rights(key, pd, access::ALL));
    bench.change_well(&Umr::zap(key, 4));
    assert_eq!(bench.write(key, START + 0x1234, 6), refused);
    let pages = [7, 6, 5, 4].map(|number| bench.page(number));
    bench.change_well(&Umr::load(key, Umr::CHECK_IN_USE, 0, &pages));
    assert_eq!(bench.write(key, START + 0x1234, 7), Ok(()));
    let target = bench.page(6) + 0x234;
    assert_eq!(bench.byte(target), 7);
    // The end of the registration; the same key comes back by a request alone.
    bench.change_well(&Umr::revoke(key, umr_pd));
    assert_eq!(bench.write(key, START + 0x1234, 8), refused);
    bench.enable(key, 2);
    assert_eq!(bench.write(key, START + 0x1234, 9), Ok(()));
    assert_eq!(bench.write(key, START + 0x2000, 9), refused, "beyond");
}

#[test]
fn a_check_is_for_what_it_is_called() {
    let mut bench = Bench::new();
    let key = bench.pooled(8);
    let page = [bench.page(0)];
    let load = |check| Umr::load(key, check, 0, &page);
    assert_eq!(
        bench.change(&load(Umr::CHECK_IN_USE)),
        KEY_CHANGE,
        "it is free"
    );
    assert_eq!(bench.change(&load(Umr::CHECK_FREE)), 0);
    bench.enable(key, 1);
    assert_eq!(
        bench.change(&load(Umr::CHECK_FREE)),
        KEY_CHANGE,
        "it is in use"
    );
    assert_eq!(bench.change(&load(Umr::CHECK_IN_USE)), 0);
    assert_eq!(bench.change(&load(0)), 0);
    let pd = bench.umr.pd;
    bench.change_well(&Umr::revoke(key, pd));
    assert_eq!(bench.change(&load(Umr::CHECK_IN_USE)), KEY_CHANGE);
}

#[test]
fn a_long_list_comes_in_pieces_and_the_last_one_enables() {
    let mut bench = Bench::new();
    let key = bench.pooled(24);
    let pages: Vec<_> = (0..24).map(|number| bench.page(number)).collect();
    let mut last = Umr::load(key, Umr::CHECK_FREE, 16, &pages[16..]);
    for first in [0, 8] {
        let part = &pages[first..first + 8];
        bench.change_well(&Umr::load(key, Umr::CHECK_FREE, first as u64, part));
        assert_eq!(bench.write(key, START, 1), Err(REMOTE_ACCESS));
    }
    let pd = bench.b.pd;
    let enable = Umr::enable(key, pd, access::ALL, START, 24 * 0x1000, 12, &[]);
    (last.mask, last.fields) = (enable.mask, enable.fields);
    bench.change_well(&last);
    for number in [0u64, 8, 15, 16, 23] {
        let byte = number.to_le_bytes()[0] + 1;
        assert_eq!(bench.write(key, START + number * 0x1000, byte), Ok(()));
        let target = bench.page(number);
        assert_eq!(bench.byte(target), byte);
    }
}

#[test]
fn the_size_of_pages_changes_step_by_step() {
    let mut bench = Bench::new();
    let key = bench.pooled(16);
    // Memory of 16 pages in one piece, which first was known as such, then as four larger ones.
    let base = bench.pages.addr().next_multiple_of(0x4000);
    let small: Vec<_> = (0..16).map(|number| base + number * 0x1000).collect();
    let (pd, len) = (bench.b.pd, 0x1_0000);
    bench.change_well(&Umr::enable(key, pd, access::ALL, START, len, 12, &small));
    let check = |bench: &mut Bench, seed: u8| {
        for number in 0..16u8 {
            let offset = u64::from(number) * 0x1000 + 0x123;
            assert_eq!(bench.write(key, START + offset, seed + number), Ok(()));
            assert_eq!(bench.byte(base + offset), seed + number);
        }
    };
    check(&mut bench, 0x10);
    let large: Vec<_> = (0..4).map(|number| base + number * 0x4000).collect();
    // All of the large ones are in the head.
    bench.change_well(&Umr::zap(key, 16));
    bench.change_well(&Umr::page_size(key, START, len, 14));
    bench.change_well(&Umr::load(key, Umr::CHECK_IN_USE, 0, &large));
    check(&mut bench, 0x60);
    // And back: zap, change to a large size, load the rest, change to the final size, load the
    // head.
    bench.change_well(&Umr::zap(key, 4));
    bench.change_well(&Umr::page_size(key, START, len, 31));
    bench.change_well(&Umr::load(key, Umr::CHECK_IN_USE, 8, &small[8..]));
    assert_eq!(bench.write(key, START, 1), Err(REMOTE_ACCESS), "in between");
    bench.change_well(&Umr::page_size(key, START, len, 12));
    bench.change_well(&Umr::load(key, Umr::CHECK_IN_USE, 0, &small[..8]));
    check(&mut bench, 0xa0);
}

#[test]
fn a_region_may_begin_within_a_page() {
    let mut bench = Bench::new();
    let key = bench.pooled(8);
    let pages = [0, 1].map(|number| bench.page(number));
    let (pd, start) = (bench.b.pd, START + 0x800);
    bench.change_well(&Umr::enable(
        key,
        pd,
        access::ALL,
        start,
        0x1000,
        12,
        &pages,
    ));
    assert_eq!(bench.write(key, start - 1, 1), Err(REMOTE_ACCESS));
    assert_eq!(bench.write(key, start, 2), Ok(()));
    assert_eq!(bench.write(key, start + 0xfff, 3), Ok(()));
    assert_eq!(bench.write(key, start + 0x1000, 4), Err(REMOTE_ACCESS));
    let (first, second) = (bench.page(0) + 0x800, bench.page(1) + 0x7ff);
    assert_eq!((bench.byte(first), bench.byte(second)), (2, 3));
}

#[test]
fn only_what_the_mask_says_is_taken() {
    let mut bench = Bench::new();
    let key = bench.pooled(8);
    bench.enable(key, 2);
    let all_ones = |mask| Umr {
        key,
        flags: Umr::INLINE | Umr::CHECK_IN_USE,
        mask,
        fields: vec![
            (mkc::free, 1),
            (mkc::pd, 0xff_ffff),
            (mkc::len, 1),
            (mkc::start_addr, 1),
            (mkc::log_page_size, 63),
            (mkc::mkey_7_0, 0xff),
        ],
        ..Umr::default()
    };
    bench.change_well(&all_ones(0));
    assert_eq!(bench.write(key, START, 1), Ok(()));
    bench.change_well(&all_ones(mask::KEY));
    assert_eq!(bench.write(key, START, 2), Err(REMOTE_ACCESS));
    assert_eq!(bench.write(key | 0xff, START, 3), Ok(()));
}

#[test]
fn a_change_that_does_not_fit_is_refused() {
    let mut bench = Bench::new();
    let key = bench.pooled(8);
    let eight: Vec<_> = (0..8).map(|number| bench.page(number)).collect();
    let fixed = bench.a.key;
    for (what, umr, syndrome) in [
        ("beyond the table", Umr::load(key, 0, 8, &eight), KEY_CHANGE),
        ("far beyond", Umr::load(key, 0, 1 << 40, &eight), KEY_CHANGE),
        (
            "no such key",
            Umr::load(0x00ff_ff00, 0, 0, &eight),
            KEY_CHANGE,
        ),
        (
            "not to be changed",
            Umr::load(fixed, 0, 0, &eight),
            KEY_CHANGE,
        ),
        (
            "two checks at once",
            Umr::load(key, Umr::CHECK_FREE | Umr::CHECK_IN_USE, 0, &eight),
            LOCAL_OPERATION,
        ),
    ] {
        assert_eq!(bench.change(&umr), syndrome, "{what}");
    }
    // The list itself: too short, and not to be read.
    let umr = Umr::load(key, 0, 0, &eight);
    let at = bench.pages.addr();
    for (segment_key, len, syndrome) in [
        (bench.all, 32, LOCAL_OPERATION),
        (bench.a.key, 64, LOCAL_PROTECTION),
    ] {
        let list = Sge {
            key: segment_key,
            addr: at,
            len,
        };
        let request = Request::umr(&umr, Some(list));
        assert_eq!(bench.lab.run_badly(&mut bench.umr, &request), syndrome);
        bench.lab.adapter.to_reset(&mut bench.umr.qp).unwrap();
        let nobody = connectx_driver::Connection::to(0);
        bench.lab.adapter.connect(&bench.umr.qp, &nobody).unwrap();
    }
    bench.enable(key, 2);
    assert_eq!(bench.write(key, START, 1), Ok(()), "nothing was changed");
}

#[test]
fn an_ordinary_queue_pair_changes_only_keys_of_its_domain() {
    let mut bench = Bench::new();
    let key = bench.pooled(8);
    bench.enable(key, 1);
    let pd = bench.a.pd;
    let rights = Request::umr(&Umr::rights(key, pd, access::ALL), None);
    assert_eq!(bench.lab.run_badly(&mut bench.a, &rights), KEY_CHANGE);
    let pd = bench.b.pd;
    let rights = Request::umr(&Umr::rights(key, pd, 0), None);
    bench.lab.run_well(&mut bench.b, &rights);
    bench.lab.join_again(&mut bench.a, &mut bench.b);
    assert_eq!(bench.write(key, START, 1), Err(REMOTE_ACCESS));
}
