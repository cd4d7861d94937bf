//! Matches occupations with skills, and with each other, by the rare words they share.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::families;
use super::occupation::{Occupation, Skill};
use super::words;

/// Skills kept for each occupation.
const MAX_SKILLS: usize = 10;
/// Share of a label's weight that the occupation's text must cover; less is enough where the descriptions share much.
const MIN_COVERED: f64 = 0.8;
const MIN_COVERED_IF_SIMILAR: f64 = 0.5;
/// Summed idf of what is covered: a common word alone is no likeness.
const MIN_COVERED_IDF: f64 = 5.0;
/// Words that similar texts share.
const MIN_SHARED: usize = 4;
/// A skill this much weaker than the best one does not fit well enough.
const MIN_OF_BEST: f64 = 0.35;
/// Occupations that are asked for the family of a similar one.
const VOTERS: usize = 4;
/// How much a word in a title, and in a skill's description, counts against one in plain text, and in a label.
const TITLE_WEIGHT: f64 = 2.0;
const DESCRIPTION_WEIGHT: f64 = 0.25;

/// What a text shares with a query.
#[derive(Debug, Clone, Default)]
struct Match {
    score: f64,
    /// Summed idf of the shared terms that have their full weight in the text.
    covered: f64,
    n_shared: usize,
}

/// Which texts hold a term, and how much the term counts there.
#[derive(Debug, Default)]
struct TermIndex {
    texts_of: HashMap<String, Vec<(usize, f64)>>,
    n_texts: usize,
}

impl TermIndex {
    /// Adds a text as weighted terms; of a term given twice the larger weight stays.
    fn push(&mut self, terms: impl Iterator<Item = (String, f64)>) {
        for (term, weight) in strongest(terms) {
            self.texts_of.entry(term).or_default().push((self.n_texts, weight));
        }
        self.n_texts += 1;
    }

    /// How much a term tells.
    fn idf(&self, term: &str) -> f64 {
        let n = self.texts_of.get(term).map_or(0, Vec::len) as f64;
        (1.0 + self.n_texts as f64 / (1.0 + n)).ln()
    }

    /// Every text that shares terms with the query, by its number.
    fn score(&self, query: &[(String, f64)]) -> impl Iterator<Item = (usize, Match)> {
        let mut found = vec![Match::default(); self.n_texts];
        for (term, query_weight) in query {
            let idf = self.idf(term);
            for &(text, weight) in self.texts_of.get(term).map_or(&[][..], Vec::as_slice) {
                let found = &mut found[text];
                found.score += idf * idf * query_weight * weight;
                found.covered += if weight >= 1.0 { idf } else { 0.0 };
                found.n_shared += 1;
            }
        }
        found.into_iter().enumerate().filter(|(_, found)| found.n_shared > 0)
    }
}

/// Each term once, with its largest weight, in a fixed order: sums of floats depend on it.
fn strongest(terms: impl Iterator<Item = (String, f64)>) -> Vec<(String, f64)> {
    let mut weights: HashMap<String, f64> = HashMap::new();
    for (term, weight) in terms {
        let kept = weights.entry(term).or_insert(weight);
        *kept = kept.max(weight);
    }
    let mut terms: Vec<(String, f64)> = weights.into_iter().collect();
    terms.sort_by(|a, b| a.0.cmp(&b.0));
    terms
}

fn occupation_terms(o: &Occupation) -> impl Iterator<Item = (String, f64)> + '_ {
    words::terms(&o.title).map(|t| (t, TITLE_WEIGHT)).chain(words::terms(&o.text).map(|t| (t, 1.0)))
}

/// The skills, findable by an occupation's words.
#[derive(Debug)]
pub struct SkillIndex {
    skills: Vec<Skill>,
    index: TermIndex,
    /// Per skill the summed idf of its label's terms.
    label_idf: Vec<f64>,
}

impl SkillIndex {
    /// Indexes labels and descriptions.
    pub fn new(skills: Vec<Skill>) -> Self {
        let mut index = TermIndex::default();
        for skill in &skills {
            let label = words::terms(&skill.label).map(|t| (t, 1.0));
            index.push(label.chain(words::terms(&skill.text).map(|t| (t, DESCRIPTION_WEIGHT))));
        }
        let label_idf =
            skills.iter().map(|s| strongest(words::terms(&s.label).map(|t| (t, 1.0))).iter().map(|(t, _)| index.idf(t)).sum()).collect();
        Self { skills, index, label_idf }
    }

    /// Gives each occupation that lists no skills those that fit it.
    pub fn give_skills(&self, occupations: &mut [Occupation]) {
        for occupation in occupations.iter_mut().filter(|o| !o.lists_skills) {
            occupation.skills = self.fitting(occupation);
        }
    }

    /// Of a term that one skill alone has; small collections have no rarer words.
    fn max_idf(&self) -> f64 {
        (1.0 + self.skills.len() as f64 / 2.0).ln()
    }

    fn fitting(&self, occupation: &Occupation) -> Vec<Skill> {
        let query = strongest(occupation_terms(occupation));
        let mut ranked: Vec<(usize, f64)> = self
            .index
            .score(&query)
            .filter(|(skill, found)| {
                let least = if found.n_shared >= MIN_SHARED { MIN_COVERED_IF_SIMILAR } else { MIN_COVERED };
                found.covered >= MIN_COVERED_IDF.min(self.max_idf()) && found.covered >= least * self.label_idf[*skill]
            })
            .map(|(skill, found)| (skill, found.score / (4.0 + self.label_idf[skill])))
            .collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let least = ranked.first().map_or(0.0, |best| best.1 * MIN_OF_BEST);
        let mut kept: Vec<(Skill, HashSet<String>)> = Vec::new();
        for (skill, _) in ranked.into_iter().take_while(|r| r.1 >= least) {
            let skill = &self.skills[skill];
            let terms: HashSet<String> = words::terms(&skill.label).collect();
            let repeats = kept.iter().any(|(_, other)| 2 * terms.intersection(other).count() >= terms.len().max(other.len()).max(1));
            if !repeats {
                kept.push((skill.clone(), terms));
            }
            if kept.len() == MAX_SKILLS {
                break;
            }
        }
        kept.into_iter().map(|(skill, _)| skill).collect()
    }
}

/// Gives the occupations from `n_known` on the family that the most similar ones before them have.
pub fn give_families(occupations: &mut [Occupation], n_known: usize) {
    let (known, unknown) = occupations.split_at_mut(n_known);
    let mut index = TermIndex::default();
    known.iter().for_each(|o| index.push(occupation_terms(o)));
    for occupation in unknown {
        let mut similar: Vec<(usize, f64)> = index
            .score(&strongest(occupation_terms(occupation)))
            .map(|(text, found)| (text, found.score / (known[text].text.len() as f64).sqrt()))
            .collect();
        similar.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut votes: BTreeMap<u8, f64> = BTreeMap::new();
        similar.iter().take(VOTERS).for_each(|(text, score)| *votes.entry(known[*text].family).or_default() += score);
        let by_similarity = votes.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).map_or(families::DEFAULT, |(family, _)| family);
        // Those that list their skills are about computers, or about stages and studios.
        let by_similarity = if occupation.lists_skills && by_similarity != families::ARTS { families::COMPUTERS } else { by_similarity };
        occupation.family = families::by_title(&occupation.title).unwrap_or(by_similarity);
    }
}
