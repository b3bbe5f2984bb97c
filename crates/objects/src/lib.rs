//! What a put, get, copy, part means: joins blob and index.
