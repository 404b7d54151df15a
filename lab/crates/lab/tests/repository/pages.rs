// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the pages in Markdown name is there: what they link to, and commands.

use super::{files, root};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A page in Markdown.
struct Page {
    /// Its path in the repository.
    path: PathBuf,
    text: String,
}

fn pages(root: &Path) -> Vec<Page> {
    let files = files(root).into_iter().map(PathBuf::from);
    let pages: Vec<_> = files
        .filter(|path| path.extension() == Some(OsStr::new("md")))
        .map(|path| Page {
            text: fs::read_to_string(root.join(&path)).unwrap(),
            path,
        })
        .collect();
    assert!(!pages.is_empty());
    pages
}

/// Where the links of a page lead.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.lines().filter(|line| !line.starts_with("    "));
    prose.flat_map(|line| {
        let ends = line.split("](").skip(1);
        ends.filter_map(|end| Some(end.split_once(')')?.0))
    })
}

/// What a link calls a heading.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The anchors of a page.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter_map(|line| {
        let heading = line.strip_prefix('#')?.trim_start_matches('#');
        Some(anchor(heading.strip_prefix(' ')?))
    })
}

/// Whether a link to `target` from a page in the folder `from` leads to something.
fn leads_somewhere(from: &Path, text: &str, target: &str) -> bool {
    let (path, heading) = target.split_once('#').unwrap_or((target, ""));
    if path.is_empty() {
        return anchors(text).any(|anchor| anchor == heading);
    }
    let path = from.join(path);
    if heading.is_empty() {
        return path.exists();
    }
    fs::read_to_string(path).is_ok_and(|text| anchors(&text).any(|anchor| anchor == heading))
}

#[test]
fn links_of_pages_lead_somewhere() {
    let root = root();
    let mut dead = Vec::new();
    let mut checked = 0;
    for Page { path, text } in pages(&root) {
        let from = root.join(&path);
        for target in links(&text).filter(|target| !target.contains("://")) {
            checked += 1;
            if !leads_somewhere(from.parent().unwrap(), &text, target) {
                dead.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
    assert!(checked > 0, "no page has a link");
}

#[test]
fn a_link_to_nothing_is_dead() {
    let dir = TempDir::new().unwrap();
    fs::write(
        dir.path().join("a.md"),
        "# One\n\n## What `it` does, and why\n",
    )
    .unwrap();
    let leads = |target| leads_somewhere(dir.path(), "# Here\n", target);
    assert!(leads("a.md"));
    assert!(leads("a.md#what-it-does-and-why"));
    assert!(leads("#here"));
    assert!(!leads("b.md"));
    assert!(!leads("a.md#two"));
    assert!(!leads("#one"));
    let found: Vec<_> = links("[a](b) and\n[c](d#e), (f)\n    [g](h)\n").collect();
    assert_eq!(found, ["b", "d#e"]);
}

/// The commands of a line of a page: all of one that is indented, else what is in backticks.
fn commands(line: &str) -> Vec<&str> {
    match line.strip_prefix("    ") {
        Some(commands) => commands.split("&& ").collect(),
        None => line.split('`').skip(1).step_by(2).collect(),
    }
}

/// The targets of the `make` commands of a page.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(commands).filter_map(|command| {
        let target = command.strip_prefix("make ")?.split(' ').next()?;
        let is_target = target.starts_with(|c: char| c.is_ascii_lowercase());
        is_target.then_some(target)
    })
}

#[test]
fn commands_of_pages_are_there() {
    let root = root();
    let makefile = fs::read_to_string(root.join("Makefile")).unwrap();
    let there: Vec<_> = makefile
        .lines()
        .filter(|line| line.contains("## "))
        .filter_map(|line| Some(line.split_once(':')?.0))
        .collect();
    let mut missing = Vec::new();
    for Page { path, text } in pages(&root) {
        let unknown = targets(&text).filter(|target| !there.contains(target));
        missing.extend(unknown.map(|target| format!("{}: make {target}", path.display())));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn commands_are_found_in_code_only() {
    let prose = "make sense of `make a`, `b`, `make c ARGS=x`\n";
    assert_eq!(targets(prose).collect::<Vec<_>>(), ["a", "c"]);
    let indented = "    make a V=1\n    cd b && make c\n    make -j2\n";
    assert_eq!(targets(indented).collect::<Vec<_>>(), ["a", "c"]);
}
