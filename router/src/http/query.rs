//! The query of a request: every parameter known, none repeated, every value within its bounds, or the request is refused.
//! A misspelt parameter that is silently ignored is a wrong answer that looks right.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use holdfast_common::limits::{DEFAULT_DEADLINE, MAX_DEADLINE};
use holdfast_common::proto::kv::Consistency;

use super::percent::{self, Plus};
use super::problem::{Code, Problem};
use crate::point::Freshness;

/// Largest bound on staleness that a reader may state: a day.
const MAX_STALENESS_MS: u64 = 24 * 60 * 60 * 1_000;

/// The parameters of a request.
#[derive(Debug, Default)]
pub(crate) struct Query<'a> {
    parameters: Vec<(&'static str, Cow<'a, [u8]>)>,
}

impl<'a> Query<'a> {
    /// Reads a raw query, none of whose parameters is other than the `known` ones.
    ///
    /// # Errors
    /// A parameter is unknown, repeated or malformed.
    pub(crate) fn parse(raw: Option<&'a str>, known: &[&'static str]) -> Result<Self, Problem> {
        let mut parameters: Vec<(&'static str, Cow<'a, [u8]>)> = Vec::new();
        let pairs = raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name)?;
            let Some(name) = known.iter().find(|known| known.as_bytes() == &name[..]) else {
                return Err(invalid(format!(
                    "unknown parameter {:?}; known: {}",
                    show(&name),
                    known.join(", ")
                )));
            };
            if parameters.iter().any(|(present, _)| present == name) {
                return Err(invalid(format!("{name} is given twice")));
            }
            parameters.push((name, decode(value)?));
        }
        Ok(Self { parameters })
    }

    /// The bytes of a parameter, if it is given.
    pub(crate) fn bytes(&self, name: &str) -> Option<Bytes> {
        self.value(name).map(Bytes::copy_from_slice)
    }

    /// A flag: `true`, `false`, `1` or `0`; false when it is not given.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.value(name) {
            None | Some(b"false" | b"0") => Ok(false),
            Some(b"true" | b"1") => Ok(true),
            Some(other) => Err(invalid(format!("{name} is true or false, not {:?}", show(other)))),
        }
    }

    /// A whole number within `bounds`, if it is given.
    pub(crate) fn number<T>(&self, name: &str, bounds: RangeInclusive<T>) -> Result<Option<T>, Problem>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let digits = Some(value).filter(|value| !value.is_empty() && value.iter().all(u8::is_ascii_digit));
        let number = digits
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse().ok());
        let number = number.filter(|number| bounds.contains(number));
        number.map(Some).ok_or_else(|| {
            let (least, most) = (bounds.start(), bounds.end());
            invalid(format!(
                "{name} is a whole number from {least} to {most}, not {:?}",
                show(value)
            ))
        })
    }

    /// What a read must see: linearizable unless the client settles for less, and says how much less.
    pub(crate) fn freshness(&self) -> Result<Freshness, Problem> {
        let max_staleness_ms = self.number("max_staleness", 0..=MAX_STALENESS_MS)?;
        let consistency = match (self.consistency()?, max_staleness_ms) {
            (Consistency::Linearizable, Some(_)) if self.value("consistency").is_some() => {
                return Err(invalid("max_staleness goes with consistency=stale"));
            }
            (_, Some(_)) => Consistency::Stale,
            (consistency, None) => consistency,
        };
        Ok(Freshness {
            consistency,
            max_staleness_ms,
        })
    }

    fn consistency(&self) -> Result<Consistency, Problem> {
        match self.value("consistency") {
            None | Some(b"linearizable") => Ok(Consistency::Linearizable),
            Some(b"stale") => Ok(Consistency::Stale),
            Some(other) => Err(invalid(format!(
                "consistency is linearizable or stale, not {:?}",
                show(other)
            ))),
        }
    }

    /// How long the client is willing to wait.
    pub(crate) fn timeout(&self) -> Result<Duration, Problem> {
        let most = MAX_DEADLINE.as_millis() as u64;
        Ok(self
            .number("timeout_ms", 1..=most)?
            .map_or(DEFAULT_DEADLINE, Duration::from_millis))
    }

    fn value(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.parameters.iter().find(|(present, _)| *present == name)?;
        Some(value)
    }
}

