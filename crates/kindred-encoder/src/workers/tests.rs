//! Batches, refusals, failures and deadlines, with models that the tests hold in their hands.

use super::*;
use std::sync::mpsc;

const SETTINGS: BatchSettings = BatchSettings {
    max_batch_tokens: 4,
    batch_wait: Duration::ZERO,
    max_queue: 10,
    max_wait: Duration::from_secs(600),
    gives_way: false,
    section: "encoder",
};

fn direction(n: u32) -> Embedding {
    Embedding::new(vec![1.0, n as f32], 2).unwrap()
}

/// Encodes token `n` as the direction `[1, n]` and panics at token 13.
fn model() -> RunBatch {
    Box::new(|texts| Ok(texts.iter().map(|text| if text[0] == 13 { panic!("a bad day") } else { direction(text[0]) }).collect()))
}

/// A model that says which texts it is given, and waits to be told to go on.
fn gated() -> (RunBatch, mpsc::Receiver<Vec<u32>>, mpsc::Sender<()>) {
    let ((entered, inside), (go, gate)) = (mpsc::channel(), mpsc::channel());
    let mut encode = model();
    let gated: RunBatch = Box::new(move |texts| {
        entered.send(texts.iter().map(|text| text[0]).collect()).unwrap();
        gate.recv().unwrap();
        encode(texts)
    });
    (gated, inside, go)
}

fn texts(tokens: &[u32]) -> Vec<Tokens> {
    tokens.iter().map(|&token| vec![token]).collect()
}

#[test]
fn a_panic_fails_its_call_and_no_other() {
    let (gated, inside, go) = gated();
    let workers = Workers::start("test", vec![gated], SETTINGS).unwrap();
    let first = workers.submit_online(texts(&[1]), None).unwrap();
    assert_eq!(inside.recv().unwrap(), [1]);
    let (bad, good) = (workers.submit_online(texts(&[13]), None).unwrap(), workers.submit_online(texts(&[3, 4]), None).unwrap());
    (0..8).for_each(|_| go.send(()).unwrap());
    assert_eq!(first.finish_blocking().unwrap().outputs, [direction(1)]);
    assert!(matches!(bad.finish_blocking(), Err(EncoderError::Run { .. })));
    assert_eq!(good.finish_blocking().unwrap().outputs, [direction(3), direction(4)]);
    // Together first, then each alone.
    assert_eq!(inside.try_iter().collect::<Vec<_>>(), [vec![13, 3, 4], vec![13], vec![3], vec![4]]);
}

#[test]
fn what_gathers_while_the_model_is_busy_is_one_batch() {
    let (gated, inside, go) = gated();
    let workers = Workers::start("test", vec![gated], SETTINGS).unwrap();
    let first = workers.submit_bulk(texts(&[1])).unwrap();
    inside.recv().unwrap();
    let calls: Vec<_> = (2..8).map(|token| workers.submit_online(texts(&[token]), None).unwrap()).collect();
    assert!(workers.run_here(&vec![9]).is_none(), "others wait already");
    (0..3).for_each(|_| go.send(()).unwrap());
    for (call, token) in calls.into_iter().zip(2..) {
        assert_eq!(call.finish_blocking().unwrap().outputs, [direction(token)]);
    }
    assert_eq!(inside.try_iter().collect::<Vec<_>>(), [vec![2, 3, 4, 5], vec![6, 7]]);
    assert_eq!(first.finish_blocking().unwrap().outputs.len(), 1);
}

#[test]
fn a_lone_text_is_encoded_by_its_caller() {
    let caller = thread::current().id();
    let model: RunBatch = Box::new(move |texts| {
        assert_eq!(thread::current().id(), caller);
        Ok(texts.iter().map(|text| direction(text[0])).collect())
    });
    let workers = Workers::start("test", vec![model], SETTINGS).unwrap();
    for token in 1..4 {
        assert_eq!(workers.run_here(&vec![token]).unwrap().unwrap(), direction(token));
    }
}

#[test]
fn a_full_queue_is_an_answer() {
    let (gated, inside, go) = gated();
    let workers = Workers::start("test", vec![gated], BatchSettings { max_queue: 2, ..SETTINGS }).unwrap();
    let running = workers.submit_online(texts(&[1]), None).unwrap();
    inside.recv().unwrap();
    let waiting = workers.submit_online(texts(&[2, 3]), None).unwrap();
    let refused = workers.submit_online(texts(&[4]), None);
    assert!(matches!(refused, Err(EncoderError::Overloaded { waiting: 2, max_queue: 2, .. })));
    (0..3).for_each(|_| go.send(()).unwrap());
    assert_eq!(running.finish_blocking().unwrap().outputs.len(), 1);
    assert_eq!(waiting.finish_blocking().unwrap().outputs.len(), 2);
}

