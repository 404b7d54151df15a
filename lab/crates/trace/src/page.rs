// SPDX-License-Identifier: MIT OR Apache-2.0
//! A trace as one HTML page, which needs nothing else: no network, no script for what it says.
//!
//! What is drawn is aggregated, so that its size does not depend on the trace's; of long traces
//! only some TLPs are listed, and the page says which.

mod colour;
mod escape;
mod svg;
mod timeline;
mod topology;

use crate::error::TraceError;
use crate::filter::{Filter, hint, mnemonic, request};
use crate::summary::{Amount, Flow, Summary, Tagged, bytes, duration, receiver};
use colour::{Colour, Colours};
use escape::escape;
use fabric::trace::{Destination, Reader, Record, Sender};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use timeline::Mark;
use topology::Route;

/// Most TLPs that are listed one by one: of these, the first ones and those that stand out.
const LISTED: usize = 600;
const LISTED_FIRST: usize = 300;
/// Most rows of the other tables.
const ROWS: usize = 400;

const CSS: &str = include_str!("page/style.css");
const JS: &str = include_str!("page/script.js");

/// What is read of a trace in one pass.
struct Contents {
    summary: Summary,
    senders: Vec<Sender>,
    marks: Vec<Mark>,
    lanes: Vec<(String, String)>,
    routes: BTreeMap<(String, String, Option<Tagged>), u64>,
    listed: Vec<Record>,
}

impl Contents {
    fn read(trace: &Path, filter: &Filter) -> Result<Self, TraceError> {
        let mut this = Self {
            summary: Summary::default(),
            senders: vec![],
            marks: vec![],
            lanes: vec![],
            routes: BTreeMap::new(),
            listed: vec![],
        };
        let mut reader = Reader::open(trace)?;
        for record in reader.by_ref() {
            let record = record?;
            if filter.takes(&record) {
                this.add(record);
            }
        }
        this.summary.end(&reader);
        this.senders = reader.senders();
        Ok(this)
    }

    fn add(&mut self, record: Record) {
        self.summary.add(&record);
        let tlp = record.tlp();
        let hint = tlp.as_ref().ok().and_then(hint).map(Tagged::from);
        let lane = (record.from.clone(), receiver(&record));
        let lane = self
            .lanes
            .iter()
            .position(|known| *known == lane)
            .unwrap_or_else(|| {
                self.lanes.push(lane);
                self.lanes.len() - 1
            });
        self.marks.push(Mark {
            number: record.number,
            time: record.time,
            lane,
            hint,
            kind: tlp.as_ref().map_or("?", mnemonic),
        });
        if let Destination::To { name, .. } = &record.to {
            let route = (record.from.clone(), name.clone(), hint);
            *self.routes.entry(route).or_default() += 1;
        }
        let stands_out = hint.is_some() || record.is_unsupported() || tlp.is_err();
        let room = if stands_out { LISTED } else { LISTED_FIRST };
        if self.listed.len() < room {
            self.listed.push(record);
        }
    }
}

/// Writes the page of a trace, of which `title` says what it is.
pub fn write_page(
    trace: &Path,
    out: &Path,
    title: &str,
    filter: &Filter,
) -> Result<(), TraceError> {
    let page = page(trace, title, filter)?;
    fs::write(out, page).map_err(|error| TraceError::Out {
        path: out.to_owned(),
        error,
    })
}

/// The page of the trace, of which `title` says what it is.
fn page(trace: &Path, title: &str, filter: &Filter) -> Result<String, TraceError> {
    let contents = Contents::read(trace, filter)?;
    Ok(render(&contents, title, *filter != Filter::default()))
}

fn render(contents: &Contents, title: &str, filtered: bool) -> String {
    let summary = &contents.summary;
    let colours = Colours::of(summary);
    let mut page = String::new();
    let mut remarks: Vec<_> = summary.remarks();
    if filtered {
        remarks.insert(0, "This is a part of the trace: a filter chose it.".into());
    }
    let mut warnings = String::new();
    for remark in remarks {
        push(
            &mut warnings,
            format_args!("<p class=remark>{}</p>", escape(&remark)),
        );
    }
    let title = escape(title);
    let headline = escape(&summary.headline());
    push(
        &mut page,
        format_args!(
            "<!DOCTYPE html>\n<html lang=en>\n<meta charset=utf-8>\n\
         <meta name=viewport content=\"width=device-width\">\n\
         <meta name=color-scheme content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{CSS}</style>\n\
         <header><h1>{title}</h1><p class=headline>{headline}</p>\
         <p class=faint>The TLPs were made by the lab's own model of the devices, not by hardware.</p>\
         {warnings}</header>\n<main>\n"
        ),
    );
    legend(&mut page, contents, &colours);
    section(
        &mut page,
        "Topology",
        "The way of every TLP. The thicker a line, the more TLPs took it. \
        The model routes by address; the picture shows the way through the tree of buses. What the root complex \
        passes on has gone to the host first.",
    );
    topology::draw(&mut page, &contents.senders, &routes(contents, &colours));
    section(&mut page, "Timeline", &timeline::explain(&contents.marks));
    timeline::draw(&mut page, &contents.marks, &contents.lanes, |hint| {
        colours.get(hint)
    });
    hints(&mut page, contents, &colours);
    flows(&mut page, summary);
    regions(&mut page, summary, &colours);
    tlps(&mut page, contents, &colours);
    push(
        &mut page,
        format_args!("</main>\n<script>\n{JS}</script>\n</html>\n"),
    );
    page
}

