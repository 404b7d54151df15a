// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page of a trace: what it says, and that a browser shows it.

use fabric::trace::{BINARY_FILE, Object, ObjectKind, Tap};
use fabric::{Completer, Fabric, Port, RequesterEnable, Tph, Want};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::{fs, iter};
use tempfile::TempDir;
use tlp::{Bdf, Hint, MemRequest, Mode, Ph, SteeringTag};
use trace::filter::Filter;
use trace::write_page;

const BAR: u64 = 0xfe_0000_0000;
const ST: SteeringTag = SteeringTag::St(0xf0);

struct Memory;

impl Completer for Memory {
    fn write(&self, _: usize, _: u64, _: &MemRequest, _: &[u8]) {}
    fn read(&self, _: usize, _: u64, _: &MemRequest, data: &mut [u8]) {
        data.fill(0);
    }
}

/// A trace of what `send` sends to an accelerator, and its page.
fn page(mode: Mode, filter: &Filter, send: impl FnOnce(&Port)) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let paths = [
        ("initiator", "pcie.0/root-port/switch/arm0/03:00.0"),
        ("accelerator", "pcie.0/root-port/switch/arm1/04:00.0"),
        ("<b>&\"", "pcie.0/00:12.0"),
    ];
    let paths = paths.map(|(name, path)| (name.to_owned(), path.to_owned()));
    let tap = Tap::create(dir.path()).unwrap().placed(paths);
    let fabric = Fabric::new(mode, tap);
    let initiator = fabric.attach("initiator", Bdf(0x300), None).unwrap();
    let accelerator = fabric.attach("accelerator", Bdf(0x400), Some(Arc::new(Memory)));
    let accelerator = accelerator.unwrap();
    let odd = fabric.attach("<b>&\"", Bdf(0x90), None).unwrap();
    initiator.set_command(true, true);
    let hints = Tph::own_tags(RequesterEnable::TphAndExtended);
    initiator.set_tph(Some(hints));
    accelerator.set_command(false, true);
    accelerator.set_bar(2, BAR, 1 << 20);
    send(&initiator);
    drop((initiator, accelerator, odd, fabric));
    let out = dir.path().join("trace.html");
    write_page(&dir.path().join(BINARY_FILE), &out, "a <title>", filter).unwrap();
    let page = fs::read_to_string(&out).unwrap();
    (dir, page)
}

fn demo(initiator: &Port) {
    let hint = |ph, tag| Some(Want::exactly(Hint { ph, tag }));
    let requester = initiator.requester(Bdf(0x300));
    let key = Object {
        kind: ObjectKind::Mkey,
        number: 0x104,
    };
    let hinted = hint(Ph::Target, ST);
    requester
        .write_all(BAR + 0x800, &[1; 32], hinted, Some(key))
        .unwrap();
    requester.write(BAR + 0x1800, &[1; 32], None).unwrap();
    requester.read(BAR + 0x8000, &mut [0; 8]).unwrap();
    let extended = hint(Ph::Requester, SteeringTag::Ext(0x0bef));
    requester.write(BAR + 0x2800, &[1; 32], extended).unwrap();
    requester.write(0x5000, &[1; 4], None).unwrap();
}

#[test]
fn the_page_says_what_is_in_the_trace() {
    for mode in [Mode::Flit, Mode::NonFlit] {
        let (_dir, page) = page(mode, &Filter::default(), demo);
        for text in [
            "<title>a &lt;title&gt;</title>",
            "6 TLPs, 116 bytes, in ",
            "1 requests were taken by nobody",
            // The hints, with all that is known of them.
            "<b>F0h</b></td><td>8 bits</td><td>2 target</td><td>initiator</td><td>mkey 0x104</td>\
             <td>accelerator BAR2</td><td>MWr</td><td class=n>1</td><td class=n>32</td><td><a href=\"#t1\">1</a>",
            "<b>0BEFh</b></td><td>16 bits</td><td>1 requester</td>",
            "<code>0xfe00001000-0xfe00001fff</code>",
            // The tree, and what is no markup.
            ">switch</text>",
            ">arm1</text>",
            ">&lt;b&gt;&amp;&quot;</text>",
            "initiator → accelerator: 1 TLPs, ST=F0h PH=2",
            // The first TLP.
            "<code>0xfe00000800</code></td><td class=n>32</td>",
            "All of them, as an analyzer prints them.",
        ] {
            assert!(page.contains(text), "{mode}: {text}: {page}");
        }
        let wire = match mode {
            Mode::Flit => "OHC-B ST=F0h PH=2 HV=1 AMA=0 AV-",
            Mode::NonFlit => "RID=3h:0h.0h ST=F0h LBE=Fh FBE=Fh",
        };
        assert!(page.contains(wire), "{page}");
    }
}

