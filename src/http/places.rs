//! How many connections there may be: in all, from one client, and in addition for probes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kindred_core::domain::Network;

/// A client may have this share of all connections, as 1 in so many, and at least so many.
const CLIENT_SHARE: usize = 16;
const MIN_OF_CLIENT: usize = 16;
/// Connections beyond the limits, on which only probes are answered; and how many of them one client may have.
const RESERVED: usize = 32;
const RESERVED_OF_CLIENT: usize = 4;

/// The places for connections.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    /// Proxies have the connections of many clients.
    trusted: Vec<Network>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    n: usize,
    by_client: HashMap<IpAddr, usize>,
    n_reserved: usize,
    reserved_by_client: HashMap<IpAddr, usize>,
}

/// The place of one connection, which is free again once this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    client: IpAddr,
    is_reserved: bool,
}

impl Places {
    pub fn new(max: usize, trusted: Vec<Network>) -> Self {
        Self { max, trusted, taken: Mutex::default() }
    }

    /// Takes a place, a reserved one if no other is left for this client; `None` if there is none of either.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let client = Network::of_client(address);
        let is_exempt = address.to_canonical().is_loopback() || self.trusted.iter().any(|network| network.contains(address));
        let mut taken = self.lock();
        let most = (self.max / CLIENT_SHARE).max(MIN_OF_CLIENT);
        let has_room = |by_client: &HashMap<IpAddr, usize>, most| is_exempt || by_client.get(&client).is_none_or(|&n| n < most);
        let is_reserved = !(taken.n < self.max && has_room(&taken.by_client, most));
        if is_reserved && !(taken.n_reserved < RESERVED && has_room(&taken.reserved_by_client, RESERVED_OF_CLIENT)) {
            return None;
        }
        let (n, by_client) = taken.of(is_reserved);
        *n += 1;
        *by_client.entry(client).or_default() += 1;
        Some(Place { places: Arc::clone(self), client, is_reserved })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn of(&mut self, is_reserved: bool) -> (&mut usize, &mut HashMap<IpAddr, usize>) {
        match is_reserved {
            false => (&mut self.n, &mut self.by_client),
            true => (&mut self.n_reserved, &mut self.reserved_by_client),
        }
    }
}

impl Place {
    /// True if only probes are answered here.
    pub fn is_reserved(&self) -> bool {
        self.is_reserved
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        let (n, by_client) = taken.of(self.is_reserved);
        *n -= 1;
        if let Some(n) = by_client.get_mut(&self.client) {
            *n -= 1;
            if *n == 0 {
                by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(max: usize, trusted: &str) -> Arc<Places> {
        Arc::new(Places::new(max, vec![trusted.parse().unwrap()]))
    }

    /// How many places of each kind a client gets.
    fn taken(places: &Arc<Places>, address: &str) -> (usize, usize, Vec<Place>) {
        let address = address.parse().unwrap();
        let all: Vec<Place> = std::iter::from_fn(|| places.take(address)).take(2_000).collect();
        let n_reserved = all.iter().filter(|place| place.is_reserved()).count();
        (all.len() - n_reserved, n_reserved, all)
    }

    #[test]
    fn one_client_takes_a_share_and_leaves_the_rest() {
        let places = places(1_600, "10.0.0.0/8");
        let (n, n_reserved, held) = taken(&places, "192.0.2.1");
        assert_eq!((n, n_reserved), (100, 4));
        assert_eq!(taken(&places, "::ffff:192.0.2.1").0, 0, "the same address in its other form");
        assert_eq!(taken(&places, "192.0.2.2").0, 100);
        let (n, _, of_network) = taken(&places, "2001:db8::1");
        assert_eq!((n, taken(&places, "2001:db8::2").0, taken(&places, "2001:db8:0:1::1").0), (100, 0, 100), "a /64 is one client");
        drop((held, of_network));
        assert_eq!(taken(&places, "192.0.2.1").0, 100, "places are free again");
        assert!(places.lock().by_client.is_empty() && places.lock().reserved_by_client.is_empty() && places.lock().n == 0);
    }

    #[test]
    fn proxies_and_the_loopback_are_bounded_by_the_whole_alone() {
        for address in ["10.1.2.3", "127.0.0.1", "::1"] {
            let places = places(100, "10.0.0.0/8");
            let (n, n_reserved, held) = taken(&places, address);
            assert_eq!((n, n_reserved), (100, 32), "{address}");
            assert!(places.take("192.0.2.1".parse().unwrap()).is_none());
            drop(held);
            assert!(!places.take("192.0.2.1".parse().unwrap()).unwrap().is_reserved());
        }
    }

    #[test]
    fn probes_have_room_when_all_others_are_taken() {
        let places = places(32, "10.0.0.0/8");
        let others: Vec<_> = (1..=2).map(|i| taken(&places, &format!("192.0.2.{i}"))).collect();
        assert_eq!(others.iter().map(|(n, ..)| n).sum::<usize>(), 32);
        let (n, n_reserved, _) = taken(&places, "198.51.100.1");
        assert_eq!((n, n_reserved), (0, 4), "reserved ones, of which no client has all");
    }
}
