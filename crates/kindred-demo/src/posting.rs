//! Composes one job posting.

use jiff::ToSpan;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::families::{self, Family};
use super::level::Level;
use super::occupation::{Duty, Occupation, Skill};
use super::places::{CITIES, City};
use super::words;
use kindred_core::domain::Choice;

/// Words of title, skills and description that optional sentences may fill.
/// A word is about 1.35 tokens; thousands of postings are embedded while somebody waits.
const FILL_WORDS: usize = 58;
/// Words of a duty.
const DUTY_WORDS: usize = 24;
const LONG_DUTY_WORDS: usize = 40;
/// Words of an occupation's name that sentences may repeat.
pub const MAX_NAME_WORDS: usize = 6;
/// Postings are at most this many days old.
const MAX_AGE_DAYS: usize = 75;

/// Composes posting `number` of an occupation.
pub fn compose(id: &str, occupation: &Occupation, number: u64, mut choice: Choice, today: Date) -> Value {
    let family = families::get(occupation.family);
    let level = Level::choose(occupation, &mut choice);
    let city = choice.pick(&CITIES);
    let remote = choice.chance(family.remote_percent) && families::can_be_remote(&occupation.title);
    let company = company(family, &mut choice);
    let plain_title = match number {
        0 => &occupation.title,
        _ if occupation.alternatives.is_empty() => &occupation.title,
        _ => choice.pick(&occupation.alternatives),
    };
    let title = level.titled(plain_title, occupation.family);
    let (listed, mentioned) = share_skills(occupation, family, number, &mut choice);
    let posted_at = today.saturating_sub((choice.below(MAX_AGE_DAYS) as i64).days());
    let salary = level.salary(occupation, city, &mut choice);
    let fixed_words = words::count(&title) + listed.iter().map(|s| words::count(s)).sum::<usize>();
    let place = Place { company: &company, city, remote };
    let description = describe(occupation, plain_title, &place, &mentioned, number, FILL_WORDS.saturating_sub(fixed_words), &mut choice);
    json!({
        "id": id, "title": title, "company": company, "location": city.location(), "remote": remote, "seniority": level.name(),
        "salary": salary, "skills": listed, "posted_at": posted_at.to_string(), "description": description,
    })
}

struct Place<'a> {
    company: &'a str,
    city: &'a City,
    remote: bool,
}

/// Invented: a coined word, one of landscape or craft, and a kind of business.
fn company(family: &Family, choice: &mut Choice) -> String {
    const FIRST: [&str; 34] = [
        "Harbourlea",
        "Aldermoss",
        "Quillbrook",
        "Ternwick",
        "Brackendell",
        "Lanternby",
        "Copperfen",
        "Millhallow",
        "Larksedge",
        "Thistlecombe",
        "Saltrush",
        "Embercote",
        "Foxhollin",
        "Wrenfold",
        "Marlstead",
        "Ospreyby",
        "Pebblemoor",
        "Rowanfell",
        "Sandpiperley",
        "Teaselby",
        "Umbergate",
        "Whinstead",
        "Yarrowmere",
        "Birchwaite",
        "Cinderholt",
        "Dunlinshaw",
        "Eiderbrow",
        "Flintlow",
        "Gorsewick",
        "Heronsby",
        "Ivyhallow",
        "Kestrelow",
        "Lindenrigg",
        "Junipercote",
    ];
    const SECOND: [&str; 28] = [
        "Vale", "Quay", "Ridge", "Mill", "Ferry", "Orchard", "Hollow", "Weir", "Meadow", "Gate", "Bridge", "Wharf", "Field", "Moor",
        "Lane", "Spire", "Ford", "Grove", "Haven", "Croft", "Beacon", "Dale", "Marsh", "Pier", "Stone", "Loom", "Anvil", "Compass",
    ];
    let (first, second, kind) = (choice.pick(&FIRST), choice.pick(&SECOND), choice.pick(&family.companies));
    if choice.chance(50) { format!("{first} & {second} {kind}") } else { format!("{first} {second} {kind}") }
}

