//! Before the first query: encryption requests, startup, authentication, cancel keys.

use super::{
    POLICY, REFUSING,
    stage::{Stage, check_from_start},
};

#[test]
fn p8_encryption_is_declined_once_and_startup_goes_on() {
    check_from_start(
        POLICY,
        "
        > SSL
        < N
        > GSS
        < N
        > startup user=bot database=shop
        >> startup user=bot database=shop
        << R | S server_version=18.0 | K | Z I
        < R | S server_version=18.0 | K | Z I
        > Q SELECT 1
        >> Q SELECT 1
        ",
    );
}

#[test]
fn p8_encryption_is_not_asked_for_twice() {
    check_from_start(
        POLICY,
        "
        > SSL
        < N
        > SSL
        < E 08P01 holdpoint: the client broke the protocol: encryption was asked for twice
        < (end)
        = incident: the client broke the protocol: encryption was asked for twice
        = ended: the client broke the protocol: encryption was asked for twice
        ",
    );
}

#[test]
fn v9_bytes_sent_along_with_an_encryption_request_end_the_connection() {
    check_from_start(
        POLICY,
        "
        > SSL | startup user=bot database=shop
        < E 08P01 holdpoint: the client broke the protocol: bytes follow an encryption request before its answer
        < (end)
        = incident: the client broke the protocol: bytes follow an encryption request before its answer
        = ended: the client broke the protocol: bytes follow an encryption request before its answer
        ",
    );
}

#[test]
fn tls_required_refuses_a_client_without_it() {
    let required =
        POLICY.replacen("default: refuse", "tls: { client: required, upstream: disable }\ndefault: refuse", 1);
    check_from_start(
        &required,
        "
        > SSL
        < N
        > startup user=bot database=shop
        < E 28000 holdpoint: this resource requires TLS, and the client did not use it; rule \"postgres protocol\"
        < (end)
        = ended: the session ended
        ",
    );
}

#[test]
fn p7_replication_connections_are_refused() {
    for value in ["true", "on", "1", "yes", "database", "DATABASE", "2"] {
        check_from_start(
            POLICY,
            &format!(
                "
                > startup user=bot database=shop replication={value}
                < E 28000 holdpoint: replication connections are not let through; rule \"postgres protocol\"
                < (end)
                = ended: the session ended
                "
            ),
        );
    }
    check_from_start(
        POLICY,
        "
        > startup user=bot database=shop replication=false
        >> startup user=bot database=shop replication=false
        ",
    );
}

#[test]
fn a_connection_that_policy_refuses_never_reaches_the_backend() {
    check_from_start(
        REFUSING,
        "
        > startup user=bot database=shop
        < E 28000 holdpoint: no policy matches, and orders-db refuses by default; rule \"default of orders-db\"
        < (end)
        = ended: the session ended
        ",
    );
}

#[test]
fn a_held_connection_is_silent_and_may_take_longer_than_a_handshake() {
    // libpq takes no notice before authentication: it would give up.
    let holding =
        format!("{POLICY}\n---\npolicy: logins\nmatch: {{ resource: orders-db, kinds: [connect] }}\ndecide: hold\n");
    check_from_start(
        &holding,
        "
        > startup user=bot database=shop
        = held as #1: database=shop user=bot
        ! wait 2m
        ! ada approves
        >> startup user=bot database=shop
        = #1 approved
        << R | K | Z I
        < R | K | Z I
        ",
    );
    check_from_start(
        &holding,
        "
        > startup user=bot database=shop
        = held as #1: database=shop user=bot
        ! ada denies
        < E 28000 holdpoint: denied by ada; request #1, rule \"logins\"
        < (end)
        = #1 denied
        = ended: the session ended
        ",
    );
}

#[test]
fn v8_a_second_startup_message_during_authentication_is_nobody_elses_login() {
    check_from_start(
        POLICY,
        "
        > startup user=bot database=shop
        >> startup user=bot database=shop
        << R 3
        < R 3
        > startup user=admin database=shop
        >> (end)
        < E 08P01 holdpoint: the client broke the protocol: a message of type '\\0' came before authentication
        < (end)
        = incident: the client broke the protocol: a message of type '\\0' came before authentication
        = ended: the client broke the protocol: a message of type '\\0' came before authentication
        ",
    );
}

#[test]
fn v8_what_no_client_sends_first_ends_the_connection() {
    let tls = "the client starts with TLS, which there is none of at this resource";
    let long =
        |length: u64| format!("the first packet says that it is {length} bytes long, which no PostgreSQL client sends");
    for (bytes, why) in [
        ("16 03 01 02 00", tls.to_owned()),
        ("47 45 54 20 2f 20 48 54", "the client speaks HTTP, and no PostgreSQL".to_owned()),
        ("05 01 00", "the client speaks SOCKS5, a way to tunnel, and no PostgreSQL".to_owned()),
        ("47 45 54 00 2f 20 48 54", long(0x4745_5400)),
        ("80 00 00 08 00 03 00 00", long(0x8000_0008)),
        ("ff ff ff ff 00 03 00 00", long(0xffff_ffff)),
        ("00 00 00 07 00 03 00", long(7)),
        ("00 00 27 11 00 03 00 00", long(10_001)),
        ("00 00 00 09 00 02 00 00 00", "protocol version 2.0 is not spoken here".to_owned()),
        // An empty name with something behind it; a name without a value; the same name twice.
        ("00 00 00 0b 00 03 00 00 00 61 00", "2 bytes follow the last field of a message".to_owned()),
        ("00 00 00 0a 00 03 00 00 61 00", "a string in a message has no terminating zero".to_owned()),
        ("00 00 00 11 00 03 00 00 61 00 62 00 61 00 63 00 00", "the startup parameter \"a\" is given twice".to_owned()),
        ("00 00 00 09 04 d2 16 2f 00", "1 bytes follow the last field of a message".to_owned()),
        // Cancel requests without a key, and with one of more than 256 bytes.
        ("00 00 00 0c 04 d2 16 2e 00 00 00 01", "a cancel request carries a key of 4 bytes".to_owned()),
    ] {
        let why = format!("the client broke the protocol: {why}");
        let script = format!("> raw {bytes}\n< E 08P01 holdpoint: {why}\n< (end)\n= incident: {why}\n= ended: {why}");
        check_from_start(POLICY, &script);
    }
}

