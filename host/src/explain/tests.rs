#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

const RULE: &str = "[[rule]]\nmatch = { path = \"/shop/*\" }\nttl = \"30s\"\n\
                    ignore_origin = [\"private\", \"set-cookie\"]\ncookies = \"ignore\"\n\
                    [[rule]]\nmatch = { path = \"/admin/*\" }\npass = true\n";

/// The explanation of an answer that is there already.
async fn explained(config: &str, path: &str, answer: &str) -> String {
    let origin = Origin::parse("http://127.0.0.1:9").unwrap();
    let config = Rc::new(Config::parse(config).unwrap());
    let asker = Asker::new(&origin, None).unwrap();
    let answer = text::answer_of(answer).unwrap();
    explain(path, &origin, &config, &asker, Some(&answer)).await
}

#[tokio::test]
async fn an_answer_is_explained_by_the_field_that_decides() {
    let private = "HTTP/1.1 200 OK\r\nCache-Control: private\r\nSet-Cookie: s=1\r\n\r\n";
    let public = "HTTP/2 200\ncache-control: public, max-age=60\n";
    for (config, path, answer, expected) in [
        (
            "",
            "/a",
            private,
            &[
                "none matches",
                "not stored (private): cache-control: private",
            ][..],
        ),
        ("", "/a", public, &["shared with everyone, fresh for 1m"]),
        (
            RULE,
            "/shop/1",
            private,
            &["/shop/*", "stored", "fresh for 30s"],
        ),
        (RULE, "/admin/1", public, &["pass = true"]),
        (
            "",
            "/a",
            "HTTP/1.1 200 OK\nVary: *\n",
            &["not stored (vary-star): vary: *"],
        ),
    ] {
        let told = explained(config, path, answer).await;
        for expected in expected {
            assert!(told.contains(expected), "{expected:?}: {told}");
        }
    }
}

#[test]
fn what_is_not_the_head_of_an_answer_is_refused() {
    for text in [
        "",
        "x",
        "HTTP/1.1",
        "200 OK\n",
        "HTTP/1.1 OK\n",
        "HTTP/1.1 200 OK\nno colon\n",
    ] {
        assert_eq!(text::answer_of(text), None, "{text:?}");
    }
}

#[tokio::test]
async fn an_origin_that_does_not_answer_is_said_so() {
    let origin = Origin::parse("http://127.0.0.1:9").unwrap();
    let config = Rc::new(Config::parse("").unwrap());
    let asker = Asker::new(&origin, None).unwrap();
    let told = explain("/a", &origin, &config, &asker, None).await;
    assert!(told.contains("does not answer"), "{told}");
}
