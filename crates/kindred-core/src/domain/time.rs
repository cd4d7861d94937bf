//! Times as integers.

/// Microseconds since 1970-01-01T00:00:00Z of an RFC 3339 time, or of a plain date (`2026-05-08`, midnight UTC).
pub fn parse_time_us(text: &str) -> Option<i64> {
    let timestamp = match text.parse::<jiff::Timestamp>() {
        Ok(timestamp) => timestamp,
        Err(_) => text.parse::<jiff::civil::Date>().ok().filter(|_| text.len() == 10)?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp(),
    };
    Some(timestamp.as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::parse_time_us;

    #[test]
    fn reads_times_and_dates() {
        assert_eq!(parse_time_us("1970-01-01T00:00:01Z"), Some(1_000_000));
        assert_eq!(parse_time_us("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(parse_time_us("1970-01-02"), Some(86_400_000_000));
        for bad in ["", "yesterday", "2026-13-01", "2026-02-30", "1700000000", "2026-01-01T00:00:00"] {
            assert_eq!(parse_time_us(bad), None, "{bad}");
        }
    }
}
