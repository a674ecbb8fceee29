//! Entity tags: the revision of a record, in quotes; and the conditions that clients state with them (RFC 9110, 13).

use bytes::Bytes;
use holdfast_common::proto::kv::Condition;
use holdfast_common::revision::Revision;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};

use super::problem::{Code, Problem};

/// The `ETag` header of a record.
pub(crate) fn header(revision: Revision) -> HeaderValue {
    let text = Bytes::from(format!("\"{revision}\""));
    // Digits in quotes make a valid header.
    HeaderValue::from_maybe_shared(text).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// What a condition header names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    /// `*`: whatever is there.
    Any,
    /// One tag or more.
    These(Vec<Tag>),
}

/// One entity tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tag {
    weak: bool,
    /// The revision; none for a tag that this service never gave and that no record can have.
    revision: Option<Revision>,
}

/// What a `PUT` demands of the record that it replaces.
///
/// # Errors
/// A malformed or unsupported header; or, at once, a condition that no record can meet.
pub(crate) fn put_condition(headers: &HeaderMap) -> Result<Condition, Problem> {
    match (tags(headers, &IF_MATCH)?, tags(headers, &IF_NONE_MATCH)?) {
        (None, None) => Ok(Condition::None),
        (None, Some(Tags::Any)) => Ok(Condition::Absent),
        (Some(tags), None) => match_condition(tags),
        (None, Some(Tags::These(_))) => Err(invalid(&IF_NONE_MATCH, "on a write it can only be *")),
        (Some(_), Some(_)) => Err(invalid(&IF_NONE_MATCH, "it can't be combined with If-Match")),
    }
}

/// What a `DELETE` demands of the record that it removes.
///
/// # Errors
/// As for [`put_condition`].
pub(crate) fn delete_condition(headers: &HeaderMap) -> Result<Condition, Problem> {
    if headers.contains_key(IF_NONE_MATCH) {
        return Err(invalid(&IF_NONE_MATCH, "DELETE does not take it"));
    }
    tags(headers, &IF_MATCH)?.map_or(Ok(Condition::None), match_condition)
}

/// Whether a reader who sends these headers has the record of `revision` already.
///
/// # Errors
/// A malformed header.
pub(crate) fn is_known(headers: &HeaderMap, revision: Revision) -> Result<bool, Problem> {
    Ok(match tags(headers, &IF_NONE_MATCH)? {
        None => false,
        Some(Tags::Any) => true,
        // A weak tag is as good as a strong one here.
        Some(Tags::These(tags)) => tags.iter().any(|tag| tag.revision == Some(revision)),
    })
}

/// Whether the headers of a read are well-formed: checked before the read is made.
///
/// # Errors
/// A malformed header.
pub(crate) fn check_read(headers: &HeaderMap) -> Result<(), Problem> {
    tags(headers, &IF_NONE_MATCH).map(drop)
}

fn match_condition(tags: Tags) -> Result<Condition, Problem> {
    match tags {
        Tags::Any => Ok(Condition::Exists),
        Tags::These(tags) => match tags[..] {
            [
                Tag {
                    weak: false,
                    revision: Some(revision),
                },
            ] => Ok(Condition::Revision(revision)),
            [_] => Err(Problem::new(
                Code::PreconditionFailed,
                "no record has such an entity tag",
            )),
            _ => Err(invalid(&IF_MATCH, "it takes one entity tag")),
        },
    }
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, Problem> {
    let mut found = None;
    for value in headers.get_all(name) {
        let parsed = parse(value.as_bytes()).ok_or_else(|| {
            invalid(
                name,
                "expected * or an entity tag: the revision in double quotes, as in ETag",
            )
        })?;
        match (&mut found, parsed) {
            (None, parsed) => found = Some(parsed),
            (Some(Tags::These(tags)), Tags::These(more)) => tags.extend(more),
            (Some(_), _) => return Err(invalid(name, "* stands alone")),
        }
    }
    Ok(found)
}

fn parse(header: &[u8]) -> Option<Tags> {
    let mut rest = header.trim_ascii();
    if rest == b"*" {
        return Some(Tags::Any);
    }
    let mut tags = Vec::with_capacity(1);
    loop {
        let (weak, quoted) = rest
            .strip_prefix(b"W/")
            .map_or((false, rest), |quoted| (true, quoted));
        let inner = quoted.strip_prefix(b"\"")?;
        let end = inner.iter().position(|byte| *byte == b'"')?;
        let (opaque, after) = (&inner[..end], inner[end + 1..].trim_ascii());
        if !opaque
            .iter()
            .all(|byte| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..=0xff))
        {
            return None;
        }
        tags.push(Tag {
            weak,
            revision: revision(opaque),
        });
        if after.is_empty() {
            return Some(Tags::These(tags));
        }
        rest = after.strip_prefix(b",")?.trim_ascii();
    }
}

