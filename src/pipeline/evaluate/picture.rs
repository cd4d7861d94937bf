//! An evaluation as a picture: bars of the measures, of the stages, and how sure the differences are. Plain SVG, which every browser shows.

use std::fmt::Write;

use super::compare::Difference;
use super::measures::Scores;
use super::report::EvaluationReport;

/// That people with any eyes tell apart (Okabe and Ito, 2008).
const COLOURS: [&str; 8] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7f7f7f", "#000000"];
/// Measures that are drawn.
const DRAWN: [&str; 7] = ["nDCG@10", "MRR", "MAP", "P@10", "R@10", "R@100", "poor@10"];

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 48.0;
/// Of a panel of bars, without its labels.
const BARS: f64 = 200.0;
const ROW: f64 = 22.0;
/// Where rows of differences begin, right of their labels.
const LABELS: f64 = 300.0;
/// More bars than this have no room for their numbers.
const MAX_NUMBERED: usize = 42;
const MAX_LABEL_CHARS: usize = 26;

/// What is drawn.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    pub title: String,
    pub series: Vec<Series>,
}

/// A way to search, or a set of queries.
#[derive(Debug, Clone, Default)]
pub struct Series {
    pub name: String,
    /// Said behind its name.
    pub note: String,
    pub scores: Scores,
    /// nDCG@10 of each stage, by its label.
    pub stages: Vec<(&'static str, f64)>,
    /// Gains over the first of the series, or over something earlier.
    pub differences: Vec<Difference>,
}

/// Values of one group of bars, one for each of the series that has it.
type Groups<'a> = Vec<(&'a str, Vec<Option<f64>>)>;

impl Picture {
    /// The variants of an evaluation.
    pub fn of(report: &EvaluationReport) -> Self {
        let series = report.variants.iter().map(|variant| Series {
            name: variant.name.clone(),
            note: format!("generation {} · {} · {:.1} ms", variant.generation, variant.model, variant.times.total_us / 1e3),
            scores: variant.measures,
            stages: variant
                .stages
                .iter()
                .flat_map(|stages| stages.all())
                .map(|(stage, report)| (stage.label(), report.measures.ndcg_at_10))
                .collect(),
            differences: variant.against.iter().flat_map(|against| against.comparison.differences.clone()).collect(),
        });
        Self { title: format!("{}: {} judged queries", report.collection, report.n_queries), series: series.collect() }
    }

