//! What an operator sees of a running node: log, metrics, access log.
#![allow(
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says what it leaves out"
)]

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use http::{Method, StatusCode};
use leeward_tests::client::{ask, get};
use leeward_tests::nodes::{self, ending};
use leeward_tests::origin::Answer;
use leeward_tests::{Ask, Node, Origin, wait};

/// A node in front of this origin, with its store in memory.
fn up_for(origin: &Origin, arguments: &[&str]) -> Command {
    let mut command = nodes::up();
    command
        .args(["--origin", &origin.url(), "--store", "memory"])
        .args(arguments);
    command
}

/// The text of the field of this name in a line of JSON.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let after = line.split_once(&format!("\"{name}\":\""));
    let value = after.and_then(|(_, rest)| rest.split_once('"'));
    value.map_or("", |(value, _)| value)
}

fn lines(log: &str, event: &str) -> Vec<String> {
    let event = format!("\"event\":\"{event}\"");
    let lines = log.lines().filter(|line| line.contains(&event));
    lines.map(str::to_owned).collect()
}

/// Twenty of twenty visitors got 503, and the log showed a healthy origin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_visitor_is_in_the_log_with_url_cause_and_remedy() {
    let origin = Origin::start();
    let mut node = Node::start(up_for(&origin, &["--node", "web-1"])).await;
    origin.stop().await;
    let path = "/report?month=11&u=a";
    for method in [Method::GET, Method::GET, Method::GET, Method::POST] {
        let reply = ask(node.address(), &Ask::new(method.clone(), path)).await;
        assert!(reply.status.is_server_error(), "{reply}");
        if method == Method::POST {
            assert!(reply.text().contains("was not sent"), "{reply}");
        }
    }
    assert!(node.end().await.success());
    let log = node.errors();
    for line in log.lines() {
        let time = field(line, "time");
        assert!(time.len() == 24 && time.ends_with('Z'), "{line}");
        assert_eq!(field(line, "node"), "web-1", "{line}");
        assert!(
            ["error", "warn", "info"].contains(&field(line, "level")),
            "{line}"
        );
    }
    let refused = lines(&log, "refused");
    let first = &refused[0];
    assert_eq!(field(first, "why"), "origin-failed", "{first}");
    assert_eq!(
        field(first, "url"),
        format!("shop.example{path}"),
        "{first}"
    );
    assert!(first.contains("\"status\":503") && first.contains("\"count\":1"));
    assert!(!field(first, "remedy").is_empty());
    // The line of the request to the origin has the cause, and names the same request.
    let asked = lines(&log, "origin");
    let id = field(first, "request");
    let cause = asked
        .iter()
        .find(|line| field(line, "request") == id)
        .unwrap();
    assert!(field(cause, "error").contains("nothing listens"), "{cause}");
    assert_eq!(
        field(cause, "origin"),
        origin.url().trim_end_matches('/'),
        "{cause}"
    );
    assert_eq!(field(cause, "level"), "warn", "{cause}");
    // The others are counted, and the end sums up.
    let counts = refused.iter().map(|line| {
        let (_, count) = line.split_once("\"count\":").unwrap();
        let (count, _) = count.split_once(',').unwrap();
        count.parse::<u64>().unwrap()
    });
    assert_eq!(counts.sum::<u64>(), 4, "{log}");
    let summary = lines(&log, "summary");
    let summary = summary.last().unwrap();
    assert!(
        summary.contains("\"refused\":4") && summary.contains("\"requests\":4"),
        "{summary}"
    );
}

/// Where the metrics of a node are, as its log says.
fn metrics_of(node: &Node) -> SocketAddr {
    let log = node.errors();
    let line = lines(&log, "metrics").pop().unwrap();
    let url = field(&line, "message");
    let address = url.strip_prefix("http://").unwrap();
    address.strip_suffix("/metrics").unwrap().parse().unwrap()
}

