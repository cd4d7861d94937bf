//! Addresses and networks.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A network, `10.0.0.0/8`, or one address of it, `10.1.2.3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    n_bits: u8,
}

impl Network {
    /// True if an address belongs to the network. An IPv4 address is the same in its IPv6 form.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (of, address) = (self.address, address.to_canonical());
        let mask = |n_all: u32| u128::MAX.checked_shl(n_all - u32::from(self.n_bits)).unwrap_or(0);
        match (of, address) {
            (IpAddr::V4(of), IpAddr::V4(address)) => (u128::from(of.to_bits()) ^ u128::from(address.to_bits())) & mask(32) == 0,
            (IpAddr::V6(of), IpAddr::V6(address)) => (of.to_bits() ^ address.to_bits()) & mask(128) == 0,
            _ => false,
        }
    }

    /// The network that counts as one client: the address itself, or the /64 of an IPv6 address, which one client has whole.
    pub fn of_client(address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
            address => address,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is neither an address such as 10.1.2.3 nor a network such as 10.0.0.0/8");
        let (address, n_bits) = text.split_once('/').map_or((text, None), |(address, n_bits)| (address, Some(n_bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let n_bits = n_bits.map_or(Ok(most), |n_bits| n_bits.parse().map_err(|_| wrong()))?;
        if n_bits > most { Err(wrong()) } else { Ok(Self { address, n_bits }) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.n_bits)
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.1.2", "11.0.0.1"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("10.1.2.3", "::ffff:10.1.2.3", "::10.1.2.3"),
            ("0.0.0.0/0", "255.1.1.1", "::1"),
            ("2001:db8::/32", "2001:db8:1::7", "2001:db9::1"),
            ("::/0", "2001::1", "1.2.3.4"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{network} {outside}");
        }
        for text in ["", "proxy", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/-1", "10.0.0.0/8/8"] {
            assert!(text.parse::<Network>().unwrap_err().contains("neither an address"), "{text}");
        }
        let client = |address: &str| Network::of_client(address.parse().unwrap()).to_string();
        assert_eq!((client("2001:db8::1:2:3:4"), client("::ffff:1.2.3.4")), ("2001:db8::".to_owned(), "1.2.3.4".to_owned()));
    }
}
