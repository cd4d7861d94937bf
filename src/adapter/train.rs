//! Learns a map from judged queries, and tries it on queries that it did not see.
//!
//! The queries are cut into three parts. A map is learned from each two of them, and looked at now and then on the way: how well are the
//! queries of the third part answered with it, searched for anew? For how long to learn is told, for each part, by the other
//! two. What the third parts gain by that decides: a map is kept only if it finds more than the queries do as they are.

use rayon::prelude::*;

use super::loss::{self, Query};
use super::{Adapter, Map};
use kindred_core::Progress;
use kindred_core::domain::{Choice, Embedding};

/// Fewest queries to learn from.
pub const MIN_QUERIES: usize = 40;
/// Most queries to learn from: what they are learned from is held in memory.
pub const MAX_QUERIES: usize = 20_000;
/// Parts that the queries are cut into.
const FOLDS: usize = 3;
/// Standard errors that a gain must have to count as one.
const SURE: f64 = 1.0;
/// Queries that are learned from at once: each has the right passages of the others to tell from its own.
const BATCH: usize = 32;
/// Near passages of each of them.
const NEAR: usize = 8;
const STEPS: usize = 800;
/// Steps between two looks.
const LOOK: usize = 40;
/// Looks without a better one after which there will be none.
const PATIENCE: usize = 4;
const LEARNING_RATE: f32 = 5e-4;
/// How much of itself a number loses in a step, times the learning rate.
const DECAY: f32 = 5.0;

/// What goes wrong while queries are answered.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong with learning.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("{actual} queries have relevant documents in the collection; it takes at least {MIN_QUERIES} to learn from: judge more")]
    TooFew { actual: usize },
    #[error("{actual} queries are more than the {MAX_QUERIES} that are learned from at once: choose some of them")]
    TooMany { actual: usize },
    /// Not worse: not surely better.
    #[error(
        "the adapter does not find more than the queries do as they are, on queries that it did not see: nDCG@10 {before:.4} before, {after:.4} with it (its standard error: {error:.4}). Nothing was written: judge more queries"
    )]
    NoBetter { before: f64, after: f64, error: f64 },
    #[error("cancelled: nothing was written")]
    Cancelled,
    #[error("a query could not be answered")]
    Answer(#[source] BoxError),
}

/// The passages that are learned from: embeddings of documents, or of their chunks.
#[derive(Debug)]
pub struct Passages {
    dims: usize,
    numbers: Vec<f32>,
    /// Whose they are.
    documents: Vec<u32>,
}

impl Passages {
    pub fn new(dims: usize) -> Self {
        Self { dims, numbers: Vec::new(), documents: Vec::new() }
    }

    /// Adds a passage of a document, `[dims]`. Returns its number.
    pub fn push(&mut self, document: u32, embedding: &[f32]) -> u32 {
        assert_eq!(embedding.len(), self.dims, "all passages are of one model");
        self.numbers.extend_from_slice(embedding);
        self.documents.push(document);
        (self.documents.len() - 1) as u32
    }

    fn get(&self, passage: u32) -> &[f32] {
        &self.numbers[passage as usize * self.dims..][..self.dims]
    }

    fn document(&self, passage: u32) -> u32 {
        self.documents[passage as usize]
    }
}

/// A query to learn from.
#[derive(Debug, Clone)]
pub struct Example {
    pub query: Embedding,
    /// Passages of relevant documents, one at least, with their relevance, above 0.
    pub right: Vec<(u32, u32)>,
    /// Passages that were found near the query and are not relevant.
    pub near: Vec<u32>,
}

/// What was learned, and what it brought on queries that it did not see.
#[derive(Debug, Clone)]
pub struct Trained {
    pub adapter: Adapter,
    pub n_queries: usize,
    pub n_steps: usize,
    /// nDCG@10 of the queries as they are, and with the map.
    pub before: f64,
    pub after: f64,
    /// Standard error of the difference.
    pub error: f64,
    /// What was learned from each two parts.
    folds: Vec<Adapter>,
}

impl Trained {
    /// What was learned without an example, by its number.
    pub fn without(&self, example: usize) -> &Adapter {
        &self.folds[example % FOLDS]
    }
}

