//! The disk: journal, extents of needles.