/// A string takes whatever is written to it.
fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = page.write_fmt(text);
}

fn section(page: &mut String, title: &str, text: &str) {
    let (title, text) = (escape(title), escape(text));
    push(
        page,
        format_args!("<h2>{title}</h2>\n<p class=explain>{text}</p>\n"),
    );
}

fn swatch(colour: Colour) -> String {
    format!("<span class=\"swatch {colour}\"></span>")
}

fn legend(page: &mut String, contents: &Contents, colours: &Colours) {
    page.push_str("<ul class=legend>\n");
    for (hint, colour) in colours.own() {
        push(
            page,
            format_args!("<li data-colour={colour}>{}{hint}</li>\n", swatch(colour)),
        );
    }
    let hints = contents.summary.hints();
    if hints
        .iter()
        .any(|(hint, ..)| colours.get(Some(*hint)) == Colours::OTHER)
    {
        let colour = Colours::OTHER;
        push(
            page,
            format_args!(
                "<li data-colour={colour}>{}other tags</li>\n",
                swatch(colour)
            ),
        );
    }
    let colour = Colours::NONE;
    push(
        page,
        format_args!(
            "<li data-colour={colour}>{}no hint</li>\n</ul>\n",
            swatch(colour)
        ),
    );
}

/// The routes, one for each colour; those of answers are one with those of their reads.
fn routes(contents: &Contents, colours: &Colours) -> Vec<Route> {
    let mut routes: Vec<Route> = vec![];
    for ((from, to, hint), &tlps) in &contents.routes {
        let colour = colours.get(*hint);
        let same = routes.iter_mut().find_map(|route| {
            if route.colour != colour {
                None
            } else if (&route.from, &route.to) == (from, to) {
                Some(&mut route.tlps)
            } else if hint.is_none() && (&route.from, &route.to) == (to, from) {
                Some(&mut route.back)
            } else {
                None
            }
        });
        if let Some(same) = same {
            *same += tlps;
            continue;
        }
        routes.push(Route {
            from: from.clone(),
            to: to.clone(),
            hint: match hint {
                None => "no hint".into(),
                Some(_) if colour == Colours::OTHER => "other tags".into(),
                Some(hint) => hint.to_string(),
            },
            colour,
            tlps,
            back: 0,
        });
    }
    routes
}

