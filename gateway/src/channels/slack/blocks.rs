//! A card as Slack's Block Kit.
//!
//! # Security
//! What comes from bots is escaped as Slack wants it (`&`, `<`, `>`), so that it makes no mention and no link, and stands
//! in preformatted text runs or plain text, which know no other markup.

use serde_json::{Value, json};

use super::{
    super::card::{Card, Tone},
    Ticket,
};

/// A message without its channel.
pub(super) fn message(card: &Card, buttons: Option<[Ticket; 2]>) -> Value {
    let mark = match card.tone {
        Tone::Waiting => "🟡",
        Tone::Good => "🟢",
        Tone::Bad => "🔴",
        Tone::Over => "⚪",
    };
    let mut blocks = vec![json!({ "type": "header", "text": plain(&cut(&format!("{mark} {}", card.headline), 150)) })];
    blocks.push(rich(vec![text(&card.summary, true)]));
    let facts = card
        .facts
        .iter()
        .flat_map(|(name, value)| [text(&format!("{name}: "), true), text(&format!("{value}\n"), false)]);
    blocks.push(rich(facts.collect()));
    if let Some(statement) = &card.statement {
        let words = json!({ "type": "rich_text_preformatted", "elements": [text(&statement.text, false)] });
        let title = json!({ "type": "rich_text_section", "elements": [text("The bot's words", true)] });
        blocks.push(json!({ "type": "rich_text", "elements": [title, words] }));
        blocks.extend(card.rest().map(|rest| note(&rest)));
    }
    blocks.extend(card.cautions.iter().map(|caution| note(&format!("⚠️ Take care: it {caution}"))));
    let mut actions = Vec::new();
    if let Some([approve, deny]) = &buttons {
        actions.push(button("approve", "Approve", Some("primary"), approve));
        actions.push(button("deny", "Deny…", Some("danger"), deny));
    }
    match &card.link {
        Some(link) => actions.push(json!({
            "type": "button", "action_id": "open", "text": plain("Look at it"), "url": link,
        })),
        None => blocks.push(note(&card.command)),
    }
    if !actions.is_empty() {
        blocks.push(json!({ "type": "actions", "elements": actions }));
    }
    // What notifications show, and programs that know no blocks.
    json!({ "text": escaped(&format!("{mark} {}: {}", card.headline, card.summary)), "blocks": blocks })
}

/// The form in which somebody says why.
pub(super) fn modal(ticket: &Ticket, why: &str, required: bool) -> Value {
    let (title, submit) = if ticket.a { ("Approve", "Approve") } else { ("Deny", "Deny") };
    json!({
        "type": "modal",
        "callback_id": "decide",
        "private_metadata": packed(ticket),
        "title": plain(title),
        "submit": plain(submit),
        "close": plain("Cancel"),
        "blocks": [
            { "type": "section", "text": plain(&cut(why, 3000)) },
            {
                "type": "input",
                "block_id": "reason",
                "optional": !required,
                "label": plain("Why?"),
                "element": { "type": "plain_text_input", "action_id": "reason", "multiline": true, "max_length": 1000 },
            },
        ],
    })
}

/// A ticket as a button's value.
pub(super) fn packed(ticket: &Ticket) -> String {
    serde_json::to_string(ticket).expect("it is plain data")
}

/// As text of Slack's markup.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn plain(words: &str) -> Value {
    json!({ "type": "plain_text", "text": escaped(words), "emoji": false })
}

fn rich(elements: Vec<Value>) -> Value {
    json!({ "type": "rich_text", "elements": [{ "type": "rich_text_section", "elements": elements }] })
}

/// A run of rich text: no markup is read in it, so nothing is escaped.
fn text(words: &str, bold: bool) -> Value {
    json!({ "type": "text", "text": words, "style": { "bold": bold } })
}

fn note(words: &str) -> Value {
    json!({ "type": "context", "elements": [plain(&cut(words, 1900))] })
}

fn button(id: &str, words: &str, style: Option<&str>, ticket: &Ticket) -> Value {
    json!({ "type": "button", "action_id": id, "text": plain(words), "style": style, "value": packed(ticket) })
}

fn cut(text: &str, longest: usize) -> String {
    text.chars().take(longest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        channels::{card::tests::look, event::tests::opened},
        config::Show,
    };

    #[test]
    fn nothing_that_a_bot_says_is_markup_or_a_mention() {
        let event = opened(b"SELECT '<!channel> <@U1> *bold* :tada: <https://evil.example|ok>' -- ```");
        let card = Card::of(&event.now, event.what, &look(Show::Statement));
        let message = message(&card, None);
        fn walk(value: &Value, bad: &mut Vec<String>) {
            match value {
                Value::Object(map) => {
                    let kind = map.get("type").and_then(Value::as_str).unwrap_or_default();
                    let text = map.get("text").and_then(Value::as_str);
                    if kind == "mrkdwn" || kind == "plain_text" && text.is_some_and(|text| text.contains('<')) {
                        bad.push(value.to_string());
                    }
                    map.values().for_each(|value| walk(value, bad));
                }
                Value::Array(values) => values.iter().for_each(|value| walk(value, bad)),
                _ => {}
            }
        }
        let mut bad = Vec::new();
        walk(&message, &mut bad);
        assert_eq!(bad, Vec::<String>::new());
        let fallback = message["text"].as_str().expect("a text");
        assert!(fallback.contains("&lt;!channel&gt;") && !fallback.contains('<'), "{fallback}");
        assert!(message.to_string().contains("rich_text_preformatted"));
    }

    #[test]
    fn blocks_are_within_slacks_limits() {
        let event = opened("\u{202e}<".repeat(20_000).as_bytes());
        let mut look = look(Show::Statement);
        look.longest = super::super::LONGEST;
        let ticket = Ticket { c: "x".repeat(64), r: event.request(), d: "0".repeat(64), a: true };
        let message = message(&Card::of(&event.now, event.what, &look), Some([ticket.clone(), ticket]));
        let blocks = message["blocks"].as_array().expect("blocks");
        assert!(blocks.len() <= 50);
        for block in blocks {
            assert!(block.to_string().len() < 13_200, "{}", block.to_string().len());
            if block["type"] == "header" {
                assert!(block["text"]["text"].as_str().is_some_and(|text| text.chars().count() <= 150));
            }
        }
        let value = blocks.last().map(|block| block["elements"][0]["value"].as_str().map_or(0, str::len));
        assert!(value.is_some_and(|length| (100..2000).contains(&length)), "{value:?}");
    }
}
