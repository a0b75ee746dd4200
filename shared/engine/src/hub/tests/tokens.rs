//! Tokens of sockets: warned of, replaced, expired, revoked.

use tidegate_protocol::calls::access::{Access, Credential, Revocation, Revoked};
use tidegate_protocol::calls::network::Network;
use tidegate_protocol::ids::TokenId;

use super::*;

#[test]
fn an_expired_token_is_told_to_come_back_and_nothing_else() {
    let mut bench = Bench::new();
    let socket = bench.open_until(bench.now.0 + 10);
    let (id, _) = call(&bench.frame(&socket, r#"{"action":"work"}"#));
    bench.replied(id, acknowledged(1));
    bench.now = bench.now.plus(10);
    for effects in [
        bench.deliver(vec![end(2)]).0,
        bench.frame(&socket, r#"{"action":"work"}"#),
    ] {
        assert_eq!(told(&effects), pairs(&[("goodbye", 0)]));
        assert!(matches!(
            &effects[1],
            Effect::Close {
                code: CloseCode::TokenExpired,
                ..
            }
        ));
    }
}

#[test]
fn sockets_are_warned_a_minute_before_their_tokens_expire_and_ended_then() {
    let mut bench = Bench::new();
    let begin = bench.now;
    let early = bench.open_until(begin.0 + 100_000);
    let later = bench.open_until(begin.0 + 200_000);
    let last = bench.open_until(begin.0 + 3_600_000);
    assert_eq!(bench.hub.next_expiry(), Some(begin.plus(40_000)));
    bench.now = begin.plus(39_999);
    assert_eq!(bench.hub.expire(bench.now), []);
    // Those that expire soon after are told with it, so that the hub wakes once.
    bench.now = begin.plus(40_000);
    let effects = bench.hub.expire(bench.now);
    assert_eq!(told(&effects), pairs(&[("auth_expiring", 0), ("auth_expiring", 0)]));
    assert!(
        effects.contains(&Effect::Save { of: early.clone() }) && effects.contains(&Effect::Save { of: later.clone() })
    );
    assert_eq!(bench.hub.expire(bench.now), []);
    assert_eq!(bench.hub.next_expiry(), Some(begin.plus(100_000)));
    // Another token of the same user takes the place of the first.
    let verified = Ok(principal(begin.0 + 3_600_000));
    let id = || RequestId::parse("a").unwrap();
    let effects = bench.hub.authenticated(bench.now, &later, id(), verified);
    assert_eq!(told(&effects), pairs(&[("ok", 0)]));
    bench.now = begin.plus(100_000);
    let effects = bench.hub.expire(bench.now);
    assert_eq!(told(&effects), pairs(&[("goodbye", 0)]));
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Close { to, code: CloseCode::TokenExpired, .. } if *to == early))
    );
    assert_eq!(bench.hub.closed(bench.now, &early), []);
    assert_eq!(bench.hub.next_expiry(), Some(begin.plus(3_540_000)));
    // One that cannot be trusted changes nothing; one of somebody else ends the socket.
    let refused = Err(Error::new(ErrorCode::Unauthorized, "no"));
    assert_eq!(
        told(&bench.hub.authenticated(bench.now, &last, id(), refused)),
        pairs(&[("error", 0)])
    );
    let mut other = principal(begin.0 + 7_200_000);
    other.user = UserId::parse("somebody-else").unwrap();
    let effects = bench.hub.authenticated(bench.now, &last, id(), Ok(other));
    assert!(effects.iter().any(|effect| matches!(
        effect,
        Effect::Close {
            code: CloseCode::Unauthorized,
            ..
        }
    )));
    assert_eq!(
        bench.hub.session(&last).unwrap().principal,
        principal(begin.0 + 3_600_000)
    );
}

fn revoked(of: Revoked, at: UnixMs) -> Access {
    let revocation = Revocation {
        of,
        at,
        until: at.plus(3_600_000),
    };
    Access {
        suspended_at: None,
        spent: None,
        revocations: vec![revocation],
    }
}

fn closed(effects: &[Effect]) -> Vec<(ConnectionId, CloseCode)> {
    let closed = effects.iter().filter_map(|effect| match effect {
        Effect::Close { to, code, .. } => Some((to.clone(), *code)),
        _ => None,
    });
    closed.collect()
}

