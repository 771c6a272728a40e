//! `windlass config`: every effective value and its source.

use serde_json::json;

use crate::cli::Form;
use crate::config::Config;
use crate::config::fault::Fault;

/// The values, the notes, and with JSON the faults (with text they are the error that follows).
pub fn values(config: Option<&Config>, faults: &[Fault], form: Form) -> String {
    let effective = config.map_or(&[][..], |config| &config.effective);
    let notes = config.map_or(&[][..], |config| &config.notes);
    match form {
        Form::Json => {
            let faults: Vec<_> = faults
                .iter()
                .map(|f| json!({"place": f.place, "what": f.what, "remedy": f.remedy}))
                .collect();
            let document = json!({"values": effective, "notes": notes, "faults": faults});
            format!("{document:#}\n")
        }
        Form::Text => {
            let mut rows = vec![["SETTING", "VALUE", "SOURCE"].map(str::to_owned)];
            for value in effective {
                let set =
                    value.source != "default" && value.value != value.default && !value.default.is_empty();
                let default = if set { format!(" (default {})", value.default) } else { String::new() };
                rows.push([value.name.clone(), one_line(&value.value), format!("{}{default}", value.source)]);
            }
            let notes: String = notes.iter().map(|note| format!("note: {note}\n")).collect();
            let gap = if notes.is_empty() || effective.is_empty() { "" } else { "\n" };
            format!("{}{gap}{notes}", table(&rows))
        }
    }
}

fn one_line(value: &str) -> String {
    if value.is_empty() { "-".to_owned() } else { value.replace('\n', "\\n") }
}

/// Columns as wide as their widest cell, the last one unpadded.
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    /// A single long value must not push the next column out of sight.
    const WIDEST: usize = 64;
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.filter(|w| *w <= WIDEST).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let cell = format!("{cell:<width$}  ");
            line.push_str(&cell);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
