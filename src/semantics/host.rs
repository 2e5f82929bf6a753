//! Hosts in canonical form.

/// Host and port in lower case, without the default port of `scheme` (RFC 3986
/// sections 6.2.2.1 and 6.2.3).
pub fn canonical_host(scheme: &str, host: &str) -> String {
    let host = host.to_ascii_lowercase();
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => ":",
    };
    let host = host.strip_suffix(':').unwrap_or(&host);
    host.strip_suffix(default_port).unwrap_or(host).to_owned()
}

/// Whether an authority is one that a request may be for: a host, and perhaps a port
/// (RFC 9110 section 7.2). It has no user name or password, and its port is a number. Nothing
/// after the colon is the default port.
pub fn is_host_and_port(authority: &str) -> bool {
    if authority.contains('@') {
        return false;
    }
    // An address of IPv6 has colons of its own, and brackets around them.
    let after_host = match authority.rfind(']') {
        Some(bracket) => authority.get(bracket.saturating_add(1)..).unwrap_or(""),
        None => authority
            .find(':')
            .map_or("", |colon| authority.get(colon..).unwrap_or("")),
    };
    match after_host.strip_prefix(':') {
        None => after_host.is_empty(),
        Some("") => true,
        Some(port) => port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_ports_and_case_do_not_tell_hosts_apart() {
        for (scheme, host, expected) in [
            ("https", "EXAMPLE.com", "example.com"),
            ("https", "example.com:443", "example.com"),
            ("https", "example.com:", "example.com"),
            ("https", "example.com:80", "example.com:80"),
            ("http", "example.com:80", "example.com"),
            ("http", "[::1]:8080", "[::1]:8080"),
        ] {
            assert_eq!(canonical_host(scheme, host), expected, "{scheme} {host}");
        }
    }

    #[test]
    fn a_request_is_for_a_host_and_a_port() {
        for (authority, expected) in [
            ("a.example", true),
            ("a.example:80", true),
            ("a.example:", true),
            ("a.example:080", true),
            ("[::1]", true),
            ("[::1]:8080", true),
            ("u@a.example", false),
            ("u:p@a.example:80", false),
            ("@a.example", false),
            ("a.example:x", false),
            ("a.example:8x", false),
            ("a.example:-1", false),
            ("a.example:+1", false),
            ("a.example:65536", false),
            ("a.example:80:80", false),
            ("[::1]x", false),
            ("[::1]:x", false),
        ] {
            assert_eq!(is_host_and_port(authority), expected, "{authority}");
        }
    }
}
