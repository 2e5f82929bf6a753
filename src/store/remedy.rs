//! What an operator can do about a store that fails, by what the store says.

use super::health::Part;

/// What the words of an error mean for the operator. The first that is found counts. A
/// name in capitals is the code of an error of Redis, which hosts write in their own ways
/// (`READONLY`, `ReadOnly:`); everything else is a part of the text.
const REMEDIES: [(&[&str], &str); 12] = [
    (
        &["readonly database", "cannot be written"],
        "make the file and its directory writable for the user of the node; it writes again \
         without a restart",
    ),
    (
        &["database is locked"],
        "find the process that keeps the file locked, such as a backup or a shell with an open \
         transaction",
    ),
    (
        &["is full", "no space left"],
        "free some space on the store's disk",
    ),
    (
        &["READONLY"],
        "this server is a replica: let the address of the store lead to the master; connections \
         are made again by themselves",
    ),
    (
        &["NOAUTH", "WRONGPASS", "NOPERM", "authentication failed"],
        "check the user and the password in the store's address, and what that user may do",
    ),
    (
        &["LOADING"],
        "wait until the server has loaded its data; connections are made again by themselves",
    ),
    (
        &["MOVED", "ASK", "CROSSSLOT", "TRYAGAIN", "CLUSTERDOWN"],
        "the server is part of a Redis cluster: use one that is not, or a proxy that speaks for \
         the cluster",
    ),
    (
        &["MASTERDOWN", "NOREPLICAS"],
        "check the replication between the Redis servers, and that the store's address leads to \
         the master",
    ),
    (
        &["OOM"],
        "raise maxmemory of the Redis server, or set its maxmemory-policy to allkeys-lru",
    ),
    (
        &["MISCONF"],
        "the Redis server cannot save its data: check its disk and its log",
    ),
    (
        &["BUSY"],
        "the Redis server runs a script that does not end: look at its log, and end the script \
         with SCRIPT KILL",
    ),
    (
        &["max number of clients"],
        "raise maxclients of the Redis server, or find what keeps its connections",
    ),
];

/// What to do about a part of the store that fails with this error.
pub fn remedy(part: Part, error: &str) -> &'static str {
    let lower = error.to_ascii_lowercase();
    let words = error.split(|c: char| !c.is_ascii_alphabetic());
    let says = |mark: &str| match mark.bytes().all(|b| b.is_ascii_uppercase()) {
        true => words.clone().any(|word| is_code(word, mark)),
        false => lower.contains(mark),
    };
    let known = REMEDIES
        .iter()
        .find(|(marks, _)| marks.iter().any(|mark| says(mark)));
    match (known, part) {
        (Some((_, remedy)), Part::Reads | Part::Writes) => remedy,
        (None, Part::Reads) => "check that the store runs and can be reached",
        (None, Part::Writes) => {
            "check the store's disk space, memory limit and permission to write"
        }
        (_, Part::Hits) => "check the store's load and its distance",
    }
}

/// Whether a word is the code of an error, as Redis writes it or as a host's library does.
/// Ordinary words are not: `ask`, `moved`.
fn is_code(word: &str, code: &str) -> bool {
    word == code
        || word.eq_ignore_ascii_case(code)
            && word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.len() > 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_fits_the_words_of_the_store() {
        for (error, remedied) in [
            (
                "READONLY You can't write against a read only replica.",
                "lead to the master",
            ),
            // As Spin writes it.
            (
                "\"ReadOnly\": You can't write against a read only replica.",
                "lead to the master",
            ),
            ("NOAUTH Authentication required.", "password"),
            (
                "Password authentication failed - AuthenticationFailed",
                "password",
            ),
            ("WRONGPASS invalid username-password pair", "password"),
            ("NOPERM this user has no permissions", "what that user may"),
            ("LOADING Redis is loading the dataset in memory", "wait"),
            ("MOVED 3999 127.0.0.1:6381", "cluster"),
            ("MASTERDOWN Link with MASTER is down", "replication"),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                "maxmemory",
            ),
            ("MISCONF Redis is configured to save RDB", "its disk"),
            ("a.db: attempt to write a readonly database", "writable"),
            ("database is locked", "keeps the file locked"),
            ("database or disk is full", "free some space"),
            ("something else: ask whoever moved it", "permission"),
        ] {
            let said = remedy(Part::Writes, error);
            assert!(said.contains(remedied), "{error}: {said}");
        }
        let unknown = remedy(Part::Reads, "broken pipe");
        assert!(unknown.contains("can be reached"), "{unknown}");
    }
}
