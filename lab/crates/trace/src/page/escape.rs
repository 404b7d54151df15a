// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text that HTML and SVG show as it is.

/// `text` without what would be markup.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
