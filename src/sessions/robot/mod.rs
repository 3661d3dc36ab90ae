//! The robot's side.

mod book;
mod owner;
