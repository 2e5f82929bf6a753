//! Lines for the operator.

use std::io::Write;

/// Writes one line, in one write, so that the lines of several instances do not
/// mix. A line that cannot be written is lost: `eprintln!` would panic, and a
/// panic ends every request of the instance.
pub fn write_line(out: &mut impl Write, line: &str) {
    let mut text = String::with_capacity(line.len().saturating_add(1));
    text.push_str(line);
    text.push('\n');
    let _ = out.write_all(text.as_bytes());
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
        write_line(&mut output, "one");
        output.full = false;
        write_line(&mut output, "two");
        assert_eq!(output.writes, [b"two\n"]);
    }
}
