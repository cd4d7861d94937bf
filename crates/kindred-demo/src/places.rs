//! Cities that postings and members are in, and what a country pays in.

use serde_json::{Value, json};

/// A real city.
#[derive(Debug)]
pub struct City {
    pub name: &'static str,
    pub region: Option<&'static str>,
    /// ISO 3166-1 alpha-2.
    pub country: &'static str,
    pub lat: f64,
    pub lon: f64,
}

const fn city(name: &'static str, region: &'static str, country: &'static str, lat: f64, lon: f64) -> City {
    City { name, region: if region.is_empty() { None } else { Some(region) }, country, lat, lon }
}

pub const CITIES: [City; 62] = [
    city("New York", "NY", "US", 40.7128, -74.0060),
    city("Chicago", "IL", "US", 41.8781, -87.6298),
    city("Austin", "TX", "US", 30.2672, -97.7431),
    city("Houston", "TX", "US", 29.7604, -95.3698),
    city("Seattle", "WA", "US", 47.6062, -122.3321),
    city("Denver", "CO", "US", 39.7392, -104.9903),
    city("Boston", "MA", "US", 42.3601, -71.0589),
    city("Atlanta", "GA", "US", 33.7490, -84.3880),
    city("Minneapolis", "MN", "US", 44.9778, -93.2650),
    city("Portland", "OR", "US", 45.5152, -122.6784),
    city("Phoenix", "AZ", "US", 33.4484, -112.0740),
    city("Pittsburgh", "PA", "US", 40.4406, -79.9959),
    city("San Diego", "CA", "US", 32.7157, -117.1611),
    city("Raleigh", "NC", "US", 35.7796, -78.6382),
    city("Toronto", "ON", "CA", 43.6532, -79.3832),
    city("Vancouver", "BC", "CA", 49.2827, -123.1207),
    city("Montreal", "QC", "CA", 45.5017, -73.5673),
    city("Calgary", "AB", "CA", 51.0447, -114.0719),
    city("London", "England", "GB", 51.5074, -0.1278),
    city("Manchester", "England", "GB", 53.4808, -2.2426),
    city("Bristol", "England", "GB", 51.4545, -2.5879),
    city("Leeds", "England", "GB", 53.8008, -1.5491),
    city("Edinburgh", "Scotland", "GB", 55.9533, -3.1883),
    city("Cardiff", "Wales", "GB", 51.4816, -3.1791),
    city("Dublin", "", "IE", 53.3498, -6.2603),
    city("Cork", "", "IE", 51.8985, -8.4756),
    city("Berlin", "", "DE", 52.5200, 13.4050),
    city("Hamburg", "", "DE", 53.5511, 9.9937),
    city("Munich", "Bavaria", "DE", 48.1351, 11.5820),
    city("Cologne", "North Rhine-Westphalia", "DE", 50.9375, 6.9603),
    city("Leipzig", "Saxony", "DE", 51.3397, 12.3731),
    city("Vienna", "", "AT", 48.2082, 16.3738),
    city("Zurich", "", "CH", 47.3769, 8.5417),
    city("Amsterdam", "", "NL", 52.3676, 4.9041),
    city("Rotterdam", "", "NL", 51.9244, 4.4777),
    city("Brussels", "", "BE", 50.8503, 4.3517),
    city("Paris", "", "FR", 48.8566, 2.3522),
    city("Lyon", "", "FR", 45.7640, 4.8357),
    city("Toulouse", "", "FR", 43.6047, 1.4442),
    city("Madrid", "", "ES", 40.4168, -3.7038),
    city("Barcelona", "Catalonia", "ES", 41.3851, 2.1734),
    city("Valencia", "", "ES", 39.4699, -0.3763),
    city("Lisbon", "", "PT", 38.7223, -9.1393),
    city("Milan", "", "IT", 45.4642, 9.1900),
    city("Rome", "", "IT", 41.9028, 12.4964),
    city("Copenhagen", "", "DK", 55.6761, 12.5683),
    city("Stockholm", "", "SE", 59.3293, 18.0686),
    city("Gothenburg", "", "SE", 57.7089, 11.9746),
    city("Oslo", "", "NO", 59.9139, 10.7522),
    city("Helsinki", "", "FI", 60.1699, 24.9384),
    city("Warsaw", "", "PL", 52.2297, 21.0122),
    city("Krakow", "", "PL", 50.0647, 19.9450),
    city("Prague", "", "CZ", 50.0755, 14.4378),
    city("Athens", "", "GR", 37.9838, 23.7275),
    city("Bengaluru", "Karnataka", "IN", 12.9716, 77.5946),
    city("Pune", "Maharashtra", "IN", 18.5204, 73.8567),
    city("Singapore", "", "SG", 1.3521, 103.8198),
    city("Tokyo", "", "JP", 35.6762, 139.6503),
    city("Sydney", "NSW", "AU", -33.8688, 151.2093),
    city("Melbourne", "VIC", "AU", -37.8136, 144.9631),
    city("Auckland", "", "NZ", -36.8509, 174.7645),
    city("Cape Town", "", "ZA", -33.9249, 18.4241),
];

impl City {
    /// As a document's `location`.
    pub fn location(&self) -> Value {
        match self.region {
            Some(region) => json!({"city": self.name, "region": region, "country": self.country, "lat": self.lat, "lon": self.lon}),
            None => json!({"city": self.name, "country": self.country, "lat": self.lat, "lon": self.lon}),
        }
    }

    /// The currency, and how much of it stands for one US dollar of pay: exchange rate and pay level together.
    pub fn pay(&self) -> (&'static str, f64) {
        match self.country {
            "CA" => ("CAD", 1.05),
            "GB" => ("GBP", 0.56),
            "IE" => ("EUR", 0.75),
            "DE" | "NL" | "BE" => ("EUR", 0.68),
            "AT" | "FI" => ("EUR", 0.64),
            "FR" => ("EUR", 0.58),
            "IT" => ("EUR", 0.48),
            "ES" => ("EUR", 0.44),
            "PT" | "GR" => ("EUR", 0.36),
            "CH" => ("CHF", 1.0),
            "DK" => ("DKK", 5.4),
            "SE" => ("SEK", 6.0),
            "NO" => ("NOK", 7.5),
            "PL" => ("PLN", 2.0),
            "CZ" => ("CZK", 11.0),
            "IN" => ("INR", 14.0),
            "SG" => ("SGD", 1.0),
            "JP" => ("JPY", 85.0),
            "AU" => ("AUD", 1.25),
            "NZ" => ("NZD", 1.2),
            "ZA" => ("ZAR", 8.0),
            _ => ("USD", 1.0),
        }
    }

    /// Whether simple work is paid by the hour here.
    pub fn pays_by_hour(&self) -> bool {
        matches!(self.country, "US" | "CA" | "GB" | "AU" | "NZ")
    }
}
