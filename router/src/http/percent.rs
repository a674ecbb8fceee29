//! Percent-encoding, as strictly as keys of arbitrary bytes need it: every `%` is followed by two hexadecimal digits, every
//! other byte stands for itself. Nothing is normalised: not `..`, not `//`, not the case of escapes.

use std::borrow::Cow;

/// An escape is cut short or has other characters than hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a % that is not followed by two hexadecimal digits")]
pub(crate) struct BadEscape;

/// What a `+` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plus {
    /// Itself, as in a path.
    Itself,
    /// A space, as in the query strings that browsers and most libraries write.
    Space,
}

/// Decodes. What has nothing to decode is borrowed.
pub(crate) fn decode(raw: &[u8], plus: Plus) -> Result<Cow<'_, [u8]>, BadEscape> {
    let special = |byte: &u8| *byte == b'%' || (*byte == b'+' && plus == Plus::Space);
    let Some(first) = raw.iter().position(special) else {
        return Ok(Cow::Borrowed(raw));
    };
    let mut decoded = Vec::with_capacity(raw.len());
    decoded.extend_from_slice(&raw[..first]);
    let mut rest = raw[first..].iter();
    while let Some(&byte) = rest.next() {
        decoded.push(match byte {
            b'%' => digit(rest.next())? << 4 | digit(rest.next())?,
            b'+' if plus == Plus::Space => b' ',
            byte => byte,
        });
    }
    Ok(Cow::Owned(decoded))
}

fn digit(character: Option<&u8>) -> Result<u8, BadEscape> {
    match character {
        Some(digit @ b'0'..=b'9') => Ok(digit - b'0'),
        Some(digit @ b'a'..=b'f') => Ok(digit - b'a' + 10),
        Some(digit @ b'A'..=b'F') => Ok(digit - b'A' + 10),
        _ => Err(BadEscape),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_byte_can_be_escaped_in_either_case() {
        for byte in 0..=255u8 {
            for escape in [format!("%{byte:02x}"), format!("%{byte:02X}")] {
                assert_eq!(
                    decode(escape.as_bytes(), Plus::Itself).as_deref(),
                    Ok(&[byte][..]),
                    "{escape}"
                );
                assert_eq!(
                    decode(escape.as_bytes(), Plus::Space).as_deref(),
                    Ok(&[byte][..]),
                    "{escape}"
                );
            }
        }
    }

    #[test]
    fn every_byte_but_the_escape_stands_for_itself_in_a_path() {
        for byte in (0..=255u8).filter(|byte| *byte != b'%') {
            assert_eq!(
                decode(&[b'a', byte, b'z'], Plus::Itself).as_deref(),
                Ok(&[b'a', byte, b'z'][..])
            );
        }
    }

    #[test]
    fn a_plus_is_a_space_in_a_query_only() {
        assert_eq!(decode(b"a+b%2B", Plus::Space).as_deref(), Ok(&b"a b+"[..]));
        assert_eq!(decode(b"a+b%2B", Plus::Itself).as_deref(), Ok(&b"a+b+"[..]));
    }

    #[test]
    fn nothing_is_normalised() {
        for path in ["../..", "a//b", ".", "a/", "%2e%2e", "%252F"] {
            let once = path.replace("%2e", ".").replace("%25", "%");
            assert_eq!(
                decode(path.as_bytes(), Plus::Itself).as_deref(),
                Ok(once.as_bytes())
            );
        }
    }

    #[test]
    fn broken_escapes_are_refused() {
        for broken in [
            "%", "%4", "a%", "%zz", "%4g", "%g4", "%%41", "% 41", "%+4", "%-1", "%u0041",
        ] {
            assert_eq!(
                decode(broken.as_bytes(), Plus::Itself),
                Err(BadEscape),
                "{broken}"
            );
            assert_eq!(decode(broken.as_bytes(), Plus::Space), Err(BadEscape), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(key: Vec<u8>) {
            let encoded = percent_encoding::percent_encode(&key, percent_encoding::NON_ALPHANUMERIC).to_string();
            let decoded = decode(encoded.as_bytes(), Plus::Itself);
            prop_assert_eq!(decoded.as_deref(), Ok(&key[..]));
        }

        #[test]
        fn arbitrary_bytes_never_panic(raw: Vec<u8>) {
            let _ = decode(&raw, Plus::Space);
        }
    }
}
