//! The encoder's threads: each owns one copy of the model and takes batches from the queue.
//!
//! *Concurrency*: a call sends its batches and receives one answer per batch, in any order. A batch whose thread panics answers with
//! the dropped sender, so no caller waits for ever; the thread goes on with the next batch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::EncoderError;
use super::batcher::Row;
use super::queue::{Queue, Refused};
use crate::domain::Embedding;

/// Runs one batch; a session, or a stand-in for it in tests.
pub type EncodeBatch = Box<dyn FnMut(&[Row]) -> Result<Vec<Embedding>, EncoderError> + Send>;

/// A batch on its way to a thread.
pub struct Job {
    rows: Vec<Row>,
    answer: UnboundedSender<Answer>,
}

/// A batch that has been through the model.
struct Answer {
    started: Instant,
    embeddings: Result<Vec<(usize, Embedding)>, EncoderError>,
}

/// The threads and their queue; dropping it ends them.
pub struct Workers {
    queue: Arc<Queue<Job>>,
    threads: Vec<JoinHandle<()>>,
    max_queue: usize,
}

impl Workers {
    /// Starts one thread per model.
    ///
    /// # Errors
    /// [`EncoderError::Thread`] when the operating system gives none.
    pub fn start(models: Vec<EncodeBatch>, max_queue: usize) -> Result<Self, EncoderError> {
        // In bulk, one batch in hand and one waiting keeps a thread busy; more would only hold memory.
        let queue = Arc::new(Queue::new(max_queue, models.len()));
        let mut workers = Self { queue, threads: Vec::new(), max_queue };
        for (i, model) in models.into_iter().enumerate() {
            let queue = Arc::clone(&workers.queue);
            let thread = thread::Builder::new().name(format!("encoder-{i}")).spawn(move || work(&queue, model));
            workers.threads.push(thread.map_err(|source| EncoderError::Thread { source })?);
        }
        Ok(workers)
    }

    /// Sends a call's batches if there is room for all of them.
    ///
    /// # Errors
    /// [`EncoderError::Overloaded`], or [`EncoderError::Stopped`].
    pub fn submit_online(&self, batches: Vec<Vec<Row>>) -> Result<Call, EncoderError> {
        let (answer, call) = Call::new(batches.iter().map(Vec::len).sum());
        let job = |rows: Vec<Row>| (rows.len(), Job { rows, answer: answer.clone() });
        self.queue.push_online(batches.into_iter().map(job).collect()).map_err(|refused| self.refused(refused))?;
        Ok(call)
    }

    /// Sends a call's batches one after the other, waiting for room.
    ///
    /// # Errors
    /// [`EncoderError::Stopped`].
    pub fn submit_bulk(&self, batches: Vec<Vec<Row>>) -> Result<Call, EncoderError> {
        let (answer, call) = Call::new(batches.iter().map(Vec::len).sum());
        for rows in batches {
            self.queue.push_bulk(Job { rows, answer: answer.clone() }).map_err(|refused| self.refused(refused))?;
        }
        Ok(call)
    }

