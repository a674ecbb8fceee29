//! Names that their clients number, so that they need not be remembered for long.
//!
//! Such a name is a prefix, which the client made up, a slash and a number. With a write the client says below which number all
//! of its writes are *done*: answered, or given up, and in any case never sent again. The range forgets the names of those, and
//! remembers the bound, its *floor*: a copy of such a write that arrives late is refused, since nobody waits for it and its
//! outcome is forgotten. This is what [`crate::sessions`] does for routers, without a bound on the number of clients.
//!
//! A floor has no row of its own: it is the largest that stands in the rows of the client's names, the newest of which carries
//! the newest bound. Only a split has to see to it that both parts know it ([`Clients::floors`]).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Name;

/// What sets a part of a request apart from the others ([`holdfast_common::proto::kv::Once`]); clients can't send it.
const PART: u8 = 0;

/// The names of each client.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Clients(BTreeMap<Bytes, Client>);

#[derive(Clone, Debug, Default, PartialEq)]
struct Client {
    numbers: BTreeSet<(u64, Name)>,
    /// The bounds that came with them, and how often each did.
    bounds: BTreeMap<u64, usize>,
}

/// The prefix and the number of a token that has them.
fn parse(token: &[u8]) -> Option<(usize, u64)> {
    let whole = token.iter().position(|byte| *byte == PART).unwrap_or(token.len());
    let slash = token[..whole].iter().rposition(|byte| *byte == b'/')?;
    let digits = &token[slash + 1..whole];
    if slash == 0 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = str::from_utf8(digits).ok()?.parse().ok()?;
    Some((slash, number))
}

/// The number of a token that has one.
pub(super) fn number(token: &[u8]) -> Option<u64> {
    parse(token).map(|(_, number)| number)
}

/// A token of a client that nobody sends, under the number below `floor`.
pub(super) fn marker(prefix: &[u8], floor: u64) -> Bytes {
    let number = floor.saturating_sub(1).to_string();
    [prefix, b"/", number.as_bytes(), &[PART], b"floor"]
        .concat()
        .into()
}

impl Clients {
    /// Takes a name in that came with a bound; one without does not count.
    pub(super) fn insert(&mut self, name: &Name, done: u64) {
        let Some((prefix, number)) = parse(&name.token).filter(|_| done > 0) else {
            return;
        };
        let client = self.0.entry(name.token.slice(..prefix)).or_default();
        client.numbers.insert((number, name.clone()));
        *client.bounds.entry(done).or_default() += 1;
    }

    /// Forgets a name that came with a bound.
    pub(super) fn remove(&mut self, name: &Name, done: u64) {
        let Some((prefix, number)) = parse(&name.token).filter(|_| done > 0) else {
            return;
        };
        let prefix = &name.token[..prefix];
        let Some(client) = self.0.get_mut(prefix) else {
            return;
        };
        client.numbers.remove(&(number, name.clone()));
        if let Some(times) = client.bounds.get_mut(&done) {
            *times -= 1;
            if *times == 0 {
                client.bounds.remove(&done);
            }
        }
        if client.numbers.is_empty() {
            self.0.remove(prefix);
        }
    }

    /// Whether the client of this token has said that it will not send it again.
    pub(super) fn is_done(&self, token: &[u8]) -> bool {
        parse(token).is_some_and(|(prefix, number)| number < self.floor(&token[..prefix]))
    }

    /// Below which number everything is done.
    pub(super) fn floor(&self, prefix: &[u8]) -> u64 {
        self.0.get(prefix).map_or(0, Client::floor)
    }

    /// The first name of the client of `token` whose number is below `done`.
    pub(super) fn first_below(&self, token: &[u8], done: u64) -> Option<&Name> {
        let (prefix, _) = parse(token)?;
        let (number, name) = self.0.get(&token[..prefix])?.numbers.first()?;
        (*number < done).then_some(name)
    }

    /// Every client's floor, and the names that it might stand on.
    pub(super) fn floors(&self) -> impl Iterator<Item = (&Bytes, u64, impl Iterator<Item = &Name>)> {
        self.0.iter().map(|(prefix, client)| {
            let names = client.numbers.iter().map(|(_, name)| name);
            (prefix, client.floor(), names)
        })
    }
}

impl Client {
    fn floor(&self) -> u64 {
        self.bounds.last_key_value().map_or(0, |(floor, _)| *floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numbered_token_is_a_prefix_a_slash_and_a_number() {
        let parts =
            |token: &'static str| parse(token.as_bytes()).map(|(end, number)| (&token[..end], number));
        assert_eq!(parts("a/7"), Some(("a", 7)));
        assert_eq!(parts("a/b/7\x0012"), Some(("a/b", 7)), "a part of a request");
        assert_eq!(parts("a/18446744073709551615"), Some(("a", u64::MAX)));
        for none in [
            "",
            "7",
            "/7",
            "a/",
            "a/-7",
            "a/+7",
            "a/7x",
            "a/18446744073709551616",
        ] {
            assert_eq!(parts(none), None, "{none}");
        }
        assert_eq!(number(&marker(b"a", 8)), Some(7));
    }
}
