//! A cycle: the server works, is killed, is started again, and is checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::counted::Report;
use super::counters::Counters;
use super::document::{self, COLLECTION};
use super::fault::Fault;
use super::plan::Plan;
use super::shared::{Phase, Shared, Trouble};
use super::writer::Writer;
use super::{CrashArgs, check, operator};
use crate::client::Client;
use crate::measure::{quantile, sorted};
use crate::server::{Launch, NotReady, Server};
use kindred::config::Settings;
use kindred_core::domain::Choice;
use kindred_core::storage;

const WRITERS: usize = 3;
/// A server of so few documents that is not ready by then does not come.
const MAX_START: Duration = Duration::from_secs(60);

/// All that goes on from cycle to cycle.
pub(super) struct Run {
    launch: Launch,
    folder: PathBuf,
    dims: usize,
    has_snapshots: bool,
    choice: Choice,
    writers: Vec<Writer>,
    counters: Counters,
    /// How long things took when they were last seen to end.
    typical: BTreeMap<Phase, Duration>,
    restarts_ms: Vec<f64>,
    report: Report,
}

impl Run {
    /// Prepares a run in an empty folder.
    pub fn new(settings: &Settings, args: &CrashArgs, folder: &Path, seed: u64) -> Result<Self> {
        let mut settings = settings.clone();
        settings.storage.data_dir = folder.join("data");
        // Some cycles write enough for the server to rebuild on its own.
        settings.storage.rebuild_after_changes = 600;
        settings.storage.rotate_log_bytes = args.rotate_log_bytes;
        settings.encoder.threads = 1;
        let launch = Launch::new(args.binary.as_deref(), &settings, folder)?;
        let report = Report { seed, ..Report::default() };
        let choice = Choice::new("crash", seed);
        let folder = folder.to_owned();
        let (writers, counters) = (Vec::new(), Counters::default());
        Ok(Self {
            launch,
            folder,
            dims: 0,
            has_snapshots: false,
            choice,
            writers,
            counters,
            typical: BTreeMap::new(),
            restarts_ms: Vec::new(),
            report,
        })
    }

    /// Cycles so far.
    pub fn cycles(&self) -> u64 {
        self.report.cycles
    }

    /// Starts the first server and gives it its first documents.
    pub fn first_start(&mut self) -> Result<Option<Server>> {
        let (server, took) = self.launch.start(MAX_START)?;
        self.typical.insert(Phase::Starting, took);
        let client = Client::new(server.root());
        let info = client.get("/v1/info")?.ok()?;
        self.dims = info["model"]["dims"].as_u64().context("/v1/info does not tell the model's dimensions")? as usize;
        // A server of before snapshots can be killed, too.
        self.has_snapshots = client.get("/openapi.json")?.ok()?["paths"].get("/v1/snapshots").is_some();
        self.writers = (0..WRITERS).map(|number| Writer::new(number, self.dims, self.report.seed)).collect();
        client.put(&document::path(""), &document::definition().to_string())?.ok()?;
        let counters = serde_json::Value::Array(Counters::items(self.dims)).to_string();
        client.put(&document::path("/documents"), &counters)?.ok()?;
        let shared = Shared::default();
        for writer in &mut self.writers {
            if let Err(trouble) = writer.fill(&client, &shared) {
                shared.report("the first documents", trouble);
            }
        }
        self.take(&shared);
        Ok(self.report.is_clean().then_some(server))
    }

