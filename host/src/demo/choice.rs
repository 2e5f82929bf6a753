//! Which path a client asks for next: few are hot, the others less and less.

/// Paths by popularity: the n-th is asked for in proportion to 1/n (Zipf).
#[derive(Clone, Debug)]
pub(super) struct Choice {
    /// For each path the share of requests that go to it or one before it.
    cumulative: Vec<f64>,
}

impl Choice {
    /// A choice among `count` paths; at least one.
    pub(super) fn among(count: usize) -> Choice {
        let weights = (1..=count.max(1)).map(|n| 1.0 / n as f64);
        let total: f64 = weights.clone().sum();
        let cumulative = weights
            .scan(0.0, |sum, weight| {
                *sum += weight / total;
                Some(*sum)
            })
            .collect();
        Choice { cumulative }
    }

    /// The index of the path that `draw` falls on; `draw` is uniform in 0..1.
    pub(super) fn pick(&self, draw: f64) -> usize {
        self.cumulative
            .partition_point(|share| *share <= draw)
            .min(self.cumulative.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_the_hottest() {
        // Three paths: 6/11, 3/11 and 2/11.
        let choice = Choice::among(3);
        let cases = [
            (0.0, 0),
            (0.54, 0),
            (0.55, 1),
            (0.81, 1),
            (0.82, 2),
            (0.999, 2),
            (1.0, 2),
        ];
        for (draw, index) in cases {
            assert_eq!(choice.pick(draw), index, "{draw}");
        }
    }

    #[test]
    fn one_path_is_always_picked() {
        for count in [0, 1] {
            let choice = Choice::among(count);
            assert_eq!([0.0, 0.5, 1.0].map(|draw| choice.pick(draw)), [0, 0, 0]);
        }
    }
}
