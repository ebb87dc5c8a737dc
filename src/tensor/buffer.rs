//! `Buffer`: the elements of a tensor. The buffer either owns them or is a view of shared bytes.
//!
//! A binary request becomes a tensor without a copy of its bytes, and an output becomes a binary
//! response without a copy.

use std::{
    fmt,
    ops::{Deref, DerefMut, Range},
    sync::OnceLock,
};

use bytemuck::Pod;
use bytes::Bytes;

// Protocols send little-endian elements, and a view does not swap bytes.
const _: () = assert!(
    cfg!(target_endian = "little"),
    "predictd runs on little-endian machines"
);

/// The elements of a tensor: owned, or a view of the bytes of a request.
#[derive(Clone)]
pub struct Buffer<T> {
    /// The owned elements. Empty if the elements are shared.
    owned: Vec<T>,
    /// The shared bytes. The constructors check that they contain whole elements.
    shared: Option<Bytes>,
    /// A copy of shared bytes that are not aligned for `T`. It is created when the elements are
    /// read for the first time.
    aligned: OnceLock<Vec<T>>,
}

impl<T: Pod> Buffer<T> {
    /// A view of `bytes`. `None` if the bytes end inside an element.
    pub fn from_bytes(bytes: Bytes) -> Option<Buffer<T>> {
        let whole = bytes.len().is_multiple_of(size_of::<T>());
        whole.then(|| Buffer {
            owned: Vec::new(),
            shared: Some(bytes),
            aligned: OnceLock::new(),
        })
    }

    /// The bytes of the elements, little-endian, without a copy.
    pub fn into_bytes(self) -> Bytes
    where
        T: Send + 'static,
    {
        struct Owner<T>(Vec<T>);
        impl<T: Pod> AsRef<[u8]> for Owner<T> {
            fn as_ref(&self) -> &[u8] {
                bytemuck::cast_slice(&self.0)
            }
        }
        self.shared
            .unwrap_or_else(|| Bytes::from_owner(Owner(self.owned)))
    }

    /// The bytes of the elements, little-endian.
    pub fn as_bytes(&self) -> &[u8] {
        self.shared
            .as_deref()
            .unwrap_or_else(|| bytemuck::cast_slice(&self.owned))
    }

    /// The elements, for changes. Shared elements are copied first.
    pub fn to_mut(&mut self) -> &mut Vec<T> {
        // Other owners may read the shared bytes.
        if self.shared.is_some() {
            *self = Buffer::from(self.to_vec());
        }
        &mut self.owned
    }

    pub(crate) fn resize(&mut self, length: usize, value: T) {
        self.to_mut().resize(length, value);
    }

    /// Appends the elements of another buffer.
    pub fn append(&mut self, other: &Buffer<T>) {
        let values = self.to_mut();
        let bytes = other.as_bytes();
        match bytemuck::try_cast_slice(bytes) {
            Ok(more) => values.extend_from_slice(more),
            // The bytes are not aligned for `T`. Copying bytes avoids the extra copy in `aligned`.
            Err(_) => {
                let start = values.len();
                values.resize(start + bytes.len() / size_of::<T>(), T::zeroed());
                if let Some(added) = values.get_mut(start..) {
                    bytemuck::cast_slice_mut(added).copy_from_slice(bytes);
                }
            }
        }
    }

    /// A range of the elements. It is a view of shared elements, or a copy of owned ones. Empty if
    /// the range is out of bounds.
    #[must_use]
    pub fn cut(&self, range: Range<usize>) -> Buffer<T> {
        let size = size_of::<T>();
        match &self.shared {
            // `slice` panics for a range out of bounds.
            Some(bytes) if range.start <= range.end && range.end <= bytes.len() / size => {
                let shared = Some(bytes.slice(range.start * size..range.end * size));
                Buffer {
                    owned: Vec::new(),
                    shared,
                    aligned: OnceLock::new(),
                }
            }
            _ => Buffer::from(self.get(range).unwrap_or_default().to_vec()),
        }
    }
}

impl<T> From<Vec<T>> for Buffer<T> {
    fn from(owned: Vec<T>) -> Buffer<T> {
        Buffer {
            owned,
            shared: None,
            aligned: OnceLock::new(),
        }
    }
}

impl<T> FromIterator<T> for Buffer<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Buffer<T> {
        Buffer::from(Vec::from_iter(values))
    }
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.shared {
            // A body is rarely unaligned, because the server reads it into aligned memory.
            Some(bytes) => bytemuck::try_cast_slice(bytes).unwrap_or_else(|_| {
                self.aligned
                    .get_or_init(|| bytemuck::pod_collect_to_vec(bytes))
            }),
            None => &self.owned,
        }
    }
}

impl<T: Pod> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.to_mut()
    }
}

impl<T: Pod + PartialEq> PartialEq for Buffer<T> {
    fn eq(&self, other: &Buffer<T>) -> bool {
        **self == **other
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::tensor::Buffer;

    #[test]
    fn aligned_bytes_are_shared_and_others_copied() {
        let whole = Buffer::from(vec![1.0f32, 2.0, 3.0]).into_bytes();
        let view = Buffer::<f32>::from_bytes(whole.clone()).unwrap();
        assert_eq!(view.as_ptr().cast::<u8>(), whole.as_ptr());
        assert_eq!(*view, [1.0, 2.0, 3.0]);
        assert_eq!(view.cut(1..3).as_ptr().cast::<u8>(), whole[4..].as_ptr());
        assert_eq!(*view.cut(1..3), [2.0, 3.0]);
        assert!(view.cut(2..9).is_empty());

        let mut shifted = vec![0u8];
        shifted.extend_from_slice(&whole);
        // One of two consecutive offsets is not aligned.
        for start in 0..2 {
            let bytes = Bytes::from(shifted.clone()).slice(start..start + 12);
            let view = Buffer::<f32>::from_bytes(bytes.clone()).unwrap();
            assert_eq!(view.as_bytes(), &bytes[..]);
            let mut joined = Buffer::from(vec![9.0f32]);
            joined.append(&view);
            assert_eq!(joined.as_bytes()[4..], bytes[..]);
            assert_eq!(bytemuck::cast_slice::<f32, u8>(&view), &bytes[..]);
        }
        assert!(Buffer::<f32>::from_bytes(whole.slice(0..5)).is_none());
    }

    #[test]
    fn a_shared_buffer_is_copied_before_it_is_changed() {
        let whole = Buffer::from(vec![7u16; 4]).into_bytes();
        let mut view = Buffer::<u16>::from_bytes(whole.clone()).unwrap();
        view.to_mut().push(8);
        assert_eq!(*view, [7, 7, 7, 7, 8]);
        assert_eq!(whole.len(), 8);
    }
}
