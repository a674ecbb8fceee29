use super::*;

const FAILURES: [Failure; 18] = [
    Failure::NoRoute,
    Failure::NoAddress,
    Failure::Unreachable,
    Failure::Congested,
    Failure::NotSentInTime,
    Failure::NoAnswerInTime,
    Failure::Lost,
    Failure::Closed,
    Failure::Nonsense,
    Failure::Invalid,
    Failure::NotLeader,
    Failure::StaleEpoch,
    Failure::NoSuchRange,
    Failure::Busy { retry_after_ms: 20 },
    Failure::DiskFull,
    Failure::NotReady,
    Failure::OutcomeUnknown,
    Failure::Retired,
];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn retry(after_ms: u64, refresh: Refresh) -> Decision {
    Decision::Retry {
        after: ms(after_ms),
        refresh,
    }
}

fn standing(attempts: u32) -> Standing {
    Standing {
        attempts,
        left: ms(10_000),
        may_be_applied: false,
        news: false,
    }
}

/// Every failure, at attempts 1, 3 and 9: as a read or a write that can't have been applied, with nowhere new to go.
#[test]
fn without_news_and_without_doubt() {
    use Code::*;
    use Decision::Fail;
    use Refresh::*;
    let table: [(Failure, [Decision; 3]); 18] = [
        (Failure::NoRoute, [retry(0, Map), retry(0, Map), retry(0, Map)]),
        (
            Failure::NoAddress,
            [retry(4, Route), retry(16, Route), retry(128, Route)],
        ),
        (
            Failure::Unreachable,
            [retry(4, Route), retry(16, Route), retry(128, Route)],
        ),
        (
            Failure::Congested,
            [retry(4, Route), Fail(Overloaded), Fail(Overloaded)],
        ),
        (
            Failure::NotSentInTime,
            [retry(4, Route), retry(16, Route), retry(128, Route)],
        ),
        (
            Failure::NoAnswerInTime,
            [retry(4, Route), retry(16, Route), retry(128, Route)],
        ),
        (
            Failure::Lost,
            [retry(4, Route), retry(16, Route), retry(128, Route)],
        ),
        (
            Failure::Closed,
            [Fail(Unavailable), Fail(Unavailable), Fail(Unavailable)],
        ),
        (
            Failure::Nonsense,
            [retry(4, Route), Fail(Internal), Fail(Internal)],
        ),
        (Failure::Invalid, [Fail(Internal), Fail(Internal), Fail(Internal)]),
        (
            Failure::NotLeader,
            [retry(4, Route), retry(16, Route), retry(128, Route)],
        ),
        (
            Failure::StaleEpoch,
            [retry(4, Route), retry(16, Route), retry(128, Route)],
        ),
        (
            Failure::NoSuchRange,
            [retry(4, Route), retry(16, Route), retry(128, Route)],
        ),
        (
            Failure::Busy { retry_after_ms: 20 },
            [retry(20, Route), Fail(Overloaded), Fail(Overloaded)],
        ),
        (
            Failure::DiskFull,
            [Fail(DiskFull), Fail(DiskFull), Fail(DiskFull)],
        ),
        (
            Failure::NotReady,
            [retry(4, Route), retry(16, Route), retry(128, Route)],
        ),
        (
            Failure::OutcomeUnknown,
            [retry(4, Route), retry(16, Route), retry(128, Route)],
        ),
        (
            Failure::Retired,
            [retry(0, Number), retry(0, Number), Fail(Unavailable)],
        ),
    ];
    for (failure, expected) in table {
        for (attempts, expected) in [1, 3, 9].into_iter().zip(expected) {
            assert_eq!(
                decide(failure, standing(attempts)),
                expected,
                "{failure:?} after {attempts}"
            );
        }
    }
}

/// Every failure of a write of which an earlier attempt may have been applied.
#[test]
fn in_doubt() {
    use Decision::Fail;
    use Refresh::*;
    let unknown = || Fail(Code::OutcomeUnknown);
    let table: [(Failure, [Decision; 2]); 18] = [
        (Failure::NoRoute, [retry(0, Map), retry(0, Map)]),
        (Failure::NoAddress, [retry(4, Route), retry(128, Route)]),
        (Failure::Unreachable, [retry(4, Route), retry(128, Route)]),
        (Failure::Congested, [retry(4, Route), retry(128, Route)]),
        (Failure::NotSentInTime, [retry(4, Route), retry(128, Route)]),
        (Failure::NoAnswerInTime, [retry(4, Route), retry(128, Route)]),
        (Failure::Lost, [retry(4, Route), retry(128, Route)]),
        (Failure::Closed, [unknown(), unknown()]),
        (Failure::Nonsense, [retry(4, Route), unknown()]),
        (Failure::Invalid, [retry(4, Route), retry(128, Route)]),
        (Failure::NotLeader, [retry(4, Route), retry(128, Route)]),
        (Failure::StaleEpoch, [retry(4, Route), retry(128, Route)]),
        (Failure::NoSuchRange, [retry(4, Route), retry(128, Route)]),
        (
            Failure::Busy { retry_after_ms: 20 },
            [retry(20, Route), retry(128, Route)],
        ),
        (Failure::DiskFull, [retry(4, Route), retry(128, Route)]),
        (Failure::NotReady, [retry(4, Route), retry(128, Route)]),
        (Failure::OutcomeUnknown, [retry(4, Route), retry(128, Route)]),
        (Failure::Retired, [unknown(), unknown()]),
    ];
    for (failure, expected) in table {
        for (attempts, expected) in [1, 9].into_iter().zip(expected) {
            let standing = Standing {
                may_be_applied: true,
                ..standing(attempts)
            };
            assert_eq!(
                decide(failure, standing),
                expected,
                "{failure:?} after {attempts}"
            );
        }
    }
}

