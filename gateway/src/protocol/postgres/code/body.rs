//! Simple PL/pgSQL as the SQL texts in it.
//!
//! # Security
//! The body is cut by PostgreSQL's own lexer where PL/pgSQL cuts it: at `;`, and at the word that ends an expression
//! (`THEN`, `LOOP`), outside parentheses and brackets. Only the statements named here are known; anything else, above
//! all SQL that is made at run time (`EXECUTE`), makes the whole body one that cannot be read. An expression is read
//! as `SELECT expression`, which is what PL/pgSQL makes of it.

use std::mem;

/// The texts of SQL in `body`; or what is in it that cannot be read, as words behind "in which".
pub(super) fn texts(body: &str) -> Result<Vec<String>, String> {
    let scanned = pg_query::scan(body).map_err(|_| "words cannot be told apart".to_owned())?;
    let mut words = Vec::new();
    for token in scanned.tokens {
        let (start, end) = (usize::try_from(token.start), usize::try_from(token.end));
        let word = start.ok().zip(end.ok()).and_then(|(start, end)| body.get(start..end));
        let word = word.ok_or_else(|| "words cannot be told apart".to_owned())?;
        if !word.starts_with("--") && !word.starts_with("/*") {
            words.push(word);
        }
    }
    let mut reader = Reader { words: &words, texts: Vec::new() };
    reader.block()?;
    match reader.words {
        [] | [";"] => Ok(reader.texts),
        [word, ..] => Err(format!("`{}` follows the end", shown(word))),
    }
}

struct Reader<'b> {
    words: &'b [&'b str],
    texts: Vec<String>,
}

impl<'b> Reader<'b> {
    /// `[DECLARE …] BEGIN … END`, without the `;` behind it.
    fn block(&mut self) -> Result<(), String> {
        if self.takes("declare") {
            while !self.is_next("begin") {
                self.declaration()?;
            }
        }
        self.expect("begin")?;
        self.statements(&["end", "exception"])?;
        if self.takes("exception") {
            while self.takes("when") {
                // Conditions are names; none is an expression.
                self.until(&["then"])?;
                self.statements(&["when", "end"])?;
            }
        }
        self.expect("end")
    }

    /// `name [CONSTANT] type [NOT NULL] [:= expression];`
    fn declaration(&mut self) -> Result<(), String> {
        let words = self.until(&[";"])?;
        let is_plain = |word: &&&str| !matches!(lower(word).as_str(), "cursor" | "alias" | "refcursor");
        if words.iter().filter(|word| !is_plain(word)).count() > 0 {
            return Err("a cursor or an alias is declared".to_owned());
        }
        let default = words.iter().position(|word| matches!(lower(word).as_str(), ":=" | "=" | "default"));
        if let Some(default) = default {
            self.expression(&words[default + 1..]);
        }
        Ok(())
    }

    /// Statements up to one of `ends`, which stays.
    fn statements(&mut self, ends: &[&str]) -> Result<(), String> {
        while !ends.iter().any(|end| self.is_next(end)) {
            self.statement()?;
        }
        Ok(())
    }

    fn statement(&mut self) -> Result<(), String> {
        let Some(first) = self.words.first() else { return Err("the end is missing".to_owned()) };
        if self.is_assignment() {
            // Also to a variable that is called like a statement.
            return self.assignment();
        }
        if matches!(self.words.get(1), Some(&("[" | "." | ":=" | "="))) {
            return Err(format!("`{}` is assigned to in parts", shown(first)));
        }
        match lower(first).as_str() {
            "declare" | "begin" => {
                self.block()?;
                self.expect(";")
            }
            "if" => self.branches(),
            "loop" => self.body_of_loop(),
            "while" => {
                self.skip(1);
                let condition = self.until_before("loop")?;
                self.expression(condition);
                self.body_of_loop()
            }
            "for" => self.for_loop(),
            "null" | "exit" | "continue" | "raise" | "return" | "perform" | "assert" | "get" => self.simple(),
            "insert" | "update" | "delete" | "select" | "with" | "merge" | "values" | "truncate" | "lock"
            | "create" | "drop" | "alter" | "grant" | "revoke" | "analyze" | "notify" | "set" | "reset" | "comment"
            | "call" | "copy" | "refresh" | "listen" | "do" => self.sql(),
            other => Err(format!("`{}` is not read", shown(other))),
        }
    }

