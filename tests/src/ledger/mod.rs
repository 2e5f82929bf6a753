//! The ledger: what visitors send to a site, what of it reaches the origin, and what a
//! perfect cache would send.
//!
//! A perfect cache knows beforehand whom each answer is for. It asks the origin once for
//! what is for all, and once for each request whose answer is for that request alone.

mod page;
mod sites;

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;

use fastrand::Rng;
use futures::future::join_all;
use http::{Method, StatusCode};

use crate::client::{Reply, ask};
use crate::origin::{Answer, Origin};
pub use page::{For, Page, Sent};
pub use sites::{Bound, Come, SITES, Site};

/// Visitors of a site.
const VISITORS: usize = 5;

/// Requests of each.
const STEPS: usize = 40;

/// Differences that are shown for each site.
const SHOWN: usize = 5;

/// Characters of a body that are shown.
const SHOWN_CHARS: usize = 80;

/// The fields of an answer that the shield hands on as they are.
const COMPARED: [&str; 5] = [
    "content-type",
    "content-encoding",
    "location",
    "set-cookie",
    "www-authenticate",
];

/// What was counted for a browse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Requests that the visitors sent.
    pub visitors: usize,
    /// Requests that reached the origin, those of the breaker among them: no site is to make
    /// it check.
    pub origin: usize,
    /// Requests that a perfect cache sends.
    pub perfect: usize,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures {
            visitors,
            origin,
            perfect,
        } = self;
        write!(
            f,
            "{visitors} sent, {origin} at the origin, {perfect} by a perfect cache"
        )
    }
}

impl Figures {
    /// Whether the origin got no more than it may.
    pub fn keep(&self, bound: Bound) -> bool {
        let most = match bound {
            Bound::Perfect => self.perfect,
            Bound::Tenth => self.perfect * 11 / 10,
            Bound::Percent(percent) => self.perfect * percent / 100,
            Bound::Fault(percent) => return self.origin <= self.visitors * percent / 100,
        };
        self.origin <= most.min(self.visitors)
    }
}

/// What a visitor sent, and to which node, by number.
struct Step {
    sent: Sent,
    node: usize,
}

impl Site {
    /// What each visitor sends. The same each time.
    fn browse(&self, nodes: usize) -> Vec<Vec<Step>> {
        let seed = self.name.bytes().fold(0, |seed: u64, byte| {
            seed.wrapping_mul(31).wrapping_add(byte.into())
        });
        let mut rng = Rng::with_seed(seed);
        let mut visitor = |visitor| {
            let steps = (0..STEPS).map(|step| Step {
                sent: (self.asks)(&mut rng, visitor, step),
                node: rng.usize(..nodes),
            });
            steps.collect()
        };
        (0..VISITORS).map(&mut visitor).collect()
    }

    /// How the scripted origin answers.
    fn answer(self) -> Answer {
        let takes = self.page;
        Answer::made_by(move |seen| {
            let sent = Sent::from(seen);
            takes(&sent).to(&sent).answer(seen.number)
        })
    }

    /// How many requests a perfect cache sends for these.
    fn perfect<'a>(&self, sent: impl Iterator<Item = &'a Sent>) -> usize {
        let (mut shared, mut alone) = (HashSet::new(), 0);
        for sent in sent {
            let page = (self.page)(sent);
            match page.whose {
                For::All => drop(shared.insert((sent.target.clone(), page.body))),
                For::One | For::OneWithToken => alone += 1,
            }
        }
        shared.len() + alone
    }

    /// Has the visitors browse the site, and compares what they get with what it answers
    /// without a shield. Returns also what is wrong, each with the site's name.
    pub async fn browsed(&self, origin: &Origin, nodes: &[SocketAddr]) -> (Figures, Vec<String>) {
        origin.otherwise(self.answer());
        origin.forget();
        let browse = self.browse(nodes.len());
        let replies = self.replies(&browse, nodes).await;
        let mut tokens = HashSet::new();
        let differences = replies.iter().filter_map(|(step, reply)| {
            let difference = self.difference(&step.sent, reply, &mut tokens)?;
            let Sent { method, target, .. } = &step.sent;
            let got = format!("{} {}", reply.status, reply.header("cache-status"));
            let text: String = reply.text().chars().take(SHOWN_CHARS).collect();
            let name = self.name;
            Some(format!(
                "{name}: {method} {target}: {difference}; {got} {text:?}"
            ))
        });
        let mut wrong: Vec<_> = differences.take(SHOWN).collect();
        let figures = Figures {
            visitors: replies.len(),
            origin: origin.requests(),
            perfect: self.perfect(replies.iter().map(|(step, _)| &step.sent)),
        };
        if !figures.keep(self.bound) {
            let (name, bound) = (self.name, self.bound);
            let paths = told(origin);
            wrong.push(format!(
                "{name}: {figures}; the bound is {bound:?}; {paths}"
            ));
        }
        (figures, wrong)
    }

    async fn replies<'a>(
        &self,
        browse: &'a [Vec<Step>],
        nodes: &[SocketAddr],
    ) -> Vec<(&'a Step, Reply)> {
        let one = async |step: &'a Step| (step, ask(nodes[step.node], &step.sent.ask()).await);
        match self.come {
            Come::InTurn => {
                let mut replies = Vec::new();
                for step in (0..STEPS).flat_map(|step| browse.iter().map(move |own| &own[step])) {
                    replies.push(one(step).await);
                }
                replies
            }
            Come::AtOnce => {
                let visitors = browse.iter().map(async |own| {
                    let mut replies = Vec::new();
                    for step in own {
                        replies.push(one(step).await);
                    }
                    replies
                });
                join_all(visitors).await.into_iter().flatten().collect()
            }
        }
    }

    /// What of a reply is not as it is without a shield.
    fn difference(
        &self,
        sent: &Sent,
        reply: &Reply,
        tokens: &mut HashSet<String>,
    ) -> Option<String> {
        let page = (self.page)(sent).to(sent);
        if reply.status != page.status {
            return Some(format!("not {}", page.status));
        }
        let other = COMPARED.into_iter().find(|name| {
            // What a 304 has beside its tag is what the stored page has.
            let is_told = page.status != StatusCode::NOT_MODIFIED || *name == "set-cookie";
            is_told && reply.header(name) != page.field(name).unwrap_or("")
        });
        if let Some(name) = other {
            return Some(format!("{name} is not {:?}", page.field(name)));
        }
        let text = reply.text();
        let is_right = match page.whose {
            _ if sent.method == Method::HEAD => text.is_empty(),
            For::OneWithToken => text.strip_prefix(&page.body).is_some_and(|token| {
                token.parse::<usize>().is_ok() && tokens.insert(format!("{} {token}", sent.target))
            }),
            For::All | For::One => text == page.body,
        };
        (!is_right).then(|| format!("another body than {:?}", page.body))
    }
}

/// What the origin got more than once, for a failure message.
fn told(origin: &Origin) -> String {
    let mut paths = origin.paths();
    paths.sort();
    let counted = paths
        .iter()
        .map(|path| format!("{path}: {}", origin.count(path)));
    counted.collect::<Vec<_>>().join(", ")
}
