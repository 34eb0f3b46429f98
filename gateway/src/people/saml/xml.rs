//! Reading XML, bounded and plain: no document type, no entities, no processing instructions.
//!
//! The tree is `roxmltree`'s. It borrows the text, so whatever is read of it is read of that very text.

use roxmltree::{Document, Node, ParsingOptions};

use super::error::Why;

/// Namespaces.
pub(super) const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
pub(super) const ASSERTION: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
pub(super) const METADATA: &str = "urn:oasis:names:tc:SAML:2.0:metadata";
pub(super) const SIGNATURE: &str = "http://www.w3.org/2000/09/xmldsig#";
pub(super) const ENCRYPTION: &str = "http://www.w3.org/2001/04/xmlenc#";

/// Reads a document of at most `longest` bytes.
///
/// # Errors
/// It is none, or has what nothing of SAML has.
pub(super) fn read(text: &str, longest: usize) -> Result<Document<'_>, Why> {
    let wrong = |why: &str| Err(Why::Malformed(why.to_owned()));
    if text.len() > longest {
        return wrong("it is too long");
    }
    if ["<!DOCTYPE", "<!ENTITY"].iter().any(|word| text.contains(word)) {
        return wrong("it has a document type (DTD), which may define entities");
    }
    if text.matches("xmlns").count() > MOST_NAMESPACES {
        return wrong("it has too many namespaces");
    }
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MOST_NODES, entity_resolver: None };
    let document =
        Document::parse_with_options(text, options).map_err(|error| Why::Malformed(Why::words(&error.to_string())))?;
    let mut depths: Vec<usize> = Vec::new();
    for node in document.descendants() {
        let parent = node.parent().map_or(0, |parent| depths[parent.id().get_usize()]);
        if parent >= DEEPEST {
            return wrong("it is nested too deep");
        }
        // The tree keeps the lengths of names in two bytes.
        if node.attributes().any(|one| one.range_qname().len() > LONGEST_NAME) {
            return wrong("an attribute's name in it is too long");
        }
        if node.is_pi() {
            return wrong("it has a processing instruction");
        }
        // In the order of the document, which is that of their numbers.
        depths.push(parent + 1);
    }
    Ok(document)
}

/// Whether this is that element.
pub(super) fn is(node: Node<'_, '_>, namespace: &str, name: &str) -> bool {
    node.is_element() && node.has_tag_name((namespace, name))
}

/// The children of that name.
pub(super) fn children<'a, 'i>(
    parent: Node<'a, 'i>,
    namespace: &'a str,
    name: &'a str,
) -> impl Iterator<Item = Node<'a, 'i>> {
    parent.children().filter(move |child| is(*child, namespace, name))
}

/// The first child of that name.
pub(super) fn child<'a, 'i>(parent: Node<'a, 'i>, namespace: &'a str, name: &'a str) -> Option<Node<'a, 'i>> {
    children(parent, namespace, name).next()
}

/// The only child of that name, where there is one.
///
/// # Errors
/// There are several.
pub(super) fn only<'a, 'i>(
    parent: Node<'a, 'i>,
    namespace: &'a str,
    name: &'a str,
) -> Result<Option<Node<'a, 'i>>, Why> {
    let mut all = children(parent, namespace, name);
    let first = all.next();
    match all.next() {
        Some(_) => Err(Why::Malformed(format!("`{name}` stands twice where it may stand once"))),
        None => Ok(first),
    }
}

/// The whole text in an element, whatever comments stand in between.
///
/// # Errors
/// There are elements in it.
pub(super) fn text(node: Node<'_, '_>) -> Result<String, Why> {
    if node.children().any(|child| child.is_element()) {
        return Err(Why::Malformed(format!("`{}` has elements where text was expected", node.tag_name().name())));
    }
    Ok(node.children().filter(|child| child.is_text()).filter_map(|child| child.text()).collect())
}

/// The same without white space around it.
pub(super) fn trimmed(node: Node<'_, '_>) -> Result<String, Why> {
    text(node).map(|text| text.trim().to_owned())
}

/// An attribute without a namespace.
pub(super) fn attribute(node: Node<'_, '_>, name: &str) -> Option<String> {
    node.attributes().find(|one| one.namespace().is_none() && one.name() == name).map(|one| one.value().to_owned())
}

/// Text as it may stand between tags and in quotes.
pub(super) fn escape(text: &str) -> String {
    let each = text.chars().map(|letter| match letter {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        '\'' => "&#39;".to_owned(),
        letter => letter.to_string(),
    });
    each.collect()
}

/// The longest message, in bytes.
pub(super) const LONGEST: usize = 128 * 1024;

/// The longest canonical form, in bytes: a little is written in more letters there.
pub(super) const LONGEST_CANONICAL: usize = 1024 * 1024;

/// The longest name of an attribute, in bytes.
const LONGEST_NAME: usize = 512;

/// The deepest element. An assertion with all that it can have is some ten deep.
const DEEPEST: usize = 48;

/// Elements, texts and comments at most.
const MOST_NODES: u32 = 10_000;

/// Declarations of namespaces at most: a provider that writes two with each of many groups has some hundred.
const MOST_NAMESPACES: usize = 1024;
