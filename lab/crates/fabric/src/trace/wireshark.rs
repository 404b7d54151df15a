// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Wireshark dissector, `lab/wireshark/rust-tph.lua`, against the codec.

#[allow(dead_code)] // every test crate uses a part
#[path = "../../../tlp/tests/codec/common.rs"]
mod packets;

use super::{BINARY_FILE, Object, ObjectKind, Options, Snaplen, Tap};
use packets::{encode, mode, nonflit, packet};
use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use rustix::process::geteuid;
use std::{
    collections::BTreeMap,
    fmt::Write,
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};
use tlp::{
    Bdf, CompletionHeader, CompletionStatus, DecodeError, Hint, MemRequest, Mode, Ph, SteeringTag,
    Tlp,
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wireshark/rust-tph.lua");

/// All that is compared.
const FIELDS: [&str; 26] = [
    "frame.interface_name",
    "tlp.flit",
    "tlp.unsupported",
    "tlp.receiver",
    "tlp.bar",
    "tlp.object",
    "tlp.object.number",
    "tlp.mkey",
    "tlp.type",
    "tlp.tc",
    "tlp.attr",
    "tlp.length",
    "tlp.requester",
    "tlp.requester.id",
    "tlp.completer",
    "tlp.tag",
    "tlp.first_be",
    "tlp.last_be",
    "tlp.addr",
    "tlp.status",
    "tlp.byte_count",
    "tlp.lower_addr",
    "tlp.st",
    "tlp.st.ext",
    "tlp.ph",
    "tlp.data",
];
/// What the dissector finds wrong.
const MALFORMED: &str = "tlp.malformed";
const UNMODELLED: &str = "tlp.unmodelled";

/// The fields of a packet; numbers are decimal, and what is not there is missing.
type Fields = BTreeMap<&'static str, String>;

/// tshark with the dissector, a copy of which goes to `dir`. It loads no script for root, who
/// therefore becomes nobody here.
fn tshark(dir: &Path) -> Command {
    const NOBODY: [&str; 3] = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let script = dir.join("rust-tph.lua");
    fs::write(&script, fs::read(SCRIPT).unwrap()).unwrap();
    for (path, mode) in [(dir, 0o755), (&script, 0o644)] {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let mut command = if geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(NOBODY).arg("tshark");
        command
    } else {
        Command::new("tshark")
    };
    command
        .args(["-X", &format!("lua_script:{}", script.display())])
        .env("HOME", "/nonexistent");
    command
}

/// What tshark says of each packet in the trace at `dir`.
fn dissected(dir: &Path, filter: &str) -> Vec<Fields> {
    let names = || FIELDS.into_iter().chain([MALFORMED, UNMODELLED]);
    let mut command = tshark(dir);
    // It may not be one who can read the directory.
    command
        .stdin(File::open(dir.join(BINARY_FILE)).unwrap())
        .args(["-r", "-", "-Y", filter])
        .args(["-T", "fields", "-E", "occurrence=f"]);
    for name in names() {
        command.args(["-e", name]);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !said.contains("Lua"),
        "tshark, which `scripts/toolbox run --with traces` has: {said}"
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let fields = |line: &str| {
        let values = line.split('\t').map(canonical);
        let all = names().zip(values);
        all.filter(|(_, value)| !value.is_empty()).collect()
    };
    text.lines().map(fields).collect()
}

/// A number in decimal, and anything else as it is.
fn canonical(value: &str) -> String {
    match (value, value.strip_prefix("0x")) {
        ("True", _) => "1".into(),
        ("False", _) => "0".into(),
        (_, Some(digits)) => u64::from_str_radix(digits, 16).unwrap().to_string(),
        _ => value.into(),
    }
}

/// A recorded packet.
#[derive(Clone, Debug)]
struct Recorded {
    from: usize,
    to: Option<(usize, Option<u8>)>,
    object: Option<Object>,
    mode: Mode,
    bytes: Vec<u8>,
}

impl Recorded {
    fn tlp(&self) -> Result<Tlp<'_>, DecodeError> {
        Tlp::decode(&self.bytes, self.mode)
    }

    /// What the dissector must say of the header.
    fn header(&self) -> Fields {
        let mut fields = Fields::new();
        let mut add = |name, value: String| fields.insert(name, value);
        add("frame.interface_name", NAMES[self.from].into());
        add("tlp.flit", u8::from(self.mode == Mode::Flit).to_string());
        add("tlp.unsupported", u8::from(self.to.is_none()).to_string());
        if let Some((receiver, bar)) = self.to {
            add("tlp.receiver", receiver.to_string());
            bar.and_then(|bar| add("tlp.bar", bar.to_string()));
        }
        if let Some(Object { kind, number }) = self.object {
            add("tlp.object", kind.code().to_string());
            add("tlp.object.number", number.to_string());
            if kind == ObjectKind::Mkey {
                add("tlp.mkey", number.to_string());
            }
        }
        fields
    }
}

const NAMES: [&str; 4] = ["host", "one", "two", "three"];

fn bdf(id: Bdf) -> String {
    format!("{:02x}:{:02x}.{:x}", id.bus(), id.device(), id.function())
}

fn request(fields: &mut Fields, request: &MemRequest) {
    fields.insert("tlp.tc", request.tc().to_string());
    fields.insert("tlp.attr", request.attr().to_string());
    fields.insert("tlp.length", request.len_dw().to_string());
    fields.insert("tlp.requester", bdf(request.requester()));
    fields.insert("tlp.requester.id", request.requester().0.to_string());
    fields.insert("tlp.tag", request.tag().to_string());
    fields.insert("tlp.first_be", request.first_be().to_string());
    fields.insert("tlp.last_be", request.last_be().to_string());
    fields.insert("tlp.addr", request.addr().to_string());
    if let Some(Hint { ph, tag }) = request.hint() {
        fields.insert("tlp.st", tag.value().to_string());
        fields.insert("tlp.st.ext", u8::from(tag.is_extended()).to_string());
        fields.insert("tlp.ph", ph.code().to_string());
    }
}

fn completion(fields: &mut Fields, header: &CompletionHeader, len: usize) {
    fields.insert("tlp.tc", header.tc().to_string());
    fields.insert("tlp.attr", header.attr().to_string());
    fields.insert("tlp.length", (len / 4).to_string());
    fields.insert("tlp.requester", bdf(header.requester()));
    fields.insert("tlp.requester.id", header.requester().0.to_string());
    fields.insert("tlp.completer", bdf(header.completer()));
    fields.insert("tlp.tag", header.tag().to_string());
    fields.insert("tlp.status", header.status().code().to_string());
    fields.insert("tlp.byte_count", header.byte_count().to_string());
    fields.insert("tlp.lower_addr", header.lower_address().to_string());
}

/// What the codec says of a TLP, in the dissector's words.
fn decoded(tlp: &Tlp<'_>, mode: Mode) -> Fields {
    let mut fields = Fields::new();
    let name = match tlp {
        Tlp::MemRead(read) => {
            request(&mut fields, read);
            if read.is_64bit() { "MRd64" } else { "MRd32" }
        }
        Tlp::MemWrite(write, _) => {
            request(&mut fields, write);
            if mode == Mode::NonFlit && write.hint().is_some() {
                // The tag's place is taken.
                fields.remove("tlp.tag");
            }
            if write.is_64bit() { "MWr64" } else { "MWr32" }
        }
        Tlp::Completion(header, data) => {
            completion(&mut fields, header, data.len());
            if data.is_empty() { "Cpl" } else { "CplD" }
        }
    };
    fields.insert("tlp.type", name.into());
    let mut data = String::new();
    for byte in tlp.payload() {
        write!(data, "{byte:02x}").unwrap();
    }
    if !data.is_empty() {
        fields.insert("tlp.data", data);
    }
    fields
}

/// Records all packets, and compares what tshark says with what the codec does; returns how many of
/// them are TLPs, and how many are none.
fn compare(corpus: &[Recorded]) -> (usize, usize) {
    let dir = tempfile::tempdir().unwrap();
    let mut tap = Tap::create(dir.path()).unwrap();
    for name in &NAMES[1..] {
        tap.add_sender(name).unwrap();
    }
    for packet in corpus {
        tap.tick(packet.object).unwrap();
        tap.record_bytes(packet.from, packet.to, packet.mode, &packet.bytes)
            .unwrap();
    }
    drop(tap);
    let dissected = dissected(dir.path(), "frame");
    assert_eq!(dissected.len(), corpus.len());
    let mut good = 0;
    for (packet, mut said) in corpus.iter().zip(dissected) {
        let wrong = [MALFORMED, UNMODELLED].map(|name| said.remove(name).is_some());
        let mut expected = packet.header();
        match packet.tlp() {
            Ok(tlp) => {
                good += 1;
                expected.extend(decoded(&tlp, packet.mode));
                assert_eq!(said, expected, "{packet:?}");
                assert_eq!(wrong, [false; 2], "{packet:?}");
            }
            Err(error) => {
                said.retain(|name, _| expected.contains_key(name));
                assert_eq!(said, expected, "{packet:?}");
                let [malformed, unmodelled] = wrong;
                let named = match error {
                    DecodeError::Unsupported { .. } | DecodeError::UnknownType { .. } => unmodelled,
                    _ => malformed,
                };
                assert!(named, "{error}, but tshark: {wrong:?}: {packet:?}");
            }
        }
    }
    (good, corpus.len() - good)
}

/// `count` packets that `strategy` draws, the same ones each time.
fn drawn(strategy: &impl Strategy<Value = (Mode, Vec<u8>)>, count: usize) -> Vec<Recorded> {
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let receivers = [Some((0, None)), Some((2, Some(4))), None, Some((3, None))];
    let kinds = (0..=7).map(ObjectKind::from_code);
    let objects: Vec<_> = kinds
        .zip([0, 1, 2, 0x12_3456, 0xff_ffff].into_iter().cycle())
        .map(|(kind, number)| kind.map(|kind| Object { kind, number }))
        .collect();
    (0..count)
        .map(|at| {
            let (mode, bytes) = strategy.new_tree(&mut runner).unwrap().current();
            Recorded {
                from: at % NAMES.len(),
                to: receivers[at % 3 + at % 2],
                object: objects[at % objects.len()],
                mode,
                bytes,
            }
        })
        .collect()
}

fn valid() -> impl Strategy<Value = (Mode, Vec<u8>)> {
    (packet(), mode()).prop_map(|(packet, mode)| {
        let packet = match mode {
            Mode::Flit => packet,
            Mode::NonFlit => nonflit(packet),
        };
        (mode, encode(&packet.tlp(), mode))
    })
}

#[test]
#[ignore = "needs tshark: `make check` runs it"]
fn tshark_decodes_what_the_codec_encodes() {
    let corpus = drawn(&valid(), 1500);
    assert_eq!(compare(&corpus), (1500, 0));
    // What must not be missing in what was drawn.
    for mode in [Mode::Flit, Mode::NonFlit] {
        let tlps = || {
            corpus
                .iter()
                .filter(|one| one.mode == mode)
                .flat_map(Recorded::tlp)
        };
        let names: Vec<_> = tlps()
            .map(|tlp| decoded(&tlp, mode)["tlp.type"].clone())
            .collect();
        for name in ["MRd32", "MRd64", "MWr32", "MWr64", "Cpl", "CplD"] {
            assert!(names.iter().any(|drawn| drawn == name), "{mode} {name}");
        }
        for extended in [false, true] {
            for write in [false, true] {
                let hinted = |tlp: Tlp<'_>| match tlp {
                    Tlp::MemWrite(request, _) if write => request.hint(),
                    Tlp::MemRead(request) if !write => request.hint(),
                    _ => None,
                };
                let is = |hint: Hint| hint.tag.is_extended() == extended;
                assert!(
                    tlps().filter_map(hinted).any(is),
                    "{mode} {extended} {write}"
                );
            }
        }
    }
}

