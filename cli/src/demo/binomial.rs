//! Bounds for a share of requests: how far chance alone may carry it.

/// The smallest range `low..=high` of successes among `trials` at probability `p` that chance leaves with
/// probability below `miss` on each side. Exact, by summing the binomial distribution in log space.
pub fn bounds(trials: u32, p: f64, miss: f64) -> (u32, u32) {
    let mut below = 0.0;
    let mut low = 0;
    while low < trials {
        below += probability(trials, low, p);
        if below > miss {
            break;
        }
        low += 1;
    }
    let mut above = 0.0;
    let mut high = trials;
    while high > 0 {
        above += probability(trials, high, p);
        if above > miss {
            break;
        }
        high -= 1;
    }
    (low, high)
}

fn probability(trials: u32, successes: u32, p: f64) -> f64 {
    let choose = ln_factorial(trials) - ln_factorial(successes) - ln_factorial(trials - successes);
    (choose + f64::from(successes) * p.ln() + f64::from(trials - successes) * (1.0 - p).ln()).exp()
}

fn ln_factorial(n: u32) -> f64 {
    (1..=n).map(|i| f64::from(i).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_hold_the_mean_and_leave_out_what_is_unlikely() {
        let (low, high) = bounds(1000, 0.2, 1e-6);
        assert!((130..=145).contains(&low), "{low}");
        assert!((255..=270).contains(&high), "{high}");
        assert!(low < 200 && 200 < high);
    }

    #[test]
    fn a_fair_coin_of_two_throws_can_fall_any_way() {
        assert_eq!(bounds(2, 0.5, 1e-3), (0, 2));
    }
}
