use std::collections::BTreeMap;

use holdfast_common::ids::ReplicaId;
use holdfast_common::key::Span;
use holdfast_common::proto;
use holdfast_common::range::{Epoch, Replica, Role};

use super::*;
use crate::world::{World, register};

const OURS: ClusterId = ClusterId(7);

fn registered(world: &mut World, store: Register) -> Result<u64, Error> {
    match world.apply(Command::Register { store, now_ms: 0 }) {
        Outcome::Registered(answer) => answer.map(|registered| registered.store.0),
        other => panic!("{other:?}"),
    }
}

fn joined(world: &mut World, join: Join) -> Result<u64, Error> {
    match world.apply(Command::AdmitMember(join)) {
        Outcome::Joined(answer) => answer.map(|joined| joined.member.0),
        other => panic!("{other:?}"),
    }
}

fn join(name: &str, directory: u64, known: Option<u64>) -> Join {
    let members = ["p", "q", "r"].map(str::to_owned).to_vec();
    let known = known.map(|number| (OURS, MemberId(number)));
    let (rpc_address, http_address) = (format!("{name}:1"), format!("{name}:2"));
    Join {
        name: name.to_owned(),
        members,
        known,
        directory,
        rpc_address,
        http_address,
    }
}

#[test]
fn a_cluster_is_founded_once() {
    let mut world = World::new(&[]);
    let founder = world.state.members[&MemberId(1)].clone();
    world.apply(Command::Found {
        cluster: ClusterId(8),
        number: MemberId(2),
        founder,
    });
    assert_eq!((world.state.cluster, world.state.members.len()), (Some(OURS), 1));
}

#[test]
fn registration_is_idempotent_by_directory() {
    let mut world = World::new(&["a"]);
    assert_eq!(
        registered(&mut world, register(1, "a")),
        Ok(1),
        "the answer was lost"
    );
    let moved = Register {
        known: Some((OURS, StoreId(1))),
        rpc_address: "elsewhere:1".into(),
        ..register(1, "a")
    };
    assert_eq!(registered(&mut world, moved), Ok(1));
    assert_eq!(world.state.stores[&StoreId(1)].rpc_address, "elsewhere:1");
    assert_eq!(registered(&mut world, register(2, "a")), Ok(2));
}

#[test]
fn registrations_that_must_not_be_are_refused() {
    let mut world = World::new(&["a"]);
    let wiped = Register {
        directory: 9,
        ..register(1, "a")
    };
    assert_eq!(
        registered(&mut world, wiped),
        Err(Error::NameTaken {
            name: "store-1".into(),
            store: StoreId(1)
        })
    );
    let foreign = Register {
        known: Some((ClusterId(8), StoreId(1))),
        ..register(1, "a")
    };
    assert_eq!(
        registered(&mut world, foreign),
        Err(Error::WrongCluster {
            ours: OURS,
            theirs: ClusterId(8)
        })
    );
    let unknown = Register {
        known: Some((OURS, StoreId(5))),
        ..register(5, "a")
    };
    assert_eq!(
        registered(&mut world, unknown),
        Err(Error::UnknownStore(StoreId(5)))
    );
    let other_directory = Register {
        known: Some((OURS, StoreId(1))),
        directory: 9,
        ..register(1, "a")
    };
    assert_eq!(
        registered(&mut world, other_directory),
        Err(Error::UnknownStore(StoreId(1)))
    );
    let nobody = State::default().apply(
        &Command::Register {
            store: register(1, "a"),
            now_ms: 0,
        },
        &mut Changes::default(),
    );
    assert_eq!(nobody, Outcome::Registered(Err(Error::NotBootstrapped)));
}

#[test]
fn a_member_is_known_by_its_directory() {
    let mut world = World::new(&[]);
    assert_eq!(joined(&mut world, join("q", 2, None)), Ok(2));
    assert_eq!(
        joined(&mut world, join("q", 2, None)),
        Ok(2),
        "the answer was lost"
    );
    assert_eq!(joined(&mut world, join("q", 2, Some(2))), Ok(2));
    assert_eq!(
        joined(&mut world, join("q", 5, None)),
        Err(Error::MemberReplaced { name: "q".into() }),
        "wiped"
    );
    let foreign = Join {
        known: Some((ClusterId(8), MemberId(2))),
        ..join("q", 2, None)
    };
    assert_eq!(
        joined(&mut world, foreign),
        Err(Error::WrongCluster {
            ours: OURS,
            theirs: ClusterId(8)
        })
    );
}

