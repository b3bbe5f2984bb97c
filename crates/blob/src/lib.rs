//! The byte path: a blob as needles across nodes.
