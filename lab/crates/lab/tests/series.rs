// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab series` on a small kernel and a small series, with a `make` that only looks as if it built.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// fs/old.c of the pristine kernel has a warning. A kernel builds unless a file of it says BROKEN.
/// What was built is in $T/made, what sparse was asked for in $T/checked.
const MAKE: &str = r#"#!/bin/bash
tree=$2
says() { cat "$T/$1-says" 2>/dev/null; true; }
pristine() {
	[[ $* != *CFLAGS_${unclean:=$(says unclean)}.o=-Wno-error* ]] || return 0
	echo "make[5]: *** [$tree/scripts/Makefile.build:295: drivers/base/$unclean.o] Error 1"
	return 2
}
for argument; do
	case $argument in
	O=*) build=${argument#O=} ;;
	KCONFIG_ALLCONFIG=*) fragment=${argument#*=} ;;
	esac
done
case $* in
*allnoconfig*) cp "$fragment" "$build/.config" ;;
*modules*)
	grep -q TWO "$tree/drivers/base/core.c" || { pristine "$@"; exit; }
	echo "${build##*-}" >>"$T/made"
	pristine "$@" || exit
	! grep -rq BROKEN "$tree/drivers" || { echo 'new.c:1:1: error: BROKEN'; exit 2; }
	;;
*rustdoc*)
	echo 'warning: an old one'
	[[ ! -e $tree/rust/kernel/new.rs ]] || sed 's,^// ,,' "$tree/rust/kernel/new.rs"
	;;
*C=2*)
	echo "$*" >>"$T/checked"
	says sparse
	! grep -q TWO "$tree/drivers/base/core.c" || says sparse-of-ours
	;;
esac
"#;

const CHECKPATCH: &str = "print `cat $ENV{T}/checkpatch-says 2>/dev/null`;\n";

const KERNEL_DOC: &str =
    "#!/bin/sh\necho \"$3:1: warning: $(cat \"$T/kernel-doc-says\" 2>/dev/null)\" | sed '/: $/d'\n";

const FIX: &str = "Subject: base: Shout\n\nIt was too silent.\n---\n--- a/drivers/base/core.c\n\
    +++ b/drivers/base/core.c\n@@ -1,3 +1,3 @@\n one\n-two\n+TWO\n three\n";

