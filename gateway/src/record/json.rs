//! How recorded bytes look in JSON: text where they are UTF-8, `{"hex": …}` where they are not, so nothing is lost.

use bytes::Bytes;
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::operation::Parameter;

pub(super) fn bytes<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    Lossless(bytes).serialize(serializer)
}

pub(super) fn many_bytes<S: Serializer>(many: &[Bytes], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(many.iter().map(|bytes| Lossless(bytes)))
}

pub(super) fn parameters<S: Serializer>(parameters: &[Parameter], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(parameters.iter().map(|parameter| ParameterView {
        kind: &parameter.kind,
        binary: parameter.binary,
        value: parameter.value.as_deref().map(Lossless),
    }))
}

#[derive(Serialize)]
struct ParameterView<'a> {
    kind: &'a str,
    binary: bool,
    value: Option<Lossless<'a>>,
}

struct Lossless<'a>(&'a [u8]);

impl Serialize for Lossless<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = std::str::from_utf8(self.0) {
            return serializer.serialize_str(text);
        }
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("hex", &hex)?;
        map.end()
    }
}
