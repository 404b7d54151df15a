// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tree of buses, and the ways that TLPs took through it.

use super::svg::Svg;
use super::{Colour, Tagged};
use fabric::trace::{HOST, Sender};

/// TLPs from one to another with one hint.
pub struct Route {
    pub from: String,
    pub to: String,
    pub hint: Option<Tagged>,
    pub colour: Colour,
    pub tlps: u64,
    /// Those the other way, without a hint.
    pub back: u64,
}

impl Route {
    fn label(&self) -> String {
        let hint = self
            .hint
            .map_or_else(|| "no hint".into(), |hint| hint.to_string());
        match self.back {
            0 => format!("{hint} · {}", self.tlps),
            back => format!("{hint} · {} ⇄ {back}", self.tlps),
        }
    }

    fn title(&self) -> String {
        let (from, to, tlps) = (&self.from, &self.to, self.tlps);
        let hint = self
            .hint
            .map_or_else(|| "without a hint".into(), |hint| hint.to_string());
        match self.back {
            0 => format!("{from} → {to}: {tlps} TLPs, {hint}"),
            back => format!("{from} ⇄ {to}: {tlps} and {back} TLPs, {hint}"),
        }
    }
}

/// A device, and the parts of its path in front of its address.
struct Leaf<'a> {
    name: &'a str,
    address: &'a str,
    buses: Vec<&'a str>,
}

/// A bus, or the root complex: what is drawn as a bar above its devices.
struct Bar {
    depth: usize,
    first: usize,
    last: usize,
    name: String,
}

const MARGIN: f64 = 8.0;
/// Between two ends at one device.
const END: f64 = 20.0;
const DEVICE: f64 = 54.0;
/// Between the lowest bar and the devices: room for what is written along the lines.
const GAP: f64 = 150.0;
const TURN: f64 = 12.0;

