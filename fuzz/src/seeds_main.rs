//! `seeds <place>`: writes the seeds of every target to `<place>/<target>/`, and the dictionary to `<place>/words`.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let place = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "seeds".into()));
    for (target, _) in fuzz::TARGETS {
        std::fs::create_dir_all(place.join(target))?;
        for (number, seed) in fuzz::seeds(target).iter().enumerate() {
            std::fs::write(place.join(target).join(format!("seed-{number}")), seed)?;
        }
    }
    std::fs::write(place.join("words"), fuzz::dictionary())
}
