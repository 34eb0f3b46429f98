//! Text from bots made safe to look at: what is shown is what is there.
//!
//! Whoever approves or reviews must not be led astray by bytes that move the cursor, hide, reorder or imitate other
//! text (`a5` of the bypasses). [`visible`] shows every such character as an escape; [`cautions`] says in words what a
//! reader should know before trusting their eyes. Pure; knows nothing of protocols.
//!
//! What is kept as it is: printable ASCII, and printable characters of other scripts, since data and identifiers are
//! written in them. A letter that imitates a Latin one is kept inside a word of its own script and escaped inside a
//! word that also has Latin letters, which nobody writes by accident (`usеrs` with a Cyrillic `е`).
//! A backslash is kept too: an escape that was typed only looks more dangerous than it is, and the digest tells them
//! apart.

use std::fmt::Write;

/// Everything on one line: line breaks and tabs are escapes as well.
pub fn visible(bytes: &[u8]) -> String {
    render(bytes, |_| false)
}

/// Line feeds and tabs keep their layout; all else is as in [`visible`].
pub fn visible_lines(bytes: &[u8]) -> String {
    render(bytes, |c| c == '\n' || c == '\t')
}

/// [`visible`], cut after `limit` characters with the number of bytes that are not shown.
pub fn visible_start(bytes: &[u8], limit: usize) -> String {
    let all = visible(&bytes[..bytes.len().min(limit.saturating_mul(4))]);
    let shown: String = all.chars().take(limit).collect();
    if shown.len() == all.len() && bytes.len() <= limit.saturating_mul(4) {
        return all;
    }
    format!("{shown}… ({} bytes in all)", bytes.len())
}

/// What to know before trusting one's eyes, each in words; empty for plain text.
pub fn cautions(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let any = |matches: fn(char) -> bool| text.chars().any(matches);
    let mut found = Vec::new();
    let mut say = |holds: bool, words: &str| {
        if holds {
            found.push(words.to_owned());
        }
    };
    say(std::str::from_utf8(bytes).is_err(), "has bytes that are not UTF-8");
    say(any(|c| c == '\0'), "has a NUL, where other programs may stop reading");
    say(any(|c| c == '\x1b'), "has terminal escape sequences");
    say(any(|c| c == '\r'), "has carriage returns, which overwrite a line on a terminal");
    say(any(is_bidi), "has characters that change the order in which text is shown");
    say(any(is_unseen), "has characters that cannot be seen");
    say(any(is_odd_space), "has spaces that are not the ordinary one");
    let imitations: String = text.chars().filter(|c| imitates_latin(*c)).take(8).collect();
    if !imitations.is_empty() {
        let codes: Vec<_> = imitations.chars().map(|c| format!("{c} (U+{:04X})", u32::from(c))).collect();
        found.push(format!("has letters that look like Latin ones: {}", codes.join(", ")));
    }
    if bytes.len() > LONG {
        found.push(format!("is long: {} bytes; read it to the end", bytes.len()));
    }
    found
}

/// More than anybody reads on a phone, bytes.
const LONG: usize = 2_000;

fn render(bytes: &[u8], keeps: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        render_text(chunk.valid(), &keeps, &mut out);
        for byte in chunk.invalid() {
            escape_byte(*byte, &mut out);
        }
    }
    out
}

fn render_text(text: &str, keeps: &impl Fn(char) -> bool, out: &mut String) {
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c.is_alphanumeric() || c == '_' {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || is_mark(c) || is_unseen(c)));
            let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
            render_word(word, out);
            rest = after;
        } else {
            if keeps(c) {
                out.push(c)
            } else {
                render_char(c, false, out)
            }
            rest = &rest[c.len_utf8()..];
        }
    }
}

fn render_word(word: &str, out: &mut String) {
    let mixed = word.bytes().any(|byte| byte.is_ascii_alphabetic());
    let mut marks = 0;
    for c in word.chars() {
        marks = if is_mark(c) { marks + 1 } else { 0 };
        // One accent on a letter is writing; a pile of them hides what is below.
        render_char(c, marks > 1 || (mixed && imitates_latin(c)), out);
    }
}

fn render_char(c: char, always: bool, out: &mut String) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\0'..='\x1f' | '\x7f' => escape_byte(c as u8, out),
        ' '..='~' => out.push(c),
        _ if always || is_bidi(c) || is_unseen(c) || is_odd_space(c) || c.is_control() => escape_char(c, out),
        _ => out.push(c),
    }
}

fn escape_byte(byte: u8, out: &mut String) {
    write!(out, "\\x{byte:02x}").expect("a string takes every text");
}

fn escape_char(c: char, out: &mut String) {
    write!(out, "\\u{{{:x}}}", u32::from(c)).expect("a string takes every text");
}

/// Characters of the Unicode bidirectional algorithm that reorder their surroundings.
const fn is_bidi(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Characters without a shape: zero width, fillers, selectors, tags, separators, private use, unassigned specials.
const fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200d}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{10ffff}')
}

const fn is_odd_space(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{2800}' | '\u{3000}')
}

/// Marks that sit on the letter before them.
const fn is_mark(c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

/// Letters and digits that most fonts draw like a Latin letter (after Unicode's confusables, the ones with a keyboard),
/// and whole alphabets of styled Latin.
fn imitates_latin(c: char) -> bool {
    const CYRILLIC: &str = "АВЕЅІЈКМНОРСТУХЬаеіјорсухѕһԁԛԝѵӏгп";
    const GREEK: &str = "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαιονρτυχω";
    const OTHERS: &str = "օսհոցյզⅼⅰⅴⅹɑɡıȷ";
    let styled = matches!(u32::from(c), 0xff10..=0xff5a | 0x1d400..=0x1d7ff | 0x2170..=0x217f);
    styled || CYRILLIC.contains(c) || GREEK.contains(c) || OTHERS.contains(c)
}

/// JSON in ASCII alone: whatever a string holds, the terminal that it is printed on sees no character that acts.
/// Nothing is lost; every JSON reader gives the same strings back.
pub fn ascii_json<T: serde::Serialize>(value: &T, pretty: bool) -> serde_json::Result<String> {
    let json = if pretty { serde_json::to_string_pretty(value)? } else { serde_json::to_string(value)? };
    if json.bytes().all(|byte| matches!(byte, b'\n' | b' '..=b'~')) {
        return Ok(json);
    }
    let mut out = String::with_capacity(json.len() + 64);
    // Outside strings JSON is ASCII, so every other character is inside one, where `\u` means the character.
    for c in json.chars() {
        if matches!(c, '\n' | ' '..='~') {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}").expect("a string takes every text");
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