#[test]
#[ignore = "needs tshark: `make check` runs it"]
fn tshark_finds_what_the_codec_refuses() {
    let damaged = (
        valid(),
        vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        prop_oneof![4 => Just(0), 1 => 0..40usize],
        prop_oneof![9 => Just(0), 1 => 1..9usize],
    );
    let damaged = damaged.prop_map(|((mode, mut bytes), damage, cut, extra)| {
        let headers = bytes.len().min(24);
        for (index, value) in damage {
            bytes[index.index(headers)] = value;
        }
        bytes.truncate(bytes.len().saturating_sub(cut / 4 * 4));
        bytes.extend(vec![0; extra / 4 * 4]);
        (mode, bytes)
    });
    let (good, bad) = compare(&drawn(&damaged, 2000));
    assert!(good > 300 && bad > 500, "{good} good, {bad} bad");

    // Bytes that begin with a type that is known, or none.
    let codes = prop::sample::select(vec![0x00u8, 0x03, 0x20, 0x40, 0x60, 0x0a, 0x4a, 0x90, 0x55]);
    let any = (mode(), codes, vec(any::<u8>(), 0..48)).prop_map(|(mode, code, mut bytes)| {
        bytes.truncate(bytes.len() / 4 * 4);
        if let Some(first) = bytes.first_mut() {
            *first = code;
        }
        (mode, bytes)
    });
    let (_, bad) = compare(&drawn(&any, 1000));
    assert!(bad > 500, "{bad} bad");
}

