//! The table at a glance: how many times the faster peer, a bar a row, on a logarithmic scale; marks where the floor and the limit are.

use super::verdict::Verdict;
use std::fmt::Write;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 200.0;
const RIGHT: f64 = 60.0;
const LINE: f64 = 24.0;
const TOP: f64 = 46.0;
/// What the axis begins and ends with.
const SCALE: (f64, f64) = (0.5, 40.0);
const GRID: [f64; 7] = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0];

fn x(ratio: f64) -> f64 {
    let (from, to) = SCALE;
    let share = (ratio.clamp(from, to) / from).ln() / (to / from).ln();
    LEFT + share * (WIDTH - LEFT - RIGHT)
}

/// The picture.
pub(super) fn svg(verdicts: &[Verdict]) -> String {
    let shown: Vec<(&Verdict, f64, f64)> = verdicts
        .iter()
        .filter_map(|v| Some((v, v.ratio()?, v.peer?.0)))
        .collect();
    let height = TOP + LINE * shown.len() as f64 + 20.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"18\" font-size=\"14\">Cairn, which syncs before it answers: times the faster of SeaweedFS and Garage, which do not</text>\n"
    );
    for line in GRID {
        let (at, ends) = (x(line), height - 16.0);
        let _infallible = writeln!(
            out,
            "<line x1=\"{at:.1}\" y1=\"{}\" x2=\"{at:.1}\" y2=\"{ends}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#666\">{line}</text>",
            TOP - 8.0,
            TOP - 12.0
        );
    }
    for (n, (v, ratio, peer)) in shown.iter().enumerate() {
        let y = TOP + LINE * n as f64;
        let from = x(1.0).min(x(*ratio));
        let color = if v.holds() { "#2b6cb0" } else { "#c05621" };
        let _infallible = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text><rect x=\"{from:.1}\" y=\"{}\" width=\"{:.1}\" height=\"14\" fill=\"{color}\"/>\
             <text x=\"{:.1}\" y=\"{}\">{ratio:.1}</text>",
            LEFT - 10.0,
            y + 13.0,
            v.row.what,
            y + 2.0,
            (x(*ratio) - x(1.0)).abs().max(1.0),
            x(*ratio).max(x(1.0)) + 6.0,
            y + 13.0
        );
        for (of, color) in [(v.floor.map(|f| f.ops), "#000"), (v.limit.or(v.files), "#a00")] {
            if let Some(at) = of.map(|ops| x(ops / peer)) {
                let _infallible = writeln!(
                    out,
                    "<line x1=\"{at:.1}\" y1=\"{}\" x2=\"{at:.1}\" y2=\"{}\" stroke=\"{color}\" stroke-width=\"2\"/>",
                    y,
                    y + 18.0
                );
            }
        }
    }
    let _infallible = writeln!(
        out,
        "<text x=\"10\" y=\"{:.1}\" fill=\"#666\">black: the floor; red: the limit server, or nginx; orange: the floor is missed</text>\n</svg>",
        height - 4.0
    );
    out
}
