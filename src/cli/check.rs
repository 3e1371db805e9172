//! `kappa check`

/// Validate the configuration and print what would run
///
/// Starts nothing and creates nothing. All mistakes are told at once, each with its place and a
/// way out; the exit code is then 2.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa check --config prod.toml
  kappa check --set processors.orders.columns.currency.default=EUR")]
pub struct Args {
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}
