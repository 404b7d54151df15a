// SPDX-License-Identifier: MIT OR Apache-2.0
//! Drawing into a page.

use super::escape::escape;
use std::fmt::Write;

/// A picture, in pixels of its own; it is as wide as the page.
pub struct Svg {
    body: String,
    width: f64,
    height: f64,
}

impl Svg {
    pub fn new(width: f64, height: f64) -> Self {
        Self {
            body: String::new(),
            width,
            height,
        }
    }

    /// A rectangle; what `title` says is shown to who points at it.
    pub fn rect(&mut self, class: &str, [x, y, width, height]: [f64; 4], title: &str) {
        let title = if title.is_empty() {
            String::new()
        } else {
            format!("<title>{}</title>", escape(title))
        };
        let _ = writeln!(
            self.body,
            "<rect class=\"{class}\" x={x:.1} y={y:.1} width={width:.1} height={height:.1}>{title}</rect>"
        );
    }

    /// Text that begins at (or, by its class, is centred on) a point.
    pub fn text(&mut self, class: &str, x: f64, y: f64, text: &str) {
        let text = escape(text);
        let _ = writeln!(
            self.body,
            "<text class=\"{class}\" x={x:.1} y={y:.1}>{text}</text>"
        );
    }

    /// Text that goes up from a point.
    pub fn text_up(&mut self, class: &str, x: f64, y: f64, text: &str) {
        let text = escape(text);
        let _ = writeln!(
            self.body,
            "<text class=\"{class}\" transform=\"translate({x:.1} {y:.1}) rotate(-90)\">{text}</text>"
        );
    }

    /// A line through points.
    pub fn line(&mut self, class: &str, thickness: f64, points: &[(f64, f64)], title: &str) {
        let mut path = String::new();
        for (at, (x, y)) in points.iter().enumerate() {
            let _ = write!(path, "{}{x:.1} {y:.1}", if at == 0 { "M" } else { "L" });
        }
        let title = escape(title);
        let _ = writeln!(
            self.body,
            "<path class=\"line {class}\" stroke-width={thickness:.1} d=\"{path}\"><title>{title}</title></path>"
        );
    }

    /// The head of an arrow that points up or down.
    pub fn head(&mut self, class: &str, x: f64, y: f64, up: bool) {
        let back = if up { 9.0 } else { -9.0 };
        let (left, right, base) = (x - 5.0, x + 5.0, y + back);
        let _ = writeln!(
            self.body,
            "<path class=\"head {class}\" d=\"M{x:.1} {y:.1}L{left:.1} {base:.1}L{right:.1} {base:.1}Z\"></path>"
        );
    }

    /// Puts it into the page; `label` says to who cannot see it what it is.
    pub fn close(self, page: &mut String, class: &str, label: &str) {
        let Self {
            body,
            width,
            height,
        } = self;
        let label = escape(label);
        let _ = writeln!(
            page,
            "<div class=\"scroll {class}\"><svg role=img aria-label=\"{label}\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             style=\"min-width:{:.0}px;max-width:{width:.0}px\">\n{body}</svg></div>",
            width * 0.75
        );
    }
}
