// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tree of buses, and the ways that TLPs took through it.

use super::colour::Colour;
use super::svg::Svg;
use fabric::trace::{HOST, Sender};

/// TLPs from one to another with one hint, or with those that share a colour.
pub struct Route {
    pub from: String,
    pub to: String,
    /// In words.
    pub hint: String,
    pub colour: Colour,
    pub tlps: u64,
    /// Those the other way, without a hint.
    pub back: u64,
}

impl Route {
    fn label(&self) -> String {
        match self.back {
            0 => format!("{} · {}", self.hint, self.tlps),
            back => format!("{} · {} ⇄ {back}", self.hint, self.tlps),
        }
    }

    fn title(&self) -> String {
        let (from, to, tlps, hint) = (&self.from, &self.to, self.tlps, &self.hint);
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
pub fn draw(page: &mut String, senders: &[Sender], routes: &[Route]) {
    let leaves: Vec<Leaf<'_>> = senders
        .iter()
        .filter(|one| one.name != HOST)
        .map(leaf)
        .collect();
    if leaves.is_empty() {
        return;
    }
    let layout = Layout::new(leaves, routes);
    let mut svg = Svg::new(
        layout.left(layout.leaves.len()) + MARGIN,
        layout.devices_at + DEVICE + MARGIN,
    );
    layout.draw_tree(&mut svg);
    let mut turned = vec![0; layout.tops.len()];
    for (number, route) in routes.iter().enumerate() {
        layout.draw_route(&mut svg, number, route, &mut turned);
    }
    layout.name_buses(&mut svg);
    svg.close(page, "topology", "Topology with the routes of the TLPs");
}

/// Where everything is.
struct Layout<'a> {
    leaves: Vec<Leaf<'a>>,
    bars: Vec<Bar>,
    /// The leaves at both ends of each route; none is the host.
    ends: Vec<(Option<usize>, Option<usize>)>,
    /// Depth of the bar in which each route turns: the lowest that both ends have above them.
    turns_at: Vec<usize>,
    /// The routes that end at each leaf, in the order of their other ends.
    at_leaf: Vec<Vec<usize>>,
    tops: Vec<f64>,
    heights: Vec<f64>,
    devices_at: f64,
    /// Width of a leaf.
    column: f64,
}

#[allow(clippy::cast_precision_loss)] // pixels
impl<'a> Layout<'a> {
    fn new(leaves: Vec<Leaf<'a>>, routes: &[Route]) -> Self {
        let index = |name: &str| leaves.iter().position(|leaf| leaf.name == name);
        let ends: Vec<_> = routes
            .iter()
            .map(|route| (index(&route.from), index(&route.to)))
            .collect();
        let turns_at: Vec<usize> = ends
            .iter()
            .map(|&(from, to)| match (from, to) {
                (Some(from), Some(to)) => common(&leaves[from], &leaves[to]),
                _ => 0,
            })
            .collect();
        let at_leaf: Vec<Vec<usize>> = (0..leaves.len())
            .map(|leaf| {
                let mut here: Vec<_> = (0..ends.len())
                    .filter_map(|route| match ends[route] {
                        (Some(from), to) if from == leaf => Some((to.unwrap_or(leaf), route)),
                        (from, Some(to)) if to == leaf => Some((from.unwrap_or(leaf), route)),
                        _ => None,
                    })
                    .collect();
                here.sort_unstable();
                here.into_iter().map(|(_, route)| route).collect()
            })
            .collect();
        let bars = bars(&leaves);
        let depths = bars.iter().map(|bar| bar.depth + 1).max().unwrap_or(1);
        let heights: Vec<f64> = (0..depths)
            .map(|depth| {
                let turns = |&route: &usize| turns_at[route] == depth && peers(ends[route]);
                30.0 + TURN * (0..ends.len()).filter(turns).count() as f64
            })
            .collect();
        let top = |depth: usize| {
            let above = heights[..depth].iter();
            MARGIN + above.map(|height| height + 10.0).sum::<f64>()
        };
        let tops: Vec<f64> = (0..depths).map(top).collect();
        let widest = at_leaf.iter().map(Vec::len).max().unwrap_or(0);
        Self {
            devices_at: top(depths) + GAP,
            column: (END * (widest + 1) as f64).max(200.0),
            leaves,
            bars,
            ends,
            turns_at,
            at_leaf,
            tops,
            heights,
        }
    }

