//! Long polls: requests that the origin holds until it has something to say.
//!
//! They cost the origin no work while they wait. Each is for one visitor. The libraries
//! whose polls are known name the transport in the query:
//!
//! | library | parameters | source |
//! | --- | --- | --- |
//! | ASP.NET SignalR 2 | `transport=longPolling` | its JavaScript client, `/poll` |
//! | Socket.IO, Engine.IO 3 and 4 | `EIO`, `transport=polling`, `sid` | Engine.IO protocol, "HTTP long-polling" |
//! | Atmosphere | `X-Atmosphere-Transport=long-polling` | its wiki, "Understanding the Atmosphere protocol" |

/// Whether a target says that it is a long poll.
pub(crate) fn is_long_poll(target: &str) -> bool {
    let Some((_, query)) = target.split_once('?') else {
        return false;
    };
    let has = |name: &str, value: Option<&str>| {
        query.split('&').any(|parameter| {
            let (said, of) = parameter.split_once('=').unwrap_or((parameter, ""));
            said.eq_ignore_ascii_case(name)
                && value.is_none_or(|value| of.eq_ignore_ascii_case(value))
        })
    };
    has("transport", Some("longPolling"))
        || has("X-Atmosphere-Transport", Some("long-polling"))
        // Without a session the poll is a handshake, which is answered at once.
        || (has("transport", Some("polling")) && has("EIO", None) && has("sid", None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_poll_is_known_by_its_query() {
        for (target, expected) in [
            (
                "/signalr/poll?transport=longPolling&connectionToken=a%2Bb",
                true,
            ),
            (
                "/signalr/poll?connectionToken=a&transport=longpolling",
                true,
            ),
            ("/socket.io/?EIO=4&transport=polling&t=x&sid=abc", true),
            ("/socket.io/?EIO=4&transport=polling&t=x", false),
            ("/chat?X-Atmosphere-Transport=long-polling", true),
            ("/poll", false),
            ("/polls?transport=polling", false),
            ("/map?transport=tram", false),
            ("/transport=longPolling", false),
        ] {
            assert_eq!(is_long_poll(target), expected, "{target}");
        }
    }
}
