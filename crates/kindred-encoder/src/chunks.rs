//! Documents to embeddings: one each, or one for each chunk of a long text.

use super::tokenizer::{Tokens, Whole};
use super::{Encoder, EncoderError, Side};
use kindred_core::domain::{ChunkMode, Chunking, Embedding};

/// The part of a chunk that the first lines of the text may take in each, as 1 in so many.
const MAX_HEADER_SHARE: usize = 4;

impl Encoder {
    /// Encodes documents' texts as a collection wants them, each with this prompt before it, waiting for room in the queue. Returns
    /// `[chunks × dims]` for each, unit length, in the order of the texts.
    ///
    /// # Errors
    /// [`EncoderError::Tokenize`], [`EncoderError::Run`] or [`EncoderError::Stopped`].
    pub fn encode_documents(&self, prompt: &str, texts: &[String], chunking: &Chunking) -> Result<Vec<Vec<f32>>, EncoderError> {
        let prompted: Vec<String> = texts.iter().map(|text| format!("{prompt}{text}")).collect();
        if chunking.mode == ChunkMode::Cut {
            return Ok(self.encode_blocking(prompted)?.embeddings.into_iter().map(Embedding::into_vec).collect());
        }
        let of_one = |(whole, text): (Whole, &String)| self.chunks(whole, prompt, text, chunking);
        let chunks = self.tokenizer.wholes(&prompted)?.into_iter().zip(texts).map(of_one).collect::<Result<Vec<_>, _>>()?;
        let n_chunks: Vec<usize> = chunks.iter().map(Vec::len).collect();
        let mut embeddings = self.documents.submit_bulk(chunks.concat())?.finish_blocking()?.outputs.into_iter();
        let of_document = |n: usize| {
            let own: Vec<f32> = embeddings.by_ref().take(n).flat_map(Embedding::into_vec).collect();
            if chunking.mode == ChunkMode::Best {
                return Ok(own);
            }
            let mean = Embedding::mean(&own, self.info.dims).map_err(|e| EncoderError::Run { source: e.into() })?;
            Ok(mean.into_vec())
        };
        n_chunks.into_iter().map(of_document).collect()
    }

    /// The chunks of a text, given all of its tokens, which begin with the prompt's.
    fn chunks(&self, whole: Whole, prompt: &str, text: &str, chunking: &Chunking) -> Result<Vec<Tokens>, EncoderError> {
        let limit = self.info.max_tokens;
        let max_tokens = if chunking.max_tokens == 0 { limit } else { chunking.max_tokens.min(limit) };
        if whole.n_tokens() <= max_tokens {
            return Ok(vec![whole.cut(max_tokens, Side::Right)]);
        }
        let own = |text: &str| Ok::<Tokens, EncoderError>(self.whole_text(text, 0)?.own);
        let room = max_tokens.saturating_sub(whole.before.len() + whole.after.len()).max(4);
        // What stands before each chunk. A prompt that leaves no room for the text is cut; a long first line is no title.
        let mut lead = if prompt.is_empty() { Tokens::new() } else { own(prompt)? };
        lead.truncate(room / 2);
        let (header, body) = text.split_at(end_of_lines(text, chunking.header_lines));
        let header = own(header)?;
        let body = if header.len() <= room / MAX_HEADER_SHARE {
            lead.extend(header);
            own(body)?
        } else {
            own(text)?
        };
        let windows = windows(body.len(), room - lead.len(), chunking);
        Ok(windows.map(|window| [&whole.before[..], &lead, &body[window], &whole.after].concat()).collect())
    }
}

/// Bytes of a text's first lines.
fn end_of_lines(text: &str, n: usize) -> usize {
    text.split_inclusive('\n').take(n).map(str::len).sum()
}

/// Where the chunks of so many tokens begin and end, with room for so many in each. They are of one length, up to a token: the last one
/// is no stump.
fn windows(n_tokens: usize, room: usize, chunking: &Chunking) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
    let overlap = chunking.overlap_tokens.min(room / 2);
    let n_needed = 1 + n_tokens.saturating_sub(room).div_ceil(room - overlap);
    let n_windows = n_needed.min(chunking.max_chunks);
    let n_embedded = if n_windows < n_needed { room + (n_windows - 1) * (room - overlap) } else { n_tokens };
    let len = (n_embedded + (n_windows - 1) * overlap).div_ceil(n_windows);
    // The first begins at the beginning, the last ends at the end.
    (0..n_windows).map(move |i| {
        let start = if n_windows == 1 { 0 } else { i * (n_embedded - len) / (n_windows - 1) };
        start..start + len
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_hold_all_tokens_and_are_of_one_length() {
        for n_tokens in 1..400 {
            for (room, overlap_tokens, max_chunks) in
                [(16, 0, 1_000), (16, 3, 1_000), (20, 10, 1_000), (20, 500, 1_000), (30, 5, 4), (30, 5, 1)]
            {
                let chunking = Chunking { overlap_tokens, max_chunks, ..Chunking::default() };
                let windows: Vec<_> = windows(n_tokens, room, &chunking).collect();
                let what = format!("{n_tokens} {room} {overlap_tokens}: {windows:?}");
                let overlap = overlap_tokens.min(room / 2);
                let wanted = 1 + n_tokens.saturating_sub(room).div_ceil(room - overlap);
                assert_eq!(windows.len(), wanted.min(max_chunks), "{what}");
                assert!(windows[0].start == 0 && windows.iter().all(|w| w.len() <= room && w.len() == windows[0].len()), "{what}");
                assert!(windows.windows(2).all(|pair| pair[0].end >= pair[1].start + overlap && pair[0].start < pair[1].start), "{what}");
                if wanted <= max_chunks {
                    assert_eq!(windows.last().unwrap().end, n_tokens, "{what}");
                } else {
                    assert_eq!(windows.iter().map(|w| w.len()).max(), Some(room), "{what}");
                }
            }
        }
    }

    #[test]
    fn first_lines_end_behind_their_breaks() {
        for (text, n, header) in [("a\nb\nc", 0, ""), ("a\nb\nc", 1, "a\n"), ("a\nb\nc", 2, "a\nb\n"), ("a", 3, "a"), ("", 1, "")] {
            assert_eq!(&text[..end_of_lines(text, n)], header, "{text:?} {n}");
        }
    }
}
