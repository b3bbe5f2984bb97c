//! The operator face: health, metrics, check.
