//! The dashboard at `/.leeward/dashboard`, in a headless Chromium. Where there is none, the
//! tests say so and show nothing.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use http::StatusCode;
use leeward_tests::client::{ask, get};
use leeward_tests::redis::RedisServer;
use leeward_tests::{Answer, Ask, Browser, Gate, Node, Origin, nodes, wait};

const TOKEN: &str = "the-operators-token";

/// What would be an element if it were HTML, whose script leaves a trace.
const HOSTILE: &str = "<img src=x onerror=\"document.title='taken'\">";

/// A node with a dashboard on this store, before this origin.
async fn node(origin: &Origin, store: &str) -> Node {
    let mut command = nodes::up();
    command
        .args(["--origin", &origin.url(), "--store", store])
        .env("SPIN_VARIABLE_ADMIN_TOKEN", TOKEN);
    Node::start(command).await
}

/// Loads the dashboard, and signs in by keyboard: the field has the focus.
async fn sign_in(browser: &mut Browser, node: &Node, token: &str) {
    let url = format!("http://{}/.leeward/dashboard", node.address());
    browser.open(&url).await;
    browser
        .until(
            "the field has the focus",
            "document.activeElement.id === 'token'",
        )
        .await;
    browser.write(token);
    browser.press("Enter");
}

/// The same with the right token, until there are figures.
async fn signed_in(browser: &mut Browser, node: &Node) {
    sign_in(browser, node, TOKEN).await;
    let figures = "document.querySelector('#f-stored')";
    browser.until("there are figures", figures).await;
}

/// An expression for whether an element's text has this in it.
fn says(id: &str, text: &str) -> String {
    let (id, text) = (serde_json::json!(id), serde_json::json!(text));
    format!("document.getElementById({id}).textContent.includes({text})")
}

