//! The picture of a run, as SVG: requests in flight at the origin over time, without Leeward
//! and through it, and the figures of each act.

use std::fmt::Write as _;

use indicatif::HumanCount;

use super::Report;
use super::curve::Curve;
use super::figures::Figures;
use super::table::latency;

/// Size of the picture, in pixels. It is narrow, so that it can be read on a phone.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 536.0;

/// Where the curves are.
const LEFT: f64 = 46.0;
const RIGHT: f64 = WIDTH - 14.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 274.0;

/// Between two acts, and the least width of one.
const GAP: f64 = 28.0;
const ACT_WIDTH_MIN: f64 = 120.0;

/// Least seconds between two marks of the time axis, and most marks of an act.
const MARK_SECONDS: u32 = 5;
const MARKS_MAX: u32 = 5;

/// Colours for light and dark pages.
const STYLE: &str = "\
svg{font:14px system-ui,-apple-system,'Segoe UI',sans-serif}\
.page{fill:#fff}.text{fill:#1f2328}.quiet{fill:#59636e}.head{font-weight:600}\
.axis{stroke:#8c959f;fill:none}.limit{stroke:#59636e;stroke-dasharray:5 4;fill:none}\
.alone{stroke:#bc4c00;stroke-width:1.6;fill:none}.shield{stroke:#0969da;stroke-width:2;fill:none}\
.down{fill:#bc4c00;fill-opacity:.16}\
@media(prefers-color-scheme:dark){.page{fill:#0d1117}.text{fill:#e6edf3}.quiet{fill:#9198a1}\
.axis{stroke:#6e7681}.limit{stroke:#9198a1}.alone{stroke:#f0883e}.shield{stroke:#4493f8}\
.down{fill:#f0883e;fill-opacity:.22}}";

/// An act in the picture.
struct Drawn<'a> {
    name: &'static str,
    clients: String,
    alone: Option<&'a Curve>,
    shielded: &'a Curve,
    /// What happens at a time in seconds.
    event: Option<(f64, &'static str)>,
    seconds: f64,
    x: f64,
    width: f64,
}

impl Drawn<'_> {
    fn at(&self, seconds: f64) -> f64 {
        self.x + self.width * (seconds / self.seconds).clamp(0.0, 1.0)
    }
}

/// Draws a run.
pub(super) fn draw(report: &Report) -> String {
    let mut svg = String::new();
    let title = "Requests in flight at the origin, without Leeward and through it";
    // Writing to a `String` cannot fail.
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/>\n"
    );
    text(
        &mut svg,
        (16.0, 28.0),
        "text head",
        "Requests in flight at the origin",
    );
    legend(&mut svg);
    let acts = acts(report);
    let most = most(report);
    axis(&mut svg, report.parameters.capacity, most);
    for act in &acts {
        draw_act(&mut svg, act, most);
    }
    figures(&mut svg, report);
    svg.push_str("</svg>\n");
    svg
}

/// The largest number on the vertical axis.
fn most(report: &Report) -> f64 {
    let curves = &report.curves;
    let all = [
        &curves.direct,
        &curves.shielded,
        &curves.cold_direct,
        &curves.cold_shielded,
        &curves.purge,
    ];
    let peaks = all.into_iter().flat_map(|curve| &curve.samples);
    let peak = peaks.map(|sample| sample.in_flight_max).max().unwrap_or(0);
    peak.max(u64::from(report.parameters.capacity)) as f64 * 1.12
}

fn height_of(value: f64, most: f64) -> f64 {
    BOTTOM - (BOTTOM - TOP) * (value / most).clamp(0.0, 1.0)
}

fn acts(report: &Report) -> Vec<Drawn<'_>> {
    let (parameters, curves) = (&report.parameters, &report.curves);
    let clients = HumanCount(parameters.clients.into());
    let crowd = HumanCount(parameters.crowd.into());
    let all = [
        (
            ("few pages", clients.to_string()),
            Some(&curves.direct),
            &curves.shielded,
            None,
        ),
        (
            ("cold keys", crowd.to_string()),
            Some(&curves.cold_direct),
            &curves.cold_shielded,
            None,
        ),
        (
            ("everything purged", clients.to_string()),
            None,
            &curves.purge,
            Some((report.purged_at_seconds, "purge")),
        ),
    ];
    let all = all.map(|(name, alone, shielded, event)| {
        let both = [alone, Some(shielded)].into_iter().flatten();
        let seconds = both.map(Curve::busy_seconds).fold(1.0, f64::max);
        (name, alone, shielded, event, seconds)
    });
    let sum: f64 = all.iter().map(|(.., seconds)| seconds).sum();
    let free = RIGHT - LEFT - GAP * (all.len() as f64 - 1.0) - ACT_WIDTH_MIN * all.len() as f64;
    let mut x = LEFT;
    let mut drawn = Vec::new();
    for ((name, clients), alone, shielded, event, seconds) in all {
        let width = ACT_WIDTH_MIN + free * seconds / sum;
        drawn.push(Drawn {
            name,
            clients: format!("{clients} clients"),
            alone,
            shielded,
            event,
            seconds,
            x,
            width,
        });
        x += width + GAP;
    }
    drawn
}

