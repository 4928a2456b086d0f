//! Debian's packages, for what is missing on the machine.

use std::process::{Command, Stdio};

use anyhow::Result;

use crate::run::checked;

/// # Errors
/// apt-get is not there or may not: the text says what to install.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let ask = format!("install the Debian packages {} and try again", packages.join(" "));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).stdin(Stdio::null()).env("DEBIAN_FRONTEND", "noninteractive");
        checked(&mut command, &ask)
    };
    apt(&["update", "-q"])?;
    let arguments = [&["install", "-q", "-y", "--no-install-recommends"], packages].concat();
    apt(&arguments)
}

/// Whether there is such a program.
pub(crate) fn starts(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