    fn left(&self, leaf: usize) -> f64 {
        MARGIN + self.column * leaf as f64
    }

    /// Where `route` ends at `leaf`.
    fn end_x(&self, leaf: usize, route: usize) -> f64 {
        let here = &self.at_leaf[leaf];
        let place = here.iter().position(|&known| known == route).unwrap_or(0);
        let from_middle = place as f64 - (here.len() as f64 - 1.0) / 2.0;
        self.left(leaf) + self.column / 2.0 + END * from_middle
    }

    fn draw_tree(&self, svg: &mut Svg) {
        for bar in &self.bars {
            let (x, top) = (self.left(bar.first), self.tops[bar.depth]);
            let width = self.left(bar.last) + self.column - x - 8.0;
            let class = if bar.depth == 0 { "bus root" } else { "bus" };
            svg.rect(class, [x + 4.0, top, width, self.heights[bar.depth]], "");
        }
        for (at, leaf) in self.leaves.iter().enumerate() {
            let (x, y) = (self.left(at), self.devices_at);
            svg.rect("device", [x + 10.0, y, self.column - 20.0, DEVICE], "");
            let middle = x + self.column / 2.0;
            svg.text("device-name", middle, y + 23.0, leaf.name);
            svg.text("device-at", middle, y + 42.0, leaf.address);
        }
    }

    /// On top of the lines that cross them.
    fn name_buses(&self, svg: &mut Svg) {
        for bar in &self.bars {
            let (x, y) = (self.left(bar.first) + 14.0, self.tops[bar.depth] + 19.0);
            let class = if bar.depth == 0 {
                "bus-name root"
            } else {
                "bus-name"
            };
            svg.text(class, x, y, &bar.name);
        }
    }

    /// Draws route `number`; `turned` counts those that have turned at each depth.
    fn draw_route(&self, svg: &mut Svg, number: usize, route: &Route, turned: &mut [usize]) {
        // A line ends within the head of its arrow.
        let short = |head: bool| if head { 8.0 } else { 0.0 };
        let (device, back) = (self.devices_at, route.back > 0);
        let thickness = 1.5 + 0.6 * (route.tlps.max(route.back) as f64).log10();
        let (class, title) = (route.colour, route.title());
        let x = match self.ends[number] {
            (Some(from), Some(to)) => {
                let depth = self.turns_at[number];
                turned[depth] += 1;
                let y = self.tops[depth] + 22.0 + TURN * turned[depth] as f64;
                let (x, to) = (self.end_x(from, number), self.end_x(to, number));
                let ends = [(x, device - short(back)), (to, device - short(true))];
                svg.line(
                    class,
                    thickness,
                    &[ends[0], (x, y), (to, y), ends[1]],
                    &title,
                );
                svg.head(class, to, device, false);
                if back {
                    svg.head(class, x, device, false);
                }
                x
            }
            (from @ Some(leaf), None) | (from, Some(leaf)) => {
                let (up, down) = (from.is_some() || back, from.is_none() || back);
                let (x, host) = (self.end_x(leaf, number), self.tops[0] + self.heights[0]);
                let ends = [(x, device - short(down)), (x, host + short(up))];
                svg.line(class, thickness, &ends, &title);
                if up {
                    svg.head(class, x, host, true);
                }
                if down {
                    svg.head(class, x, device, false);
                }
                x
            }
            (None, None) => return,
        };
        svg.text_up("route-name", x - 5.0, device - 12.0, &route.label());
    }
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
