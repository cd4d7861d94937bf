//! Composes one member: a profile without a name.

use serde_json::{Value, json};

use super::families;
use super::level::Level;
use super::occupation::{Duty, Occupation, Skill};
use super::places::CITIES;
use super::posting::{MAX_NAME_WORDS, share_skills};
use super::words;
use kindred_core::domain::Choice;

/// Words of headline, skills, summary and experience that optional parts may fill; see the postings' limit.
const FILL_WORDS: usize = 58;
/// Words of what was done in a position.
const NOTE_WORDS: usize = 22;
const EARLIER_NOTE_WORDS: usize = 14;
const LONG_NOTE_WORDS: usize = 38;

/// Composes member `number` of an occupation.
pub fn compose(id: &str, occupation: &Occupation, number: u64, mut choice: Choice) -> Value {
    let family = families::get(occupation.family);
    let level = Level::choose(occupation, &mut choice);
    let city = choice.pick(&CITIES);
    let years = level.years(&mut choice);
    let plain_title =
        if number > 0 && !occupation.alternatives.is_empty() { choice.pick(&occupation.alternatives) } else { &occupation.title };
    let title = level.titled(plain_title, occupation.family);
    // Not the shares that the postings have.
    let (skills, mentioned) = share_skills(occupation, family, number + 1, &mut choice);
    let headline = headline(&title, plain_title, &skills, years, &mut choice);
    let name = if plain_title == &occupation.title { occupation.name.clone() } else { words::inside_sentence(plain_title) };
    let summary = summary(&name, years, city.name, &mentioned, &mut choice);

    let notes = notes(occupation, number);
    let now = notes.first().cloned().unwrap_or_else(|| format!("Daily work as {}", words::with_article(&name)));
    let n_now = if years > 5 { years.div_ceil(2) } else { years };
    let mut experience = vec![json!({"title": title, "years": n_now, "text": format!("{now}.")})];
    let texts: [&str; 3] = [&headline, &summary, &now];
    let used =
        texts.iter().map(|t| words::count(t)).sum::<usize>() + words::count(&title) + skills.iter().map(|s| words::count(s)).sum::<usize>();
    if years > n_now
        && let Some(earlier) = notes.get(1).and_then(|note| words::shorten(note, EARLIER_NOTE_WORDS))
        && used + words::count(&earlier) + words::count(plain_title) < FILL_WORDS
    {
        experience.push(json!({"title": earlier_title(plain_title, level), "years": years - n_now, "text": format!("{earlier}.")}));
    }
    json!({
        "id": id, "headline": headline, "summary": summary, "skills": skills, "experience": experience, "location": city.location(),
        "seniority": level.name(),
    })
}

fn headline(title: &str, plain_title: &str, skills: &[&str], years: u64, choice: &mut Choice) -> String {
    match (choice.below(6), skills.first()) {
        (0, Some(skill)) if words::count(skill) <= 4 => format!("{title} | {}", words::upper_first(skill)),
        (1, _) if years > 1 => format!("{title}, {years} years"),
        (2, _) if years > 7 => format!("Experienced {plain_title}"),
        (3, _) => format!("{title}, open to new roles"),
        _ => title.to_owned(),
    }
}

fn summary(name: &str, years: u64, city: &str, mentioned: &[&Skill], choice: &mut Choice) -> String {
    let span = if years == 1 { "one year".to_owned() } else { format!("{years} years") };
    let style = choice.below(5);
    let who = match style {
        _ if words::count(name) > MAX_NAME_WORDS => format!("{} of experience, based in {city}.", words::upper_first(&span)),
        0 => format!("{} with {span} of experience.", words::upper_first(name)),
        1 => format!("{} in {city}, {span} in the field.", words::upper_first(name)),
        2 => format!("{} of work as {} in and around {city}.", words::upper_first(&span), words::with_article(name)),
        3 => format!("Based in {city}, working as {} for {span}.", words::with_article(name)),
        _ => format!("{} as {}.", words::upper_first(&span), words::with_article(name)),
    };
    let strength = mentioned.first().map(|skill| match (skill.is_verb, choice.below(3)) {
        (true, 0) => format!(" Good at {}.", words::gerund(&skill.label)),
        (true, 1) => format!(" Enjoys {}.", words::gerund(&skill.label)),
        (true, _) => format!(" Practised in {}.", words::gerund(&skill.label)),
        (false, 0) => format!(" Special interest: {}.", skill.label),
        (false, 1) => format!(" Sound knowledge of {}.", skill.label),
        (false, _) => format!(" Well versed in {}.", skill.label),
    });
    who + &strength.unwrap_or_default()
}

/// What was done, one note per position: duties first, then what the skills' descriptions tell.
fn notes(occupation: &Occupation, number: u64) -> Vec<String> {
    let n = occupation.duties.len();
    let duties = (0..n).map(|i| &occupation.duties[(i + number as usize) % n]).filter_map(Duty::note);
    let texts = occupation.skills.iter().filter(|s| s.is_verb && is_instruction(&s.text)).map(|s| s.text.clone());
    let turned: Vec<String> = texts.collect();
    let n_texts = turned.len().max(1);
    let turned = turned.iter().cycle().skip(number as usize % n_texts).take(turned.len()).cloned();
    let mut found: Vec<String> = Vec::new();
    let all: Vec<String> = duties.chain(turned).collect();
    for note in all.iter().filter_map(|note| words::shorten(note, NOTE_WORDS)) {
        if !found.contains(&note) {
            found.push(note);
        }
    }
    // A long note is better than none.
    if found.is_empty() {
        found.extend(all.iter().find_map(|note| words::shorten(note, LONG_NOTE_WORDS)));
    }
    found
}

fn earlier_title(plain_title: &str, level: Level) -> String {
    match level {
        Level::Manager | Level::Director if plain_title.starts_with("First-Line Supervisor of ") => "Team Leader".to_owned(),
        Level::Manager | Level::Director => format!("Deputy {plain_title}"),
        _ => plain_title.to_owned(),
    }
}

/// Whether a skill's description says what to do ("Manage the staff"), rather than what it is ("The staff …").
fn is_instruction(text: &str) -> bool {
    let first = text.split(' ').next().unwrap_or_default();
    text.starts_with(char::is_uppercase)
        && !["The", "A", "An", "Types", "This", "These", "Process", "To", "In", "On", "With", "Being", "Are", "Is"].contains(&first)
}