#[test]
fn a_write_in_doubt_never_fails_as_not_applied() {
    for failure in FAILURES {
        for attempts in 1..20 {
            for left in [0, 1, 50, 10_000] {
                for news in [false, true] {
                    let standing = Standing {
                        attempts,
                        left: ms(left),
                        may_be_applied: true,
                        news,
                    };
                    let decision = decide(failure, standing);
                    let sound = match decision {
                        Decision::Retry { refresh, .. } => refresh != Refresh::Number,
                        Decision::Fail(code) => code == Code::OutcomeUnknown,
                    };
                    assert!(sound, "{failure:?} {standing:?}: {decision:?}");
                }
            }
        }
    }
}

#[test]
fn a_request_that_was_not_applied_is_never_called_unknown() {
    for failure in FAILURES {
        for attempts in 1..20 {
            for left in [0, 1, 50, 10_000] {
                let decision = decide(
                    failure,
                    Standing {
                        left: ms(left),
                        ..standing(attempts)
                    },
                );
                assert_ne!(decision, Decision::Fail(Code::OutcomeUnknown), "{failure:?}");
            }
        }
    }
}

#[test]
fn no_retry_begins_after_the_deadline() {
    for failure in FAILURES {
        for attempts in 1..20 {
            for may_be_applied in [false, true] {
                let out_of_time = Standing {
                    left: ms(0),
                    may_be_applied,
                    ..standing(attempts)
                };
                assert!(
                    matches!(decide(failure, out_of_time), Decision::Fail(_)),
                    "{failure:?}"
                );
                let little = Standing {
                    left: ms(3),
                    ..out_of_time
                };
                if let Decision::Retry { after, .. } = decide(failure, little) {
                    assert!(after < little.left, "{failure:?}");
                }
            }
        }
    }
}

#[test]
fn news_is_acted_on_at_once_but_not_for_ever() {
    let promptly = [
        Failure::NotLeader,
        Failure::StaleEpoch,
        Failure::NoSuchRange,
        Failure::Unreachable,
        Failure::NotSentInTime,
        Failure::NoAnswerInTime,
        Failure::Lost,
    ];
    for failure in promptly {
        let after = |attempts| match decide(
            failure,
            Standing {
                news: true,
                ..standing(attempts)
            },
        ) {
            Decision::Retry { after, .. } => after,
            Decision::Fail(code) => panic!("{failure:?} failed with {code:?}"),
        };
        assert_eq!((after(1), after(8)), (ms(0), ms(0)));
        assert_eq!(
            after(9),
            ms(128),
            "a pair of stores that send a request to and fro is not followed for ever"
        );
    }
}

#[test]
fn a_store_that_asks_for_patience_gets_it_if_the_client_has_it() {
    let busy = Failure::Busy { retry_after_ms: 700 };
    assert_eq!(decide(busy, standing(1)), retry(700, Refresh::Route));
    let hurried = Standing {
        left: ms(500),
        ..standing(1)
    };
    assert_eq!(decide(busy, hurried), Decision::Fail(Code::Overloaded));
}

#[test]
fn only_what_may_have_reached_a_range_leaves_doubt() {
    let doubtful: Vec<_> = FAILURES
        .into_iter()
        .filter(|failure| failure.may_have_applied())
        .collect();
    let expected = [
        Failure::NoAnswerInTime,
        Failure::Lost,
        Failure::Nonsense,
        Failure::OutcomeUnknown,
    ];
    assert_eq!(doubtful, expected);
}

#[test]
fn the_transport_and_the_table_agree_on_what_was_delivered() {
    use std::sync::Arc;
    let addr: Arc<str> = "a:1".into();
    let remote = |code| net::Error::Remote {
        code,
        message: "".into(),
    };
    let errors = [
        net::Error::Unreachable {
            addr: addr.clone(),
            reason: "".into(),
        },
        net::Error::WrongCluster {
            ours: 1.into(),
            theirs: 2.into(),
        },
        net::Error::Refused {
            addr: addr.clone(),
            code: ErrorCode::ShuttingDown,
            message: "".into(),
        },
        net::Error::QueueFull { addr: addr.clone() },
        net::Error::TooLarge { len: 1 },
        net::Error::Closed,
        net::Error::DeadlineExceeded { sent: false },
        net::Error::DeadlineExceeded { sent: true },
        net::Error::Lost {
            addr,
            reason: net::CloseReason::PeerLeft,
        },
        remote(ErrorCode::Internal),
        remote(ErrorCode::Abandoned),
        remote(ErrorCode::UnknownMethod),
        remote(ErrorCode::BadRequest),
        remote(ErrorCode::Overloaded),
        remote(ErrorCode::ShuttingDown),
        remote(ErrorCode::Unavailable),
        remote(ErrorCode::WrongCluster),
        remote(ErrorCode::UnknownCluster),
        remote(ErrorCode::BadHello),
        remote(ErrorCode::Expired),
    ];
    for error in errors {
        let failure = Failure::from(&error);
        assert_eq!(
            failure.may_have_applied(),
            !error.certainly_not_delivered(),
            "{error:?} as {failure:?}"
        );
    }
}
