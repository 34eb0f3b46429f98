//! A Rust file as the rules see it: its module, and its tokens without comments, strings and test code.

/// One token and the line that it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

/// A path that the code names, from the crate's root or from an outside crate, with its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Use {
    /// Segments; `crate` itself is left out.
    pub(super) path: Vec<String>,
    /// Line in the file.
    pub(super) line: usize,
}

/// One file.
pub(super) struct Source {
    /// Its name below the checkout's top.
    pub(super) name: String,
    /// Its module path in its crate: `gateway/src/protocol/postgres/frame.rs` is `protocol postgres frame`.
    pub(super) module: Vec<String>,
    tokens: Vec<Token>,
}

impl Source {
    pub(super) fn read(name: &str, text: &str) -> Self {
        let tokens = if is_test_file(name) { Vec::new() } else { without_tests(tokens(text)) };
        Self { name: name.to_owned(), module: module(name), tokens }
    }

    /// The lines on which these tokens follow each other.
    pub(super) fn sequences(&self, wanted: &[&str]) -> Vec<usize> {
        let matches = |tokens: &&[Token]| tokens.iter().zip(wanted).all(|(token, wanted)| token.text == *wanted);
        self.tokens.windows(wanted.len()).filter(matches).map(|tokens| tokens[0].line).collect()
    }

    /// Every path below this crate's root that the code names (`crate::`, `super::`, the library's own name).
    pub(super) fn inner(&self, library: &str) -> Vec<Use> {
        let mut found = Vec::new();
        for at in self.path_starts() {
            let prefix = match self.text(at) {
                "crate" => Vec::new(),
                word if word == library => Vec::new(),
                "super" => self.module[..self.module.len().saturating_sub(1)].to_vec(),
                _ => continue,
            };
            self.tree(at, prefix, &mut found);
        }
        found
    }

    /// The first segments of paths that start with the outside crate `name`, by line.
    pub(super) fn outer(&self, name: &str) -> Vec<usize> {
        let in_paths = self.path_starts().filter(|at| self.text(*at) == name);
        let renamed = (1..self.tokens.len()).filter(|at| self.text(at - 1) == "use" && self.text(*at) == name);
        let mut lines: Vec<_> = in_paths.chain(renamed).map(|at| self.tokens[at].line).collect();
        lines.sort_unstable();
        lines.dedup();
        lines
    }

    /// Where a path begins: a word before `::` that does not itself follow one.
    fn path_starts(&self) -> impl Iterator<Item = usize> {
        (0..self.tokens.len()).filter(|at| self.text(at + 1) == "::" && (*at == 0 || self.text(at - 1) != "::"))
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }

    /// Reads the path (or the tree in braces) whose first word is at `at`, below `prefix`.
    fn tree(&self, mut at: usize, mut prefix: Vec<String>, found: &mut Vec<Use>) -> usize {
        let line = self.tokens[at].line;
        let mut own_word = true;
        loop {
            match self.text(at) {
                "{" => return self.group(at, &prefix, found),
                "super" if !own_word => {
                    prefix.pop();
                }
                // The word that led here: already in the prefix.
                _ if own_word => {}
                word => prefix.push(word.to_owned()),
            }
            own_word = false;
            if self.text(at + 1) != "::" {
                found.push(Use { path: prefix, line });
                return at + 1;
            }
            at += 2;
            // Turbofish: the path ends before the type's arguments.
            if self.text(at) == "<" {
                found.push(Use { path: prefix, line });
                return at;
            }
        }
    }

    fn group(&self, open: usize, prefix: &[String], found: &mut Vec<Use>) -> usize {
        let mut at = open + 1;
        while !self.text(at).is_empty() {
            match self.text(at) {
                "}" => return at + 1,
                "," => at += 1,
                "{" => at = self.group(at, prefix, found),
                "as" => at += 2,
                _ => at = self.branch(at, prefix.to_vec(), found),
            }
        }
        at
    }

    /// One branch of a tree in braces: like a path, but its first word counts.
    fn branch(&self, mut at: usize, mut prefix: Vec<String>, found: &mut Vec<Use>) -> usize {
        let line = self.tokens[at].line;
        loop {
            match self.text(at) {
                "{" => return self.group(at, &prefix, found),
                "super" => {
                    prefix.pop();
                }
                "self" | "*" => {}
                word => prefix.push(word.to_owned()),
            }
            if self.text(at + 1) != "::" {
                found.push(Use { path: prefix, line });
                return at + 1;
            }
            at += 2;
        }
    }
}

