//! `kindred search`: a table people can read.

use std::fmt::Write;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value as Json;

use super::serve::runtime;
use crate::app::App;
use crate::collection::Access;
use crate::config::Settings;
use crate::pipeline::{CrossEncode, Hit, Query, QueryRequest, QueryResponse};
use kindred_core::domain::{CollectionName, StrategyChoice};

/// Fields that tell people most about a posting or a member, in the order in which they are shown.
const DETAILS: [&str; 7] = ["company", "location.city", "location.country", "seniority", "remote", "salary.min", "posted_at"];
const MAX_TITLE_CHARS: usize = 60;

#[derive(Debug, Args)]
pub struct SearchArgs {
    /// The collection to search
    collection: CollectionName,
    /// What to look for
    text: String,
    /// Hits to show
    #[arg(long, default_value_t = 10)]
    limit: usize,
    /// A filter as in the HTTP API
    #[arg(long, value_name = "JSON")]
    filter: Option<String>,
    /// auto, graph or exact: whichever costs less, walk the graph, compare with every matching document
    #[arg(long, value_name = "STRATEGY", default_value = "auto")]
    strategy: StrategyChoice,
    /// Order so many of the best hits by the cross-encoder [setting cross_encoder.model_dir]
    #[arg(long, value_name = "N")]
    cross_encode: Option<usize>,
    /// The whole answer as JSON
    #[arg(long)]
    json: bool,
}

/// Searches and prints.
///
/// # Errors
/// A filter that is no JSON; anything a search refuses.
pub fn run(settings: &Settings, args: &SearchArgs) -> Result<()> {
    let filter = args.filter.as_deref().map(serde_json::from_str).transpose().context("--filter is not valid JSON")?;
    let app = App::open(settings, Access::Read)?;
    let request = QueryRequest {
        filter,
        limit: args.limit,
        strategy: args.strategy,
        cross_encode: args.cross_encode.map(|n| CrossEncode { candidates: Some(n), timeout: None, weight: None }),
        ..QueryRequest::new(args.collection.clone(), Query::Text(args.text.clone()))
    };
    let response = runtime()?.block_on(app.query.search(request))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&response)?);
    } else {
        print!("{}", table(&response));
        response.degraded.iter().for_each(|reason| eprintln!("not done: {reason}"));
    }
    Ok(())
}

fn table(response: &QueryResponse) -> String {
    let rows: Vec<[String; 4]> = response.hits.iter().map(row).collect();
    let header = ["score", "id", "title", "details"].map(str::to_owned);
    let width = |column: usize| rows.iter().chain([&header]).map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for row in [&header].into_iter().chain(&rows) {
        let line = format!("{:>w0$}  {:<w1$}  {:<w2$}  {}", row[0], row[1], row[2], row[3], w0 = widths[0], w1 = widths[1], w2 = widths[2]);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let (plan, timings) = (&response.plan, &response.timings);
    let _ = writeln!(
        text,
        "{} of {} matching documents, {} distances, {:.1} ms (encode {:.1}, retrieve {:.1}, rescore {:.1})",
        response.hits.len(),
        plan.n_matching,
        plan.n_distances,
        timings.total_us as f64 / 1e3,
        timings.encode_us as f64 / 1e3,
        timings.retrieve_us as f64 / 1e3,
        timings.rescore_us as f64 / 1e3
    );
    text
}

fn row(hit: &Hit) -> [String; 4] {
    let fields: Json = serde_json::from_str(hit.fields.get()).unwrap_or_default();
    let title = ["title", "headline", "name", "text"].iter().find_map(|name| fields.get(name)?.as_str()).unwrap_or_default();
    let details: Vec<String> = DETAILS.iter().filter_map(|name| detail(&fields, name)).collect();
    [format!("{:.3}", hit.score), hit.id.to_string(), shorten(title), details.join(" · ")]
}

fn detail(fields: &Json, name: &str) -> Option<String> {
    let value = name.split('.').try_fold(fields, |json, key| json.get(key))?;
    match (name, value) {
        ("remote", Json::Bool(true)) => Some("remote".to_owned()),
        ("salary.min", Json::Number(from)) => {
            let currency = fields.pointer("/salary/currency").and_then(Json::as_str).unwrap_or_default();
            Some(format!("from {from} {currency}").trim_end().to_owned())
        }
        (_, Json::String(text)) => Some(text.clone()),
        _ => None,
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_TITLE_CHARS) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}