    /// The text of an SVG file.
    pub fn svg(&self) -> String {
        let mut body = String::new();
        let mut y = 40.0;
        text(&mut body, MARGIN, y, "font-size=\"20\" font-weight=\"600\"", &self.title);
        y += 14.0;
        for (position, series) in self.series.iter().enumerate() {
            y += ROW;
            let _ = write!(body, r#"<rect x="{MARGIN}" y="{}" width="14" height="14" rx="2" fill="{}"/>"#, y - 12.0, colour(position));
            text(&mut body, MARGIN + 22.0, y, "", &format!("{}   {}", series.name, series.note));
        }
        let of_measure = |name: &'static str| {
            let value = |series: &Series| series.scores.named().into_iter().find(|(measure, _)| *measure == name).map(|(_, value)| value);
            (name, self.series.iter().map(value).collect())
        };
        y = self.bars(&mut body, y + 44.0, "How good (poor@10: the less, the better)", &DRAWN.into_iter().map(of_measure).collect());
        let mut stages: Vec<&'static str> = Vec::new();
        for (stage, _) in self.series.iter().flat_map(|series| &series.stages) {
            if !stages.contains(stage) {
                stages.push(stage);
            }
        }
        if !stages.is_empty() {
            let value = |series: &Series, stage: &str| series.stages.iter().find(|(label, _)| *label == stage).map(|(_, value)| *value);
            let of_stage = |&stage: &&'static str| (stage, self.series.iter().map(|series| value(series, stage)).collect());
            y = self.bars(&mut body, y + 44.0, "nDCG@10, stage by stage", &stages.iter().map(of_stage).collect());
        }
        y = self.intervals(&mut body, y);
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" font-size="13" fill="#222"><rect width="100%" height="100%" fill="#fff"/>{body}</svg>"##,
            height = y + 32.0
        )
    }

    /// Groups of bars from 0 to 1. Returns where they end.
    fn bars(&self, body: &mut String, top: f64, heading: &str, groups: &Groups<'_>) -> f64 {
        text(body, MARGIN, top, "font-weight=\"600\"", heading);
        let (left, bottom) = (MARGIN, top + 26.0 + BARS);
        for line in 0..=4 {
            let value = f64::from(line) / 4.0;
            let at = bottom - value * BARS;
            let _ = write!(body, r##"<line x1="{left}" x2="{}" y1="{at}" y2="{at}" stroke="#ddd"/>"##, WIDTH - MARGIN);
            text(body, left - 6.0, at + 4.0, "text-anchor=\"end\" fill=\"#777\" font-size=\"11\"", &format!("{value:.2}"));
        }
        let group_width = (WIDTH - 2.0 * MARGIN) / groups.len() as f64;
        let bar_width = (group_width * 0.8 / self.series.len().max(1) as f64).min(64.0);
        let is_numbered = groups.len() * self.series.len() <= MAX_NUMBERED;
        for (number, (label, values)) in groups.iter().enumerate() {
            let middle = left + (number as f64 + 0.5) * group_width;
            text(body, middle, bottom + 18.0, "text-anchor=\"middle\"", label);
            let start = middle - bar_width * values.len() as f64 / 2.0;
            for (position, value) in values.iter().enumerate().filter_map(|(position, value)| Some((position, (*value)?))) {
                let (x, height) = (start + position as f64 * bar_width, value.clamp(0.0, 1.0) * BARS);
                let _ = write!(
                    body,
                    r#"<rect x="{:.1}" y="{:.1}" width="{:.1}" height="{height:.1}" fill="{}"><title>{}: {label} {value:.4}</title></rect>"#,
                    x + 1.0,
                    bottom - height,
                    bar_width - 2.0,
                    colour(position),
                    escaped(&self.series[position].name)
                );
                if is_numbered {
                    let at = (x + bar_width / 2.0, bottom - height - 4.0);
                    let number = format!("{value:.2}");
                    text(body, at.0, at.1, "text-anchor=\"middle\" font-size=\"10\"", number.trim_start_matches('0'));
                }
            }
        }
        bottom + 22.0
    }

    /// A row for each measure of each series that is compared: the mean difference, and where it lies with 95 % confidence. Filled where
    /// that is on one side of 0.
    fn intervals(&self, body: &mut String, top: f64) -> f64 {
        let rows: Vec<(usize, &Difference)> = DRAWN
            .iter()
            .flat_map(|measure| self.series.iter().enumerate().map(move |(position, series)| (*measure, position, series)))
            .filter_map(|(measure, position, series)| Some((position, series.differences.iter().find(|d| d.measure == measure)?)))
            .collect();
        if rows.is_empty() {
            return top;
        }
        let widest = rows.iter().map(|(_, d)| d.low.abs().max(d.high.abs())).fold(0.0, f64::max).max(0.01);
        let x = |value: f64| LABELS + (WIDTH - MARGIN - LABELS) * (0.5 + value / widest / 2.1);
        let top = top + 44.0;
        text(body, MARGIN, top, "font-weight=\"600\"", "Differences, with 95 % intervals (filled: more than chance)");
        let bottom = top + 16.0 + ROW * rows.len() as f64;
        for value in [-widest, 0.0, widest] {
            let stroke = if value == 0.0 { "#555" } else { "#ddd" };
            let _ = write!(body, r#"<line x1="{0:.1}" x2="{0:.1}" y1="{1}" y2="{bottom}" stroke="{stroke}"/>"#, x(value), top + 12.0);
            text(body, x(value), bottom + 16.0, "text-anchor=\"middle\" fill=\"#777\" font-size=\"11\"", &format!("{value:+.3}"));
        }
        for (number, (position, d)) in rows.iter().enumerate() {
            let (y, colour) = (top + 24.0 + ROW * number as f64, colour(*position));
            let fill = if d.low > 0.0 || d.high < 0.0 { colour } else { "#fff" };
            text(body, MARGIN, y + 4.0, "", &format!("{}  {}", d.measure, shortened(&self.series[*position].name)));
            let _ = write!(
                body,
                r#"<g stroke="{colour}" stroke-width="2"><title>{}: {} {:+.4} [{:+.4}, {:+.4}]</title><line x1="{:.1}" x2="{:.1}" y1="{y}" y2="{y}"/><circle cx="{:.1}" cy="{y}" r="5" fill="{fill}"/></g>"#,
                escaped(&self.series[*position].name),
                d.measure,
                d.mean,
                d.low,
                d.high,
                x(d.low),
                x(d.high),
                x(d.mean)
            );
        }
        bottom + 20.0
    }
}

fn colour(position: usize) -> &'static str {
    COLOURS[position % COLOURS.len()]
}

fn text(body: &mut String, x: f64, y: f64, attributes: &str, text: &str) {
    let _ = write!(body, r#"<text x="{x:.1}" y="{y:.1}" {attributes}>{}</text>"#, escaped(text));
}

fn shortened(name: &str) -> String {
    match name.char_indices().nth(MAX_LABEL_CHARS) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// Text as XML takes it. What XML cannot hold at all is left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_their_values() {
        let series = |name: &str, ndcg_at_10, differences| Series {
            name: name.to_owned(),
            note: "now".to_owned(),
            scores: Scores { ndcg_at_10, ..Scores::default() },
            stages: vec![("dense", 0.25)],
            differences,
        };
        let gain = Difference { measure: "nDCG@10", mean: 0.25, low: 0.1, high: 0.4 };
        let title = "jobs".to_owned();
        let svg = Picture { title, series: vec![series("a<b>&\"c\"", 0.5, vec![]), series("other", 0.75, vec![gain])] }.svg();
        assert!(svg.contains("a&lt;b&gt;&amp;&quot;c&quot;: nDCG@10 0.5000") && !svg.contains("<b>"), "{svg}");
        for height in [0.5 * BARS, 0.75 * BARS, 0.25 * BARS] {
            assert!(svg.contains(&format!("height=\"{height:.1}\"")), "{height}: {svg}");
        }
        assert!(svg.contains("other: nDCG@10 +0.2500 [+0.1000, +0.4000]"), "{svg}");
        // The interval lies right of 0, the point in its middle, filled.
        let of = |attribute: &str| svg.rsplit(attribute).next().unwrap().split('"').next().unwrap().parse::<f64>().unwrap();
        let group = svg.rsplit("<g ").next().unwrap();
        assert!(group.contains("fill=\"#e69f00\""), "{group}");
        assert!((of("cx=\"") - (of("x1=\"") + of("x2=\"")) / 2.0).abs() < 0.11, "{group}");
    }

    #[test]
    fn nothing_to_compare_is_not_drawn() {
        let svg = Picture { title: "x".into(), series: vec![Series { name: "\u{1}y\u{ffff}".into(), ..Series::default() }] }.svg();
        assert!(!svg.contains("Differences") && !svg.contains("stage by stage") && svg.contains(">y   <"), "{svg}");
    }
}
