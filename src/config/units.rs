//! Parses durations such as `"10s"` and sizes such as `"64MiB"`.

use std::{str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, de::Error};

use super::{error::ConfigError, node::Node};

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

impl ConfigDuration {
    /// Returns the duration of a key that must not be zero.
    pub(super) fn non_zero(self, key: &str) -> Result<Duration, ConfigError> {
        if self.0.is_zero() {
            let message = "it must be greater than zero: make it longer, or leave it out";
            return Err(ConfigError::new(key, message));
        }
        Ok(self.0)
    }
}

impl FromStr for ConfigDuration {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let milliseconds = parse(text, |unit| match unit {
            "ms" => Some(1),
            "s" => Some(1_000),
            "m" => Some(60_000),
            "h" => Some(3_600_000),
            "d" => Some(86_400_000),
            _ => None,
        });
        let duration = milliseconds.map(Duration::from_millis);
        duration.map(Self).ok_or(NOT_A_DURATION)
    }
}

impl FromStr for ConfigSize {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = parse(text, |unit| match unit {
            "" | "B" => Some(1),
            "KiB" => Some(1 << 10),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            "kB" | "KB" => Some(1_000),
            "MB" => Some(1_000_000),
            "GB" => Some(1_000_000_000),
            _ => None,
        });
        bytes.map(Self).ok_or(NOT_A_SIZE)
    }
}

/// Parses a whole number with a unit, and multiplies it by the factor of the unit.
fn parse(text: &str, factor: fn(&str) -> Option<u64>) -> Option<u64> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    number.checked_mul(factor(unit.trim_start_matches(' '))?)
}

impl<'de> Deserialize<'de> for ConfigDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let node = Node::deserialize(deserializer)?;
        match &node {
            Node::Text(text) => text.parse().map_err(D::Error::custom),
            _ => Err(D::Error::invalid_type(
                node.unexpected(),
                &r#"a duration in quotes ("10s")"#,
            )),
        }
    }
}

impl<'de> Deserialize<'de> for ConfigSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = r#"a number of bytes, or a size in quotes ("64MiB")"#;
        let node = Node::deserialize(deserializer)?;
        match &node {
            Node::Unsigned(bytes) => Ok(Self(*bytes)),
            Node::Signed(bytes) => {
                let bytes = u64::try_from(*bytes).map_err(|_| D::Error::custom(NOT_A_SIZE));
                bytes.map(Self)
            }
            Node::Text(text) => text.parse().map_err(D::Error::custom),
            _ => Err(D::Error::invalid_type(node.unexpected(), &EXPECTED)),
        }
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
