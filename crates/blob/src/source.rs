//! Where a put's bytes come from, and how a put fails.

use bytes::Bytes;
use std::future::Future;
use wire::Fault;

/// Gives a blob's bytes, in pieces of any size.
pub trait Source: Send {
    /// Why it may end early.
    type Error: Send;
    /// The next piece; `None` once every byte has come and every check of the source's own has held.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Self::Error>> + Send;
    /// How many bytes it holds itself while it is read: taken with the put's own, so that nothing is waited for while something is held.
    fn holds(&self) -> u64 {
        0
    }
    /// Whether its bytes come from our own disks: nobody is to be hurried then, and reading has limits of its own.
    fn is_ours(&self) -> bool {
        false
    }
    /// The bytes that follow those of the frames before, as they stand in memory until they are written: every byte that was given, in order.
    /// May wait for work on the frames before, never for whoever gives the bytes.
    fn frame(&mut self, _frame: &Bytes) -> impl Future<Output = Result<(), Self::Error>> + Send {
        std::future::ready(Ok(()))
    }
}

/// Why a blob was not stored. Nothing names what was written of it.
#[derive(Debug, thiserror::Error)]
pub enum PutError<E> {
    /// The source failed; its own error.
    #[error("the source of the bytes failed")]
    Source(E),
    /// The source gave fewer or more bytes than was said: how many it gave, at least.
    #[error("the source gave {given} bytes where {said} were said")]
    Length {
        /// How many were said.
        said: u64,
        /// How many came.
        given: u64,
    },
    /// No whole frame came for too long while an extent was held, or for long enough where others waited for one; of our own bytes the latter alone.
    #[error("the bytes stopped coming")]
    Stalled,
    /// The bytes could not be stored.
    #[error(transparent)]
    Fault(#[from] Fault),
}
