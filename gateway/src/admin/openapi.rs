//! The API's own description: OpenAPI 3.1, made from the handlers' types and the table of routes, so that it says what
//! the gateway does and nothing else.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use aide::{
    axum::ApiRouter,
    generate,
    openapi::{
        ApiKeyLocation, Info, License, MediaType, OpenApi, Operation, PathItem, ReferenceOr, SchemaObject,
        SecurityScheme, StatusCode,
    },
    transform::TransformOperation,
};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use schemars::json_schema;

use super::{
    Admin, May, PEOPLE, Problem, Route, again::KEY, caller::COOKIE, get_with, matching::parameter, problem::MEDIA,
    route,
};

pub(super) fn routes() -> Vec<Route> {
    let described = get_with(served, |operation| {
        let described = says("document", "This document", &[])(operation);
        described.with(|operation| gives(operation, "application/json", "OpenAPI 3.1"))
    });
    vec![route("/api/v1/openapi.json", May::Anybody, PEOPLE, described)]
}

async fn served(State(_): State<Arc<Admin>>) -> Response {
    static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(whole);
    Json(&*DOCUMENT).into_response()
}

/// An operation's answer is of a kind of which no type of ours tells.
pub(super) fn gives<'a>(mut operation: TransformOperation<'a>, media: &str, words: &str) -> TransformOperation<'a> {
    let content = [(media.to_owned(), MediaType::default())].into_iter().collect();
    let response = aide::openapi::Response { description: words.to_owned(), content, ..Default::default() };
    let responses = operation.inner_mut().responses.get_or_insert_with(Default::default);
    responses.responses.insert(StatusCode::Code(200), ReferenceOr::Item(response));
    operation
}