fn legend(svg: &mut String) {
    let (y, mut x) = (54.0, 16.0);
    for (class, name, width) in [
        ("alone", "without Leeward", 164.0),
        ("shield", "through Leeward", 168.0),
    ] {
        let _ = writeln!(svg, "<path class=\"{class}\" d=\"M{x} {}h20\"/>", y - 5.0);
        text(svg, (x + 26.0, y), "text", name);
        x += width;
    }
    let _ = writeln!(
        svg,
        "<rect class=\"down\" x=\"{x}\" y=\"{}\" width=\"20\" height=\"12\"/>",
        y - 11.0
    );
    text(svg, (x + 26.0, y), "text", "crashed without");
    x += 152.0;
    let _ = writeln!(svg, "<path class=\"limit\" d=\"M{x} {}h20\"/>", y - 5.0);
    text(svg, (x + 26.0, y), "text", "budget");
}

fn axis(svg: &mut String, capacity: u32, most: f64) {
    let line = height_of(capacity.into(), most);
    for (value, y) in [(0, BOTTOM), (capacity, line)] {
        let _ = writeln!(
            svg,
            "<text class=\"quiet\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            LEFT - 8.0,
            y + 5.0
        );
    }
    let _ = writeln!(
        svg,
        "<path class=\"limit\" d=\"M{LEFT} {line:.1}H{RIGHT}\"/>"
    );
}

fn draw_act(svg: &mut String, act: &Drawn<'_>, most: f64) {
    if let Some(alone) = act.alone {
        for (from, until) in alone.down() {
            let (from, until) = (act.at(from), act.at(until));
            let _ = writeln!(
                svg,
                "<rect class=\"down\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{}\"/>",
                until - from,
                BOTTOM - TOP
            );
        }
        line(svg, "alone", act, alone, most);
    }
    line(svg, "shield", act, act.shielded, most);
    let end = act.x + act.width;
    let _ = writeln!(
        svg,
        "<path class=\"axis\" d=\"M{:.1} {TOP}V{BOTTOM}H{end:.1}\"/>",
        act.x
    );
    let mut marks = String::new();
    let last = act.seconds as u32;
    let every = last.div_ceil(MARKS_MAX).max(MARK_SECONDS);
    for seconds in (0..=last).step_by(every as usize) {
        let x = act.at(seconds.into());
        let _ = write!(marks, "M{x:.1} {BOTTOM}v5");
        let label = match seconds {
            0 => "0 s".to_owned(),
            seconds => seconds.to_string(),
        };
        let _ = writeln!(
            svg,
            "<text class=\"quiet\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            BOTTOM + 20.0
        );
    }
    let _ = writeln!(svg, "<path class=\"axis\" d=\"{marks}\"/>");
    text(svg, (act.x, BOTTOM + 42.0), "text", act.name);
    text(svg, (act.x, BOTTOM + 59.0), "quiet", &act.clients);
    if let Some((seconds, what)) = act.event {
        let x = act.at(seconds);
        let _ = writeln!(
            svg,
            "<path class=\"limit\" d=\"M{x:.1} {}V{BOTTOM}\"/>",
            TOP - 4.0
        );
        text(svg, (x + 5.0, TOP + 6.0), "quiet", what);
    }
}

fn line(svg: &mut String, class: &str, act: &Drawn<'_>, curve: &Curve, most: f64) {
    let mut path = String::new();
    for (index, (seconds, value)) in curve.corners().into_iter().enumerate() {
        if seconds > act.seconds {
            break;
        }
        let command = if index == 0 { 'M' } else { 'L' };
        let (x, y) = (act.at(seconds), height_of(value as f64, most));
        let _ = write!(path, "{command}{x:.1} {y:.1}");
    }
    if !path.is_empty() {
        let _ = writeln!(svg, "<path class=\"{class}\" d=\"{path}\"/>");
    }
}

