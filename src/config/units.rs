//! Parses durations such as `"10s"` and sizes such as `"64MiB"`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

/// A duration: a whole number and `ms`, `s`, `m`, `h` or `d`.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::config::ConfigDuration;
///
/// assert_eq!("90s".parse::<ConfigDuration>()?.0, Duration::from_secs(90));
/// assert_eq!("5m".parse::<ConfigDuration>()?.0, Duration::from_secs(300));
/// assert_eq!("90".parse::<ConfigDuration>(), Err(r#"it is not a duration: write it as "500ms", "10s", "5m", "1h" or "2d""#));
/// # Ok::<_, &str>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigDuration(pub Duration);

/// A size in bytes: a whole number, optionally with `B`, `KiB`, `MiB`, `GiB`, `kB`, `MB` or `GB`.
///
/// ```
/// use tower_bearer::config::ConfigSize;
///
/// assert_eq!("64KiB".parse::<ConfigSize>()?.0, 65_536);
/// assert_eq!("65536".parse::<ConfigSize>()?.0, 65_536);
/// assert!("64 kilos".parse::<ConfigSize>().is_err());
/// # Ok::<_, &str>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigSize(pub u64);

const NOT_A_DURATION: &str =
    r#"it is not a duration: write it as "500ms", "10s", "5m", "1h" or "2d""#;
const NOT_A_SIZE: &str =
    r#"it is not a size: write it as a number of bytes, or as "64KiB", "64MiB" or "1GiB""#;

impl FromStr for ConfigDuration {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) = split(text).ok_or(NOT_A_DURATION)?;
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(NOT_A_DURATION),
        };
        let duration = number.checked_mul(milliseconds).ok_or(NOT_A_DURATION)?;
        Ok(Self(Duration::from_millis(duration)))
    }
}

impl FromStr for ConfigSize {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) = split(text).ok_or(NOT_A_SIZE)?;
        let bytes = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            _ => return Err(NOT_A_SIZE),
        };
        number.checked_mul(bytes).map(Self).ok_or(NOT_A_SIZE)
    }
}

/// Splits a number from its unit.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit.trim_start_matches(' ')))
}

impl<'de> Deserialize<'de> for ConfigDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct UnitVisitor;

        impl Visitor<'_> for UnitVisitor {
            type Value = ConfigDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a duration in quotes ("10s")"#)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ConfigDuration, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(UnitVisitor)
    }
}

impl<'de> Deserialize<'de> for ConfigSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct UnitVisitor;

        impl Visitor<'_> for UnitVisitor {
            type Value = ConfigSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a number of bytes, or a size in quotes ("64MiB")"#)
            }

            fn visit_u64<E>(self, bytes: u64) -> Result<ConfigSize, E> {
                Ok(ConfigSize(bytes))
            }

            fn visit_i64<E: Error>(self, bytes: i64) -> Result<ConfigSize, E> {
                bytes
                    .try_into()
                    .map(ConfigSize)
                    .map_err(|_| E::custom(NOT_A_SIZE))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ConfigSize, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(UnitVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_of_a_duration_is_parsed() {
        for (text, milliseconds) in [
            ("250ms", 250),
            ("10s", 10_000),
            ("10 s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
            ("0s", 0),
        ] {
            let duration: ConfigDuration = text.parse().unwrap();
            assert_eq!(duration.0.as_millis(), milliseconds, "{text}");
        }
        for text in [
            "",
            "s",
            "10",
            "-1s",
            "1.5s",
            "10 seconds",
            "10S",
            "99999999999999999d",
            "s10",
        ] {
            assert!(text.parse::<ConfigDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn each_unit_of_a_size_is_parsed() {
        for (text, bytes) in [
            ("0", 0),
            ("7B", 7),
            ("1KiB", 1024),
            ("64MiB", 64 << 20),
            ("64 MiB", 64 << 20),
            ("2GiB", 2 << 30),
            ("1kB", 1000),
            ("1MB", 1_000_000),
            ("1GB", 1_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(ConfigSize(bytes)), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5MiB", "1mib", "1TiB", "99999999999GiB"] {
            assert!(text.parse::<ConfigSize>().is_err(), "{text}");
        }
    }
}
