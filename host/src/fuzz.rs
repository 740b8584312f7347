//! How long the tests look that make their own input: seconds in every run, hours by hand.
//!
//! `SLUICE_FUZZ_CASES=1000000` takes so many cases instead of each test's own number, and then `SLUICE_FUZZ_SEED` chooses
//! which; without it they are other ones each time, and a failure tells its seed.

use proptest::test_runner::{Config, RngSeed};

/// A configuration for `cases` cases, always the same ones, unless the environment says otherwise.
pub(crate) fn config(cases: u32) -> Config {
    let number =
        |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap_or_else(|e| panic!("{name}: {e}")));
    let wanted = number("SLUICE_FUZZ_CASES").map(|cases| u32::try_from(cases).unwrap_or(u32::MAX));
    let seed = match wanted {
        None => 20_261_120,
        Some(_) => number("SLUICE_FUZZ_SEED").unwrap_or_else(rand::random),
    };
    if wanted.is_some() {
        eprintln!("SLUICE_FUZZ_SEED={seed}");
    }
    Config {
        cases: wanted.unwrap_or(cases),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 10_000,
        ..Config::default()
    }
}
