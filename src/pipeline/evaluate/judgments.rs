//! What people judged: as it is sent, and what of it can be evaluated with.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::error::{EvaluationError, over};
use super::measures::Judged;

/// Most queries of an evaluation.
pub const MAX_QUERIES: usize = 5_000;
/// Most judgments of an evaluation.
pub const MAX_JUDGMENTS: usize = 500_000;
/// Grades: above 0 is relevant, the more the better; TREC's collections have -1 and -2 for what is worse than not relevant.
const GRADES: std::ops::RangeInclusive<i64> = -2..=4;
/// Fewer queries tell little, and their intervals too.
const FEW_QUERIES: usize = 10;

/// A query whose answer was judged.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JudgedQuery {
    #[serde(alias = "_id")]
    pub id: String,
    pub text: String,
}

/// Query id → document id → grade. Sent as that, or as TREC qrels in one text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgments(pub BTreeMap<String, Judged>);

/// What cannot be used; more than a few hint at judgments of something else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Skipped {
    /// Judgments of queries that are not there.
    pub unknown_queries: usize,
    /// Judgments of documents that are not there; they still count as relevant documents that cannot be found.
    pub unknown_documents: usize,
    /// Queries without any relevant document.
    pub unjudged_queries: usize,
}

/// Why a text is no TREC qrels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct QrelsError {
    /// From 1.
    pub line: usize,
    pub reason: String,
}

/// Queries that can be evaluated with, and their judgments.
#[derive(Debug, Default)]
pub struct Usable {
    /// Those with a relevant document, in their order.
    pub queries: Vec<JudgedQuery>,
    /// Of these and others; by their ids.
    pub judgments: BTreeMap<String, Judged>,
    pub skipped: Skipped,
    /// What to know about the figures.
    pub warnings: Vec<String>,
}

impl Judgments {
    /// Reads TREC qrels (`query 0 document relevance` a line, separated by blanks or tabs) or BEIR's table (`query-id corpus-id score`,
    /// with that header). Empty lines count and say nothing.
    ///
    /// # Errors
    /// [`QrelsError`] for a line with too few or too many columns, a relevance that is no whole number, a document that is judged twice.
    pub fn parse(text: &str) -> Result<Self, QrelsError> {
        let mut judgments: BTreeMap<String, Judged> = BTreeMap::new();
        let mut is_beir = false;
        for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
            let fail = |reason: String| QrelsError { line, reason };
            let fields: Vec<&str> = text.split_whitespace().collect();
            let (query, document, relevance) = match fields[..] {
                ["query-id" | "query_id" | "qid", _, _] if line == 1 => {
                    is_beir = true;
                    continue;
                }
                [query, document, relevance] if is_beir => (query, document, relevance),
                [query, _, document, relevance] if !is_beir => (query, document, relevance),
                [_, _, _] => return Err(fail("3 columns, but the first line is not \"query-id corpus-id score\"".to_owned())),
                _ => return Err(fail(format!("{} columns; expected \"query 0 document relevance\"", fields.len()))),
            };
            let relevance = relevance.parse().map_err(|_| fail(format!("relevance {relevance:?} is no whole number")))?;
            if judgments.entry(query.to_owned()).or_default().insert(document.to_owned(), relevance).is_some() {
                return Err(fail(format!("document {document:?} is judged twice for query {query:?}")));
            }
        }
        Ok(Self(judgments))
    }

    /// What of queries and judgments can be evaluated with. `is_known` tells whether there is a document of an id.
    ///
    /// # Errors
    /// [`EvaluationError`] says what is wrong, and where; or that of `is_known`.
    pub fn usable<E: From<EvaluationError>>(
        self,
        queries: Vec<JudgedQuery>,
        max_query_bytes: usize,
        is_known: impl Fn(&str) -> Result<bool, E>,
    ) -> Result<Usable, E> {
        check_queries(&queries, max_query_bytes)?;
        let mut judgments = self.0;
        over("judgments", judgments.values().map(HashMap::len).sum(), MAX_JUDGMENTS)?;
        let all = judgments.iter().flat_map(|(query, judged)| judged.iter().map(move |(document, grade)| (query, document, grade)));
        if let Some((query, document, &grade)) = all.into_iter().find(|(.., grade)| !GRADES.contains(*grade)) {
            return Err(EvaluationError::Grade { query: query.clone(), document: document.clone(), grade }.into());
        }
        let mut skipped = Skipped::default();
        let ids: std::collections::HashSet<&str> = queries.iter().map(|query| query.id.as_str()).collect();
        judgments.retain(|query, judged| {
            let is_known = ids.contains(query.as_str());
            skipped.unknown_queries += if is_known { 0 } else { judged.len() };
            is_known
        });
        let n_judgments: usize = judgments.values().map(HashMap::len).sum();
        if n_judgments == 0 {
            return Err(EvaluationError::UnknownQueries { n: skipped.unknown_queries }.into());
        }
        for document in judgments.values().flat_map(Judged::keys) {
            skipped.unknown_documents += usize::from(!is_known(document)?);
        }
        if skipped.unknown_documents == n_judgments {
            return Err(EvaluationError::UnknownDocuments { n: n_judgments }.into());
        }
        let n_queries = queries.len();
        let is_relevant = |query: &JudgedQuery| judgments.get(&query.id).is_some_and(|judged| judged.values().any(|grade| *grade > 0));
        let queries: Vec<JudgedQuery> = queries.into_iter().filter(is_relevant).collect();
        skipped.unjudged_queries = n_queries - queries.len();
        if queries.is_empty() {
            return Err(EvaluationError::NothingRelevant.into());
        }
        let warnings = warnings(&judgments, &skipped, queries.len());
        Ok(Usable { queries, judgments, skipped, warnings })
    }
}

