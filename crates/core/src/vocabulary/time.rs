use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// A moment in UTC, in microseconds since the Unix epoch; RFC 3339 with microseconds in text.
///
/// Nothing in this crate reads a clock: a moment is always an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The text is not a moment of the form `2026-11-22T03:33:04.123456Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a moment is written `2026-11-22T03:33:04.123456Z`")]
pub struct TimestampError;

impl Timestamp {
    /// The moment this many microseconds after the epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The moment this many seconds after the epoch.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This moment and then some.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// How long after `earlier` this is; zero if it is not after.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Day of the week (0 is Monday) and minute of the day, both in UTC.
    #[must_use]
    pub const fn weekday_and_minute(self) -> (u8, u16) {
        let secs = self.as_secs();
        let day = secs.div_euclid(86_400);
        // 1970-01-01 was a Thursday.
        (
            (day + 3).rem_euclid(7) as u8,
            (secs.rem_euclid(86_400) / 60) as u16,
        )
    }
}

impl Timestamp {
    /// Its parts in the order of the text: year, month, day, hour, minute, second, microsecond.
    fn parts(self) -> [i64; 7] {
        let secs = self.as_secs();
        let (year, month, day) = civil(secs.div_euclid(86_400));
        let of_day = secs.rem_euclid(86_400);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        let micros = self.0.rem_euclid(1_000_000);
        [year, month, day, hour, minute, second, micros]
    }

    /// The text, for years of four digits. Four moments stand in each record, and the formatting
    /// machinery takes many times as long for one.
    fn text(self) -> Option<[u8; 27]> {
        let [year, month, day, hour, minute, second, micros] = self.parts();
        if !(0..=9999).contains(&year) {
            return None;
        }
        let [y1, y2, y3, y4] = digits(year);
        let ([o1, o2], [d1, d2]) = (digits(month), digits(day));
        let ([h1, h2], [m1, m2], [s1, s2]) = (digits(hour), digits(minute), digits(second));
        let [f1, f2, f3, f4, f5, f6] = digits(micros);
        Some([
            y1, y2, y3, y4, b'-', o1, o2, b'-', d1, d2, b'T', h1, h2, b':', m1, m2, b':', s1, s2,
            b'.', f1, f2, f3, f4, f5, f6, b'Z',
        ])
    }
}

/// The last `N` decimal digits of a number that is not negative.
fn digits<const N: usize>(number: i64) -> [u8; N] {
    let mut rest = number.unsigned_abs();
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    digits
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = self.text() {
            return f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?);
        }
        let [year, month, day, hour, minute, second, micros] = self.parts();
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
        )
    }
}

impl std::str::FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        parse(text)
            .filter(|moment| moment.to_string() == text)
            .ok_or(TimestampError)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.text() {
            Some(text) => {
                let text = std::str::from_utf8(text).map_err(serde::ser::Error::custom)?;
                serializer.serialize_str(text)
            }
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Year, month and day of a day since the epoch in the proleptic Gregorian calendar
/// (the 400-year cycle has 146,097 days and starts on 1 March).
fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, of_year - (153 * from_march + 2) / 5 + 1)
}

fn parse(text: &str) -> Option<Timestamp> {
    if text.len() != 27 || !text.is_ascii() {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| digits.parse().ok())?
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    let days = era * 146_097 + of_era - 719_468;
    let of_day = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let micros = number(20, 26)?;
    Some(Timestamp((days * 86_400 + of_day) * 1_000_000 + micros))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments() {
        let text = "2026-11-22T03:33:04.123456Z";
        let moment: Timestamp = text.parse().unwrap();
        assert_eq!(moment.as_secs(), 1_795_318_384);
        assert_eq!(moment.to_string(), text);
        assert_eq!(moment.weekday_and_minute(), (6, 3 * 60 + 33));
        assert_eq!(
            Timestamp::from_micros(0).to_string(),
            "1970-01-01T00:00:00.000000Z"
        );
        assert_eq!(
            Timestamp::from_secs(951_782_400).to_string(),
            "2000-02-29T00:00:00.000000Z"
        );
    }

    #[test]
    fn years_of_more_digits_are_written_too() {
        for (micros, text) in [
            (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
            (253_402_300_800_000_000, "10000-01-01T00:00:00.000000Z"),
            (-62_167_219_200_000_000, "0000-01-01T00:00:00.000000Z"),
            (-62_167_219_200_000_001, "-001-12-31T23:59:59.999999Z"),
        ] {
            let moment = Timestamp::from_micros(micros);
            assert_eq!(moment.to_string(), text);
            assert_eq!(
                serde_json::to_string(&moment).unwrap(),
                format!("\"{text}\"")
            );
        }
    }

    proptest! {
        #[test]
        fn reads_back(micros in 0_i64..253_402_300_799_999_999) {
            let moment = Timestamp::from_micros(micros);
            prop_assert_eq!(moment.to_string().parse(), Ok(moment));
        }

        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = text.parse::<Timestamp>();
        }
    }

    #[test]
    fn refuses_other_forms() {
        for bad in [
            "2026-02-30T00:00:00.000000Z",
            "2026-11-22",
            "2026-13-01T00:00:00.000000Z",
            "2026-11-22T24:00:00.000000Z",
        ] {
            assert_eq!(bad.parse::<Timestamp>(), Err(TimestampError), "{bad}");
        }
    }
}
