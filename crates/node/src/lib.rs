//! Storage-node role: serves extents over wire.
