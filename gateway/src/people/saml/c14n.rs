//! Exclusive XML canonicalisation without comments (W3C `xml-exc-c14n`): the bytes that are signed of an element.

use std::collections::BTreeMap;

use roxmltree::{Node, NodeId};

use super::{error::Why, xml::LONGEST_CANONICAL};

/// The name of the method, the only one that counts.
pub(super) const METHOD: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";

/// The canonical form of `element` and all in it but the element `without`. The prefixes in `inclusive` are written where
/// they are known, not where they are used (`InclusiveNamespaces`); `#default` is that of names without one.
///
/// What it gives is a document of its own, and reading it anew gives what was signed.
///
/// # Errors
/// It would be far longer than what it is of: a namespace is written anew wherever it is used.
pub(super) fn canonical(element: Node<'_, '_>, without: Option<NodeId>, inclusive: &[String]) -> Result<String, Why> {
    let wrong = |why: &str| Err(Why::Malformed(why.to_owned()));
    if inclusive.len() > MOST_LISTED {
        return wrong("its signature lists too many prefixes");
    }
    let mut out = String::new();
    Writer { without, inclusive, out: &mut out }.element(element, &BTreeMap::new());
    if out.len() > LONGEST_CANONICAL { wrong("its canonical form is too long") } else { Ok(out) }
}

/// Prefixes in a list, at most.
const MOST_LISTED: usize = 16;

struct Writer<'w> {
    without: Option<NodeId>,
    inclusive: &'w [String],
    out: &'w mut String,
}

/// Prefix → namespace; `""` is that of names without one.
type Scope<'a> = BTreeMap<&'a str, &'a str>;

impl Writer<'_> {
    /// `written`: what is declared around it in what was written. The depth was bounded when the text was read.
    fn element(&mut self, element: Node<'_, '_>, written: &Scope<'_>) {
        if self.out.len() > LONGEST_CANONICAL {
            return;
        }
        let name = name_of(element);
        let mut scope = written.clone();
        let declared: Vec<_> = self
            .used(element, name)
            .into_iter()
            .filter(|(prefix, uri)| written.get(prefix).copied().unwrap_or_default() != *uri)
            .collect();
        scope.extend(declared.iter().copied());
        self.out.push('<');
        self.out.push_str(name);
        for (prefix, uri) in &declared {
            let named = if prefix.is_empty() { "xmlns".to_owned() } else { format!("xmlns:{prefix}") };
            self.attribute(&named, uri);
        }
        let text = element.document().input_text();
        let mut attributes: Vec<_> = element.attributes().collect();
        attributes.sort_by_key(|one| (one.namespace().unwrap_or_default(), one.name()));
        for one in attributes {
            self.attribute(&text[one.range_qname()], one.value());
        }
        self.out.push('>');
        let without = self.without;
        for child in element.children().filter(|child| Some(child.id()) != without) {
            if child.is_element() {
                self.element(child, &scope);
            } else if child.is_text() {
                self.text(child.text().unwrap_or_default());
            }
        }
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    /// The namespaces that an element's own names use, and those that are to be written anyway.
    fn used<'a>(&self, element: Node<'a, '_>, name: &'a str) -> Scope<'a> {
        let text = element.document().input_text();
        let mut used = Scope::from([(prefix_of(name), element.tag_name().namespace().unwrap_or_default())]);
        for one in element.attributes() {
            let prefix = prefix_of(&text[one.range_qname()]);
            if !prefix.is_empty() && prefix != "xml" {
                used.insert(prefix, one.namespace().unwrap_or_default());
            }
        }
        for known in element.namespaces() {
            let prefix = known.name().unwrap_or_default();
            let listed = if prefix.is_empty() { "#default" } else { prefix };
            if prefix != "xml" && self.inclusive.iter().any(|one| one == listed) {
                used.entry(prefix).or_insert(known.uri());
            }
        }
        used
    }

    fn attribute(&mut self, name: &str, value: &str) {
        self.out.push(' ');
        self.out.push_str(name);
        self.out.push_str("=\"");
        for letter in value.chars() {
            match letter {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '"' => self.out.push_str("&quot;"),
                '\t' => self.out.push_str("&#x9;"),
                '\n' => self.out.push_str("&#xA;"),
                '\r' => self.out.push_str("&#xD;"),
                letter => self.out.push(letter),
            }
        }
        self.out.push('"');
    }

    fn text(&mut self, text: &str) {
        for letter in text.chars() {
            match letter {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '\r' => self.out.push_str("&#xD;"),
                letter => self.out.push(letter),
            }
        }
    }
}

/// An element's name with its prefix, as it is written: the tree knows its namespace only.
fn name_of<'a>(element: Node<'a, '_>) -> &'a str {
    let text = &element.document().input_text()[element.range()];
    let name = text.strip_prefix('<').unwrap_or_default();
    let end = name.find(|letter: char| letter.is_ascii_whitespace() || "/>".contains(letter)).unwrap_or(name.len());
    &name[..end]
}

fn prefix_of(name: &str) -> &str {
    name.split_once(':').map_or("", |(prefix, _)| prefix)
}
