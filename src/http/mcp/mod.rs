//! `/mcp`: tools for agents, by the Model Context Protocol (streamable HTTP, without sessions: every request stands alone).
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | the service, its guards, and what each tool does |
//! | `tools.rs` | the one table of tools: names, when to use them, arguments |
//! | `arguments.rs` | what a call brings |
//! | `filter.rs` | filters as one line of text |
//! | `answers.rs` | answers for a reader who pays by the word |
//!
//! A page in somebody's browser must not reach a server on their machine or in their network by way of a name of its own (DNS
//! rebinding): requests with a foreign `Origin` are refused, and on the loopback those with a foreign `Host`, too.

mod answers;
mod arguments;
mod filter;
mod tools;

use std::sync::Arc;

use axum::middleware;
use axum::routing::{MethodRouter, any_service};
use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ErrorData, Implementation, ListToolsResult, PaginatedRequestParams,
    ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::{Map, Value};

use super::LOOPBACK;
use super::Services;
use super::auth::{self, Asking};
use super::body;
use super::collections::{Named, existing, reading};
use super::error::ApiError;
use super::fit::{self, JOBS, MEMBERS};
use super::request::{self, Current};
use super::search::{Id, located};
use crate::pipeline::{FitRequest, Query, QueryRequest};
use answers::Shown;
use arguments::{DocumentArguments, ExplainArguments, FitArguments, MatchArguments, NoArguments, SearchArguments};
use kindred_core::domain::CollectionName;
use kindred_core::error::ErrorKind;

/// Calls are short: a text, some ids.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Parts of its text that a hit is shown with.
const PHRASES: usize = 1;

type McpService = StreamableHttpService<Agents, NeverSessionManager>;

/// What answers at `/mcp`.
pub fn routes(services: &Arc<Services>) -> MethodRouter<Arc<Services>> {
    any_service(service(services)).layer(middleware::from_fn(body::without_bom))
}

/// The service over these components. Pages of this machine may call it, and those of `http.cors_origins`; besides those who say nothing of where
/// they come from.
fn service(services: &Arc<Services>) -> McpService {
    let local = LOOPBACK.iter().flat_map(|host| ["http", "https"].map(|scheme| format!("{scheme}://{host}:*")));
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(MAX_BODY_BYTES.min(services.max_body_bytes))
        // Of all routes, who asks sees to that.
        .disable_allowed_hosts()
        .with_allowed_origins(local.chain(services.cors_origins.iter().cloned()))
        .enforce_origin_validation();
    let services = Arc::clone(services);
    // Called for every request, on its own task; what is made here answers it on another.
    let agents = move || Ok(Agents { services: Arc::clone(&services), request: request::current(), asking: auth::asking() });
    StreamableHttpService::new(agents, Arc::new(NeverSessionManager::default()), config)
}

/// Answers one request, a call of a tool for example, through the same pipelines as all other routes.
#[derive(Debug)]
pub struct Agents {
    services: Arc<Services>,
    request: Current,
    asking: Asking,
}

impl ServerHandler for Agents {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("kindred", env!("CARGO_PKG_VERSION")))
            .with_instructions(tools::INSTRUCTIONS)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::named(name)
    }

    async fn list_tools(&self, _: Option<PaginatedRequestParams>, _: RequestContext<RoleServer>) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::all()))
    }

    async fn call_tool(&self, call: CallToolRequestParams, _: RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
        if tools::named(&call.name).is_none() {
            return Err(ErrorData::invalid_params(format!("there is no tool {:?}: tools/list tells those there are", call.name), None));
        }
        let answer = auth::within(self.asking.clone(), self.call(&call.name, call.arguments));
        let answered = request::within(self.request.clone(), answer).await;
        Ok(answered.unwrap_or_else(answers::failure).into())
    }
}

