//! Counter-based randomness: every draw is a function of (seed, domain, site, ordinal), never of what was drawn
//! before it.
//!
//! Removing a fault, adding a draw elsewhere or an option moves no other draw, so a shrunk or edited schedule
//! replays the rest unchanged. In a real node the seed comes from the operating system, in the simulator from the
//! scenario. Nothing in node code draws from anywhere else.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use xxhash_rust::xxh3::xxh3_64;

/// A source of draws for one domain ("timers", "schedule", …).
#[derive(Clone, Debug)]
pub struct Draws {
    seed: u64,
    domain: u64,
}

impl Draws {
    /// Draws of `domain` under `seed`.
    pub fn new(seed: u64, domain: &str) -> Self {
        Self { seed, domain: xxh3_64(domain.as_bytes()) }
    }

    /// The `ordinal`-th draw at `site` (a name and a number: a node, a link, a client).
    pub fn draw(&self, site: &str, number: u64, ordinal: u64) -> Draw {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&self.domain.to_le_bytes());
        key[16..24].copy_from_slice(&xxh3_64(site.as_bytes()).to_le_bytes());
        key[24..].copy_from_slice(&number.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(ordinal);
        Draw(rng)
    }

    /// A sequence of draws at `site`, for a caller that keeps its own ordinal.
    pub fn site(&self, site: &'static str, number: u64) -> Site {
        Site { draws: self.clone(), site, number, ordinal: 0 }
    }
}

/// One site's draws, in order.
#[derive(Clone, Debug)]
pub struct Site {
    draws: Draws,
    site: &'static str,
    number: u64,
    ordinal: u64,
}

impl Site {
    /// The next draw of this site.
    #[allow(clippy::should_implement_trait)] // not an iterator: it never ends
    pub fn next(&mut self) -> Draw {
        self.ordinal += 1;
        self.draws.draw(self.site, self.number, self.ordinal)
    }
}

/// One draw: a few dependent values that belong together.
#[derive(Clone, Debug)]
pub struct Draw(ChaCha8Rng);

impl Draw {
    /// 64 uniform bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in `0..bound`; 0 if the bound is 0. The bias of the multiplication is below 2^-32 for our bounds.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform in `low..=high` (`low` if the range is empty).
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// True with probability `probability`.
    pub fn chance(&mut self, probability: f64) -> bool {
        ((self.bits() >> 11) as f64) < probability * (1u64 << 53) as f64
    }

    /// One of `items`; `None` if there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len() as u64) as usize)
    }

    /// Shuffles `items` in place.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_depends_on_every_coordinate_and_on_nothing_else() {
        let bits = |seed, domain: &str, site: &str, number, ordinal| {
            Draws::new(seed, domain).draw(site, number, ordinal).bits()
        };
        let one = bits(1, "schedule", "link", 2, 3);
        assert_eq!(one, bits(1, "schedule", "link", 2, 3));
        for other in [
            bits(2, "schedule", "link", 2, 3),
            bits(1, "workload", "link", 2, 3),
            bits(1, "schedule", "node", 2, 3),
            bits(1, "schedule", "link", 3, 3),
            bits(1, "schedule", "link", 2, 4),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn draws_stay_inside_their_bounds() {
        let mut site = Draws::new(7, "test").site("bounds", 0);
        for _ in 0..10_000 {
            assert!(site.next().below(10) < 10);
            assert!((5..=9).contains(&site.next().between(5, 9)));
            assert_eq!(site.next().between(4, 4), 4);
            assert!(!site.next().chance(0.0) && site.next().chance(1.0));
        }
        assert_eq!(site.next().below(0), 0);
        assert_eq!(site.next().pick::<u8>(&[]), None);
    }
}