/// Learns a map for embeddings of the model with a fingerprint. `ndcg` answers a query, by its number, with an embedding in place of
/// its own, and tells the nDCG@10. Equal examples and seeds teach the same.
///
/// # Errors
/// [`TrainError`].
pub fn train(
    (model, rank): (&str, usize),
    examples: &[Example],
    passages: &Passages,
    seed: u64,
    ndcg: impl Fn(usize, &Embedding) -> Result<f64, BoxError> + Sync,
    progress: &Progress,
) -> Result<Trained, TrainError> {
    let n = examples.len();
    if n < MIN_QUERIES {
        return Err(TrainError::TooFew { actual: n });
    }
    if n > MAX_QUERIES {
        return Err(TrainError::TooMany { actual: n });
    }
    let not_of = |fold: usize| (0..n).filter(move |i| i % FOLDS != fold);
    let new = |seen: Vec<usize>| Learner::new(examples, passages, seen, rank, seed);
    let mut learners: Vec<Learner<'_>> = (0..FOLDS).map(|fold| new(not_of(fold).collect())).collect();
    // By look and query, with the maps that it was at; the first look is at the queries as they are.
    let (mut looks, mut maps) = (Vec::<Vec<f64>>::new(), Vec::<Vec<Map>>::new());
    loop {
        let answer = |(i, example): (usize, &Example)| ndcg(i, &learners[i % FOLDS].map.apply(&example.query));
        looks.push(examples.par_iter().enumerate().map(answer).collect::<Result<_, _>>().map_err(TrainError::Answer)?);
        maps.push(learners.iter().map(|learner| learner.map.clone()).collect());
        let last = looks.len() - 1;
        if last * LOOK >= STEPS || last >= best(&looks, 0..n) + PATIENCE {
            break;
        }
        learners.par_iter_mut().try_for_each(|learner| learner.learn(LOOK, progress))?;
    }
    // For how long to learn is told by the other parts.
    let chosen: Vec<usize> = (0..FOLDS).map(|fold| best(&looks, not_of(fold))).collect();
    let adapter = |map: Map| Adapter { model: model.to_owned(), map };
    let folds = chosen.iter().enumerate().map(|(fold, &look)| adapter(maps[look][fold].clone())).collect();
    let differences: Vec<f64> = (0..n).map(|i| looks[chosen[i % FOLDS]][i] - looks[0][i]).collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / n as f64;
    let (before, gain) = (mean(&looks[0]), mean(&differences));
    let error = (differences.iter().map(|d| (d - gain).powi(2)).sum::<f64>() / (n - 1) as f64 / n as f64).sqrt();
    let (n_steps, after) = (best(&looks, 0..n) * LOOK, before + gain);
    if gain <= SURE * error || n_steps == 0 {
        return Err(TrainError::NoBetter { before, after, error });
    }
    let mut learner = new((0..n).collect());
    learner.learn(n_steps, progress)?;
    Ok(Trained { adapter: adapter(learner.map), n_queries: n, n_steps, before, after, error, folds })
}

/// Steps that [`train`] takes at most, for whoever shows them.
pub const MAX_STEPS: u64 = ((FOLDS + 1) * STEPS) as u64;

/// The look that found most for some queries; the earliest of equal ones.
fn best(looks: &[Vec<f64>], queries: impl Iterator<Item = usize> + Clone) -> usize {
    let sums: Vec<f64> = looks.iter().map(|look| queries.clone().map(|i| look[i]).sum()).collect();
    (0..sums.len()).fold(0, |best, i| if sums[i] > sums[best] { i } else { best })
}

/// A map on its way down (Adam, with decay apart).
struct Learner<'a> {
    examples: &'a [Example],
    passages: &'a Passages,
    /// The examples that it sees, in the order in which it sees them.
    seen: Vec<usize>,
    next: usize,
    choice: Choice,
    map: Map,
    of_u: Moments,
    of_v: Moments,
    n_steps: i32,
}

impl<'a> Learner<'a> {
    fn new(examples: &'a [Example], passages: &'a Passages, seen: Vec<usize>, rank: usize, seed: u64) -> Self {
        let dims = passages.dims;
        let mut choice = Choice::new("adapter", seed);
        // Rows of about unit length, in any direction.
        let scale = (3.0 / dims as f32).sqrt();
        let v = (0..rank * dims).map(|_| (choice.below(20_001) as f32 / 10_000.0 - 1.0) * scale).collect();
        let map = Map { dims, u: vec![0.0; rank * dims], v };
        let (of_u, of_v) = (Moments::new(rank * dims), Moments::new(rank * dims));
        Self { examples, passages, next: seen.len(), seen, choice, map, of_u, of_v, n_steps: 0 }
    }

    fn learn(&mut self, n_steps: usize, progress: &Progress) -> Result<(), TrainError> {
        for _ in 0..n_steps {
            if progress.is_cancelled() {
                return Err(TrainError::Cancelled);
            }
            self.step();
            progress.advance(1);
        }
        Ok(())
    }

