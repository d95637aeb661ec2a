//! Numbers with decimals, of integers: formatting floating point takes 10 KB of a binary, and most of the
//! boards have no floating-point unit.

use std::fmt;

/// `value / unit` with `places` decimals, rounded half up. `unit` is a power of ten, and at least
/// `10^places`: 1 250 of 1 000 with one place is `1.3`.
pub(crate) struct Decimal {
    /// The number, counted in parts of a unit.
    pub(crate) value: u64,
    /// How many parts a unit has.
    pub(crate) unit: u64,
    /// How many decimals are shown; at least one.
    pub(crate) places: u32,
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = 10u64.pow(self.places);
        let step = self.unit / shown;
        let steps = self.value / step + u64::from(self.value % step >= step.div_ceil(2));
        let width = self.places as usize;
        write!(f, "{}.{:0width$}", steps / shown, steps % shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_and_keeps_leading_zeros() {
        let shown = |value, unit, places| Decimal { value, unit, places }.to_string();
        assert_eq!(shown(0, 1000, 1), "0.0");
        assert_eq!(shown(49, 1000, 1), "0.0");
        assert_eq!(shown(50, 1000, 1), "0.1");
        assert_eq!(shown(1_949, 1000, 1), "1.9");
        assert_eq!(shown(1_950, 1000, 1), "2.0");
        assert_eq!(shown(2_004, 1000, 2), "2.00");
        assert_eq!(shown(2_005, 1000, 2), "2.01");
        assert_eq!(shown(12_340_000_000, 1_000_000_000, 2), "12.34");
        assert_eq!(shown(7, 10, 1), "0.7");
        assert_eq!(shown(u64::MAX, 1_000_000_000, 2), "18446744073.71");
    }
}