/// A kernel, and a repository with a fix, a patch with a file of the slice, and one with a test.
struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        let makefile = "VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 0\nEXTRAVERSION = -rc7\n";
        world.write("base/Makefile", makefile);
        world.write("base/drivers/base/core.c", "one\ntwo\nthree\n");
        world.write("base/scripts/checkpatch.pl", CHECKPATCH);
        world.program("base/scripts/kernel-doc", KERNEL_DOC);
        world.program("bin/make", MAKE);
        world.write("unclean-says", "old");
        world.write("repo/scripts/kernel.config", "CONFIG_PCI=y\n");
        world.write("repo/patches/0001-two.patch", FIX);
        world.claim("0005-new.patch", "new: Add a driver", "drivers/new/");
        world.claim("0007-test.patch", "new: Add a test", "tools/");
        world.write("repo/drivers/new/new.c", "int new;\n");
        world.program("repo/tools/testing/test", "test\n");
        let letter = "new: A series\n\nIt is made for @base@.\n\n@sizes@\n\nTests: @tests@\n";
        world.write("repo/patches/cover-letter", letter);
        world.write("repo/patches/checkpatch-justified", "# nothing\n");
        // What the lab makes of the kernel.
        world.write("staged/drivers/base/core.c", "one\nTWO\nthree\n");
        world.write("staged/drivers/new/new.c", "int new;\n");
        world
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn program(&self, path: &str, text: &str) {
        self.write(path, text);
        fs::set_permissions(self.at(path), Permissions::from_mode(0o755)).unwrap();
    }

    /// A patch without hunks.
    fn claim(&self, name: &str, subject: &str, claim: &str) {
        let text = format!("Subject: {subject}\nAdds: {claim}\n\nTo see it.\n---\n");
        self.write(&format!("repo/patches/{name}"), &text);
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_default()
    }

    fn lab(&self, command: &str, options: &[&str]) -> Output {
        let path = std::env::var("PATH").unwrap();
        Command::new(env!("CARGO_BIN_EXE_lab"))
            .current_dir(self.0.path())
            .env("PATH", format!("{}:{path}", self.at("bin").display()))
            .env("T", self.0.path())
            // Whoever's configuration is around.
            .env("GIT_CONFIG_GLOBAL", self.at("gitconfig"))
            .args(["series", command, "--repo", "repo", "--base", "base"])
            .args(options)
            .output()
            .unwrap()
    }

    fn write_series(&self, options: &[&str]) -> Output {
        let fixed = [
            "--base-name",
            "a test",
            "--name",
            "Ada Example",
            "--email",
            "ada@example.org",
            "--date",
            "1700000000",
            "--out",
            "out/series",
        ];
        self.lab("write", &[&fixed, options].concat())
    }

    /// Writes the series, which must succeed.
    fn written(&self, options: &[&str]) -> String {
        succeeded(&self.write_series(options))
    }

    /// Why the series cannot be written.
    fn refused(&self, options: &[&str]) -> String {
        let output = self.write_series(options);
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// The mail of this number.
    fn mail(&self, number: &str) -> String {
        let mails = names(&self.at("out/series"));
        let name = mails.iter().find(|name| name.contains(number)).unwrap();
        self.read(&format!("out/series/{name}"))
    }

    fn check(&self, options: &[&str]) -> Output {
        let fixed = [
            "--base-key",
            "test",
            "--staged",
            "staged",
            "--state",
            "state",
            "--toolbox",
            "test",
            "--out",
            "out/series-check",
        ];
        self.lab("check", &[&fixed, options].concat())
    }

    /// Checks the series, and all is well.
    fn passes(&self, options: &[&str]) -> String {
        succeeded(&self.check(options))
    }

    /// Checks the series, and something is wrong.
    fn fails(&self, options: &[&str]) -> String {
        let output = self.check(options);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        text
    }

    /// How often each set of options was built, and forgets it.
    fn made(&self) -> String {
        let made = self.read("made");
        let _ = fs::remove_file(self.at("made"));
        let count = |set: &str| made.lines().filter(|&line| line == set).count();
        format!("{} y {} m {} n", count("y"), count("m"), count("n"))
    }
}

