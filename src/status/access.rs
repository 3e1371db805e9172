//! Decides which requests may read, publish and change.
//!
//! A token that is set is asked for everywhere, from this machine too. Without one, an address that
//! only this machine can reach is enough, as long as no web page is behind the request: a page that
//! a browser on this machine shows can post to a local port (cross-site request forgery), and under a
//! name that resolves to 127.0.0.1 it can read the answers, too (DNS rebinding). `Host` and `Origin`
//! give both away.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, Method, Version};

use super::sender::Sender;

/// The rule for one address.
#[derive(Clone, Debug)]
pub(super) struct Access {
    loopback: bool,
    /// The token's hash: comparing hashes takes the same time wherever the texts differ.
    token: Option<blake3::Hash>,
    senders: Vec<Arc<Sender>>,
}

/// The action that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    Publish,
    Change,
}

/// The origin of a request.
#[derive(Clone, Debug)]
pub(super) enum Bearer {
    /// The bearer of `status.token`, or anyone on this machine where none is asked for.
    Operator,
    /// The bearer of a sender's token.
    Sender(Arc<Sender>),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// Proxies in front could understand it in another way.
    Ambiguous(&'static str),
    /// It needs a token, and has none or another.
    Unauthorized,
    /// Its token is good for publishing only.
    PublishOnly,
    /// It comes by a name that is not local, or from a web page of another site.
    ForeignSite,
}

impl Access {
    /// The rule for `address`; `None` where it would let everyone in.
    pub(super) fn new(
        address: SocketAddr,
        token: Option<&str>,
        senders: Vec<Arc<Sender>>,
    ) -> Option<Self> {
        let loopback = address.ip().to_canonical().is_loopback();
        let token = token.filter(|token| !token.is_empty());
        let token = token.map(|token| blake3::hash(token.as_bytes()));
        (loopback || token.is_some()).then_some(Self { loopback, token, senders })
    }

