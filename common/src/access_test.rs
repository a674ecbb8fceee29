use proptest::prelude::*;

use super::*;
use crate::ids::ClusterId;

fn credential(id: u64, proof: Proof, right: Right, prefixes: &[&str]) -> Credential {
    Credential {
        id,
        name: format!("c{id}"),
        proof,
        right,
        prefixes: prefixes.iter().map(|prefix| prefix.as_bytes().to_vec()).collect(),
        expires_ms: None,
        created_ms: 0,
        limits: Default::default(),
    }
}

fn holder(right: Right, prefixes: &[&str]) -> Principal {
    let proof = Proof::Token([0; 32]);
    Principal::Holder(Arc::new(credential(1, proof, right, prefixes)))
}

fn client(name: &str) -> Identity {
    Identity::new(ClusterId(7), Kind::Client, name).expect("a name")
}

const RIGHTS: [Right; 3] = [Right::ReadOnly, Right::ReadWrite, Right::Admin];
const ACTIONS: [Action; 3] = [Action::Read, Action::Write, Action::Administer];

/// Which rights allow which actions, written out.
fn oracle(right: Right, action: Action) -> bool {
    matches!(
        (right, action),
        (Right::Admin, _) | (_, Action::Read) | (Right::ReadWrite, Action::Write)
    )
}

proptest! {
    #[test]
    fn a_key_is_permitted_as_a_list_of_prefixes_says(
        right in 0usize..3, action in 0usize..3,
        prefixes in prop::collection::vec("[ab]{0,3}", 0..4), key in "[abc]{1,5}",
    ) {
        let list: Vec<&str> = prefixes.iter().map(String::as_str).collect();
        let expected = oracle(RIGHTS[right], ACTIONS[action])
            && (list.is_empty() || list.iter().any(|prefix| key.starts_with(prefix)));
        let answer = holder(RIGHTS[right], &list).permits(ACTIONS[action], Target::Key(key.as_bytes()));
        prop_assert_eq!(answer.is_ok(), expected);
    }

    /// A span that is permitted has no key that is not: every short key is tried.
    #[test]
    fn a_span_is_permitted_only_with_all_its_keys(
        prefix in "[ab]{0,2}", start in "[abc]{0,3}", end in "[abc]{0,3}",
    ) {
        let Ok(span) = Span::new(start, end) else { return Ok(()) };
        let principal = holder(Right::ReadOnly, &[&prefix]);
        let permitted = principal.permits(Action::Read, Target::Span(&span)).is_ok();
        let alphabet = [b'a', b'b', b'c', 0xff];
        let mut keys: Vec<Vec<u8>> = vec![vec![]];
        for _ in 0..4 {
            let longer: Vec<Vec<u8>> = keys
                .iter()
                .flat_map(|key| alphabet.iter().map(move |byte| [&key[..], &[*byte]].concat()))
                .collect();
            keys.extend(longer);
        }
        keys.retain(|key| !key.is_empty() && span.contains(key));
        let all = keys.iter().all(|key| key.starts_with(prefix.as_bytes()));
        if permitted {
            prop_assert!(all);
        }
    }

    #[test]
    fn arbitrary_headers_never_panic_and_never_let_in(header in ".{0,200}") {
        let rules = Rules { required: true, ..Rules::default() };
        prop_assert!(Table::new(&rules, false).admit(Some(&header), None, 0).is_err());
    }
}

#[test]
fn one_prefix_is_permitted_whole_and_nothing_beside_it() {
    let principal = holder(Right::ReadWrite, &["users/"]);
    let permits = |span: Span| principal.permits(Action::Write, Target::Span(&span)).is_ok();
    let span = |start: &str, end: &str| Span::new(start.to_owned(), end.to_owned()).expect("a span");
    assert!(permits(Span::prefix("users/")));
    assert!(permits(Span::prefix("users/7/")));
    assert!(permits(span("users/a", "users/b")));
    assert!(!permits(Span::prefix("users")), "it has keys outside");
    assert!(!permits(span("users/a", "")), "it has no end");
    assert!(!permits(span("users/a", "userz")));
    assert!(!permits(Span::everything()));
    assert_eq!(
        principal.permits(Action::Administer, Target::Cluster),
        Err(Denied::Forbidden)
    );
}