/// Runs `promtool check metrics`, where it is installed.
fn promtool(text: &str) {
    let process = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut process) = process else {
        eprintln!("left out: there is no promtool on this machine (Debian's package prometheus)");
        return;
    };
    let mut input = process.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let output = process.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_exact_and_as_prometheus_wants_them() {
    let origin = Origin::start();
    origin.always("/page", Answer::numbered().max_age(600));
    origin.always("/other", Answer::numbered().max_age(600));
    let node = Node::start(up_for(&origin, &["--metrics", "127.0.0.1:0"])).await;
    let metrics = metrics_of(&node);
    assert_eq!(get(node.address(), "/page").await.status, StatusCode::OK);
    wait::until("the page is stored", wait::SOON, async || {
        get(node.address(), "/page")
            .await
            .is_fresh_hit()
            .then_some(())
    })
    .await;
    let reply = get(metrics, "/metrics").await;
    assert!(
        reply
            .header("content-type")
            .starts_with("text/plain; version=0.0.4"),
        "{reply}"
    );
    let value = |text: &str, name: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(name));
        found.and_then(|value| value.trim().parse::<u64>().ok())
    };
    let hits = value(&reply.text(), "leeward_requests_total{outcome=\"hit\"}").unwrap();
    for _ in 0..10 {
        get(node.address(), "/page").await;
    }
    get(node.address(), "/other").await;
    ask(node.address(), &Ask::new(Method::POST, "/form")).await;
    ask(node.address(), &Ask::get("/page").header("host", "a b")).await;
    let text = get(metrics, "/metrics").await.text();
    let fills = origin.requests() as u64 - 1;
    for (name, expected) in [
        ("leeward_requests_total{outcome=\"hit\"}", hits + 10),
        ("leeward_requests_total{outcome=\"miss\"}", 2),
        ("leeward_requests_total{outcome=\"method\"}", 1),
        ("leeward_requests_total{outcome=\"refused\"}", 1),
        ("leeward_refused_total{why=\"refused\"}", 1),
        ("leeward_request_seconds_count{outcome=\"hit\"}", hits + 10),
        ("leeward_origin_seconds_count", origin.requests() as u64),
        (
            "leeward_origin_requests_total{outcome=\"2xx\",reason=\"unsafe\"}",
            1,
        ),
        (
            "leeward_origin_requests_total{outcome=\"2xx\",reason=\"fill\"}",
            fills,
        ),
        (
            "leeward_origin_requests_total{outcome=\"2xx\",reason=\"unknown\"}",
            0,
        ),
        ("leeward_origin_in_flight", 0),
        ("leeward_waiting", 0),
    ] {
        assert_eq!(value(&text, name), Some(expected), "{name}: {text}");
    }
    promtool(&text);
    // Visitors do not get to it.
    let reply = get(node.address(), "/metrics").await;
    assert!(!reply.text().contains("leeward_"), "{reply}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_answered_request_is_in_the_access_log_and_no_visitor_writes_lines() {
    let origin = Origin::start();
    origin.always("/a", Answer::fixed("hello").max_age(600));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let file = path.to_str().unwrap();
    let arguments = ["--access-log", "combined", "--access-log-file", file];
    let mut node = Node::start(up_for(&origin, &arguments)).await;
    let asked = Ask::get("/a").header("user-agent", "x\" 200 \t\\");
    assert_eq!(ask(node.address(), &asked).await.text(), "hello");
    wait::until("the line is written", wait::SOON, async || {
        let text = fs::read_to_string(&path).unwrap();
        text.ends_with('\n').then_some(())
    })
    .await;
    // As logrotate does.
    let moved = directory.path().join("access.log.1");
    fs::rename(&path, &moved).unwrap();
    wait::until("a new file is begun", wait::SOON, async || {
        get(node.address(), "/a").await;
        path.exists().then_some(())
    })
    .await;
    assert!(node.end().await.success());
    let first = fs::read_to_string(&moved).unwrap();
    let first = first.lines().next().unwrap();
    assert!(first.starts_with("127.0.0.1 - - ["), "{first}");
    let shown = "\"GET /a HTTP/1.1\" 200 5 \"-\" \"x\\\" 200 \\x09\\\\\" ";
    assert!(first.contains(shown), "{first}");
    let last: Vec<&str> = first.rsplitn(3, ' ').collect();
    assert_eq!((last[0].len(), last[1]), (16, "miss"), "{first}");
    let new = fs::read_to_string(&path).unwrap();
    assert!(new.lines().all(|line| line.contains(" hit ")), "{new}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_access_log_on_a_full_disk_costs_lines_and_no_visitor() {
    let origin = Origin::start();
    let arguments = [
        "--access-log",
        "json",
        "--access-log-file",
        "/dev/full",
        "--metrics",
        "127.0.0.1:0",
    ];
    let node = Node::start(up_for(&origin, &arguments)).await;
    let metrics = metrics_of(&node);
    for _ in 0..20 {
        assert_eq!(get(node.address(), "/").await.status, StatusCode::OK);
    }
    wait::until("the lines are counted", wait::SOON, async || {
        let text = get(metrics, "/metrics").await.text();
        let lost = "leeward_access_log_lost_total 20\n";
        text.contains(lost).then_some(())
    })
    .await;
    let log = node.errors();
    let said = lines(&log, "access-log-failed");
    assert_eq!(said.len(), 1, "{log}");
    assert!(field(&said[0], "error").contains("No space left"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_for_people_and_a_filter() {
    let origin = Origin::start();
    let mut command = up_for(&origin, &["--log-format", "text", "--node", "web-1"]);
    command.env("RUST_LOG", "warn");
    let mut node = Node::start(command).await;
    get(node.address(), "/works").await;
    origin.stop().await;
    get(node.address(), "/fails").await;
    assert!(node.end().await.success());
    let log = node.errors();
    assert!(!log.contains("/works"), "{log}");
    let refused =
        " WARN  web-1 refused why=origin-failed status=503 method=GET url=shop.example/fails ";
    assert!(log.contains(refused), "{log}");
    // What stops a start is plain text.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    for (arguments, filter, expected) in [
        (&["--metrics", &taken][..], "", "error: cannot listen on"),
        (&[], "a=b=c", "error: RUST_LOG"),
        (
            &["--access-log", "json", "--access-log-file", "/no/such/file"],
            "",
            "error: cannot write /no/such/file",
        ),
    ] {
        let mut command = up_for(&origin, arguments);
        command.env("RUST_LOG", filter);
        let (status, errors) = ending(command).await;
        assert_eq!(status.code(), Some(2), "{errors}");
        assert!(errors.starts_with(expected), "{errors}");
    }
}

/// The expressions of `docs/grafana.json` and `docs/alerts.yml`.
fn expressions() -> Vec<String> {
    let file = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        fs::read_to_string(path.join(name)).unwrap()
    };
    let mut found = Vec::new();
    let mut left: Vec<serde_json::Value> = vec![file("grafana.json").parse().unwrap()];
    while let Some(value) = left.pop() {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    match value.as_str() {
                        // Variables of a dashboard ask as well.
                        Some(text) if name == "expr" || name == "query" => {
                            found.push(text.to_owned());
                        }
                        _ => left.push(value),
                    }
                }
            }
            serde_json::Value::Array(values) => left.extend(values),
            _ => {}
        }
    }
    let dashboard = found.len();
    assert!(dashboard > 10, "{found:?}");
    // An expression ends before the line with the next key.
    let alerts = file("alerts.yml");
    let parts = alerts.split("expr:").skip(1);
    found.extend(parts.map(|part| part.split("for:").next().unwrap_or(part).to_owned()));
    assert!(found.len() >= dashboard + 5, "{found:?}");
    found
}

