//! What goes with an occupation family: pay, kinds of company, remote work, skills that everybody lists.

/// Where nothing else is known: office and administrative support.
pub const DEFAULT: u8 = 43;
pub const COMPUTERS: u8 = 15;
pub const ARTS: u8 = 27;

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
    pub skills: [&'static str; 6],
}

const fn family(code: u8, pay: f64, remote_percent: u64, companies: [&'static str; 3], skills: [&'static str; 6]) -> Family {
    Family { code, pay, remote_percent, companies, skills }
}

#[rustfmt::skip]
const FAMILIES: [Family; 23] = [
    family(11, 104_000.0, 25, ["Group", "Partners", "Enterprises"],
        ["budgeting", "team leadership", "strategic planning", "stakeholder management", "performance reviews", "change management"]),
    family(13, 76_000.0, 45, ["Advisory", "Finance", "Consulting"],
        ["data analysis", "negotiation", "report writing", "spreadsheets", "stakeholder management", "regulatory compliance"]),
    family(15, 103_000.0, 65, ["Systems", "Software", "Data"],
        ["problem solving", "technical documentation", "agile methods", "version control", "code review", "user support"]),
    family(17, 90_000.0, 12, ["Engineering", "Design", "Technologies"],
        ["technical drawing", "project planning", "quality assurance", "computer-aided design", "technical documentation", "risk assessment"]),
    family(19, 78_000.0, 12, ["Research", "Laboratories", "Institute"],
        ["data analysis", "scientific writing", "laboratory practice", "statistics", "research methods", "presenting findings"]),
    family(21, 52_000.0, 15, ["Community Trust", "Support Services", "Foundation"],
        ["active listening", "case records", "counselling", "crisis intervention", "referrals to services", "community outreach"]),
    family(23, 98_000.0, 30, ["Legal", "Law Chambers", "Legal Services"],
        ["legal research", "drafting documents", "attention to detail", "legal writing", "client interviews", "case management"]),
    family(25, 60_000.0, 15, ["College", "Learning", "Academy"],
        ["lesson planning", "classroom management", "mentoring", "student assessment", "curriculum development", "parent communication"]),
    family(27, 60_000.0, 20, ["Media", "Studios", "Productions"],
        ["creative thinking", "working to deadlines", "storytelling", "teamwork", "communication", "working with clients"]),
    family(29, 86_000.0, 5, ["Health", "Clinics", "Hospital"],
        ["patient care", "clinical records", "infection control", "medical terminology", "patient education", "teamwork"]),
    family(31, 38_000.0, 2, ["Care", "Home Care", "Health"],
        ["patient care", "empathy", "hygiene standards", "patient transfer", "vital signs", "record keeping"]),
    family(33, 52_000.0, 2, ["Security", "Safety Services", "Protection"],
        ["first aid", "incident reports", "staying calm under pressure", "patrols", "conflict resolution", "radio communication"]),
    family(35, 33_000.0, 0, ["Kitchens", "Catering", "Inns"],
        ["food hygiene", "teamwork", "customer service", "food preparation", "stock rotation", "working in a busy kitchen"]),
    family(37, 35_000.0, 0, ["Facilities", "Grounds", "Property Care"],
        ["workplace safety", "reliability", "use of cleaning equipment", "time management", "waste handling", "minor repairs"]),
    family(39, 36_000.0, 2, ["Leisure", "Wellbeing", "Resorts"],
        ["customer service", "hospitality", "communication", "appointment scheduling", "friendly manner", "cash handling"]),
    family(41, 50_000.0, 20, ["Retail", "Trading", "Markets"],
        ["customer service", "negotiation", "product knowledge", "cash handling", "sales targets", "merchandising"]),
    family(43, 43_000.0, 30, ["Services", "Office Services", "Administration"],
        ["spreadsheets", "record keeping", "communication", "filing", "telephone manners", "data entry"]),
    family(45, 37_000.0, 0, ["Farms", "Forestry", "Growers"],
        ["operating machinery", "working outdoors", "workplace safety", "seasonal work", "equipment maintenance", "animal or crop care"]),
    family(47, 55_000.0, 0, ["Construction", "Builders", "Civil Works"],
        ["reading plans", "workplace safety", "hand and power tools", "measuring and marking out", "site clean-up", "physical stamina"]),
    family(49, 54_000.0, 2, ["Maintenance", "Technical Services", "Repairs"],
        ["fault finding", "preventive maintenance", "hand and power tools", "technical manuals", "safe use of tools", "customer visits"]),
    family(51, 43_000.0, 0, ["Manufacturing", "Works", "Industries"],
        ["quality control", "workplace safety", "machine maintenance", "reading work orders", "measuring instruments", "shift handover"]),
    family(53, 44_000.0, 0, ["Logistics", "Transport", "Freight"],
        ["route planning", "safe loading", "punctuality", "vehicle checks", "delivery records", "physical stamina"]),
    family(55, 56_000.0, 0, ["Defence", "Defence Services", "Tactical Training"],
        ["discipline", "leadership", "navigation", "teamwork", "physical fitness", "equipment readiness"]),
];

