//! Dates of the Gregorian calendar, UTC: as servers write them, and as people read them.

use std::fmt;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// 1970-01-01 was a Thursday.
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
/// Days from 0000-03-01, from which leap days are easy to count, to 1970-01-01.
const EPOCH: u64 = 719_468;
/// Days in 400 years, after which the calendar repeats.
const ERA: u64 = 146_097;

/// Seconds since 1970 of an IMF-fixdate (RFC 9110, 5.6.7), `Sun, 06 Nov 1994 08:49:37 GMT`, exactly so: the
/// obsolete forms, a wrong weekday and days that don't exist are `None`.
pub fn parse_http(text: &str) -> Option<u64> {
    let bytes: &[u8; 29] = text.as_bytes().try_into().ok()?;
    if !text.is_ascii()
        || [3, 4, 7, 11, 16, 19, 22, 25].map(|at| bytes[at]) != *b",    :: "
        || &text[26..] != "GMT"
    {
        return None;
    }
    let month = MONTHS.iter().position(|month| *month == &text[8..11])? as u64 + 1;
    let (day, year) = (digits(&text[5..7])?, digits(&text[12..16])?);
    let (hour, minute, second) = (digits(&text[17..19])?, digits(&text[20..22])?, digits(&text[23..25])?);
    if year < 1970 || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = days_of(year, month, day)?;
    (WEEKDAYS[(days % 7) as usize] == &text[..3]).then_some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Digits only: `u64::from_str` would take a sign.
pub(super) fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Days since 1970 of a date; `None` for a day that the month does not have.
pub(super) fn days_of(year: u64, month: u64, day: u64) -> Option<u64> {
    // Years that start in March have their leap day at the end; the lengths of their months then follow
    // (153 m + 2) / 5.
    let (of, from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * of + of / 4 - of / 100 + of / 400 + (153 * from_march + 2) / 5 + day.checked_sub(1)? - EPOCH;
    (date_of(days) == (year, month, day)).then_some(days)
}

/// Year, month and day of a number of days since 1970.
fn date_of(days: u64) -> (u64, u64, u64) {
    let days = days + EPOCH;
    let in_era = days % ERA;
    // Without the leap days that came before: one in 4 years (1460 days), none in 100, one in 400.
    let year = (in_era - in_era / 1460 + in_era / 36_524 - in_era / (ERA - 1)) / 365;
    let in_year = in_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * in_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = days / ERA * 400 + year + u64::from(month <= 2);
    (year, month, in_year - (153 * from_march + 2) / 5 + 1)
}

/// Seconds since 1970, shown as `2026-11-20 10:00 UTC`; with `{:#}` the day alone.
#[derive(Debug, Clone, Copy)]
pub struct Utc(pub u64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, minutes) = (self.0 / 86_400, self.0 / 60 % 1440);
        let (year, month, day) = date_of(days);
        write!(f, "{year:04}-{month:02}-{day:02}")?;
        match f.alternate() {
            true => Ok(()),
            false => write!(f, " {:02}:{:02} UTC", minutes / 60, minutes % 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_date_is_read_exactly() {
        for (text, time) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Thu, 29 Feb 2024 00:00:00 GMT", 1_709_164_800),
            ("Fri, 01 Mar 2024 00:00:00 GMT", 1_709_251_200),
            ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799),
            ("Tue, 19 Jan 2038 03:14:08 GMT", 1 << 31),
            ("Mon, 01 Mar 2100 00:00:00 GMT", 4_107_542_400),
            ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
        ] {
            assert_eq!(parse_http(text), Some(time), "{text}");
        }
        for bad in [
            "",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            " Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun  06 Nov 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Thu, 31 Nov 1994 08:49:37 GMT",
            "Thu, 29 Feb 2023 00:00:00 GMT",
            "Mon, 29 Feb 2100 00:00:00 GMT",
            "Wed, 31 Dec 1969 23:59:59 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 GM\u{e9}",
            "\u{e9}n, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(parse_http(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_is_the_one_after_the_last() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..ERA {
            assert_eq!(date_of(days), (year, month, day));
            assert_eq!(days_of(year, month, day), Some(days));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            assert_eq!(days_of(year, month, last + 1), None);
            (year, month, day) = match (day == last, month) {
                (false, _) => (year, month, day + 1),
                (true, 12) => (year + 1, 1, 1),
                (true, _) => (year, month + 1, 1),
            };
        }
    }

    #[test]
    fn shown_to_the_minute_or_the_day() {
        assert_eq!(Utc(784_111_777).to_string(), "1994-11-06 08:49 UTC");
        assert_eq!(format!("{:#}", Utc(1 << 31)), "2038-01-19");
        assert_eq!(Utc(0).to_string(), "1970-01-01 00:00 UTC");
        // No input decides about a panic.
        assert!(!Utc(u64::MAX).to_string().is_empty());
    }
}
