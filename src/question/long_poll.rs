//! Long polls: requests that the origin holds until it has something to say.
//!
//! They cost the origin no work while they wait, so they count as streams. A visitor must not
//! be able to have other requests counted as such, or nothing would bound what the origin
//! gets. So path and query both have to be those of a library: on its path the origin runs
//! that library and nothing else. A path that has more in front is not enough, because
//! frameworks hand on what follows the name of a page.
//!
//! | library | path | parameters | source |
//! | --- | --- | --- | --- |
//! | ASP.NET SignalR 2 | `/signalr/connect`, `/signalr/reconnect`, `/signalr/poll` | `transport=longPolling` | its JavaScript client |
//! | Socket.IO, Engine.IO 3 and 4 | `/socket.io/` | `EIO`, `transport=polling`, `sid` | Engine.IO protocol, "HTTP long-polling" |

const SIGNALR: [&str; 3] = ["/signalr/connect", "/signalr/reconnect", "/signalr/poll"];

const SOCKET_IO: &str = "/socket.io/";

/// Whether a target says that it is a long poll.
pub(crate) fn is_long_poll(target: &str) -> bool {
    let Some((path, query)) = target.split_once('?') else {
        return false;
    };
    let has = |name: &str, value: Option<&str>| {
        query.split('&').any(|parameter| {
            let (said, of) = parameter.split_once('=').unwrap_or((parameter, ""));
            said.eq_ignore_ascii_case(name)
                && value.is_none_or(|value| of.eq_ignore_ascii_case(value))
        })
    };
    let is_signalr = SIGNALR.iter().any(|known| path.eq_ignore_ascii_case(known));
    // Without a session the poll of Socket.IO is a handshake, which is answered at once.
    (is_signalr && has("transport", Some("longPolling")))
        || (path == SOCKET_IO
            && has("transport", Some("polling"))
            && has("EIO", None)
            && has("sid", None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_poll_is_known_by_its_path_and_query() {
        for (target, expected) in [
            (
                "/signalr/poll?transport=longPolling&connectionToken=a%2Bb",
                true,
            ),
            (
                "/SignalR/connect?connectionToken=a&transport=longpolling",
                true,
            ),
            ("/signalr/negotiate?transport=longPolling", false),
            ("/signalr/poll?transport=webSockets", false),
            ("/socket.io/?EIO=4&transport=polling&t=x&sid=abc", true),
            ("/socket.io/?EIO=4&transport=polling&t=x", false),
            ("/signalr/poll", false),
        ] {
            assert_eq!(is_long_poll(target), expected, "{target}");
        }
    }

    /// A thousand of these could have been at the origin at once, instead of the budget.
    #[test]
    fn a_visitor_cannot_have_another_page_counted_as_a_stream() {
        for target in [
            "/report?transport=longPolling",
            "/report.aspx/signalr/poll?transport=longPolling",
            "/report/signalr/poll?transport=longPolling",
            "/signalr/poll/../../report?transport=longPolling",
            "/search?EIO=4&transport=polling&sid=a",
            "/x/socket.io/?EIO=4&transport=polling&sid=a",
        ] {
            assert!(!is_long_poll(target), "{target}");
        }
    }
}