    /// Whether a request with these headers may do this, and who sends it.
    pub(super) fn check(&self, purpose: Purpose, headers: &HeaderMap) -> Result<Bearer, Denied> {
        let given = bearer(headers).map(|token| blake3::hash(token.as_bytes()));
        if given.is_some() && given == self.token {
            return Ok(Bearer::Operator);
        }
        let sender = given.and_then(|given| self.senders.iter().find(|one| one.hash == given));
        match (sender, purpose) {
            (Some(sender), Purpose::Publish) => return Ok(Bearer::Sender(Arc::clone(sender))),
            (Some(_), _) if self.token.is_some() => return Err(Denied::PublishOnly),
            _ => {}
        }
        let asks = self.token.is_some()
            || !self.senders.is_empty() && (purpose == Purpose::Publish || given.is_some());
        match () {
            () if asks && sender.is_none() || !self.loopback => Err(Denied::Unauthorized),
            () if is_local(headers) => Ok(Bearer::Operator),
            () => Err(Denied::ForeignSite),
        }
    }
}

/// Whether the request can be understood in one way only.
pub(super) fn is_plain(request: &Request) -> Result<(), Denied> {
    let times = |name| request.headers().get_all(name).iter().count();
    if request.uri().authority().is_some() {
        return Err(Denied::Ambiguous("the target is no path: send \"GET /status\", not a URL"));
    }
    if times(HOST) > 1 || times(AUTHORIZATION) > 1 {
        return Err(Denied::Ambiguous("Host or Authorization is there twice"));
    }
    if times(HOST) == 0 && request.version() != Version::HTTP_10 {
        return Err(Denied::Ambiguous("the header Host is missing"));
    }
    Ok(())
}

/// The action that the request asks for; `None` for a probe or the empty page, which need no token.
pub(super) fn purpose(request: &Request) -> Option<Purpose> {
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/" | "/livez" | "/readyz") => None,
        (&Method::POST, "/v1/events") => Some(Purpose::Publish),
        (method, _) if method.is_safe() => Some(Purpose::Read),
        _ => Some(Purpose::Change),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text(headers, &AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether the request names a local host, and comes from no page, or from one served here.
fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = text(headers, &HOST) else { return false };
    let same_site = match headers.get(ORIGIN) {
        None => true,
        Some(origin) => {
            origin.to_str().is_ok_and(|origin| origin.strip_prefix("http://") == Some(host))
        }
    };
    same_site && names_this_machine(host)
}

/// Whether `host`, with or without a port, can mean no other machine.
fn names_this_machine(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || literal.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "127.0.0.1:8080";
    const OPEN: &str = "0.0.0.0:8080";

    fn access(listen: &str, token: Option<&str>, senders: &[(&str, &str)]) -> Option<Access> {
        let sender = |(name, token): &(&str, &str)| Arc::new(Sender::new(name, token, None));
        let senders = senders.iter().map(sender).collect();
        Access::new(listen.parse().unwrap(), token, senders)
    }

    fn headers(headers: &[(HeaderName, &str)]) -> HeaderMap {
        headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn check(listen: &str, token: Option<&str>, given: &[(HeaderName, &str)]) -> Option<Denied> {
        let access = access(listen, token, &[]).unwrap();
        let denied = |purpose| access.check(purpose, &headers(given)).err();
        let all = [Purpose::Read, Purpose::Publish, Purpose::Change].map(denied);
        assert_eq!([all[1], all[2]], [all[0]; 2], "one rule for all purposes");
        all[0]
    }

    #[test]
    fn an_address_that_others_reach_needs_a_token_to_be_served() {
        for address in [OPEN, "[::]:0", "10.0.0.7:80"] {
            assert!(access(address, None, &[("shop", "shop-token")]).is_none(), "{address}");
            assert!(access(address, Some(""), &[]).is_none(), "{address}");
        }
        for address in [LOCAL, "[::1]:0", "[::ffff:127.0.0.1]:0", "127.9.9.9:1"] {
            assert!(access(address, None, &[]).is_some(), "{address}");
        }
    }

    #[test]
    fn a_token_that_is_set_is_asked_for_on_every_address() {
        for listen in [OPEN, LOCAL] {
            let host = (HOST, LOCAL);
            let with =
                |value| check(listen, Some("secret"), &[host.clone(), (AUTHORIZATION, value)]);
            assert_eq!(with("Bearer secret"), None);
            assert_eq!(with("bearer secret"), None);
            for wrong in ["Bearer secre", "Bearer secrets", "Bearer ", "Basic secret", "secret"] {
                assert_eq!(with(wrong), Some(Denied::Unauthorized), "{wrong}");
            }
            let without = check(listen, Some("secret"), std::slice::from_ref(&host));
            assert_eq!(without, Some(Denied::Unauthorized));
        }
        let foreign = [(HOST, "kappa.example"), (AUTHORIZATION, "Bearer secret")];
        assert_eq!(check(LOCAL, Some("secret"), &foreign), None, "no web page knows the token");
    }

    #[test]
    fn without_a_token_a_local_address_is_open_to_this_machine() {
        let host = (HOST, LOCAL);
        assert_eq!(check(LOCAL, None, std::slice::from_ref(&host)), None);
        assert_eq!(check(LOCAL, None, &[host, (AUTHORIZATION, "Bearer any")]), None);
    }

    #[test]
    fn a_sender_may_publish_and_nothing_else() {
        let senders = [("shop", "shop-token"), ("web", "web-token")];
        for (listen, token) in [(OPEN, Some("secret")), (LOCAL, Some("secret")), (LOCAL, None)] {
            let access = access(listen, token, &senders).unwrap();
            let with = |purpose, value| {
                access.check(purpose, &headers(&[(HOST, LOCAL), (AUTHORIZATION, value)]))
            };
            let bearer = with(Purpose::Publish, "Bearer web-token").unwrap();
            assert!(matches!(bearer, Bearer::Sender(sender) if sender.name == "web"));
            for purpose in [Purpose::Read, Purpose::Publish, Purpose::Change] {
                let guess = with(purpose, "Bearer guess").unwrap_err();
                assert_eq!(guess, Denied::Unauthorized, "{listen} {token:?} {purpose:?}");
            }
            let without = access.check(Purpose::Publish, &headers(&[(HOST, LOCAL)])).unwrap_err();
            assert_eq!(without, Denied::Unauthorized, "a sender's token is asked for");
            let reads = with(Purpose::Read, "Bearer web-token").err();
            assert_eq!(reads, token.map(|_| Denied::PublishOnly));
        }
    }

    #[test]
    fn a_web_page_of_another_site_reads_and_changes_nothing() {
        for host in ["localhost", "LOCALHOST:1", LOCAL, "[::1]:80", "[::1]", "127.0.0.1"] {
            assert_eq!(check(LOCAL, None, &[(HOST, host)]), None, "{host}");
        }
        for host in ["evil.example:8080", "127.0.0.1.evil.example", "10.0.0.7:8080", ""] {
            assert_eq!(check(LOCAL, None, &[(HOST, host)]), Some(Denied::ForeignSite), "{host}");
        }
        assert_eq!(check(LOCAL, None, &[]), Some(Denied::ForeignSite));
        let from = |origin| check(LOCAL, None, &[(HOST, LOCAL), (ORIGIN, origin)]);
        assert_eq!(from("http://127.0.0.1:8080"), None);
        for origin in ["null", "https://evil.example", "http://127.0.0.1:3000"] {
            assert_eq!(from(origin), Some(Denied::ForeignSite), "{origin}");
        }
    }
}
