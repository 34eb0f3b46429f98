//! Microsoft Teams: an Adaptive Card (version 1.5) to the address of a workflow that posts what it is sent.
//!
//! # Security
//! What bots say stands in text runs alone, which know no markup (a text block has Markdown and mentions).

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    Failed,
    card::{Card, Look, Tone},
    event::Event,
    post::Post,
    secret::Secret,
};
use crate::config;

/// A workflow of Teams'.
pub(super) struct Teams {
    post: Post,
    look: Look,
}

impl Teams {
    /// # Errors
    /// What is wrong with the settings.
    pub(super) fn new(settings: &config::Teams, look: Look) -> Result<Self, String> {
        let address = Zeroizing::new(Secret::read(&settings.url_file)?.to_string());
        Ok(Self { post: Post::new("url_file", &address, settings.ca.clone())?, look })
    }

    /// Tells an event.
    pub(super) async fn tell(&self, event: &Event) -> Result<(), Failed> {
        self.send(&message(&Card::of(&event.now, event.what, &self.look))).await.map(drop)
    }

    /// Sends a message that says nothing.
    pub(super) async fn test(&self) -> Result<String, Failed> {
        let text = format!("A test of this channel by node {}: nothing waits for you.", self.look.node);
        self.send(&envelope(vec![paragraph(vec![run(&text)])], Vec::new())).await
    }

    async fn send(&self, message: &Value) -> Result<String, Failed> {
        let answer = self.post.json("", &[], message.to_string().into_bytes()).await?;
        self.post.taken(&answer)
    }
}

fn message(card: &Card) -> Value {
    let mut body = vec![json!({
        "type": "RichTextBlock",
        "inlines": [{
            "type": "TextRun", "text": card.headline, "weight": "Bolder", "size": "Medium", "color": color(card.tone),
        }],
    })];
    body.push(paragraph(vec![run(&card.summary)]));
    body.extend(card.facts.iter().map(|(name, value)| paragraph(vec![bold(name), run(&format!(" {value}"))])));
    if let Some(statement) = &card.statement {
        body.push(paragraph(vec![bold("the bot's words")]));
        let code = json!({ "type": "TextRun", "text": statement.text, "fontType": "Monospace" });
        let block = json!({ "type": "Container", "style": "emphasis", "items": [paragraph(vec![code])] });
        body.push(block);
        body.extend(card.rest().map(|rest| paragraph(vec![run(&rest)])));
    }
    body.extend(card.cautions.iter().map(|caution| {
        let text = format!("Take care: it {caution}");
        paragraph(vec![json!({ "type": "TextRun", "text": text, "color": "Warning" })])
    }));
    let actions = match &card.link {
        Some(link) => vec![json!({ "type": "Action.OpenUrl", "title": "Look at it and decide", "url": link })],
        None => {
            body.push(paragraph(vec![run(&card.command)]));
            Vec::new()
        }
    };
    envelope(body, actions)
}

fn envelope(body: Vec<Value>, actions: Vec<Value>) -> Value {
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.5",
                "msteams": { "width": "Full" },
                "body": body,
                "actions": actions,
            },
        }],
    })
}

fn paragraph(inlines: Vec<Value>) -> Value {
    json!({ "type": "RichTextBlock", "inlines": inlines })
}

fn run(text: &str) -> Value {
    json!({ "type": "TextRun", "text": text })
}

fn bold(text: &str) -> Value {
    json!({ "type": "TextRun", "text": text, "weight": "Bolder" })
}

const fn color(tone: Tone) -> &'static str {
    match tone {
        Tone::Waiting => "Accent",
        Tone::Good => "Good",
        Tone::Bad => "Attention",
        Tone::Over => "Default",
    }
}

/// Of a statement, characters: Teams refuses messages beyond 28 KB.
pub(super) const LONGEST: usize = 1_500;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        channels::{card::tests::look, event::tests::opened},
        config::Show,
    };

    #[test]
    fn what_bots_say_is_text_without_markup_and_never_a_mention() {
        let event = opened(b"SELECT '**bold** [x](https://evil.example) <at>all</at>'");
        let message = message(&Card::of(&event.now, event.what, &look(Show::Statement)));
        let content = &message["attachments"][0]["content"];
        assert_eq!((&content["version"], &content["type"]), (&json!("1.5"), &json!("AdaptiveCard")));
        assert!(content["msteams"]["entities"].is_null(), "no text becomes a mention");
        fn markup(value: &Value) -> bool {
            match value {
                Value::Object(map) => {
                    matches!(map.get("type").and_then(Value::as_str), Some("TextBlock" | "FactSet"))
                        || map.values().any(markup)
                }
                Value::Array(values) => values.iter().any(markup),
                _ => false,
            }
        }
        assert!(!markup(content), "{content}");
        assert!(message.to_string().contains("[x](https://evil.example)"));
        assert_eq!(
            content["actions"][0]["url"],
            "https://console.example/requests/33333333-3333-3333-3333-333333333333"
        );
    }

    #[test]
    fn the_longest_card_is_one_that_teams_takes() {
        let event = opened("\u{202e}é".repeat(20_000).as_bytes());
        let mut look = look(Show::Statement);
        look.longest = LONGEST;
        let message = message(&Card::of(&event.now, event.what, &look)).to_string();
        assert!(message.len() < 20_000, "{}", message.len());
    }
}
