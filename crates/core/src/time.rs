//! Points in time with microsecond precision, written the way LangGraph clients read them.

use std::{
    fmt,
    ops::{Add, Sub},
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Whole milliseconds since the epoch.
    pub fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// How long it is from `earlier` until here; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, earlier: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(earlier.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(later.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    /// `2026-01-02T03:04:05.000006+00:00`: UTC with six digits, never `Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::MAX);
        f.write_str(&time.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string())
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;

    /// A time without an offset is in UTC, and a day begins at midnight.
    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        let in_utc =
            |_| text.parse::<jiff::civil::DateTime>()?.to_zoned(jiff::tz::TimeZone::UTC).map(|it| it.timestamp());
        text.parse::<jiff::Timestamp>().or_else(in_utc).map(|time| Self(time.as_microsecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_with_six_digits_and_an_offset() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000000+00:00");
        assert_eq!(Timestamp(1_767_323_045_000_006).to_string(), "2026-01-02T03:04:05.000006+00:00");
        assert_eq!("2026-01-02T03:04:05.000006+00:00".parse::<Timestamp>().unwrap(), Timestamp(1_767_323_045_000_006));
    }

    #[test]
    fn is_in_utc_without_an_offset() {
        for text in [
            "2026-01-02T00:00:00Z",
            "2026-01-02T00:00:00",
            "2026-01-02 00:00:00.000",
            "2026-01-02",
            "2026-01-02T01:00+01:00",
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap(), Timestamp(1_767_312_000_000_000), "{text}");
        }
        for text in ["", "soon", "2026", "2026-13-01", "2026-01-02T25:00:00"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }
}
