//! Small English: sentences, articles, singulars, gerunds and the terms that texts are compared by.

use std::collections::HashSet;
use std::sync::LazyLock;

/// Straightens white space and the spaces around punctuation.
pub fn clean(text: &str) -> String {
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    joined.replace(" ,", ",").replace(" .", ".").replace(" ;", ";").replace("( ", "(").replace(" )", ")").replace(", and/or ", " or ")
}

/// The sentences of a text, without their full stops.
pub fn sentences(text: &str) -> Vec<&str> {
    const ABBREVIATIONS: [&str; 7] = ["e.g", "i.e", "U.S", "vs", "incl", "approx", "no"];
    let (mut found, mut start) = (Vec::new(), 0);
    for (at, _) in text.match_indices(". ") {
        let starts_upper = text[at + 2..].chars().next().is_some_and(char::is_uppercase);
        let is_abbreviation = ABBREVIATIONS.iter().any(|a| text[start..at].ends_with(&format!(" {a}")));
        if starts_upper && !is_abbreviation {
            found.push(&text[start..at]);
            start = at + 2;
        }
    }
    found.push(text[start..].trim_end_matches('.'));
    found.retain(|s| !s.trim().is_empty());
    found
}

/// A sentence of at most `max` words: whole, or cut where an explanation begins, or none.
pub fn shorten(sentence: &str, max: usize) -> Option<String> {
    const CUTS: [&str; 17] = [
        "; ",
        ", such as ",
        " such as ",
        ", including ",
        ", in order to ",
        " in order to ",
        ", based on ",
        ", using ",
        ", by ",
        ", for example ",
        ", e.g. ",
        ", so that ",
        ", ensuring ",
        ", to ensure ",
        ", while ",
        " (",
        ", which ",
    ];
    if count(sentence) <= max {
        return Some(sentence.trim().to_owned());
    }
    let cut = CUTS
        .iter()
        .flat_map(|cut| sentence.match_indices(cut).map(|(at, _)| sentence[..at].trim().trim_end_matches(',')))
        .filter(|start| (5..=max).contains(&count(start)) && is_whole(start))
        .max_by_key(|start| start.len())?;
    Some(cut.to_owned())
}

/// Whether a cut left no bracket open, no list without its last item, and no word that says nothing without its examples.
fn is_whole(start: &str) -> bool {
    const EMPTY: [&str; 12] = [
        "topics",
        "areas",
        "fields",
        "factors",
        "things",
        "matters",
        "subjects",
        "environments",
        "aspects",
        "settings",
        "issues",
        "purposes",
    ];
    let list_is_open = start.matches(", ").count() >= 1 && !start.contains(" and ") && !start.contains(" or ");
    let says_nothing = start.split(' ').next_back().is_some_and(|last| EMPTY.contains(&last));
    start.matches('(').count() == start.matches(')').count() && !list_is_open && !says_nothing
}

/// The number of words.
pub fn count(text: &str) -> usize {
    text.split_whitespace().count()
}

/// Whether a word is written in capitals on purpose: `ICT`, `3D`, `e-Learning`.
pub fn is_acronym(word: &str) -> bool {
    word.split('-').any(|part| part.chars().skip(1).any(char::is_uppercase))
        || word.chars().any(|c| c.is_ascii_digit())
        || (word.len() == 1 && word != "A" && word.chars().all(char::is_uppercase))
}

/// The text with a small first letter, unless an acronym or a name starts it.
pub fn lower_first(text: &str) -> String {
    let first = text.split([' ', ',', '/']).next().unwrap_or_default();
    match text.chars().next() {
        Some(c) if !is_acronym(first) && !is_name(first) => c.to_lowercase().chain(text.chars().skip(1)).collect(),
        _ => text.to_owned(),
    }
}

/// The text with a capital first letter.
pub fn upper_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

/// Every word small but acronyms and names: a title inside a sentence.
pub fn inside_sentence(title: &str) -> String {
    let lower = |word: &str| word.split('-').map(lower_first).collect::<Vec<_>>().join("-");
    title.split(' ').map(lower).collect::<Vec<_>>().join(" ")
}

/// Every word with a capital but the small ones: a name as a title.
pub fn title_case(name: &str) -> String {
    const SMALL: [&str; 10] = ["and", "or", "of", "in", "for", "the", "to", "with", "on", "at"];
    name.split(' ').map(|w| if SMALL.contains(&w) { w.to_owned() } else { upper_first(w) }).collect::<Vec<_>>().join(" ")
}

fn is_name(word: &str) -> bool {
    const NAMES: [&str; 14] = [
        "English",
        "French",
        "American",
        "Internet",
        "Java",
        "Linux",
        "European",
        "Sheriff's",
        "Chinese",
        "Asian",
        "African",
        "Braille",
        "Alexander",
        "Latin",
    ];
    NAMES.contains(&word.trim_end_matches(','))
}

/// `"a"` or `"an"` as the next word is spoken.
pub fn article(next: &str) -> &'static str {
    let first = next.split([' ', '-', '/']).next().unwrap_or_default();
    let lower = first.to_lowercase();
    let starts = |prefixes: &[&str]| prefixes.iter().any(|p| lower.starts_with(p));
    let is_spelled = first.len() <= 4 && first.len() > 1 && first.chars().all(char::is_uppercase);
    let is_vowel = if is_spelled {
        first.starts_with(['A', 'E', 'F', 'H', 'I', 'L', 'M', 'N', 'O', 'R', 'S', 'X'])
    } else {
        starts(&["hour", "honest", "heir"])
            || (starts(&["a", "e", "i", "o", "u", "8"]) && !starts(&["uni", "use", "usa", "euro", "one", "util", "ura"]))
    };
    if is_vowel { "an" } else { "a" }
}