    fn step(&mut self) {
        let batch = self.batch();
        let queries: Vec<Query<'_>> = batch.iter().map(|one| self.query(one, &batch)).collect();
        let (mut of_u, mut of_v) = (vec![0.0; self.map.u.len()], vec![0.0; self.map.v.len()]);
        loss::add_gradient(&self.map, &queries, &mut of_u, &mut of_v);
        self.n_steps += 1;
        self.of_u.descend(&mut self.map.u, &of_u, self.n_steps);
        self.of_v.descend(&mut self.map.v, &of_v, self.n_steps);
    }

    /// The next examples, each with one of its right passages: the more relevant, the more often.
    fn batch(&mut self) -> Vec<Drawn> {
        let mut batch = Vec::with_capacity(BATCH);
        for _ in 0..BATCH.min(self.seen.len()) {
            if self.next == self.seen.len() {
                self.choice.shuffle(&mut self.seen);
                self.next = 0;
            }
            let example = self.seen[self.next];
            self.next += 1;
            let Example { right, near, .. } = &self.examples[example];
            let mut left = self.choice.below(right.iter().map(|(_, relevance)| *relevance as usize).sum());
            let mut drawn = right[0].0;
            for &(passage, relevance) in right {
                drawn = passage;
                if left < relevance as usize {
                    break;
                }
                left -= relevance as usize;
            }
            let mut near = near.clone();
            self.choice.shuffle(&mut near);
            near.truncate(NEAR);
            batch.push(Drawn { example, right: drawn, near });
        }
        batch
    }

    fn query(&self, one: &Drawn, batch: &[Drawn]) -> Query<'a> {
        let (examples, passages) = (self.examples, self.passages);
        let example = &examples[one.example];
        let is_right = |passage: u32| example.right.iter().any(|(right, _)| passages.document(*right) == passages.document(passage));
        let others = batch.iter().map(|other| other.right).filter(|&passage| !is_right(passage));
        Query {
            query: example.query.as_slice(),
            right: passages.get(one.right),
            near: one.near.iter().map(|&passage| passages.get(passage)).collect(),
            others: others.map(|passage| passages.get(passage)).collect(),
        }
    }
}

/// An example of a batch.
struct Drawn {
    example: usize,
    right: u32,
    near: Vec<u32>,
}