fn check_queries(queries: &[JudgedQuery], max_query_bytes: usize) -> Result<(), EvaluationError> {
    if queries.is_empty() {
        return Err(EvaluationError::NoQueries);
    }
    over("queries", queries.len(), MAX_QUERIES)?;
    let mut positions = HashMap::new();
    for (position, query) in queries.iter().enumerate() {
        let fail = |part: &str, reason: String| Err(EvaluationError::Query { at: format!("queries[{position}].{part}"), reason });
        if query.id.is_empty() {
            return fail("id", "the id is empty: judgments name queries by it".to_owned());
        }
        if let Some(first) = positions.insert(&query.id, position) {
            return fail("id", format!("{:?} is the id of queries[{first}], too", query.id));
        }
        if query.text.trim().is_empty() {
            return fail("text", "the text is empty: say what to look for".to_owned());
        }
        if query.text.len() > max_query_bytes {
            return fail(
                "text",
                format!("the text has {} bytes, over the limit of {max_query_bytes} (limits.max_query_bytes)", query.text.len()),
            );
        }
    }
    Ok(())
}

/// What can be evaluated, but means less than it seems to.
fn warnings(judgments: &BTreeMap<String, Judged>, skipped: &Skipped, n_queries: usize) -> Vec<String> {
    let Skipped { unknown_queries, unknown_documents, unjudged_queries } = *skipped;
    let grades = || judgments.values().flat_map(Judged::values);
    let mut relevant: Vec<i64> = grades().copied().filter(|grade| *grade > 0).collect();
    relevant.sort_unstable();
    relevant.dedup();
    let mut warnings = Vec::new();
    let mut warn = |when: bool, text: String| when.then(|| warnings.push(text));
    warn(unknown_queries > 0, format!("{unknown_queries} judgments are of queries that are not there: they are left out"));
    warn(
        unknown_documents > 0,
        format!("{unknown_documents} judgments are of documents that the collection does not have: they count as not found"),
    );
    warn(unjudged_queries > 0, format!("{unjudged_queries} queries have no relevant document: they are left out"));
    warn(relevant.len() == 1, format!("all relevant documents have grade {}: nDCG tells found from not found, and no more", relevant[0]));
    warn(grades().all(|grade| *grade > 0), "no document was judged not relevant (0): poor@10 is 0 whatever is found".to_owned());
    warn(n_queries < FEW_QUERIES, format!("{n_queries} queries are few: intervals of their differences are narrower than they should be"));
    warnings
}

impl<'de> Deserialize<'de> for Judgments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReadJudgments)
    }
}

struct ReadJudgments;