#[test]
fn who_hung_up_or_waited_too_long_is_not_encoded() {
    let (gated, inside, go) = gated();
    let workers = Workers::start("test", vec![gated], SETTINGS).unwrap();
    let running = workers.submit_online(texts(&[1]), None).unwrap();
    inside.recv().unwrap();
    drop(workers.submit_online(texts(&[2]), None).unwrap());
    let late = workers.submit_online(texts(&[3]), Some(Instant::now())).unwrap();
    let good = workers.submit_online(texts(&[4]), None).unwrap();
    (0..2).for_each(|_| go.send(()).unwrap());
    assert!(matches!(late.finish_blocking(), Err(EncoderError::TooLate { .. })));
    assert_eq!(good.finish_blocking().unwrap().outputs, [direction(4)]);
    assert_eq!(inside.try_iter().collect::<Vec<_>>(), [vec![4]]);
    assert!(running.finish_blocking().is_ok());
}

#[test]
fn what_would_come_too_late_is_refused_at_once() {
    let (gated, inside, go) = gated();
    let workers = Workers::start("test", vec![gated], SETTINGS).unwrap();
    workers.shared.lock().us_per_token = 1e6;
    let running = workers.submit_online(texts(&[1]), None).unwrap();
    inside.recv().unwrap();
    let soon = || Some(Instant::now() + Duration::from_millis(1_500));
    let waiting = [(); 2].map(|()| workers.submit_online(texts(&[2]), soon()).unwrap());
    assert!(matches!(workers.submit_online(texts(&[3]), soon()), Err(EncoderError::TooLate { .. })), "two seconds of work wait");
    assert!(workers.submit_online(texts(&[3]), None).is_ok());
    drop(waiting);
    (0..2).for_each(|_| go.send(()).unwrap());
    running.finish_blocking().unwrap();
}

#[test]
fn a_batch_waits_for_company_as_long_as_it_is_told() {
    let (gated, inside, go) = gated();
    let settings = BatchSettings { batch_wait: Duration::from_secs(3_600), ..SETTINGS };
    let workers = Workers::start("test", vec![gated], settings).unwrap();
    assert!(workers.run_here(&vec![1]).is_none());
    let calls: Vec<_> = (1..5).map(|token| workers.submit_online(texts(&[token]), None).unwrap()).collect();
    go.send(()).unwrap();
    assert_eq!(inside.recv().unwrap(), [1, 2, 3, 4], "full: no reason to wait");
    assert!(calls.into_iter().all(|call| call.finish_blocking().is_ok()));
}

#[test]
fn bulk_waits_for_room_and_ends_with_the_workers() {
    let (gated, inside, go) = gated();
    let workers = Workers::start("test", vec![gated], BatchSettings { max_queue: 1, max_batch_tokens: 1, ..SETTINGS }).unwrap();
    thread::scope(|scope| {
        let producer = scope.spawn(|| workers.submit_bulk(texts(&[1, 2, 3, 4])).unwrap().finish_blocking().unwrap().outputs);
        (0..4).for_each(|_| go.send(()).unwrap());
        assert_eq!(producer.join().unwrap(), [1, 2, 3, 4].map(direction));
    });
    let waiting = workers.submit_bulk(texts(&[5])).unwrap();
    drop(go);
    drop(workers);
    assert!(waiting.finish_blocking().is_err());
    assert_eq!(inside.try_iter().take(4).collect::<Vec<_>>(), [[1], [2], [3], [4]]);
}

#[test]
fn many_callers_get_their_own() {
    let workers = Workers::start("test", vec![model(), model(), model()], SETTINGS).unwrap();
    thread::scope(|scope| {
        for caller in 0..8u32 {
            let workers = &workers;
            scope.spawn(move || {
                for round in 0..50 {
                    let tokens = [100 + caller, 200 + round, 300 + caller * round];
                    let embeddings = match caller % 2 {
                        0 => workers.submit_bulk(texts(&tokens)).unwrap().finish_blocking().unwrap().outputs,
                        _ => tokens
                            .map(|token| {
                                let in_bulk = || Ok(workers.submit_bulk(texts(&[token]))?.finish_blocking()?.outputs.remove(0));
                                workers.run_here(&vec![token]).unwrap_or_else(in_bulk).unwrap()
                            })
                            .to_vec(),
                    };
                    assert_eq!(embeddings, tokens.map(direction));
                }
            });
        }
    });
}