/// Draws the tree and the routes.
#[allow(clippy::cast_precision_loss)] // pixels
pub fn draw(page: &mut String, senders: &[Sender], routes: &[Route]) {
    let leaves: Vec<Leaf<'_>> = senders
        .iter()
        .filter(|one| one.name != HOST)
        .map(leaf)
        .collect();
    if leaves.is_empty() {
        return;
    }
    let index = |name: &str| leaves.iter().position(|leaf| leaf.name == name);
    let ends: Vec<(Option<usize>, Option<usize>)> = routes
        .iter()
        .map(|route| (index(&route.from), index(&route.to)))
        .collect();
    let bars = bars(&leaves);
    let depths = bars.iter().map(|bar| bar.depth + 1).max().unwrap_or(1);

    // Where each route turns: within the lowest bar that both have above them.
    let turns_at: Vec<usize> = ends
        .iter()
        .map(|&(from, to)| match (from, to) {
            (Some(from), Some(to)) => common(&leaves[from], &leaves[to]),
            _ => 0,
        })
        .collect();
    let heights: Vec<f64> = (0..depths)
        .map(|depth| {
            let turns = (0..routes.len()).filter(|&at| turns_at[at] == depth && peers(ends[at]));
            30.0 + TURN * turns.count() as f64
        })
        .collect();
    let tops: Vec<f64> = (0..depths)
        .map(|depth| {
            MARGIN
                + heights[..depth]
                    .iter()
                    .map(|height| height + 10.0)
                    .sum::<f64>()
        })
        .collect();
    let below = tops[depths - 1] + heights[depths - 1];
    let devices_at = below + GAP;

    // Each end at a device has a place of its own, in the order of the other ends.
    let mut at_device: Vec<Vec<(usize, usize)>> = leaves.iter().map(|_| vec![]).collect();
    for (route, &(from, to)) in ends.iter().enumerate() {
        for (this, other) in [(from, to), (to, from)] {
            if let Some(this) = this {
                at_device[this].push((other.map_or(this, |other| other), route));
            }
        }
    }
    for ends in &mut at_device {
        ends.sort_unstable();
    }
    let widest = at_device.iter().map(Vec::len).max().unwrap_or(0);
    let column = (END * (widest + 1) as f64).max(200.0);
    let left = |leaf: usize| MARGIN + column * leaf as f64;
    let end_x = |leaf: usize, route: usize| {
        let ends = &at_device[leaf];
        let place = ends
            .iter()
            .position(|&(_, known)| known == route)
            .unwrap_or(0);
        left(leaf) + column / 2.0 + END * (place as f64 - (ends.len() as f64 - 1.0) / 2.0)
    };

    let mut svg = Svg::new(
        MARGIN * 2.0 + column * leaves.len() as f64,
        devices_at + DEVICE + MARGIN,
    );
    for bar in &bars {
        let (x, end) = (left(bar.first), left(bar.last) + column);
        let class = if bar.depth == 0 { "bus root" } else { "bus" };
        let area = [x + 4.0, tops[bar.depth], end - x - 8.0, heights[bar.depth]];
        svg.rect(class, area, "");
        svg.text("bus-name", x + 14.0, tops[bar.depth] + 19.0, &bar.name);
    }
    for (at, leaf) in leaves.iter().enumerate() {
        let area = [left(at) + 10.0, devices_at, column - 20.0, DEVICE];
        svg.rect("device", area, "");
        svg.text(
            "device-name",
            left(at) + column / 2.0,
            devices_at + 23.0,
            leaf.name,
        );
        svg.text(
            "device-at",
            left(at) + column / 2.0,
            devices_at + 42.0,
            leaf.address,
        );
    }
    let mut turned = vec![0.0; depths];
    for (at, (route, &(from, to))) in routes.iter().zip(&ends).enumerate() {
        let thickness = 1.5 + (route.tlps.max(route.back) as f64).log10();
        let title = route.title();
        let colour = route.colour;
        match (from, to) {
            (Some(from), Some(to)) => {
                let depth = turns_at[at];
                turned[depth] += 1.0;
                let y = tops[depth] + 22.0 + TURN * turned[depth];
                let (from_x, to_x) = (end_x(from, at), end_x(to, at));
                let points = [
                    (from_x, devices_at),
                    (from_x, y),
                    (to_x, y),
                    (to_x, devices_at - 8.0),
                ];
                svg.line(colour, thickness, &points, &title);
                svg.head(colour, to_x, devices_at, false);
                if route.back > 0 {
                    svg.head(colour, from_x, devices_at, false);
                }
                svg.text_up(
                    "route-name",
                    from_x - 5.0,
                    devices_at - 12.0,
                    &route.label(),
                );
            }
            (Some(leaf), None) | (None, Some(leaf)) => {
                let (x, host) = (end_x(leaf, at), tops[0] + heights[0]);
                let up = from.is_some() || route.back > 0;
                let down = from.is_none() || route.back > 0;
                // A line ends within the head of its arrow.
                let short = |head: bool| if head { 8.0 } else { 0.0 };
                let points = [(x, devices_at - short(down)), (x, host + short(up))];
                svg.line(colour, thickness, &points, &title);
                if up {
                    svg.head(colour, x, host, true);
                }
                if down {
                    svg.head(colour, x, devices_at, false);
                }
                svg.text_up("route-name", x - 5.0, devices_at - 12.0, &route.label());
            }
            (None, None) => {}
        }
    }
    svg.close(page, "topology", "Topology with the routes of the TLPs");
}

const fn peers(ends: (Option<usize>, Option<usize>)) -> bool {
    matches!(ends, (Some(_), Some(_)))
}

fn leaf(sender: &Sender) -> Leaf<'_> {
    let path = sender.path.as_deref().unwrap_or("pcie.0/");
    let mut buses: Vec<_> = path.split('/').collect();
    let address = buses.pop().unwrap_or_default();
    Leaf {
        name: &sender.name,
        address,
        buses,
    }
}

/// The depth of the lowest bar that is above both.
fn common(one: &Leaf<'_>, other: &Leaf<'_>) -> usize {
    let same = one
        .buses
        .iter()
        .zip(&other.buses)
        .take_while(|(one, other)| one == other);
    same.count().saturating_sub(1)
}

fn bars(leaves: &[Leaf<'_>]) -> Vec<Bar> {
    let mut bars = vec![Bar {
        depth: 0,
        first: 0,
        last: leaves.len() - 1,
        name: "root complex and guest memory (host)".into(),
    }];
    let depths = leaves
        .iter()
        .map(|leaf| leaf.buses.len())
        .max()
        .unwrap_or(0);
    for depth in 1..depths {
        for (at, leaf) in leaves.iter().enumerate() {
            let Some(name) = leaf.buses.get(depth) else {
                continue;
            };
            match bars.last_mut() {
                Some(bar)
                    if bar.depth == depth
                        && bar.last + 1 == at
                        && leaves[bar.last].buses.get(..=depth) == leaf.buses.get(..=depth) =>
                {
                    bar.last = at;
                }
                _ => bars.push(Bar {
                    depth,
                    first: at,
                    last: at,
                    name: (*name).to_owned(),
                }),
            }
        }
    }
    bars
}