/// The revision that a tag of ours stands for; there is one way to write each.
fn revision(opaque: &[u8]) -> Option<Revision> {
    let canonical =
        opaque.iter().all(u8::is_ascii_digit) && (opaque.len() == 1 || opaque.first() != Some(&b'0'));
    let text = str::from_utf8(opaque).ok().filter(|_| canonical)?;
    text.parse().ok()
}

fn invalid(name: &HeaderName, why: &str) -> Problem {
    Problem::new(Code::InvalidHeader, format!("{name}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect()
    }

    fn code<T: std::fmt::Debug>(result: Result<T, Problem>) -> Code {
        result.expect_err("a problem").code
    }

    #[test]
    fn a_tag_is_a_revision_in_quotes() {
        assert_eq!(header(Revision(1_234)), "\"1234\"");
        let max = header(Revision(u64::MAX));
        assert_eq!(
            parse(max.as_bytes()),
            Some(Tags::These(vec![Tag {
                weak: false,
                revision: Some(Revision(u64::MAX))
            }]))
        );
    }

    #[test]
    fn conditions_of_a_put() {
        let put = |pairs: &[(HeaderName, &'static str)]| put_condition(&headers(pairs));
        assert_eq!(put(&[]), Ok(Condition::None));
        assert_eq!(put(&[(IF_NONE_MATCH, "*")]), Ok(Condition::Absent));
        assert_eq!(put(&[(IF_MATCH, "*")]), Ok(Condition::Exists));
        assert_eq!(
            put(&[(IF_MATCH, " \"7\" ")]),
            Ok(Condition::Revision(Revision(7)))
        );
        assert_eq!(put(&[(IF_MATCH, "\"0\"")]), Ok(Condition::Revision(Revision(0))));
    }

    #[test]
    fn a_condition_that_no_record_meets_fails_as_one() {
        let unmet = [
            "\"abc\"",
            "\"\"",
            "\"07\"",
            "\"+7\"",
            "\"-7\"",
            "\"18446744073709551616\"",
            "W/\"7\"",
            "\"\u{e9}\"",
        ];
        for tag in unmet {
            let mut map = HeaderMap::new();
            map.insert(
                IF_MATCH,
                HeaderValue::from_bytes(tag.as_bytes()).expect("a header"),
            );
            assert_eq!(code(put_condition(&map)), Code::PreconditionFailed, "{tag}");
            assert_eq!(code(delete_condition(&map)), Code::PreconditionFailed, "{tag}");
        }
    }

    #[test]
    fn malformed_conditions_are_refused() {
        for tag in [
            "",
            "7",
            "\"7",
            "7\"",
            "\"7\"x",
            "\"7\",",
            "\"7\" \"8\"",
            "w/\"7\"",
            "**",
            "*,\"7\"",
            "\"a b\"",
        ] {
            assert_eq!(
                code(put_condition(&headers(&[(IF_MATCH, tag)]))),
                Code::InvalidHeader,
                "{tag}"
            );
            assert_eq!(
                code(check_read(&headers(&[(IF_NONE_MATCH, tag)]))),
                Code::InvalidHeader,
                "{tag}"
            );
        }
        assert_eq!(
            code(put_condition(&headers(&[(IF_MATCH, "\"7\", \"8\"")]))),
            Code::InvalidHeader
        );
        assert_eq!(
            code(put_condition(&headers(&[(IF_NONE_MATCH, "\"7\"")]))),
            Code::InvalidHeader
        );
        assert_eq!(
            code(put_condition(&headers(&[
                (IF_MATCH, "\"7\""),
                (IF_NONE_MATCH, "*")
            ]))),
            Code::InvalidHeader
        );
        assert_eq!(
            code(delete_condition(&headers(&[(IF_NONE_MATCH, "*")]))),
            Code::InvalidHeader
        );
    }

    #[test]
    fn a_reader_may_name_several_revisions() {
        let known = |header, revision| is_known(&headers(&[(IF_NONE_MATCH, header)]), Revision(revision));
        assert_eq!(known("\"7\"", 7), Ok(true));
        assert_eq!(known("\"7\"", 8), Ok(false));
        assert_eq!(known("W/\"7\"", 7), Ok(true));
        assert_eq!(known("\"6\" , \"7\"", 7), Ok(true));
        assert_eq!(known("*", 7), Ok(true));
        assert_eq!(known("\"abc\"", 7), Ok(false));
        let mut twice = headers(&[(IF_NONE_MATCH, "\"6\"")]);
        twice.append(IF_NONE_MATCH, HeaderValue::from_static("\"7\""));
        assert_eq!(is_known(&twice, Revision(7)), Ok(true));
    }
}
