//! `leeward explain`: what becomes of the answers to some paths, and why.
//!
//! It asks the origin as a first visitor would, again, and as a visitor with a cookie and one
//! with credentials, and decides with the code of the component. Nothing is stored.

mod ask;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use leeward::config::{Config, Origin};
use leeward::question::target::{canonical, path_of};
use leeward::question::{Question, Read, Visitor};
use leeward::semantics::{Asked, Kept, Reason, Storability, storability};

use crate::settings::read_config;
use ask::{Asker, Seen};

/// Most paths of one call.
const PATHS_MAX: usize = 100;

/// What a browser accepts for a page.
const ACCEPT_PAGE: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// The options of `leeward explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server to ask, as in `leeward up`
    #[arg(long, value_name = "URL")]
    origin: String,

    /// Where it is, if not at the address in --origin
    #[arg(long, value_name = "HOST:PORT")]
    connect: Option<String>,

    /// Settings and rules, a TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Do not ask: take the answer's status line and fields from this file
    #[arg(long, value_name = "FILE")]
    answer: Option<PathBuf>,

    /// Paths, with their queries
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<String>,
}

/// Explains each path on standard output.
///
/// # Errors
///
/// If an option is wrong. An origin that does not answer is part of an explanation.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        args.paths.len() <= PATHS_MAX,
        "name at most {PATHS_MAX} paths"
    );
    let origin = Origin::parse(&args.origin)?;
    let config = match &args.config {
        Some(path) => {
            let text = read_config(path)?;
            let name = path.display();
            Config::parse(&text).map_err(|error| {
                let problems = error.in_file(&name);
                anyhow::anyhow!("the configuration in {name} is wrong: {problems}")
            })?
        }
        None => Config::parse("")?,
    };
    let config = Rc::new(config);
    let answer = match &args.answer {
        Some(path) => Some(text::answer_in(path)?),
        None => None,
    };
    let asker = Asker::new(&origin, args.connect.as_deref())?;
    for path in &args.paths {
        anyhow::ensure!(
            path.starts_with('/'),
            "{path:?} is not a path; write for instance /products/42"
        );
        let explained = explain(path, &origin, &config, &asker, answer.as_ref()).await;
        println!("{explained}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What becomes of a path.
async fn explain(
    path: &str,
    origin: &Origin,
    config: &Rc<Config>,
    asker: &Asker,
    answer: Option<&(StatusCode, HeaderMap)>,
) -> String {
    let mut lines = text::Lines::new(path);
    let canonical = canonical(path, &config.key);
    let own = config.chosen(&Method::GET, path_of(&canonical));
    let rule = config
        .rules
        .iter()
        .find(|rule| rule.matches.matches(&Method::GET, path_of(&canonical)));
    lines.add(
        "rule",
        match rule {
            Some(rule) => rule.matches.path.as_str().to_owned(),
            None => "none matches: the settings outside rules hold".to_owned(),
        },
    );
    if own.pass {
        lines.add(
            "result",
            "forwarded, and never stored: the rule says pass = true",
        );
        return lines.finish();
    }
    let Some(visitor) = visitor(path, origin, &own, &[]) else {
        lines.add(
            "result",
            "not a request that a cache answers; it is forwarded",
        );
        return lines.finish();
    };
    let question = visitor.question(&[]);
    lines.add("key", canonical.clone());
    if let Some((status, headers)) = answer {
        if let Err(reason) = judge(&mut lines, &own, &question, *status, headers) {
            lines.add_rule(path_of(&canonical), &own, reason);
        }
        return lines.finish();
    }
    let first = match asker.fill(&question, &own).await {
        Ok(seen) => seen,
        Err(error) => {
            lines.add("origin", format!("does not answer: {error:#}"));
            return lines.finish();
        }
    };
    lines.add("first visitor", first.told());
    let judged = judge(&mut lines, &own, &question, first.status, &first.headers);
    let is_same = compare(&mut lines, path, origin, &own, asker, (&first, &question)).await;
    match judged {
        Ok(_) => {}
        Err(reason) if is_same => lines.add_rule(path_of(&canonical), &own, reason),
        Err(_) => lines.add("to store it", "no rule: visitors get different content"),
    }
    lines.finish()
}

/// Asks again, and as other visitors, and says what differs. Whether all of them get the same.
async fn compare(
    lines: &mut text::Lines,
    path: &str,
    origin: &Origin,
    own: &Config,
    asker: &Asker,
    (first, question): (&Seen, &Question),
) -> bool {
    let mut is_same = true;
    match asker.fill(question, own).await {
        Ok(again) => {
            is_same = first.is_like(&again);
            lines.add("asked again", first.compared_with(&again));
        }
        Err(error) => lines.add("asked again", format!("no answer: {error:#}")),
    }
    for (who, name, value) in [
        ("with a cookie", COOKIE, "leeward_explain=1"),
        (
            "with credentials",
            AUTHORIZATION,
            "Basic bGVld2FyZDpleHBsYWlu",
        ),
    ] {
        let fields = [(name.clone(), HeaderValue::from_static(value))];
        let Some(visitor) = visitor(path, origin, own, &fields) else {
            continue;
        };
        let told = match visitor.has_credentials() {
            false => "the same question: gets the same answer".to_owned(),
            true => match asker.forward(path, &name, value).await {
                Ok(seen) => {
                    is_same &= first.is_like(&seen);
                    format!("{}; {}", seen.told(), first.compared_with(&seen))
                }
                Err(error) => format!("no answer: {error:#}"),
            },
        };
        lines.add(who, told);
    }
    is_same
}

/// Says what becomes of an answer, with the component's code.
fn judge(
    lines: &mut text::Lines,
    config: &Config,
    question: &Question,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<Kept, Reason> {
    let now = text::now();
    let asked = Asked {
        headers: &HeaderMap::new(),
        path: path_of(question.target()),
        keyed_by_client: question.is_keyed_by_client(),
    };
    let found = storability(asked, status, headers, now, now, &config.policy);
    match found {
        Storability::Store(kept) => {
            lines.add("result", text::stored(&kept, now));
            Ok(kept)
        }
        Storability::Brief(kept, reason) => {
            let told = text::stored(&kept, now);
            lines.add(
                "result",
                format!("an error ({reason}), shared for a moment: {told}"),
            );
            Err(reason)
        }
        Storability::DoNotStore(reason) => {
            let decides = text::deciding(reason, headers);
            lines.add("result", format!("not stored ({reason}): {decides}"));
            Err(reason)
        }
    }
}

/// A visitor's request as the component reads it; none if it asks no question.
fn visitor(
    path: &str,
    origin: &Origin,
    config: &Config,
    fields: &[(http::HeaderName, HeaderValue)],
) -> Option<Box<Visitor>> {
    let mut request = Request::get(path);
    if let Some(host) = config.key.hosts.first() {
        request = request.header(http::header::HOST, host.as_str());
    }
    request = request.header(http::header::ACCEPT, ACCEPT_PAGE);
    for (name, value) in fields {
        request = request.header(name, value);
    }
    let (parts, ()) = request.body(()).ok()?.into_parts();
    match Visitor::read(&parts, false, origin, &config.key, &config.request) {
        Read::Question(visitor) => Some(visitor),
        Read::Pass(_) | Read::Misdirected | Read::Invalid => None,
    }
}

#[cfg(test)]
mod tests;
