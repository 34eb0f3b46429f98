//! Where a view's columns come from: read out of its stored query tree.
//!
//! `pg_rewrite.ev_action` is a list of `Query` nodes in the text form of `nodeToString`: braces around nodes,
//! parentheses around lists, a backslash before any character that would end a token. Each `TARGETENTRY` of the
//! outermost target list says in `resorigtbl` and `resorigcol` which stored column it is, zero when it is computed.
//! Only that is read; anything unexpected gives `None`, and the view is then masked whole.

/// One column of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Target {
    /// The view's column number.
    pub(super) attnum: i16,
    /// The relation that it is a plain column of; 0 when it is computed.
    pub(super) table: u32,
    /// The column's number there.
    pub(super) column: i16,
}

/// The outermost target list of the tree's only query.
pub(super) fn targets(tree: &str) -> Option<Vec<Target>> {
    let mut tokens = Tokens { rest: tree };
    if tokens.next()? != "(" || tokens.next()? != "{" || tokens.next()? != "QUERY" {
        return None;
    }
    loop {
        match tokens.next()? {
            "{" => tokens.skip_to_end()?,
            "(" => tokens.skip_to_end()?,
            "}" | ")" => return None,
            ":targetList" => return target_list(&mut tokens),
            _ => {}
        }
    }
}

fn target_list(tokens: &mut Tokens<'_>) -> Option<Vec<Target>> {
    let mut targets = Vec::new();
    if tokens.next()? != "(" {
        return None;
    }
    loop {
        match tokens.next()? {
            ")" => return Some(targets),
            "{" if tokens.next()? == "TARGETENTRY" => targets.extend(target(tokens)?),
            _ => return None,
        }
    }
}

/// One entry; `Some(None)` when it is only there for sorting.
fn target(tokens: &mut Tokens<'_>) -> Option<Option<Target>> {
    let (mut attnum, mut table, mut column, mut junk) = (None, None, None, None);
    loop {
        match tokens.next()? {
            "{" | "(" => tokens.skip_to_end()?,
            "}" => break,
            ":resno" => attnum = Some(tokens.next()?.parse().ok()?),
            ":resorigtbl" => table = Some(tokens.next()?.parse().ok()?),
            ":resorigcol" => column = Some(tokens.next()?.parse().ok()?),
            ":resjunk" => junk = Some(tokens.next()? == "true"),
            _ => {}
        }
    }
    let target = Target { attnum: attnum?, table: table?, column: column? };
    Some((!junk?).then_some(target))
}

struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Option<&'a str> {
        self.rest = self.rest.trim_start_matches([' ', '\n', '\t']);
        let first = self.rest.chars().next()?;
        let end = if is_bracket(first) { 1 } else { self.token_end() };
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(token)
    }

    fn token_end(&self) -> usize {
        let mut escaped = false;
        for (at, char) in self.rest.char_indices() {
            match char {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                ' ' | '\n' | '\t' => return at,
                char if is_bracket(char) => return at,
                _ => {}
            }
        }
        self.rest.len()
    }

    /// Behind the bracket that closes the one just read.
    fn skip_to_end(&mut self) -> Option<()> {
        let mut depth = 1_usize;
        while depth > 0 {
            match self.next()? {
                "{" | "(" => depth += 1,
                "}" | ")" => depth -= 1,
                _ => {}
            }
        }
        Some(())
    }
}

fn is_bracket(char: char) -> bool {
    matches!(char, '(' | ')' | '{' | '}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_the_outermost_list_only() {
        let tree = r#"({QUERY :commandType 1 :rtable ({RTE :alias {ALIAS :aliasname a\ \{ :colnames ("x" "y\)")} :subquery
            {QUERY :targetList ({TARGETENTRY :expr 1 :resno 1 :resorigtbl 9 :resorigcol 9 :resjunk false})}})
            :targetList ({TARGETENTRY :expr {VAR :varno 1 :varattno 2} :resno 1 :resname id :ressortgroupref 0 :resorigtbl 16385 :resorigcol 2 :resjunk false}
            {TARGETENTRY :expr {CONST :constvalue 4 [ 1 0 0 0 ]} :resno 2 :resname upper\ name :resorigtbl 0 :resorigcol 0 :resjunk false}
            {TARGETENTRY :expr {X} :resno 3 :resname <> :resorigtbl 0 :resorigcol 0 :resjunk true}) :override 0})"#;
        assert_eq!(
            targets(tree),
            Some(vec![Target { attnum: 1, table: 16385, column: 2 }, Target { attnum: 2, table: 0, column: 0 }])
        );
    }

    #[test]
    fn what_is_odd_gives_nothing() {
        for tree in [
            "",
            "<>",
            "({QUERY :targetList <>})",
            "({QUERY :targetList ({TARGETENTRY :resno x})",
            "({QUERY",
            "({OTHER})",
        ] {
            assert_eq!(targets(tree), None, "{tree}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(tree in r"\(\{QUERY [ (){}\\:a-zé0-9]{0,60}:targetList \(\{TARGETENTRY [ (){}\\:a-zé0-9]{0,60}") {
            targets(&tree);
        }
    }
}
