//! Medians, percentiles and bootstrap intervals.

/// The middle value; the mean of the two middle ones of an even number. Not a number when there is none.
pub(super) fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// The value below which `share` (0 to 1) of the values lie, interpolated. Not a number when there is none.
pub(super) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = share * index_as_float(last);
    let below = (0..=last).take_while(|index| index_as_float(*index) <= place).last().unwrap_or(0);
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (place - index_as_float(below))
}

/// A ratio of medians with the interval that holds 95 % of the bootstrap's ratios.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ratio {
    pub(super) value: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// The ratio of the medians of values taken in the same slots: a slot is drawn for both, so that what slowed both down cancels.
pub(super) fn ratio(of: &[f64], to: &[f64]) -> Ratio {
    const DRAWS: usize = 4000;
    let slots = of.len().min(to.len());
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let ratios: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let drawn: Vec<usize> = (0..slots).map(|_| dice.below(slots)).collect();
            let pick = |values: &[f64]| median(&drawn.iter().map(|slot| values[*slot]).collect::<Vec<_>>());
            pick(of) / pick(to)
        })
        .collect();
    Ratio { value: median(of) / median(to), low: percentile(&ratios, 0.025), high: percentile(&ratios, 0.975) }
}

/// xorshift64*: the same draws in every run, so that the same measurements give the same interval.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).expect("31 bits fit") % bound.max(1)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of samples are far below 2^52")]
fn index_as_float(index: usize) -> f64 {
    index as f64
}

#[cfg(test)]
mod tests {
    use super::{median, percentile, ratio};

    #[test]
    fn medians_and_percentiles() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(percentile(&[1.0, 2.0, 3.0, 4.0, 5.0], 1.0), 5.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_ratio_lies_in_its_interval() {
        let ratio = ratio(&[50.0, 52.0, 51.0, 49.0], &[100.0, 101.0, 99.0, 100.0]);
        assert!(ratio.low <= ratio.value && ratio.value <= ratio.high, "{ratio:?}");
        assert!((ratio.value - 0.505).abs() < 0.001, "{ratio:?}");
    }
}