fn no_faults(browser: &mut Browser) {
    let faults = browser.faults();
    assert!(faults.is_empty(), "{faults:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_chromium_the_right_token_signs_in_and_is_kept_for_the_tab() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let origin = Origin::start();
    let node = node(&origin, "memory").await;
    sign_in(&mut browser, &node, "wrong").await;
    let error = says("sign-in-error", "The token is wrong.");
    browser.until("the wrong one is refused", &error).await;
    assert_eq!(browser.eval("document.getElementById('app').hidden"), true);
    assert_eq!(browser.eval("sessionStorage.length"), 0);

    signed_in(&mut browser, &node).await;
    let kept = "[sessionStorage.length, localStorage.length, document.cookie, location.href]";
    let kept = browser.eval(kept).to_string();
    assert!(kept.starts_with("[1,0,\"\","), "{kept}");
    assert!(!kept.contains(TOKEN), "{kept}");
    let url = format!("http://{}/.leeward/dashboard", node.address());
    browser.eval("window.isOld = true");
    browser.eval("location.reload()");
    browser
        .until(
            "it needs no token when it is loaded again",
            "!window.isOld && document.readyState === 'complete' && document.querySelector('#f-stored')",
        )
        .await;

    browser.eval("document.getElementById('sign-out').click()");
    assert_eq!(browser.eval("sessionStorage.length"), 0);
    assert_eq!(browser.eval("document.getElementById('app').hidden"), true);
    browser.open(&url).await;
    let field = "document.activeElement.id === 'token'";
    browser.until("it asks for the token", field).await;
    no_faults(&mut browser);
    // Not even for an icon.
    assert_eq!(origin.requests(), 0, "{:?}", origin.paths());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_chromium_the_dashboard_follows_the_node_and_purges_a_page() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let origin = Origin::start();
    let numbered = Answer::numbered().max_age(600);
    origin.otherwise(numbered.clone().header("vary", "x-theme"));
    let node = node(&origin, "memory").await;
    signed_in(&mut browser, &node).await;
    let empty = says("keys-body", "Nothing is stored yet");
    browser
        .until("it says that nothing is stored", &empty)
        .await;

    // What happens is seen without a touch.
    let gate = Gate::closed();
    origin.next("/slow", numbered.gate(&gate));
    let address = node.address();
    let visitor = tokio::spawn(async move { get(address, "/slow").await });
    let in_flight = says("f-flight", "1 of 16");
    browser.until("a request is in flight", &in_flight).await;
    gate.open();
    visitor.await.unwrap();
    let hostile = Ask::get("/hostile").header("x-theme", HOSTILE);
    ask(address, &hostile).await;
    let listed = says("keys-body", "/slow");
    browser.until("the page is among the keys", &listed).await;

    // What a visitor wrote is text.
    browser.eval("document.getElementById('filter').requestSubmit()");
    let hostile = says("keys-body", "onerror=");
    browser.until("the other is, too", &hostile).await;
    assert_eq!(
        browser.eval("document.querySelectorAll('main img').length"),
        0
    );
    // The list may just be made anew, and the details be gone with the old one.
    let details = "document.querySelector('.detail dl') \
        || document.querySelector('[aria-expanded=false]')?.click()";
    browser.until("it has details", details).await;

    browser.resize(360);
    let widths = browser.eval("[document.documentElement.scrollWidth, innerWidth]");
    assert_eq!(widths, serde_json::json!([360, 360]));

    // By keyboard: the dialog's focus is on what does nothing.
    browser.eval("document.querySelector('[aria-label=\"Purge /slow\"]').click()");
    let cancel = "document.activeElement.id === 'ask-no' && document.getElementById('ask').open";
    browser.until("it asks first", cancel).await;
    browser.press("Enter");
    let closed = "!document.getElementById('ask').open";
    browser.until("it is cancelled", closed).await;
    assert!(get(address, "/slow").await.is_fresh_hit());
    assert_eq!(origin.count("/slow"), 1);
    browser.eval("document.querySelector('[aria-label=\"Purge /slow\"]').click()");
    assert_eq!(
        browser.eval("document.querySelector('[name=mode]:checked').value"),
        "soft"
    );
    browser.eval("document.getElementById('ask-yes').focus()");
    browser.press("Enter");
    let purged = says("keys-note", "Purged (soft): /slow");
    browser.until("it is purged", &purged).await;
    get(address, "/slow").await;
    origin.until_count("/slow", 2, wait::SOON).await;
    no_faults(&mut browser);
    assert_ne!(browser.eval("document.title"), "taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_chromium_the_dashboard_says_that_the_origin_fails_and_that_the_node_is_gone() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let origin = Origin::start();
    origin.otherwise(Answer::numbered().status(StatusCode::BAD_GATEWAY));
    let mut node = node(&origin, "memory").await;
    signed_in(&mut browser, &node).await;
    let good = "document.getElementById('verdict').dataset.level === 'good'";
    browser.until("all is well", good).await;
    let address = node.address();
    let mut page = 0;
    wait::until("the breaker opens", wait::SOON, async || {
        page += 1;
        let reply = get(address, &format!("/{page}")).await;
        let said = reply.header("cache-status");
        said.contains("breaker-open").then_some(())
    })
    .await;
    let fails = says("headline", "origin");
    let bad = "document.getElementById('verdict').dataset.level !== 'good'";
    browser
        .until(
            "it says that the origin fails",
            &format!("{bad} && {fails}"),
        )
        .await;

    node.kill();
    let silent = "!document.getElementById('silence').hidden";
    let since = says("silence-text", "No answer since");
    browser
        .until(
            "it says that the figures are old",
            &format!("{silent} && {since}"),
        )
        .await;
    no_faults(&mut browser);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_chromium_the_dashboard_says_that_the_store_of_a_redis_server_fails() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let server = RedisServer::start().await;
    let origin = Origin::start();
    origin.otherwise(Answer::numbered().max_age(600));
    let node = node(&origin, &server.url()).await;
    get(node.address(), "/page").await;
    signed_in(&mut browser, &node).await;
    let works = says("f-store", "works");
    browser.until("the store works", &works).await;
    server.kill();
    browser.eval("document.getElementById('filter').requestSubmit()");
    let keys = says("keys-body", "The keys cannot be listed");
    browser.until("it says so of the keys", &keys).await;
    let fails = says("headline", "The store fails");
    browser.until("it says that the store fails", &fails).await;
    server.start_again().await;
    let works = says("f-store", "works");
    browser.until("the store works again", &works).await;
    no_faults(&mut browser);
}

/// The sum of a metric's samples that have this label, and all of them without one.
fn sum(metrics: &str, name: &str, label: Option<(&str, &str)>) -> u64 {
    let label = label.map(|(name, value)| format!("{name}=\"{value}\""));
    let values = metrics.lines().filter_map(|line| {
        let (sample, value) = line.rsplit_once(' ')?;
        let (metric, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let is_it = metric == name && label.as_ref().is_none_or(|label| labels.contains(label));
        is_it.then(|| value.parse::<f64>().unwrap() as u64)
    });
    values.sum()
}

/// The figures were compared with nothing: a wrong one would have been believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_chromium_the_figures_are_those_of_the_metrics_and_of_the_status() {
    const PAGES: usize = 3;
    const HITS: usize = 20;
    const REFUSED: usize = 4;
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let origin = Origin::start();
    origin.otherwise(Answer::numbered().max_age(600));
    let node = node(&origin, "memory").await;
    signed_in(&mut browser, &node).await;
    // It has looked once: the figures below are what happened since.
    let address = node.address();
    for page in 0..PAGES {
        for _ in 0..HITS {
            assert_eq!(
                get(address, &format!("/{page}")).await.status,
                StatusCode::OK
            );
        }
    }
    origin.always("/down", Answer::hang_up());
    for _ in 0..REFUSED {
        let refused = get(address, "/down").await;
        assert!(refused.status.is_server_error(), "{}", refused.status);
    }

    let admin = async |what: &str| {
        let asked = Ask::get(&format!("/.leeward/{what}"));
        let asked = asked.header("authorization", &format!("Bearer {TOKEN}"));
        ask(address, &asked).await.text()
    };
    let status = wait::until("the slots are given back", wait::SOON, async || {
        let status: serde_json::Value = admin("status").await.parse().unwrap();
        (status["origin"]["budget"]["held"] == 0).then_some(status)
    })
    .await;
    let metrics = admin("metrics").await;
    let of = |outcome: &str| {
        sum(
            &metrics,
            "leeward_requests_total",
            Some(("outcome", outcome)),
        )
    };
    let visitors = sum(&metrics, "leeward_requests_total", None) - of("own");
    let sent = sum(&metrics, "leeward_origin_requests_total", None);
    assert_eq!(sent as usize, origin.requests());
    // A visitor that comes before the answer is stored waits for it.
    assert_eq!((of("hit") + of("collapsed")) as usize, PAGES * (HITS - 1));
    assert!(of("hit") > 0);
    assert_eq!(of("refused") as usize, REFUSED);

    let all = format!("of {visitors} requests in the last");
    browser
        .until("it has counted all", &says("sentence", &all))
        .await;
    let quiet = says("f-flight", "0 of 16");
    browser.until("it shows the quiet moment", &quiet).await;
    let mut value = |id: &str, part: &str| {
        let text = format!("document.querySelector('#f-{id} {part}').textContent");
        browser.eval(&text).as_str().unwrap().to_owned()
    };
    // Rounded down, to one digit.
    let tenths = 1_000 * (visitors - sent) / visitors;
    let offload = format!("{}.{} %", tenths / 10, tenths % 10);
    assert_eq!(value("offload", ".value"), offload);
    assert_eq!(value("refused", ".value"), of("refused").to_string());
    let ever = format!("{} since the node began", of("refused"));
    assert!(value("refused", ".note").contains(&ever));
    let budget = &status["origin"]["budget"];
    let flight = format!("{} of {}", budget["held"], budget["slots"]);
    assert_eq!(flight, "0 of 16");
    assert_eq!(value("flight", ".value"), flight);
    let own = sum(&metrics, "leeward_origin_in_flight", None);
    assert!(value("flight", ".note").contains(&format!("{own} of this node")));
    let slots = sum(&metrics, "leeward_origin_budget", None);
    assert_eq!(budget["slots"], slots);
    assert_eq!(
        value("breaker", ".value"),
        status["origin"]["breaker"]["state"].as_str().unwrap()
    );
    assert_eq!(status["store"]["reads"], "work");
    assert_eq!(value("store", ".value"), "works");

    for outcome in ["hit", "miss", "refused"] {
        let row = format!(
            "[...document.querySelectorAll('#outcomes-body tr')].find(row => \
             row.firstChild.firstChild.textContent === '{outcome}').children[1].textContent"
        );
        assert_eq!(browser.eval(&row), of(outcome).to_string(), "{outcome}");
    }
    let rows = "[...document.querySelectorAll('#outcomes-body .panel')].find(panel => \
                panel.textContent.startsWith('Requests to the origin')).querySelectorAll('dd')";
    let shown = format!("[...{rows}].reduce((sum, cell) => sum + Number(cell.textContent), 0)");
    assert_eq!(browser.eval(&shown), sent);
    no_faults(&mut browser);
}