#[test]
fn a_revocation_ends_the_sockets_that_it_concerns_and_keeps_others_out() {
    let mut bench = Bench::new();
    let socket = bench.open();
    let of_bob = revoked(Revoked::User(UserId::parse("bob").unwrap()), bench.now);
    assert_eq!(bench.hub.keep_out(bench.now, of_bob), []);
    let of_ann = revoked(Revoked::User(UserId::parse("ann").unwrap()), bench.now);
    let effects = bench.hub.keep_out(bench.now, of_ann.clone());
    assert_eq!(told(&effects), pairs(&[("goodbye", 0)]));
    assert_eq!(closed(&effects), [(socket.clone(), CloseCode::Unauthorized)]);
    assert_eq!(bench.hub.closed(bench.now, &socket), []);
    assert_eq!(bench.hub.keep_out(bench.now, of_ann), [], "it was told before");
    // Neither over HTTP, nor with another socket, nor by a batch.
    let effects = bench.http(r#"{"action":"work"}"#, None, Prefer::default());
    assert!(
        matches!(&effects[..], [Effect::Answer { reply: Err(error), .. }] if error.code == ErrorCode::Unauthorized),
        "{effects:?}"
    );
    let mut random = || 7;
    let mut moment = Moment {
        now: bench.now,
        random: &mut random,
    };
    let who = principal(u64::MAX >> 12);
    let refused = bench
        .hub
        .open(&mut moment, who.clone(), Default::default(), 1)
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unauthorized);
    let refused = bench
        .hub
        .begin_batch(&mut moment, HttpId(9), &who, 1, None)
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unauthorized);
    // Until the revocation is over.
    bench.now = bench.now.plus(3_600_000);
    bench.open();
}

#[test]
fn a_revoked_token_does_not_take_the_place_of_a_good_one() {
    let mut bench = Bench::new();
    let socket = bench.open();
    let mut other = principal(u64::MAX >> 12);
    let id = TokenId::parse("t2").unwrap();
    other.credential = Credential::Token {
        id: Some(id.clone()),
        issued_at: None,
        claims: None,
        claims_cut: false,
    };
    assert_eq!(
        bench.hub.keep_out(bench.now, revoked(Revoked::Token(id), bench.now)),
        []
    );
    let request = RequestId::parse("a").unwrap();
    let effects = bench.hub.authenticated(bench.now, &socket, request, Ok(other));
    assert_eq!(told(&effects), pairs(&[("error", 0)]));
    assert!(bench.hub.session(&socket).is_some());
}

#[test]
fn a_suspended_tenant_has_no_sockets() {
    let mut bench = Bench::new();
    let sockets = [bench.open(), bench.open()];
    let suspended = Access {
        suspended_at: Some(bench.now),
        spent: None,
        revocations: Vec::new(),
    };
    let mut ended = closed(&bench.hub.keep_out(bench.now, suspended));
    ended.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert_eq!(ended, sockets.map(|socket| (socket, CloseCode::TenantSuspended)));
}

#[test]
fn a_socket_whose_credential_never_expires_wakes_nobody() {
    let mut bench = Bench::new();
    bench.open_until(Principal::NEVER.0);
    assert_eq!(bench.hub.next_expiry(), None);
}

/// The largest session that there can be: everything as long as it may be, and as many follows as a socket has.
#[test]
fn the_largest_session_can_sleep() {
    let scopes: SortedSet<String> = (0..7).map(|n| format!("{n}{}", "s".repeat(127))).collect();
    let large = |n: usize| serde_json::Value::from("x".repeat(n));
    let claims = [("a", large(900)), ("b", large(1100)), ("c", large(3000))];
    let claims = claims
        .into_iter()
        .map(|(name, value)| (String::from(name), value))
        .collect();
    let (kept, claims_cut) = crate::policies::keep_claims(&claims, &scopes);
    assert!(claims_cut && kept.as_ref().is_some_and(|kept| kept.as_str().len() > 2000));
    let mut principal = principal(u64::MAX >> 12);
    principal.tenant = TenantId::parse(&format!("eu.{}", "t".repeat(48))).unwrap();
    principal.user = UserId::parse(&"😀".repeat(128)).unwrap();
    principal.scopes = scopes;
    principal.network = Network::of("2001:db8:1111:2222:3333:4444:5555:6666");
    principal.credential = Credential::Token {
        id: TokenId::parse(&"t".repeat(64)),
        issued_at: Some(UnixMs(u64::MAX >> 12)),
        claims: kept,
        claims_cut,
    };
    let mut session = Session::new(ConnectionId::parse(&"c".repeat(64)).unwrap(), principal);
    session.faults = FAULTS_MAX;
    session.warned = Warned::Told;
    for n in 0..FOLLOWS_MAX {
        let request_id = RequestId::parse(&format!("{n:0>128}")).unwrap();
        session.follow(job(), Seq(u64::MAX >> 12), request_id);
    }
    assert_eq!(session.follows.len(), FOLLOWS_MAX);
    let bytes = tidegate_cbor::to_vec(&session);
    assert!(
        bytes.len() <= super::super::session::ATTACHMENT_BYTES_MAX,
        "{} bytes",
        bytes.len()
    );
    assert_eq!(
        Session::from_attachment(&session.to_attachment().unwrap()),
        Some(session)
    );
}
