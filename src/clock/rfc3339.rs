//! Times as image configs and annotations have them (RFC 3339, `date-time`): `2026-11-22T03:26:39.123456789Z`.

use super::date::{days_of, digits};

/// Seconds since 1970 and the nanoseconds beyond, UTC; `None` for what is no time, and for those before 1970: there
/// Go writes times that were never set.
pub fn parse(text: &str) -> Option<(u64, u32)> {
    let (head, rest) = text.is_ascii().then(|| text.split_at_checked(19)).flatten()?;
    let bytes = head.as_bytes();
    if [4, 7, 13, 16].map(|at| bytes[at]) != *b"--::" || !matches!(bytes[10], b'T' | b't') {
        return None;
    }
    let number = |from: usize, to: usize| digits(&head[from..to]);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if year < 1970 || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (nanoseconds, offset) = fraction(rest)?;
    let local = ((days_of(year, month, day)? * 24 + hour) * 60 + minute) * 60 + second;
    local.checked_add_signed(-offset).map(|seconds| (seconds, nanoseconds))
}

/// `.5Z`: the nanoseconds, and how many seconds the local time is ahead of UTC.
fn fraction(text: &str) -> Option<(u32, i64)> {
    let Some(text) = text.strip_prefix('.') else { return offset(text).map(|offset| (0, offset)) };
    let end = text.bytes().position(|byte| !byte.is_ascii_digit())?;
    let (fraction, zone) = text.split_at(end);
    // A tenth of a nanosecond makes no image older.
    let shown = format!("{:0<9}", fraction.get(..9).unwrap_or(fraction));
    match fraction.is_empty() {
        true => None,
        false => Some((digits(&shown)? as u32, offset(zone)?)),
    }
}

fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, zone) = match zone.strip_prefix('-') {
        Some(zone) => (-1, zone),
        None => (1, zone.strip_prefix('+')?),
    };
    let (hours, minutes) =
        zone.split_once(':').filter(|(hours, minutes)| (hours.len(), minutes.len()) == (2, 2))?;
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours as i64 * 60 + minutes as i64) * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_they_occur_in_images() {
        for (text, time) in [
            ("1970-01-01T00:00:00Z", (0, 0)),
            ("1994-11-06T08:49:37Z", (784_111_777, 0)),
            ("1994-11-06T09:49:37+01:00", (784_111_777, 0)),
            ("1994-11-06T00:19:37.5-08:30", (784_111_777, 500_000_000)),
            ("2024-02-29T00:00:00.000000001Z", (1_709_164_800, 1)),
            ("2024-02-29t00:00:00.1234567899z", (1_709_164_800, 123_456_789)),
            ("9999-12-31T23:59:59-23:59", (253_402_300_799 + 86_340, 0)),
        ] {
            assert_eq!(parse(text), Some(time), "{text}");
        }
    }

    #[test]
    fn what_is_no_time() {
        for text in [
            "",
            "2024-02-29",
            "2024-02-29T00:00:00",
            "2024-02-29 00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-02-29T24:00:00Z",
            "2024-02-29T00:60:00Z",
            "2024-02-29T00:00:61Z",
            "2024-02-29T00:00:00.Z",
            "2024-02-29T00:00:00.5",
            "2024-02-29T00:00:00+1:00",
            "2024-02-29T00:00:00+01:60",
            "2024-02-29T00:00:00+24:00",
            "2024-02-29T00:00:00Z ",
            "+024-02-29T00:00:00Z",
            "2024-02-29T00:00:0\u{e9}Z",
            "0001-01-01T00:00:00Z",
            "1970-01-01T00:00:00+00:01",
            "20240229T000000Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
