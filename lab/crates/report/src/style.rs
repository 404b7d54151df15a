// SPDX-License-Identifier: MIT OR Apache-2.0
//! How text is set off on a terminal; plain everywhere else.

use std::fmt::Display;
use std::io::{IsTerminal, stdout};

/// `text` with the paths below the working directory made relative to it: the same directory has
/// another name outside the toolbox.
#[must_use]
pub fn relative(text: &str) -> String {
    match std::env::current_dir() {
        Ok(dir) if dir.parent().is_some() => text.replace(&format!("{}/", dir.display()), ""),
        _ => text.to_owned(),
    }
}

/// Whether stdout shows colours.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    colours: bool,
}

impl Style {
    /// Colours if stdout is a terminal and NO_COLOR (<https://no-color.org>) is not set.
    #[must_use]
    pub fn of_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colours: stdout().is_terminal() && !refused,
        }
    }

    /// A heading.
    pub fn heading(self, text: impl Display) -> String {
        self.wrap("1", text)
    }

    /// What holds.
    pub fn good(self, text: impl Display) -> String {
        self.wrap("32", text)
    }

    /// What does not.
    pub fn bad(self, text: impl Display) -> String {
        self.wrap("1;31", text)
    }

    /// What matters less.
    pub fn faint(self, text: impl Display) -> String {
        self.wrap("2", text)
    }

    fn wrap(self, code: &str, text: impl Display) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }
}