/// One packet of each layout that the codec knows.
fn layouts() -> Vec<(Mode, Vec<u8>)> {
    let id = Bdf::new(4, 0, 0);
    let hints = [SteeringTag::St(0xf0), SteeringTag::Ext(0xbef0)];
    let hints = hints.map(|tag| Hint {
        ph: Ph::Target,
        tag,
    });
    let mut layouts = vec![];
    for mode in [Mode::Flit, Mode::NonFlit] {
        let mut add = |tlp: &Tlp<'_>| layouts.push((mode, encode(tlp, mode)));
        for addr in [0x1000, 0x20e0_0600_1000] {
            let whole = MemRequest::new(id, addr, 3).unwrap();
            let part = whole.with_byte_enables(0xe, 0x7).unwrap();
            let hinted = hints.map(|hint| whole.with_hint(hint));
            for request in [whole, part].into_iter().chain(hinted) {
                add(&Tlp::MemRead(request));
                add(&Tlp::MemWrite(request, &[0x5a; 12]));
            }
        }
        let read = MemRequest::for_bytes(id, 0x1001, 6).unwrap();
        for (status, data) in [
            (CompletionStatus::Success, &[0x5a; 8][..]),
            (CompletionStatus::UnsupportedRequest, &[]),
        ] {
            let header = CompletionHeader::answering(&read, Bdf(0), status);
            add(&Tlp::Completion(header, data));
        }
    }
    layouts
}