    /// `IF … THEN … [ELSIF … THEN …] [ELSE …] END IF;`
    fn branches(&mut self) -> Result<(), String> {
        loop {
            self.skip(1);
            let condition = self.until(&["then"])?;
            self.expression(condition);
            self.statements(&["elsif", "elseif", "else", "end"])?;
            if !self.is_next("elsif") && !self.is_next("elseif") {
                break;
            }
        }
        if self.takes("else") {
            self.statements(&["end"])?;
        }
        self.expect("end")?;
        self.expect("if")?;
        self.expect(";")
    }

    fn body_of_loop(&mut self) -> Result<(), String> {
        self.expect("loop")?;
        self.statements(&["end"])?;
        self.expect("end")?;
        self.expect("loop")?;
        self.expect(";")
    }

    /// `FOR name IN query LOOP` or `FOR name IN [REVERSE] a .. b LOOP`.
    fn for_loop(&mut self) -> Result<(), String> {
        self.skip(1);
        self.until(&["in"])?;
        self.takes("reverse");
        let what = self.until_before("loop")?;
        match what.first().map(|word| lower(word)).as_deref() {
            Some("select" | "with" | "values" | "insert" | "update" | "delete") => self.text(&without_into(what)),
            Some("execute") | None => return Err("SQL is made at run time".to_owned()),
            _ => match parts(what, "..")[..] {
                [from, to] => {
                    self.expression(from);
                    for part in parts(to, "by") {
                        self.expression(part);
                    }
                }
                _ => return Err("a loop goes over a cursor".to_owned()),
            },
        }
        self.body_of_loop()
    }

    fn simple(&mut self) -> Result<(), String> {
        let words = self.until(&[";"])?;
        let lowered: Vec<_> = words.iter().take(3).map(|word| lower(word)).collect();
        match lowered.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["null"] | ["return"] => {}
            ["exit" | "continue"] => {}
            ["exit" | "continue", "when", ..] => self.expression(&words[2..]),
            ["return", "query", "execute"] => return Err("SQL is made at run time".to_owned()),
            ["return", "query", ..] => self.text(&words[2..]),
            ["return", "next", ..] => self.expression(&words[2..]),
            ["return", ..] | ["perform", ..] => self.expression(&words[1..]),
            ["get", "diagnostics", ..] | ["get", "current" | "stacked", "diagnostics"] => {}
            ["raise", ..] => self.raise(&words[1..])?,
            ["assert", ..] => parts(&words[1..], ",").into_iter().for_each(|part| self.expression(part)),
            _ => return Err(format!("`{}` is not read", lowered.join(" "))),
        }
        Ok(())
    }

    /// `RAISE [level] 'format' [, expression …] [USING option = expression, …]`
    fn raise(&mut self, words: &'b [&'b str]) -> Result<(), String> {
        let (said, options) = match parts(words, "using")[..] {
            [said] => (said, &[][..]),
            [said, options] => (said, options),
            _ => return Err("a RAISE is not read".to_owned()),
        };
        // Before the first comma stand a level, a condition's name and a format, none of which is an expression.
        parts(said, ",").into_iter().skip(1).for_each(|part| self.expression(part));
        for option in parts(options, ",").into_iter().filter(|option| !option.is_empty()) {
            match option {
                [_, "=" | ":=", value @ ..] => self.expression(value),
                _ => return Err("a RAISE is not read".to_owned()),
            }
        }
        Ok(())
    }

    fn sql(&mut self) -> Result<(), String> {
        let words = self.until(&[";"])?;
        self.text(&without_into(words));
        Ok(())
    }

    /// `name := expression;`, where the name may have fields and elements.
    fn is_assignment(&self) -> bool {
        let end = self.words.iter().position(|word| *word == ";").unwrap_or(self.words.len());
        let words = &self.words[..end];
        words.iter().position(|word| matches!(*word, ":=" | "=")).is_some_and(|at| {
            let fits = |(place, word): (usize, &&str)| if place % 2 == 0 { is_name(word) } else { *word == "." };
            at % 2 == 1 && words[..at].iter().enumerate().all(fits)
        })
    }

    fn assignment(&mut self) -> Result<(), String> {
        self.until(&[":=", "="])?;
        let value = self.until(&[";"])?;
        self.expression(value);
        Ok(())
    }

    fn expression(&mut self, words: &[&str]) {
        if !words.is_empty() {
            self.texts.push(format!("SELECT {}", words.join(" ")));
        }
    }

    fn text(&mut self, words: &[&str]) {
        self.texts.push(words.join(" "));
    }

    // ---- words ----

    fn is_next(&self, word: &str) -> bool {
        self.words.first().is_some_and(|next| lower(next) == word)
    }

    fn takes(&mut self, word: &str) -> bool {
        let is_next = self.is_next(word);
        self.skip(usize::from(is_next));
        is_next
    }

    fn expect(&mut self, word: &str) -> Result<(), String> {
        if self.takes(word) {
            return Ok(());
        }
        let found = self.words.first().map_or_else(|| "the end".to_owned(), |word| format!("`{}`", shown(word)));
        Err(format!("{found} stands where `{word}` is expected"))
    }

    fn skip(&mut self, count: usize) {
        self.words = self.words.get(count..).unwrap_or_default();
    }

    /// The words before the first of `ends` outside parentheses, which is taken too.
    fn until(&mut self, ends: &[&str]) -> Result<&'b [&'b str], String> {
        let all = mem::take(&mut self.words);
        let mut depth = 0usize;
        for (at, word) in all.iter().enumerate() {
            if depth == 0 && ends.contains(&lower(word).as_str()) {
                self.words = &all[at + 1..];
                return Ok(&all[..at]);
            }
            match *word {
                "(" | "[" => depth += 1,
                ")" | "]" => depth = depth.checked_sub(1).ok_or("parentheses do not match")?,
                ";" => break,
                _ => {}
            }
        }
        Err(format!("a statement has no `{}`", ends.join("` or `")))
    }

    /// The same, and `end` stays.
    fn until_before(&mut self, end: &str) -> Result<&'b [&'b str], String> {
        let all = self.words;
        let before = self.until(&[end])?;
        self.words = &all[before.len()..];
        Ok(before)
    }
}