#[test]
fn the_page_needs_nothing_else() {
    let (_dir, page) = page(Mode::Flit, &Filter::default(), demo);
    for outside in ["http:", "https:", "//", "src=", "@import", "url("] {
        // A comment of the script is no address.
        let found = page
            .lines()
            .find(|line| line.contains(outside) && !line.trim_start().starts_with("//"));
        assert_eq!(found, None, "{outside}");
    }
}

#[test]
fn every_element_that_is_opened_is_closed() {
    let (_dir, page) = page(Mode::Flit, &Filter::default(), demo);
    let body = page.split("</style>").nth(1).unwrap();
    let body = body.split("<script>").next().unwrap();
    for name in [
        "table", "thead", "tbody", "tr", "td", "th", "div", "svg", "text", "rect", "path", "title",
        "ul", "li", "details", "summary", "pre", "p", "h2", "code", "b", "a", "span", "header",
    ] {
        let opened = [" ", ">"].map(|end| body.matches(&format!("<{name}{end}")).count());
        let closed = body.matches(&format!("</{name}>")).count();
        assert_eq!(opened.iter().sum::<usize>(), closed, "{name}");
    }
}

#[test]
fn a_page_of_a_part_says_so() {
    let filter = Filter {
        mkey: Some(0x104),
        ..Filter::default()
    };
    let (_dir, page) = page(Mode::Flit, &filter, demo);
    assert!(page.contains("1 TLPs, 32 bytes"), "{page}");
    assert!(page.contains("This is a part of the trace"), "{page}");
    assert!(!page.contains("BEFh"), "{page}");
}

#[test]
fn a_long_trace_has_a_short_page_that_says_what_is_left_out() {
    const MANY: u64 = 20_000;
    let send = |initiator: &Port| {
        let requester = initiator.requester(Bdf(0x300));
        let hints = (0..).map(|at: u64| {
            let [low, ..] = at.to_le_bytes();
            let ph = Ph::Target;
            let tag = SteeringTag::St(low);
            (at % 10 == 9).then_some(Want::exactly(Hint { ph, tag }))
        });
        for (at, hint) in iter::zip(0..MANY, hints) {
            requester
                .write(BAR + at * 8 % (1 << 20), &[1; 8], hint)
                .unwrap();
        }
    };
    let (_dir, page) = page(Mode::Flit, &Filter::default(), send);
    assert!(page.len() < 2 << 20, "{} bytes", page.len());
    // One line for each colour.
    assert_eq!(page.matches("class=\"route-name\"").count(), 8);
    for text in [
        "600 of 20000: the first ones,",
        "19400 are left out; `lab trace list` prints them.",
        "a column stands for 84 TLPs",
        "other tags",
    ] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn an_empty_trace_has_a_page() {
    let (_dir, page) = page(Mode::Flit, &Filter::default(), |_| {});
    assert!(
        page.contains("no TLPs") && page.contains("No TLP carries one."),
        "{page}"
    );
}

/// What a browser makes of the page at `path`: its elements, and what its script complains of.
fn shown(path: &Path) -> (String, Vec<String>) {
    let output = Command::new("chromium-headless-shell")
        .args([
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--dump-dom",
        ])
        .arg(format!(
            "--user-data-dir={}",
            path.with_extension("profile").display()
        ))
        .arg(format!("file://{}", path.display()))
        .output()
        .unwrap_or_else(|error| {
            panic!("cannot start Chromium: {error}; `scripts/toolbox run --with traces` has it")
        });
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let complaints = log.lines().filter(|line| line.contains("CONSOLE"));
    (
        String::from_utf8(output.stdout).unwrap(),
        complaints.map(ToOwned::to_owned).collect(),
    )
}

#[test]
#[ignore = "needs Chromium: `make check` runs it"]
fn a_browser_shows_the_page_without_complaint() {
    let (dir, _) = page(Mode::Flit, &Filter::default(), demo);
    let path = dir.path().join("trace.html");
    let (elements, complaints) = shown(&path);
    assert_eq!(complaints, Vec::<String>::new());
    // The script ran to its end, and the table is a table.
    assert!(elements.contains("data-script=\"ran\""), "{elements}");
    assert!(
        elements.contains("<b>F0h</b></td><td>8 bits</td>"),
        "{elements}"
    );
    assert_eq!(elements.matches("<tr id=\"t").count(), 6, "{elements}");

    // A complaint would have been seen.
    let page = fs::read_to_string(&path).unwrap();
    let broken = page.replace("\"use strict\";", "\"use strict\"; none.such();");
    assert_ne!(page, broken);
    fs::write(&path, broken).unwrap();
    let (elements, complaints) = shown(&path);
    assert!(
        complaints
            .iter()
            .any(|line| line.contains("none is not defined")),
        "{complaints:?}"
    );
    assert!(!elements.contains("data-script=\"ran\""));
    // What the page says does not need the script.
    assert!(elements.contains("<b>F0h</b></td><td>8 bits</td>"));
}
