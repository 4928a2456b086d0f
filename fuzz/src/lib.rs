//! What strangers reach, driven with hostile input: in inbound, at the data gateway, at the console, and what receivers
//! answer.
//!
//! Each target is a function of bytes that fails when something that must always hold does not. `fuzz_targets/` gives
//! them to libFuzzer (`cargo xtask test --only fuzz`, or `cargo fuzz run -s none --features libfuzzer <target>`); the
//! tests here run them over their seeds, and over every input that has ever failed (`regressions/<target>/`).

mod addressing;
mod baking;
mod believing;
mod certified;
mod contracting;
mod converting;
mod filling;
mod filtering;
mod forwarding;
mod gateway_seed;
mod handshaking;
mod input;
mod judging;
mod naming;
mod replying;
mod seed;
mod spent;
mod tampering;
mod templating;
mod typing;
mod vectors;
mod verifying;

pub use self::addressing::urls;
pub use self::baking::cookies;
pub use self::believing::tokens;
pub use self::certified::certificates;
pub use self::contracting::contracts;
pub use self::converting::bodies;
pub use self::filling::forms;
pub use self::filtering::filters;
pub use self::forwarding::forwarded;
pub use self::handshaking::handshakes;
pub use self::judging::queries;
pub use self::naming::{hostnames, rights};
pub use self::replying::replies;
pub use self::seed::{dictionary, seeds};
pub use self::spent::linear;
pub use self::tampering::tamper;
pub use self::templating::templates;
pub use self::typing::events;
pub use self::verifying::verify;

/// A name, and what runs one input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 19] = [
    ("verify", verify),
    ("tamper", tamper),
    ("handshakes", handshakes),
    ("certificates", certificates),
    ("events", events),
    ("bodies", bodies),
    ("linear", linear),
    ("templates", templates),
    ("contracts", contracts),
    ("queries", queries),
    ("hostnames", hostnames),
    ("rights", rights),
    ("urls", urls),
    ("filters", filters),
    ("tokens", tokens),
    ("cookies", cookies),
    ("forms", forms),
    ("forwarded", forwarded),
    ("replies", replies),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_seed_holds() {
        for (name, run) in TARGETS {
            let seeds = seeds(name);
            assert!(!seeds.is_empty(), "{name} has no seeds");
            seeds.iter().for_each(|seed| run(seed));
        }
    }

    #[test]
    fn what_has_failed_once_holds_now() {
        for (name, run) in TARGETS {
            let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(name);
            let Ok(inputs) = std::fs::read_dir(place) else { continue };
            inputs.for_each(|input| run(&std::fs::read(input.expect("listed").path()).expect("readable")));
        }
    }
}
