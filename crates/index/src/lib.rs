//! Index role: rows, commands, partitions, group commit.
