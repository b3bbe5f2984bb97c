//! Control-plane role: extents, nodes, sessions.
