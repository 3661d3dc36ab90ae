//! What needs both ends of sessions, and their insides.

mod model;