/// The figures below the curves.
fn figures(svg: &mut String, report: &Report) {
    let columns = [16.0, 160.0, 390.0];
    let row = |svg: &mut String, y: f64, class: &str, cells: [&str; 3]| {
        for (x, cell) in columns.into_iter().zip(cells) {
            text(svg, (x, y), class, cell);
        }
    };
    let nodes = match report.parameters.nodes {
        1 => "through Leeward, 1 node".to_owned(),
        nodes => format!("through Leeward, {nodes} nodes"),
    };
    row(svg, 366.0, "text head", ["", "without Leeward", &nodes]);
    let rows = [
        ("few pages", Some(&report.direct), &report.shielded),
        (
            "cold keys",
            Some(&report.cold_direct),
            &report.cold_shielded,
        ),
        ("everything purged", None, &report.purge_after),
    ];
    let mut y = 390.0;
    for (name, alone, shielded) in rows {
        let (first, second) = in_words(shielded);
        let alone = alone.map_or_else(|| ("–".to_owned(), String::new()), in_words);
        row(svg, y, "text", [name, &alone.0, &first]);
        row(svg, y + 18.0, "quiet", ["", &alone.1, &second]);
        y += 44.0;
    }
    let processors = report.parameters.processors;
    let machine =
        format!("One run on {processors} processors, which the origin and the clients share");
    text(svg, (16.0, HEIGHT - 14.0), "quiet", &machine);
}

/// What became of the visitors, and what the origin got.
fn in_words(figures: &Figures) -> (String, String) {
    // Rounded to all or nothing only if it is that.
    let of = |part| match figures.share(part) {
        share if share <= 0.0 => "0 %".to_owned(),
        share if share >= 1.0 => "100 %".to_owned(),
        share => format!("{:.1} %", (share * 100.0).clamp(0.1, 99.9)),
    };
    let mut visitors = format!("{} answered", of(figures.answered));
    if figures.refused > 0 {
        let _ = write!(visitors, ", {} refused", of(figures.refused));
    }
    if figures.errors.total() > 0 {
        let _ = write!(visitors, ", {} errors", of(figures.errors.total()));
    }
    let crashes = match figures.crashes {
        0 => String::new(),
        1 => ", 1 crash".to_owned(),
        crashes => format!(", {crashes} crashes"),
    };
    let origin = format!(
        "origin: {} of {}{crashes}",
        HumanCount(figures.origin_requests),
        HumanCount(figures.requests),
    );
    match figures.crashes {
        0 => (
            visitors,
            format!("{origin}, p99 {}", latency(figures.p99_ms)),
        ),
        _ => (visitors, origin),
    }
}

/// Text at a place.
fn text(svg: &mut String, (x, y): (f64, f64), class: &str, words: &str) {
    if words.is_empty() {
        return;
    }
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
        escaped(words)
    );
}

/// Text as the content of an element.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::demo::Curves;
    use crate::demo::options::{self, Parameters};
    use crate::demo::tally::Tally;
    use crate::origin::{Sample, Stats};

    fn report(samples: usize) -> Report {
        let tally = Tally::new().expect("constant bounds");
        tally.count(Ok(Duration::from_millis(5)));
        let figures = Figures::of(&tally, &Stats::default());
        let mut curve = Curve::new(Duration::from_secs(30));
        curve.samples = (0..samples)
            .map(|number| Sample {
                in_flight_max: number as u64 % 10,
                down: number % 50 > 40,
            })
            .collect();
        Report {
            parameters: Parameters::of(&options::parse(&[]).expect("no argument is needed")),
            direct: figures.clone(),
            shielded: figures.clone(),
            cold_direct: figures.clone(),
            cold_shielded: figures.clone(),
            purge_before: figures.clone(),
            purge_after: figures,
            purged_at_seconds: 3.0,
            curves: Curves {
                direct: curve.clone(),
                shielded: curve.clone(),
                cold_direct: curve.clone(),
                cold_shielded: curve.clone(),
                purge: curve,
            },
            faults: Vec::new(),
        }
    }

    #[test]
    fn a_picture_is_well_formed_bounded_and_within_its_frame() {
        for samples in [0, 1, 600] {
            let svg = draw(&report(samples));
            assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert!(svg.len() < 100_000, "{}", svg.len());
            for element in ["text", "title", "style", "svg"] {
                let opened = svg.matches(&format!("<{element}")).count();
                let closed = svg.matches(&format!("</{element}>")).count();
                assert_eq!(opened, closed, "{element}");
            }
            for attribute in [" x=\"", " y=\""] {
                for rest in svg.split(attribute).skip(1) {
                    let number = rest.split('"').next().unwrap_or_default();
                    let number: f64 = number.parse().expect("a number");
                    assert!((0.0..=WIDTH).contains(&number), "{number}");
                }
            }
        }
    }

    #[test]
    fn what_could_be_markup_is_escaped() {
        assert_eq!(escaped("a<b>&c"), "a&lt;b&gt;&amp;c");
    }
}
