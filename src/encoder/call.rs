//! A call that waits for its texts' embeddings.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::EncoderError;
use crate::domain::Embedding;

/// What became of one text.
pub struct Answer {
    pub position: usize,
    /// When its batch began.
    pub started: Instant,
    pub result: Result<Embedding, EncoderError>,
}

/// A call that waits for its answers.
pub struct Call {
    answers: UnboundedReceiver<Answer>,
    embeddings: Vec<Option<Embedding>>,
    first_started: Option<Instant>,
}

/// What a call's texts came to.
pub struct Finished {
    /// In the order of the call's texts.
    pub embeddings: Vec<Embedding>,
    /// When the first batch reached a model.
    pub first_started: Option<Instant>,
}

impl Call {
    /// A call and where its answers go. When all senders are gone the call ends, so that no caller waits for ever.
    pub fn new(n_texts: usize) -> (UnboundedSender<Answer>, Self) {
        let (sender, answers) = unbounded_channel();
        (sender, Self { answers, embeddings: vec![None; n_texts], first_started: None })
    }

    /// Waits without holding a thread.
    ///
    /// # Errors
    /// That of the first text that failed, or [`EncoderError::Stopped`].
    pub async fn finish(mut self) -> Result<Finished, EncoderError> {
        while let Some(Answer { position, started, result }) = self.answers.recv().await {
            self.first_started = Some(self.first_started.map_or(started, |first| first.min(started)));
            self.embeddings[position] = Some(result?);
        }
        let embeddings = self.embeddings.into_iter().collect::<Option<Vec<_>>>().ok_or(EncoderError::Stopped)?;
        Ok(Finished { embeddings, first_started: self.first_started })
    }

    /// Waits on this thread.
    ///
    /// # Errors
    /// That of the first text that failed, or [`EncoderError::Stopped`].
    pub fn finish_blocking(self) -> Result<Finished, EncoderError> {
        block_on(self.finish())
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
