//! What a batch of queries loses, and which way is down.
//!
//! Each query has a passage that is right and some that are not: those of the other queries, and some of its own that are near and still
//! wrong. *InfoNCE*: the right one should have all of the probability that its score gives it among them. *Margin*: it should
//! score clearly more than each of the near ones.
//!
//! *Source*: van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018, for InfoNCE.

use super::{Map, add, dot};

/// Scores are divided by it before they become probabilities.
const TEMPERATURE: f32 = 0.05;
/// How much more the right passage should score than a near one.
const MARGIN: f32 = 0.05;
/// What a missed margin counts beside InfoNCE, where a score counts 1 / [`TEMPERATURE`].
const MARGIN_WEIGHT: f32 = 5.0;

/// A query of a batch.
#[derive(Debug)]
pub(super) struct Query<'a> {
    pub query: &'a [f32],
    pub right: &'a [f32],
    /// Near, and not right.
    pub near: Vec<&'a [f32]>,
    /// Right for other queries of the batch, and not for this one.
    pub others: Vec<&'a [f32]>,
}

/// The mean loss of a batch, and its slope in `u` and `v`, each `[rank × dims]`, added to what is there.
pub(super) fn add_gradient(map: &Map, batch: &[Query<'_>], of_u: &mut [f32], of_v: &mut [f32]) -> f32 {
    let n = batch.len().max(1) as f32;
    let loss: f32 = batch.iter().map(|query| add_one(map, query, 1.0 / n, of_u, of_v)).sum();
    loss / n
}

fn add_one(map: &Map, query: &Query<'_>, share: f32, of_u: &mut [f32], of_v: &mut [f32]) -> f32 {
    let mut mapped = map.mapped(query.query);
    let length = dot(&mapped, &mapped).sqrt().max(1e-6);
    mapped.iter_mut().for_each(|x| *x /= length);

    let right = dot(&mapped, query.right);
    let wrong: Vec<f32> = query.near.iter().chain(&query.others).map(|passage| dot(&mapped, passage)).collect();
    let best = wrong.iter().copied().fold(right, f32::max);
    let exp = |score: f32| ((score - best) / TEMPERATURE).exp();
    let sum = exp(right) + wrong.iter().map(|&score| exp(score)).sum::<f32>();
    let mut loss = sum.ln() - (right - best) / TEMPERATURE;

    // The slope in the mapped query, which is of unit length.
    let mut slope = vec![0.0; map.dims];
    let mut of_right = (exp(right) / sum - 1.0) / TEMPERATURE;
    let n_near = query.near.len().max(1) as f32;
    for (i, (passage, &score)) in query.near.iter().chain(&query.others).zip(&wrong).enumerate() {
        let mut of_score = exp(score) / sum / TEMPERATURE;
        let missed = MARGIN - (right - score);
        if i < query.near.len() && missed > 0.0 {
            loss += MARGIN_WEIGHT * missed / n_near;
            of_score += MARGIN_WEIGHT / n_near;
            of_right -= MARGIN_WEIGHT / n_near;
        }
        add(&mut slope, of_score, passage);
    }
    add(&mut slope, of_right, query.right);
    // What would only change the length goes.
    let along = dot(&slope, &mapped);
    add(&mut slope, -along, &mapped);
    slope.iter_mut().for_each(|x| *x *= share / length);

    let rows = map.u.chunks_exact(map.dims).zip(map.v.chunks_exact(map.dims));
    for ((u, v), (of_u, of_v)) in rows.zip(of_u.chunks_exact_mut(map.dims).zip(of_v.chunks_exact_mut(map.dims))) {
        add(of_u, dot(v, query.query), &slope);
        add(of_v, dot(u, &slope), query.query);
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;
    use kindred_core::domain::{Choice, Embedding};

    const DIMS: usize = 7;

    fn random(choice: &mut Choice, n: usize) -> Vec<f32> {
        (0..n).map(|_| choice.below(2_001) as f32 / 1_000.0 - 1.0).collect()
    }

    fn unit(choice: &mut Choice) -> Vec<f32> {
        Embedding::new(random(choice, DIMS), DIMS).unwrap().into_vec()
    }

    #[test]
    fn the_gradient_is_that_of_small_steps() {
        let mut choice = Choice::new("gradient", 1);
        let vectors: Vec<Vec<f32>> = (0..12).map(|_| unit(&mut choice)).collect();
        let query = |i: usize| Query {
            query: &vectors[i],
            right: &vectors[4 + i],
            near: vec![&vectors[8], &vectors[9 + i % 2]],
            others: (0..4).filter(|&j| j != i).map(|j| vectors[4 + j].as_slice()).collect(),
        };
        let batch: Vec<Query<'_>> = (0..4).map(query).collect();
        let small = |choice: &mut Choice| random(choice, 2 * DIMS).iter().map(|x| x * 0.3).collect::<Vec<f32>>();
        let map = Map { dims: DIMS, u: small(&mut choice), v: small(&mut choice) };
        let loss = |map: &Map| f64::from(add_gradient(map, &batch, &mut [0.0; 2 * DIMS], &mut [0.0; 2 * DIMS]));
        let (mut of_u, mut of_v) = ([0.0; 2 * DIMS], [0.0; 2 * DIMS]);
        add_gradient(&map, &batch, &mut of_u, &mut of_v);
        let (step, mut largest) = (1e-3f32, 0.0f64);
        for i in 0..2 * DIMS {
            for (is_u, told) in [(true, of_u[i]), (false, of_v[i])] {
                let at = |step: f32| {
                    let mut moved = map.clone();
                    *if is_u { &mut moved.u[i] } else { &mut moved.v[i] } += step;
                    loss(&moved)
                };
                let seen = (at(step) - at(-step)) / (2.0 * f64::from(step));
                assert!((seen - f64::from(told)).abs() < 0.02 * seen.abs().max(0.5), "u {is_u} {i}: {told} told, {seen} seen");
                largest = largest.max(seen.abs());
            }
        }
        assert!(largest > 1.0, "there is something to see");
    }

    #[test]
    fn the_right_order_costs_little() {
        let (right, wrong) = (vec![1.0, 0.0], vec![0.0, 1.0]);
        let map = Map { dims: 2, u: vec![0.0; 2], v: vec![0.0; 2] };
        let one = |query: &[f32]| {
            let batch = [Query { query, right: &right, near: vec![&wrong], others: Vec::new() }];
            add_gradient(&map, &batch, &mut [0.0; 2], &mut [0.0; 2])
        };
        assert!(one(&[1.0, 0.0]) < 1e-6);
        // A logit of 1 / TEMPERATURE too little, and a margin that is missed by 1.05.
        assert!((one(&[0.0, 1.0]) - 1.0 / TEMPERATURE - MARGIN_WEIGHT * (1.0 + MARGIN)).abs() < 1e-3);
    }
}