    /// Lets a server work, kills it, starts it again and checks it. Returns it, unless something is wrong.
    pub fn cycle(&mut self, mut server: Server) -> Result<Option<Server>> {
        self.report.cycles += 1;
        let plan = Plan::draw(&mut self.choice, self.has_snapshots);
        self.work_until_killed(&mut server, &plan)?;
        if let Some(percent) = plan.kills_start.filter(|_| self.report.is_clean()) {
            let mut starting = self.launch.spawn()?;
            std::thread::sleep(self.typical[&Phase::Starting].mul_f64(percent as f64 / 100.0));
            starting.kill()?;
            *self.report.kills.entry(Phase::Starting).or_default() += 1;
        }
        if !self.report.is_clean() {
            return Ok(None);
        }
        self.keep_image()?;
        let (server, took) = match self.launch.start(MAX_START) {
            Ok(started) => started,
            Err(e) if e.is::<NotReady>() => {
                self.report.add(vec![Fault::RefusedOpen { what: e.to_string() }]);
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        self.typical.insert(Phase::Starting, took);
        self.restarts_ms.push(took.as_secs_f64() * 1e3);
        self.check(&server);
        Ok(self.report.is_clean().then_some(server))
    }

    fn work_until_killed(&mut self, server: &mut Server, plan: &Plan) -> Result<()> {
        let shared = Shared::default();
        let (collection, snapshots) = (self.folder.join("data").join(COLLECTION), self.folder.join("snapshots"));
        let root = server.root().to_owned();
        let client = || Client::new(&root);
        let Self { writers, counters, typical, .. } = self;
        let killed = std::thread::scope(|scope| -> Result<Option<Phase>> {
            for writer in writers.iter_mut().filter(|_| plan.writes) {
                scope.spawn(|| writer.run(&client(), counters, &shared));
            }
            scope.spawn(|| operator::run(&client(), plan.duty, &snapshots, &shared));
            if plan.rebuilds_beside {
                scope.spawn(|| operator::rebuild_beside(&client(), &shared));
            }
            let phase = plan.wait(server, &shared, &collection, typical);
            let has_ended = server.has_ended();
            shared.kill();
            server.kill()?;
            Ok((!has_ended).then_some(phase))
        })?;
        self.take(&shared);
        self.typical.extend(shared.took());
        match killed {
            Some(phase) => *self.report.kills.entry(phase).or_default() += 1,
            None => self.report.add(vec![Fault::WrongAnswer { what: format!("the server ended on its own. It said:\n{}", server.said()) }]),
        }
        // What a killed server left of its snapshots is of no use to anyone.
        storage::remove_dir(&snapshots)?;
        Ok(())
    }

    /// Keeps the data as the killed server left them: the next start may change them, and if that goes wrong this is the evidence.
    fn keep_image(&self) -> Result<()> {
        let image = self.folder.join("before-restart");
        storage::remove_dir(&image)?;
        copy(&self.folder.join("data"), &image).with_context(|| format!("cannot copy the data to {}", image.display()))
    }

    fn check(&mut self, server: &Server) {
        let client = Client::new(server.root());
        match check::everything(&client, &mut self.writers, &self.counters, self.dims, &mut self.choice) {
            Ok(checked) => {
                self.report.add(checked.faults);
                self.report.unanswered_kept += checked.n_kept;
                self.report.unanswered_dropped += checked.n_dropped;
            }
            Err(Trouble::Fault(fault)) => self.report.add(vec![fault]),
            Err(Trouble::NoAnswer(e)) => {
                self.report.add(vec![Fault::WrongAnswer { what: format!("after a restart: {e:#}\n{}", server.said()) }])
            }
        }
    }

    fn take(&mut self, shared: &Shared) {
        let Report { acknowledged_writes, rebuilds, activations, snapshots, .. } = &mut self.report;
        *acknowledged_writes += shared.n_acknowledged.load(Ordering::Relaxed);
        *rebuilds += shared.n_rebuilds.load(Ordering::Relaxed);
        *activations += shared.n_activations.load(Ordering::Relaxed);
        *snapshots += shared.n_snapshots.load(Ordering::Relaxed);
        self.report.add(shared.take_faults());
    }

    /// What it came to.
    pub fn end(mut self, started: Instant) -> Report {
        let restarts = sorted(std::mem::take(&mut self.restarts_ms));
        if let Some(max) = restarts.last() {
            (self.report.restart_ms_p50, self.report.restart_ms_max) = (quantile(&restarts, 0.5), *max);
        }
        self.report.elapsed_s = started.elapsed().as_secs_f64();
        self.report
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
