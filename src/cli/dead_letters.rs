//! `kappa dead-letters`

/// List, show and requeue events that could not be processed
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to do with them.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done with dead letters.
#[derive(Clone, Debug, clap::Subcommand)]
#[expect(missing_docs, reason = "a doc here would replace the help that stands at the arguments")]
pub enum Command {
    List(ListArgs),
    Show(ShowArgs),
    Requeue(RequeueArgs),
}

/// List dead letters, the newest first
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa dead-letters list
  kappa dead-letters list --reason 'not JSON' --json")]
pub struct ListArgs {
    /// Only those whose reason contains this text
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u64,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Show one dead letter whole, its payload included
#[derive(Clone, Debug, clap::Args)]
pub struct ShowArgs {
    /// The dead letter's id, as `list` shows it
    #[arg(value_name = "ID")]
    pub id: String,
    /// One JSON object, the payload in base64
    #[arg(long)]
    pub json: bool,
}

/// Publish dead letters again, once what refused them is mended
///
/// Payload, attributes and ordering key go to the log again with the attribute
/// `kappa-requeued-from`, and the dead letter is marked. One that is marked is not requeued again
/// unless it is named by its id.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa dead-letters requeue --reason 'total_amount'
  kappa dead-letters requeue --id 7f3a --id 91bc")]
pub struct RequeueArgs {
    /// Only those whose reason contains this text
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Only this one; may be given again
    #[arg(long, value_name = "ID")]
    pub id: Vec<String>,
}
