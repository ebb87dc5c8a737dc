//! Intervals and quantiles of the results.

/// The exact 95 % interval of a share, by bisection (Clopper and Pearson 1934).
pub fn interval(hits: u64, of: u64) -> (f64, f64) {
    let tail = |p: f64, from: u64, to: u64| -> f64 {
        (from..=to)
            .map(|k| {
                let choose = ln_factorial(of) - ln_factorial(k) - ln_factorial(of - k);
                let (k, rest) = (k as f64, (of - k) as f64);
                let times_ln = |x: f64, p: f64| if x == 0.0 { 0.0 } else { x * p.ln() };
                (choose + times_ln(k, p) + times_ln(rest, 1.0 - p)).exp()
            })
            .sum()
    };
    let solve = |rises: bool, value: &dyn Fn(f64) -> f64| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let p = 0.5 * (low + high);
            if (value(p) < 0.025) == rises {
                low = p
            } else {
                high = p
            }
        }
        0.5 * (low + high)
    };
    let least = if hits == 0 {
        0.0
    } else {
        solve(true, &|p| 1.0 - tail(p, 0, hits - 1))
    };
    let most = if hits == of {
        1.0
    } else {
        solve(false, &|p| tail(p, 0, hits))
    };
    (least, most)
}

fn ln_factorial(n: u64) -> f64 {
    if n < 256 {
        return (2..=n).map(|k| (k as f64).ln()).sum();
    }
    // Stirling's series.
    let n = n as f64;
    n * n.ln() - n + 0.5 * (std::f64::consts::TAU * n).ln() + 1.0 / (12.0 * n)
        - 1.0 / (360.0 * n.powi(3))
}

/// The q-quantile of sorted numbers.
pub fn quantile(sorted: &[u64], q: f64) -> Option<u64> {
    sorted
        .get(((sorted.len() as f64 * q).ceil() as usize).max(1) - 1)
        .copied()
}
