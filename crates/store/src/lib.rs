//! The index's engines behind one trait and one suite.