impl<'de> Visitor<'de> for ReadJudgments {
    type Value = Judgments;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("judgments, {\"query\": {\"document\": 3}}, or TREC qrels as one text: \"query 0 document 3\\n…\"")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Judgments, E> {
        Judgments::parse(text).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Judgments, A::Error> {
        let mut judgments = BTreeMap::new();
        while let Some((query, Once(judged))) = map.next_entry::<String, Once>()? {
            if judgments.contains_key(&query) {
                return Err(A::Error::custom(format!("query {query:?} comes twice")));
            }
            judgments.insert(query, judged);
        }
        Ok(Judgments(judgments))
    }
}

/// One query's judgments, each document once: JSON itself would take the last.
struct Once(Judged);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Once;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("grades by document: {\"document\": 3}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Once, A::Error> {
                let mut judged = Judged::new();
                while let Some((document, grade)) = map.next_entry::<String, i64>()? {
                    if judged.contains_key(&document) {
                        return Err(A::Error::custom(format!("document {document:?} is judged twice")));
                    }
                    judged.insert(document, grade);
                }
                Ok(Once(judged))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(id: &str) -> JudgedQuery {
        JudgedQuery { id: id.to_owned(), text: format!("text of {id}") }
    }

    fn usable(ids: &[&str], qrels: &str) -> Result<Usable, EvaluationError> {
        let queries = ids.iter().map(|id| query(id)).collect();
        Judgments::parse(qrels).unwrap().usable(queries, 100, |id| Ok(!id.starts_with("gone")))
    }

    #[test]
    fn judgments_are_read_from_json_and_from_texts() {
        let read = |json: &str| serde_json::from_str::<Judgments>(json).map_err(|e| e.to_string());
        let map = read(r#"{"q1": {"a": 3, "b": 0}, "q2": {"a": -1}}"#).unwrap();
        assert_eq!(map, read(r#""q1 0 a 3\nq1 0 b 0\n\nq2 0 a -1\n""#).unwrap());
        assert_eq!(map, Judgments::parse("query-id\tcorpus-id\tscore\nq1\ta\t3\nq1\tb\t0\nq2\ta\t-1").unwrap());
        for (json, word) in [
            (r#"{"q1": {"a": 3, "a": 0}}"#, "\"a\" is judged twice"),
            (r#"{"q1": {"a": 3}, "q1": {"b": 0}}"#, "\"q1\" comes twice"),
            (r#"{"q1": {"a": 2.5}}"#, "2.5"),
            (r#"{"q1": ["a"]}"#, "grades by document"),
            (r#""q1 a 3""#, "line 1: 3 columns"),
            (r#""q1 0 a 3\nq1 0 a 2""#, "line 2: document \"a\" is judged twice"),
            (r#""q1 0 a much""#, "\"much\" is no whole number"),
            ("7", "TREC qrels"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(word), "{json}: {error}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_counted_and_warned_of() {
        let found = usable(&["q1", "q2", "q3"], "q1 0 a 2\nq1 0 gone1 1\nq9 0 a 1\nq2 0 a 0\n").unwrap();
        assert_eq!(found.skipped, Skipped { unknown_queries: 1, unknown_documents: 1, unjudged_queries: 2 });
        assert_eq!(found.queries, [query("q1")]);
        assert_eq!(found.judgments["q1"].len(), 2, "what is not there stays relevant");
        let warned = found.warnings.join("\n");
        for word in ["1 judgments are of queries", "1 judgments are of documents", "2 queries have no", "1 queries are few"] {
            assert!(warned.contains(word), "{warned}");
        }
        assert!(!warned.contains("grade") && !warned.contains("poor@10"), "{warned}");
        let plain = usable(&["q1"], "q1 0 a 3\nq1 0 b 3").unwrap().warnings.join("\n");
        assert!(plain.contains("grade 3") && plain.contains("poor@10 is 0"), "{plain}");
    }

    #[test]
    fn what_says_nothing_is_refused() {
        let long = JudgedQuery { id: "q1".into(), text: "x".repeat(101) };
        let queries = |queries: Vec<JudgedQuery>| {
            let checked: Result<Usable, EvaluationError> = Judgments::parse("q1 0 a 1").unwrap().usable(queries, 100, |_| Ok(true));
            checked.unwrap_err()
        };
        let blank = JudgedQuery { id: "q1".into(), text: " ".into() };
        for (error, field, word) in [
            (queries(vec![]), Some("queries"), "at least one"),
            (queries(vec![query("")]), Some("queries[0].id"), "empty"),
            (queries(vec![query("q1"), query("q2"), query("q1")]), Some("queries[2].id"), "queries[0]"),
            (queries(vec![blank]), Some("queries[0].text"), "empty"),
            (queries(vec![long]), Some("queries[0].text"), "limits.max_query_bytes"),
            (queries((0..=MAX_QUERIES).map(|i| query(&i.to_string())).collect()), Some("queries"), "5000"),
            (usable(&["q1"], "").unwrap_err(), Some("judgments"), "of any of these queries"),
            (usable(&["q1"], "q2 0 a 1").unwrap_err(), Some("judgments"), "of any of these queries"),
            (usable(&["q1"], "q1 0 gone 1").unwrap_err(), Some("judgments"), "documents"),
            (usable(&["q1"], "q1 0 a 0").unwrap_err(), Some("judgments"), "relevant"),
            (usable(&["q1"], "q1 0 a 5").unwrap_err(), Some("judgments"), "-2 to 4"),
            (usable(&["q1"], "q1 0 a -3").unwrap_err(), Some("judgments"), "-3"),
        ] {
            assert_eq!(error.field(), field, "{error}");
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