impl Agents {
    async fn call(&self, tool: &str, arguments: Option<Map<String, Value>>) -> Result<CallToolResult, ApiError> {
        match tool {
            "search" => self.search(arguments::read(arguments)?).await,
            "match_documents" => self.match_documents(arguments::read(arguments)?).await,
            "get_document" => self.get_document(arguments::read(arguments)?).await,
            "explain_result" => self.explain(arguments::read(arguments)?).await,
            "assess_fit" => self.assess_fit(arguments::read(arguments)?).await,
            "list_collections" => {
                let NoArguments {} = arguments::read(arguments)?;
                let mut infos = self.services.catalog.list();
                infos.retain(|info| auth::sees(&info.name));
                Ok(answers::collections(&infos))
            }
            other => unreachable!("{other} is not in the table of tools"),
        }
    }

    async fn search(&self, asked: SearchArguments) -> Result<CallToolResult, ApiError> {
        let (collection, filter, shown) = self.target(&asked.collection, "collection", asked.filter.as_deref())?;
        let request = QueryRequest {
            filter,
            limit: asked.limit,
            fields: Some(shown.fields()),
            phrases: PHRASES,
            ..QueryRequest::new(collection, Query::Text(asked.text))
        };
        let response = self.services.query.search(request).await.map_err(|e| located(e, "id", "collection"))?;
        Ok(answers::hits(&response, &shown))
    }

    async fn match_documents(&self, asked: MatchArguments) -> Result<CallToolResult, ApiError> {
        let from = asked.from_collection.check("from_collection")?;
        self.services.catalog.require(&from).map_err(|e| located(e, "id", "from_collection"))?;
        let (to, filter, shown) = self.target(&asked.to_collection, "to_collection", asked.filter.as_deref())?;
        let query = Query::Document { collection: from, id: asked.id.check("id")? };
        let request = QueryRequest { filter, limit: asked.limit, fields: Some(shown.fields()), ..QueryRequest::new(to, query) };
        let response = self.services.query.search(request).await.map_err(|e| located(e, "id", "to_collection"))?;
        Ok(answers::hits(&response, &shown))
    }

    async fn get_document(&self, asked: DocumentArguments) -> Result<CallToolResult, ApiError> {
        let (collection, id) = (asked.collection.check("collection")?, asked.id.check("id")?);
        let catalog = Arc::clone(&self.services.catalog);
        let found = reading(move || Ok(answers::document(&catalog.document(&collection, &id)?)));
        found.await.map_err(|e| located(e, "id", "collection"))
    }

    async fn explain(&self, asked: ExplainArguments) -> Result<CallToolResult, ApiError> {
        let (collection, filter, _) = self.target(&asked.collection, "collection", asked.filter.as_deref())?;
        let id = asked.id.check("id")?;
        let request = QueryRequest { filter, ..QueryRequest::new(collection, Query::Text(asked.text)) };
        let placement = self.services.query.explain(request, id).await.map_err(|e| located(e, "id", "collection"))?;
        Ok(answers::placement(&placement))
    }

    async fn assess_fit(&self, asked: FitArguments) -> Result<CallToolResult, ApiError> {
        let of = |collection: &str, id: Id, field: &str| Ok::<_, ApiError>((existing(collection)?, id.check(field)?));
        let request = FitRequest { member: of(MEMBERS, asked.member_id, "member_id")?, job: of(JOBS, asked.job_id, "job_id")? };
        let report = self.services.fit.fit(&request).await;
        let report = report.map_err(|e| fit::located(e, &request, ["member_id", "job_id"], ["member_id", "job_id"]))?;
        Ok(answers::fit(&report))
    }

    /// The collection that is searched, the filter in its words, and what its hits are told by.
    fn target(&self, collection: &Named, argument: &str, line: Option<&str>) -> Result<(CollectionName, Option<Value>, Shown), ApiError> {
        let name = collection.check(argument)?;
        let definition = self.services.catalog.get(&name).map_err(|e| located(e, "id", argument))?.definition;
        let filter = filter::read(line.unwrap_or_default(), &definition)
            .map_err(|reason| ApiError::new(ErrorKind::Invalid, reason, Some("filter".to_owned())))?;
        Ok((name, filter, Shown::of(&definition)))
    }
}
