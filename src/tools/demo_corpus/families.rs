//! What goes with an occupation family: pay, kinds of company, remote work, skills that everybody lists.

/// Where nothing else is known: office and administrative support.
pub const DEFAULT: u8 = 43;

/// One major group of the Standard Occupational Classification.
#[derive(Debug)]
pub struct Family {
    pub code: u8,
    /// Middle yearly pay in US dollars.
    pub pay: f64,
    /// Postings out of 100 that allow remote work.
    pub remote_percent: u64,
    /// Last words of company names.
    pub companies: [&'static str; 3],
    /// Skills that fit everyone in the family.
    pub skills: [&'static str; 3],
}

const fn family(code: u8, pay: f64, remote_percent: u64, companies: [&'static str; 3], skills: [&'static str; 3]) -> Family {
    Family { code, pay, remote_percent, companies, skills }
}

const FAMILIES: [Family; 23] = [
    family(11, 104_000.0, 25, ["Group", "Partners", "Enterprises"], ["budgeting", "team leadership", "strategic planning"]),
    family(13, 76_000.0, 45, ["Advisory", "Finance", "Consulting"], ["data analysis", "negotiation", "report writing"]),
    family(15, 103_000.0, 65, ["Systems", "Software", "Data"], ["problem solving", "technical documentation", "agile methods"]),
    family(17, 90_000.0, 20, ["Engineering", "Design", "Technologies"], ["technical drawing", "project planning", "quality assurance"]),
    family(19, 78_000.0, 20, ["Research", "Laboratories", "Institute"], ["data analysis", "scientific writing", "laboratory practice"]),
    family(21, 52_000.0, 15, ["Community Trust", "Support Services", "Foundation"], ["active listening", "case records", "counselling"]),
    family(23, 98_000.0, 30, ["Legal", "Law Chambers", "Legal Services"], ["legal research", "drafting documents", "attention to detail"]),
    family(25, 60_000.0, 15, ["College", "Learning", "Academy"], ["lesson planning", "classroom management", "mentoring"]),
    family(27, 60_000.0, 30, ["Media", "Studios", "Productions"], ["storytelling", "creative thinking", "working to deadlines"]),
    family(29, 86_000.0, 5, ["Health", "Clinics", "Hospital"], ["patient care", "clinical records", "infection control"]),
    family(31, 38_000.0, 2, ["Care", "Home Care", "Health"], ["patient care", "empathy", "hygiene standards"]),
    family(
        33,
        52_000.0,
        2,
        ["Security", "Safety Services", "Protection"],
        ["first aid", "incident reports", "staying calm under pressure"],
    ),
    family(35, 33_000.0, 0, ["Kitchens", "Catering", "Inns"], ["food hygiene", "teamwork", "customer service"]),
    family(37, 35_000.0, 0, ["Facilities", "Grounds", "Property Care"], ["workplace safety", "reliability", "use of cleaning equipment"]),
    family(39, 36_000.0, 2, ["Leisure", "Wellbeing", "Resorts"], ["customer service", "hospitality", "communication"]),
    family(41, 50_000.0, 20, ["Retail", "Trading", "Markets"], ["customer service", "negotiation", "product knowledge"]),
    family(43, 43_000.0, 30, ["Services", "Office Services", "Administration"], ["spreadsheets", "record keeping", "communication"]),
    family(45, 37_000.0, 0, ["Farms", "Forestry", "Growers"], ["operating machinery", "working outdoors", "workplace safety"]),
    family(47, 55_000.0, 0, ["Construction", "Builders", "Civil Works"], ["reading plans", "workplace safety", "hand and power tools"]),
    family(
        49,
        54_000.0,
        2,
        ["Maintenance", "Technical Services", "Repairs"],
        ["fault finding", "preventive maintenance", "hand and power tools"],
    ),
    family(51, 43_000.0, 0, ["Manufacturing", "Works", "Industries"], ["quality control", "workplace safety", "machine maintenance"]),
    family(53, 44_000.0, 0, ["Logistics", "Transport", "Freight"], ["route planning", "safe loading", "punctuality"]),
    family(55, 56_000.0, 0, ["Defence", "Defence Services", "Tactical Training"], ["discipline", "leadership", "navigation"]),
];

/// The family with a code, or the default one.
pub fn get(code: u8) -> &'static Family {
    let find = |code| FAMILIES.iter().find(|f| f.code == code);
    find(code).or_else(|| find(DEFAULT)).expect("the default family is in the table")
}

/// The family that a title's own words tell, surer than any likeness of texts.
pub fn by_title(title: &str) -> Option<u8> {
    const WORDS: [(&str, u8); 62] = [
        ("physiotherap", 29),
        ("therapist", 29),
        ("nurse", 29),
        ("doctor", 29),
        ("surgeon", 29),
        ("pharmacist", 29),
        ("dentist", 29),
        ("midwi", 29),
        ("veterinar", 29),
        ("lecturer", 25),
        ("teacher", 25),
        ("professor", 25),
        ("tutor", 25),
        ("trainer", 25),
        ("librarian", 25),
        ("lawyer", 23),
        ("legal", 23),
        ("judge", 23),
        ("notary", 23),
        ("social worker", 21),
        ("counsellor", 21),
        ("ict ", 15),
        ("software", 15),
        ("data ", 15),
        ("web ", 15),
        ("developer", 15),
        ("manager", 11),
        ("director", 11),
        ("chief", 11),
        ("engineering technician", 17),
        ("engineer", 17),
        ("architect", 17),
        ("draughtsperson", 17),
        ("drafter", 17),
        ("drafting", 17),
        ("scientist", 19),
        ("biologist", 19),
        ("geologist", 19),
        ("ologist", 19),
        ("journalist", 27),
        ("editor", 27),
        ("designer", 27),
        ("artist", 27),
        ("actor", 27),
        ("musician", 27),
        ("police", 33),
        ("guard", 33),
        ("officer cadet", 55),
        ("cook", 35),
        ("waiter", 35),
        ("bartender", 35),
        ("cleaner", 37),
        ("seller", 41),
        ("sales", 41),
        ("clerk", 43),
        ("secretary", 43),
        ("farm", 45),
        ("electrician", 47),
        ("bricklayer", 47),
        ("mechanic", 49),
        ("machine operator", 51),
        ("driver", 53),
    ];
    let title = format!("{} ", title.to_lowercase());
    WORDS.iter().find(|(word, _)| title.contains(word)).map(|(_, family)| *family)
}

/// How far an occupation's pay lies from its family's, told by its title.
pub fn pay_factor(title: &str) -> f64 {
    const FACTORS: [(&str, f64); 16] = [
        ("assistant", 0.75),
        ("aide", 0.8),
        ("helper", 0.75),
        ("technician", 0.75),
        ("trainee", 0.7),
        ("physician", 2.2),
        ("surgeon", 2.6),
        ("psychiatrist", 2.2),
        ("anesthesi", 2.2),
        ("radiologist", 2.3),
        ("cardiologist", 2.4),
        ("dentist", 1.8),
        ("chief", 1.6),
        ("judge", 1.4),
        ("pilot", 1.9),
        ("air traffic", 1.8),
    ];
    let title = title.to_lowercase();
    FACTORS.iter().find(|(word, _)| title.contains(word)).map_or(1.0, |(_, factor)| *factor)
}
