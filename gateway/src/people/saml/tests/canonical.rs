//! The canonical form: examples of the standards (W3C `xml-c14n`, 2; `xml-exc-c14n`, 2), and what reading it anew gives.

use proptest::prelude::*;

use super::*;

fn canonical(text: &str, name: &str, inclusive: &[&str]) -> String {
    let document = xml::read(text, usize::MAX).expect("XML");
    let element = document.descendants().find(|node| node.is_element() && node.tag_name().name() == name);
    let inclusive: Vec<_> = inclusive.iter().map(|prefix| (*prefix).to_owned()).collect();
    c14n::canonical(element.expect("it is there"), None, &inclusive).expect("it is short")
}

#[test]
fn examples_of_the_standards() {
    for (text, name, inclusive, wanted) in [
        // Exclusive, 2.2: only what is used is declared, where it is used.
        (
            "<n0:local xmlns:n0=\"foo:bar\" xmlns:n3=\"ftp://example.org\"><n1:elem2 xmlns:n1=\"http://example.net\" \
             xml:lang=\"en\"><n3:stuff xmlns:n3=\"ftp://example.org\"/></n1:elem2></n0:local>",
            "elem2",
            &[][..],
            "<n1:elem2 xmlns:n1=\"http://example.net\" xml:lang=\"en\"><n3:stuff xmlns:n3=\"ftp://example.org\">\
             </n3:stuff></n1:elem2>",
        ),
        // With a list: where it is known.
        (
            "<a:x xmlns:a=\"urn:a\" xmlns:b=\"urn:b\" xmlns=\"urn:c\"><a:y c=\"b:z\"/></a:x>",
            "y",
            &["b", "#default"],
            "<a:y xmlns=\"urn:c\" xmlns:a=\"urn:a\" xmlns:b=\"urn:b\" c=\"b:z\"></a:y>",
        ),
        // Canonical XML, 3.3: order, quotes, defaults taken back.
        (
            "<e5 a:attr=\"out\" b:attr=\"sorted\" attr2=\"all\" attr='I&apos;m' xmlns:b=\"http://www.ietf.org\" \
             xmlns:a=\"http://www.w3.org\" xmlns=\"http://example.org\"><e6 xmlns=\"\"><e7 xmlns=\"http://www.ietf.org\">\
             <e8 xmlns=\"\"/></e7></e6></e5>",
            "e5",
            &[],
            "<e5 xmlns=\"http://example.org\" xmlns:a=\"http://www.w3.org\" xmlns:b=\"http://www.ietf.org\" attr=\"I'm\" \
             attr2=\"all\" b:attr=\"sorted\" a:attr=\"out\"><e6 xmlns=\"\"><e7 xmlns=\"http://www.ietf.org\"><e8 xmlns=\"\">\
             </e8></e7></e6></e5>",
        ),
        // Canonical XML, 3.4: letters that are written otherwise.
        (
            "<d><t>First line&#x0d;&#10;Second line</t><v>&#x32;</v><c><![CDATA[v>\"0\" && v<\"10\"?\"v\":\"e\"]]></c>\
             <n a='&apos;&#x20;&#13;&#xa;&#9; &quot;'/></d>",
            "d",
            &[],
            "<d><t>First line&#xD;\nSecond line</t><v>2</v><c>v&gt;\"0\" &amp;&amp; v&lt;\"10\"?\"v\":\"e\"</c>\
             <n a=\"' &#xD;&#xA;&#x9; &quot;\"></n></d>",
        ),
        // 3.1: comments go, white space stays.
        ("<doc>Hello, <!-- x -->world\n <e   /></doc >", "doc", &[], "<doc>Hello, world\n <e></e></doc>"),
    ] {
        assert_eq!(canonical(text, name, inclusive), wanted);
    }
}

#[test]
fn a_form_that_grows_without_end_is_refused() {
    let long = format!("urn:{}", "x".repeat(20_000));
    let text = format!("<r xmlns:a=\"{long}\">{}</r>", "<a:b/>".repeat(500));
    let document = xml::read(&text, usize::MAX).expect("XML");
    assert!(c14n::canonical(document.root_element(), None, &[]).is_err());
    let many = vec!["a".to_owned(); 100];
    assert!(c14n::canonical(document.root_element(), None, &many).is_err());
}

/// Some element with others in it, and letters that must be written with care.
fn element() -> impl Strategy<Value = String> {
    let text = "[ a-c&<>\"'\t\n\r\u{e9}]{0,6}".prop_map(|text| xml::escape(&text).replace('\r', "&#13;"));
    let value = "[ a-c&<>\"'\t\n\r]{0,4}"
        .prop_map(|text| xml::escape(&text).replace('\r', "&#13;").replace('\n', "&#10;").replace('\t', "&#9;"));
    let name = prop_oneof![Just("x"), Just("p:x"), Just("q:y")];
    let spaces = prop_oneof![Just(""), Just(" xmlns=\"urn:d\""), Just(" xmlns=\"\""), Just(" xmlns:p=\"urn:o\"")];
    let leaf = text.clone().boxed();
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let inside = prop::collection::vec(inner, 0..4);
        (name.clone(), spaces.clone(), value.clone(), inside).prop_map(|(name, spaces, value, inside)| {
            format!("<{name}{spaces} q:a=\"{value}\" b=\"{value}\">{}</{name}>", inside.concat())
        })
    })
}

proptest! {
    #[test]
    fn the_form_of_the_form_is_the_form(inside in element()) {
        let text = format!("<r xmlns:p=\"urn:p\" xmlns:q=\"urn:q\">{inside}</r>");
        let once = canonical(&text, "r", &[]);
        prop_assert_eq!(canonical(&once, "r", &[]), once);
    }
}