#[test]
#[ignore = "needs tshark: `make check` runs it"]
fn tshark_and_the_codec_judge_every_bit_alike() {
    let flipped = |(mode, bytes): (Mode, Vec<u8>)| {
        let headers = bytes.len().min(24);
        (0..headers * 8).map(move |bit| {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            Recorded {
                from: 1,
                to: Some((2, Some(2))),
                object: None,
                mode,
                bytes,
            }
        })
    };
    let corpus: Vec<_> = layouts().into_iter().flat_map(flipped).collect();
    let (good, bad) = compare(&corpus);
    assert!(good > 1000 && bad > 1000, "{good} good, {bad} bad");
}

#[test]
#[ignore = "needs tshark: `make check` runs it"]
fn a_filter_finds_a_tag_in_both_modes() {
    let request = |ph, tag| {
        MemRequest::new(Bdf::new(4, 0, 0), 0x20e0_0600_0800, 1)
            .unwrap()
            .with_hint(Hint { ph, tag })
    };
    let hints = [
        request(Ph::Target, SteeringTag::St(0xf0)),
        request(Ph::Requester, SteeringTag::St(0xf1)),
        request(Ph::Target, SteeringTag::Ext(0xbef0)),
    ];
    let dir = tempfile::tempdir().unwrap();
    let mut tap = Tap::create(dir.path()).unwrap();
    for mode in [Mode::Flit, Mode::NonFlit] {
        for hint in hints {
            let bytes = encode(&Tlp::MemWrite(hint, &[0; 4]), mode);
            tap.record_bytes(0, None, mode, &bytes).unwrap();
        }
        let answer = CompletionHeader::answering(&hints[0], Bdf(0), CompletionStatus::Success);
        let bytes = encode(&Tlp::Completion(answer, &[0xf0; 4]), mode);
        tap.record_bytes(0, Some((0, None)), mode, &bytes).unwrap();
    }
    drop(tap);
    for (filter, packets) in [
        ("tlp.st == 0xf0", 2),
        ("tlp.st == 0xbef0 && tlp.st.ext == 1", 2),
        ("tlp.ph == 2 && tlp.requester == \"04:00.0\"", 4),
        ("tlp.addr == 0x20e006000800 && tlp.flit == 1", 3),
        ("tlp.type == \"CplD\"", 2),
        ("tlp.nobody", 6),
        ("tlp.malformed || tlp.unmodelled", 0),
    ] {
        assert_eq!(dissected(dir.path(), filter).len(), packets, "{filter}");
    }
}