/// The name with its article.
pub fn with_article(name: &str) -> String {
    format!("{} {name}", article(name))
}

/// `"plan"` → `"planning"`, for the first word of a phrase.
pub fn gerund(phrase: &str) -> String {
    let (verb, rest) = phrase.split_once(' ').map_or((phrase, String::new()), |(verb, rest)| (verb, format!(" {rest}")));
    format!("{}{rest}", gerund_of(verb))
}

fn gerund_of(verb: &str) -> String {
    const DOUBLED: [&str; 18] = [
        "plan", "run", "set", "cut", "stop", "fit", "dig", "put", "get", "ship", "stir", "transfer", "refer", "submit", "program",
        "control", "equip", "trim",
    ];
    if let Some(stem) = verb.strip_suffix("ie") {
        format!("{stem}ying")
    } else if let Some(stem) = verb.strip_suffix('e').filter(|stem| !stem.ends_with(['e', 'o', 'y'])) {
        format!("{stem}ing")
    } else if DOUBLED.contains(&verb) && verb != "equip" {
        format!("{verb}{}ing", &verb[verb.len() - 1..])
    } else if verb == "equip" {
        "equipping".to_owned()
    } else {
        format!("{verb}ing")
    }
}

/// One of a plural noun.
pub fn singular(word: &str) -> String {
    for (plural, one) in [("wives", "wife"), ("women", "woman"), ("men", "man"), ("People", "Person")] {
        if let Some(stem) = word.strip_suffix(plural) {
            return format!("{stem}{one}");
        }
    }
    for (plural, one) in [("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("sses", "ss"), ("xes", "x")] {
        if let Some(stem) = word.strip_suffix(plural).filter(|stem| stem.len() > 1) {
            return format!("{stem}{one}");
        }
    }
    match word.strip_suffix('s') {
        Some(stem) if !stem.ends_with('s') => stem.to_owned(),
        _ => word.to_owned(),
    }
}

/// The terms of a text: small, without endings, without the words that say nothing.
pub fn terms(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric()).filter(|w| w.len() > 1).filter_map(term)
}

fn term(word: &str) -> Option<String> {
    let lower = word.to_lowercase();
    // Abbreviations have no endings: VATS is no vat.
    let is_abbreviation = word.chars().all(char::is_uppercase);
    (!is_stop_word(&lower)).then(|| if is_abbreviation { lower } else { stem(&lower) })
}

fn stem(word: &str) -> String {
    const WHOLE: [&str; 14] = [
        "officer", "order", "paper", "water", "matter", "power", "letter", "layer", "number", "master", "border", "motor", "floor", "color",
    ];
    let mut stem = singular(word);
    if WHOLE.contains(&stem.as_str()) {
        return stem;
    }
    for ending in ["ing", "ed", "er", "or", "ion", "ment"] {
        if let Some(shorter) = stem.strip_suffix(ending).filter(|s| s.len() >= 4) {
            stem = shorter.to_owned();
            break;
        }
    }
    stem.strip_suffix(['e', 'y']).filter(|s| s.len() >= 3).map_or(stem.clone(), str::to_owned)
}

fn is_stop_word(word: &str) -> bool {
    static STOP: LazyLock<HashSet<&str>> = LazyLock::new(|| STOP_WORDS.split_whitespace().collect());
    STOP.contains(word)
}

/// What every occupation's and skill's text says.
const STOP_WORDS: &str = "\
    the and or of to in for with on at by from as an is are be that this these those their they them it its which who will \
    can may such other others all any each into within using use used work works worker workers related not including \
    include includes according also ensure make more different various provide perform specific responsible activities new \
    either both than between when where through per able has have tender tenders setter setters operate operator operators \
    used based order appropriate type types kind well them up out over listed separately job jobs task tasks duties";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn articles_follow_the_sound() {
        for (name, expected) in [
            ("nurse", "a"),
            ("engineer", "an"),
            ("ICT manager", "an"),
            ("university lecturer", "a"),
            ("SQL expert", "an"),
            ("hourly worker", "an"),
        ] {
            assert_eq!(article(name), expected, "{name}");
        }
    }

    #[test]
    fn gerunds_and_singulars() {
        for (verb, expected) in [
            ("plan events", "planning events"),
            ("manage", "managing"),
            ("oversee staff", "overseeing staff"),
            ("set", "setting"),
            ("tie", "tying"),
        ] {
            assert_eq!(gerund(verb), expected);
        }
        for (plural, one) in [("Actuaries", "Actuary"), ("Coaches", "Coach"), ("Nurses", "Nurse"), ("Midwives", "Midwife")] {
            assert_eq!(singular(plural), one);
        }
    }

    #[test]
    fn sentences_end_at_full_stops_only() {
        assert_eq!(sentences("Plan tours, e.g. Alpine ones. May drive."), ["Plan tours, e.g. Alpine ones", "May drive"]);
        assert_eq!(sentences(""), [""; 0]);
    }

    #[test]
    fn long_sentences_are_cut_before_an_explanation() {
        let long = "Plan and direct the transport of goods, such as grain, coal or timber, to the customers of the company";
        assert_eq!(shorten(long, 10).as_deref(), Some("Plan and direct the transport of goods"));
        assert_eq!(shorten("one two three four five six seven", 5), None);
        assert_eq!(shorten("one two", 5).as_deref(), Some("one two"));
    }
}
