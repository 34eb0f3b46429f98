//! How a message is put together: one answer, one assertion, each thing once, and signatures only where they belong.
//!
//! None of this is what makes a signature count (that is `signature.rs`, which trusts no place); it refuses messages that
//! nobody honest sends.

use std::collections::BTreeSet;

use roxmltree::{Document, Node};

use super::{
    Check,
    check::must,
    error::Why,
    xml::{self, ASSERTION, PROTOCOL, SIGNATURE},
};

/// How a document is put together.
pub(super) struct Layout {
    /// Namespace and name of what it is, and of what it should be.
    root: (String, String),
    wanted: (&'static str, &'static str),
    ids: Vec<String>,
    /// Signatures that stand elsewhere than in the answer or its assertion, or are a second one there.
    astray: usize,
    /// Assertions, encrypted or not, wherever they stand.
    assertions: usize,
    /// Those that stand where an answer has its assertion.
    in_place: usize,
}

/// What must be so of it.
pub(super) const CHECKS: &[Check<Layout>] = &[
    Check { name: "root", holds: root },
    Check { name: "ids", holds: ids },
    Check { name: "signatures", holds: signatures },
    Check { name: "alone", holds: alone },
];

impl Layout {
    /// How a whole answer is put together.
    pub(super) fn of_answer(document: &Document<'_>) -> Self {
        Self::of(document, (PROTOCOL, "Response"))
    }

    /// How an assertion that was encrypted is.
    pub(super) fn of_assertion(document: &Document<'_>) -> Self {
        Self::of(document, (ASSERTION, "Assertion"))
    }

    fn of(document: &Document<'_>, wanted: (&'static str, &'static str)) -> Self {
        let root = document.root_element();
        let elements: Vec<_> = root.descendants().filter(|node| node.is_element()).collect();
        let in_place = |node: &Node<'_, '_>| *node == root || node.parent() == Some(root);
        let signatures: Vec<_> = elements.iter().filter(|node| xml::is(**node, SIGNATURE, "Signature")).collect();
        let owned = signatures.iter().filter_map(|signature| {
            let owner = signature.parent()?;
            let belongs = owner == root || (in_place(&owner) && xml::is(owner, ASSERTION, "Assertion"));
            belongs.then_some(owner.id().get())
        });
        let owners: BTreeSet<_> = owned.collect();
        let assertions: Vec<_> = elements.iter().filter(|node| is_assertion(**node)).collect();
        Self {
            root: (root.tag_name().namespace().unwrap_or_default().to_owned(), root.tag_name().name().to_owned()),
            wanted,
            ids: elements.iter().flat_map(|node| ids_of(*node)).collect(),
            astray: signatures.len() - owners.len(),
            in_place: assertions.iter().filter(|node| in_place(node)).count(),
            assertions: assertions.len(),
        }
    }
}

/// An assertion, encrypted or not.
pub(super) fn is_assertion(node: Node<'_, '_>) -> bool {
    xml::is(node, ASSERTION, "Assertion") || xml::is(node, ASSERTION, "EncryptedAssertion")
}

/// Whatever some reader of XML may take for an element's name.
fn ids_of(node: Node<'_, '_>) -> Vec<String> {
    let ids = node.attributes().filter(|one| one.name().eq_ignore_ascii_case("id"));
    ids.map(|one| one.value().to_owned()).collect()
}

fn root(layout: &Layout) -> Result<(), Why> {
    let (namespace, name) = &layout.root;
    must((namespace.as_str(), name.as_str()) == layout.wanted, || Why::Root(Why::words(name)))
}

fn ids(layout: &Layout) -> Result<(), Why> {
    let mut seen = BTreeSet::new();
    let twice = layout.ids.iter().find(|id| !seen.insert(id.as_str()));
    twice.map_or(Ok(()), |id| Err(Why::Ids(Why::words(id))))
}

fn signatures(layout: &Layout) -> Result<(), Why> {
    must(layout.astray == 0, || Why::Astray)
}

/// A failure has none.
fn alone(layout: &Layout) -> Result<(), Why> {
    must(layout.assertions <= 1 && layout.in_place == layout.assertions, || Why::Assertions(layout.assertions))
}
