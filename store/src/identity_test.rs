use super::*;

const CLUSTER: ClusterId = ClusterId(7);
const STORE: StoreId = StoreId(3);

#[test]
fn an_empty_directory_becomes_the_stores_own_and_stays_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = DataDir::claim(dir.path(), "store-1").unwrap();
    assert_eq!(first.known(), None);
    let nonce = first.nonce();
    first.registered(CLUSTER, STORE).unwrap();
    drop(first);

    let mut again = DataDir::claim(dir.path(), "store-1").unwrap();
    assert_eq!((again.nonce(), again.known()), (nonce, Some((CLUSTER, STORE))));
    again.registered(CLUSTER, STORE).unwrap();
    assert!(matches!(
        again.registered(CLUSTER, StoreId(4)),
        Err(Error::Contradiction { .. })
    ));
}

#[test]
fn the_nonce_outlives_a_crash_before_the_registration() {
    let dir = tempfile::tempdir().unwrap();
    let nonce = DataDir::claim(dir.path(), "store-1").unwrap().nonce();
    assert_eq!(DataDir::claim(dir.path(), "store-1").unwrap().nonce(), nonce);
}

#[test]
fn two_processes_never_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let _first = DataDir::claim(dir.path(), "store-1").unwrap();
    assert!(matches!(
        DataDir::claim(dir.path(), "store-1"),
        Err(Error::InUse(_))
    ));
}

#[test]
fn data_without_an_identity_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("data")).unwrap();
    assert!(matches!(
        DataDir::claim(dir.path(), "store-1"),
        Err(Error::NoIdentity(_))
    ));
}

#[test]
fn a_directory_made_under_another_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(DataDir::claim(dir.path(), "store-1").unwrap());
    assert!(matches!(
        DataDir::claim(dir.path(), "store-2"),
        Err(Error::OtherName { .. })
    ));
}

#[test]
fn a_damaged_identity_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let nonce = DataDir::claim(dir.path(), "store-1").unwrap().nonce();
    let written = fs::read_to_string(dir.path().join(IDENTITY_FILE)).unwrap();
    for (at, byte) in written.bytes().enumerate() {
        let mut flipped = written.clone().into_bytes();
        flipped[at] = byte ^ 1 << (at % 7);
        fs::write(dir.path().join(IDENTITY_FILE), &flipped).unwrap();
        let claimed = DataDir::claim(dir.path(), "store-1");
        // A flipped white space says the same.
        let is_same = claimed.as_ref().is_ok_and(|dir| dir.nonce() == nonce);
        assert!(is_same || claimed.is_err(), "byte {at}: {claimed:?}");
        drop(claimed);
        fs::remove_file(dir.path().join(IDENTITY_FILE)).unwrap();
    }
    fs::write(dir.path().join(IDENTITY_FILE), "{\"format\": 1").unwrap();
    let damaged = DataDir::claim(dir.path(), "store-1").unwrap_err();
    assert!(damaged.is_damage() && damaged.mark().is_none(), "{damaged}");
    fs::write(
        dir.path().join(IDENTITY_FILE),
        r#"{"format": 2, "name": "store-1", "directory": 1}"#,
    )
    .unwrap();
    assert!(matches!(
        DataDir::claim(dir.path(), "store-1"),
        Err(Error::Unreadable { .. })
    ));
}

#[test]
fn a_marked_directory_is_refused_until_its_content_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = DataDir::claim(dir.path(), "store-1").unwrap();
    first.registered(CLUSTER, STORE).unwrap();
    let nonce = first.nonce();
    let found = Found {
        file: None,
        reason: "a flipped bit".to_owned(),
    };
    first.quarantine(found).unwrap();
    assert!(matches!(
        DataDir::set_aside(dir.path(), &quarantine::read_mark(dir.path()).unwrap()),
        Err(Error::InUse(_))
    ));
    drop(first);
    let refused = DataDir::claim(dir.path(), "store-1").unwrap_err();
    assert!(refused.to_string().contains("a flipped bit"), "{refused}");
    let mark = refused.mark().unwrap().clone();
    assert_eq!((mark.store, mark.directory), (Some((CLUSTER, STORE)), nonce));

    let aside = DataDir::set_aside(dir.path(), &mark).unwrap();
    assert!(aside.join(IDENTITY_FILE).exists());
    let anew = DataDir::claim(dir.path(), "store-1").unwrap();
    assert_eq!(anew.known(), None);
    assert_ne!(anew.nonce(), nonce);
}

#[test]
fn a_copy_is_refused_until_the_operator_vouches_for_it() {
    let (original, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(DataDir::claim(original.path(), "store-1").unwrap());
    fs::copy(
        original.path().join(IDENTITY_FILE),
        copy.path().join(IDENTITY_FILE),
    )
    .unwrap();
    assert!(matches!(
        DataDir::claim(copy.path(), "store-1"),
        Err(Error::Copied(_))
    ));

    let text = fs::read_to_string(copy.path().join(IDENTITY_FILE)).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value.as_object_mut().unwrap().remove("inode");
    fs::write(copy.path().join(IDENTITY_FILE), value.to_string()).unwrap();
    drop(DataDir::claim(copy.path(), "store-1").unwrap());
    assert!(DataDir::claim(copy.path(), "store-1").is_ok());
}
