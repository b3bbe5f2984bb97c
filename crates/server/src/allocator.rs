//! What the process allocates with (docs/design/0026-one-budget-of-memory.md).
//!
//! jemalloc keeps what is small apart from what is large, so long-lived rows do not hold the pages of the buffers that they came between, and a thread of
//! its own gives pages back to the system that nobody took for a second.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How it is set up, under the name that it looks for.
// SAFETY: nothing else has this name, and what it reads there is a pointer to a text that ends with a zero.
#[allow(unsafe_code, reason = "a C library reads it by its name")]
#[unsafe(export_name = "_rjem_malloc_conf")]
static SETTINGS: &[u8; 85] =
    b"background_thread:true,max_background_threads:1,dirty_decay_ms:1000,muzzy_decay_ms:0\0";