    fn refused(&self, refused: Refused) -> EncoderError {
        match refused {
            Refused::Full { waiting } => EncoderError::Overloaded { waiting, max_queue: self.max_queue },
            Refused::Closed => EncoderError::Stopped,
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.queue.close();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// What one thread does until the queue is closed.
fn work(queue: &Queue<Job>, mut model: EncodeBatch) {
    while let Some(Job { rows, answer }) = queue.pop() {
        // Nobody waits for a call that was given up.
        if answer.is_closed() {
            continue;
        }
        let started = Instant::now();
        let Ok(embeddings) = catch_unwind(AssertUnwindSafe(|| model(&rows))) else {
            tracing::error!(n_texts = rows.len(), "the model panicked; the call it was working on has failed");
            continue;
        };
        let positions = rows.iter().map(|row| row.position);
        let embeddings = embeddings.map(|embeddings| positions.zip(embeddings).collect());
        let _ = answer.send(Answer { started, embeddings });
    }
}

/// A call that waits for its answers.
pub struct Call {
    answers: UnboundedReceiver<Answer>,
    embeddings: Vec<Option<Embedding>>,
    first_started: Option<Instant>,
}

/// What a call's batches came to.
pub struct Finished {
    /// In the order of the call's texts.
    pub embeddings: Vec<Embedding>,
    /// When the first batch reached a thread.
    pub first_started: Option<Instant>,
}

impl Call {
    fn new(n_texts: usize) -> (UnboundedSender<Answer>, Self) {
        let (sender, answers) = unbounded_channel();
        (sender, Self { answers, embeddings: vec![None; n_texts], first_started: None })
    }

    /// Waits without holding a thread.
    ///
    /// # Errors
    /// That of the first batch that failed, or [`EncoderError::Stopped`].
    pub async fn finish(mut self) -> Result<Finished, EncoderError> {
        while let Some(answer) = self.answers.recv().await {
            self.accept(answer)?;
        }
        self.complete()
    }

    /// Waits on this thread.
    ///
    /// # Errors
    /// That of the first batch that failed, or [`EncoderError::Stopped`].
    pub fn finish_blocking(self) -> Result<Finished, EncoderError> {
        block_on(self.finish())
    }

    fn accept(&mut self, Answer { started, embeddings }: Answer) -> Result<(), EncoderError> {
        self.first_started = Some(self.first_started.map_or(started, |first| first.min(started)));
        for (position, embedding) in embeddings? {
            self.embeddings[position] = Some(embedding);
        }
        Ok(())
    }

    /// All senders are gone: either every text has its embedding, or a thread gave up.
    fn complete(self) -> Result<Finished, EncoderError> {
        let embeddings = self.embeddings.into_iter().collect::<Option<Vec<_>>>().ok_or(EncoderError::Stopped)?;
        Ok(Finished { embeddings, first_started: self.first_started })
    }
}

/// Waits for a future on this thread. The channel's own blocking receive panics on a thread of an async runtime; this only holds it up.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Encodes token `n` as the direction `[1, n]` and panics at token 13.
    fn model() -> EncodeBatch {
        Box::new(|rows| {
            let encode = |row: &Row| match row.tokens[0] {
                13 => panic!("a bad day"),
                n => Embedding::new(vec![1.0, n as f32], 2).map_err(|e| EncoderError::Run { source: e.into() }),
            };
            rows.iter().map(encode).collect()
        })
    }

    fn batches(tokens: &[u32]) -> Vec<Vec<Row>> {
        tokens.iter().enumerate().map(|(position, &token)| vec![Row { position, tokens: vec![token] }]).collect()
    }

    #[test]
    fn a_panic_fails_its_call_and_no_other() {
        let workers = Workers::start(vec![model()], 10).unwrap();
        for _ in 0..3 {
            let failed = workers.submit_bulk(batches(&[1, 13, 2])).unwrap().finish_blocking();
            assert!(matches!(failed, Err(EncoderError::Stopped)));
        }
        let finished = workers.submit_bulk(batches(&[3, 4])).unwrap().finish_blocking().unwrap();
        assert_eq!(finished.embeddings[1], Embedding::new(vec![1.0, 4.0], 2).unwrap());
    }

    #[test]
    fn a_full_queue_is_an_answer() {
        let (go, gate) = mpsc::channel::<()>();
        let (entered, inside) = mpsc::channel();
        let mut encode = model();
        let gated: EncodeBatch = Box::new(move |rows| {
            entered.send(()).unwrap();
            gate.recv().unwrap();
            encode(rows)
        });
        let workers = Workers::start(vec![gated], 2).unwrap();
        let running = workers.submit_online(batches(&[1])).unwrap();
        inside.recv().unwrap();
        let waiting = workers.submit_online(batches(&[2, 3])).unwrap();
        let refused = workers.submit_online(batches(&[4]));
        assert!(matches!(refused, Err(EncoderError::Overloaded { waiting: 2, max_queue: 2 })));
        (0..3).for_each(|_| go.send(()).unwrap());
        assert_eq!(running.finish_blocking().unwrap().embeddings.len(), 1);
        assert_eq!(waiting.finish_blocking().unwrap().embeddings.len(), 2);
    }

    #[test]
    fn many_callers_get_their_own() {
        let workers = Workers::start(vec![model(), model(), model()], 10).unwrap();
        thread::scope(|scope| {
            for caller in 0..8u32 {
                let workers = &workers;
                scope.spawn(move || {
                    for round in 0..50 {
                        let tokens = [100 + caller, 200 + round, 300 + caller * round];
                        let embeddings = workers.submit_bulk(batches(&tokens)).unwrap().finish_blocking().unwrap().embeddings;
                        for (token, embedding) in tokens.into_iter().zip(embeddings) {
                            assert_eq!(embedding, Embedding::new(vec![1.0, token as f32], 2).unwrap());
                        }
                    }
                });
            }
        });
    }
}
