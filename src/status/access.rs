//! Who may change something.
//!
//! A valid bearer token always may. Without one, an address that only this machine can reach is
//! enough, as long as no web page is behind the request: a page that a browser on this machine
//! shows can post to a local port (cross-site request forgery), and under a name that resolves to
//! 127.0.0.1 it even counts as the same site (DNS rebinding). `Host` and `Origin` give both away.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName};

/// The rule for one address.
#[derive(Clone, Debug)]
pub(super) struct Access {
    loopback: bool,
    /// The token's hash: comparing hashes takes the same time wherever the texts differ.
    token: Option<blake3::Hash>,
}

/// Why a request may not change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// It needs the token, and has none or another.
    Unauthorized,
    /// It comes by a name that is not local, or from a web page of another site.
    ForeignSite,
}

impl Access {
    /// The rule for `address`; `None` where it would let everyone in.
    pub(super) fn new(address: SocketAddr, token: Option<&str>) -> Option<Self> {
        let loopback = address.ip().to_canonical().is_loopback();
        let token = token.filter(|token| !token.is_empty());
        (loopback || token.is_some())
            .then(|| Self { loopback, token: token.map(|token| blake3::hash(token.as_bytes())) })
    }

    /// Whether a request with these headers may change something.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Denied> {
        match (bearer(headers), self.token) {
            (Some(given), Some(token)) if blake3::hash(given.as_bytes()) == token => Ok(()),
            (Some(_), Some(_)) => Err(Denied::Unauthorized),
            _ if !self.loopback => Err(Denied::Unauthorized),
            _ if is_local(headers) => Ok(()),
            _ => Err(Denied::ForeignSite),
        }
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

    fn check(listen: &str, token: Option<&str>, headers: &[(HeaderName, &str)]) -> Option<Denied> {
        let headers =
            headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        Access::new(listen.parse().unwrap(), token).unwrap().check(&headers).err()
    }

    #[test]
    fn an_address_that_others_reach_needs_a_token_to_be_served() {
        for address in [OPEN, "[::]:0", "10.0.0.7:80"] {
            assert!(Access::new(address.parse().unwrap(), None).is_none(), "{address}");
            assert!(Access::new(address.parse().unwrap(), Some("")).is_none(), "{address}");
        }
        for address in [LOCAL, "[::1]:0", "[::ffff:127.0.0.1]:0", "127.9.9.9:1"] {
            assert!(Access::new(address.parse().unwrap(), None).is_some(), "{address}");
        }
    }

    #[test]
    fn only_the_right_token_opens_an_address_that_others_reach() {
        let host = (HOST, "localhost:8080");
        let with = |value| check(OPEN, Some("secret"), &[host.clone(), (AUTHORIZATION, value)]);
        assert_eq!(with("Bearer secret"), None);
        assert_eq!(with("bearer secret"), None);
        for wrong in ["Bearer secre", "Bearer secrets", "Bearer ", "Basic secret", "secret"] {
            assert_eq!(with(wrong), Some(Denied::Unauthorized), "{wrong}");
        }
        assert_eq!(
            check(OPEN, Some("secret"), std::slice::from_ref(&host)),
            Some(Denied::Unauthorized)
        );
    }

    #[test]
    fn a_local_address_needs_no_token_but_refuses_a_wrong_one() {
        let host = (HOST, LOCAL);
        assert_eq!(check(LOCAL, None, std::slice::from_ref(&host)), None);
        assert_eq!(check(LOCAL, Some("secret"), std::slice::from_ref(&host)), None);
        let wrong = [host, (AUTHORIZATION, "Bearer guess")];
        assert_eq!(check(LOCAL, Some("secret"), &wrong), Some(Denied::Unauthorized));
        assert_eq!(check(LOCAL, None, &wrong), None);
    }

    #[test]
    fn a_web_page_of_another_site_changes_nothing() {
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
