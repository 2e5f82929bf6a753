//! A headless Chromium, driven by its DevTools protocol over a pair of pipes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::wait;

/// The program, as Debian names it.
const PROGRAM: &str = "chromium";

/// The browser reads commands from its descriptor 3 and writes to 4. A shell gives it those.
const PIPES: &str = "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";

/// The longest that a command may take: the first waits for the browser to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page. Dropped, it is killed.
#[derive(Debug)]
pub struct Browser {
    process: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    last: u64,
    /// Exceptions of scripts, and what the page's policy did not let through.
    faults: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser. None, after saying so, where there is none.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn start() -> Option<Self> {
        let version = Command::new(PROGRAM).arg("--version").output();
        if !version.is_ok_and(|output| output.status.success()) {
            // Past the harness, which keeps what a test prints to itself.
            let _closed = std::io::stderr()
                .write_all(b"There is no chromium here: a test of the dashboard is left out.\n");
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        let mut process = Command::new("sh")
            .args(["-c", PIPES, "sh", "--headless", "--disable-gpu"])
            // Its sandbox does not work for root, nor in most containers.
            .args(["--no-sandbox", "--disable-dev-shm-usage"])
            .args(["--remote-debugging-pipe", "--no-first-run"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = process.stdin.take().unwrap();
        let messages = follow(process.stdout.take().unwrap());
        let mut browser = Browser {
            process,
            commands,
            messages,
            session: None,
            last: 0,
            faults: Vec::new(),
            _profile: profile,
        };
        browser.attach();
        Some(browser)
    }

    fn attach(&mut self) {
        let targets = self.ask("Target.getTargets", json!({}));
        let targets = targets["targetInfos"].as_array().cloned();
        let page = targets
            .unwrap_or_default()
            .into_iter()
            .find(|target| target["type"] == "page")
            .expect("the browser has a page");
        let attached = self.ask(
            "Target.attachToTarget",
            json!({ "targetId": page["targetId"], "flatten": true }),
        );
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            self.ask(domain, json!({}));
        }
    }

    /// Sends a command of the protocol, and returns its result.
    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut command = json!({ "id": self.last, "method": method, "params": params });
        if let Some(session) = &self.session {
            command["sessionId"] = session.as_str().into();
        }
        let mut line = command.to_string().into_bytes();
        line.push(0);
        self.commands.write_all(&line).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.messages.recv_timeout(left);
            let message = message.unwrap_or_else(|error| panic!("{method}: {error}"));
            if message["id"] == self.last {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            self.note(&message);
        }
    }

    /// Keeps what tells of a fault of the page.
    fn note(&mut self, message: &Value) {
        let params = &message["params"];
        let is_fault = match message["method"].as_str() {
            Some("Runtime.exceptionThrown" | "Page.javascriptDialogOpening") => true,
            Some("Log.entryAdded") => params["entry"]["source"] == "security",
            _ => false,
        };
        if is_fault {
            self.faults.push(params.to_string());
        }
    }

    /// Loads a page.
    pub async fn open(&mut self, url: &str) {
        self.ask("Page.navigate", json!({ "url": url }));
        let href = Value::from(url);
        self.until(
            "the page is loaded",
            &format!("location.href === {href} && document.readyState === 'complete'"),
        )
        .await;
    }

    /// The value of an expression of JavaScript in the page.
    ///
    /// # Panics
    ///
    /// If it throws.
    pub fn eval(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true });
        let result = self.ask("Runtime.evaluate", params);
        let thrown = &result["exceptionDetails"];
        assert!(thrown.is_null(), "{expression}: {thrown}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true in the page.
    ///
    /// # Panics
    ///
    /// If it is not in time; with what the page shows.
    pub async fn until(&mut self, what: &str, expression: &str) {
        let deadline = Instant::now() + wait::SOON;
        let holds = format!("Boolean({expression})");
        wait::until(what, wait::SOON * 2, async || {
            if self.eval(&holds) == true {
                return Some(());
            }
            assert!(
                Instant::now() < deadline,
                "waited in vain until {what}; the page shows {}",
                self.eval("document.body.innerText")
            );
            None
        })
        .await;
    }

    /// Presses a key in the element that has the focus.
    pub fn press(&mut self, key: &str) {
        let text = match key {
            "Enter" => "\r",
            _ => "",
        };
        for kind in ["keyDown", "keyUp"] {
            let params = json!({ "type": kind, "key": key, "code": key, "text": text,
                "windowsVirtualKeyCode": if key == "Enter" { 13 } else { 9 } });
            self.ask("Input.dispatchKeyEvent", params);
        }
    }

    /// Writes text into the element that has the focus, as a keyboard does.
    pub fn write(&mut self, text: &str) {
        self.ask("Input.insertText", json!({ "text": text }));
    }

    /// Makes the window this wide, in CSS pixels.
    pub fn resize(&mut self, width: u32) {
        let params =
            json!({ "width": width, "height": 740, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.ask("Emulation.setDeviceMetricsOverride", params);
    }

    /// Exceptions of the page's scripts, and what its policy did not let through.
    pub fn faults(&mut self) -> &[String] {
        // What was told before this answer has been noted.
        self.eval("0");
        &self.faults
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The messages of the browser, each of which ends with a zero.
fn follow(output: ChildStdout) -> Receiver<Value> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for message in BufReader::new(output).split(0) {
            let message = message
                .ok()
                .and_then(|text| serde_json::from_slice(&text).ok());
            let Some(message) = message else { return };
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    receiver
}
