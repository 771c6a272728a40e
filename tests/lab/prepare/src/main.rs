//! `windlass-lab-prepare [control-plane|venv]...`: makes what is named, or all, and prints where it is.

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let all = ["control-plane".to_owned(), "venv".to_owned()];
    for product in if named.is_empty() { &all[..] } else { &named } {
        let path = match product.as_str() {
            "control-plane" => windlass_lab_prepare::control_plane_binary()?,
            "venv" => windlass_lab_prepare::venv()?.root().to_owned(),
            other => bail!("`{other}` is neither control-plane nor venv"),
        };
        println!("{product} {}", path.display());
    }
    Ok(())
}
