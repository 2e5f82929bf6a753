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
}