fn succeeded(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> = entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Whether `text` has this line.
#[track_caller]
fn has(text: &str, line: &str) {
    assert!(
        text.lines().any(|one| one == line),
        "no line '{line}' in:\n{text}"
    );
}

/// The number of a result is not what a test is about.
fn unnumbered(text: &str) -> String {
    let line = |line: &str| match line.split_once(" - ") {
        Some((head, name)) => format!(
            "{} - {name}\n",
            head.trim_end_matches(|c: char| c.is_ascii_digit())
                .trim_end()
        ),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[test]
fn the_series_holds_hunks_files_and_a_letter() {
    let world = World::new();
    let said = world.written(&[]);
    assert_eq!(
        said,
        "out/series: 3 patches and a cover letter, against v7.3-rc7 (a test)\n"
    );
    assert_eq!(
        names(&world.at("out/series")),
        [
            "0000-cover-letter.patch",
            "0001-base-Shout.patch",
            "0002-new-Add-a-driver.patch",
            "0003-new-Add-a-test.patch"
        ]
    );
    let letter = world.mail("0000-");
    has(&letter, "Subject: [PATCH 0/3] new: A series");
    has(&letter, "It is made for v7.3-rc7 (a test).");
    has(
        &letter,
        "Tests: not measured: make check has not ended here.",
    );
    has(&letter, " 3 files changed, 3 insertions(+), 1 deletion(-)");
    let fix = world.mail("0001-");
    has(&fix, "From: Ada Example <ada@example.org>");
    has(&fix, "It was too silent.");
    has(&fix, "+TWO");
    has(&world.mail("0002-"), "+int new;");
    has(&world.mail("0003-"), "new file mode 100755");
    let all: String = ["0000-", "0001-", "0002-", "0003-"]
        .map(|n| world.mail(n))
        .concat();
    for word in ["\nAdds:", "\nSigned-off-by:", "\nbase-commit:"] {
        assert!(!all.contains(word), "{word}");
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let world = World::new();
    world.written(&[]);
    let first = ["0000-", "0001-", "0002-", "0003-"].map(|number| world.mail(number));
    world.write(
        "gitconfig",
        "[user]\n\tname = Somebody\n[core]\n\tabbrev = 7\n[diff]\n\tnoprefix = true\n",
    );
    world.write("repo/drivers/new/new.c", "int new;\n");
    world.written(&[]);
    assert_eq!(
        ["0000-", "0001-", "0002-", "0003-"].map(|number| world.mail(number)),
        first
    );
    assert_eq!(names(&world.at("out")), ["series"]);
}

#[test]
fn a_series_that_cannot_be_written_leaves_the_former_one() {
    let world = World::new();
    world.written(&[]);
    world.write("repo/drivers/other.c", "int other;\n");
    let why = world.refused(&[]);
    assert!(
        why.contains("drivers/other.c is claimed by no patch"),
        "{why}"
    );
    assert_eq!(names(&world.at("out/series")).len(), 4);
    assert_eq!(names(&world.at("out")), ["series"]);
}

#[test]
fn a_patch_that_is_none_is_named() {
    let world = World::new();
    world.write(
        "repo/patches/0009-none.patch",
        "Subject: nothing: At all\n\nWhy not.\n---\n",
    );
    let why = world.refused(&[]);
    assert!(
        why.contains("patches/0009-none.patch changes nothing; give it hunks"),
        "{why}"
    );
    world.write("repo/patches/0009-none.patch", "\nSubject: nothing\n---\n");
    let why = world.refused(&[]);
    assert!(
        why.contains("patches/0009-none.patch does not begin with its 'Subject: '"),
        "{why}"
    );
}

#[test]
fn a_patch_for_another_kernel_is_named() {
    let world = World::new();
    world.write("base/drivers/base/core.c", "one\ndeux\nthree\n");
    let why = world.refused(&[]);
    assert!(
        why.contains("patches/0001-two.patch does not apply to v7.3-rc7 (patch failed: "),
        "{why}"
    );
}

#[test]
fn a_file_of_the_slice_that_the_kernel_has_is_named() {
    let world = World::new();
    world.write("base/drivers/new/new.c", "int old;\n");
    let why = world.refused(&[]);
    assert!(
        why.contains("drivers/new/new.c is in the kernel already"),
        "{why}"
    );
}

#[test]
fn what_git_ignores_is_not_of_the_slice() {
    let world = World::new();
    world.write("repo/.gitignore", "*.o\n");
    world.write("repo/drivers/built.o", "");
    world.written(&[]);
}

#[test]
fn only_who_asks_for_it_signs_off() {
    let world = World::new();
    world.written(&["--signoff"]);
    for number in ["0001-", "0002-", "0003-"] {
        has(
            &world.mail(number),
            "Signed-off-by: Ada Example <ada@example.org>",
        );
    }
}

#[test]
fn a_base_of_git_is_named_by_its_commit() {
    let world = World::new();
    let said = world.written(&["--base-commit", "0123abcd"]);
    assert!(
        said.contains("against v7.3-rc7 (commit 0123abcd)"),
        "{said}"
    );
    assert!(world.mail("0000-").ends_with("\nbase-commit: 0123abcd\n"));
}

#[test]
fn a_second_version_says_how_it_differs() {
    let world = World::new();
    world.written(&[]);
    fs::rename(world.at("out/series"), world.at("v1")).unwrap();
    world.write(
        "repo/patches/0001-two.patch",
        &FIX.replace("too silent", "far too silent"),
    );
    world.written(&["--version", "2", "--previous", "v1"]);
    let letter = world.mail("0000-");
    has(&letter, "Subject: [PATCH v2 0/3] new: A series");
    assert!(letter.contains("\nRange-diff"), "{letter}");
    let differs = |line: &str, word: &str| line.starts_with("1: ") && line.contains(word);
    assert!(
        letter.lines().any(|line| differs(line, " ! 1: ")),
        "{letter}"
    );
    let same = |line: &str| line.starts_with("2: ") && line.contains(" = 2: ");
    assert!(letter.lines().any(same), "{letter}");
    // What is to be replaced may be what is compared with.
    world.written(&["--version", "2", "--previous", "out/series"]);
}

#[test]
fn a_former_version_that_is_none_is_refused() {
    let world = World::new();
    world.written(&[]);
    let why = world.refused(&["--previous", "out/series"]);
    assert!(why.contains("give V=2 or more"), "{why}");
    let why = world.refused(&["--version", "2", "--previous", "repo"]);
    assert!(why.contains("PREV= holds no 0001-*.patch"), "{why}");
    let mail = "out/series/0001-base-Shout.patch";
    world.write(mail, &world.read(mail).replace("-two", "-deux"));
    let why = world.refused(&["--version", "2", "--previous", "out/series"]);
    assert!(
        why.contains("does not apply to v7.3-rc7 (Patch failed at 0001"),
        "{why}"
    );
}

#[test]
fn the_quick_check_finds_nothing_in_a_good_series() {
    let world = World::new();
    let text = world.passes(&["--quick"]);
    has(&text, "ok 1 - git am makes the tree that the lab builds");
    has(&text, "ok 2 - 01 base: Shout: checkpatch --strict");
    assert!(
        text.ends_with("1..5\n5 passed, 0 failed, 0 skipped\n"),
        "{text}"
    );
    assert_eq!(world.made(), "0 y 0 m 0 n");
}

#[test]
fn what_checkpatch_says_is_justified_or_a_failure() {
    let world = World::new();
    let says = "WARNING:LONG_LINE: line is long\n#12: FILE: drivers/new/new.c:1:\n+int new;\n";
    world.write("checkpatch-says", says);
    let text = world.fails(&["--quick"]);
    has(
        &text,
        "# WARNING:LONG_LINE: line is long in drivers/new/new.c",
    );
    assert!(text.ends_with("2 passed, 3 failed, 0 skipped\n"), "{text}");
    let entry = "LONG_LINE drivers/new/ It has to be.\n";
    world.write("repo/patches/checkpatch-justified", entry);
    world.passes(&["--quick"]);
    let stale = format!("{entry}GONE * It was once.\n");
    world.write("repo/patches/checkpatch-justified", &stale);
    let text = world.fails(&["--quick"]);
    has(
        &text,
        "# excuses nothing any more, remove it: GONE * It was once.",
    );
    // One patch by itself needs not all of them.
    world.passes(&["--quick", "--patch", "1"]);
}

#[test]
fn a_tree_that_is_not_the_labs_is_found() {
    let world = World::new();
    world.write("staged/drivers/new/new.c", "int other;\n");
    let text = world.fails(&["--quick"]);
    has(
        &text,
        "not ok 1 - git am makes the tree that the lab builds",
    );
}

#[test]
fn each_patch_is_built_with_each_set_of_options() {
    let world = World::new();
    let text = unnumbered(&world.passes(&[]));
    has(&text, "ok - the pristine kernel: builds with y");
    for set in ["y", "m", "n"] {
        has(&text, &format!("ok - 01 base: Shout: builds with {set}"));
    }
    has(&text, "ok - 01 base: Shout: sparse");
    has(
        &text,
        "ok - git am on a fresh unpacked base makes the tree that the lab builds",
    );
    assert_eq!(world.made(), "3 y 3 m 3 n");
    // The pristine kernel's warning is no one else's.
    assert_eq!(
        world.read("state/build-test-m/unclean"),
        "drivers/base/old.o\n"
    );
    let left = names(&world.at("state"));
    let kept = [
        "build-test-m",
        "build-test-n",
        "build-test-y",
        "list",
        "manifest",
        "passed",
        "tree",
    ];
    assert_eq!(left, kept);
}

#[test]
fn what_passed_is_not_done_again() {
    let world = World::new();
    world.write("repo/drivers/new/new.c", "int BROKEN;\n");
    world.write("staged/drivers/new/new.c", "int BROKEN;\n");
    let text = world.fails(&[]);
    let (_, behind) = text
        .split_once("02 new: Add a driver: builds with y\n")
        .unwrap();
    assert!(
        behind.starts_with("# new.c:1:1: error: BROKEN\n# the log is "),
        "{text}"
    );
    has(&unnumbered(&text), "ok - 01 base: Shout: builds with y");
    world.made();
    // What failed must not pass by being forgotten.
    world.fails(&[]);
    assert_eq!(world.made(), "2 y 2 m 2 n");
    world.write("repo/drivers/new/new.c", "int right;\n");
    world.write("staged/drivers/new/new.c", "int right;\n");
    world.passes(&[]);
    assert_eq!(world.made(), "2 y 2 m 2 n");
    world.passes(&[]);
    assert_eq!(world.made(), "0 y 0 m 0 n");
}

#[test]
fn a_warning_that_would_hide_behind_one_of_the_pristine_kernel_is_a_failure() {
    let world = World::new();
    world.write("unclean-says", "core");
    let text = world.fails(&["--patch", "1"]);
    assert!(
        text.contains("# the pristine kernel has warnings in drivers/base/core.o,"),
        "{text}"
    );
}

#[test]
fn a_symbol_that_nobody_would_build_is_a_failure() {
    let world = World::new();
    let kconfig =
        format!("{FIX}--- /dev/null\n+++ b/drivers/base/Kconfig\n@@ -0,0 +1 @@\n+config OURS\n");
    world.write("repo/patches/0001-two.patch", &kconfig);
    let text = world.fails(&["--patch", "1"]);
    assert!(text.contains("does not have: CONFIG_OURS"), "{text}");
}

#[test]
fn one_patch_is_checked_by_its_place() {
    let world = World::new();
    let text = world.passes(&["--patch", "2"]);
    has(
        &unnumbered(&text),
        "ok - 02 new: Add a driver: builds with y",
    );
    for other in ["01 base", "03 new", "git am"] {
        assert!(!text.contains(other), "{text}");
    }
    let output = world.check(&["--patch", "4"]);
    assert_eq!(output.status.code(), Some(2));
    let why = String::from_utf8(output.stderr).unwrap();
    assert_eq!(why, "lab: P=4 is not a patch; the series has 3\n");
}

#[test]
fn what_sparse_says_only_of_a_patch_fails() {
    let world = World::new();
    let warning = "core.c:1:1: warning: different address spaces\n";
    world.write("sparse-says", warning);
    world.passes(&["--patch", "1"]);
    // The same words of another line are news.
    world.write("sparse-of-ours-says", warning);
    fs::remove_dir_all(world.at("state/passed")).unwrap();
    let text = unnumbered(&world.fails(&["--patch", "1"]));
    has(&text, "# core.c: warning: different address spaces");
    has(&text, "ok - the pristine kernel: sparse");
}

#[test]
fn sparse_reads_a_file_where_it_is_included() {
    let world = World::new();
    for place in ["repo", "staged"] {
        world.write(&format!("{place}/drivers/new/part.c"), "int part;\n");
        world.write(
            &format!("{place}/drivers/new/new.c"),
            "#include \"part.c\"\n",
        );
    }
    world.passes(&["--patch", "2"]);
    let checked = world.read("checked");
    assert!(
        checked
            .trim_end()
            .ends_with("CHECK=sparse drivers/new/new.o"),
        "{checked}"
    );
}

#[test]
fn what_kernel_doc_says_only_of_a_patch_fails() {
    let world = World::new();
    // In the pristine kernel it is said of this file, too.
    world.write("kernel-doc-says", "not described");
    world.passes(&["--patch", "1"]);
    let text = world.fails(&["--patch", "2"]);
    has(&text, "# drivers/new/new.c warning: not described");
}

#[test]
fn what_rust_tools_say_of_a_patch_fails() {
    let world = World::new();
    world.write("base/.rustfmt.toml", "");
    world.claim("0008-rust.patch", "rust: Add a file", "rust/kernel/new.rs");
    world.write("repo/rust/kernel/new.rs", "// one\n");
    let text = unnumbered(&world.passes(&["--patch", "4"]));
    has(&text, "ok - 04 rust: Add a file: rustfmt");
    has(&text, "ok - 04 rust: Add a file: rustdoc");
    let warning = "// warning: unresolved link\n//   --> rust/kernel/new.rs:1:2\n";
    world.write("repo/rust/kernel/new.rs", warning);
    let text = world.fails(&["--patch", "4"]);
    has(&text, "# warning: unresolved link   --> rust/kernel/new.rs");
    world.write("repo/rust/kernel/new.rs", "fn  main ( ) {}\n");
    let text = world.fails(&["--patch", "4", "--quick"]);
    has(&text, "# rustfmt would change rust/kernel/new.rs");
}