/// Three or four skills to list and up to two others to mention; another posting of the occupation shares them out differently.
pub fn share_skills<'a>(occupation: &'a Occupation, family: &Family, number: u64, choice: &mut Choice) -> (Vec<&'a str>, Vec<&'a Skill>) {
    let skills = &occupation.skills;
    let n_listed = (3 + choice.below(2)).min(skills.len());
    let start = if skills.len() > 5 { number as usize * 3 % skills.len() } else { 0 };
    let mut turned: Vec<&Skill> = skills.iter().cycle().skip(start).take(skills.len()).collect();
    let mentioned = turned.split_off(n_listed);
    let mut listed: Vec<&str> = turned.into_iter().map(|s| s.label.as_str()).collect();
    let common = 3usize.saturating_sub(listed.len()).max(usize::from(listed.len() < 4 && choice.chance(40)));
    let first = choice.below(family.skills.len());
    let common_skills = (0..family.skills.len()).map(|i| family.skills[(first + i) % family.skills.len()]);
    let new: Vec<&'static str> = common_skills.filter(|s| !listed.contains(s)).take(common).collect();
    listed.extend(new);
    (listed, mentioned.into_iter().take(2).collect())
}

fn describe(
    occupation: &Occupation,
    plain_title: &str,
    place: &Place<'_>,
    mentioned: &[&Skill],
    number: u64,
    fill_words: usize,
    choice: &mut Choice,
) -> String {
    let name = if plain_title == occupation.title { occupation.name.clone() } else { words::inside_sentence(plain_title) };
    let mut sentences = vec![opening(&name, place, choice)];
    sentences.extend(duties(occupation, number, fill_words, words::count(&sentences[0]), choice));
    let n_words = |sentences: &[String]| sentences.iter().map(|s| words::count(s)).sum::<usize>();
    if let Some(wish) = wish(mentioned, choice)
        && n_words(&sentences) + words::count(&wish) <= fill_words
    {
        sentences.push(wish);
    }
    let closing = closing(place.remote, occupation.family, choice);
    if n_words(&sentences) + words::count(closing) <= fill_words {
        sentences.push(closing.to_owned());
    }
    sentences.join(" ")
}

fn closing(remote: bool, family: u8, choice: &mut Choice) -> &'static str {
    const ANYWHERE: [&str; 7] = [
        "Full-time position.",
        "Full-time or part-time.",
        "Permanent contract.",
        "Start as soon as possible.",
        "Paid training is included.",
        "Fixed term of two years.",
        "A mentor helps you settle in.",
    ];
    const ON_SITE: [&str; 4] = ["Shift work, with allowances.", "Work clothes are provided.", "Early and late shifts.", "Paid overtime."];
    const AT_A_DESK: [&str; 4] =
        ["Flexible hours.", "Relocation support is offered.", "Two days a week from home.", "Thirty days of leave."];
    let is_desk = (11..=27).contains(&family) || [41, 43].contains(&family);
    let closings: &[&str] = match choice.below(3) {
        0 if is_desk && !remote => &AT_A_DESK,
        0 if !is_desk => &ON_SITE,
        _ => &ANYWHERE,
    };
    closings[choice.below(closings.len())]
}

