//! wip
#![forbid(unsafe_code)]
mod range_cache;
mod retry;
mod sessions;
