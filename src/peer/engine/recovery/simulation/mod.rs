//! Whole paths in virtual time: two ends with a [`Flight`](super::Flight) each, links between them, and what an
//! application does. The figures of issue 5 are asserted here. Seeds are printed.

mod end;
mod receiver;
mod world;

mod figures;
mod neighbours;
mod paths;