fn opening(name: &str, place: &Place<'_>, choice: &mut Choice) -> String {
    let (company, city, a_name) = (place.company, place.city.name, words::with_article(name));
    if place.remote {
        return match choice.below(4) {
            0 => format!("{company} is looking for {a_name} to work remotely."),
            1 => format!("Work from home for {company} of {city}."),
            2 => format!("{company} is hiring {a_name}; the team works remotely."),
            _ => format!("Remote role with {company}, based in {city}."),
        };
    }
    // A name as long as a sentence is read once, in the title.
    let n_openings = if words::count(name) > MAX_NAME_WORDS { 3 } else { 8 };
    match choice.below(n_openings) {
        3 => format!("{company} is hiring {a_name} in {city}."),
        0 => format!("Join {company} in {city}."),
        4 => format!("{company} in {city} has an opening for {a_name}."),
        1 => format!("Our team in {city} is growing."),
        5 => format!("We are looking for {a_name} to join us in {city}."),
        6 => format!("{company} seeks {a_name} for its {city} site."),
        2 => format!("Come and work with us in {city}."),
        _ => format!("{} is needed at {company} in {city}.", words::upper_first(&a_name)),
    }
}

/// One or two sentences on what is to be done, in one voice. Later postings begin with later duties.
fn duties(occupation: &Occupation, number: u64, fill_words: usize, used: usize, choice: &mut Choice) -> Vec<String> {
    let n = occupation.duties.len();
    let turned: Vec<&Duty> = (0..n).map(|i| &occupation.duties[(i + number as usize) % n]).collect();
    let frame = choice.below(5);
    let plural = occupation.plural.as_deref().filter(|_| frame < 2 || turned[0].speaks_of_them);
    let mut found: Vec<String> = Vec::new();
    let mut n_words = used;
    for duty in turned {
        // Only the first sentence has to be there, even when it is long.
        let limit = if found.is_empty() { LONG_DUTY_WORDS } else { fill_words.saturating_sub(n_words + 2) };
        let whole = words::shorten(&duty.phrase, DUTY_WORDS.min(limit)).or_else(|| words::shorten(&duty.phrase, limit));
        let Some(phrase) = whole.filter(|phrase| words::count(phrase) >= 3) else { continue };
        let duty = Duty { phrase, speaks_of_them: duty.speaks_of_them };
        let duty = if found.is_empty() { duty.standing_first() } else { duty };
        let said = match plural {
            Some(plural) => Some(say_of_team(&duty, plural, frame, found.is_empty())),
            None => say_to_you(&duty, frame, found.is_empty()),
        };
        let Some(sentence) = said else { continue };
        n_words += words::count(&sentence);
        found.push(sentence);
        if found.len() == 2 {
            break;
        }
    }
    found
}

fn say_of_team(duty: &Duty, plural: &str, frame: usize, is_first: bool) -> String {
    match (is_first, frame) {
        (true, 0) => format!("Here, {plural} {}.", duty.phrase),
        (true, _) => format!("Our {plural} {}.", duty.phrase),
        (false, _) => format!("They {}.", duty.phrase),
    }
}

fn say_to_you(duty: &Duty, frame: usize, is_first: bool) -> Option<String> {
    let infinitive = duty.infinitive().filter(|_| is_first);
    Some(match (frame, infinitive) {
        (2, Some(phrase)) => format!("Your task is to {phrase}."),
        (3, Some(phrase)) => format!("In this role you {phrase}."),
        (4, Some(phrase)) => format!("We need someone to {phrase}."),
        _ => format!("{}.", duty.for_you()?),
    })
}

/// What else is wished for.
fn wish(skills: &[&Skill], choice: &mut Choice) -> Option<String> {
    let verbs: Vec<&str> = skills.iter().filter(|s| s.is_verb).map(|s| s.label.as_str()).collect();
    let field = skills.iter().find(|s| !s.is_verb).map(|s| s.label.as_str());
    let style = choice.below(3);
    match (&verbs[..], field, style) {
        ([first, second], _, 0) => Some(format!("You can {first} and {second}.")),
        ([first, ..], _, 0) => Some(format!("You know how to {first}.")),
        ([first, ..], _, 1) => Some(format!("Experience in {} is welcome.", words::gerund(first))),
        (_, Some(field), _) => Some(format!("Knowledge of {field} is a plus.")),
        ([first, ..], _, _) => Some(format!("Ideally you have practice in {}.", words::gerund(first))),
        _ => None,
    }
}
