//! Schedules: when a cron is next due.

use croner::Cron;
use jiff::tz::TimeZone;
use threadyard_core::time::Timestamp;

use crate::{Error, Result};

/// A schedule in its time zone.
pub(crate) struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

impl Schedule {
    /// Reads a schedule: minute, hour, day of the month, month, day of the week; seconds and a year may follow.
    pub(crate) fn read(schedule: &str, timezone: Option<&str>) -> Result<Self> {
        let zone = match timezone {
            None => TimeZone::UTC,
            Some("") => return Err(Error::Refused("timezone: must be an IANA name, such as America/New_York".into())),
            Some(name) => TimeZone::get(name).map_err(|_| {
                Error::Invalid(format!("timezone: `{name}` is not an IANA name, such as America/New_York"))
            })?,
        };
        let cron = seconds_first(schedule).parse().map_err(|error| {
            Error::Invalid(format!("schedule: `{schedule}` makes no sense ({error}); write it such as `*/5 * * * *`"))
        })?;
        Ok(Self { cron, zone })
    }

    /// The first moment after this one, or an error when there is none, as for the 31st of February.
    pub(crate) fn after(&self, moment: Timestamp) -> Result<Timestamp> {
        let none = || Error::Refused("schedule: it never comes to pass".into());
        let now = jiff::Timestamp::from_microsecond(moment.0).map_err(|_| none())?.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&now, false).map_err(|_| none())?;
        Ok(Timestamp(next.timestamp().as_microsecond()))
    }
}

/// Clients write seconds behind the five fields, and a year behind those; the library wants seconds first.
fn seconds_first(schedule: &str) -> String {
    let fields: Vec<_> = schedule.split_whitespace().collect();
    match fields[..] {
        [minute, hour, day, month, weekday, second] => format!("{second} {minute} {hour} {day} {month} {weekday}"),
        [minute, hour, day, month, weekday, second, year] => {
            format!("{second} {minute} {hour} {day} {month} {weekday} {year}")
        }
        _ => schedule.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, timezone: Option<&str>, after: &str) -> Result<String> {
        let moment = Schedule::read(schedule, timezone)?.after(after.parse().unwrap())?;
        Ok(moment.to_string()[..19].to_owned())
    }

    #[test]
    fn moments_are_those_of_the_time_zone() {
        for (schedule, timezone, after, expected) in [
            ("*/5 * * * *", None, "2026-01-01T00:01:30Z", "2026-01-01T00:05:00"),
            ("*/10 * * * * *", None, "2026-01-01T00:00:00Z", "2026-01-01T00:00:01"),
            ("0 0 1 1 * 0 2030", None, "2026-01-01T00:00:00Z", "2030-01-01T00:00:00"),
            ("30 12 1 1 *", Some("Asia/Tokyo"), "2026-01-01T12:00:00Z", "2027-01-01T03:30:00"),
            ("30 12 1 1 *", Some("America/New_York"), "2026-01-01T12:00:00Z", "2026-01-01T17:30:00"),
            ("0 0 L * *", None, "2026-02-01T00:00:00Z", "2026-02-28T00:00:00"),
            ("0 0 * * 5#2", None, "2026-01-01T00:00:00Z", "2026-01-09T00:00:00"),
            ("0 0 * * 7", None, "2026-01-01T00:00:00Z", "2026-01-04T00:00:00"),
            ("@daily", None, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00"),
        ] {
            assert_eq!(next(schedule, timezone, after).as_deref(), Ok(expected), "{schedule} {timezone:?}");
        }
    }

    #[test]
    fn daylight_saving_neither_skips_nor_doubles_a_day() {
        let berlin = Some("Europe/Berlin");
        // 02:30 does not exist on 29 March 2026, and exists twice on 25 October.
        let skipped = next("30 2 * * *", berlin, "2026-03-28T12:00:00Z").unwrap();
        assert!(skipped.starts_with("2026-03-29T01:"), "{skipped}");
        let first = next("30 2 * * *", berlin, "2026-10-24T12:00:00Z").unwrap();
        assert_eq!(first, "2026-10-25T00:30:00");
        let second = next("30 2 * * *", berlin, "2026-10-25T00:30:00Z").unwrap();
        assert_eq!(second, "2026-10-26T01:30:00");
    }

    #[test]
    fn nonsense_is_refused() {
        let at = "2026-01-01T00:00:00Z";
        for bad in ["bogus", "", "* * * *", "60 * * * *", "0 24 * * *", "0 0 0 * * *"] {
            assert!(matches!(next(bad, None, at), Err(Error::Invalid(_))), "{bad}");
        }
        assert!(matches!(next("0 0 31 2 *", None, at), Err(Error::Refused(_))));
        assert!(matches!(next("* * * * *", Some("Mars/Base"), at), Err(Error::Invalid(_))));
        assert!(matches!(next("* * * * *", Some(""), at), Err(Error::Refused(_))));
    }
}
