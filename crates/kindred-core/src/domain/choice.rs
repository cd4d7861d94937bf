//! Deterministic choice: the same key and number always choose the same.

/// What lies between two numbers of a stream before they are mixed: 2^64 by the golden ratio.
pub const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Scrambles bits (splitmix64): pseudo-random numbers that depend on nothing but their place.
pub fn mix_bits(place: u64) -> u64 {
    let z = place.wrapping_add(GOLDEN);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A stream of numbers that depends on nothing but its key (splitmix64).
#[derive(Debug, Clone)]
pub struct Choice(u64);

impl Choice {
    /// Starts the stream of a key and a number.
    pub fn new(key: &str, number: u64) -> Self {
        // FNV-1a spreads the key; splitmix64 below does the rest.
        let key = key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self(key ^ number.wrapping_mul(GOLDEN))
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        let next = mix_bits(self.0);
        self.0 = self.0.wrapping_add(GOLDEN);
        next
    }

    /// A number in `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next_u64() % n.max(1) as u64) as usize
    }

    /// One of the items, which must not be empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.next_u64() % 100 < percent
    }

    /// Puts the items into an order of its own.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_gives_the_same_stream_and_another_key_another() {
        let stream = |key, number| (0..4).map(move |_| ()).scan(Choice::new(key, number), |c, ()| Some(c.next_u64())).collect::<Vec<_>>();
        assert_eq!(stream("nurse", 1), stream("nurse", 1));
        assert_ne!(stream("nurse", 1), stream("nurse", 2));
        assert_ne!(stream("nurse", 1), stream("baker", 1));
    }

    #[test]
    fn shuffling_keeps_every_item() {
        let mut items: Vec<u32> = (0..50).collect();
        Choice::new("x", 0).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
