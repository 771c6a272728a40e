//! `windlass-lab-prepare [control-plane|venv|venv-2.10|moto]...`: makes what is named, or all, and prints where it is.

use anyhow::{Result, bail};
use windlass_lab_prepare::{Series, control_plane_binary, moto, venv};

fn main() -> Result<()> {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let all = ["control-plane", "venv", "venv-2.10", "moto"].map(str::to_owned);
    for product in if named.is_empty() { &all[..] } else { &named } {
        let path = match product.as_str() {
            "control-plane" => control_plane_binary()?,
            "venv" => venv(Series::V2_11)?.root().to_owned(),
            "venv-2.10" => venv(Series::V2_10)?.root().to_owned(),
            "moto" => moto()?.root().to_owned(),
            other => bail!("`{other}` is none of {}", all.join(", ")),
        };
        println!("{product} {}", path.display());
    }
    Ok(())
}
