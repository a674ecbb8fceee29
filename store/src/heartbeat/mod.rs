//! The store's voice to the placement driver.

mod differ;
mod rates;
mod report;
mod valve;
