//! `ChunkedBytes`: a sequence of bytes in several buffers. It avoids copies of received messages.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// Received bytes, in the buffers in which they arrived.
#[derive(Clone, Debug, Default)]
pub(super) struct ChunkedBytes {
    chunks: VecDeque<Bytes>,
    length: usize,
}

impl ChunkedBytes {
    pub(super) fn push(&mut self, chunk: Bytes) {
        // `chunk` must not return an empty slice while bytes remain.
        if !chunk.is_empty() {
            self.length += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// Takes the first `length` bytes without a copy. Takes all bytes if there are fewer.
    pub(super) fn take_first(&mut self, mut length: usize) -> ChunkedBytes {
        let mut taken = ChunkedBytes::default();
        while length > 0
            && let Some(chunk) = self.chunks.front_mut()
        {
            let piece = chunk.split_to(chunk.len().min(length));
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
            length -= piece.len();
            self.length -= piece.len();
            taken.push(piece);
        }
        taken
    }
}

impl Buf for ChunkedBytes {
    fn remaining(&self) -> usize {
        self.length
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0
            && let Some(chunk) = self.chunks.front_mut()
        {
            let piece = chunk.len().min(count);
            chunk.advance(piece);
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
            count -= piece;
            self.length -= piece;
        }
    }

    /// Returns the bytes without a copy if they are in one buffer. Otherwise copies them into a new
    /// buffer whose start is aligned for the elements of a tensor.
    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        match self.chunks.front_mut() {
            // The result shares the buffer with the remaining bytes.
            Some(chunk) if chunk.len() > length => {
                self.length -= length;
                chunk.split_to(length)
            }
            _ => {
                let mut taken = self.take_first(length).chunks;
                // A whole buffer is passed on without a copy.
                if taken.len() == 1
                    && let Some(whole) = taken.pop_front()
                {
                    return whole;
                }
                let mut bytes = BytesMut::with_capacity(length);
                taken
                    .into_iter()
                    .for_each(|chunk| bytes.extend_from_slice(&chunk));
                bytes.freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Buf, Bytes};

    use crate::api::grpc::chunked_bytes::ChunkedBytes;

    #[test]
    fn chunks_are_one_sequence() {
        let mut chunks = ChunkedBytes::default();
        for text in ["ab", "", "cdef", "g"] {
            chunks.push(Bytes::from_static(text.as_bytes()));
        }
        assert_eq!(chunks.copy_to_bytes(1), "a");
        assert_eq!(chunks.copy_to_bytes(3), "bcd");
        chunks.advance(1);
        assert_eq!((chunks.remaining(), chunks.chunk()), (2, &b"f"[..]));
        assert_eq!(chunks.copy_to_bytes(2), "fg");
        assert_eq!((chunks.remaining(), chunks.chunk()), (0, &b""[..]));
    }
}