/// What an operation is called and does, and with which problems it may answer beside those that any may have.
pub(super) fn says(
    name: &'static str,
    summary: &'static str,
    problems: &'static [u16],
) -> impl FnOnce(TransformOperation<'_>) -> TransformOperation<'_> {
    move |mut operation| {
        problems.iter().for_each(|code| problem(operation.inner_mut(), *code));
        operation.id(name).summary(summary)
    }
}

/// The whole document: everything that people and their programs may ask.
pub fn whole() -> OpenApi {
    let mut document = OpenApi {
        info: Info {
            title: "Holdpoint".to_owned(),
            summary: Some("Human approval in front of bots".to_owned()),
            description: Some(ABOUT.to_owned()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            license: Some(License {
                name: "Apache-2.0".to_owned(),
                identifier: Some("Apache-2.0".to_owned()),
                ..License::default()
            }),
            ..Info::default()
        },
        ..OpenApi::default()
    };
    let mut who = BTreeMap::new();
    let described = super::routes().into_iter().fold(ApiRouter::new(), |router, Route { path, may, methods, .. }| {
        who.insert(path, may);
        router.api_route(path, methods)
    });
    generate::in_context(|ctx| ctx.schema.subschema_for::<Problem>());
    let scheme = |location, name: &str, words: &str| SecurityScheme::ApiKey {
        location,
        name: name.to_owned(),
        description: Some(words.to_owned()),
        extensions: Default::default(),
    };
    let bearer = SecurityScheme::Http {
        scheme: "bearer".to_owned(),
        bearer_format: None,
        description: Some("A program's token: `holdpoint tokens create`".to_owned()),
        extensions: Default::default(),
    };
    let _: axum::Router<Arc<Admin>> = described.finish_api_with(&mut document, |document| {
        document
            .security_scheme(SESSION, scheme(ApiKeyLocation::Cookie, COOKIE, "A session, begun by signing in"))
            .security_scheme(CSRF, scheme(ApiKeyLocation::Header, "x-csrf", "What `/api/v1/me` says, for changes"))
            .security_scheme(TOKEN, bearer)
    });
    if let Some(paths) = &mut document.paths {
        paths.paths.retain(|_, item| matches!(item, ReferenceOr::Item(item) if item.iter().next().is_some()));
        for (path, item) in &mut paths.paths {
            let (Some(may), ReferenceOr::Item(item)) = (who.get(path.as_str()), item) else { continue };
            operations(item).for_each(|(changes, operation)| complete(operation, *may, changes));
        }
    }
    document
}

/// What holds for every operation of its kind.
fn complete(operation: &mut Operation, may: May, changes: bool) {
    if changes && may != May::Anybody {
        let words = "The caller's own name for this request: asked again with it, it is done once and answered alike";
        let described = generate::in_context(|ctx| parameter(ctx, KEY, words));
        operation.parameters.push(ReferenceOr::Item(described));
    }
    let (body, parameters) = (operation.request_body.is_some(), !operation.parameters.is_empty());
    let known = may != May::Anybody;
    let codes = [
        (parameters || body, 400),
        (known, 401),
        (changes, 409),
        (known && (changes || matches!(may, May::Role(_))), 403),
        (body, 413),
        (body, 415),
        (true, 421),
        (body || changes, 422),
        (changes, 503),
    ];
    codes.into_iter().filter(|(may_be, _)| *may_be).for_each(|(_, code)| problem(operation, code));
    let needed = [SESSION, CSRF].into_iter().take(if changes { 2 } else { 1 });
    if known {
        operation.security.push(needed.map(|name| (name.to_owned(), Vec::new())).collect());
        operation.security.push([(TOKEN.to_owned(), Vec::new())].into_iter().collect());
    }
    operation.description.get_or_insert_with(|| match may {
        May::Anybody | May::Brought => "For everybody.".to_owned(),
        May::Users | May::Starting => "For everybody who has signed in.".to_owned(),
        May::Concerned => "For those whom it concerns.".to_owned(),
        May::Role(role) => format!("For people with the role `{}`.", role.as_str()),
        May::Root(why) => format!("{why}."),
    });
}

/// An operation may answer with this.
fn problem(operation: &mut Operation, code: u16) {
    let reason = axum::http::StatusCode::from_u16(code).ok().and_then(|code| code.canonical_reason());
    let schema = SchemaObject {
        json_schema: json_schema!({ "$ref": "#/components/schemas/Problem" }),
        external_docs: None,
        example: None,
    };
    let media = MediaType { schema: Some(schema), ..MediaType::default() };
    let response = aide::openapi::Response {
        description: reason.unwrap_or_default().to_owned(),
        content: [(MEDIA.to_owned(), media)].into_iter().collect(),
        ..Default::default()
    };
    let responses = operation.responses.get_or_insert_with(Default::default);
    responses.responses.entry(StatusCode::Code(code)).or_insert(ReferenceOr::Item(response));
}

/// The operations of one path, each with whether it changes something.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (bool, &mut Operation)> {
    [(false, &mut item.get), (true, &mut item.post), (true, &mut item.delete)]
        .into_iter()
        .filter_map(|(changes, operation)| operation.as_mut().map(|operation| (changes, operation)))
}

const SESSION: &str = "session";
const CSRF: &str = "csrf";
const TOKEN: &str = "token";

const ABOUT: &str = "\
What approvers and their programs ask of a gateway, at its console or over its administration socket, where the kernel \
says who asks and neither the cookie nor the header is needed.\n\n\
Every error is a problem of RFC 9457. Names of requests, grants, delegations and reviews may be given in short, as \
people see them.";

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::admin::Door;

    #[test]
    fn the_document_tells_of_every_route_that_people_have() {
        let document = serde_json::to_value(whole()).expect("it is JSON");
        let told = |path: &str| document["paths"].get(path).is_some();
        for (path, _, doors) in crate::admin::paths() {
            let peoples = path.starts_with("/api/v1/") && doors.contains(&Door::Console);
            assert_eq!(told(path), peoples, "{path}");
        }
        let operations = document["paths"].as_object().into_iter().flatten().flat_map(|(path, item)| {
            let operations = item.as_object().into_iter().flatten();
            operations.map(move |(method, operation)| (format!("{method} {path}"), operation))
        });
        let mut names = std::collections::BTreeSet::new();
        for (operation, told) in operations {
            let said = |key: &str| told[key].as_str().is_some_and(|text| !text.is_empty());
            assert!(said("summary") && said("description"), "{operation}: {told}");
            assert!(names.insert(told["operationId"].to_string()), "{operation}: a name of its own");
            assert!(told["responses"].get("200").is_some(), "{operation}: what it gives: {told}");
            let parameters = told["parameters"].as_array().map_or(&[][..], Vec::as_slice);
            let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
            assert_eq!(in_path, operation.matches('{').count(), "{operation}: {parameters:?}");
        }
        assert!(names.len() > 15, "{names:?}");
    }

    #[test]
    fn what_the_document_refers_to_is_in_it() {
        fn walk(all: &Value, here: &Value) {
            match here {
                Value::Object(members) => members.iter().for_each(|(key, value)| match (key.as_str(), value) {
                    ("$ref", Value::String(to)) => {
                        let at = to.strip_prefix('#').expect("it is in this document");
                        assert!(all.pointer(at).is_some(), "{to}");
                    }
                    _ => walk(all, value),
                }),
                Value::Array(items) => items.iter().for_each(|item| walk(all, item)),
                _ => {}
            }
        }
        let document = serde_json::to_value(whole()).expect("it is JSON");
        walk(&document, &document);
        assert!(document["components"]["schemas"].get("Problem").is_some());
    }
}