#[test]
fn who_is_let_in() {
    let token = "hf_secret";
    let rules = Rules {
        version: 1,
        required: true,
        credentials: vec![
            credential(1, Proof::Token(hash_token(token)), Right::Admin, &[]),
            Credential {
                expires_ms: Some(100),
                ..credential(2, Proof::Token(hash_token("hf_old")), Right::Admin, &[])
            },
            credential(3, Proof::Certificate("app".into()), Right::ReadOnly, &[]),
        ],
    };
    let table = Table::new(&rules, false);
    let admit = |header: Option<&str>, identity: Option<&Identity>| {
        table
            .admit(header, identity, 100)
            .map(|principal| principal.to_string())
    };
    assert_eq!(admit(None, None), Err(Denied::Missing));
    assert_eq!(admit(Some("Bearer hf_secret"), None), Ok("token:c1".into()));
    assert_eq!(admit(Some("bearer  hf_secret"), None), Ok("token:c1".into()));
    assert_eq!(admit(Some("Basic hf_secret"), None), Err(Denied::Malformed));
    assert_eq!(admit(Some("Bearer hf_secre"), None), Err(Denied::Unknown));
    assert_eq!(admit(Some("Bearer hf_old"), None), Err(Denied::Expired));
    assert_eq!(admit(None, Some(&client("app"))), Ok("certificate:c3".into()));
    assert_eq!(admit(None, Some(&client("other"))), Err(Denied::NoGrant));
    assert_eq!(
        admit(Some("Bearer bad"), Some(&client("app"))),
        Err(Denied::Unknown),
        "a bad token is not made good by a certificate"
    );
    let node = |role| Identity::new(ClusterId(7), Kind::Node(role), "n").expect("a name");
    assert_eq!(admit(None, Some(&node(Role::Admin))), Ok("operator:n".into()));
    assert_eq!(admit(None, Some(&node(Role::Placement))), Err(Denied::Missing));
}

#[test]
fn what_was_let_in_is_let_in_no_more_once_revoked() {
    let rules = Rules {
        required: true,
        credentials: vec![credential(1, Proof::Token(hash_token("t")), Right::Admin, &[])],
        ..Rules::default()
    };
    let table = Table::new(&rules, false);
    let principal = table.admit(Some("Bearer t"), None, 0).expect("let in");
    assert_eq!(table.reconsider(&principal, 0), Ok(()));
    let mut renewed = rules.clone();
    renewed.credentials[0].id = 2;
    assert_eq!(
        Table::new(&renewed, false).reconsider(&principal, 0),
        Err(Denied::Unknown)
    );
    let none = Rules {
        credentials: Vec::new(),
        ..rules
    };
    assert_eq!(
        Table::new(&none, false).reconsider(&principal, 0),
        Err(Denied::Unknown)
    );
}

#[test]
fn an_open_cluster_lets_anyone_in_but_no_bad_token() {
    let open = Table::new(&Rules::default(), false);
    assert!(matches!(open.admit(None, None, 0), Ok(Principal::Anyone)));
    assert_eq!(open.admit(Some("Bearer x"), None, 0).err(), Some(Denied::Unknown));
    let closed = Table::new(&Rules::default(), true);
    assert_eq!(closed.admit(None, None, 0).err(), Some(Denied::Missing));
    assert_eq!(closed.reconsider(&Principal::Anyone, 0), Err(Denied::Missing));
}

#[test]
fn nothing_that_is_shown_of_a_credential_is_its_proof() {
    let shown = format!("{:?}", holder(Right::Admin, &[]));
    assert!(!shown.contains('0'), "{shown}");
}