#[test]
fn a_removed_member_comes_back_under_another_number_and_only_with_an_empty_directory() {
    let mut world = World::new(&[]);
    joined(&mut world, join("q", 2, None)).unwrap();
    assert_eq!(
        world.apply(Command::RemoveMember { name: "q".into() }),
        Outcome::Found(true)
    );
    assert_eq!(
        joined(&mut world, join("q", 2, Some(2))),
        Err(Error::MemberReplaced { name: "q".into() })
    );
    let number = joined(&mut world, join("q", 5, None)).unwrap();
    assert_eq!((number, Seat::of(MemberId(number)).position()), (102, Some(1)));
}

#[test]
fn the_first_range_is_planned_once() {
    let mut world = World::new(&[]);
    registered(&mut world, register(1, "a")).unwrap();
    registered(&mut world, register(2, "a")).unwrap();
    registered(&mut world, register(1, "a")).unwrap();
    let firsts: Vec<_> = world
        .state
        .operators
        .running()
        .map(|operator| &operator.intent.kind)
        .collect();
    assert_eq!(firsts, [&Kind::CreateFirst { on: StoreId(1) }]);
}

#[test]
fn ids_are_never_given_twice() {
    let mut world = World::new(&["a"]);
    let mut block = |count| match world.apply(Command::AllocateIds { count }) {
        Outcome::Ids(answer) => answer,
        other => panic!("{other:?}"),
    };
    let (first, second) = (block(10).unwrap(), block(1).unwrap());
    assert!(first.first > 2, "1 and 2 are the first range and its replica");
    assert_eq!(second.first, first.first + 10);
    assert!(matches!(block(0), Err(Error::Invalid(_))));
    assert!(matches!(block(MAX_ID_BLOCK + 1), Err(Error::Invalid(_))));
    let next = world.start(1, Kind::Split { at: None }).unwrap();
    assert!(world.operator(next).names(ReplicaId(second.first + 2)));
}

#[test]
fn ids_that_were_never_minted_are_not_learned() {
    let mut world = World::new(&["a"]);
    let replica = Replica {
        id: ReplicaId(2),
        store: StoreId(1),
        role: Role::Voter,
    };
    let epoch = Epoch {
        bounds: 9,
        membership: 9,
    };
    let stranger = Descriptor {
        id: RangeId(999),
        span: Span::everything(),
        epoch,
        replicas: vec![replica],
    };
    let before = world.state.clone();
    world.apply(Command::Observe(vec![stranger]));
    assert_eq!(world.state, before);
}

#[test]
fn settings_change_from_the_version_that_was_read() {
    let mut world = World::new(&[]);
    let settings = Settings {
        replication_factor: 5,
        ..Settings::default()
    };
    assert_eq!(
        world.apply(Command::Configure {
            from: 0,
            settings: settings.clone()
        }),
        Outcome::Configured(true)
    );
    assert_eq!(
        world.apply(Command::Configure {
            from: 0,
            settings: Settings::default()
        }),
        Outcome::Configured(false)
    );
    assert_eq!(world.state.settings, settings);
}

#[test]
fn too_many_operators_are_refused() {
    let mut world = World::new(&["a", "b"]);
    world.state.settings.max_operators = 1;
    world.start(1, Kind::AddReplica { to: StoreId(2) }).unwrap();
    assert_eq!(world.start(9, Kind::Split { at: None }), Err(Refusal::TooMany(1)));
}

#[test]
fn state_and_commands_survive_their_encoding() {
    let mut world = World::new(&["a", "b"]);
    world.replicate(&[2]);
    world.start(1, Kind::Split { at: None }).unwrap();
    let state: State = proto::decode(&proto::encode(&world.state)).unwrap();
    assert_eq!(state, world.state);
    let command = Command::Register {
        store: Register {
            labels: BTreeMap::new(),
            ..register(3, "a")
        },
        now_ms: 5,
    };
    assert_eq!(proto::decode::<Command>(&proto::encode(&command)), Ok(command));
}
