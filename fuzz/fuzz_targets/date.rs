//! `Date`, `Retry-After` and `Content-Range`: exactly the forms that RFC 9110 has.
#![no_main]

use edgepull::clock::date::{Utc, parse_http};
use edgepull::source::fuzzing::{content_range_fits, retry_after};
use edgepull_fuzz::{assert_printable, fuzz_target, head, memory};

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Another way to a date: year by year, month by month.
fn written(time: u64) -> String {
    let (mut days, second) = (time / 86_400, time % 86_400);
    let weekday = DAYS[(days % 7) as usize];
    let is_leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {:02} {} {year} {hour:02}:{minute:02}:{second:02} GMT", days + 1, MONTHS[month])
}

fuzz_target!(|data: &[u8]| {
    let Some(((start, size, now), text)) = head::<(u32, u32, u64)>(data, 16) else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    memory::within(0, || {
        let date = parse_http(text.trim()).unwrap_or(u32::MAX.into());
        assert!(retry_after(text, 0).is_none_or(|wait| wait.as_secs() <= date));
        assert_eq!(retry_after(text, now).is_some(), retry_after(text, 0).is_some());
    });
    if let Some(time) = parse_http(text) {
        // A leap second is the first of the next minute.
        assert!(written(time) == text || text.contains(":60 GMT") && time % 60 == 0, "{text:?} is {time}");
    }
    assert_printable(&Utc(now).to_string());

    let (start, size) = (u64::from(start), u64::from(size));
    if content_range_fits(text, start, size) {
        let rest = text.strip_prefix("bytes ").expect("the unit");
        let zeros = |number: &str| format!("{:0>1}", number.trim_start_matches('0'));
        let (range, total) = rest.split_once('/').expect("a total");
        let (first, last) = range.split_once('-').expect("a range");
        assert_eq!((zeros(first), zeros(last)), (start.to_string(), (size - 1).to_string()), "{text:?}");
        assert!(total == "*" || zeros(total) == size.to_string(), "{text:?}");
    }
    if start < size {
        assert!(content_range_fits(&format!("bytes {start}-{}/{size}", size - 1), start, size));
    }
});
