//! Places on the globe.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// Mean radius of the Earth in kilometres.
const EARTH_RADIUS_KM: f64 = 6_371.008_8;

/// A place in degrees.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
pub struct GeoPoint {
    pub lat: f64,
    pub lon: f64,
}

impl GeoPoint {
    /// A place, if both numbers are finite and in range (-90..=90, -180..=180).
    pub fn new(lat: f64, lon: f64) -> Option<Self> {
        ((-90.0..=90.0).contains(&lat) && (-180.0..=180.0).contains(&lon)).then_some(Self { lat, lon })
    }

    /// Great-circle distance in kilometres (haversine).
    pub fn distance_km(self, other: Self) -> f64 {
        let (lat_a, lat_b) = (self.lat.to_radians(), other.lat.to_radians());
        let half_lat = ((lat_b - lat_a) / 2.0).sin();
        let half_lon = ((other.lon - self.lon).to_radians() / 2.0).sin();
        let h = half_lat * half_lat + lat_a.cos() * lat_b.cos() * half_lon * half_lon;
        2.0 * EARTH_RADIUS_KM * h.min(1.0).sqrt().asin()
    }

    /// The latitudes, in degrees, outside of which nothing is within `radius_km`.
    pub fn latitudes_within(self, radius_km: f64) -> std::ops::RangeInclusive<f64> {
        let degrees = (radius_km / EARTH_RADIUS_KM).to_degrees() * (1.0 + 1e-9) + 1e-9;
        (self.lat - degrees)..=(self.lat + degrees)
    }
}

#[cfg(test)]
mod tests {
    use super::GeoPoint;

    #[test]
    fn distances_are_those_of_the_globe() {
        let berlin = GeoPoint::new(52.52, 13.405).unwrap();
        let paris = GeoPoint::new(48.8566, 2.3522).unwrap();
        assert!((berlin.distance_km(paris) - 877.5).abs() < 1.0);
        assert_eq!(berlin.distance_km(berlin), 0.0);
        let (west, east) = (GeoPoint::new(0.0, -179.9).unwrap(), GeoPoint::new(0.0, 179.9).unwrap());
        assert!(west.distance_km(east) < 23.0, "across the date line");
    }

    #[test]
    fn places_off_the_globe_are_refused() {
        assert!(GeoPoint::new(90.1, 0.0).is_none());
        assert!(GeoPoint::new(0.0, f64::NAN).is_none());
    }
}
