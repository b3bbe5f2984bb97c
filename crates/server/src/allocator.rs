//! What the system's allocator is asked for beside memory. The one unsafe call of ours, vector kernels apart.

/// Gives the system what was freed. The allocator alone gives back only what lies above everything that is still held of an arena, and a
/// long-lived row among the buffers of a load keeps all of these: hundreds of MiB after hundreds of large reads.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn give_back() {
    // SAFETY: it takes no pointer, may be called from any thread at any time, and frees nothing that is not free already.
    #[allow(unsafe_code, reason = "the C library's own, for which there is no safe form")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators have no such call.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn give_back() {}