/// SQL without PL/pgSQL's `INTO [STRICT] target, …`, which stands anywhere but behind INSERT and MERGE.
fn without_into<'b>(words: &'b [&'b str]) -> Vec<&'b str> {
    let mut out = Vec::with_capacity(words.len());
    let mut rest = words;
    let mut depth = 0usize;
    while let Some((word, behind)) = rest.split_first() {
        let before = out.last().map(|word: &&str| lower(word));
        let own = matches!(before.as_deref(), Some("insert" | "merge"));
        if depth == 0 && lower(word) == "into" && !own {
            rest = behind;
            if rest.first().is_some_and(|word| lower(word) == "strict") {
                rest = &rest[1..];
            }
            // A list of names with fields: name(.name)*(, name(.name)*)*
            let mut wants_name = true;
            while let Some((word, behind)) = rest.split_first() {
                match (*word, wants_name) {
                    ("." | ",", false) => wants_name = true,
                    (name, true) if is_name(name) => wants_name = false,
                    _ => break,
                }
                rest = behind;
            }
            continue;
        }
        match *word {
            "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        out.push(word);
        rest = behind;
    }
    out
}

/// `words` cut at `separator` outside parentheses.
fn parts<'b>(words: &'b [&'b str], separator: &str) -> Vec<&'b [&'b str]> {
    let (mut parts, mut from, mut depth) = (Vec::new(), 0, 0usize);
    for (at, word) in words.iter().enumerate() {
        match *word {
            "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            word if depth == 0 && lower(word) == separator => {
                parts.push(&words[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&words[from..]);
    parts
}

fn is_name(word: &str) -> bool {
    word.starts_with(|char: char| char.is_alphabetic() || matches!(char, '_' | '"' | '$'))
}

/// A word as PL/pgSQL compares it. Quoted ones are never its own.
fn lower(word: &str) -> String {
    word.to_ascii_lowercase()
}

fn shown(word: &str) -> String {
    word.chars().take(24).collect()
}