#[test]
#[ignore = "needs tshark: `make check` runs it"]
fn payload_that_was_not_captured_is_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        snaplen: Some(Snaplen::HEADERS),
        ..Options::default()
    };
    let mut tap = Tap::with(dir.path(), options).unwrap();
    let request = MemRequest::new(Bdf::new(4, 0, 0), 0x20e0_0600_0800, 16).unwrap();
    let answer = CompletionHeader::answering(&request, Bdf(0), CompletionStatus::Success);
    for mode in [Mode::Flit, Mode::NonFlit] {
        for tlp in [
            Tlp::MemWrite(request, &[7; 64]),
            Tlp::MemRead(request),
            Tlp::Completion(answer, &[7; 64]),
        ] {
            tap.record(0, None, mode, &tlp).unwrap();
        }
    }
    drop(tap);
    for (filter, packets) in [
        ("tlp.malformed || tlp.unmodelled", 0),
        ("tlp.uncaptured", 4),
        // Of headers of 16 and 12 bytes, 24 are captured.
        ("tlp.missing == 56 && tlp.type == \"MWr64\"", 2),
        ("tlp.missing == 52 && tlp.type == \"CplD\"", 2),
    ] {
        assert_eq!(dissected(dir.path(), filter).len(), packets, "{filter}");
    }
}

#[test]
#[ignore = "needs tshark: `make check` runs it"]
fn another_version_of_the_header_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut tap = Tap::create(dir.path()).unwrap();
    tap.record_bytes(0, None, Mode::Flit, &[0x55; 12]).unwrap();
    drop(tap);
    let path = dir.path().join(BINARY_FILE);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 4 - 12 - super::HEADER_LEN;
    bytes[at] = 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(dissected(dir.path(), "tlp.trace.unknown").len(), 1);
    assert!(dissected(dir.path(), "tlp.type").is_empty());
}
