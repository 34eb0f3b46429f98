//! Wrapping around a signature (Somorovsky et al., *On Breaking SAML*, 2012): an honest signed element is kept somewhere in
//! a message so that its signature still holds, and another one stands where a careless reader reads.

use proptest::prelude::*;

use super::*;

/// An assertion that nobody signed, with another `ID`.
fn evil() -> String {
    assertion().replace("\"_a\"", "\"_evil\"").replace("ada@corp.example", "eve@corp.example")
}

/// `element` with `inside` put before its end.
fn with(element: &str, inside: &str) -> String {
    let at = element.rfind("</").expect("it is an element");
    format!("{}{inside}{}", &element[..at], &element[at..])
}

/// The element's text with its signature put in behind the issuer.
fn owning(element: &str, id: &str, signature: &str) -> String {
    let at = place_of(element, id);
    format!("{}{signature}{}", &element[..at], &element[at..])
}

/// The eight ways, and the word of the refusal.
fn wrapped() -> Vec<(&'static str, String, &'static str)> {
    let signer = Signer::honest(&keys().0);
    // An answer that is signed as a whole, and its signature.
    let whole = answer(&assertion());
    let of_whole = signer.signature(&whole, "_p");
    let evil_answer = answer(&evil()).replace("\"_p\"", "\"_evil-answer\"");
    // An assertion that is signed, and its signature.
    let of_assertion = signer.signature(&assertion(), "_a");
    let signed = signer.sign(&assertion(), "_a");
    let object =
        |inside: &str| format!("<ds:Object xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\">{inside}</ds:Object>");
    let extensions = |inside: &str| {
        answer(inside)
            .replace(inside, "")
            .replace("<samlp:Status>", &format!("<samlp:Extensions>{inside}</samlp:Extensions><samlp:Status>"))
    };
    let unsigned_first = answer(&format!("{}{signed}", evil()));
    vec![
        (
            "XSW1: the answer inside its signature",
            owning(&evil_answer, "_evil-answer", &with(&of_whole, &whole)),
            "there are 2",
        ),
        (
            "XSW2: the answer beside its signature",
            owning(&evil_answer, "_evil-answer", &format!("{of_whole}{whole}")),
            "there are 2",
        ),
        ("XSW3: another assertion in front", unsigned_first, "there are 2"),
        ("XSW4: around the assertion", answer(&with(&evil(), &signed)), "where none belongs"),
        (
            "XSW5: the signature moved, the assertion behind",
            answer(&format!("{}{}", owning(&evil(), "_evil", &of_assertion), assertion())),
            "there are 2",
        ),
        (
            "XSW6: the signature moved, the assertion in it",
            answer(&owning(&evil(), "_evil", &with(&of_assertion, &assertion()))),
            "there are 2",
        ),
        (
            "XSW7: another one among the extensions",
            extensions(&evil()).replace("</samlp:Response>", &format!("{signed}</samlp:Response>")),
            "there are 2",
        ),
        (
            "XSW8: the assertion as an object of the signature",
            answer(&owning(&evil(), "_evil", &with(&of_assertion, &object(&assertion())))),
            "there are 2",
        ),
        (
            "the same name twice",
            answer(&format!("{}{}", owning(&evil().replace("_evil", "_a"), "_a", &of_assertion), assertion())),
            "called `_a`",
        ),
    ]
}

/// The checks that only look at how a message is put together: what is read must not hang on them.
const OF_PLACES: [&str; 6] = ["root", "ids", "signatures", "alone", "object", "one_reference"];

#[test]
fn nothing_that_is_wrapped_around_a_signature_is_read() {
    let world = World::new();
    for (name, text, word) in wrapped() {
        let read = |rules| world.provider(world.settings("")).read(rules, &text, expected());
        let why = read(RULES).expect_err(name).to_string();
        assert!(why.contains(word), "{name}: {why}");
        // Without all that looks at places: refused all the same, or read as what was signed.
        let layout: Vec<_> = RULES.layout.iter().filter(|check| !OF_PLACES.contains(&check.name)).copied().collect();
        let signature: Vec<_> =
            RULES.signature.iter().filter(|check| !OF_PLACES.contains(&check.name)).copied().collect();
        let read = read(Rules { layout: &layout, signature: &signature, ..RULES });
        assert_ne!(read.map(|subject| subject.name), Ok("eve@corp.example".to_owned()), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A part of a signed answer, or of an assertion that nobody signed, put anywhere into the answer in place of another.
    #[test]
    fn whatever_is_cut_and_pasted_nobody_else_is_read(
        around: bool, from in 0.0..1.0_f64, cut in 0..80_usize, of_evil: bool, part in 0.0..1.0_f64, length in 0..900_usize,
    ) {
        let signer = Signer::honest(&keys().0);
        let honest = if around { signer.sign(&answer(&assertion()), "_p") } else { honest() };
        let evil = evil();
        let source = if of_evil { &evil } else { &honest };
        let within = |text: &str, part: f64| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a short text")]
            let place = (text.len() as f64 * part) as usize;
            place.min(text.len())
        };
        let (start, at) = (within(source, part), within(&honest, from));
        let pasted = &source[start..(start + length).min(source.len())];
        let text = format!("{}{pasted}{}", &honest[..at], &honest[(at + cut).min(honest.len())..]);
        let world = world();
        let read = world.provider(world.settings("")).read(RULES, &text, expected());
        if let Ok(subject) = read {
            prop_assert_eq!(subject.name, "ada@corp.example");
        }
        decodes(text.as_bytes());
    }
}

/// One for all cases: nothing in it changes.
fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::new)
}
