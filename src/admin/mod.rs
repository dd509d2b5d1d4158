//! What operators and their machines ask the edge about itself.

pub mod health;
