//! How the bytes of a layer become files beneath a root.
mod decode;
mod hash;
mod meter;
mod queue;

/// How the bytes of a layer are compressed, by its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// Gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// Hears how far a layer is. Called from several threads, once a buffer or a tar member.
pub trait Observer: Sync {
    /// `n` more bytes came from the source.
    fn wire_bytes(&self, n: u64) {
        let _ = n;
    }
    /// `n` more bytes were decompressed.
    fn unpacked_bytes(&self, n: u64) {
        let _ = n;
    }
    /// `n` more tar members were applied.
    fn entries(&self, n: u64) {
        let _ = n;
    }
}
