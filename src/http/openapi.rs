//! The description of this API, OpenAPI 3.1, made of the documented routes.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::Required;
use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;

use super::routes::{Handler, ROUTES};

#[derive(OpenApi)]
#[openapi(info(title = "Kindred", description = "Find jobs and members by meaning."), modifiers(&ApiKeys))]
struct ApiDoc;

/// Adds the API key that requests send if the server has keys.
struct ApiKeys;

impl Modify for ApiKeys {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        api.components.get_or_insert_default().add_security_scheme("key", scheme);
        // One or the other: a server without keys needs none.
        api.security = Some(vec![SecurityRequirement::default(), SecurityRequirement::new("key", Vec::<String>::new())]);
    }
}

static DESCRIPTION: LazyLock<String> = LazyLock::new(|| {
    let documented = ROUTES.iter().filter_map(|route| match route.handler {
        Handler::Documented(handler) => Some(handler()),
        Handler::Undocumented(_) => None,
    });
    let mut api = documented.fold(OpenApiRouter::with_openapi(ApiDoc::openapi()), OpenApiRouter::routes).into_openapi();
    describe_path_parts(&mut api);
    api.to_json().expect("the description consists of strings")
});

/// The description of this API.
pub async fn description() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DESCRIPTION.as_str())
}

/// Describes the parts of paths in braces.
fn describe_path_parts(api: &mut utoipa::openapi::OpenApi) {
    for (path, item) in &mut api.paths.paths {
        let names: Vec<&str> = path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).collect();
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            let parameters = operation.parameters.get_or_insert_default();
            for name in &names {
                let text = Object::with_type(Type::String);
                let parameter =
                    ParameterBuilder::new().name(*name).parameter_in(ParameterIn::Path).required(Required::True).schema(Some(text));
                parameters.push(parameter.build().into());
            }
        }
    }
}
