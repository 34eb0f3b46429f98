//! What browsers write in forms and addresses: names and values, with every other byte as `%XX`.

use super::error::Why;

/// The values of these names in a form, each at most once.
///
/// # Errors
/// One stands twice, or is no text.
pub(super) fn read<const N: usize>(form: &[u8], names: [&str; N]) -> Result<[Option<String>; N], Why> {
    let wrong = |why: &str| Why::Malformed(why.to_owned());
    let mut values = [const { None }; N];
    for pair in form.split(|byte| *byte == b'&') {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let name = decoded(&pair[..at]).ok_or_else(|| wrong("its form is no text"))?;
        let Some(place) = names.iter().position(|known| *known == name) else { continue };
        let value = decoded(pair.get(at + 1..).unwrap_or_default()).ok_or_else(|| wrong("its form is no text"))?;
        if values[place].replace(value).is_some() {
            return Err(Why::Malformed(format!("its form has `{name}` twice")));
        }
    }
    Ok(values)
}

fn decoded(text: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit =
                    |byte: Option<&u8>| char::from(*byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit(rest.next())? << 4 | digit(rest.next())?
            }
            byte => *byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Text as it may stand in an address's query.
pub(super) fn encoded(text: &str) -> String {
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if kept(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
