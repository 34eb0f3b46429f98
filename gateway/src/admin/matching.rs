//! `ETag` and `If-Match`: what somebody has seen, and a decision on that and nothing else.

use std::convert::Infallible;

use aide::{OperationInput, OperationOutput, generate::GenContext, openapi};
use axum::{
    Json,
    extract::FromRequestParts,
    http::{HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::operation::Digest;

/// What is shown, with the digest of what would be approved as its tag.
#[derive(Debug)]
pub(super) struct Tagged<T>(pub(super) Digest, pub(super) T);

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let tag = HeaderValue::from_str(&format!("\"{}\"", self.0)).expect("hexadecimal digits are ASCII");
        ([(header::ETAG, tag)], Json(self.1)).into_response()
    }
}

impl<T: JsonSchema> OperationOutput for Tagged<T> {
    type Inner = T;

    fn operation_response(ctx: &mut GenContext, operation: &mut openapi::Operation) -> Option<openapi::Response> {
        Json::<T>::operation_response(ctx, operation)
    }

    fn inferred_responses(
        ctx: &mut GenContext,
        operation: &mut openapi::Operation,
    ) -> Vec<(Option<u16>, openapi::Response)> {
        Json::<T>::inferred_responses(ctx, operation)
    }
}

/// The tag that a request names; `None` where it names none, or any.
pub(super) struct IfMatch(pub(super) Option<String>);

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let said =
            parts.headers.get(header::IF_MATCH).map(|said| String::from_utf8_lossy(said.as_bytes()).into_owned());
        Ok(Self(said.map(|said| said.trim().trim_matches('"').to_owned()).filter(|said| said != "*")))
    }
}

impl OperationInput for IfMatch {
    fn operation_input(ctx: &mut GenContext, operation: &mut openapi::Operation) {
        let words = "The `ETag` of what was seen: refused where the request is another";
        let described = parameter(ctx, "If-Match", words);
        operation.parameters.push(openapi::ReferenceOr::Item(described));
    }
}

/// A header that may come with a request.
pub(super) fn parameter(ctx: &mut GenContext, name: &str, words: &str) -> openapi::Parameter {
    let schema =
        openapi::SchemaObject { json_schema: ctx.schema.subschema_for::<String>(), external_docs: None, example: None };
    openapi::Parameter::Header {
        parameter_data: openapi::ParameterData {
            name: name.to_owned(),
            description: Some(words.to_owned()),
            required: false,
            deprecated: None,
            format: openapi::ParameterSchemaOrContent::Schema(schema),
            example: None,
            examples: Default::default(),
            explode: None,
            extensions: Default::default(),
        },
        style: openapi::HeaderStyle::Simple,
    }
}
