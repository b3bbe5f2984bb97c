//! The times that requests are signed at.

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

const BASIC: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");
const HTTP: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second]");
/// What HTTP writes after the time, and what mail libraries write there: botocore's `Date` ends so.
const ZONES: [&str; 3] = [" GMT", " -0000", " +0000"];

/// A moment, to the second.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SignedAt {
    /// `YYYYMMDDTHHMMSSZ`, as it stands in strings to sign.
    pub(crate) basic: String,
    /// Milliseconds since 1970.
    pub(crate) ms: u64,
}

impl SignedAt {
    /// From `YYYYMMDDTHHMMSSZ`; `None` for anything else, and for times before 1970.
    pub(crate) fn parse_basic(s: &str) -> Option<Self> {
        let digits = |r: std::ops::Range<usize>| {
            s.as_bytes()
                .get(r)
                .is_some_and(|b| b.iter().all(u8::is_ascii_digit))
        };
        if s.len() != 16 || !digits(0..8) || !digits(9..15) {
            return None;
        }
        let at = PrimitiveDateTime::parse(s, BASIC).ok()?.assume_utc();
        Some(Self {
            // Each moment has one such form, so it need not be written anew.
            basic: s.to_owned(),
            ms: u64::try_from(at.unix_timestamp()).ok()? * 1000,
        })
    }

    /// From an HTTP date (`Fri, 24 May 2013 00:00:00 GMT`) or the basic form.
    pub(crate) fn parse_date_header(s: &str) -> Option<Self> {
        Self::parse_basic(s).or_else(|| {
            let without_zone = ZONES.iter().find_map(|zone| s.strip_suffix(zone))?;
            Self::at(PrimitiveDateTime::parse(without_zone, HTTP).ok()?.assume_utc())
        })
    }

    /// From milliseconds since 1970; `None` past the year 9999.
    pub(crate) fn from_ms(ms: u64) -> Option<Self> {
        Self::at(OffsetDateTime::from_unix_timestamp(i64::try_from(ms / 1000).ok()?).ok()?)
    }

    fn at(t: OffsetDateTime) -> Option<Self> {
        let seconds = u64::try_from(t.unix_timestamp()).ok()?;
        Some(Self {
            basic: t.format(BASIC).ok()?,
            ms: seconds * 1000,
        })
    }

    /// `YYYYMMDD`.
    pub(crate) fn date(&self) -> &str {
        &self.basic[..8]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_the_same_moment() {
        let t = SignedAt::parse_basic("20130524T000000Z").unwrap();
        assert_eq!(t.ms, 1_369_353_600_000);
        for zone in ["GMT", "-0000", "+0000"] {
            let header = format!("Fri, 24 May 2013 00:00:00 {zone}");
            assert_eq!(SignedAt::parse_date_header(&header).as_ref(), Some(&t), "{zone}");
        }
        assert_eq!(SignedAt::from_ms(t.ms + 999).as_ref(), Some(&t));
        assert_eq!(t.date(), "20130524");
    }

    #[test]
    fn rejects_what_is_no_time() {
        for bad in [
            "",
            "20130524",
            "20131324T000000Z",
            "20130532T000000Z",
            "20130524T250000Z",
            "20130524T000000z",
            "20130524T000000+",
            "+2130524T000000Z",
            "19691231T235959Z",
            "20130524é00000Z",
        ] {
            assert_eq!(SignedAt::parse_basic(bad), None, "{bad}");
        }
        assert_eq!(SignedAt::parse_date_header("yesterday"), None);
        assert_eq!(SignedAt::from_ms(u64::MAX), None);
    }
}
