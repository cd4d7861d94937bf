//! A collection of the data folder, as it is, searched in several ways.

use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Map, Value as Json};

use super::compare::{self, Baseline, QueryScores};
use super::{EvaluateArgs, gains};
use crate::app::App;
use crate::collection::Access;
use crate::config::Settings;
use crate::pipeline::evaluate::{
    Comparison, EvaluationReport, EvaluationRequest, JudgedQuery, Judgments, Picture, Scores, Variant, VariantReport,
};
use crate::tools::judgments::{TaskQuery, read_json_lines, read_qrels};
use crate::tools::serve::runtime;
use kindred_core::Progress;
use kindred_core::domain::CollectionName;

/// Of a collection.
#[derive(Debug, Args)]
pub(super) struct LiveArgs {
    /// With --collection: a way to search, as {"profile", "retrieval", "candidates", "ef_search", "cross_encode", "generation"}; may come
    /// several times, and the others are compared with the first
    #[arg(long = "variant", value_name = "NAME=JSON", requires = "collection", value_parser = variant)]
    variants: Vec<Variant>,
    /// With --collection: tell the measures of each query, too
    #[arg(long, requires = "collection")]
    per_query: bool,
}

impl LiveArgs {
    pub(super) fn has_several(&self) -> bool {
        self.variants.len() > 1
    }
}

/// Evaluates and prints. Returns the variants that are not as good as was asked for.
pub(super) fn run(
    settings: &Settings,
    args: &EvaluateArgs,
    collection: &CollectionName,
    baseline: Option<&Baseline>,
) -> Result<Vec<String>> {
    let path = |path: &Option<std::path::PathBuf>| path.clone().context("--collection needs --queries and --qrels");
    let request = EvaluationRequest {
        collection: collection.clone(),
        queries: queries(&path(&args.queries)?)?,
        judgments: Judgments(read_qrels(&path(&args.qrels)?)?),
        variants: args.of_collection.variants.clone(),
        stages: true,
    };
    let app = App::open(settings, Access::Read)?;
    let prepared = app.evaluations.prepare(request)?;
    let mut report =
        runtime()?.block_on(app.evaluations.run(prepared, |what, total| Progress::new(format!("{collection}: {what}"), total)))?;
    report.warnings.iter().for_each(|warning| eprintln!("{collection}: {warning}"));
    let (mut too_low, mut saved, mut gained) = (Vec::new(), Vec::new(), Vec::new());
    for variant in &report.variants {
        let scores = |query: &crate::pipeline::evaluate::QueryReport| QueryScores {
            task: variant.name.clone(),
            query: query.query.clone(),
            scores: query.measures,
        };
        let queries: Vec<QueryScores> = variant.queries.iter().map(scores).collect();
        let earlier = baseline.map(|baseline| baseline.compare(&variant.name, &queries)).transpose()?;
        let first = variant.against.as_ref().map(|against| (&*against.variant, &against.comparison));
        if args.is_too_low(variant.measures.ndcg_at_10, first.map(|(_, comparison)| comparison).into_iter().chain(&earlier)) {
            too_low.push(variant.name.clone());
        }
        saved.extend(queries);
        gained.push(earlier);
    }
    if let Some(path) = &args.save {
        compare::write(path, &saved)?;
    }
    args.draw(&Picture::of(&report))?;
    if args.json {
        if !args.of_collection.per_query {
            report.variants.iter_mut().for_each(|variant| variant.queries.clear());
        }
        println!("{}", json(&report, &gained)?);
    } else {
        print!("{}", table(&report, &gained, args.of_collection.per_query));
    }
    Ok(too_low)
}

/// The report, with what each variant gained over the baseline.
fn json(report: &EvaluationReport, gained: &[Option<Comparison>]) -> Result<Json> {
    let mut json = serde_json::to_value(report)?;
    for (position, gained) in gained.iter().enumerate() {
        if let Some(gained) = gained {
            json["variants"][position]["against_baseline"] = serde_json::to_value(gained)?;
        }
    }
    Ok(json)
}

fn table(report: &EvaluationReport, gained: &[Option<Comparison>], per_query: bool) -> String {
    let names = report.variants.iter().map(|variant| variant.name.chars().count());
    let width = names.max().unwrap_or_default().max("variant".len());
    let numbers = |scores: &Scores| {
        let Scores { ndcg_at_10, mrr, map, precision_at_10, recall_at_10, recall_at_100, poor_at_10, .. } = *scores;
        [ndcg_at_10, mrr, map, precision_at_10, recall_at_10, recall_at_100, poor_at_10].map(|value| format!("  {value:.4} ")).concat()
    };
    let mut text =
        format!("{:<width$}  generation  nDCG@10      MRR      MAP     P@10     R@10    R@100  poor@10   ms a query\n", "variant");
    for (variant, gained) in report.variants.iter().zip(gained) {
        let VariantReport { name, generation, measures, times, .. } = variant;
        text.push_str(&format!("{name:<width$}  {generation:>10}{}{:>13.1}\n", numbers(measures), times.total_us / 1e3));
        let stages = variant.stages.iter().flat_map(|stages| stages.all());
        let stages: Vec<String> = stages
            .map(|(stage, report)| format!("{} {:.4} (R@{:.0} {:.4})", stage.label(), report.measures.ndcg_at_10, report.n, report.recall))
            .collect();
        text.push_str(&format!("  nDCG@10 by stage: {}\n", stages.join("  ")));
        if let Some(against) = &variant.against {
            text.push_str(&format!("{}\n", gains(&against.variant, &against.comparison)));
        }
        if let Some(gained) = gained {
            text.push_str(&format!("{}\n", gains("the baseline", gained)));
        }
        for query in variant.queries.iter().filter(|_| per_query) {
            text.push_str(&format!(
                "{:>w$}{}{:>13.1}\n",
                query.query,
                numbers(&query.measures),
                query.total_us as f64 / 1e3,
                w = width + 12
            ));
        }
    }
    text.push_str(&format!("{} queries, {} judgments\n", report.n_queries, report.n_judgments));
    text
}

fn queries(path: &Path) -> Result<Vec<JudgedQuery>> {
    let queries = read_json_lines(path, |query: &TaskQuery| &query.id)?;
    Ok(queries.into_iter().map(|TaskQuery { id, text }| JudgedQuery { id, text }).collect())
}

fn variant(text: &str) -> Result<Variant, String> {
    let (name, json) = text.split_once('=').unwrap_or((text, "{}"));
    let mut written: Map<String, Json> = serde_json::from_str(json).map_err(|e| format!("{json:?} is no JSON object: {e}"))?;
    if written.insert("name".to_owned(), Json::from(name)).is_some() {
        return Err("the name stands before the =".to_owned());
    }
    serde_json::from_value(Json::Object(written)).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variants_are_read() {
        let fresh =
            variant(r#"fresh={"profile": {"weights": {"dot": 1}}, "candidates": 50, "cross_encode": true, "generation": "000002"}"#)
                .unwrap();
        assert_eq!((fresh.name.as_str(), fresh.candidates, fresh.profile), ("fresh", Some(50), Some(json!({"weights": {"dot": 1}}))));
        assert_eq!(variant("base").unwrap(), Variant::named("base"));
        for (text, word) in [
            ("x=1", "no JSON object"),
            ("x={\"name\": \"y\"}", "before the ="),
            ("x={\"limit\": 3}", "limit"),
            ("x={\"retrieval\": \"best\"}", "hybrid"),
            ("x={\"cross_encode\": {\"timeout_ms\": 3}}", "{\"candidates\": 50}"),
        ] {
            let error = variant(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
