//! The cookie that names a session: how it is written and read. Pure.

use axum::extract::Request;
use axum::http::{HeaderMap, header};

use super::register::LIFE;

/// What the name begins with where there is TLS. Browsers take such a cookie only with `Secure`, for this host alone.
const HOST_ONLY: &str = "__Host-";

/// The host that a request is for, as the browser writes it: HTTP/1.1 has it in a header, HTTP/2 beside the path.
pub(in crate::admin) fn host(request: &Request) -> &str {
    let header = request.headers().get(header::HOST);
    let beside = request.uri().authority().map(|authority| authority.as_str());
    header
        .and_then(|host| host.to_str().ok())
        .or(beside)
        .unwrap_or_default()
}

/// The cookie's name. Cookies don't tell ports apart, so the name does: members of one machine have sessions of their own.
pub(in crate::admin) fn name(host: &str, secure: bool) -> String {
    let port = host.rsplit_once(':').map(|(_, port)| port);
    let port = port.filter(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    format!(
        "{}holdfast-{}",
        if secure { HOST_ONLY } else { "" },
        port.unwrap_or("session")
    )
}

/// The value of the cookie of this name.
pub(in crate::admin) fn read<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'));
    let mut named = pairs.filter_map(|pair| pair.trim().split_once('='));
    named.find(|(of, _)| *of == name).map(|(_, value)| value)
}

/// `Set-Cookie` for a session; none takes the cookie back. No script can read it, and no page of another site has it sent.
pub(super) fn write(name: &str, session: Option<&str>, secure: bool) -> String {
    let seconds = session.map_or(0, |_| LIFE.as_secs());
    let secure = if secure { "; Secure" } else { "" };
    format!(
        "{name}={}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}",
        session.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn members_of_one_machine_have_cookies_of_their_own() {
        assert_eq!(name("localhost:7410", false), "holdfast-7410");
        assert_eq!(name("[::1]:7411", true), "__Host-holdfast-7411");
        assert_eq!(name("[::1]", true), "__Host-holdfast-session");
        assert_eq!(name("kv.example.com", false), "holdfast-session");
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; holdfast-7411=x;b"));
        headers.append(header::COOKIE, HeaderValue::from_static("holdfast-7410=y=="));
        assert_eq!(read(&headers, "holdfast-7410"), Some("y=="));
        assert_eq!(read(&headers, "holdfast-7411"), Some("x"));
        assert_eq!(read(&headers, "holdfast-741"), None);
    }

    #[test]
    fn no_script_and_no_other_site_gets_at_it() {
        assert_eq!(
            write("__Host-holdfast-1", Some("id"), true),
            "__Host-holdfast-1=id; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure"
        );
        assert_eq!(
            write("holdfast-1", None, false),
            "holdfast-1=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"
        );
    }
}