/// The metrics in an expression, each with its matchers.
fn used(expression: &str) -> Vec<(&str, &str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = expression
        .match_indices("leeward_")
        .chain(expression.match_indices("process_"));
    let starts = starts.filter(|(at, _)| !expression[..*at].ends_with(is_name));
    let metric = |(at, _): (usize, &str)| {
        let rest = &expression[at..];
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let matchers = after
            .strip_prefix('{')
            .and_then(|after| after.split_once('}'));
        (name, matchers.map_or("", |(matchers, _)| matchers))
    };
    starts.map(metric).collect()
}

/// A metric that is renamed would leave an empty panel, and an alert that never fires.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dashboard_of_grafana_and_the_alerts_ask_for_metrics_that_are_there() {
    let origin = Origin::start();
    let mut command = up_for(&origin, &[]);
    command.env("SPIN_VARIABLE_ADMIN_TOKEN", "token");
    let node = Node::start(command).await;
    let asked = Ask::get("/.leeward/metrics").header("authorization", "Bearer token");
    let metrics = ask(node.address(), &asked).await.text();
    let samples_of = |name: &str| -> Vec<&str> {
        let is_it = |line: &&str| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        };
        metrics.lines().filter(is_it).collect()
    };
    // What Prometheus adds to each.
    let added = ["job", "instance"];
    let mut checked = 0;
    for expression in expressions() {
        let metrics = used(&expression);
        checked += metrics.len();
        let mut samples = Vec::new();
        for (name, matchers) in metrics {
            let own = samples_of(name);
            assert!(!own.is_empty(), "{name} in {expression}");
            for matcher in matchers.split("\",").filter(|matcher| !matcher.is_empty()) {
                let (label, values) = matcher.split_once(['=', '!']).unwrap();
                if added.contains(&label.trim()) {
                    continue;
                }
                let values = values
                    .trim_start_matches(['=', '~', '"'])
                    .trim_end_matches('"');
                for value in values.split('|').filter(|value| !value.starts_with('$')) {
                    let pair = format!("{}=\"{value}\"", label.trim());
                    let is_there = own.iter().any(|sample| sample.contains(&pair));
                    assert!(is_there, "{name} has no {pair}: {expression}");
                }
            }
            samples.extend(own);
        }
        for part in expression.split("by (").skip(1) {
            let labels = part.split(')').next().unwrap_or_default().split(',');
            for label in labels.map(str::trim).filter(|label| !added.contains(label)) {
                let pair = format!("{label}=\"");
                let is_there = samples.iter().any(|sample| sample.contains(&pair));
                assert!(is_there, "no {label}: {expression}");
            }
        }
    }
    assert!(checked > 20, "{checked}");
}
