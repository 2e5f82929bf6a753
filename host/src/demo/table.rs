//! Both phases side by side.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indicatif::HumanCount;

use super::figures::Figures;

/// What stands where there is no figure.
const NONE: &str = "–";

/// The name of a figure, and how it is written.
type Row = (&'static str, fn(&Figures) -> String);

/// The rows of both tables.
const REQUESTS: Row = ("requests", |figures| count(figures.requests));
const ANSWERED: Row = ("answered", |figures| part(figures, figures.answered));
const ERRORS: Row = ("errors", |figures| part(figures, figures.errors.total()));
const REFUSED: Row = ("refused, with Retry-After", |figures| {
    part(figures, figures.refused)
});
const MEDIAN: Row = ("latency, median", |figures| latency(figures.median_ms));
const P99: Row = ("latency, 99th percentile", |figures| {
    latency(figures.p99_ms)
});
const ORIGIN_REQUESTS: Row = ("requests at the origin", |figures| {
    count(figures.origin_requests)
});
const IN_FLIGHT: Row = ("most in flight at the origin", |figures| {
    count(figures.origin_in_flight_max)
});
const KEY_IN_FLIGHT: Row = ("most in flight for one key", |figures| {
    count(figures.key_in_flight_max)
});
const CRASHES: Row = ("crashes of the origin", |figures| count(figures.crashes));
const OFFLOADED: Row = ("share offloaded", |figures| share(figures.offloaded));

/// The table of the hot keys, without a line end.
pub(super) fn render(direct: &Figures, shielded: &Figures, nodes: u32) -> String {
    let rows = [
        REQUESTS,
        ANSWERED,
        REFUSED,
        ERRORS,
        MEDIAN,
        P99,
        ORIGIN_REQUESTS,
        IN_FLIGHT,
        KEY_IN_FLIGHT,
        CRASHES,
        OFFLOADED,
    ];
    side_by_side("few hot keys", alone_and(nodes), &rows, direct, shielded)
}

/// The table of the cold keys, without a line end. Nothing is offloaded there, and a
/// page that may not be stored is at the origin as often as it is asked for.
pub(super) fn render_cold(direct: &Figures, shielded: &Figures, nodes: u32) -> String {
    let rows = [
        REQUESTS,
        ANSWERED,
        REFUSED,
        ERRORS,
        MEDIAN,
        P99,
        ORIGIN_REQUESTS,
        IN_FLIGHT,
        CRASHES,
    ];
    side_by_side(
        "cold keys, a private page",
        alone_and(nodes),
        &rows,
        direct,
        shielded,
    )
}

/// The table of the purge, without a line end.
pub(super) fn render_purge(before: &Figures, after: &Figures) -> String {
    let rows = [
        REQUESTS,
        ANSWERED,
        REFUSED,
        ERRORS,
        MEDIAN,
        P99,
        ORIGIN_REQUESTS,
        IN_FLIGHT,
        KEY_IN_FLIGHT,
        CRASHES,
    ];
    let columns = ["until then".to_owned(), "from then on".to_owned()];
    side_by_side("everything is purged", columns, &rows, before, after)
}

/// The columns of a load without the shield and with it.
fn alone_and(nodes: u32) -> [String; 2] {
    let plural = if nodes == 1 { "" } else { "s" };
    [
        "origin alone".to_owned(),
        format!("through Leeward, {nodes} node{plural}"),
    ]
}

fn side_by_side(
    what: &str,
    [left, right]: [String; 2],
    rows: &[Row],
    direct: &Figures,
    shielded: &Figures,
) -> String {
    let mut table = Table::new();
    // As wide as it needs to be, wherever it is printed.
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([what, &left, &right]);
    for (name, figure) in rows {
        table.add_row([(*name).to_owned(), figure(direct), figure(shielded)]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn count(count: u64) -> String {
    HumanCount(count).to_string()
}

/// A part of the requests, and its share of them unless it is none.
fn part(figures: &Figures, part: u64) -> String {
    match part {
        0 => "0".to_owned(),
        part => format!("{} ({})", count(part), share(Some(figures.share(part)))),
    }
}

/// A latency from milliseconds, with three digits or so.
pub(super) fn latency(ms: Option<f64>) -> String {
    match ms {
        None => NONE.to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.1} ms"),
        Some(ms) if ms < 1000.0 => format!("{ms:.0} ms"),
        Some(ms) => format!("{:.2} s", ms / 1e3),
    }
}

/// A share as a percentage that is 0 % or 100 % only if it is exactly that.
fn share(share: Option<f64>) -> String {
    match share {
        None => NONE.to_owned(),
        Some(share) if share <= 0.0 => "0 %".to_owned(),
        Some(share) if share >= 1.0 => "100 %".to_owned(),
        Some(share) => format!("{:.2} %", (share * 100.0).clamp(0.01, 99.99)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::tally::Errors;

    #[test]
    fn latencies_are_readable() {
        let cases = [
            (None, "–"),
            (Some(0.0), "0.0 ms"),
            (Some(1.26), "1.3 ms"),
            (Some(12.6), "13 ms"),
            (Some(302.4), "302 ms"),
            (Some(1234.0), "1.23 s"),
        ];
        for (ms, text) in cases {
            assert_eq!(latency(ms), text, "{ms:?}");
        }
    }

    #[test]
    fn shares_are_not_rounded_to_all_or_nothing() {
        let cases = [
            (None, "–"),
            (Some(0.0), "0 %"),
            (Some(0.000_001), "0.01 %"),
            (Some(0.5), "50.00 %"),
            (Some(0.998_76), "99.88 %"),
            (Some(0.999_999), "99.99 %"),
            (Some(1.0), "100 %"),
        ];
        for (value, text) in cases {
            assert_eq!(share(value), text, "{value:?}");
        }
    }

    #[test]
    fn both_phases_stand_side_by_side() {
        let direct = Figures {
            requests: 6_012,
            answered: 12,
            errors: Errors {
                connection: 6_000,
                ..Errors::default()
            },
            refused: 0,
            median_ms: None,
            p99_ms: None,
            origin_requests: 30,
            origin_in_flight_max: 9,
            key_in_flight_max: 5,
            crashes: 2,
            offloaded: Some(0.0),
        };
        let shielded = Figures {
            requests: 51_234,
            answered: 51_234,
            errors: Errors::default(),
            refused: 0,
            median_ms: Some(2.34),
            p99_ms: Some(11.8),
            origin_requests: 61,
            origin_in_flight_max: 6,
            key_in_flight_max: 1,
            crashes: 0,
            offloaded: Some(0.998_8),
        };
        let expected = "\
┌──────────────────────────────┬─────────────────┬──────────────────────────┐
│ few hot keys                 ┆    origin alone ┆ through Leeward, 3 nodes │
╞══════════════════════════════╪═════════════════╪══════════════════════════╡
│ requests                     ┆           6,012 ┆                   51,234 │
│ answered                     ┆     12 (0.20 %) ┆           51,234 (100 %) │
│ refused, with Retry-After    ┆               0 ┆                        0 │
│ errors                       ┆ 6,000 (99.80 %) ┆                        0 │
│ latency, median              ┆               – ┆                   2.3 ms │
│ latency, 99th percentile     ┆               – ┆                    12 ms │
│ requests at the origin       ┆              30 ┆                       61 │
│ most in flight at the origin ┆               9 ┆                        6 │
│ most in flight for one key   ┆               5 ┆                        1 │
│ crashes of the origin        ┆               2 ┆                        0 │
│ share offloaded              ┆             0 % ┆                  99.88 % │
└──────────────────────────────┴─────────────────┴──────────────────────────┘";
        let actual = render(&direct, &shielded, 3);
        assert_eq!(actual, expected, "\n{actual}\n{expected}");

        let shielded = Figures {
            requests: 2_000,
            answered: 1_500,
            refused: 500,
            origin_requests: 1_500,
            origin_in_flight_max: 8,
            ..shielded
        };
        let expected = "\
┌──────────────────────────────┬─────────────────┬─────────────────────────┐
│ cold keys, a private page    ┆    origin alone ┆ through Leeward, 1 node │
╞══════════════════════════════╪═════════════════╪═════════════════════════╡
│ requests                     ┆           6,012 ┆                   2,000 │
│ answered                     ┆     12 (0.20 %) ┆         1,500 (75.00 %) │
│ refused, with Retry-After    ┆               0 ┆           500 (25.00 %) │
│ errors                       ┆ 6,000 (99.80 %) ┆                       0 │
│ latency, median              ┆               – ┆                  2.3 ms │
│ latency, 99th percentile     ┆               – ┆                   12 ms │
│ requests at the origin       ┆              30 ┆                   1,500 │
│ most in flight at the origin ┆               9 ┆                       8 │
│ crashes of the origin        ┆               2 ┆                       0 │
└──────────────────────────────┴─────────────────┴─────────────────────────┘";
        let actual = render_cold(&direct, &shielded, 1);
        assert_eq!(actual, expected, "\n{actual}\n{expected}");
    }
}
