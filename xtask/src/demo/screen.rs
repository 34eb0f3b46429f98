//! What the demo prints: numbered steps, at most 80 columns, colours only on a terminal.

use std::io::{IsTerminal, Write};

const WIDTH: usize = 80;

/// The demo's page.
pub(super) struct Screen {
    colours: bool,
    step: usize,
    steps: usize,
}

impl Screen {
    pub(super) fn new(steps: usize) -> Self {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colours, step: 0, steps }
    }

    /// Whether a line can be rewritten.
    pub(super) fn is_live(&self) -> bool {
        std::io::stdout().is_terminal()
    }

    /// Opens the next step.
    pub(super) fn step(&mut self, title: &str) {
        self.step += 1;
        println!("\n{}", self.paint("1;36", &format!("[{}/{}] {title}", self.step, self.steps)));
    }

    /// A paragraph.
    pub(super) fn say(&self, text: &str) {
        wrap(text, WIDTH - 2).iter().for_each(|line| println!("  {line}"));
    }

    /// What somebody types.
    pub(super) fn types(&self, who: &str, text: &str) {
        for (at, line) in wrap(text, WIDTH - who.len() - 7).iter().enumerate() {
            let prompt = if at == 0 { "$" } else { " " };
            println!("  {} {prompt} {}", self.paint("2", &format!("{who} │")), self.paint("1", line));
        }
    }

    /// What somebody sees.
    pub(super) fn sees(&self, who: &str, text: &str) {
        let width = WIDTH - who.chars().count() - 5;
        for line in text.trim_end().lines() {
            let squeezed = if line.chars().count() > width { squeeze(line) } else { line.to_owned() };
            for part in cut(&squeezed, width) {
                println!("  {} {part}", self.paint("2", &format!("{who} │")));
            }
        }
    }

    /// A fact that was checked.
    pub(super) fn checked(&self, text: &str) {
        let mark = self.paint("1;32", "✓");
        for (at, line) in wrap(text, WIDTH - 4).iter().enumerate() {
            println!("  {} {line}", if at == 0 { mark.as_str() } else { " " });
        }
    }

    /// Lines to copy, between rules so that nothing but them is copied.
    pub(super) fn copy_this(&self, title: &str, lines: &[String]) {
        let rule = "─".repeat(WIDTH - title.chars().count() - 6);
        println!("\n  {}", self.paint("1;33", &format!("── {title} {rule}")));
        lines.iter().for_each(|line| println!("{}", self.paint("1", line)));
        println!("  {}\n", self.paint("1;33", &"─".repeat(WIDTH - 2)));
    }

    /// A line that replaces itself; nothing where that is not possible.
    pub(super) fn rewrite(&self, text: &str) {
        if self.is_live() {
            print!("\r\x1b[2K  {text}");
            let _ = std::io::stdout().flush();
        }
    }

    /// Ends a line that replaced itself.
    pub(super) fn wipe(&self) {
        if self.is_live() {
            print!("\r\x1b[2K");
            let _ = std::io::stdout().flush();
        }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Words into lines of at most `width` characters; a longer word stands alone.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            let space = if line.is_empty() { "" } else { " " };
            line.push_str(&format!("{space}{word}"));
        }
    }
    lines
}

/// A line of a table that is too wide: the blanks that align it shrink to two.
fn squeeze(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    let cells = line.trim().split("  ").map(str::trim).filter(|cell| !cell.is_empty());
    format!("{}{}", &line[..indent], cells.collect::<Vec<_>>().join("  "))
}

/// A line into pieces of at most `width` characters, blanks kept, broken between words where there are some.
fn cut(line: &str, width: usize) -> Vec<String> {
    let mut rest: Vec<char> = line.trim_end().chars().collect();
    let blanks = rest.iter().take_while(|character| **character == ' ').count();
    // What is continued stands four deeper than its line.
    let indent = if blanks + 4 < width / 2 { blanks + 4 } else { 0 };
    let mut pieces = Vec::new();
    while rest.len() > width {
        let blank = rest[..=width].iter().rposition(|character| *character == ' ');
        // Breaking far to the left would leave a ragged page; a long word is cut instead.
        let end = blank.filter(|end| *end > width / 2).unwrap_or(width);
        let after = rest.split_off(end);
        pieces.push(rest.iter().collect::<String>());
        let kept = after.iter().skip_while(|character| **character == ' ').copied();
        rest = std::iter::repeat_n(' ', indent).chain(kept).collect();
    }
    pieces.push(rest.into_iter().collect());
    pieces
}

#[cfg(test)]
mod tests {
    use super::{cut, wrap};

    #[test]
    fn wraps_between_words_only() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("unbreakable", 4), ["unbreakable"]);
    }

    #[test]
    fn cuts_what_is_too_wide() {
        assert_eq!(cut("a  b", 4), ["a  b"]);
        assert_eq!(cut("one two three four", 12), ["one two", "    three", "    four"]);
        assert_eq!(cut("unbreakable", 4), ["unbr", "eaka", "ble"]);
        assert_eq!(super::squeeze(" a     b c   d"), " a  b c  d");
        assert_eq!(cut("", 3), [""]);
    }
}