/// A table of which long ones are cut.
fn table(page: &mut String, class: &str, head: &[&str], rows: &[Vec<String>]) {
    push(
        page,
        format_args!("<div class=scroll><table class=\"{class}\">\n<thead><tr>"),
    );
    for name in head {
        push(page, format_args!("<th>{name}</th>"));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in &rows[..rows.len().min(ROWS)] {
        page.push_str("<tr>");
        for value in row {
            let number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let class = if number { " class=n" } else { "" };
            push(page, format_args!("<td{class}>{value}</td>"));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
    if rows.len() > ROWS {
        let more = rows.len() - ROWS;
        push(
            page,
            format_args!(
                "<p class=remark>{more} more rows are left out; <code>lab trace summary</code> prints them.</p>\n"
            ),
        );
    }
}

/// The number of a TLP, as a link if it is listed.
fn link(contents: &Contents, number: u64) -> String {
    let listed = contents
        .listed
        .binary_search_by_key(&number, |record| record.number);
    match listed {
        Ok(_) => format!("<a href=\"#t{number}\">{number}</a>"),
        Err(_) => number.to_string(),
    }
}

fn object(flow: &Flow) -> String {
    flow.object
        .map_or_else(String::new, |object| object.to_string())
}

fn hints(page: &mut String, contents: &Contents, colours: &Colours) {
    let hints = contents.summary.hints();
    if hints.is_empty() {
        section(page, "Hints", "No TLP carries one.");
        return;
    }
    section(
        page,
        "Hints",
        "Every steering tag that was on the wire, and who put it there.",
    );
    let meaning = [
        "bidirectional",
        "requester",
        "target",
        "target with priority",
    ];
    let rows: Vec<_> = hints
        .into_iter()
        .map(|(hint, flow, Amount { tlps, bytes, first })| {
            let bits = if hint.extended { 16 } else { 8 };
            let width = bits / 4;
            vec![
                format!(
                    "{}<b>{:0width$X}h</b>",
                    swatch(colours.get(Some(hint))),
                    hint.st
                ),
                format!("{bits} bits"),
                format!("{} {}", hint.ph, meaning[usize::from(hint.ph & 3)]),
                escape(&flow.from),
                object(flow),
                escape(&flow.to),
                flow.kind.into(),
                tlps.to_string(),
                bytes.to_string(),
                link(contents, first),
            ]
        })
        .collect();
    let head = [
        "ST",
        "namespace",
        "PH",
        "from",
        "for",
        "to",
        "kind",
        "TLPs",
        "bytes",
        "first",
    ];
    table(page, "hints", &head, &rows);
}

fn flows(page: &mut String, summary: &Summary) {
    section(
        page,
        "Who sent what",
        "By sender, the object it is for, as the sender's model says, receiver and kind.",
    );
    let rows: Vec<_> = summary
        .flows
        .iter()
        .map(|(flow, hints)| {
            let sum = |part: fn(&Amount) -> u64| hints.values().map(part).sum::<u64>().to_string();
            vec![
                escape(&flow.from),
                object(flow),
                escape(&flow.to),
                flow.kind.into(),
                sum(|amount| amount.tlps),
                sum(|amount| amount.bytes),
            ]
        })
        .collect();
    table(
        page,
        "flows",
        &["from", "for", "to", "kind", "TLPs", "bytes"],
        &rows,
    );
}

fn regions(page: &mut String, summary: &Summary, colours: &Colours) {
    let regions = summary.regions();
    if regions.is_empty() {
        return;
    }
    section(
        page,
        "Pages of BARs",
        "Pages that follow one another and are accessed with one hint: what a dma-buf looks \
        like on the wire. The trace itself knows no dma-bufs.",
    );
    let rows: Vec<_> = regions
        .into_iter()
        .map(|region| {
            let hint = region
                .hint
                .map_or_else(|| "no hint".into(), |hint| hint.to_string());
            vec![
                escape(&region.to),
                format!("<code>{:#x}-{:#x}</code>", region.first, region.last),
                format!("{}{hint}", swatch(colours.get(region.hint))),
                region.amount.tlps.to_string(),
                region.amount.bytes.to_string(),
            ]
        })
        .collect();
    table(
        page,
        "regions",
        &["target", "addresses", "hint", "TLPs", "bytes"],
        &rows,
    );
}

fn tlps(page: &mut String, contents: &Contents, colours: &Colours) {
    let (listed, total) = (contents.listed.len() as u64, contents.summary.total.tlps);
    let text = if listed == total {
        "All of them, as an analyzer prints them.".into()
    } else {
        format!(
            "{listed} of {total}: the first ones, and the first of those that carry a hint, were taken by nobody, \
             or cannot be decoded. {} are left out; `lab trace list` prints them.",
            total - listed
        )
    };
    section(page, "TLPs", &text);
    page.push_str(
        "<div class=scroll><table class=tlps>\n<thead><tr><th>#</th><th>time</th><th>from</th><th>to</th>\
         <th>kind</th><th>address</th><th>bytes</th><th>hint</th><th>for</th><th>on the wire</th></tr></thead>\n<tbody>\n",
    );
    let begin = contents.summary.times.map_or(0, |(first, _)| first);
    let hints = contents.summary.hints();
    let hinted: u64 = hints.iter().map(|(.., amount)| amount.tlps).sum();
    for record in &contents.listed {
        let tlp = record.tlp();
        let hint = tlp.as_ref().ok().and_then(hint).map(Tagged::from);
        let colour = colours.get(hint);
        let cells = [
            record.number.to_string(),
            duration(record.time.saturating_sub(begin)),
            escape(&record.from),
            escape(&receiver(record)),
            tlp.as_ref().map_or_else(
                |error| escape(&error.to_string()),
                |tlp| mnemonic(tlp).into(),
            ),
            tlp.as_ref()
                .ok()
                .and_then(request)
                .map_or_else(String::new, |request| {
                    format!("<code>{:#x}</code>", request.addr())
                }),
            tlp.as_ref()
                .map_or_else(|_| String::new(), |tlp| bytes(record, tlp).to_string()),
            hint.map_or_else(String::new, |hint| format!("{}{hint}", swatch(colour))),
            record
                .object
                .map_or_else(String::new, |object| object.to_string()),
        ];
        push(
            page,
            format_args!("<tr id=t{} class={colour}>", record.number),
        );
        for (at, cell) in cells.iter().enumerate() {
            let class = if matches!(at, 0 | 1 | 6) {
                " class=n"
            } else {
                ""
            };
            push(page, format_args!("<td{class}>{cell}</td>"));
        }
        // A few are what the reader came for.
        let open = if hint.is_some() && hinted <= 8 {
            " open"
        } else {
            ""
        };
        let text = record.to_string();
        let lines = text.split_once('\n').map_or("", |(_, lines)| lines);
        push(
            page,
            format_args!(
                "<td><details{open}><summary>bytes</summary><pre>{}</pre></details></td></tr>\n",
                escape(lines)
            ),
        );
    }
    page.push_str("</tbody></table></div>\n");
}