#[test]
fn v5_a_client_that_says_nothing_is_not_waited_for() {
    check_from_start(
        POLICY,
        "
        > raw 00 00 00
        ! wait 59s
        ! wait 1s
        < E 08P01 holdpoint: the client broke the protocol: the handshake took too long
        < (end)
        = incident: the client broke the protocol: the handshake took too long
        = ended: the client broke the protocol: the handshake took too long
        ",
    );
}

#[test]
fn p10_a_newer_minor_version_is_the_backends_to_negotiate() {
    check_from_start(
        POLICY,
        "
        > startup3.2 user=bot database=shop _pq_.x=1
        >> startup3.2 user=bot database=shop _pq_.x=1
        << v | R | K | Z I
        < v | R | K | Z I
        ",
    );
}

#[test]
fn what_the_backend_says_to_a_wrong_password_reaches_the_client() {
    check_from_start(
        POLICY,
        "
        > startup user=bot database=shop
        >> startup user=bot database=shop
        << R 3
        < R 3
        > p wrong
        >> p wrong
        << E 28P01 password authentication failed
        < E 28P01 password authentication failed
        ! backend hangs up
        < (end)
        = ended: the backend closed the connection
        ",
    );
}

#[test]
fn nothing_but_an_answer_comes_before_authentication_is_over() {
    check_from_start(
        POLICY,
        "
        > startup user=bot database=shop
        >> startup user=bot database=shop
        << R 3
        < R 3
        > Q SELECT 1
        >> (end)
        < E 08P01 holdpoint: the client broke the protocol: a message of type 'Q' came before authentication
        < (end)
        = incident: the client broke the protocol: a message of type 'Q' came before authentication
        = ended: the client broke the protocol: a message of type 'Q' came before authentication
        ",
    );
}

#[tokio::test(start_paused = true)]
async fn a_password_is_forwarded_and_not_recorded() {
    let mut stage = Stage::new(POLICY);
    let script = [
        ("> startup user=bot database=shop", ">> startup user=bot database=shop"),
        ("<< R 3", "< R 3"),
        ("> p hunter2", ">> p hunter2"),
    ];
    for (step, seen) in script {
        stage.step(step).await;
        assert_eq!(stage.look().await, [seen]);
    }
    let ground = stage.leave().await;
    assert!(!ground.has_on_record(b"hunter2"));
}

#[test]
fn p9_a_cancel_request_with_nobodys_key_goes_nowhere() {
    check_from_start(
        POLICY,
        "
        > raw 00 00 00 10 04 d2 16 2e 00 00 12 34 de ad be ef
        < (end)
        = ended: a cancel request with a key that is not this workload's
        ",
    );
}

#[test]
fn v10_what_follows_a_cancel_request_is_not_forwarded() {
    check_from_start(
        POLICY,
        "
        > raw 00 00 00 10 04 d2 16 2e 00 00 12 34 de ad be ef 51 00 00 00 0d 53 45 4c 45 43 54 20 31 00
        < (end)
        = ended: a cancel request with a key that is not this workload's
        ",
    );
}

#[test]
fn c6_what_a_startup_message_sets_counts_as_setting_it() {
    for parameter in
        ["role=boss", "options=-crole=boss", "options=--role=boss", "session-preload-libraries=x", "options=-e"]
    {
        let why = match parameter {
            "options=-e" => {
                "what this does cannot be seen through (starts the session with the server option -e, which this gateway cannot read), and no policy that matches allows `unknown`"
            }
            "session-preload-libraries=x" => {
                "what this does cannot be seen through (changes the setting session-preload-libraries, which this gateway does not know), and no policy that matches allows `unknown`"
            }
            _ => "no policy matches, and orders-db refuses by default",
        };
        check_from_start(
            POLICY,
            &format!(
                "
                > startup user=bot database=shop {parameter}
                < E 28000 holdpoint: {why}; rule \"default of orders-db\"
                < (end)
                = ended: the session ended
                "
            ),
        );
    }
    let usual =
        "startup user=bot database=shop application_name=psql client_encoding=UTF8 options=-cgeqo=off TimeZone=UTC";
    check_from_start(POLICY, &format!("> {usual}\n>> {usual}"));
}

#[test]
fn c6_server_options_are_cut_as_the_backend_cuts_them() {
    let settings = |options: &str| {
        let parameters = [("user".to_owned(), "bot".to_owned()), ("options".to_owned(), options.to_owned())];
        let settings = crate::protocol::postgres::startup::settings(&parameters.into());
        let known: Vec<_> = settings.known.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (known.join(","), settings.unread.len())
    };
    for (options, known, unread) in [
        (" -c role=boss\t--work-mem=1 -cx.y=a\\ b ", "role=boss,work_mem=1,x.y=a b", 0),
        ("-c\\ role=boss", " role=boss", 0),
        ("-c", "", 1),
        ("-c role", "", 1),
        ("-- -c role=boss", "role=boss", 1),
        ("-Pcrole=boss stray", "", 2),
        ("-c a=b=c\\\\", "a=b=c\\", 0),
    ] {
        assert_eq!(settings(options), (known.to_owned(), unread), "{options:?}");
    }
}
