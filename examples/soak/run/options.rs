//! The command line.

use super::sabotage;
use ringmain::Backing;
use std::time::Duration;

pub(crate) const USAGE: &str =
    "usage: soak [--seconds N] [--seed S] [--renderers K] [--backing sealed|named] [--patience SECONDS]";

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) seconds: u64,
    pub(crate) seed: u64,
    pub(crate) renderers: usize,
    pub(crate) backing: Backing,
    /// No wait is longer, be the machine as busy as it may: what takes longer hangs.
    pub(crate) patience: Duration,
    /// Not in the usage: for the tests of this program.
    pub(crate) sabotage: Option<sabotage::Kind>,
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            seconds: 30,
            seed: 1,
            renderers: 6,
            backing: Backing::Sealed,
            patience: Duration::from_secs(60),
            sabotage: None,
        };
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value; {USAGE}"))?;
            let number = || value.parse::<u64>().map_err(|error| format!("{name} {value}: {error}; {USAGE}"));
            match name.as_str() {
                "--seconds" => options.seconds = number()?.max(1),
                "--seed" => options.seed = number()?,
                "--renderers" => options.renderers = number()?.clamp(2, 1000) as usize,
                "--patience" => options.patience = Duration::from_secs(number()?.max(1)),
                "--backing" => {
                    options.backing = match value.as_str() {
                        "sealed" => Backing::Sealed,
                        "named" => Backing::Named,
                        _ => return Err(format!("--backing {value}: known are sealed and named; {USAGE}")),
                    }
                }
                "--sabotage" => {
                    let kind = sabotage::Kind::parse(value);
                    let known = || format!("--sabotage {value}: known are {}", sabotage::Kind::words().join(", "));
                    options.sabotage = Some(kind.ok_or_else(known)?);
                }
                _ => return Err(format!("{name} is not understood; {USAGE}")),
            }
        }
        Ok(options)
    }

    /// What repeats the run, as far as scheduling allows.
    pub(crate) fn again(&self) -> String {
        let backing = if self.backing == Backing::Named { "named" } else { "sealed" };
        let Self { seconds, seed, renderers, .. } = self;
        format!("--seconds {seconds} --seed {seed} --renderers {renderers} --backing {backing}")
    }
}
