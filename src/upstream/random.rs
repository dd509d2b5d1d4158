//! Random numbers for ids, jitter and tie-breaking.

/// Sixty-four random bits from the system.
pub(crate) fn u64() -> u64 {
    // The system's source fails only before the kernel has seeded it, long before an edge runs; the address of a fresh
    // allocation and the clock are enough for what must then only differ, and secrets never come from here.
    getrandom::u64().unwrap_or_else(|_| {
        let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let place = std::ptr::from_ref(Box::new(0_u8).as_ref()).addr();
        mix(u64::from(clock.subsec_nanos()) ^ clock.as_secs().rotate_left(32) ^ place as u64)
    })
}

/// A number in `[0, 1)`.
pub(crate) fn unit() -> f64 {
    // 53 bits: what an f64 holds exactly.
    (u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// The finaliser of SplitMix64: neighbouring inputs give unrelated outputs.
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// `base` moved by at most `fraction` of itself, up or down; `unit` in `[0, 1)` says where.
pub(crate) fn jittered(base: std::time::Duration, fraction: f64, unit: f64) -> std::time::Duration {
    base.mul_f64((1.0 + fraction * (2.0 * unit - 1.0)).max(0.0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn jitter_stays_within_its_fraction() {
        let base = Duration::from_secs(10);
        assert_eq!(jittered(base, 0.1, 0.0), Duration::from_secs(9));
        assert_eq!(jittered(base, 0.1, 0.5), base);
        assert!(jittered(base, 0.1, 0.999_999) < Duration::from_secs(11));
        for _ in 0..1000 {
            assert!((0.0..1.0).contains(&unit()));
        }
    }
}
