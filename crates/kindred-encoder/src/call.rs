//! A call that waits for what the model makes of its texts.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::EncoderError;

/// What became of one text.
pub struct Answer<O> {
    pub position: usize,
    /// When its batch began.
    pub started: Instant,
    pub result: Result<O, EncoderError>,
}

/// A call that waits for its answers.
pub struct Call<O> {
    answers: UnboundedReceiver<Answer<O>>,
    outputs: Vec<Option<O>>,
    first_started: Option<Instant>,
}

/// What a call's texts came to.
pub struct Finished<O> {
    /// In the order of the call's texts.
    pub outputs: Vec<O>,
    /// When the first batch reached a model.
    pub first_started: Option<Instant>,
}

impl<O> Call<O> {
    /// A call and where its answers go. When all senders are gone the call ends, so that no caller waits for ever.
    pub fn new(n_texts: usize) -> (UnboundedSender<Answer<O>>, Self) {
        let (sender, answers) = unbounded_channel();
        (sender, Self { answers, outputs: (0..n_texts).map(|_| None).collect(), first_started: None })
    }

    /// Waits without holding a thread.
    ///
    /// # Errors
    /// That of the first text that failed, or [`EncoderError::Stopped`].
    pub async fn finish(mut self) -> Result<Finished<O>, EncoderError> {
        while let Some(Answer { position, started, result }) = self.answers.recv().await {
            self.first_started = Some(self.first_started.map_or(started, |first| first.min(started)));
            self.outputs[position] = Some(result?);
        }
        let outputs = self.outputs.into_iter().collect::<Option<Vec<_>>>().ok_or(EncoderError::Stopped)?;
        Ok(Finished { outputs, first_started: self.first_started })
    }

    /// Waits on this thread.
    ///
    /// # Errors
    /// That of the first text that failed, or [`EncoderError::Stopped`].
    pub fn finish_blocking(self) -> Result<Finished<O>, EncoderError> {
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