/// What Adam remembers of the slopes.
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Moments {
    fn new(n: usize) -> Self {
        Self { first: vec![0.0; n], second: vec![0.0; n] }
    }

    /// One step down; `n_steps` counts it.
    fn descend(&mut self, numbers: &mut [f32], slope: &[f32], n_steps: i32) {
        let (of_first, of_second) = (1.0 - 0.9f32.powi(n_steps), 1.0 - 0.999f32.powi(n_steps));
        for (((x, slope), first), second) in numbers.iter_mut().zip(slope).zip(&mut self.first).zip(&mut self.second) {
            *first = 0.9 * *first + 0.1 * slope;
            *second = 0.999 * *second + 0.001 * slope * slope;
            *x -= LEARNING_RATE * (*first / of_first / ((*second / of_second).sqrt() + 1e-8) + DECAY * *x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIMS: usize = 24;
    const N_DOCUMENTS: u32 = 300;

    fn unit(choice: &mut Choice) -> Embedding {
        // Of sums of some numbers: in all directions about equally.
        let number = |choice: &mut Choice| (0..6).map(|_| choice.below(2_001) as f32 / 1_000.0 - 1.0).sum();
        Embedding::new((0..DIMS).map(|_| number(choice)).collect(), DIMS).unwrap()
    }

    struct Task {
        passages: Passages,
        examples: Vec<Example>,
        /// The relevant document of each.
        relevant: Vec<u32>,
    }

    impl Task {
        /// Queries that were made of their documents by `make`, which is to be found out.
        fn new(n: usize, make: impl Fn(&Embedding, &mut Choice) -> Embedding) -> Self {
            let mut choice = Choice::new("documents", 3);
            let documents: Vec<Embedding> = (0..N_DOCUMENTS).map(|_| unit(&mut choice)).collect();
            let mut passages = Passages::new(DIMS);
            (0..).zip(&documents).for_each(|(i, document)| assert_eq!(passages.push(i, document.as_slice()), i));
            let relevant: Vec<u32> = (0..n).map(|_| choice.below(documents.len()) as u32).collect();
            let mut task = Self { passages, examples: Vec::new(), relevant: relevant.clone() };
            for right in relevant {
                let query = make(&documents[right as usize], &mut choice);
                let near = task.nearest(&query).into_iter().filter(|&document| document != right).take(20).collect();
                task.examples.push(Example { query, right: vec![(right, 1)], near });
            }
            task
        }

        fn nearest(&self, query: &Embedding) -> Vec<u32> {
            let mut order: Vec<u32> = (0..N_DOCUMENTS).collect();
            let score = |document: &u32| -super::super::dot(query.as_slice(), self.passages.get(*document));
            order.sort_by(|a, b| score(a).total_cmp(&score(b)));
            order
        }

        fn train(&self) -> Result<Trained, TrainError> {
            let ndcg = |i: usize, query: &Embedding| {
                let rank = self.nearest(query).iter().take(10).position(|document| *document == self.relevant[i]);
                Ok(rank.map_or(0.0, |rank| 1.0 / (rank as f64 + 2.0).log2()))
            };
            train(("m1", 8), &self.examples, &self.passages, 1, ndcg, &Progress::hidden())
        }
    }

    /// The first four axes of a document are told the wrong way round, and the others are noisy.
    fn turned(document: &Embedding, choice: &mut Choice) -> Embedding {
        let mut query: Vec<f32> = document.as_slice().iter().zip(unit(choice).as_slice()).map(|(x, noise)| x + 0.3 * noise).collect();
        query[..4].iter_mut().for_each(|x| *x *= -2.0);
        Embedding::new(query, DIMS).unwrap()
    }

    #[test]
    fn a_planted_map_is_found() {
        let task = Task::new(240, turned);
        let trained = task.train().unwrap();
        assert!(trained.after > trained.before + 0.15, "{} to {}", trained.before, trained.after);
        assert!(trained.n_queries == 240 && trained.n_steps > 0 && trained.error < 0.05);
        assert_eq!(task.train().unwrap().adapter, trained.adapter, "equal judgments teach the same");
        assert!(trained.without(0) == trained.without(3) && trained.without(0) != trained.without(1));
        // On queries that nothing of it has seen.
        let others = Task::new(300, turned);
        let (mut better, mut worse) = (0, 0);
        for (example, relevant) in others.examples.iter().zip(&others.relevant).skip(240) {
            let rank = |query: &Embedding| others.nearest(query).iter().position(|document| document == relevant);
            let (before, after) = (rank(&example.query), rank(&trained.adapter.apply(&example.query)));
            better += usize::from(after < before);
            worse += usize::from(after > before);
        }
        assert!(better > 10 && better > 4 * worse, "{better} better, {worse} worse");
    }

    #[test]
    fn nothing_is_learned_from_nothing() {
        let any = |_: &Embedding, choice: &mut Choice| unit(choice);
        assert!(matches!(Task::new(120, any).train(), Err(TrainError::NoBetter { .. })), "queries that say nothing of their documents");
        assert!(matches!(Task::new(120, |document, _| document.clone()).train(), Err(TrainError::NoBetter { before: 1.0, .. })));
        assert!(matches!(Task::new(MIN_QUERIES - 1, turned).train(), Err(TrainError::TooFew { actual: 39 })));
    }

    #[test]
    fn what_is_right_for_a_query_is_no_wrong_answer() {
        let mut passages = Passages::new(2);
        let [a, a2, b] = [(0, [1.0, 0.0]), (0, [0.8, 0.6]), (1, [0.0, 1.0])].map(|(document, numbers)| passages.push(document, &numbers));
        let example = |right| Example { query: Embedding::new(vec![1.0, 0.0], 2).unwrap(), right: vec![(right, 1)], near: Vec::new() };
        let examples = [example(a), example(a2), example(b)];
        let learner = Learner::new(&examples, &passages, vec![0, 1, 2], 1, 1);
        let batch = [a, a2, b].into_iter().enumerate().map(|(example, right)| Drawn { example, right, near: Vec::new() });
        let batch: Vec<Drawn> = batch.collect();
        assert_eq!(learner.query(&batch[0], &batch).others, [[0.0, 1.0]], "the other chunk of its own document is none");
    }

    #[test]
    fn learning_can_be_cancelled() {
        let cancel = kindred_core::Cancel::default();
        cancel.cancel();
        let task = Task::new(60, turned);
        let progress = Progress::hidden().cancelled_by(&cancel);
        let cancelled = train(("m1", 4), &task.examples, &task.passages, 1, |_, _| Ok(0.0), &progress);
        assert!(matches!(cancelled, Err(TrainError::Cancelled)));
    }
}
