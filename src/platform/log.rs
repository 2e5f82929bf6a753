//! Lines for the operator.

use crate::time::Time;
use std::io::Write;

/// Milliseconds of a day.
const DAY_MILLIS: u64 = 24 * 60 * 60 * 1_000;

/// Writes one line with its time, in one write, so that the lines of several instances do
/// not mix. A line that cannot be written is lost: `eprintln!` would panic, and a
/// panic ends every request of the instance.
pub fn write_line(out: &mut impl Write, now: Time, line: &str) {
    let text = match line.strip_prefix('{') {
        Some(rest) => format!("{{\"time\":\"{}\",{rest}\n", rfc3339(now)),
        None => format!("{line}\n"),
    };
    let _ = out.write_all(text.as_bytes());
}

/// A moment as RFC 3339 has it, in UTC, with milliseconds: `2026-11-30T21:51:33.007Z`.
pub fn rfc3339(time: Time) -> String {
    let millis = time.as_unix_millis();
    let (year, month, day) = date(millis / DAY_MILLIS);
    let second = millis / 1_000 % 60;
    let (hour, minute) = (millis / 3_600_000 % 24, millis / 60_000 % 60);
    let millis = millis % 1_000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day in the Gregorian calendar, so many days after 1970-01-01.
///
/// Years are counted from March here, so that a leap day is the last of its year.
pub fn date(days: u64) -> (u64, u64, u64) {
    /// Days from 0000-03-01 to 1970-01-01.
    const BEFORE: u64 = 719_468;
    /// Days of 400 years.
    const CYCLE: u64 = 146_097;
    let days = days.saturating_add(BEFORE);
    let (cycle, day) = (days / CYCLE, days % CYCLE);
    let year = day
        .saturating_sub(day / 1_460)
        .saturating_add(day / 36_524)
        .saturating_sub(day / 146_096)
        / 365;
    let before = year
        .saturating_mul(365)
        .saturating_add(year / 4)
        .saturating_sub(year / 100);
    let of_year = day.saturating_sub(before);
    let month = of_year.saturating_mul(5).saturating_add(2) / 153;
    let day = of_year.saturating_sub(month.saturating_mul(153).saturating_add(2) / 5);
    let year = cycle.saturating_mul(400).saturating_add(year);
    match month {
        0..10 => (year, month.saturating_add(3), day.saturating_add(1)),
        _ => (
            year.saturating_add(1),
            month.saturating_sub(9),
            day.saturating_add(1),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    /// Counts the writes, and refuses them if it is full.
    struct Output {
        full: bool,
        writes: Vec<Vec<u8>>,
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.writes.push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_cannot_be_written_is_lost_and_the_next_one_is_not() {
        let mut output = Output {
            full: true,
            writes: Vec::new(),
        };
        write_line(&mut output, Time::default(), "one");
        output.full = false;
        write_line(&mut output, Time::default(), "two");
        assert_eq!(output.writes, [b"two\n"]);
    }

    #[test]
    fn a_line_has_its_time() {
        let mut output = Output {
            full: false,
            writes: Vec::new(),
        };
        let time = Time::from_unix_millis(1_000_000_000_007);
        write_line(&mut output, time, "{\"event\":\"origin\"}");
        let expected = "{\"time\":\"2001-09-09T01:46:40.007Z\",\"event\":\"origin\"}\n";
        assert_eq!(output.writes, [expected.as_bytes()]);
    }

    #[test]
    fn each_day_of_eight_centuries_is_the_calendars() {
        let is_leap = |year: u64| {
            let is_century = year.is_multiple_of(100);
            year.is_multiple_of(4) && (!is_century || year.is_multiple_of(400))
        };
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..300_000 {
            assert_eq!(date(days), (year, month, day), "{days}");
            day += 1;
            let most = match month {
                2 => 28 + u64::from(is_leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            if day > most {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
        let end = rfc3339(Time::from_unix_millis(u64::MAX));
        assert!(end.ends_with('Z'), "{end}");
    }
}
