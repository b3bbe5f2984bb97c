//! The whole store in one thread from one seed.
