//! Identity and policy: access keys, SigV4.
