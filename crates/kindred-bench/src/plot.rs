//! Results as SVG plots; the only file that names `plotters`.

use anyhow::{Result, ensure};
use plotters::prelude::*;

use crate::report::Report;

const SIZE: (u32, u32) = (800, 500);

/// Recall against queries a second: the text of an SVG file.
///
/// # Errors
/// What the crate says.
pub(super) fn svg(report: &Report) -> Result<String> {
    let points: Vec<(f64, f64)> = report.rows.iter().map(|row| (row.recall, row.qps)).collect();
    let (slowest, fastest) = range(points.iter().map(|point| point.1));
    // From the tenth below the worst recall: the interesting part lies close to 1.
    let lowest = (range(points.iter().map(|point| point.0)).0 * 10.0 - 1e-9).floor().clamp(0.0, 9.0) / 10.0;
    let caption = format!(
        "{}: {} × {}, k {}, {} thread(s), M {}, ef_construction {}",
        report.base, report.n_rows, report.dims, report.k, report.threads, report.params.max_connections, report.params.ef_construction
    );
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(caption, ("sans-serif", 16))
            .margin(16)
            .margin_right(48)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(lowest..1.0, (slowest / 1.5..fastest * 1.5).log_scale())?;
        chart
            .configure_mesh()
            .max_light_lines(0)
            .x_desc(format!("recall@{}", report.k))
            .y_desc("queries per second")
            .x_label_formatter(&|recall| format!("{recall:.2}"))
            .y_label_formatter(&|qps| format!("{qps:.0}"))
            .draw()?;
        chart.draw_series(LineSeries::new(points.iter().copied(), &BLUE))?;
        chart.draw_series(points.iter().zip(&report.rows).map(|(point, row)| {
            EmptyElement::at(*point)
                + Circle::new((0, 0), 3, BLUE.filled())
                + Text::new(row.ef_search.to_string(), (6, -12), ("sans-serif", 11))
        }))?;
        area.present()?;
    }
    Ok(text)
}

/// A plot of lines over logarithmic axes.
#[derive(Debug)]
pub(super) struct Lines {
    pub caption: String,
    pub x: &'static str,
    pub y: &'static str,
    pub lines: Vec<Line>,
}

/// Points that belong together.
#[derive(Debug)]
pub(super) struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// The text of an SVG file.
///
/// # Errors
/// What the crate says.
pub(super) fn lines(plot: &Lines) -> Result<String> {
    // What cannot be drawn over logarithms is not there: a rate at which nothing was answered has no latency.
    let drawn = |line: &Line| line.points.iter().copied().filter(|(x, y)| *x > 0.0 && *y > 0.0).collect::<Vec<_>>();
    let points: Vec<(f64, f64)> = plot.lines.iter().flat_map(drawn).collect();
    ensure!(!points.is_empty(), "nothing was measured that could be plotted: measure the open or the closed loop");
    let (left, right) = range(points.iter().map(|point| point.0));
    let (low, high) = range(points.iter().map(|point| point.1));
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(&plot.caption, ("sans-serif", 16))
            .margin(16)
            .margin_right(48)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d((left / 1.2..right * 1.2).log_scale(), (low / 1.5..high * 1.5).log_scale())?;
        chart.configure_mesh().max_light_lines(0).x_desc(plot.x).y_desc(plot.y).draw()?;
        for (i, line) in plot.lines.iter().enumerate() {
            let colour = Palette99::pick(i).to_rgba();
            let points = drawn(line);
            chart
                .draw_series(LineSeries::new(points.iter().copied(), &colour))?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
        }
        chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).border_style(BLACK.mix(0.3)).draw()?;
        area.present()?;
    }
    Ok(text)
}

fn range(numbers: impl Iterator<Item = f64>) -> (f64, f64) {
    numbers.fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)))
}
