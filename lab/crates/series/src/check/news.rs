// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a tool says of our kernel and does not say of the pristine one.

/// The lines of `now` that `before` has not, or has less often.
pub fn news(before: &[String], now: &[String]) -> Vec<String> {
    let mut left = before.to_vec();
    let mut new = Vec::new();
    for line in now {
        match left.iter().position(|old| old == line) {
            Some(index) => drop(left.swap_remove(index)),
            None => new.push(line.clone()),
        }
    }
    new
}

/// A line without the first number of a line of a file in it, which an edit elsewhere moves:
/// `a.c:12: warning` and `a.c:12 warning` become `a.c warning`.
pub fn without_number(line: &str) -> String {
    for (colon, _) in line.match_indices(':') {
        let rest = &line[colon + 1..];
        let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let behind = &rest[number..];
        let behind = behind.strip_prefix(':').unwrap_or(behind);
        if number > 0 && behind.starts_with(' ') {
            return format!("{}{behind}", &line[..colon]);
        }
    }
    line.to_owned()
}

/// What sparse says of the files of `tree`, without the numbers of lines, as often as it says it.
pub fn of_sparse(log: &str, tree: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in log.lines() {
        let line = line
            .strip_prefix(tree)
            .map_or(line, |rest| rest.trim_start_matches('/'));
        let mut parts = line.splitn(4, ':');
        let (Some(file), Some(row), Some(column), Some(text)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let is_verdict = text.starts_with(" warning: ") || text.starts_with(" error: ");
        if is_number(row) && is_number(column) && is_verdict {
            found.push(format!("{file}:{text}"));
        }
    }
    found
}

/// What rustdoc warns of and where, without the numbers of lines, each thing once.
pub fn of_rustdoc(log: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = log.lines().peekable();
    while let Some(line) = lines.next() {
        if !line.starts_with("warning") {
            continue;
        }
        let place = lines.next_if(|next| next.trim_start().starts_with("-->"));
        let place = place.map(|place| {
            let end = place.trim_end_matches(|c: char| c.is_ascii_digit() || c == ':');
            format!(" {end}")
        });
        found.push(format!("{line}{}", place.unwrap_or_default()));
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[&str]) -> Vec<String> {
        text.iter().map(|&line| line.to_owned()).collect()
    }

    #[test]
    fn what_is_said_more_often_is_news() {
        assert_eq!(news(&lines(&["a"]), &lines(&["a"])), lines(&[]));
        assert_eq!(
            news(&lines(&["a"]), &lines(&["a", "b", "a"])),
            lines(&["b", "a"])
        );
        assert_eq!(news(&lines(&["a", "b"]), &lines(&[])), lines(&[]));
    }

    #[test]
    fn the_number_of_a_line_is_no_news() {
        assert_eq!(without_number("a.c:12: warning: x"), "a.c warning: x");
        assert_eq!(
            without_number("Warning: a.c:12 not described"),
            "Warning: a.c not described"
        );
        assert_eq!(without_number("a:b says 12"), "a:b says 12");
    }

    #[test]
    fn sparse_is_read_by_file_and_words() {
        let log = "  CHECK   a.c\n/t/a.c:1:2: warning: spaces\n/t/a.c:9:1: warning: spaces\n\
            /t/a.c:3:3: error: bad\n/t/a.c:3:3:    got int\n";
        assert_eq!(
            of_sparse(log, "/t"),
            [
                "a.c: warning: spaces",
                "a.c: warning: spaces",
                "a.c: error: bad"
            ]
        );
    }

    #[test]
    fn rustdoc_is_read_with_the_place() {
        let log = "warning: old\nwarning: link\n  --> rust/a.rs:1:2\n   |\nwarning: link\n  --> rust/a.rs:7:1\n";
        assert_eq!(
            of_rustdoc(log),
            ["warning: link   --> rust/a.rs", "warning: old"]
        );
    }
}