/// Whole files that are tests.
pub(super) fn is_test_file(name: &str) -> bool {
    name.ends_with("/tests.rs") || name.contains("/tests/") || name.starts_with("tests/")
}

/// The module path of a file below some `src`.
fn module(name: &str) -> Vec<String> {
    let below = name.split_once("src/").map_or(name, |(_, below)| below);
    let mut path: Vec<String> = below.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if path.last().is_some_and(|last| last == "mod" || (path.len() == 1 && last == "lib")) {
        path.pop();
    }
    path
}

/// Takes out `#[cfg(test)]` items: up to the matching brace, or to the semicolon.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let marked =
            MARK.iter().enumerate().all(|(n, mark)| tokens.get(at + n).is_some_and(|token| token.text == *mark));
        if marked {
            at = end_of_item(&tokens, at + MARK.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.text.as_str() {
            "{" => depth += 1,
            "}" if depth <= 1 => break,
            "}" => depth -= 1,
            ";" if depth == 0 => break,
            _ => {}
        }
    }
    at
}

/// Words, `::`, and single punctuation; comments, strings and characters are left out.
fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let length = token_length(rest, first);
        let (token, after) = rest.split_at(length);
        let is_word = first.is_alphanumeric() || first == '_';
        let is_mark = token.len() == first.len_utf8() && !first.is_whitespace() && !is_word || token == "::";
        if (is_word && !token.contains('"')) || is_mark {
            found.push(Token { text: token.to_owned(), line });
        }
        line += token.matches('\n').count();
        rest = after;
    }
    found
}

fn token_length(rest: &str, first: char) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if let Some(length) = string_length(rest) {
        return length;
    }
    if first == '\'' {
        return quote_length(rest);
    }
    if rest.starts_with("::") {
        return 2;
    }
    if first.is_alphanumeric() || first == '_' {
        return rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    }
    first.len_utf8()
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The length of a string literal of any kind, or `None`.
fn string_length(rest: &str) -> Option<usize> {
    let opens = |prefix: &&str| {
        let Some(body) = rest.strip_prefix(*prefix) else { return false };
        let body = if prefix.ends_with('r') { body.trim_start_matches('#') } else { body };
        body.starts_with('"')
    };
    let start = ["br", "cr", "r", "b", "c", ""].into_iter().find(opens)?;
    let body = &rest[start.len()..];
    if start.ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let close = format!("\"{}", "#".repeat(hashes));
        let end = body[hashes + 1..].find(&close).map_or(body.len(), |end| hashes + 1 + end + close.len());
        return Some(start.len() + end);
    }
    let mut escaped = false;
    let close = body[1..].find(|c: char| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    });
    Some(start.len() + close.map_or(body.len(), |close| close + 2))
}

/// A character literal, or a lifetime's quote alone.
fn quote_length(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), Some(_)) => rest[3..].find('\'').map_or(rest.len(), |end| end + 4),
        (Some(_), Some((end, '\''))) => end + 1,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::{module, tokens};

    fn words(text: &str) -> Vec<String> {
        tokens(text).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn leaves_out_what_is_no_code() {
        assert_eq!(words("a /* b /* c */ d */ e // f\n g"), ["a", "e", "g"]);
        assert_eq!(words(r#"a "crate::x \" y" b"#), ["a", "b"]);
        assert_eq!(words("a r#\"b \" c\"# d br\"e\" f"), ["a", "d", "f"]);
        assert_eq!(words("'a' 'b x '\\'' y '\\u{1}' z"), ["'", "b", "x", "y", "z"]);
        assert_eq!(words("r#type crate::x"), ["r", "#", "type", "crate", "::", "x"]);
    }

    #[test]
    fn keeps_lines() {
        let lines: Vec<_> = tokens("a\n/*\n*/ b\n\"\n\" c").into_iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 3, 5]);
    }

    #[test]
    fn knows_modules() {
        assert_eq!(module("gateway/src/lib.rs"), Vec::<String>::new());
        assert_eq!(module("gateway/src/main.rs"), ["main"]);
        assert_eq!(module("gateway/src/protocol/postgres/mod.rs"), ["protocol", "postgres"]);
        assert_eq!(module("gateway/src/gate.rs"), ["gate"]);
    }
}