/// The family with a code, or the default one.
pub fn get(code: u8) -> &'static Family {
    let find = |code| FAMILIES.iter().find(|f| f.code == code);
    find(code).or_else(|| find(DEFAULT)).expect("the default family is in the table")
}

/// The family that a title's own words tell, surer than any likeness of texts.
pub fn by_title(title: &str) -> Option<u8> {
    #[rustfmt::skip]
    const WORDS: [(&str, u8); 84] = [
        ("breeder", 45), ("chocolatier", 51), ("honey", 45), ("zoo", 39), ("missionary", 21), ("bulldozer", 47),
        ("crane", 47), ("deinking", 51), ("baker", 51), ("employment programme", 21), ("health and safety inspector", 19), ("land planner", 17),
        ("nutritionist", 29), ("dietitian", 29), ("post-production", 27), ("aeronautical", 17),
        ("installer", 49), ("lift technician", 49), ("policy officer", 13), ("procurement", 13), ("handicraft", 51), ("pilot", 53),
        ("physiotherap", 29), ("therapist", 29), ("nurse", 29), ("doctor", 29), ("surgeon", 29), ("pharmacist", 29), ("dentist", 29),
        ("midwi", 29), ("veterinar", 29), ("lecturer", 25), ("teacher", 25), ("professor", 25), ("tutor", 25), ("trainer", 25),
        ("librarian", 25), ("lawyer", 23), ("legal", 23), ("judge", 23), ("notary", 23), ("social worker", 21), ("counsellor", 21),
        ("ict ", 15), ("software", 15), ("data ", 15), ("web ", 15), ("developer", 15), ("manager", 11), ("director", 11), ("chief", 11),
        ("engineering technician", 17), ("engineer", 17), ("architect", 17), ("draughtsperson", 17), ("drafter", 17), ("drafting", 17),
        ("scientist", 19), ("biologist", 19), ("geologist", 19), ("ologist", 19), ("journalist", 27), ("editor", 27), ("designer", 27),
        ("artist", 27), ("actor", 27), ("musician", 27), ("police", 33), ("guard", 33), ("officer cadet", 55), ("cook", 35),
        ("waiter", 35), ("bartender", 35), ("cleaner", 37), ("seller", 41), ("sales", 41), ("clerk", 43), ("secretary", 43), ("farm", 45),
        ("electrician", 47), ("bricklayer", 47), ("mechanic", 49), ("machine operator", 51), ("driver", 53),
    ];
    let title = format!("{} ", title.to_lowercase());
    WORDS.iter().find(|(word, _)| title.contains(word)).map(|(_, family)| *family)
}

/// Whether the work can be done from anywhere at all.
pub fn can_be_remote(title: &str) -> bool {
    const HANDS: [&str; 16] = [
        "courier",
        "carrier",
        "mail",
        "receptionist",
        "technician",
        "operator",
        "installer",
        "perform",
        "dancer",
        "musician",
        "athlete",
        "instructor",
        "assembler",
        "florist",
        "display",
        "agricultural",
    ];
    let title = title.to_lowercase();
    !HANDS.iter().any(|word| title.contains(word))
}

/// How far an occupation's pay lies from its family's, told by its title.
pub fn pay_factor(title: &str) -> f64 {
    const FACTORS: [(&str, f64); 23] = [
        ("assistant", 0.75),
        ("aide", 0.8),
        ("helper", 0.75),
        ("technician", 0.75),
        ("trainee", 0.7),
        ("physician", 2.2),
        ("allergist", 2.2),
        ("obstetric", 2.4),
        ("pediatrician", 2.0),
        ("neurologist", 2.3),
        ("urologist", 2.4),
        ("dermatologist", 2.3),
        ("hospitalist", 2.2),
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
