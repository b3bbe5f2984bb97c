//! Bodies of every form, whole and broken.

mod fixture;
mod frames;
mod heads;
mod malformed;
mod pacing;
mod plain;
