//! The feed as a whole: made with the application, started with the server, ended before it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Handle;

use super::{FeedStates, KafkaSettings};
use crate::pipeline::WritePipeline;
use kindred_core::error::ErrorKind;

/// Why the feed cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    #[error("kafka.brokers is set, but {}; or leave it empty", crate::optional::KAFKA.missing())]
    NotBuilt,
    #[error("the Kafka client cannot be made: {0}")]
    Client(String),
    #[error("cannot start the thread of a Kafka feed")]
    Thread(#[source] std::io::Error),
}

impl FeedError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotBuilt | Self::Client(_) => ErrorKind::Invalid,
            Self::Thread(_) => ErrorKind::Unavailable,
        }
    }
}

/// The feed of all configured topics, not started yet.
#[derive(Debug)]
pub struct Feed {
    settings: KafkaSettings,
    #[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "the file belongs to the feed"))]
    dead_letter_file: PathBuf,
    #[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "there is nothing to write"))]
    write: Arc<WritePipeline>,
    states: FeedStates,
}

impl Feed {
    /// A dead-letter file without a folder of its own lies in the data folder.
    pub fn new(settings: &KafkaSettings, data_dir: &Path, write: Arc<WritePipeline>) -> Self {
        let feeds = settings.feeds().filter(|_| settings.is_on());
        let states = FeedStates::new(feeds, settings.ready_when_caught_up);
        Self { settings: settings.clone(), dead_letter_file: data_dir.join(&settings.dead_letter_file), write, states }
    }

    /// How the feeds are doing, now and later.
    pub fn states(&self) -> FeedStates {
        self.states.clone()
    }

    /// Starts one thread a topic; brokers need not be there. Without brokers in the settings there is nothing to start.
    ///
    /// # Errors
    /// [`FeedError`] when the settings cannot be used, or not with this build.
    pub fn start(self, runtime: &Handle) -> Result<RunningFeed, FeedError> {
        if self.settings.is_on() { self.start_threads(runtime) } else { Ok(RunningFeed::default()) }
    }

    #[cfg(not(feature = "kafka"))]
    fn start_threads(self, _: &Handle) -> Result<RunningFeed, FeedError> {
        Err(FeedError::NotBuilt)
    }

    #[cfg(feature = "kafka")]
    fn start_threads(self, runtime: &Handle) -> Result<RunningFeed, FeedError> {
        use super::consumer::Consumer;
        use super::dead_letters::DeadLetters;
        use super::one_state::OneState;
        use super::producer::Producer;
        use super::worker::Worker;

        self.settings.check_files().map_err(FeedError::Client)?;
        let topic = &self.settings.dead_letter_topic;
        let dead_letters = Arc::new(match topic.trim() {
            "" => DeadLetters::to_file(self.dead_letter_file),
            topic => DeadLetters::Topic { topic: topic.to_owned(), producer: Producer::new(&self.settings).map_err(FeedError::Client)? },
        });
        // All clients before any thread: what is wrong with the settings is an error of the start.
        let mut workers = Vec::new();
        let mut running = RunningFeed::default();
        for (collection, topic) in self.settings.feeds() {
            let state = OneState::of(&self.states, collection, topic);
            workers.push(Worker {
                collection: collection.clone(),
                topic: topic.to_owned(),
                settings: self.settings.clone(),
                consumer: Consumer::new(&self.settings, topic, state.clone()).map_err(FeedError::Client)?,
                write: Arc::clone(&self.write),
                runtime: runtime.clone(),
                dead_letters: Arc::clone(&dead_letters),
                state,
                stop: running.stop.clone(),
                cancel: running.cancel.clone(),
            });
        }
        for worker in workers {
            let name = format!("kafka-{}", worker.collection);
            let thread = std::thread::Builder::new().name(name).spawn(move || worker.run()).map_err(FeedError::Thread)?;
            running.threads.push(thread);
        }
        Ok(running)
    }
}

/// A feed at work. Dropping it leaves it at work; [`RunningFeed::end`] ends it.
#[derive(Debug, Default)]
pub struct RunningFeed {
    #[cfg(feature = "kafka")]
    stop: super::stop::Stop,
    #[cfg(feature = "kafka")]
    cancel: kindred_core::Cancel,
    #[cfg(feature = "kafka")]
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl RunningFeed {
    /// Ends it: no more records are read, those under way are written, the group is told. A batch that takes longer than some seconds is
    /// broken off, and read again at the next start.
    #[cfg(feature = "kafka")]
    pub fn end(self) {
        const GRACE: std::time::Duration = std::time::Duration::from_secs(5);
        self.stop.stop();
        let begun = std::time::Instant::now();
        for thread in self.threads {
            while !thread.is_finished() {
                if begun.elapsed() > GRACE {
                    self.cancel.cancel();
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            if thread.join().is_err() {
                tracing::error!("a Kafka feed ended by a bug; the log says where");
            }
        }
    }

    /// There is none.
    #[cfg(not(feature = "kafka"))]
    pub fn end(self) {}
}