/// A problem with a parameter.
pub(crate) fn invalid(detail: impl Into<Cow<'static, str>>) -> Problem {
    Problem::new(Code::InvalidParameter, detail)
}

fn decode(raw: &str) -> Result<Cow<'_, [u8]>, Problem> {
    percent::decode(raw.as_bytes(), Plus::Space)
        .map_err(|error| invalid(format!("{:?}: {error}", show(raw.as_bytes()))))
}

/// Something a client sent, cut to fit an error.
fn show(bytes: &[u8]) -> String {
    holdfast_common::key::Printable(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 4] = ["limit", "prefix", "reverse", "consistency"];

    fn parse(raw: &str) -> Result<Query<'_>, Problem> {
        Query::parse(Some(raw), &KNOWN)
    }

    #[test]
    fn parameters_are_decoded() {
        let query = parse("prefix=a%00%FF%26b+c%3D&limit=7&reverse=true").expect("a query");
        assert_eq!(query.bytes("prefix"), Some(Bytes::from_static(b"a\0\xff&b c=")));
        assert_eq!(query.number("limit", 1..=10u32), Ok(Some(7)));
        assert_eq!(query.flag("reverse"), Ok(true));
        assert_eq!(query.bytes("start"), None);
        assert_eq!(query.consistency(), Ok(Consistency::Linearizable));
        assert_eq!(query.timeout(), Ok(DEFAULT_DEADLINE));
    }

    #[test]
    fn how_stale_an_answer_may_be_is_for_the_reader_to_say() {
        const KNOWN: [&str; 2] = ["consistency", "max_staleness"];
        let freshness = |raw| Query::parse(Some(raw), &KNOWN).expect("a query").freshness();
        assert_eq!(freshness(""), Ok(Freshness::LINEARIZABLE));
        for (raw, max_staleness_ms) in [
            ("consistency=stale", None),
            ("max_staleness=0", Some(0)),
            ("consistency=stale&max_staleness=1500", Some(1_500)),
        ] {
            let consistency = Consistency::Stale;
            let expected = Freshness {
                consistency,
                max_staleness_ms,
            };
            assert_eq!(freshness(raw), Ok(expected), "{raw}");
        }
        for bad in [
            "consistency=linearizable&max_staleness=1",
            "max_staleness=-1",
            "max_staleness=5s",
        ] {
            assert!(freshness(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_byte_can_stand_in_a_value() {
        for byte in 0..=255u8 {
            let raw = format!("prefix=%{byte:02X}");
            assert_eq!(
                parse(&raw).expect("a query").bytes("prefix"),
                Some(Bytes::copy_from_slice(&[byte]))
            );
        }
    }

    #[test]
    fn an_empty_query_is_none() {
        assert!(Query::parse(None, &KNOWN).is_ok());
        assert!(parse("").is_ok());
        assert!(parse("&").is_ok());
        assert_eq!(
            parse("prefix=").expect("a query").bytes("prefix"),
            Some(Bytes::new())
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [
            "nope=1",
            "limit=1&limit=1",
            "prefix=%",
            "prefix=%zz",
            "%zz=1",
            "=1",
            "Limit=1",
            "limit=1&%6Cimit=2",
        ] {
            assert_eq!(
                parse(bad).map(drop).map_err(|problem| problem.code),
                Err(Code::InvalidParameter),
                "{bad}"
            );
        }
    }

    #[test]
    fn values_out_of_bounds_are_refused() {
        for bad in [
            "",
            "0",
            "11",
            "-1",
            "+1",
            "1.5",
            "x",
            "1x",
            " 1",
            "99999999999999999999",
            "0x1",
        ] {
            let raw = format!("limit={bad}").replace('+', "%2B");
            assert!(
                parse(&raw).expect("a query").number("limit", 1..=10u64).is_err(),
                "{bad}"
            );
        }
        assert!(parse("reverse=yes").expect("a query").flag("reverse").is_err());
        assert!(parse("reverse").expect("a query").flag("reverse").is_err());
        assert!(
            parse("consistency=eventual")
                .expect("a query")
                .consistency()
                .is_err()
        );
    }
}
