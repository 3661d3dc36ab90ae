//! What is under way on a path, and what of it is lost.
