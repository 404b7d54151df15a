// SPDX-License-Identifier: MIT OR Apache-2.0
//! When what was sent, on lanes from one to another.

use super::colour::Colour;
use super::svg::Svg;
use crate::summary::{Tagged, duration};
use std::collections::BTreeMap;

/// A TLP on the timeline.
pub struct Mark {
    pub number: u64,
    pub time: u64,
    pub lane: usize,
    pub hint: Option<Tagged>,
    pub kind: &'static str,
}

/// Most columns: what is in one is drawn as one.
const COLUMNS: usize = 240;
/// Most lanes; the last one takes what is left.
const LANES: usize = 14;
const LABEL: f64 = 250.0;
const WIDTH: f64 = 1200.0;
const LANE: f64 = 40.0;
const BAR: f64 = 26.0;
const TOP: f64 = 34.0;

/// How to read it.
pub fn explain(marks: &[Mark]) -> String {
    if marks.len() <= COLUMNS {
        "One lane for each way. Full bars are writes, hollow ones reads, low ones completions."
            .into()
    } else {
        format!(
            "One lane for each way. By order, a column stands for {} TLPs; by time, for an equal part of it. \
             Bars are as high as the square root of the TLPs in them; their colours are shares.",
            marks.len().div_ceil(COLUMNS)
        )
    }
}

/// Draws both, by order and by time, of which the page shows one.
pub fn draw(
    page: &mut String,
    marks: &[Mark],
    lanes: &[(String, String)],
    colour: impl Fn(Option<Tagged>) -> Colour,
) {
    if marks.is_empty() {
        return;
    }
    page.push_str(
        "<div class=axes><input type=radio name=axis id=by-order checked><label for=by-order>by order</label>\
         <input type=radio name=axis id=by-time><label for=by-time>by time</label>\n",
    );
    let columns = marks.len().min(COLUMNS);
    let by_order: Vec<usize> = (0..marks.len())
        .map(|at| at * columns / marks.len())
        .collect();
    let begin = marks[0].time;
    let span = marks
        .iter()
        .map(|mark| mark.time.saturating_sub(begin))
        .max()
        .unwrap_or(0);
    let by_time: Vec<usize> = marks
        .iter()
        .map(|mark| {
            let since = u128::from(mark.time.saturating_sub(begin));
            let at = since * (COLUMNS as u128 - 1) / u128::from(span.max(1));
            usize::try_from(at).unwrap_or(COLUMNS - 1)
        })
        .collect();
    let order_ticks = |at: usize| {
        let mark = &marks[(at * marks.len() / columns).min(marks.len() - 1)];
        format!(
            "#{} · {}",
            mark.number,
            duration(mark.time.saturating_sub(begin))
        )
    };
    lane_chart(
        page,
        "order",
        marks,
        lanes,
        &by_order,
        columns,
        &colour,
        &order_ticks,
    );
    let time_ticks = |at: usize| duration(span / COLUMNS as u64 * at as u64);
    lane_chart(
        page,
        "time",
        marks,
        lanes,
        &by_time,
        COLUMNS,
        &colour,
        &time_ticks,
    );
    page.push_str("</div>\n");
}

/// What is in one column of one lane.
#[derive(Default)]
struct Cell {
    counts: BTreeMap<(Colour, Option<Tagged>), u64>,
    first: u64,
    last: u64,
    kind: &'static str,
}

impl Cell {
    fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

#[allow(clippy::cast_precision_loss)] // pixels
#[allow(clippy::too_many_arguments)] // both charts differ in all of them
fn lane_chart(
    page: &mut String,
    class: &str,
    marks: &[Mark],
    lanes: &[(String, String)],
    column: &[usize],
    columns: usize,
    colour: &impl Fn(Option<Tagged>) -> Colour,
    tick: &impl Fn(usize) -> String,
) {
    let shown = lanes.len().min(LANES);
    let mut cells: BTreeMap<(usize, usize), Cell> = BTreeMap::new();
    for (mark, &column) in marks.iter().zip(column) {
        let cell = cells.entry((mark.lane.min(shown - 1), column)).or_default();
        if cell.counts.is_empty() {
            (cell.first, cell.kind) = (mark.number, mark.kind);
        }
        cell.last = mark.number;
        *cell
            .counts
            .entry((colour(mark.hint), mark.hint))
            .or_default() += 1;
    }
    let most = cells.values().map(Cell::total).max().unwrap_or(1) as f64;
    let step = ((WIDTH - LABEL) / columns as f64).min(48.0);
    let height = TOP + LANE * shown as f64 + 8.0;
    let mut svg = Svg::new(WIDTH, height);
    for (at, (from, to)) in lanes.iter().take(shown).enumerate() {
        let y = TOP + LANE * at as f64;
        let rest = lanes.len() > shown && at == shown - 1;
        let name = if rest {
            "all others".into()
        } else {
            format!("{from} → {to}")
        };
        svg.rect("lane", [LABEL, y + LANE - 6.0, WIDTH - LABEL, 1.0], "");
        svg.text("lane-name", 0.0, y + LANE - 14.0, &name);
    }
    // As many as have room.
    let every = (170.0 / step).ceil().max(1.0);
    let mut at = 0.0;
    while at < columns as f64 && LABEL + at * step < WIDTH - 120.0 {
        let x = LABEL + at * step;
        svg.rect("tick", [x, 18.0, 1.0, height - 18.0], "");
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // a small number of columns
        svg.text("tick-name", x + 4.0, 14.0, &tick(at as usize));
        at += every;
    }
    for ((lane, column), cell) in &cells {
        let (x, base) = (
            LABEL + step * *column as f64,
            TOP + LANE * (*lane as f64 + 1.0) - 6.0,
        );
        let total = cell.total();
        let single = total == 1;
        let full = if single && most <= 1.0 {
            BAR
        } else {
            (BAR * (total as f64 / most).sqrt()).max(4.0)
        };
        let (full, style) = match cell.kind {
            _ if !single || most > 1.0 => (full, "many"),
            kind if kind.starts_with("MRd") => (full, "read"),
            kind if kind.starts_with("Cpl") => (full * 0.4, "answer"),
            _ => (full, "write"),
        };
        let mut y = base;
        for ((colour, hint), count) in &cell.counts {
            let height = (full * *count as f64 / total as f64).max(2.0);
            y -= height;
            let hint = hint.map_or_else(|| "no hint".into(), |hint| hint.to_string());
            let title = if single {
                format!("#{} {} {hint}", cell.first, cell.kind)
            } else {
                format!("{count} TLPs of #{}-#{}: {hint}", cell.first, cell.last)
            };
            let width = (step - if step > 6.0 { 3.0 } else { 0.5 }).max(1.0);
            svg.rect(
                &format!("bar {style} {colour}"),
                [x, y, width, height],
                &title,
            );
        }
        let tag = cell.counts.keys().find_map(|(_, hint)| *hint);
        if let Some(tag) = tag.filter(|_| step >= 40.0) {
            svg.text("bar-name", x, y - 3.0, &format!("{:X}h", tag.st));
        }
    }
    svg.close(page, class, &format!("Timeline by {class}"));
}
