//! The only door between roles.
